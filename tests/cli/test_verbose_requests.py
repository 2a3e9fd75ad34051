"""Does ``--verbose`` show each request with its time, and never a secret?"""

from __future__ import annotations

import itertools
import logging
import re
from base64 import b64encode
from collections.abc import Iterator

import pytest
import structlog
from yarl import URL

from regwarden.registries.client.diagnostics import Redactor
from regwarden.registries.client.request_log import log_request, shown_url
from regwarden.telemetry import configure_logging
from regwarden.testing.authentication import BearerAuth
from tests.sample_inventory import Run, small_registry

PASSWORD = "correct-horse-battery"
TOKEN = "SERVED-BY-THE-REGISTRY"
LINE = re.compile(r"\[debug +\] request +method=(\w+) seconds=([0-9.e-]+) status=(\d+) subject=(.+) url='?([^ ']+)'?$")


@pytest.fixture(autouse=True)
def former_log() -> Iterator[None]:
    """Leaves the log as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("verbose", ["-v", "-vv"])
def test_each_request_is_a_line_with_its_time_and_without_secrets(
    run: Run, monkeypatch: pytest.MonkeyPatch, verbose: str
) -> None:
    numbers = itertools.count()
    monkeypatch.setattr("regwarden.testing.authentication.secrets.token_urlsafe", lambda _: f"{TOKEN}-{next(numbers)}")
    with small_registry(auth=BearerAuth({"ann": PASSWORD})) as registry:
        result = run(
            "registry", "check", registry.url, "--user", "ann", "--password-stdin", verbose, stdin=PASSWORD + "\n"
        )
        received = [f"{request.method} {request.path}" for request in registry.requests]
    assert result.exit_code == 0, result.stderr
    found = [match for line in result.stderr.splitlines() if (match := LINE.search(line))]
    assert sorted(f"{match[1]} {URL(match[5]).path}" for match in found) == sorted(received)
    assert {match[3] for match in found} >= {"200", "401"}
    assert all(0 <= float(match[2]) < 10 for match in found)
    assert any("scope=registry:catalog:*" in match[5] for match in found)
    assert next(numbers) > 2
    assert not any(
        secret in result.output for secret in (PASSWORD, TOKEN, b64encode(f"ann:{PASSWORD}".encode()).decode())
    )


def test_without_it_no_request_is_shown(run: Run) -> None:
    with small_registry() as registry:
        result = run("registry", "check", registry.url)
    assert result.exit_code == 0, result.stderr
    assert "[debug" not in result.stderr


def test_a_request_without_answer_is_shown_too(run: Run) -> None:
    result = run("registry", "check", "http://127.0.0.1:1", "--verbose")
    assert result.exit_code == 1
    assert "status=0" in result.stderr


def test_of_addresses_only_harmless_values_are_shown() -> None:
    url = URL("https://user:hunter2@s3.example.com/b?X-Amz-Credential=abc&sig=def&n=100&_state=ghi&last=v%201#token")
    shown = shown_url(url)
    assert shown == ("https://s3.example.com/b?X-Amz-Credential=(hidden)&sig=(hidden)&n=100&_state=(hidden)&last=v+1")


def test_a_secret_of_ours_is_hidden_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(verbose=1, shows_requests=True)
    url = URL(f"https://registry.example.com/v2/{PASSWORD}/tags/list")
    log_request("GET", url, 200, seconds=0.1, subject=f"tags of {PASSWORD}", redact=Redactor((PASSWORD,)))
    structlog.get_logger().debug("another detail")
    told = capsys.readouterr().err
    assert "/v2/***/tags/list" in told
    assert PASSWORD not in told
    assert "another detail" not in told


@pytest.mark.parametrize("wrapper", [structlog.make_filtering_bound_logger(logging.INFO), None])
def test_other_logs_get_requests_as_details(capsys: pytest.CaptureFixture[str], wrapper: type | None) -> None:
    structlog.configure(wrapper_class=wrapper or structlog.BoundLogger)
    log_request("GET", URL("https://a.example/"), 200, seconds=0.1, subject="it", redact=Redactor())
    assert ("a.example" in capsys.readouterr().out) == (wrapper is None)

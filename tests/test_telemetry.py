"""What the log says, and above all what it does not."""

from __future__ import annotations

import logging

import pytest
import structlog

from regwarden.telemetry import configure_logging, hide_secrets, redact


@pytest.fixture(autouse=True)
def undo():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
        ("header Bearer eyJhbGciOi.eyJzdWIi.sig", "eyJhbGciOi"),
        ("GET https://user:hunter2@registry.example.com/v2/", "hunter2"),
        ("redirect https://s3.example.com/x?X-Amz-Signature=abcdef&y=1", "abcdef"),
        ("postgresql password=hunter2 host=db", "hunter2"),
        ("https://auth.example.com/?refresh_token=abc123", "abc123"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, secret: str) -> None:
    assert secret not in hide_secrets(text)
    assert "(hidden)" in hide_secrets(text)


def test_ordinary_text_stays() -> None:
    text = "GET https://registry.example.com:5000/v2/team/app/tags/list?n=1000 200"
    assert hide_secrets(text) == text


def test_values_under_secret_names_are_hidden_but_counts_are_not() -> None:
    event = redact(None, "info", {"event": "x", "password": "hunter2", "token_requests": 3, "access_token": "abc"})
    assert event == {"event": "x", "password": "(hidden)", "token_requests": 3, "access_token": "(hidden)"}


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["warning"]),
        ({"verbose": 1}, ["info", "warning"]),
        ({"verbose": 2}, ["debug", "info", "warning"]),
        ({"quiet": True}, []),
    ],
)
def test_verbose_says_more_and_quiet_less(capsys: pytest.CaptureFixture[str], options, shown) -> None:
    configure_logging(**options)
    log = structlog.get_logger()
    for level in ("debug", "info", "warning"):
        getattr(log, level)(f"a {level}", url="https://u:hunter2@x.example")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [level for level in ("debug", "info", "warning") if f"a {level}" in captured.err] == shown
    assert "hunter2" not in captured.err


def test_lines_of_libraries_are_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(verbose=2)
    logging.getLogger("aiohttp").debug("sending %s", "Authorization: Bearer abcdefghijkl")
    captured = capsys.readouterr().err
    assert "sending" in captured
    assert "abcdefghijkl" not in captured

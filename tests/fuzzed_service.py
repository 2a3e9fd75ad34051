"""A service with something of everything in it, and schemathesis, which asks it whatever its description allows or not.

Its registries are simulated ones of this process, and an address where nobody answers: nothing can be harmed.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from regwarden.store.database import Access, open_database
from tests.gitlab_inventory import make_gitlab
from tests.notifications import pull, push, remove
from tests.sample_inventory import run_cli, small_registry
from tests.serving import Service, running_service, wait_for

BRIEF_SERVICE = Path(__file__).parent / "e2e" / "brief_service.py"
HOOKS = Path(__file__).parent / "schemathesis_hooks.py"
ANSWERS_VARIABLE = "REGWARDEN_TEST_ANSWERS"
PROGRAM = "from schemathesis.cli import schemathesis; schemathesis()"
# How many of the names in paths are of things that are there.
KNOWN_SHARE = 0.7
END_SECONDS = 60.0
# Somebody who may do everything, and somebody who may see one repository.
TOKENS = {
    "admin": ("schema-test-admin-token", {"role": "admin"}),
    "web": ("schema-test-web-token", {"role": "viewer", "registries": ["prod"], "repositories": ["team/web"]}),
}
CONFIGURATION = """\
[server]
listen = ["127.0.0.1:0"]
[defaults]
crawl_every = "never"
[auth]
tokens_file = {tokens_file}
[[registry]]
name = "prod"
url = "{prod}"
[[registry]]
name = "other"
url = "{other}"
[[registry]]
name = "gone"
url = "http://127.0.0.1:9"
"""
POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: old}
scope: {}
delete: [{match: {tags: {any: ["glob:1.*"]}}, when: {created: {older-than: 30d}}}]
apply: {approval: one}
"""
# What plans are made with, for everything here is minutes old.
WAIVED = ["min-age", "never-empty", "repository-share", "manifest-limit", "inventory-age"]


@dataclass
class FuzzedService:
    """Where it is, and names of what it has: parameter to values."""

    service: Service
    known: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = TOKENS["admin"][0]) -> Any:
        """What is answered to a request that must succeed; ``path`` begins behind ``/api/v1``."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        with closing(http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)) as connection:
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        assert answer.status < 300, (method, path, answer.status, content)
        return json.loads(content) if content else None

    def work(self, path: str, body: Any) -> Any:
        """The operation that is begun so, when it is done."""
        place = f"/operations/{self.ask('POST', path, body)['id']}"
        deadline = time.monotonic() + END_SECONDS
        while (found := self.ask("GET", place))["state"] == "running":
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert found["state"] == "done", found
        return found

    def notify(self, *events: Mapping[str, Any], text: str = "") -> None:
        """Send a notification as the registry ``prod`` does."""
        headers = {"Authorization": f"Bearer {self.service.secret('prod')}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)) as connection:
            connection.request("POST", "/hooks/prod", text or json.dumps({"events": events}), headers)
            assert connection.getresponse().status < 500


@contextmanager
def fuzzed_service(directory: Path) -> Iterator[FuzzedService]:
    """The service, running, with all kinds of things in it."""
    tokens_file = directory / "tokens.yaml"
    listed = [{"name": name, "token": token, "grants": [grant]} for name, (token, grant) in TOKENS.items()]
    tokens_file.write_text(yaml.safe_dump({"tokens": listed}))
    _make_lab(directory)
    with ExitStack() as stack:
        prod, other = (stack.enter_context(small_registry()) for _ in range(2))
        configuration = CONFIGURATION.format(prod=prod.url, other=other.url, tokens_file=json.dumps(str(tokens_file)))
        service = stack.enter_context(running_service(directory, configuration, program=(str(BRIEF_SERVICE),)))
        fuzzed = FuzzedService(service)
        _fill(fuzzed)
        yield fuzzed


def _make_lab(directory: Path) -> None:
    """In the database of the service before it begins: what is known of a GitLab that is not configured any more."""
    url = f"sqlite:///{directory / 'inventory.sqlite3'}"
    with small_registry() as registry:
        made = run_cli(directory, "crawl", registry.url, "--name", "lab", "--database", url)
    assert made.exit_code == 0, made.stderr
    with open_database(url, access=Access.WRITE) as database:
        make_gitlab(database, "lab")


def _fill(fuzzed: FuzzedService) -> None:
    for name in ("prod", "other"):
        operation = fuzzed.work("/crawls", {"registry": name})
    fuzzed.notify(push("team/app", "2.0", 1, 1), pull("team/app", "2.0", 1, 2), pull("team/web", "edge", 2, 3))
    fuzzed.notify(remove("team/app", 1, 4))
    fuzzed.notify(text="this is no notification")
    given = {"registry": "prod", "waive": WAIVED, "probe": False}
    plans = [fuzzed.work("/plans", {**given, "policies": {"old.yaml": POLICY}})["result"]["plan_id"]]
    plans.append(fuzzed.work("/plans", {**given, "tags": ["team/app:glob:1.*"], "untag": True})["result"]["plan_id"])
    fuzzed.ask("POST", f"/plans/{plans[0]}/approve", {})
    held = fuzzed.ask("POST", "/protections", {"reference": "prod/team/web:edge", "reason": "for the tests"})
    digest = fuzzed.ask("GET", "/manifests?limit=1")["_embedded"]["items"][0]["digest"]
    allowed = [
        fuzzed.ask("POST", "/allow", {"image": digest, "reason": "tried"}),
        fuzzed.ask(
            "POST", "/allow", {"pattern": "glob:registry.example.test/team/**", "effect": "deny", "tags": ["*"]}
        ),
    ]
    fuzzed.ask("GET", f"/allow/check?image={digest}")
    # Both are written a moment later.
    for path in ("/allow/decisions", "/pulls"):
        wait_for(lambda path=path: fuzzed.ask("GET", path)["_embedded"]["items"])
    token = fuzzed.ask("POST", "/tokens", {"name": "spare", "grants": [{"role": "viewer"}]})
    fuzzed.known = {
        "registry": ["prod", "other", "gone"],
        "repository": ["team/app", "team/web"],
        "tag": ["1.0.0", "1.1.0", "latest", "edge"],
        "digest": [digest],
        "plan_id": plans,
        "crawl_id": [2, 3],
        "delivery_id": [3],
        "protection_id": [held["id"]],
        "entry_id": [one["id"] for one in allowed],
        "operation_id": [operation["id"]],
        "access_id": [token["id"]],
    }


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run: whether nothing was wrong, what the program said, how often what was answered to what."""

    is_right: bool
    report: str
    answers: Mapping[tuple[str, int], int]

    def succeeded(self) -> set[str]:
        """The operations that worked at least once."""
        return {operation for operation, status in self.answers if 200 <= status < 300}


def run_schemathesis(directory: Path, fuzzed: FuzzedService, *options: str, token: str | None, seed: int) -> Run:
    """Ask whatever the served description allows, and much that it does not, with this token.

    Most names in paths are of things that are there. ``directory`` gets what the program writes.
    """
    directory.mkdir(exist_ok=True)
    file, answers = directory / "schemathesis.toml", directory / "answers.txt"
    file.write_text(_configuration(fuzzed, token, seed))
    command = [sys.executable, "-c", PROGRAM, "--config-file", str(file), "run", "--no-color", *options]
    done = subprocess.run(
        [*command, f"{fuzzed.address}/api/v1/openapi.json"],
        cwd=directory,
        env={**os.environ, ANSWERS_VARIABLE: str(answers), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    counted: Counter[tuple[str, int]] = Counter()
    for line in answers.read_text().splitlines() if answers.exists() else ():
        operation, _, status = line.rpartition(" ")
        counted[operation, int(status)] += 1
    shortened = "\n".join(line[:600] for line in done.stdout.splitlines())
    return Run(done.returncode == 0, shortened, counted)


def _configuration(fuzzed: FuzzedService, token: str | None, seed: int) -> str:
    lines = [
        f"seed = {seed}",
        f"hooks = {json.dumps(str(HOOKS))}",
        "continue-on-failure = true",
        "max-stream-events = 2",
        "request-timeout = 30",
        "warnings = false",
        'generation = {database = "none"}',
        # What a condition or a pattern is no schema says: much that fits the schema is refused, and rightly so.
        "checks.positive_data_acceptance = {enabled = false}",
        "checks.negative_data_rejection = {expected-statuses = [400, 401, 403, 404, 405, 409, 413, 429]}",
    ]
    if token is not None:
        lines.append(f"headers = {{Authorization = {json.dumps(f'Bearer {token}')}}}")
    for name, values in fuzzed.known.items():
        lines.append(f"dictionaries.{name} = {{values = {json.dumps(values)}}}")
        lines.append(f'parameters."path.{name}" = {{dictionary = "{name}", probability = {KNOWN_SHARE}}}')
    return "\n".join(lines)

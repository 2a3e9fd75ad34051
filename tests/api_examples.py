"""Examples of the answers of the API, as a real service gives them: ``python -m tests.api_examples`` writes them anew.

They are shortened, and whatever names this machine is replaced; a test compares their form with what is answered.
"""

from __future__ import annotations

import http.client
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.fuzzed_service import POLICY, TOKENS, WAIVED, FuzzedService, fuzzed_service

FILE = Path(__file__).parent.parent / "src" / "regwarden" / "web" / "api" / "assets" / "examples.json"
MOST_OBJECTS = 1
MOST_TEXTS = 3
MOST_LINES = 6
MOST_CHARACTERS = 400
# What is asked beside the names of things.
QUESTIONS: dict[str, dict[str, str]] = {
    "GET /events/stream": {"since": "2026-01-01", "action": "push"},
    "GET /exports/{noun}": {"columns": "registry,repository,tag,logical_bytes"},
    "GET /history": {"reference": "prod/team/app:latest"},
    "GET /audit": {"action": "token-create"},
    "GET /registries": {"registry": "prod"},
    "GET /repositories": {"registry": "prod"},
    "GET /tags": {"registry": "prod"},
    "GET /manifests": {"registry": "prod"},
    "GET /blobs": {"registry": "prod"},
    "GET /registries/{registry}": {"embed": "repositories"},
    "GET /usage": {"top": "1", "registry": "prod", "group_by": "path"},
    "GET /plans/{plan_id}": {"group_by": "path"},
    "GET /gitlab/cleanup": {"project": "team/app"},
    "GET /gitlab/cleanup/simulation": {"project": "team/app", "as_of": "2026-12-01"},
    "GET /allow/check": {"image": "registry.example.test/team/app:1.2.0"},
}
BODIES: dict[str, Any] = {
    "POST /crawls": {"registry": "prod", "repositories": ["glob:team/**"]},
    "POST /events/replay": {"is_all": True},
    "POST /policies/check": {"policies": {"old.yaml": POLICY}},
    "POST /policies/import": {"text": "acr purge --filter 'team/app:.*' --ago 30d --untagged", "from": "acr"},
    "POST /policies/describe": {"policies": {"old.yaml": POLICY}},
    "POST /policies/explain": {"reference": "prod/team/app:1.0.0", "policies": {"old.yaml": POLICY}},
    "POST /policies/backtest": {"policies": {"old.yaml": POLICY}, "since": "30d"},
    "POST /plans": {"policies": {"old.yaml": POLICY}, "waive": WAIVED[:1]},
    "POST /plans/{plan_id}/approve": {},
    "POST /plans/{plan_id}/reject": {"reason": "these are needed until spring"},
    "POST /plans/{plan_id}/apply": {"max_failures": 5},
    "POST /plans/{plan_id}/undo": {"only": ["team/app:1.0.0"]},
    "POST /plans/{plan_id}/finish": {},
    "POST /protections": {"reference": "prod/team/app:1.2.0", "reason": "shown at the fair", "until": "30d"},
    "POST /allow": {"pattern": "glob:registry.example.test/team/**", "tags": ["semver:>=1"], "reason": "ours"},
    "POST /allow/check": {"images": ["registry.example.test/team/app:1.2.0"], "cluster": "production"},
    "POST /tokens": {"name": "ci-cleanup", "grants": [{"role": "cleaner", "registries": ["prod"]}], "expires": "30d"},
}
# Those that change what others show are asked last, in this order.
LAST = ("approve", "apply", "undo", "finish", "reject", "/sessions", "DELETE")


def collect(fuzzed: FuzzedService) -> dict[str, dict[str, Any]]:
    """Operation to its ``answer``, with the ``body`` that was sent, where there are any; spends what is there."""
    described = fuzzed.ask("GET", "/openapi.json")["paths"]
    operations = [
        (method.upper(), path.removeprefix("/api/v1"), operation["responses"])
        for path, methods in described.items()
        for method, operation in methods.items()
    ]
    found: dict[str, dict[str, Any]] = {}
    for method, path, answers in sorted(operations, key=lambda one: _order(f"{one[0]} {one[1]}")):
        name = f"{method} {path}".strip()
        if path in {"/openapi.json", "/docs", "/policies/schema", "/policies/example"} or "204" in answers:
            continue
        body = BODIES.get(name)
        found[name] = {} if body is None else {"body": body}
        found[name]["answer"] = _answer(fuzzed, method, _place(fuzzed, name), body)
    return {name: found[name] for name in sorted(found)}


def _order(name: str) -> int:
    if name.startswith("GET"):
        return 0
    return next((place for place, word in enumerate(LAST, 2) if word in name), 1)


def _place(fuzzed: FuzzedService, name: str) -> str:
    path = name.partition(" ")[2]
    known = {**fuzzed.known, "noun": ["tag"]}
    if name == "POST /plans/{plan_id}/reject":
        known["plan_id"] = fuzzed.known["plan_id"][1:]
    filled = re.sub(r"\{(\w+)}", lambda found: quote(str(known[found[1]][0]), safe=":"), path)
    question = {**QUESTIONS.get(name, {})}
    return f"/api/v1{filled}" + (f"?{urlencode(question)}" if question else "")


def _answer(fuzzed: FuzzedService, method: str, place: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKENS['admin'][0]}", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", fuzzed.service.port, timeout=30)) as connection:
        connection.request(method, place, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status < 300, (method, place, answer.status, text)
        if answer.headers["Content-Type"] == "application/hal+json":
            return _shortened(json.loads(_cleaned(fuzzed, text)))
    return "\n".join(line[:MOST_CHARACTERS] for line in _cleaned(fuzzed, text).splitlines()[:MOST_LINES])


def _cleaned(fuzzed: FuzzedService, text: str) -> str:
    text = re.sub(r"http://127\.0\.0\.1:\d+", "https://registry.example.test", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "registry.example.test", text).replace("127.0.0.1", "192.0.2.7")
    return re.sub(r"rgw_[0-9A-Za-z_-]+", "rgw_EXAMPLE", text)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(one) for name, one in value.items()}
    if isinstance(value, list):
        most = MOST_OBJECTS if value and isinstance(value[0], dict) else MOST_TEXTS
        return [_shortened(one) for one in value[:most]]
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        return value[:MOST_CHARACTERS]
    return value


def names_in(value: Any, place: str = "") -> Iterator[str]:
    """Every name in an answer with where it is: its form, whatever the values."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield f"{place}.{name}"
            yield from names_in(one, f"{place}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from names_in(one, f"{place}[]")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, fuzzed_service(Path(folder)) as service:
        FILE.write_text(json.dumps(collect(service), indent=1, ensure_ascii=False) + "\n")

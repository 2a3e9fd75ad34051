"""``regwarden allow``: made, listed, asked with an exit status that pipelines understand, ended; also over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from regwarden.errors import InputError
from regwarden.library import connect
from tests.sample_inventory import run_cli, small_registry

HEX = "ab" * 32


def run(place: Path, *words: str, **environ: str) -> Any:
    return run_cli(place, "--database", f"sqlite:///{place / 'x.sqlite3'}", *words, **environ)


def test_entries_are_made_listed_asked_and_ended(tmp_path: Path) -> None:
    made = run(
        tmp_path, "allow", "add", HEX, "app:1", "--reason", "release", "--evidence", "scan=7", "--expires", "30d"
    )
    assert (made.exit_code, made.stdout) == (0, f"allow entry 1: allow {HEX}\nallow entry 2: allow app:1\n")
    denied = run(tmp_path, "allow", "add", "--deny", "--pattern", "glob:docker.io/**", "--reason", "use the mirror")
    assert denied.stdout == "allow entry 3: deny glob:docker.io/**\n"
    rows = json.loads(run(tmp_path, "allow", "list", "--output", "json").stdout)
    assert [(one["id"], one["effect"], one["reason"]) for one in rows] == [
        (1, "allow", "release"),
        (2, "allow", "release"),
        (3, "deny", "use the mirror"),
    ]
    assert (rows[0]["digest"], rows[0]["evidence"], rows[0]["is_protecting"]) == (f"sha256:{HEX}", {"scan": "7"}, True)
    shown = run(tmp_path, "allow", "list", "--effect", "deny", "--limit", "1")
    assert "use the mirror" in shown.stdout
    assert "--after 3" in shown.stderr
    assert run(tmp_path, "allow", "remove", "1", "3").stderr == "ended 2 entries\n"
    assert run(tmp_path, "allow", "remove", "2", "3").exit_code == 1
    left = json.loads(run(tmp_path, "allow", "list", "--output", "json").stdout)
    assert [one["id"] for one in left] == [2]
    everything = json.loads(run(tmp_path, "allow", "list", "--all", "--output", "json").stdout)
    assert [bool(one["removed_at"]) for one in everything] == [True, False, True]
    actions = [one["action"] for one in json.loads(run(tmp_path, "audit", "list", "--output", "json").stdout)]
    assert sorted(actions) == ["allow-add-allow"] * 2 + ["allow-add-deny"] + ["allow-remove"] * 2


@pytest.mark.parametrize(
    ("image", "status", "told"),
    [
        (f"reg.example.com/app@sha256:{HEX}", 0, "allow: entry 1 allows this content\n"),
        ("reg.example.com/app@sha256:" + "cd" * 32, 1, "deny: no entry allows it\n"),
        ("reg.example.com/bad/app:1", 1, "deny: entry 2 denies reg.example.com/bad/app: no\n"),
        ("reg.example.com/app:1", 3, "unknown: the inventory does not know what this tag points to\n"),
    ],
)
def test_the_exit_status_of_a_check_is_the_answer(tmp_path: Path, image: str, status: int, told: str) -> None:
    run(tmp_path, "allow", "add", HEX)
    run(tmp_path, "allow", "add", "--deny", "--pattern", "glob:**/bad/**", "--reason", "no")
    checked = run(tmp_path, "allow", "check", image)
    assert (checked.exit_code, checked.stdout) == (status, told)
    record = json.loads(run(tmp_path, "allow", "check", image, "--output", "json").stdout)
    assert record["outcome"] == told.partition(":")[0]


def test_where_it_is_to_run_is_asked_for(tmp_path: Path) -> None:
    run(tmp_path, "allow", "add", HEX, "--cluster", "prod-*", "--namespace", "team")
    place = ("--cluster", "prod-1", "--namespace", "team")
    assert run(tmp_path, "allow", "check", HEX, *place).exit_code == 0
    assert run(tmp_path, "allow", "check", HEX, "--cluster", "test").exit_code == 1
    unclear = run(tmp_path, "allow", "check", HEX)
    assert unclear.exit_code == 3
    assert "none was given" in unclear.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs an image or a pattern"),
        (("--pattern", "re:("), "not a regular expression"),
        (("app:1", "--tag", "x"), "tags belong to a pattern"),
        (("app:1", "--evidence", "x"), "NAME=VALUE"),
        (("app:1", "--expires", "2001-01-01"), "over before it begins"),
        ((" app",), "name of an image"),
    ],
)
def test_what_makes_no_entry_is_refused(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    refused = run(tmp_path, "allow", "add", *words)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert "Traceback" not in refused.output


def test_a_tag_is_answered_by_the_inventory_and_protected_in_plans(tmp_path: Path) -> None:
    with small_registry() as registry:
        assert run(tmp_path, "crawl", registry.url, "--name", "prod").exit_code == 0
        host = registry.url.partition("://")[2]
        place = ("--database", f"sqlite:///{tmp_path / 'x.sqlite3'}")
        assert run_cli(tmp_path, *place, "allow", "add", f"{host}/team/app:1.0.0").exit_code == 0
        checked = run(tmp_path, "allow", "check", f"{host}/team/app:1.0.0")
        assert checked.exit_code == 0
        assert "a tag may be moved" in checked.stderr
        waive = ("--waive", "min-age", "--waive", "no-live-events")
        words = ("plan", "create", "--registry", "prod", "--tag", "team/app:1.0.0", "--tag", "team/app:1.1.0", *waive)
        planned = run(tmp_path, *words)
        assert planned.exit_code == 0, planned.output
        shown = run(tmp_path, "plan", "show", "1", "--verdicts", "--output", "json")
        assert "allowed to run by entry 1" in shown.stdout, shown.output


def test_the_library_says_the_same(tmp_path: Path) -> None:
    with closing(connect(f"sqlite:///{tmp_path / 'x.sqlite3'}", environ={})) as inventory:
        made = inventory.allow_add(HEX, reason="x")
        assert inventory.allow_entry(made.id) == made
        assert [one.id for one in inventory.allow_list(image=f"sha256:{HEX}")] == [made.id]
        answer = inventory.allow_check(HEX)
        assert (answer.outcome, answer.entry_ids) == ("allow", (made.id,))
        inventory.allow_remove([made.id])
        assert inventory.allow_check(HEX).outcome == "deny"
        assert inventory.allow_decisions() == []
        for wrong in ({"effect": "x"}, {"image": "\x00"}):
            with pytest.raises(InputError):
                inventory.allow_list(**wrong)  # type: ignore[arg-type]  # texts
        with pytest.raises(InputError):
            inventory.allow_decisions(outcome="x")


ALLOWED = {"image": "app:1", "outcome": "allow", "detail": "entry 1 allows this tag", "_links": {}, "entry_ids": [1]}


@contextmanager
def serving(status: int, body: bytes) -> Iterator[tuple[str, list[Any]]]:
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_is_asked_with_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("rgw_file\n")
    with serving(200, json.dumps(ALLOWED).encode()) as (url, asked):
        words = ("allow", "check", "app:1", "--cluster", "a b", "--server", f"{url}/prefix/")
        first = run(tmp_path, *words, REGWARDEN_TOKEN="rgw_x")
        assert (first.exit_code, first.stdout) == (0, "allow: entry 1 allows this tag\n")
        assert run(tmp_path, *words, "--token-file", str(token)).exit_code == 0
        assert run(tmp_path, *words).exit_code == 2
    path = "/prefix/api/v1/allow/check?image=app%3A1&cluster=a+b"
    assert asked == [(path, "Bearer rgw_x"), (path, "Bearer rgw_file")]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (503, b'{"detail": "the database \\u001b[31mis gone"}', "answered 503: the database [31mis gone"),
        (302, b"", "answered 302"),
        (200, b"{}", "cannot be understood"),
        (200, b"no", "cannot be understood"),
    ],
)
def test_an_answer_that_is_none_is_unknown(tmp_path: Path, status: int, body: bytes, told: str) -> None:
    with serving(status, body) as (url, asked):
        failed = run(tmp_path, "allow", "check", "app:1", "--server", url, REGWARDEN_TOKEN="rgw_x")
    assert (failed.exit_code, len(asked)) == (3, 1)
    assert told in failed.stderr
    assert "rgw_x" not in failed.output


def test_a_service_that_is_not_there_or_not_safe(tmp_path: Path) -> None:
    def ask(url: str) -> Any:
        return run(tmp_path, "allow", "check", "app:1", "--server", url, REGWARDEN_TOKEN="rgw_x")

    assert ask("http://127.0.0.1:1").exit_code == 3
    for url in ("http://regwarden.example.com", "ftp://x", "https://user@x", "nowhere", "https://x:99999"):
        assert ask(url).exit_code == 2, url

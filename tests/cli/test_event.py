"""Events from the command line: looked up, watched, and those that had to be set aside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regwarden.store.database import Access, open_database
from tests import servers
from tests.notifications import BLOB, apply_all, envelope, event, pull, push, store_bodies, untag
from tests.sample_inventory import Run, isolated_environment

UNKNOWN = "new.example.test:5000"


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "regwarden.toml"
    file.write_text('[[registry]]\nname = "prod"\nurl = "https://registry.example.test"\n')
    return str(file)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with a push, two pulls and a deletion, one event of an unknown host, one delivery nobody can read."""
    url = f"sqlite:///{tmp_path / 'events.sqlite3'}"
    with open_database(url, access=Access.WRITE, create=True) as database:
        bodies = [
            envelope(push("team/app", "1.0", 1, 0), push("team/web", "edge", 2, 1)),
            envelope(pull("team/app", "1.0", 1, 2, useragent="ci/1"), untag("team/web", "edge", 3)),
            b'\x1b[31m{"not": "a notification"',
        ]
        store_bodies(database, bodies)
        store_bodies(database, [envelope(push("other/app", "1", 3, 4, host=UNKNOWN))], registry="")
        apply_all(database)
    return url


@pytest.fixture
def asked(run: Run, url: str, config: str) -> Run:
    def ask(*arguments: str) -> object:
        return run(*arguments, REGWARDEN_DATABASE=url, REGWARDEN_CONFIG=config)

    return ask  # type: ignore[return-value]


def test_events_are_listed_newest_first(asked: Run) -> None:
    rows = json.loads(asked("event", "list", "--output", "json").stdout)
    assert [(row["action"], row["repository"], row["tag"]) for row in rows] == [
        ("push", "other/app", "1"),
        ("delete", "team/web", "edge"),
        ("pull", "team/app", "1.0"),
        ("push", "team/web", "edge"),
        ("push", "team/app", "1.0"),
    ]
    assert (rows[2]["pull_class"], rows[2]["address"], rows[2]["user_agent"]) == ("ci", "10.0.0.1:5", "ci/1")
    assert (rows[0]["registry"], rows[0]["host"], rows[0]["state"]) == (None, UNKNOWN, "unknown-registry")
    people = asked("event", "list", "--repository", "glob:team/*", "--action", "push")
    assert [line.split()[2:6] for line in people.stdout.splitlines()[1:]] == [
        ["push", "manifest", "team/web", "edge"],
        ["push", "manifest", "team/app", "1.0"],
    ]


def test_events_have_pages(asked: Run) -> None:
    first = asked("event", "list", "--limit", "2", "--output", "plain")
    cursor = first.stderr.rpartition("--cursor ")[2].split()[0]
    rest = asked("event", "list", "--cursor", cursor, "--output", "plain")
    assert (len(first.stdout.splitlines()), len(rest.stdout.splitlines())) == (2, 3)
    assert not set(first.stdout.splitlines()) & set(rest.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--action", "steal"), "bad-input"),
        (("--class", "robot"), "bad-input"),
        (("--since", "yesterday"), "bad-time"),
        (("--registry", "nowhere"), "unknown-registry"),
        (("--cursor", "nonsense"), "bad-cursor"),
    ],
)
def test_what_cannot_be_asked_is_said(asked: Run, arguments: tuple[str, ...], code: str) -> None:
    result = asked("event", "list", *arguments)
    assert result.exit_code != 0
    assert f"error[{code}]" in result.stderr


def test_events_of_an_unknown_host_come_with_what_to_configure(asked: Run) -> None:
    assert "events name 1 host that no registry has" in asked("event", "list").stderr
    result = asked("event", "list", "--unknown-hosts")
    assert result.stdout.count("other/app") == 1
    assert "team/" not in result.stdout
    assert f'name = "{UNKNOWN}"' in result.stderr
    assert f'url = "https://{UNKNOWN}"' in result.stderr
    assert f'aliases = ["{UNKNOWN}"]' in result.stderr


def test_tail_prints_what_was_there_since_a_time(asked: Run) -> None:
    lines = asked("event", "tail", "--since", "2026-01-01", "--count", "2", "--output", "json").stdout.splitlines()
    assert [json.loads(line)["repository"] for line in lines] == ["team/app", "team/web"]
    people = asked("event", "tail", "--since", "2026-01-01", "--count", "1", "--action", "pull").stdout
    assert people.startswith("2026-11-01 12:02:00  pull    manifest    prod/team/app:1.0@000000000000  ci  ci/1")
    table = asked("event", "tail", "--since", "2026-01-01", "--count", "2", "--output", "csv").stdout.splitlines()
    assert table[0].startswith("id,at,action")
    assert len(table) == 3


def test_tail_follows_until_it_is_interrupted(url: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in {**os.environ, **isolated_environment(tmp_path)}.items() if value}
    command = [sys.executable, "-m", "regwarden", "event", "tail", "--action", "push", "--output", "json"]
    output = tmp_path / "tail.jsonl"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--database", url], stdout=file, stderr=subprocess.PIPE, env=environ, start_new_session=True
        )
        try:
            with open_database(url, access=Access.WRITE) as database:

                def has_seen(number: int = 0) -> bool:
                    # Nobody says when it has begun to look: each try is a new event.
                    has_seen.count = getattr(has_seen, "count", 0) + 1  # type: ignore[attr-defined]
                    minute = 100 + has_seen.count  # type: ignore[attr-defined]
                    store_bodies(database, [envelope(push("new/app", "1", minute, minute))])
                    apply_all(database)
                    return output.stat().st_size > number

                servers.wait_until(has_seen, what="an event to be printed")
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    seen = [json.loads(line) for line in output.read_text().splitlines()]
    assert {row["repository"] for row in seen} == {"new/app"}
    assert [row["id"] for row in seen] == sorted({row["id"] for row in seen})


def test_tail_tells_people_from_when_on_it_looks(url: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in {**os.environ, **isolated_environment(tmp_path)}.items() if value}
    told = tmp_path / "stderr"
    with told.open("wb") as file:
        command = [sys.executable, "-m", "regwarden", "event", "tail", "--database", url]
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environ, start_new_session=True)
        try:
            servers.wait_until(lambda: told.read_text() == "waiting for events; Ctrl-C ends it\n", what="a word")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def test_what_was_set_aside_is_listed_and_shown_without_its_control_characters(asked: Run) -> None:
    rows = json.loads(asked("event", "quarantine", "list", "--output", "json").stdout)
    assert [(row["state"], row["registry"]) for row in rows] == [("unknown-registry", ""), ("quarantined", "prod")]
    number = str(rows[1]["id"])
    shown = asked("event", "quarantine", "show", number)
    assert "\\x1b[31m" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert rows[1]["reason"] in shown.stdout
    raw = asked("event", "quarantine", "show", number, "--raw")
    assert raw.stdout_bytes == b'\x1b[31m{"not": "a notification"'
    assert "error[not-found]" in asked("event", "quarantine", "show", "99").stderr


def test_a_replay_applies_what_a_new_registry_makes_known(asked: Run, config: str) -> None:
    with Path(config).open("a") as file:
        file.write(f'[[registry]]\nname = "new"\nurl = "https://{UNKNOWN}"\n')
    result = asked("event", "quarantine", "replay", "--all")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "looked again at 2 deliveries, 1 new event; 1 delivery set aside\n"
    (row,) = json.loads(asked("event", "list", "--registry", "new", "--output", "json").stdout)
    assert (row["repository"], row["state"]) == ("other/app", "applied")
    (tag,) = json.loads(asked("tag", "list", "--registry", "new", "--output", "json").stdout)
    assert (tag["repository"], tag["tag"]) == ("other/app", "1")
    again = json.loads(asked("event", "quarantine", "replay", "--all", "--output", "json").stdout)
    assert again == {"delivery_count": 1, "event_count": 0, "left_count": 1}


def test_only_what_is_set_aside_can_be_replayed(asked: Run) -> None:
    before = asked("event", "quarantine", "list", "--output", "json").stdout
    wrong = asked("event", "quarantine", "replay", "3", "1")
    assert (wrong.exit_code, "error[not-found]: delivery 1 is not in quarantine" in wrong.stderr) == (1, True)
    assert asked("event", "quarantine", "list", "--output", "json").stdout == before
    assert asked("event", "quarantine", "replay").exit_code == 2
    assert asked("event", "quarantine", "replay", "--all", "3").exit_code == 2


def test_orphaned_blobs_need_events_of_blobs(asked: Run, url: str) -> None:
    empty = asked("blob", "list", "--orphaned")
    assert "no notification has told of uploaded blobs" in empty.stderr
    with open_database(url, access=Access.WRITE) as database:
        upload = event("push", "team/app", minute=9, digest=f"sha256:{9:064x}", media_type=BLOB, size=7, method="PUT")
        store_bodies(database, [envelope(upload)])
        apply_all(database)
    told = asked("blob", "list", "--orphaned", "--include-unknown", "--output", "json")
    assert "no notification" not in told.stderr
    (row,) = json.loads(told.stdout)
    assert (row["repository"], row["digest"], row["size_bytes"]) == ("team/app", f"sha256:{9:064x}", 7)
    assert (row["pushed_at"], row["is_orphaned"]) == ("2026-11-01T12:09:00Z", None)


def test_only_manifests_miss_blobs(asked: Run) -> None:
    assert asked("manifest", "list", "--missing-blobs", "--count").stdout == "0\n"
    assert asked("tag", "list", "--missing-blobs").exit_code == 2

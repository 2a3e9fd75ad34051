"""Bodies that are meant to do harm: each is acknowledged, none of them touches its neighbours."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from regwarden.core.events import MAX_EVENTS
from regwarden.store.deliveries import count_deliveries, list_quarantine
from regwarden.web.bodies import MAX_BODY_BYTES
from tests.notifications import digest_of, envelope, push, state_of, tags_of
from tests.registry_senders import Senders
from tests.sample_inventory import run_cli
from tests.serving import Service, hooks_only, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SECRET = "a-secret-of-the-tests"
GOOD = envelope(push("team", "v1", 1, -100_000, event_id="push-good"))


def changed(old: bytes, new: bytes) -> bytes:
    """A good envelope but for one place."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def beside_a_good_one(bad: bytes) -> bytes:
    good = json.dumps(push("beside", "v1", 2, -100_000, event_id="good")).encode()
    return b'{"events": [' + bad + b"," + good + b"]}"


TAG, SIZE, NAME, TIME = (
    b'"tag": "v1"',
    b'"size": 501',
    b'"repository": "team"',
    json.loads(GOOD)["events"][0]["timestamp"],
)
REFUSED = {
    "empty": b"",
    "spaces": b" " * 1000,
    "NUL bytes": b"\0" * 1000,
    "NUL in a text": changed(TAG, b'"tag": "v\\u00001"'),
    "a raw NUL in a text": changed(TAG, b'"tag": "v\x001"'),
    "a lone surrogate in a name": changed(NAME, b'"repository": "te\\ud800am"'),
    "a lone surrogate in a text": changed(b'"useragent": "agent/1"', b'"useragent": "\\ud800"'),
    "invalid UTF-8": changed(TAG, b'"tag": "v\xff1"'),
    "UTF-16": json.dumps(json.loads(GOOD)).encode("utf-16"),
    "a deep array": b'{"events": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a deep event": b'{"events": [' + b'{"target":' * 100_000 + b"1" + b"}" * 100_000 + b"]}",
    "a size of 5,000 digits": changed(SIZE, b'"size": ' + b"9" * 5_000),
    "a size of 1e400": changed(SIZE, b'"size": 1e400'),
    "a size that is not a number": changed(SIZE, b'"size": NaN'),
    "an infinite size": changed(SIZE, b'"size": -Infinity'),
    "a negative size": changed(SIZE, b'"size": -1'),
    "the year 300000": changed(TIME.encode(), b"300000-01-01T00:00:00Z"),
    "the year 0": changed(TIME.encode(), b"0000-01-01T00:00:00Z"),
    "a name of 10 kB": changed(NAME, b'"repository": "' + b"a" * 10_000 + b'"'),
    "a tag of 10 kB": changed(TAG, b'"tag": "' + b"a" * 10_000 + b'"'),
    "a digest that is none": changed(digest_of(1).encode(), b"sha256:../../etc/passwd"),
    "a name that leads away": changed(NAME, b'"repository": "../../etc"'),
    "terminal controls": changed(NAME, b'"repository": "\\u001b[2Jteam\\u202e"'),
    "an action nobody knows": changed(b'"action": "push"', b'"action": "\\u001b]0;x\\u0007"'),
    "an event that is a number": b'{"events": [1]}',
    "events that are no list": b'{"events": {}}',
    "no events": b"{}",
    "HTML": b"<!doctype html><title>hello</title>",
    "gzip": gzip.compress(GOOD),
    "a second document": GOOD + GOOD,
    "a half document": GOOD[: len(GOOD) // 2],
    "too many events": b'{"events": [' + b"{}," * MAX_EVENTS + b"{}]}",
    "only commas": b'{"events": [' + b"0," * (MAX_BODY_BYTES // 2 - 100) + b"0]}",
    "too large": b'{"events": [' + b" " * MAX_BODY_BYTES + b"]}",
    "a bad one beside a good one": beside_a_good_one(b'{"action": "push", "target": {"repository": "\\u0000"}}'),
}
ACCEPTED = {
    "duplicate keys": (changed(NAME, b'"repository": "first", "repository": "team"'), ("team", "v1")),
    "texts with NUL and controls": (
        changed(b'"useragent": "agent/1"', b'"useragent": "a\\u0000b\\u001b[2J", "extra": {"deep": [[[[1e400]]]]}'),
        ("team", "v1"),
    ),
    "texts of 10 kB": (
        changed(b'"useragent": "agent/1"', b'"useragent": "' + b"\xc3\xa9" * 10_000 + b'"'),
        ("team", "v1"),
    ),
    "a name at its limit": (changed(NAME, b'"repository": "' + b"n" * 255 + b'"'), ("n" * 255, "v1")),
    "a tag at its limit": (changed(TAG, b'"tag": "' + b"T" * 128 + b'"'), ("team", "T" * 128)),
    "an id of 10 kB with a NUL": (
        changed(b'"id": "push-', b'"id": "\\u0000' + b"i" * 10_000 + b"push-"),
        ("team", "v1"),
    ),
    "no time": (changed(TIME.encode(), b""), ("team", "v1")),
    "Go's zero time": (changed(TIME.encode(), b"0001-01-01T00:00:00Z"), ("team", "v1")),
    "a leap second's neighbour, in nanoseconds": (
        changed(TIME.encode(), b"2016-12-31T23:59:59.999999999Z"),
        ("team", "v1"),
    ),
    "the year 9999": (changed(TIME.encode(), b"9999-12-31T23:59:59Z"), ("team", "v1")),
    "a time at the other end of the world": (changed(TIME.encode(), b"2020-01-01T00:00:00+14:00"), ("team", "v1")),
}


@dataclass
class Place:
    """A running service, with a sender and a way to run commands."""

    service: Service
    senders: Senders
    configuration: Path

    def run(self, *arguments: str) -> str:
        """The standard output of a command that succeeds."""
        places = ("--config", str(self.configuration), "--database", self.service.database_url)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REGWARDEN_")}
        command = [sys.executable, "-m", "regwarden", *arguments, *places]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def post_chunked(self, body: bytes, size: int) -> int:
        """Send in chunks of ``size``."""
        with closing(socket.create_connection(("127.0.0.1", self.senders.port), timeout=30)) as sender:
            head = f"POST /hooks/prod HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
            sender.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for start in range(0, len(body), size):
                piece = body[start : start + size]
                sender.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            sender.sendall(b"0\r\n\r\n")
            return int(sender.recv(100).split()[1])


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    configuration = f"""
[server]
listen = ["127.0.0.1:0"]
[defaults]
crawl_every = "never"
[[registry]]
name = "prod"
url = "http://127.0.0.1:9"
hook_secret_files = ["{secret}"]
"""
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    with hooks_only(tmp_path, configuration, database_url=url) as service:
        yield Place(service, Senders(SECRET, service.port), tmp_path / "regwarden.toml")
        assert service.stop() == 0
        assert "Traceback" not in "\n".join(service.lines)


def applied(place: Place) -> None:
    with place.service.reader() as database:
        wait_for(lambda: database.read_now(count_deliveries).pending_count == 0, place.service.process)


def neighbour(number: int) -> bytes:
    return envelope(push("neighbours", f"v{number}", number, -100_000, event_id=f"n{number}"))


def test_poison_is_acknowledged_and_kept_aside_and_its_neighbours_are_applied(place):
    posts = [partial(place.senders.post, body, timeout=60) for body in REFUSED.values()]
    posts += [partial(place.post_chunked, REFUSED[name], 50_000) for name in ("a deep array", "too large")]
    posts.append(partial(place.post_chunked, GOOD, 1))
    with ThreadPoolExecutor(4) as threads:
        bad = [threads.submit(post) for post in posts]
        good = [place.senders.post(neighbour(number), timeout=60) for number in range(2 * len(bad))]
        assert [one.result() for one in bad] == [200] * len(bad)
    assert good == [200] * len(good)
    applied(place)
    with place.service.reader() as database:
        aside = database.read_now(lambda connection: list_quarantine(connection, limit=1000))
        before = state_of(database)
        tags = tags_of(database)
    assert len(aside) == len(REFUSED) + 2
    assert all(one.reason for one in aside)
    assert tags == {("neighbours", f"v{number}"): number for number in range(len(good))} | {
        ("beside", "v1"): 2,
        ("team", "v1"): 1,
    }
    check_commands(place, [one.id for one in aside], [one.body_sha256 is None for one in aside].count(True))
    with place.service.reader() as database:
        assert state_of(database) == before


def check_commands(place: Place, ids: list[int], whole_count: int) -> None:
    """Each can be looked at; those that are kept whole are looked at again, and are poison still."""
    listed = json.loads(place.run("event", "quarantine", "list", "--output", "json"))
    assert {one["id"] for one in listed} == set(ids)
    # In this process, for there are many of them.
    ask = partial(run_cli, place.configuration.parent, "event", "quarantine", "show", "--database")
    for one in ids:
        shown = ask(place.service.database_url, str(one))
        assert shown.exit_code == 0, shown.stderr
        assert "reason" in shown.stdout
        assert shown.stdout.replace("\n", "").replace("\t", "").isprintable()
    again = json.loads(place.run("event", "quarantine", "replay", "--all", "--output", "json"))
    assert (again["delivery_count"], again["event_count"], again["left_count"]) == (whole_count, 0, len(ids))


def test_weird_but_valid_events_are_applied(place):
    for number, (body, _) in enumerate(ACCEPTED.values()):
        assert place.senders.post(body.replace(b'"id": "push-', b'"id": "%d-push-' % number)) == 200
    applied(place)
    with place.service.reader() as database:
        assert database.read_now(lambda connection: list_quarantine(connection, limit=10)) == []
        tags = tags_of(database)
    assert tags == {expected: 1 for _, expected in ACCEPTED.values()}


def test_an_envelope_as_large_as_is_read_is_applied_and_its_neighbours_need_not_wait_for_it(place):
    filler = "x" * (MAX_BODY_BYTES // MAX_EVENTS - 900)
    many = [push("many", f"v{number}", number, -100_000, useragent=filler) for number in range(MAX_EVENTS)]
    body = envelope(*many)
    assert MAX_BODY_BYTES * 0.8 < len(body) <= MAX_BODY_BYTES
    with ThreadPoolExecutor(1) as threads:
        large = threads.submit(place.senders.post, body, timeout=60)
        good = [place.senders.post(neighbour(number), timeout=60) for number in range(50)]
        assert large.result() == 200
    assert good == [200] * 50
    applied(place)
    with place.service.reader() as database:
        assert len(tags_of(database)) == MAX_EVENTS + 50

"""The main listener: what lives where, and when it calls itself ready."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from regwarden import clock
from regwarden.errors import StoreError
from regwarden.store.database import Access, Database, open_database
from regwarden.store.schema import installation
from regwarden.web.app import Application, Readiness
from regwarden.web.bodies import BodyReader
from regwarden.web.hooks import Hooks
from regwarden.web.senders import Senders
from tests.web.conftest import Storage, ask


@pytest.fixture
def database(tmp_path: Path):
    with open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}", access=Access.WRITE, create=True) as database:
        database.write_now(lambda connection: connection.execute(insert(installation).values(name="id", value="x")))
        yield database


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the clock; put another number into it."""
    seconds = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    return seconds


def fail(_connection: object) -> None:
    raise StoreError("sqlite:///x is full", code="disk-full")


def application(storage: Storage, database: Database, problem: str = "") -> Application:
    hooks = Hooks(storage, Senders({"prod": ("s",)}), lambda: datetime.now(UTC), BodyReader())
    return Application(hooks, Readiness(database, lambda: problem))


async def test_hooks_are_passed_on_and_nothing_is_redirected(storage, database):
    app = application(storage, database)
    headers = [("Authorization", "Bearer s")]
    assert (await ask(app, "/hooks/prod/", b"x", headers=headers)).status == 200
    for path in ("/", "/hooks", "/healthz/", "/readyz/x", "//healthz"):
        answer = await ask(app, path, method="GET", headers=headers)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_life_and_readiness_are_only_read(storage, database):
    app = application(storage, database)
    for path in ("/healthz", "/readyz"):
        assert (await ask(app, path, method="GET")).status == 200
        assert (await ask(app, path, method="HEAD")).status == 200
        assert (await ask(app, path, method="POST")).status == 405


async def test_a_database_that_cannot_be_written_is_not_ready_until_it_can(storage, database, elapsed, monkeypatch):
    app = application(storage, database)
    monkeypatch.setattr("regwarden.web.app.probe_writing", fail)
    answer = await ask(app, "/readyz", method="GET")
    assert (answer.status, answer.json["code"]) == (503, "not-ready")
    assert "sqlite" not in answer.body.decode()
    assert (await ask(app, "/healthz", method="GET")).status == 200
    monkeypatch.undo()
    monkeypatch.setattr(clock, "monotonic", lambda: elapsed[0])
    assert (await ask(app, "/readyz", method="GET")).status == 503
    elapsed[0] += 2
    assert (await ask(app, "/readyz", method="GET")).status == 200


async def test_a_database_that_says_nothing_is_not_ready(storage, database, monkeypatch):
    monkeypatch.setattr("regwarden.web.app._PROBE_SECONDS", 0.05)
    is_over = threading.Event()
    hanging = database.write(lambda _connection: is_over.wait(20))
    waiting = asyncio.create_task(hanging)
    await asyncio.sleep(0.05)
    try:
        assert (await ask(application(storage, database), "/readyz", method="GET")).status == 503
    finally:
        is_over.set()
    assert await waiting


async def test_events_that_cannot_be_applied_for_long_are_not_ready(storage, database, elapsed):
    app = application(storage, database, "a table is missing")
    assert (await ask(app, "/readyz", method="GET")).status == 200
    elapsed[0] += 61
    answer = await ask(app, "/readyz", method="GET")
    assert (answer.status, answer.json["detail"]) == (503, "events cannot be applied")


async def test_a_notification_sent_to_another_path_is_told_to_whoever_reads_the_log(storage, database, logged):
    app = application(storage, database)
    assert (await ask(app, "/hook/prod", b"{}")).status == 404
    assert (await ask(app, "/", method="GET")).status == 404
    (entry,) = logged
    assert (entry["path"], entry["reason"]) == ("/hook/prod", "notifications are sent to /hooks/NAME")

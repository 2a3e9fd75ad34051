"""The service is killed at every point of the way of a notification, and at random: nothing acknowledged is lost.

Senders are as registries are, and note what was acknowledged outside of the service.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, update

from regwarden.core.pulls import Classifier
from regwarden.settings_sections import PullSettings
from regwarden.store.applying import EventRegistry, Folding
from regwarden.store.database import Access, Database, open_database
from regwarden.store.deliveries import count_deliveries
from regwarden.store.event_schema import deliveries, events, pull_days
from regwarden.store.schema import crawls
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import running_sample_registry
from tests.notifications import apply_all, envelope, push, state_of, store_bodies, tags_of
from tests.registry_senders import Senders, traffic
from tests.serving import Service, hooks_only, wait_for

KILL_COUNT = int(os.environ.get("REGWARDEN_KILLS", "6"))
LAUNCHER = Path(__file__).with_name("failing_service.py")
SECRET = "a-secret-of-the-tests"
URL = "http://127.0.0.1:9"  # nothing listens there
READY_SECONDS = 5.0
REFUSED_SECONDS = 3.0
RECOVERY_SECONDS = 10.0
INTAKE_POINTS = (
    ("migrated-before-commit", 1),
    ("body-read", 4),
    ("before-insert", 3),
    ("inserted-before-commit", 3),
    ("committed-before-answer", 5),
    ("answered", 5),
)
POSTGRESQL_POINTS = (
    ("inserted-before-commit", 3),
    ("committed-before-answer", 3),
    ("state-changed", 2),
    ("marked-before-commit", 2),
    ("applied", 2),
)
APPLIER_POINTS = (
    ("taken", 2),
    ("events-inserted", 2),
    ("state-changed", 2),
    ("marked-before-commit", 2),
    ("applied", 2),
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120 + 8 * KILL_COUNT),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    return f"""
[server]
listen = ["127.0.0.1:0"]
[defaults]
crawl_every = "never"
[[registry]]
name = "prod"
url = "{URL}"
hook_secret_files = ["{write_secret(tmp_path)}"]
"""


def write_secret(directory: Path) -> Path:
    secret = directory / "secret"
    secret.write_text(SECRET)
    return secret


def failing(point: str, count: int) -> tuple[str, ...]:
    return (str(LAUNCHER), point, str(count))


def folding() -> Folding:
    """How the service reads events with the configuration of these tests."""
    return Folding("0" * 16, Classifier(()).classify, frozenset(PullSettings().use), (EventRegistry("prod", URL),))


def undisturbed(bodies: list[bytes], directory: Path) -> list[list[tuple[Any, ...]]]:
    """The state that these bodies make when nothing happens to anybody."""
    url = f"sqlite:///{directory / 'undisturbed.sqlite3'}"
    with open_database(url, access=Access.WRITE, create=True) as database:
        store_bodies(database, bodies)
        apply_all(database, folding=folding())
        return state_of(database)


def is_applied(database: Database) -> bool:
    return database.read_now(count_deliveries).pending_count == 0


def check_all(service: Service, senders: Senders, directory: Path) -> None:
    """Nothing acknowledged is lost, nothing counts twice, and all is as if nobody had been killed."""
    sent = [(body, one) for body in senders.acknowledged for one in json.loads(body)["events"]]
    with service.reader() as database:
        wait_for(lambda: is_applied(database), service.process)
        ids = database.read_now(lambda connection: connection.execute(select(events.c.event_id)).scalars().all())
        assert Counter(ids) == Counter({one["id"] for _, one in sent})
        pulled = database.read_now(
            lambda connection: connection.execute(select(func.coalesce(func.sum(pull_days.c.pull_count), 0))).scalar()
        )
        assert pulled == len({one["id"] for _, one in sent if one["action"] == "pull"})
        kept = database.read_now(
            lambda connection: Counter(map(bytes, connection.execute(select(deliveries.c.body)).scalars()))
        )
        assert not Counter(senders.acknowledged) - kept
        assert state_of(database) == undisturbed(senders.acknowledged, directory)
    assert "Traceback" not in "\n".join(service.lines)


def check_file(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "inventory.sqlite3")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("points", [INTAKE_POINTS, APPLIER_POINTS], ids=["intake", "applier"])
def test_killed_at_every_point_nothing_is_lost_and_nothing_counts_twice(tmp_path, configuration, points):
    senders = Senders(SECRET)
    with senders.sending([traffic(seed, 150) for seed in range(3)]) as finish:
        for point, count in points:
            with hooks_only(tmp_path, configuration, wait=False, program=failing(point, count)) as service:
                wait_for(lambda: is_ready(service) or service.process.poll() is not None)
                senders.port = service.port if is_ready(service) else senders.port
                assert service.process.wait(timeout=60) == -signal.SIGKILL, f"{point} was not reached"
            check_file(tmp_path)
        with hooks_only(tmp_path, configuration) as service:
            senders.port = service.port
            finish(60)
            check_all(service, senders, tmp_path)
            assert service.stop() == 0
    check_file(tmp_path)


def test_on_postgresql_nothing_is_lost_and_nothing_counts_twice(tmp_path, configuration, postgresql_url):
    senders = Senders(SECRET)
    with senders.sending([traffic(seed, 60) for seed in range(3)]) as finish:
        for point, count in POSTGRESQL_POINTS:
            program = failing(point, count)
            with hooks_only(
                tmp_path, configuration, database_url=postgresql_url, wait=False, program=program
            ) as service:
                wait_for(lambda: is_ready(service) or service.process.poll() is not None)
                senders.port = service.port if is_ready(service) else senders.port
                assert service.process.wait(timeout=60) == -signal.SIGKILL, f"{point} was not reached"
        with hooks_only(tmp_path, configuration, database_url=postgresql_url) as service:
            senders.port = service.port
            finish(60)
            check_all(service, senders, tmp_path)
            assert service.stop() == 0


def test_postgresql_killed_under_load_loses_nothing_and_the_service_recovers(
    tmp_path, configuration, durable_postgresql
):
    url = durable_postgresql.url(durable_postgresql.create_database())
    with hooks_only(tmp_path, configuration, database_url=url) as service:
        senders = Senders(SECRET, service.port)
        round_count, is_enough = max(2, KILL_COUNT // 6), threading.Event()
        queues = [slowly(traffic(seed, 300 * round_count), 0.02, is_enough) for seed in range(4)]
        with senders.sending(queues) as finish:
            for _ in range(round_count):
                time.sleep(0.5)
                durable_postgresql.kill()
                killed_at = time.monotonic()
                wait_for(lambda: any(at > killed_at and status == 503 for at, status in senders.statuses))  # noqa: B023
                assert time.monotonic() - killed_at < REFUSED_SECONDS
                wait_for(lambda: senders.ask("/readyz") == 503)
                durable_postgresql.start()
                back_at = time.monotonic()
                wait_for(lambda: any(at > back_at and status == 200 for at, status in senders.statuses))  # noqa: B023
                wait_for(lambda: senders.ask("/readyz") == 200)
                assert time.monotonic() - back_at < RECOVERY_SECONDS
            is_enough.set()
            finish(60)
        assert {status for _, status in senders.statuses} == {200, 503}
        check_all(service, senders, tmp_path)
        assert service.stop() == 0


def test_killed_at_random_under_load_nothing_is_lost_and_nothing_counts_twice(tmp_path, configuration):
    random = Random(20)
    senders = Senders(SECRET)
    starts: list[float] = []
    is_enough = threading.Event()
    with senders.sending([slowly(traffic(seed, 100 * KILL_COUNT), 0.01, is_enough) for seed in range(4)]) as finish:
        for _ in range(KILL_COUNT):
            begun = time.monotonic()
            with hooks_only(tmp_path, configuration, wait=False) as service:
                wait_for(lambda: is_ready(service), service.process)
                starts.append(time.monotonic() - begun)
                senders.port = service.port
                time.sleep(random.uniform(0, 0.5))
                service.process.kill()
        check_file(tmp_path)
        is_enough.set()
        with hooks_only(tmp_path, configuration) as service:
            senders.port = service.port
            finish(60)
            check_all(service, senders, tmp_path)
            assert service.stop() == 0
    check_file(tmp_path)
    assert sorted(starts)[len(starts) // 2] < READY_SECONDS


@pytest.mark.parametrize(
    ("point", "count"),
    [("published-before-commit", 3), ("between-pieces-of-a-reading", 5)],
    ids=str,
)
def test_killed_while_a_crawl_is_published_nothing_is_lost_and_the_crawl_goes_on(tmp_path, point, count):
    content = Content()
    for number in range(12):
        content.repository(f"app{number}").add(image([layer(str(number), 10)]), "v1", "v2")
    bodies = [envelope(push("pushed", f"v{number}", number, -100_000)) for number in range(20)]
    with running_sample_registry(content, behaviour=Behaviour(latency_seconds=0.005)) as registry:
        configuration = f"""
[server]
listen = ["127.0.0.1:0"]
[[registry]]
name = "prod"
url = "{registry.url}"
hook_secret_files = ["{write_secret(tmp_path)}"]
"""
        senders = Senders(SECRET)
        with senders.sending([bodies]) as finish:
            with hooks_only(tmp_path, configuration, wait=False, program=failing(point, count)) as service:
                wait_for(lambda: is_ready(service) or service.process.poll() is not None)
                senders.port = service.port if is_ready(service) else senders.port
                assert service.process.wait(timeout=60) == -signal.SIGKILL
            check_file(tmp_path)
            with hooks_only(tmp_path, configuration) as service:
                senders.port = service.port
                finish(60)
                with service.reader() as database:
                    wait_for(lambda: len(tags_of(database)) == 24 + len(bodies) and is_applied(database))
                    told = database.read_now(lambda connection: connection.execute(select(events.c.event_id)).all())
                    assert len(told) == len(bodies)
                    # It doubts that the repository of the events is gone, for nothing else was known before.
                    wait_for(lambda: database.read_now(crawl_states) == ["partial"])
                assert service.stop() == 0
    check_file(tmp_path)


def crawl_states(connection: Any) -> list[str]:
    return list(connection.execute(select(crawls.c.state).order_by(crawls.c.id)).scalars())


@pytest.mark.parametrize("point", ["purged-before-commit", "between-pieces-of-a-purge"])
def test_killed_while_old_rows_are_deleted_only_old_rows_go_and_all_of_them_in_the_end(tmp_path, configuration, point):
    old = [envelope(push("old", f"v{number}", number, -100_000)) for number in range(1200)]
    waiting = envelope(push("waiting", "v1", 1, -100_000))
    url = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    with open_database(url, access=Access.WRITE, create=True) as database:
        store_bodies(database, old, received_at=datetime.now(UTC) - timedelta(days=30))
        apply_all(database, folding=folding())
        store_bodies(database, [waiting], received_at=datetime.now(UTC) - timedelta(days=30))
        before = state_of(database)
    with hooks_only(tmp_path, configuration, wait=False, program=failing(point, 2)) as service:
        assert service.process.wait(timeout=60) == -signal.SIGKILL
    check_file(tmp_path)
    with hooks_only(tmp_path, configuration) as service, service.reader() as database:
        wait_for(lambda: is_applied(database))
        wait_for(lambda: database.read_now(count_bodies) <= 1)
        assert len(state_of(database)[0]) == len(before[0]) + 1
        assert service.stop() == 0
    check_file(tmp_path)


def count_bodies(connection: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(deliveries)).scalar_one())


@pytest.mark.parametrize("point", ["replayed-before-commit", "replayed-before-applied"])
def test_killed_while_quarantine_is_looked_at_again_nothing_is_lost(tmp_path, configuration, point):
    good, bad = envelope(push("team", "v1", 1, -100_000)), b"not a notification"
    url = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    with open_database(url, access=Access.WRITE, create=True) as database:
        store_bodies(database, [good, bad], received_at=datetime.now(UTC))
        database.write_now(
            lambda connection: connection.execute(update(deliveries).values(state="quarantined", reason="by an older"))
        )
    file = str(tmp_path / "regwarden.toml")
    replaying = ("-m", "regwarden", "event", "quarantine", "replay", "--all", "--config", file, "--database", url)
    with hooks_only(tmp_path, configuration, program=failing(point, 1)) as service:
        command = subprocess.run([sys.executable, *replaying], capture_output=True, timeout=60, check=False, text=True)
        assert service.process.wait(timeout=60) == -signal.SIGKILL
    assert command.returncode == 1
    assert "error" in command.stderr
    assert "Traceback" not in command.stderr
    check_file(tmp_path)
    with hooks_only(tmp_path, configuration) as service, service.reader() as database:
        command = subprocess.run([sys.executable, *replaying], capture_output=True, timeout=60, check=False, text=True)
        assert command.returncode == 0, command.stderr
        wait_for(lambda: is_applied(database))
        assert tags_of(database) == {("team", "v1"): 1}
        assert database.read_now(count_deliveries).quarantined_count == 1
        assert service.stop() == 0


@dataclass
class Disk:
    """``filling`` is the file that takes all the space, or says that there is none."""

    place: Path
    filling: Path
    program: tuple[str, ...]
    is_filled: bool

    def fill(self) -> None:
        with suppress(OSError), self.filling.open("wb", buffering=0) as file:
            while self.is_filled:
                file.write(b"x" * 4096)

    def free(self) -> None:
        self.filling.unlink()


@pytest.fixture
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A place for a database that can be made full and free again."""
    if request.param == "page-limit":
        yield Disk(tmp_path, tmp_path / "FULL", (str(LAUNCHER), "page-limit", "0"), is_filled=False)
        return
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    with suppress(OSError):
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            try:
                yield Disk(place, place / "filling", ("-m", "regwarden"), is_filled=True)
            finally:
                subprocess.run(["umount", str(place)], check=True)
            return
    pytest.skip("a small file system can be mounted by root only")


@pytest.mark.parametrize("full_disk", ["tmpfs", "page-limit"], indirect=True)
def test_on_a_full_disk_nothing_is_acknowledged_until_there_is_space_again(tmp_path, configuration, full_disk):
    senders = Senders(SECRET)
    bodies = [envelope(push("team", f"v{number}", number, -100_000, useragent="x" * 100_000)) for number in range(10)]
    url = f"sqlite:///{full_disk.place / 'inventory.sqlite3'}"
    with hooks_only(tmp_path, configuration, database_url=url, program=full_disk.program) as service:
        senders.port = service.port
        for body in bodies[:3]:
            senders.deliver(body)
        full_disk.fill()
        with senders.sending([bodies[3:]]) as finish:
            wait_for(lambda: [status for _, status in senders.statuses].count(503) > 20)
            assert [status for _, status in senders.statuses].count(200) <= len(bodies) // 2
            assert senders.ask("/healthz") == 200
            full_disk.free()
            finish(30)
        wait_for(lambda: senders.ask("/readyz") == 200)
        assert len(senders.acknowledged) == len(bodies)
        check_all(service, senders, tmp_path)
        assert service.stop() == 0


def is_ready(service: Service) -> bool:
    return any(line.startswith("notifications:") for line in service.lines)


def slowly(bodies: list[bytes], seconds: float, is_enough: threading.Event) -> Iterator[bytes]:
    for body in bodies:
        if is_enough.is_set():
            return
        yield body
        time.sleep(seconds)

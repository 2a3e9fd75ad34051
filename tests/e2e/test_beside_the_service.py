"""What people do while the service runs: crawl, refresh, rotate secrets, watch; and what it does by itself."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from regwarden.library import Inventory
from regwarden.store.schema import crawls, registries
from tests.live_registry import Live, live_registry, multi_platform, picture
from tests.serving import Service, hooks_only, wait_for

pytestmark = pytest.mark.e2e


# Longer than the hasty service lets an event stand against a crawl.
BEYOND_DOUBT_SECONDS = 1.5


@pytest.fixture
def live(tmp_path: Path, docker_registry: Any) -> Iterator[Live]:
    with live_registry(tmp_path, docker_registry, is_hasty=True) as live:
        yield live


def tags(inventory: Inventory) -> dict[str, str]:
    return {f"{row.repository}:{row.tag}": row.digest for row in inventory.tags()}


def post(service: Service, body: bytes, secret: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)) as connection:
        connection.request("POST", "/hooks/prod", body, {"Authorization": f"Bearer {secret}"})
        return connection.getresponse().status


def test_what_no_event_told_of_is_found_by_a_crawl_counted_and_healed(live: Live) -> None:
    live.copy("docker:1", "team/app:1.0")
    live.copy("oci:1", "team/app:latest")
    live.copy("multi:1", "team/multi:1", "--multi-arch=all")
    for seed in "123":  # much that vanishes at once would have to be accepted by a person
        live.copy(f"oci:{seed}", f"team/other:{seed}")
    live.becomes(6, lambda inventory: len(tags(inventory)))
    assert "inventory of prod: never crawled, known from events" in live.ask("tag", "list").stderr
    time.sleep(BEYOND_DOUBT_SECONDS)
    assert "prod: complete in " in live.ask("crawl", "prod").stdout
    assert "no event told of" not in live.ask("registry", "check", "prod").stdout
    live.registry.stop()
    live.registry.pasted = ""
    live.registry.start()
    live.copy("oci:2", "team/app:latest")
    live.copy("docker:2", "team/new:1")
    live.call("DELETE", f"team/multi/manifests/{multi_platform('1').digest}")
    time.sleep(BEYOND_DOUBT_SECONDS)
    crawled = live.ask("crawl", "prod")
    assert "1 new tag, 1 moved tag, 1 tag gone" in crawled.stdout
    checked = live.ask("registry", "check", "prod", "--notifications", "none").stdout
    assert "no event told of 3" in checked
    assert "1 missed-delete, 1 missed-move, 1 missed-push" in checked
    (record,) = json.loads(live.ask("registry", "check", "prod", "--output", "json").stdout)
    assert record["notifications"]["loss"]["missed_count"] == 3
    assert 0 < record["notifications"]["loss"]["rate"] <= 1
    assert live.differences() == {}
    with live.connect() as inventory:
        assert [row.cause for row in inventory.history("prod/team/app:latest")] == ["crawl", "event"]
        assert [row.state for row in inventory.history("prod/team/multi:1")] == ["gone", "ok"]
    # The repositories in which it was found are read again.
    live.becomes(True, lambda _: live.is_settled())
    assert live.differences() == {}


def pushed_until_told(live: Live, tail: subprocess.Popen[str]) -> tuple[str, str]:
    """Push again and again: it tells of what comes after it has started, and does not say when that is."""
    for _ in range(10):
        live.copy("docker:1", "team/app:1.0")
        try:
            return tail.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            continue
    tail.kill()
    return tail.communicate()


def test_commands_beside_the_service_do_their_work_while_events_go_on(live: Live) -> None:
    tail = live.start_command("event", "tail", "--action", "push", "--count", "1", "--output", "json")
    shown, problems = pushed_until_told(live, tail)
    assert problems == ""
    assert (json.loads(shown)["repository"], json.loads(shown)["tag"]) == ("team/app", "1.0")

    listed = live.ask("tag", "list", "--refresh", "--columns", "repository,tag,logical_bytes", "--output", "csv")
    assert (listed.exit_code, listed.stdout.splitlines()[1].startswith("team/app,1.0,")) == (0, True)

    old = live.ask("registry", "secret", "prod").stdout.split()
    both = live.ask("registry", "secret", "prod", "--rotate").stdout.split()
    assert both[1:] == old
    assert len(both) == 2
    service = live.services[-1]
    assert [post(service, b"nothing that can be read", secret) for secret in (*both, "wrong")] == [200, 200, 401]
    live.becomes(2, lambda inventory: len(inventory.quarantine()))
    replayed = live.ask("event", "quarantine", "replay", "--all")
    assert (replayed.exit_code, "looked again at 2 deliveries, 0 new events" in replayed.stdout) == (0, True)
    live.becomes(2, lambda inventory: len(inventory.quarantine()))

    purged = live.ask("db", "purge", "--output", "json")
    assert json.loads(purged.stdout) == dict.fromkeys(
        ("delivery_count", "quarantine_count", "event_count", "pull_day_count", "trash_count"), 0
    )
    live.copy("docker:2", "team/app:1.0")
    live.becomes({"team/app:1.0": str(picture("docker 2", is_oci=False).digest)}, tags)
    assert "Traceback" not in "\n".join(service.lines)


def test_a_short_schedule_runs_one_after_the_other_and_survives_a_registry_that_is_away(
    tmp_path: Path, docker_registry: Any
) -> None:
    here, away = docker_registry(), docker_registry()
    configuration = '[server]\nlisten = ["127.0.0.1:0"]\n[defaults]\ncrawl_every = "10s"\n'
    for name, server in (("here", here), ("away", away)):
        configuration += server.section(name)
    away.stop()
    with hooks_only(tmp_path, configuration) as service:
        live = Live(tmp_path, service.database_url, here, configuration)

        def states(name: str) -> list[tuple[Any, ...]]:
            found = select(crawls.c.state, crawls.c.started_at, crawls.c.finished_at).join(registries)
            found = found.where(registries.c.name == name).order_by(crawls.c.id)
            with service.reader() as database:
                return [tuple(row) for row in database.read_now(lambda connection: connection.execute(found).all())]

        wait_for(lambda: any("a crawl failed" in line and "away" in line for line in service.lines), seconds=20)
        away.start()
        wait_for(lambda: [row[0] for row in states("here")][:2] == ["complete"] * 2, seconds=30)
        wait_for(lambda: "complete" in [row[0] for row in states("away")], seconds=30)
        columns = "registry,crawled_at,crawl_state,next_crawl_at"
        listed = json.loads(live.ask("registry", "list", "--columns", columns, "--output", "json").stdout)
        assert [(row["registry"], row["crawl_state"]) for row in listed] == [("away", "complete"), ("here", "complete")]
        assert all(row["next_crawl_at"] > row["crawled_at"] for row in listed)
        for name in ("here", "away"):
            ended = [row for row in states(name) if row[2] is not None]
            assert all(before[2] <= after[1] for before, after in pairwise(ended))
        assert len(states("here")) <= 4


def gitlab_event(action: str, number: int, target: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event in the shape of GitLab's registry, which adds a type to the actor and a place to blobs."""
    return {
        "id": f"gitlab-{number}",
        "timestamp": f"2026-11-01T12:00:0{number}.123Z",
        "action": action,
        "target": target,
        "request": {
            "id": str(number),
            "addr": "10.0.0.7",
            "host": "registry.example.test:5201",
            "method": "PUT",
            "useragent": "docker/27.0 go/go1.22",
        },
        "actor": {"name": "ann", "user_type": "personal_access_token", "user": "eyJhbGciOiJFUzI1NiJ9.e30.x"},
        "source": {"addr": "registry-0:5000", "instanceID": "g"},
        **more,
    }


def test_the_events_of_gitlabs_registry_are_taken_in_with_what_it_adds(tmp_path: Path) -> None:
    manifest, blob = picture("gitlab"), picture("gitlab").blobs[0]
    named = {"mediaType": manifest.media_type, "digest": str(manifest.digest), "size": len(manifest.payload)}
    blob_target = {"mediaType": "application/octet-stream", "digest": str(blob.digest), "size": blob.size_bytes}
    placed = {"meta": {"blob": {"redirected": True, "storageBackend": "gcs"}}}
    moved = {"type": "project", "from": "group/old", "to": "group/new/home"}
    events = [
        gitlab_event("push", 1, {**named, "repository": "group/old/app", "tag": "1.0"}),
        gitlab_event("push", 2, {**named, "repository": "group/old/app", "tag": "2.0"}),
        gitlab_event("pull", 3, {**blob_target, "repository": "group/old/app"}, **placed),
        gitlab_event("rename", 4, {"repository": "group/old", "rename": moved}),
        gitlab_event("delete", 5, {"repository": "group/new/home/app", "tag": "2.0"}),
    ]
    configuration = (
        '[server]\nlisten = ["127.0.0.1:0"]\n[defaults]\ncrawl_every = "never"\n'
        '[[registry]]\nname = "prod"\nurl = "http://registry.example.test:5201"\n'
    )
    with hooks_only(tmp_path, configuration) as service:
        secret = service.secret("prod")
        for event in events:
            assert post(service, json.dumps({"events": [event]}).encode(), secret) == 200
        live = Live(tmp_path, service.database_url, None, configuration)  # type: ignore[arg-type]
        live.becomes({"group/new/home/app:1.0": str(manifest.digest)}, tags)
        with live.connect() as inventory:
            found = inventory.events()
            assert inventory.quarantine() == []
        assert [(row.action, row.actor) for row in found] == [(event["action"], "ann") for event in reversed(events)]
        renamed = next(row for row in found if row.action == "rename")
        assert (renamed.repository, renamed.other_repository) == ("group/old", "group/new/home")
        assert "eyJ" not in repr(found)

"""Cleaning up beside the running service: events tell what happens meanwhile, and what breaks off goes on."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from regwarden.library import Inventory
from regwarden.testing.content import BuiltManifest
from tests.cleanup_world import WAIVED
from tests.live_registry import TOLD_BY_GITLAB, Live, live_registry, picture
from tests.random_registries import stored_tags
from tests.serving import wait_for

pytestmark = pytest.mark.e2e

FAILING = str(Path(__file__).parent / "failing_service.py")
REPOSITORY = "team/app"
GOING = "team/app:glob:old-*"
# Which registry, and where the inventory is. What is raced is raced at each registry and in each database once; with
# docker-registry and SQLite are the tests of ``one_live``.
SITES = {
    "2.8": ("docker_registry", ""),
    "3.1": ("distribution3", ""),
    "2.8-postgresql": ("docker_registry", "postgresql_url"),
}
RACED_SITES = ["3.1", "2.8-postgresql"]
# Longer than the hasty service lets an event stand against a crawl.
BEYOND_DOUBT_SECONDS = 1.5
# Much less than the loop's own pause: it is an event that wakes it.
SOON_SECONDS = 15.0


@pytest.fixture(params=SITES)
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    kind, database = SITES[request.param]
    url, start = request.getfixturevalue(database) if database else "", request.getfixturevalue(kind)
    with live_registry(tmp_path, start, database_url=url, is_hasty=True) as live:
        yield live


@pytest.fixture
def one_live(docker_registry: Any, tmp_path: Path) -> Iterator[Live]:
    with live_registry(tmp_path, docker_registry, is_hasty=True) as live:
        yield live


@dataclass
class Cleaner:
    """A person at the command line beside the service; ``pushed`` is what the registry was given."""

    live: Live
    pushed: dict[str, BuiltManifest] = field(default_factory=dict)

    def push(self, **counts: int) -> None:
        """So many images ``old-1``, …; they are in the inventory, which was crawled, when it returns."""
        for word, count in counts.items():
            for number in range(1, count + 1):
                self.pushed[f"{word}-{number}"] = picture(f"{word} {number}")
                self.live.put(REPOSITORY, self.pushed[f"{word}-{number}"], f"{word}-{number}")
        self.live.becomes(self.expected(*counts), tags)
        time.sleep(BEYOND_DOUBT_SECONDS)
        self.crawl()
        self.live.becomes(True, lambda _: self.live.is_settled())

    def expected(self, *words: str) -> dict[str, str]:
        return {tag: str(built.digest) for tag, built in self.pushed.items() if tag.rpartition("-")[0] in words}

    def olds(self) -> list[tuple[str, BuiltManifest]]:
        return [(tag, built) for tag, built in self.pushed.items() if tag.startswith("old-")]

    def tell(self, *arguments: str, status: int = 0) -> str:
        run = self.live.ask(*arguments)
        if run.exit_code != status:
            pytest.fail(f"regwarden {' '.join(arguments)} ended with {run.exit_code}:\n{run.output}", pytrace=False)
        return str(run.stdout)

    def crawl(self, *options: str) -> str:
        """A crawl after whatever the service just reads by itself."""
        while (run := self.live.ask("crawl", "prod", *options)).exit_code and "database-busy" in run.stderr:
            time.sleep(0.1)
        assert run.exit_code == 0, run.output
        return str(run.stdout)

    def ask(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.tell(*arguments, "--output", "json", status=status))

    def plan(self, wanted: str = GOING) -> str:
        """A new plan that was agreed to."""
        waived = [word for guard in WAIVED for word in ("--waive", guard)]
        plan_id = str(self.ask("plan", "create", "--tag", wanted, *waived)["id"])
        self.tell("plan", "approve", plan_id)
        return plan_id

    def apply(self, plan_id: str, *options: str, status: int = 0) -> Any:
        return self.ask("plan", "apply", plan_id, *options, status=status)

    def steps(self, plan_id: str) -> list[Any]:
        with self.live.connect() as inventory:
            return list(inventory.plan_steps(int(plan_id)))

    def states(self, plan_id: str) -> set[str]:
        return {one.state for one in self.steps(plan_id)}

    def has(self, tag: str) -> bool:
        """Whether it can be pulled. The storage is looked at: asking would be a pull."""
        return tag in self.stored()

    def stored(self) -> dict[str, str]:
        """The tags that lead somewhere; a deletion that broke off leaves others."""
        root = self.live.registry.root
        revisions = root / "docker" / "registry" / "v2" / "repositories" / REPOSITORY / "_manifests" / "revisions"
        return {
            tag: digest
            for tag, digest in stored_tags(root, REPOSITORY).items()
            if (revisions / digest.replace(":", "/") / "link").is_file()
        }

    def missed(self) -> tuple[int, float | None]:
        """How many changes no event told of, as the check of the registry says; and the share."""
        (record,) = self.ask("registry", "check", "prod")
        loss = record["notifications"]["loss"]
        return loss["missed_count"], loss["rate"]

    def deliver_late(self, built: BuiltManifest, tag: str, at: datetime) -> None:
        """Let the service hear now of a push that happened ``at``."""
        target = {
            "mediaType": built.media_type,
            "size": len(built.payload),
            "digest": str(built.digest),
            "repository": REPOSITORY,
            "tag": tag,
        }
        request = {"id": "1", "addr": "192.0.2.7", "host": self.live.registry.host, "method": "PUT"}
        event = {
            "id": str(uuid4()),
            "timestamp": at.isoformat().replace("+00:00", "Z"),
            "action": "push",
            "target": target,
            "request": {**request, "useragent": "docker/27.0"},
            "actor": {},
            "source": {"addr": "registry:5000", "instanceID": "another"},
        }
        service = self.live.services[-1]
        body, headers = json.dumps({"events": [event]}), {"Authorization": f"Bearer {service.secret('prod')}"}
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)) as connection:
            connection.request("POST", "/hooks/prod", body, headers)
            assert connection.getresponse().status == 200


def tags(inventory: Inventory) -> dict[str, str]:
    return {row.tag: row.digest for row in inventory.tags(REPOSITORY)}


def pushed(inventory: Inventory) -> dict[str, Any]:
    return {row.tag: row.pushed_at for row in inventory.tags(REPOSITORY)}


def deletion_count(live: Live) -> int:
    """How many deletions of ours the registry accepted."""
    return sum(
        '"DELETE /v2/' in line and '" 202 ' in line and "regwarden/" in line for line in live.registry.access_log()
    )


def test_a_plan_is_made_applied_taken_back_and_finished_beside_the_service(live: Live) -> None:
    cleaner = Cleaner(live)
    cleaner.push(old=4, new=4)
    with live.connect() as inventory:
        before = pushed(inventory)
    plan_id = cleaner.plan()
    report = cleaner.apply(plan_id)
    assert (report["state"], report["results"], report["can_miss_races"]) == ("applied", {"done": 4}, False)
    assert cleaner.stored() == cleaner.expected("new")
    with live.connect() as inventory:
        assert tags(inventory) == cleaner.expected("new")
    see_nothing_of_it(cleaner)

    asked_before = deletion_count(live)
    undone = cleaner.ask("plan", "undo", plan_id)
    assert (undone["state"], undone["restored_step_count"], undone["losses"]) == ("undone", 4, [])
    assert cleaner.stored() == cleaner.expected("old", "new")
    with live.connect() as inventory:
        assert tags(inventory) == cleaner.expected("old", "new")
    see_nothing_of_it(cleaner)
    with live.connect() as inventory:
        assert pushed(inventory) == before
    assert deletion_count(live) == asked_before == 4

    again = cleaner.plan()
    assert cleaner.apply(again)["results"] == {"done": 4}
    (ending,) = cleaner.ask("plan", "finish", again)["endings"]
    assert ending["registry"] == "prod"
    cleaner.tell("plan", "undo", again, status=1)
    see_nothing_of_it(cleaner)
    asked = [row["action"] for row in cleaner.ask("audit", "list")]
    assert asked.count("plan-apply") == 2
    assert live.differences() == {}
    assert "Traceback" not in "\n".join(live.services[-1].lines)


def see_nothing_of_it(cleaner: Cleaner) -> None:
    """What we did ourselves is no push, no pull and no loss; a crawl finds what is there already."""
    live = cleaner.live
    time.sleep(BEYOND_DOUBT_SECONDS)  # the registry tells of our own requests, too
    live.becomes(True, lambda _: live.is_settled())
    with live.connect() as inventory:
        assert inventory.pulls() == []
        own = [row.action for row in inventory.events() if row.user_agent.startswith("regwarden/")]
        assert set(own) <= {"delete", "push"}
        known = tags(inventory)
    crawled = cleaner.crawl()
    assert " moved tag" not in crawled
    assert " gone" not in crawled
    assert cleaner.missed() in ((0, None), (0, 0.0))
    with live.connect() as inventory:
        assert tags(inventory) == known
    live.becomes(True, lambda _: live.is_settled())


@pytest.mark.parametrize("live", RACED_SITES, indirect=True)
def test_what_is_pushed_while_it_is_removed_is_there_in_the_end(live: Live) -> None:
    cleaner = Cleaner(live)
    cleaner.push(old=20, new=12)
    plan_id = cleaner.plan()
    accepted: dict[str, BuiltManifest] = {}
    is_over = threading.Event()

    def push() -> None:
        """Always the one that is gone last or goes next: as near to its deletion as it can be."""
        while not is_over.is_set():
            for tag, built in cleaner.olds():
                if tag.replace("old", "again") in accepted or is_over.is_set():
                    continue
                if sum("DELETE" in line for line in live.registry.access_log()) + 2 < int(tag.rpartition("-")[2]):
                    time.sleep(0.001)
                    break
                with suppress(urllib.error.HTTPError):
                    live.call("PUT", f"{REPOSITORY}/manifests/{tag.replace('old', 'again')}", built.payload,
                              built.media_type)  # fmt: skip
                    accepted[tag.replace("old", "again")] = built

    pushing = threading.Thread(target=push, daemon=True)
    pushing.start()
    try:
        live.ask("plan", "apply", plan_id)
    finally:
        is_over.set()
        pushing.join(20)
    assert cleaner.states(plan_id) <= {"done", "gone", "drifted", "restored", "failed"}
    deadline = time.monotonic() + SOON_SECONDS
    while (missing := [tag for tag in accepted if not cleaner.has(tag)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (len(accepted) > 5, missing) == (True, [])
    live.becomes(True, lambda _: live.is_settled())
    with live.connect() as inventory:
        assert accepted.keys() <= tags(inventory).keys()


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_a_push_that_raced_and_is_told_of_long_after_is_put_back(one_live: Live, is_restarted: bool) -> None:
    cleaner = Cleaner(one_live)
    cleaner.push(old=2, new=2)
    plan_id = cleaner.plan()
    assert cleaner.apply(plan_id)["results"] == {"done": 2}
    if is_restarted:
        one_live.stop_service()
        one_live.start_service()
    time.sleep(3)  # whoever looked already has seen nothing
    raced = cleaner.steps(plan_id)[0]
    (tag,) = raced.tags
    assert not cleaner.has("again")
    cleaner.deliver_late(cleaner.pushed[tag], "again", raced.at)
    wait_for(lambda: cleaner.has("again"), seconds=SOON_SECONDS)
    assert not cleaner.has(tag)
    wait_for(lambda: cleaner.states(plan_id) == {"done", "restored"}, seconds=SOON_SECONDS)
    one_live.becomes({**cleaner.expected("new"), "again": raced.digest}, tags)
    assert cleaner.missed()[0] == 0
    # Whoever removes it after that is obeyed.
    one_live.call("DELETE", f"{REPOSITORY}/manifests/{raced.digest}")
    one_live.becomes(cleaner.expected("new"), tags)
    time.sleep(3)
    assert not cleaner.has("again")


@pytest.mark.parametrize("point", ["intent-written", "deletion-answered", "outcome-written"])
def test_a_service_that_is_killed_while_it_applies_goes_on_without_a_second_effect(one_live: Live, point: str) -> None:
    cleaner = Cleaner(one_live)
    cleaner.push(old=5, new=4)
    plan_id = cleaner.plan()
    one_live.stop_service()
    service = one_live.start_service(FAILING, point, "3")
    # The registry tells of itself only while somebody does something.
    one_live.put(REPOSITORY, picture("new 1"), "new-1")
    one_live.becomes(True, lambda _: one_live.is_settled())
    lost = one_live.ask("plan", "apply", plan_id)
    assert (lost.exit_code != 0, "the service that writes the database was lost" in lost.stderr) == (True, True)
    assert service.process.wait(20) == -signal.SIGKILL
    one_live.stop_service()
    one_live.start_service()
    wanted = set() if point == "outcome-written" else {"intended"}
    assert cleaner.states(plan_id) == {"done", "pending", *wanted}
    with one_live.connect() as inventory:
        assert inventory.plan(int(plan_id)).summary["state"] == "applying"
    raced = next(one for one in cleaner.steps(plan_id) if one.state == "done")
    cleaner.deliver_late(cleaner.pushed[raced.tags[0]], "again", raced.at)
    one_live.becomes(True, lambda _: one_live.is_settled())
    report = cleaner.apply(plan_id, status=3)
    assert (report["state"], report["results"]) == ("applied", {"done": 4, "restored": 1})
    # As many as there are steps: none was sent twice.
    assert deletion_count(one_live) == 5
    assert cleaner.has("again")
    one_live.becomes({**cleaner.expected("new"), "again": raced.digest}, tags)
    one_live.becomes({}, lambda _: one_live.differences(ignored=TOLD_BY_GITLAB))  # sizes are counted now and then


def test_an_interrupted_command_ends_its_step_and_the_next_one_goes_on(one_live: Live) -> None:
    cleaner = Cleaner(one_live)
    cleaner.push(old=6, new=4)
    plan_id = cleaner.plan()
    # So slowly that it is still at it when the other two have been refused, also on a machine that has much else to do.
    command = one_live.start_command("plan", "apply", plan_id, "--rate", "0.4")
    wait_for(lambda: "done" in cleaner.states(plan_id), command, seconds=30)
    refused = one_live.ask("plan", "apply", plan_id)
    assert (refused.exit_code, "database-busy" in refused.stderr) == (1, True)
    undoing = one_live.ask("plan", "undo", plan_id)
    assert (undoing.exit_code, "database-busy" in undoing.stderr) == (1, True)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=20)
    assert command.returncode != 0
    wait_for(lambda: any(row["action"] == "plan-applied" for row in cleaner.ask("audit", "list")), seconds=20)
    assert cleaner.states(plan_id) == {"done", "pending"}
    done = sum(one.state == "done" for one in cleaner.steps(plan_id))
    assert deletion_count(one_live) == done
    assert cleaner.apply(plan_id)["results"] == {"done": 6}
    assert deletion_count(one_live) == 6
    assert cleaner.stored() == cleaner.expected("new")


@pytest.mark.parametrize("live", RACED_SITES, indirect=True)
def test_crawls_meanwhile_bring_nothing_back_and_find_nothing_missed(live: Live) -> None:
    cleaner = Cleaner(live)
    cleaner.push(old=12, new=8)
    plan_id = cleaner.plan()
    command = live.start_command("plan", "apply", plan_id, "--rate", "8", "--output", "json")
    gone: set[str] = set()
    while command.poll() is None:
        cleaner.crawl("--verify")
        before = {one.tags[0] for one in cleaner.steps(plan_id) if one.state == "done"}
        with live.connect() as inventory:
            known = tags(inventory).keys()
        assert not gone & known
        gone |= before
    shown, problems = command.communicate()
    assert json.loads(shown)["results"] == {"done": 12}, problems
    for _ in range(2):
        cleaner.crawl("--verify")
        with live.connect() as inventory:
            assert tags(inventory) == cleaner.expected("new")
        time.sleep(BEYOND_DOUBT_SECONDS)
    assert cleaner.missed()[0] == 0
    # With PostgreSQL the commands, which have more patience than the hasty service, apply and read as well: what they
    # find worth reading again is due in a minute.
    live.becomes(0, lambda inventory: inventory.notifications("prod", form="none").status.pending_count)
    assert live.differences() == {}

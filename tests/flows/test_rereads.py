"""What events name and the inventory does not have is read, by digest, from the repository they name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from regwarden.core.oci.digests import Digest
from regwarden.errors import Conflict
from regwarden.flows import rereads as flow
from regwarden.flows.crawl import CrawlOptions, RegistryTarget, crawl
from regwarden.flows.rereads import RereadTarget, pause_after, read_manifests, read_repositories
from regwarden.flows.services import Services
from regwarden.registries.client.limits import Limits
from regwarden.store import schema
from regwarden.store.rereads import Reread, due_rereads, list_rereads, note_rereads, take_rereads
from regwarden.store.schema import crawl_problems, manifests, registries, repositories, repository_manifests, tags
from regwarden.testing.behaviour import Fault
from regwarden.testing.content import Content
from regwarden.testing.images import artifact, image, image_config, index, layer, sbom
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Inventory, open_inventory
from tests.flows.noting import note, pushed

BUILT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MANIFEST = r"/v2/.*/manifests/.*"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 4, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def move(self, **time: float) -> None:
        self.moment += timedelta(**time)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def content():
    content = Content()
    content.repository("app").add(an_image("old"), "old")
    return content


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content) as registry:
        yield registry


@pytest.fixture
async def inventory(registry, clock):
    async with open_inventory(registry.url, limits=Limits(retries=0), now=clock.now) as inventory:
        yield inventory


def an_image(seed: str, **config):
    return image([layer(seed, 10)], image_config(created=BUILT, labels={"seed": seed}, **config))


def target_of(inventory: Inventory, registry_id: int = 1) -> RereadTarget:
    return RereadTarget(RegistryTarget(NAME, inventory.url), registry_id, CrawlOptions())


async def read(inventory: Inventory):
    """One pass over the manifests that are due."""
    due = await inventory.database.read(lambda c: due_rereads(c, inventory.now(), of_manifests=True))
    services = Services(inventory.database, inventory.now, {NAME: inventory.connector})
    return await read_manifests(services, target_of(inventory), due)


async def read_whole(inventory: Inventory):
    due = await inventory.database.read(lambda c: due_rereads(c, inventory.now(), of_manifests=False))
    services = Services(inventory.database, inventory.now, {NAME: inventory.connector})
    return await read_repositories(services, target_of(inventory), due)


def waiting(inventory: Inventory):
    return inventory.database.read_now(list_rereads)


def states(inventory: Inventory) -> dict[str, str]:
    rows = inventory.rows(select(manifests.c.digest, manifests.c.state))
    return {str(Digest.from_bytes(row["digest"])): row["state"] for row in rows}


def places(inventory: Inventory) -> dict[tuple[str, str], bool]:
    """(repository, digest) → whether it is there."""
    joined = repository_manifests.join(repositories).join(manifests)
    columns = (repositories.c.name, manifests.c.digest, repository_manifests.c.deleted_at)
    rows = inventory.rows(select(*columns).select_from(joined))
    return {(row["name"], str(Digest.from_bytes(row["digest"]))): row["deleted_at"] is None for row in rows}


async def test_a_pushed_image_is_read_in_one_pass_and_its_tag_learns_what_it_is(inventory, content):
    new = an_image("new", platform="linux/arm64")
    content.repository("app").add(new, "1.0")
    await note(inventory, [pushed(inventory, "app", new, "1.0")])
    assert states(inventory) == {str(new.digest): "unread"}
    reading = await read(inventory)
    assert (reading.read_count, reading.postponed_count) == (1, 0)
    (tag,) = inventory.rows(select(tags))
    assert tag["created_at"] == int(BUILT.timestamp()) * 1_000_000
    assert tag["logical_bytes"] > 10
    (manifest,) = inventory.rows(select(manifests))
    assert (manifest["state"], manifest["platform"]) == ("read", "linux/arm64")
    assert inventory.rows(select(registries.c.changed_at))[0]["changed_at"] is not None
    assert waiting(inventory) == []
    assert inventory.rows(select(schema.crawls)) == []


async def test_an_index_is_read_with_everything_it_lists(inventory, content):
    children = [an_image("amd"), an_image("arm", platform="linux/arm64")]
    nested = index([index(children)])
    content.repository("app").add(nested, "multi")
    await note(inventory, [pushed(inventory, "app", nested, "multi")])
    await read(inventory)
    assert set(states(inventory).values()) == {"read"}
    assert len(states(inventory)) == 4
    assert all(places(inventory)["app", str(child.digest)] for child in children)
    (tag,) = inventory.rows(select(tags))
    assert tag["created_at"] == int(BUILT.timestamp()) * 1_000_000


async def test_an_artifact_is_read_with_its_subject_known(inventory, content):
    subject = an_image("subject")
    bill = sbom(subject)
    for built in (subject, bill):
        content.repository("app").add(built)
    await note(inventory, [pushed(inventory, "app", subject, "1.0"), pushed(inventory, "app", bill)])
    await read(inventory)
    (row,) = inventory.rows(select(manifests).where(manifests.c.subject_digest.is_not(None)))
    assert Digest.from_bytes(row["subject_digest"]) == subject.digest
    assert row["artifact_type"]
    assert waiting(inventory) == []


async def test_content_known_from_another_repository_is_not_fetched_again(inventory, content, registry):
    await inventory.crawl()
    old = an_image("old")
    content.repository("copy").add(old, "old")
    rows = [Reread(1, "copy", str(old.digest), "unread-content", inventory.now())]
    await note(inventory, [pushed(inventory, "copy", old, "old")])
    await inventory.database.write(lambda connection: note_rereads(connection, rows))
    registry.forget()
    await read(inventory)
    assert [request.method for request in registry.requests if "/manifests/" in request.path] == ["HEAD"]
    assert places(inventory)["copy", str(old.digest)]


async def test_a_manifest_that_is_not_there_yet_is_read_when_it_is(inventory, content, clock):
    new = an_image("new")
    content.repository("app").add(new, "1.0")
    held = content.repository("app").manifests.pop(new.digest)
    await note(inventory, [pushed(inventory, "app", new, "1.0")])
    reading = await read(inventory)
    assert (reading.read_count, reading.postponed_count) == (0, 1)
    (row,) = waiting(inventory)
    assert (row.attempt_count, row.due_at - clock.now()) == (1, timedelta(seconds=10))
    assert row.problem
    assert len(inventory.rows(select(tags))) == 1
    assert places(inventory)["app", str(new.digest)]
    content.repository("app").manifests[new.digest] = held
    assert (await read(inventory)).read_count == 0
    clock.move(seconds=10)
    assert (await read(inventory)).read_count == 1
    assert waiting(inventory) == []


async def test_a_manifest_that_never_comes_is_given_up_with_a_problem_and_nothing_is_called_gone(inventory, clock):
    gone = an_image("gone")
    await note(inventory, [pushed(inventory, "app", gone, "1.0")])
    for _ in range(flow.GIVEN_UP_AFTER):
        reading = await read(inventory)
        clock.move(hours=1)
    assert reading.given_up_count == 1
    assert waiting(inventory) == []
    (problem,) = inventory.rows(select(crawl_problems))
    assert (problem["code"], Digest.from_bytes(problem["digest"])) == (flow.NOT_THERE, gone.digest)
    assert inventory.rows(select(repositories.c.problem_count))[0]["problem_count"] == 1
    assert len(inventory.rows(select(tags))) == 1
    assert places(inventory)["app", str(gone.digest)]
    assert inventory.rows(select(schema.removals)) == []


async def test_a_manifest_that_an_event_deleted_before_it_was_read_is_not_asked_for(inventory, registry, clock):
    short_lived = an_image("short-lived")
    await note(inventory, [pushed(inventory, "app", short_lived, "1.0")])
    clock.move(seconds=1)
    await note(inventory, [pushed(inventory, "app", short_lived) | {"action": "delete"}])
    reading = await read(inventory)
    assert (reading.postponed_count, reading.given_up_count, reading.problem) == (0, 0, "")
    assert waiting(inventory) == []
    assert [request for request in registry.requests if "/manifests/" in request.path] == []
    assert not places(inventory)["app", str(short_lived.digest)]


async def test_what_was_given_up_and_comes_after_all_has_no_problem_any_more(inventory, content, clock):
    late = an_image("late")
    await note(inventory, [pushed(inventory, "app", late, "1.0")])
    for _ in range(flow.GIVEN_UP_AFTER):
        await read(inventory)
        clock.move(hours=1)
    content.repository("app").add(late, "1.0")
    await note(inventory, [pushed(inventory, "app", late, "1.0")])
    assert (await read(inventory)).read_count == 1
    assert inventory.rows(select(crawl_problems)) == []
    assert inventory.rows(select(repositories.c.problem_count))[0]["problem_count"] == 0


async def test_a_refusal_is_tried_for_ever_and_ever_more_rarely(inventory, content, registry, clock):
    new = an_image("new")
    content.repository("app").add(new, "1.0")
    registry.behaviour.faults["GET", MANIFEST] = [Fault(403)] * 8
    await note(inventory, [pushed(inventory, "app", new, "1.0")])
    pauses = []
    for _ in range(8):
        assert (await read(inventory)).postponed_count == 1
        (row,) = waiting(inventory)
        pauses.append((row.due_at - clock.now()).total_seconds())
        clock.moment = row.due_at
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280]
    assert (await read(inventory)).read_count == 1


async def test_one_failing_manifest_does_not_keep_the_others(inventory, content, registry):
    good, bad = an_image("good"), an_image("bad")
    for built in (good, bad):
        content.repository("app").add(built)
    registry.behaviour.faults["GET", rf"/v2/app/manifests/{bad.digest}"] = [Fault(500)]
    await note(inventory, [pushed(inventory, "app", good), pushed(inventory, "app", bad)])
    reading = await read(inventory)
    assert (reading.read_count, reading.postponed_count) == (1, 1)
    assert states(inventory) == {str(good.digest): "read", str(bad.digest): "unread"}


async def test_a_child_that_cannot_be_read_is_due_on_its_own(inventory, content, registry, clock):
    child = an_image("child")
    parent = index([child, an_image("other")])
    content.repository("app").add(parent, "multi")
    registry.behaviour.faults["GET", rf"/v2/app/manifests/{child.digest}"] = [Fault(500)]
    await note(inventory, [pushed(inventory, "app", parent, "multi")])
    await read(inventory)
    assert [row.reference for row in waiting(inventory)] == [str(child.digest)]
    clock.move(seconds=10)
    await read(inventory)
    assert set(states(inventory).values()) == {"read"}
    assert inventory.rows(select(crawl_problems)) == []


async def test_a_registry_that_does_not_answer_puts_everything_off_at_once(inventory, content, registry, clock):
    built = [an_image(str(number)) for number in range(20)]
    for number, one in enumerate(built):
        content.repository(f"app{number}").add(one)
    await note(inventory, [pushed(inventory, f"app{number}", one) for number, one in enumerate(built)])
    registry.behaviour.faults["GET", MANIFEST] = [Fault(0)] * 100
    reading = await read(inventory)
    assert reading.postponed_count == 20
    assert {row.due_at - clock.now() for row in waiting(inventory)} == {timedelta(seconds=10)}
    assert len(registry.requests) < 40
    registry.behaviour.faults.clear()
    clock.move(seconds=10)
    assert (await read(inventory)).read_count == 20


async def test_hostile_manifests_are_problems_and_are_not_read_again_and_again(inventory, content):
    bad = artifact("application/vnd.example", [layer("x", 1)])
    content.repository("app").add(bad, "bad")
    stored = content.repository("app").manifests[bad.digest]
    broken = type(stored)(Digest.of(b'{"schemaVersion":2}'), stored.media_type, b'{"schemaVersion":2}')
    content.repository("app").put_manifest(broken)
    event = pushed(inventory, "app", bad, "bad")
    event["target"] |= {"digest": str(broken.digest), "size": 19}
    await note(inventory, [event])
    assert (await read(inventory)).read_count == 1
    assert waiting(inventory) == []
    (tag,) = inventory.rows(select(tags))
    assert tag["state"] == "unreadable"
    (problem,) = inventory.rows(select(crawl_problems))
    assert problem["code"] == "bad-manifest"


async def test_repositories_in_doubt_are_crawled_and_no_others(inventory, content, registry):
    content.repository("other").add(an_image("other"), "1.0")
    await inventory.crawl()
    content.repository("app").add(an_image("moved"), "old")
    content.repository("other").add(an_image("moved"), "1.0")
    rows = [Reread(1, "app", "", "pull-disagrees", inventory.now())]
    await inventory.database.write(lambda connection: note_rereads(connection, rows))
    registry.forget()
    assert (await read_whole(inventory)).read_count == 1
    assert not [request for request in registry.requests if request.path.startswith("/v2/other/")]
    assert str(an_image("moved").digest) in states(inventory)
    assert waiting(inventory) == []


async def test_a_repository_that_cannot_be_read_is_put_off(inventory, registry, clock):
    await inventory.crawl()
    rows = [Reread(1, "app", "", "pull-disagrees", inventory.now())]
    await inventory.database.write(lambda connection: note_rereads(connection, rows))
    registry.behaviour.faults["GET", "/v2/app/tags/list"] = [Fault(500)]
    assert (await read_whole(inventory)).postponed_count == 1
    (row,) = waiting(inventory)
    assert row.due_at - clock.now() == timedelta(seconds=10)
    assert "app" in row.problem
    clock.move(seconds=10)
    assert (await read_whole(inventory)).read_count == 1
    assert waiting(inventory) == []


async def test_names_that_only_an_event_could_give_are_no_patterns(inventory, registry):
    await inventory.crawl()
    rows = [Reread(1, name, "", "pull-disagrees", inventory.now()) for name in ("glob:**", "~.*", "a\nb")]
    await inventory.database.write(lambda connection: note_rereads(connection, rows))
    registry.forget()
    assert (await read_whole(inventory)).given_up_count == 3
    assert registry.requests == []
    assert waiting(inventory) == []


async def test_a_crawl_that_is_running_is_not_disturbed(inventory):
    await inventory.crawl()
    rows = [Reread(1, "app", "", "pull-disagrees", inventory.now())]
    await inventory.database.write(lambda connection: note_rereads(connection, rows))
    with inventory.database.exclusive(f"crawl {NAME}"), pytest.raises(Conflict):
        await read_whole(inventory)
    assert len(waiting(inventory)) == 1


async def test_a_repository_noted_again_while_it_is_crawled_is_crawled_again(inventory, monkeypatch):
    await inventory.crawl()
    rows = [Reread(1, "app", "", "pull-disagrees", inventory.now())]
    await inventory.database.write(lambda connection: note_rereads(connection, rows))

    async def crawl_meanwhile_noted(*arguments):
        await inventory.database.write(lambda connection: note_rereads(connection, rows))
        return await crawl(*arguments)

    monkeypatch.setattr("regwarden.flows.rereads.crawl", crawl_meanwhile_noted)
    await read_whole(inventory)
    assert [row.repository for row in waiting(inventory)] == ["app"]


def test_pauses_double_up_to_an_hour():
    pauses = [pause_after(attempt).total_seconds() for attempt in (1, 2, 3, 9, 10, 10_000)]
    assert pauses == [10, 20, 40, 2560, 3600, 3600]


async def test_nothing_is_read_twice_at_a_time(inventory, content):
    new = an_image("new")
    content.repository("app").add(new)
    await note(inventory, [pushed(inventory, "app", new)])
    due = await inventory.database.read(lambda c: due_rereads(c, inventory.now()))
    await inventory.database.write(lambda c: take_rereads(c, due, inventory.now()))
    assert (await read(inventory)).read_count == 0
    assert inventory.rows(select(func.count().label("n")).select_from(crawl_problems))[0]["n"] == 0

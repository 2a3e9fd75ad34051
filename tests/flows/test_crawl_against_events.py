"""A crawl beside notifications: which of both is believed, what counts as confirmed, and what nobody told of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.errors import RegistryError
from regwarden.flows import crawl as crawl_flow
from regwarden.store import publishing
from regwarden.store.drifts import loss_report
from regwarden.store.event_schema import drifts, rereads
from regwarden.store.schema import (
    crawls,
    manifests,
    registries,
    removals,
    repositories,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.settling import settle_vanished
from regwarden.store.times import from_micros
from regwarden.testing.behaviour import Fault
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Inventory, open_inventory
from tests.notifications import BLOB, DOCKER_MANIFEST, FOLDING, START, apply_all, envelope, event, store_bodies

REPOSITORY = "team/app"
RELEASES = 20
MARGIN = timedelta(seconds=60)


def an_image(seed: str):
    return image([layer(seed, 10)])


class Clock:
    """Minutes since the start, as our own clock has them."""

    def __init__(self) -> None:
        self.minute = 0.0

    def __call__(self):
        return at(self.minute)


def at(minute: float):
    return START + timedelta(minutes=minute)


@pytest.fixture
def content():
    content = Content()
    app = content.repository(REPOSITORY)
    for number in range(RELEASES):
        app.add(an_image(f"app {number}"), f"1.{number}")
    return content


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content) as registry:
        yield registry


@pytest.fixture
async def inventory(registry, clock):
    async with open_inventory(registry.url, now=clock) as inventory:
        yield inventory


def tell(inventory: Inventory, *told: dict[str, Any], minute: float) -> None:
    """Let events arrive at a minute, and apply them."""
    store_bodies(inventory.database, [envelope(*told)], registry=NAME, received_at=at(minute))
    folding = FOLDING.__class__(
        FOLDING.installation,
        FOLDING.classify,
        FOLDING.use,
        (FOLDING.registries[0].__class__(NAME, inventory.url),),
    )
    apply_all(inventory.database, folding=folding, now=at(minute))


def pushed(tag: str, digest: Digest, minute: float, repository: str = REPOSITORY) -> dict[str, Any]:
    return event(
        "push",
        repository,
        minute=minute,
        tag=tag,
        digest=str(digest),
        media_type=DOCKER_MANIFEST,
        size=100,
        event_id=f"push {repository} {tag} {digest} {minute}",
    )


def untagged(tag: str, minute: float, repository: str = REPOSITORY) -> dict[str, Any]:
    return event("delete", repository, minute=minute, tag=tag, event_id=f"untag {repository} {tag} {minute}")


def removed(digest: Digest, minute: float, repository: str = REPOSITORY) -> dict[str, Any]:
    return event(
        "delete", repository, minute=minute, digest=str(digest), event_id=f"delete {repository} {digest} {minute}"
    )


def ping(minute: float) -> dict[str, Any]:
    """An event that changes nothing that is looked at here."""
    return event("push", REPOSITORY, minute=minute, digest=str(Digest.of(b"a blob")), media_type=BLOB, size=9)


def digest_of_tag(inventory: Inventory, tag: str) -> Digest | None:
    found = inventory.rows(
        select(manifests.c.digest)
        .select_from(tags.join(repositories).join(manifests, manifests.c.id == tags.c.manifest_id))
        .where(repositories.c.name == REPOSITORY, tags.c.name == tag)
    )
    return Digest.from_bytes(found[0]["digest"]) if found else None


def tag_row(inventory: Inventory, tag: str):
    return inventory.rows(
        select(tags).select_from(tags.join(repositories)).where(repositories.c.name == REPOSITORY, tags.c.name == tag)
    )[0]


def found_drifts(inventory: Inventory) -> list[tuple[str, str]]:
    return [(row["kind"], row["tag"]) for row in inventory.rows(select(drifts).order_by(drifts.c.tag))]


def last_counts(inventory: Inventory) -> tuple[int, int]:
    row = inventory.rows(select(crawls).order_by(crawls.c.id.desc()))[0]
    return row["confirmed_count"], row["drift_count"]


def due_rereads(inventory: Inventory) -> dict[str, Any]:
    found = inventory.rows(
        select(rereads).where(
            rereads.c.reference == "", rereads.c.repository != "", rereads.c.reason != "unread-content"
        )
    )
    return {row["reason"]: from_micros(row["due_at"]) for row in found}


async def crawl(inventory: Inventory, clock: Clock, minute: float, **options: Any):
    clock.minute = minute
    return await inventory.crawl(**options)


@pytest.fixture
async def watched(inventory, clock):
    """An inventory whose registry sends events, and was read completely since."""
    await crawl(inventory, clock, 0)
    tell(inventory, ping(1), minute=1)
    await crawl(inventory, clock, 10)
    return inventory


async def test_a_point_of_a_crawl_takes_effect_a_margin_before_it(inventory, clock):
    await crawl(inventory, clock, 10)
    rows = inventory.rows(select(tag_history))
    assert len(rows) == RELEASES
    assert {from_micros(row["effective_at"]) for row in rows} == {at(10) - MARGIN}
    assert {from_micros(row["at"]) for row in rows} == {at(10)}
    repository = inventory.rows(select(repositories))[0]
    assert from_micros(repository["settled_at"]) == at(10) - MARGIN
    assert from_micros(repository["read_until"]) == at(10)


async def test_a_skewed_clock_widens_the_margin(inventory, clock):
    inventory.connector.traffic.clock_skew = timedelta(seconds=-40)
    await crawl(inventory, clock, 10)
    assert {from_micros(row["effective_at"]) for row in inventory.rows(select(tag_history))} == {
        at(10) - MARGIN - timedelta(seconds=40)
    }
    moved = an_image("moved by a registry whose clock is late")
    await crawl(inventory, clock, 20)
    tell(inventory, pushed("1.0", moved.digest, 28.5), minute=29)
    await crawl(inventory, clock, 30)  # sees the old digest: 90 seconds later, which is less than 60 + 40
    assert digest_of_tag(inventory, "1.0") == moved.digest


async def test_an_unchanged_crawl_writes_nothing_of_tags(watched, clock):
    before = watched.rows(select(tag_history)), watched.rows(select(tags))
    await crawl(watched, clock, 20)
    assert (watched.rows(select(tag_history)), watched.rows(select(tags))) == before
    assert last_counts(watched) == (0, 0)


async def test_a_late_event_does_not_change_what_a_crawl_saw_after_it(watched, clock):
    before = digest_of_tag(watched, "1.0")
    tell(watched, pushed("1.0", an_image("late").digest, 5), minute=11)
    assert digest_of_tag(watched, "1.0") == before
    await crawl(watched, clock, 20)
    assert digest_of_tag(watched, "1.0") == before
    assert found_drifts(watched) == []


async def test_a_crawl_overrules_an_event_that_is_older_by_more_than_the_margin(watched, clock):
    before = digest_of_tag(watched, "1.0")
    tell(watched, pushed("1.0", an_image("never arrived").digest, 15), minute=15)
    assert digest_of_tag(watched, "1.0") != before
    await crawl(watched, clock, 20)
    assert digest_of_tag(watched, "1.0") == before
    assert tag_row(watched, "1.0")["event_at"] is None
    assert found_drifts(watched) == [("missed-move", "1.0")]
    assert "crawl-disagrees" not in due_rereads(watched)


@pytest.mark.parametrize("minute", [19.5, 20.5], ids=["within the margin", "newer than the request"])
async def test_a_newer_event_stands_and_the_repository_is_read_again(content, watched, clock, minute):
    newer = an_image("newer")
    tell(watched, pushed("1.0", newer.digest, minute), minute=21)
    await crawl(watched, clock, 20)
    assert digest_of_tag(watched, "1.0") == newer.digest
    assert found_drifts(watched) == []
    assert last_counts(watched) == (0, 0)
    due = due_rereads(watched)["crawl-disagrees"]
    assert due == at(minute) + MARGIN + timedelta(seconds=5)
    # By then the registry says so too, or it does not: either way it is settled.
    await crawl(watched, clock, 22, repositories=(parse_pattern(REPOSITORY),))
    assert digest_of_tag(watched, "1.0") == content.repository(REPOSITORY).tags["1.0"]


async def test_an_event_that_a_crawl_confirms_is_counted_once(content, watched, clock):
    moved = an_image("moved")
    content.repository(REPOSITORY).add(moved, "1.0", "new")
    tell(watched, pushed("1.0", moved.digest, 15), pushed("new", moved.digest, 15), minute=15)
    assert tag_row(watched, "1.0")["event_at"] is not None
    await crawl(watched, clock, 20)
    assert last_counts(watched) == (2, 0)
    assert tag_row(watched, "1.0")["event_at"] is None
    assert tag_row(watched, "1.0")["tagged_at"] == tag_row(watched, "new")["tagged_at"]
    assert from_micros(tag_row(watched, "1.0")["tagged_at"]) == at(15)
    await crawl(watched, clock, 30)
    assert last_counts(watched) == (0, 0)


async def test_an_event_of_which_only_the_digest_was_known_is_read(content, registry, watched, clock):
    moved = an_image("moved")
    content.repository(REPOSITORY).add(moved, "1.0")
    tell(watched, pushed("1.0", moved.digest, 15), minute=15)
    await crawl(watched, clock, 20)
    row = watched.rows(select(manifests).where(manifests.c.digest == moved.digest.to_bytes()))[0]
    assert row["state"] == "read"


async def test_an_event_within_the_margin_is_confirmed_by_the_next_crawl(content, watched, clock):
    moved = an_image("moved")
    content.repository(REPOSITORY).add(moved, "1.0")
    tell(watched, pushed("1.0", moved.digest, 19.5), minute=19.6)
    await crawl(watched, clock, 20)
    assert last_counts(watched) == (0, 0)
    assert digest_of_tag(watched, "1.0") == moved.digest
    await crawl(watched, clock, 30)
    assert last_counts(watched) == (1, 0)


async def test_every_kind_of_drift_is_told_apart(content, watched, clock):
    app = content.repository(REPOSITORY)
    tell(watched, untagged("1.3", 15), minute=15)
    assert digest_of_tag(watched, "1.3") is None
    app.add(an_image("new"), "new")
    app.add(an_image("moved"), "1.1")
    old = app.tags.pop("1.2")
    report = await crawl(watched, clock, 20)
    assert report.state == "complete"
    assert found_drifts(watched) == [
        ("missed-move", "1.1"),
        ("missed-delete", "1.2"),
        ("missed-restore", "1.3"),
        ("missed-push", "new"),
    ]
    rows = {row["kind"]: row for row in watched.rows(select(drifts))}
    assert rows["missed-move"]["found"] == app.tags["1.1"].to_bytes()
    assert rows["missed-delete"]["expected"] == old.to_bytes()
    assert rows["missed-delete"]["found"] is None
    assert rows["missed-restore"]["expected"] is None
    assert rows["missed-push"]["found"] == app.tags["new"].to_bytes()
    assert last_counts(watched) == (0, 4)
    assert {name: digest_of_tag(watched, name) for name in ("new", "1.1", "1.2", "1.3")} == {
        name: app.tags.get(name) for name in ("new", "1.1", "1.2", "1.3")
    }
    assert due_rereads(watched) == {"drift": at(20) + timedelta(minutes=10)}
    # It heals by itself: the next crawl finds nothing.
    await crawl(watched, clock, 40)
    assert last_counts(watched) == (0, 0)


async def test_a_new_repository_that_nobody_told_of_is_drift(content, watched, clock):
    content.repository("team/new").add(an_image("first"), "1")
    await crawl(watched, clock, 20)
    assert found_drifts(watched) == [("missed-push", "1")]


async def test_a_rereading_of_drifted_repositories_asks_for_no_other(content, watched, clock):
    content.repository(REPOSITORY).add(an_image("new"), "new")
    await crawl(watched, clock, 20, repositories=(parse_pattern(REPOSITORY),))
    assert last_counts(watched) == (0, 1)
    assert due_rereads(watched) == {}


async def test_nothing_is_drift_before_events_were_received(content, inventory, clock):
    await crawl(inventory, clock, 0)
    content.repository(REPOSITORY).add(an_image("new"), "new")
    await crawl(inventory, clock, 10)
    tell(inventory, ping(11), minute=11)
    content.repository(REPOSITORY).add(an_image("newer"), "newer")
    await crawl(inventory, clock, 20)  # changed before or after events came: nobody knows
    assert found_drifts(inventory) == []
    content.repository(REPOSITORY).add(an_image("newest"), "newest")
    await crawl(inventory, clock, 30)
    assert found_drifts(inventory) == [("missed-push", "newest")]


async def test_a_reading_with_gaps_counts_nothing(content, registry, watched, clock):
    app = content.repository(REPOSITORY)
    app.add(an_image("new"), "new")
    registry.behaviour.faults["GET", f"/v2/{REPOSITORY}/manifests/1.4"] = [Fault(403)] * 5
    report = await crawl(watched, clock, 20)
    assert report.state == "partial"
    assert last_counts(watched) == (0, 0)
    assert digest_of_tag(watched, "new") == app.tags["new"]
    assert from_micros(
        watched.rows(select(repositories).where(repositories.c.name == REPOSITORY))[0]["settled_at"]
    ) == (at(10) - MARGIN)


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_deletions_that_events_told_of_are_confirmed(content, watched, clock, by):
    app = content.repository(REPOSITORY)
    old = app.tags.pop("1.2")
    del app.manifests[old]
    tell(watched, untagged("1.2", 15) if by == "tag" else removed(old, 15), minute=15)
    assert digest_of_tag(watched, "1.2") is None
    await crawl(watched, clock, 20)
    assert last_counts(watched) == (1, 0)
    await crawl(watched, clock, 30)
    assert last_counts(watched) == (0, 0)


async def test_a_tag_that_events_deleted_and_the_registry_lists_is_back(content, watched, clock):
    tell(watched, removed(content.repository(REPOSITORY).tags["1.2"], 15), minute=15)
    assert digest_of_tag(watched, "1.2") is None
    await crawl(watched, clock, 20)
    digest = content.repository(REPOSITORY).tags["1.2"]
    assert digest_of_tag(watched, "1.2") == digest
    assert found_drifts(watched) == [("missed-restore", "1.2")]
    row = watched.rows(select(repository_manifests).join(manifests).where(manifests.c.digest == digest.to_bytes()))[0]
    assert row["deleted_at"] is None


async def test_a_deletion_newer_than_the_request_stands(content, watched, clock):
    tell(watched, untagged("1.2", 20.5), minute=21)
    await crawl(watched, clock, 20)
    assert digest_of_tag(watched, "1.2") is None
    assert found_drifts(watched) == []
    assert "crawl-disagrees" in due_rereads(watched)


async def test_a_tag_pushed_after_the_listing_is_not_gone(content, watched, clock):
    digest = an_image("pushed meanwhile").digest
    tell(watched, pushed("meanwhile", digest, 20.5), minute=21)
    report = await crawl(watched, clock, 20)
    assert report.certificate.gone_tag_count == 0
    assert digest_of_tag(watched, "meanwhile") == digest
    assert "crawl-disagrees" in due_rereads(watched)
    assert found_drifts(watched) == []


async def test_a_tag_pushed_between_reading_and_settling_is_not_gone(content, watched, clock, monkeypatch):
    content.repository(REPOSITORY).tags.pop("1.2")
    digest = an_image("back").digest

    async def settle_later(*arguments):
        tell(watched, pushed("1.2", digest, 20.2), minute=21)
        return await settle_vanished(*arguments)

    monkeypatch.setattr(crawl_flow, "settle_vanished", settle_later)
    report = await crawl(watched, clock, 20)
    assert report.certificate.gone_tag_count == 0
    assert digest_of_tag(watched, "1.2") == digest


async def test_an_end_is_dated_by_the_reading_and_not_by_the_end_of_the_crawl(content, watched, clock):
    content.repository(REPOSITORY).tags.pop("1.2")
    await crawl(watched, clock, 20)
    points = watched.rows(select(tag_history).where(tag_history.c.tag == "1.2").order_by(tag_history.c.at))
    assert [(bool(row["digest"]), from_micros(row["at"]), from_micros(row["effective_at"])) for row in points] == [
        (True, at(0), at(0) - MARGIN),
        (False, at(20), at(20) - MARGIN),
    ]


async def test_a_repository_with_newer_events_is_not_gone(content, watched, clock):
    for number in range(8):
        content.repository(f"other/{number}").add(an_image("other"), "1")
    await crawl(watched, clock, 12)
    del content.repositories["other/3"], content.repositories["other/4"]
    tell(watched, pushed("2", an_image("again").digest, 19.5, "other/3"), minute=20)
    report = await crawl(watched, clock, 20, accept_disappearance=True)
    assert report.certificate.gone_repository_count == 1
    gone = {row["name"]: row["deleted_at"] for row in watched.rows(select(repositories))}
    assert gone["other/3"] is None
    assert from_micros(gone["other/4"]) == at(20) - MARGIN
    whole = select(rereads).where(rereads.c.reference == "")
    due = {row["repository"]: from_micros(row["due_at"]) for row in watched.rows(whole)}
    assert due["other/3"] == at(20) + MARGIN
    assert ("missed-delete", "") in found_drifts(watched)


async def test_a_manifest_found_missing_is_a_removal_and_comes_back_with_a_push(content, watched, clock):
    app = content.repository(REPOSITORY)
    old = app.tags["1.3"]
    app.add(an_image("replacement"), "1.3")
    await crawl(watched, clock, 20)
    del app.manifests[old]
    await crawl(watched, clock, 30, verify=True)

    def deleted_at():
        row = watched.rows(select(repository_manifests).join(manifests).where(manifests.c.digest == old.to_bytes()))
        return row[0]["deleted_at"]

    assert from_micros(deleted_at()) == at(30) - MARGIN
    assert [bytes(row["digest"]) for row in watched.rows(select(removals))] == [old.to_bytes()]
    tell(watched, pushed("1.3", old, 40), minute=40)
    assert deleted_at() is None


async def test_a_suspicious_disappearance_is_no_drift(content, watched, clock):
    app = content.repository(REPOSITORY)
    for number in range(10):
        app.tags.pop(f"1.{number}")
    assert (await crawl(watched, clock, 20)).state == "partial"
    assert last_counts(watched) == (0, 0)
    await crawl(watched, clock, 30, accept_disappearance=True)
    assert last_counts(watched) == (0, 10)


async def test_what_a_suspicious_crawl_found_gone_is_gone_when_an_event_tells_late(content, watched, clock):
    app = content.repository(REPOSITORY)
    for number in range(10):
        app.tags.pop(f"1.{number}")
    assert (await crawl(watched, clock, 20)).state == "partial"
    assert digest_of_tag(watched, "1.0") is not None
    tell(watched, untagged("1.0", 15), minute=25)
    assert digest_of_tag(watched, "1.0") is None
    assert digest_of_tag(watched, "1.1") is not None


class Killed(Exception):
    """What stands for a crawl that was killed."""


@pytest.mark.parametrize("after", range(1, 9))
async def test_a_crawl_killed_between_two_pieces_goes_on_as_if_nothing_were(
    content, watched, clock, monkeypatch, after
):
    app = content.repository(REPOSITORY)
    moved = an_image("moved")
    app.add(moved, "1.0", "1.1", "told")
    app.add(an_image("untold"), "untold", "1.2")
    app.tags.pop("1.3")
    told = [pushed(tag, moved.digest, 15) for tag in ("1.0", "1.1", "told")]
    tell(watched, *told, minute=15)
    monkeypatch.setattr(publishing, "UNIT_ROWS", 2)
    real, pieces = publishing._run, []

    def run(connection, **arguments):
        pieces.append(1)
        if len(pieces) == after:
            raise Killed
        return real(connection, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_run", run)
        with pytest.raises(Killed):
            await crawl(watched, clock, 20)
        row = watched.rows(select(repositories).where(repositories.c.name == REPOSITORY))[0]
        assert from_micros(row["settled_at"]) == at(10) - MARGIN
    report = await crawl(watched, clock, 21)
    assert report.certificate.was_resumed
    assert report.state == "complete"
    assert {name: digest_of_tag(watched, name) for name in app.tags} == dict(app.tags)
    assert digest_of_tag(watched, "1.3") is None
    assert last_counts(watched) == (3, 3)
    assert found_drifts(watched) == [("missed-move", "1.2"), ("missed-delete", "1.3"), ("missed-push", "untold")]


async def test_events_that_arrive_while_a_repository_is_published_are_weighed_too(content, watched, clock, monkeypatch):
    """The late event is applied after the reading was compared: without a second look it would stay."""
    survey, write = publishing._survey, watched.database.write
    late, applied = [pushed("1.0", an_image("late").digest, 15)], []

    def survey_then_expect(connection, **arguments):
        found = survey(connection, **arguments)
        if late and arguments["reading"].name == REPOSITORY:
            applied.append(late.pop())
        return found

    async def apply_then_write(work):
        while applied:
            tell(watched, applied.pop(), minute=20)
            assert digest_of_tag(watched, "1.0") != content.repository(REPOSITORY).tags["1.0"]
        return await write(work)

    monkeypatch.setattr(publishing, "_survey", survey_then_expect)
    monkeypatch.setattr(watched.database, "write", apply_then_write)
    await crawl(watched, clock, 20)
    assert not late
    assert digest_of_tag(watched, "1.0") == content.repository(REPOSITORY).tags["1.0"]


async def test_a_registry_that_sent_events_is_remembered_though_it_cannot_be_read(registry, inventory, clock):
    known = {"name": NAME, "url": registry.url, "kind": "distribution", "first_seen_at": 0, "events_since": 1}
    inventory.database.write_now(lambda connection: connection.execute(registries.insert(), [known]))
    registry.behaviour.faults["GET", "/v2/_catalog"] = [Fault(500)] * 50
    with pytest.raises(RegistryError):
        await crawl(inventory, clock, 10)
    assert [row["name"] for row in inventory.rows(select(registries))] == [NAME]


async def test_the_loss_of_events_is_reported_and_late_ones_are_not_lost(content, watched, clock):
    app = content.repository(REPOSITORY)
    for number in range(4):
        app.add(an_image(f"moved {number}"), f"1.{number}")
    tell(watched, *(pushed(f"1.{number}", app.tags[f"1.{number}"], 15) for number in range(2)), minute=15)
    await crawl(watched, clock, 20)

    def report():
        registry_id = watched.rows(select(registries.c.id))[0]["id"]
        return watched.database.read_now(lambda connection: loss_report(connection, registry_id, since=at(11)))

    before = report()
    assert (before.confirmed_count, before.missed_count, before.rate) == (2, 2, 0.5)
    assert dict(before.kinds) == {"missed-move": 2}
    tell(watched, pushed("1.2", app.tags["1.2"], 16), minute=25)
    after = report()
    assert (after.confirmed_count, after.missed_count, after.rate) == (3, 1, 0.25)

"""The facts that cleanup decides by: what is exact, what is only known at latest, what forbids to decide at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from regwarden.core.observed import LastPull, Needs, ObservedManifest, ObservedRepository, ObservedTag
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store import observed
from regwarden.store.capabilities import merge_capabilities
from regwarden.store.database import Database
from regwarden.store.event_schema import rereads
from regwarden.store.own_changes import note_deleted, note_restored
from regwarden.store.rereads import Reread, note_rereads
from regwarden.store.schema import (
    crawls,
    manifest_children,
    manifests,
    registries,
    repositories,
    repository_manifests,
    tag_history,
    tags,
)
from regwarden.store.times import to_micros
from tests.notifications import BLOB, START, digest_of, event, pull, push, remove, take_in, untag

NAME = "team/app"
LATER = START + timedelta(days=30)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def settle(database: Database, *, is_crawled: bool = True) -> None:
    """As after a complete crawl: everything was read, and nothing is to be read again."""

    def write(connection: Any) -> None:
        connection.execute(update(manifests).values(state="read"))
        connection.execute(update(repositories).values(state="complete"))
        connection.execute(delete(rereads))
        if is_crawled and connection.execute(select(crawls.c.id)).first() is None:
            registry_id = connection.execute(select(registries.c.id)).scalar_one()
            crawl = {"registry_id": registry_id, "state": "complete", "certificate": json.dumps({"scope": ""})}
            crawl["certificate"] = crawl["certificate"].replace(" ", "")
            moment = to_micros(START - timedelta(days=1))
            connection.execute(insert(crawls).values(crawl | {"started_at": moment, "finished_at": moment}))

    database.write_now(write)


def execute(database: Database, *statements: Any) -> None:
    database.write_now(lambda connection: [connection.execute(statement) for statement in statements] and None)


def load(database: Database, name: str = NAME, needs: Needs | None = None, now: datetime = LATER) -> ObservedRepository:
    found = database.read_now(
        lambda connection: observed.load_repository(connection, "prod", name, needs or Needs(), now)
    )
    assert found is not None
    return found


def tag_of(database: Database, name: str) -> ObservedTag:
    return next(tag for tag in load(database).tags if tag.name == name)


def manifest_of(database: Database, number: int) -> ObservedManifest:
    return load(database).manifests[digest_of(number)]


def stored(number: int) -> bytes:
    return Digest.parse(digest_of(number)).to_bytes()


def id_of(connection: Any, number: int) -> int:
    return int(connection.execute(select(manifests.c.id).where(manifests.c.digest == stored(number))).scalar_one())


def list_children(database: Database, parent: int, *children: int) -> None:
    def write(connection: Any) -> None:
        parent_id = id_of(connection, parent)
        connection.execute(update(manifests).where(manifests.c.id == parent_id).values(is_index=1))
        rows = [
            {"parent_id": parent_id, "position": position, "child_id": id_of(connection, child)}
            for position, child in enumerate(children)
        ]
        connection.execute(insert(manifest_children), rows)

    database.write_now(write)


def test_tags_and_manifests_are_given_in_order_with_their_facts(database: Database) -> None:
    take_in(database, push(NAME, "b", 2, 0), push(NAME, "a", 1, 1), push(NAME, "B", 2, 2), push("team/web", "x", 3, 0))
    settle(database)
    values = {"artifact_type": "x/y", "config_media_type": "c/d", "created_at": 5, "subject_digest": stored(77)}
    second = manifests.c.digest == stored(2)
    execute(
        database,
        update(manifests).where(second).values(**values, size_bytes=12, logical_bytes=34),
        update(repositories).where(repositories.c.name == NAME).values(stored_bytes=99, seen_at=to_micros(minutes(3))),
    )
    found = load(database)
    assert [(tag.name, tag.digest, tag.state) for tag in found.tags] == [
        ("B", digest_of(2), "ok"),
        ("a", digest_of(1), "ok"),
        ("b", digest_of(2), "ok"),
    ]
    assert list(found.manifests) == [digest_of(1), digest_of(2)]
    one = found.manifests[digest_of(2)]
    assert (one.artifact_type, one.config_media_type, one.subject) == ("x/y", "c/d", digest_of(77))
    assert (one.size_bytes, one.logical_bytes, one.is_read, one.is_index, one.children) == (12, 34, True, False, ())
    assert one.created_at == datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
    assert (found.registry, found.name, found.doubt, found.open_push) == ("prod", NAME, "", "")
    assert (found.stored_bytes, found.seen_at) == (99, minutes(3))


def test_an_index_names_its_children_also_those_that_are_not_here(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, None, 2, 1), push("team/web", None, 3, 1))
    settle(database)
    list_children(database, 1, 3, 2, 3)
    one = manifest_of(database, 1)
    assert (one.is_index, one.children) == (True, (digest_of(3), digest_of(2)))
    assert digest_of(3) not in load(database).manifests


def test_tagging_again_refreshes_tagged_and_not_pushed(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "a", 1, 5))
    settle(database)
    tag, manifest = tag_of(database, "a"), manifest_of(database, 1)
    assert (tag.tagged_at, tag.is_tagged_exact) == (minutes(5), True)
    assert (manifest.first_seen_at, manifest.is_pushed_exact) == (minutes(0), True)
    assert manifest.last_pushed_at == minutes(5)


def test_a_tag_that_moved_back_counts_from_then(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "a", 2, 5), push(NAME, "a", 1, 9))
    settle(database)
    assert (tag_of(database, "a").tagged_at, tag_of(database, "a").is_tagged_exact) == (minutes(9), True)


def test_what_a_crawl_found_is_known_at_latest(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "a", 2, 5))
    settle(database)

    def move(connection: Any) -> None:
        """A crawl finds that the tag points to the first again."""
        row = connection.execute(select(tags)).one()
        moment = to_micros(minutes(60))
        values = {"manifest_id": id_of(connection, 1), "tagged_at": moment, "event_at": None}
        connection.execute(update(tags).values(values))
        point = {"repository_id": row.repository_id, "tag": "a", "at": moment, "digest": stored(1), "cause": "crawl"}
        connection.execute(insert(tag_history).values(point | {"effective_at": moment}))
        connection.execute(
            update(repository_manifests)
            .where(repository_manifests.c.manifest_id == id_of(connection, 2))
            .values(first_seen_at=to_micros(minutes(4)), untagged_since=moment)
        )

    database.write_now(move)
    assert (tag_of(database, "a").tagged_at, tag_of(database, "a").is_tagged_exact) == (minutes(60), False)
    second = manifest_of(database, 2)
    assert (second.first_seen_at, second.is_pushed_exact) == (minutes(4), False)
    assert (second.untagged_since, second.is_untagged_exact) == (minutes(60), False)


def test_a_push_is_exact_only_after_everything_was_seen_once(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0))
    settle(database, is_crawled=False)
    assert not manifest_of(database, 1).is_pushed_exact
    assert not manifest_of(database, 1).is_untagged_exact
    settle(database)
    assert manifest_of(database, 1).is_pushed_exact
    execute(database, update(crawls).values(certificate='{"scope":"team/*"}'))
    assert not manifest_of(database, 1).is_pushed_exact


def test_a_tag_that_we_put_back_keeps_its_clock(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "b", 2, 1))
    settle(database)

    def crawl_saw(connection: Any) -> None:
        """Of the second tag only a crawl told."""
        history = tag_history.c
        connection.execute(update(tag_history).where(history.tag == "b").values(cause="crawl"))

    database.write_now(crawl_saw)
    for number, tag in ((1, "a"), (2, "b")):
        values: dict[str, Any] = {"digest": digest_of(number), "tags": (tag,)}
        database.write_now(partial(note_deleted, registry="prod", repository=NAME, at=minutes(20), **values))
        assert tag not in [found.name for found in load(database).tags]
        database.write_now(partial(note_restored, registry="prod", repository=NAME, at=minutes(21), **values))
    settle(database)
    assert [(tag.tagged_at, tag.is_tagged_exact) for tag in load(database).tags] == [
        (minutes(0), True),
        (minutes(1), False),
    ]
    take_in(database, push(NAME, "a", 1, 30))
    assert (tag_of(database, "a").tagged_at, tag_of(database, "a").is_tagged_exact) == (minutes(30), True)


def test_untagged_since_is_told_by_events(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "b", 1, 1), push(NAME, "c", 3, 1), untag(NAME, "a", 5))
    settle(database)
    assert manifest_of(database, 1).untagged_since is None
    take_in(database, untag(NAME, "b", 6), push(NAME, "c", 4, 7))
    settle(database)
    for number, moment in ((1, minutes(6)), (3, minutes(7))):
        found = manifest_of(database, number)
        assert (found.untagged_since, found.is_untagged_exact) == (moment, True)


def test_what_never_had_a_tag_is_untagged_since_it_was_pushed_last(database: Database) -> None:
    take_in(database, push(NAME, None, 1, 0), push(NAME, None, 2, 0), push(NAME, None, 2, 8))
    settle(database)
    assert (manifest_of(database, 1).untagged_since, manifest_of(database, 1).is_untagged_exact) == (minutes(0), True)
    assert (manifest_of(database, 2).untagged_since, manifest_of(database, 2).is_untagged_exact) == (minutes(8), False)


def test_a_tag_whose_manifest_is_gone_leads_nowhere(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "b", 2, 0))
    settle(database)
    execute(
        database,
        update(repository_manifests).values(deleted_at=to_micros(minutes(9))),
        update(tags).where(tags.c.name == "b").values(manifest_id=None, state="dangling"),
    )
    found = load(database)
    assert dict(found.manifests) == {}
    assert [(tag.name, tag.digest, tag.state) for tag in found.tags] == [
        ("a", digest_of(1), "dangling"),
        ("b", None, "dangling"),
    ]


@pytest.mark.parametrize("state", ["partial", "denied", "failed"])
def test_a_repository_that_was_not_read_is_doubtful(database: Database, state: str) -> None:
    take_in(database, push(NAME, "a", 1, 0))
    settle(database)
    assert load(database).doubt == ""
    execute(database, update(repositories).values(state=state))
    assert "read" in load(database).doubt


@pytest.mark.parametrize("state", ["unread", "unsupported", "bad"])
def test_a_manifest_that_was_not_read_makes_its_repository_doubtful(database: Database, state: str) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "b", 2, 0), push("team/web", "a", 1, 0))
    settle(database)
    execute(database, update(manifests).where(manifests.c.digest == stored(2)).values(state=state))
    assert digest_of(2) in load(database).doubt
    assert not manifest_of(database, 2).is_read
    assert load(database, "team/web").doubt == ""


@pytest.mark.parametrize(("repository", "is_doubtful"), [(NAME, True), ("", True), ("team/web", False)])
def test_what_is_to_be_read_again_is_doubtful(database: Database, repository: str, is_doubtful: bool) -> None:
    take_in(database, push(NAME, "a", 1, 0), push("team/web", "a", 1, 0))
    settle(database)
    registry_id = database.read_now(lambda one: one.execute(select(registries.c.id)).scalar_one())
    database.write_now(lambda one: note_rereads(one, [Reread(registry_id, repository, "", "drift", LATER)]))
    assert ("drift" in load(database).doubt) is is_doubtful


def test_a_push_under_way_is_seen(database: Database) -> None:
    blob: dict[str, Any] = {"digest": digest_of(50), "media_type": BLOB, "size": 9, "method": "PUT"}
    take_in(database, push(NAME, "a", 1, 0), event("push", NAME, minute=5, **blob))
    settle(database)
    assert load(database, now=minutes(20)).open_push
    assert not load(database, now=minutes(66)).open_push
    assert not load(database, now=minutes(20)).doubt
    take_in(database, push(NAME, "b", 1, 6), push("team/web", "b", 1, 6))
    settle(database)
    assert not load(database, now=minutes(20)).open_push


def test_a_manifest_that_is_still_to_be_read_is_an_open_push(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0))
    assert "still to be read" in load(database).open_push
    settle(database)
    assert load(database).open_push == ""


def test_pulls_by_digest_of_a_part_count_for_what_lists_it(database: Database) -> None:
    take_in(
        database,
        push(NAME, "multi", 1, 0),
        push(NAME, None, 2, 0),
        push(NAME, None, 3, 0),
        pull(NAME, "multi", 1, 5, useragent="ci/1"),
        pull(NAME, None, 2, 6, useragent="ci/1"),
        pull(NAME, None, 2, 7, useragent="workload/1", method="HEAD"),
        pull(NAME, None, 1, 4, useragent="ci/1"),
        pull(NAME, "part", 2, 9, useragent="ci/1"),
    )
    settle(database)
    list_children(database, 1, 2)
    found = load(database, needs=Needs(pulls=True)).manifests
    assert found[digest_of(2)].pulls == (
        LastPull(minutes(6), "ci", "GET"),
        LastPull(minutes(9), "ci", "GET", "part"),
        LastPull(minutes(7), "workload", "HEAD"),
    )
    assert found[digest_of(1)].pulls == (
        LastPull(minutes(6), "ci", "GET"),
        LastPull(minutes(5), "ci", "GET", "multi"),
        LastPull(minutes(7), "workload", "HEAD"),
    )
    assert found[digest_of(3)].pulls == ()
    assert all(one.pulls == () for one in load(database).manifests.values())


def test_a_gone_index_takes_no_part_in_pulls(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "b", 2, 0), pull(NAME, None, 2, 6, useragent="ci/1"))
    list_children(database, 1, 2)
    take_in(database, remove(NAME, 1, 8))
    assert list(load(database, needs=Needs(pulls=True)).manifests) == [digest_of(2)]


def test_labels_are_known_only_where_the_config_was_read(database: Database) -> None:
    take_in(database, *(push(NAME, "a", number, 0) for number in (1, 2, 3)))
    settle(database)
    # Of a config that has none, none are stored.
    with_labels = {1: ("read", '{"a":"b"}'), 2: ("failed", '{"a":"b"}'), 3: ("read", None)}
    for number, (state, labels) in with_labels.items():
        values = {"config_state": state, "labels": labels}
        execute(database, update(manifests).where(manifests.c.digest == stored(number)).values(values))
    found = load(database, needs=Needs(labels=True)).manifests
    assert [one.labels for one in found.values()] == [{"a": "b"}, None, {}]
    assert [one.labels for one in load(database).manifests.values()] == [None, None, None]


def test_fields_have_the_values_that_conditions_compare(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0), push(NAME, "b", 2, 1))
    settle(database)
    execute(database, update(tags).where(tags.c.name == "a").values(logical_bytes=7))
    names = frozenset({"logical_bytes", "pushed_at", "digest", "is_index", "location", "tag", "registry"})
    first, second = load(database, needs=Needs(fields=names)).tags
    assert first.fields == {
        "logical_bytes": 7,
        "pushed_at": minutes(0),
        "digest": Digest.parse(digest_of(1)),
        "is_index": False,
        "location": "registry.example.test/team/app:a",
        "tag": "a",
        "registry": "prod",
    }
    assert second.fields["logical_bytes"] is None
    assert load(database).tags[0].fields == {}


def test_repositories_come_by_name_in_batches_of_any_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("c", "b", "a-b", "gone", "a/b")
    take_in(database, *(push(name, tag, 1, 0) for name in names for tag in ("x", "y")), remove("gone", None, 5))
    settle(database)

    def everything(chosen: Any = None) -> list[ObservedRepository]:
        return database.read_now(lambda one: list(observed.iterate_repositories(one, "prod", chosen, Needs(), LATER)))

    found = everything()
    assert [one.name for one in found] == ["a-b", "a/b", "b", "c"]
    assert [tag.name for one in found for tag in one.tags] == ["x", "y"] * 4
    assert [one.name for one in everything(lambda name: name.startswith("a"))] == ["a-b", "a/b"]
    assert everything(lambda _: False) == []
    monkeypatch.setattr(observed, "_BATCH_REPOSITORIES", 1)
    assert everything() == found
    assert found[0] == load(database, "a-b")
    for name in ("gone", "never"):
        gone = partial(observed.load_repository, registry="prod", name=name, needs=Needs(), now=LATER)
        assert database.read_now(gone) is None


def test_who_shares_a_digest_is_known(database: Database) -> None:
    take_in(database, push("a", "x", 1, 0), push("b", None, 1, 0), push("c", "x", 2, 0), push("d", "x", 1, 0))
    take_in(database, remove("d", 1, 5))
    ask = lambda *numbers: database.read_now(  # noqa: E731 -- short beside the assertions
        lambda one: observed.repositories_sharing(one, "prod", [digest_of(number) for number in numbers])
    )
    assert ask(1) == {"a", "b"}
    assert ask(1, 2) == {"a", "b", "c"}
    assert ask(9) == ask() == set()


def test_a_registry_says_what_it_can_do_and_how_old_its_inventory_is(database: Database) -> None:
    with pytest.raises(NotFound):
        database.read_now(lambda one: observed.load_registry(one, "prod"))
    take_in(database, push(NAME, "a", 1, 0))
    before = database.read_now(lambda one: observed.load_registry(one, "prod"))
    assert (before.can_delete, before.can_untag, before.crawled_at, before.coverage) == (None, None, None, "")
    assert before.events_since is not None
    assert database.read_now(lambda one: observed.snapshot_name(one, "prod")).startswith("event ")

    def crawled(connection: Any) -> None:
        merge_capabilities(connection, "prod", {"delete": "supported", "delete_tag": "unsupported"})
        connection.execute(update(registries).values(crawl_id=7, crawled_at=to_micros(LATER), crawl_state="partial"))

    database.write_now(crawled)
    after = database.read_now(lambda one: observed.load_registry(one, "prod"))
    assert (after.can_delete, after.can_untag, after.crawled_at, after.coverage) == (True, False, LATER, "partial")
    assert database.read_now(lambda one: observed.snapshot_name(one, "prod")).startswith("crawl 7, event ")


def test_a_registry_says_when_crawls_read_everything(database: Database) -> None:
    take_in(database, push(NAME, "a", 1, 0))

    def crawled(connection: Any) -> None:
        registry_id = connection.execute(select(registries.c.id)).scalar_one()
        for begun, state, scope in (
            (2, "complete", ""),
            (0, "complete", ""),
            (4, "partial", ""),
            (6, "complete", "a*"),
        ):
            moments = {"started_at": to_micros(minutes(begun)), "finished_at": to_micros(minutes(begun + 1))}
            certificate = json.dumps({"scope": scope}, separators=(",", ":"))
            row = {"registry_id": registry_id, "state": state, "certificate": certificate}
            connection.execute(insert(crawls).values(row | moments))

    database.write_now(crawled)
    found = database.read_now(lambda one: observed.load_registry(one, "prod"))
    assert found.whole_crawls == ((minutes(0), minutes(1)), (minutes(2), minutes(3)))

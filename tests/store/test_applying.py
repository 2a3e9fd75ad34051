"""Events become the same state whatever their order, their repetition and their grouping (invariant D3)."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.oci.manifests import parse_manifest
from regwarden.store.contents import ManifestContent, save_contents
from regwarden.store.database import Access, Database, open_database
from regwarden.store.schema import metadata
from regwarden.testing.images import OCI_LAYER, image, layer
from tests.notifications import (
    BLOB,
    FOLDING,
    RECEIVED,
    START,
    apply_all,
    digest_of,
    envelope,
    event,
    number_of,
    pull,
    push,
    remove,
    state_of,
    store_bodies,
    tags_of,
    take_in,
    untag,
)

DATA = Path(__file__).parents[1] / "data" / "notifications"
REPOSITORIES = ("team/app", "team/web")
TAGS = ("latest", "1.0")


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    repository, tag = draw(st.sampled_from(REPOSITORIES)), draw(st.sampled_from(TAGS))
    number, minute = draw(st.integers(1, 3)), draw(st.integers(0, 6)) / 2
    kind = draw(st.sampled_from(("push", "push", "push", "untagged", "pull", "head", "untag", "remove", "blob", "all")))
    made = {
        "push": lambda: push(repository, tag, number, minute),
        "untagged": lambda: push(repository, None, number, minute),
        "pull": lambda: pull(repository, draw(st.sampled_from((tag, None))), number, minute, useragent="scanner/1"),
        "head": lambda: pull(repository, tag, number, minute, method="HEAD", useragent="workload/2"),
        "untag": lambda: untag(repository, tag, minute),
        "remove": lambda: remove(repository, number, minute),
        "blob": lambda: event(
            "push", repository, minute=minute, digest=digest_of(number + 10), media_type=BLOB, size=9
        ),
        "all": lambda: remove(repository, None, minute),
    }[kind]()
    # The same id is the same event; the number makes some of them happen more than once.
    return made | {"id": f"{made['id']}-{made['request']['method']}-{draw(st.integers(0, 3))}"}


@cache
def memory() -> Database:
    return open_database("sqlite:///:memory:", access=Access.WRITE)


@contextmanager
def fresh() -> Iterator[Database]:
    """A database without rows; making the tables each time would take most of the time."""

    def empty(connection: Any) -> None:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())

    memory().write_now(empty)
    yield memory()


@pytest.fixture(scope="module", autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    yield
    memory().close()
    memory.cache_clear()


def state_after(groups: list[list[dict[str, Any]]]) -> Any:
    """The state after groups of events, each group applied before the next one arrives."""
    with fresh() as database:
        for group in groups:
            take_in(database, *group, limit=3)
        return state_of(database)


@settings(max_examples=120, deadline=None)
@given(st.lists(events(), max_size=14), st.randoms(use_true_random=False))
def test_order_repetition_and_grouping_do_not_matter(found: list[dict[str, Any]], chance: random.Random) -> None:
    expected = state_after([found])
    shuffled = [*found, *chance.sample(found, len(found) // 2)]
    chance.shuffle(shuffled)
    cut = chance.randrange(len(shuffled) + 1)
    assert state_after([shuffled[:cut], shuffled[cut:]]) == expected


@settings(max_examples=120, deadline=None)
@given(st.lists(events(), max_size=14))
def test_the_state_is_that_of_a_simple_replay(found: list[dict[str, Any]]) -> None:
    with fresh() as database:
        take_in(database, *found)
        assert tags_of(database) == {key: number_of(digest) for key, digest in replay_tags(found).items()}
        manifests = {(row[0], number_of(row[1])): row[8] is None for row in state_of(database)[1]}
        assert manifests == replay_manifests(found)


def replay_tags(found: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """What tags point to, by looking at the whole list for each of them."""
    state = {}
    targets = [(one["action"], datetime.fromisoformat(one["timestamp"]), one["target"]) for one in found]
    named = {(target["repository"], target["tag"]) for _, _, target in targets if target.get("tag")}
    for repository, tag in named:
        here = [(action, at, target) for action, at, target in targets if target["repository"] == repository]
        points = [
            (at, target.get("digest", ""))
            for action, at, target in here
            if action in ("push", "delete") and target.get("tag") == tag
        ]
        removals = [
            (at, target.get("digest")) for action, at, target in here if action == "delete" and not target.get("tag")
        ]
        if not points:
            continue
        last, digest = max(points)
        if digest and not any(at > last and what in (None, digest) for at, what in removals):
            state[repository, tag] = digest
    return state


def replay_manifests(found: list[dict[str, Any]]) -> dict[tuple[str, int], bool]:
    """Which manifests are there: nothing removed them after the last sign of life."""
    state = {}
    for one in found:
        target = one["target"]
        if one["action"] == "delete" or target["mediaType"] == BLOB:
            continue
        same = (target["repository"], target["digest"])
        alive = max(
            other["timestamp"]
            for other in found
            if other["action"] != "delete" and (other["target"]["repository"], other["target"]["digest"]) == same
        )
        removed = [
            other["timestamp"]
            for other in found
            if other["action"] == "delete"
            and "tag" not in other["target"]
            and other["target"]["repository"] == same[0]
            and other["target"].get("digest") in (None, same[1])
        ]
        state[same[0], number_of(same[1])] = not removed or max(removed) <= alive
    return state


@pytest.mark.parametrize("version", ["2.8.2", "3.1.1"])
def test_recorded_notifications_give_the_same_state_in_any_order(version: str) -> None:
    lines = (DATA / f"distribution-{version}.jsonl").read_text("utf-8").splitlines()
    found = [one for line in lines for body in json.loads(line)["bodies"] for one in body["events"]]
    with fresh() as database:
        applied = take_in(database, *found)
        expected = state_of(database)
    distinct = {one["id"] for one in found}
    assert (applied.event_count, applied.quarantined_count) == (len(distinct), 0)
    assert applied.duplicate_count == len(found) - len(distinct) > 0
    tags = {(row[0], row[1]): row[2][2:] for row in expected[0]}
    assert tags == {key: digest[7:] for key, digest in replay_tags(found).items()}
    assert len(tags) > 10
    for seed in (1, 2):
        shuffled = [*found, *found]
        random.Random(seed).shuffle(shuffled)
        assert state_after([shuffled]) == expected


HISTORY = (
    push("team/app", "latest", 1, 0),
    push("team/app", "latest", 2, 1),
    remove("team/app", 1, 2),
    untag("team/app", "latest", 3),
    push("team/app", "latest", 1, 4),
)


def test_every_order_of_a_history_gives_the_same() -> None:
    expected = state_after([list(HISTORY)])
    for order in permutations(HISTORY):
        assert state_after([[one] for one in order]) == expected


def test_both_databases_apply_alike(database: Database) -> None:
    take_in(database, *HISTORY, pull("team/app", "latest", 1, 5), limit=2)
    assert state_of(database) == state_after([[*HISTORY, pull("team/app", "latest", 1, 5)]])
    assert tags_of(database) == {("team/app", "latest"): 1}


def test_a_digest_deleted_in_one_repository_stays_in_the_others(database: Database) -> None:
    take_in(database, push("a", "1", 1, 0), push("b", "1", 1, 0), remove("a", 1, 1))
    assert tags_of(database) == {("b", "1"): 1}
    assert {row[0]: row[8] is None for row in state_of(database)[1]} == {"a": False, "b": True}


def test_pulls_are_counted_once_for_each_event(database: Database) -> None:
    found = [
        pull("a", "1", 1, 0, event_id="x"),
        pull("a", "1", 1, 1, event_id="y", method="HEAD"),
        pull("a", None, 1, 2),
    ]
    applied = take_in(database, *found, *found, found[0])
    assert (applied.event_count, applied.duplicate_count) == (3, 4)
    assert Counter({row[5]: row[6] for row in state_of(database)[5]}) == {"GET": 1, "HEAD": 1}
    assert [(row[2], row[5], row[6]) for row in state_of(database)[5]] == [
        ("", "GET", 1),
        ("1", "GET", 1),
        ("1", "HEAD", 1),
    ]


def test_two_clocks_and_use_are_kept_apart(database: Database) -> None:
    take_in(
        database,
        pull("a", "1", 1, 1, useragent="workload/1"),
        pull("a", "1", 1, 2, useragent="scanner/1"),
        pull("a", "1", 1, 3, useragent="scanner/1", method="HEAD"),
    )
    ((_, _, _, pushed, pulled, fetched, checked, *_),) = state_of(database)[1]
    minute = 60_000_000
    start = int(START.timestamp()) * 1_000_000
    assert (pushed, pulled, fetched, checked) == (None, start + minute, start + 2 * minute, start + 3 * minute)


def test_our_own_reading_leaves_no_trace_but_our_pushes_count(database: Database) -> None:
    ours = "regwarden/1.0 (1234567890abcdef)"
    others = "regwarden/1.0 (fedcba0987654321)"
    applied = take_in(
        database,
        pull("a", "1", 1, 0, useragent=ours),
        pull("b", "1", 1, 0, useragent=others),
        push("c", "1", 1, 0, useragent=ours),
    )
    assert applied.own_count == 1
    assert {row[0] for row in state_of(database)[6]} == {"b", "c"}


def test_the_event_of_an_unknown_host_is_kept_until_it_is_configured(database: Database) -> None:
    store_bodies(database, [envelope(push("a", "1", 1, 0, host="other.example.test:5000"))], registry="")
    applied = apply_all(database)
    assert (applied.unknown_count, tags_of(database)) == (1, {})
    rows = database.read_now(lambda c: c.exec_driver_sql("SELECT state, reason FROM deliveries").all())
    assert [tuple(row) for row in rows] == [
        ("unknown-registry", "no registry is configured for other.example.test:5000")
    ]


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_an_event_of_an_unknown_host_that_was_sent_twice_waits_once(database: Database, is_one_batch: bool) -> None:
    body = envelope(push("a", "1", 1, 0, host="other.example.test:5000"))
    for bodies in [[body, body]] if is_one_batch else [[body], [body]]:
        store_bodies(database, bodies, registry="")
        apply_all(database)
    states = database.read_now(lambda c: c.exec_driver_sql("SELECT state FROM deliveries ORDER BY id").all())
    assert [state for (state,) in states] == ["unknown-registry", "applied"]


@pytest.mark.parametrize("host", ["registry.example.test", "Registry.Example.Test:443", "alias.example.test"])
def test_an_event_goes_to_its_registry_by_any_of_its_names(database: Database, host: str) -> None:
    store_bodies(database, [envelope(push("a", "1", 1, 0, host=host))], registry="")
    apply_all(database)
    assert tags_of(database) == {("a", "1"): 1}


def test_one_bad_event_does_not_spoil_its_neighbours(database: Database) -> None:
    store_bodies(database, [envelope(push("a", "1", 1, 0), {"action": "sing"}, push("a", "2", 2, 0)), b"\x00nothing"])
    applied = apply_all(database)
    assert (applied.event_count, applied.quarantined_count) == (2, 2)
    assert tags_of(database) == {("a", "1"): 1, ("a", "2"): 2}


def test_an_event_from_the_future_counts_as_of_when_it_was_received(database: Database) -> None:
    future = push("a", "1", 1, 60 * 24 * 90)
    take_in(database, future)
    ((_, _, at, *_),) = state_of(database)[3]
    assert at == int((RECEIVED).timestamp()) * 1_000_000


def test_a_renamed_path_keeps_its_history_and_late_events_follow_it(database: Database) -> None:
    renaming = event(
        "rename", "group", minute=5, target={"rename": {"type": "project", "from": "group", "to": "new/home"}}
    )
    found = [
        push("group/app", "1", 1, 0),
        pull("group/app", "1", 1, 1),
        renaming,
        push("new/home/app", "2", 2, 6),
        push("group/app", "late", 3, 4),
    ]
    expected = {("new/home/app", "1"): 1, ("new/home/app", "2"): 2, ("new/home/app", "late"): 3}
    take_in(database, *found)
    assert tags_of(database) == expected
    for order in permutations(found):
        assert state_after([[one] for one in order]) == state_of(database)


def test_references_give_sizes_before_the_manifest_is_read(database: Database) -> None:
    references = [
        {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 100, "digest": digest_of(91)},
        {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 2000, "digest": digest_of(92)},
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "size": 7_000_000,
            "digest": digest_of(93),
            "urls": ["https://elsewhere.example.test/layer"],
        },
    ]
    take_in(database, push("a", "1", 1, 0, target={"references": references}))
    query = "SELECT state, logical_bytes, layer_bytes, layer_count FROM manifests"
    ((state, logical, layers, count),) = database.read_now(lambda c: c.exec_driver_sql(query).all())
    assert (state, logical, layers, count) == ("unread", 501 + 2100, 2000, 1)


def test_unread_content_and_a_restarted_sender_ask_for_reading(database: Database) -> None:
    restarted = push("a", "2", 2, 1) | {"source": {"addr": "registry-0:5000", "instanceID": "j"}}
    take_in(database, push("a", "1", 1, 0))
    take_in(database, restarted)
    query = "SELECT repository, reference, reason FROM rereads ORDER BY 1, 2"
    rows = [tuple(row) for row in database.read_now(lambda c: c.exec_driver_sql(query).all())]
    assert rows == [
        ("", "", "sender-restarted"),
        ("a", digest_of(1), "unread-content"),
        ("a", digest_of(2), "unread-content"),
    ]


def test_a_pull_that_disagrees_for_long_asks_for_another_reading(database: Database) -> None:
    take_in(database, push("a", "1", 1, 0), pull("a", "1", 2, 0.5))
    reasons = "SELECT reason FROM rereads WHERE reference = ''"
    assert database.read_now(lambda c: c.exec_driver_sql(reasons).all()) == []
    take_in(database, pull("a", "1", 2, 5))
    assert [row[0] for row in database.read_now(lambda c: c.exec_driver_sql(reasons).all())] == ["pull-disagrees"]


def test_nothing_is_left_of_a_piece_that_fails(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store_bodies(database, [envelope(push("a", "1", 1, 0))])

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr("regwarden.store.applying._mark", fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            apply_all(database)
    assert state_of(database)[7] == []
    assert apply_all(database, folding=FOLDING).event_count == 1


def test_the_manifest_says_of_what_type_the_blobs_of_an_event_are(database: Database) -> None:
    built = image([layer("one", 10)])
    layer_blob = next(blob for blob in built.blobs if blob.size_bytes == 10)
    uploaded = event("push", "a", minute=0, digest=str(layer_blob.digest), media_type=BLOB, size=10)
    take_in(database, uploaded)
    manifest = parse_manifest(built.payload, built.media_type)
    content = ManifestContent(built.digest, built.media_type, built.payload, manifest=manifest)
    assert database.write_now(lambda connection: save_contents(connection, [content])) == ()
    take_in(database, uploaded | {"id": "again"})
    query = "SELECT media_type, size_bytes, is_conflicting FROM blobs WHERE size_bytes = 10"
    ((*found,),) = database.read_now(lambda connection: connection.exec_driver_sql(query).all())
    assert found == [OCI_LAYER, 10, 0]


def recorded(version: str, *captures: str) -> list[list[bytes]]:
    """The bodies of these recordings, each as it was sent."""
    lines = (DATA / f"distribution-{version}.jsonl").read_text("utf-8").splitlines()
    found = {recording["capture"]: recording["bodies"] for recording in map(json.loads, lines)}
    return [[json.dumps(body, indent=3, ensure_ascii=False).encode() for body in found[name]] for name in captures]


@pytest.mark.parametrize("version", ["2.8.2", "3.1.1"])
def test_what_a_registry_repeats_after_a_timeout_or_an_error_is_one_event(database: Database, version: str) -> None:
    duplicated, retried = recorded(version, "94-duplicate-after-timeout", "95-retry-after-500")
    assert (len(duplicated), len(retried)) == (2, 8)
    for number, bodies in enumerate((duplicated, retried), start=1):
        store_bodies(database, bodies)
        applied = apply_all(database)
        assert (applied.event_count, applied.duplicate_count) == (1, len(bodies) - 1)
        assert len(state_of(database)[7]) == number


@pytest.mark.parametrize("version", ["2.8.2", "3.1.1"])
def test_the_first_event_after_a_restart_asks_for_a_crawl(database: Database, version: str) -> None:
    names = ("90-actor-push-htpasswd", "95-retry-after-500", "96-after-restart")
    before, retried, after = recorded(version, *names)
    query = "SELECT reason FROM rereads WHERE repository = ''"
    store_bodies(database, [*before, *retried])
    apply_all(database)
    assert database.read_now(lambda connection: connection.exec_driver_sql(query).all()) == []
    store_bodies(database, after)
    apply_all(database)
    assert [row[0] for row in database.read_now(lambda c: c.exec_driver_sql(query).all())] == ["sender-restarted"]
    senders = "SELECT instance_id, address FROM senders"
    found = database.read_now(lambda connection: connection.exec_driver_sql(senders).all())
    assert len({row[0] for row in found}) == 2
    assert len({row[1] for row in found}) == 1


def test_how_new_a_repository_is_follows_its_tags(database: Database) -> None:
    contents = []
    for month in (1, 2):
        built = image([layer(f"layer {month}", month)])
        manifest, created_at = parse_manifest(built.payload, built.media_type), datetime(2026, month, 1, tzinfo=UTC)
        contents.append(
            ManifestContent(built.digest, built.media_type, built.payload, manifest=manifest, created_at=created_at)
        )
    database.write_now(lambda connection: save_contents(connection, contents))
    old, new = ({"digest": str(one.digest), "media_type": one.media_type} for one in contents)
    months = []
    query = "SELECT newest_created_at FROM repositories"
    for found in (
        event("push", "a", tag="1", minute=0, **old),
        event("push", "a", tag="2", minute=1, **new),
        event("delete", "a", minute=2, digest=new["digest"]),
        untag("a", "1", 3),
    ):
        take_in(database, found)
        ((newest,),) = database.read_now(lambda connection: connection.exec_driver_sql(query).all())
        months.append(newest and datetime.fromtimestamp(newest / 1_000_000, UTC).month)
    assert months == [1, 2, 1, None]

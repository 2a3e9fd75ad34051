"""Entries of the allow-list are kept whole, counted, paged and ended; the inventory says what belongs to them."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update

from regwarden.core.allow_images import parse_image
from regwarden.core.allow_index import Relation
from regwarden.core.allowlist import TagState, Target
from regwarden.errors import NotFound
from regwarden.store import schema
from regwarden.store.allow import (
    AllowFilter,
    AllowRecord,
    iterate_entries,
    list_entries,
    load_candidates,
    load_changed,
    load_entry,
    read_number,
    remove_entry,
    save_entry,
)
from regwarden.store.allow_relations import (
    find_newcomers,
    find_surroundings,
    find_unread,
    iterate_relations,
    newest_manifest,
    relations_of,
)
from regwarden.store.allow_tags import find_target
from regwarden.store.database import Database
from regwarden.store.registry_hosts import load_hosts, save_hosts
from tests.allowing import DAY, NOW, add, insert_inventory, insert_manifest, named, stored

M = [named("manifest", number) for number in range(8)]
C = [named("config", number) for number in range(8)]


def test_an_entry_is_kept_as_it_was_made(database: Database) -> None:
    made = AllowRecord(
        effect="deny",
        image=f"reg.example.com/app@{M[1]}",
        digest=M[1],
        pattern="glob:reg.example.com/**",
        name="app",
        tags=("1.0",),
        clusters=("prod*",),
        namespaces=("team",),
        not_before=NOW,
        expires_at=NOW + DAY,
        reason="CVE",
        evidence={"scan": "7"},
        is_protecting=False,
        imagelist_id="x",
        made_at=NOW,
        made_by="ann",
        updated_at=NOW,
    )
    number = database.write_now(lambda connection: save_entry(connection, made))
    kept = database.read_now(lambda connection: load_entry(connection, number))
    assert kept == AllowRecord(**{name: getattr(made, name) for name in AllowRecord.__slots__} | {"id": number})
    (entry,) = database.read_now(lambda connection: list(iterate_entries(connection)))
    assert (entry.is_deny, entry.digest, entry.is_listed, entry.tags) == (True, stored(M[1]), True, ())


def test_every_change_is_counted_and_found(database: Database) -> None:
    first, second = add(database, M[1]), add(database, "nginx:1")
    assert database.read_now(read_number) == 2
    database.write_now(lambda connection: remove_entry(connection, first, "bob", NOW))
    changed = database.read_now(lambda connection: load_changed(connection, 1))
    assert (changed.number, [one.id for one in changed.entries], changed.removed) == (3, [second], [first])
    nothing = database.read_now(lambda connection: load_changed(connection, 3))
    assert (nothing.entries, nothing.removed) == ([], [])
    ended = database.read_now(lambda connection: load_entry(connection, first))
    assert (ended.removed_at, ended.removed_by, ended.imagelist_id) == (NOW, "bob", None)
    for missing in (first, 99):
        with pytest.raises(NotFound, match=str(missing)):
            database.write_now(lambda connection, one=missing: remove_entry(connection, one, "bob", NOW))  # type: ignore[misc]  # a default binds it
    assert database.read_now(read_number) == 3


def test_lists_are_filtered_and_paged(database: Database) -> None:
    ids = [add(database, "a:1"), add(database, "b:1", effect="deny"), add(database, M[1], expires_at=NOW)]

    def found(**wanted: object) -> list[int]:
        asked = AllowFilter(**wanted)  # type: ignore[arg-type]  # the test's own names
        return [one.id for one in database.read_now(lambda connection: list_entries(connection, asked))]

    assert found() == ids
    assert found(now=NOW) == ids[:2]
    assert found(effect="deny") == [ids[1]]
    assert found(image="a:1") == [ids[0]]
    assert found(digest=stored(M[1])) == [ids[2]]
    assert found(after_id=ids[0], limit=1) == [ids[1]]


def test_writers_at_once_lose_nothing(database: Database) -> None:
    threads = [threading.Thread(target=add, args=(database, f"app:{number}")) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    changed = database.read_now(lambda connection: load_changed(connection, 0))
    assert changed.number == len(changed.entries) == 8


def test_candidates_of_one_image_are_found(database: Database) -> None:
    ids = [add(database, M[1]), add(database, "a:1"), add(database, pattern="glob:**"), add(database, M[2])]
    found = database.read_now(lambda connection: load_candidates(connection, [stored(M[1])], ["a:1"]))
    assert sorted(one.id for one in found) == ids[:3]


def related(*pairs: tuple[str, str], is_part: bool = False) -> set[Relation]:
    return {Relation(stored(source), stored(other), is_part) for source, other in pairs}


def test_what_belongs_to_an_index_is_below_it_and_it_above(database: Database) -> None:
    database.write_now(insert_inventory)
    found = set(database.read_now(lambda connection: list(relations_of(connection, [stored(M[3])]))))
    assert found == related((M[3], M[4]), (M[3], C[4]), (M[3], M[5]), (M[3], C[5])) | related(
        (M[3], M[1]), is_part=True
    )


def test_a_config_counts_as_its_manifest(database: Database) -> None:
    database.write_now(insert_inventory)
    found = set(database.read_now(lambda connection: list(relations_of(connection, [stored(C[4])]))))
    above = related((C[4], M[4]), (C[4], M[3]), (C[4], M[1]), is_part=True)
    assert found == related((C[4], M[4])) | above


def test_relations_of_everything_are_those_of_each(database: Database) -> None:
    database.write_now(insert_inventory)
    for text, effect in ((M[3], "allow"), (C[6], "allow"), (M[5], "deny")):
        add(database, text, effect=effect)
    everything = set(database.read_now(lambda connection: list(iterate_relations(connection))))
    one = database.read_now(lambda c: set(relations_of(c, [stored(M[3]), stored(C[6]), stored(M[5])])))
    assert everything == {x for x in one if not x.is_part or x.source == stored(M[5])}


def test_the_surroundings_of_a_digest(database: Database) -> None:
    database.write_now(insert_inventory)

    def around(text: str) -> set[str]:
        names = {stored(one): one for one in M + C}
        return {names[one] for one in database.read_now(lambda c: find_surroundings(c, stored(text)))}

    assert around(C[4]) == {C[4], M[4], M[3], M[1]}
    assert around(M[3]) == {M[1], M[3], M[4], M[5], C[4], C[5]}
    assert around(M[0]) == {M[0]}


def test_newcomers_are_found_when_they_come_and_when_they_are_read(database: Database) -> None:
    database.write_now(insert_inventory)
    newest = database.read_now(newest_manifest)

    def come(number: int, state: str) -> None:
        database.write_now(lambda connection: insert_manifest(connection, number, state=state))

    come(8, "unread")
    found = database.read_now(lambda connection: find_newcomers(connection, newest, ()))
    assert (found.newest_id, found.unread, found.digests) == (
        8,
        frozenset({8}),
        frozenset({stored(named("manifest", 8))}),
    )
    assert database.read_now(find_unread) == {8}
    nothing = database.read_now(lambda connection: find_newcomers(connection, 8, {8}))
    assert (nothing.unread, nothing.digests) == (frozenset({8}), frozenset())
    read = update(schema.manifests).where(schema.manifests.c.id == 8).values(state="read", config_digest=stored(C[1]))
    database.write_now(lambda connection: connection.execute(read).rowcount)
    found = database.read_now(lambda connection: find_newcomers(connection, 8, {8}))
    assert (found.unread, found.digests) == (frozenset(), frozenset({stored(named("manifest", 8)), stored(C[1])}))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("reg.example.com/team/app:1.0", Target(TagState.KNOWN, stored(M[1]))),
        ("old.example.com:5000/team/app:six", Target(TagState.KNOWN, stored(M[6]))),
        ("reg.example.com/team/app:moved", Target(TagState.MOVED)),
        ("reg.example.com/team/app:none", Target(TagState.MISSING)),
        ("reg.example.com/team/other:1.0", Target(TagState.MISSING)),
        ("elsewhere.example.com/team/app:1.0", Target(TagState.MISSING)),
        ("team/app:1.0", Target(TagState.MISSING)),
    ],
)
def test_what_a_tag_points_to(database: Database, text: str, wanted: Target) -> None:
    database.write_now(insert_inventory)
    database.write_now(lambda connection: save_hosts(connection, {"prod": ("old.example.com:5000",)}))
    database.write_now(lambda connection: save_hosts(connection, {"prod": ("old.example.com:5000",)}))
    hosts = database.read_now(load_hosts)
    assert hosts == {"prod": ("reg.example.com", "old.example.com:5000")}
    found = database.read_now(lambda connection: find_target(connection, parse_image(text), hosts, NOW - DAY))
    assert found == wanted

"""What is allowed holds the same whether a whole registry or one repository is asked about, on both databases."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from sqlalchemy import insert, update

from regwarden.core.observed import Hold
from regwarden.core.oci.digests import Digest
from regwarden.store import schema
from regwarden.store.allow import remove_entry
from regwarden.store.allow_holds import load_allow_holds, read_mark
from regwarden.store.allow_relations import EMPTY_CONFIG
from regwarden.store.database import Database
from regwarden.store.protections import are_as_known, load_holds
from regwarden.store.registry_hosts import save_hosts
from regwarden.store.times import to_micros
from tests.allowing import NOW, add, insert_inventory, insert_manifest, named

M = [named("manifest", number) for number in range(10)]
C = [named("config", number) for number in range(10)]
APP = "team/app"


@pytest.fixture
def filled(database: Database) -> Database:
    """The small inventory, under an alias too, and another registry with the same repository."""
    database.write_now(lambda connection: insert_inventory(connection, "https://Reg.example.com:443/"))
    database.write_now(lambda connection: save_hosts(connection, {"prod": ("old.example.com",)}))

    def other(connection: object) -> None:
        at = to_micros(NOW)
        values = {"id": 2, "name": "other", "url": "http://127.0.0.1:5000", "kind": "distribution", "first_seen_at": at}
        place = {"id": 2, "registry_id": 2, "name": APP, "first_seen_at": at, "state": "complete"}
        connection.execute(insert(schema.registries), values)  # type: ignore[attr-defined]  # a connection
        connection.execute(insert(schema.repositories), place)  # type: ignore[attr-defined]  # a connection

    database.write_now(other)
    return database


def held(database: Database, registry: str = "prod", names: Collection[str] | None = None) -> list[Hold]:
    return database.read_now(lambda connection: load_allow_holds(connection, registry, NOW, names))


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"image": M[3]}, {M[3], M[4], M[5]}),
        ({"image": C[4]}, {M[4]}),
        ({"image": f"any.example.com/x@{M[6]}"}, {M[6]}),
        ({"image": M[6], "pattern": "glob:reg.example.com/**"}, {M[6]}),
        ({"image": M[6], "pattern": "glob:other.example.com/**"}, set()),
        ({"image": M[6], "pattern": "re:("}, {M[6]}),
        ({"image": "reg.example.com/team/app:1.0"}, {":1.0"}),
        ({"image": "old.example.com/team/app"}, {":latest"}),
        ({"image": "elsewhere.example.com/team/app:1.0"}, set()),
        ({"image": "team/app:1.0"}, set()),
        ({"pattern": "old.example.com/team/*"}, {""}),
        ({"pattern": "glob:reg.example.com/**", "tags": ("s*",)}, {":six"}),
        ({"pattern": "glob:elsewhere.example.com/**"}, set()),
        ({"image": "reg.example.com/team/app:1.0", "imagelist_id": "x"}, {":1.0"}),
        ({"image": "a\x01b", "imagelist_id": "y"}, set()),
        ({"image": named("manifest", 99)}, set()),
    ],
)
def test_a_registry_and_a_repository_say_the_same(filled: Database, entry: dict[str, object], wanted: set[str]) -> None:
    number = add(filled, **entry)  # type: ignore[arg-type]  # fields of a record
    found = held(filled)
    assert {one.digest or (f":{one.tag}" if one.tag else "") for one in found} == wanted
    assert {(one.repository, one.entry_id, one.registry) for one in found} <= {(APP, number, "prod")}
    assert held(filled, names=[APP]) == found
    assert held(filled, names=["lib/none"]) == []
    assert held(filled, "other") == []
    assert held(filled, "other", [APP]) == []


def test_what_was_deleted_is_not_held(filled: Database) -> None:
    add(filled, M[3])
    gone = (
        update(schema.repository_manifests).where(schema.repository_manifests.c.manifest_id == 4).values(deleted_at=1)
    )
    filled.write_now(lambda connection: connection.execute(gone).rowcount)
    assert [one.digest for one in held(filled)] == sorted([M[3], M[5]])
    assert held(filled, names=[APP]) == held(filled)


def test_the_empty_config_stands_for_nothing(filled: Database) -> None:
    add(filled, str(Digest.from_bytes(EMPTY_CONFIG)))
    empty = update(schema.manifests).where(schema.manifests.c.id.in_([6, 7])).values(config_digest=EMPTY_CONFIG)
    filled.write_now(lambda connection: connection.execute(empty).rowcount)
    assert held(filled) == held(filled, names=[APP]) == []


def test_before_a_step_only_what_can_have_changed_is_read(filled: Database) -> None:
    number = add(filled, M[6])

    def same(names: tuple[str, ...] = (APP,)) -> bool:
        return filled.read_now(lambda connection: are_as_known(connection, "prod", NOW, known, mark=mark, names=names))

    mark = filled.read_now(read_mark)
    known = filled.read_now(lambda connection: load_holds(connection, "prod", NOW, [APP]))
    assert [one.digest for one in known] == [M[6]]
    assert same()
    add(filled, "elsewhere.example.com/x:1")
    filled.write_now(lambda connection: insert_manifest(connection, 8))
    assert filled.read_now(read_mark) != mark
    assert same()
    add(filled, M[7])
    assert not same()
    filled.write_now(lambda connection: remove_entry(connection, number, "ann", NOW))
    assert not same()

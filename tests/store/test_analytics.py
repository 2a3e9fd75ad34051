"""Does the fast size engine say exactly what the specification in core.graph says?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
from sqlalchemy import Table, create_engine, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.pool import StaticPool

from regwarden.core import graph as specification
from regwarden.core.graph import Confidence, ManifestFacts, RegistryFacts, RepositoryFacts
from regwarden.errors import StoreError
from regwarden.store import reach, schema
from regwarden.store.analytics import (
    Reclaimable,
    load_referrers,
    materialise_sizes,
    measure_graph,
    measure_registry,
    reclaim,
    reclaimable,
)
from regwarden.store.arrays import Edges
from regwarden.store.database import Database
from regwarden.store.figures import FigureRows, Figures, find_changes, save_figures
from regwarden.store.graph_arrays import Graph, load_graph
from regwarden.store.tag_sizes import rank_tags
from tests.store.random_registries import RegistryWriter, Written, make_registry

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BATCHES = 40
BATCH_REGISTRIES = 50
HUGE = (0, 1, 2**31, 2**50, 2**50 - 1, 2**49 + 12_345)


@contextmanager
def memory_database() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
        yield connection
    engine.dispose()


def by_key(rows: FigureRows) -> dict[tuple[int, ...], dict[str, int]]:
    keys = zip(*(column.tolist() for column in rows.keys.values()), strict=True)
    values = zip(*(column.tolist() for column in rows.values.values()), strict=True)
    return {key: dict(zip(rows.values, value, strict=True)) for key, value in zip(keys, values, strict=True)}


def assert_equal_to_specification(figures: Figures, facts: RegistryFacts, written: Written) -> None:
    expected = specification.measure(facts)
    registry = expected.registry
    assert figures.registry == {
        "repository_count": len(facts.repositories),
        "tag_count": sum(len(one.tags) for one in facts.repositories),
        "manifest_count": len(frozenset().union(*(one.manifests for one in facts.repositories))),
        "logical_bytes": registry.logical,
        "stored_bytes": registry.stored,
        "stored_all_bytes": registry.stored_all,
        "layer_bytes": registry.layer,
        "disk_bytes": registry.disk,
    }
    assert by_key(figures.repositories) == {
        (written.repositories[one.name],): {
            "tag_count": len(one.tags),
            "manifest_count": len(one.manifests),
            "logical_bytes": (size := expected.repositories[one.name]).logical,
            "stored_bytes": size.stored,
            "stored_all_bytes": size.stored_all,
            "exclusive_bytes": size.exclusive,
            "shared_bytes": size.shared,
            "attributed_bytes": size.attributed,
            "layer_bytes": size.layer,
            "disk_bytes": size.disk,
        }
        for one in facts.repositories
    }
    unknown = dict.fromkeys(("logical_bytes", "exclusive_bytes", "shared_bytes", "layer_bytes", "disk_bytes"), -1)
    assert by_key(figures.tags) == {
        (tag_id,): {
            "logical_bytes": tag.logical,
            "exclusive_bytes": tag.exclusive,
            "shared_bytes": tag.shared,
            "layer_bytes": tag.layer,
            "disk_bytes": tag.disk,
        }
        if (tag := expected.tags.get(key))
        else unknown
        for key, tag_id in written.tags.items()
    }
    assert by_key(figures.repository_manifests) == {
        (written.repositories[one.name], written.manifests[name]): {
            "exclusive_bytes": expected.manifests.get((one.name, name), -1)
        }
        for one in facts.repositories
        for name in one.manifests
    }
    assert by_key(figures.manifests) == {
        (written.manifests[name],): {"logical_bytes": logical, "layer_bytes": layer}
        for name, (logical, layer) in expected.indexes.items()
    }


def assert_same_freed(
    graph: Graph, referrers: Edges, facts: RegistryFacts, written: Written, chance: random.Random
) -> None:
    selected = chance.sample(sorted(facts.manifests), chance.randint(0, len(facts.manifests)))
    names = [one.name for one in facts.repositories]
    chosen = chance.sample(names, chance.randint(1, len(names)))
    expected = specification.reclaim(facts, selected, chosen)
    freed = reclaim(
        graph,
        referrers,
        np.isin(graph.manifest_ids, [written.manifests[name] for name in selected]),
        np.isin(graph.repositories.ids, [written.repositories[name] for name in chosen]),
    )
    assert freed == (expected.freed_bytes, expected.document_bytes)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_figure_of_random_registries_equals_the_specification(batch: int, monkeypatch):
    monkeypatch.setattr(reach, "PIECE_EDGES", 1 + batch % 7 * 3)
    sizes = {"sizes": HUGE} if batch % 10 == 0 else {}
    with memory_database() as connection:
        writer = RegistryWriter(connection, batch)
        registries = [make_registry(batch * BATCH_REGISTRIES + n, **sizes) for n in range(BATCH_REGISTRIES)]
        written = [writer.write(facts) for facts in registries]
        chance = random.Random(batch)
        for facts, places in zip(registries, written, strict=True):
            graph = load_graph(connection, places.registry_id)
            assert_equal_to_specification(measure_graph(graph, rank_tags(connection, graph)), facts, places)
            referrers = load_referrers(connection, graph)
            for _ in range(2):
                assert_same_freed(graph, referrers, facts, places, chance)


@pytest.fixture
def facts() -> RegistryFacts:
    """Two repositories that share a base; one has an index with a child, an alias and something untagged."""
    manifests = {
        "m": ManifestFacts(1_000, ("base", "app"), ("config",)),
        "n": ManifestFacts(1_000, ("base", "tool"), ("config",)),
        "old": ManifestFacts(1_000, ("old",), ("config",)),
        "i": ManifestFacts(5_000, children=("m",), is_index=True),
    }
    return RegistryFacts(
        manifests,
        {"base": 100, "app": 10, "tool": 20, "old": 40, "config": 1},
        (
            RepositoryFacts("a", {"1": "i", "latest": "i"}, frozenset({"i", "m", "old"})),
            RepositoryFacts("b", {"1": "n"}, frozenset({"n"})),
        ),
    )


def test_random_registries_are_measured_alike_on_both_databases(database: Database):
    registries = [make_registry(seed) for seed in range(10_000, 10_020)]

    def write(connection: Connection) -> list[Written]:
        writer = RegistryWriter(connection)
        return [writer.write(facts) for facts in registries]

    written = database.write_now(write)
    for facts, places in zip(registries, written, strict=True):
        figures = database.read_now(partial(measure_registry, registry_id=places.registry_id))
        assert_equal_to_specification(figures, facts, places)


async def test_materialised_figures_stand_in_every_table_with_their_time(database: Database, facts: RegistryFacts):
    written = await database.write(lambda one: RegistryWriter(one).write(facts))
    await materialise_sizes(database, written.registry_id, AT)

    def stored_rows(table: Table, *columns: str) -> list[tuple[object, ...]]:
        statement = select(*(table.c[column] for column in columns))
        if "deleted_at" in table.c:
            statement = statement.where(table.c.deleted_at.is_(None))
        return sorted((tuple(row) for row in database.read_now(lambda one: one.execute(statement).all())), key=repr)

    day = (AT.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    stored = {"a": 5_000 + 1_111, "b": 1_121}
    assert stored_rows(
        schema.registries,
        "stored_bytes",
        "stored_all_bytes",
        "logical_bytes",
        "tag_count",
        "manifest_count",
        "sized_at",
    ) == [(stored["a"] + 1_020, stored["a"] + 1_020 + 1_040, 2 * stored["a"] + 1_121, 3, 4, int(AT.timestamp() * 1e6))]
    assert stored_rows(
        schema.repositories,
        "name",
        "tag_count",
        "manifest_count",
        "stored_bytes",
        "exclusive_bytes",
        "attributed_bytes",
    ) == [
        ("a", 2, 3, stored["a"], 6_010, 6_010 + 50 + 1),
        ("b", 1, 1, stored["b"], 1_020, 1_020 + 50),
    ]
    assert stored_rows(
        schema.tags, "name", "logical_bytes", "exclusive_bytes", "shared_bytes", "layer_bytes", "disk_bytes"
    ) == [
        ("1", 1_121, 1_020, 101, 120, 20),
        ("1", stored["a"], 0, stored["a"], 110, 110),
        ("latest", stored["a"], 0, stored["a"], 110, 0),
    ]
    assert stored_rows(schema.repository_manifests, "exclusive_bytes") == [(1_020,), (6_010,), (None,), (None,)]
    assert stored_rows(schema.manifests, "logical_bytes", "layer_bytes") == [
        (stored["a"], 110),
        (None, None),
        (None, None),
        (None, None),
    ]
    assert stored_rows(schema.usage_days, "day", "tag_count", "logical_bytes", "stored_bytes", "exclusive_bytes") == [
        (day, 1, stored["b"], stored["b"], 1_020),
        (day, 2, 2 * stored["a"], stored["a"], 6_010),
        (day, 3, 2 * stored["a"] + stored["b"], stored["a"] + 1_020, stored["a"] + 1_020),
    ]


async def test_a_second_measurement_writes_only_what_changed(database: Database, facts: RegistryFacts):
    written = await database.write(lambda one: RegistryWriter(one).write(facts))
    await materialise_sizes(database, written.registry_id, AT)

    def changes(connection: Connection) -> list[tuple[str, int]]:
        pending = find_changes(connection, written.registry_id, measure_registry(connection, written.registry_id))
        return [(rows.table.name, len(rows)) for rows in pending.parts()]

    assert await database.read(changes) == []
    tags = schema.tags
    gone = update(tags).where(tags.c.id == written.tags["b", "1"]).values(manifest_id=None, state="dangling")
    await database.write(lambda one: one.execute(gone))
    # Tags of the other repository no longer share the base; neither does the repository.
    assert await database.read(changes) == [("repositories", 2), ("tags", 1), ("repository_manifests", 2)]
    await materialise_sizes(database, written.registry_id, AT)
    assert await database.read(changes) == []


async def test_a_tag_that_lost_its_manifest_loses_its_figures(database: Database, facts: RegistryFacts):
    written = await database.write(lambda one: RegistryWriter(one).write(facts))
    await materialise_sizes(database, written.registry_id, AT)
    tags = schema.tags
    mine = tags.c.id == written.tags["b", "1"]
    await database.write(lambda one: one.execute(update(tags).where(mine).values(manifest_id=None)))
    await materialise_sizes(database, written.registry_id, AT)
    row = await database.read(
        lambda one: one.execute(select(tags.c.logical_bytes, tags.c.disk_bytes).where(mine)).one()
    )
    assert tuple(row) == (None, None)


def test_saving_in_one_transaction_stores_the_same(database: Database, facts: RegistryFacts):
    def write(connection: Connection) -> int:
        written = RegistryWriter(connection).write(facts)
        figures = measure_registry(connection, written.registry_id)
        save_figures(connection, written.registry_id, figures, AT)
        return len(list(find_changes(connection, written.registry_id, figures).parts()))

    assert database.write_now(write) == 0


def test_a_repository_that_was_denied_from_the_start_has_unknown_sizes_not_zero(facts: RegistryFacts):
    empty = replace(facts, repositories=(*facts.repositories, RepositoryFacts("secret", {}, frozenset())))
    with memory_database() as connection:
        written = RegistryWriter(connection).write(empty)
        secret = schema.repositories.c.id == written.repositories["secret"]
        connection.execute(update(schema.repositories).where(secret).values(state="denied"))
        rows = by_key(measure_registry(connection, written.registry_id).repositories)
    assert rows[written.repositories["secret"],]["stored_bytes"] == -1
    assert rows[written.repositories["b"],]["stored_bytes"] == 1_121


def test_a_repository_that_is_gone_takes_no_part(facts: RegistryFacts):
    with memory_database() as connection:
        written = RegistryWriter(connection).write(facts)
        gone = schema.repositories.c.id == written.repositories["b"]
        connection.execute(update(schema.repositories).where(gone).values(deleted_at=1))
        figures = measure_registry(connection, written.registry_id)
    assert figures.registry["stored_bytes"] == 6_111
    assert (written.repositories["b"],) not in by_key(figures.repositories)


def test_reclaimable_bytes_say_how_sure_they_are(facts: RegistryFacts):
    with memory_database() as connection:
        written = RegistryWriter(connection).write(facts)
        selected = [written.manifests["n"]]
        unsure = reclaimable(connection, written.registry_id, selected)
        sure = reclaimable(connection, written.registry_id, selected, untagged_known=True)
        elsewhere = reclaimable(
            connection, written.registry_id, selected, repository_ids=[written.repositories["a"]], untagged_known=True
        )
    assert unsure == Reclaimable(1_020, 1_000, Confidence.UPPER_BOUND)
    assert sure == Reclaimable(1_020, 1_020, Confidence.EXACT)
    assert elsewhere == Reclaimable(0, 0, Confidence.EXACT)


@pytest.mark.parametrize("spoiled", ["manifest", "tag"])
def test_reclaimable_bytes_are_never_exact_beside_content_that_could_not_be_read(facts: RegistryFacts, spoiled: str):
    with memory_database() as connection:
        written = RegistryWriter(connection).write(facts)
        if spoiled == "manifest":
            old = schema.manifests.c.id == written.manifests["old"]
            connection.execute(update(schema.manifests).where(old).values(state="unsupported"))
        else:
            tag = schema.tags.c.id == written.tags["b", "1"]
            connection.execute(update(schema.tags).where(tag).values(state="unreadable"))
        found = reclaimable(connection, written.registry_id, [written.manifests["i"]], untagged_known=True)
    assert found.confidence == Confidence.UPPER_BOUND


def test_a_manifest_that_names_an_unknown_blob_is_reported_not_counted_as_nothing(facts: RegistryFacts):
    with memory_database() as connection:
        written = RegistryWriter(connection).write(facts)
        connection.execute(update(schema.manifests).values(blob_ids=b"\xff\xff\xff\x7f"))
        with pytest.raises(StoreError) as caught:
            measure_registry(connection, written.registry_id)
    assert caught.value.code == "damaged"


def test_an_empty_registry_measures_nothing():
    with memory_database() as connection:
        written = RegistryWriter(connection).write(RegistryFacts({}, {}, ()))
        figures = measure_registry(connection, written.registry_id)
        assert set(figures.registry.values()) == {0}
        assert reclaimable(connection, written.registry_id, []).reclaimable_bytes == 0

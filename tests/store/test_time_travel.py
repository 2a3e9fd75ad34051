"""Is the inventory of a moment what a replay of everything observed until then says, with the sizes of then?"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from regwarden.core import graph as specification
from regwarden.core.graph import RegistryFacts, RepositoryFacts
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store import event_schema, schema
from regwarden.store.history import find_histories
from regwarden.store.time_travel import history_starts, open_past
from regwarden.store.times import to_micros
from tests.store.random_registries import RegistryWriter, Written, make_registry

START = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = 40
TAGS = ("latest", "1.0", "1.1")


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def micros(number: float) -> int:
    return to_micros(minute(number))


@dataclass
class Log:
    """What was observed of one registry, in minutes: points of tags, signs of life of manifests, removals."""

    points: list[tuple[str, str, float, float, str | None, str]] = field(default_factory=list)
    signs: list[tuple[str, str, float]] = field(default_factory=list)
    removals: list[tuple[str, str | None, float]] = field(default_factory=list)

    def tags_at(self, moment: float) -> set[tuple[str, str, str]]:
        """Brute force: (repository, tag, manifest) of all tags that point somewhere."""
        found = set()
        for repository, tag in {(one[0], one[1]) for one in self.points}:
            past = [one for one in self.points if one[:2] == (repository, tag) and one[2] <= moment]
            if not past:
                continue
            latest = max(one[3] for one in past)
            strongest = max((one for one in past if one[3] == latest), key=lambda one: (_order(one[4]), one[2]))
            manifest, at = strongest[4], strongest[2]
            if manifest is not None and not self._removed(repository, manifest, at, moment):
                found.add((repository, tag, manifest))
        return found

    def manifests_at(self, moment: float) -> set[tuple[str, str]]:
        """Brute force: (repository, manifest) of what exists."""
        last: dict[tuple[str, str], float] = {}
        for repository, manifest, at in self.signs:
            if at <= moment:
                last[repository, manifest] = max(at, last.get((repository, manifest), at))
        return {(one, two) for (one, two), at in last.items() if not self._removed(one, two, at, moment)}

    def repositories_at(self, moment: float) -> set[str]:
        """Brute force: those of which something was seen after they were last removed."""
        seen = {name: at for name, at in self.first_seen().items() if at <= moment}
        for repository, _, at in self.signs:
            if at <= moment:
                seen[repository] = max(at, seen[repository])
        whole = [one for one in self.removals if one[1] is None]
        return {name for name, at in seen.items() if not any(one[0] == name and at < one[2] <= moment for one in whole)}

    def first_seen(self) -> dict[str, float]:
        """When each repository was first heard of, if only because a tag of it was gone."""
        found: dict[str, float] = {}
        for name, at in (*((one[0], one[2]) for one in self.points), *((one[0], one[2]) for one in self.signs)):
            found[name] = min(at, found.get(name, at))
        return found

    def _removed(self, repository: str, manifest: str, after: float, until: float) -> bool:
        return any(
            one[0] == repository and one[1] in (None, manifest) and after < one[2] <= until for one in self.removals
        )


def _order(manifest: str | None) -> bytes:
    return b"" if manifest is None else _stored(1, manifest)


def _stored(registry_id: int, manifest: str) -> bytes:
    return Digest.of(f"{registry_id}/{manifest}".encode()).to_bytes()


def make_log(seed: int, facts: RegistryFacts) -> Log:
    chance = random.Random(seed)
    log = Log()
    for _ in range(chance.randint(1, 40)):
        repository = chance.choice(facts.repositories).name
        manifest = chance.choice(list(facts.manifests))
        at = chance.randint(1, SPAN)
        kind = chance.random()
        if kind < 0.5:
            # A manifest is pushed before the tag, and with all that it lists.
            log.points.append((repository, chance.choice(TAGS), at, at, manifest, "event"))
            log.signs += [(repository, one, at) for one in (manifest, *facts.manifests[manifest].children)]
        elif kind < 0.65:
            log.signs.append((repository, manifest, at))
        elif kind < 0.75:
            tag, found = chance.choice(TAGS), chance.choice([manifest, None])
            log.points.append((repository, tag, at, at - chance.choice([1, 1, 5]), found, "crawl"))
            if found is not None:
                log.signs.append((repository, found, at))
        elif kind < 0.82:
            log.points.append((repository, chance.choice(TAGS), at, at, None, "event"))
        elif kind < 0.95:
            log.removals.append((repository, manifest, at))
        else:
            log.removals.append((repository, None, at))
    return log


def write_log(connection: Connection, log: Log, facts: RegistryFacts, written: Written) -> None:
    """What the tables hold after all of it, whatever the order in which it came."""
    for table in (schema.tags, schema.repository_manifests):
        connection.execute(delete(table))
    update = schema.registries.update().values(first_seen_at=micros(0))
    connection.execute(update)
    first = log.first_seen()
    final = log.repositories_at(SPAN)
    for name, number in written.repositories.items():
        ends = [one[2] for one in log.removals if one[0] == name and one[1] is None]
        gone = micros(max(ends)) if name not in final and ends else None
        values = {"first_seen_at": micros(first.get(name, SPAN + 1)), "deleted_at": gone}
        connection.execute(schema.repositories.update().where(schema.repositories.c.id == number).values(values))
    _insert_manifests(connection, log, written)
    place = {
        "registry_id": written.registry_id,
        "source": "r",
        "delivery_id": 1,
        "state": "applied",
        "target": "manifest",
    }
    _insert(
        connection,
        event_schema.events,
        [
            {
                **place,
                "event_id": str(number),
                "action": "push",
                "at": micros(at),
                "received_at": micros(at),
                "repository": name,
                "digest": _stored(1, manifest),
            }
            for number, (name, manifest, at) in enumerate(log.signs)
        ],
    )
    points = {
        (written.repositories[name], tag, micros(at), b"" if found is None else _stored(1, found), cause): micros(
            effective
        )
        for name, tag, at, effective, found, cause in log.points
    }
    columns = ("repository_id", "tag", "at", "digest", "cause")
    rows = [dict(zip(columns, key, strict=True)) | {"effective_at": effective} for key, effective in points.items()]
    _insert(connection, schema.tag_history, rows)
    removed = {
        (written.repositories[name], b"" if one is None else _stored(1, one), micros(at))
        for name, one, at in log.removals
    }
    names = ("repository_id", "digest", "at")
    _insert(connection, schema.removals, [dict(zip(names, key, strict=True)) for key in removed])


def _insert_manifests(connection: Connection, log: Log, written: Written) -> None:
    signs: dict[tuple[str, str], list[float]] = {}
    for name, manifest, at in log.signs:
        signs.setdefault((name, manifest), []).append(at)
    final = log.manifests_at(SPAN)
    rows = []
    for (name, manifest), times in signs.items():
        ends = [one[2] for one in log.removals if one[0] == name and one[1] in (None, manifest)]
        rows.append(
            {
                "repository_id": written.repositories[name],
                "manifest_id": written.manifests[manifest],
                "first_seen_at": micros(min(times)),
                "pushed_at": micros(max(times)),
                "alive_at": micros(max(times)),
                "deleted_at": None if (name, manifest) in final else micros(max(ends)),
            }
        )
    _insert(connection, schema.repository_manifests, rows)


def _insert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def state_at(log: Log, facts: RegistryFacts, moment: float) -> RegistryFacts:
    """The registry of a moment as the specification of the sizes wants it."""
    names, here = log.repositories_at(moment), log.manifests_at(moment)
    tags = log.tags_at(moment)
    repositories = tuple(
        RepositoryFacts(
            name=one.name,
            tags={tag: manifest for name, tag, manifest in tags if name == one.name},
            manifests=frozenset(manifest for name, manifest in here if name == one.name),
            catalog_position=one.catalog_position,
        )
        for one in facts.repositories
        if one.name in names
    )
    return replace(facts, repositories=repositories)


def assert_state(past: Connection, expected: RegistryFacts) -> None:
    measured = specification.measure(expected)
    manifests = {_stored(1, name): name for name in expected.manifests}
    statement = select(
        schema.tags, schema.repositories.c.name.label("repository"), schema.manifests.c.digest
    ).select_from(schema.tags.join(schema.repositories).outerjoin(schema.manifests))
    rows = past.execute(statement).all()
    found = {(row.repository, row.name): manifests[bytes(row.digest)] for row in rows}
    assert found == {(one.name, tag): to for one in expected.repositories for tag, to in one.tags.items()}
    sizes = {(row.repository, row.name): (row.logical_bytes, row.exclusive_bytes) for row in rows}
    unknown = (None, None)
    assert sizes == {
        key: unknown if (size := measured.tags.get(key)) is None else (size.logical, size.exclusive) for key in found
    }
    assert all((row.state == "ok") == ((row.repository, row.name) in measured.tags) for row in rows)
    columns = schema.repositories.c
    stored = {
        row.name: (row.stored_bytes, row.stored_all_bytes)
        for row in past.execute(select(columns.name, columns.stored_bytes, columns.stored_all_bytes))
    }
    assert stored == {name: (size.stored, size.stored_all) for name, size in measured.repositories.items()}
    registry = past.execute(select(schema.registries)).one()
    assert (registry.stored_bytes, registry.logical_bytes) == (measured.registry.stored, measured.registry.logical)


@pytest.mark.parametrize("seed", range(8))
def test_a_past_inventory_is_a_replay_of_what_was_observed_with_the_sizes_of_then(database, seed):
    facts = make_registry(seed)
    facts = replace(
        facts, repositories=tuple(replace(one, tags={}, manifests=frozenset()) for one in facts.repositories)
    )
    log = make_log(seed, facts)

    def write(connection: Connection) -> None:
        written = RegistryWriter(connection, seed).write(facts)
        write_log(connection, log, facts, written)

    database.write_now(write)
    chance = random.Random(seed)

    def look(connection: Connection) -> None:
        for moment in (
            0,
            SPAN,
            *(chance.uniform(0, SPAN) for _ in range(3)),
            *(chance.randint(1, SPAN) for _ in range(4)),
        ):
            with open_past(connection, minute(moment)) as past:
                assert_state(past, state_at(log, facts, moment))

    database.read_now(look)


def test_before_the_first_observation_nothing_is_known_and_the_first_moment_is_named(database):
    def write(connection: Connection) -> None:
        for number, name in ((1, "old"), (2, "new")):
            place = {"id": number, "name": name, "url": "", "kind": "distribution"}
            connection.execute(insert(schema.registries).values(**place, first_seen_at=micros(number)))

    def look(connection: Connection) -> None:
        with pytest.raises(NotFound) as caught, open_past(connection, minute(0)):
            pytest.fail("nothing is known of then")
        assert caught.value.code == "before-history"
        assert "old begins at 2026-11-01T00:01:00+00:00" in str(caught.value.hint)
        with open_past(connection, minute(1)) as past:
            assert past.execute(select(schema.registries.c.name)).scalars().all() == ["old"]
        with pytest.raises(NotFound), open_past(connection, minute(1), ["new"]):
            pytest.fail("nothing is known of then")
        assert [one.registry for one in history_starts(connection)] == ["new", "old"]
        assert history_starts(connection, ["new"])[0].first_seen_at == minute(2)

    database.write_now(write)
    database.read_now(look)


def test_the_history_of_a_tag_ends_with_its_manifest_and_begins_again_with_a_push(database):
    facts = make_registry(3)
    repository, manifest = facts.repositories[0].name, next(iter(facts.manifests))
    log = Log(
        points=[(repository, "v", at, at, manifest, "event") for at in (1, 2, 9)],
        signs=[(repository, manifest, at) for at in (1, 2, 9)],
        removals=[(repository, manifest, 5), (repository, None, 7)],
    )

    def write(connection: Connection) -> None:
        write_log(connection, log, facts, RegistryWriter(connection).write(facts))

    database.write_now(write)
    (found,) = database.read_now(lambda connection: find_histories(connection, repository, "v"))
    digest = Digest.from_bytes(_stored(1, manifest))
    assert [(one.digest, one.since) for one in found.intervals] == [
        (digest, minute(1)),
        (None, minute(5)),
        (digest, minute(9)),
    ]


@pytest.mark.parametrize(
    ("late", "present", "expected"),
    [
        ({"points": [("v", 5, "other")]}, "one", "one"),
        ({"points": [("v", 5, "other")]}, None, None),
        ({"removals": [5]}, "one", "one"),
        ({"removals": [12]}, None, None),
        ({"points": [("v", 12, "other")]}, "other", "other"),
    ],
)
def test_a_late_event_does_not_overrule_what_a_complete_reading_saw(database, late, present, expected):
    """A tag observed in minute 1, the repository read to the end in minute 10, and the moment is minute 20."""
    manifests = {name: Digest.of(name.encode()).to_bytes() for name in ("one", "other")}
    ids = {"one": 1, "other": 2}

    def write(connection: Connection) -> None:
        registry = {"id": 1, "name": "r", "url": "", "kind": "distribution", "first_seen_at": 0}
        _insert(connection, schema.registries, [registry])
        times = {"first_seen_at": 0, "seen_at": micros(10), "settled_at": micros(9), "read_until": micros(11)}
        repository = {"id": 1, "registry_id": 1, "name": "app", "state": "complete", **times}
        _insert(connection, schema.repositories, [repository])
        facts = {"state": "read", "media_type": "", "size_bytes": 1, "blob_ids": b""}
        rows = [{"id": ids[name], "digest": digest, **facts} for name, digest in manifests.items()]
        _insert(connection, schema.manifests, rows)
        here = [{"repository_id": 1, "manifest_id": number, "first_seen_at": micros(1)} for number in ids.values()]
        _insert(connection, schema.repository_manifests, here)
        points = [("v", 1, 0, "one", "crawl")]
        points += [(tag, at, at, name, "event") for tag, at, name in late.get("points", ())]
        names = ("tag", "at", "effective_at", "digest", "cause")
        for tag, at, effective, name, cause in points:
            values = (tag, micros(at), micros(effective), manifests[name], cause)
            row = dict(zip(names, values, strict=True))
            _insert(connection, schema.tag_history, [{"repository_id": 1, **row}])
        ends = [{"repository_id": 1, "digest": manifests["one"], "at": micros(at)} for at in late.get("removals", ())]
        _insert(connection, schema.removals, ends)
        if present is not None:
            since = micros(12 if present == "other" else 1)
            here_since = {"first_seen_at": since, "tagged_at": since, "manifest_id": ids[present]}
            row = {"id": 1, "repository_id": 1, "name": "v", "state": "ok", **here_since}
            _insert(connection, schema.tags, [row])

    database.write_now(write)

    def look(connection: Connection) -> str | None:
        with open_past(connection, minute(20)) as past:
            found = past.execute(select(schema.tags.c.manifest_id)).scalars().all()
        return next((name for name, number in ids.items() if number in found), None)

    assert database.read_now(look) == expected

"""Counts of pulls: added up by whatever is asked, and given to the tags that were meant, as working it out by hand."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert

from regwarden.core.history import Point, Removal, resolve
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.core.pull_query import PullQuery
from regwarden.core.selectors import parse_selector
from regwarden.errors import NotFound
from regwarden.store import schema
from regwarden.store.database import Database
from regwarden.store.event_schema import pull_days
from regwarden.store.pull_reports import list_pulls, pulls_known_since
from regwarden.store.times import to_micros

DAY = timedelta(days=1)
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
FIRST_DAY = (FIRST - datetime(1970, 1, 1, tzinfo=UTC)) // DAY
Rows = dict[str, list[dict[str, Any]]]


def _digest(number: int) -> Digest:
    return Digest.from_bytes(b"\x01" + bytes([number]) * 32)


def _manifest(number: int, *, is_index: bool = False) -> dict[str, Any]:
    return {
        "id": number,
        "digest": _digest(number).to_bytes(),
        "state": "read",
        "media_type": "m",
        "is_index": int(is_index),
        "size_bytes": 1,
        "blob_ids": b"",
    }


def _point(repository: int, tag: str, at: datetime, number: int | None, cause: str = "event") -> dict[str, Any]:
    return {
        "repository_id": repository,
        "tag": tag,
        "at": to_micros(at),
        "digest": _digest(number).to_bytes() if number else b"",
        "cause": cause,
        "effective_at": to_micros(at - timedelta(minutes=1) if cause == "crawl" else at),
    }


def _pulled(
    repository: int, number: int, day: int, count: int, *, tag: str = "", kind: str = "workload", method: str = "GET"
) -> dict[str, Any]:
    return {
        "repository_id": repository,
        "manifest_id": number,
        "tag": tag,
        "day": FIRST_DAY + day,
        "pull_class": kind,
        "method": method,
        "pull_count": count,
        "last_at": to_micros(FIRST + day * DAY + timedelta(hours=12, seconds=count)),
    }


def _places() -> Rows:
    """Two registries with two repositories each; manifest 3 is an index of 1 and 2, 4 one of 3."""
    return {
        "registries": [
            {"id": 1, "name": "prod", "url": "https://r.example.com", "kind": "distribution", "first_seen_at": 0},
            {"id": 2, "name": "dev", "url": "http://localhost:5000", "kind": "distribution", "first_seen_at": 0},
        ],
        "repositories": [
            {"id": number, "registry_id": registry, "name": name, "first_seen_at": 0, "state": "complete"}
            for number, (registry, name) in enumerate(((1, "a"), (1, "team/b"), (2, "a"), (2, "c")), start=1)
        ],
        "manifests": [_manifest(number, is_index=number in (3, 4)) for number in range(1, 7)],
        "manifest_children": [
            {"parent_id": parent, "position": position, "child_id": child}
            for parent, children in ((3, (1, 2)), (4, (3,)))
            for position, child in enumerate(children)
        ],
        "tag_history": [],
        "removals": [],
        "pull_days": [],
    }


def _fill(database: Database, rows: Rows) -> None:
    def work(connection: Any) -> None:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(delete(table))
        for table in schema.metadata.sorted_tables:
            if rows.get(table.name):
                connection.execute(insert(table), rows[table.name])

    database.write_now(work)


def _ask(database: Database, *by: str, **asked: Any) -> list[dict[str, Any]]:
    return database.read_now(lambda connection: list_pulls(connection, PullQuery(by=by, **asked)))


def test_a_request_that_names_a_tag_counts_for_it_and_one_by_digest_for_the_tags_that_led_there(
    database: Database,
) -> None:
    rows = _places()
    rows["tag_history"] = [_point(1, "latest", FIRST, 3), _point(1, "1.0", FIRST, 3), _point(1, "old", FIRST, 5)]
    rows["pull_days"] = [
        _pulled(1, 3, 2, 7, tag="latest", method="HEAD"),
        _pulled(1, 3, 2, 2),  # the index by its digest
        _pulled(1, 1, 2, 4),  # what the index lists
        _pulled(1, 6, 2, 9),  # nothing led there
    ]
    _fill(database, rows)
    found = {row["tag"]: row for row in _ask(database, "tag")}
    counts = {tag: (row["pull_count"], row["named_count"], row["digest_count"]) for tag, row in found.items()}
    assert counts == {"latest": (13, 7, 6), "1.0": (6, 0, 6), None: (9, 0, 9)}
    assert found["latest"]["last_at"] == FIRST + 2 * DAY + timedelta(hours=12, seconds=7)
    assert [row["pull_count"] for row in _ask(database, "registry")] == [22]


def test_a_tag_that_moved_or_was_deleted_counts_only_the_days_on_which_it_led_there(database: Database) -> None:
    rows = _places()
    rows["tag_history"] = [
        _point(1, "moved", FIRST + timedelta(hours=5), 1),
        _point(1, "moved", FIRST + 2 * DAY + timedelta(hours=5), 2),
        _point(1, "gone", FIRST, 1),
        _point(1, "late", FIRST + 3 * DAY, 1, "crawl"),
    ]
    removed_at = to_micros(FIRST + DAY + timedelta(hours=1))
    rows["removals"] = [{"repository_id": 1, "digest": _digest(1).to_bytes(), "at": removed_at}]
    rows["pull_days"] = [_pulled(1, 1, day, 1) for day in range(5)] + [_pulled(2, 1, 0, 1)]
    _fill(database, rows)
    days = defaultdict(set)
    for row in _ask(database, "tag", "day", repositories=(parse_pattern("a"),)):
        days[row["tag"]].add((row["day"] - FIRST.date()).days)
    # Deleted on the second day; the crawl of the fourth found another one.
    assert days == {"moved": {0, 1}, "gone": {0, 1}, None: {2}, "late": {3, 4}}


def test_a_tag_in_another_repository_is_not_meant(database: Database) -> None:
    rows = _places()
    rows["tag_history"] = [_point(2, "there", FIRST, 1)]
    rows["pull_days"] = [_pulled(1, 1, 1, 5)]
    _fill(database, rows)
    assert [row["tag"] for row in _ask(database, "tag")] == [None]


def test_days_are_whole_and_the_last_one_begins_before_the_end(database: Database) -> None:
    rows = _places()
    rows["pull_days"] = [_pulled(1, 1, day, 1) for day in range(6)]
    _fill(database, rows)

    def asked(since: datetime | None, until: datetime | None) -> list[int]:
        return [(row["day"] - FIRST.date()).days for row in _ask(database, "day", since=since, until=until)]

    assert asked(FIRST + 2 * DAY, FIRST + 4 * DAY) == [2, 3]
    assert asked(FIRST + 2 * DAY + timedelta(hours=23), FIRST + 4 * DAY + timedelta(hours=1)) == [2, 3, 4]
    assert asked(None, None) == [0, 1, 2, 3, 4, 5]


def test_the_most_pulled_come_first_unless_another_order_is_asked_for(database: Database) -> None:
    rows = _places()
    rows["pull_days"] = [_pulled(1, 1, 0, 3), _pulled(2, 1, 1, 8), _pulled(4, 1, 2, 5)]
    _fill(database, rows)
    names = [row["repository"] for row in _ask(database, "registry", "repository")]
    assert names == ["team/b", "c", "a"]
    by_name = _ask(database, "registry", "repository", sort=(("repository", True),), limit=2)
    assert [row["repository"] for row in by_name] == ["team/b", "c"]
    assert [row["day"] for row in _ask(database, "day")] == [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3)]


def test_a_registry_is_meant_by_its_name_and_by_its_host(database: Database) -> None:
    rows = _places()
    rows["pull_days"] = [_pulled(1, 1, 0, 3), _pulled(3, 1, 1, 8)]
    _fill(database, rows)
    for name in ("dev", "localhost:5000"):
        assert [row["pull_count"] for row in _ask(database, "registry", registries=(name,))] == [8]
        selector = parse_selector(f"{name}/a", known_registries=("dev", "localhost:5000"))
        assert [row["registry"] for row in _ask(database, "registry", selectors=(selector,))] == ["dev"]
    with pytest.raises(NotFound):
        _ask(database, "registry", registries=("other",))


def test_a_tag_that_several_conditions_select_counts_once(database: Database) -> None:
    rows = _places()
    rows["tag_history"] = [_point(1, tag, FIRST, 1) for tag in ("1.0", "1.1", "2.0")]
    rows["pull_days"] = [_pulled(1, 1, 1, 5), _pulled(1, 1, 1, 3, tag="2.0")]
    _fill(database, rows)
    tags = (parse_pattern("glob:1.*"),)
    assert [row["pull_count"] for row in _ask(database, "registry", tags=tags)] == [5]
    assert {row["tag"]: row["pull_count"] for row in _ask(database, "tag", tags=tags)} == {"1.0": 5, "1.1": 5}
    selected = _ask(database, "registry", selectors=(parse_selector("a:1.0"), parse_selector("a:2.0")))
    assert [row["pull_count"] for row in selected] == [8]


def test_since_when_pulls_are_known_is_told_for_each_registry(database: Database) -> None:
    rows = _places()
    rows["registries"] = [row | {"events_since": None} for row in rows["registries"]]
    rows["registries"][1]["events_since"] = to_micros(FIRST)
    _fill(database, rows)
    assert database.read_now(pulls_known_since) == {"dev": FIRST, "prod": None}
    assert database.read_now(lambda connection: pulls_known_since(connection, ["dev"])) == {"dev": FIRST}


# What the tables say, worked out without them -----------------------------------------------------------------------


def _random_rows(chance: random.Random) -> Rows:
    rows = _places()
    moments = [FIRST + timedelta(hours=chance.choice((0, 1, 12, 23, 24, 36, 48, 60, 72))) for _ in range(20)]
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _ in range(chance.randint(0, 25)):
        number = chance.choice((None, 1, 2, 3, 4, 5))
        cause = chance.choice(("event", "crawl"))
        point = _point(chance.randint(1, 4), chance.choice(("x", "y", "1.0")), chance.choice(moments), number, cause)
        unique[tuple(point[name] for name in ("repository_id", "tag", "at", "digest", "cause"))] = point
    rows["tag_history"] = list(unique.values())
    unique = {}
    for _ in range(chance.randint(0, 4)):
        number = chance.choice((None, 1, 3, 5))
        row = {
            "repository_id": chance.randint(1, 4),
            "digest": _digest(number).to_bytes() if number else b"",
            "at": to_micros(chance.choice(moments)),
        }
        unique[tuple(row.values())] = row
    rows["removals"] = list(unique.values())
    unique = {}
    for _ in range(chance.randint(1, 30)):
        row = _pulled(
            chance.randint(1, 4),
            chance.randint(1, 6),
            chance.randint(0, 4),
            chance.randint(1, 5),
            tag=chance.choice(("", "", "x", "1.0")),
            kind=chance.choice(("workload", "ci")),
            method=chance.choice(("GET", "HEAD")),
        )
        unique[tuple(list(row.values())[:6])] = row
    rows["pull_days"] = list(unique.values())
    return rows


def _holders(number: int) -> set[int]:
    return {1: {1, 3, 4}, 2: {2, 3, 4}, 3: {3, 4}}.get(number, {number})


def _tags_of(rows: Rows, row: dict[str, Any]) -> list[str | None]:
    """The tags that at some moment of the day pointed to the manifest or to an index above it."""
    if row["tag"]:
        return [row["tag"]]
    begin = FIRST + (row["day"] - FIRST_DAY) * DAY
    wanted = {_digest(number) for number in _holders(row["manifest_id"])}
    repository = row["repository_id"]
    removals = [
        Removal(_moment(one["at"]), Digest.from_bytes(one["digest"]) if one["digest"] else None)
        for one in rows["removals"]
        if one["repository_id"] == repository
    ]
    found: list[str | None] = []
    for tag in ("1.0", "x", "y"):
        points = [
            Point(
                _moment(one["at"]),
                Digest.from_bytes(one["digest"]) if one["digest"] else None,
                one["cause"],
                _moment(one["effective_at"]),
            )
            for one in rows["tag_history"]
            if (one["repository_id"], one["tag"]) == (repository, tag)
        ]
        changes = [*(one.at for one in points), *(one.at for one in removals)]
        moments = {begin, *(at for at in changes if begin <= at < begin + DAY)}
        for moment in moments:
            present = resolve(
                [one for one in points if one.at <= moment], [one for one in removals if one.at <= moment]
            )
            if present is not None and present.digest in wanted:
                found.append(tag)
                break
    return found or [None]


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _expected(rows: Rows, query: PullQuery) -> dict[tuple[Any, ...], tuple[int, int, datetime]]:
    places = {row["id"]: row for row in rows["repositories"]}
    registries = {row["id"]: row["name"] for row in rows["registries"]}
    found: dict[tuple[Any, ...], tuple[int, int, datetime]] = {}
    for row in rows["pull_days"]:
        repository = places[row["repository_id"]]
        registry = registries[repository["registry_id"]]
        digest = _digest(row["manifest_id"])
        begin = FIRST + (row["day"] - FIRST_DAY) * DAY
        keeps = (
            (query.since is None or begin + DAY > query.since)
            and (query.until is None or begin < query.until)
            and row["pull_class"] in (query.classes or ("workload", "ci"))
            and row["method"] in (query.methods or ("GET", "HEAD"))
            and registry in (query.registries or ("prod", "dev"))
            and (not query.repositories or any(one.matches(repository["name"]) for one in query.repositories))
        )
        tags = [
            tag
            for tag in (_tags_of(rows, row) if keeps else ())
            if (not query.tags or any(tag is not None and one.matches(tag) for one in query.tags))
            and (
                not query.selectors
                or any(
                    one.registry in (None, registry) and one.matches(repository["name"], tag, digest)
                    for one in query.selectors
                )
            )
        ]
        for tag in tags if "tag" in query.by else tags[:1]:
            values = {
                "registry": registry,
                "repository": repository["name"],
                "tag": tag,
                "digest": str(digest),
                "day": begin.date(),
            }
            key = tuple({**row, **values}[name] for name in query.by)
            named, by_digest, last_at = found.get(key, (0, 0, FIRST - DAY))
            counts = (named + row["pull_count"], by_digest) if row["tag"] else (named, by_digest + row["pull_count"])
            found[key] = (*counts, max(last_at, _moment(row["last_at"])))
    return found


def _random_query(chance: random.Random) -> PullQuery:
    names = ("registry", "repository", "tag", "digest", "pull_class", "method", "day")
    query = PullQuery(by=tuple(chance.sample(names, chance.randint(1, 3))))
    moments = [FIRST + timedelta(hours=chance.choice((0, 13, 24, 50, 72))) for _ in range(2)]
    selectors = ("a", "team/b:x", ":1.0", "glob:**:glob:*", "prod/a", f"a@{_digest(1)}", f"@{_digest(3)}", "dev/a:y")
    choices: dict[str, Any] = {
        "since": min(moments),
        "until": max(moments) + timedelta(hours=1),
        "classes": ("ci",),
        "methods": ("HEAD",),
        "registries": ("prod",),
        "repositories": (parse_pattern(chance.choice(("a", "glob:team/*", "re:.*[ab]"))),),
        "tags": (parse_pattern(chance.choice(("x", "glob:1.*", "semver:1.x"))),),
        "selectors": tuple(
            parse_selector(text, known_registries=("prod", "dev")) for text in chance.sample(selectors, 2)
        ),
    }
    return replace(query, **{name: value for name, value in choices.items() if chance.random() < 0.3})


@pytest.mark.parametrize("seed", range(4))
def test_random_questions_get_the_counts_that_python_finds(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(5):
        rows = _random_rows(chance)
        _fill(database, rows)
        for _ in range(12):
            query = _random_query(chance)
            found = database.read_now(lambda connection: list_pulls(connection, query))  # noqa: B023 -- run at once
            counts = {
                tuple(row[name] for name in query.by): (row["named_count"], row["digest_count"], row["last_at"])
                for row in found
            }
            assert counts == _expected(rows, query), query
            assert all(row["pull_count"] == row["named_count"] + row["digest_count"] for row in found)
            assert len(counts) == len(found)


def test_no_pulls_are_no_rows(database: Database) -> None:
    _fill(database, _places())
    assert _ask(database, "tag", "day") == []
    assert database.read_now(lambda connection: connection.execute(pull_days.select()).all()) == []

"""The clocks of pulls in lists: an index has those of its parts, and what was never seen is unknown before a day."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from regwarden.core.conditions import parse_condition, parse_sort
from regwarden.core.fields import Noun
from regwarden.core.query import Query
from regwarden.store.database import Database
from regwarden.store.queries import Page, count_rows, list_rows
from regwarden.store.times import to_micros
from tests.store.sample_inventory import CLOCKS, NOW, TIMES, make_inventory, shown_rows

DAY = timedelta(days=1)
LONG_AGO = NOW - 100 * DAY
LISTS: tuple[Noun, ...] = ("repository", "tag", "manifest")


def _inventory(database: Database, pulled: dict[int, datetime | None], since: datetime | None) -> None:
    """One repository in which tag ``tN`` points to manifest N; 3 is an index of 1 and 2, ``t9`` leads nowhere."""
    made = make_inventory(1)
    made.rows = {
        "registries": [made.rows["registries"][0] | {"events_since": None if since is None else to_micros(since)}],
        "repositories": [made.rows["repositories"][0] | {"registry_id": 1, "deleted_at": None, "name": "a"}],
        "manifests": [
            made.rows["manifests"][0]
            | {"id": number, "digest": b"\x01" + bytes([number]) * 32, "is_index": int(number == 3)}
            for number in pulled
        ],
        "manifest_children": [
            {"parent_id": 3, "position": position, "child_id": child}
            for position, child in enumerate((1, 2))
            if 3 in pulled
        ],
        "repository_manifests": [
            made.rows["repository_manifests"][0]
            | {"repository_id": 1, "manifest_id": number, "deleted_at": None}
            | {name: None if moment is None else to_micros(moment) for name in CLOCKS}
            for number, moment in pulled.items()
        ],
        "tags": [
            made.rows["tags"][0] | {"id": number, "repository_id": 1, "name": f"t{number}", "manifest_id": place}
            for number, place in (*((number, number) for number in pulled), (9, None))
        ],
    }
    made.rows["repositories"][0]["id"] = 1
    database.write_now(made.insert)


def _page(database: Database, noun: Noun, *conditions: str, **asked: Any) -> Page:
    query = Query(noun, conditions=tuple(parse_condition(noun, text) for text in conditions), **asked)
    return database.read_now(lambda connection: list_rows(connection, query, NOW, count_unknown=True))


def _tags(page: Page) -> list[object]:
    return [row["tag"] for row in page.rows]


def test_an_index_was_pulled_when_one_of_its_manifests_was(database: Database) -> None:
    _inventory(database, {1: NOW - 3 * DAY, 2: NOW - DAY, 3: NOW - 2 * DAY, 4: None}, LONG_AGO)
    pulled = {row["tag"]: row["pulled_at"] for row in _page(database, "tag").rows}
    assert pulled == {"t1": NOW - 3 * DAY, "t2": NOW - DAY, "t3": NOW - DAY, "t4": None, "t9": None}
    manifests = [row["fetched_at"] for row in _page(database, "manifest").rows]
    assert manifests == [NOW - 3 * DAY, NOW - DAY, NOW - DAY, None]
    assert [row["pulled_at"] for row in _page(database, "repository").rows] == [NOW - DAY]


def test_an_index_of_which_nothing_was_pulled_was_not_pulled(database: Database) -> None:
    _inventory(database, {1: None, 2: None, 3: None}, LONG_AGO)
    assert [row["pulled_at"] for row in _page(database, "tag").rows] == [None] * 4


def test_never_seen_pulled_is_old_only_as_far_as_pulls_are_known(database: Database) -> None:
    _inventory(database, {1: NOW - 95 * DAY, 2: NOW - DAY, 4: None}, NOW - 91 * DAY)
    page = _page(database, "tag", "pulled > 90d")
    assert _tags(page) == ["t1", "t4"]
    assert page.unknown_count == 1  # the tag that leads nowhere
    younger = _page(database, "tag", "pulled > 92d")
    assert _tags(younger) == ["t1"]
    assert younger.unknown_count == 2
    assert _tags(_page(database, "tag", "pulled > 92d", include_unknown=True)) == ["t1", "t4", "t9"]
    assert _tags(_page(database, "tag", "pulled < 7d")) == ["t2"]
    assert _tags(_page(database, "tag", "pulled < 7d", include_unknown=True)) == ["t2", "t9"]
    assert _tags(_page(database, "tag", "pulled = unknown")) == ["t4", "t9"]


@pytest.mark.parametrize("noun", LISTS)
def test_without_any_notification_nothing_is_known_of_pulls(database: Database, noun: Noun) -> None:
    _inventory(database, {1: None}, None)
    page = _page(database, noun, "pulled > 1d")
    assert page.rows == []
    assert page.unknown_count == len(_page(database, noun).rows)
    assert all(row["pulls_known_since"] is None for row in _page(database, noun).rows)


@pytest.mark.parametrize("noun", LISTS)
def test_every_list_tells_since_when_pulls_are_known_and_asks_by_it(database: Database, noun: Noun) -> None:
    _inventory(database, {1: None}, LONG_AGO)
    rows = _page(database, noun).rows
    assert {row["pulls_known_since"] for row in rows} == {LONG_AGO}
    assert len(_page(database, noun, "pulled > 90d").rows) == len(
        [row for row in rows if row.get("digest") or noun != "tag"]
    )
    assert _page(database, noun, "pulls_known_since < 50d").rows == []


def test_what_is_unknown_sorts_last_both_ways(database: Database) -> None:
    _inventory(database, {1: NOW - 3 * DAY, 2: NOW - DAY, 4: None}, LONG_AGO)
    for text, expected in (("pulled", ["t1", "t2"]), ("-pulled", ["t2", "t1"])):
        page = _page(database, "tag", sort=(parse_sort("tag", text),))
        assert _tags(page)[:2] == expected
        assert set(_tags(page)[2:]) == {"t4", "t9"}


@pytest.mark.parametrize("seed", range(3))
def test_random_conditions_on_clocks_select_what_trying_every_possibility_selects(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    made = make_inventory(seed)
    for registry in made.rows["registries"]:
        registry["events_since"] = chance.choice((None, *TIMES))
    for row in made.rows["repository_manifests"]:
        row.update({name: chance.choice((None, None, *TIMES)) for name in CLOCKS})
    database.write_now(made.insert)
    for number in range(45):
        noun = LISTS[number % 3]
        name = "pulled_at" if noun == "repository" else chance.choice(CLOCKS)
        first, second = sorted(chance.sample(TIMES, 2))
        one, two = (str(_moment(micros)) for micros in (first, second))
        text = chance.choice(
            (
                *(f"{sign} {one}" for sign in ("<", "<=", ">", ">=", "=", "!=")),
                f"in {one},{two}",
                f"between {one} and {two}",
            )
        )
        query = Query(noun, conditions=(parse_condition(noun, f"{name} {text}"),))
        answers = [_truth(query, row, name) for row in shown_rows(made, noun)]
        _check_counts(database, query, answers.count(True), answers.count(None))


def _check_counts(database: Database, query: Query, true_count: int, unknown_count: int) -> None:
    with_unknown = replace(query, include_unknown=True)
    found = database.read_now(lambda connection: count_rows(connection, query, NOW))
    assert found == true_count, query
    found = database.read_now(lambda connection: count_rows(connection, with_unknown, NOW))
    assert found == true_count + unknown_count, query


def _moment(micros: int) -> datetime:
    return NOW + timedelta(microseconds=micros - to_micros(NOW))


def _truth(query: Query, row: dict[str, Any], name: str) -> bool | None:
    """Whether a row fulfils the condition in all possible worlds, in none, or (``None``) in some."""
    condition, value, since = query.conditions[0], row[name], row["pulls_known_since"]
    if value is not None:
        return condition.evaluate(value, NOW)
    if since is None or (query.noun == "tag" and row["digest"] is None):
        return None
    moments = [moment for moment in (*map(_moment, TIMES), since - timedelta(microseconds=1)) if moment < since]
    worlds = {condition.evaluate(moment, NOW) for moment in (*moments, NOW - 10_000 * DAY)}
    return worlds.pop() if len(worlds) == 1 else None

"""Somebody limited to an area gets exactly the rows that a filter in Python leaves: lists, pages, counts, exports."""

from __future__ import annotations

import random
from typing import Any

import pytest

from regwarden.core.access import Area, Reach
from regwarden.core.conditions import parse_condition, parse_sort
from regwarden.core.patterns import parse_pattern
from regwarden.core.query import Query
from regwarden.core.selectors import parse_selector
from regwarden.errors import NotFound
from regwarden.store.database import Database
from regwarden.store.holders import find_content
from regwarden.store.queries import count_rows, iterate_rows, list_rows
from tests.store.sample_inventory import NOW, Inventory, make_inventory

NOUNS = ("repository", "tag", "manifest", "blob")
REGISTRIES = ("prod", "dev", "glob:*", "re:p.*", "nothing")
REPOSITORIES = ("a", "a/b", "glob:a*", "glob:a/**", "glob:**", "team/app", "glob:team/*", "re:.*a.*", "~p", "none")
CONDITIONS = {
    "repository": ("", "size > 95", "size = unknown", "tag_count >= 0"),
    "tag": ("", "size > 95", "tag ~ glob:*1*", "created > 1d", "repository ~ team"),
    "manifest": ("", "size > 95", "is_index = false"),
    "blob": ("", "size > 95", "state = missing", "is_orphaned = true"),
}


def random_reach(chance: random.Random) -> Reach:
    """One to three areas, some of them of a kind that SQL cannot decide."""

    def some(texts: tuple[str, ...]) -> Any:
        return tuple(parse_pattern(text) for text in chance.sample(texts, chance.randint(0, 2)))

    return Reach(tuple(Area(some(REGISTRIES), some(REPOSITORIES)) for _ in range(chance.randint(0, 3))))


def random_query(chance: random.Random, noun: Any) -> Query:
    condition = chance.choice(CONDITIONS[noun])
    return Query(
        noun,
        conditions=(parse_condition(noun, condition),) if condition else (),
        sort=tuple(parse_sort(noun, text) for text in chance.choice(((), ("-size",), ("repository",)))),
        repositories=chance.choice(((), (), (parse_pattern("glob:a*"),))),
        selectors=chance.choice(((), (), (parse_selector("glob:*/**"), parse_selector("a")))),
        include_unknown=chance.random() < 0.3,
    )


@pytest.mark.parametrize("seed", range(6))
def test_only_rows_in_reach_are_listed_counted_and_exported(database: Database, seed: int):
    from dataclasses import replace

    chance = random.Random(seed)
    made = make_inventory(seed)
    database.write_now(made.insert)
    for number in range(60):
        noun = NOUNS[number % len(NOUNS)]
        query, reach = random_query(chance, noun), random_reach(chance)
        limited = replace(query, reach=reach)
        everything = database.read_now(lambda connection: list_rows(connection, query, NOW)).rows  # noqa: B023 -- run at once
        expected = [row for row in everything if reach.has(str(row["registry"]), str(row["repository"]))]
        assert all_pages(database, limited, chance.choice((1, 3, 50))) == expected, limited
        assert database.read_now(lambda connection: count_rows(connection, limited, NOW)) == len(expected)  # noqa: B023
        if not query.sort:
            exported = database.read_now(lambda connection: list(iterate_rows(connection, limited, NOW)))  # noqa: B023
            assert exported == expected, limited


def all_pages(database: Database, query: Query, limit: int) -> list[dict[str, object]]:
    from dataclasses import replace

    rows: list[dict[str, object]] = []
    asked = replace(query, limit=limit)
    while True:
        page = database.read_now(lambda connection: list_rows(connection, asked, NOW))  # noqa: B023 -- run at once
        rows += page.rows
        if page.next_cursor is None:
            return rows
        asked = replace(asked, cursor=page.next_cursor)


@pytest.fixture
def inventory(database: Database) -> Inventory:
    made = make_inventory(3)
    database.write_now(made.insert)
    return made


def test_a_registry_out_of_reach_is_not_known(database: Database, inventory: Inventory):
    only_dev = Reach((Area((parse_pattern("dev"),)),))
    listed = database.read_now(lambda connection: list_rows(connection, Query("registry", reach=only_dev), NOW))
    assert [row["registry"] for row in listed.rows] == ["dev"]
    for query in (
        Query("tag", registries=("prod",), reach=only_dev),
        Query("tag", selectors=(parse_selector("prod/a", known_registries=["prod"]),), reach=only_dev),
    ):
        with pytest.raises(NotFound) as caught:
            database.read_now(lambda connection: list_rows(connection, query, NOW))  # noqa: B023 -- run at once
        assert "prod" not in caught.value.hint


def test_content_is_known_by_the_places_in_reach_alone(database: Database, inventory: Inventory):
    chance = random.Random(7)
    for _ in range(20):
        reach = random_reach(chance)
        for noun in ("manifest", "blob"):
            query = Query(noun)
            digests = {str(row["digest"]) for row in database.read_now(lambda c: list_rows(c, query, NOW)).rows}  # noqa: B023
            for digest in sorted(digests):
                whole = database.read_now(lambda c: find_content(c, digest))  # noqa: B023 -- run at once
                seen = database.read_now(lambda c: find_content(c, digest, None, reach))  # noqa: B023
                assert whole is not None
                uses = tuple(use for use in whole.uses if reach.has(use.registry, use.repository))
                if not reach.is_everything and not uses:
                    assert seen is None
                    continue
                assert seen is not None
                assert seen.uses == uses
                assert seen.use_count == len(uses)
                named = {use.digest for use in uses}
                assert set(seen.manifests) <= named or reach.is_everything
                assert set(seen.indexes) <= named or reach.is_everything
                assert all(reach.has(one.registry, one.repository) for one in seen.referrers)

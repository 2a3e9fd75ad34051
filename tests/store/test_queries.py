"""Lists of the inventory: the same rows in the same order as working everything out in Python."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from functools import cmp_to_key
from typing import Any

import pytest
from sqlalchemy import event

from regwarden.core.conditions import Condition, Operator, Sort, parse_condition, parse_sort
from regwarden.core.fields import FIELDS, FieldType, Noun
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.core.query import Query
from regwarden.core.selectors import Selector, parse_selector
from regwarden.errors import InputError, NotFound
from regwarden.store.database import Database
from regwarden.store.queries import count_rows, iterate_rows, list_rows
from tests.store.sample_inventory import CLOCKS, NOW, Inventory, make_inventory, shown_rows

NOUNS: tuple[Noun, ...] = ("registry", "repository", "tag", "manifest", "blob")
USUAL = {
    "registry": ("registry",),
    "repository": ("registry", "repository"),
    "tag": ("registry", "repository", "tag"),
    "manifest": ("registry", "repository", "digest"),
    "blob": ("registry", "repository", "digest"),
}
REPOSITORY_PATTERNS = ("a/b", "team/app", "glob:a*", "glob:**", "glob:{a,team}/*", "glob:*/[a-b]*", "re:.*b", "B")
TAG_PATTERNS = ("latest", "1.0.0", "glob:1.*", "glob:*.*", "glob:?_b%c", "re:v?1.*", "semver:>=1.1", "<1.3", "glob:l*t")


def _random_query(chance: random.Random, noun: Noun, rows: list[dict[str, Any]]) -> Query:
    query = Query(noun, include_unknown=chance.random() < 0.3)
    query = replace(query, conditions=tuple(_random_condition(chance, noun, rows) for _ in range(chance.randint(0, 2))))
    fields = list(FIELDS[noun].values())
    sort = tuple(Sort(field, chance.random() < 0.5) for field in chance.sample(fields, chance.choice((0, 1, 1, 2))))
    query = replace(query, sort=sort)
    if chance.random() < 0.3:
        query = replace(query, registries=("prod",))
    if noun == "registry":
        return query
    if chance.random() < 0.4:
        chosen = chance.sample(REPOSITORY_PATTERNS, chance.randint(1, 2))
        query = replace(query, repositories=tuple(parse_pattern(text) for text in chosen))
    if chance.random() < 0.2:
        query = replace(query, exclude_repositories=(parse_pattern(chance.choice(REPOSITORY_PATTERNS)),))
    if noun not in ("tag", "manifest"):
        return query
    if chance.random() < 0.3:
        chosen = chance.sample(TAG_PATTERNS, chance.randint(1, 2))
        query = replace(query, tags=tuple(parse_pattern(text) for text in chosen))
    if chance.random() < 0.2:
        query = replace(query, exclude_tags=(parse_pattern(chance.choice(TAG_PATTERNS)),))
    if chance.random() < 0.3:
        chosen_selectors = tuple(_random_selector(chance, rows) for _ in range(chance.randint(1, 2)))
        query = replace(query, selectors=chosen_selectors)
    return query


def _random_selector(chance: random.Random, rows: list[dict[str, Any]]) -> Selector:
    digests = [Digest.parse(row["digest"]) for row in rows if row["digest"]]
    return Selector(
        repository=parse_pattern(chance.choice(REPOSITORY_PATTERNS)) if chance.random() < 0.7 else None,
        tag=parse_pattern(chance.choice(TAG_PATTERNS)) if chance.random() < 0.5 else None,
        registry=chance.choice((None, None, "dev", "registry.example.com")),
        digest=chance.choice(digests) if digests and chance.random() < 0.2 else None,
    )


def _random_condition(chance: random.Random, noun: Noun, rows: list[dict[str, Any]]) -> Condition:
    field = chance.choice(list(FIELDS[noun].values()))
    known = [row[field.name] for row in rows if row[field.name] is not None]
    if chance.random() < 0.1 or not known:
        return Condition(field, chance.choice((Operator.UNKNOWN, Operator.KNOWN)))
    value, other = chance.choice(known), chance.choice(known)
    texts: list[str]
    if field.type in (FieldType.TEXT, FieldType.DIGEST):
        part = value[chance.randint(0, len(value)) :][: chance.randint(0, 12)]
        texts = [f"= '{value}'", f"!= '{value}'", f"in '{value}','{other}'", f"contains '{part}'"]
        start = value[: chance.randint(1, 14)]
        if start.isalnum() or field.type is FieldType.DIGEST:
            texts += [f"~ glob:{start}*", f"~ glob:*{start[-1]}*", f"~ ^{start}", f"~ re:{start}.*", f"~ start:{start}"]
        if "," in value + other:
            texts.remove(f"in '{value}','{other}'")
    elif field.type is FieldType.BOOL:
        texts = ["= true", "!= true"]
    elif field.type is FieldType.TIME:
        low, high = sorted((value, other))
        texts = [f"< {value.isoformat()}", f">= {value.isoformat()}", "< 10d", ">= 1d", "between 1d and 30d"]
        texts += [f"between {low.isoformat()} and {high.isoformat()}", f"= {value.isoformat()}"]
    else:
        low, high = sorted((value, other))
        texts = [f"{sign} {value}" for sign in ("=", "!=", "<", "<=", ">", ">=")]
        texts += [f"in {value},{other}", f"between {low} and {high}"]
        texts = [text for text in texts if "-" not in text or field.type is FieldType.COUNT]
    return parse_condition(noun, f"{field.name} {chance.choice(texts)}")


def _expected(query: Query, rows: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    matching = [row for row in rows if _is_selected(query, row) and _meets(query, row, now)]
    named = [sort.field.name for sort in query.sort]
    order = [(sort.field.name, sort.descending) for sort in query.sort]
    usual = USUAL[query.noun]
    if set(named) <= set(usual) or query.noun == "blob":
        order += [(name, False) for name in usual if name not in named]
    else:
        order.append(("", query.sort[-1].descending))

    def compare(left: dict[str, Any], right: dict[str, Any]) -> int:
        return _compare(order, left, right)

    return sorted(matching, key=cmp_to_key(compare))


def _compare(order: list[tuple[str, bool]], left: dict[str, Any], right: dict[str, Any]) -> int:
    for name, descending in order:
        one, two = left[name], right[name]
        # Stored digests sort before their nine digits do: equal short ones may differ.
        if name == "short_revision":
            one, two = left["revision"], right["revision"]
        if name in ("revision", "short_revision") and one is not None and two is not None:
            one, two = (len(one), one), (len(two), two)
        if one == two:
            continue
        if one is None or two is None:
            return 1 if one is None else -1
        if isinstance(one, str):
            one, two = one.encode(), two.encode()
        return (1 if one > two else -1) * (-1 if descending else 1)
    return 0


def _is_selected(query: Query, row: dict[str, Any]) -> bool:
    if query.registries and row["registry"] not in query.registries:
        return False
    repository = row.get("repository", "")
    if query.repositories and not any(one.matches(repository) for one in query.repositories):
        return False
    if any(one.matches(repository) for one in query.exclude_repositories):
        return False
    names = row[" tags"] if query.noun == "manifest" else [row.get("tag", "")]
    if query.tags and not any(one.matches(name) for one in query.tags for name in names):
        return False
    if any(one.matches(name) for one in query.exclude_tags for name in names):
        return False
    return not query.selectors or any(_matches(one, row, names) for one in query.selectors)


def _matches(selector: Selector, row: dict[str, Any], names: list[str]) -> bool:
    if selector.registry not in (None, row["registry"], row[" host"]):
        return False
    digest = Digest.parse(row["digest"]) if row["digest"] else None
    tags: list[str | None] = [*names] or [None]
    return any(selector.matches(row["repository"], tag, digest) for tag in tags)


def _meets(query: Query, row: dict[str, Any], now: datetime) -> bool:
    for condition in query.conditions:
        value = row[condition.field.name]
        if condition.field.type is FieldType.DIGEST and value is not None:
            value = Digest.parse(value)
        result = condition.evaluate(value, now, before=_bound(row, condition.field.name))
        if result is False or (result is None and not query.include_unknown):
            return False
    return True


def _bound(row: dict[str, Any], name: str) -> datetime | None:
    """Before which a pull that is not known must have been."""
    leads_nowhere = "tag" in row and "digest" in row and row["digest"] is None
    return None if name not in CLOCKS or leads_nowhere else row.get("pulls_known_since")


def _without_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name and not name.startswith(" ")} for row in rows]


def _all_pages(database: Database, query: Query, limit: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    query = replace(query, limit=limit)
    for _ in range(1000):
        page = database.read_now(lambda connection: list_rows(connection, query, NOW))  # noqa: B023 -- run at once
        assert len(page.rows) <= limit
        found += page.rows
        if page.next_cursor is None:
            return found
        assert len(page.rows) == limit
        query = replace(query, cursor=page.next_cursor)
    raise AssertionError("the pages do not end")


@pytest.fixture
def inventory(database: Database) -> Inventory:
    made = make_inventory(7)
    database.write_now(made.insert)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_random_questions_get_the_rows_that_python_finds_in_the_same_order(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    made = make_inventory(seed)
    database.write_now(made.insert)
    rows = {noun: shown_rows(made, noun) for noun in NOUNS}
    for number in range(40):
        noun = NOUNS[number % len(NOUNS)]
        query = _random_query(chance, noun, rows[noun])
        expected = _without_keys(_expected(query, rows[noun], NOW))
        assert _all_pages(database, query, chance.choice((1, 2, 5, 100))) == expected, query
        with_cursor = database.read_now(lambda connection: list(iterate_rows(connection, query, NOW)))  # noqa: B023
        assert with_cursor == expected, query
        assert database.read_now(lambda connection: count_rows(connection, query, NOW)) == len(expected)  # noqa: B023


@pytest.mark.parametrize("noun", NOUNS)
def test_every_field_filters_by_what_it_shows_and_sorts_both_ways(database: Database, noun: Noun) -> None:
    made = make_inventory(11)
    database.write_now(made.insert)
    rows = shown_rows(made, noun)
    for field in FIELDS[noun].values():
        for descending in (False, True):
            query = Query(noun, sort=(Sort(field, descending),))
            assert _all_pages(database, query, 7) == _without_keys(_expected(query, rows, NOW)), query
        known = [row[field.name] for row in rows if row[field.name] is not None]
        if known and field.type is not FieldType.BOOL:
            value = known[0].isoformat() if isinstance(known[0], datetime) else f"'{known[0]}'"
            query = Query(noun, conditions=(parse_condition(noun, f"{field.name} = {value}"),))
            expected = _without_keys(_expected(query, rows, NOW))
            assert expected
            assert _all_pages(database, query, 3) == expected, query


def test_unknown_values_are_counted(database: Database, inventory: Inventory) -> None:
    rows = shown_rows(inventory, "tag")
    unknown = sum(1 for row in rows if row["logical_bytes"] is None)
    query = Query("tag", conditions=(parse_condition("tag", "size >= 0"),))
    page = database.read_now(lambda connection: list_rows(connection, query, NOW, count_unknown=True))
    assert unknown > 0
    assert page.unknown_count == unknown
    assert len(page.rows) == len(rows) - unknown
    assert database.read_now(lambda connection: list_rows(connection, query, NOW)).unknown_count is None


@pytest.mark.parametrize("noun", NOUNS)
def test_a_cursor_of_another_order_is_refused(database: Database, inventory: Inventory, noun: Noun) -> None:
    del inventory
    query = Query(noun, limit=1)
    cursor = database.read_now(lambda connection: list_rows(connection, query, NOW)).next_cursor
    assert cursor is not None
    other = replace(query, cursor=cursor, sort=(parse_sort(noun, "-registry"),))
    with pytest.raises(InputError) as raised:
        database.read_now(lambda connection: list_rows(connection, other, NOW))
    assert raised.value.code == "bad-cursor"


@pytest.mark.parametrize("cursor", ["", "x", "é", "AAAA", "kqN0YWfA", "=" * 9000, "kqR0YWcgk6Nwcm9kwMA"])
def test_a_made_up_cursor_is_refused(database: Database, inventory: Inventory, cursor: str) -> None:
    del inventory
    with pytest.raises(InputError) as raised:
        database.read_now(lambda connection: list_rows(connection, Query("tag", cursor=cursor), NOW))
    assert raised.value.code == "bad-cursor"


def test_a_page_goes_on_where_it_ended_although_rows_were_added_before_it(
    database: Database, inventory: Inventory
) -> None:
    query = Query("tag", limit=3)
    first = database.read_now(lambda connection: list_rows(connection, query, NOW))
    rest = database.read_now(lambda connection: list_rows(connection, replace(query, cursor=first.next_cursor), NOW))
    last = first.rows[-1]
    registries = {row["name"]: row["id"] for row in inventory.rows["registries"]}
    place = (registries[str(last["registry"])], last["repository"])
    repository = next(row["id"] for row in inventory.rows["repositories"] if (row["registry_id"], row["name"]) == place)
    inventory.rows["tags"].append({**inventory.rows["tags"][0], "id": 999, "repository_id": repository, "name": "!"})
    database.write_now(inventory.insert)
    assert "!" in [row["tag"] for row in _all_pages(database, query, 3)]
    again = database.read_now(lambda connection: list_rows(connection, replace(query, cursor=first.next_cursor), NOW))
    assert again.rows == rest.rows


def test_blobs_of_an_index_tag_are_those_of_its_children(database: Database) -> None:
    made = make_inventory(3)
    made.rows["manifests"][0] |= {"is_index": 0, "blob_ids": (3).to_bytes(4, "little")}
    made.rows["manifests"][1] |= {"is_index": 1, "blob_ids": b""}
    made.rows["manifest_children"] = [{"parent_id": 2, "position": 0, "child_id": 1}]
    made.rows["repositories"][0] |= {"deleted_at": None}
    made.rows["repository_manifests"] = [
        {"repository_id": 1, "manifest_id": number, "first_seen_at": 0} for number in (1, 2)
    ]
    tag = made.rows["tags"][0]
    made.rows["tags"] = [{**tag, "repository_id": 1, "name": "multi", "manifest_id": 2}]
    database.write_now(made.insert)
    query = Query("blob", selectors=(parse_selector(":multi"),))
    found = database.read_now(lambda connection: list_rows(connection, query, NOW)).rows
    assert [row["digest"] for row in found] == [str(Digest.from_bytes(made.rows["blobs"][2]["digest"]))]


def test_a_registry_that_is_not_known_is_an_error_not_an_empty_list(database: Database, inventory: Inventory) -> None:
    del inventory
    for query in (Query("tag", registries=("nowhere",)), Query("tag", selectors=(Selector(registry="nowhere"),))):
        with pytest.raises(NotFound) as raised:
            database.read_now(lambda connection: list_rows(connection, query, NOW))  # noqa: B023 -- run at once
        assert raised.value.code == "unknown-registry"
        assert "prod" in raised.value.hint


def test_repositories_cannot_be_selected_by_tag(database: Database, inventory: Inventory) -> None:
    del inventory
    with pytest.raises(InputError) as raised:
        database.read_now(
            lambda connection: list_rows(connection, Query("repository", tags=(parse_pattern("x"),)), NOW)
        )
    assert raised.value.code == "bad-selector"


def test_the_limit_must_be_positive(database: Database) -> None:
    with pytest.raises(InputError):
        database.read_now(lambda connection: list_rows(connection, Query("tag", limit=0), NOW))


def test_an_empty_inventory_has_no_rows(database: Database) -> None:
    for noun in NOUNS:
        page = database.read_now(lambda connection: list_rows(connection, Query(noun, limit=5), NOW))  # noqa: B023
        assert (page.rows, page.next_cursor) == ([], None)


def test_many_selectors_are_answered(database: Database, inventory: Inventory) -> None:
    rows = shown_rows(inventory, "tag")
    selectors = tuple(parse_selector(f"none/r{number}:t") for number in range(1500))
    wanted = rows[0]
    selectors += (parse_selector(f"{wanted['repository']}:{wanted['tag']}"),)
    found = database.read_now(lambda connection: list_rows(connection, Query("tag", selectors=selectors), NOW)).rows
    assert found
    assert {(row["repository"], row["tag"]) for row in found} == {(wanted["repository"], wanted["tag"])}


def test_the_usual_order_is_a_walk_along_indexes_on_sqlite(database: Database, inventory: Inventory) -> None:
    del inventory
    if database.dialect != "sqlite":
        return
    plans: list[str] = []

    def explained(connection: Any) -> None:
        def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: Any) -> None:
            del cursor, context, many
            if "CROSS JOIN tags" in statement:
                raw = connection.connection.driver_connection
                plans.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

        event.listen(connection, "before_cursor_execute", note)
        list_rows(connection, Query("tag", limit=10), NOW)
        event.remove(connection, "before_cursor_execute", note)

    database.read_now(explained)
    assert plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]

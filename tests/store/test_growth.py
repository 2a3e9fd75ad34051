"""How counts and sizes developed, from the daily figures."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import insert

from regwarden.store import schema
from regwarden.store.growth import Period, list_growth

FIRST = date(1970, 1, 1)
SIZES = {
    date(2026, 1, 30): 100,
    date(2026, 1, 31): 150,
    date(2026, 2, 2): 140,
    date(2026, 2, 8): 140,
    date(2026, 2, 9): None,
}


@pytest.fixture
def figures(database):
    def write(connection) -> None:
        for number in (1, 2):
            registry = {"id": number, "name": f"r{number}", "url": "", "kind": "distribution", "first_seen_at": 0}
            connection.execute(insert(schema.registries).values(**registry))
        repository = {"id": 7, "registry_id": 1, "name": "app", "first_seen_at": 0, "state": "complete"}
        connection.execute(insert(schema.repositories).values(**repository))
        for day, size in SIZES.items():
            row = {"registry_id": 1, "day": (day - FIRST).days, "tag_count": size or 0, "stored_bytes": size}
            connection.execute(insert(schema.usage_days).values(**row, repository_id=0))
            connection.execute(insert(schema.usage_days).values(**{**row, "tag_count": 1}, repository_id=7))
        other = {"registry_id": 2, "repository_id": 0, "day": (date(2026, 1, 30) - FIRST).days, "tag_count": 5}
        connection.execute(insert(schema.usage_days).values(**other))

    database.write_now(write)
    return database


def rows(database, *arguments, **options):
    found = database.read_now(lambda connection: list_growth(connection, *arguments, **options))
    return [(row.day, row.stored_bytes, row.stored_change_bytes) for row in found]


def test_each_day_with_figures_tells_the_change_since_the_one_before(figures):
    assert rows(figures, ["r1"]) == [
        (date(2026, 1, 30), 100, None),
        (date(2026, 1, 31), 150, 50),
        (date(2026, 2, 2), 140, -10),
        (date(2026, 2, 8), 140, 0),
        (date(2026, 2, 9), None, None),
    ]


@pytest.mark.parametrize(
    ("by", "days"),
    [
        (Period.WEEK, [date(2026, 1, 31), date(2026, 2, 8), date(2026, 2, 9)]),
        (Period.MONTH, [date(2026, 1, 31), date(2026, 2, 9)]),
    ],
)
def test_a_week_or_month_is_shown_by_its_last_day_with_figures(figures, by, days):
    assert [row[0] for row in rows(figures, ["r1"], by=by)] == days


def test_the_first_row_shown_knows_the_one_before_it(figures):
    since = datetime(2026, 2, 1, tzinfo=UTC)
    assert rows(figures, ["r1"], since=since)[0] == (date(2026, 2, 2), 140, -10)


def test_a_repository_and_several_registries_stand_apart(figures):
    found = figures.read_now(lambda connection: list_growth(connection, [], "app"))
    assert {(row.registry, row.repository, row.tag_count) for row in found} == {("r1", "app", 1)}
    both = figures.read_now(lambda connection: list_growth(connection, []))
    assert [row.registry for row in both] == ["r1"] * 5 + ["r2"]
    assert both[-1].tag_count_change is None

"""Ages: up to which moment and in which unit, in what is shown, compared and sorted by."""

from __future__ import annotations

import json

import pytest

from tests.sample_inventory import Run

# The images were built on 1 January, 1 February and 1 March 2026.
ASKED = ("tag", "list", "team/app", "--tag", "semver:*", "--age-from", "2026-02-15", "--output", "plain")


def test_conditions_and_order_count_up_to_the_same_date_as_what_is_shown(ask: Run) -> None:
    result = ask(*ASKED, "--where", "age_days > 0", "--sort", "age_days", "--columns", "tag,age_days")
    assert result.stdout.splitlines() == ["1.1.0\t14", "1.0.0\t45"], result.stderr


def test_a_condition_on_when_something_was_created_counts_up_to_the_date(ask: Run) -> None:
    assert ask(*ASKED, "--where", "created < 20d", "--where", "created > 1d", "--columns", "tag").stdout == "1.1.0\n"
    assert ask(*ASKED, "--where", "created > 20d", "--count").stdout == "1\n"


@pytest.mark.parametrize(
    ("unit", "ages"),
    [("seconds", [1_209_600, 3_888_000]), ("minutes", [20_160, 64_800]), ("hours", [336, 1080]), ("weeks", [2, 6])],
)
def test_every_unit_is_a_field_that_can_be_shown_compared_and_sorted_by(ask: Run, unit: str, ages: list[int]) -> None:
    field = f"age_{unit}"
    result = ask(*ASKED, "--where", f"{field} > 0", "--sort", field, "--columns", field)
    assert [int(line) for line in result.stdout.splitlines()] == ages, result.stderr


def test_another_unit_takes_the_place_of_days(ask: Run) -> None:
    (days,) = json.loads(ask("tag", "list", "team/app:1.0.0", "--output", "json").stdout)
    (weeks,) = json.loads(ask("tag", "list", "team/app:1.0.0", "--output", "json", "--age-unit", "weeks").stdout)
    assert [name.replace("weeks", "days") for name in weeks] == list(days)
    assert (weeks["age_weeks"], "age_days" in weeks) == (days["age_days"] // 7, False)
    assert "age_weeks" not in days
    chosen = ("--columns", "age_days,tag", "--output", "csv")
    assert ask("tag", "list", *chosen, "--age-unit", "hours").stdout.startswith("age_hours,tag\n")


def test_repositories_and_manifests_have_ages_and_blobs_have_none(ask: Run) -> None:
    asked = ("--age-from", "2026-03-02", "--age-unit", "hours", "--output", "json")
    app = json.loads(ask("repository", "list", "team/app", *asked).stdout)[0]
    assert app["age_hours"] == 24
    assert {row["age_hours"] for row in json.loads(ask("manifest", "list", "team/app", *asked).stdout)} == {
        24,
        696,
        1440,
    }
    result = ask("blob", "list", "--age-unit", "hours")
    assert (result.exit_code, "error[unknown-field]" in result.stderr) == (2, True)


def test_the_next_page_of_an_order_by_age_counts_from_the_same_moment(ask: Run) -> None:
    first = ask("tag", "list", "--sort", "age_seconds", "--limit", "2", "--columns", "tag", "--output", "plain")
    options = first.stderr.rpartition("the next: ")[2].split()
    assert options[0] == "--age-from"
    second = ask("tag", "list", "--sort", "age_seconds", "--columns", "tag", "--output", "plain", *options)
    assert sorted(first.stdout.split() + second.stdout.split()) == ["1.0.0", "1.1.0", "1.2.0", "edge", "latest"]


def test_one_tag_is_shown_with_its_age_in_days_only(ask: Run) -> None:
    shown = json.loads(ask("tag", "show", "team/app:1.0.0", "--output", "json").stdout)
    assert [name for name in shown if name.startswith("age_")] == ["age_days"]

"""Lists as a user asks for them: rows, order, paging, formats, and what is said beside them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.sample_inventory import APP_BYTES, BASE_BYTES, Run


def rows(result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_json_list_is_one_array_of_objects_with_the_common_field_names(ask: Run) -> None:
    found = rows(ask("tag", "list", "--output", "json"))
    assert [row["tag"] for row in found] == ["1.0.0", "1.1.0", "1.2.0", "latest", "edge"]
    assert found[0]["registry"] == "small"
    assert found[0]["created_at"] == "2026-01-01T00:00:00Z"
    assert found[0]["digest"].startswith("sha256:")
    assert len(found[0]["digest"]) == 71
    assert found[0]["pulled_at"] is None
    assert found[0]["layer_bytes"] == BASE_BYTES + APP_BYTES


def test_common_options_are_accepted_before_and_after_the_command(ask: Run) -> None:
    assert ask("--output", "json", "tag", "list").stdout == ask("tag", "list", "--output", "json").stdout


def test_an_option_after_the_command_overrules_the_one_before_it(ask: Run) -> None:
    assert ask("--output", "csv", "tag", "list", "--output", "json").stdout.startswith("[")


@pytest.mark.parametrize("sort", ["-size", "size:desc", "-logical-bytes"])
def test_sorting_by_size_downwards_can_be_written_in_several_ways(ask: Run, sort: str) -> None:
    found = rows(ask("tag", "list", "team/app", "--sort", sort, "--output", "json"))
    sizes = [row["logical_bytes"] for row in found]
    assert sizes == sorted(sizes, reverse=True)
    assert found[-1]["tag"] == "1.0.0"


def test_reverse_turns_the_usual_order_round(ask: Run) -> None:
    forwards = rows(ask("tag", "list", "--output", "json"))
    assert rows(ask("tag", "list", "--reverse", "--output", "json")) == forwards[::-1]


def test_conditions_are_joined_by_and(ask: Run) -> None:
    found = rows(
        ask("tag", "list", "--where", "created >= 2026-02-01", "--where", "tag ~ semver:<1.2", "--output", "json")
    )
    assert [row["tag"] for row in found] == ["1.1.0"]


def test_include_and_exclude_patterns_select_repositories_and_tags(ask: Run) -> None:
    found = rows(
        ask(
            "tag",
            "list",
            "--repository",
            "glob:team/a*",
            "--exclude-tag",
            "latest",
            "--tag",
            ">1.0.0",
            "--output",
            "json",
        )
    )
    assert [row["tag"] for row in found] == ["1.1.0", "1.2.0"]


def test_count_prints_only_an_integer(ask: Run) -> None:
    result = ask("tag", "list", "--count")
    assert (result.stdout, result.stderr) == ("5\n", "")


def test_nothing_found_is_an_empty_array_and_for_people_a_sentence(ask: Run) -> None:
    assert rows(ask("tag", "list", "--where", "tag = none", "--output", "json")) == []
    result = ask("tag", "list", "--where", "tag = none")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no tags match" in result.stderr


def test_a_cursor_leads_through_all_rows_once(ask: Run) -> None:
    seen: list[str] = []
    cursor: list[str] = []
    while True:
        result = ask("tag", "list", "--limit", "2", "--output", "plain", "--columns", "repository,tag", *cursor)
        seen += result.stdout.split()
        if "--cursor " not in result.stderr:
            break
        cursor = ["--cursor", result.stderr.rpartition("--cursor ")[2].strip()]
    assert seen[1::2] == ["1.0.0", "1.1.0", "1.2.0", "latest", "edge"]


def test_pages_can_be_asked_for_by_number(ask: Run) -> None:
    second = ask("tag", "list", "--page", "2", "--per-page", "2", "--output", "plain", "--columns", "tag")
    beyond = ask("tag", "list", "--page", "9", "--per-page", "2", "--output", "json")
    assert second.stdout.split() == ["1.2.0", "latest"]
    assert rows(beyond) == []


def test_csv_has_a_header_and_plain_has_none(ask: Run) -> None:
    asked = ("repository", "list", "--columns", "repository,tag_count", "--output")
    assert list(csv.reader(io.StringIO(ask(*asked, "csv").stdout))) == [
        ["repository", "tag_count"],
        ["team/app", "4"],
        ["team/web", "1"],
    ]
    assert ask(*asked, "plain").stdout == "team/app\t4\nteam/web\t1\n"


def test_tables_show_sizes_for_people_and_exact_ones_on_request(ask: Run) -> None:
    assert "1.19 MiB" in ask("tag", "list", "team/app:1.0.0").stdout
    exact = rows(ask("tag", "list", "team/app:1.0.0", "--output", "json"))[0]["logical_bytes"]
    assert f"{exact:,}" in ask("tag", "list", "team/app:1.0.0", "--bytes").stdout


def test_a_table_states_how_complete_and_how_old_the_inventory_is(ask: Run) -> None:
    result = ask("repository", "list")
    assert "inventory of small: complete, " in result.stderr
    assert "old" in result.stderr
    assert ask("repository", "list", "--quiet").stderr == ""


def test_ages_are_whole_units_up_to_a_date(ask: Run) -> None:
    asked = ("tag", "list", "team/app:1.0.0", "--age-from", "2026-01-02T12:00:00Z", "--output", "json")
    assert rows(ask(*asked))[0]["age_days"] == 1
    assert rows(ask(*asked, "--age-unit", "hours"))[0]["age_hours"] == 36


def test_blobs_are_unverified_until_they_were_asked_for(ask: Run) -> None:
    assert rows(ask("blob", "list", "--missing", "--output", "json")) == []
    assert {row["state"] for row in rows(ask("blob", "list", "--output", "json"))} == {"unverified"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tag", "list", "--where", "sze > 1"), ("error[unknown-field]", "Did you mean size?")),
        (("tag", "list", "--where", "size >"), ("error[", "hint:")),
        (("tag", "list", "--tag", "re:("), ("error[bad-pattern]",)),
        (("tag", "list", "Team/App"), ("error[", "hint:")),
        (("tag", "list", "--sort", "colour"), ("error[unknown-field]",)),
        (("tag", "list", "--age-from", "yesterday"), ("error[bad-input]", "2026-01-31")),
        (("tag", "list", "--limit", "0"), ("error[usage]", "--limit")),
        (("tag", "list", "--cursor", "nonsense"), ("error[bad-cursor]",)),
        (("tag", "list", "--columns", "nothing"), ("error[unknown-field]",)),
    ],
)
def test_a_question_that_cannot_be_understood_is_one_sentence_with_a_hint(ask: Run, arguments, words) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(word in result.stderr for word in words), result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_registry_is_named_with_those_that_are_known(ask: Run) -> None:
    result = ask("tag", "list", "--registry", "tiny")
    assert result.exit_code == 1
    assert "error[not-found]" in result.stderr
    assert "small" in result.stderr


def test_without_an_inventory_the_command_to_run_is_named(run: Run, tmp_path) -> None:
    result = run("tag", "list", "--database", f"sqlite:///{tmp_path / 'none.sqlite3'}")
    assert result.exit_code == 1
    assert "error[no-inventory]" in result.stderr
    assert "regwarden crawl" in result.stderr


def test_a_memory_database_without_refresh_has_nothing_to_ask(run: Run) -> None:
    result = run("usage", "--database", ":memory:")
    assert result.exit_code == 1
    assert "--refresh" in result.stderr


def test_with_json_an_error_is_also_told_as_json(ask: Run) -> None:
    result = ask("tag", "list", "--where", "sze > 1", "--output", "json")
    assert json.loads(result.stderr.splitlines()[-1])["error"]["code"] == "unknown-field"


def test_the_sum_of_a_selection_says_what_deleting_it_would_free(ask: Run) -> None:
    (sizes,) = rows(ask("tag", "list", "team/app:1.0.0", "--sum", "--output", "json"))
    assert sizes["shared_bytes"] == BASE_BYTES
    assert sizes["reclaimable_bytes"] == sizes["stored_bytes"] - BASE_BYTES
    assert "reclaimable bytes" in ask("tag", "list", "team/app:1.0.0", "--sum").stdout
    assert "no tags match" in ask("tag", "list", "--where", "tag = none", "--sum").stderr


def test_the_number_of_rows_and_their_sum_are_not_asked_for_together(ask: Run) -> None:
    result = ask("tag", "list", "--count", "--sum")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[usage]: --count and --sum" in result.stderr


def test_a_count_says_how_many_rows_it_could_not_decide(ask: Run) -> None:
    result = ask("tag", "list", "--where", "pulled > 1d", "--count")
    assert result.stdout == "0\n"
    assert "5 rows are left out" in result.stderr
    assert ask("tag", "list", "--where", "pulled > 1d", "--count", "--include-unknown").stderr == ""


def test_the_limit_is_the_size_of_a_page(ask: Run) -> None:
    asked = ("tag", "list", "--output", "plain", "--columns", "tag", "--page", "2")
    assert ask(*asked, "--limit", "2").stdout.split() == ["1.2.0", "latest"]
    assert ask(*asked, "--limit", "1", "--per-page", "3").stdout.split() == ["latest"]


def test_a_page_goes_on_behind_a_cursor_but_not_with_a_number(ask: Run) -> None:
    asked = ("tag", "list", "--output", "plain", "--columns", "tag", "--per-page", "2")
    cursor = ask(*asked).stderr.rpartition("--cursor ")[2].strip()
    assert ask(*asked, "--cursor", cursor).stdout.split() == ["1.2.0", "latest"]
    result = ask(*asked, "--cursor", cursor, "--page", "2")
    assert (result.exit_code, "--page and --cursor exclude each other" in result.stderr) == (2, True)


def test_a_wrong_cursor_is_explained_in_the_words_of_the_command_line(ask: Run) -> None:
    result = ask("tag", "list", "--cursor", "nonsense")
    assert "hint: Give --cursor " in result.stderr
    assert "next_cursor" not in result.stderr


@pytest.mark.parametrize("option", [("--where", "sze > 1"), ("--sort", "colour"), ("--columns", "nothing")])
def test_nothing_is_said_of_the_inventory_before_a_question_is_understood(ask: Run, option: tuple[str, str]) -> None:
    for more in ((), ("--sum",)) if option[0] == "--where" else ((),):
        assert "inventory of" not in ask("tag", "list", *option, *more).stderr

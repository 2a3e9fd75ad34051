"""``policy explain`` and ``policy backtest`` on a crawled registry whose history is made older by hand."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from regwarden import clock
from regwarden.store.database import Access, open_database
from tests.sample_inventory import Run

POLICY = """
apiVersion: retention/v1
kind: Policy
metadata: {name: ci}
scope: {repositories: {include: ["team/**"]}}
keep:
  - {name: newest, match: {tags: {any: ["semver:*"]}}, newest: 2, rank: {by: [semver]}}
delete:
  - {name: old, match: {tags: {any: ["semver:*"]}}, when: {tagged: {older-than: 30d}}}
limits: {per-run: {share-of-repo: unlimited}}
"""
_DAY = 86_400 * 1_000_000


@pytest.fixture
def aged(run: Run, inventory_url: str, tmp_path: Path) -> Run:
    """The crawled inventory as if the crawl had been 60 days ago; then 1.0.0 was pulled 21 and 9 days ago."""
    file = tmp_path / "aged.sqlite3"
    shutil.copy(inventory_url.removeprefix("sqlite:///"), file)
    with open_database(f"sqlite:///{file}", access=Access.WRITE) as database:
        database.write_now(_make_older)
    return partial(run, REGWARDEN_DATABASE=f"sqlite:///{file}")


def _make_older(connection: Any) -> None:
    by = 60 * _DAY
    for table, columns in (
        ("registries", ("first_seen_at", "crawled_at")),
        ("crawls", ("started_at", "finished_at")),
        ("repositories", ("first_seen_at", "seen_at", "settled_at")),
        ("repository_manifests", ("first_seen_at", "verified_at")),
        ("tags", ("first_seen_at", "tagged_at", "verified_at")),
        ("tag_history", ("at", "effective_at")),
    ):
        changes = ", ".join(f"{column} = {column} - {by}" for column in columns)
        connection.exec_driver_sql(f"UPDATE {table} SET {changes}")
    today = int(clock.now().timestamp()) * 1_000_000 // _DAY
    for days, pull_class, count in ((21, "workload", 5), (9, "scanner", 2)):
        connection.exec_driver_sql(
            "INSERT INTO pull_days (repository_id, manifest_id, tag, day, pull_class, method, pull_count, last_at) "
            f"SELECT repository_id, manifest_id, '', {today - days}, '{pull_class}', 'GET', {count}, "
            f"{(today - days) * _DAY + 5} FROM tags WHERE name = '1.0.0'"
        )


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY, encoding="utf-8")
    return str(file)


def test_explain_says_why_a_tag_goes_and_what_would_keep_it(aged: Run, policy: str) -> None:
    found = aged("policy", "explain", "team/app:1.0.0", "-f", policy)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.startswith("small/team/app:1.0.0 goes\n")
    assert "because: deleted by ci: delete[0] (old)" in found.stdout
    assert "3rd highest, 2 are kept" in found.stdout
    assert "would stay if ci keep[0] (newest) kept 3 instead of 2" in found.stdout
    assert "pushed" in found.stdout
    assert "at latest" in found.stdout


def test_explain_says_why_a_tag_stays_and_what_is_bound_to_it(aged: Run, policy: str) -> None:
    found = aged("policy", "explain", "team/app:1.2.0", "-f", policy)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.startswith("small/team/app:1.2.0 stays\n")
    assert "1st highest of 2 kept" in found.stdout
    assert "latest stays (another tag of its image)" in found.stdout


def test_explain_as_json_has_every_rule_with_its_outcome(aged: Run, policy: str) -> None:
    found = aged("policy", "explain", "small/team/app:1.1.0", "-f", policy, "--output", "json")
    explained = json.loads(found.stdout)
    assert explained["subject"] == "small/team/app:1.1.0"
    [root] = explained["explanation"]["roots"]
    assert [(one["rule"], one["is_match"], one["is_met"], one["effect"]) for one in root["rules"]] == [
        ("keep[0] (newest)", True, True, "keeps"),
        ("delete[0] (old)", True, True, "takes"),
    ]
    assert [one["code"] for one in root["reasons"]] == ["kept"]
    assert {"text": "would go if ci keep[0] (newest) kept 1 instead of 2", "at": None} in root["changes"]
    rows = aged("policy", "explain", "team/app:1.1.0", "-f", policy, "--output", "csv").stdout.splitlines()
    assert rows[0] == "effect,policy,rule,match,when,found"
    assert len(rows) == 3


def test_explain_says_when_a_young_tag_goes(ask: Run, policy: str) -> None:
    found = ask("policy", "explain", "team/app:1.0.0", "-f", policy, "--output", "json")
    [root] = json.loads(found.stdout)["explanation"]["roots"]
    later = (clock.now() + timedelta(days=30)).date()
    assert root["goes_at"][:10] in {later.isoformat(), (later - timedelta(days=1)).isoformat()}
    assert root["changes"][0]["text"].endswith("UTC if it is not pushed or tagged again")


def test_explain_by_a_stored_plan_tells_what_it_decided(aged: Run, policy: str) -> None:
    made = json.loads(aged("plan", "create", "-f", policy, "--no-probe", "--output", "json").stdout)
    found = aged("policy", "explain", "team/app:1.0.0", "--plan", str(made["id"]))
    assert found.exit_code == 0, found.stderr
    assert f"plan {made['id']} of " in found.stdout
    assert "(open) decided: remove" in found.stdout
    assert "step 0: delete, pending" in found.stdout
    assert "small/team/app:1.0.0 now goes" in found.stdout


def test_explain_by_a_plan_without_a_policy_tells_only_that(aged: Run) -> None:
    made = json.loads(aged("plan", "create", "--tag", "team/app:1.0.0", "--no-probe", "--output", "json").stdout)
    found = aged("policy", "explain", "team/app:1.0.0", "--plan", str(made["id"]))
    assert found.exit_code == 0, found.stderr
    assert "decided: remove" in found.stdout
    assert "now goes" not in found.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["team/app:9.9.9"], "unknown-reference"),
        (["team/none:1.0"], "unknown-reference"),
        (["team/app"], "bad-reference"),
        (["team/app:glob:1.*"], "bad-reference"),
        (["other/app:1.0"], "nothing-in-scope"),
        (["team/app:1.0.0", "--plan", "3"], "bad-policy"),
        (["team/app:1.0.0", "--waive", "nothing"], "unknown-guard"),
    ],
)
def test_explain_says_what_it_cannot_explain(aged: Run, policy: str, words: list[str], code: str) -> None:
    found = aged("policy", "explain", *words, "-f", policy)
    assert found.exit_code in (1, 2)
    assert f"error[{code}]" in found.stderr


def test_backtest_says_what_would_have_gone_and_which_pulls_would_have_failed(aged: Run, policy: str) -> None:
    found = aged("policy", "backtest", "-f", policy)
    assert found.exit_code == 0, found.stderr
    assert "note: the history begins on" in found.stderr
    assert "1 tag and 1 manifest would have gone" in found.stdout
    assert "7 pulls would have failed" in found.stdout
    assert "5 of them by those who use images" in found.stdout
    assert "scanner 2, workload 5" in found.stdout


def test_backtest_as_json_has_every_step_and_regret(aged: Run, policy: str) -> None:
    found = json.loads(aged("policy", "backtest", "-f", policy, "--every", "1d", "--output", "json").stdout)
    summary, steps = found["summary"], found["steps"]
    assert len(steps) == summary["run_count"] == 60
    assert [one["tag_count"] for one in steps if one["tag_count"]] == [1]
    assert summary["saved_bytes"] == steps[-1]["saved_bytes"] > 250_000
    assert steps[0]["saved_bytes"] == 0
    assert steps[0]["stored_bytes"] == steps[-1]["stored_bytes"]
    [regret] = found["regrets"]
    assert (regret["repository"], regret["pull_count"], regret["use_count"]) == ("team/app", 7, 5)
    rows = aged("policy", "backtest", "-f", policy, "--output", "csv").stdout.splitlines()
    assert rows[0].startswith("at,tag_count,manifest_count,failed_count")


def test_backtest_of_some_repositories_counts_what_others_share_as_stored(aged: Run, policy: str) -> None:
    everything = json.loads(aged("policy", "backtest", "-f", policy, "--output", "json").stdout)["summary"]
    one = json.loads(aged("policy", "backtest", "-f", policy, "team/app", "--output", "json").stdout)["summary"]
    assert (one["repository_count"], everything["repository_count"]) == (1, 2)
    assert one["saved_bytes"] == everything["saved_bytes"]
    assert one["failed_pull_count"] == 7
    none = aged("policy", "backtest", "-f", policy, "team/web")
    assert "No recorded pull would have failed." in none.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--every", "12h"], "bad-backtest"),
        (["--since", "1s"], "bad-backtest"),
        (["other/**"], "nothing-in-scope"),
    ],
)
def test_backtest_says_what_it_cannot_replay(aged: Run, policy: str, words: list[str], code: str) -> None:
    found = aged("policy", "backtest", "-f", policy, *words)
    assert found.exit_code == 2
    assert f"error[{code}]" in found.stderr

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regwarden.core.policy import Policy
from regwarden.core.policy_clauses import classes_below, clauses_of
from regwarden.core.policy_matching import METHODS, USE
from regwarden.core.policy_problems import MAX_PROBLEMS, PolicyError
from regwarden.core.policy_reading import (
    parse_policies,
    parse_policy,
    read_policies,
    write_policy,
    write_policy_in_full,
)
from tests.policies import HEAD, built, policy_of, problems_of

FOLDER = Path(__file__).parents[1] / "data" / "policies"
COMPLETE = (FOLDER / "complete.yaml").read_text()
EXAMPLES = [*FOLDER.glob("*.yaml"), Path(__file__).parents[2] / "src" / "regwarden" / "core" / "policy_example.yaml"]


def test_the_complete_policy_says_what_is_written():
    policy = parse_policy(COMPLETE, name="complete.yaml")
    assert (policy.name, policy.metadata.owner) == ("ci-default", "platform")
    assert policy.scope.repositories is not None
    assert [str(one) for one in policy.scope.repositories.include] == ["glob:team-*/**"]
    assert policy.requires.inventory_max_age == timedelta(hours=2)
    assert policy.requires.clusters == ("prod-eu", "prod-us")
    tags, use, pulled, pinned = policy.protect
    assert tags.tags is not None
    assert [str(one) for one in tags.tags.any] == ["latest", "semver:>=1.0.0"]
    assert use.in_use is not None
    assert (use.in_use.clusters, use.in_use.rollback_revisions) == (("all",), 5)
    assert pulled.pulled is not None
    assert [str(one) for one in pulled.pulled.by] == ["workload", "ci", "other"]
    assert pulled.pulled.methods == METHODS
    assert pinned.pinned
    first, second = policy.keep
    assert (first.name, first.newest, [str(one) for one in first.per]) == ("newest-per-line", 3, ["semver-minor"])
    assert [str(one) for one in second.rank.by] == ["tagged", "pushed"]
    old, untagged, budget = policy.delete
    assert old.when is not None
    assert old.when.tagged is not None
    assert old.when.tagged.older_than == timedelta(days=7)
    assert untagged.untagged is not None
    assert budget.budget is not None
    assert budget.budget.max == 500 * 2**30
    assert policy.limits.per_run.share_of_repo == Decimal(30)
    assert [str(one) for one in policy.apply.window] == ["Mon-Fri 10:00-16:00 Europe/Berlin"]


def test_what_is_left_out_has_the_careful_default():
    policy = policy_of("")
    assert (str(policy.default), str(policy.mode), str(policy.apply.approval)) == ("keep", "keep-and-delete", "one")
    assert policy.limits.never_empty
    assert policy.limits.min_age == timedelta(hours=24)
    assert (policy.limits.per_run.manifests, policy.limits.per_run.share_of_repo) == (1000, Decimal(50))
    pulled = policy_of("protect: [{pulled: {within: 30d}}]").protect[0].pulled
    assert pulled is not None
    assert (pulled.by, pulled.methods) == (USE, METHODS)


def test_the_examples_use_every_clause_of_the_language():
    used: set[tuple[type, str]] = set()

    def walk(value: object) -> None:
        if isinstance(value, tuple):
            for entry in value:
                walk(entry)
        elif type(value) in classes:
            for one in clauses_of(type(value)):
                held = getattr(value, one.name)
                if one.is_required or held != one.default:
                    used.add((type(value), one.key))
                    walk(held)

    classes = set(classes_below(Policy))
    for path in EXAMPLES:
        for policy in parse_policies(path.read_text(), name=path.name):
            walk(policy)
    shared = {"name", "description", "per", "groups", "rank", "where", "media-types", "artifact-types", "special"}
    shared |= {"labels", "repositories", "untagged", "match", "tagged", "pushed", "created", "pulled", "when"}
    every = {(kind, one.key) for kind in classes for one in clauses_of(kind)}
    assert {(kind.__name__, key) for kind, key in every - used if key not in shared} == set()


@pytest.mark.parametrize(
    ("body", "place", "words", "hint"),
    [
        # words that are not known
        ("keeep: []", (1, 1), "no 'keeep'", "Did you mean keep?"),
        ("delete:\n  - newest: 3", (2, 5), "no 'newest'", "It stands in keep"),
        ("min-age: 3h", (1, 1), "no 'min-age'", "It stands in limits"),
        ("limits: {min_age: 3h}", (1, 10), "no 'min_age'", "Did you mean min-age?"),
        ("mode: first-mach", (1, 7), "'first-mach' is not known", "Did you mean first-match?"),
        ("protect: [{pulled: {within: 1d, by: [humans]}}]", (1, 38), "'humans'", "Did you mean human?"),
        ("keep: [{newest: 1, per: semver-mino}]", (1, 25), "'semver-mino'", "Did you mean semver-minor?"),
        ("keep: [{newest: 1, per: capture}]", (1, 25), "capture needs a name", "capture:NAME"),
        ("<<: {}", (1, 1), "no '<<'", "Merge keys"),
        # lists that do not say what they mean
        ("keep: [{match: {tags: [a, b]}}]", (1, 23), "not a list", "any: [...]"),
        ("keep: [{match: {tags: {}}}]", (1, 23), "tags says nothing", "any"),
        ("keep: [{match: {tags: {any: []}}}]", (1, 29), "a list of 1 to 500", ""),
        ("keep: {newest: 3}", (1, 7), "a list is wanted", ""),
        # types and bounds
        ("keep: [{newest: 0}]", (1, 17), "whole number from 1 to 1000000", ""),
        ("keep: [{newest: 1000001}]", (1, 17), "whole number", ""),
        ("keep: [{newest: 010}]", (1, 17), "whole number", "leading zeros"),
        ("keep: [{newest: 1_000}]", (1, 17), "whole number", "underscores"),
        ("keep: [{newest: '3'}]", (1, 17), "whole number", "without quotes"),
        ("keep: [{newest: -1}]", (1, 17), "whole number", ""),
        ("keep: [{newest: " + "9" * 5000 + "}]", (1, 17), "whole number", ""),
        ("delete: [{untagged: {older-than: 999999d}}]", (1, 34), "longer than 100 years", ""),
        ("delete: [{untagged: {older-than: 7}}]", (1, 34), "not a duration", "30d"),
        ("limits: {per-run: {share-of-repo: 101%}}", (1, 35), "not a percentage", "0% to 100%"),
        ("limits: {per-run: {share-of-repo: 30}}", (1, 35), "not a percentage", "0% to 100%"),
        ("limits: {per-run: {bytes: 2 furlongs}}", (1, 27), "not a size", ""),
        ("limits: {never-empty: yes}", (1, 23), "neither true nor false", "without quotes"),
        ("limits: {never-empty: 'true'}", (1, 23), "neither true nor false", "without quotes"),
        ("limits: {never-empty: on}", (1, 23), "neither true nor false", "on and off"),
        ("keep:", (1, 6), "a list is wanted", ""),
        ("limits: {min-age: }", (1, 19), "missing here", "remove the key"),
        # patterns
        ("keep: [{match: {tags: {any: [dev-*]}}}]", (1, 30), "does not say that it is a pattern", "glob:dev-*"),
        ("keep: [{match: {tags: {any: ['re:(?=x)']}}}]", (1, 30), "not a regular expression", "RE2"),
        ("keep: [{match: {tags: {any: ['~v1']}}}]", (1, 30), "matches the whole text", "re:.*(v1).*"),
        ("keep: [{match: {tags: {any: ['start:v1']}}}]", (1, 30), "matches the whole text", "re:(v1).*"),
        ("keep: [{match: {tags: {any: ['semver:>>1']}}}]", (1, 30), "not a range", ""),
        ("keep: [{match: {tags: {any: ['date:MMDD']}}}]", (1, 30), "not a form of dates", ""),
        ("keep: [{match: {repositories: {include: ['semver:1']}}}]", (1, 42), "about tags", ""),
        ("keep: [{match: {where: 'nosuch = 1'}}]", (1, 24), "nosuch", ""),
        # clauses that do not fit together
        ("rules: [{keep: {newest: 3}}]", (1, 1), "mode: first-match", ""),
        ("mode: first-match\nkeep: [{newest: 3}]", (2, 1), "takes its rules from rules", ""),
        ("mode: first-match\nrules: [{keep: {newest: 3}, delete: {beyond: 3}}]", (2, 9), "either keep or delete", ""),
        ("mode: first-match\nrules: [{}]", (2, 9), "either keep or delete", ""),
        ("mode: first-match\nrules: [{delete: {budget: {max: 1GB}}}]", (2, 10), "no place in an order", ""),
        ("keep: [{per: day}]", (1, 9), "counts nothing", "newest"),
        ("keep: [{rank: {by: pushed}}]", (1, 9), "counts nothing", "newest"),
        ("delete: [{groups: 2}]", (1, 11), "counts nothing", "beyond"),
        ("keep: [{newest: 1, groups: 2}]", (1, 20), "groups needs per", ""),
        ("keep: [{newest: 1, per: 'capture:x'}]", (1, 20), "no pattern of the rule has a group named x", "(?P<x>"),
        ("keep: [{newest: 1, per: [day, day]}]", (1, 20), "given twice", ""),
        ("keep: [{newest: 1, rank: {by: [pushed, pushed]}}]", (1, 27), "given twice", ""),
        ("delete: [{untagged: {older-than: 1d}, match: {tags: {any: [a]}}}]", (1, 11), "no tags to match", ""),
        ("delete: [{untagged: {older-than: 1d}, when: {tagged: {within: 1d}}}]", (1, 39), "never tagged", ""),
        ("delete: [{beyond: 3, budget: {max: 1GB}}]", (1, 11), "not both", ""),
        ("delete: [{when: {}}]", (1, 17), "when says nothing", ""),
        ("delete: [{when: {tagged: {}}}]", (1, 26), "neither older-than nor within", ""),
        ("protect: [{pinned: false}]", (1, 11), "says nothing", "cannot be switched off"),
        ("protect: [{in-use: {clusters: [all, prod]}}]", (1, 21), "not both", ""),
        ("keep: [{name: a, newest: 1}, {name: a, newest: 2}]", (1, 31), "another rule is called a", ""),
        ("keep: [{name: A B}]", (1, 15), "not a name", ""),
        # windows
        ("apply: {window: 'Mon-Fri 10-16 UTC'}", (1, 17), "not a window", ""),
        ("apply: {window: 'Mon-Fry 10:00-16:00 UTC'}", (1, 17), "names no day", ""),
        ("apply: {window: 'Mon 10:00-25:00 UTC'}", (1, 17), "no clock shows", ""),
    ],
)
def test_a_mistake_is_said_with_its_place_and_a_hint(body, place, words, hint):
    problems = problems_of(body)
    assert [problem.place for problem in problems] == [place]
    assert words in problems[0].message
    assert hint in problems[0].hint


def test_all_mistakes_of_a_text_are_reported_together():
    problems = problems_of("keep:\n- newst: 3\n- newest: 0\n  per: x\nlimits: {min-age: 1, never-empty: no}\nfoo: 1\n")
    assert [problem.place.line for problem in problems] == [2, 3, 4, 5, 5, 6]


def test_very_many_mistakes_are_cut():
    assert len(problems_of("".join(f"x{number}: 1\n" for number in range(1000)))) == MAX_PROBLEMS


@pytest.mark.parametrize("missing", ["apiVersion", "kind", "metadata", "scope"])
def test_a_required_clause_that_is_missing_is_named(missing):
    lines = [line for line in HEAD.splitlines() if not line.startswith(missing)]
    problems = read_policies("\n".join(lines)).problems
    assert [problem.message for problem in problems] == [f"{missing} missing here"]


def test_another_version_of_the_language_is_refused():
    problems = read_policies(HEAD.replace("retention/v1", "retention/v2")).problems
    assert "retention/v2" in problems[0].message
    assert "retention/v1" in problems[0].hint


@pytest.mark.parametrize(("text", "words"), [("", "no policy"), ("# x", "no policy"), ("a", "map"), ("---", "empty")])
def test_a_text_without_a_policy_is_a_mistake(text, words):
    with pytest.raises(PolicyError) as caught:
        parse_policies(text, name="x.yaml")
    assert words in caught.value.message
    assert caught.value.message.startswith("x.yaml:1:")


def test_an_error_names_the_text_the_place_and_how_many_more_there_are():
    with pytest.raises(PolicyError) as caught:
        parse_policy(HEAD + "keeep: []\ndelte: []", name="x.yaml")
    assert caught.value.message == "x.yaml:5:1: there is no 'keeep' here (and 1 more)"
    assert (caught.value.code, caught.value.exit_status) == ("bad-policy", 2)
    assert len(caught.value.problems) == 2


def test_a_text_may_hold_several_policies_of_different_names():
    other = HEAD.replace("sample", "other")
    assert [policy.name for policy in parse_policies(f"{HEAD}---\n{other}", name="x")] == ["sample", "other"]
    with pytest.raises(PolicyError, match="x:8:12: another policy of this text is called sample too"):
        parse_policies(f"{HEAD}---\n{HEAD}", name="x")
    with pytest.raises(PolicyError, match="one policy is wanted"):
        parse_policy(f"{HEAD}---\n{other}", name="x")


def test_a_tag_that_looks_like_a_number_stays_as_written_and_is_noted():
    policy = policy_of('keep: [{match: {tags: {any: [1.10, "1.20", 12e45, on, v1]}}}]')
    tags = policy.keep[0].match.tags
    assert tags is not None
    assert [str(one) for one in tags.any] == ["1.10", "1.20", "12e45", "on", "v1"]
    assert [text for _, text in policy.unquoted] == ["1.10", "12e45", "on"]


def test_a_time_zone_that_does_not_exist_is_a_mistake_where_zones_are_known():
    text = HEAD + "apply: {window: 'daily 10:00-16:00 Europe/Berln'}"
    assert read_policies(text).problems == ()
    (problem,) = read_policies(text, known_zones={"Europe/Berlin"}).problems
    assert problem.message == "there is no time zone Europe/Berln"
    assert problem.place.line == 5


def test_a_window_may_go_round_the_end_of_the_week():
    (window,) = policy_of("apply: {window: 'Sat-Mon 22:00-24:00 UTC'}").apply.window
    assert window.days == (0, 5, 6)
    assert str(window) == "Mon,Sat,Sun 22:00-24:00 UTC"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_reads_the_same_after_writing_with_and_without_defaults(path):
    for policy in parse_policies(path.read_text(), name=path.name):
        assert parse_policy(json.dumps(write_policy(policy)), name="written") == policy
        assert parse_policy(json.dumps(write_policy_in_full(policy)), name="in full") == policy


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(built(Policy))
def test_reading_what_was_written_gives_the_same_policy(policy):
    written = write_policy(policy)
    assert parse_policy(json.dumps(written), name="json") == policy
    assert parse_policy(yaml.safe_dump(written), name="yaml") == policy
    assert parse_policy(json.dumps(write_policy_in_full(policy)), name="in full") == policy


fragments = st.sampled_from(
    [
        *(
            "keep:",
            "delete:",
            "- ",
            "  - ",
            "match: ",
            "tags: ",
            "{any: [",
            "]}",
            "newest: ",
            "3",
            "when: ",
            "'",
            "}",
            "\n",
        ),
        *(
            "  ",
            "glob:dev-*",
            "re:(",
            "per: ",
            "capture:x",
            "rank: ",
            "untagged: {older-than: ",
            "7d",
            "budget: ",
            "{max: 1GB",
        ),
        *(
            "mode: first-match",
            "rules:",
            "protect:",
            "pinned: true",
            "apply: ",
            "window: ",
            "limits: {min-age: 1h}",
            "\x07",
        ),
    ]
)


@settings(max_examples=300)
@given(st.lists(fragments, max_size=25).map("".join) | st.text(max_size=60))
def test_no_text_causes_anything_but_problems_inside_the_text(body):
    text = HEAD + body
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for problem in read_policies(text).problems:
        assert 1 <= problem.place.line <= len(lines)
        assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1
        assert problem.message

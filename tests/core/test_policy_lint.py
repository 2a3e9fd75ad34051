from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from regwarden.core.policy import Policy
from regwarden.core.policy_lint import lint
from regwarden.core.policy_lint_codes import WARNINGS
from regwarden.core.policy_reading import parse_policies
from tests.policies import HEAD, built, policy_of

ROOT = Path(__file__).parents[2]
QUIET = """\
protect: [{tags: {any: [latest]}}]
keep: [{match: {tags: {any: ["glob:v*"]}}, newest: 3}]
delete: [{match: {tags: {all-of-digest: ["glob:dev-*"]}}, when: {tagged: {older-than: 7d}}}]
"""


def keeping(pattern: str) -> str:
    return QUIET.replace("glob:v*", pattern)


def deleting(rule: str) -> str:
    return QUIET[: QUIET.index("delete:")] + f"delete: [{rule}]\n"


def protecting(protection: str) -> str:
    return QUIET.replace("{tags: {any: [latest]}}", "{tags: {any: [latest]}}, " + protection)


def ordered(*rules: str) -> str:
    return f"mode: first-match\nrules: [{', '.join(rules)}]"


# A trap, and next to it what is no trap: code, body, place of the warning, body without it.
TRAPS = [
    ("half-anchored", keeping("re:^v|rc$"), (2, 30), keeping("re:^v.*$|^rc.*$")),
    ("half-anchored", keeping("re:v|^rc"), (2, 30), keeping("re:(^v|rc)")),
    ("half-anchored", keeping("re:^v|x$"), (2, 30), keeping("re:^v[|]x$")),
    ("regex-dot", keeping("re:va.b"), (2, 30), keeping("re:v[a.b]+")),
    (
        "delete-without-effect",
        protecting("{tags: {any: ['glob:dev-*']}}"),
        (3, 10),
        protecting("{tags: {any: ['glob:dev-*']}, repositories: {include: [a]}}"),
    ),
    (
        "delete-without-effect",
        protecting("{tags: {any: ['glob:dev-*']}}"),
        (3, 10),
        protecting("{tags: {any: ['glob:dev-*']}}").replace(
            'all-of-digest: ["glob:dev-*"]}', 'all-of-digest: ["glob:dev-*"]}, special: [build-caches]'
        ),
    ),
    (
        "delete-without-effect",
        QUIET.replace(", newest: 3", "").replace("glob:v*", "glob:dev*"),
        (3, 10),
        QUIET.replace("newest: 3", "when: {tagged: {within: 7d}}").replace("glob:v*", "glob:dev*"),
    ),
    ("regex-as-prefix", keeping("re:^v[0-9]"), (2, 30), keeping("re:^v[0-9].*")),
    ("regex-as-prefix", keeping("re:-rc[0-9]$"), (2, 30), keeping("re:.*-rc[0-9]$")),
    ("regex-as-prefix", keeping("re:v1"), (2, 30), keeping("v1")),
    ("regex-dot", keeping("re:v1.2"), (2, 30), keeping(r"re:v1\\.2")),
    ("regex-dot", keeping("re:v[0-9].[0-9]"), (2, 30), keeping("re:v[0-9.]+")),
    ("glob-without-star", keeping("glob:v1"), (2, 30), keeping("v1")),
    ("matches-nothing", keeping("glob:team/v*"), (2, 30), keeping("glob:team_v*")),
    ("matches-nothing", keeping("a b"), (2, 30), keeping("a_b")),
    ("matches-nothing", keeping("glob:-v*"), (2, 30), keeping("glob:v-*")),
    (
        "matches-nothing",
        "keep: [{match: {repositories: {include: ['glob:Team/*']}}}]",
        (1, 42),
        "keep: [{match: {repositories: {include: ['glob:team/*']}}}]",
    ),
    (
        "matches-nothing",
        "keep: [{match: {tags: {all: ['glob:a-*', 'glob:b-*']}}}]",
        (1, 24),
        "keep: [{match: {tags: {all: ['glob:a-*', 'glob:*-b']}}}]",
    ),
    (
        "matches-nothing",
        "keep: [{match: {tags: {any: [a1, a2], none: ['glob:a*']}}}]",
        (1, 39),
        "keep: [{match: {tags: {any: [a1, b2], none: ['glob:a*']}}}]",
    ),
    (
        "redundant-pattern",
        "keep: [{match: {tags: {any: ['glob:v*', 'glob:v1*']}}}]",
        (1, 41),
        "keep: [{match: {tags: {any: ['glob:v*', 'glob:w1*']}}}]",
    ),
    ("redundant-pattern", "keep: [{match: {tags: {any: [a, a]}}}]", (1, 33), "keep: [{match: {tags: {any: [a, b]}}}]"),
    (
        "exclude-one-level",
        "keep: [{match: {repositories: {exclude: ['glob:team/*']}}}]",
        (1, 42),
        "keep: [{match: {repositories: {exclude: ['glob:team/**']}}}]",
    ),
    ("unquoted", "keep: [{match: {tags: {any: [1.10]}}}]", (1, 30), "keep: [{match: {tags: {any: ['1.10']}}}]"),
    (
        "never-true",
        "keep: [{when: {tagged: {older-than: 7d, within: 7d}}}]",
        (1, 16),
        "keep: [{when: {tagged: {older-than: 7d, within: 8d}}}]",
    ),
    (
        "never-true",
        "delete: [{untagged: {older-than: 9d, within: 7d}}]",
        (1, 11),
        "delete: [{untagged: {older-than: 9d, within: 10d}}]",
    ),
    (
        "deletes-recent",
        deleting("{when: {tagged: {within: 7d}}}"),
        (3, 18),
        deleting("{when: {tagged: {within: 7d, older-than: 1d}}}"),
    ),
    (
        "deletes-used",
        deleting("{when: {pulled: {within: 7d}}}"),
        (3, 18),
        deleting("{when: {pulled: {older-than: 7d}}}"),
    ),
    (
        "age-by-created",
        deleting("{when: {created: {older-than: 7d}}}"),
        (3, 18),
        deleting("{when: {pushed: {older-than: 7d}}}"),
    ),
    (
        "age-by-pushed",
        deleting("{when: {pushed: {older-than: 7d}}}"),
        (3, 18),
        deleting("{when: {pushed: {older-than: 7d}, tagged: {older-than: 1d}}}"),
    ),
    (
        "rules-unite",
        deleting("{when: {tagged: {older-than: 7d}}}, {beyond: 3}"),
        (3, 46),
        deleting("{when: {tagged: {older-than: 7d}}, beyond: 3}"),
    ),
    (
        "rules-unite",
        deleting("{beyond: 3}, {when: {tagged: {older-than: 7d}}}"),
        (3, 23),
        deleting("{beyond: 3}, {match: {tags: {all-of-digest: [a]}}, when: {tagged: {older-than: 7d}}}"),
    ),
    ("keeps-everything", keeping("re:.*").replace(", newest: 3", ""), (2, 8), keeping("re:.*")),
    ("keeps-everything", protecting("{tags: {any: ['glob:*']}}"), (1, 36), protecting("{tags: {any: ['glob:*b']}}")),
    (
        "ignores-pulls",
        deleting("{when: {pulled: {older-than: 7d, by: [workload]}}}"),
        (3, 43),
        deleting("{when: {pulled: {older-than: 7d, by: [workload, other]}}}"),
    ),
    (
        "ignores-head",
        deleting("{when: {pulled: {older-than: 7d, methods: [GET]}}}"),
        (3, 43),
        deleting("{when: {pulled: {older-than: 7d, methods: [HEAD]}}}"),
    ),
    (
        "counts-scanners",
        protecting("{pulled: {within: 1d, by: [scanner]}}"),
        (1, 58),
        protecting("{pulled: {within: 1d, by: [ci]}}"),
    ),
    (
        "pulled-without-history",
        protecting("{pulled: {within: 30d}}"),
        (1, 37),
        "requires: {pull-history-min: 30d}\n" + protecting("{pulled: {within: 30d}}"),
    ),
    (
        "pulled-without-history",
        "requires: {pull-history-min: 30d}\n" + deleting("{when: {pulled: {older-than: 31d}}}"),
        (4, 18),
        "requires: {pull-history-min: 31d}\n" + deleting("{when: {pulled: {older-than: 31d}}}"),
    ),
    (
        "rank-candidates",
        "keep: [{newest: 3, rank: {over: candidates}}]",
        (1, 27),
        "keep: [{newest: 3, rank: {over: matched}}]",
    ),
    ("rank-by-created", "keep: [{newest: 3, rank: {by: created}}]", (1, 27), "keep: [{newest: 3, rank: {by: pushed}}]"),
    ("rank-counts-tags", "keep: [{newest: 3, rank: {count: tags}}]", (1, 27), "keep: [{newest: 3}]"),
    (
        "semver-of-names",
        "keep: [{match: {tags: {any: ['glob:dev-*']}}, newest: 3, per: semver-minor}]",
        (1, 58),
        "keep: [{match: {tags: {any: ['glob:v1*', 'semver:*']}}, newest: 3, per: semver-minor}]",
    ),
    (
        "semver-of-names",
        "keep: [{match: {tags: {any: [latest]}}, newest: 3, rank: {by: semver}}]",
        (1, 59),
        "keep: [{match: {tags: {any: [latest]}}, newest: 3, rank: {by: version}}]",
    ),
    (
        "capture-missing",
        "keep: [{match: {tags: {any: ['re:(?P<x>a)', b]}}, newest: 3, per: 'capture:x'}]",
        (1, 62),
        "keep: [{match: {tags: {any: ['re:(?P<x>a)']}}, newest: 3, per: 'capture:x'}]",
    ),
    ("deletes-everything", deleting("{name: all}"), (3, 10), deleting("{beyond: 3}")),
    (
        "deletes-everything",
        deleting("{match: {tags: {any: ['re:.*']}}}"),
        (3, 10),
        deleting("{untagged: {within: 7d}}"),
    ),
    (
        "delete-any",
        deleting("{match: {tags: {any: ['glob:dev-*']}}}"),
        (3, 26),
        deleting("{match: {tags: {all-of-digest: ['glob:dev-*']}}}"),
    ),
    (
        "delete-siblings",
        deleting("{match: {tags: {any-of-digest: ['glob:dev-*']}}}"),
        (3, 26),
        deleting("{match: {tags: {each-of-digest: ['glob:dev-*']}}}"),
    ),
    ("untagged-young", deleting("{untagged: {older-than: 12h}}"), (3, 11), deleting("{untagged: {older-than: 1d}}")),
    (
        "budget-without-keep",
        "delete: [{budget: {max: 1GB}}]",
        (1, 11),
        "keep: [{newest: 3}]\ndelete: [{budget: {max: 1GB}}]",
    ),
    ("default-delete-without-keep", "default: delete", (1, 1), "default: delete\nkeep: [{newest: 3}]"),
    ("redundant-delete", "default: delete\n" + QUIET, (4, 10), QUIET),
    ("deletes-nothing", "default: keep\nkeep: [{newest: 3}]", (-3, 1), QUIET),
    (
        "keep-without-effect",
        protecting("{tags: {any: ['glob:v*']}}"),
        (2, 8),
        protecting("{tags: {any: ['glob:v*']}, tagged: {within: 7d}}"),
    ),
    (
        "keep-without-effect",
        keeping("latest"),
        (2, 8),
        keeping("late"),
    ),
    (
        "delete-without-effect",
        protecting("{tags: {any: ['glob:d*']}}"),
        (3, 10),
        protecting("{tags: {any: ['glob:devel*']}}"),
    ),
    (
        "delete-without-effect",
        QUIET.replace(", newest: 3", "").replace("glob:v*", "glob:dev*"),
        (3, 10),
        QUIET.replace("glob:v*", "glob:dev*"),
    ),
    (
        "shadowed-rule",
        ordered("{keep: {match: {tags: {any: ['glob:v*']}}}}", "{delete: {match: {tags: {any: [v1]}}}}"),
        (2, 54),
        ordered("{delete: {match: {tags: {any: [v1]}}}}", "{keep: {match: {tags: {any: ['glob:v*']}}}}"),
    ),
    (
        "shadowed-rule",
        "mode: first-match\nrules: [{keep: {newest: 3}}, {delete: {match: {tags: {any: [v1]}}}}]",
        (2, 30),
        "mode: first-match\nrules: [{keep: {newest: 3}}, {delete: {untagged: {older-than: 3d}}}]",
    ),
    (
        "latest-unprotected",
        "delete: [{when: {tagged: {older-than: 7d}}}]",
        (1, 1),
        "protect: [{tags: {any: [latest]}}]\ndelete: [{when: {tagged: {older-than: 7d}}}]",
    ),
    ("latest-unprotected", "default: delete", (1, 1), "default: delete\nkeep: [{match: {tags: {any: ['glob:la*']}}}]"),
    (
        "referrers-left",
        "referrers: explicit\n" + QUIET,
        (1, 1),
        "referrers: explicit\n" + deleting("{match: {special: [signatures]}, when: {tagged: {older-than: 7d}}}"),
    ),
    ("partial-coverage", "requires: {coverage: any}", (1, 12), "requires: {coverage: per-repo}"),
    ("never-empty-off", "limits: {never-empty: false}", (1, 10), "limits: {never-empty: true}"),
    (
        "unlimited",
        "limits: {per-run: {manifests: unlimited, share-of-repo: unlimited}}",
        (1, 10),
        "limits: {per-run: {manifests: unlimited, share-of-repo: 99%}}",
    ),
    (
        "unattended",
        "apply: {approval: none}\nlimits: {per-run: {share-of-repo: 60%}}",
        (1, 9),
        "apply: {approval: none}",
    ),
    ("short-min-age", "limits: {min-age: 23h}", (1, 10), "limits: {min-age: 24h}"),
    ("short-undo", "apply: {undo: 0s}", (1, 9), "apply: {undo: 1d}"),
    ("window-never-opens", "apply: {window: 'Mon 10:00-10:00 UTC'}", (1, 9), "apply: {window: 'Mon 00:00-24:00 UTC'}"),
]


def warnings_of(body: str) -> list[tuple[str, int, int]]:
    shift = HEAD.count("\n")
    return [(one.code, one.place.line - shift, one.place.column) for one in lint(policy_of(body))]


@pytest.mark.parametrize(("code", "trap", "place", "harmless"), TRAPS)
def test_a_trap_is_warned_of_at_its_place_and_its_harmless_neighbour_is_not(code, trap, place, harmless):
    assert (code, *place) in warnings_of(trap)
    assert code not in [found for found, *_ in warnings_of(harmless)]


def test_a_policy_about_everything_is_warned_of():
    text = HEAD.replace("{repositories: {include: [team/app]}}", "{}") + QUIET
    (policy,) = parse_policies(text, name="x")
    assert [(one.code, one.place) for one in lint(policy)] == [("whole-registry", (4, 1))]


def test_single_tags_are_no_trap_where_an_image_goes_whole_or_not_at_all():
    trap = deleting("{match: {tags: {any: ['glob:dev-*']}}, when: {tagged: {older-than: 7d}}}")
    assert "delete-any" in {one.code for one in lint(policy_of(trap))}
    assert "delete-any" not in {one.code for one in lint(policy_of(f"unit: digest\n{trap}"))}


def test_every_warning_has_an_example_and_an_explanation():
    assert {code for code, *_ in TRAPS} | {"whole-registry"} == set(WARNINGS)


def test_no_warning_is_given_that_is_not_explained():
    given_codes = set()
    for path in (ROOT / "src" / "regwarden" / "core").glob("policy_lint*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                assert isinstance(node.args[0], ast.Constant)
                given_codes.add(node.args[0].value)
    assert given_codes == set(WARNINGS)


@pytest.mark.parametrize("path", ["tests/data/policies/complete.yaml", "src/regwarden/core/policy_example.yaml"])
def test_the_examples_to_follow_have_no_warning(path):
    for policy in parse_policies((ROOT / path).read_text(), name=path):
        assert lint(policy) == ()


def test_a_quiet_policy_has_no_warning():
    assert warnings_of(QUIET) == []


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(built(Policy))
def test_every_policy_can_be_checked_and_every_warning_says_something(policy):
    for warning in lint(policy):
        assert warning.code in WARNINGS
        assert warning.message

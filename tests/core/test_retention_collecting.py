from dataclasses import replace
from datetime import timedelta

import pytest

from regwarden.core.policy import Default, Inherit, Level, Referrers
from regwarden.core.retention import collect_policies, needs_of
from regwarden.errors import InputError
from tests.policies import policy_of
from tests.retention import aged, removed


def policy(name, body="", *, level=Level.GROUP, **changes):
    made = policy_of(body)
    return replace(made, metadata=replace(made.metadata, name=name), level=level, **changes)


def titles(policies):
    collected = collect_policies(policies, "prod", "team/app")
    assert collected is not None
    protections = [f"{one.policy} {one.title}" for one in collected.protections]
    return protections + [f"{one.policy} {one.title}" for one in collected.rules]


ORG = policy("org", "protect: [{tags: {any: [a]}}]\ndelete: [{name: old, beyond: 5}]\n", level=Level.ORG)
REPO = policy("repo", "protect: [{tags: {any: [b]}}]\nkeep: [{newest: 2}]\n", level=Level.REPO)


def test_rules_and_protections_of_all_levels_unite():
    assert titles([REPO, ORG]) == ["org protect[0]", "repo protect[0]", "org delete[0] (old)", "repo keep[0]"]


def test_replace_leaves_out_rules_of_less_specific_policies_and_never_protections():
    replacing = replace(REPO, inherit=Inherit.REPLACE)
    beside = policy("beside", "delete: [{}]\n", level=Level.REPO)
    assert titles([ORG, replacing, beside]) == [
        "org protect[0]",
        "repo protect[0]",
        "beside delete[0]",
        "repo keep[0]",
    ]


def test_the_default_is_that_of_the_most_specific():
    org = policy("org", "default: delete\n", level=Level.ORG)
    repo = policy("repo", "", level=Level.REPO)
    assert removed([org], aged({"x": 9})) == ["x"]
    assert removed([org, repo], aged({"x": 9})) == []


def test_two_defaults_on_one_level_are_a_mistake():
    with pytest.raises(InputError, match="policies a and b of level group have different defaults") as caught:
        collect_policies([policy("b"), policy("a", "default: delete\n")], "prod", "team/app")
    assert caught.value.code == "policy-conflict"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("scope", "is_in"),
    [
        ("{registries: [prod]}", True),
        ("{registries: ['glob:pr*']}", True),
        ("{registries: [test]}", False),
        ("{repositories: {include: ['team/*']}}", True),
        ("{repositories: {include: ['*']}}", False),
        ("{repositories: {exclude: [team/app]}}", False),
    ],
)
def test_a_policy_is_about_the_repositories_of_its_scope(scope, is_in):
    from regwarden.core.policy_reading import parse_policy

    text = f"apiVersion: retention/v1\nkind: Policy\nmetadata: {{name: x}}\nscope: {scope}\n"
    found = collect_policies([parse_policy(text, name="x.yaml")], "prod", "team/app")
    assert (found is not None) == is_in


def test_limits_requirements_and_referrers_are_the_strictest():
    one = policy("a", "limits: {min-age: 2d}\nrequires: {pull-history-min: 9d}\n", level=Level.ORG)
    other = policy("b", "limits: {min-age: 1h}\nreferrers: explicit\n", inherit=Inherit.REPLACE)
    found = collect_policies([one, other], "prod", "team/app")
    assert found is not None
    assert (found.min_age, found.pull_history) == (timedelta(days=2), timedelta(days=9))
    assert found.is_explicit
    assert other.referrers is Referrers.EXPLICIT
    assert found.default is Default.KEEP


def test_budgets_stand_apart_and_orders_stay_whole():
    budget = policy("a", "delete: [{budget: {max: 1GB}}, {beyond: 2}]\n")
    ordered = policy("b", "mode: first-match\nrules: [{keep: {newest: 1}}, {delete: {}}]\n")
    found = collect_policies([budget, ordered], "prod", "team/app")
    assert found is not None
    assert [one.path for one in found.budgets] == ["delete[0]"]
    assert [one.path for one in found.rules] == ["delete[1]"]
    assert [[one.path for one in rules] for rules in found.ordered] == [["rules[0].keep", "rules[1].delete"]]
    assert removed([budget, ordered], aged({"a": 9, "b": 10, "c": 11})) == ["c"]


@pytest.mark.parametrize(
    ("body", "labels", "pulls", "fields"),
    [
        ("delete: [{beyond: 2}]\n", False, False, set()),
        ("protect: [{labels: {x: {any: [y]}}}]\n", True, False, set()),
        ("delete: [{beyond: 2, per: 'label:x'}]\n", True, False, set()),
        ("delete: [{when: {expired: {label: x}}}]\n", True, False, set()),
        ("protect: [{pulled: {within: 3d}}]\n", False, True, set()),
        ("delete: [{when: {pulled: {older-than: 3d}}}]\n", False, True, set()),
        ("keep: [{newest: 2, rank: {by: pulled}}]\n", False, True, set()),
        ("delete: [{budget: {max: 1GB}}]\n", False, True, set()),
        ("delete: [{budget: {max: 1GB, order: rank}}]\n", False, False, set()),
        ("delete: [{match: {where: ['size > 1GB', 'created < 3d']}}]\n", False, False, {"logical_bytes", "created_at"}),
    ],
)
def test_only_facts_that_are_asked_for_are_needed(body, labels, pulls, fields):
    needs = needs_of([policy_of(body)])
    assert (needs.labels, needs.pulls, set(needs.fields)) == (labels, pulls, fields)

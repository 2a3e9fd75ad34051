from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from regwarden.core.policy import Policy
from regwarden.core.policy_description import describe, describe_protection, describe_rule
from tests.policies import built, policy_of


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("{name: all}", "Keep (all) all tags."),
        (
            "{match: {tags: {any: ['glob:dev-*', 'glob:pr-*']}}, newest: 3}",
            (
                "Keep the 3 newest of tags matching glob:dev-* or glob:pr-* in each repository, by when the tag was"
                " set, then by push."
            ),
        ),
        (
            (
                "{match: {tags: {any: ['semver:*'], none: ['glob:*-rc*']}}, newest: 1, per: semver-minor, groups: 5,"
                " rank: {by: semver, count: tags, over: candidates}}"
            ),
            (
                "Keep the highest tags for each minor version (highest 5 only) of tags matching semver:* not matching"
                " glob:*-rc* in each repository, by semantic version, counted among what would go otherwise."
            ),
        ),
        (
            "{match: {labels: {team: {any: [a]}}, where: 'size > 1GB'}, when: {pulled: {within: 36h}}}",
            "Keep all tags with label team matching a and logical_bytes > 1000000000, pulled in the last 36 hours.",
        ),
        ("{untagged: {within: 1d}}", "Keep all manifests without a tag, untagged in the last 1 day."),
    ],
)
def test_a_keep_rule_is_one_sentence(rule, sentence):
    assert describe_rule(policy_of(f"keep: [{rule}]").keep[0]) == sentence


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (
            "{match: {tags: {all-of-digest: ['glob:dev-*']}}, when: {tagged: {older-than: 7d}}}",
            "Delete tags of images all of whose tags match glob:dev-*, tagged more than 7 days ago.",
        ),
        (
            "{beyond: 10, per: [day, 'label:x']}",
            (
                "Delete all but the 10 newest for each day and each value of the label x of all tags in each"
                " repository, by when the tag was set, then by push."
            ),
        ),
        (
            "{when: {pulled: {older-than: 90d, by: [workload], methods: [GET]}}}",
            "Delete all tags, not pulled for more than 90 days by workload (with GET only).",
        ),
        (
            "{match: {tags: {any: ['glob:pr-*']}}, budget: {max: 500GiB, scope: project}}",
            (
                "Delete in the end as many tags matching glob:pr-* as needed to bring each first part of repository"
                " names down to 500GiB, what is missed least first."
            ),
        ),
    ],
)
def test_a_delete_rule_is_one_sentence(rule, sentence):
    assert describe_rule(policy_of(f"delete: [{rule}]").delete[0]) == sentence


@pytest.mark.parametrize(
    ("protection", "sentence"),
    [
        ("{tags: {any: [latest]}}", "Never delete tags matching latest."),
        ("{pinned: true}", "Never delete a tag, pinned by hand."),
        (
            "{in-use: {clusters: [eu, us]}}",
            "Never delete a tag, in use in eu or us now or in the last 14 days, with 5 earlier revisions.",
        ),
        ("{untagged: {within: 7d}}", "Never delete a manifest without a tag, untagged in the last 7 days."),
    ],
)
def test_a_protection_is_one_sentence(protection, sentence):
    assert describe_protection(policy_of(f"protect: [{protection}]").protect[0]) == sentence


def test_a_policy_says_its_scope_its_default_and_its_guards():
    first, *rest = describe(
        policy_of("default: delete\nlimits: {never-empty: false}\napply: {approval: none, undo: 0s}")
    )
    assert first == "Policy sample, for repositories matching team/app of all registries."
    assert rest == [
        "Delete everything else that is in the scope.",
        "Signatures and other referrers stay and go with what they are about.",
        "One run removes at most 1000 manifests, 50 % of a repository; more needs approval.",
        "Nothing goes that was pushed, tagged or untagged in the last 1 day.",
        "A repository may be emptied.",
        "A plan is applied without approval; it cannot be undone.",
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(built(Policy))
def test_every_policy_has_words_and_every_rule_has_its_own(policy):
    sentences = describe(policy)
    assert all(sentence.strip() and "None" not in sentence and "  " not in sentence for sentence in sentences)
    for _, rule in policy.rules_by_path():
        assert any(describe_rule(rule) in sentence for sentence in sentences)

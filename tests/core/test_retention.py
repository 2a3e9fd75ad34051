from dataclasses import replace
from datetime import UTC, datetime

import pytest

from regwarden.core.observed import Hold, LastPull
from regwarden.core.plan import GuardCode
from regwarden.core.retention_groups import branch_of
from regwarden.core.verdicts import Outcome, ReasonCode
from tests.retention import (
    aged,
    ago,
    digest_of,
    judge,
    manifest,
    removed,
    repository,
    tag,
    told,
    verdict_of,
)

TEN = aged({f"t{day}": day for day in range(1, 11)})
NO_MINIMUM = "limits: {min-age: 0s}\n"


def fixture():
    """The eleven tags of one repository with which nine tools give six different answers."""
    return repository(
        [
            tag("latest", "d1", days=1),
            tag("v1.1.1", "d1", days=1),
            tag("dev-5", "d2", days=3),
            tag("v1.1.0", "d3", days=20),
            tag("v1.0.1", "d4", days=40),
            tag("v1.0.0", "d5", days=60),
            tag("pr-7", "d5", days=10),
            tag("dev-4", "d6", days=8),
            tag("dev-3", "d7", days=12),
            tag("dev-2", "d8", days=45),
            tag("dev-1", "d9", days=50),
        ],
        [manifest("d6", days=8, pulled=3), manifest("d5", days=60)],
    )


NATURAL = """
protect: [{tags: {any: [latest, "semver:*"]}}]
keep:
- match: {tags: {any: ["glob:dev-*", "glob:pr-*"]}}
  newest: 3
delete:
- match: {tags: {any: ["glob:dev-*", "glob:pr-*"]}}
  when: {tagged: {older-than: 7d}}
"""


def test_the_natural_policy_for_ci_builds_deletes_the_three_old_ones():
    assert removed(NATURAL, fixture()) == ["dev-1", "dev-2", "dev-3"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ('any: ["glob:dev-*", "glob:pr-*"]}}\n  when', 'all-of-digest: ["glob:dev-*", "glob:pr-*"]}}\n  when'),
            ["dev-1", "dev-2", "dev-3"],
        ),
        (("newest: 3", "newest: 3\n  rank: {over: candidates}"), ["dev-1", "dev-2"]),
        (("newest: 3", "newest: 3\n  rank: {by: pushed}"), ["dev-1", "dev-2", "pr-7"]),
        (("newest: 3", "newest: 1"), ["dev-1", "dev-2", "dev-3", "dev-4", "pr-7"]),
        (("older-than: 7d", "older-than: 11d"), ["dev-1", "dev-2", "dev-3"]),
        (("protect:", "protect: [{pulled: {within: 30d}}]\n# "), ["dev-1", "dev-2"]),
    ],
)
def test_variations_of_the_fixture(change, expected):
    assert removed(NATURAL.replace(*change), fixture()) == expected


@pytest.mark.parametrize(
    ("over", "expected"),
    [("matched", ["t10", "t6", "t7", "t8", "t9"]), ("candidates", ["t10", "t9"])],
)
def test_keep_three_and_delete_older_than_five_days_has_two_meanings(over, expected):
    body = f"keep: [{{newest: 3, rank: {{over: {over}}}}}]\ndelete: [{{when: {{tagged: {{older-than: 5d}}}}}}]\n"
    assert removed(body, TEN) == expected


@pytest.mark.parametrize(("over", "expected"), [("matched", 5), ("candidates", 2)])
def test_a_delete_rule_beyond_three_has_the_same_two_meanings(over, expected):
    body = f"delete: [{{beyond: 3, rank: {{over: {over}}}, when: {{tagged: {{older-than: 5d}}}}}}]\n"
    assert len(removed(body, TEN)) == expected


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ('any: ["glob:a-*"]', ["a-1", "a-2"]),
        ('all: ["glob:a-*", "glob:*-1"]', ["a-1"]),
        ('none: ["glob:a-*"]', ["b-1", "c"]),
        ('all-of-digest: ["glob:a-*"]', ["a-1"]),
        ('any-of-digest: ["glob:a-*"]', ["a-1", "a-2", "b-1"]),
        ('each-of-digest: ["glob:a-*", "glob:b-*"]', ["a-2", "b-1"]),
        ('none-of-digest: ["glob:a-*"]', ["c"]),
        ('any: ["glob:a-*"], none-of-digest: ["glob:b-*"]', ["a-1"]),
    ],
)
def test_lists_of_patterns_say_what_they_mean(clause, expected):
    observed = repository([tag("a-1"), tag("a-2", "x"), tag("b-1", "x"), tag("c")])
    assert removed(f"delete: [{{match: {{tags: {{{clause}}}}}}}]\n", observed) == expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("labels: {stage: {any: [test]}}", ["labelled"]),
        ("labels: {stage: {none: [test]}}", ["other", "plain"]),
        ('artifact-types: {any: ["glob:app/**"]}', ["other"]),
        ('artifact-types: {none: ["glob:**"]}', ["labelled", "plain", "unlabelled"]),
        ('media-types: {any: ["glob:**+json"]}', ["labelled", "other", "plain", "unlabelled"]),
        ('where: "tag ~ glob:*labelled"', ["labelled", "unlabelled"]),
        ('where: "size > 1GB"', ["plain"]),
        ("repositories: {include: [team/app]}", ["labelled", "other", "plain", "unlabelled"]),
        ("repositories: {exclude: [team/app]}", []),
    ],
)
def test_a_delete_rule_takes_only_what_certainly_matches(match, expected):
    def named(name, **fields):
        return tag(name, fields={"tag": name, **fields})

    observed = repository(
        [
            named("labelled", logical_bytes=1),
            named("unlabelled"),
            named("plain", logical_bytes=2 * 10**9),
            named("other"),
        ],
        [
            manifest("labelled")._replace(labels={"stage": "test"}),
            manifest("unlabelled")._replace(labels=None),
            manifest("other", artifact_type="app/x"),
        ],
    )
    assert removed(f"delete: [{{match: {{{match}}}}}]\n", observed) == expected


def test_what_is_not_known_is_kept_by_keep_rules_and_protections():
    observed = repository([tag("a")], [manifest("a")._replace(labels=None)])
    for rule in ("keep: [{match: {labels: {x: {any: [y]}}}}]\n", "protect: [{labels: {x: {any: [y]}}}]\n"):
        assert removed(rule + "default: delete\n", observed) == []
        assert removed(rule + "default: delete\n", repository([tag("a")])) == ["a"]


@pytest.mark.parametrize(
    ("condition", "sure", "at_latest"),
    [
        ("{older-than: 5d}", ["t10"], ["t10"]),
        ("{within: 5d}", ["t2"], []),
        ("{within: 20d, older-than: 5d}", ["t10"], []),
    ],
)
def test_a_time_known_at_latest_is_old_for_certain_and_young_perhaps(condition, sure, at_latest):
    body = f"delete: [{{when: {{tagged: {condition}}}}}]\n"
    for is_exact, expected in ((True, sure), (False, at_latest)):
        observed = repository([tag("t2", days=2, exact=is_exact), tag("t10", days=10, exact=is_exact)])
        assert removed(body, observed) == expected


@pytest.mark.parametrize(
    ("created", "expected"),
    [(ago(20), ["a"]), (ago(2), []), (None, []), (datetime(1970, 1, 1, tzinfo=UTC), []), (ago(-1), [])],
)
def test_a_build_time_that_cannot_be_is_unknown(created, expected):
    observed = repository([tag("a")], [manifest("a", created_at=created)])
    assert removed("delete: [{when: {created: {older-than: 10d}}}]\n", observed) == expected


@pytest.mark.parametrize(
    ("pulls", "events", "expected"),
    [
        ((), 365, ["a"]),  # never pulled: counts from its push
        ((), 29, []),  # it may have been pulled before
        ((), None, []),
        ((("workload", "GET", 3),), 365, []),
        ((("workload", "HEAD", 3),), 365, []),
        ((("scanner", "GET", 3),), 365, ["a"]),
        ((("workload", "GET", 40),), 365, ["a"]),
        ((("workload", "GET", 40),), 29, []),
    ],
)
def test_pulls_count_by_class_and_only_what_was_recorded_is_known(pulls, events, expected):
    found = tuple(LastPull(ago(days), who, method) for who, method, days in pulls)
    observed = repository([tag("a")], [manifest("a")._replace(pulls=found)])
    body = "delete: [{when: {pulled: {older-than: 30d}}}]\n"
    assert removed(body, observed, events=events) == expected
    protected = "default: delete\nprotect: [{pulled: {within: 30d}}]\n"
    assert removed(protected, observed, events=events) == expected


def test_methods_of_pulls_can_be_chosen():
    observed = repository([tag("a")], [manifest("a")._replace(pulls=(LastPull(ago(3), "workload", "HEAD"),))])
    assert removed("delete: [{when: {pulled: {older-than: 30d, methods: [GET]}}}]\n", observed) == ["a"]


def test_pulls_are_unknown_until_they_were_recorded_for_as_long_as_the_policy_asks():
    body = "delete: [{when: {pulled: {older-than: 30d}}}]\n"
    observed = repository([tag("a")])
    assert removed(body + "requires: {pull-history-min: 60d}\n", observed, events=59) == []
    assert removed(body + "requires: {pull-history-min: 60d}\n", observed, events=61) == ["a"]
    assert told("a", body + "requires: {pull-history-min: 60d}\n", observed, events=59) == [
        (
            "default-keep: delete[0]: whether it was pulled is not known before 2026-11-22 12:00 UTC, "
            "the rule wants older than 30 days"
        )
    ]


def test_what_was_pushed_or_tagged_after_its_last_pull_counts_from_then():
    observed = repository([tag("a", days=2)], [manifest("a", pulled=60)])
    assert removed("delete: [{when: {pulled: {older-than: 30d}}}]\n", observed) == []


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("2w", ["a"]),
        ("101d", []),
        ("2026-11-20", ["a"]),
        ("2026-11-21", []),  # it lives through that day
        ("2026-11-21T11:00:00Z", ["a"]),
        ("soon", []),
        ("9" * 30 + "d", []),
        (None, []),
    ],
)
def test_a_label_says_when_an_image_expires(label, expected):
    labels = {"quay.expires-after": label} if label is not None else {}
    observed = repository([tag("a")], [manifest("a")._replace(labels=labels)])
    assert removed("delete: [{when: {expired: {label: quay.expires-after}}}]\n", observed) == expected


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("newest: 1, per: semver-major, rank: {by: semver}", ["1.5.0", "2.0.1", "main", "x-9"]),
        ("newest: 1, per: semver-minor, rank: {by: semver}", ["1.4.2", "1.5.0", "2.0.1", "main", "x-9"]),
        (
            "newest: 2, per: semver-minor, rank: {by: semver}",
            ["1.4.1", "1.4.2", "1.5.0", "2.0.1", "2.0.1-rc.1", "main", "x-9"],
        ),
        ("newest: 1, per: semver-minor, groups: 1, rank: {by: semver}", ["2.0.1", "main", "x-9"]),
        ("newest: 1, rank: {by: version}", ["x-9"]),
        ("newest: 1, per: branch", ["1.4.1", "2.0.1", "2.0.1-rc.1", "main", "x-9"]),
    ],
)
def test_the_newest_are_counted_in_each_group(rule, kept):
    days = {"1.4.1": 10, "1.4.2": 20, "1.5.0": 30, "2.0.1": 40, "2.0.1-rc.1": 50, "main": 60, "x-9": 70}
    going = removed(f"default: delete\nkeep: [{{{rule}}}]\n", aged(days))
    assert sorted(days.keys() - set(going)) == kept


@pytest.mark.parametrize(
    ("per", "kept"),
    [
        ("day", ["a", "b", "c", "d", "e"]),
        ("week", ["a", "d", "e"]),  # of ISO 8601: 1 January 2023 is a Sunday and belongs to the last week of 2022
        ("month", ["a", "d", "e"]),
        ("year", ["a", "e"]),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(per, kept):
    moments = {
        "a": datetime(2023, 1, 1, 0, 0, tzinfo=UTC),
        "b": datetime(2022, 12, 31, 23, 59, 59, tzinfo=UTC),
        "c": datetime(2022, 12, 26, tzinfo=UTC),
        "d": datetime(2022, 12, 25, 23, 59, tzinfo=UTC),
        "e": datetime(2021, 11, 30, tzinfo=UTC),
    }
    kept = {"month": ["a", "b", "e"], "year": ["a", "b", "e"]}.get(per, kept)
    observed = repository(tag(name)._replace(tagged_at=at) for name, at in moments.items())
    going = removed(f"default: delete\nkeep: [{{newest: 1, per: {per}}}]\n", observed)
    assert sorted(moments.keys() - set(going)) == kept


def test_groups_by_capture_and_label_leave_what_is_in_none():
    observed = repository(
        [tag("dev-1", days=5), tag("dev-2", days=4), tag("pr-1", days=3), tag("pr-2", days=2), tag("old", days=50)],
        [manifest("dev-1")._replace(labels={"team": "a"}), manifest("pr-1")._replace(labels={"team": "a"})],
    )
    by_capture = "match: {tags: {any: ['re:(?P<kind>dev|pr)-.*', old]}}, beyond: 1, per: 'capture:kind'"
    assert removed(f"delete: [{{{by_capture}}}]\n", observed) == ["dev-1", "pr-1"]
    assert removed("delete: [{beyond: 1, per: 'label:team'}]\n", observed) == ["dev-1"]


def test_several_groupings_make_a_group_for_each_combination():
    days = {"dev-1.0": 1.5, "dev-1.1": 2.5, "dev-1.2": 40, "pr-1.0": 3, "pr-1.1": 41}
    body = "delete: [{match: {tags: {any: ['re:(?P<kind>dev|pr)-.*']}}, beyond: 1, per: ['capture:kind', month]}]\n"
    assert removed(body, aged(days)) == ["dev-1.1"]


@pytest.mark.parametrize(("count", "kept"), [("digests", ["a1", "a2", "b"]), ("tags", ["a1", "b"])])
def test_tags_of_one_image_count_once_unless_tags_are_counted(count, kept):
    observed = repository(
        [tag("a1", "a", days=2), tag("b", days=3), tag("a2", "a", days=4), tag("c", days=5), tag("d", days=6)]
    )
    going = removed(f"default: delete\nkeep: [{{newest: 2, rank: {{count: {count}}}}}]\n", observed)
    assert sorted({"a1", "a2", "b", "c", "d"} - set(going)) == kept


def test_ties_break_by_digest_then_by_tag():
    observed = repository([tag("x", "2"), tag("a", "1"), tag("b", "1"), tag("c", "3")])
    order = sorted({entry.digest for entry in observed.tags if entry.digest})
    first = next(entry.name for entry in sorted(observed.tags) if entry.digest == order[0])
    going = removed("default: delete\nkeep: [{newest: 1, rank: {count: tags}}]\n", observed)
    assert sorted({"x", "a", "b", "c"} - set(going)) == [first]


def test_what_has_no_value_of_the_first_key_is_kept_and_takes_no_place():
    observed = repository(
        [tag("known"), tag("older"), tag("undated")],
        [manifest("known", created_at=ago(20)), manifest("older", created_at=ago(30)), manifest("undated")],
    )
    assert removed("default: delete\nkeep: [{newest: 1, rank: {by: created}}]\n", observed) == ["older"]
    assert removed("delete: [{beyond: 1, rank: {by: created}}]\n", observed) == ["older"]


def test_what_lacks_a_later_key_is_kept_and_costs_no_other_its_place():
    dated = {"a": ago(20), "b": ago(30), "c": None}
    observed = repository([tag(name) for name in dated], [manifest(name, created_at=at) for name, at in dated.items()])
    assert removed("default: delete\nkeep: [{newest: 1, rank: {by: [pushed, created]}}]\n", observed) == ["b"]


def test_last_use_ranks_only_since_pulls_are_known():
    observed = repository(
        [tag("a"), tag("b"), tag("c")], [manifest("a", pulled=3), manifest("b", pulled=5), manifest("c")]
    )
    body = "default: delete\nkeep: [{newest: 1, rank: {by: pulled}}]\n"
    assert removed(body, observed) == ["b", "c"]
    assert removed(body, observed, events=50) == ["b"]
    assert removed(body, observed, events=None) == []


def test_special_tags_are_never_counted_and_only_taken_where_named():
    stem = digest_of("a").replace(":", "-")
    observed = repository([tag("a", days=50), tag(f"{stem}.sig", days=2), tag(stem, days=2), tag("b", days=60)])
    assert removed("default: delete\nkeep: [{newest: 1}]\n", observed) == ["b"]
    assert removed("delete: [{match: {special: [signatures]}, when: {tagged: {older-than: 55d}}}]\n", observed) == ["b"]
    assert removed("delete: [{match: {special: [signatures]}}]\n", observed) == ["a", "b", f"{stem}.sig"]
    assert told(stem, "default: delete\n", observed) == [
        "special: fallback-tags are taken only by rules that name them"
    ]


def test_untagged_manifests_are_judged_by_rules_about_them():
    lost = manifest("lost")._replace(untagged_since=ago(20), is_untagged_exact=True)
    fresh = manifest("fresh")._replace(untagged_since=ago(2), is_untagged_exact=True)
    unknown = manifest("unknown")
    observed = repository([tag("a")], [lost, fresh, unknown])
    body = "delete: [{untagged: {older-than: 7d}}]\n"
    assert removed(body, observed) == [lost.digest]
    assert removed("delete: [{when: {tagged: {older-than: 7d}}}]\n", observed) == ["a"]
    assert removed("protect: [{pulled: {within: 30d}}]\n" + body, observed, events=None) == []
    assert removed('protect: [{tags: {none: ["glob:x*"]}}]\n' + body, observed) == [lost.digest]
    assert sorted(removed("default: delete\n", observed)) == sorted(["a", lost.digest, fresh.digest])
    assert told(unknown.digest, "default: delete\n", observed)[0] == "minimum-age: when it was untagged is not known"


def test_counted_rules_about_untagged_manifests_rank_by_push():
    lost = [manifest(name, days=days, untagged_since=ago(30)) for name, days in (("n", 40), ("o", 50), ("p", 60))]
    observed = repository([], lost)
    expected = sorted([digest_of("o"), digest_of("p")])
    assert removed("delete: [{untagged: {older-than: 7d}, beyond: 1}]\n", observed) == expected


def index(name, *children, **changes):
    return manifest(name, is_index=True, children=tuple(digest_of(one) for one in children), **changes)


def test_children_and_following_referrers_are_no_roots():
    referrer = manifest("sbom", subject=digest_of("a"), artifact_type="application/spdx+json", untagged_since=ago(90))
    orphan = manifest("orphan", subject=digest_of("gone"), untagged_since=ago(90))
    inner = index("inner", "amd64")
    observed = repository([tag("a")], [index("a", "inner"), inner, manifest("amd64"), referrer, orphan])
    body = "delete: [{untagged: {older-than: 7d}}, {match: {special: [sboms]}, untagged: {older-than: 60d}}]\n"
    assert [one.digest for one in judge(body, observed).verdicts] == [digest_of("a"), orphan.digest]
    explicit = body + "referrers: explicit\n"
    assert len(judge(explicit, observed).verdicts) == 3
    assert removed(explicit, observed) == sorted([referrer.digest, orphan.digest])
    assert removed(explicit.replace("[sboms]", "[signatures]"), observed) == [orphan.digest]


@pytest.mark.parametrize(
    ("hold", "stays"),
    [
        ({}, ["a", "b", "c"]),
        ({"tag": "b"}, ["b"]),
        ({"digest": digest_of("c")}, ["c"]),
        ({"digest": digest_of("child")}, ["a"]),
        ({"digest": digest_of("signature")}, ["a"]),
        ({"tag": "b", "until": ago(-1)}, ["b"]),
        ({"tag": "b", "until": ago(1)}, []),
        ({"repository": "glob:team/*"}, ["a", "b", "c"]),
        ({"repository": "team/other"}, []),
        ({"repository": "["}, ["a", "b", "c"]),
        ({"registry": "other"}, []),
    ],
)
def test_what_somebody_holds_stays(hold, stays):
    held = Hold(**{"id": 1, "registry": "prod", "repository": "team/app", "by": "ana", "reason": "audit", **hold})
    observed = repository(
        [tag("a"), tag("b"), tag("c")],
        [
            index("a", "middle"),
            index("middle", "child"),
            manifest("child"),
            manifest("signature", subject=digest_of("middle")),
        ],
    )
    going = removed("default: delete\n", observed, holds=[held])
    assert sorted({"a", "b", "c"} - set(going)) == stays
    if stays:
        assert told(stays[0], "default: delete\n", observed, holds=[held])[0].startswith(
            "protected: hold 1: held by ana"
        )


def test_protections_of_what_is_in_use_hold_all_while_no_cluster_reports():
    body = "default: delete\nprotect: [{in-use: {}, tags: {any: [a]}}]\n"
    assert removed(body, aged({"a": 50, "b": 50})) == ["b"]
    assert told("a", body, aged({"a": 50})) == ["protected: protect[0]: what clusters run is not known"]


def test_pinned_alone_protects_what_is_held_and_nothing_else():
    body = "default: delete\nprotect: [{pinned: true}]\n"
    assert removed(body, aged({"a": 50})) == ["a"]


@pytest.mark.parametrize(
    "young",
    [
        {"tags": [tag("a", days=0.5)], "manifests": [manifest("a")]},
        {"tags": [tag("a", days=0.5, exact=False)], "manifests": [manifest("a")]},
        {"tags": [tag("a")], "manifests": [manifest("a", days=0.5)]},
        {"tags": [tag("a")], "manifests": [manifest("a", last_pushed_at=ago(0.5))]},
        {"tags": [], "manifests": [manifest("a", untagged_since=ago(0.5))]},
    ],
)
def test_nothing_goes_that_arrived_within_the_minimum_age(young):
    observed = repository(young["tags"], young["manifests"])
    [verdict] = judge("default: delete\n", observed).verdicts
    assert verdict.outcome is Outcome.KEEP
    assert verdict.reasons[0].code is ReasonCode.MINIMUM_AGE
    assert "12 hours ago, nothing goes before 1 day" in verdict.reasons[0].detail
    assert verdict.reasons[1].code is ReasonCode.DEFAULT_DELETE
    assert len(removed("default: delete\n", observed, waived=frozenset({GuardCode.MIN_AGE}))) == 1
    assert len(removed("default: delete\nlimits: {min-age: 6h}\n", observed)) == 1


def test_a_repository_that_was_not_read_completely_is_undecided():
    observed = repository([tag("a")], doubt="the listing ended early")
    verdict = verdict_of("a", "default: delete\n", observed)
    assert (verdict.outcome, verdict.reasons[0].code) == (Outcome.UNDECIDED, ReasonCode.DOUBTFUL)
    unread = repository([tag("a"), tag("b")], [manifest("b")._replace(is_read=False)])
    codes = [one.reasons[0].code for one in judge("default: delete\n", unread).verdicts]
    assert codes == [ReasonCode.DOUBTFUL, ReasonCode.UNREADABLE]
    assert removed("default: delete\n", repository([tag("a"), tag("b", state="unreadable")])) == []


def test_a_tag_without_its_manifest_is_undecided_and_others_are_not():
    observed = repository([tag("a"), tag("b"), tag("c", state="dangling")])
    lost = tag("gone", state="dangling")
    nowhere = tag("nowhere")._replace(digest=None, state="dangling")
    observed = replace(observed, tags=(*observed.tags, lost, nowhere))
    assert removed("default: delete\n", observed) == ["a", "b"]
    for name in ("gone", "nowhere", "c"):
        assert verdict_of(name, "default: delete\n", observed).outcome is Outcome.UNDECIDED


FIRST = """
mode: first-match
rules:
- keep: {match: {tags: {any: ["glob:v*"]}}, newest: 1}
- delete: {match: {tags: {any: ["glob:dev-*"]}}, when: {tagged: {older-than: 7d}}}
- delete: {match: {tags: {any: ["glob:*"]}}, beyond: 2}
"""


def test_in_first_match_the_first_rule_that_selects_a_tag_alone_decides():
    observed = aged({"v1": 9, "v2": 8, "dev-1": 10, "dev-2": 5, "x": 2, "y": 20, "z": 30})
    assert removed(FIRST, observed) == ["dev-1", "y", "z"]
    assert removed(FIRST + "default: delete\n", observed) == ["dev-1", "v1", "y", "z"]
    assert told("dev-2", FIRST, observed) == [
        "claimed: rules[1].delete: tagged 5 days ago, the rule wants older than 7 days"
    ]
    assert told("x", FIRST, observed) == ["claimed: rules[2].delete: 1st newest of 2 kept"]


def test_in_first_match_what_a_rule_may_select_goes_to_no_later_rule():
    observed = repository([tag("a")], [manifest("a")._replace(labels=None)])
    body = "mode: first-match\nrules:\n- delete: {match: {labels: {x: {any: [y]}}}}\n- delete: {}\n"
    assert removed(body, observed) == []
    assert removed(body, repository([tag("a")])) == ["a"]
    keep = "{match: {labels: {x: {any: [y]}}}, when: {tagged: {within: 1d}}}"
    assert removed(f"default: delete\nmode: first-match\nrules: [{{keep: {keep}}}]\n", observed) == []


def test_in_first_match_counting_still_sees_what_earlier_rules_have_claimed():
    observed = aged({"v1": 2, "v2": 3, "a": 4, "b": 5})
    body = 'mode: first-match\nrules:\n- keep: {match: {tags: {any: ["glob:v*"]}}}\n- delete: {beyond: 3}\n'
    assert removed(body, observed) == ["b"]
    assert removed(body.replace("beyond: 3", "beyond: 3, rank: {over: candidates}"), observed) == []


def test_reasons_are_told_for_people():
    body = """
keep: [{name: last, match: {tags: {any: ["semver:*"]}}, newest: 2, per: semver-minor, rank: {by: semver}}]
delete: [{name: old, when: {tagged: {older-than: 7d}}}, {match: {tags: {any: ["glob:1.*"]}}, beyond: 1}]
"""
    observed = aged({"1.4.0": 50, "1.4.1": 40, "1.4.2": 3, "main": 3})
    assert told("1.4.1", body, observed) == ["kept: keep[0] (last): 2nd highest of 2 kept in group 1.4"]
    assert told("1.4.0", body, observed) == [
        "deleted: delete[0] (old): tagged 50 days ago",
        "deleted: delete[1]: 3rd newest, 1 are kept",
    ]
    assert told("main", body, observed) == [
        "default-keep: delete[0] (old): tagged 3 days ago, the rule wants older than 7 days"
    ]
    assert told("a", "keep: []\n", aged({"a": 1})) == ["default-keep: no rule speaks about it"]
    assert told("a", "delete: [{beyond: 2}]\n", aged({"a": 1})) == ["spared: delete[0]: 1st newest of 2 kept"]


def test_without_details_outcomes_and_rules_are_the_same():
    for body in (NATURAL, FIRST, "default: delete\n"):
        with_details, without = judge(body, fixture()), judge(body, fixture(), with_details=False)
        for one, other in zip(with_details.verdicts, without.verdicts, strict=True):
            assert one[:3] == other[:3]
            assert one.reasons[0].code is other.reasons[0].code


def test_times_compare_as_conditions_do_where_a_clock_is_known_at_latest():
    observed = repository(
        [
            tag("a", days=10, exact=False)._replace(fields={"tagged_at": ago(10)}),
            tag("b", days=10)._replace(fields={"tagged_at": ago(10)}),
        ]
    )
    assert removed('delete: [{match: {where: "tagged > 5d"}}]\n', observed) == ["a", "b"]
    assert removed('delete: [{match: {where: "tagged < 20d"}}]\n', observed) == ["b"]


def test_conditions_on_pulls_know_since_when_pulls_are_known():
    observed = repository([tag("a", fields={"pulled_at": None})])
    body = 'delete: [{match: {where: "pulled > 30d"}}]\n'
    assert removed(body, observed, events=40) == ["a"]
    assert removed(body, observed, events=20) == []
    assert removed(body + "requires: {pull-history-min: 50d}\n", observed, events=40) == []


def test_a_group_that_may_be_newer_than_is_known_is_none_of_the_older_ones():
    dated = {"1.0.0": 30, "1.0.1": 20, "2.0.0": 25}
    body = "default: delete\nkeep: [{newest: 2, per: semver-major, groups: 1, rank: {by: created}}]\n"

    def going(**changes):
        made = [manifest(name, created_at=ago(days)) for name, days in dated.items()]
        changed = [one._replace(**changes) if one.digest == digest_of("1.0.1") else one for one in made]
        return removed(body, repository([tag(name) for name in dated], changed))

    assert going() == ["2.0.0"]
    assert going(created_at=None) == []


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("main", "main"),
        ("main-20240131-0123abc", "main"),
        ("feature_x-2024-01-31", "feature_x"),
        ("release-1.2.3", "release"),
        ("build-20240131T1200Z", "build"),
        ("fix-12ab", "fix-12ab"),
        ("1234567", "1234567"),
        ("-1", "-1"),
    ],
)
def test_a_branch_is_the_beginning_of_a_tag_without_what_builds_append(name, branch):
    assert branch_of(name) == branch

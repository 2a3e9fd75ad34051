"""Are the differences between GitLab's figures and ours told in words, and only those that are known?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regwarden.core.gitlab_sizes import SizeFacts, SizeScope, difference_of, explain_sizes, meaning_of
from regwarden.core.grouping import GroupBy, Membership, check_depth, group_of, parse_group_by
from regwarden.core.projects import Features
from regwarden.errors import InputError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def told(**facts) -> str:
    return " ".join(explain_sizes(SizeFacts(**{"scope": SizeScope.REPOSITORY, **facts})))


def test_equal_figures_are_said_to_be_equal_and_what_is_not_counted_is_named():
    text = told(gitlab_bytes=1_000, layer_bytes=1_000, stored_bytes=1_024 + 1_000)
    assert "both are the same" in text
    assert "configurations and manifests: 1.00 KiB" in text


def test_an_old_figure_an_estimate_and_what_was_not_read_explain_a_difference():
    facts = {"gitlab_bytes": 1_500, "layer_bytes": 1_000}
    assert "tags changed at 2026-03-01" in told(**facts, sized_at=NOW - timedelta(hours=1), changed_at=NOW)
    assert "counts untagged layers too" in told(**facts, precision="untagged")
    assert "counts untagged layers too" in told(**facts, is_estimated=True)
    assert "too small" in told(**facts, is_whole=False)
    assert "Nothing here explains" in told(**facts, sized_at=NOW, changed_at=NOW)
    assert "up to a week" in told(**facts, scope=SizeScope.NAMESPACE)
    assert difference_of(SizeFacts(scope=SizeScope.PROJECT, gitlab_bytes=1_500, layer_bytes=1_000)) == 500
    assert difference_of(SizeFacts(scope=SizeScope.PROJECT)) is None


def test_a_registry_without_the_metadata_database_has_no_figure():
    assert "no metadata database" in told(features=Features.FILES, layer_bytes=1)
    assert "it may not tell us" in told(features=Features.DATABASE)
    assert meaning_of(SizeFacts(scope=SizeScope.PROJECT)) == ""


def test_wider_scopes_say_how_far_content_counts_once():
    text = told(scope=SizeScope.NAMESPACE, repository_count=2, gitlab_bytes=1, layer_bytes=1)
    assert "add up to more" in text
    assert "all together are more than the disk holds" in text
    facts = SizeFacts(scope=SizeScope.NAMESPACE, gitlab_bytes=1, is_estimated=True)
    assert meaning_of(facts) == "all layers, tagged or not, once in the namespace"


def test_groups_are_cut_to_their_first_parts():
    member = Membership("team/sub/tool/web", "team/sub/tool", "team/sub", "ann, bob")
    assert group_of(member, GroupBy.PROJECT) == "team/sub/tool"
    assert group_of(member, GroupBy.OWNER) == "ann, bob"
    assert [group_of(member, GroupBy.GROUP, depth) for depth in (None, 1, 9)] == ["team/sub", "team", "team/sub"]
    assert group_of(member, GroupBy.PATH, 2) == "team/sub"
    assert [group_of(Membership("app"), by) for by in GroupBy] == [None, None, None, "app"]
    assert check_depth(GroupBy.PATH, None) == 1
    assert check_depth(GroupBy.GROUP, None) is None


@pytest.mark.parametrize(("by", "depth"), [("project", 1), ("owner", 2), ("group", 0), ("path", 65)])
def test_a_depth_that_makes_no_sense_is_refused(by: str, depth: int):
    with pytest.raises(InputError):
        check_depth(parse_group_by(by), depth)
    with pytest.raises(InputError):
        parse_group_by("colour")

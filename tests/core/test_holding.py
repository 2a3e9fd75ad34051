"""What do people hold?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from regwarden.core.holding import Held, describe_hold, holds_on
from regwarden.core.observed import Hold
from tests.observed import NOW, digest_of


def held(**more) -> Held:
    facts: dict[str, Any] = {"id": 1, "registry": "prod", "repository": "team/app"}
    hold = Hold(**(facts | more))
    return holds_on([hold], "prod", "team/app", NOW)


def test_a_hold_on_a_repository_holds_everything_in_it():
    assert held().find("a", None) is not None
    assert held().find("", digest_of(1)) is not None


def test_a_hold_on_a_tag_or_digest_holds_just_that():
    assert held(tag="a").find("a", digest_of(1)) is not None
    assert held(tag="a").find("b", digest_of(1)) is None
    assert held(digest=digest_of(1)).find("b", digest_of(1)) is not None
    assert held(digest=digest_of(1)).find("b", digest_of(2)) is None


@pytest.mark.parametrize(
    ("more", "is_held"),
    [
        ({"registry": "other"}, False),
        ({"repository": "team/app2"}, False),
        ({"repository": "team/*"}, True),
        ({"repository": "team/**"}, True),
        ({"repository": "*"}, False),
        ({"repository": "re:team.app"}, True),
        ({"repository": "~^team"}, True),
        ({"repository": "start:team"}, True),
        ({"repository": "re:other"}, False),
        ({"repository": "glob:["}, True),  # it cannot be read, so it may mean any
        ({"until": NOW}, False),
        ({"until": NOW + timedelta(seconds=1)}, True),
    ],
)
def test_a_hold_is_about_its_repositories_until_its_end(more, is_held):
    assert (held(**more).find("a", None) is not None) is is_held


def test_a_hold_is_told_with_who_until_when_and_why():
    hold = Hold(id=1, registry="prod", repository="a", until=NOW, reason="audit", by="alice")
    assert describe_hold(hold) == "held by alice until 2026-03-04 12:00 UTC: audit"
    assert describe_hold(Hold(id=1, registry="prod", repository="a")) == "held"

"""Everything that a pattern can match lies in reach, or it does not count."""

from __future__ import annotations

import pytest

from regwarden.core.access import EVERYTHING, Area, Reach
from regwarden.core.pattern_reach import has_pattern
from regwarden.core.patterns import parse_pattern


def reach(*repositories: str, registries: tuple[str, ...] = ("prod",)) -> Reach:
    return Reach((Area(tuple(map(parse_pattern, registries)), tuple(map(parse_pattern, repositories))),))


@pytest.mark.parametrize(
    ("granted", "asked", "is_inside"),
    [
        (EVERYTHING, "glob:**", True),
        (reach(), "glob:**", True),
        (Reach(), "team/app", False),
        (reach("glob:team/**"), "team/app", True),
        (reach("glob:team/**"), "glob:team/**", True),
        (reach("glob:team/**"), "glob:team/app/*", True),
        (reach("glob:team/**"), "re:team/(a|b)", False),  # it begins so, but that is not seen
        (reach("glob:team/**"), "re:team/a.*", True),
        (reach("glob:team/**"), "glob:team*", False),
        (reach("glob:team/**"), "glob:**", False),
        (reach("glob:team/**"), "~team/", False),
        (reach("glob:t*/**"), "glob:t*/x", False),
        (reach("glob:team**"), "glob:team/x*", False),
        (reach("glob:team/*"), "glob:team/a*", False),
        (reach("re:team/.*"), "re:team/.*", True),
        (reach("team/app", "team/web"), "glob:team/{app,web}", False),
        (reach("glob:**"), "glob:x*", True),
    ],
)
def test_only_what_is_certain_counts(granted, asked, is_inside):
    assert has_pattern(granted, "prod", parse_pattern(asked)) is is_inside
    assert not (granted is not EVERYTHING and has_pattern(granted, "other", parse_pattern(asked)))

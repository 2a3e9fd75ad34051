"""Does a rule's ``match`` select a tag or manifest: true, false, or unknown because a fact is missing?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from regwarden.core.ages import AgeUnit, age
from regwarden.core.conditions import Condition, FieldValue, Operator
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import Pattern, PatternSet
from regwarden.core.policy_matching import Match, RepositoryMatch, TagMatch, TextMatch
from regwarden.core.retention_clocks import FIRST_BELIEVED, Test
from regwarden.core.retention_roots import Root, Surroundings

Check = Callable[[Root], bool | None]

TAG_FIELDS: Final = frozenset({"tag", "tagged_at", "published_at", "location", "destroy_path", "is_protected", "state"})
"""Fields that only tags have: a condition on one of them is about no untagged manifest."""

_MAX_REMEMBERED: Final = 200_000
_MOMENT: Final = timedelta(microseconds=1)
_MANIFEST_FIELDS: Final = frozenset(
    {"digest", "media_type", "artifact_type", "is_index", "logical_bytes", "created_at"}
)
_BUILD_FIELDS: Final = frozenset({"created_at", *(f"age_{unit}" for unit in AgeUnit)})
_PULL_FIELDS: Final = frozenset({"pulled_at", "fetched_at", "checked_at"})


class Names(dict[str, bool]):
    """Whether names match any of some patterns; asked once for each name, for the same tags stand in many places."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        super().__init__()
        self._exact = frozenset(one.exact for one in patterns if one.exact is not None)
        self._others = tuple(one.matches for one in patterns if one.exact is None)

    def __missing__(self, name: str) -> bool:
        """Find it out."""
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        is_match = name in self._exact
        for matches in self._others:
            is_match = is_match or matches(name)
        self[name] = is_match
        return is_match


@lru_cache(maxsize=2000)
def names_matching(patterns: tuple[Pattern, ...]) -> Names:
    """The names that match any of the patterns."""
    return Names(patterns)


def matches_repository(match: RepositoryMatch | None, name: str) -> bool:
    """Whether a repository is meant."""
    return match is None or PatternSet(match.include, match.exclude).matches(name)


def sees_special(match: Match, root: Root) -> bool:
    """Whether the kind of a special tag is named; what is an image of people is always seen."""
    if root.special is None:
        return not root.is_follower
    return root.special in match.special


def needs_siblings(match: Match) -> bool:
    """Whether other tags of the same digest matter."""
    tags = match.tags
    return tags is not None and bool(
        tags.all_of_digest or tags.any_of_digest or tags.each_of_digest or tags.none_of_digest
    )


def build_match_tests(match: Match, around: Surroundings) -> tuple[Test, ...]:
    """The conditions of a ``match`` but for ``repositories`` and ``special``; all of them must hold."""
    tests: list[Test] = []
    if match.tags is not None:
        tests += [_fixed(check, "its tag does not match") for check in _tag_checks(match.tags)]
        tests += [_fixed(check, "the tags of its digest do not match") for check in _sibling_checks(match.tags, around)]
    if match.media_types is not None:
        tests.append(_fixed(_text_check(match.media_types, _media_type), "its media type is not known or another"))
    if match.artifact_types is not None:
        tests.append(_fixed(_text_check(match.artifact_types, _artifact_type), "its artifact type is not known"))
    for label, wanted in match.labels:
        tests.append(_fixed(_label_check(label, wanted), f"its label {label} is not known or another"))
    tests += [_build_field_test(condition, around) for condition in match.where]
    return tuple(tests)


def all_hold(tests: Sequence[Test], root: Root) -> bool | None:
    """Whether all conditions hold: one that is false decides, otherwise one that is unknown does."""
    answer: bool | None = True
    for test in tests:
        held = test.check(root)
        if held is False:
            return False
        if held is None:
            answer = None
    return answer


def _fixed(check: Check, otherwise: str) -> Test:
    return Test(check, lambda root: "" if check(root) else otherwise, _never)


def _never(root: Root) -> Iterator[datetime]:
    """The moments at which a condition without a time changes."""
    del root
    yield from ()


def _tag_checks(tags: TagMatch) -> Iterator[Check]:
    if tags.any:
        included = names_matching(tags.any)
        yield lambda root: included[root.tag]
    for pattern in tags.all:
        yield _name_check(names_matching((pattern,)))
    if tags.none:
        excluded = names_matching(tags.none)
        yield lambda root: not excluded[root.tag]


def _name_check(names: Names) -> Check:
    return lambda root: names[root.tag]


def _sibling_checks(tags: TagMatch, around: Surroundings) -> Iterator[Check]:
    if tags.all_of_digest:
        yield _sibling_check(tags.all_of_digest, around, lambda names, siblings: all(names[one] for one in siblings))
    if tags.any_of_digest:
        yield _sibling_check(tags.any_of_digest, around, lambda names, siblings: any(names[one] for one in siblings))
    for pattern in tags.each_of_digest:
        yield _sibling_check((pattern,), around, lambda names, siblings: any(names[one] for one in siblings))
    if tags.none_of_digest:
        yield _sibling_check(tags.none_of_digest, around, lambda names, siblings: not any(names[x] for x in siblings))


def _sibling_check(
    patterns: tuple[Pattern, ...], around: Surroundings, decide: Callable[[Names, tuple[str, ...]], bool]
) -> Check:
    names = names_matching(patterns)
    by_digest = around.names_by_digest

    def check(root: Root) -> bool | None:
        return decide(names, by_digest[root.digest]) if root.digest is not None else None

    return check


def _media_type(root: Root) -> str | None:
    return root.manifest.media_type if root.manifest is not None else None


def _artifact_type(root: Root) -> str | None:
    manifest = root.manifest
    return manifest.artifact_type if manifest is not None and manifest.is_read else None


def _text_check(wanted: TextMatch, read: Callable[[Root], str | None]) -> Check:
    def check(root: Root) -> bool | None:
        text = read(root)
        return _is_text_match(wanted, text or None) if text is not None else None

    return check


def _label_check(label: str, wanted: TextMatch) -> Check:
    def check(root: Root) -> bool | None:
        labels = root.manifest.labels if root.manifest is not None else None
        return _is_text_match(wanted, labels.get(label)) if labels is not None else None

    return check


def _is_text_match(wanted: TextMatch, text: str | None) -> bool:
    """Whether a text is one that is wanted; one that is absent matches nothing."""
    if wanted.any and (text is None or not names_matching(wanted.any)[text]):
        return False
    return text is None or not wanted.none or not names_matching(wanted.none)[text]


def _build_field_test(condition: Condition, around: Surroundings) -> Test:
    bounded = condition.bounds(around.now)
    name = condition.field.name
    asks_whether_known = condition.operator in (Operator.UNKNOWN, Operator.KNOWN)

    def check(root: Root) -> bool | None:
        value, before = _field_of(name, root, around)
        if asks_whether_known:
            return bounded.evaluate(value, around.now)
        return bounded.evaluate(None if before is not None and value is not None else value, around.now, before=before)

    def tell(root: Root) -> str:
        answer = check(root)
        return "" if answer else f"{condition} is {'not known' if answer is None else 'false'}"

    def turns(root: Root) -> Iterator[datetime]:
        value, before = _field_of(name, root, around)
        for length in condition.values:
            if isinstance(length, timedelta):
                yield from (end + length for end in (value, before) if isinstance(end, datetime))

    return Test(check, tell, turns)


def _field_of(name: str, root: Root, around: Surroundings) -> tuple[FieldValue | None, datetime | None]:
    """The value of a field, and of a time that is not known exactly before when it was."""
    entry = root.entry
    if entry is None:
        return _manifest_field(name, root, around), None
    value = entry.fields.get(name)
    if name in _BUILD_FIELDS and not _is_believed(name, value, around.now):
        return None, None
    if name in _PULL_FIELDS and value is None:
        return None, around.pulls_since
    if name == "tagged_at" and not entry.is_tagged_exact and isinstance(value, datetime):
        return value, value + _MOMENT
    if name == "first_seen_at" and isinstance(value, datetime):
        return value, value + _MOMENT
    return value, None


def _is_believed(name: str, value: FieldValue | None, now: datetime) -> bool:
    """Whether a build time, or the age that was computed from it, can be: as for the clock ``created``."""
    if isinstance(value, datetime):
        return FIRST_BELIEVED <= value <= now
    return isinstance(value, int) and 0 <= value <= age(FIRST_BELIEVED, now, AgeUnit(name.removeprefix("age_")))


def _manifest_field(name: str, root: Root, around: Surroundings) -> FieldValue | None:
    """The fields of tags that a manifest without a tag has too."""
    if name in ("registry", "repository"):
        return around.registry if name == "registry" else around.repository
    manifest = root.manifest
    if manifest is None or not manifest.is_read or name not in _MANIFEST_FIELDS:
        return None
    found: FieldValue | None = getattr(manifest, name)
    if name in _BUILD_FIELDS and not _is_believed(name, found, around.now):
        return None
    return Digest.parse(manifest.digest) if name == "digest" else found

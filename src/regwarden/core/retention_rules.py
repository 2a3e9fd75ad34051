"""What do single rules, protections and holds select among the roots of a repository?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from regwarden.core.holding import describe_hold, holds_in_force
from regwarden.core.observed import Hold, ObservedManifest, ObservedRepository
from regwarden.core.policy_matching import Age, When
from regwarden.core.policy_rules import DeleteRule, KeepRule, Protection
from regwarden.core.retention_clocks import Test, build_age_test, build_expiry_test
from regwarden.core.retention_collecting import CollectedRule
from regwarden.core.retention_matching import TAG_FIELDS, all_hold, build_match_tests, sees_special
from regwarden.core.retention_roots import Root, Surroundings

_CLOCKS: Final = ("tagged", "pushed", "created", "untagged", "pulled")


class Kinds(NamedTuple):
    """The roots of a repository by what rules see of them: images of people, and what belongs to others."""

    tags: list[Root]
    untagged: list[Root]
    special: list[Root]


def sort_out(roots: Sequence[Root]) -> Kinds:
    """Which roots are which."""
    special = [root for root in roots if root.special is not None or root.is_follower]
    plain = roots if not special else [root for root in roots if root.special is None and not root.is_follower]
    return Kinds([root for root in plain if root.tag], [root for root in plain if not root.tag], special)


@dataclass(frozen=True, slots=True)
class BuiltRule:
    """A rule as conditions for one repository."""

    collected: CollectedRule
    match: tuple[Test, ...]
    when: tuple[Test, ...]

    @property
    def rule(self) -> KeepRule | DeleteRule:
        """The rule as it is written."""
        return self.collected.rule

    @property
    def keeps(self) -> bool:
        """Whether it is a keep rule."""
        return isinstance(self.collected.rule, KeepRule)

    def is_about(self, root: Root) -> bool:
        """Whether it speaks about roots of this kind at all."""
        if bool(root.tag) != (self.rule.untagged is None):
            return False
        return (root.special is None and not root.is_follower) or sees_special(self.rule.match, root)

    def select(self, kinds: Kinds) -> tuple[list[Root], list[Root]]:
        """The roots that ``match`` selects, and those of which that is not known."""
        concerned = kinds.tags if self.rule.untagged is None else kinds.untagged
        if self.rule.match.special:
            concerned = [*concerned, *(root for root in kinds.special if self.is_about(root))]
        return sift(self.match, concerned)


def sift(tests: Sequence[Test], roots: list[Root]) -> tuple[list[Root], list[Root]]:
    """Those that certainly fulfil all conditions, and those that may."""
    if not tests:
        return roots, []
    sure: list[Root] = []
    maybe: list[Root] = []
    check = tests[0].check
    for root in roots:
        held = check(root) if len(tests) == 1 else all_hold(tests, root)
        if held:
            sure.append(root)
        elif held is None:
            maybe.append(root)
    return sure, maybe


@dataclass(frozen=True, slots=True)
class BuiltProtection:
    """A protection as conditions for one repository; ``is_about`` says which roots it may hold.

    A hold is one without a policy; its ``detail`` says who holds, ``until`` when it ends by itself. ``find`` finds
    the roots without looking at all of them: the allow-list may hold every manifest of a repository.
    """

    policy: str
    title: str
    tests: tuple[Test, ...]
    is_about: Callable[[Root], bool]
    detail: str = ""
    until: datetime | None = None
    find: Callable[[Sequence[Root]], Sequence[Root]] | None = None

    def select(self, roots: Sequence[Root]) -> Iterator[Root]:
        """What it holds: unless that is certainly not so."""
        is_about = self.is_about
        if self.find is not None:
            roots = self.find(roots)
        for found in sift(self.tests, [root for root in roots if is_about(root)]):
            yield from found


def build_rule(collected: CollectedRule, around: Surroundings) -> BuiltRule:
    """The conditions of a rule."""
    rule = collected.rule
    when = list(_when_tests(rule.when, around)) if rule.when is not None else []
    if rule.untagged is not None:
        when.append(build_age_test("untagged", rule.untagged, around))
    return BuiltRule(collected, build_match_tests(rule.match, around), tuple(when))


def build_protection(policy: str, title: str, protection: Protection, around: Surroundings) -> BuiltProtection | None:
    """The conditions of a protection; ``None`` for one about pinned things, because holds protect always.

    No cluster reports yet, so what is in use is not known, and the protection holds all that it may select. It holds
    special tags too, and manifests without a tag where nothing in it is about tags: they are pulled by digest.
    """
    if protection.pinned:
        return None
    tests = list(build_match_tests(protection, around))
    for name in _CLOCKS:
        age: Age | None = getattr(protection, name)
        if age is not None:
            tests.append(build_age_test(name, age, around))
    if protection.in_use is not None:
        tests.append(Test(lambda _: None, lambda _: "what clusters run is not known", lambda _: iter(())))
    return BuiltProtection(policy, title, tuple(tests), _scope_of(protection))


def build_holds(
    holds: Sequence[Hold], repository: ObservedRepository, around: Surroundings
) -> Iterator[BuiltProtection]:
    """The holds on a repository that are in force."""
    above = _Above(repository.manifests)
    places = _Places()
    for hold in holds_in_force(holds, around.registry, around.repository, around.now):
        held = above.leading_to(hold.digest) if hold.digest else frozenset()
        find = partial(places.find, hold.tag, held) if hold.tag or hold.digest else None
        yield BuiltProtection("", hold.label, (), _held_by(hold, held), describe_hold(hold), hold.until, find)


def _when_tests(when: When, around: Surroundings) -> Iterator[Test]:
    for one in fields(when):
        condition = getattr(when, one.name)
        if condition is not None and one.name == "expired":
            yield build_expiry_test(condition, around)
        elif condition is not None:
            yield build_age_test(one.name, condition, around)


def _scope_of(protection: Protection) -> Callable[[Root], bool]:
    if protection.untagged is not None:
        return lambda root: not root.tag
    is_about_tags = protection.tags is not None or protection.tagged is not None
    if is_about_tags or any(condition.field.name in TAG_FIELDS for condition in protection.where):
        return lambda root: bool(root.tag)
    return lambda _: True


def _held_by(hold: Hold, held: Collection[str]) -> Callable[[Root], bool]:
    if not hold.tag and not hold.digest:
        return lambda _: True
    return lambda root: (bool(hold.tag) and root.tag == hold.tag) or (root.digest is not None and root.digest in held)


class _Above:
    """What would take a manifest of a repository along if it went; found out once for all holds."""

    def __init__(self, manifests: Mapping[str, ObservedManifest]) -> None:
        self._manifests = manifests
        self._indexes: dict[str, list[str]] | None = None

    def leading_to(self, digest: str) -> frozenset[str]:
        """The digest and all whose removal would take it along: indexes that list it, and what it refers to."""
        if self._indexes is None:
            self._indexes = {}
            for manifest in self._manifests.values():
                for child in manifest.children:
                    self._indexes.setdefault(child, []).append(manifest.digest)
        found, waiting = {digest}, [digest]
        while waiting:
            one = waiting.pop()
            known = self._manifests.get(one)
            subject = known.subject if known is not None else None
            for other in (*self._indexes.get(one, ()), *(() if subject is None else (subject,))):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return frozenset(found)


class _Places:
    """The roots of a repository by tag and by digest."""

    def __init__(self) -> None:
        self._roots: Sequence[Root] = ()
        self._by_tag: dict[str, list[Root]] = {}
        self._by_digest: dict[str, list[Root]] = {}

    def find(self, tag: str, digests: Collection[str], roots: Sequence[Root]) -> Sequence[Root]:
        """Those of ``roots`` that have this tag (empty: none) or one of the digests, in their order."""
        if self._roots is not roots:
            self._roots, self._by_tag, self._by_digest = roots, {}, {}
            for root in roots:
                if root.tag:
                    self._by_tag.setdefault(root.tag, []).append(root)
                if root.digest is not None:
                    self._by_digest.setdefault(root.digest, []).append(root)
        found = {root.position: root for root in (self._by_tag.get(tag, ()) if tag else ())}
        for digest in digests:
            found.update((root.position, root) for root in self._by_digest.get(digest, ()))
        return [found[position] for position in sorted(found)]

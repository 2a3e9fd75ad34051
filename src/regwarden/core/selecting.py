"""What goes of that which a person named, without a policy? Verdicts by docker-registry-util's rules of selection.

A digest goes where it was selected: in every selected repository, and only if nothing outside the selection has it.
An exclusion keeps the digests of the tags that it matches, wherever they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.demands import SELECTION_LIMITS
from regwarden.core.holding import GroupedHolds, Held, describe_hold, holds_on
from regwarden.core.observed import Hold, ObservedRegistry, ObservedRepository
from regwarden.core.patterns import Pattern
from regwarden.core.plan import GuardCode
from regwarden.core.recency import is_young, last_touched
from regwarden.core.retention_roots import Root, list_roots
from regwarden.core.selection import Selection
from regwarden.core.special_tags import SPECIAL_STARTS, cut_digests, subject_of
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.errors import Conflict, InputError

_TOLD_COUNT: Final = 3


def select(
    selection: Selection,
    repositories: Sequence[ObservedRepository],
    registry: ObservedRegistry,
    *,
    holds: Iterable[Hold],
    now: datetime,
    waived: frozenset[GuardCode] = frozenset(),
) -> tuple[RepositoryVerdicts, ...]:
    """Verdicts for every repository that the selection names, by name.

    ``repositories`` are all of the registry that have one of the selected digests, also those that are not selected.
    Raises ``InputError`` if the selection names no repository, ``Conflict`` (code ``shared-digest``) if a digest is
    used outside of it and the selection wants that to be an error.
    """
    if not selection.repositories and not selection.references:
        raise InputError("no repository is selected", hint="Give --repository NAME, or --tag NAME:PATTERN.")
    ordered = sorted(repositories, key=lambda one: one.name)
    chosen = [made for one in ordered if (made := _choose(selection, one)) is not None]
    fates = _Fates(selection, wanted={digest for one in chosen for digest in one.wanted})
    names = {one.repository.name for one in chosen}
    for repository in ordered:
        if repository.name not in names:
            fates.look_outside(repository)
    for one in chosen:
        fates.look_inside(one)
    fates.raise_if_shared()
    min_age = timedelta() if GuardCode.MIN_AGE in waived else SELECTION_LIMITS.min_age
    held = GroupedHolds(holds)
    return tuple(
        _Judge(
            one, fates, selection, holds_on(held, registry.name, one.repository.name, now), now=now, min_age=min_age
        ).verdicts()
        for one in chosen
    )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A repository that the selection names: its tags that match, their digests, the tags that are excluded."""

    repository: ObservedRepository
    is_whole: bool
    tags: frozenset[str]
    excluded: frozenset[str]
    wanted: frozenset[str]
    roots: list[Root]
    tags_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def _choose(selection: Selection, repository: ObservedRepository) -> _Chosen | None:
    is_named = _any_matches(selection.repositories, repository.name)
    patterns = list(selection.tags) if is_named else []
    for reference in selection.references:
        if reference.repository.matches(repository.name):
            patterns.extend(reference.tags)
    is_whole = is_named and not selection.tags
    if not is_whole and not patterns:
        return None
    roots = list_roots(repository, is_explicit=False)
    names = [root.tag for root in roots if root.tag]
    tags = frozenset(names if is_whole else _selected_tags(repository, names, patterns))
    chosen = _Chosen(
        repository,
        is_whole,
        tags,
        frozenset(name for name in names if _any_matches(selection.excluded, name)),
        frozenset(
            root.digest for root in roots if root.digest is not None and (root.tag in tags if root.tag else is_whole)
        ),
        roots,
    )
    for root in roots:
        if root.tag and root.digest is not None:
            chosen.tags_of[root.digest].append(root.tag)
    return chosen


def _selected_tags(repository: ObservedRepository, names: Iterable[str], patterns: Sequence[Pattern]) -> Iterator[str]:
    """The tags that match. One that is named after a digest goes with it, and alone only if a pattern means such tags.

    Otherwise ``glob:*`` would take the signatures of what is excluded.
    """
    meant = [pattern for pattern in patterns if pattern.text.lstrip("^(").startswith(SPECIAL_STARTS)]
    cut = cut_digests(repository.manifests)
    for name in names:
        subject = subject_of(name)
        is_special = subject is not None and cut.get(subject, subject) in repository.manifests
        if _any_matches(meant if is_special else patterns, name):
            yield name


class _Fates:
    """What speaks against deleting each wanted digest, anywhere in the registry: the first by name of each kind."""

    def __init__(self, selection: Selection, wanted: set[str]) -> None:
        self._selection = selection
        self._wanted = wanted
        self._excluded: dict[str, str] = {}
        self._repositories: dict[str, str] = {}
        self._tags: dict[str, str] = {}

    def look_outside(self, repository: ObservedRepository) -> None:
        """A repository that is not selected: what its tags point to or its indexes list is used there."""
        for tag in repository.tags:
            if tag.digest in self._wanted:
                self._repositories.setdefault(str(tag.digest), repository.name)
        for manifest in repository.manifests.values():
            for child in manifest.children:
                if child in self._wanted and child in repository.manifests:
                    self._repositories.setdefault(child, repository.name)

    def look_inside(self, chosen: _Chosen) -> None:
        """A selected repository, which may have further tags of a digest."""
        name = chosen.repository.name
        for digest, tags in chosen.tags_of.items():
            if digest not in self._wanted:
                continue
            for tag in tags:
                if tag in chosen.excluded:
                    self._excluded.setdefault(digest, f"{name}:{tag}")
            others = [tag for tag in tags if tag not in chosen.tags]
            has_none = len(others) == len(tags)
            if has_none and (not chosen.tags or not self._selection.match_all_tags):
                self._repositories.setdefault(digest, name)
            elif others and self._selection.match_all_tags:
                self._tags.setdefault(digest, f"{name}:{others[0]}")

    def reason(self, digest: str) -> Reason | None:
        """Why a digest stays; ``None`` if nothing speaks against deleting it."""
        if digest in self._excluded:
            return Reason(ReasonCode.EXCLUDED, detail=f"excluded by {self._excluded[digest]}")
        if digest in self._repositories:
            return Reason(ReasonCode.SHARED, detail=f"the repository {self._repositories[digest]} uses it too")
        if digest in self._tags:
            return Reason(ReasonCode.SHARED, detail=f"{self._tags[digest]} is a tag of it too")
        return None

    def raise_if_shared(self) -> None:
        """Raises ``Conflict`` if sharing is to be an error and there is any; what is excluded is not."""
        kinds = (
            (self._selection.raise_on_shared_repository, self._repositories, "repository"),
            (self._selection.raise_on_shared_tag, self._tags, "tag"),
        )
        for is_error, shared, kind in kinds:
            found = sorted((digest, where) for digest, where in shared.items() if digest not in self._excluded)
            if is_error and found:
                told = ", ".join(f"{digest} by {where}" for digest, where in found[:_TOLD_COUNT])
                more = f" and {len(found) - _TOLD_COUNT} more" if len(found) > _TOLD_COUNT else ""
                raise Conflict(
                    f"outside the selection another {kind} uses what would go: {told}{more}",
                    hint=f"Select it too, exclude it, or leave out --raise-intersecting-{kind} to skip what is shared.",
                    code="shared-digest",
                )


class _Judge:
    """The verdicts of one selected repository."""

    def __init__(
        self, chosen: _Chosen, fates: _Fates, selection: Selection, held: Held, *, now: datetime, min_age: timedelta
    ) -> None:
        self._chosen = chosen
        self._fates = fates
        self._selection = selection
        self._held = held
        self._now = now
        self._min_age = min_age

    def verdicts(self) -> RepositoryVerdicts:
        """One for every root."""
        repository = self._chosen.repository
        return RepositoryVerdicts(
            registry=repository.registry, repository=repository.name, verdicts=tuple(self._each())
        )

    def _each(self) -> Iterator[Verdict]:
        for root in self._chosen.roots:
            outcome, reasons = self._decide(root)
            yield Verdict(root.tag, root.digest, outcome, reasons)

    def _decide(self, root: Root) -> tuple[Outcome, tuple[Reason, ...]]:
        companion = self._companion(root)
        if companion is None:
            code = ReasonCode.UNSELECTED if root.special is None else ReasonCode.SPECIAL
            if root.tag in self._chosen.excluded:
                code = ReasonCode.EXCLUDED
            return Outcome.KEEP, (Reason(code),)
        hold = self._held.find(root.tag, root.digest)
        if hold is not None:
            return Outcome.KEEP, (Reason(ReasonCode.PROTECTED, detail=describe_hold(hold)),)
        if root.digest is None or root.manifest is None:
            return Outcome.UNDECIDED, (Reason(ReasonCode.UNREADABLE, detail="its manifest is not known"),)
        against = self._fates.reason(root.digest)
        removes_tag = self._selection.untag and root.tag in self._chosen.tags
        if against is not None and not (against.code is ReasonCode.SHARED and removes_tag):
            return Outcome.KEEP, (against,)
        if is_young(last_touched(root.manifest, root.entry), self._min_age, self._now):
            detail = "pushed, tagged or untagged in the last 24 hours"
            return Outcome.KEEP, (Reason(ReasonCode.MINIMUM_AGE, detail=detail),)
        selected = Reason(ReasonCode.SELECTED, detail=companion)
        return Outcome.REMOVE, (selected,) if against is None else (selected, against)

    def _companion(self, root: Root) -> str | None:
        """``None`` if a root is not meant; otherwise which other tag it goes with, empty if it is meant itself."""
        if root.tag in self._chosen.tags or (not root.tag and self._chosen.is_whole):
            return ""
        if self._selection.match_all_tags or root.digest is None or not root.tag:
            return None
        selected = next((tag for tag in self._chosen.tags_of[root.digest] if tag in self._chosen.tags), None)
        return None if selected is None else f"{selected} of the same digest is selected"


def _any_matches(patterns: Iterable[Pattern], text: str) -> bool:
    return any(pattern.matches(text) for pattern in patterns)

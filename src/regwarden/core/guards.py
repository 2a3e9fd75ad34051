"""What holds a plan back, and how is it waived? Limits, missing knowledge, what the registry cannot do.

A guard of a repository that blocks takes its steps out of the plan; one of the plan that blocks forbids all of it.
Every text says what was found, what is allowed, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Final

from regwarden.core.observed import ObservedRegistry, ObservedRepository
from regwarden.core.plan import UNWAIVABLE, Guard, GuardCode, GuardLevel, GuardState, PlanSizes, Step, StepKind
from regwarden.core.policy import Coverage, Limits, OnExceed, Policy
from regwarden.core.policy_values import write_duration, write_size

LIVE_EVENTS: Final = timedelta(minutes=10)
"""How long ago the last delivery may be for pushes that race a deletion to be noticed."""

_HOW_TO_SWITCH_ON: Final = (
    "Write `storage: delete: enabled: true` into the registry's configuration, or REGISTRY_STORAGE_DELETE_ENABLED=true"
    " into its environment, restart it, and plan again."
)
_NAMED_COUNT: Final = 3
_NEVER_READ: Final = ""
_FAILED: Final = "failed"
_COMPLETE: Final = "complete"


@dataclass(frozen=True, slots=True)
class Removal:
    """How much some steps remove. An untag removes a tag, a deletion its manifest and all its tags."""

    manifest_count: int
    tag_count: int


def count_removal(steps: Iterable[Step]) -> Removal:
    """How many manifests and tags steps remove."""
    manifest_count = tag_count = 0
    for step in steps:
        manifest_count += step.kind is StepKind.DELETE
        tag_count += len(step.tags)
    return Removal(manifest_count, tag_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryGuards:
    """The guards of one repository, from its limits and what was waived."""

    repository: ObservedRepository
    limits: Limits
    waived: frozenset[GuardCode]

    def find(self, steps: Sequence[Step], not_untagged: Sequence[str]) -> Iterator[Guard]:
        """Every guard that these steps meet, and what could not be done for the ``not_untagged`` tags."""
        if self.repository.doubt:
            yield self._doubtful()
        if not_untagged:
            yield self._cannot_untag(not_untagged)
        if not steps:
            return
        removal = count_removal(steps)
        if self.limits.never_empty and removal.manifest_count == len(self.repository.manifests):
            yield self._guard(
                GuardCode.NEVER_EMPTY,
                f"nothing would be left of {self._name}: all of its {_counted(removal.manifest_count, 'manifest')}"
                " would go",
                "Keep something of it, or allow it to be emptied: --waive never-empty.",
            )
        yield from self._over_share(removal)
        if self.repository.open_push:
            yield self._guard(
                GuardCode.OPEN_PUSH,
                f"a push to {self._name} seems to be under way: {self.repository.open_push}",
                "Plan again when it has ended, or, if nobody pushes: --waive open-push.",
            )

    @property
    def _name(self) -> str:
        return f"{self.repository.registry}/{self.repository.name}"

    def _over_share(self, removal: Removal) -> Iterator[Guard]:
        limit = self.limits.per_run.share_of_repo
        pairs = (
            ("tags", removal.tag_count, len(self.repository.tags)),
            ("manifests", removal.manifest_count, len(self.repository.manifests)),
        )
        over = [
            f"{count} of {total} {noun} ({_percentage(count, total)})"
            for noun, count, total in pairs
            if limit is not None and count * 100 > limit * total
        ]
        if over:
            yield self._guard(
                GuardCode.REPOSITORY_SHARE,
                f"{' and '.join(over)} of {self._name} would go, the limit is {limit:f}%",
                "Look at what goes; then raise limits.per-run.share-of-repo, or: --waive repository-share.",
                is_limit=True,
            )

    def _doubtful(self) -> Guard:
        # No waiver: what nobody knows does not become known by it.
        return Guard(
            code=GuardCode.INCOMPLETE_INVENTORY,
            level=GuardLevel.REPOSITORY,
            state=GuardState.BLOCKS,
            message=f"{self._name} is not known completely, so all of it stays: {self.repository.doubt}",
            hint=f"Read it again: regwarden crawl {self.repository.registry}.",
            registry=self.repository.registry,
            repository=self.repository.name,
        )

    def _cannot_untag(self, tags: Sequence[str]) -> Guard:
        named = ", ".join(tags[:_NAMED_COUNT]) + (", …" if len(tags) > _NAMED_COUNT else "")
        return Guard(
            code=GuardCode.CANNOT_UNTAG,
            level=GuardLevel.ROOT,
            state=GuardState.BLOCKS,
            message=f"{_counted(len(tags), 'tag')} of {self._name} cannot go alone ({named}): the manifest is needed,"
            " and the registry is not known to remove single tags",
            hint="Remove the other tags of the same digest too, or set apply.placeholders.",
            registry=self.repository.registry,
            repository=self.repository.name,
            subject=tags[0] if len(tags) == 1 else "",
        )

    def _guard(self, code: GuardCode, message: str, hint: str, *, is_limit: bool = False) -> Guard:
        return Guard(
            code=code,
            level=GuardLevel.REPOSITORY,
            state=_state(code, self.waived, self.limits if is_limit else None),
            message=message,
            hint=hint,
            registry=self.repository.registry,
            repository=self.repository.name,
        )


def guard_limits(
    limits: Limits, removal: Removal, sizes: Mapping[str, PlanSizes], waived: frozenset[GuardCode]
) -> Iterator[Guard]:
    """Whether a plan as a whole removes more than one run may; bytes count at their upper bound."""
    run = limits.per_run
    freed_bytes = sum(one.reclaimable_bytes for one in sizes.values())
    rows = (
        (GuardCode.MANIFEST_LIMIT, removal.manifest_count, run.manifests, "manifests", str),
        (GuardCode.TAG_LIMIT, removal.tag_count, run.tags, "tags", str),
        (GuardCode.BYTE_LIMIT, freed_bytes, run.bytes, "bytes", write_size),
    )
    for code, amount, limit, key, written in rows:
        if limit is None or amount <= limit:
            continue
        what = f"{written(amount)} would be freed" if key == "bytes" else f"{amount} {key} would go"
        yield Guard(
            code=code,
            level=GuardLevel.PLAN,
            state=_state(code, waived, limits),
            message=f"{what}, the limit of one run is {written(limit)}",
            hint=f"Plan for fewer repositories, raise limits.per-run.{key}, or: --waive {code}.",
        )


def guard_min_age(count: int, limits: Limits, waived: frozenset[GuardCode]) -> Iterator[Guard]:
    """How many roots stay because they are young; or go, because that guard was waived."""
    if not count:
        return
    is_waived = GuardCode.MIN_AGE in waived
    what = "tags and manifests" if count != 1 else "tag or manifest"
    does = ("go" if count != 1 else "goes") if is_waived else ("stay" if count != 1 else "stays")
    yield Guard(
        code=GuardCode.MIN_AGE,
        level=GuardLevel.ROOT,
        state=_state(GuardCode.MIN_AGE, waived),
        message=f"{count} {what} pushed, tagged or untagged in the last {write_duration(limits.min_age)} {does}",
        hint="" if is_waived else "They go when they are older. If nothing is in use yet: --waive min-age.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryGuards:
    """The guards of what is known about one registry. ``policies`` are those with it in their scope."""

    registry: ObservedRegistry
    policies: Sequence[Policy]
    waived: frozenset[GuardCode]
    now: datetime

    def find(self, *, has_steps: bool) -> Iterator[Guard]:
        """Every guard that is met; ``has_steps``: something would go there."""
        yield from self._old()
        yield from self._incomplete()
        yield from self._short_history()
        if has_steps and self.registry.can_delete is False:
            yield self._guard(
                GuardCode.DELETE_DISABLED,
                f"{self.registry.name} does not allow to delete",
                _HOW_TO_SWITCH_ON,
            )

    def _old(self) -> Iterator[Guard]:
        limit = min(
            (one.requires.inventory_max_age for one in self.policies if one.requires.inventory_max_age is not None),
            default=None,
        )
        crawled_at = self.registry.crawled_at
        if limit is None or crawled_at is None or self.now - crawled_at <= limit:
            return  # what was never read is incomplete
        yield self._guard(
            GuardCode.INVENTORY_AGE,
            f"the inventory of {self.registry.name} is of {crawled_at:%Y-%m-%d %H:%M} UTC, older than"
            f" {write_duration(limit)}",
            f"Read it again: regwarden crawl {self.registry.name}. Or: --waive inventory-age.",
        )

    def _incomplete(self) -> Iterator[Guard]:
        demanded = {one.requires.coverage for one in self.policies} or {Coverage.PER_REPO}
        coverage = self.registry.coverage
        if self.registry.crawled_at is None or coverage == _NEVER_READ:
            found = "was never read"
        elif Coverage.COMPLETE in demanded and coverage != _COMPLETE:
            found = f"was not read completely ({coverage}), which the policy asks for"
        elif demanded != {Coverage.ANY} and coverage == _FAILED:
            found = "could not be read the last time"
        else:
            return
        yield self._guard(
            GuardCode.INCOMPLETE_INVENTORY,
            f"{self.registry.name} {found}",
            f"Read it: regwarden crawl {self.registry.name}. Or: --waive incomplete-inventory.",
        )

    def _short_history(self) -> Iterator[Guard]:
        demanded = [one.requires.pull_history_min for one in self.policies]
        limit = max((one for one in demanded if one is not None), default=None)
        since = self.registry.events_since
        if limit is None:
            if since is not None or not any(_asks_about_pulls(one) for one in self.policies):
                return
            found = "no pull was ever recorded"
        elif since is None or self.now - since < limit:
            begun = "have never been recorded" if since is None else f"are recorded since {since:%Y-%m-%d %H:%M} UTC"
            found = f"pulls {begun}, and the policy asks for {write_duration(limit)}"
        else:
            return
        yield self._guard(
            GuardCode.PULL_HISTORY,
            f"{self.registry.name}: {found}",
            "Set up notifications and wait; without them, take out what the policy asks about pulls. With"
            " --waive pull-history what it asks stays unknown, and keeps.",
        )

    def _guard(self, code: GuardCode, message: str, hint: str) -> Guard:
        return Guard(
            code=code,
            level=GuardLevel.PLAN,
            state=_state(code, self.waived),
            message=message,
            hint=hint,
            registry=self.registry.name,
        )


def guard_sources(policies: Iterable[Policy]) -> Iterator[Guard]:
    """Whether policies ask for what no source tells: there are no reports of clusters."""
    for policy in sorted(policies, key=lambda one: one.name):
        places = ["requires.clusters"] if policy.requires.clusters else []
        places += [f"protect[{number}].in-use" for number, one in enumerate(policy.protect) if one.in_use is not None]
        if places:
            yield Guard(
                code=GuardCode.MISSING_SOURCE,
                level=GuardLevel.PLAN,
                state=GuardState.BLOCKS,
                message=f"{policy.name} asks what clusters run ({', '.join(places)}), and no cluster reports",
                hint="Remove these clauses, or protect what runs by its tags.",
            )


def guard_live_events(registry: ObservedRegistry, waived: frozenset[GuardCode], now: datetime) -> Guard | None:
    """Whether deliveries come in, so that a push that races a deletion would be noticed; for the moment of applying."""
    if registry.delivered_at is not None and now - registry.delivered_at <= LIVE_EVENTS:
        return None
    last = f"{registry.name} has never sent a notification"
    if registry.delivered_at is not None:
        last = f"{registry.name} sent its last notification at {registry.delivered_at:%Y-%m-%d %H:%M} UTC"
    return Guard(
        code=GuardCode.NO_LIVE_EVENTS,
        level=GuardLevel.PLAN,
        state=_state(GuardCode.NO_LIVE_EVENTS, waived),
        message=f"{last}: a push at the same time would not be noticed",
        hint="Check its notifications, or, if nobody pushes meanwhile: --waive no-live-events.",
        registry=registry.name,
    )


def _asks_about_pulls(policy: Policy) -> bool:
    return any(one.pulled is not None for one in policy.protect) or any(
        rule.when is not None and rule.when.pulled is not None for _, rule in policy.rules_by_path()
    )


def _state(code: GuardCode, waived: frozenset[GuardCode], limits: Limits | None = None) -> GuardState:
    """``limits`` are given for a guard that people may approve where ``on-exceed`` says so."""
    if code in waived and code not in UNWAIVABLE:
        return GuardState.WAIVED
    if limits is not None and limits.on_exceed is OnExceed.NEEDS_APPROVAL:
        return GuardState.NEEDS_APPROVAL
    return GuardState.BLOCKS


def _percentage(count: int, total: int) -> str:
    # What is just above a limit must not look as if it were at it.
    return f"{(Decimal(count) * 100 / total).quantize(Decimal('0.1'), rounding=ROUND_CEILING).normalize():f}%"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")

"""What would a policy have done, had it been at work all the time? What it would have removed, freed and broken.

At each step the policy is evaluated on what was known then, in a world from which it has already removed what it
would have removed before. Pulls that were recorded later, of what is not there in that world, would have failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from regwarden.core.backtest_bytes import Changes, StoredTotals
from regwarden.core.backtest_world import Failure, Happening, World, list_happenings, without_pulls
from regwarden.core.observed import Hold, ObservedRegistry
from regwarden.core.plan import StepKind
from regwarden.core.planning import PlanInputs, plan_repository
from regwarden.core.policy import Policy
from regwarden.core.policy_matching import USE
from regwarden.core.recorded import RecordedRepository
from regwarden.core.retention import RepositoryPolicies, collect_policies, evaluate, needs_of
from regwarden.errors import InputError

MAX_STEPS = 1000


class Regret(NamedTuple):
    """Pulls that would have failed, of one tag (or with an empty ``tag`` of one digest) of one removal.

    ``use_count`` are those of classes that count as use (a node, CI, a person, an unknown client), ``by_class`` all.
    They are counted by day: ``first_at`` and ``last_at`` are the last failures of the first and of the last such day.
    """

    registry: str
    repository: str
    tag: str
    digest: str
    removed_at: datetime
    first_at: datetime
    last_at: datetime
    pull_count: int
    use_count: int
    by_class: tuple[tuple[str, int], ...]


@dataclass(slots=True, kw_only=True)
class BacktestStep:
    """One run of the policy, at ``at``, and what followed until the next.

    Counts of tags and manifests are those removed; bytes are stored after it, without the policy and with it, if
    garbage was collected. ``failed_count`` are the pulls until the next step that would have failed.
    """

    at: datetime
    repository_count: int = 0
    tag_count: int = 0
    untagged_count: int = 0
    manifest_count: int = 0
    guarded_count: int = 0
    doubtful_count: int = 0
    failed_count: int = 0
    failed_use_count: int = 0
    stored_bytes: int = 0
    stored_with_policy_bytes: int = 0

    @property
    def saved_bytes(self) -> int:
        """What the policy saves."""
        return self.stored_bytes - self.stored_with_policy_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """The outcome. ``regrets`` are worst first: by pulls of use, then by all. ``notes`` say what was not replayed."""

    steps: tuple[BacktestStep, ...]
    ended_at: datetime
    regrets: tuple[Regret, ...]
    repository_count: int
    tag_count: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestInputs:
    """What is tried: ``policies``, at ``moments`` (ascending), until ``ends_at``.

    ``registries`` are as known now, by name; ``holds`` those of now. ``pinned`` is, by registry, what something
    outside of the scope holds too: it is never freed.
    """

    policies: tuple[Policy, ...]
    registries: Mapping[str, ObservedRegistry]
    moments: tuple[datetime, ...]
    ends_at: datetime
    holds: tuple[Hold, ...] = ()
    pinned: Mapping[str, frozenset[int]] = field(default_factory=dict)


def list_moments(begins_at: datetime, ends_at: datetime, every: timedelta) -> tuple[datetime, ...]:
    """When the policy runs: midnight (UTC) is first, because pulls are counted by day.

    Raises ``InputError`` (code ``bad-backtest``) for less than a day between two runs, or more than a thousand.
    """
    if every < timedelta(days=1) or every % timedelta(days=1):
        raise InputError("a backtest goes by whole days", hint="Write for example --every 7d.", code="bad-backtest")
    first = begins_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if first < begins_at:
        first += timedelta(days=1)
    if (ends_at - first) / every > MAX_STEPS:
        hint = "Ask for fewer days, or for longer steps: --every 30d."
        raise InputError(f"that is more than {MAX_STEPS} runs", hint=hint, code="bad-backtest")
    found = []
    while first <= ends_at:
        found.append(first)
        first += every
    return tuple(found)


def backtest(
    inputs: BacktestInputs,
    recorded: Iterable[RecordedRepository],
    sizes: Callable[[str, Iterable[int]], Mapping[int, int]],
    *,
    on_repository: Callable[[int, int], None] = lambda _repositories, _tags: None,
) -> Backtest:
    """Replay the policies over recorded histories, one repository at a time.

    ``sizes`` gives the bytes of documents and blobs of a registry by number. ``on_repository`` is told how many
    repositories and tags are done.
    """
    steps = [BacktestStep(at=moment) for moment in inputs.moments]
    totals: dict[str, StoredTotals] = {}
    regrets: list[Regret] = []
    repository_count = tag_count = 0
    for one in recorded:
        collected = collect_policies(inputs.policies, one.registry, one.name)
        if collected is None:
            continue
        replay = _Replay(inputs, one, collected)
        totals.setdefault(one.registry, StoredTotals(len(steps))).add(one.contents, replay.run(steps))
        regrets += replay.regrets()
        repository_count, tag_count = repository_count + 1, tag_count + len(one.tags)
        on_repository(repository_count, tag_count)
    for registry, stored in totals.items():
        blob_sizes = sizes(registry, stored.numbers())
        for step, (without, with_policy) in zip(
            steps, stored.measure(blob_sizes, inputs.pinned.get(registry, frozenset())), strict=True
        ):
            step.stored_bytes += without
            step.stored_with_policy_bytes += with_policy
    return Backtest(
        steps=tuple(steps),
        ended_at=inputs.ends_at,
        regrets=tuple(sorted(regrets, key=lambda one: (-one.use_count, -one.pull_count, one))),
        repository_count=repository_count,
        tag_count=tag_count,
        notes=tuple(_notes(inputs)),
    )


class _Replay:
    """The policies at work in one repository."""

    def __init__(self, inputs: BacktestInputs, recorded: RecordedRepository, collected: RepositoryPolicies) -> None:
        self._inputs = inputs
        self._recorded = recorded
        self._collected = collected
        self._registry = inputs.registries[recorded.registry]
        self._failures: list[Failure] = []

    def run(self, steps: Sequence[BacktestStep]) -> list[tuple[Changes, Changes]]:
        """Walk along the history; what changed in the real and in the other world until each step, inclusive."""
        real = World(self._recorded)
        world = World(self._recorded, needs_of(self._collected.policies).fields)
        happenings = list_happenings(self._recorded)
        position = 0
        changes: list[tuple[Changes, Changes]] = []
        for number, step in enumerate(steps):
            end = _position_after(happenings, step.at, position)
            self._advance(real, world, happenings[position:end], steps[number - 1] if number else None)
            position = end
            self._act(world, step)
            changes.append((_taken(real), _taken(world)))
        if steps:
            end = _position_after(happenings, self._inputs.ends_at, position)
            self._advance(real, world, happenings[position:end], steps[-1])
        return changes

    def regrets(self) -> Iterator[Regret]:
        """The pulls that failed, by what was asked for and by the removal that is to blame."""
        found: dict[tuple[datetime, str, str], list[Failure]] = {}
        for one in self._failures:
            found.setdefault((one.removed_at, one.pull.tag, one.pull.digest), []).append(one)
        for (removed_at, tag, digest), failures in found.items():
            counts: Counter[str] = Counter()
            for one in failures:
                counts[one.pull.pull_class] += one.pull.pull_count
            yield Regret(
                registry=self._recorded.registry,
                repository=self._recorded.name,
                tag=tag,
                digest=digest,
                removed_at=removed_at,
                first_at=failures[0].pull.last_at,
                last_at=failures[-1].pull.last_at,
                pull_count=counts.total(),
                use_count=sum(count for name, count in counts.items() if name in USE),
                by_class=tuple(sorted(counts.items())),
            )

    def _advance(self, real: World, world: World, happenings: Sequence[Happening], step: BacktestStep | None) -> None:
        real.advance(without_pulls(happenings))
        failures = world.advance(happenings)
        self._failures += failures
        if step is not None:
            step.failed_count += sum(one.pull.pull_count for one in failures)
            step.failed_use_count += sum(one.pull.pull_count for one in failures if one.pull.pull_class in USE)

    def _act(self, world: World, step: BacktestStep) -> None:
        """Let the policies remove what they would have removed at this moment."""
        if not world.existing and not world.points:
            return
        recorded, now = self._recorded, step.at
        since = recorded.doubtful_since
        doubt = recorded.doubt if since is None or since <= now else ""
        observed = world.observe(doubt)
        registry = _registry_then(self._registry, now)
        verdicts = evaluate(self._collected, observed, registry, holds=self._inputs.holds, now=now, with_details=False)
        inputs = PlanInputs(
            registries={registry.name: registry},
            snapshots={},
            now=now,
            made_by="",
            policies=self._collected.policies,
            holds=self._inputs.holds,
        )
        planned = plan_repository(inputs, observed, verdicts, self._collected.policies)
        step.repository_count += 1
        is_doubtful = bool(doubt) or any(not one.is_read for one in observed.manifests.values())
        step.doubtful_count += is_doubtful
        step.guarded_count += bool(planned.guards) and not planned.steps and not is_doubtful
        for one in planned.steps:
            for tag in one.tags:
                world.untag(tag, now)
            step.tag_count += len(one.tags)
            if one.kind is StepKind.DELETE:
                world.delete(one.digest, now)
                step.manifest_count += 1
            else:
                step.untagged_count += 1


def _position_after(happenings: Sequence[Happening], moment: datetime, position: int) -> int:
    while position < len(happenings) and happenings[position][0] <= moment:
        position += 1
    return position


def _taken(world: World) -> Changes:
    """What came and went since this was last asked."""
    changed, world.changed = world.changed, set()
    return Changes(came=sorted(changed & world.existing), went=sorted(changed - world.existing))


def _registry_then(registry: ObservedRegistry, now: datetime) -> ObservedRegistry:
    """What was known of the registry then. It deletes, or nothing could be tried."""
    since = registry.events_since
    return replace(
        registry,
        crawled_at=now,
        events_since=since if since is not None and since <= now else None,
        can_delete=True,
        whole_crawls=tuple(one for one in registry.whole_crawls if one[1] <= now),
    )


def _notes(inputs: BacktestInputs) -> Iterator[str]:
    if any(rule.budget is not None for policy in inputs.policies for rule in policy.delete):
        yield "budgets are not replayed: what they would have taken stays"
    needs = needs_of(inputs.policies)
    if needs.pulls and inputs.moments:
        for name in sorted(inputs.registries):
            since = inputs.registries[name].events_since
            if since is None:
                yield f"no pulls of {name} are recorded: what rules ask about pulls is unknown, and unknown keeps"
            elif since > inputs.moments[0]:
                yield f"pulls of {name} are recorded since {since:%Y-%m-%d} only: before, unknown keeps"

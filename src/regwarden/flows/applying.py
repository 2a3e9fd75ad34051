"""How are the steps of one repository carried out, one after the other, while others work in it, too?

Before the first one its tags are listed, one request for each page: a tag that nobody told of holds what it leads to.
Where nobody tells of anything every tag is asked besides: one that was moved to what goes would go with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from aiolimiter import AsyncLimiter

from regwarden.core.plan import Step, StepKind
from regwarden.core.text import printable
from regwarden.core.windows import are_open, next_opening
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegwardenError, StoreError
from regwarden.flows.apply_records import (
    ApplyOptions,
    ApplyProgress,
    ApplyTarget,
    Considered,
    Question,
    Site,
    Stopped,
)
from regwarden.flows.apply_steps import (
    Protected,
    Touched,
    carry_out,
    finish_whole,
    settle_drop,
    settle_intent,
    skip_step,
)
from regwarden.flows.asking import resolve
from regwarden.flows.concurrency import each
from regwarden.flows.removing_tags import learn_ways
from regwarden.flows.restoring import Restored, restore_races
from regwarden.flows.services import Services
from regwarden.flows.verifying import Verified, verify_repository
from regwarden.store.connections import Connection
from regwarden.store.journal import Result
from regwarden.store.plan_records import StepState, StoredPlan, StoredStep
from regwarden.store.plans import load_steps

MOST_SKIPPED: Final = 100
_MOST_ATTEMPTS: Final = 10
_PAGE_STEPS: Final = 1000
_PAGE_TAGS: Final = 1000
_MOST_STRANGE_TAGS: Final = 100
_QUESTIONS_AT_ONCE: Final = 8
_WAITS: Final = 5
_WAIT_SECONDS: Final = 1.0
# What no other step would fare better with.
_HOPELESS: Final = frozenset({"delete-disabled", "registry-read-only", "untag-unsupported"})
_NOT_GRANTED: Final = "not-granted"
# What these steps would have removed stays, and with it what it leads to.
_STAYING: Final = frozenset({StepState.INTENDED, StepState.FAILED, StepState.DRIFTED, StepState.RESTORED})
_ENDS: Final = {
    Result.DONE: StepState.DONE,
    Result.GONE: StepState.GONE,
    Result.DRIFTED: StepState.DRIFTED,
    Result.FAILED: StepState.FAILED,
}


_FAILED: Final = {
    StepKind.DELETE: "it was asked for twice and is still there",
    StepKind.UNTAG: "it was asked for twice and is still there",
    StepKind.DROP: "the registry has not deleted the repository",
}


@dataclass(slots=True)
class Run:
    """One run of a plan: what it was asked to do, and what came of it so far."""

    services: Services
    target: ApplyTarget
    options: ApplyOptions
    stored: StoredPlan
    on_progress: Callable[[ApplyProgress], None] | None = None
    limiter: AsyncLimiter | None = None
    failure_count: int = 0
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    restored: Restored = field(default_factory=Restored)
    is_told: bool = True  # notifications say what others do
    verified: list[Verified] = field(default_factory=list)

    def check_may_go_on(self) -> None:
        """Raises ``Stopped`` if the run ends before the next step."""
        windows, now = self.stored.plan.demands.windows, self.services.now()
        if self.options.stop is not None and self.options.stop.is_set():
            raise Stopped("it was interrupted")
        if not are_open(windows, now):
            raise Stopped(f"the window has closed{_until(next_opening(windows, now))}")
        if self.failure_count >= self.options.max_failures:
            raise Stopped(f"{self.failure_count} things failed")

    def note_failure(self, problem: str) -> None:
        """Something failed: it counts, and is told."""
        self.failure_count += 1
        self.problems.append(printable(problem, 500))

    def note_skipped(self, reason: str) -> None:
        """The registry protects something: that is told, and is no failure. There may be as many as there are tags."""
        if len(self.skipped) < MOST_SKIPPED:
            self.skipped.append(printable(reason, 500))

    def note_end(self, step: Step, result: Result) -> None:
        """A step came to an end."""
        self.results[StepState.PENDING] -= 1
        self.results[_ENDS[result]] += 1
        if self.on_progress is not None:
            step_count = self.results.total()
            waiting = self.results[StepState.PENDING] + self.results[StepState.INTENDED]
            results = {state: count for state, count in self.results.items() if count}
            self.on_progress(
                ApplyProgress(
                    step_count=step_count,
                    ended_count=step_count - waiting,
                    registry=step.registry,
                    repository=step.repository,
                    results=results,
                )
            )


async def apply_repository(run: Run, registry: str, repository: str) -> None:
    """Carry out what is left to be done in one repository, put back what raced, and walk the indexes that stay.

    Raises ``Stopped`` where the run must end, ``StoreError`` if the database fails.
    """
    connector = run.services.connectors[registry]
    site = Site(run.services, connector, run.stored.id, registry, repository, run.limiter, run.options.stop)
    work = _Work(run, site)
    try:
        await work.do()
    except (StoreError, Stopped):
        raise
    except RegwardenError as error:
        run.note_failure(f"{repository}: {error.message}")
    finally:
        await finish_whole(work.end())


async def settle_repository(run: Run, registry: str, repository: str) -> None:
    """Begin nothing in one repository; find out what became of what was begun, put back what raced, walk the indexes.

    Raises ``StoreError`` if the database fails.
    """
    connector = run.services.connectors[registry]
    site = Site(run.services, connector, run.stored.id, registry, repository, run.limiter, run.options.stop)
    work = _Work(run, site)
    try:
        await work.settle()
    finally:
        await finish_whole(work.end())


class _Work:
    """The steps of one repository. ``held`` are digests that must stay because their step came to nothing."""

    def __init__(self, run: Run, site: Site) -> None:
        self._run = run
        self._site = site
        self._held: set[str] = set()
        self._known = Considered(allowed=frozenset())
        self._has_acted = False
        self._has_held_alone = False  # since the last look

    async def do(self) -> None:
        await self.settle()
        await self._look()
        await self._hold_strange_tags()
        after = -1
        while page := await self._load(StepState.PENDING, after):
            for one in page:
                self._run.check_may_go_on()
                await self._carry_out(one.step)
            after = page[-1].step.position

    async def settle(self) -> None:
        """Find out what became of the steps that were begun."""
        after = -1
        while page := await self._load(StepState.INTENDED, after):
            self._has_acted = True
            if after < 0 and not await self._can_settle():
                return
            for one in page:
                await self._settle(one.step)
            after = page[-1].step.position

    async def _can_settle(self) -> bool:
        """Whether the connector knows how its registry removes; without that nothing can be judged."""
        try:
            await learn_ways(self._site)
        except RegistryError as error:
            self._run.note_failure(f"{self._site.repository}: nobody knows what was done: {error.message}")
            return False
        return True

    async def end(self) -> None:
        """Put back what raced, and look whether what stays is whole."""
        if not self._has_acted:
            return
        await self._restore()
        self._run.verified.append(await verify_repository(self._site))

    async def _load(self, state: StepState, after: int) -> tuple[StoredStep, ...]:
        place = (self._site.registry, self._site.repository)
        return await self._run.services.database.read(
            lambda connection: load_steps(
                connection, self._run.stored.id, after=after, limit=_PAGE_STEPS, states=[state], place=place
            )
        )

    async def _look(self) -> None:
        """See what may still be done; wait a little for what was just pushed and is not read yet."""
        self._has_held_alone = False
        for attempt in range(_WAITS):
            await self._run.target.drain()
            self._known = await consider(self._run, self._site, self._held)
            if not self._known.waits:
                break
            if attempt < _WAITS - 1:
                await asyncio.sleep(_WAIT_SECONDS)
        if self._known.violations:
            raise Stopped(f"the proof failed in {self._site.repository}: {self._known.violations[0]}")
        if self._known.waits:
            message = f"nothing can be decided: {self._known.waits}"
            raise RegistryError(message, code="repository-unsettled", temporary=True)

    async def _hold_strange_tags(self) -> None:
        """Tags that lead elsewhere than the inventory knows, or that it does not know: what they lead to stays."""
        listing = await (await self._site.pace()).list_tags(self._site.repository)
        if not listing.is_complete or listing.doubt:
            message = f"its tags could not be listed completely: {listing.doubt or 'there are more'}"
            raise RegistryError(message, code="listing-incomplete", temporary=True)
        strange = set(listing.tags) - self._known.tags.keys()
        if len(strange) > _MOST_STRANGE_TAGS:
            message = f"it has {len(strange)} tags that the inventory does not know; crawl it first"
            raise RegistryError(message, code="repository-unsettled", temporary=True)
        asked = sorted(strange if self._run.is_told else listing.tags)
        held = set()
        listed = listing.listed or {}

        async def point(tag: str) -> str | None:
            return str(listed[tag].digest) if tag in listed else await resolve(self._site, tag)

        slots = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        for start in range(0, len(asked), _PAGE_TAGS):
            page = asked[start : start + _PAGE_TAGS]
            targets = await each(point, page, slots)
            for tag, target in zip(page, targets, strict=True):
                if target is None or target == self._known.tags.get(tag):
                    continue
                if target not in self._known.existing:
                    message = f"its tag {tag} leads to something that the inventory does not know; crawl it first"
                    raise RegistryError(message, code="repository-unsettled", temporary=True)
                held.add(target)
        if held:
            self._held |= held
            await self._look()

    async def _carry_out(self, step: Step) -> None:
        if step.kind is StepKind.DROP and self._has_held_alone:
            await self._look()
        for _ in range(_MOST_ATTEMPTS):
            if step.position not in self._known.allowed:
                reason = self._known.reasons.get(step.position, "a plan made now would not have this step")
                self._run.note_end(step, await skip_step(self._site, step, reason))
                return
            try:
                result = await carry_out(self._site, step, self._known, self._run.target.drain)
            except Touched:
                await self._restore()
                await self._look()
                continue
            except Protected as reason:
                self._run.note_end(step, Result.DRIFTED)
                self._run.note_skipped(f"{self._name(step)}: {reason.message}")
                await self._hold(step)
                return
            except (RegistryError, InputError) as error:
                await self._fail(step, error)
                return
            if result is Result.NOT_DONE:
                continue
            await self._note(step, result)
            return
        self._run.note_failure(f"{self._name(step)}: others change the repository all the time")
        await self._hold(step)

    async def _note(self, step: Step, result: Result | None) -> None:
        if result is None:
            self._run.note_failure(f"{self._name(step)}: nobody knows whether it was done; the next run will see")
            await self._hold(step)
            return
        self._has_acted = self._has_acted or result in (Result.DONE, Result.GONE)
        self._run.note_end(step, result)
        if result is Result.FAILED:
            self._run.note_failure(f"{self._name(step)}: {_FAILED[step.kind]}")
        if result in (Result.FAILED, Result.DRIFTED):
            await self._hold(step)

    async def _fail(self, step: Step, error: RegistryError | InputError) -> None:
        if error.code == _NOT_GRANTED:
            raise error  # elsewhere we may have more rights
        self._run.note_failure(f"{self._name(step)}: {error.message}")
        if isinstance(error, RegistryDenied) or error.code in _HOPELESS:
            raise Stopped(error.message, hint=error.hint)
        await self._hold(step)

    async def _hold(self, step: Step) -> None:
        """It stays, and so does whatever it leads to: see what that means for the rest.

        Thousands may stay, and a look at all of them takes seconds. Of one that went with all its tags, and that no
        other one depends on, only the repository as a whole does: before that goes everything is looked at again.
        """
        self._held |= {step.digest} - {""}
        linked = self._known.linked
        if step.kind is StepKind.DELETE and linked is not None and step.digest not in linked:
            self._has_held_alone = True
            return
        await self._look()

    async def _settle(self, step: Step) -> None:
        if step.kind is StepKind.DROP:
            result = await settle_drop(self._site, step)
        else:
            result = await finish_whole(settle_intent(self._site, step))
        if result is None:
            self._run.note_failure(f"{self._name(step)}: nobody knows whether it was done")
            self._held |= {step.digest} - {""}
        elif result is not Result.NOT_DONE:
            self._run.results[StepState.INTENDED] -= 1
            self._run.results[StepState.PENDING] += 1
            self._run.note_end(step, result)
        else:
            self._run.results[StepState.INTENDED] -= 1
            self._run.results[StepState.PENDING] += 1

    async def _restore(self) -> None:
        self._run.restored += await restore_races(
            self._run.services, self._site.registry, repository=self._site.repository, limiter=self._run.limiter
        )

    def _name(self, step: Step) -> str:
        return f"{step.repository}@{step.digest}" if step.digest else step.repository


async def consider(run: Run, site: Site, held: Collection[str]) -> Considered:
    """What may still be done in a repository by all that is known now. What ended otherwise than it should is held."""
    place, now = (site.registry, site.repository), run.services.now()

    def work(connection: Connection) -> Considered:
        steps = load_steps(connection, run.stored.id, place=place)
        failed = {one.step.digest for one in steps if one.state in _STAYING and one.step.digest}
        question = Question(
            stored=run.stored,
            registry=site.registry,
            repository=site.repository,
            steps=steps,
            held=frozenset(failed | set(held)),
            waived=run.options.waived,
            now=now,
        )
        return run.target.reconsider(connection, question)

    return await run.services.database.read(work)


def _until(opening: datetime | None) -> str:
    return "" if opening is None else f"; it opens again at {opening:%Y-%m-%d %H:%M} UTC"

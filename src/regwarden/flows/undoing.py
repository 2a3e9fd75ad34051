"""An undo, from what a plan removed to a registry that has it again: look, prove, mount, put, verify, note.

What is there already is not put again, so an undo that broke off is simply called again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regwarden.core.plan import Step, StepKind
from regwarden.core.undo import Findings, Kept, Loss, LossCode, Place, Taken, Undo, build_undo, read_kept
from regwarden.core.undo_choice import EVERYTHING, Choice, choose, list_taken
from regwarden.errors import Conflict, InputError, RegistryError
from regwarden.flows.alone import alone
from regwarden.flows.placeholders import placeholder_of
from regwarden.flows.services import Services
from regwarden.flows.undo_looking import WritableRegistry, settle
from regwarden.flows.undo_putting import Failure, PuttingBack
from regwarden.registries.api import ProvesBlobs, PutsManifests
from regwarden.store import audit, journal, trash
from regwarden.store.connections import Connection
from regwarden.store.database import Database
from regwarden.store.journal import Moment, Result
from regwarden.store.plan_records import PlanState, StepState, StoredStep
from regwarden.store.plans import change_state, load_plan, load_steps

Progress = Callable[[int, int], None]
"""Called with the number of steps looked at, and of all."""

# A failed step may have had its effect; one that was restored may have got back less than all of its tags.
_TAKING: Final = (StepState.DONE, StepState.INTENDED, StepState.FAILED, StepState.RESTORED)
_UNDOABLE: Final = (PlanState.APPLYING, PlanState.APPLIED, PlanState.UNDONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoOptions:
    """What comes back, how many questions are asked at once, after how many failures it stops."""

    choice: Choice = EVERYTHING
    concurrency: int = 8
    max_failures: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoReport:
    """What an undo did.

    ``restored_step_count`` counts the steps of which nothing is missing any more, ``state`` is the plan's now.
    ``losses`` is what cannot come back and why, ``failures`` what the registry did not do. ``is_stopped``: after too
    many failures the rest was not tried.
    """

    plan_id: int
    state: str
    asked_step_count: int
    restored_step_count: int
    manifest_count: int
    tag_count: int
    mounted_blob_count: int
    losses: tuple[Loss, ...]
    failures: tuple[Failure, ...]
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class _Removed:
    """What a plan removed: ``taken`` as far as it is meant, ``whole`` everything, by position; the steps.

    ``drops`` are those that removed a repository as a whole: it comes back with the first tag in it.
    """

    taken: Mapping[Place, Sequence[Taken]]
    whole: Mapping[int, Taken]
    steps: Mapping[int, StoredStep]
    drops: Sequence[Step]


async def undo_plan(
    services: Services,
    plan_id: int,
    *,
    principal: str,
    options: UndoOptions | None = None,
    on_progress: Progress | None = None,
) -> UndoReport:
    """Put back what a plan removed, or those of its steps that are chosen.

    A manifest comes back with everything that it leads to, or not at all; what cannot come back is in the report.
    Raises ``NotFound`` for a plan or step that is not there, ``Conflict`` (code ``plan-state``) for one that removed
    nothing yet or is finished, ``StoreError`` where the trash is damaged.
    """
    chosen = options or UndoOptions()
    async with alone(services.database, plan_id):
        removed = await _load(services.database, plan_id, chosen.choice)
        run = _Run(services, plan_id, chosen, removed, on_progress)
        await run.run()
        state = await _end(services, plan_id, principal, run)
        return run.report(state)


class _Run:
    """A running undo: repository by repository, until too much fails."""

    def __init__(
        self, services: Services, plan_id: int, options: UndoOptions, removed: _Removed, on_progress: Progress | None
    ) -> None:
        self.removed = removed
        self.parts: list[Undo] = []
        self.putting: list[PuttingBack] = []
        self.is_stopped = False
        self._services = services
        self._plan_id = plan_id
        self._options = options
        self._on_progress = on_progress

    @property
    def is_whole(self) -> bool:
        """Whether everything is to come back."""
        return self._options.choice.is_everything

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What the registries did not do so far."""
        return tuple(failure for one in self.putting for failure in one.failures)

    @property
    def asked_count(self) -> int:
        """How many steps are meant."""
        return sum(map(len, self.removed.taken.values()))

    async def run(self) -> None:
        """Every repository, in order."""
        seen_count = 0
        for place, taken in sorted(self.removed.taken.items()):
            if len(self.failures) >= self._options.max_failures:
                self.is_stopped = True
                return
            await self._repository(place, taken)
            seen_count += len(taken)
            if self._on_progress is not None:
                self._on_progress(seen_count, self.asked_count)

    async def _repository(self, place: Place, taken: Sequence[Taken]) -> None:
        entries = await self._services.database.read(
            lambda connection: trash.load(connection, self._plan_id, positions=[one.position for one in taken])
        )
        bytes_of = {one.digest: (one.media_type, one.payload) for one in entries}
        kept = _read_all(bytes_of)
        try:
            registry = self._writable(place[0])
            placeholders = self._placeholders(taken)
            undo = await settle(registry, self._services.database, taken, kept, placeholders=placeholders)
        except RegistryError as error:
            self.parts.append(build_undo(taken, kept, {}, Findings(unwritable={place: error.message})))
            return
        self.parts.append(undo)
        putting = PuttingBack(self._services, registry, self._plan_id, bytes_of, placeholders=placeholders)
        self.putting.append(putting)
        limit = self._options.max_failures - len(self.failures)
        await putting.run(undo, self._steps_of(undo), self.removed.whole, max_failures=limit)

    def _steps_of(self, undo: Undo) -> dict[int, StoredStep]:
        return {one.position: self.removed.steps[one.position] for one in undo.returning}

    def _placeholders(self, taken: Sequence[Taken]) -> frozenset[str]:
        steps = (self.removed.steps[one.position].step for one in taken)
        return frozenset(str(placeholder_of(self._plan_id, one).digest) for one in steps if one.with_placeholder)

    def list_reopened(self) -> list[Step]:
        """The removals of repositories in which something is back now."""
        back = {position for one in self.putting for position in one.complete}
        places = {(one.registry, one.repository) for one in self.removed.whole.values() if one.position in back}
        return [step for step in self.removed.drops if (step.registry, step.repository) in places]

    def _writable(self, name: str) -> WritableRegistry:
        connector = self._services.connectors.get(name)
        if connector is None:
            raise RegistryError(f"no registry {name} is configured", code="registry-not-configured")
        if not isinstance(connector, PutsManifests) or not isinstance(connector, ProvesBlobs):
            raise RegistryError(f"nothing can be put into the registry {name}", code="registry-not-writable")
        slots = asyncio.Semaphore(self._options.concurrency)
        return WritableRegistry(name=name, reading=connector, putting=connector, proving=connector, slots=slots)

    def report(self, state: PlanState) -> UndoReport:
        """What was done."""
        return UndoReport(
            plan_id=self._plan_id,
            state=str(state),
            asked_step_count=self.asked_count,
            restored_step_count=sum(len(one.complete) for one in self.putting),
            manifest_count=sum(one.manifest_count for one in self.putting),
            tag_count=sum(one.tag_count for one in self.putting),
            mounted_blob_count=sum(len(part.mounts) for part in self.parts),
            losses=tuple(sorted(loss for part in self.parts for loss in part.losses)),
            failures=self.failures,
            is_stopped=self.is_stopped or any(one.is_stopped for one in self.putting),
        )


async def _load(database: Database, plan_id: int, choice: Choice) -> _Removed:
    stored = await database.read(lambda connection: load_plan(connection, plan_id))
    if stored.state not in _UNDOABLE:
        is_over = stored.state is PlanState.FINISHED
        why = "its time to be undone has ended" if is_over else "it has removed nothing"
        hint = "What a collection left can be pushed again." if is_over else "There is nothing to undo."
        raise Conflict(f"plan {plan_id} is {stored.state}: {why}", hint=hint, code="plan-state")
    found = await database.read(lambda connection: load_steps(connection, plan_id, states=_TAKING))
    entries = await database.read(lambda connection: journal.load_journal(connection, plan_id))
    seen = {one.position: one.tags for one in entries if one.entry is journal.EntryKind.INTENT}
    # Without an intent no request was ever sent.
    sent = [one for one in found if one.step.position in seen]
    drops = [one.step for one in sent if one.step.kind is StepKind.DROP and one.state is not StepState.RESTORED]
    steps = {one.step.position: one for one in sent if one.step.kind is not StepKind.DROP}
    whole = list_taken((one.step for one in steps.values()), seen)
    taken: defaultdict[Place, list[Taken]] = defaultdict(list)
    for one in choose(whole, choice):
        taken[one.registry, one.repository].append(one)
    return _Removed(taken, {one.position: one for one in whole}, steps, drops)


def _read_all(bytes_of: Mapping[str, tuple[str, bytes]]) -> dict[str, Kept]:
    """What each manifest needs. What cannot be read cannot be proven, so it counts as not kept."""
    kept = {}
    for digest, (media_type, payload) in bytes_of.items():
        try:
            kept[digest] = read_kept(digest, media_type, payload)
        except InputError:
            continue
    return kept


async def _end(services: Services, plan_id: int, principal: str, run: _Run) -> PlanState:
    """Let the plan be undone if nothing that it removed is missing; note who did it."""
    at = services.now()
    report = run.report(PlanState.APPLIED)
    detail = {
        "asked_step_count": report.asked_step_count,
        "restored_step_count": report.restored_step_count,
        "lost_step_count": len({one.position for one in report.losses if one.code is not LossCode.TAG_MOVED}),
        "failure_count": len(report.failures),
    }

    def end(connection: Connection) -> PlanState:
        for step in run.list_reopened():
            moment = Moment(plan_id=plan_id, step=step, tags=(), at=at)
            journal.note_restore_outcome(connection, moment, Result.DONE, "it is there again with its first tag")
        stored = load_plan(connection, plan_id)
        left = [state for state in _TAKING if state is not StepState.RESTORED and stored.step_counts.get(state)]
        # Who wants single steps back means the others to go on.
        goes_on = bool(stored.step_counts.get(StepState.PENDING)) and not run.is_whole
        is_new = stored.state is not PlanState.UNDONE and stored.step_counts.get(StepState.RESTORED)
        if is_new and not (left or goes_on):
            change_state(connection, plan_id, _UNDOABLE, PlanState.UNDONE)
        audit.record(
            connection, at=at, principal=principal, action="plan-undo", plan_id=plan_id, subject="", detail=detail
        )
        return load_plan(connection, plan_id).state

    return await services.database.write(end)

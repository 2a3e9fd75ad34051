"""Which plans are there, what is in them, and how far has each come?

The head of a plan is small; its steps are read in pages and its verdicts by repository, because there may be a million.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Table, func, insert, select, update
from sqlalchemy.engine import Connection

from regwarden.core.graph import MAX_SUM_BYTES
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Plan, Step, StepKind
from regwarden.core.verdicts import Outcome, RepositoryVerdicts
from regwarden.errors import Conflict, NotFound
from regwarden.store.bulk import bulk_insert, bulk_upsert
from regwarden.store.cleanup_schema import approvals, plan_repositories, plan_steps, plans
from regwarden.store.collector import collector_paused
from regwarden.store.plan_documents import (
    describe_origin,
    pack_json,
    pack_plan_document,
    pack_verdicts,
    unpack_json,
    unpack_plan_document,
    unpack_verdicts,
)
from regwarden.store.plan_records import (
    Approval,
    ApprovalKind,
    PlanRepository,
    PlanState,
    PlanSummary,
    StepState,
    StoredPlan,
    StoredStep,
)
from regwarden.store.times import from_micros, to_micros

_REPOSITORY_CHUNK: Final = 100
_STEP_CHUNK: Final = 1_000
_TAGS: Final = msgspec.json.Decoder(tuple[str, ...])
_TAGS_ENCODER: Final = msgspec.json.Encoder()
_PENDING: Final = str(StepState.PENDING)
_PAGE: Final = 5_000


@dataclass(frozen=True, slots=True)
class PackedPlan:
    """A plan as rows. Packing a million verdicts takes seconds: do it outside of the writer."""

    head: Mapping[str, object]
    repositories: Sequence[Mapping[str, object]]
    steps: Sequence[Mapping[str, object]]


@collector_paused()
def pack_plan(plan: Plan) -> PackedPlan:
    """The rows of a new plan."""
    step_counts = Counter((step.registry, step.repository) for step in plan.steps)
    decided = {(one.registry, one.repository): one for one in plan.verdicts}
    absent = [
        RepositoryVerdicts(registry=key[0], repository=key[1], verdicts=()) for key in step_counts - decided.keys()
    ]
    head = {
        "state": str(PlanState.OPEN),
        "title": describe_origin(plan),
        "made_at": to_micros(plan.made_at),
        "made_by": plan.made_by,
        "expires_at": to_micros(plan.expires_at),
        "fingerprint": plan.fingerprint,
        "document": pack_plan_document(plan),
        "is_blocked": int(plan.is_blocked),
        "needed_approval_count": plan.demands.approval_count,
        "repository_count": len(step_counts),
        "tag_count": sum(len(step.tags) for step in plan.steps),
        "manifest_count": sum(step.kind is StepKind.DELETE for step in plan.steps),
        "reclaimable_bytes": min(sum(one.reclaimable_bytes for one in plan.sizes.values()), MAX_SUM_BYTES),
    }
    rows = [_repository_row(one, step_counts) for one in (*plan.verdicts, *absent)]
    return PackedPlan(head, rows, [_step_row(step) for step in plan.steps])


def save_plan(connection: Connection, plan: Plan | PackedPlan) -> int:
    """Keep a new plan in the state ``open``; returns its id. A large one holds up all other writing: see below."""
    packed = pack_plan(plan) if isinstance(plan, Plan) else plan
    plan_id = begin_plan(connection, packed)
    for piece in iterate_pieces(packed):
        save_piece(connection, plan_id, piece)
    end_plan(connection, plan_id)
    return plan_id


@dataclass(frozen=True, slots=True)
class PlanPiece:
    """Some rows of a plan, as many as one transaction writes without others waiting for it."""

    table: Table
    rows: Sequence[Mapping[str, object]]


def iterate_pieces(packed: PackedPlan) -> Iterator[PlanPiece]:
    """Everything of a plan but its head."""
    parts = ((plan_repositories, packed.repositories, _REPOSITORY_CHUNK), (plan_steps, packed.steps, _STEP_CHUNK))
    for table, rows, size in parts:
        for start in range(0, len(rows), size):
            yield PlanPiece(table, rows[start : start + size])


def begin_plan(connection: Connection, packed: PackedPlan) -> int:
    """Keep the head of a new plan in the state ``incomplete``; returns its id. Then come its pieces, then the end."""
    head = {**packed.head, "state": str(PlanState.INCOMPLETE)}
    return int(connection.execute(insert(plans).values(**head).returning(plans.c.id)).scalar_one())


def save_piece(connection: Connection, plan_id: int, piece: PlanPiece) -> None:
    """Keep a piece of a plan that was begun."""
    bulk_insert(connection, piece.table, [{"plan_id": plan_id, **row} for row in piece.rows])


def end_plan(connection: Connection, plan_id: int) -> None:
    """Everything is kept: the plan is open."""
    change_state(connection, plan_id, (PlanState.INCOMPLETE,), PlanState.OPEN)


def load_plan(connection: Connection, plan_id: int) -> StoredPlan:
    """The head of a plan. Raises ``NotFound`` (code ``plan-not-found``)."""
    row = connection.execute(select(plans).where(plans.c.id == plan_id)).one_or_none()
    if row is None:
        raise _no_plan(plan_id)
    counted = connection.execute(
        select(plan_steps.c.state, func.count()).where(plan_steps.c.plan_id == plan_id).group_by(plan_steps.c.state)
    )
    return StoredPlan(
        id=plan_id,
        summary=_summary(row),
        plan=unpack_plan_document(row.document),
        approvals=_load_approvals(connection, plan_id),
        step_counts={state: int(count) for state, count in counted},
        outcome=None if row.outcome is None else unpack_json(row.outcome, dict[str, Any]),
    )


def load_whole_plan(connection: Connection, plan_id: int) -> Plan:
    """A plan with all of its steps and verdicts, from the stored rows: for its fingerprint."""
    stored = load_plan(connection, plan_id)
    steps = tuple(one.step for one in load_steps(connection, plan_id))
    return replace(stored.plan, steps=steps, verdicts=tuple(iterate_verdicts(connection, plan_id)))


def load_steps(
    connection: Connection,
    plan_id: int,
    *,
    after: int = -1,
    limit: int | None = None,
    states: Collection[StepState] = (),
    place: tuple[str, str] | None = None,
) -> tuple[StoredStep, ...]:
    """Steps in their order, behind the position ``after``, at most ``limit``; with ``states`` only those.

    ``place`` is a registry and a repository: only what is done there.
    """
    statement = select(plan_steps).where(plan_steps.c.plan_id == plan_id, plan_steps.c.position > after)
    if place is not None:
        statement = statement.where(plan_steps.c.registry == place[0], plan_steps.c.repository == place[1])
    if states:
        statement = statement.where(plan_steps.c.state.in_(sorted(map(str, states))))
    rows = connection.execute(statement.order_by(plan_steps.c.position).limit(limit))
    return tuple(_stored_step(row) for row in rows)


def iterate_steps(
    connection: Connection, plan_id: int, *, states: Collection[StepState] = (), place: tuple[str, str] | None = None
) -> Iterator[StoredStep]:
    """The same, with only some of them in memory at a time."""
    after = -1
    while page := load_steps(connection, plan_id, after=after, limit=_PAGE, states=states, place=place):
        yield from page
        after = page[-1].step.position


def list_step_places(
    connection: Connection, plan_id: int, *, states: Collection[StepState]
) -> tuple[tuple[str, str], ...]:
    """Registries and repositories that have steps in one of ``states``, in the order of the plan."""
    columns = plan_steps.c.registry, plan_steps.c.repository
    rows = connection.execute(
        select(*columns)
        .where(plan_steps.c.plan_id == plan_id, plan_steps.c.state.in_(sorted(map(str, states))))
        .group_by(*columns)
        .order_by(func.min(plan_steps.c.position))
    )
    return tuple((row.registry, row.repository) for row in rows)


def list_plan_repositories(connection: Connection, plan_id: int) -> tuple[PlanRepository, ...]:
    """The repositories of a plan by registry and name, without their verdicts."""
    columns = [plan_repositories.c[name] for name in PlanRepository.__slots__]
    rows = connection.execute(
        select(*columns)
        .where(plan_repositories.c.plan_id == plan_id)
        .order_by(plan_repositories.c.registry, plan_repositories.c.repository)
    )
    return tuple(PlanRepository(**row._mapping) for row in rows)  # noqa: SLF001 -- SQLAlchemy's public name for it


def load_verdicts(connection: Connection, plan_id: int, registry: str, repository: str) -> RepositoryVerdicts | None:
    """What was decided about one repository; ``None`` where the plan does not speak of it."""
    stored = connection.execute(
        select(plan_repositories.c.verdicts).where(
            plan_repositories.c.plan_id == plan_id,
            plan_repositories.c.registry == registry,
            plan_repositories.c.repository == repository,
        )
    ).scalar_one_or_none()
    if stored is None:
        return None
    return RepositoryVerdicts(registry=registry, repository=repository, verdicts=unpack_verdicts(stored))


def iterate_verdicts(connection: Connection, plan_id: int) -> Iterator[RepositoryVerdicts]:
    """The verdicts of every repository, by registry and name, a few repositories in memory at a time."""
    rows = connection.execute(
        select(plan_repositories.c.registry, plan_repositories.c.repository, plan_repositories.c.verdicts)
        .where(plan_repositories.c.plan_id == plan_id)
        .order_by(plan_repositories.c.registry, plan_repositories.c.repository)
        .execution_options(yield_per=100)
    )
    for row in rows:
        verdicts = unpack_verdicts(row.verdicts)
        yield RepositoryVerdicts(registry=row.registry, repository=row.repository, verdicts=verdicts)


def list_plans(
    connection: Connection,
    *,
    states: Collection[PlanState] = (),
    limit: int | None = None,
    before_id: int | None = None,
) -> tuple[PlanSummary, ...]:
    """Plans, the newest first; with ``states`` only those, otherwise all that are complete."""
    statement = select(*[plans.c[name] for name in PlanSummary.__slots__]).order_by(plans.c.id.desc()).limit(limit)
    if states:
        statement = statement.where(plans.c.state.in_(sorted(map(str, states))))
    else:
        statement = statement.where(plans.c.state != str(PlanState.INCOMPLETE))
    if before_id is not None:
        statement = statement.where(plans.c.id < before_id)
    return tuple(_summary(row) for row in connection.execute(statement))


def change_state(connection: Connection, plan_id: int, from_states: Collection[PlanState], to: PlanState) -> None:
    """Let a plan go on. Raises ``Conflict`` (code ``plan-state``) unless it is in one of ``from_states``."""
    changed = connection.execute(
        update(plans).where(plans.c.id == plan_id, plans.c.state.in_(sorted(map(str, from_states)))).values(state=to)
    )
    if changed.rowcount:
        return
    state = connection.execute(select(plans.c.state).where(plans.c.id == plan_id)).scalar_one_or_none()
    if state is None:
        raise _no_plan(plan_id)
    wanted = " or ".join(sorted(map(str, from_states)))
    message = f"plan {plan_id} is {state}, not {wanted}"
    raise Conflict(message, hint="A plan is applied once; make a new one.", code="plan-state")


def save_approval(connection: Connection, plan_id: int, approval: Approval) -> None:
    """Keep that somebody agreed; of the same principal the last time counts."""
    row = {
        "plan_id": plan_id,
        "principal": approval.principal,
        "kind": str(approval.kind),
        "at": to_micros(approval.at),
        "fingerprint": approval.fingerprint,
        "name": approval.name,
    }
    bulk_upsert(connection, approvals, [row], update=("at", "fingerprint", "name"))


def save_outcome(
    connection: Connection,
    plan_id: int,
    outcome: Mapping[str, object],
    *,
    applied_at: datetime | None = None,
    undo_until: datetime | None = None,
    finished_at: datetime | None = None,
) -> None:
    """Keep the report of what was done. Moments that are ``None`` stay what they were."""
    moments = {"applied_at": applied_at, "undo_until": undo_until, "finished_at": finished_at}
    known = {name: to_micros(moment) for name, moment in moments.items() if moment is not None}
    connection.execute(update(plans).where(plans.c.id == plan_id).values(outcome=pack_json(outcome), **known))


def _repository_row(one: RepositoryVerdicts, step_counts: Mapping[tuple[str, str], int]) -> dict[str, object]:
    outcomes = Counter(verdict.outcome for verdict in one.verdicts)
    return {
        "registry": one.registry,
        "repository": one.repository,
        "keep_count": outcomes[Outcome.KEEP],
        "remove_count": outcomes[Outcome.REMOVE],
        "undecided_count": outcomes[Outcome.UNDECIDED],
        "step_count": step_counts.get((one.registry, one.repository), 0),
        "verdicts": pack_verdicts(one.verdicts),
    }


def _step_row(step: Step) -> dict[str, object]:
    return {
        "position": step.position,
        "kind": str(step.kind),
        "registry": step.registry,
        "repository": step.repository,
        "digest": Digest.stored_form(step.digest) if step.digest else b"",
        "tags": _TAGS_ENCODER.encode(step.tags).decode(),
        "with_placeholder": int(step.with_placeholder),
        "size_bytes": step.size_bytes,
        "state": _PENDING,
    }


def _stored_step(row: Any) -> StoredStep:
    step = Step(
        position=row.position,
        kind=StepKind(row.kind),
        registry=row.registry,
        repository=row.repository,
        digest=str(Digest.from_bytes(row.digest)) if row.digest else "",
        tags=_TAGS.decode(row.tags),
        with_placeholder=bool(row.with_placeholder),
        size_bytes=row.size_bytes,
    )
    return StoredStep(step=step, state=StepState(row.state), detail=row.detail, at=from_micros(row.at))


def _load_approvals(connection: Connection, plan_id: int) -> tuple[Approval, ...]:
    rows = connection.execute(
        select(approvals).where(approvals.c.plan_id == plan_id).order_by(approvals.c.at, approvals.c.principal)
    )
    return tuple(
        Approval(
            principal=row.principal,
            kind=ApprovalKind(row.kind),
            at=from_micros(row.at),
            fingerprint=row.fingerprint,
            name=row.name,
        )
        for row in rows
    )


def _summary(row: Any) -> PlanSummary:
    return PlanSummary(
        id=row.id,
        state=PlanState(row.state),
        title=row.title,
        made_at=from_micros(row.made_at),
        made_by=row.made_by,
        expires_at=from_micros(row.expires_at),
        fingerprint=row.fingerprint,
        is_blocked=bool(row.is_blocked),
        needed_approval_count=row.needed_approval_count,
        repository_count=row.repository_count,
        tag_count=row.tag_count,
        manifest_count=row.manifest_count,
        reclaimable_bytes=row.reclaimable_bytes,
        applied_at=from_micros(row.applied_at),
        undo_until=from_micros(row.undo_until),
        finished_at=from_micros(row.finished_at),
    )


def _no_plan(plan_id: int) -> NotFound:
    return NotFound(f"there is no plan {plan_id}", hint="`regwarden plan list` shows them.", code="plan-not-found")

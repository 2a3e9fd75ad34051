"""What is in a plan, a page at a time: its steps, its verdicts, and which repositories it is about."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from sqlalchemy import and_, or_, select
from sqlalchemy.engine import Connection

from regwarden.core.verdicts import Outcome, Verdict
from regwarden.store.cleanup_schema import plan_repositories, plans
from regwarden.store.plan_records import PlanState, StepState, StoredStep
from regwarden.store.plans import load_steps, load_verdicts

_CHUNK: Final = 1_000

Chosen = Callable[[str], bool]


class VerdictPlace(NamedTuple):
    """Where a page of verdicts ended: in which repository, and how many of it were read."""

    registry: str
    repository: str
    done_count: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class PlacedVerdict:
    """What was decided about one tag or untagged manifest, and where that is."""

    registry: str
    repository: str
    verdict: Verdict


def find_plan_places(connection: Connection, plan_id: int) -> tuple[tuple[str, str], ...] | None:
    """The registries and repositories that a plan is about; ``None`` where there is no plan, or not all of it yet."""
    state = connection.execute(select(plans.c.state).where(plans.c.id == plan_id)).scalar_one_or_none()
    if state in (None, str(PlanState.INCOMPLETE)):
        return None
    columns = plan_repositories.c.registry, plan_repositories.c.repository
    rows = connection.execute(select(*columns).where(plan_repositories.c.plan_id == plan_id))
    return tuple((row.registry, row.repository) for row in rows)


def page_steps(
    connection: Connection, plan_id: int, chosen: Chosen, *, states: Collection[StepState], after: int, limit: int
) -> tuple[list[StoredStep], int | None]:
    """At most ``limit`` steps behind the position ``after`` in repositories that are ``chosen``.

    And the position to go on behind; ``None`` at the end.
    """
    found: list[StoredStep] = []
    while rows := load_steps(connection, plan_id, after=after, limit=_CHUNK, states=states):
        for row in rows:
            if chosen(row.step.repository):
                if len(found) == limit:
                    return found, after
                found.append(row)
            after = row.step.position
    return found, None


def page_verdicts(
    connection: Connection, plan_id: int, chosen: Chosen, *, outcome: Outcome | None, after: VerdictPlace, limit: int
) -> tuple[list[PlacedVerdict], VerdictPlace | None]:
    """At most ``limit`` verdicts behind ``after``, and the place to go on behind; ``None`` at the end."""
    found: list[PlacedVerdict] = []
    for registry, repository in _places_from(connection, plan_id, after):
        if not chosen(repository):
            continue
        decided = load_verdicts(connection, plan_id, registry, repository)
        verdicts = decided.verdicts if decided is not None else ()
        start = after.done_count if (registry, repository) == after[:2] else 0
        for number, verdict in enumerate(verdicts[start:], start):
            if outcome is not None and verdict.outcome is not outcome:
                continue
            if len(found) == limit:
                return found, VerdictPlace(registry, repository, number)
            found.append(PlacedVerdict(registry, repository, verdict))
    return found, None


def _places_from(connection: Connection, plan_id: int, after: VerdictPlace) -> list[tuple[str, str]]:
    registry, repository = plan_repositories.c.registry, plan_repositories.c.repository
    behind: Any = or_(registry > after.registry, and_(registry == after.registry, repository >= after.repository))
    statement = select(registry, repository).where(plan_repositories.c.plan_id == plan_id, behind)
    rows = connection.execute(statement.order_by(registry, repository))
    return [(row.registry, row.repository) for row in rows]

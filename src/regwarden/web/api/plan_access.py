"""Whose plan is it to see and to change? Of those who may do so to every repository that it is about."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from regwarden.core.access import Permission, Reach, reach
from regwarden.errors import Forbidden, NotFound
from regwarden.store.connections import Connection
from regwarden.store.plan_pages import find_plan_places
from regwarden.web.api.context import Caller
from regwarden.web.api.documents import path_to

PlanId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of a plan.")]


async def require_visible(caller: Caller, plan_id: int) -> None:
    """Go on only with a plan that may be seen, and changed if the route changes plans.

    Raises ``NotFound`` (code ``plan-not-found``) as for a plan that is not there, and ``Forbidden``.
    """
    seen = reach(caller.principal, Permission.PLANS_READ)
    places = await caller.parts.database.read(lambda connection: find_plan_places(connection, plan_id))
    if places is None or not _has_all(seen, places):
        hint = "GET /api/v1/plans shows them."
        raise NotFound(f"there is no plan {plan_id}", hint=hint, code="plan-not-found")
    if not _has_all(caller.reach, places):
        raise Forbidden(
            f"{caller.principal.name} may not do this to plan {plan_id}: it is about other repositories, too",
            hint="Ask an administrator for a role.",
        )


def is_visible(connection: Connection, plan_id: int, seen: Reach) -> bool:
    """Whether a plan of the list may be seen."""
    if seen.is_everything:
        return True
    places = find_plan_places(connection, plan_id)
    return places is not None and _has_all(seen, places)


def plan_path(plan_id: int, *more: str) -> str:
    """The address of a plan, or of a part of it."""
    return path_to("plans", str(plan_id), *more)


def _has_all(granted: Reach, places: tuple[tuple[str, str], ...]) -> bool:
    return granted.is_everything or (bool(places) and all(granted.has(*place) for place in places))

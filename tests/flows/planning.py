"""Plans made by the real flow from an inventory that grew over time, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from regwarden import clock
from regwarden.core.plan import Plan
from regwarden.core.policy_reading import parse_policies
from regwarden.core.selection import Selection
from regwarden.core.verdicts import Outcome
from regwarden.flows.deletion_probe import probe_deletion
from regwarden.flows.planning import PlanRequest, make_plan
from regwarden.store.plans import load_whole_plan
from regwarden.testing.content import BuiltManifest
from tests.crawling import NAME
from tests.flows.cleaning import Cleanup

Push = tuple[str, str, BuiltManifest, int]
"""Repository, tag (empty: none), what, and how many days ago."""


async def crawled(cleanup: Cleanup, pushes: Iterable[Push]) -> None:
    """Push, the oldest first, and crawl each time, as if it were that day."""
    for repository, tag, built, days in sorted(pushes, key=lambda one: -one[3]):
        cleanup.content.repository(repository).add(built, *([tag] if tag else []))
        cleanup.inventory.now = partial(_the_same, clock.now() - timedelta(days=days))
        assert (await cleanup.inventory.crawl()).state == "complete"
    cleanup.inventory.now = clock.now
    await probe_deletion(cleanup.services, NAME, next(iter(cleanup.content.repositories)))
    cleanup.registry.forget()


def request_of(made_from: str | Selection, **more: Any) -> PlanRequest:
    """What is to be planned, by the text of policies or a selection."""
    return PlanRequest(
        policies=parse_policies(made_from, name="policy.yaml") if isinstance(made_from, str) else (),
        policy_texts={"policy.yaml": made_from} if isinstance(made_from, str) else {},
        selection=made_from if isinstance(made_from, Selection) else None,
        **{"made_by": "ann", "expires_after": timedelta(days=7), **more},
    )


async def plan_of(cleanup: Cleanup, made_from: str | Selection, **more: Any) -> Plan:
    """A kept plan, loaded again with everything."""
    warnings: list[str] = []
    plan_id = await make_plan(cleanup.services, request_of(made_from, **more), [NAME], on_warning=warnings.append)
    assert not warnings
    return cleanup.database.read_now(lambda connection: load_whole_plan(connection, plan_id))


def removed(plan: Plan) -> list[str]:
    """``REPOSITORY:TAG`` of all tags that go."""
    return [
        f"{one.repository}:{verdict.tag}"
        for one in plan.verdicts
        for verdict in one.verdicts
        if verdict.outcome is Outcome.REMOVE
    ]


def _the_same(moment: datetime) -> datetime:
    return moment

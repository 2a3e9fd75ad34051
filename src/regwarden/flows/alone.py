"""Who else changes these registries just now? Nobody: one plan at a time is carried out or taken back in each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from regwarden.store.database import Database
from regwarden.store.plans import list_plan_repositories


@asynccontextmanager
async def alone(database: Database, plan_id: int) -> AsyncIterator[None]:
    """Keep a plan and the registries that it is about to ourselves while the block runs.

    What one plan decides is decided by what the others leave: two at once could remove together what neither would
    remove alone. Raises ``Conflict`` (code ``database-busy``) if another run has one of them.
    """
    places = await database.read(lambda connection: list_plan_repositories(connection, plan_id))
    with ExitStack() as held:
        held.enter_context(database.exclusive(f"plan {plan_id}"))
        for registry in sorted({one.registry for one in places}):
            held.enter_context(database.exclusive(f"a cleanup of {registry}"))
        yield

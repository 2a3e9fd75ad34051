"""What does a route of ``/api/v1`` work with: who asks, what they may see, and the parts of the service?

Every route has exactly one ``Permitted`` among its dependencies, or says in ``PUBLIC`` that it needs none; a test
goes through all routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from starlette.requests import Request

from regwarden.core.access import Decision, Permission, Principal, Reach, decide, reach
from regwarden.errors import Forbidden, NotFound, Unauthorized
from regwarden.flows.allowing import AllowList
from regwarden.library import Inventory
from regwarden.library_time import PastAnswers
from regwarden.settings_sources import LoadedSettings
from regwarden.store.database import Database
from regwarden.web.control import Handler
from regwarden.web.operations import Operations

T = TypeVar("T")

# Names of routes that anybody may ask: they tell of the program, not of what it knows.
PUBLIC: Final = frozenset({"openapi", "docs", "docs-asset"})


class Authenticator(Protocol):
    """Finds out who asks; ``web.authentication`` has the one of the service."""

    async def authenticate(self, request: Request) -> Principal:
        """Who asks. Raises ``Unauthorized`` and ``TooManyAttempts``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What routes work with, given by the service.

    ``commands`` are those of ``service_commands``: whatever changes something goes through them, as the command line
    does beside the service.
    """

    database: Database
    loaded: LoadedSettings
    environ: Mapping[str, str] = field(repr=False)
    authenticator: Authenticator
    commands: Mapping[str, Handler]
    operations: Operations = field(default_factory=Operations)
    allow: AllowList | None = None
    past: PastAnswers | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and where they have the permission of the route."""

    principal: Principal
    permission: Permission
    reach: Reach
    parts: ApiParts
    request: Request = field(repr=False)

    async def is_still_permitted(self) -> bool:
        """Whether who asked may still do what they asked for: answers that take long look now and then."""
        try:
            principal = await self.parts.authenticator.authenticate(self.request)
        except Unauthorized:
            return False
        return reach(principal, self.permission) == self.reach

    def require(self, places: Sequence[tuple[str, str]], *, what: str, permission: Permission | None = None) -> None:
        """Go on only if all of ``places`` (registry, repository) lie in reach; ``what`` names the thing for people.

        Raises ``NotFound`` where not even that it exists may be told, else ``Forbidden``.
        """
        decision = decide(self.principal, permission or self.permission, places)
        if decision is Decision.HIDDEN:
            raise NotFound(f"there is no {what}")
        if decision is Decision.FORBIDDEN:
            raise Forbidden(f"{self.principal.name} may not do this to {what}", hint="Ask an administrator for a role.")

    async def ask(self, work: Callable[[Inventory], T]) -> T:
        """The result of ``work`` on the inventory as far as it is in reach, in a thread of its own."""
        parts = self.parts

        def run() -> T:
            with closing(
                Inventory.beside(parts.database, parts.loaded, parts.environ, reach=self.reach, past=parts.past)
            ) as inventory:
                return work(inventory)

        return await asyncio.to_thread(run)


class Permitted:
    """The dependency by which a route names its permission: ``caller: Annotated[Caller, Depends(Permitted(…))]``."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Caller:
        """Who asks, if they have the permission anywhere."""
        parts: ApiParts = parts_of(request)
        principal = await parts.authenticator.authenticate(request)
        granted = reach(principal, self.permission)
        if not granted.areas:
            raise Forbidden(
                f"{principal.name} may not do this: it needs the permission {self.permission}",
                hint="Ask an administrator for a role that has it.",
            )
        return Caller(principal, self.permission, granted, parts, request)


def parts_of(request: Request) -> Any:
    """The parts that ``web.api.application`` was made with."""
    return request.app.state.parts

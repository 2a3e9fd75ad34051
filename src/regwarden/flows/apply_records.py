"""What is asked for when a plan is applied, what is told meanwhile, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from aiolimiter import AsyncLimiter

from regwarden.core.observed import Hold
from regwarden.core.plan import GuardCode
from regwarden.errors import RegwardenError
from regwarden.flows.services import Services
from regwarden.registries.api import Connector
from regwarden.store.allow_holds import HoldsMark
from regwarden.store.connections import Connection
from regwarden.store.plan_records import StoredPlan, StoredStep

MAX_FAILURES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How carefully a plan is carried out.

    ``waived`` guards are waived besides those of the plan. ``requests_per_second`` bounds all requests of this run;
    ``None`` leaves it to the settings of the registry. ``linger_seconds`` is how long events are waited for at the
    end. ``stop`` ends the run before the next step when it is set.
    """

    waived: frozenset[GuardCode] = frozenset()
    max_failures: int = MAX_FAILURES
    requests_per_second: float | None = None
    linger_seconds: float = 2.0
    stop: asyncio.Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be thought over again: the steps of one repository, with all that has become of them by now.

    ``held`` are digests that stay although the plan removes them, with whatever they lead to: their step failed.
    """

    stored: StoredPlan
    registry: str
    repository: str
    steps: Sequence[StoredStep]
    held: frozenset[str]
    waived: frozenset[GuardCode]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What may still be done in a repository by the facts of now.

    ``allowed`` are positions of steps that a plan made now would have as well; ``reasons`` say of others why not.
    ``waits`` says why nothing can be decided at the moment although it may be soon: something was pushed and must be
    read first; or that the proof cannot read a manifest. ``violations`` are what else it found, in words. ``tags`` is
    what each known tag points to, ``existing`` every known manifest, ``event_id`` and ``holds`` the state of the world
    that was looked at, at the moment ``looked_at``; ``hold_places`` are the repositories whose holds these are, and
    ``holds_mark`` stays the same while nothing more is allowed. ``outlasts_additions``: something new cannot be a
    reason for something old to stay. ``linked`` are the manifests that list or are about others, or the other way
    round (``None``: not known): that any other one stays is no reason for anything else to stay.
    """

    allowed: frozenset[int]
    reasons: Mapping[int, str] = field(default_factory=dict)
    waits: str = ""
    violations: tuple[str, ...] = ()
    tags: Mapping[str, str | None] = field(default_factory=dict)
    existing: frozenset[str] = frozenset()
    event_id: int = 0
    holds: tuple[Hold, ...] = ()
    holds_mark: HoldsMark = field(default_factory=HoldsMark)
    hold_places: frozenset[str] = frozenset()
    looked_at: datetime | None = None
    outlasts_additions: bool = False
    linked: frozenset[str] | None = None


Reconsider = Callable[[Connection, Question], Considered]
Drain = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyTarget:
    """What applying needs besides the services. ``drain`` applies all deliveries that are stored."""

    drain: Drain
    reconsider: Reconsider


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyProgress:
    """How far a run is: steps that have come to an end, by what became of them, of ``step_count``."""

    step_count: int
    ended_count: int
    registry: str
    repository: str
    results: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyReport:
    """What came of a run.

    ``state`` is that of the plan now; ``stopped`` says why it is not at its end (empty: it is). ``results`` counts all
    steps of the plan by state. ``problems`` are sentences about steps that failed, ``skipped`` the first of those about
    steps that a rule of the registry forbids, ``broken_indexes`` those about
    indexes that stay and lack a child. ``restored_count`` counts what was put back because a push raced.
    ``can_miss_races`` says that no events came in, so races cannot be excluded.
    """

    plan_id: int
    state: str
    results: Mapping[str, int]
    stopped: str = ""
    problems: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    verified_index_count: int = 0
    broken_indexes: tuple[str, ...] = ()
    restored_count: int = 0
    can_miss_races: bool = False
    request_count: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """One repository of one registry that is worked on for a plan; ``stop`` is set when the run is to end."""

    services: Services
    connector: Connector
    plan_id: int
    registry: str
    repository: str
    limiter: AsyncLimiter | None = None
    stop: asyncio.Event | None = None

    async def pace(self) -> Connector:
        """The connector, as soon as another request may be sent."""
        if self.limiter is not None:
            await self.limiter.acquire()
        return self.connector


class Stopped(RegwardenError):
    """The run ends here; what is left can be done by a later one."""

    code = "apply-stopped"

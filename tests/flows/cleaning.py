"""A registry in memory that is cleaned up: plans made from its inventory, approved, applied, raced."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, update

from regwarden import clock
from regwarden.core.graph import Confidence
from regwarden.core.patterns import parse_pattern
from regwarden.core.plan import GuardCode, Plan, PlanSizes
from regwarden.core.planning import PlanInputs, build_plan, plan_repository
from regwarden.core.policy_reading import parse_policies
from regwarden.core.retention import collect_policies, evaluate, needs_of
from regwarden.core.selecting import select
from regwarden.core.selection import SelectedTags, Selection
from regwarden.core.verdicts import RepositoryVerdicts
from regwarden.flows.apply_records import ApplyOptions, ApplyReport, ApplyTarget
from regwarden.flows.cleanup import apply_plan
from regwarden.flows.deletion_probe import probe_deletion
from regwarden.flows.ingest import Applier, EventRegistry, Folding
from regwarden.flows.reconsidering import reconsider
from regwarden.flows.restoring import Restored, restore_races
from regwarden.flows.services import Services
from regwarden.store.database import Access, Database, open_database
from regwarden.store.event_schema import deliveries, rereads
from regwarden.store.installation import ensure_installation_id
from regwarden.store.journal import JournalEntry, load_journal
from regwarden.store.observed import iterate_repositories, load_registry
from regwarden.store.plan_records import Approval, ApprovalKind, StoredPlan, StoredStep
from regwarden.store.plans import load_plan, load_steps, save_approval, save_plan
from regwarden.store.protections import load_holds
from regwarden.store.schema import registries
from regwarden.store.times import to_micros
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import image, image_config, index, layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Connector, Inventory, open_connector_to, open_inventory

OURS = "0123456789abcdef"
WHEN_CRAWLED = timedelta(days=40)
QUICK = ApplyOptions(linger_seconds=0)


def picture(seed: str) -> BuiltManifest:
    """An image of its own."""
    return image([layer(f"layer of {seed}", 1000)], image_config(labels={"seed": seed}))


def platforms(seed: str, *more: BuiltManifest) -> BuiltManifest:
    """An index of two images, and what else is given."""
    return index([picture(f"{seed} a"), picture(f"{seed} b"), *more])


@dataclass
class Cleanup:
    """The registry, what is known of it, and how plans are made and carried out in it."""

    registry: SampleRegistry
    inventory: Inventory
    others: Connector
    services: Services
    delivered: int = 0
    is_deaf: bool = False
    held_back: bool = False
    drained: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.inventory.database

    @property
    def content(self) -> Content:
        return self.registry.content

    async def crawl(self, *, is_heard: bool = False, **options: Any) -> None:
        """Read the registry, as it was long ago; ``is_heard``: it sent notifications before that already."""
        present = self.inventory.now
        self.inventory.now = lambda: clock.now() - WHEN_CRAWLED
        assert (await self.inventory.crawl(**options)).state == "complete"
        self.inventory.now = present
        if is_heard:
            long_ago = to_micros(clock.now() - 2 * WHEN_CRAWLED)
            await self.database.write(lambda one: one.execute(update(registries).values(events_since=long_ago)))
        await probe_deletion(self.services, NAME, next(iter(self.content.repositories), "none"))
        self.registry.forget()
        self.delivered = 0

    def reopen(self, address: str) -> None:
        """Open the database again after another process had it."""
        self.inventory.database = open_database(address, access=Access.WRITE)
        self.services = Services(self.database, clock.now, self.services.connectors)

    async def read_all(self) -> None:
        """Read the registry as it is, and with it what events asked for."""
        await self.drain()
        assert (await self.inventory.crawl()).state == "complete"
        await self.database.write(lambda connection: connection.execute(delete(rereads)))

    async def deliver(self) -> None:
        """Let the registry's notifications of until now come in, unapplied."""
        new = self.registry.events[self.delivered :]
        if self.held_back:
            late = [event for event in new if f"({OURS})" not in event.user_agent]
            new = [event for event in new if event not in late]
            self.registry.events[self.delivered :] = [*new, *late]
            self.delivered += len(new)
        else:
            self.delivered += len(new)
        source = {"addr": "registry:5000", "instanceID": "one"}
        envelope = {"events": [event.as_json(generation=2, source=source) for event in new]}
        if not new or self.is_deaf:
            return
        body = json.dumps(envelope).encode()
        row = {
            "registry": NAME,
            "received_at": to_micros(clock.now()),
            "sender": "192.0.2.2",
            "state": "pending",
            "body_bytes": len(body),
            "body": body,
        }
        await self.database.write(lambda connection: connection.execute(insert(deliveries), row))

    async def drain(self) -> None:
        """Deliver and apply; then what a test wants to happen after it."""
        await self.deliver()
        folding = Folding(OURS, lambda _: "other", frozenset(), (EventRegistry(NAME, self.inventory.url),))
        await Applier(self.database, clock.now, folding).drain()
        for work in self.drained:
            await work()

    def select(self, *patterns: str, **options: Any) -> Selection:
        """Tags ``REPOSITORY:PATTERN``, or whole repositories."""
        tagged = [one for one in patterns if ":" in one]
        whole = [one for one in patterns if ":" not in one]
        references = tuple(
            SelectedTags(repository=parse_pattern(one.partition(":")[0]), tags=(parse_pattern(one.partition(":")[2]),))
            for one in tagged
        )
        return Selection(registry=NAME, repositories=tuple(map(parse_pattern, whole)), references=references, **options)

    def plan(
        self, made_from: Selection | str, *, waived: Sequence[GuardCode] = (), now: datetime | None = None
    ) -> Plan:
        """A plan by a selection or by the text of policies."""
        return self.database.read_now(lambda connection: _make_plan(connection, made_from, frozenset(waived), now))

    async def save(self, plan: Plan, *principals: str, kind: ApprovalKind = ApprovalKind.OS_USER) -> int:
        """Keep a plan, approved by these."""

        def write(connection: Any) -> int:
            plan_id = save_plan(connection, plan)
            for principal in principals:
                approval = Approval(principal=principal, kind=kind, at=clock.now(), fingerprint=plan.fingerprint)
                save_approval(connection, plan_id, approval)
            return plan_id

        return await self.database.write(write)

    async def apply(
        self, plan_id: int, options: ApplyOptions = QUICK, *, fingerprint: str = "", **more: Any
    ) -> ApplyReport:
        """Carry a plan out."""
        seen = fingerprint or self.stored(plan_id).plan.fingerprint
        target = ApplyTarget(drain=self.drain, reconsider=more.pop("reconsider", reconsider))
        return await apply_plan(
            self.services, target, plan_id, fingerprint=seen, principal="ann", options=options, **more
        )

    async def clean(self, made_from: Selection | str, options: ApplyOptions = QUICK, **more: Any) -> ApplyReport:
        """Make a plan, approve it and carry it out."""
        return await self.apply(await self.save(self.plan(made_from, **more), "ann"), options)

    async def restore(self) -> Restored:
        """Put back what was pushed meanwhile, after everything was delivered."""
        await self.drain()
        return await restore_races(self.services, NAME)

    def stored(self, plan_id: int) -> StoredPlan:
        return self.database.read_now(lambda connection: load_plan(connection, plan_id))

    def steps(self, plan_id: int) -> tuple[StoredStep, ...]:
        return self.database.read_now(lambda connection: load_steps(connection, plan_id))

    def journal(self, plan_id: int) -> tuple[JournalEntry, ...]:
        return self.database.read_now(lambda connection: load_journal(connection, plan_id))

    def states(self, plan_id: int) -> list[str]:
        return [str(one.state) for one in self.steps(plan_id)]

    def sent(self, method: str = "DELETE") -> list[str]:
        """The paths of requests of a kind that were sent since the registry was crawled."""
        return [one.path for one in self.registry.requests if one.method == method]

    def tags(self, repository: str) -> dict[str, str]:
        """What the registry has."""
        return {tag: str(digest) for tag, digest in self.content.repository(repository).tags.items()}

    def holds(self, repository: str, *built: BuiltManifest) -> list[bool]:
        """Whether the registry has these."""
        return [one.digest in self.content.repository(repository).manifests for one in built]

    def known_tags(self, repository: str) -> dict[str, str | None]:
        """What the inventory has."""
        for observed in self.database.read_now(
            lambda connection: list(
                iterate_repositories(connection, NAME, repository.__eq__, needs_of(()), clock.now())
            )
        ):
            return {tag.name: tag.digest for tag in observed.tags}
        return {}

    async def push(self, repository: str, built: BuiltManifest, tag: str = "") -> None:
        """Somebody else pushes over HTTP what the registry has the blobs of."""
        reference = tag or str(built.digest)
        await self.others.put_manifest(repository, reference, built.media_type, built.payload)


def _make_plan(connection: Any, made_from: Selection | str, waived: frozenset[GuardCode], now: datetime | None) -> Plan:
    now = now or clock.now()
    registry = load_registry(connection, NAME)
    policies = () if isinstance(made_from, Selection) else parse_policies(made_from, name="policy.yaml")
    observed = list(iterate_repositories(connection, NAME, None, needs_of(policies), now))
    holds = load_holds(connection, NAME, now)
    inputs = PlanInputs(
        registries={NAME: registry},
        snapshots={},
        now=now,
        made_by="ann",
        policies=policies,
        policy_texts={} if isinstance(made_from, Selection) else {"policy.yaml": made_from},
        selection=made_from if isinstance(made_from, Selection) else None,
        holds=holds,
        waived=waived,
    )
    verdicts: list[RepositoryVerdicts] = []
    if isinstance(made_from, Selection):
        verdicts += select(made_from, observed, registry, holds=holds, now=now, waived=waived)
    by_name = {one.name: one for one in observed}
    for one in observed if policies else ():
        collected = collect_policies(policies, NAME, one.name)
        if collected is not None:
            verdicts.append(evaluate(collected, one, registry, holds=holds, now=now, waived=waived))
    planned = []
    for decided in verdicts:
        collected = collect_policies(policies, NAME, decided.repository)
        about = collected.policies if collected is not None else ()
        planned.append(plan_repository(inputs, by_name[decided.repository], decided, about))
    sizes = {NAME: PlanSizes(reclaimable_bytes=1, lower_bound_bytes=0, confidence=Confidence.UPPER_BOUND)}
    return build_plan(inputs, planned, sizes)


@asynccontextmanager
async def cleaning(
    content: Content, behaviour: Behaviour | None = None, address: str = ":memory:"
) -> AsyncIterator[Cleanup]:
    """The registry and an empty inventory of it, with notifications that come in whenever they are drained."""
    async with (
        SampleRegistry(content, behaviour=behaviour) as registry,
        open_inventory(registry.url, address, installation=OURS) as inventory,
    ):
        others = open_connector_to(registry.url)
        await inventory.database.write(lambda connection: ensure_installation_id(connection, OURS))
        services = Services(inventory.database, clock.now, {NAME: inventory.connector})
        try:
            yield Cleanup(registry, inventory, others, services)
        finally:
            await others.close()


@asynccontextmanager
async def attached(url: str, address: str) -> AsyncIterator[Cleanup]:
    """The inventory of a registry that another process serves; no notifications come in here."""
    async with open_inventory(url, address, installation=OURS) as inventory:
        others = open_connector_to(url)
        await inventory.database.write(lambda connection: ensure_installation_id(connection, OURS))
        services = Services(inventory.database, clock.now, {NAME: inventory.connector})
        yield Cleanup(SampleRegistry(Content()), inventory, others, services)
        await others.close()

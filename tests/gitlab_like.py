"""A simulated registry that behaves as GitLab's with the metadata database, and an inventory that is cleaned up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from regwarden.core.access import EVERYTHING
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.core.plan import GuardCode
from regwarden.core.projects import RepositoryStatus
from regwarden.core.selection import SelectedTags, Selection
from regwarden.errors import RegistryDenied, RegistryError
from regwarden.flows.apply_records import ApplyOptions, ApplyReport, ApplyTarget
from regwarden.flows.cleanup import apply_plan
from regwarden.flows.crawl import CrawlOptions, RegistryTarget, crawl
from regwarden.flows.planning import PlanRequest, make_plan
from regwarden.flows.reconsidering import reconsider
from regwarden.flows.services import Services
from regwarden.flows.undoing import UndoReport, undo_plan
from regwarden.registries.api import Removal
from regwarden.store.database import Access, Database, open_database
from regwarden.store.installation import ensure_installation_id
from regwarden.store.plan_records import Approval, ApprovalKind, StoredPlan, StoredStep
from regwarden.store.plans import load_plan, load_steps, save_approval
from tests.simulated_registry import (
    OURS,
    Died,
    Lifeline,
    MortalDatabase,
    SimulatedClock,
    SimulatedConnector,
    SimulatedRegistry,
)

NAME = "gitlab"
_WAIVED = frozenset({GuardCode.NEVER_EMPTY, GuardCode.REPOSITORY_SHARE, GuardCode.MIN_AGE})
_PAUSES = (
    "applying._WAIT_SECONDS",
    "apply_checks._KNOCK_SECONDS",
    "apply_steps._PAUSE_SECONDS",
    "dropping._FIRST_PAUSE_SECONDS",
)


class Unwatched:
    """Nobody minds what is changed."""

    def on_delete(self, repository: str, reference: str) -> None:
        """Nothing to say."""

    def on_put(self, repository: str, reference: str, payload: bytes) -> None:
        """Nothing to say."""


class GitLabLike(SimulatedConnector):
    """Collects what no tag leads to by itself, protects what its rules say, deletes repositories in its own time."""

    removes_by_tag = True

    def __init__(self, registry: SimulatedRegistry) -> None:
        super().__init__(registry)
        self.watcher = Unwatched()
        self.refusals: dict[str, RegistryError] = {}  # by tag, digest or repository
        self.statuses: dict[str, list[RepositoryStatus]] = {}  # what it goes through after it was asked
        self.before: Callable[[str], object] = lambda _: None  # told each tag before it is removed
        self.dropped: list[str] = []

    async def delete_tag(self, repository: str, tag: str) -> Removal:
        self.before(tag)
        if tag in self.refusals:
            raise self.refusals[tag]
        return await super().delete_tag(repository, tag)

    async def delete_manifest(self, repository: str, digest: Digest) -> Removal:
        here = self.registry.content.repository(repository)
        if str(digest) in self.refusals:
            raise self.refusals[str(digest)]
        for parent in here.manifests.values():
            if parent.digest != digest and str(digest).encode() in parent.payload and b'"manifests"' in parent.payload:
                raise RegistryError(f"an index lists {digest}", code="manifest-referenced", status=409)
        return await super().delete_manifest(repository, digest)

    async def delete_repository(self, repository: str) -> RepositoryStatus:
        with self._request("DELETE", repository):
            if repository in self.refusals:
                raise self.refusals[repository]
            self.dropped.append(repository)
            self.statuses.setdefault(repository, [RepositoryStatus.DELETING, RepositoryStatus.GONE])
            return RepositoryStatus.DELETING
        raise AssertionError

    async def find_repository_status(self, repository: str) -> RepositoryStatus:
        with self._request("GET", repository):
            if repository not in self.dropped:
                return RepositoryStatus.PRESENT
            left = self.statuses[repository]
            status = left.pop(0) if len(left) > 1 else left[0]
            if status is RepositoryStatus.GONE:
                self.registry.content.repositories.pop(repository, None)
            return status
        raise AssertionError


def protected(message: str = "a rule protects this tag", code: str = "tag-protected") -> RegistryError:
    """What a registry answers where a rule of its own keeps something."""
    return RegistryDenied(message, code=code, status=403)


@dataclass
class Cleaned:
    """The registry, what is known of it, and what is done to it."""

    database: Database
    registry: SimulatedRegistry
    connector: GitLabLike

    async def crawl(self) -> None:
        target = RegistryTarget(NAME, "http://registry.test")
        services = Services(self.database, self.registry.clock.now, {NAME: self.connector})
        assert (await crawl(services, target, CrawlOptions(accept_disappearance=True))).state == "complete"
        self.registry.clock.present += timedelta(days=3)

    async def plan(self, *selected: str, drops: bool = False, waived: frozenset[GuardCode] = _WAIVED) -> int:
        """Tags ``REPOSITORY:PATTERN``, or whole repositories; agreed to at once."""
        now = self.registry.clock.now()
        services = Services(self.database, self.registry.clock.now, {NAME: self.connector})
        request = PlanRequest(
            selection=_select(selected),
            waived=waived,
            made_by="ann",
            expires_after=timedelta(days=7),
            reach=EVERYTHING,
            drops_repositories=drops,
        )
        plan_id = await make_plan(services, request, [NAME], on_warning=lambda _: None)
        approval = Approval(
            principal="ann", kind=ApprovalKind.OS_USER, at=now, fingerprint=self.stored(plan_id).plan.fingerprint
        )
        await self.database.write(lambda connection: save_approval(connection, plan_id, approval))
        return plan_id

    async def apply(self, plan_id: int, *, dies_at: int = 0) -> ApplyReport | None:
        """``None`` if the process ended at the request or transaction of that number."""
        self.connector.lifeline = Lifeline(dies_at=dies_at)
        database: Any = MortalDatabase(self.database, self.connector.lifeline)
        services = Services(database, self.registry.clock.now, {NAME: self.connector})
        options = ApplyOptions(waived=frozenset({GuardCode.NO_LIVE_EVENTS}), linger_seconds=0.0)
        fingerprint = self.stored(plan_id).plan.fingerprint
        target = ApplyTarget(drain=_nothing, reconsider=reconsider)
        try:
            return await apply_plan(
                services, target, plan_id, fingerprint=fingerprint, principal="ann", options=options
            )
        except Died:
            return None
        finally:
            self.connector.lifeline = Lifeline()

    async def undo(self, plan_id: int) -> UndoReport:
        services = Services(self.database, self.registry.clock.now, {NAME: self.connector})
        return await undo_plan(services, plan_id, principal="ann")

    def stored(self, plan_id: int) -> StoredPlan:
        return self.database.read_now(lambda connection: load_plan(connection, plan_id))

    def steps(self, plan_id: int) -> tuple[StoredStep, ...]:
        return self.database.read_now(lambda connection: load_steps(connection, plan_id))

    def ended(self, plan_id: int) -> list[tuple[str, str]]:
        """What became of each step."""
        return [(str(one.step.kind), str(one.state)) for one in self.steps(plan_id)]

    def tags(self, repository: str) -> dict[str, Digest]:
        return dict(self.registry.content.repository(repository).tags)


@contextmanager
def cleaned() -> Iterator[Cleaned]:
    """An empty registry and an empty inventory; nothing is waited for."""
    registry = SimulatedRegistry(SimulatedClock(), untags=True, tells_digests=True)
    database = open_database(":memory:", access=Access.WRITE, create=True)
    database.write_now(lambda connection: ensure_installation_id(connection, OURS))
    patches = [patch(f"regwarden.flows.{name}", 0.0) for name in _PAUSES]
    for one in patches:
        one.start()
    try:
        yield Cleaned(database, registry, GitLabLike(registry))
    finally:
        for one in patches:
            one.stop()
        database.close()


def _select(patterns: Sequence[str]) -> Selection:
    tagged = [one.partition(":") for one in patterns if ":" in one]
    return Selection(
        registry=NAME,
        repositories=tuple(parse_pattern(one) for one in patterns if ":" not in one),
        references=tuple(
            SelectedTags(repository=parse_pattern(name), tags=(parse_pattern(tag),)) for name, _, tag in tagged
        ),
        untag=True,
    )


async def _nothing() -> None:
    """No notification ever comes in."""

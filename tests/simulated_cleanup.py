"""A simulated registry with an inventory of it that is cleaned up by the real flows, watched by the oracle."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from sqlalchemy import insert, select

from regwarden.core.observed import Hold, Needs
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.core.plan import GuardCode, Plan
from regwarden.core.policy_reading import parse_policies
from regwarden.core.selection import SelectedTags, Selection
from regwarden.core.undo_choice import parse_choice
from regwarden.errors import Conflict, InputError
from regwarden.flows.apply_records import ApplyOptions, ApplyReport, ApplyTarget
from regwarden.flows.cleanup import apply_plan
from regwarden.flows.crawl import CrawlOptions, RegistryTarget, crawl
from regwarden.flows.ingest import Applier, EventRegistry, Folding
from regwarden.flows.planning import PlanRequest, make_plan
from regwarden.flows.reconsidering import reconsider
from regwarden.flows.rereads import RereadTarget, read_manifests, read_repositories
from regwarden.flows.restoring import restore_races
from regwarden.flows.services import Services
from regwarden.flows.undoing import UndoOptions, UndoReport, undo_plan
from regwarden.store.database import Access, open_database
from regwarden.store.event_schema import deliveries
from regwarden.store.installation import ensure_installation_id
from regwarden.store.observed import iterate_repositories
from regwarden.store.plan_records import Approval, ApprovalKind
from regwarden.store.plans import load_whole_plan, save_approval
from regwarden.store.protections import remove_protection, save_protection
from regwarden.store.rereads import due_rereads
from regwarden.store.schema import registries
from regwarden.store.times import to_micros
from regwarden.testing.content import BuiltManifest
from regwarden.testing.notifications import Event
from tests.cleanup_oracle import Job, Oracle, find_missing_blobs
from tests.policy_drafts import Draft
from tests.simulated_registry import (
    OURS,
    Died,
    Lifeline,
    MortalDatabase,
    Plot,
    SimulatedClock,
    SimulatedConnector,
    SimulatedRegistry,
)

NAME, URL = "simulated", "http://registry.test"
_DAY = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(minutes=3)
_LIFETIME = timedelta(days=30)
_REFUSALS = (
    "plan-state",
    "plan-fingerprint",
    "plan-window",
    "plan-unproven",
    "plan-approvals",
    "plan-blocked",
    "plan-expired",
    "no-live-events",
)
_PAUSES = ("applying._WAIT_SECONDS", "apply_checks._KNOCK_SECONDS", "apply_steps._PAUSE_SECONDS")


class SimulatedCleanup:
    """Everything that a person, a registry and its notifications can do, one after the other."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], *, untags: bool, lists_referrers: bool) -> None:
        self._run = run
        self.clock = SimulatedClock()
        self.registry = SimulatedRegistry(self.clock, untags=untags, lists_referrers=lists_referrers)
        self.connector = SimulatedConnector(self.registry)
        self._database = open_database(":memory:", access=Access.WRITE, create=True)
        self._database.write_now(lambda connection: ensure_installation_id(connection, OURS))
        self.oracle = Oracle(self.registry, self._database.read_now)
        self.connector.watcher = self.oracle
        self.services = Services(self._database, self.clock.now, {NAME: self.connector})
        self.plans: dict[int, Job] = {}
        self.agreed: set[int] = set()
        self.ended: set[int] = set()
        self.is_collected = False
        self.is_prompt = True
        self.is_deaf = False
        self.drops_repositories = False
        self._seen = 0
        self.waiting: list[Event] = []
        self._stored: set[str] = set()
        self._patches = ExitStack()
        for name in _PAUSES:
            self._patches.enter_context(patch(f"regwarden.flows.{name}", 0.0))

    def close(self) -> None:
        self._patches.close()
        self._database.close()

    # What comes in.

    def _look(self) -> None:
        self.waiting += self.registry.events[self._seen :]
        self._seen = len(self.registry.events)

    def deliver(self, chosen: Callable[[Event], bool] = lambda _: True, *, seed: int = 0, twice: bool = False) -> None:
        """The waiting events that are chosen come in, shuffled by a seed other than 0; unapplied."""
        self._look()
        sent = [one for one in self.waiting if chosen(one)]
        if not twice:
            self.waiting = [one for one in self.waiting if not chosen(one)]
        if seed:
            random.Random(seed).shuffle(sent)
        for start in range(0, len(sent), 3):
            self._store(sent[start : start + 3])

    def _store(self, sent: Sequence[Event]) -> None:
        source = {"addr": "registry:5000", "instanceID": "one"}
        body = json.dumps({"events": [one.as_json(generation=2, source=source) for one in sent]}).encode()
        row = {"registry": NAME, "received_at": to_micros(self.clock.now()), "sender": "192.0.2.2", "state": "pending"}
        row |= {"body_bytes": len(body), "body": body}
        self._database.write_now(lambda connection: connection.execute(insert(deliveries), row))
        self._stored |= {one.event_id for one in sent}

    def drop(self, number: int) -> None:
        """One of the waiting events is lost for ever."""
        self._look()
        if self.waiting:
            lost = self.waiting.pop(number % len(self.waiting))
            self.oracle.dropped.add(lost.event_id)

    async def drain(self) -> None:
        """What flows call: the events that are on time come in, and all that came in is applied."""
        if self.connector.lifeline.is_dead:
            raise Died
        if not self.is_deaf:
            self.deliver(lambda one: self.is_prompt or OURS in one.user_agent)
        folding = Folding(OURS, lambda _: "other", frozenset(), (EventRegistry(NAME, URL),))
        await Applier(self._database, self.clock.now, folding).drain()
        self.oracle.applied |= self._stored

    def take_in(self) -> None:
        """All events are applied, and what they ask to be read is read."""
        self.is_prompt = True
        for _ in range(5):
            self._run(self.drain())
            if not self._run(self._reread()):
                return

    async def _reread(self) -> bool:
        registry_id: Any = self._database.read_now(lambda connection: connection.scalar(select(registries.c.id)))
        due = self._database.read_now(lambda connection: due_rereads(connection, self.clock.now(), registry_id))
        target = RereadTarget(RegistryTarget(NAME, URL, endpoint_fingerprint="one"), registry_id, CrawlOptions())
        single = [one for one in due if one.reference]
        whole = [one for one in due if not one.reference]
        await read_manifests(self.services, target, single)
        if whole:
            await read_repositories(self.services, target, whole)
        return bool(due)

    def crawl(self) -> None:
        """Read the whole registry, long enough after all events for the clocks to tell what came first."""
        self.clock.present += _CLOCKS_DIFFER
        self.clock.tick()
        target = RegistryTarget(NAME, URL, endpoint_fingerprint="one")
        report = self._run(crawl(self.services, target, CrawlOptions(accept_disappearance=True)))
        assert report.state == "complete", report
        self.clock.tick()
        self.oracle.note_crawl()

    # What others do.

    def push(self, repository: str, built: BuiltManifest, tag: str = "") -> None:
        self.oracle.note_push(repository, self.registry.push(repository, built, tag))

    def remove(self, repository: str, digest: str) -> None:
        self.oracle.note_removal(repository, self.registry.remove(repository, Digest.parse(digest)))

    def untag(self, repository: str, tag: str) -> None:
        self.oracle.note_removal(repository, [self.registry.untag(repository, tag)])

    def pull(self, repository: str, reference: str) -> None:
        event = self.registry.pull(repository, reference)
        if event is not None:
            self.oracle.note_pull(repository, event)

    # What people do here.

    def protect(self, repository: str, tag: str, digest: str) -> None:
        hold = Hold(id=0, registry=NAME, repository=repository, tag=tag, digest=digest, by="bob")
        made = self._database.write_now(lambda connection: save_protection(connection, hold, self.clock.now()))
        self.oracle.holds[made] = (repository, tag, digest)

    def unprotect(self) -> None:
        ended = min(self.oracle.holds)
        self._database.write_now(lambda connection: remove_protection(connection, ended, self.clock.now()))
        del self.oracle.holds[ended]

    def plan(self, made_from: Draft | Selection | str, waived: frozenset[GuardCode] = frozenset()) -> int | None:
        """Make a plan by a draft, a selection or the text of a policy; ``None`` where there is nothing to plan for."""
        draft = made_from if isinstance(made_from, Draft) else None
        words = made_from.text() if isinstance(made_from, Draft) else made_from if isinstance(made_from, str) else ""
        request = PlanRequest(
            policies=parse_policies(words, name="policy.yaml") if words else (),
            policy_texts={"policy.yaml": words} if words else {},
            selection=made_from if isinstance(made_from, Selection) else None,
            waived=waived,
            made_by="ann",
            expires_after=_LIFETIME,
            drops_repositories=self.drops_repositories,
        )
        try:
            plan_id: int = self._run(make_plan(self.services, request, [NAME], on_warning=_fail))
        except InputError as error:
            assert error.code == "nothing-in-scope", error
            return None
        plan: Plan = self._database.read_now(lambda connection: load_whole_plan(connection, plan_id))
        shortest = draft.shortest if draft is not None else timedelta() if words else _DAY
        min_age = shortest * (GuardCode.MIN_AGE not in waived)
        self.plans[plan_id] = Job(plan_id, plan, "", draft, min_age)
        return plan_id

    def agree(self, plan_id: int) -> None:
        job = self.plans[plan_id]
        job.agreed = job.plan.fingerprint
        approval = Approval(
            principal="ann", kind=ApprovalKind.OS_USER, at=self.clock.now(), fingerprint=job.plan.fingerprint
        )
        self._database.write_now(lambda connection: save_approval(connection, plan_id, approval))
        self.agreed.add(plan_id)

    def apply(
        self,
        plan_id: int,
        *,
        plot: Plot | None = None,
        lifeline: Lifeline | None = None,
        is_prompt: bool = True,
        waived: frozenset[GuardCode] = frozenset({GuardCode.NO_LIVE_EVENTS}),
    ) -> ApplyReport | None:
        """Carry a plan out; ``None`` if that was refused or ended in the middle."""
        self.is_prompt = is_prompt
        target = ApplyTarget(drain=self.drain, reconsider=reconsider)
        job = self.plans[plan_id]
        work = apply_plan(
            self._mortal(job, plot, lifeline),
            target,
            plan_id,
            fingerprint=job.plan.fingerprint,
            principal="ann",
            options=ApplyOptions(waived=waived, linger_seconds=0.0),
        )
        try:
            report: ApplyReport = self._run(work)
        except Died:
            self.oracle.counts["died"] += 1
            return None
        except Conflict as refused:
            assert refused.code in _REFUSALS, refused
            assert refused.code != "plan-approvals" or plan_id not in self.agreed
            return None
        finally:
            self._rest()
        assert "proof" not in report.stopped, report
        self.oracle.counts["applied"] += 1
        return report

    def undo(
        self, plan_id: int, *, only: Sequence[str] = (), plot: Plot | None = None, lifeline: Lifeline | None = None
    ) -> UndoReport | None:
        """Take a plan back; ``None`` if that was refused or ended in the middle."""
        job = self.plans[plan_id]
        options = UndoOptions(choice=parse_choice(only), concurrency=1)
        try:
            report: UndoReport = self._run(
                undo_plan(self._mortal(job, plot, lifeline), plan_id, principal="ann", options=options)
            )
        except Died:
            self.oracle.counts["died"] += 1
            return None
        except Conflict as refused:
            assert refused.code == "plan-state"
            return None
        finally:
            self._rest()
        return report

    def restore(self) -> None:
        """What the service does whenever events came in; with a job of its own for each plan that it restores for."""
        for job in self.plans.values():
            self.oracle.job = job
            job.is_disturbed = False
            found = self._run(restore_races(self.services, NAME))
            assert self.is_collected or not found.problems, found
        self.oracle.job = None

    def _mortal(self, job: Job, plot: Plot | None, lifeline: Lifeline | None) -> Services:
        self.oracle.job = job
        self.connector.plot = plot or Plot()
        self.connector.lifeline = lifeline or Lifeline()
        job.is_disturbed = self.connector.plot.act is not None
        database: Any = MortalDatabase(self._database, self.connector.lifeline)
        return Services(database, self.clock.now, {NAME: self.connector})

    def _rest(self) -> None:
        self.oracle.job = None
        self.connector.plot, self.connector.lifeline = Plot(), Lifeline()
        self.is_prompt = True

    # What there is.

    def write(self, work: Callable[[Any], Any]) -> None:
        """Change the database behind everybody's back."""
        self._database.write_now(work)

    def known_tags(self, repository: str) -> dict[str, str | None]:
        found = self._database.read_now(
            lambda connection: list(
                iterate_repositories(connection, NAME, repository.__eq__, Needs(), self.clock.now())
            )
        )
        return {tag.name: tag.digest for one in found for tag in one.tags}

    def known_manifests(self, repository: str) -> set[str]:
        found = self._database.read_now(
            lambda connection: list(
                iterate_repositories(connection, NAME, repository.__eq__, Needs(), self.clock.now())
            )
        )
        return {digest for one in found for digest in one.manifests}

    def check_blobs(self) -> None:
        """What exists can be pulled."""
        for here in self.registry.content.repositories.values():
            for manifest in here.manifests.values():
                missing = find_missing_blobs(manifest, map(str, here.blobs))
                assert not missing, f"{manifest.digest} lacks {missing}"


def selecting(*patterns: str, **options: Any) -> Selection:
    """Tags ``REPOSITORY:PATTERN``, or whole repositories."""
    references = tuple(
        SelectedTags(repository=parse_pattern(name), tags=(parse_pattern(tag),))
        for name, colon, tag in (one.partition(":") for one in patterns)
        if colon
    )
    whole = tuple(parse_pattern(one) for one in patterns if ":" not in one)
    return Selection(registry=NAME, repositories=whole, references=references, **options)


def _fail(warning: str) -> None:
    raise AssertionError(warning)

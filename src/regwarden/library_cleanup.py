"""What ``Inventory`` does about cleanup: plans, who agreed to them, what people protect, who did what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from regwarden import clock
from regwarden.library_principals import os_user
from regwarden.library_rows import Row

if TYPE_CHECKING:
    from regwarden.flows.apply_records import ApplyProgress, ApplyReport
    from regwarden.flows.planning import PlanProgress
    from regwarden.library_apply import Finished, PlanWork, Undone
    from regwarden.library_plan_reports import PlanReport
    from regwarden.library_plans import PlanArguments
    from regwarden.library_remote import ServiceCommand
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

T = TypeVar("T")


class CleanupQuestions:
    """The part of ``Inventory`` that is about cleanup."""

    settings: LoadedSettings
    _environ: Mapping[str, str]

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def _write(self, work: Callable[[Database], T], command: ServiceCommand[T]) -> T:
        raise NotImplementedError

    def create_plan(
        self,
        *,
        known_zones: frozenset[str] = frozenset(),
        on_progress: Callable[[PlanProgress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        **arguments: Unpack[PlanArguments],
    ) -> int:
        """Decide what goes and what stays, and keep the decision; returns the plan's id. No registry is changed.

        Raises ``InputError`` for policies or a selection that cannot be used.
        """
        from regwarden.library_plans import PlanCall, remote_plan, run_plan

        call = PlanCall(arguments, os_user(), self._environ, known_zones, on_progress, on_warning)
        return self._write(lambda database: run_plan(database, self.settings, call), remote_plan(call)).plan_id

    def plans(self, *, states: Sequence[str] = (), limit: int | None = None) -> list[Row]:
        """Plans, newest first; with ``states`` only those."""
        from regwarden.library_plan_reports import parse_state
        from regwarden.store.plans import list_plans

        wanted = tuple(map(parse_state, states))
        found = self._read(lambda connection: list_plans(connection, states=wanted, limit=limit))
        return [Row(asdict(one)) for one in found]

    def plan(self, plan_id: int, *, repository: str | None = None) -> PlanReport:
        """One plan; ``repository`` is a pattern of those that are shown. Raises ``NotFound``."""
        from regwarden.library_gitlab_cleanup import plan_warnings
        from regwarden.library_plan_reports import build_report, chooser
        from regwarden.store.plan_records import PlanState
        from regwarden.store.plans import list_plan_repositories, load_plan

        chosen = chooser(repository)

        def read(connection: Any) -> PlanReport:
            stored = load_plan(connection, plan_id)
            rows = [one for one in list_plan_repositories(connection, plan_id) if chosen(one.repository)]
            report = build_report(stored, [Row(asdict(one)) for one in rows])
            if stored.summary.state not in (PlanState.OPEN, PlanState.APPLYING):
                return report
            return replace(report, warnings=plan_warnings(connection, plan_id))

        return self._read(read)

    def plan_steps(self, plan_id: int, *, repository: str | None = None) -> list[Row]:
        """The changes of a plan in order, each with its state. Raises ``NotFound``."""
        from regwarden.library_plan_reports import chooser
        from regwarden.store.plans import load_plan, load_steps

        chosen = chooser(repository)

        def read(connection: Any) -> list[Row]:
            load_plan(connection, plan_id)
            found = load_steps(connection, plan_id)
            return [
                Row({**one.step._asdict(), "state": str(one.state), "detail": one.detail, "at": one.at})
                for one in found
                if chosen(one.step.repository)
            ]

        return self._read(read)

    def plan_groups(self, plan_id: int, group_by: str, *, depth: int | None = None) -> list[Row]:
        """What a plan does in each ``project``, ``group``, ``owner`` or ``path``, the largest part first.

        Fields: ``registry``, ``group`` (``None``: belongs to none), ``repository_count``, ``step_count``,
        ``tag_count``, ``manifest_count``, ``freed_alone_bytes``: what a garbage collection would free at most if only
        this part were applied (the parts add up to less than the plan; ``None`` once it was begun). Raises
        ``NotFound``, and ``InputError`` for another word.
        """
        from regwarden.library_groups import plan_groups, read_grouping

        grouping = read_grouping(group_by, depth)
        return self._read(lambda connection: plan_groups(connection, plan_id, grouping))

    def plan_guards(self, plan_id: int) -> list[Row]:
        """Every guard that a plan met, those of single tags and manifests too. Raises ``NotFound``."""
        from regwarden.store.plans import load_plan

        return [Row(asdict(one)) for one in self._read(lambda connection: load_plan(connection, plan_id)).plan.guards]

    def plan_verdicts(
        self, plan_id: int, *, repository: str | None = None, outcome: str | None = None
    ) -> Iterator[Row]:
        """What becomes of every tag and untagged manifest, and why, a repository at a time. Raises ``NotFound``."""
        from regwarden.library_plan_reports import chooser, parse_outcome, verdict_row
        from regwarden.store.plans import list_plan_repositories, load_plan, load_verdicts

        chosen = chooser(repository)
        wanted = None if outcome is None else parse_outcome(outcome)
        places = self._read(
            lambda connection: (load_plan(connection, plan_id), list_plan_repositories(connection, plan_id))[1]
        )
        for place in places:
            if not chosen(place.repository):
                continue
            decided = self._read(
                lambda connection, one=place: load_verdicts(connection, plan_id, one.registry, one.repository)  # type: ignore[misc]  # a default binds the place
            )
            for verdict in decided.verdicts if decided is not None else ():
                if wanted is None or verdict.outcome == wanted:
                    yield verdict_row(place.registry, place.repository, verdict)

    def approve_plan(self, plan_id: int, *, fingerprint: str | None = None) -> Row:
        """Agree to a plan as the user of this machine; says how many more must agree.

        Raises ``NotFound``, and ``Conflict`` for a plan that is not open, or is not the one with the fingerprint.
        """
        from regwarden.library_approvals import Approved, Approver, approve
        from regwarden.library_remote import ServiceCommand

        principal = os_user()
        command = ServiceCommand(
            "plan-approve", {"plan_id": plan_id, "principal": principal, "fingerprint": fingerprint}, Approved
        )
        approver = Approver.of_machine(principal)
        return Row(asdict(self._write(lambda database: approve(database, plan_id, approver, fingerprint), command)))

    def reject_plan(self, plan_id: int, *, reason: str = "") -> None:
        """Refuse a plan for ever. Raises ``NotFound``, ``Conflict``."""
        from regwarden.library_approvals import reject
        from regwarden.library_remote import ServiceCommand

        principal = os_user()
        arguments = {"plan_id": plan_id, "principal": principal, "reason": reason}
        self._write(
            lambda database: reject(database, plan_id, principal, reason),
            ServiceCommand("plan-reject", arguments, type(None)),
        )

    def apply_plan(
        self,
        plan_id: int,
        *,
        on_progress: Callable[[ApplyProgress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        **arguments: Any,
    ) -> ApplyReport:
        """Carry out a plan that was agreed to, or go on with it; arguments are those of ``ApplyArguments``.

        Raises ``Conflict`` where it must not be carried out; what happens later is in the report.
        """
        from regwarden.library_apply import ApplyArguments, remote_apply, run_apply

        work, asked = self._work(plan_id, on_progress, on_warning), ApplyArguments(**arguments)
        return self._write(lambda database: run_apply(database, self.settings, work, asked), remote_apply(work, asked))

    def undo_plan(
        self,
        plan_id: int,
        only: Sequence[str] = (),
        *,
        on_progress: Callable[[Any], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> Undone:
        """Put back what a plan removed: everything, or steps by number, ``REPOSITORY:TAG`` or digest.

        ``on_progress`` is told a mapping with ``done`` and ``total``. Raises ``Conflict`` once the plan is finished.
        """
        from regwarden.library_apply import remote_undo, run_undo

        work = self._work(plan_id, on_progress, on_warning)
        return self._write(lambda database: run_undo(database, self.settings, work, only), remote_undo(work, only))

    def finish_plan(
        self,
        plan_id: int,
        *,
        is_collected: bool = False,
        runs_command: bool = False,
        on_warning: Callable[[str], None] | None = None,
    ) -> Finished:
        """End the undo of a plan: how its registries collect garbage, and what that frees.

        ``runs_command`` runs what the settings name for that; ``is_collected`` compares what was freed afterwards.
        """
        from regwarden.library_apply import remote_finish, run_finish

        work = self._work(plan_id, None, on_warning)
        how = {"is_collected": is_collected, "runs_command": runs_command}
        return self._write(
            lambda database: run_finish(database, self.settings, work, **how), remote_finish(work, **how)
        )

    def _work(
        self, plan_id: int, on_progress: Callable[[Any], None] | None, on_warning: Callable[[str], None] | None
    ) -> PlanWork:
        from regwarden.library_apply import PlanWork

        return PlanWork(
            plan_id=plan_id,
            principal=os_user(),
            environ=self._environ,
            on_progress=on_progress,
            on_warning=on_warning,
        )

    def protect(self, text: str, *, reason: str, until: str | None = None, registry: str | None = None) -> Row:
        """Hold a repository, tag or digest by hand; ``until`` is a date or how long from now.

        Raises ``InputError`` for what cannot be understood, ``NotFound`` for a registry that is not known.
        """
        from regwarden.library_protections import Protected, make_protection
        from regwarden.library_remote import ServiceCommand

        principal = os_user()
        arguments = {"text": text, "reason": reason, "until": until, "registry": registry, "principal": principal}
        command = ServiceCommand("protection-add", arguments, Protected)
        return Row(asdict(self._write(lambda database: make_protection(database, **arguments), command)))  # type: ignore[arg-type]  # the same names

    def protections(self, *, registry: str | None = None, include_ended: bool = False) -> list[Row]:
        """What people hold by hand, with ``include_ended`` also what they held once."""
        from regwarden.library_protections import find_protections

        return [Row(one) for one in self._read(lambda found: find_protections(found, registry, include_ended))]

    def unprotect(self, ids: Sequence[int]) -> None:
        """End protections. Raises ``NotFound`` without ending any if one of them is not there."""
        from regwarden.library_protections import end_protections
        from regwarden.library_remote import ServiceCommand

        principal = os_user()
        command = ServiceCommand("protection-remove", {"ids": list(ids), "principal": principal}, type(None))
        self._write(lambda database: end_protections(database, ids, principal), command)

    def audit(
        self,
        *,
        plan_id: int | None = None,
        principal: str | None = None,
        action: str | None = None,
        since: datetime | str | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Who did what, newest first; ``since`` is a moment or an age."""
        from regwarden.library_approvals import parse_since
        from regwarden.store import audit as audit_rows

        asked = audit_rows.AuditFilter(
            plan_id=plan_id, principal=principal, action=action, since=parse_since(since, clock.now()), limit=limit
        )
        found = self._read(lambda connection: audit_rows.list_audit(connection, asked))
        return [Row(asdict(one)) for one in reversed(found)]

    def plan_evidence(self, plan_id: int) -> Iterator[dict[str, object]]:
        """All that is kept of a plan: one record each, ``record`` says of what. Raises ``NotFound``."""
        from regwarden.library_evidence import iterate_evidence

        yield from self._read(lambda connection: list(iterate_evidence(connection, plan_id)))

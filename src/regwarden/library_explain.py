"""How does a question about one tag become an explanation: its facts read, the policies or the plan asked?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.explained import Explanation, RootAccount
from regwarden.core.explaining import explain
from regwarden.core.explaining_changes import Trial
from regwarden.core.policy import Policy
from regwarden.core.retention import collect_policies, needs_of
from regwarden.core.selectors import Selector, parse_selector
from regwarden.core.verdicts import Verdict
from regwarden.errors import InputError, NotFound
from regwarden.library_plans import parse_guard
from regwarden.library_policy_texts import parse_policy_texts
from regwarden.library_rows import Row
from regwarden.store import reports
from regwarden.store.collector import collector_paused
from regwarden.store.observed import load_registry, load_repository
from regwarden.store.plans import load_plan, load_steps, load_verdicts
from regwarden.store.protections import load_holds

if TYPE_CHECKING:
    from regwarden.store.plan_records import StoredPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainCall:
    """One call of ``Inventory.explain``: by the texts of policies, or by a stored plan."""

    reference: str
    policies: Mapping[str, str]
    plan_id: int | None
    registry: str | None
    waive: Sequence[str]
    known_zones: frozenset[str] = field(repr=False)
    now: datetime
    reach: Reach = EVERYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainReport:
    """Why something stays or goes.

    ``subject`` is what was asked for, with its registry. ``explanation`` has the fields of
    ``core.explained.Explanation``: what the policies say now; ``None`` where the inventory does not know it any more,
    or the plan is no plan by policies. ``plan`` is what a stored plan decided, with its state and its steps.
    """

    subject: str
    explanation: Row | None
    plan: Row | None = None


def run_explain(connection: Any, call: ExplainCall) -> ExplainReport:
    """Read the facts and decide once more. Raises ``InputError`` and ``NotFound``."""
    if bool(call.policies) == (call.plan_id is not None):
        hint = "Give -f FILE, or --plan ID."
        raise InputError("an explanation is by policies or by a plan", hint=hint, code="bad-policy")
    wanted = _Wanted.parse(connection, call)
    stored = None if call.plan_id is None else load_plan(connection, call.plan_id)
    plan = None if stored is None else _plan_row(connection, stored, wanted)
    policies = parse_policy_texts(call.policies, call.known_zones) if stored is None else stored.plan.policies
    if stored is not None and stored.plan.waived:
        call = replace(call, waive=(*call.waive, *map(str, stored.plan.waived)))
    found = _explain(connection, call, policies, wanted) if policies else None
    if found is None and plan is None:
        raise _unknown(wanted)
    return ExplainReport(subject=wanted.text, explanation=None if found is None else _explanation_row(found), plan=plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    registry: str
    repository: str
    tag: str = ""
    digest: str | None = None

    @property
    def text(self) -> str:
        place = f"{self.registry}/{self.repository}"
        return f"{place}:{self.tag}" if self.tag else f"{place}@{self.digest}"

    @classmethod
    def parse(cls, connection: Any, call: ExplainCall) -> _Wanted:
        known = [one.registry for one in reports.registry_overview(connection) if call.reach.touches(one.registry)]
        found = parse_selector(call.reference, known_registries=known)
        registry = found.registry or call.registry or (known[0] if len(known) == 1 else "")
        listed = ", ".join(sorted(known)) or "none; run regwarden crawl first"
        if not registry:
            hint = f"Add --registry NAME. Known: {listed}."
            raise InputError("it is not said which registry is meant", hint=hint, code="bad-reference")
        if registry not in known:
            message = f"the inventory has no registry {registry[:160]!r}"
            raise NotFound(message, hint=f"It has: {listed}.", code="unknown-registry")
        repository = _exact(found)
        digest = None if found.digest is None else str(found.digest)
        tag = "" if found.tag is None else str(found.tag.exact or "")
        if repository is None or bool(tag) == (digest is not None):
            hint = "Write REPOSITORY:TAG or REPOSITORY@DIGEST, without patterns."
            raise InputError("one tag or one digest is explained at a time", hint=hint, code="bad-reference")
        wanted = cls(registry=registry, repository=repository, tag=tag, digest=digest)
        if not call.reach.has(registry, repository):
            raise _unknown(wanted)
        return wanted


def _unknown(wanted: _Wanted) -> NotFound:
    hint = f"See what there is: regwarden tag list {wanted.repository}."
    return NotFound(f"the inventory does not know {wanted.text}", hint=hint, code="unknown-reference")


def _exact(found: Selector) -> str | None:
    return None if found.repository is None else found.repository.exact


def _explain(connection: Any, call: ExplainCall, policies: Sequence[Policy], wanted: _Wanted) -> Explanation | None:
    collected = collect_policies(policies, wanted.registry, wanted.repository)
    if collected is None:
        hint = "See scope in the policies."
        message = f"no policy has {wanted.registry}/{wanted.repository} in its scope"
        raise InputError(message, hint=hint, code="nothing-in-scope")
    needs = replace(needs_of(collected.policies), pulls=True)
    repository = load_repository(connection, wanted.registry, wanted.repository, needs, call.now)
    if repository is None:
        return None
    trial = Trial(
        collected=collected,
        repository=repository,
        registry=load_registry(connection, wanted.registry),
        now=call.now,
        holds=load_holds(connection, wanted.registry, call.now, (wanted.repository,)),
        waived=frozenset(map(parse_guard, call.waive)),
    )
    with collector_paused():
        return explain(trial, tag=wanted.tag, digest=wanted.digest)


def _plan_row(connection: Any, stored: StoredPlan, wanted: _Wanted) -> Row | None:
    """What a plan decided about it; ``None`` if it did not speak of it."""
    decided = load_verdicts(connection, stored.id, wanted.registry, wanted.repository)
    verdicts = [one for one in (decided.verdicts if decided is not None else ()) if _is_meant(one, wanted)]
    steps = [
        {"position": one.step.position, "kind": str(one.step.kind), "state": str(one.state), "detail": one.detail}
        for one in load_steps(connection, stored.id, place=(wanted.registry, wanted.repository))
        if (wanted.tag in one.step.tags if wanted.tag else one.step.digest == wanted.digest)
    ]
    if not verdicts and not steps:
        return None
    guards = [
        asdict(one)
        for one in stored.plan.guards
        if one.registry in ("", wanted.registry)
        and one.repository in ("", wanted.repository)
        and one.subject in ("", wanted.tag, wanted.digest)
    ]
    return Row(
        {
            "plan_id": stored.id,
            "state": str(stored.state),
            "made_at": stored.plan.made_at,
            "verdicts": [
                {**one._asdict(), "outcome": str(one.outcome), "reasons": _reasons(one.reasons)} for one in verdicts
            ],
            "steps": steps,
            "guards": guards,
        }
    )


def _is_meant(verdict: Verdict, wanted: _Wanted) -> bool:
    return verdict.tag == wanted.tag if wanted.tag else verdict.digest == wanted.digest


def _explanation_row(found: Explanation) -> Row:
    return Row({**asdict(found), "roots": [_root_row(one) for one in found.roots]})


def _root_row(root: RootAccount) -> dict[str, object]:
    return {**asdict(root), "reasons": _reasons(root.reasons)}


def _reasons(reasons: Iterable[Any]) -> list[dict[str, str]]:
    return [{**one._asdict(), "code": str(one.code)} for one in reasons]

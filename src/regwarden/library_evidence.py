"""Everything that is kept of a plan, as records: for an audit, or to put things back by other means."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from regwarden.store import audit, journal, trash
from regwarden.store.plans import iterate_verdicts, load_plan, load_steps


def iterate_evidence(connection: Any, plan_id: int) -> Iterator[dict[str, object]]:
    """Records of a plan, approvals, verdicts, steps, the journal, manifests and the audit, each with its kind first.

    Raises ``NotFound``.
    """
    stored = load_plan(connection, plan_id)
    plan = stored.plan
    yield {
        "record": "plan",
        **asdict(stored.summary),
        "guards": [asdict(one) for one in plan.guards],
        "sizes": {name: asdict(one) for name, one in plan.sizes.items()},
        "waived": sorted(map(str, plan.waived)),
        "snapshots": dict(plan.snapshots),
        "policies": dict(plan.policy_texts),
        "outcome": stored.outcome,
    }
    for approval in stored.approvals:
        yield {"record": "approval", **asdict(approval)}
    for place in iterate_verdicts(connection, plan_id):
        for verdict in place.verdicts:
            yield {
                "record": "verdict",
                "registry": place.registry,
                "repository": place.repository,
                **verdict._asdict(),
                "reasons": [one._asdict() for one in verdict.reasons],
            }
    for step in load_steps(connection, plan_id):
        yield {"record": "step", **step.step._asdict(), "state": str(step.state), "detail": step.detail, "at": step.at}
    for entry in journal.load_journal(connection, plan_id):
        yield {"record": "journal", **asdict(entry)}
    for one in trash.load(connection, plan_id):
        yield {
            "record": "manifest",
            "position": one.position,
            "digest": str(one.digest),
            "role": str(one.role),
            "media_type": one.media_type,
            "payload_base64": base64.b64encode(one.payload).decode(),
        }
    for done in audit.list_audit(connection, audit.AuditFilter(plan_id=plan_id)):
        yield {"record": "audit", **asdict(done)}

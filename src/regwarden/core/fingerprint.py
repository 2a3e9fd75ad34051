"""Is this still the plan that people agreed to? A digest of all that a plan says, but not of when and by whom.

It can be computed from a plan that was loaded again, also without holding the verdicts of all its repositories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from regwarden.core.plan import Plan, Step
from regwarden.core.selection import Selection
from regwarden.core.verdicts import RepositoryVerdicts

VerdictDigest = tuple[str, str, str]
"""Registry, repository and what ``digest_verdicts`` says of its verdicts."""

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class Steps(NamedTuple):
    """The steps of a plan in their order, which need not be held all at once, and how many they are."""

    step_count: int
    each: Iterable[Step]


def fingerprint(plan: Plan, verdict_digests: Iterable[VerdictDigest] | None = None, steps: Steps | None = None) -> str:
    """``sha256:`` and 64 hexadecimal digits over canonical JSON of a plan; policies count by their texts.

    It is the same whatever ``made_at``, ``expires_at``, ``made_by`` and ``fingerprint`` are.
    ``verdict_digests`` stand for ``plan.verdicts``, in the same order, and ``steps`` for ``plan.steps``.
    """
    step_count, each = (len(plan.steps), plan.steps) if steps is None else steps
    digests = map(digest_verdicts, plan.verdicts) if verdict_digests is None else verdict_digests
    whole = hashlib.sha256(_ENCODER.encode(_head(plan, step_count)))
    for step in each:
        whole.update(b"\n")
        whole.update(_ENCODER.encode(step))
    for digest in digests:
        whole.update(b"\n")
        whole.update(_ENCODER.encode(digest))
    return f"sha256:{whole.hexdigest()}"


def digest_verdicts(verdicts: RepositoryVerdicts) -> VerdictDigest:
    """The verdicts of one repository as they enter the fingerprint."""
    digest = hashlib.sha256(_ENCODER.encode(verdicts.verdicts)).hexdigest()
    return verdicts.registry, verdicts.repository, digest


def _head(plan: Plan, step_count: int) -> dict[str, object]:
    # What most plans do not ask for is left out, so that they keep the fingerprints of former releases.
    asked: dict[str, object] = {"drops_repositories": True} if plan.drops_repositories else {}
    return asked | {
        "acts_first_at": plan.acts_first_at,
        "budgets": plan.budgets,
        "demands": plan.demands,
        "guards": plan.guards,
        "policy_texts": dict(plan.policy_texts),
        "selection": None if plan.selection is None else _selection(plan.selection),
        "sizes": dict(plan.sizes),
        "snapshots": dict(plan.snapshots),
        "step_count": step_count,
        "waived": sorted(plan.waived),
    }


def _selection(selection: Selection) -> dict[str, object]:
    """Patterns are not values of JSON: they stand as they are written."""
    return {
        "registry": selection.registry,
        "repositories": [str(one) for one in selection.repositories],
        "tags": [str(one) for one in selection.tags],
        "references": [(str(one.repository), [str(tag) for tag in one.tags]) for one in selection.references],
        "excluded": [str(one) for one in selection.excluded],
        "match_all_tags": selection.match_all_tags,
        "raise_on_shared_tag": selection.raise_on_shared_tag,
        "raise_on_shared_repository": selection.raise_on_shared_repository,
        "untag": selection.untag,
        "with_placeholders": selection.with_placeholders,
    }

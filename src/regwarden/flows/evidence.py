"""What does the independent proof of a plan get to see? What exists, its raw bytes, and what the steps do to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from regwarden.core.holding import Held
from regwarden.core.observed import ObservedRepository, TagState
from regwarden.core.plan import Step
from regwarden.core.proof import Change, Evidence
from regwarden.core.verdicts import Outcome, ReasonCode, RepositoryVerdicts

_CHOSEN: Final = frozenset({ReasonCode.DELETED, ReasonCode.DEFAULT_DELETE, ReasonCode.SELECTED, ReasonCode.BUDGET})


def build_evidence(
    observed: ObservedRepository,
    raw: Mapping[str, bytes],
    steps: Sequence[Step],
    final: RepositoryVerdicts,
    protected: frozenset[str],
) -> Evidence:
    """The evidence for the steps of one repository: ``raw`` are the bytes of every manifest, ``final`` the verdicts.

    Nothing that planning derived about what leads to what is in it.
    """
    names = [(one, one.tag or one.digest or "") for one in final.verdicts]
    return Evidence(
        registry=observed.registry,
        repository=observed.name,
        existing=frozenset(observed.manifests),
        manifests=raw,
        tags={tag.name: tag.digest for tag in observed.tags},
        steps=[Change(step.kind, step.registry, step.repository, step.digest, step.tags) for step in steps],
        dangling=frozenset(tag.name for tag in observed.tags if tag.state == TagState.DANGLING),
        protected=protected,
        kept=frozenset(name for one, name in names if one.outcome is not Outcome.REMOVE),
        named=frozenset(
            name
            for one, name in names
            if one.outcome is Outcome.REMOVE and any(reason.code in _CHOSEN for reason in one.reasons)
        ),
    )


def protected_names(observed: ObservedRepository, held: Held) -> frozenset[str]:
    """The tags and digests of a repository that are held by hand."""
    if held.everything is not None:
        return frozenset((*observed.manifests, *(tag.name for tag in observed.tags)))
    return frozenset((*held.tags, *held.digests))

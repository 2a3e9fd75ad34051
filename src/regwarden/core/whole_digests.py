"""Which tags stay because their image keeps another one? With ``unit: digest`` images stay whole or go whole."""

from __future__ import annotations

from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict


def keep_whole(decided: RepositoryVerdicts) -> RepositoryVerdicts:
    """The same verdicts, but a tag whose digest has another tag that does not go is kept too.

    Apply it last: after minimum ages, and again after budgets. In linear time.
    """
    staying: dict[str, str] = {}
    for verdict in decided.verdicts:
        if verdict.tag and verdict.digest is not None and verdict.outcome is not Outcome.REMOVE:
            staying.setdefault(verdict.digest, verdict.tag)
    if not staying:
        return decided
    return RepositoryVerdicts(
        registry=decided.registry,
        repository=decided.repository,
        verdicts=tuple(_whole(verdict, staying) for verdict in decided.verdicts),
    )


def _whole(verdict: Verdict, staying: dict[str, str]) -> Verdict:
    if verdict.outcome is not Outcome.REMOVE or not verdict.tag or verdict.digest not in staying:
        return verdict
    reason = Reason(ReasonCode.NEEDED, detail=f"its image keeps the tag {staying[verdict.digest]}")
    return Verdict(verdict.tag, verdict.digest, Outcome.KEEP, (reason,))

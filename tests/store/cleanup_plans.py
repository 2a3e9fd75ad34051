"""Plans for tests of what keeps and applies them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from regwarden.core.graph import Confidence
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.core.plan import (
    BudgetResult,
    Demands,
    Guard,
    GuardCode,
    GuardLevel,
    GuardState,
    Plan,
    PlanSizes,
    Step,
    StepKind,
)
from regwarden.core.policy_reading import parse_policy
from regwarden.core.selection import SelectedTags, Selection
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: nightly}
scope: {repositories: {include: ["glob:team/**"]}}
keep: [{name: newest, match: {tags: {any: ["semver:>=1.0.0"]}}, newest: 3}]
delete: [{name: old, match: {tags: {any: ["glob:dev-*"]}}, when: {tagged: {older-than: 30d}}}]
apply: {window: ["Mon-Fri 10:00-16:00 Europe/Berlin"], undo: 3d}
"""


def digest_of(content: str) -> str:
    """The digest of a text."""
    return str(Digest.of(content.encode()))


def step(
    position: int = 0, *, repository: str = "team/app", content: str = "one", tags: tuple[str, ...] = ("a",)
) -> Step:
    """A deletion."""
    return Step(
        position=position,
        kind=StepKind.DELETE,
        registry="prod",
        repository=repository,
        digest=digest_of(content),
        tags=tags,
        size_bytes=123,
    )


def verdicts(repository: str = "team/app") -> RepositoryVerdicts:
    """Two roots of a repository, one of each outcome, and one that is undecided."""
    return RepositoryVerdicts(
        registry="prod",
        repository=repository,
        verdicts=(
            Verdict(
                "a", digest_of("one"), Outcome.REMOVE, (Reason(ReasonCode.DELETED, "nightly", "delete[0]", "91 days"),)
            ),
            Verdict("b", digest_of("two"), Outcome.KEEP, (Reason(ReasonCode.KEPT), Reason(ReasonCode.SHARED))),
            Verdict("ü", None, Outcome.UNDECIDED, (Reason(ReasonCode.UNREADABLE),)),
        ),
    )


def plan(*steps: Step) -> Plan:
    """A plan by a policy, with something in every field."""
    return Plan(
        made_at=NOON,
        expires_at=NOON + timedelta(days=7, microseconds=1),
        made_by="somebody",
        steps=steps or (step(),),
        verdicts=(verdicts(), verdicts("team/lib")),
        guards=(
            Guard(
                code=GuardCode.MANIFEST_LIMIT,
                level=GuardLevel.PLAN,
                state=GuardState.NEEDS_APPROVAL,
                message="many",
                hint="Ask.",
            ),
        ),
        sizes={"prod": PlanSizes(reclaimable_bytes=10, lower_bound_bytes=9, confidence=Confidence.UPPER_BOUND)},
        demands=Demands(approval_count=2, windows=("Mon-Fri 10:00-16:00 Europe/Berlin",), undo=timedelta(days=3)),
        snapshots={"prod": "crawl 12, event 345"},
        policy_texts={"nightly": POLICY},
        policies=(parse_policy(POLICY, name="nightly.yaml"),),
        waived=frozenset({GuardCode.MIN_AGE, GuardCode.PULL_HISTORY}),
        fingerprint="f" * 64,
        acts_first_at=NOON + timedelta(hours=3),
        budgets=(
            BudgetResult(
                policy="nightly",
                rule="delete[1] (fit)",
                scope="project",
                subject="prod/team",
                order="least-regret",
                method="minimum-cut",
                max_bytes=100,
                bytes_before=200,
                bytes_after=90,
                chosen_count=3,
                regret=7,
                least_regret=6,
            ),
        ),
    )


def selected_plan() -> Plan:
    """The same by an explicit selection, with every kind of pattern."""
    kinds = ("exact", "glob:v*", "re:v[0-9]+", "semver:^1.2", "date:YYYYMMDD", "<1.4", "~x", "start:y")
    selection = Selection(
        registry="prod",
        repositories=(parse_pattern("glob:team/*"),),
        tags=tuple(map(parse_pattern, kinds)),
        references=(SelectedTags(repository=parse_pattern("team/app"), tags=(parse_pattern("<1.4"),)),),
        excluded=(parse_pattern("latest"),),
        match_all_tags=False,
        raise_on_shared_tag=True,
        untag=True,
    )
    return replace(plan(), policies=(), policy_texts={}, selection=selection)

"""Does the fingerprint change with everything that people agree to, and with nothing else?"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regwarden.core.fingerprint import digest_verdicts, fingerprint
from regwarden.core.graph import Confidence
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
from regwarden.core.selection import SelectedTags, Selection
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from tests.observed import NOW, digest_of
from tests.policies import policy_of

STEP = Step(position=0, kind=StepKind.DELETE, registry="prod", repository="a", digest=digest_of(1), tags=("x",))
VERDICTS = RepositoryVerdicts(
    registry="prod",
    repository="a",
    verdicts=(Verdict("x", digest_of(1), Outcome.REMOVE, (Reason(ReasonCode.DELETED, "p", "delete[0]", "old"),)),),
)
GUARD = Guard(code=GuardCode.MIN_AGE, level=GuardLevel.ROOT, state=GuardState.BLOCKS, message="m")
SIZES = PlanSizes(reclaimable_bytes=2, lower_bound_bytes=1, confidence=Confidence.EXACT)
SELECTION = Selection(registry="prod", repositories=(parse_pattern("glob:a*"),))
PLAN = Plan(
    made_at=NOW,
    expires_at=NOW + timedelta(days=7),
    made_by="a",
    steps=(STEP,),
    verdicts=(VERDICTS,),
    guards=(GUARD,),
    sizes={"prod": SIZES},
    demands=Demands(),
    snapshots={"prod": "crawl 1"},
    policy_texts={"p": "text"},
    selection=SELECTION,
)

BUDGET = BudgetResult(
    policy="p",
    rule="delete[0]",
    scope="repo",
    subject="prod/a",
    order="rank",
    method="rank",
    max_bytes=1,
    bytes_before=3,
    bytes_after=2,
    chosen_count=1,
    regret=5,
    least_regret=5,
)
CHANGES: dict[str, Any] = {
    "steps": (STEP, STEP._replace(position=1)),
    "verdicts": (VERDICTS, replace(VERDICTS, repository="b")),
    "guards": (),
    "sizes": {"prod": replace(SIZES, untagged_bytes=1)},
    "demands": Demands(undo=timedelta(days=6)),
    "snapshots": {"prod": "crawl 2"},
    "policy_texts": {"p": "other text"},
    "selection": None,
    "waived": frozenset({GuardCode.MIN_AGE}),
    "acts_first_at": NOW,
    "budgets": (BUDGET,),
    "drops_repositories": True,
}
UNSEEN: dict[str, Any] = {
    "made_at": NOW + timedelta(1),
    "expires_at": NOW + timedelta(99),
    "made_by": "b",
    "fingerprint": "sha256:0",
    "policies": (policy_of(""),),
    "stay_counts": {"kept": 1},
}


def test_every_field_of_a_plan_is_either_part_of_it_or_not():
    assert {*CHANGES, *UNSEEN} == {one.name for one in fields(Plan)}


@pytest.mark.parametrize("name", CHANGES)
def test_it_changes_with_what_a_plan_does_and_says(name):
    assert fingerprint(replace(PLAN, **{name: CHANGES[name]})) != fingerprint(PLAN)


@pytest.mark.parametrize("name", UNSEEN)
def test_it_stays_whoever_made_the_plan_and_whenever(name):
    assert fingerprint(replace(PLAN, **{name: UNSEEN[name]})) == fingerprint(PLAN)


STEP_CHANGES: dict[str, Any] = {
    "position": 7,
    "kind": StepKind.UNTAG,
    "registry": "b",
    "repository": "b",
    "digest": digest_of(2),
    "tags": ("x", "y"),
    "with_placeholder": True,
    "size_bytes": 1,
}
SELECTION_CHANGES: dict[str, Any] = {
    "registry": "b",
    "repositories": (parse_pattern("a*", bare=parse_pattern("re:a*").kind),),
    "tags": (parse_pattern("<1.2"),),
    "references": (SelectedTags(repository=parse_pattern("a"), tags=(parse_pattern("b"),)),),
    "excluded": (parse_pattern("a"),),
    "match_all_tags": False,
    "raise_on_shared_tag": True,
    "raise_on_shared_repository": True,
    "untag": True,
    "with_placeholders": True,
}


@pytest.mark.parametrize("name", Step._fields)
def test_it_changes_with_every_field_of_a_step(name):
    changed = STEP._replace(**{name: STEP_CHANGES[name]})
    assert fingerprint(replace(PLAN, steps=(changed,))) != fingerprint(PLAN)


@pytest.mark.parametrize("name", [one.name for one in fields(Selection)])
def test_it_changes_with_every_field_of_a_selection(name):
    changed = replace(SELECTION, **{name: SELECTION_CHANGES[name]})
    assert fingerprint(replace(PLAN, selection=changed)) != fingerprint(PLAN)


@pytest.mark.parametrize(
    "changed",
    [
        Verdict("y", digest_of(1), Outcome.REMOVE, VERDICTS.verdicts[0].reasons),
        Verdict("x", None, Outcome.REMOVE, VERDICTS.verdicts[0].reasons),
        Verdict("x", digest_of(1), Outcome.KEEP, VERDICTS.verdicts[0].reasons),
        Verdict("x", digest_of(1), Outcome.REMOVE, (Reason(ReasonCode.DELETED, "p", "delete[0]", "older"),)),
    ],
)
def test_it_changes_with_every_part_of_a_verdict(changed):
    other = replace(VERDICTS, verdicts=(changed,))
    assert fingerprint(replace(PLAN, verdicts=(other,))) != fingerprint(PLAN)


def test_the_verdicts_need_not_be_held_at_once():
    without = replace(PLAN, verdicts=())
    assert fingerprint(without, [digest_verdicts(VERDICTS)]) == fingerprint(PLAN)
    assert fingerprint(without) != fingerprint(PLAN)


def test_it_does_not_depend_on_the_order_of_maps():
    two = {"a": "x", "b": "y"}
    first = replace(PLAN, snapshots=two, policy_texts=two, sizes={"a": SIZES, "b": SIZES})
    turned = dict(reversed(two.items()))
    second = replace(PLAN, snapshots=turned, policy_texts=turned, sizes={"b": SIZES, "a": SIZES})
    assert fingerprint(first) == fingerprint(second)


def test_it_is_the_same_on_every_machine_and_in_every_release():
    # Plans that are waiting for approval must not be refused after an update.
    plan = replace(PLAN, acts_first_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert fingerprint(plan) == "sha256:d537048d585f2e7a171ee2778e3e611a2289a5530d65a643f0666cd8af860048"

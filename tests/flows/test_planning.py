"""Plans as the flow makes them: from policies or a selection, by one snapshot, with their guards, kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regwarden import clock
from regwarden.core.fingerprint import fingerprint
from regwarden.core.observed import Hold
from regwarden.core.plan import GuardCode, GuardLevel, GuardState, StepKind
from regwarden.core.verdicts import Outcome, ReasonCode
from regwarden.errors import InputError
from regwarden.flows import planning
from regwarden.flows.planning import PlanProgress, make_plan, registries_in_scope
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.plan_records import PlanState
from regwarden.store.plans import list_plans
from regwarden.store.protections import save_protection
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from tests.crawling import NAME
from tests.flows.cleaning import cleaning, picture, platforms
from tests.flows.planning import crawled, plan_of, removed, request_of

SHARED = picture("shared")
PUSHES = [
    ("app", "new", picture("new"), 2),
    ("app", "old", picture("old"), 60),
    ("app", "older", platforms("older", SHARED), 90),
    ("app", "oldest", platforms("oldest", SHARED), 120),
    ("other", "old", SHARED, 60),
]
HEAD = """
apiVersion: retention/v1
kind: Policy
metadata: {name: tidy}
scope: {registries: [sample], repositories: {include: [app]}}
limits: {per-run: {share-of-repo: 100%}}
"""
OLD = HEAD + "delete:\n  - {name: old, when: {tagged: {older-than: 50d}}}\n"


async def test_policies_become_steps_verdicts_and_bytes_of_the_repositories_in_their_scope():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        plan = await plan_of(cleanup, OLD)
        assert removed(plan) == ["app:old", "app:older", "app:oldest"]
        assert [one.repository for one in plan.verdicts] == ["app"]
        deleted = [step.digest for step in plan.steps]
        # Both indexes, their five images and the one of its own; the shared one is another repository's too.
        assert len(deleted) == 8
        assert deleted.index(str(PUSHES[2][2].digest)) < deleted.index(str(SHARED.digest))
        assert plan.sizes[NAME].reclaimable_bytes > 0
        assert plan.fingerprint == fingerprint(plan)
        assert plan.policy_texts == {"policy.yaml": OLD}
        assert plan.snapshots[NAME].startswith("crawl ")
        reason = plan.verdicts[0].verdicts[1].reasons[0]
        assert (reason.code, reason.rule) == (ReasonCode.DELETED, "delete[0] (old)")
        assert "60 days" in reason.detail


async def test_a_plan_is_written_down_with_who_made_it_and_what_was_waived():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        plan = await plan_of(cleanup, OLD, waived=frozenset({GuardCode.MIN_AGE}))
        (row,) = cleanup.database.read_now(lambda connection: list_audit(connection, AuditFilter()))
        assert (row.action, row.principal, row.plan_id) == ("plan-create", "ann", 1)
        assert row.detail == {"fingerprint": plan.fingerprint, "waived": ["min-age"]}
        (kept,) = cleanup.database.read_now(list_plans)
        assert (kept.state, kept.title, kept.manifest_count, kept.tag_count) == (PlanState.OPEN, "tidy", 8, 3)
        assert kept.expires_at - kept.made_at == timedelta(days=7)


async def test_equal_facts_give_plans_with_equal_fingerprints():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        first = await plan_of(cleanup, OLD)
        second = await plan_of(cleanup, OLD, made_by="bob")
        assert first.fingerprint == second.fingerprint
        assert first.made_at < second.made_at


async def test_a_selection_takes_exactly_what_it_names_and_looks_at_other_repositories():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        plan = await plan_of(cleanup, cleanup.select("app:old"))
        assert removed(plan) == ["app:old"]
        assert [step.digest for step in plan.steps] == [str(picture("old").digest)]
        assert plan.selection is not None
        assert not plan.policies


async def test_what_is_held_stays_and_the_plan_says_by_whom():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        hold = Hold(id=0, registry=NAME, repository="glob:a*", tag="older", reason="audit", by="eve")
        await cleanup.database.write(lambda connection: save_protection(connection, hold, clock.now()))
        plan = await plan_of(cleanup, OLD)
        assert removed(plan) == ["app:old", "app:oldest"]
        assert str(SHARED.digest) not in {step.digest for step in plan.steps}
        (held,) = (one for one in plan.verdicts[0].verdicts if one.tag == "older")
        assert held.outcome is Outcome.KEEP
        assert "eve" in held.reasons[0].detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OLD.replace("[sample]", "[elsewhere]"), "no registry of the inventory is in the scope"),
        (OLD.replace("[app]", "[nowhere]"), "no repository of the inventory is in the scope"),
    ],
)
async def test_a_plan_about_nothing_is_refused(text: str, message: str):
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        with pytest.raises(InputError, match=message) as caught:
            await plan_of(cleanup, text)
        assert caught.value.code == "nothing-in-scope"
        with pytest.raises(InputError, match="nothing is selected"):
            await plan_of(cleanup, cleanup.select("nowhere"))
        assert cleanup.database.read_now(list_plans) == ()


async def test_a_repository_that_would_be_empty_keeps_everything_until_that_is_waived():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES[1:])
        plan = await plan_of(cleanup, OLD)
        assert not plan.steps
        (guard,) = (one for one in plan.guards if one.level is GuardLevel.REPOSITORY)
        assert (guard.code, guard.state, guard.repository) == (GuardCode.NEVER_EMPTY, GuardState.BLOCKS, "app")
        plan = await plan_of(cleanup, OLD, waived=frozenset({GuardCode.NEVER_EMPTY}))
        assert len(plan.steps) == 8
        assert not plan.is_blocked


async def test_a_registry_that_does_not_delete_blocks_the_plan_as_asking_it_showed():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        cleanup.registry.behaviour.can_delete = False
        plan = await plan_of(cleanup, OLD)
        assert plan.is_blocked
        assert GuardCode.DELETE_DISABLED in {one.code for one in plan.guards}
        cleanup.registry.behaviour.can_delete = True
        assert not (await plan_of(cleanup, OLD)).is_blocked


async def test_a_registry_that_cannot_be_asked_is_a_warning_and_what_was_known_counts():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        cleanup.registry.behaviour.is_read_only = True
        warnings: list[str] = []
        await make_plan(cleanup.services, request_of(OLD), [NAME], on_warning=warnings.append)
        (warning,) = warnings
        assert warning.startswith(f"whether {NAME} deletes at all could not be found out: ")
        (kept,) = cleanup.database.read_now(list_plans)
        assert not kept.is_blocked


async def test_a_plan_without_steps_says_when_something_goes_by_itself():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES[:2])
        plan = await plan_of(cleanup, OLD.replace("50d", "70d"))
        assert not plan.steps
        assert plan.acts_first_at is not None
        assert timedelta(days=9.9) < plan.acts_first_at - plan.made_at < timedelta(days=10.1)
        assert (await plan_of(cleanup, OLD)).acts_first_at is None


async def test_very_large_plans_name_rules_only_and_decide_the_same(monkeypatch: pytest.MonkeyPatch):
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        detailed = await plan_of(cleanup, OLD)
        monkeypatch.setattr(planning, "MOST_EXPLAINED", 1)
        short = await plan_of(cleanup, OLD)
        assert short.steps == detailed.steps
        assert removed(short) == removed(detailed)
        (reason,) = short.verdicts[0].verdicts[1].reasons
        assert (reason.code, reason.policy, reason.rule, reason.detail) == (
            ReasonCode.DELETED,
            "tidy",
            "delete[0] (old)",
            "",
        )


async def test_it_is_told_how_far_planning_is():
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, PUSHES)
        told: list[PlanProgress] = []
        await make_plan(cleanup.services, request_of(OLD), [NAME], on_progress=told.append, on_warning=pytest.fail)
        assert [one.phase for one in told] == [f"asking {NAME}", "deciding", "computing what it frees", "keeping"]
        assert (told[1].repositories_done, told[1].tags_done) == (1, 4)


def test_policies_without_registries_are_about_all_of_them_and_a_selection_about_its_own():
    everywhere = request_of(OLD.replace("registries: [sample], ", ""))
    assert registries_in_scope(everywhere, ["b", "a"]) == ("a", "b")
    assert registries_in_scope(request_of(OLD), ["b", NAME]) == (NAME,)


async def test_untagging_stands_before_deleting():
    async with cleaning(Content(), Behaviour.oci_1_1()) as cleanup:
        twice = picture("twice")
        await crawled(cleanup, [*PUSHES, ("app", "kept", twice, 60), ("app", "also", twice, 60)])
        plan = await plan_of(cleanup, OLD + 'keep:\n  - match: {tags: {any: ["kept"]}}\n')
        kinds = [step.kind for step in plan.steps]
        assert kinds[0] is StepKind.UNTAG
        assert kinds.count(StepKind.UNTAG) == 1
        assert plan.steps[0].tags == ("also",)

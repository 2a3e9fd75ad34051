"""Budgets in plans: what goes so that repositories, projects, registries and policies fit, and what never does."""

from __future__ import annotations

import pytest

from regwarden import clock
from regwarden.core.observed import Hold
from regwarden.core.plan import BudgetResult, Plan, StepKind
from regwarden.core.verdicts import ReasonCode
from regwarden.store.protections import save_protection
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import image, image_config, layer, sbom
from tests.crawling import NAME
from tests.flows.cleaning import cleaning
from tests.flows.noting import note, pushed
from tests.flows.planning import crawled, plan_of, removed

MIB = 1 << 20
HEAD = """
apiVersion: retention/v1
kind: Policy
metadata: {name: sized}
scope: {registries: [sample]}
limits: {per-run: {manifests: unlimited, share-of-repo: 100%}}
"""


def sized(seed: str, mebibytes: int, *shared: str) -> BuiltManifest:
    """An image with a layer of its own, and layers of 10 MiB that others may have too."""
    layers = [layer(f"own {seed}", mebibytes * MIB), *(layer(f"shared {one}", 10 * MIB) for one in shared)]
    return image(layers, image_config(labels={"seed": seed}))


def budget(clauses: str, *more: str) -> str:
    return HEAD + "\n".join([*more, "delete:", f"  - name: fit\n    budget: {{{clauses}}}"])


def only(plan: Plan) -> BudgetResult:
    (result,) = plan.budgets
    return result


FIVE = [("app", f"v{days}", sized(f"v{days}", 10 + days // 10), days) for days in (10, 20, 30, 40, 50)]


async def test_what_was_used_last_longest_ago_goes_until_the_repository_fits() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)  # 11 to 15 MiB: 65 together
        plan = await plan_of(cleanup, budget("max: 40MiB"))
        assert removed(plan) == ["app:v40", "app:v50"]
        result = only(plan)
        assert (result.subject, result.scope, result.is_met) == (f"{NAME}/app", "repo", True)
        assert 65 * MIB < result.bytes_before < 66 * MIB
        assert result.bytes_before - result.bytes_after == plan.sizes[NAME].reclaimable_bytes
        assert result.least_regret <= result.regret
        (reason,) = plan.verdicts[0].verdicts[-1].reasons
        assert (reason.code, reason.policy, reason.rule) == (ReasonCode.BUDGET, "sized", "delete[0] (fit)")
        assert f"{result.bytes_before:,}" in reason.detail
        assert "least-regret" in reason.detail


async def test_what_fits_loses_nothing_and_the_plan_says_so() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        plan = await plan_of(cleanup, budget("max: 1GiB"))
        result = only(plan)
        assert (plan.steps, result.method, result.chosen_count, result.is_met) == ((), "none-needed", 0, True)


async def test_by_rank_the_last_goes_first_however_little_it_frees() -> None:
    async with cleaning(Content()) as cleanup:
        sizes = {"1.0.0": 1, "1.1.0": 30, "1.2.0": 20}
        await crawled(cleanup, [("app", tag, sized(tag, size), 40) for tag, size in sizes.items()])
        text = HEAD + "delete:\n  - {rank: {by: semver}, budget: {max: 49MiB, order: rank}}"
        plan = await plan_of(cleanup, text)
        assert removed(plan) == ["app:1.0.0", "app:1.1.0"]
        assert only(plan).order == "rank"
        # Least regret frees with as little as possible: 30 MiB are enough alone, and all are missed alike.
        plan = await plan_of(cleanup, budget("max: 49MiB"))
        assert removed(plan) == ["app:1.1.0"]


async def test_layers_that_stay_in_use_are_not_thought_to_be_freed() -> None:
    async with cleaning(Content()) as cleanup:
        pushes = [("app", tag, sized(tag, size, "base"), 40) for tag, size in (("a", 1), ("b", 1))]
        await crawled(cleanup, [*pushes, ("app", "c", sized("c", 8), 10)])
        # Only both together free the base: 12 MiB of 20. One of them would not be enough.
        plan = await plan_of(cleanup, budget("max: 9MiB"))
        assert removed(plan) == ["app:a", "app:b"]
        plan = await plan_of(cleanup, budget("max: 9MiB", "keep:", "  - match: {tags: {any: [a]}}"))
        # With a kept, the base stays, and all the rest is not enough.
        assert removed(plan) == ["app:b", "app:c"]
        assert (only(plan).is_met, only(plan).method) == (False, "all")


async def test_what_is_protected_kept_held_or_young_never_goes_and_the_goal_is_missed() -> None:
    async with cleaning(Content()) as cleanup:
        tags = ("free", "held", "kept", "protected")
        await crawled(
            cleanup, [*(("app", tag, sized(tag, 10), 40) for tag in tags), ("app", "young", sized("y", 10), 0)]
        )
        hold = Hold(id=0, registry=NAME, repository="app", tag="held", reason="audit", by="ann")
        await cleanup.database.write(lambda connection: save_protection(connection, hold, clock.now()))
        more = ("protect:", "  - tags: {any: [protected]}", "keep:", "  - match: {tags: {any: [kept]}}")
        plan = await plan_of(cleanup, budget("max: 1MiB", *more))
        assert removed(plan) == ["app:free"]
        result = only(plan)
        assert (result.is_met, result.method, result.chosen_count) == (False, "all", 1)
        assert result.bytes_after > 40 * MIB


@pytest.mark.parametrize(
    ("scope", "subjects", "gone"),
    [
        ("repo", [f"{NAME}/one/a", f"{NAME}/one/b", f"{NAME}/two/a"], []),
        ("project", [f"{NAME}/one", f"{NAME}/two"], ["one/b:old"]),
        ("registry", [NAME], ["one/b:old"]),
        ("policy", [""], ["one/b:old"]),
    ],
)
async def test_each_scope_fits_on_its_own(scope: str, subjects: list[str], gone: list[str]) -> None:
    async with cleaning(Content()) as cleanup:
        pushes = [("one/a", "new", sized("1", 10), 20), ("one/b", "old", sized("2", 10), 60)]
        await crawled(cleanup, [*pushes, ("one/b", "new", sized("4", 1), 20), ("two/a", "new", sized("3", 1), 20)])
        plan = await plan_of(cleanup, budget(f"max: 15MiB, scope: {scope}"))
        assert [one.subject for one in plan.budgets] == subjects
        assert removed(plan) == gone
        assert all(one.is_met for one in plan.budgets)


async def test_what_two_repositories_of_a_scope_share_counts_once_and_goes_together() -> None:
    async with cleaning(Content()) as cleanup:
        same = sized("same", 20)
        pushes = [("p/a", "x", same, 60), ("p/b", "x", same, 60), ("p/a", "y", sized("y", 5), 10)]
        await crawled(cleanup, [*pushes, ("p/b", "z", sized("z", 5), 10)])
        plan = await plan_of(cleanup, budget("max: 29MiB, scope: project"))
        assert removed(plan) == ["p/a:x", "p/b:x"]
        result = only(plan)
        assert 30 * MIB < result.bytes_before < 31 * MIB
        assert 10 * MIB < result.bytes_after < 11 * MIB


async def test_other_rules_come_first_and_what_they_free_is_not_taken_again() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        text = HEAD + "delete:\n  - when: {tagged: {older-than: 45d}}\n  - budget: {max: 51MiB}"
        plan = await plan_of(cleanup, text)
        assert removed(plan) == ["app:v50"]
        assert only(plan).method == "none-needed"
        assert 50 * MIB < only(plan).bytes_before < 51 * MIB


async def test_a_second_budget_sees_what_the_first_has_taken() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        text = HEAD + "delete:\n  - budget: {max: 51MiB}\n  - budget: {max: 38MiB, scope: registry}"
        plan = await plan_of(cleanup, text)
        assert removed(plan) == ["app:v40", "app:v50"]
        first, second = plan.budgets
        assert (first.chosen_count, second.chosen_count) == (1, 1)
        assert second.bytes_before < first.bytes_before


async def test_signatures_go_with_what_a_budget_takes() -> None:
    async with cleaning(Content(), Behaviour(has_referrers_api=True)) as cleanup:
        old, new = sized("old", 10), sized("new", 10)
        bill = sbom(old)
        await crawled(cleanup, [("app", "old", old, 60), ("app", "", bill, 60), ("app", "new", new, 20)])
        plan = await plan_of(cleanup, budget("max: 15MiB"))
        assert {step.digest for step in plan.steps if step.kind is StepKind.DELETE} == {
            str(old.digest),
            str(bill.digest),
        }
        assert only(plan).bytes_before - only(plan).bytes_after == plan.sizes[NAME].reclaimable_bytes


async def test_with_unit_digest_an_image_goes_with_all_of_its_tags_or_stays() -> None:
    async with cleaning(Content()) as cleanup:
        two = sized("two", 10)
        await crawled(cleanup, [("app", "a", two, 60), ("app", "b", two, 50), ("app", "new", sized("n", 10), 20)])
        plan = await plan_of(cleanup, budget("max: 15MiB", "unit: digest"))
        assert removed(plan) == ["app:a", "app:b"]
        assert only(plan).is_met
        more = ("unit: digest", "keep:", "  - match: {tags: {any: [b]}}")
        plan = await plan_of(cleanup, budget("max: 15MiB", *more))
        assert removed(plan) == ["app:new"]


async def test_guards_hold_back_what_budgets_take_and_the_plan_says_what_is_really_left() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        text = budget("max: 1MiB").replace("limits: {per-run", "limits: {on-exceed: block, per-run")
        plan = await plan_of(cleanup, text)
        assert (plan.steps, removed(plan)) == ((), [])
        result = only(plan)
        assert (result.is_met, result.bytes_after, result.chosen_count) == (False, result.bytes_before, 5)


async def test_what_a_budget_took_is_applied_while_nothing_changed() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        plan = await plan_of(cleanup, budget("max: 40MiB"))
        report = await cleanup.apply(await cleanup.save(plan, "ann"))
        assert (report.state, sorted(cleanup.content.repositories["app"].tags)) == ("applied", ["v10", "v20", "v30"])


async def test_what_was_protected_since_is_not_taken_although_the_budget_wanted_it() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        plan = await plan_of(cleanup, budget("max: 40MiB"))
        hold = Hold(id=0, registry=NAME, repository="app", tag="v50", reason="audit", by="ann")
        await cleanup.database.write(lambda connection: save_protection(connection, hold, clock.now()))
        await cleanup.apply(await cleanup.save(plan, "ann"))
        assert sorted(cleanup.content.repositories["app"].tags) == ["v10", "v20", "v30", "v50"]


async def test_what_was_pulled_since_is_not_taken_although_the_budget_wanted_it() -> None:
    async with cleaning(Content()) as cleanup:
        await crawled(cleanup, FIVE)
        plan = await plan_of(cleanup, budget("max: 40MiB"))
        plan_id = await cleanup.save(plan, "ann")
        (old,) = (built for _, tag, built, _ in FIVE if tag == "v50")
        pull = pushed(cleanup.inventory, "app", old, "v50") | {"action": "pull"}
        await note(cleanup.inventory, [pull | {"request": {**pull["request"], "method": "GET"}}])
        await cleanup.apply(plan_id)
        assert sorted(cleanup.content.repositories["app"].tags) == ["v10", "v20", "v30", "v50"]

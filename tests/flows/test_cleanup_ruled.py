"""What a rule of GitLab protects is neither planned away nor removed, however late the rule was made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
from sqlalchemy.engine import Connection

from regwarden import clock
from regwarden.core.patterns import parse_pattern
from regwarden.core.plan import Plan, Step
from regwarden.core.projects import Discovery, Mode, Project, ProjectRepository, ProtectionRule, RuleKind
from regwarden.core.selection import Selection
from regwarden.store.projects import save_discovery
from regwarden.testing.content import Content
from tests.crawling import NAME
from tests.flows.cleaning import Cleanup, cleaning, picture, platforms
from tests.flows.planning import plan_of, removed

EVERYTHING = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: everything}
scope: {}
limits: {per-run: {share-of-repo: unlimited}}
keep: [{match: {tags: {any: [keep]}}}]
delete: [{match: {tags: {any: ["glob:*"]}}}]
"""
PLACES = ("team/app", "ann/thing")
TAGS = ("v1", "v2", "same", "1-final", "work")
RULES = (ProtectionRule(RuleKind.TAG, "^v", "owner"), ProtectionRule(RuleKind.IMMUTABLE, "-final$"))


def images() -> Content:
    """One repository in which ``same`` is the image of ``v2``, and another of another project."""
    content = Content()
    for name in PLACES:
        repository = content.repository(name)
        repository.add(picture("one"), "v1")
        repository.add(picture("two"), "v2", "same")
        repository.add(platforms("final"), "1-final")
        repository.add(picture("work"), "work")
        repository.add(picture("kept"), "keep")
    return content


@pytest.fixture
async def cleanup() -> AsyncIterator[Cleanup]:
    """A registry that was crawled, without any rule."""
    async with cleaning(images()) as made:
        await made.crawl()
        await discover(made, {101: (), 104: ()})
        yield made


async def discover(cleanup: Cleanup, rules: Mapping[int, tuple[ProtectionRule, ...] | None]) -> None:
    """Let GitLab say which rules each project has; ``None`` cannot be read."""
    paths = {101: "team/app", 104: "ann/thing"}
    found = Discovery(
        mode=Mode.INSTANCE,
        projects=tuple(Project(id=one, path=paths[one], rules=some) for one, some in rules.items()),
        repositories=tuple(ProjectRepository(name=path, project_id=one, id=one) for one, path in paths.items()),
    )

    def work(connection: Connection) -> None:
        registry_id = connection.exec_driver_sql(f"SELECT id FROM registries WHERE name = '{NAME}'").scalar_one()
        save_discovery(connection, registry_id, found, clock.now())

    await cleanup.database.write(work)


async def test_no_plan_has_a_step_for_what_a_rule_protects(cleanup: Cleanup) -> None:
    everything = {f"{name}:{tag}" for name in PLACES for tag in TAGS}
    assert set(removed(await plan_of(cleanup, EVERYTHING))) == everything
    await discover(cleanup, {101: RULES, 104: ()})
    plan = await plan_of(cleanup, EVERYTHING)
    left = {"team/app:v1", "team/app:v2", "team/app:1-final"}
    assert everything - set(removed(plan)) in (left, left | {"team/app:same"})
    assert not protected_steps(plan)
    told = {
        verdict.tag: (reason.rule, reason.detail)
        for place in plan.verdicts
        for verdict in place.verdicts
        for reason in verdict.reasons
        if reason.code == "protected" and verdict.tag in TAGS
    }
    assert told == {
        "v1": ("GitLab rule ^v", "held: GitLab lets only owners delete tags like ^v"),
        "v2": ("GitLab rule ^v", "held: GitLab lets only owners delete tags like ^v"),
        "1-final": (
            "GitLab rule -final$",
            "held: GitLab lets nobody delete or move tags like -final$: they are immutable",
        ),
    }


async def test_a_selection_leaves_what_a_rule_protects(cleanup: Cleanup) -> None:
    await discover(cleanup, {101: RULES, 104: ()})
    every = Selection(registry=NAME, repositories=tuple(map(parse_pattern, PLACES)))
    plan = await plan_of(cleanup, every)
    assert not protected_steps(plan)
    assert f"{PLACES[0]}:work" in removed(plan)


def protected_steps(plan: Plan) -> list[Step]:
    """The steps that would take away what the rules of the first project protect."""
    digests = {str(one.digest) for one in (picture("one"), picture("two"), platforms("final"))}
    return [
        one
        for one in plan.steps
        if one.repository == PLACES[0]
        and (one.digest in digests if one.kind == "delete" else bool({"v1", "v2", "1-final"} & set(one.tags)))
    ]


async def test_rules_that_are_made_after_the_plan_hold_too(cleanup: Cleanup) -> None:
    plan_id = await cleanup.save(cleanup.plan(EVERYTHING), "ann")
    await discover(cleanup, {101: RULES, 104: ()})
    # They cannot be read any more, and hold.
    await discover(cleanup, {101: None, 104: ()})
    report = await cleanup.apply(plan_id)
    assert cleanup.tags("team/app").keys() >= {"v1", "v2", "1-final", "keep"}
    assert "work" not in cleanup.tags("team/app")
    assert cleanup.tags("ann/thing").keys() == {"keep"}
    assert "drifted" in report.results


async def test_a_rule_that_is_made_at_the_last_moment_holds(cleanup: Cleanup) -> None:
    """After the repository was looked at, just before the request."""
    plan_id = await cleanup.save(cleanup.plan(EVERYTHING), "ann")
    done: list[bool] = []

    async def protect_now() -> None:
        if not done and any(one.method == "HEAD" for one in cleanup.registry.requests):
            done.append(True)
            everything = (ProtectionRule(RuleKind.TAG, "", "admin"),)
            await discover(cleanup, {101: everything, 104: everything})

    cleanup.drained.append(protect_now)
    await cleanup.apply(plan_id)
    assert done
    assert cleanup.tags("team/app").keys() == {*TAGS, "keep"}
    assert cleanup.tags("ann/thing").keys() == {*TAGS, "keep"}

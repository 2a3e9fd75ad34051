"""A plan that is made, applied and undone as people do it, with the registry's notifications coming in."""

from __future__ import annotations

import pytest

from regwarden import clock
from regwarden.core.retention import needs_of
from regwarden.flows.finish_records import CollectionPlace
from regwarden.flows.finishing import finish_plan
from regwarden.flows.undoing import undo_plan
from regwarden.store.observed import iterate_repositories
from regwarden.store.plan_sizes import measure_plan
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import sbom
from tests.crawling import NAME
from tests.flows.cleaning import Cleanup, cleaning, picture, platforms

SHARED = picture("shared")
OLD, NEW = platforms("old", SHARED), platforms("new", SHARED)
BILL = sbom(OLD)


def some_content() -> Content:
    content = Content()
    app = content.repository("app")
    app.add(OLD, "1.0", "1.0.1")
    app.add(NEW, "2.0", "1.9")
    app.add(BILL)
    return content


def registry_state(cleanup: Cleanup) -> object:
    return {
        name: (dict(one.tags), {digest: stored.payload for digest, stored in one.manifests.items()})
        for name, one in cleanup.content.repositories.items()
    }


def observed(cleanup: Cleanup) -> object:
    """What rules look at: where tags point, which manifests are there, and since when."""
    found = cleanup.database.read_now(
        lambda connection: list(iterate_repositories(connection, NAME, None, needs_of(()), clock.now()))
    )
    return [
        (
            one.name,
            [(tag.name, tag.digest, tag.state, tag.tagged_at) for tag in one.tags],
            [(digest, facts.first_seen_at, facts.untagged_since is None) for digest, facts in one.manifests.items()],
        )
        for one in found
    ]


@pytest.mark.parametrize("behaviour", [Behaviour(has_referrers_api=True), Behaviour.oci_1_1()])
async def test_after_an_undo_registry_and_inventory_are_as_before(behaviour):
    async with cleaning(some_content(), behaviour) as cleanup:
        await cleanup.crawl()
        before, known_before = registry_state(cleanup), observed(cleanup)
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1.0*")), "ann")
        applied = await cleanup.apply(plan_id)
        assert (applied.state, registry_state(cleanup) == before) == ("applied", False)
        await cleanup.drain()
        assert cleanup.holds("app", OLD, BILL, SHARED) == [False, False, True]
        report = await undo_plan(cleanup.services, plan_id, principal="ann")
        assert (report.state, report.losses, report.failures) == ("undone", (), ())
        assert registry_state(cleanup) == before
        assert observed(cleanup) == known_before
        await cleanup.drain()  # the events of our own pushes
        assert observed(cleanup) == known_before
        assert (await cleanup.restore()).restored_count == 0


async def test_finishing_expects_what_the_plan_promised():
    async with cleaning(some_content()) as cleanup:
        await cleanup.crawl()
        plan = cleanup.plan(cleanup.select("app:glob:1.0*"))
        deleted = [(step.repository, step.digest) for step in plan.steps]
        promised = cleanup.database.read_now(
            lambda connection: measure_plan(connection, NAME, deleted, is_untagged_known=True)
        )
        plan_id = await cleanup.save(plan, "ann")
        await cleanup.apply(plan_id)
        (end,) = await finish_plan(cleanup.services, plan_id, principal="ann", places={NAME: CollectionPlace()})
        assert end.expected.at_most_bytes == promised.reclaimable_bytes

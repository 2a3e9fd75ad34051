"""A plan whose time is over while it was being applied: what was begun is settled, nothing more is begun."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from regwarden import clock
from regwarden.core.plan import GuardCode
from regwarden.errors import Conflict, RegistryError
from regwarden.flows.finishing import finish_plan
from regwarden.flows.undoing import undo_plan
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.testing.content import Content
from tests.flows.cleaning import QUICK, Cleanup, cleaning, picture

WAIVED = replace(QUICK, waived=frozenset({GuardCode.NO_LIVE_EVENTS}))
POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: releases}
scope: {}
keep: [{match: {tags: {any: ["glob:v*"]}}}]
delete: [{match: {tags: {any: ["glob:dev-*"]}}, when: {tagged: {older-than: 30d}}}]
apply: {window: ["daily 10:00-11:00 UTC"]}
"""


def content_of_three() -> Content:
    content = Content()
    for number in range(3):
        content.repository("app").add(picture(str(number)), f"dev-{number}")
        content.repository("app").add(picture(f"stays {number}"), f"v{number}")
    return content


async def begun(cleanup: Cleanup, made_from: Any, at: datetime) -> int:
    """A plan of three steps: one is done, of the second nobody knows, the third was not begun."""
    await cleanup.crawl()
    plan_id = await cleanup.save(cleanup.plan(made_from), "ann")
    cleanup.services = replace(cleanup.services, now=lambda: at)
    connector = cleanup.inventory.connector
    delete, head = connector.delete_manifest, connector.head_manifest
    counts = [0]

    async def silent(*_: Any) -> Any:
        raise RegistryError("no answer", temporary=True)

    async def delete_and_break(repository, digest):
        removal = await delete(repository, digest)
        counts[0] += 1
        if counts[0] == 2:
            connector.head_manifest = silent  # type: ignore[method-assign, assignment]  # as if the network broke
            raise RegistryError("no answer", temporary=True)
        return removal

    connector.delete_manifest = delete_and_break  # type: ignore[method-assign]  # the same
    first = await cleanup.apply(plan_id, replace(WAIVED, max_failures=1))
    assert (first.state, first.results) == ("applying", {"done": 1, "intended": 1, "pending": 1})
    connector.delete_manifest, connector.head_manifest = delete, head  # type: ignore[method-assign]  # it works again
    return plan_id


def at(moment: datetime) -> Any:
    return lambda: moment


async def test_an_expired_plan_is_settled_and_ended_without_another_deletion():
    async with cleaning(content_of_three()) as cleanup:
        plan_id = await begun(cleanup, cleanup.select("app:glob:dev-*"), clock.now())
        expires_at = cleanup.stored(plan_id).plan.expires_at
        cleanup.services = replace(cleanup.services, now=at(expires_at))
        report = await cleanup.apply(plan_id, WAIVED)
        assert (report.state, report.results, report.stopped) == ("applied", {"done": 2, "drifted": 1}, "")
        (problem,) = report.problems
        assert problem == (
            f"plan {plan_id} expired at {expires_at:%Y-%m-%d %H:%M} UTC: 1 of its steps were left alone;"
            " make a new plan for them"
        )
        assert len(cleanup.sent()) == 2
        (left,) = [one for one in cleanup.steps(plan_id) if one.state == "drifted"]
        assert left.detail == f"plan {plan_id} expired at {expires_at:%Y-%m-%d %H:%M} UTC"
        assert left.step.tags[0] in cleanup.tags("app")
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id, WAIVED)
        assert caught.value.code == "plan-state"


async def test_what_an_expired_plan_removed_is_undone_and_then_finished():
    async with cleaning(content_of_three()) as cleanup:
        plan_id = await begun(cleanup, cleanup.select("app:glob:dev-*"), clock.now())
        before = {f"dev-{number}": str(picture(str(number)).digest) for number in range(3)}
        cleanup.services = replace(cleanup.services, now=at(cleanup.stored(plan_id).plan.expires_at))
        await cleanup.apply(plan_id, WAIVED)
        assert (await undo_plan(cleanup.services, plan_id, principal="ann")).state == "undone"
        assert before.items() <= cleanup.tags("app").items()
        await finish_plan(cleanup.services, plan_id, principal="ann", places={})
        assert cleanup.stored(plan_id).state == "finished"


async def test_an_expired_plan_stays_open_as_long_as_nobody_knows_what_became_of_a_step():
    async with cleaning(content_of_three()) as cleanup:
        plan_id = await begun(cleanup, cleanup.select("app:glob:dev-*"), clock.now())
        cleanup.services = replace(cleanup.services, now=at(cleanup.stored(plan_id).plan.expires_at))
        head = cleanup.inventory.connector.head_manifest

        async def silent(*_: Any) -> Any:
            raise RegistryError("no answer", temporary=True)

        cleanup.inventory.connector.head_manifest = silent  # type: ignore[method-assign, assignment]  # as if it were down
        report = await cleanup.apply(plan_id, WAIVED)
        assert (report.state, report.results) == ("applying", {"done": 1, "drifted": 1, "intended": 1})
        assert "of 1 step nobody knows whether it was done" in report.stopped
        cleanup.inventory.connector.head_manifest = head  # type: ignore[method-assign]  # it is up again
        again = await cleanup.apply(plan_id, WAIVED)
        assert (again.state, again.results) == ("applied", {"done": 2, "drifted": 1})


async def test_a_push_that_raced_an_expired_plan_is_put_back():
    async with cleaning(content_of_three()) as cleanup:
        plan_id = await begun(cleanup, cleanup.select("app:glob:dev-*"), clock.now())
        step = next(one.step for one in cleanup.steps(plan_id) if one.state == "intended")
        built = picture(step.tags[0].removeprefix("dev-"))
        await cleanup.push("app", built, "release")
        cleanup.content.repository("app").delete_manifest(built.digest)
        cleanup.services = replace(cleanup.services, now=at(cleanup.stored(plan_id).plan.expires_at))
        report = await cleanup.apply(plan_id, WAIVED)
        assert (report.restored_count, report.state) == (1, "applied")
        assert cleanup.tags("app")["release"] == str(built.digest)


async def test_in_a_closed_window_what_was_begun_is_settled_and_the_rest_waits():
    async with cleaning(content_of_three()) as cleanup:
        opened = clock.now().replace(hour=10, minute=30) + timedelta(days=1)
        plan_id = await begun(cleanup, POLICY, opened)
        cleanup.services = replace(cleanup.services, now=at(opened + timedelta(hours=1)))
        closed = await cleanup.apply(plan_id, WAIVED)
        assert (closed.state, closed.results, len(cleanup.sent())) == ("applying", {"done": 2, "pending": 1}, 2)
        assert closed.stopped.startswith("the window is closed; it opens at ")
        cleanup.services = replace(cleanup.services, now=at(opened + timedelta(days=1)))
        assert (await cleanup.apply(plan_id, WAIVED)).results == {"done": 3}


async def test_a_window_that_does_not_open_again_before_the_plan_expires_is_its_end():
    async with cleaning(content_of_three()) as cleanup:
        hour = (clock.now().hour - 5) % 24  # plans expire after whole days
        policy = POLICY.replace("10:00-11:00", f"{hour:02}:00-{hour:02}:59")
        plan_id = await begun(cleanup, policy, clock.now().replace(hour=hour, minute=30) + timedelta(days=1))
        cleanup.services = replace(
            cleanup.services, now=at(cleanup.stored(plan_id).plan.expires_at - timedelta(hours=1))
        )
        report = await cleanup.apply(plan_id, WAIVED)
        assert (report.state, report.results) == ("applied", {"done": 2, "drifted": 1})
        assert "its window does not open before it expires" in report.problems[0]


async def test_the_audit_says_on_which_terms_a_plan_was_applied():
    async with cleaning(content_of_three()) as cleanup:
        await cleanup.crawl()
        plan = cleanup.plan(cleanup.select("app"), waived=[GuardCode.NEVER_EMPTY])
        plan_id = await cleanup.save(plan, "ann", "bob")
        await cleanup.apply(plan_id, replace(WAIVED, requests_per_second=500.0, max_failures=3))
        (noted,) = cleanup.database.read_now(
            lambda connection: list_audit(connection, AuditFilter(plan_id=plan_id, action="plan-apply"))
        )
        assert noted.principal == "ann"
        assert noted.detail == {
            "approved_by": ["ann (os-user)", "bob (os-user)"],
            "can_miss_races": True,
            "fingerprint": plan.fingerprint,
            "halted": "",
            "max_failures": 3,
            "requests_per_second": 500.0,
            "resumed": False,
            "waived": ["never-empty", "no-live-events"],
            "waived_now": ["no-live-events"],
        }

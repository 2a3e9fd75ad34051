"""Applying a plan: what goes, what stays, how many requests it takes, and what it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from regwarden import clock
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import GuardCode
from regwarden.errors import Conflict
from regwarden.flows.apply_records import ApplyOptions, ApplyProgress
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.cleanup_schema import plan_steps, plans
from regwarden.store.plan_records import ApprovalKind
from regwarden.store.trash import load
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content, StoredManifest
from regwarden.testing.images import sbom
from tests.flows.cleaning import QUICK, cleaning, picture, platforms

OLD, NEW, MULTI = picture("old"), picture("new"), platforms("multi")
REFERENCED = '{"errors": [{"code": "MANIFEST_REFERENCED", "message": "an index lists it"}]}'
KEEP_RELEASES = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: releases}
scope: {}
keep: [{match: {tags: {any: ["glob:v*"]}}}]
delete: [{match: {tags: {any: ["glob:dev-*"]}}, when: {tagged: {older-than: 30d}}}]
"""


def two_images() -> Content:
    content = Content()
    content.repository("app").add(OLD, "1.0", "1.0.0")
    content.repository("app").add(NEW, "2.0")
    return content


async def test_what_was_selected_goes_with_a_head_for_each_tag_and_one_delete():
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl(is_heard=True)
        report = await cleanup.clean(cleanup.select("app:glob:1*"))
        assert (report.state, report.results, report.stopped, report.problems) == ("applied", {"done": 1}, "", ())
        assert cleanup.tags("app") == {"2.0": str(NEW.digest)} == cleanup.known_tags("app")
        assert not report.can_miss_races
        # The first HEAD lets the registry show that it sends notifications; the list is read once.
        assert len(cleanup.sent("DELETE")) == 1
        assert sorted(cleanup.sent("HEAD")) == ["/v2/app/manifests/1.0"] * 2 + ["/v2/app/manifests/1.0.0"]
        assert cleanup.sent("GET") == ["/v2/app/tags/list"]
        assert report.request_count == len(cleanup.registry.requests)


async def test_an_index_goes_before_its_children_and_what_another_one_needs_stays():
    shared = picture("shared")
    first, second = platforms("first", shared), platforms("second", shared)
    content = Content()
    content.repository("app").add(first, "1")
    content.repository("app").add(second, "2")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        report = await cleanup.clean(cleanup.select("app:1"))
        deleted = [path.rpartition("/")[2] for path in cleanup.sent()]
        assert deleted[0] == str(first.digest)
        assert set(deleted[1:]) == {str(child.digest) for child in first.children if child.digest != shared.digest}
        assert cleanup.holds("app", second, *second.children) == [True] * 4
        # The index that stays shares a child with the one that went: it was walked.
        assert (report.verified_index_count, report.broken_indexes) == (1, ())


async def test_a_policy_is_applied_with_referrers_and_everything_is_in_the_trash():
    content = Content()
    about = sbom(OLD)
    content.repository("team/app").add(OLD, "dev-1")
    content.repository("team/app").add(NEW, "v1")
    content.repository("team/app").add(MULTI, "dev-2")
    content.repository("team/app").add(about)
    async with cleaning(content, Behaviour(has_referrers_api=True)) as cleanup:
        await cleanup.crawl()
        waived = (GuardCode.REPOSITORY_SHARE,)
        plan_id = await cleanup.save(cleanup.plan(KEEP_RELEASES, waived=waived), "ann")
        report = await cleanup.apply(plan_id)
        assert report.results == {"done": 5}
        assert cleanup.tags("team/app") == {"v1": str(NEW.digest)}
        kept = cleanup.database.read_now(lambda connection: load(connection, plan_id))
        removed = {built.digest: built.payload for built in (OLD, MULTI, about, *MULTI.children)}
        assert {one.digest: one.payload for one in kept} == {str(digest): body for digest, body in removed.items()}


async def test_one_tag_of_several_goes_where_the_registry_can_do_that():
    async with cleaning(two_images(), Behaviour.distribution_3()) as cleanup:
        await cleanup.crawl()
        report = await cleanup.clean(cleanup.select("app:1.0.0", untag=True))
        assert report.results == {"done": 1}
        assert cleanup.tags("app") == {"1.0": str(OLD.digest), "2.0": str(NEW.digest)} == cleanup.known_tags("app")
        assert cleanup.sent() == ["/v2/app/manifests/1.0.0"]


async def test_one_tag_of_several_is_pointed_to_a_placeholder_where_the_registry_cannot_remove_it():
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        report = await cleanup.clean(cleanup.select("app:1.0.0", untag=True, with_placeholders=True))
        assert report.results == {"done": 1}
        assert cleanup.tags("app") == {"1.0": str(OLD.digest), "2.0": str(NEW.digest)} == cleanup.known_tags("app")
        assert set(cleanup.content.repository("app").manifests) == {OLD.digest, NEW.digest}


async def test_a_registry_that_removes_the_manifest_with_its_tag_gets_it_back_and_is_not_asked_again(monkeypatch):
    content = two_images()
    content.repository("app").add(NEW, "2.0.0")
    async with cleaning(content, Behaviour.distribution_3()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:*.0.0", untag=True)), "ann")
        connector = cleanup.inventory.connector

        async def delete_more(repository, tag):
            digest = content.repository(repository).tags[tag]
            return await connector.delete_manifest(repository, digest)

        monkeypatch.setattr(connector, "delete_tag", delete_more)
        report = await cleanup.apply(plan_id)
        assert report.stopped
        assert len(cleanup.sent()) == 1
        assert {"1.0", "2.0"} <= cleanup.tags("app").keys()


async def test_progress_is_told_and_who_did_it_is_kept():
    content = Content()
    for number in range(3):
        content.repository("app").add(picture(str(number)), f"1.{number}")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        told: list[ApplyProgress] = []
        await cleanup.apply(plan_id, on_progress=told.append)
        assert [(one.ended_count, one.step_count) for one in told] == [(1, 3), (2, 3), (3, 3)]
        entries = cleanup.database.read_now(lambda connection: list_audit(connection, AuditFilter(plan_id=plan_id)))
        assert sorted(one.action for one in entries) == ["plan-applied", "plan-apply"]
        stored = cleanup.stored(plan_id)
        assert (stored.state, (stored.outcome or {})["results"]) == ("applied", {"done": 3})
        assert stored.summary.applied_at is not None
        assert stored.summary.undo_until == stored.summary.applied_at + timedelta(days=7)


async def test_requests_are_not_sent_faster_than_asked_for():
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl(is_heard=True)
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        start = asyncio.get_running_loop().time()
        report = await cleanup.apply(plan_id, replace(QUICK, requests_per_second=2))
        assert report.request_count == 5
        assert asyncio.get_running_loop().time() - start >= (5 - 2) / 2 - 0.1


async def test_a_manifest_that_the_checker_cannot_read_holds_back_its_repository_and_no_other(monkeypatch):
    """Anybody who may push can push one: the inventory understands it, and others might understand it otherwise."""
    monkeypatch.setattr("regwarden.flows.applying._WAIT_SECONDS", 0)
    payload = NEW.payload.replace(b'"schemaVersion":2', b'"schemaVersion":2,"schemaVersion":2')
    assert payload != NEW.payload
    twice = replace(NEW, manifest=StoredManifest(Digest.of(payload), NEW.media_type, payload))
    content = two_images()
    content.repository("lib").add(OLD, "1.0")
    content.repository("lib").add(twice, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        report = await cleanup.clean(cleanup.select("app:glob:1*", "lib:1.0"))
        assert (report.results, report.state) == ({"done": 1, "pending": 1}, "applying")
        assert report.problems[0].startswith(f"lib: nothing can be decided: {twice.digest} is not clear: ")
        assert cleanup.holds("lib", OLD) == [True]


async def test_less_than_a_request_in_a_second_can_be_asked_for():
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await cleanup.apply(plan_id, replace(QUICK, requests_per_second=0.01))
        assert len(cleanup.registry.requests) == 1
        assert cleanup.stored(plan_id).state == "applying"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("plan-fingerprint", lambda plan: {"fingerprint": "sha256:" + "0" * 64}),
        ("plan-expired", lambda plan: {}),
        ("plan-approvals", lambda plan: {}),
    ],
)
async def test_a_plan_that_is_not_agreed_to_is_not_applied(code, change):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        long_ago = clock.now() - timedelta(days=20) if code == "plan-expired" else None
        plan = cleanup.plan(cleanup.select("app:1.0", match_all_tags=False), now=long_ago)
        plan_id = await cleanup.save(plan, *(["ann"] if code != "plan-approvals" else []))
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id, **change(plan))
        assert (caught.value.code, cleanup.sent(), cleanup.stored(plan_id).state) == (code, [], "open")


async def test_two_people_are_two_who_signed_in():
    policy = KEEP_RELEASES + "apply: {approval: two}\n"
    content = Content()
    content.repository("app").add(OLD, "dev-1")
    content.repository("app").add(NEW, "v1")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        signed_in = ApprovalKind.SIGNED_IN
        for names, kind, state, count in (
            (("bob", "cid"), ApprovalKind.OS_USER, "open", 0),
            (("bob", "cid"), ApprovalKind.PROGRAM, "open", 0),
            (("ann", "bob"), signed_in, "open", 1),  # ann has made it
            (("bob", "bob"), signed_in, "open", 1),
            (("bob", "cid"), signed_in, "applied", 2),
        ):
            plan_id = await cleanup.save(cleanup.plan(policy), *names, kind=kind)
            if state == "applied":
                await cleanup.apply(plan_id)
            else:
                with pytest.raises(Conflict, match=f"2 signed-in people and has {count}"):
                    await cleanup.apply(plan_id)
            assert cleanup.stored(plan_id).state == state


@pytest.mark.parametrize("table", [plans, plan_steps])
async def test_a_plan_that_was_changed_in_the_database_is_not_applied(table):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        other = {"fingerprint": "sha256:" + "1" * 64} if table is plans else {"digest": NEW.digest.to_bytes()}
        await cleanup.database.write(lambda connection: connection.execute(update(table).values(other)))
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id)
        assert (caught.value.code, cleanup.sent()) == ("plan-fingerprint", [])


async def test_a_plan_is_applied_once():
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        await cleanup.apply(plan_id)
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id)
        assert (caught.value.code, len(cleanup.sent())) == ("plan-state", 1)


async def test_a_plan_waits_for_its_window():
    policy = KEEP_RELEASES + 'apply: {window: ["daily 10:00-11:00 UTC"]}\n'
    content = Content()
    content.repository("app").add(OLD, "dev-1")
    content.repository("app").add(NEW, "v1")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(policy), "ann")
        present = clock.now().replace(hour=9, minute=59)
        cleanup.services = replace(cleanup.services, now=lambda: present)
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id)
        assert (caught.value.code, cleanup.sent()) == ("plan-window", [])


async def test_a_window_that_closes_stops_between_two_steps_and_the_next_one_goes_on():
    policy = KEEP_RELEASES + 'apply: {window: ["daily 10:00-11:00 UTC"]}\n'
    content = Content()
    for number in range(4):
        content.repository("app").add(picture(str(number)), f"dev-{number}" if number < 2 else f"v{number}")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(policy), "ann")
        opened = clock.now().replace(hour=10, minute=30) + timedelta(days=1)
        present = [opened]
        cleanup.services = replace(cleanup.services, now=lambda: present[0])
        waived = replace(QUICK, waived=frozenset({GuardCode.NO_LIVE_EVENTS}))

        def close(_):
            present[0] = opened + timedelta(hours=1)

        first = await cleanup.apply(plan_id, waived, on_progress=close)
        assert (first.results, first.state) == ({"done": 1, "pending": 1}, "applying")
        assert first.stopped.startswith("the window has closed; it opens again at ")
        present[0] = opened + timedelta(days=1)
        second = await cleanup.apply(plan_id, waived)
        assert (second.results, second.state, second.stopped) == ({"done": 2}, "applied", "")


async def test_without_notifications_nothing_goes_unless_that_is_waived(monkeypatch):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        cleanup.is_deaf = True
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id)
        assert (caught.value.code, cleanup.sent()) == ("no-live-events", [])
        # From a registry that never sent any nothing is waited for.
        monkeypatch.setattr("regwarden.flows.apply_checks._KNOCK_SECONDS", 3600)
        patient = ApplyOptions(linger_seconds=3600, waived=frozenset({GuardCode.NO_LIVE_EVENTS}))
        async with asyncio.timeout(60):
            report = await cleanup.apply(plan_id, patient)
        assert (report.can_miss_races, report.results) == (True, {"done": 1})


async def test_too_many_failures_stop_the_run_and_the_next_one_goes_on():
    content = Content()
    for number in range(10):
        content.repository("app").add(picture(str(number)), f"1.{number}")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        cleanup.registry.behaviour.faults["DELETE", ".*"] = [Fault(409, REFERENCED)] * 3
        report = await cleanup.apply(plan_id, replace(QUICK, max_failures=3))
        assert (report.results, report.state) == ({"failed": 3, "pending": 7}, "applying")
        assert (report.stopped, len(report.problems)) == ("3 things failed", 3)
        again = await cleanup.apply(plan_id)
        assert (again.results, again.state) == ({"done": 7, "failed": 3}, "applied")
        assert len(cleanup.content.repository("app").manifests) == 4


@pytest.mark.parametrize("behaviour", [Behaviour(can_delete=False), Behaviour(is_read_only=True)])
async def test_a_registry_that_takes_no_deletions_is_asked_once(behaviour):
    content = Content()
    for number in range(3):
        content.repository("app").add(picture(str(number)), f"1.{number}")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        cleanup.registry.behaviour.can_delete = behaviour.can_delete
        cleanup.registry.behaviour.is_read_only = behaviour.is_read_only
        report = await cleanup.apply(plan_id)
        assert (len(cleanup.sent()), report.state) == (1, "applying")
        assert report.stopped
        assert len(cleanup.tags("app")) == 4


async def test_what_an_index_leads_to_stays_where_the_index_cannot_be_deleted():
    content = Content()
    content.repository("app").add(MULTI, "1")
    content.repository("app").add(NEW, "2")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        cleanup.registry.behaviour.faults["DELETE", ".*"] = [Fault(409, REFERENCED)]
        report = await cleanup.clean(cleanup.select("app:1"))
        assert report.results == {"drifted": 2, "failed": 1}
        assert cleanup.holds("app", MULTI, *MULTI.children) == [True] * 3
        assert len(cleanup.sent()) == 1


@pytest.mark.parametrize("status", [0, 500, 401, 403, 429])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_nothing_is_deleted_where_a_check_gets_no_clear_answer(method, status):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        await cleanup.services.connectors["sample"].head_manifest("app", "2.0")
        await cleanup.drain()
        cleanup.registry.behaviour.faults[method, ".*"] = [Fault(status, headers=(("Retry-After", "0"),))] * 50
        report = await cleanup.apply(plan_id)
        assert (cleanup.sent(), report.results, report.state) == ([], {"pending": 1}, "applying")
        assert report.problems


async def test_a_manifest_whose_bytes_cannot_be_kept_stays(monkeypatch):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        monkeypatch.setattr("regwarden.flows.bytes_to_keep.load_payloads", lambda *_: {})
        cleanup.registry.behaviour.faults["GET", ".*manifests.*"] = [Fault(500)] * 50
        report = await cleanup.clean(cleanup.select("app:glob:1*"))
        assert (cleanup.sent(), report.results) == ([], {"pending": 1})


async def test_bytes_that_the_inventory_lacks_are_fetched_and_verified(monkeypatch):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        monkeypatch.setattr("regwarden.flows.bytes_to_keep.load_payloads", lambda *_: {})
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        assert (await cleanup.apply(plan_id)).results == {"done": 1}
        (kept,) = cleanup.database.read_now(lambda connection: load(connection, plan_id))
        assert kept.payload == OLD.payload


async def test_nothing_goes_without_the_proof(monkeypatch):
    async with cleaning(two_images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        monkeypatch.setattr("regwarden.flows.reconsidering.load_raw", lambda *_: {})
        with pytest.raises(Conflict) as caught:
            await cleanup.apply(plan_id)
        assert (caught.value.code, cleanup.sent(), cleanup.stored(plan_id).state) == ("plan-unproven", [], "open")


async def test_an_interrupt_ends_the_step_under_way_and_then_stops(monkeypatch):
    content = Content()
    for number in range(4):
        content.repository("app").add(picture(str(number)), f"1.{number}")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        delete = cleanup.inventory.connector.delete_manifest

        async def cancel_meanwhile(repository, digest):
            task.cancel()
            await asyncio.sleep(0.05)
            return await delete(repository, digest)

        monkeypatch.setattr(cleanup.inventory.connector, "delete_manifest", cancel_meanwhile)
        task = asyncio.ensure_future(cleanup.apply(plan_id))
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        assert cleanup.states(plan_id).count("done") == 1 == len(cleanup.sent())
        assert "intended" not in cleanup.states(plan_id)
        assert (await cleanup.apply(plan_id)).results == {"done": 4}
        assert len(cleanup.sent()) == 4


async def test_a_stop_that_is_asked_for_comes_between_two_steps():
    content = Content()
    for number in range(3):
        content.repository("app").add(picture(str(number)), f"1.{number}")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        stop = asyncio.Event()
        report = await cleanup.apply(plan_id, replace(QUICK, stop=stop), on_progress=lambda _: stop.set())
        assert (report.results, report.stopped) == ({"done": 1, "pending": 2}, "it was interrupted")


def test_the_most_careful_options_are_the_defaults():
    assert ApplyOptions() == ApplyOptions(waived=frozenset(), max_failures=5, requests_per_second=None)

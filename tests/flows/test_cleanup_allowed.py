"""What is allowed to run is neither planned away nor removed, whoever allowed it, whenever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden import clock
from regwarden.core.oci.digests import Digest
from regwarden.core.verdicts import Outcome
from regwarden.store.allow import AllowRecord, remove_entry, save_entry
from regwarden.store.schema import manifests
from regwarden.testing.content import Content
from tests.flows.cleaning import Cleanup, cleaning, picture, platforms

OLD, NEW, MULTI = picture("old"), picture("new"), platforms("multi")
EVERYTHING = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: everything}
scope: {}
limits: {per-run: {share-of-repo: unlimited}}
keep: [{match: {tags: {any: [keep]}}}]
delete: [{match: {tags: {any: ["glob:*"]}}}]
"""
Given = Callable[[Cleanup], dict[str, Any]]


def images() -> Content:
    content = Content()
    repository = content.repository("app")
    repository.add(OLD, "1.0")
    repository.add(picture("kept"), "keep")
    repository.add(MULTI, "multi")
    repository.add(MULTI.children[0], "part")
    content.repository("lib").add(NEW, "2.0")
    content.repository("lib").add(picture("kept too"), "keep")
    return content


def host(cleanup: Cleanup) -> str:
    return cleanup.inventory.url.partition("://")[2]


async def allow(cleanup: Cleanup, **fields: Any) -> int:
    image = fields.get("image", "")
    digest = image.rpartition("@")[2] if "sha256:" in image else ""
    values = {"effect": "allow", "digest": digest, "made_at": clock.now(), "made_by": "ann", **fields}
    return await cleanup.database.write(lambda connection: save_entry(connection, AllowRecord(**values)))


def staying(cleanup: Cleanup) -> set[str]:
    """``REPOSITORY:TAG`` of everything that a plan would leave, but for what it leaves in any case."""
    plan = cleanup.plan(EVERYTHING)
    tags = {
        f"{place.repository}:{one.tag}"
        for place in plan.verdicts
        for one in place.verdicts
        if one.tag and one.outcome is not Outcome.REMOVE
    }
    return tags - {"app:keep", "lib:keep"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (lambda _: {"image": str(OLD.digest)}, {"app:1.0"}),
        (lambda _: {"image": f"elsewhere.example.com/x@{OLD.digest}"}, {"app:1.0"}),
        (lambda _: {"image": str(MULTI.digest)}, {"app:multi", "app:part"}),
        (lambda one: {"image": f"{host(one)}/app:1.0"}, {"app:1.0"}),
        (lambda one: {"image": f"{host(one)}/app:none"}, set()),
        (lambda _: {"image": "elsewhere.example.com/app:1.0"}, set()),
        (lambda one: {"pattern": f"{host(one)}/lib"}, {"lib:2.0"}),
        (lambda one: {"pattern": f"glob:{host(one)}/**", "tags": ("1.*",)}, {"app:1.0"}),
        (lambda _: {"pattern": "re:("}, {"app:1.0", "app:multi", "app:part", "lib:2.0"}),
        (lambda _: {"image": str(OLD.digest), "pattern": "glob:elsewhere.example.com/**"}, set()),
        (lambda _: {"image": str(OLD.digest), "effect": "deny"}, set()),
        (lambda _: {"image": str(OLD.digest), "is_protecting": False}, set()),
        (lambda _: {"image": str(OLD.digest), "not_before": clock.now() + timedelta(days=1)}, {"app:1.0"}),
        (lambda _: {"image": str(OLD.digest), "expires_at": clock.now() + timedelta(days=1)}, {"app:1.0"}),
        (lambda _: {"image": str(OLD.digest), "expires_at": clock.now() - timedelta(days=1)}, set()),
    ],
)
async def test_a_plan_leaves_what_is_allowed(given: Given, wanted: set[str]) -> None:
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        assert staying(cleanup) == set()
        number = await allow(cleanup, reason="runs", **given(cleanup))
        assert staying(cleanup) == wanted
        told = [
            reason
            for place in cleanup.plan(EVERYTHING).verdicts
            for one in place.verdicts
            for reason in one.reasons
            if reason.code == "protected"
        ]
        assert all(reason.rule == f"allow entry {number}" for reason in told)
        assert all(f"allowed to run by entry {number} of ann: runs" in reason.detail for reason in told)
        assert bool(told) is bool(wanted)


async def test_what_is_allowed_by_its_config_stays() -> None:
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        config = cleanup.database.read_now(_config_of)
        await allow(cleanup, image=config)
        assert staying(cleanup) == {"app:1.0"}


def _config_of(connection: Connection) -> str:
    digest = Digest.parse(str(OLD.digest)).to_bytes()
    found = connection.execute(select(manifests.c.config_digest).where(manifests.c.digest == digest)).scalar_one()
    return str(Digest.from_bytes(found))


@pytest.mark.parametrize("by_tag", [True, False])
async def test_what_is_allowed_after_the_plan_was_made_stays(by_tag: bool) -> None:
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(EVERYTHING), "ann")
        await allow(cleanup, image=f"{host(cleanup)}/app:1.0" if by_tag else str(OLD.digest))
        report = await cleanup.apply(plan_id)
        assert "1.0" in cleanup.tags("app")
        assert "drifted" in report.results
        (left,) = [one for one in cleanup.steps(plan_id) if one.step.digest == str(OLD.digest)]
        assert left.state == "drifted"
        assert cleanup.tags("lib").keys() == {"keep"}


async def test_what_is_allowed_at_the_last_moment_stays() -> None:
    """After the repository was looked at, just before the request."""
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(EVERYTHING), "ann")
        done: list[int] = []

        async def allow_now() -> None:
            looked = sum(1 for one in cleanup.registry.requests if one.method == "HEAD")
            if looked and not done:
                done.append(await allow(cleanup, image=str(OLD.digest)))
                done.append(await allow(cleanup, image=str(NEW.digest)))

        cleanup.drained.append(allow_now)
        await cleanup.apply(plan_id)
        assert done
        assert cleanup.holds("app", OLD) == [True]
        assert cleanup.holds("lib", NEW) == [True]


async def test_what_others_allow_meanwhile_holds_nothing_up() -> None:
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(EVERYTHING), "ann")

        async def allow_something() -> None:
            await allow(cleanup, image="elsewhere.example.com/app:1.0")

        cleanup.drained.append(allow_something)
        report = await cleanup.apply(plan_id)
        assert set(report.results) == {"done"}


async def test_what_is_allowed_no_more_goes() -> None:
    async with cleaning(images()) as cleanup:
        await cleanup.crawl()
        number = await allow(cleanup, image=str(OLD.digest))
        await cleanup.database.write(lambda connection: remove_entry(connection, number, "ann", clock.now()))
        await cleanup.clean(EVERYTHING)
        assert cleanup.tags("app").keys() == {"keep"}

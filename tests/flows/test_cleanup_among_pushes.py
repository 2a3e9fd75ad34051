"""Others push all the time while a plan is applied: when is that a reason to think everything over again?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from regwarden.flows import applying, passing_events
from regwarden.flows.apply_records import ApplyReport
from regwarden.flows.applying import consider
from regwarden.testing.content import Content
from regwarden.testing.images import index, sbom
from tests.flows.cleaning import Cleanup, cleaning, picture

KEEP_VERSIONS = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: versions}
scope: {}
limits: {per-run: {share-of-repo: unlimited}}
keep: [{match: {tags: {any: ["glob:v*"]}}}]
delete: [{match: {tags: {any: ["glob:old-*"]}}}]
"""


def many_images(count: int = 4) -> Content:
    content = Content()
    for number in range(count):
        content.repository("app").add(picture(f"old {number}"), f"old-{number}")
        content.repository("app").add(picture(f"v {number}"), f"v{number}")
    return content


def pushing(cleanup: Cleanup, build: Any, tag: str = "v-new-{}") -> Any:
    async def push(number):
        built = build(number)
        cleanup.content.repository("app").blobs.update({blob.digest: blob for blob in built.blobs})
        await cleanup.push("app", built, tag.format(number))

    return push


async def test_new_images_under_new_tags_are_no_reason_to_look_at_everything_again(monkeypatch):
    async with cleaning(many_images()) as cleanup:
        push = pushing(cleanup, lambda number: picture(f"new {number}"))
        looks = count_looks(monkeypatch)
        report = await apply_among(cleanup, KEEP_VERSIONS, push)
        assert (report.results, report.problems, len(looks)) == ({"done": 4}, (), 1)


async def test_after_half_a_minute_everything_is_looked_at_again(monkeypatch):
    monkeypatch.setattr(passing_events, "LONGEST", timedelta())
    async with cleaning(many_images()) as cleanup:
        push = pushing(cleanup, lambda number: picture(f"new {number}"))
        looks = count_looks(monkeypatch)
        report = await apply_among(cleanup, KEEP_VERSIONS, push)
        assert (report.results, len(looks)) == ({"done": 4}, 4)


COUPLED = {
    "a known tag": (KEEP_VERSIONS, lambda number: picture(f"new {number}"), "v0"),
    "a known manifest": (KEEP_VERSIONS, lambda _: picture("v 1"), "v-new-{}"),
    "an index of known manifests": (KEEP_VERSIONS, lambda _: index([picture("v 1"), picture("v 2")]), "v-new-{}"),
    "something about another": (KEEP_VERSIONS, lambda _: sbom(picture("v 1")), "v-new-{}"),
    "the newest groups": (
        KEEP_VERSIONS.replace(
            "keep: [", 'keep: [{match: {tags: {any: ["glob:x*"]}}, newest: 1, per: day, groups: 2}, '
        ),
        lambda number: picture(f"new {number}"),
        "v-new-{}",
    ),
}


@pytest.mark.parametrize("case", COUPLED)
async def test_what_could_matter_to_others_makes_everything_be_looked_at_again(monkeypatch, case):
    policy, build, tag = COUPLED[case]
    async with cleaning(many_images()) as cleanup:
        looks = count_looks(monkeypatch)
        report = await apply_among(cleanup, policy, pushing(cleanup, build, tag))
        assert report.problems == ()
        assert len(looks) >= report.results["done"] >= 3


async def test_a_new_index_of_what_goes_saves_it_between_two_steps():
    async with cleaning(many_images()) as cleanup:
        old = [picture(f"old {number}") for number in range(4)]

        def build(_):
            left = [one for one in old if cleanup.holds("app", one) == [True]]
            return index([picture("v 1"), *left])

        report = await apply_among(cleanup, KEEP_VERSIONS, pushing(cleanup, build))
        assert report.results == {"done": 1, "drifted": 3}
        assert sum(cleanup.holds("app", *old)) == 3


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fills with what the looks at a repository were asked."""
    looks: list[Any] = []

    async def look(*arguments):
        looks.append(arguments)
        return await consider(*arguments)

    monkeypatch.setattr(applying, "consider", look)
    return looks


async def apply_among(cleanup: Cleanup, made_from: Any, push: Any) -> ApplyReport:
    """Carry a plan out while somebody pushes after each deletion, which is read at once."""
    await cleanup.crawl()
    plan_id = await cleanup.save(cleanup.plan(made_from), "ann")
    delete, numbers = cleanup.inventory.connector.delete_manifest, iter(range(100))

    async def delete_and_push(repository, digest):
        removal = await delete(repository, digest)
        await push(next(numbers))
        await cleanup.read_all()
        return removal

    cleanup.inventory.connector.delete_manifest = delete_and_push  # type: ignore[method-assign]  # others are at work
    return await cleanup.apply(plan_id)

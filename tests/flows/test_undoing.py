"""An undo against a registry: what comes back, what it asks for before, what it notes, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from regwarden.core.plan import StepKind
from regwarden.core.undo import LossCode
from regwarden.core.undo_choice import parse_choice
from regwarden.core.undo_losses import explain_loss
from regwarden.errors import Conflict, NotFound
from regwarden.flows.services import Services
from regwarden.flows.undoing import UndoOptions, UndoReport, undo_plan
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.cleanup_schema import plan_steps
from regwarden.store.journal import EntryKind, Result, load_journal
from regwarden.store.plan_records import PlanState, StepState
from regwarden.store.plans import change_state, load_plan, save_plan
from regwarden.store.schema import manifests, repositories, repository_manifests, tags
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content
from regwarden.testing.images import artifact, image, image_config, index, real_layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Inventory, open_inventory
from tests.removing import plan_of, remove, states_of

BASE = real_layer(b"base")
AMD = image([BASE, real_layer(b"amd")], image_config("linux/amd64"))
ARM = image([BASE, real_layer(b"arm")], image_config("linux/arm64"))
MULTI = index([AMD, ARM])
SIGNATURE = artifact("application/example", [real_layer(b"signed")], subject=MULTI)
OTHER = image([BASE, real_layer(b"other")])
APP = "team/app"
EVERYTHING = (
    (APP, MULTI.digest, ("1.0", "latest")),
    (APP, AMD.digest, ()),
    (APP, ARM.digest, ()),
    (APP, SIGNATURE.digest, ("signed",)),
)


@pytest.fixture
def content():
    content = Content()
    app = content.repository(APP)
    app.add(MULTI, "1.0", "latest")
    app.add(SIGNATURE, "signed")
    app.add(OTHER, "other")
    content.repository("team/lib").add(ARM, "arm")
    return content


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content, behaviour=Behaviour(can_delete_tag=True)) as registry:
        yield registry


@pytest.fixture
async def inventory(registry):
    async with open_inventory(registry.url) as inventory:
        await inventory.crawl()
        yield inventory


@pytest.fixture
def services(inventory):
    return Services(inventory.database, inventory.now, {NAME: inventory.connector})


async def removed(services: Services, *removals, **more) -> int:
    return await remove(services, plan_of(services.now(), NAME, removals or EVERYTHING), **more)


async def undone(services: Services, plan_id: int, *words: str, **options) -> UndoReport:
    chosen = UndoOptions(choice=parse_choice(words), **options)
    return await undo_plan(services, plan_id, principal="anna", options=chosen)


def snapshot(content: Content):
    return {
        name: (dict(one.tags), {digest: stored.payload for digest, stored in one.manifests.items()})
        for name, one in content.repositories.items()
    }


def puts(registry: SampleRegistry) -> list[str]:
    return [one.path.rsplit("/", 1)[1] for one in registry.requests if one.method == "PUT"]


def known(inventory: Inventory) -> set[tuple[str, str]]:
    """What the inventory has: tags, and manifests that exist."""
    tagged = select(repositories.c.name.label("repository"), tags.c.name).select_from(tags.join(repositories))
    present = (
        select(repositories.c.name.label("repository"), manifests.c.digest)
        .select_from(repository_manifests.join(repositories).join(manifests))
        .where(repository_manifests.c.deleted_at.is_(None))
    )
    return {(row["repository"], row["name"]) for row in inventory.rows(tagged)} | {
        (row["repository"], row["digest"].hex()) for row in inventory.rows(present)
    }


async def test_everything_comes_back_byte_for_byte(content, registry, inventory, services):
    before, known_before = snapshot(content), known(inventory)
    plan_id = await removed(services)
    assert snapshot(content) != before
    assert known(inventory) != known_before
    registry.forget()
    report = await undone(services, plan_id)
    assert snapshot(content) == before
    assert known(inventory) == known_before
    assert (report.restored_step_count, report.manifest_count, report.tag_count) == (4, 4, 3)
    assert (report.state, report.losses, report.failures) == ("undone", (), ())
    assert await states_of(services, plan_id) == [StepState.RESTORED] * 4


async def test_children_come_before_their_index_and_tags_last(registry, services):
    plan_id = await removed(services)
    registry.forget()
    await undone(services, plan_id)
    children = sorted(map(str, (AMD.digest, ARM.digest)))
    assert puts(registry) == [*children, str(MULTI.digest), str(SIGNATURE.digest), "1.0", "latest", "signed"]


async def test_a_tag_that_is_pushed_while_others_are_put_back_is_left_alone(content, registry, services, monkeypatch):
    plan_id = await removed(services)
    put = services.connectors[NAME].put_manifest

    async def push_meanwhile(repository, reference, media_type, payload):
        await put(repository, reference, media_type, payload)
        content.repository(APP).set_tag("latest", OTHER.digest)

    monkeypatch.setattr(services.connectors[NAME], "put_manifest", push_meanwhile)
    report = await undone(services, plan_id)
    assert content.repository(APP).tags["latest"] == OTHER.digest
    assert [(one.tag, one.code) for one in report.failures] == [("latest", "tag-moved")]
    assert content.repository(APP).tags["1.0"] == MULTI.digest
    monkeypatch.undo()
    again = await undone(services, plan_id)
    assert [(one.tag, one.code) for one in again.losses] == [("latest", LossCode.TAG_MOVED)]


async def test_every_put_is_read_back_and_every_blob_proven_before_the_first(registry, services):
    plan_id = await removed(services)
    registry.forget()
    await undone(services, plan_id)
    requests = [(one.method, one.path.split("/", 4)[4]) for one in registry.requests]
    first = next(at for at, (method, _) in enumerate(requests) if method == "PUT")
    needed = {str(blob.digest) for built in (AMD, ARM, SIGNATURE) for blob in built.blobs}
    assert {path.removeprefix("blobs/") for method, path in requests[:first] if method == "GET"} == needed
    for method, path in requests:
        if method == "PUT":
            assert ("GET", path) in requests


async def test_a_tag_that_was_removed_alone_comes_back_alone(content, registry, services):
    before = snapshot(content)
    plan = plan_of(services.now(), NAME, [(APP, MULTI.digest, ("latest",))], kind=StepKind.UNTAG)
    plan_id = await remove(services, plan)
    registry.forget()
    assert (await undone(services, plan_id)).tag_count == 1
    assert puts(registry) == ["latest"]
    assert snapshot(content) == before


async def test_a_tag_that_was_left_at_a_placeholder_comes_back(content, services):
    from regwarden.flows.placeholders import placeholder_of
    from regwarden.testing.content import StoredManifest

    before = dict(content.repository(APP).tags)
    plan = plan_of(services.now(), NAME, [(APP, MULTI.digest, ("latest",))], kind=StepKind.UNTAG)
    step = plan.steps[0]._replace(with_placeholder=True)
    plan_id = await remove(services, replace(plan, steps=(step,)))
    made = placeholder_of(plan_id, step)
    content.repository(APP).put_manifest(StoredManifest(made.digest, MULTI.media_type, made.payload))
    content.repository(APP).set_tag("latest", made.digest)
    assert (await undone(services, plan_id)).state == "undone"
    assert content.repository(APP).tags == before


async def test_tags_that_came_after_planning_come_back_too(content, services):
    content.repository(APP).set_tag("late", MULTI.digest)
    before = snapshot(content)
    plan_id = await removed(services, (APP, MULTI.digest, ("1.0", "latest")), extra_tags=("late",))
    await undone(services, plan_id)
    assert snapshot(content) == before


async def test_single_steps_come_back_and_the_plan_stays_applied(content, services):
    plan_id = await removed(services)
    report = await undone(services, plan_id, "3")
    assert (report.asked_step_count, report.restored_step_count, report.state) == (1, 1, "applied")
    assert content.repository(APP).tags == {"other": OTHER.digest, "signed": SIGNATURE.digest}
    assert (await undone(services, plan_id, f"{APP}@{MULTI.digest}")).manifest_count == 3
    assert set(content.repository(APP).tags) == {"1.0", "latest", "other", "signed"}


@pytest.mark.parametrize(("words", "state"), [(("3",), "applying"), ((), "undone")])
async def test_a_plan_that_was_interrupted_can_go_on_after_single_steps_came_back(services, words, state):
    plan_id = await removed(services)

    def interrupt(connection):
        others = (plan_steps.c.plan_id == plan_id, plan_steps.c.position != 3)
        connection.execute(update(plan_steps).where(*others).values(state=str(StepState.PENDING)))
        change_state(connection, plan_id, [PlanState.APPLIED], PlanState.APPLYING)

    await services.database.write(interrupt)
    assert (await undone(services, plan_id, *words)).state == state


async def test_one_tag_comes_back_without_its_siblings_and_the_rest_later(content, services):
    before = snapshot(content)
    plan_id = await removed(services)
    report = await undone(services, plan_id, f"{APP}:1.0")
    assert (report.manifest_count, report.tag_count, report.state) == (3, 1, "applied")
    assert "latest" not in content.repository(APP).tags
    assert (await states_of(services, plan_id))[0] is StepState.DONE
    assert (await undone(services, plan_id)).state == "undone"
    assert snapshot(content) == before


async def test_what_the_plan_did_not_remove_cannot_be_asked_for(services):
    plan_id = await removed(services, states={1: Result.GONE})
    with pytest.raises(NotFound, match="step 1"):
        await undone(services, plan_id, "1")
    assert (await undone(services, plan_id)).asked_step_count == 3


async def test_a_second_undo_puts_nothing(registry, services):
    plan_id = await removed(services)
    await undone(services, plan_id)
    registry.forget()
    report = await undone(services, plan_id)
    assert puts(registry) == []
    assert (report.restored_step_count, report.state) == (4, "undone")


async def test_an_undo_that_broke_off_goes_on(content, registry, services, monkeypatch):
    before = snapshot(content)
    plan_id = await removed(services)
    connector = services.connectors[NAME]
    calls = 0

    class Broken:
        def __getattr__(self, name):
            return getattr(connector, name)

        async def put_manifest(self, repository, reference, media_type, payload):
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt
            await connector.put_manifest(repository, reference, media_type, payload)

    for name in ("put_blob", "mount_blob", "prove_blob"):
        setattr(Broken, name, getattr(connector, name))
    broken = replace(services, connectors={NAME: Broken()})
    with pytest.raises(KeyboardInterrupt):
        await undone(broken, plan_id)
    assert snapshot(content) != before
    report = await undone(services, plan_id)
    assert report.manifest_count == 2
    assert report.state == "undone"
    assert snapshot(content) == before


async def test_a_step_that_came_back_behind_our_back_is_noted(content, services):
    plan_id = await removed(services, (APP, OTHER.digest, ("other",)))
    content.repository(APP).add(OTHER, "other")
    report = await undone(services, plan_id)
    assert (report.manifest_count, report.restored_step_count, report.state) == (0, 1, "undone")


async def test_a_failed_step_that_had_its_effect_comes_back(content, services):
    before = snapshot(content)
    plan_id = await removed(services, states={0: Result.FAILED})
    await undone(services, plan_id)
    assert snapshot(content) == before


async def test_a_tag_that_points_elsewhere_is_left_alone(content, services):
    plan_id = await removed(services)
    content.repository(APP).set_tag("latest", OTHER.digest)
    report = await undone(services, plan_id)
    assert content.repository(APP).tags["latest"] == OTHER.digest
    assert content.repository(APP).tags["1.0"] == MULTI.digest
    assert [(one.code, one.tag, one.now) for one in report.losses] == [
        (LossCode.TAG_MOVED, "latest", str(OTHER.digest))
    ]
    assert "left alone" in explain_loss(report.losses[0])
    assert report.state == "undone"


async def test_a_blob_that_is_gone_keeps_its_whole_index_away_and_is_named(content, registry, services):
    plan_id = await removed(services)
    gone = AMD.blobs[-1].digest
    del content.repository(APP).blobs[gone]
    registry.forget()
    report = await undone(services, plan_id)
    assert set(content.repository(APP).tags) == {"other", "signed"}
    assert {(one.digest, one.missing, one.needed_by) for one in report.losses} == {
        (str(MULTI.digest), str(gone), str(AMD.digest)),
        (str(AMD.digest), str(gone), str(AMD.digest)),
    }
    assert str(gone) in explain_loss(report.losses[0])
    assert "collected garbage" in explain_loss(report.losses[0])
    assert report.state == "applied"
    assert await states_of(services, plan_id) == [
        StepState.DONE,
        StepState.DONE,
        StepState.RESTORED,
        StepState.RESTORED,
    ]


async def test_a_blob_that_only_a_cache_remembers_is_gone(registry, services):
    plan_id = await removed(services)
    registry.behaviour.lost_blobs.add(SIGNATURE.blobs[-1].digest)
    report = await undone(services, plan_id, "3")
    assert [one.missing for one in report.losses] == [str(SIGNATURE.blobs[-1].digest)]
    assert report.manifest_count == 0


async def test_a_blob_that_another_repository_has_is_mounted(content, registry, services):
    before = snapshot(content)
    plan_id = await removed(services)
    for blob in ARM.blobs:  # what a collection of 3.x removes here; team/lib has them still
        content.repository(APP).blobs.pop(blob.digest, None)
    registry.forget()
    report = await undone(services, plan_id)
    assert snapshot(content) == before
    assert report.mounted_blob_count == len(ARM.blobs)
    mounts = [one.query for one in registry.requests if one.method == "POST"]
    assert all("from=team%2Flib" in query or "from=team/lib" in query for query in mounts)


async def test_nothing_is_mounted_for_what_cannot_come_back(content, registry, services):
    plan_id = await removed(
        services, (APP, MULTI.digest, ("1.0", "latest")), (APP, AMD.digest, ()), (APP, ARM.digest, ())
    )
    for blob in (*ARM.blobs, *AMD.blobs):
        content.repository(APP).blobs.pop(blob.digest, None)
    del content.repository("team/lib").blobs[ARM.blobs[-1].digest]
    registry.forget()
    report = await undone(services, plan_id)
    assert report.mounted_blob_count == 0
    assert not [one for one in registry.requests if one.method in ("POST", "PUT")]
    assert {one.digest for one in report.losses} == {str(MULTI.digest), str(AMD.digest), str(ARM.digest)}


async def test_content_that_is_accepted_and_not_there_asks_for_a_restart(content, registry, services):
    plan_id = await removed(services)
    registry.behaviour.unwritable_manifests.add(MULTI.digest)
    report = await undone(services, plan_id)
    assert [(one.code, one.digest, one.tag) for one in report.failures] == [("restart-needed", str(MULTI.digest), "")]
    assert "must be restarted, its cache remembers removed content" in report.failures[0].message
    assert set(content.repository(APP).tags) == {"other", "signed"}
    assert report.state == "applied"
    registry.behaviour.unwritable_manifests.clear()
    assert (await undone(services, plan_id)).state == "undone"


async def test_a_failed_child_keeps_its_index_and_tags_away(content, registry, services):
    plan_id = await removed(services)
    registry.behaviour.unwritable_manifests.add(AMD.digest)
    registry.forget()
    report = await undone(services, plan_id)
    assert [one.digest for one in report.failures] == [str(AMD.digest)]
    assert not {str(MULTI.digest), "1.0", "latest"} & set(puts(registry))
    assert content.repository(APP).tags["signed"] == SIGNATURE.digest
    assert report.restored_step_count == 2


async def test_it_stops_after_too_many_failures(registry, services):
    plan_id = await removed(services)
    registry.behaviour.unwritable_manifests |= {AMD.digest, ARM.digest}
    report = await undone(services, plan_id, max_failures=1)
    assert len(report.failures) == 1
    assert report.is_stopped


async def test_a_read_only_registry_is_asked_once(registry, services):
    plan_id = await removed(services)
    registry.behaviour.is_read_only = True
    registry.forget()
    report = await undone(services, plan_id)
    assert [one.code for one in report.failures] == ["registry-read-only"]
    assert len(puts(registry)) == 1
    registry.behaviour.is_read_only = False
    assert (await undone(services, plan_id)).state == "undone"


async def test_a_registry_that_cannot_be_asked_loses_nothing(registry, services):
    plan_id = await removed(services)
    registry.behaviour.faults["HEAD", r".*/manifests/.*"] = [Fault(403)] * 50
    registry.forget()
    report = await undone(services, plan_id)
    assert {one.code for one in report.losses} == {LossCode.NOT_WRITABLE}
    assert len(report.losses) == 4
    assert puts(registry) == []
    assert report.state == "applied"


async def test_a_registry_that_is_no_longer_configured_is_named(services):
    plan_id = await removed(services)
    report = await undo_plan(replace(services, connectors={}), plan_id, principal="anna")
    assert {one.code for one in report.losses} == {LossCode.NOT_WRITABLE}
    assert NAME in explain_loss(report.losses[0])


async def test_an_answer_that_got_lost_is_looked_for(content, registry, services):
    before = snapshot(content)
    plan_id = await removed(services)
    connector = services.connectors[NAME]

    async def put_and_lose(repository, reference, media_type, payload):
        from regwarden.errors import RegistryUnreachable

        await type(connector).put_manifest(connector, repository, reference, media_type, payload)
        raise RegistryUnreachable("the connection broke off")

    connector.put_manifest = put_and_lose
    report = await undone(services, plan_id)
    assert (report.failures, report.state) == ((), "undone")
    assert snapshot(content) == before


async def test_intents_are_noted_before_and_outcomes_after(services):
    plan_id = await removed(services)
    await undone(services, plan_id)
    entries = await services.database.read(lambda connection: load_journal(connection, plan_id))
    noted = [(one.entry, one.position) for one in entries if one.entry.startswith("restore")]
    assert noted[:4] == [(EntryKind.RESTORE_INTENT, position) for position in range(4)]
    assert sorted(noted[4:]) == [(EntryKind.RESTORE_OUTCOME, position) for position in range(4)]


async def test_the_audit_says_who_undid_what(services):
    plan_id = await removed(services)
    await undone(services, plan_id)
    found = await services.database.read(lambda connection: list_audit(connection, AuditFilter(plan_id=plan_id)))
    assert [(one.principal, one.action, one.detail["restored_step_count"]) for one in found] == [
        ("anna", "plan-undo", 4)
    ]


async def test_the_undo_is_no_push_for_the_inventory(inventory, services):
    clocks = select(
        repository_manifests.c.manifest_id, repository_manifests.c.first_seen_at, repository_manifests.c.pushed_at
    ).order_by(repository_manifests.c.manifest_id)
    before = inventory.rows(clocks)
    plan_id = await removed(services)
    await undone(services, plan_id)
    assert inventory.rows(clocks) == before


@pytest.mark.parametrize(
    ("state", "said"), [(PlanState.OPEN, "removed nothing"), (PlanState.REJECTED, "removed nothing")]
)
async def test_a_plan_that_removed_nothing_cannot_be_undone(services, state, said):
    plan = plan_of(services.now(), NAME, EVERYTHING)
    plan_id = await services.database.write(lambda connection: save_plan(connection, plan))
    if state is not PlanState.OPEN:
        await services.database.write(lambda connection: change_state(connection, plan_id, [PlanState.OPEN], state))
    with pytest.raises(Conflict, match=said) as refused:
        await undone(services, plan_id)
    assert refused.value.code == "plan-state"


async def test_a_finished_plan_cannot_be_undone(content, services):
    plan_id = await removed(services)
    after = snapshot(content)
    await services.database.write(
        lambda connection: change_state(connection, plan_id, [PlanState.APPLIED], PlanState.FINISHED)
    )
    with pytest.raises(Conflict, match="time to be undone has ended"):
        await undone(services, plan_id)
    assert snapshot(content) == after
    stored = await services.database.read(lambda connection: load_plan(connection, plan_id))
    assert stored.state is PlanState.FINISHED

"""The end of a plan: no undo any more, what should be freed, the operator's command, what was freed in fact."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from regwarden.core.collection_runbook import Expected
from regwarden.core.collection_steps import Flavour
from regwarden.errors import Conflict, InputError, NotFound
from regwarden.flows.collecting import BLOBS, measure_storage, run_command
from regwarden.flows.finish_records import CollectionPlace, Conclusion, conclude
from regwarden.flows.finishing import finish_collected, finish_plan, run_collection
from regwarden.flows.services import Services
from regwarden.flows.undoing import undo_plan
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.cleanup_schema import plans, trash, trash_entries
from regwarden.store.plan_records import PlanState
from regwarden.store.plans import load_plan, save_plan
from regwarden.store.trash_purging import purge_trash
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, index, real_layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, open_inventory
from tests.removing import plan_of, remove

APP = "team/app"
BASE = real_layer(b"base")
AMD = image([BASE, real_layer(b"amd " * 100)], image_config("linux/amd64"))
ARM = image([BASE, real_layer(b"arm " * 100)], image_config("linux/arm64"))
MULTI = index([AMD, ARM])
OTHER = image([BASE, real_layer(b"other")], image_config("linux/s390x"))
GOING = ((APP, MULTI.digest, ("1.0",)), (APP, AMD.digest, ()), (APP, ARM.digest, ()))


def size_of(*builts, without=()) -> int:
    blobs = {blob.digest: blob.size_bytes for built in builts for blob in built.blobs}
    kept = {blob.digest for built in without for blob in built.blobs}
    return sum(len(built.payload) for built in builts) + sum(
        size for digest, size in blobs.items() if digest not in kept
    )


@pytest.fixture
def content():
    content = Content()
    content.repository(APP).add(MULTI, "1.0")
    content.repository(APP).add(OTHER, "other")
    return content


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content) as registry:
        yield registry


@pytest.fixture
async def services(registry):
    async with open_inventory(registry.url) as inventory:
        await inventory.crawl()
        yield Services(inventory.database, inventory.now, {NAME: inventory.connector})


async def applied(services: Services, *removals) -> int:
    return await remove(services, plan_of(services.now(), NAME, removals or GOING))


async def finish(services: Services, plan_id: int, **place):
    return await finish_plan(services, plan_id, principal="anna", places={NAME: CollectionPlace(**place)})


async def collected(services: Services, plan_id: int, **place):
    (found,) = await finish_collected(services, plan_id, principal="anna", places={NAME: CollectionPlace(**place)})
    return found


def collect(content: Content) -> None:
    """What a collection does: blobs go that no manifest of the whole registry names."""
    needed = {blob.digest for built in (OTHER,) for blob in built.blobs}
    for repository in content.repositories.values():
        for digest in repository.blobs.keys() - needed:
            del repository.blobs[digest]


def write_storage(folder: Path, *sizes: int) -> None:
    place = folder.joinpath(*BLOBS)
    for number, size in enumerate(sizes):
        blob = place / "sha256" / "aa" / str(number)
        blob.mkdir(parents=True, exist_ok=True)
        (blob / "data").write_bytes(b"x" * size)


async def test_a_finished_plan_cannot_be_undone(services):
    plan_id = await applied(services)
    await finish(services, plan_id)
    with pytest.raises(Conflict):
        await undo_plan(services, plan_id, principal="anna")
    stored = await services.database.read(lambda connection: load_plan(connection, plan_id))
    assert stored.state is PlanState.FINISHED
    assert stored.summary.finished_at is not None
    assert stored.outcome is not None
    assert stored.outcome["removed"] is True  # what applying reported stays


async def test_it_tells_what_a_collection_frees_and_how(services):
    (end,) = await finish(services, await applied(services))
    assert end.expected.at_most_bytes == size_of(MULTI, AMD, ARM, without=[OTHER])
    assert end.registry == NAME
    assert "garbage-collect" in str(end.runbook.steps)
    assert end.store_bytes is None


async def test_only_what_is_still_removed_is_expected(services):
    from regwarden.core.undo_choice import parse_choice
    from regwarden.flows.undoing import UndoOptions

    plan_id = await applied(services)
    await undo_plan(services, plan_id, principal="anna", options=UndoOptions(choice=parse_choice(["1"])))
    (end,) = await finish(services, plan_id)
    assert end.expected.at_most_bytes == size_of(MULTI, ARM, without=[OTHER, AMD])


async def test_what_was_pushed_again_elsewhere_is_not_expected(content, registry, services):
    from tests.crawling import Inventory

    plan_id = await applied(services)
    content.repository("team/copy").add(ARM, "arm")
    await Inventory(services.database, services.connectors[NAME], registry.url, services.now).crawl()
    (end,) = await finish(services, plan_id)
    assert end.expected.at_most_bytes == size_of(MULTI, AMD, without=[OTHER, ARM])


async def test_finishing_again_says_the_same(services):
    plan_id = await applied(services)
    assert await finish(services, plan_id) == await finish(services, plan_id)


async def test_a_plan_that_was_never_applied_cannot_be_finished(services):
    plan = plan_of(services.now(), NAME, GOING)
    plan_id = await services.database.write(lambda connection: save_plan(connection, plan))
    with pytest.raises(Conflict) as refused:
        await finish(services, plan_id)
    assert refused.value.code == "plan-state"
    with pytest.raises(NotFound):
        await finish(services, 99)


async def test_the_kind_of_registry_is_what_it_was_found_to_be(services):
    from regwarden.store.capabilities import merge_capabilities

    await services.database.write(
        lambda connection: merge_capabilities(connection, NAME, {"delete_tag": "unsupported", "server": ""})
    )
    (end,) = await finish(services, await applied(services))
    assert end.flavour is Flavour.DISTRIBUTION_2


async def test_blobs_that_were_readable_and_are_not_any_more_prove_the_collection(content, services):
    plan_id = await applied(services)
    (end,) = await finish(services, plan_id)
    gone = {blob.digest for built in (AMD, ARM) for blob in built.blobs} - {blob.digest for blob in OTHER.blobs}
    assert {one.digest for one in end.sample} == set(map(str, gone))
    before = await collected(services, plan_id)
    assert (before.conclusion, before.gone_count, before.sample_count) == (Conclusion.NOT_COLLECTED, 0, len(gone))
    collect(content)
    after = await collected(services, plan_id)
    assert (after.conclusion, after.gone_count) == (Conclusion.COLLECTED, len(gone))
    assert after.freed_bytes is None


async def test_what_something_unknown_holds_on_to_is_collected_in_part(content, services):
    plan_id = await applied(services)
    await finish(services, plan_id)
    del content.repository(APP).blobs[AMD.blobs[-1].digest]
    assert (await collected(services, plan_id)).conclusion is Conclusion.PARTLY


async def test_what_could_not_be_read_before_proves_nothing(content, services):
    plan_id = await applied(services)
    collect(content)
    (end,) = await finish(services, plan_id)
    assert end.sample == ()
    assert (await collected(services, plan_id)).conclusion is Conclusion.UNKNOWN


async def test_the_storage_is_measured_where_it_can_be_read(services, tmp_path):
    plan_id = await applied(services)
    expected = size_of(MULTI, AMD, ARM, without=[OTHER])
    write_storage(tmp_path, 1000, expected)
    (end,) = await finish(services, plan_id, storage_path=tmp_path)
    assert end.store_bytes == 1000 + expected
    write_storage(tmp_path, 1000, 0)
    found = await collected(services, plan_id, storage_path=tmp_path)
    assert (found.freed_bytes, found.conclusion) == (expected, Conclusion.COLLECTED)


async def test_a_storage_that_cannot_be_read_is_said_and_the_sample_decides(services, tmp_path):
    plan_id = await applied(services)
    (end,) = await finish(services, plan_id, storage_path=tmp_path / "nothing")
    assert end.store_bytes is None
    assert "nothing" in end.problem
    assert (await collected(services, plan_id, storage_path=tmp_path)).conclusion is Conclusion.NOT_COLLECTED


async def test_only_files_of_the_blob_store_are_measured(tmp_path):
    write_storage(tmp_path, 3, 4)
    (tmp_path / "docker/registry/v2/repositories").mkdir()
    (tmp_path / "docker/registry/v2/repositories/link").write_text("more")
    (tmp_path.joinpath(*BLOBS) / "sha256" / "linked").symlink_to(tmp_path)
    (tmp_path.joinpath(*BLOBS) / "sha256" / "linked-file").symlink_to(
        tmp_path.joinpath(*BLOBS) / "sha256" / "aa" / "0" / "data"
    )
    assert (await measure_storage(tmp_path)).size_bytes == 7


@pytest.mark.parametrize(
    ("at_least", "freed", "sample", "conclusion"),
    [
        (100, 100, (0, 0), Conclusion.COLLECTED),
        (100, 150, (0, 0), Conclusion.COLLECTED),
        (100, 99, (5, 5), Conclusion.PARTLY),
        (100, 0, (5, 5), Conclusion.NOT_COLLECTED),
        (100, -5, (5, 5), Conclusion.NOT_COLLECTED),
        (None, 1, (0, 0), Conclusion.COLLECTED),
        (100, None, (5, 5), Conclusion.COLLECTED),
        (100, None, (5, 4), Conclusion.PARTLY),
        (100, None, (5, 0), Conclusion.NOT_COLLECTED),
        (100, None, (0, 0), Conclusion.UNKNOWN),
    ],
)
def test_what_was_measured_decides_and_the_sample_where_nothing_was(at_least, freed, sample, conclusion):
    expected = Expected(at_most_bytes=200, at_least_bytes=at_least)
    assert conclude(expected, freed, *sample) is conclusion


def test_where_nothing_was_to_go_everything_is_collected():
    assert conclude(Expected(at_most_bytes=0), None, 0, 0) is Conclusion.COLLECTED


async def test_it_compares_only_finished_plans(services):
    plan_id = await applied(services)
    with pytest.raises(Conflict, match="not finished") as refused:
        await collected(services, plan_id)
    assert refused.value.code == "plan-state"


# -------------------------------------------------------------------------------------------------- the command

SAY = "import sys; print('collected', *sys.argv[1:]); sys.exit(3)"


async def test_the_operators_command_is_run_as_it_is_configured(services):
    plan_id = await applied(services)
    await finish(services, plan_id)
    command = (sys.executable, "-c", SAY, "$HOME; echo no shell", "*")
    places = {NAME: CollectionPlace(command=command)}
    runs = await run_collection(services, plan_id, principal="anna", places=places)
    assert runs[NAME].output == "collected $HOME; echo no shell *"
    assert runs[NAME].exit_status == 3
    found = await services.database.read(lambda connection: list_audit(connection, AuditFilter(action="plan-collect")))
    # Arguments may have secrets, and the audit is for ever.
    assert [(one.subject, one.detail) for one in found] == [(NAME, {"exit_status": 3, "command": sys.executable})]


async def test_without_a_command_it_says_so(services):
    plan_id = await applied(services)
    await finish(services, plan_id)
    with pytest.raises(InputError) as refused:
        await run_collection(services, plan_id, principal="anna", places={})
    assert refused.value.code == "collect-command"


async def test_no_command_is_run_before_the_plan_is_finished(services, tmp_path):
    plan_id = await applied(services)
    command = ("touch", str(tmp_path / "touched"))
    with pytest.raises(Conflict):
        await run_collection(services, plan_id, principal="anna", places={NAME: CollectionPlace(command=command)})
    assert not (tmp_path / "touched").exists()


async def test_a_command_that_hangs_is_ended_with_what_it_started():
    program = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '60'])"
    run = await run_command([sys.executable, "-c", program], timeout_seconds=1.5)
    assert run.exit_status is None
    assert run.output == "begun"


async def test_only_the_end_of_much_output_is_kept_and_terminals_are_safe():
    program = r"print('\x1b[31mred'); print('x' * 200_000); print('end')"
    run = await run_command([sys.executable, "-c", program], timeout_seconds=20)
    assert run.is_shortened
    assert run.output.endswith("x\nend")
    assert len(run.output) <= 64 * 1024
    short = await run_command([sys.executable, "-c", r"print('\x1b[31mred')"], timeout_seconds=20)
    assert (short.output, short.is_shortened) == ("[31mred", False)


async def test_a_command_that_leaves_the_registry_running_has_ended_when_it_ends(tmp_path):
    begun, pid = time.monotonic(), tmp_path / "pid"
    run = await run_command(["sh", "-c", f"sleep 60 & echo $! > {pid}; echo collected"], timeout_seconds=50)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert (run.exit_status, run.output) == (0, "collected")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("command", [["/nowhere/program"], ["/"], ["sh", "a\0b"]])
async def test_a_command_that_cannot_be_started_is_a_mistake_of_the_settings(command):
    with pytest.raises(InputError) as refused:
        await run_command(command, timeout_seconds=5)
    assert refused.value.code == "collect-command"


# ------------------------------------------------------------------------------------------------------ the trash

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def kept_count(services: Services, table) -> int:
    statement = select(func.count()).select_from(table)
    return services.database.read_now(lambda connection: connection.execute(statement).scalar_one())


async def test_the_trash_of_finished_plans_can_be_purged(services):
    plan_id = await applied(services)
    await finish(services, plan_id)
    now = services.now()
    assert await purge_trash(services.database, now - timedelta(days=1)) == 0
    assert await purge_trash(services.database, LATER) == 3
    assert (kept_count(services, trash), kept_count(services, trash_entries)) == (0, 0)


async def test_what_an_unfinished_plan_needs_is_kept(services):
    finished = await applied(services, GOING[0])
    await applied(services, *GOING[1:2])
    await finish(services, finished)
    assert await purge_trash(services.database, LATER) == 2  # the index and the child that no other plan removed
    assert (kept_count(services, trash), kept_count(services, trash_entries)) == (1, 1)


async def test_the_trash_of_plans_that_can_be_undone_is_kept(services):
    plan_id = await applied(services)
    assert await purge_trash(services.database, LATER) == 0
    await undo_plan(services, plan_id, principal="anna")
    assert await purge_trash(services.database, LATER) == 0  # nobody said until when
    await services.database.write(lambda connection: connection.execute(update(plans).values(undo_until=1)))
    assert await purge_trash(services.database, LATER) == 3

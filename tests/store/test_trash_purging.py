"""What is kept of removed manifests goes when no plan can be undone that needs it, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from regwarden.errors import NotFound
from regwarden.store import trash_purging
from regwarden.store.cleanup_schema import plans
from regwarden.store.plan_records import PlanState
from regwarden.store.plans import (
    begin_plan,
    iterate_pieces,
    load_plan,
    load_steps,
    pack_plan,
    save_piece,
    save_plan,
)
from regwarden.store.purging import Keeping, purge
from regwarden.store.times import to_micros
from regwarden.store.trash import Role, TrashEntry, load, put
from regwarden.store.trash_purging import purge_trash
from tests.store.cleanup_plans import NOON, digest_of, plan


def entry(content: str, position: int = 0) -> TrashEntry:
    return TrashEntry(
        position=position,
        digest=digest_of(content),
        role=Role.DELETED,
        media_type="manifest",
        payload=content.encode(),
    )


def saved(database, state: PlanState, *contents: str, ended_at=NOON) -> int:
    plan_id = database.write_now(lambda connection: save_plan(connection, plan()))
    moments = {"finished_at": to_micros(ended_at), "undo_until": to_micros(ended_at)}
    database.write_now(
        lambda connection: connection.execute(
            update(plans).where(plans.c.id == plan_id).values(state=str(state), **moments)
        )
    )
    entries = [entry(content, position) for position, content in enumerate(contents)]
    database.write_now(lambda connection: put(connection, plan_id, entries))
    return plan_id


def kept(database, plan_id: int) -> list[str]:
    found = database.read_now(lambda connection: load(connection, plan_id))
    return [one.payload.decode() for one in found]


@pytest.mark.parametrize(
    ("state", "is_purged"),
    [
        (PlanState.OPEN, False),
        (PlanState.APPLYING, False),
        (PlanState.APPLIED, False),
        (PlanState.UNDONE, True),
        (PlanState.FINISHED, True),
    ],
)
async def test_only_plans_that_have_ended_give_up_their_trash(database, state, is_purged):
    plan_id = saved(database, state, "one")
    assert await purge_trash(database, NOON) == 0
    assert await purge_trash(database, NOON + timedelta(seconds=1)) == is_purged
    assert kept(database, plan_id) == ([] if is_purged else ["one"])


async def test_what_another_plan_needs_stays(database):
    saved(database, PlanState.FINISHED, "one", "two")
    other = saved(database, PlanState.APPLIED, "two")
    assert await purge_trash(database, NOON + timedelta(days=1)) == 1
    assert kept(database, other) == ["two"]


async def test_much_trash_goes_in_pieces(database, monkeypatch):
    monkeypatch.setattr(trash_purging, "PIECE_ROWS", 3)
    saved(database, PlanState.FINISHED, *map(str, range(10)))
    young = saved(database, PlanState.FINISHED, "young", ended_at=NOON + timedelta(days=2))
    assert await purge_trash(database, NOON + timedelta(days=1)) == 10
    assert kept(database, young) == ["young"]


async def test_a_plan_whose_writing_was_broken_off_goes_after_a_day_and_no_other(database):
    whole = saved(database, PlanState.OPEN)
    packed = pack_plan(plan())
    broken = database.write_now(lambda connection: begin_plan(connection, packed))
    for piece in iterate_pieces(packed):
        database.write_now(lambda connection, piece=piece: save_piece(connection, broken, piece))
    keeping = Keeping(**dict.fromkeys(("bodies", "quarantine", "events", "pulls", "trash"), timedelta(days=365)))
    await purge(database, keeping, NOON + timedelta(hours=23))
    assert database.read_now(lambda connection: load_plan(connection, broken)).state is PlanState.INCOMPLETE
    await purge(database, keeping, NOON + timedelta(hours=25))
    with pytest.raises(NotFound):
        database.read_now(lambda connection: load_plan(connection, broken))
    assert database.read_now(lambda connection: load_steps(connection, broken)) == ()
    assert database.read_now(lambda connection: load_steps(connection, whole)) != ()

"""Is everything that stays still whole? The indexes that stay and share something with what went are walked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import StepKind
from regwarden.core.text import printable
from regwarden.errors import InputError, RegistryError
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import exists
from regwarden.flows.putting_back import put_back
from regwarden.store import journal, own_changes, trash
from regwarden.store.connections import Connection
from regwarden.store.journal import Moment, Result
from regwarden.store.plan_records import StepState, StoredStep
from regwarden.store.plans import load_steps
from regwarden.store.races import list_indexes_of

_MOST_SILENCES: Final = 3


@dataclass(frozen=True, slots=True)
class Verified:
    """How many indexes were walked; ``broken`` are sentences about those that lack a child."""

    index_count: int = 0
    restored_count: int = 0
    broken: tuple[str, ...] = ()


async def verify_repository(site: Site) -> Verified:
    """Ask for every child of the kept indexes that share one with what the plan removed here: one HEAD each.

    A child that we removed ourselves is put back. An index that lacked a child before lacks it now: it is told, too.
    A registry that does not answer is not asked on and on; how many indexes were not walked to the end is told.
    """
    plan_id, place = site.plan_id, (site.registry, site.repository)
    read = site.services.database.read
    steps = await read(lambda connection: load_steps(connection, plan_id, states=[StepState.DONE], place=place))
    removed = {one.step.digest: one for one in steps if one.step.kind is StepKind.DELETE}
    if not removed:
        return Verified()
    positions = [one.step.position for one in removed.values()]
    kept = await read(lambda connection: trash.load_digests(connection, plan_id, positions))
    indexes = await read(lambda connection: list_indexes_of(connection, *place, kept | removed.keys()))
    restored_count = 0
    broken: list[str] = []
    silences: list[str] = []
    seen: dict[str, bool] = {}
    walked_count = 0
    for index, children in indexes.items():
        silence_count = len(silences)
        for child in children:
            if len(silences) >= _MOST_SILENCES:
                break
            if child not in seen:
                seen[child] = await _is_there(site, child, silences)
            if seen[child]:
                continue
            words = f"{site.repository}: the index {index} lacks {child}"
            if child in removed and await _bring_back(site, removed[child], words):
                seen[child] = True
                restored_count += 1
            else:
                broken.append(words)
        else:
            walked_count += len(silences) == silence_count
    if walked_count < len(indexes):
        left_count = len(indexes) - walked_count
        silences.append(f"{site.repository}: of the indexes that stay {left_count} could not be walked to the end")
    return Verified(walked_count, restored_count, (*broken, *silences))


async def _is_there(site: Site, digest: str, problems: list[str]) -> bool:
    """Whether a child is there; where nobody answers that is a problem of its own."""
    try:
        return await exists(site, digest)
    except RegistryError as error:
        problems.append(printable(f"{site.repository}: {digest} could not be looked for: {error.message}", 500))
        return True


async def _bring_back(site: Site, stored: StoredStep, words: str) -> bool:
    step, write = stored.step, site.services.database.write
    moment = Moment(plan_id=site.plan_id, step=step, tags=(), at=site.services.now())
    await write(lambda connection: journal.note_restore_intent(connection, moment, words))
    try:
        await put_back(site, step, Digest.parse(step.digest), step.digest)
    except (RegistryError, InputError) as error:
        problem = printable(f"{words}, and it could not be put back: {error.message}", 500)
        await write(lambda connection: journal.note_restore_outcome(connection, moment, Result.FAILED, problem))
        return False

    def note(connection: Connection) -> None:
        journal.note_restore_outcome(connection, moment, Result.DONE, words)
        own_changes.note_restored(connection, step.registry, step.repository, digest=step.digest, tags=(), at=moment.at)

    await write(note)
    return True

"""What did a reading of the registry find missing that only a deletion of ours can have taken away?

A push that no event told of may have left a tag that leads nowhere, or an index without a child. Distribution names the
digest that such a tag points to. A tag that the step itself was to remove is none of them: Distribution 2.8 leaves it
behind where it stumbled (400), and who meant it cannot be told from who did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import StepKind
from regwarden.errors import RegistryError, RegistryMissing
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import exists, fetch
from regwarden.flows.removals import Removal, Removed, reading_words
from regwarden.store import journal
from regwarden.store.journal import Moment, Result
from regwarden.store.plan_records import StepState
from regwarden.store.races import Missing, Touch, list_indexes_of, load_missing

# What a reading finds so long after the last deletion has another cause if it was not found before.
_MARGIN: Final = timedelta(seconds=60)
# What others took came back, or was gone before.
_TOOK: Final = frozenset({StepState.DONE, StepState.INTENDED, StepState.FAILED})


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that ``removal`` took away from somebody: ``reference``, a tag or digest, led to ``digest``."""

    removal: Removal
    digest: Digest
    reference: str
    words: str


async def find_losses(
    site: Site, removed: Removed, touches: Sequence[Touch]
) -> tuple[tuple[Loss, ...], tuple[str, ...]]:
    """What is to be put back in a repository, and what could not be found out, in words.

    ``touches`` are the events of others since the first removal. One request for each tag that leads nowhere, two for
    each child, once after each reading for as long as it can be our doing. Raises ``StoreError``.
    """
    taken = {
        one.step.step.digest: one
        for one in removed.removals
        if one.step.step.kind is StepKind.DELETE and one.step.state in _TOOK and not _is_deleted_again(one, touches)
    }
    if not taken:
        return (), ()
    begun_at, ended_at = (
        min(one.begun_at for one in taken.values()),
        max(one.ended_at for one in removed.removals),
    )
    found = await site.services.database.read(
        lambda connection: load_missing(connection, site.registry, site.repository, since=begun_at)
    )
    losses: list[Loss] = []
    problems: list[str] = []
    for missing in found:
        if not _is_to_be_looked_at(missing, removed, ended_at, site.services.now()):
            continue
        try:
            loss = await (_find_tag(site, missing, taken) if missing.tag else _find_child(site, missing, taken))
        except RegistryError as error:
            problems.append(f"{site.repository}: {error.message}")
            continue
        if loss is not None:
            losses.append(loss)
        elif missing.tag:
            await _note_strange(site, missing, removed)
    return tuple(losses), tuple(problems)


def _is_deleted_again(removal: Removal, touches: Sequence[Touch]) -> bool:
    """Whether somebody else deleted it after us: then it had come back, and what is missing now is their doing."""
    digest = removal.step.step.digest
    return any(one.action == "delete" and one.digest == digest and one.at > removal.ended_at for one in touches)


def _is_to_be_looked_at(missing: Missing, removed: Removed, ended_at: datetime, now: datetime) -> bool:
    look = removed.looks.get(reading_words(missing.tag or missing.digest))
    if look is None:
        return True
    if look.failure_count:
        return look.is_due(now)
    return look.at < min(missing.seen_at, ended_at + _MARGIN)


async def _find_tag(site: Site, missing: Missing, taken: Mapping[str, Removal]) -> Loss | None:
    try:
        await fetch(site, missing.tag)
    except RegistryMissing as error:
        for digest in dict.fromkeys((*error.named, missing.digest)):
            removal = taken.get(digest)
            if removal is not None and missing.tag not in removal.step.step.tags:
                words = f"{reading_words(missing.tag)} without {digest}, which was removed"
                return Loss(removal, Digest.parse(digest), missing.tag, words)
    return None


async def _find_child(site: Site, missing: Missing, taken: Mapping[str, Removal]) -> Loss | None:
    """A child comes back only for an index that the registry has now."""
    removal = taken.get(missing.digest)
    if removal is None:
        return None
    place = (site.registry, site.repository)
    indexes = await site.services.database.read(
        lambda connection: list_indexes_of(connection, *place, [missing.digest])
    )
    for index in indexes:
        if await exists(site, index):
            words = f"{reading_words(missing.digest)} missing from the index {index}, and it was removed"
            return Loss(removal, Digest.parse(missing.digest), missing.digest, words)
    return None


async def _note_strange(site: Site, missing: Missing, removed: Removed) -> None:
    """Remember at the last step that a tag leads nowhere for another reason, or leads somewhere again."""
    last = max(removed.removals, key=lambda one: one.ended_at)
    step = last.step.step
    moment = Moment(plan_id=last.plan_id, step=step, tags=(missing.tag,), at=site.services.now())
    words = f"{reading_words(missing.tag)} without its manifest, which was not our doing"
    await site.services.database.write(
        lambda connection: journal.note_restore_outcome(connection, moment, Result.PRESENT, words)
    )

"""Was something pushed while we removed it? Then it is put back from the trash: what a registry accepted is not lost.

A registry does not tell a push that raced a deletion from one before it. The event tells, and sometimes the next crawl:
the tag may stay in the listing and lead nowhere (``flows.found_missing``). Everything here is derived from the journal,
the events and the readings, so it can be asked again at any time, also for events that come late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from aiolimiter import AsyncLimiter

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step, StepKind
from regwarden.core.text import printable
from regwarden.errors import InputError, RegistryError
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import resolve
from regwarden.flows.bytes_to_keep import collect_tree
from regwarden.flows.found_missing import Loss, find_losses
from regwarden.flows.placeholders import placeholder_of
from regwarden.flows.putting_back import put_back
from regwarden.flows.removals import Removal, Removed, event_words, load_removed
from regwarden.flows.removing_tags import collects_itself, goes_by_tags, learn_ways
from regwarden.flows.services import Services
from regwarden.store import journal, own_changes
from regwarden.store.connections import Connection
from regwarden.store.journal import Moment, Result
from regwarden.store.races import Touch, load_touches

# A registry's clock, and the time that it takes between its event and the end of its request.
MARGIN: Final = timedelta(seconds=60)
_WRITES: Final = ("push", "mount")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was found: races after which something had to be put back, those that lost nothing, and what failed."""

    restored_count: int = 0
    harmless_count: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: Restored) -> Restored:
        return Restored(
            self.restored_count + other.restored_count,
            self.harmless_count + other.harmless_count,
            (*self.problems, *other.problems),
        )


async def restore_races(
    services: Services, registry: str, *, repository: str = "", limiter: AsyncLimiter | None = None
) -> Restored:
    """Put back what somebody pushed to ``registry`` while one of our steps removed it, in one or all repositories.

    Call it after events were applied: after each apply, and whenever deliveries come in while plans were applied
    lately. Failures are counted and tried again at the next call. Raises ``StoreError`` only.
    """
    found = Restored()
    removed = await services.database.read(
        lambda connection: load_removed(connection, registry, repository, services.now())
    )
    for name, mine in removed.items():
        connector = services.connectors[registry]
        site = Site(services, connector, 0, registry, name, limiter)
        skew = abs(connector.traffic.clock_skew or timedelta())
        found += await _restore_repository(site, mine, skew)
    return found


async def _restore_repository(site: Site, removed: Removed, skew: timedelta) -> Restored:
    first_id = min(one.event_id for one in removed.removals)
    touches = await site.services.database.read(
        lambda connection: load_touches(connection, site.registry, site.repository, after_id=first_id)
    )
    found = Restored()
    for push in touches:
        if push.action not in _WRITES or push.target != "manifest" or not push.digest or _is_withdrawn(push, touches):
            continue
        look = removed.looks.get(event_words(push.id))
        near = [one for one in removed.removals if _may_race(one, push, skew)]
        if not near or (look is not None and not look.is_due(site.services.now())):
            continue
        try:
            affected = await _affected_by(site, near, push)
        except (RegistryError, InputError) as error:
            found += Restored(problems=(f"{site.repository}: {error.message}",))
            continue
        for removal in affected:
            found += await _restore(replace(site, plan_id=removal.plan_id), _lost_by(site, removal, push))
    losses, problems = await find_losses(site, removed, touches)
    found += Restored(problems=problems)
    for loss in losses:
        found += await _restore(replace(site, plan_id=loss.removal.plan_id), loss)
    return found


def _lost_by(site: Site, removal: Removal, push: Touch) -> Loss:
    """What ``push`` lacks because of ``removal``: itself, its tag, or what the index that was pushed lists."""
    step = removal.step.step
    digest, reference = push.digest, push.tag or push.digest
    if step.kind is StepKind.DELETE and push.digest != step.digest and not _took_tag(site, removal, push):
        digest = reference = step.digest
    words = f"{event_words(push.id)}: {digest} was pushed while it was removed"
    return Loss(removal, Digest.parse(digest), reference, words)


def _took_tag(site: Site, removal: Removal, push: Touch) -> bool:
    """Whether tags were removed alone, and this push pointed one of them somewhere."""
    step = removal.step.step
    return push.tag in step.tags and (step.kind is StepKind.UNTAG or goes_by_tags(site, step))


def _may_race(removal: Removal, push: Touch, skew: timedelta) -> bool:
    is_new = push.id > removal.event_id and push.id not in removal.handled
    return is_new and push.at <= removal.ended_at + MARGIN + skew


def _is_withdrawn(push: Touch, touches: Sequence[Touch]) -> bool:
    """Whether somebody else deleted it later, or pointed its tag elsewhere: then nothing of it is missed."""
    for later in touches:
        if (later.at, later.id) <= (push.at, push.id):
            continue
        if later.action == "delete" and (later.digest == push.digest or (push.tag and later.tag == push.tag)):
            return True
        if push.tag and later.action in _WRITES and later.tag == push.tag:
            return True
    return False


async def _affected_by(site: Site, removals: Sequence[Removal], push: Touch) -> list[Removal]:
    """Those of ``removals`` that took something away which this push needs."""
    if any(push.tag in one.step.step.tags for one in removals) and not collects_itself(site):
        await learn_ways(site)
    direct = [one for one in removals if one.step.step.digest == push.digest or _took_tag(site, one, push)]
    if direct or (push.media_type and push.media_type not in media_types.INDEXES):
        return direct
    deleted = {one.step.step.digest: one for one in removals if one.step.step.kind is StepKind.DELETE}
    if not deleted or await resolve(site, push.digest) is None:
        return []
    needed = await collect_tree(site, Digest.parse(push.digest))
    return [deleted[str(digest)] for digest in needed if str(digest) in deleted]


async def _restore(site: Site, loss: Loss) -> Restored:
    """Look whether it is still there, and put it back if not; what came of it goes into the journal."""
    step, digest, reference, words = loss.removal.step.step, loss.digest, loss.reference, loss.words
    tags = () if ":" in reference else (reference,)
    moment = Moment(plan_id=site.plan_id, step=step, tags=tags, at=site.services.now())
    write = site.services.database.write
    try:
        found = await resolve(site, reference)
        if found is not None and not _is_placeholder(site, step, found):
            is_it = found == str(digest)
            await write(lambda connection: _note_present(connection, moment, digest if is_it else None, words))
            return Restored(harmless_count=1)
        await write(lambda connection: journal.note_restore_intent(connection, moment, words))
        await put_back(site, step, digest, reference)
        alive = await _list_alive(site, step, digest)
    except (RegistryError, InputError) as error:
        problem = printable(f"{site.repository}: {words}, and could not be put back: {error.message}", 500)
        await write(lambda connection: journal.note_restore_outcome(connection, moment, Result.FAILED, problem))
        return Restored(problems=(problem,))
    done = replace(moment, tags=(*tags, *alive), at=site.services.now())
    await write(lambda connection: _note_restored(connection, done, digest, words))
    return Restored(restored_count=1)


async def _list_alive(site: Site, step: Step, digest: Digest) -> list[str]:
    """The tags of a deleted manifest that live again with it: a deletion that broke off had left their links."""
    if step.kind is not StepKind.DELETE or str(digest) != step.digest:
        return []
    return [tag for tag in step.tags if await resolve(site, tag) == step.digest]


def _is_placeholder(site: Site, step: Step, digest: str) -> bool:
    return step.with_placeholder and digest == str(placeholder_of(site.plan_id, step).digest)


def _note_present(connection: Connection, moment: Moment, digest: Digest | None, words: str) -> None:
    """Nothing is lost. The events may tell otherwise, in the order of their times: what was seen just now counts."""
    step = moment.step
    journal.note_restore_outcome(connection, moment, Result.PRESENT, words)
    if digest is not None:
        own_changes.note_restored(
            connection, step.registry, step.repository, digest=str(digest), tags=moment.tags, at=moment.at
        )


def _note_restored(connection: Connection, moment: Moment, digest: Digest, words: str) -> None:
    step = moment.step
    journal.note_restore_outcome(connection, moment, Result.DONE, words)
    own_changes.note_restored(
        connection, step.registry, step.repository, digest=str(digest), tags=moment.tags, at=moment.at
    )

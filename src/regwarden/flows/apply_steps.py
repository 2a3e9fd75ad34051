"""How is one step carried out so that nothing goes that anybody still wants? Every doubt ends it before the request.

1. ``HEAD`` each tag of the step, or the digest where there is none. 2. The bytes of all that it leads to go into the
trash, verified. 3. Deliveries are applied, and in one transaction: nothing happened since the look that could concern
a step (``flows.passing_events``), and the intent is written with the last event's id; what is pushed later has a
greater one, so it is known to race. 4. One ``DELETE``; unless it succeeded or was clearly refused, a ``HEAD`` says what
it did. 5. In one transaction: the outcome, and the inventory without what is gone. (``docs/explanation/cleanup.md``.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar

from regwarden.core.oci.digests import Digest
from regwarden.core.plan import Step, StepKind
from regwarden.core.text import printable
from regwarden.errors import RegistryDenied, RegistryError, RegwardenError
from regwarden.flows.apply_records import Considered, Drain, Site
from regwarden.flows.asking import resolve
from regwarden.flows.bytes_to_keep import collect_bytes
from regwarden.flows.dropping import ask_to_drop, compare_repository, follow
from regwarden.flows.passing_events import is_unconcerned
from regwarden.flows.placeholders import placeholder_of, put_placeholder
from regwarden.flows.putting_back import put_back
from regwarden.flows.removing_tags import (
    PROTECTIONS,
    compare_tags,
    goes_by_tags,
    has_begun,
    is_left_to_registry,
    judge_tags,
    look_at_tags,
    remove_tags,
)
from regwarden.registries.api import DeletesManifests, DeletesTags, Removal
from regwarden.store import journal, own_changes, races, trash
from regwarden.store.connections import Connection
from regwarden.store.journal import EntryKind, JournalEntry, Moment, Result
from regwarden.store.protections import are_as_known

T = TypeVar("T")

_MOST_INTENTS: Final = 2
# With these nothing was done. Of any other answer nobody knows: Distribution 2.8 removes the manifest, and says 400
# where it then stumbles over a tag that somebody else writes.
_REFUSALS: Final = frozenset(
    {"delete-disabled", "registry-read-only", "untag-unsupported", "manifest-referenced", "put-unsupported"}
)
_PAUSE_SECONDS: Final = 0.5
_LEFT: Final = "left to the registry, which collects it with the index that listed it"


class Touched(RegwardenError):
    """Something happened since the facts were looked at: they must be looked at again."""

    code = "touched"


class Protected(RegwardenError):
    """A rule of the registry keeps what a step would remove: it has come to an end, and nothing was done."""

    code = "protected"


async def carry_out(site: Site, step: Step, known: Considered, drain: Drain) -> Result | None:
    """Do one step that is pending and allowed by what is ``known``; returns what came of it.

    ``None``: nobody knows yet, the intent stands. Raises ``Touched`` if the facts are no longer those of now,
    ``Protected`` if the registry said that a rule of its own forbids it; ``RegistryError`` and others where a check
    could not be made, and then nothing was sent.
    """
    ended = await _look(site, step)
    if ended is not None:
        return await finish_whole(_end(site, step, *ended))
    # Of a repository as a whole nothing is left to be kept.
    entries = await collect_bytes(site, step) if step.kind is not StepKind.DROP else ()
    plan_id = site.plan_id
    await site.services.database.write(lambda connection: trash.put(connection, plan_id, entries))
    related = frozenset(one.digest for one in entries)
    await drain()
    result = await finish_whole(_begin_and_send(site, step, known, related))
    return await settle_drop(site, step) if step.kind is StepKind.DROP and result is None else result


async def skip_step(site: Site, step: Step, reason: str) -> Result:
    """Write down that a pending step is left out because the world moved; an undo looks at what was begun of it."""
    is_begun = goes_by_tags(site, step) and await has_begun(site, step)
    return await finish_whole(_end(site, step, Result.FAILED if is_begun else Result.DRIFTED, reason))


async def settle_intent(site: Site, step: Step) -> Result | None:
    """Find out what became of a step whose intent stands alone; write it down. ``None`` if the registry is silent.

    What was not carried out may be begun once more.
    """
    entries = await site.services.database.read(
        lambda connection: journal.load_journal(connection, site.plan_id, position=step.position)
    )
    intents = [one for one in entries if one.entry is EntryKind.INTENT]
    if goes_by_tags(site, step):
        return await _settle_tags(site, step, intents)
    try:
        target = await resolve(site, step.digest if step.kind is StepKind.DELETE else step.tags[0])
    except RegistryError:
        return None
    if target is None:
        return await _end(site, step, Result.DONE, "found gone", intents[-1].at)
    if step.with_placeholder and target == str(placeholder_of(site.plan_id, step).digest):
        # It was pushed by us and nobody else can mean it: what was begun is ended.
        return await _remove_placeholder(site, step, Digest.parse(target))
    if target != step.digest:
        return await _end(site, step, Result.DRIFTED, f"the tag now points to {target}")
    if len(intents) >= _MOST_INTENTS:
        return await _end(site, step, Result.FAILED, "the registry was asked twice and has not removed it")
    return await _end(site, step, Result.NOT_DONE, "the registry still has it")


async def settle_drop(site: Site, step: Step) -> Result | None:
    """The same for a repository as a whole, which takes the registry a while. May be cancelled meanwhile."""
    entries = await site.services.database.read(
        lambda connection: journal.load_journal(connection, site.plan_id, position=step.position)
    )
    intents = [one for one in entries if one.entry is EntryKind.INTENT]
    found = await follow(site, is_asked_before=len(intents) >= _MOST_INTENTS)
    return None if found is None else await finish_whole(_end(site, step, *found, intents[-1].at))


async def _settle_tags(site: Site, step: Step, intents: Sequence[JournalEntry]) -> Result | None:
    try:
        now = await look_at_tags(site, step)
    except RegistryError:
        return None
    result, detail = judge_tags(step, now, is_last=len(intents) >= _MOST_INTENTS)
    return await _end(site, step, result, detail, intents[-1].at, gone=now.gone)


async def _remove_placeholder(site: Site, step: Step, placeholder: Digest) -> Result | None:
    try:
        await _as_deleting(await site.pace()).delete_manifest(site.repository, placeholder)
    except RegistryError:
        return None
    return await _end(site, step, Result.DONE, "its placeholder was left and is removed now")


async def finish_whole(work: Coroutine[Any, Any, T]) -> T:
    """``work`` to its end, however often the caller is cancelled meanwhile: then the cancellation comes after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.cancelled() or task.exception()  # looked at: nobody else will
        raise cancelled
    return task.result()


async def _look(site: Site, step: Step) -> tuple[Result, str] | None:
    """Why the step comes to an end without a request; ``None`` if everything is as it was."""
    if step.kind is StepKind.DROP:
        return await compare_repository(site)
    return await (compare_tags(site, step) if goes_by_tags(site, step) else _compare(site, step))


async def _compare(site: Site, step: Step) -> tuple[Result, str] | None:
    """Why the step comes to an end without a request; ``None`` if all of its tags are as they were."""
    gone = []
    for tag in step.tags:
        target = await resolve(site, tag)
        if target is None:
            gone.append(tag)
        elif target != step.digest:
            return Result.DRIFTED, f"the tag {tag} now points to {target}"
    if step.kind is StepKind.UNTAG:
        return (Result.GONE, "the tag was gone already") if gone else None
    if len(gone) == len(step.tags) and await resolve(site, step.digest) is None:
        return Result.GONE, "it was gone already"
    return (Result.DRIFTED, f"the tag {gone[0]} is gone, the manifest is not") if gone else None


async def _begin_and_send(site: Site, step: Step, known: Considered, related: frozenset[str]) -> Result | None:
    moment = _moment(site, step)
    await site.services.database.write(lambda connection: _begin(connection, moment, known, related))
    try:
        removal = await _send(site, step)
    except RegistryError as error:
        if error.code in PROTECTIONS:
            await _end_protected(site, step, error)
        if await is_left_to_registry(site, step, error):
            return await _end(site, step, Result.DONE, _LEFT, moment.at)
        if isinstance(error, RegistryDenied) or error.code in _REFUSALS:
            await _end(site, step, Result.FAILED, error.message, moment.at, gone=await _find_gone(site, step))
            raise
        await asyncio.sleep(_PAUSE_SECONDS)
        return None if step.kind is StepKind.DROP else await settle_intent(site, step)
    if removal is None:
        return None if step.kind is StepKind.DROP else await settle_intent(site, step)
    result = Result.DONE if removal is Removal.REMOVED else Result.GONE
    ended = await _end(site, step, result, "", moment.at)
    if step.kind is StepKind.UNTAG and not step.with_placeholder:
        await _check_manifest_stayed(site, step, known)
    return ended


def _begin(connection: Connection, moment: Moment, known: Considered, related: frozenset[str]) -> None:
    """The last look and the intent, in one transaction. Of pulls only those of ``related`` digests matter."""
    step = moment.step
    is_pulled = races.is_pulled(connection, step, after_id=known.event_id, digests=related)
    changes = races.load_touches(connection, step.registry, step.repository, after_id=known.event_id)
    is_held_as_known = are_as_known(
        connection, step.registry, moment.at, known.holds, mark=known.holds_mark, names=known.hold_places
    )
    is_filled = step.kind is StepKind.DROP and bool(changes)  # anything new would go with the repository
    if is_pulled or is_filled or not is_held_as_known or not is_unconcerned(connection, known, changes, moment.at):
        raise Touched("something happened in the repository meanwhile")
    newest = races.newest_event_id(connection, step.registry)
    journal.note_intent(connection, moment, f"after event {newest}")


async def _end_protected(site: Site, step: Step, error: RegistryError) -> NoReturn:
    """A rule of the registry keeps it: no failure, unless some of its tags are gone already."""
    detail = f"protected by GitLab: {error.message}"
    if not (gone := await _find_gone(site, step)):
        await _end(site, step, Result.DRIFTED, detail)
        raise Protected(detail)
    detail = f"{detail}; {len(gone)} of its tags were removed before"
    await _end(site, step, Result.FAILED, detail, gone=gone)
    raise RegistryError(detail, hint="regwarden plan undo brings them back.", code="partly-removed")


async def _find_gone(site: Site, step: Step) -> tuple[str, ...]:
    """The tags of a step that goes by its tags which are gone, as far as the registry tells."""
    if not goes_by_tags(site, step):
        return ()
    try:
        return (await look_at_tags(site, step)).gone
    except RegistryError:
        return ()


async def _send(site: Site, step: Step) -> Removal | None:
    """Ask for it. ``None``: what came of it is to be found out."""
    if step.kind is StepKind.DROP:
        await ask_to_drop(site)
        return None
    if goes_by_tags(site, step):
        return await remove_tags(site, step)
    connector = await site.pace()
    if step.kind is StepKind.DELETE:
        return await _as_deleting(connector).delete_manifest(site.repository, Digest.parse(step.digest))
    if step.with_placeholder:
        placeholder = await put_placeholder(site, step)
        connector = await site.pace()
        await _as_deleting(connector).delete_manifest(site.repository, placeholder)
        return Removal.REMOVED
    if not isinstance(connector, DeletesTags):
        raise RegistryError("this kind of registry cannot remove a tag", code="untag-unsupported", status=405)
    return await connector.delete_tag(site.repository, step.tags[0])


def _as_deleting(connector: object) -> DeletesManifests:
    if not isinstance(connector, DeletesManifests):
        raise RegistryError("this kind of registry cannot delete manifests", code="delete-disabled", status=405)
    return connector


async def _check_manifest_stayed(site: Site, step: Step, known: Considered) -> None:
    """Some registries remove the manifest with its tag, and so its other tags: those are put back at once."""
    if await resolve(site, step.digest) is not None:
        return
    siblings = [tag for tag, digest in known.tags.items() if digest == step.digest and tag not in step.tags]
    for reference in siblings or [step.digest]:
        await put_back(site, step, Digest.parse(step.digest), reference)
    message = f"the registry removed {step.digest} with one of its tags; it was put back"
    raise RegistryError(message, hint="Removing single tags does not work there.", code="untag-unsupported", status=409)


async def _end(
    site: Site,
    step: Step,
    result: Result,
    detail: str,
    sent_at: datetime | None = None,
    *,
    gone: Sequence[str] = (),
) -> Result:
    """Write what came of a step, and let the inventory know what went; ``sent_at`` is when the request was sent.

    ``gone`` are tags that are gone although the step as a whole is not done.
    """
    moment = _moment(site, step)
    removed_at = sent_at or moment.at
    place = (site.registry, site.repository)

    def write(connection: Connection) -> None:
        journal.note_outcome(connection, moment, result, printable(detail, 500))
        if result not in (Result.DONE, Result.GONE):
            if gone:
                own_changes.note_untagged(connection, *place, tags=gone, at=removed_at)
            return
        if step.kind is StepKind.DROP:
            own_changes.note_dropped(connection, *place, at=removed_at)
        elif step.kind is StepKind.DELETE:
            own_changes.note_deleted(connection, *place, digest=step.digest, tags=step.tags, at=removed_at)
        else:
            own_changes.note_untagged(connection, *place, tags=step.tags, at=removed_at)

    await site.services.database.write(write)
    return result


def _moment(site: Site, step: Step) -> Moment:
    return Moment(plan_id=site.plan_id, step=step, tags=step.tags, at=site.services.now())

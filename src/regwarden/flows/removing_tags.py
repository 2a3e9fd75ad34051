"""How is a manifest removed where the registry collects by itself what no tag points to? By each of its tags, alone.

One that was begun and broke off has lost some of its tags. It is told by the journal, and by the tags themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regwarden.core.plan import Step, StepKind
from regwarden.errors import RegistryError
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import resolve
from regwarden.registries.api import DeletesTags, Removal, RemovesByTag
from regwarden.store import journal
from regwarden.store.journal import EntryKind, Result
from regwarden.store.races import list_indexes_of

PROTECTIONS: Final = frozenset({"tag-protected", "tag-immutable", "manifest-protected", "repository-protected"})
"""With these a registry says that a rule of its own keeps something; nothing was done."""

_REFERENCED: Final = "manifest-referenced"


@dataclass(frozen=True, slots=True)
class TagsNow:
    """What the tags of a step point to: ``left`` are still on its digest, ``moved`` is one that is elsewhere."""

    left: tuple[str, ...]
    gone: tuple[str, ...]
    moved: str = ""


def collects_itself(site: Site) -> bool:
    """Whether the registry collects by itself what no tag leads to, so that only tags are removed."""
    return isinstance(site.connector, RemovesByTag) and site.connector.removes_by_tag


def goes_by_tags(site: Site, step: Step) -> bool:
    """Whether a step is carried out by removing its tags."""
    return step.kind is StepKind.DELETE and bool(step.tags) and collects_itself(site)


async def learn_ways(site: Site) -> None:
    """Let a connector find out how its registry removes, which it knows only after it was asked something."""
    if isinstance(site.connector, RemovesByTag):
        await (await site.pace()).probe_capabilities()


async def look_at_tags(site: Site, step: Step) -> TagsNow:
    """One HEAD for each tag. Raises ``RegistryError``."""
    left, gone, moved = [], [], ""
    for tag in step.tags:
        target = await resolve(site, tag)
        if target is None:
            gone.append(tag)
        elif target == step.digest:
            left.append(tag)
        else:
            moved = moved or f"the tag {tag} now points to {target}"
    return TagsNow(tuple(left), tuple(gone), moved)


async def has_begun(site: Site, step: Step) -> bool:
    """Whether we asked for it before, so that what is missing of it may be our own doing."""
    entries = await site.services.database.read(
        lambda connection: journal.load_journal(connection, site.plan_id, position=step.position)
    )
    return any(one.entry is EntryKind.INTENT for one in entries)


async def compare_tags(site: Site, step: Step) -> tuple[Result, str] | None:
    """Why a step comes to an end without a request; ``None`` if its tags are as they were, or as we left them.

    One of which we have removed a part is ``FAILED`` rather than ``DRIFTED``: an undo looks at it.
    """
    now = await look_at_tags(site, step)
    is_ours = bool(now.gone) and await has_begun(site, step)
    if now.moved:
        return (Result.FAILED if is_ours else Result.DRIFTED), now.moved
    if not now.left:
        return (Result.DONE, "found gone") if is_ours else (Result.GONE, "its tags were gone already")
    if now.gone and not is_ours:
        return Result.DRIFTED, f"the tag {now.gone[0]} is gone, others of the manifest are not"
    return None


async def remove_tags(site: Site, step: Step) -> Removal | None:
    """Remove the tags one after the other, each only while it points to the step's digest.

    ``None``: one pointed elsewhere and was left alone. Raises ``RegistryError``; those before it are gone then.
    """
    found = []
    for tag in step.tags:
        # The first one has just been looked at; until the last the others have time to move.
        if tag != step.tags[0] and (target := await resolve(site, tag)) != step.digest:
            if target is not None:
                return None
            continue
        connector = await site.pace()
        if not isinstance(connector, DeletesTags):
            raise RegistryError("this kind of registry cannot remove a tag", code="untag-unsupported", status=405)
        found.append(await connector.delete_tag(site.repository, tag))
    return Removal.REMOVED if Removal.REMOVED in found else Removal.ALREADY_GONE


def judge_tags(step: Step, now: TagsNow, *, is_last: bool) -> tuple[Result, str]:
    """What became of a step whose intent stands alone, by its tags; ``is_last``: it is not tried once more."""
    if now.moved:
        return (Result.FAILED if now.gone else Result.DRIFTED), now.moved
    if not now.left:
        return Result.DONE, "found gone"
    words = f"the registry still has {len(now.left)} of its {len(step.tags)} tags"
    return (Result.FAILED, f"{words}, although it was asked twice") if is_last else (Result.NOT_DONE, words)


async def is_left_to_registry(site: Site, step: Step, error: RegistryError) -> bool:
    """Whether a manifest that an index lists goes with that, which was removed and waits to be collected."""
    if error.code != _REFERENCED or step.kind is not StepKind.DELETE or not collects_itself(site):
        return False
    place = (site.registry, site.repository)
    staying = await site.services.database.read(lambda connection: list_indexes_of(connection, *place, {step.digest}))
    return not staying

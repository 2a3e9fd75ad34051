"""How is a repository deleted as a whole? Only when nothing is in it any more, and then followed until it is gone.

A process that ends meanwhile leaves an intent; the next one asks the registry how it stands.
"""

from __future__ import annotations

import asyncio
from typing import Final

from regwarden.core.projects import RepositoryStatus
from regwarden.core.text import printable
from regwarden.errors import RegistryError
from regwarden.flows.apply_records import Site
from regwarden.registries.api import DeletesRepositories
from regwarden.store.journal import Result

# It takes a registry seconds for a few tags and minutes for thousands; ten minutes altogether.
_FIRST_PAUSE_SECONDS: Final = 1.0
_GROWTH: Final = (1, 2, 4, 8, 15, *(30 for _ in range(19)))


async def compare_repository(site: Site) -> tuple[Result, str] | None:
    """Why a repository is not asked to be deleted; ``None`` if it has no tag. Raises ``RegistryError``."""
    status = await _as_dropping(await site.pace()).find_repository_status(site.repository)
    if status is RepositoryStatus.GONE:
        return Result.GONE, "the repository was gone already"
    listing = await (await site.pace()).list_tags(site.repository)
    if listing.tags:
        return Result.DRIFTED, printable(f"it has tags again: {', '.join(sorted(listing.tags)[:5])}", 500)
    if not listing.is_complete or listing.doubt:
        message = f"its tags could not be listed completely: {listing.doubt or 'there are more'}"
        raise RegistryError(message, code="listing-incomplete", temporary=True)
    return None


async def ask_to_drop(site: Site) -> None:
    """Ask for it, once. Raises ``RegistryError``."""
    await _as_dropping(await site.pace()).delete_repository(site.repository)


async def follow(site: Site, *, is_asked_before: bool) -> tuple[Result, str] | None:
    """What becomes of it, asked with growing pauses; ``None`` if that is not known after ten minutes, or at a stop.

    ``is_asked_before``: it was asked for twice, so that what is present still was not deleted.
    """
    for growth in _GROWTH:
        try:
            status = await _as_dropping(await site.pace()).find_repository_status(site.repository)
        except RegistryError as error:
            if not error.temporary:
                return None
            status = RepositoryStatus.DELETING
        if status is RepositoryStatus.GONE:
            return Result.DONE, ""
        if status is RepositoryStatus.FAILED:
            return Result.FAILED, "the registry could not delete the repository"
        if status is RepositoryStatus.PRESENT:
            if is_asked_before:
                return Result.FAILED, "the registry was asked twice and has not deleted the repository"
            return Result.NOT_DONE, "the registry still has it"
        if await _is_stopped(site, growth * _FIRST_PAUSE_SECONDS):
            break
    return None


async def _is_stopped(site: Site, seconds: float) -> bool:
    """Wait a while, or until the run is to end."""
    if site.stop is None:
        await asyncio.sleep(seconds)
        return False
    try:
        async with asyncio.timeout(seconds):
            await site.stop.wait()
    except TimeoutError:
        return False
    return True


def _as_dropping(connector: object) -> DeletesRepositories:
    if not isinstance(connector, DeletesRepositories):
        raise RegistryError("this kind of registry cannot delete a repository", code="drop-unsupported", status=405)
    return connector

"""Which repositories a crawl goes to: what the catalog lists, and what is known besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regwarden.core.patterns import Pattern
from regwarden.errors import RegistryDenied, RegistryError, RegistryMissing
from regwarden.registries.api import Connector

_OF_AN_API: Final = "api-"  # codes of what is no catalog and has a hint of its own


@dataclass(frozen=True, slots=True)
class Listing:
    """The repositories to read, in the catalog's order, known ones that it left out behind them.

    ``listed`` are those in the catalog. ``is_complete`` says that the catalog was read to its end,
    ``is_trustworthy`` that this registry cannot have left anything out.
    """

    names: tuple[str, ...]
    listed: frozenset[str]
    is_complete: bool = True
    is_trustworthy: bool = True
    page_count: int = 0
    doubts: tuple[str, ...] = ()


async def list_names(connector: Connector, known: Mapping[str, int], wanted: tuple[Pattern, ...]) -> Listing:
    """Find the repositories to read; ``known`` are those of the inventory, ``wanted`` restricts (empty: all).

    Where only exact names are wanted, the catalog is not asked at all. Where it is refused or breaks off, the known
    repositories and the wanted exact names are read and the listing is marked incomplete. Raises ``RegistryError``
    only if there is nothing to read then.
    """
    exact = [pattern.exact for pattern in wanted if pattern.exact is not None]
    if wanted and len(exact) == len(wanted):
        return Listing(tuple(dict.fromkeys(exact)), frozenset(), is_trustworthy=False)
    listed: dict[str, None] = {}
    doubts: list[str] = []
    page_count = 0
    is_complete = True
    try:
        async for page in connector.list_repositories():
            page_count += 1
            listed |= dict.fromkeys(page.names)
            is_complete = is_complete and page.is_complete
            if not page.is_trustworthy:
                doubts.append(page.doubt or "the registry may have left repositories out of its catalog")
    except RegistryError as error:
        if not listed and not known and not exact:
            raise _explained(error) from error
        is_complete = False
        if not any(error.message in doubt for doubt in doubts):
            doubts.append(f"the catalog could not be read to its end: {error.message}")
    chosen = [name for name in (*listed, *exact, *sorted(set(known) - set(listed))) if _is_wanted(name, wanted)]
    return Listing(
        names=tuple(dict.fromkeys(chosen)),
        listed=frozenset(listed),
        is_complete=is_complete,
        is_trustworthy=is_complete and not doubts,
        page_count=page_count,
        doubts=tuple(dict.fromkeys(doubts)),
    )


def _is_wanted(name: str, wanted: tuple[Pattern, ...]) -> bool:
    return not wanted or any(pattern.matches(name) for pattern in wanted)


def _explained(error: RegistryError) -> RegistryError:
    if isinstance(error, RegistryDenied | RegistryMissing) and not error.code.startswith(_OF_AN_API):
        error.hint = (
            "This registry does not let these credentials list its repositories; "
            "name them: --repository team/app (repeatable)."
        )
    return error

"""How is shown when something was pulled, and that nothing is known of it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from regwarden.core.pull_query import USUAL_SINCE
from regwarden.core.quantities import parse_duration

if TYPE_CHECKING:
    from regwarden.cli.output import Printer
    from regwarden.library import Inventory, Row
    from regwarden.library_pulls import PullArguments

CLOCKS: Final = ("pulled_at", "fetched_at", "checked_at")
RECENT: Final = parse_duration(USUAL_SINCE)
_BY: Final = ("pull_class", "method")


def with_known_clocks(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row for people: a clock that never ran says since when that is known, if it is."""
    since = row.get("pulls_known_since")
    standing = [name for name in CLOCKS if name in row and row[name] is None]
    if since is None or not standing:
        return row
    text = f"not since {since.astimezone(UTC).date().isoformat()}"
    return {**row, **dict.fromkeys(standing, text)}


def latest_clocks(rows: Sequence[Row]) -> dict[str, Any]:
    """The clocks of several places as one: what holds of all of them together."""
    found: dict[str, Any] = {}
    for name in CLOCKS:
        found[name] = max((row[name] for row in rows if row[name] is not None), default=None)
    since = [row.pulls_known_since for row in rows]
    found["pulls_known_since"] = max(since) if since and None not in since else None
    return found


def recent_pulls(inventory: Inventory, *selectors: str, as_of: datetime | None, place: PullArguments) -> list[Row]:
    """Who pulled what is in ``place`` in the last days, or in those before ``as_of``, by class and method."""
    since = None if as_of is None else as_of - RECENT
    arguments: PullArguments = {**place, "by": _BY, "since": since or USUAL_SINCE, "until": as_of}
    return inventory.pulls(*selectors, **arguments)


def print_pulls(printer: Printer, pulls: Sequence[Row]) -> None:
    """Who pulled it, for people."""
    if pulls:
        printer.heading(f"Pulls of the last {RECENT.days} days")
        printer.table(pulls, (*_BY, "pull_count", "last_at"))

"""How is one value written for people: short, escaped, with units?

Texts come from registries and are hostile: nothing that controls a terminal or a spreadsheet leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from regwarden.core.cells import csv_text, escape_controls, plain_text, to_json_value
from regwarden.core.wording import counted, human_bytes

# Written the same wherever it is written; the other names are of the terminal alone.
__all__ = [
    "counted",
    "csv_text",
    "escape_controls",
    "human_bytes",
    "human_duration",
    "is_bytes_field",
    "plain_text",
    "table_text",
    "to_json_value",
]

_BYTE_NAMES: Final = frozenset({"size", "disk_size", "total_size"})
_PLATFORM_NAMES: Final = frozenset({"platform", "platforms"})
_MOMENTS: Final = frozenset({"at", "since", "until"})
_SHORT_DIGEST: Final = 12
_DIGEST: Final = re.compile(r"sha(256|384|512):[0-9a-f]{64,128}")


def is_bytes_field(name: str) -> bool:
    """Whether a field holds a number of bytes."""
    return name.endswith("_bytes") or name in _BYTE_NAMES


def human_duration(duration: timedelta) -> str:
    """How long something took or how old it is, in one unit: ``12 minutes``, ``1 day``."""
    seconds = max(duration.total_seconds(), 0.0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}" + ("s" if count != 1 else "")
    return f"{seconds:.1f} seconds" if 0 < seconds < 10 else f"{seconds:.0f} seconds"


def table_text(name: str, value: object, *, exact_bytes: bool = False) -> str:
    """A value as it stands in a table cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return human_bytes(value) if is_bytes_field(name) and not exact_bytes else f"{value:,}"
    if isinstance(value, datetime):
        # Of things that follow each other closely the order must be seen.
        seconds = ":%S" if name in _MOMENTS else ""
        return value.astimezone(UTC).strftime(f"%Y-%m-%d %H:%M{seconds}")
    if isinstance(value, str):
        return _table_string(name, value)
    if isinstance(value, Mapping):
        return ", ".join(f"{escape_controls(str(key))}={table_text('', entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(table_text(name, entry, exact_bytes=exact_bytes) for entry in value)
    return escape_controls(str(value))


def _table_string(name: str, text: str) -> str:
    """Digests by their first digits, platforms without the usual operating system, everything else escaped."""
    if _DIGEST.fullmatch(text):
        return text.removeprefix("sha256:")[:_SHORT_DIGEST]
    return escape_controls(text.replace("linux/", "") if name in _PLATFORM_NAMES else text)

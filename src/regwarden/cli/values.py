"""How is one value written: for people (short, escaped), for tab-separated and CSV files, for JSON?

Texts come from registries and are hostile: nothing that controls a terminal or a spreadsheet leaves this module.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_BYTE_NAMES: Final = frozenset({"size", "disk_size", "total_size"})
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_NOT_ASCII: Final = re.compile(r"[^\x20-\x7e]")
_PLATFORM_NAMES: Final = frozenset({"platform", "platforms"})
_MOMENTS: Final = frozenset({"at", "since", "until"})
_SHORT_DIGEST: Final = 12
_DIGEST: Final = re.compile(r"sha(256|384|512):[0-9a-f]{64,128}")


def is_bytes_field(name: str) -> bool:
    """Whether a field holds a number of bytes."""
    return name.endswith("_bytes") or name in _BYTE_NAMES


def human_bytes(size: int) -> str:
    """A size for people, 1024-based, about three digits: ``17 B``, ``1.24 GiB``, ``219 KiB``."""
    amount = float(size)
    for unit in _UNITS:
        if abs(amount) < 999.5 or unit == _UNITS[-1]:
            break
        amount /= 1024
    digits = 0 if unit == "B" or abs(amount) >= 99.95 else 1 if abs(amount) >= 9.995 else 2
    return f"{amount:.{digits}f} {unit}"


def human_duration(duration: timedelta) -> str:
    """How long something took or how old it is, in one unit: ``12 minutes``, ``1 day``."""
    seconds = max(duration.total_seconds(), 0.0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}" + ("s" if count != 1 else "")
    return f"{seconds:.1f} seconds" if 0 < seconds < 10 else f"{seconds:.0f} seconds"


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 tag``, ``1,200 tags``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def escape_controls(text: str) -> str:
    """Make everything visible that could move the cursor, hide or reorder text, or break a line."""
    if not _NOT_ASCII.search(text):
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "C" or category in {"Zl", "Zp"}:
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character


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


def plain_text(value: object) -> str:
    """A value in one cell of a tab-separated line; unknown is empty, nothing is shortened."""
    simple = to_json_value(value)
    if simple is None:
        return ""
    if isinstance(simple, bool):
        return "true" if simple else "false"
    return escape_controls(simple if isinstance(simple, str) else json.dumps(simple))


def csv_text(value: object) -> str:
    """A value in a CSV cell; texts that a spreadsheet would run as a formula get an apostrophe in front."""
    text = plain_text(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA_STARTS) else text


def to_json_value(value: object) -> object:
    """A value in JSON's types: times as ISO 8601 in UTC with ``Z``, records as objects."""
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): to_json_value(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json_value(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: to_json_value(getattr(value, entry.name)) for entry in fields(value)}
    return str(value)

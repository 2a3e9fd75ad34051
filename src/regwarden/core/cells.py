"""How is one value written in a line of text, in a CSV file, in JSON?

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

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_NOT_ASCII: Final = re.compile(r"[^\x20-\x7e]")


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

"""What the library answers with: rows whose fields are attributes, and pages of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


class Row(Mapping[str, Any]):
    """One result: a read-only mapping whose fields are attributes too (``row.tag``, ``row["tag"]``)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"this row has no field {name!r}")
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def fields_of(row: Row) -> dict[str, Any]:
    """The fields as they are kept, for whoever writes many rows and changes none."""
    return row._fields


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows of an answer. ``next_cursor`` asks for the rows after them; ``None`` where there are none.

    ``unknown_count`` is how many rows no condition could decide, because what it asks is not known of them; ``None``
    where that was not asked for.
    """

    rows: tuple[Row, ...]
    next_cursor: str | None
    unknown_count: int | None

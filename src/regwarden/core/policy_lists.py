"""How are lists and free maps of a policy written?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from regwarden.core.policy_shapes import UNREADABLE, Report, Schema, Shape, Unreadable
from regwarden.core.policy_text import ListNode, MapNode, Node, ScalarNode
from regwarden.errors import InputError

MAX_ENTRIES: Final = 500


@dataclass(frozen=True, slots=True)
class ListShape:
    """A list of one shape, as a tuple; with ``or_single`` one value may stand without its list."""

    shape: Shape
    low: int = 1
    high: int = MAX_ENTRIES
    or_single: bool = False
    hint: str = ""

    @property
    def title(self) -> str:
        """What is wanted."""
        return f"{self.shape.title}, or a list" if self.or_single else f"a list: {self.shape.title}"

    def read(self, node: Node, path: str, report: Report) -> tuple[Any, ...] | Unreadable:
        """Read it."""
        if not isinstance(node, ListNode):
            if self.or_single and isinstance(node, ScalarNode) and not node.is_empty:
                value = self.shape.read(node, path, report)
                return (value,) if value is not UNREADABLE else UNREADABLE
            raise InputError("a list is wanted here", hint=self.hint or "Write [A, B], or one entry a line after - .")
        if not self.low <= len(node.entries) <= self.high:
            raise InputError(f"a list of {self.low} to {self.high} is wanted here, not of {len(node.entries)}")
        values = [report.attempt(self.shape, entry, f"{path}[{number}]") for number, entry in enumerate(node.entries)]
        return tuple(value for value in values if value is not UNREADABLE)

    def write(self, value: Any) -> object:
        """Write it."""
        return [self.shape.write(entry) for entry in value]

    def schema(self) -> Schema:
        """Describe it."""
        described: Schema = {"type": "array", "items": self.shape.schema(), "maxItems": self.high}
        if self.low:
            described["minItems"] = self.low
        return {"anyOf": [self.shape.schema(), described]} if self.or_single else described


@dataclass(frozen=True, slots=True)
class MapShape:
    """Names and values of one shape, as a sorted tuple of pairs."""

    shape: Shape
    name_title: str

    @property
    def title(self) -> str:
        """What is wanted."""
        return f"a map of {self.name_title} to {self.shape.title}"

    def read(self, node: Node, path: str, report: Report) -> tuple[tuple[str, Any], ...]:
        """Read it."""
        if not isinstance(node, MapNode) or not 1 <= len(node.entries) <= MAX_ENTRIES:
            raise InputError(f"a map of {self.name_title} is wanted here", hint="Write NAME: {any: [PATTERN]}.")
        pairs = [(key.text, report.attempt(self.shape, value, f"{path}.{key.text}")) for key, value in node.entries]
        return tuple(sorted((name, value) for name, value in pairs if value is not UNREADABLE))

    def write(self, value: Any) -> object:
        """Write it."""
        return {name: self.shape.write(entry) for name, entry in value}

    def schema(self) -> Schema:
        """Describe it."""
        return {
            "type": "object",
            "additionalProperties": self.shape.schema(),
            "minProperties": 1,
            "maxProperties": MAX_ENTRIES,
        }

"""How is a value of a policy written: which shapes are there, and how is one read, written back and described?

A clause of ``core.policy`` names its shape; reading, the JSON schema and the manual all come from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from regwarden.core.policy_problems import MAX_PROBLEMS, Place, PolicyError, Problem, nearest
from regwarden.core.policy_text import ListNode, Node, ScalarNode
from regwarden.errors import InputError


class Unreadable:
    """What stands for a value whose mistakes have been reported."""


UNREADABLE: Final = Unreadable()
_CODE: Final = PolicyError.code
Schema = dict[str, Any]


class Shape(Protocol):
    """One way to write a value. ``title`` is how the manual calls it."""

    @property
    def title(self) -> str:
        """How the manual calls it: ``a duration``."""

    def read(self, node: Node, path: str, report: Report) -> Any:
        """The value of a node, or ``UNREADABLE``; raises ``InputError`` for a mistake that the caller reports."""

    def write(self, value: Any) -> object:
        """The value as it stands in JSON; ``read`` makes the same value of it."""

    def schema(self) -> Schema:
        """The JSON schema of what ``read`` accepts."""


@dataclass(slots=True)
class Report:
    """What was found while a document was read: mistakes, and where everything stands, by its path."""

    problems: list[Problem] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    unquoted: list[tuple[str, str]] = field(default_factory=list)  # path, text
    homes: Mapping[str, str] = field(default_factory=dict)  # a clause's word, and the maps that it belongs to

    def attempt(self, shape: Shape, node: Node, path: str) -> Any:
        """The value of a node, or ``UNREADABLE`` after its mistakes were noted."""
        self.places[path] = node.place
        try:
            return shape.read(node, path, self)
        except InputError as error:
            code = _CODE if error.code == InputError.code else error.code
            self.say(node.place, error.message, hint=error.hint, code=code)
            return UNREADABLE

    def say(self, place: Place, message: str, *, hint: str = "", code: str = _CODE) -> None:
        """Note a mistake; of very many only the first ones are kept."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(place=place, message=message, hint=hint, code=code))


def scalar_of(node: Node, title: str) -> ScalarNode:
    """The node, if it is a single value; otherwise raises ``InputError``."""
    if not isinstance(node, ScalarNode):
        what = "a list" if isinstance(node, ListNode) else "a map"
        raise InputError(f"{title} is wanted here, not {what}")
    if node.is_empty:
        raise InputError(f"{title} is missing here", hint="Give a value, or remove the key.")
    return node


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """A text that a function makes a value of; what looks like a number to other programs is noted."""

    title: str
    parse: Callable[[str], Any]
    to_text: Callable[[Any], str] = str
    pattern: str = ""
    max_length: int = 1000
    examples: tuple[str, ...] = ()

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Read it."""
        scalar = scalar_of(node, self.title)
        if not scalar.text:
            raise InputError(f"{self.title} is wanted here, not an empty text")
        if len(scalar.text) > self.max_length:
            raise InputError(f"{self.title} has at most {self.max_length} characters")
        value = self.parse(scalar.text)
        if scalar.is_plain and looks_like_no_text(scalar.text):
            report.unquoted.append((path, scalar.text))
        return value

    def write(self, value: Any) -> object:
        """Write it."""
        return self.to_text(value)

    def schema(self) -> Schema:
        """Describe it."""
        described: Schema = {"type": "string", "minLength": 1, "maxLength": self.max_length}
        if self.pattern:
            described["pattern"] = self.pattern
        if self.examples:
            described["examples"] = list(self.examples)
        return described


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words: the members of a ``StrEnum``; ``aliases`` are other spellings."""

    words: type[Any]
    aliases: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The words."""
        return " or ".join(f"`{word}`" for word in self._known)

    @property
    def _known(self) -> tuple[str, ...]:
        return (*(str(word) for word in self.words), *self.aliases)

    def read(self, node: Node, path: str, report: Report) -> Any:  # noqa: ARG002 - the same for every shape
        """Read it."""
        text = scalar_of(node, "a word").text
        if text in self.aliases:
            return self.aliases[text]
        try:
            return self.words(text)
        except ValueError:
            raise InputError(f"{text[:80]!r} is not known here", hint=nearest(text, self._known)) from None

    def write(self, value: Any) -> object:
        """Write it."""
        return str(value)

    def schema(self) -> Schema:
        """Describe it."""
        return {"enum": list(self._known)}


class FlagShape:
    """``true`` or ``false``."""

    title = "`true` or `false`"

    def read(self, node: Node, path: str, report: Report) -> bool:  # noqa: ARG002 - the same for every shape
        """Read it."""
        scalar = scalar_of(node, "true or false")
        if not scalar.is_plain or scalar.text not in ("true", "false"):
            hint = (
                "Write true or false, without quotes; yes, no, on and off mean different things to different readers."
            )
            raise InputError(f"{scalar.text[:80]!r} is neither true nor false", hint=hint)
        return scalar.text == "true"

    def write(self, value: Any) -> object:
        """Write it."""
        return bool(value)

    def schema(self) -> Schema:
        """Describe it."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class CountShape:
    """A whole number within bounds."""

    low: int
    high: int

    @property
    def title(self) -> str:
        """What is wanted."""
        return f"a whole number from {self.low} to {self.high}"

    def read(self, node: Node, path: str, report: Report) -> int:  # noqa: ARG002 - the same for every shape
        """Read it."""
        scalar = scalar_of(node, self.title)
        text = scalar.text
        is_number = scalar.is_plain and text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0")
        if not is_number or len(text) > len(str(self.high)) or not self.low <= int(text) <= self.high:
            hint = "Write digits alone, without quotes, underscores or leading zeros." if not is_number else ""
            raise InputError(f"{text[:80]!r} is not {self.title}", hint=hint)
        return int(text)

    def write(self, value: Any) -> object:
        """Write it."""
        return int(value)

    def schema(self) -> Schema:
        """Describe it."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


UNLIMITED: Final = "unlimited"


@dataclass(frozen=True, slots=True)
class OrUnlimited:
    """Another shape, or the word ``unlimited`` for none."""

    shape: Shape

    @property
    def title(self) -> str:
        """What is wanted."""
        return f"{self.shape.title} or `unlimited`"

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Read it."""
        if isinstance(node, ScalarNode) and node.text == UNLIMITED:
            return None
        return self.shape.read(node, path, report)

    def write(self, value: Any) -> object:
        """Write it."""
        return UNLIMITED if value is None else self.shape.write(value)

    def schema(self) -> Schema:
        """Describe it."""
        return {"anyOf": [self.shape.schema(), {"const": UNLIMITED}]}


# What YAML 1.1 or 1.2 takes for a number, a sexagesimal number, a date or a truth, unless it stands in quotes.
_NO_TEXT: Final = re.compile(
    r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|\.inf)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?|true|false|yes|no|on|off|y|n|\.nan",
    re.IGNORECASE,
)


def looks_like_no_text(text: str) -> bool:
    """Whether other programs that read YAML take a text without quotes for a number, a date or a truth."""
    return _NO_TEXT.fullmatch(text) is not None

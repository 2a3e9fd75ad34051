"""What stands where in a YAML text? Maps, lists and plain texts with their places, and nothing else of YAML.

Numbers, truths and dates stay the text that was written: ``1.10`` is never 1.1, ``on`` never true, ``12:30`` never 750.
Tags, anchors, aliases and repeated keys are mistakes, so a text can neither make objects nor grow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from regwarden.core.policy_problems import Place, Problem

MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 50_000
MAX_DOCUMENTS: Final = 100

# The same language from C where PyYAML was built with it; ten times faster.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What YAML does not allow, and the line ends that only YAML 1.1 knows.
_UNREADABLE: Final = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_BYTE_ORDER_MARK: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A text; ``is_plain`` where it stands without quotes."""

    place: Place
    text: str
    is_plain: bool

    @property
    def is_empty(self) -> bool:
        """Whether YAML calls it null."""
        return self.is_plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    place: Place
    entries: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapNode:
    """A map; every key once, in the order of the text."""

    place: Place
    entries: tuple[tuple[ScalarNode, Node], ...]


Node: TypeAlias = ScalarNode | ListNode | MapNode


class _Stop(Exception):
    """Ends the reading of a text."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def parse_documents(text: str) -> tuple[tuple[Node, ...], tuple[Problem, ...]]:
    """The documents of a YAML text, and what is wrong with it as YAML; never raises.

    After a mistake of syntax nothing more is read; repeated keys, tags and anchors are all reported.
    """
    if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        return (), (Problem(place=Place(1, 1), message=f"the text is larger than {MAX_TEXT_BYTES} bytes"),)
    lines = text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")
    if unreadable := _UNREADABLE.search(lines):
        message = f"the character U+{ord(unreadable[0]):04X} cannot be used here"
        return (), (Problem(place=_place_of(lines, unreadable.start()), message=message),)
    reader = _Reader(lines)
    documents: list[Node] = []
    try:
        documents.extend(reader.documents())
    except _Stop as stopped:
        reader.problems.append(stopped.problem)
    except yaml.YAMLError as error:
        reader.problems.append(_syntax_problem(error, lines))
    return tuple(documents), tuple(reader.problems)


class _Reader:
    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._lines = text.split("\n")
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._node_count = 0

    def documents(self) -> Iterator[Node]:
        count = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                count += 1
                if count > MAX_DOCUMENTS:
                    message = f"there are more than {MAX_DOCUMENTS} documents"
                    raise _Stop(Problem(place=self._start(event), message=message))
                yield self._node(next(self._events), 0)

    def _node(self, event: Any, depth: int) -> Node:
        place = self._start(event)
        self._node_count += 1
        if depth > MAX_DEPTH:
            raise _Stop(Problem(place=place, message=f"this is nested more than {MAX_DEPTH} deep"))
        if self._node_count > MAX_NODES:
            raise _Stop(Problem(place=place, message=f"the text has more than {MAX_NODES} values"))
        if isinstance(event, yaml.AliasEvent):
            self._refuse(place, f"*{event.anchor}", "Anchors and aliases are not used here; repeat the value.")
            return ScalarNode(place, event.anchor, is_plain=False)
        if event.anchor is not None:
            self._refuse(place, f"&{event.anchor}", "Anchors and aliases are not used here; repeat the value.")
        if event.tag is not None and event.tag != "!":
            self._refuse(place, f"the tag {event.tag}", "Leave the tag out; every clause knows its type.")
        if isinstance(event, yaml.ScalarEvent):
            return ScalarNode(place, event.value, is_plain=event.style in (None, ""))
        if isinstance(event, yaml.SequenceStartEvent):
            return ListNode(place, tuple(self._entries(depth)))
        return MapNode(place, tuple(self._pairs(depth)))

    def _entries(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _pairs(self, depth: int) -> Iterator[tuple[ScalarNode, Node]]:
        seen: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, ScalarNode):
                self._say(key.place, "a key must be a word", "Put a pattern that begins with { or [ in quotes.")
            elif key.text in seen:
                self._say(key.place, f"{key.text[:80]} is given twice", f"The first is in line {seen[key.text].line}.")
            else:
                seen[key.text] = key.place
                yield key, value

    def _start(self, event: Any) -> Place:
        return _inside(Place(event.start_mark.line + 1, event.start_mark.column + 1), self._lines)

    def _refuse(self, place: Place, what: str, hint: str) -> None:
        self._say(place, f"{what[:120]} cannot be used here", hint)

    def _say(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(Problem(place=place, message=message, hint=hint))


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
    hint = "YAML indents with spaces." if "\\t" in str(reason) or "\t" in _line(text, place) else ""
    if not hint and ("%" in reason or "*" in reason or "cannot start any token" in reason or "alias" in reason):
        hint = "Put a text that begins with * & % @ ` { [ or ! in quotes."
    if not hint and "mapping values are not allowed" in reason:
        hint = "Is a text with a colon not in quotes, or a line not indented like its neighbours?"
    return Problem(place=_inside(place, text.split("\n")), message=f"this is not YAML: {reason}", hint=hint)


def _line(text: str, place: Place) -> str:
    lines = text.split("\n")
    return lines[place.line - 1] if place.line <= len(lines) else ""


def _inside(place: Place, lines: Sequence[str]) -> Place:
    """The same place, or the end of the text: a mistake or an empty value may be noticed only behind it."""
    if place.line > len(lines):
        return Place(len(lines), len(lines[-1]) + 1)
    return Place(place.line, min(place.column, len(lines[place.line - 1]) + 1))


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return Place(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)

"""What stands where in the cleanup rules of another system? JSON or YAML, every value with its place and path."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from regwarden.core.policy_problems import Place, nearest
from regwarden.core.policy_text import ListNode, MapNode, Node, ScalarNode, parse_documents
from regwarden.core.quantities import parse_duration
from regwarden.errors import InputError

MAX_COUNT: Final = 1_000_000
_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Source:
    """One value of the original. ``name`` is what messages call the whole, ``path`` where in it this stands."""

    node: Node
    name: str
    path: str = ""

    def error(self, message: str, *, hint: str = "") -> InputError:
        """The error that something is wrong here, with its place."""
        what = f"{self.path}: " if self.path else ""
        return InputError(f"{self.name}:{self.node.place}: {what}{message}", hint=hint)

    @property
    def is_map(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.node, MapNode)

    @property
    def is_list(self) -> bool:
        """Whether it has entries."""
        return isinstance(self.node, ListNode)

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of a map; none for anything else."""
        return tuple(key.text for key, _ in self.node.entries) if isinstance(self.node, MapNode) else ()

    def get(self, key: str) -> Source | None:
        """The value of a key; ``None`` if it is absent or null. Raises ``InputError`` for what is not a map."""
        if not isinstance(self.node, MapNode):
            raise self.error("an object with keys is wanted here", hint=f"It should have {key}.")
        for found, value in self.node.entries:
            if found.text == key:
                is_null = isinstance(value, ScalarNode) and value.is_empty
                return None if is_null else Source(value, self.name, self._below(key))
        return None

    def need(self, key: str) -> Source:
        """The value of a key that must be there."""
        if (found := self.get(key)) is None:
            raise self.error(f"{key} is missing", hint="Is the document complete, and of this system?")
        return found

    def entries(self) -> tuple[Source, ...]:
        """The entries of a list."""
        if not isinstance(self.node, ListNode):
            raise self.error("a list is wanted here")
        return tuple(
            Source(entry, self.name, f"{self.path}[{number}]") for number, entry in enumerate(self.node.entries)
        )

    def refuse_others(self, known: Collection[str]) -> None:
        """Raise ``InputError`` for a key that is not known: it might decide what goes."""
        if not isinstance(self.node, MapNode):
            raise self.error("an object with keys is wanted here", hint=f"Known are: {', '.join(sorted(known))}.")
        for key, _ in self.node.entries:
            if key.text not in known:
                hint = f"{nearest(key.text, sorted(known))} Remove it, if it does not decide what goes."
                raise Source(key, self.name, self.path).error(f"{key.text[:80]!r} is not known here", hint=hint)

    @property
    def raw(self) -> str:
        """The text of a single value as it stands; empty for maps, lists and empty texts."""
        return self.node.text if isinstance(self.node, ScalarNode) else ""

    def text(self) -> str:
        """A text that can be printed, at most 1000 characters."""
        if not isinstance(self.node, ScalarNode) or self.node.is_empty:
            raise self.error("a text is wanted here")
        if not self.node.text.isprintable() or len(self.node.text) > 1000:
            raise self.error("a text without control characters and of at most 1000 characters is wanted here")
        return self.node.text

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(entry.text() for entry in self.entries())

    def count(self, *, low: int = 0) -> int:
        """A whole number from ``low`` to a million."""
        text = self.raw
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and low <= int(text) <= MAX_COUNT):
            raise self.error(f"a whole number from {low} to {MAX_COUNT} is wanted here")
        return int(text)

    def truth(self) -> bool:
        """``true`` or ``false``."""
        text = self.raw.lower()
        if text not in ("true", "false"):
            raise self.error("true or false is wanted here")
        return text == "true"

    def duration(self) -> timedelta:
        """A duration: ``168h``, ``30d``, ``2592000s``."""
        try:
            return parse_duration(self.text())
        except InputError as error:
            raise self.error(error.message, hint=error.hint) from None

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def flag(source: Source, key: str, *, default: bool) -> bool:
    """A truth that may be left out."""
    return default if (found := source.get(key)) is None else found.truth()


def source_of(text: str, *, name: str, path: str) -> Source:
    """A text that did not come from a document, such as the value of a flag."""
    return Source(ScalarNode(Place(1, 1), text, is_plain=False), name, path)


def parse_source(text: str, *, name: str, path: str = "") -> Source:
    """The only document of a text in JSON or YAML; raises ``InputError`` with the place of a mistake.

    JSON is read as YAML, for its places; a tab is space in JSON, and nowhere allowed at the beginning of YAML's lines.
    """
    is_json = text.lstrip("\ufeff \t\r\n").startswith(("{", "["))
    documents, problems = parse_documents(text.replace("\t", " ") if is_json else text)
    if problems:
        first = min(problems, key=lambda problem: problem.sort_key)
        message = first.message.replace("this is not YAML", "this is neither JSON nor YAML")
        raise InputError(f"{name}:{first.place}: {message}", hint=first.hint)
    if len(documents) != 1:
        raise InputError(f"{name}: one document is wanted, here are {len(documents)}", hint="Give one file for each.")
    return Source(documents[0], name, path)

"""Where in the file does a mistake stand, and how is it said in a user's words?"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from regwarden.errors import InputError
from regwarden.settings_shape import sections

DEFAULT_HINT: Final = "`regwarden config default` explains every setting."
_KIND_NAMES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list in brackets",
    "object": "a table",
    "null": "nothing",
}
_BOUNDS: Final = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}


class Lines:
    """Finds the line of a key in a TOML text, for messages."""

    def __init__(self, text: str, path: Path | None) -> None:
        self._lines = text.splitlines()
        self._path = path

    def place(self, section: str, key: str, occurrence: int = 0) -> str:
        """``file FILE:LINE`` of ``key`` in ``[section]`` (the nth ``[[section]]``), or the file alone."""
        current, seen = "", -1
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[+\s*([\w.\"-]+)\s*\]+", line):
                current = header[1].strip('"')
                seen += current == section
            named = re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line)
            if named and named[1] == key and current == section and (not section or seen == occurrence):
                return f"{self._path}:{number}"
        return str(self._path)

    def origins(self, document: Mapping[str, Any]) -> dict[str, str]:
        """The source of every value of a checked document."""
        found = {key: f"file {self.place('', key)}" for key, value in document.items() if not _is_table(value)}
        for section in sections():
            for number, table in enumerate(section.tables(document)):
                path = entry_path(section.path, number, table) if section.is_repeated else section.path
                for key in table:
                    found[f"{path}.{key}"] = f"file {self.place(section.path, key, number)}"
        return found


def entry_path(section: str, number: int, entry: Mapping[str, Any]) -> str:
    """How one of several tables is called: ``registry.NAME``, ``pull_rule.1``."""
    return f"{section}.{entry.get('name', number + 1)}"


@contextmanager
def at_setting(origins: Mapping[str, str], path: str) -> Iterator[None]:
    """Raise an ``InputError`` of the block with the place of the setting in front."""
    try:
        yield
    except InputError as error:
        place = origins.get(path, "default").removeprefix("file ")
        raise InputError(f"{place}: {path}: {error.message}", hint=error.hint, code=error.code) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known words, or all of them."""
    words = list(known)
    close = difflib.get_close_matches(word, words, 1)
    return f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(words)}."


def located(message: str, lines: Lines) -> InputError:
    """Turn msgspec's message with its path into ours with file, line and key."""
    problem, _, path = message.partition(" - at ")
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    names = [name for name, _ in steps if name]
    numbers = [int(number) for _, number in steps if number]
    section, key = ".".join(names[:-1]), names[-1] if names else ""
    if missing := re.search(r"missing required field `(\w+)`", problem):
        return InputError(
            f"{lines.place('', '')}: {key.replace('_', ' ')} number {numbers[0] + 1} has no {missing[1]}",
            hint=f'Add {missing[1]} = "…" below [[{key}]].',
        )
    is_repeated = any(one.path == section and one.is_repeated for one in sections())
    place = lines.place(section, key, numbers[0] if is_repeated and numbers else 0)
    label = f"{section}.{key}" if section else key
    return InputError(f"{place}: {label} {in_words(problem)}", hint=DEFAULT_HINT)


def in_words(message: str, *, given: str = "") -> str:
    """What msgspec calls "Expected `int`, got `str`", in a user's words; ``given`` is what stands there."""
    expected = re.match(r"Expected `(\w+)`(?: (<=|>=|<|>) (\S+))?(?:, got `(\w+)`)?", message)
    if not expected:
        return f"is not valid ({message})"
    kind, operator, bound, got = expected.groups()
    limit = f" of {_BOUNDS[operator]} {bound}" if operator else ""
    got = given or _KIND_NAMES.get(got, got)
    ending = f", not {got}" if got else ""
    return f"must be {_KIND_NAMES.get(kind, kind)}{limit}{ending}"


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(entry, dict) for entry in value))

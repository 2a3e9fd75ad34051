"""What flags does a program get in a command line, a script, a unit file or a task?"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from regwarden.errors import InputError

_ENDS: Final = frozenset({"&&", "||", ";", "|", "&"})
_MAX_DEPTH: Final = 4
_MOST_NAME_WORDS: Final = 4


def split_words(text: str, *, name: str) -> list[str]:
    """The words of a shell's line; a line that ends in a backslash goes on. Raises ``InputError`` for open quotes."""
    try:
        return shlex.split(text.replace("\\\r\n", " ").replace("\\\n", " "), comments=True)
    except ValueError as error:
        message = f"{name}: the command line cannot be understood: {error}"
        raise InputError(message, hint="Check its quotes.") from None


def find_commands(words: Sequence[str], is_start: Callable[[Sequence[str]], int], *, name: str) -> Iterator[list[str]]:
    """The arguments of each call of a program; ``is_start`` says how many words at the beginning are its name.

    A call may stand in quotes inside another command, as ``--cmd "acr purge …"`` or ``PURGE_CMD="acr purge …"``.
    """
    yield from _find(list(words), is_start, name, 0)


def _find(words: list[str], is_start: Callable[[Sequence[str]], int], name: str, depth: int) -> Iterator[list[str]]:
    position = 0
    while position < len(words):
        length = is_start(words[position : position + _MOST_NAME_WORDS])
        if not length:
            if " " in words[position] and depth < _MAX_DEPTH:
                inner = words[position].partition("=")[2] if "=" in words[position].split()[0] else words[position]
                yield from _find(split_words(inner, name=name), is_start, name, depth + 1)
            position += 1
            continue
        end = position + length
        while end < len(words) and words[end] not in _ENDS and not is_start(words[end : end + _MOST_NAME_WORDS]):
            end += 1
        yield words[position + length : end]
        position = end


def parse_flags(
    words: Sequence[str], *, values: Mapping[str, str], truths: Mapping[str, str], program: str
) -> dict[str, list[str]]:
    """The values of flags, by the names that ``values`` and ``truths`` give them; a truth has ``true`` or ``false``.

    Raises ``InputError`` for a flag that is not known: it might decide what goes.
    """
    found: dict[str, list[str]] = {}
    rest = deque(words)
    while rest:
        word = rest.popleft()
        flag, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or flag not in (values.keys() | truths.keys()):
            known = ", ".join(sorted(values.keys() | truths.keys()))
            raise InputError(f"{word[:80]!r} is not a known flag of {program}", hint=f"Known are: {known}.")
        if flag in truths:
            if equals and value not in ("true", "false"):
                raise InputError(f"{word[:80]!r}: true or false is wanted")
            found.setdefault(truths[flag], []).append(value if equals else "true")
            continue
        if not equals:
            if not rest:
                raise InputError(f"the flag {word} of {program} has no value")
            value = rest.popleft()
        found.setdefault(values[flag], []).append(value)
    return found

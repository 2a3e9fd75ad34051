"""What does an array of PostgreSQL say that was kept as text, such as ``{"latest","v1.0"}``?

The form is that of PostgreSQL's manual, 8.15.6 "Array Input and Output Syntax"; one dimension of text.
"""

from __future__ import annotations

import re
from typing import Final

from regwarden.errors import InputError

_SPACE: Final = " \t\n\r\v\f"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN: Final = re.compile(r'(?:[^"\\{},]|\\.)+', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def parse_array_literal(text: str) -> tuple[str, ...]:
    """The elements of an array of text; NULL elements are left out.

    Raises ``InputError`` (code ``bad-array``) for anything else, arrays in arrays among it.
    """
    body = text.strip(_SPACE)
    if len(body) < 2 or body[0] != "{" or body[-1] != "}":
        raise _bad(text)
    body, found, place = body[1:-1], [], 0
    if not body.strip(_SPACE):
        return ()
    while True:
        element, place = _element(body, place, text)
        if element is not None:
            found.append(element)
        if place == len(body):
            return tuple(found)
        if body[place] != ",":
            raise _bad(text)
        place += 1


def _element(body: str, place: int, text: str) -> tuple[str | None, int]:
    """The element that begins at ``place``, None for NULL, and where it ends."""
    while place < len(body) and body[place] in _SPACE:
        place += 1
    quoted = _QUOTED.match(body, place)
    match = quoted or _PLAIN.match(body, place)
    if match is None:
        raise _bad(text)
    place = match.end()
    if quoted is not None:
        while place < len(body) and body[place] in _SPACE:
            place += 1
        return _ESCAPE.sub(r"\1", quoted[1]), place
    written = _without_space(match[0])
    if not written:
        raise _bad(text)
    return (None if written.upper() == "NULL" else _ESCAPE.sub(r"\1", written)), place


def _without_space(written: str) -> str:
    """An element without the space behind it, unless that is escaped."""
    bare = written.rstrip(_SPACE)
    escapes = len(bare) - len(bare.rstrip("\\"))
    return written[: len(bare) + 1] if escapes % 2 else bare


def _bad(text: str) -> InputError:
    return InputError(
        f"{text[:80]!r} is not an array as PostgreSQL writes it",
        hint='An array is {"latest","v1.0"}; {} is empty.',
        code="bad-array",
    )

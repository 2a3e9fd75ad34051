"""What a glob means, as a regular expression: ``*`` and ``?`` within one part of a path, ``**`` across parts."""

from __future__ import annotations

import re
from typing import Final

from regwarden.errors import InputError

# No name in a registry contains one of these.
GLOB_CHARACTERS: Final = frozenset("*?[]{}")

MAX_DEPTH: Final = 10
_PIECE: Final = re.compile(r"\*\*/|\*\*+|\*|\?|\[[!^]?\]?[^\]]*\]|[{},]|.", re.DOTALL)


def translate_glob(glob: str) -> str:
    """Translate a glob into a regular expression (of RE2) for the whole string.

    ``*`` is any run of characters but ``/``, ``**`` any run at all, ``**/`` at the beginning of a part any number
    of whole parts (also none), ``?`` one character but ``/``, ``[a-z]`` one of a set, ``[!a-z]`` one character but
    those and ``/``, ``{a,b}`` alternatives, nested up to ten deep. Raises ``InputError`` (code ``bad-pattern``).
    """
    parts: list[str] = []
    depth = 0
    for match in _PIECE.finditer(glob):
        piece = match[0]
        if piece == "{":
            depth += 1
            parts.append("(?:")
        elif piece == "}" and depth:
            depth -= 1
            parts.append(")")
        elif piece == "," and depth:
            parts.append("|")
        elif piece == "**/":
            begins_part = match.start() == 0 or glob[match.start() - 1] in "/{,"
            parts.append("(?:.*/)?" if begins_part else ".*/")
        else:
            parts.append(_translate_piece(piece, glob))
        if depth > MAX_DEPTH:
            raise _bad(glob, "its braces are nested too deep")
    if depth:
        raise _bad(glob, "a { is not closed")
    return "(?s)" + "".join(parts)


def _translate_piece(piece: str, glob: str) -> str:
    if piece.startswith("**"):
        return ".*"
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 1:
        return _translate_set(piece[1:-1], glob)
    if piece in GLOB_CHARACTERS:
        raise _bad(glob, f"a {piece} has no counterpart")
    return re.escape(piece)


def _translate_set(body: str, glob: str) -> str:
    is_negated = body[:1] in ("!", "^")
    members = body[1:] if is_negated else body
    if not members:
        raise _bad(glob, "a [ ] is empty")
    if "/" in members:
        raise _bad(glob, "a [ ] cannot contain /")
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    return f"[^/{escaped}]" if is_negated else f"[{escaped}]"


def _bad(glob: str, reason: str) -> InputError:
    return InputError(f"{glob[:160]!r} is not a glob: {reason}", code="bad-pattern")

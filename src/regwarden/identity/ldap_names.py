"""How are names written where a directory reads them: in filters (RFC 4515), in DNs (RFC 4514), and what is no name?"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from regwarden.identity.ldap_errors import LoginRefused

MAX_NAME_LENGTH: Final = 256
MAX_PASSWORD_BYTES: Final = 1024
_SAFE_IN_FILTER: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,_=@:+-'/")
_SPECIAL_IN_DN: Final = frozenset('",+;<>\\=#')
_HEX_PAIR: Final = re.compile(r"[0-9A-Fa-f]{2}")
_SPACES: Final = re.compile(r" +")

Dn = tuple[tuple[tuple[str, str], ...], ...]


def check_username(text: str) -> str:
    """Return ``text`` if somebody can be called so; raises ``LoginRefused`` before any server is asked.

    A directory takes ``" alice"`` for ``alice``: what it would change silently is refused here.
    """
    if not text or len(text) > MAX_NAME_LENGTH or text != text.strip() or any(map(_is_control, text)):
        raise LoginRefused(
            "nobody can have this name: it is empty, too long, or has invisible or outer blank characters"
        )
    return text


def check_password(text: str) -> str:
    """Return ``text`` if it can be a password; raises ``LoginRefused``.

    With an empty one a directory lets everybody in, as nobody (RFC 4513 5.1.2).
    """
    if not text or "\0" in text or len(text.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise LoginRefused("nobody can have this password: it is empty or too long")
    return text


def escape_filter(value: str | bytes) -> str:
    """A value inside a filter, by RFC 4515: every byte that is not plainly harmless is written in hex."""
    raw = value.encode() if isinstance(value, str) else value
    return "".join(chr(byte) if byte in _SAFE_IN_FILTER else f"\\{byte:02x}" for byte in raw)


def escape_dn(value: str) -> str:
    """A value inside a DN, by RFC 4514; it has no NUL (``check_username``)."""
    last = len(value) - 1
    return "".join(
        f"\\{character}" if character in _SPECIAL_IN_DN or (character == " " and place in {0, last}) else character
        for place, character in enumerate(value)
    )


def parse_dn(text: str) -> Dn | None:
    """A DN to compare with others: types in lower case, values without escapes, case and needless spaces.

    Parts of a part (``cn=a+uid=b``) are sorted. ``None`` when it is not a DN.
    """
    if not text.strip():
        return ()
    parts: list[tuple[tuple[str, str], ...]] = []
    for part in _split(text, ",;"):
        pairs = [_parse_pair(pair) for pair in _split(part, "+")]
        found = [pair for pair in pairs if pair is not None]
        if len(found) != len(pairs):
            return None
        parts.append(tuple(sorted(found)))
    return tuple(parts)


def same_dn(one: str, two: str) -> bool:
    """Whether two texts are the same DN; never for what is none, or empty."""
    first = parse_dn(one)
    return bool(first) and first == parse_dn(two)


def is_below(dn: str, top: str) -> bool:
    """Whether an entry is ``top`` or lies somewhere under it; nothing lies under what is not a DN."""
    entry, end = parse_dn(dn), parse_dn(top)
    return bool(entry and end) and (entry or ())[-len(end or ()) :] == end


def _split(text: str, separators: str) -> list[str]:
    """The parts between separators that are not escaped and not inside quotes."""
    parts, start, place, is_quoted = [], 0, 0, False
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == '"':
            is_quoted = not is_quoted
        elif text[place] in separators and not is_quoted:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def _parse_pair(text: str) -> tuple[str, str] | None:
    kind, equals, value = text.partition("=")
    if not equals or not kind.strip():
        return None
    plain = _unescape(value.strip(" ") if not value.endswith("\\ ") else value.lstrip(" "))
    if plain is None:
        return None
    folded = unicodedata.normalize("NFKC", plain).casefold()
    return kind.strip().lower().removeprefix("oid."), _SPACES.sub(" ", folded).strip(" ")


def _unescape(text: str) -> str | None:
    """The value that is meant; ``None`` when an escape leads nowhere. A value in hex (``#04…``) stays as it is."""
    raw, place = bytearray(), 0
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = text[1:-1]
    while place < len(text):
        if text[place] != "\\":
            raw += text[place].encode("utf-8", "surrogatepass")
            place += 1
        elif pair := _HEX_PAIR.match(text, place + 1):
            raw.append(int(pair[0], 16))
            place += 3
        elif place + 1 < len(text):
            raw += text[place + 1].encode("utf-8", "surrogatepass")
            place += 2
        else:
            return None
    return raw.decode("utf-8", "replace")


def _is_control(character: str) -> bool:
    """Control and format characters, surrogates, private and unassigned ones, and separators of lines."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

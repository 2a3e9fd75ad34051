"""Text made safe to keep and to compare, bounded and without what is not printable; and written as TOML."""

from __future__ import annotations

import json


def printable(text: str, limit: int) -> str:
    """At most ``limit`` characters of ``text``; control characters, NUL among them, and lone surrogates are left out.

    PostgreSQL refuses NUL in text, and terminals act on control characters.
    """
    shortened = text[:limit]
    return shortened if shortened.isprintable() else "".join(filter(str.isprintable, shortened))


def toml_text(value: str) -> str:
    """A basic string of TOML, which escapes as JSON does, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

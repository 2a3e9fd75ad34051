"""Text from a registry, made safe to keep and to compare: bounded, and without characters that are not printable."""

from __future__ import annotations


def printable(text: str, limit: int) -> str:
    """At most ``limit`` characters of ``text``; control characters, NUL among them, and lone surrogates are left out.

    PostgreSQL refuses NUL in text, and terminals act on control characters.
    """
    shortened = text[:limit]
    return shortened if shortened.isprintable() else "".join(filter(str.isprintable, shortened))

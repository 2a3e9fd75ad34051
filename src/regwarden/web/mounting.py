"""Where do applications live: under a path of the main listener, or at the root of a listener of their own?"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Scope

# What may stand in a path as it is (RFC 3986 3.3), and the percent of what is encoded already.
_PATH_CHARACTERS = "/:@!$&'()*+,;=~-._%"


@dataclass(frozen=True, slots=True)
class Mount:
    """An application below ``prefix``; ``is_stripped``: it sees paths that begin behind that."""

    prefix: str
    app: ASGIApp
    is_stripped: bool = True


@dataclass(frozen=True, slots=True)
class OwnListener:
    """An interface with an address of its own; ``name`` is that of the predecessor."""

    name: str
    address: str
    app: ASGIApp


@dataclass(frozen=True, slots=True)
class Web:
    """All that is served beside hooks: where, what runs beside it, and what is closed at the end.

    ``wakes`` are told of a change at once, ``refreshes`` know of it before whoever made it is answered.
    """

    mounts: list[Mount] = field(default_factory=list)
    listeners: list[OwnListener] = field(default_factory=list)
    works: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    wakes: list[Callable[[], None]] = field(default_factory=list)
    refreshes: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    closes: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)

    async def close(self) -> None:
        """End what would keep requests from ending; before the listeners wait for them."""
        for close in self.closes:
            await close()


def is_below(path: str, prefix: str) -> bool:
    """Whether ``path`` is ``prefix`` itself or lies below it; ``prefix`` has no slash at its end."""
    return path == prefix or path.startswith(f"{prefix}/")


def strip_prefix(scope: Scope, prefix: str) -> Scope:
    """The request as the application below ``prefix`` sees it: ``path`` and ``raw_path`` begin behind the prefix.

    Nothing behind it is ``/``. ``root_path`` stays as it is: an application that makes links is told its prefix when
    it is made. The caller has seen to it that the path ``is_below`` the prefix.
    """
    path: str = scope["path"][len(prefix) :] or "/"
    raw = raw_path(scope)
    encoded = prefix.encode()
    # A prefix that was written with escapes is rare enough to lose how the rest was written.
    rest = raw[len(encoded) :] or b"/" if raw.startswith(encoded) else quote(path).encode()
    return {**scope, "path": path, "raw_path": rest}


def raw_path(scope: Scope) -> bytes:
    """The path as it was sent, in ASCII: an encoded slash is still encoded."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"]).encode()
    return raw if raw.isascii() else quote(raw, safe=_PATH_CHARACTERS).encode()

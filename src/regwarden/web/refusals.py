"""Who is told that requests are refused? Whoever reads the log: a sender only repeats them. Each kind once a minute."""

from __future__ import annotations

from typing import Final

import structlog
from starlette.types import Scope

from regwarden import clock
from regwarden.core.text import printable

_SILENT_SECONDS: Final = 60.0
_SHOWN_CHARACTERS: Final = 200

log = structlog.get_logger("regwarden.hooks")


class Refusals:
    """Remembers what was said lately. ``kind`` must come from a small set, never from a request alone."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def note(self, kind: str, reason: str, scope: Scope) -> None:
        """A request was refused: say why, and from where it came."""
        now = clock.monotonic()
        if now - self._said_at.get(kind, -_SILENT_SECONDS) < _SILENT_SECONDS:
            return
        self._said_at[kind] = now
        client = scope.get("client")
        path = printable(scope["path"], _SHOWN_CHARACTERS)
        log.warning("a request is refused", reason=reason, path=path, sender=client[0] if client else "")

"""How is the body of a delivery read, within limits of size, memory and time?"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive

from regwarden.errors import StoreError

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
KEPT_HEAD_BYTES: Final = 64 * 1024
MAX_HELD_BYTES: Final = 256 * 1024 * 1024
BODY_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent; of a body that is too large its beginning, with the digest of all of it."""

    content: bytes
    size_bytes: int
    sha256: bytes | None = None
    reason: str = ""


class BodyReader:
    """Reads bodies; together those being read may not take more memory than there is for them."""

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES, timeout_seconds: float = BODY_TIMEOUT_SECONDS) -> None:
        self._max_body_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds
        self._held_bytes = 0

    async def read(self, receive: Receive) -> Body | None:
        """The whole body; None if the sender goes away before its end.

        Raises ``StoreError`` if it comes too slowly, or if too many large ones come at the same time.
        """
        reading = _Reading(self._max_body_bytes)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                is_whole = await self._read_all(receive, reading)
        except TimeoutError:
            # What is too large is not asked for again; its beginning says what it was.
            if not reading.is_too_large:
                raise StoreError("the body came too slowly", hint="Try again.", code="intake-slow") from None
            return reading.body(is_whole=False)
        finally:
            self._held_bytes -= reading.held_bytes
        return reading.body(is_whole=True) if is_whole else None

    async def _read_all(self, receive: Receive, reading: _Reading) -> bool:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            before = reading.held_bytes
            reading.add(message.get("body", b""))
            self._held_bytes += reading.held_bytes - before
            if self._held_bytes > MAX_HELD_BYTES and reading.held_bytes < self._held_bytes:
                raise StoreError("too many large bodies at once", hint="Try again later.", code="intake-full")
            if not message.get("more_body", False):
                return True


class _Reading:
    """A body as far as it has come."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._hash = hashlib.sha256()
        self.is_too_large = False
        self.held_bytes = 0

    def add(self, piece: bytes) -> None:
        self._size_bytes += len(piece)
        if not self.is_too_large:
            self._pieces.append(piece)
            self.held_bytes = self._size_bytes
            if self._size_bytes > self._max_body_bytes:
                self._keep_head()
        else:
            self._hash.update(piece)

    def body(self, *, is_whole: bool) -> Body:
        content = b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        if not self.is_too_large:
            return Body(content, self._size_bytes)
        reason = f"the body is larger than {self._max_body_bytes} bytes"
        reason += "" if is_whole else "; its end did not come in time"
        return Body(content, self._size_bytes, self._hash.digest(), reason)

    def _keep_head(self) -> None:
        self.is_too_large = True
        head = bytearray()
        for piece in self._pieces:
            self._hash.update(piece)
            if len(head) < KEPT_HEAD_BYTES:
                head += piece[: KEPT_HEAD_BYTES - len(head)]
        self._pieces = [bytes(head)]
        self.held_bytes = len(head)

"""How does a document reach whoever asked for it, however large it is and however slowly they read?

A walk is made in parts, each in a reader thread on a snapshot of its own. Between them nothing of the database is held,
so that a slow client costs nothing but its own time, and a client that has gone ends the walk.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Final

import structlog
from starlette.types import Receive, Send

from regwarden.errors import StoreError
from regwarden.store.connections import Connection
from regwarden.store.database import Database
from regwarden.web.compat.gitlab_rest_documents import TagPages, Walk
from regwarden.web.compat.gitlab_rest_writers import Writer

PART_BYTES: Final = 256 * 1024
# Below this a packet is sent anyway.
_COMPRESSED_FROM_BYTES: Final = 1_024
_GZIP: Final = 31  # zlib's window size that means the format of gzip
_LEVEL: Final = 5

log = structlog.get_logger("regwarden.compat")


class Telling:
    """A document on its way: call it with a connection for the next part."""

    def __init__(self, walk: Walk, writer: Writer, pages: TagPages, *, is_compressed: bool) -> None:
        self.media_type = writer.media_type
        self.is_done = False
        self.is_compressed = is_compressed
        self._walk = walk
        self._writer = writer
        self._pages = pages
        self._compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._is_first = True

    def __call__(self, connection: Connection) -> bytes:
        """The next part; ``is_done`` says whether it was the last."""
        self._pages.connection = connection
        self.is_done = True
        for _ in self._walk:
            if self._writer.size_bytes >= PART_BYTES:
                self.is_done = False
                break
        part = self._writer.take()
        if self._is_first:
            self._is_first = False
            self.is_compressed = self.is_compressed and (not self.is_done or len(part) >= _COMPRESSED_FROM_BYTES)
        if not self.is_compressed:
            return part
        return self._compressor.compress(part) + (self._compressor.flush() if self.is_done else b"")


async def send_parts(
    telling: Telling,
    first: bytes,
    database: Database,
    start: Callable[[int | None], dict[str, object]],
    channel: Channel,
) -> None:
    """Send ``first`` and what follows; ``start`` makes the first message from the length of the body, if it is known.

    A failing database cuts the answer off: whoever reads it sees that it has no end.
    """
    is_whole = telling.is_done
    await channel.send(start(len(first) if is_whole else None))
    if channel.is_head:
        await channel.send({"type": "http.response.body", "body": b""})
        return
    await channel.send({"type": "http.response.body", "body": first, "more_body": not is_whole})
    gone = asyncio.create_task(channel.wait_until_gone())
    try:
        while not telling.is_done and not gone.done():
            part = await database.read(telling, is_repeatable=False)
            await channel.send({"type": "http.response.body", "body": part, "more_body": not telling.is_done})
    except StoreError as error:
        log.warning("a document is cut off", reason=error.message)
    finally:
        gone.cancel()


class Channel:
    """The two ways between us and whoever asks."""

    def __init__(self, receive: Receive, send: Send, *, is_head: bool) -> None:
        self.send = send
        self.is_head = is_head
        self.receive = receive

    async def wait_until_gone(self) -> None:
        """Return when nobody listens any more."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

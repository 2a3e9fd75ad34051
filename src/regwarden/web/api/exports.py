"""The route that exports: all rows of a noun, from one consistent moment, as CSV or lines of JSON, in little memory."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from regwarden import clock
from regwarden.core.cells import csv_text
from regwarden.core.fields import Noun, resolve_field, usual_fields
from regwarden.errors import InputError, RegwardenError, TooManyAttempts
from regwarden.library import Inventory
from regwarden.web.api.documents import encode
from regwarden.web.api.inventory import Reader
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.questions import TagConditions, fields_named
from regwarden.web.api.routing import new_router

router = new_router("inventory")

# Each holds a connection to the database for as long as the client takes.
_MOST_AT_ONCE: Final = 2
_CHUNK_BYTES: Final = 64 * 1024
_CHUNKS: Final = 4
_SLOWEST_SECONDS: Final = 60.0
_MEDIA_TYPES: Final = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
_PLACES = threading.BoundedSemaphore(_MOST_AT_ONCE)


NounName = Annotated[Noun, Path(description="What is exported.")]


class Export(TagConditions):
    """What is exported, and how it is written."""

    format: Literal["csv", "jsonl"] = Field(default="csv", description="csv, guarded against formulas, or jsonl.")
    columns: str | None = Field(default=None, max_length=2000, description="Which fields: a,b,c. All, if not given.")


@router.get("/exports/{noun}", responses={200: {"content": {"text/csv": {}, "application/jsonl": {}}}})
async def export(caller: Reader, noun: NounName, asked: Annotated[Export, Query()]) -> Response:
    """Export registries, repositories, tags, manifests or blobs, all from one consistent moment.

    In CSV a text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    _check_parts(noun, asked)
    columns = _columns(noun, asked.columns)
    if not _PLACES.acquire(blocking=False):
        raise TooManyAttempts("too many exports at once", retry_after_seconds=30, code="too-many-exports")
    chunks = _Chunks()

    def write(inventory: Inventory) -> None:
        arguments = asked.arguments(noun)

        def consume(rows: Iterable[dict[str, object]]) -> None:
            for chunk in _written(rows, columns, asked.format):
                chunks.put(chunk)

        with fields_named():
            inventory.consume(noun, consume, *asked.selectors, **arguments)

    running = asyncio.create_task(_run(caller.ask, write, chunks))
    first = await _next(chunks, running)
    if isinstance(first, RegwardenError):
        await running
        raise first
    name = f"{noun}-{clock.now():%Y%m%dT%H%M%SZ}.{asked.format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(_stream(first, chunks, running), 200, headers, media_type=_MEDIA_TYPES[asked.format])


async def _run(ask: Any, write: Any, chunks: _Chunks) -> None:
    """Write everything; the end, or the error, is the last thing in ``chunks``."""
    try:
        await ask(write)
    except RegwardenError as error:
        await run_in_threadpool(chunks.finish, error)
    except _Gone:
        pass
    else:
        await run_in_threadpool(chunks.finish, None)
    finally:
        _PLACES.release()


async def _stream(first: bytes | None, chunks: _Chunks, running: asyncio.Task[None]) -> AsyncIterator[bytes]:
    chunk: bytes | RegwardenError | None = first
    try:
        while chunk is not None:
            if isinstance(chunk, RegwardenError):
                raise chunk  # the answer has begun: ending it without its end is all that can be said
            yield chunk
            chunk = await _next(chunks, running)
    finally:
        chunks.close()
        with suppress(asyncio.CancelledError):
            await running


async def _next(chunks: _Chunks, running: asyncio.Task[None]) -> bytes | RegwardenError | None:
    """The next chunk; what was unforeseen and ended the writing is raised, for nothing more would ever come."""
    getting = asyncio.create_task(chunks.get())
    await asyncio.wait({getting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not getting.done() and running.done() and not running.cancelled() and (error := running.exception()):
        getting.cancel()
        raise error
    return await getting


class _Gone(Exception):
    """Nobody takes the chunks any more."""


class _Chunks:
    """A few chunks on their way from the thread that reads rows to the client; whoever is slow holds the other up."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | RegwardenError | None] = asyncio.Queue(_CHUNKS)
        self._is_closed = False

    def put(self, chunk: bytes) -> None:
        """Hand a chunk over, from a thread. Raises ``_Gone``."""
        self._put(chunk)

    def finish(self, error: RegwardenError | None) -> None:
        """Nothing more will come, from a thread."""
        with suppress(_Gone):
            self._put(error)

    def _put(self, chunk: bytes | RegwardenError | None) -> None:
        if self._is_closed:
            raise _Gone
        putting = asyncio.run_coroutine_threadsafe(self._queue.put(chunk), self._loop)
        try:
            putting.result(_SLOWEST_SECONDS)
        except TimeoutError:
            putting.cancel()
            self._is_closed = True
            raise _Gone from None

    async def get(self) -> bytes | RegwardenError | None:
        """The next chunk; ``None`` at the end."""
        if self._is_closed:
            raise InputError("the export was taken too slowly", code="too-slow")
        return await self._queue.get()

    def close(self) -> None:
        """Take no more; what waits to be handed over is let go."""
        self._is_closed = True
        while not self._queue.empty():
            self._queue.get_nowait()


def _written(rows: Iterable[dict[str, object]], columns: list[str], form: str) -> Iterator[bytes]:
    """Chunks of some size; one at least, for the first says that it worked."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    if form == "csv":
        writer.writerow(columns)
    for row in rows:
        if form == "csv":
            writer.writerow([csv_text(row.get(name)) for name in columns])
        else:
            buffer.write(encode({name: row.get(name) for name in columns}).decode() + "\n")
        if buffer.tell() >= _CHUNK_BYTES:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _check_parts(noun: Noun, asked: Export) -> None:
    """What the noun does not have is refused before anything is begun."""
    if noun == "registry":
        for name in ("select", "repository", "exclude_repository", "tag", "exclude_tag"):
            if getattr(asked, name):
                raise WrongParameter(name, f"registries are not selected by {name}", code="bad-selector")


def _columns(noun: Noun, text: str | None) -> list[str]:
    names = [name for name in (text or "").split(",") if name.strip()]
    try:
        return [resolve_field(noun, name).name for name in names] or list(usual_fields(noun))
    except InputError as error:
        raise WrongParameter("columns", error.message, hint=error.hint, code=error.code) from error

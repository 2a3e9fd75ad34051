"""A stream of events ends with what it tells of, with the service, or with its client; always in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from regwarden.web.api.streams import EventStream, Sent


@contextmanager
def opened(stopping: asyncio.Event) -> Iterator[asyncio.Event]:
    yield stopping


async def never() -> Any:
    await asyncio.Event().wait()


async def permitted() -> bool:
    return True


async def answered(events: AsyncGenerator[Sent, None], stopping: asyncio.Event) -> bytes:
    """What a client gets; nothing may be complained of behind its back."""
    pieces: list[bytes] = []
    complaints: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        pieces.append(message.get("body", b""))

    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    await EventStream(events, opened(stopping), permitted)({"type": "http"}, never, send)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    return b"".join(pieces)


@pytest.mark.parametrize("is_more", [True, False])
async def test_one_that_ends_as_the_service_does_just_ends(*, is_more: bool) -> None:
    stopping = asyncio.Event()

    async def events() -> AsyncGenerator[Sent, None]:
        yield Sent("first", {})
        stopping.set()
        if is_more:
            yield Sent("more", {})

    assert b"event: first" in await answered(events(), stopping)


async def test_who_never_stops_telling_is_ended_with_the_service() -> None:
    stopping = asyncio.Event()

    async def events() -> AsyncGenerator[Sent, None]:
        while True:
            stopping.set()
            yield Sent("again", {})

    assert (await answered(events(), stopping)).count(b"event: again") <= 2

"""How does a synchronous test use an asynchronous server? It runs in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def running_in_thread(make_server: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Enter ``make_server()`` in a new thread, yield what it gives, and leave it at the end.

    What entering or leaving raises is raised here.
    """
    started: Future[T] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with make_server() as server:
            started.set_result(server)
            await stop.wait()

    ended: Future[None] = Future()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001  the caller's thread raises it
            (ended if started.done() else started).set_exception(error)
        else:
            ended.set_result(None)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="sample server", daemon=True)
    thread.start()
    server = started.result()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
    ended.result()

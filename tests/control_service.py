"""What `regwarden serve` does about commands beside it, and nothing else: for tests of such commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from regwarden.service_commands import service_handlers
from regwarden.service_context import ServiceContext
from regwarden.settings_sources import load_settings
from regwarden.store.database import Access, Database, open_database
from regwarden.store.service_socket import socket_beside
from regwarden.testing.threads import running_in_thread
from regwarden.web.control import control_app, control_socket


@contextmanager
def control_service(url: str, on_done: Callable[[str], None] = lambda _: None) -> Iterator[Database]:
    """The database at ``url`` opened to write in a thread, with the commands on the socket beside it."""
    path = socket_beside(url)
    assert path is not None

    @asynccontextmanager
    async def serve() -> AsyncIterator[Database]:
        with open_database(url, access=Access.WRITE, create=True) as database:

            async def note(name: str) -> None:
                on_done(name)

            context = ServiceContext(database, load_settings({}, database=url), {}, note)
            async with control_socket(path, control_app(service_handlers(context))):
                yield database

    with running_in_thread(serve) as database:
        yield database

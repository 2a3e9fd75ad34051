"""The application of ``/api/v1`` on a real database with two crawled registries; who asks is who the token names."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.types import ASGIApp

from regwarden.core.access import Area, Grant, Principal, PrincipalKind, Role
from regwarden.core.patterns import parse_pattern
from regwarden.errors import Unauthorized
from regwarden.library_time import PastAnswers
from regwarden.service_commands import service_handlers
from regwarden.service_context import ServiceContext
from regwarden.settings_sections import parse_listen_address
from regwarden.settings_sources import load_settings
from regwarden.store.database import Access, Database, open_database
from regwarden.web.api.application import build_api
from regwarden.web.api.context import ApiParts
from regwarden.web.listening import bound, serving, shown_address
from tests.crawling import open_inventory
from tests.sample_inventory import small_registry
from tests.web.conftest import Answer as SentAnswer

REGISTRIES = ("other", "prod")


def area(registries: tuple[str, ...] = (), repositories: tuple[str, ...] = ()) -> Area:
    """An area from texts of patterns."""
    return Area(tuple(map(parse_pattern, registries)), tuple(map(parse_pattern, repositories)))


class FakeAuthenticator:
    """``Authorization: Bearer NAME`` is the principal that was added under this name; nobody else is known."""

    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {}

    def add(self, name: str, role: Role | None, *areas: Area, kind: PrincipalKind = PrincipalKind.TOKEN) -> Principal:
        """Somebody with a role in these areas, or everywhere; ``None`` is somebody without any role."""
        grants = () if role is None else tuple(Grant(role, one) for one in areas or (Area(),))
        principal = Principal(id=f"{kind}:{name}", name=name, kind=kind, grants=grants)
        self.principals[name] = principal
        return principal

    async def authenticate(self, request: Request) -> Principal:
        scheme, _, name = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or name not in self.principals:
            raise Unauthorized("nobody is signed in", hint="Send a token.")
        return self.principals[name]


@dataclass
class Answer(SentAnswer):
    """What came back."""

    @property
    def items(self) -> list[dict[str, Any]]:
        """The entries of a list."""
        found: list[dict[str, Any]] = self.json["_embedded"]["items"]
        return found


@dataclass
class Api:
    """The application and who may ask it; ``ask`` needs no network, ``served`` gives the address of a listener."""

    app: ASGIApp
    people: FakeAuthenticator
    database: Database
    parts: ApiParts

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str | None = "admin",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; ``path`` begins behind ``/api/v1``, and a ``body`` that is not bytes is sent as JSON."""
        return await ask_app(self.app, method, f"/api/v1{path}", body, who=who, headers=headers)

    async def get(self, path: str, *, who: str | None = "admin", headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("GET", path, who=who, headers=headers)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """A listener of its own; the address has no path."""
        with bound(parse_listen_address("127.0.0.1:0")) as listeners:
            async with serving(self.app, listeners, None):
                yield shown_address(listeners[0], is_tls=False)


async def ask_app(
    app: ASGIApp,
    method: str,
    path: str,
    body: Any = None,
    *,
    who: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request to an application, without a network; ``path`` may have a query."""
    sent = {**(headers or {}), **({} if who is None else {"Authorization": f"Bearer {who}"})}
    payload = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    if body is not None and not isinstance(body, bytes):
        sent.setdefault("Content-Type", "application/json")
    raw, _, query = path.partition("?")
    messages = [{"type": "http.request", "body": payload, "more_body": False}]
    answer, is_done = Answer(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not messages:
            await is_done.wait()
            return {"type": "http.disconnect"}
        return messages.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode().lower(): value.decode() for key, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                is_done.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "server": ("127.0.0.1", 8350),
        "client": ("10.1.2.3", 40000),
        "root_path": "",
        "path": _decoded(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
    }
    await app(scope, receive, send)
    return answer


def _decoded(raw: str) -> str:
    from urllib.parse import unquote

    return unquote(raw)


@pytest.fixture(scope="session")
def crawled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the small registry of tests/sample_inventory.py, twice: as ``prod`` and as ``other``."""
    file = tmp_path_factory.mktemp("crawled") / "inventory.sqlite3"

    async def crawl(name: str, address: str) -> None:
        from regwarden.flows.crawl import CrawlOptions, RegistryTarget
        from regwarden.flows.crawl import crawl as run
        from regwarden.flows.services import Services

        async with open_inventory(address, f"sqlite:///{file}") as inventory:
            services = Services(inventory.database, inventory.now, {name: inventory.connector})
            await run(services, RegistryTarget(name, address, endpoint_fingerprint="one"), CrawlOptions())

    with ExitStack() as stack:
        for name in REGISTRIES:
            registry = stack.enter_context(small_registry())
            asyncio.run(crawl(name, registry.url))
    return file


@pytest.fixture
def api_database(crawled_file: Path, tmp_path: Path) -> Iterator[Database]:
    """The two registries in a database of this test alone, open to be written."""
    file = tmp_path / "inventory.sqlite3"
    shutil.copy(crawled_file, file)
    with open_database(f"sqlite:///{file}", access=Access.WRITE) as database:
        yield database


@pytest.fixture
def api_parts(api_database: Database) -> Iterator[ApiParts]:
    """What the application is made with; replace what a test needs otherwise."""
    loaded = load_settings({}, database=api_database.url)
    commands = service_handlers(ServiceContext(api_database, loaded, {}))
    past = PastAnswers(loaded.settings)
    yield ApiParts(
        database=api_database,
        loaded=loaded,
        environ={},
        authenticator=FakeAuthenticator(),
        commands=commands,
        past=past,
    )
    past.close()


@pytest.fixture
def api(api_parts: ApiParts) -> Api:
    """The application; ``admin``, ``viewer`` and one principal for each other role are known by name.

    ``web`` may see team/web of prod alone, ``nobody`` has no role.
    """
    people = api_parts.authenticator
    assert isinstance(people, FakeAuthenticator)
    for role in Role:
        people.add(str(role), role)
    people.add("web", Role.VIEWER, area(("prod",), ("team/web",)))
    people.add("nobody", None)
    return Api(build_api(api_parts), people, api_parts.database, api_parts)

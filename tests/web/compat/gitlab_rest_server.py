"""The interface of gitlab-registry-usage-rest on a database that a person can check, with a directory of its people."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec
from sqlalchemy import insert
from sqlalchemy.engine import Connection

from regwarden.core.role_rules import SignedIn
from regwarden.errors import ProviderError, Unauthorized
from regwarden.settings import RegistrySettings, Settings
from regwarden.settings_access import RoleRule
from regwarden.store import schema
from regwarden.store.database import Database
from regwarden.store.times import to_micros
from regwarden.web.attempts import Attempts
from regwarden.web.authentication import Authentication
from regwarden.web.compat.gitlab_rest import GitlabRestParts, gitlab_rest_app, open_gitlab_rest
from regwarden.web.compat.gitlab_rest_tokens import INTERFACE
from tests.web.conftest import Answer

CRAWLED_AT = datetime(2026, 11, 1, 12, 0, 0, 500_000, tzinfo=UTC)
NOW = datetime(2026, 11, 2, tzinfo=UTC)
# In catalog order, which is not that of the names: size, disk_size, tags.
REPOSITORIES: dict[str, tuple[int | None, int | None, dict[str, tuple[int | None, int | None]]]] = {
    "team/app": (240, 100, {"1.0": (100, 60), "2.0": (140, 40)}),
    "plain": (7, 7, {"latest": (7, 7)}),
    "denied": (None, None, {}),
    "empty": (0, 0, {}),
    "tags/tags": (24, 0, {"tags": (24, 0), "unread": (None, None)}),
}
RULES = (
    RoleRule(role="viewer", users=("alice",)),
    RoleRule(role="admin", users=("root",), registries=("prod",), repositories=("glob:team/**",)),
    RoleRule(role="viewer", users=("stranger",), registries=("other",)),
)


@dataclass
class FakeDirectory:
    """Everybody's password is their name backwards; while it is down nobody is known."""

    is_down: bool = False
    asked: list[str] = field(default_factory=list)

    async def sign_in(self, username: str, password: str) -> SignedIn:
        self.asked.append(username)
        await asyncio.sleep(0)
        if self.is_down:
            raise ProviderError("the directory is down")
        if not password or password != username[::-1]:
            raise Unauthorized("no", code="bad-login")
        return SignedIn("ldap", f"ldap:{username.lower()}-uuid", username.lower(), login=f"uid={username}")


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class GitlabRest:
    """The interface, asked without a network."""

    parts: GitlabRestParts
    authentication: Authentication
    directory: FakeDirectory
    clock: Clock
    mount: str = ""

    def __post_init__(self) -> None:
        self.app = gitlab_rest_app(self.parts, mount=self.mount or "/")

    async def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """One request, with nobody's authorization; ``path`` as it is sent, below the mount, with its query."""
        return await ask_app(self.app, f"{self.mount}{path}", method, headers or {}, body)

    async def get(self, path: str, *, who: str = "alice", **headers: str) -> Answer:
        """A request of somebody who signed in."""
        authorization = {"Authorization": f"Bearer {await self.token(who)}"}
        return await self.ask(path, headers=authorization | {k.replace("_", "-"): v for k, v in headers.items()})

    async def token(self, who: str = "alice") -> str:
        answer = await self.ask("/auth_token", headers=basic(who, who[::-1]))
        assert answer.status == 200, answer
        token: str = answer.json["auth_token"]
        return token


async def ask_app(app: Any, path: str, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
    answer = Answer()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {}
            for name, value in message["headers"]:
                known = answer.headers.get(name.decode())
                answer.headers[name.decode()] = value.decode() if known is None else f"{known}, {value.decode()}"
        else:
            answer.body += message.get("body", b"")

    plain, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(plain),
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("10.1.2.3", 40000),
    }
    await app(scope, receive, send)
    return answer


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"}


def fill(connection: Connection, repositories: Iterable[tuple[str, Any]] = tuple(REPOSITORIES.items())) -> None:
    """The registry ``prod`` with these repositories, and ``other`` with one that nobody must see."""
    at = to_micros(CRAWLED_AT)
    for number, name in ((1, "prod"), (2, "other")):
        row = {"id": number, "name": name, "url": f"https://{name}.example", "kind": "distribution"}
        connection.execute(insert(schema.registries).values(**row, first_seen_at=at, crawled_at=at))
    known = [(1, *one) for one in repositories] + [(2, "secret", (1, 1, {"x": (1, 1)}))]
    for position, (registry, name, (size, disk, tags)) in enumerate(known, 1):
        sizes = {"layer_bytes": size, "disk_bytes": disk, "tag_count": len(tags), "state": "complete"}
        row = {"id": position, "registry_id": registry, "name": name, "catalog_position": position, **sizes}
        connection.execute(insert(schema.repositories).values(**row, first_seen_at=at))
        rows = [
            {"repository_id": position, "name": tag, "layer_bytes": a, "disk_bytes": b}
            | {"state": "ok", "first_seen_at": at, "tagged_at": at}
            for tag, (a, b) in tags.items()
        ]
        if rows:
            connection.execute(insert(schema.tags), rows)


@asynccontextmanager
async def opened(database: Database, *, mount: str = "", lifetime: str = "2w") -> AsyncIterator[GitlabRest]:
    """The interface on ``database``."""
    time, directory = Clock(), FakeDirectory()
    authentication = Authentication(database, now=time, installation="test", legacy={INTERFACE: timedelta(days=14)})
    await authentication.reload()
    settings = Settings(registry=(RegistrySettings(name="prod", url="https://prod.example"),), role=RULES)
    chosen = msgspec.structs.replace(settings.compat.gitlab_registry_usage_rest, token_lifetime=lifetime)
    settings = msgspec.structs.replace(
        settings, compat=msgspec.structs.replace(settings.compat, gitlab_registry_usage_rest=chosen)
    )
    parts = open_gitlab_rest(
        database, settings, authentication=authentication, attempts=Attempts(), directory=directory, now=time
    )
    yield GitlabRest(parts, authentication, directory, time, mount)

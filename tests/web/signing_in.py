"""A directory for tests of signing in, and all that stands before it, on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request

from regwarden.core.role_rules import SignedIn, parse_rule
from regwarden.errors import ProviderError, Unauthorized
from regwarden.identity.tokens_file import TokensFile
from regwarden.settings_access import RoleRule
from regwarden.store.database import Access, Database, open_database
from regwarden.web.authentication import Authentication
from regwarden.web.sign_ins import Lifetimes, SignIns

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
RULES = (
    RoleRule(role="viewer", everyone=True),
    RoleRule(role="admin", groups=("admins",)),
)


class Clock:
    """The present moment, set by hand."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **units: float) -> None:
        self.moment += timedelta(**units)


@dataclass
class Directory:
    """People by name, each with the password ``right``; may be down."""

    people: dict[str, SignedIn] = field(default_factory=dict)
    is_down: bool = False
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, *groups: str) -> None:
        self.people[name] = SignedIn(
            provider="ldap",
            subject=f"ldap:{name}",
            name=name,
            display_name=name.title(),
            groups=frozenset(groups),
            login=f"uid={name}",
        )

    def change(self, name: str, /, **fields: Any) -> None:
        self.people[name] = replace(self.people[name], **fields)

    async def sign_in(self, username: str, password: str) -> SignedIn:
        self.asked.append(username)
        self._require_up()
        if password != "right" or username.lower() not in self.people:
            raise Unauthorized("the name or the password is wrong", code="bad-login")
        return self.people[username.lower()]

    async def look_up(self, login: str) -> SignedIn:
        self._require_up()
        name = login.removeprefix("uid=")
        if name not in self.people:
            raise Unauthorized("the account is not there", code="bad-login")
        return self.people[name]

    def _require_up(self) -> None:
        if self.is_down:
            raise ProviderError("the directory cannot be asked", code="directory-unreachable")


@dataclass
class World:
    """All that signing in needs."""

    database: Database
    clock: Clock
    directory: Directory
    authentication: Authentication
    sign_ins: SignIns


@contextmanager
def world(folder: Path, *, tokens_file: Path | None = None) -> Iterator[World]:
    """A world with ann (an administrator) and bob, in a fresh database; ``reload`` of it is left to the test."""
    with closing(open_database(f"sqlite:///{folder / 'a.sqlite3'}", access=Access.WRITE, create=True)) as database:
        clock, directory = Clock(), Directory()
        directory.add("ann", "admins")
        directory.add("bob")
        authentication = Authentication(
            database,
            now=clock,
            installation="here",
            tokens_file=None if tokens_file is None else TokensFile(tokens_file),
            legacy={"old": timedelta(days=14)},
        )
        lifetimes = Lifetimes(access=timedelta(minutes=15), refresh=timedelta(hours=8))
        sign_ins = SignIns(
            database, authentication, rules=tuple(map(parse_rule, RULES)), lifetimes=lifetimes, now=clock
        )
        yield World(database, clock, directory, authentication, sign_ins)


def request_with(authorization: str | None, client: tuple[str, int] | None = ("192.0.2.7", 1)) -> Request:
    """A request with this header."""
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": client})

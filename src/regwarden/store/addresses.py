"""Which database does the user mean? Parses what may stand in ``--database`` and hides the password for display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from regwarden.errors import InputError

MEMORY: Final = ":memory:"

_HINT: Final = "Use sqlite:///FILE, :memory: or postgresql://USER@HOST/NAME."
_POSTGRESQL_SCHEMES: Final = ("postgresql://", "postgres://", "postgresql+psycopg://")
_SECRET_PARAMETERS: Final = frozenset({"password", "passfile", "sslpassword", "sslkey", "oauth_client_secret"})


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A parsed database address: a SQLite ``file`` (None: in memory) or PostgreSQL's connection ``parameters``.

    ``display_url`` is safe to show: it has no password.
    """

    dialect: Literal["sqlite", "postgresql"]
    display_url: str
    file: Path | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_database_address(text: str) -> DatabaseAddress:
    """Understand a SQLite or PostgreSQL URL, ``:memory:``, or a libpq string such as ``host=db dbname=regwarden``.

    A pair of double quotes around it is dropped: regstat's documented connection string had them.
    Raises InputError; its message never repeats the text, which may hold a password.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    if text in (MEMORY, "sqlite://", "sqlite:///:memory:"):
        return DatabaseAddress("sqlite", f"sqlite:///{MEMORY}")
    if text.startswith("sqlite:///"):
        return _parse_file(text.removeprefix("sqlite:///"))
    if text.startswith(_POSTGRESQL_SCHEMES) or ("://" not in text and "=" in text):
        return _parse_conninfo(text)
    message = "the database address is neither a SQLite nor a PostgreSQL one"
    raise InputError(message, hint=_HINT, code="bad-database-address")


def without_password(address: DatabaseAddress) -> tuple[str, bool]:
    """A PostgreSQL address as a libpq string that may stand in a file, and whether a password was left out."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 -- slow to import, and SQLite does not need it

    kept = {name: value for name, value in address.parameters.items() if name not in ("password", "sslpassword")}
    usual = ("host", "hostaddr", "port", "user", "dbname")
    ordered = {name: kept[name] for name in (*usual, *kept) if name in kept}
    return make_conninfo(**ordered), len(kept) < len(address.parameters)


def _parse_file(path: str) -> DatabaseAddress:
    if not path or "?" in path or "\0" in path:
        message = "the SQLite address must be sqlite:/// and a file name, without parameters"
        raise InputError(message, hint=_HINT, code="bad-database-address")
    file = Path(path).expanduser()
    return DatabaseAddress("sqlite", f"sqlite:///{file}", file=file)


def _parse_conninfo(text: str) -> DatabaseAddress:
    from psycopg import ProgrammingError  # noqa: PLC0415 -- slow to import, and SQLite does not need it
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    for scheme in _POSTGRESQL_SCHEMES:
        if text.startswith(scheme):
            text = "postgresql://" + text.removeprefix(scheme)
    try:
        parsed = conninfo_to_dict(text)
    except ProgrammingError:
        # libpq's own message can repeat the text with its password.
        message = "the PostgreSQL address cannot be understood"
        raise InputError(message, hint=_HINT, code="bad-database-address") from None
    parameters = {name: str(value) for name, value in parsed.items() if value is not None}
    return DatabaseAddress("postgresql", _display(parameters), parameters=parameters)


def _display(parameters: Mapping[str, str]) -> str:
    user = f"{quote(parameters['user'], safe='')}@" if "user" in parameters else ""
    host = parameters.get("host", parameters.get("hostaddr", ""))
    shown_host = quote(host, safe=",:[]") if host.startswith("/") or ":" not in host else f"[{host}]"
    port = f":{parameters['port']}" if "port" in parameters else ""
    shown = {"user", "host", "hostaddr", "port", "dbname"} | _SECRET_PARAMETERS
    rest = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items() if name not in shown)
    return f"postgresql://{user}{shown_host}{port}/{quote(parameters.get('dbname', ''))}{'?' + rest if rest else ''}"

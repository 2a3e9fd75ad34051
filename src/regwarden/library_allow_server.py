"""How is a service asked over HTTP whether an image may run? For pipelines, which have no database."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from regwarden._version import __version__
from regwarden.core.network_addresses import is_loopback_host
from regwarden.core.text import printable
from regwarden.errors import InputError, ProviderError
from regwarden.settings_sources import read_secret_file

TOKEN_VARIABLE: Final = "REGWARDEN_TOKEN"  # noqa: S105 -- the name of a variable
_PATH: Final = "/api/v1/allow/check"
_TIMEOUT_SECONDS: Final = 10.0
_MOST_BYTES: Final = 1_000_000
_UNKNOWN: Final = 3


class ServerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the service answered; ``outcome`` is allow, deny or unknown."""

    image: str
    outcome: str
    reason: str = ""
    detail: str = ""
    entry_ids: tuple[int, ...] = ()
    digest: str | None = None
    is_stale: bool = False
    warnings: tuple[str, ...] = ()


def find_token(environ: Mapping[str, str], file: str | None) -> str:
    """The token of ``file``, else of the environment. Raises ``InputError`` (code ``no-service-token``)."""
    token = read_secret_file(Path(file).expanduser()).reveal() if file else environ.get(TOKEN_VARIABLE, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        hint = f"Set {TOKEN_VARIABLE}, or give --token-file FILE."
        raise InputError("there is no token for the service", hint=hint, code="no-service-token")
    return token


def ask_server(url: str, token: str, *, image: str, cluster: str = "", namespace: str = "") -> ServerAnswer:
    """The answer of the service at ``url`` (https, or http on this machine).

    Raises ``InputError`` for an address that cannot be used, ``ProviderError`` (code ``no-answer``, exit status 3)
    where there is no answer that can be understood.
    """
    connection, path = _connect(url)
    place = {name: value for name, value in (("cluster", cluster), ("namespace", namespace)) if value}
    headers = {"Authorization": f"Bearer {token}", "User-Agent": f"regwarden/{__version__}"}
    try:
        connection.request("GET", f"{path}{_PATH}?{urlencode({'image': image, **place})}", headers=headers)
        response = connection.getresponse()
        body = response.read(_MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(f"{url} cannot be asked: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise _no_answer(f"{url} answered {response.status}{_detail(body)}")
    try:
        answer = msgspec.json.decode(body, type=ServerAnswer)
    except msgspec.DecodeError as error:
        raise _no_answer(f"{url} gave an answer that cannot be understood: {error}") from error
    return answer


def _connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    hint = "Write https://HOST[:PORT]; http:// only for this machine, because a token is sent."
    try:
        port = parts.port
    except ValueError:
        host = ""
    if not host or parts.username or parts.query or parts.fragment or parts.scheme not in ("http", "https"):
        raise InputError(f"{printable(url, 160)!r} is not an address of a service", hint=hint)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context), _prefix(parts.path)
    if not is_loopback_host(host):
        raise InputError(f"a token is not sent to {printable(url, 160)!r} without TLS", hint=hint)
    return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS), _prefix(parts.path)


def _prefix(path: str) -> str:
    return path.rstrip("/")


def _detail(body: bytes) -> str:
    try:
        told: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    detail = told.get("detail") if isinstance(told, dict) else None
    return f": {printable(detail, 300)}" if isinstance(detail, str) else ""


def _no_answer(message: str) -> ProviderError:
    error = ProviderError(message, hint="Nothing is known; treat it as refused.", code="no-answer")
    error.exit_status = _UNKNOWN
    return error

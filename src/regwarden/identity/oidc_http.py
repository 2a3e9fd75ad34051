"""How is an identity provider asked? Small JSON documents, in little time, and nowhere that it was not meant to be.

No redirect is followed. Every address that a name stands for is checked before it is connected to.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from regwarden.core.network_addresses import forbidden_host_reason, forbidden_reason, is_loopback_host
from regwarden.errors import InputError, ProviderError

MAX_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 5.0
_CONNECTIONS: Final = 8
_MAX_URL_LENGTH: Final = 2048


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered: the status, and the fields of its JSON object (none if it is something else)."""

    status: int
    fields: Mapping[str, Any] = field(repr=False)


class ForbiddenAddress(OSError):
    """A name stands for an address that is never connected to."""


class ProviderHttp:
    """Requests to one provider; ``issuer`` decides whether plain HTTP and loopback addresses may be."""

    def __init__(self, name: str, issuer: str, ca_bundle: str = "") -> None:
        """Raises ``InputError`` if the authorities cannot be read."""
        self.name = name
        self._is_loopback = is_loopback_host(URL(issuer).host or "")
        self._is_plain = URL(issuer).scheme == "http"
        self._tls = _tls(ca_bundle)
        self._session: aiohttp.ClientSession | None = None

    def check_endpoint(self, address: object, what: str) -> str:
        """``address`` if requests or browsers may be sent there, else ``ProviderError``.

        It is https on whatever host the issuer's own document names (large providers use several); plain HTTP and
        loopback only where the issuer has them too.
        """
        try:
            url = URL(address) if isinstance(address, str) and len(address) <= _MAX_URL_LENGTH else URL()
            host = url.host or ""
        except ValueError:
            url, host = URL(), ""
        schemes = {"https", "http"} if self._is_plain else {"https"}
        if url.scheme not in schemes or not host or url.user is not None or url.fragment:
            raise self.failure(f"its {what} is no address that can be used")
        if url.scheme == "http" and not is_loopback_host(host):
            raise self.failure(f"its {what} is not on this machine and has no TLS")
        if not self._is_loopback and is_loopback_host(host):
            raise self.failure(f"its {what} is on this machine")
        if reason := forbidden_host_reason(host, allow_loopback=self._is_loopback):
            raise self.failure(f"its {what} is {reason}")
        return str(address)

    async def get(self, url: str, what: str) -> Mapping[str, Any]:
        """The JSON object at ``url``; raises ``ProviderError`` for anything but a plain 200."""
        reply = await self._ask("GET", url, what)
        if reply.status != 200:
            raise self.failure(f"its {what} was answered with status {reply.status}")
        return reply.fields

    async def post(self, url: str, what: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The answer to a form; raises ``ProviderError`` if there is none, or one of 5xx or 3xx."""
        reply = await self._ask("POST", url, what, form, headers)
        if reply.status >= 500 or 300 <= reply.status < 400:
            raise self.failure(f"its {what} answered with status {reply.status}")
        return reply

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def failure(self, reason: str) -> ProviderError:
        """The error that says why nobody can sign in with this provider."""
        return ProviderError(
            f"the identity provider {self.name} cannot be used: {reason}",
            hint="Try again later; the service's log and the provider's say more.",
            code="provider-unusable",
        )

    async def _ask(
        self,
        method: str,
        url: str,
        what: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        session = self._session or self._open()
        try:
            async with session.request(method, url, data=form, headers=headers, allow_redirects=False) as response:
                body = await self._read(response, what)
                return Reply(response.status, self._parse(body, what, is_needed=response.status == 200))
        except TimeoutError:
            raise self.failure(f"its {what} took longer than {TIMEOUT_SECONDS:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self.failure(f"its {what} could not be asked ({type(error).__name__})") from error

    async def _read(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() not in {"identity", ""}:
            raise self.failure(f"its {what} was answered compressed, which was not asked for")
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > MAX_BYTES:
                response.close()
                raise self.failure(f"its {what} was answered with more than {MAX_BYTES} bytes")
        return bytes(body)

    def _parse(self, body: bytes, what: str, *, is_needed: bool) -> Mapping[str, Any]:
        try:
            found = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        if is_needed:
            raise self.failure(f"its {what} was answered with something that is no JSON object")
        return {}

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                ssl=self._tls,
                resolver=_Resolver(DefaultResolver(), allow_loopback=self._is_loopback),
            ),
            headers={"User-Agent": "regwarden", "Accept": "application/json", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        )
        return self._session


class _Resolver(AbstractResolver):
    """Resolves names once; what it answers is what is connected to."""

    def __init__(self, inner: AbstractResolver, *, allow_loopback: bool) -> None:
        self._inner = inner
        self._allow_loopback = allow_loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for entry in found:
            if reason := forbidden_reason(entry["host"], allow_loopback=self._allow_loopback):
                message = f"{host} stands for {reason}"
                raise ForbiddenAddress(message)
        return found

    async def close(self) -> None:
        await self._inner.close()


def _tls(ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(Path(ca_bundle).expanduser()) if ca_bundle else None)
    except OSError as error:
        raise InputError(
            f"the CA bundle {ca_bundle} cannot be loaded: {error.strerror or 'it is not usable'}",
            hint="Give a PEM file that can be read.",
            code="bad-tls-files",
        ) from None

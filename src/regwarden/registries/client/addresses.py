"""Which hosts and network addresses may a registry's answers make us talk to?

Rules: nothing outside the configured hosts; never link-local, metadata, multicast or unspecified addresses; loopback
for blob redirects only when the registry itself is there. Every address is checked once and then connected to.
"""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from regwarden.core.network_addresses import forbidden_host_reason, forbidden_reason, is_loopback_host

__all__ = [
    "ForbiddenAddress",
    "GuardedResolver",
    "check_literal",
    "forbidden_reason",
    "is_loopback_host",
    "matches_host",
]


class ForbiddenAddress(OSError):
    """A name resolved to an address that we never connect to."""


def matches_host(url: URL, entries: tuple[str, ...]) -> bool:
    """Whether the URL's host is one of ``entries``: ``host``, ``host:port`` or ``*.domain`` (below it only)."""
    host, port = (url.host or "").lower(), url.port
    for raw in entries:
        entry, wanted_port = _split(raw.lower())
        if wanted_port is not None and wanted_port != port:
            continue
        if entry == host or (entry.startswith("*.") and host.endswith(entry[1:]) and len(host) > len(entry) - 1):
            return True
    return False


def check_literal(url: URL, *, allow_loopback: bool) -> str:
    """Like ``forbidden_reason`` for a URL whose host is an address; empty for names, which are checked later."""
    return forbidden_host_reason(url.host or "", allow_loopback=allow_loopback)


class GuardedResolver(AbstractResolver):
    """Resolves names once and refuses those with a forbidden address.

    ``configured`` are the hosts the user named; for all others loopback is refused unless ``loopback_everywhere``.
    """

    def __init__(self, inner: AbstractResolver, configured: frozenset[str], *, loopback_everywhere: bool) -> None:
        self._inner = inner
        self._configured = configured
        self._loopback_everywhere = loopback_everywhere

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of ``host``; raises ``ForbiddenAddress`` if any of them must not be used."""
        found = await self._inner.resolve(host, port, family)
        allow_loopback = self._loopback_everywhere or host.lower() in self._configured
        for entry in found:
            if reason := forbidden_reason(entry["host"], allow_loopback=allow_loopback):
                raise ForbiddenAddress(f"{host} resolves to {reason}")
        return found

    async def close(self) -> None:
        """End the resolver."""
        await self._inner.close()


def _split(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
    return host, int(port) if port.isdigit() else None

"""Which hosts and network addresses may a registry's answers make us talk to?

Rules: nothing outside the configured hosts; never link-local, metadata, multicast or unspecified addresses; loopback
for blob redirects only when the registry itself is there. Every address is checked once and then connected to.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4: Final = ipaddress.IPv6Network("2002::/16")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def forbidden_reason(text: str, *, allow_loopback: bool) -> str:
    """Why ``text`` (an address literal) must not be connected to; empty when it may be."""
    try:
        address = _canonical(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return "not a plain address"
    if address in _METADATA or address.is_link_local:
        return "a link-local or metadata address"
    if address.is_multicast or address.is_unspecified:
        return "a multicast or unspecified address"
    if address.is_loopback and not allow_loopback:
        return "a loopback address"
    return ""


def check_literal(url: URL, *, allow_loopback: bool) -> str:
    """Like ``forbidden_reason`` for a URL whose host is an address; empty for names, which are checked later."""
    host = url.host or ""
    # Numeric oddities (127.1, 0x7f000001, 2130706433) reach the socket unresolved: only plain literals pass.
    if ":" in host or host.replace(".", "").isdigit() or host.lower().startswith("0x"):
        return forbidden_reason(host, allow_loopback=allow_loopback)
    return ""


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


def is_loopback_host(host: str) -> bool:
    """Whether a configured host is this machine by name or literal (no look-up)."""
    if host.lower() == "localhost":
        return True
    try:
        return _canonical(ipaddress.ip_address(host)).is_loopback
    except ValueError:
        return False


def _split(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
    return host, int(port) if port.isdigit() else None


def _canonical(address: _Address) -> _Address:
    """The IPv4 address inside a mapped, NAT64 or 6to4 one, which would otherwise look public."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _6TO4:
            return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address

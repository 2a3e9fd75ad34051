"""Which network addresses does nobody ever make us talk to, whatever their name?

Link-local, metadata, multicast and unspecified addresses; loopback where it is not what was configured.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4: Final = ipaddress.IPv6Network("2002::/16")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def forbidden_host_reason(host: str, *, allow_loopback: bool) -> str:
    """Like ``forbidden_reason`` for a host that is an address; empty for names, which are checked once resolved."""
    # Numeric oddities (127.1, 0x7f000001, 2130706433) reach the socket unresolved: only plain literals pass.
    if ":" in host or host.replace(".", "").isdigit() or host.lower().startswith("0x"):
        return forbidden_reason(host, allow_loopback=allow_loopback)
    return ""


def is_loopback_host(host: str) -> bool:
    """Whether a configured host is this machine by name or literal (no look-up)."""
    if host.lower() == "localhost":
        return True
    try:
        return _canonical(ipaddress.ip_address(host)).is_loopback
    except ValueError:
        return False


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

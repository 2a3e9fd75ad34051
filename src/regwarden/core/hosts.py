"""Which registry does an event mean? Its host, compared with the addresses and other names of the registries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_DEFAULT_PORTS: Final = ("443", "80")


def normalise_host(text: str) -> str:
    """``host[:port]`` of a host or an address: lower case, without scheme, path, final dot and default port.

    The default ports of both schemes are left out, because a Host header does not say which scheme was used.
    """
    authority = text.strip().lower().partition("://")[2] or text.strip().lower()
    authority = authority.partition("/")[0].rpartition("@")[2]
    host, separator, port = authority.rpartition(":")
    if not separator or not port.isdigit():  # no port, or the inside of an IPv6 literal
        host, port = authority, ""
    host = host.removesuffix(".")
    return host if not port or port in _DEFAULT_PORTS else f"{host}:{port}"


def hosts_by_registry(registries: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Normalised host → registry, from each registry's address and aliases; the first registry keeps a host."""
    hosts: dict[str, str] = {}
    for registry, names in registries.items():
        for name in names:
            if host := normalise_host(name):
                hosts.setdefault(host, registry)
    return hosts

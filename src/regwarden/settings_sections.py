"""What can be configured about the service: its listeners, its schedule, what it keeps, how pulls are told apart.

Like the classes of ``settings``, these are the reference from which documents and the manual are made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from regwarden.errors import InputError
from regwarden.settings_access import GitlabRegistryUsageRestSettings, ImagelistSettings

CLASSES = ("workload", "ci", "human", "scanner", "replicator", "crawler", "other")
MAX_PORT: Final = 65535
UNIX_PEER: Final = "unix"
_UNIX: Final = "unix:"
_LISTEN: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(?P<port>[0-9]{1,5})")


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service that `regwarden serve` runs."""

    listen: Annotated[
        tuple[str, ...],
        Meta(description="Addresses to listen on: HOST:PORT, or unix:/path/to/socket. --listen overrules it."),
    ] = ("127.0.0.1:8350",)
    api_enabled: Annotated[bool, Meta(description="Serve /api/v1 and /auth, to those who show a token.")] = True
    public_url: Annotated[
        str,
        Meta(
            description="How others reach this service: printed for registries, and where people sign in.",
            extra={"example": "https://regwarden.example.com"},
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                'Networks of reverse proxies ("unix": at Unix sockets) whose X-Forwarded-For is believed; they must '
                "set it themselves."
            ),
            extra={"example": ["127.0.0.1/32", "unix"]},
        ),
    ] = ()
    tls_certificate: Annotated[
        str,
        Meta(
            description="PEM file with the certificate chain; every listener then serves TLS. Read again when changed.",
            extra={"example": "/etc/regwarden/tls.crt"},
        ),
    ] = ""
    tls_key: Annotated[
        str,
        Meta(
            description="PEM file with its key, if it is not in the same file.",
            extra={"example": "/etc/regwarden/tls.key"},
        ),
    ] = ""


class EventSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long what notifications brought is kept. The state learned from them is not touched."""

    keep_bodies: Annotated[str, Meta(description="How long bodies of deliveries that were applied are kept.")] = "24h"
    keep_quarantine: Annotated[
        str, Meta(description="How long deliveries that could not be read, or whose registry is unknown, are kept.")
    ] = "90d"
    keep_events: Annotated[
        str, Meta(description="How long single events are kept, and duplicates of them recognised.")
    ] = "90d"
    keep_pulls: Annotated[str, Meta(description="How long daily pull counts are kept.")] = "800d"


class CleanupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of plans that have come to an end."""

    keep_trash: Annotated[
        str,
        Meta(description="How long the bytes of removed manifests are kept after their plan was finished or undone."),
    ] = "365d"


class PullSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pulls count as use."""

    use: Annotated[
        tuple[str, ...],
        Meta(description="Classes whose pulls set `pulled_at`; the others are counted, but are not use."),
    ] = ("workload", "ci", "human", "other")


class PullRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule that gives pulls a class. What is set must match; the first rule that does decides."""

    pull_class: Annotated[
        str,
        Meta(description="workload, ci, human, scanner, replicator, crawler or other.", extra={"example": "ci"}),
    ]
    user_agent: Annotated[str, Meta(description="Pattern of the user agent.", extra={"example": "glob:buildkit/*"})] = (
        ""
    )
    actor: Annotated[str, Meta(description="Pattern of the user's name.", extra={"example": "glob:robot-*"})] = ""
    network: Annotated[
        tuple[str, ...], Meta(description="Networks of the client's address.", extra={"example": ["10.1.0.0/16"]})
    ] = ()
    method: Annotated[str, Meta(description="GET or HEAD.", extra={"example": "HEAD"})] = ""
    repository: Annotated[str, Meta(description="Pattern of the repository.", extra={"example": "glob:team/**"})] = ""


class RegstatSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A listener as regstat had it: any path, any method; an event goes to its registry by `request.host`."""

    listen: Annotated[
        str, Meta(description="Address to listen on; empty: there is none.", extra={"example": "0.0.0.0:3333"})
    ] = ""
    unauthenticated: Annotated[
        bool, Meta(description="Take events from anybody, as regstat did; otherwise a registry's secret is asked for.")
    ] = False
    registry: Annotated[
        str,
        Meta(description="All events are of this registry, whatever host they name.", extra={"example": "production"}),
    ] = ""


class CompatSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Interfaces of the predecessors."""

    regstat: RegstatSettings = RegstatSettings()
    imagelist: ImagelistSettings = ImagelistSettings()
    gitlab_registry_usage_rest: GitlabRegistryUsageRestSettings = GitlabRegistryUsageRestSettings()


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen: a host and port (0: any free one), or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}" if self.path else f"{_bracketed(self.host)}:{self.port}"


def parse_listen_address(text: str) -> ListenAddress:
    """``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:/path``; raises ``InputError``."""
    if text.startswith(_UNIX) and text != _UNIX and "\0" not in text:
        return ListenAddress(path=text.removeprefix(_UNIX))
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > MAX_PORT:
        raise InputError(
            f"{text[:120]!r} is not an address to listen on",
            hint="Write HOST:PORT, for example 127.0.0.1:8350, 0.0.0.0:8350 (all interfaces) or unix:/path/to/socket.",
        )
    return ListenAddress(match["host"].strip("[]"), int(match["port"]))


def check_proxy(text: str) -> str:
    """Return ``text`` if it is a network, an address or ``unix``, else raise ``InputError``."""
    if text != UNIX_PEER:
        try:
            ip_network(text)
        except ValueError:
            hint = 'Write a network such as 10.0.0.0/8, an address, or "unix".'
            raise InputError(f"{text[:120]!r} is no network of proxies", hint=hint) from None
    return text


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

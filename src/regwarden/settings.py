"""What can be configured: the registries, the database and the limits, each with its meaning and default.

The classes are the reference: ``config default``, ``config show`` and the manual are made from them.
Where the values come from is in ``settings_sources``.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from regwarden.errors import InputError
from regwarden.settings_access import AllowSettings, AuthSettings, LdapSettings, OidcSettings, RoleRule
from regwarden.settings_sections import (
    CleanupSettings,
    CompatSettings,
    EventSettings,
    PullRule,
    PullSettings,
    ServerSettings,
)

_NAME = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:/\[\]-]{0,254}")
_HOST = re.compile(r"[^\s/\\?#@]+")

Path = Annotated[str, Meta(extra={"example": "/etc/regwarden/FILE"})]


class Secret:
    """A password that shows itself only when asked with ``reveal``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How carefully registries are asked, unless a registry says otherwise."""

    concurrency: Annotated[
        int, Meta(ge=1, le=256, description="Requests in flight at the same time, for each registry.")
    ] = 16
    requests_per_second: Annotated[
        float,
        Meta(ge=0, le=1e6, description="The most requests started per second, for each registry; 0 is no limit."),
    ] = 0.0
    received_bytes_per_second: Annotated[
        int, Meta(ge=0, description="The most bytes taken per second, for each registry; 0 is no limit.")
    ] = 0
    request_budget: Annotated[
        int, Meta(ge=0, description="The most requests of one crawl, retries included; 0 is no limit.")
    ] = 0
    connect_timeout_seconds: Annotated[float, Meta(gt=0, description="How long connecting to a registry may take.")] = (
        10.0
    )
    request_timeout_seconds: Annotated[
        float, Meta(gt=0, description="How long a registry may take for one answer.")
    ] = 30.0
    retries: Annotated[
        int, Meta(ge=0, le=20, description="How often a request that failed for the moment is tried again.")
    ] = 5
    page_size: Annotated[
        int, Meta(ge=1, le=10000, description="How many names are asked for per page of a listing.")
    ] = 1000
    max_manifest_bytes: Annotated[
        int, Meta(ge=1024, description="A manifest or index larger than this is recorded as a problem, not read.")
    ] = 4 * 1024 * 1024
    crawl_every: Annotated[
        str,
        Meta(
            description='How often the service crawls: a duration (1h, 30m), a cron line in UTC ("0 3 * * *") or never.'
        ),
    ] = "1h"


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One registry."""

    name: Annotated[str, Meta(description="What this registry is called in commands and output.")]
    url: Annotated[
        str,
        Meta(
            description="https://host[:port]; http:// only where the registry has no TLS.",
            extra={"example": "https://registry.example.com"},
        ),
    ]
    kind: Annotated[
        str,
        Meta(
            description='The kind of registry: "distribution" is anything with the OCI API, "gitlab" one of a GitLab.',
            extra={"example": "gitlab"},
        ),
    ] = "distribution"
    gitlab_url: Annotated[
        str,
        Meta(
            description="Of kind gitlab: the address of GitLab itself, which issues the tokens and has the projects.",
            extra={"example": "https://gitlab.example.com"},
        ),
    ] = ""
    gitlab_groups: Annotated[
        tuple[str, ...],
        Meta(
            description="Of kind gitlab: read these groups with their subgroups. Without groups and projects: all.",
            extra={"example": ["team"]},
        ),
    ] = ()
    gitlab_projects: Annotated[
        tuple[str, ...],
        Meta(description="Of kind gitlab: read these projects.", extra={"example": ["team/app"]}),
    ] = ()
    gitlab_token_file: Annotated[
        Path,
        Meta(description="Of kind gitlab: file with a token for GitLab's API, where it is not the password."),
    ] = ""
    username: Annotated[
        str, Meta(description="User name; without one the Docker configuration is asked.", extra={"example": "reader"})
    ] = ""
    password_file: Annotated[
        Path, Meta(description="File whose first line is the password or access token of that user.")
    ] = ""
    password_env: Annotated[
        str,
        Meta(description="Environment variable that holds the password.", extra={"example": "PRODUCTION_PASSWORD"}),
    ] = ""
    docker_config: Annotated[
        Path, Meta(description="Docker config.json with the credentials, instead of the user's own.")
    ] = ""
    digest_auth: Annotated[bool, Meta(description="The registry asks for HTTP Digest authentication.")] = False
    client_certificate: Annotated[Path, Meta(description="PEM file with the client certificate.")] = ""
    client_key: Annotated[Path, Meta(description="PEM file with its key, if it is not in the same file.")] = ""
    ca_bundle: Annotated[Path, Meta(description="PEM file with the authorities to trust, instead of the system's.")] = (
        ""
    )
    token_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts beside the registry's own that may be given the credentials to issue tokens.",
            extra={"example": ["auth.example.com"]},
        ),
    ] = ()
    blob_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts to which the registry may redirect downloads (never with credentials).",
            extra={"example": ["storage.example.com"]},
        ),
    ] = ()
    concurrency: Annotated[
        int, Meta(ge=0, le=256, description="Requests in flight at the same time; 0 takes the default.")
    ] = 0
    requests_per_second: Annotated[
        float, Meta(ge=0, le=1e6, description="The most requests started per second; 0 takes the default.")
    ] = 0.0
    received_bytes_per_second: Annotated[
        int, Meta(ge=0, description="The most bytes taken per second; 0 takes the default.")
    ] = 0
    request_budget: Annotated[int, Meta(ge=0, description="The most requests of one crawl; 0 takes the default.")] = 0
    crawl_every: Annotated[
        str,
        Meta(
            description="How often the service crawls it, as in [defaults]; empty takes the default.",
            extra={"example": "30m"},
        ),
    ] = ""
    aliases: Annotated[
        tuple[str, ...],
        Meta(
            description="Other names under which clients call it, host[:port]; events that name them are its events.",
            extra={"example": ["registry.internal:5000"]},
        ),
    ] = ()
    hook_secret_files: Annotated[
        tuple[str, ...],
        Meta(
            description="Files whose first lines authenticate its notifications, at most two; without, one is made.",
            extra={"example": ["/etc/regwarden/hook-secret"]},
        ),
    ] = ()
    storage_path: Annotated[
        str,
        Meta(
            description="Folder of the registry's storage, if it can be read here, to measure what a collection frees.",
            extra={"example": "/var/lib/docker-registry"},
        ),
    ] = ""
    collect_command: Annotated[
        tuple[str, ...],
        Meta(
            description="Program and arguments that collect its garbage, for `plan finish --collect`. No shell.",
            extra={"example": ["/usr/local/sbin/collect-registry-garbage", "production"]},
        ),
    ] = ()
    collect_timeout: Annotated[str, Meta(description="How long that command may take.")] = "6h"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    version: Annotated[int, Meta(ge=1, le=1, description="The version of this file's format.")] = 1
    database: Annotated[
        str,
        Meta(
            description="sqlite:///FILE or postgresql://USER@HOST/NAME; empty is a file in the user's data directory.",
            extra={"example": "sqlite:////var/lib/regwarden/regwarden.sqlite3"},
        ),
    ] = ""
    defaults: Defaults = Defaults()
    server: ServerSettings = ServerSettings()
    events: EventSettings = EventSettings()
    pulls: PullSettings = PullSettings()
    cleanup: CleanupSettings = CleanupSettings()
    auth: AuthSettings = AuthSettings()
    ldap: LdapSettings = LdapSettings()
    allow: AllowSettings = AllowSettings()
    pull_rule: tuple[PullRule, ...] = ()
    oidc: tuple[OidcSettings, ...] = ()
    role: tuple[RoleRule, ...] = ()
    compat: CompatSettings = CompatSettings()
    registry: tuple[RegistrySettings, ...] = ()


def parse_registry_url(text: str) -> str:
    """Normalise ``https://host[:port][/prefix]``, ``http://…`` or a bare ``host[:port]`` (taken as https).

    Raises ``InputError`` for anything else; a user name or password in the address is refused, because
    addresses end in shell histories, process lists and logs.
    """
    address = text.strip()
    if "://" not in address:
        address = f"https://{address}"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if "@" in parts.netloc:
        raise InputError(
            "the address of a registry must not contain a user name or password",
            hint="Give them separately, for example with --user and --password-stdin.",
            code="bad-registry-url",
        )
    if parts.scheme not in {"http", "https"} or not host or not _HOST.fullmatch(host) or parts.query or parts.fragment:
        raise InputError(
            f"{text[:120]!r} is not the address of a registry",
            hint="Give an address such as https://registry.example.com or http://localhost:5000.",
            code="bad-registry-url",
        )
    path = parts.path.rstrip("/").removesuffix("/v2").rstrip("/")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def registry_name_of(url: str) -> str:
    """The name a registry has when none is given: its ``host[:port][/prefix]``."""
    return url.partition("://")[2]


def check_registry_name(name: str) -> str:
    """Return ``name`` if it can be a registry's name, else raise ``InputError``."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:120]!r} cannot be a registry's name",
            hint="Use letters, digits and . _ - : / [ ], beginning with a letter or digit.",
        )
    return name


def looks_like_url(text: str) -> bool:
    """Whether a word is meant as an address rather than as the name of a configured registry."""
    return "://" in text or "." in text or ":" in text or text == "localhost"

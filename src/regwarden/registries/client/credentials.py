"""Who are we for a registry, and where does that come from: arguments, environment or the Docker configuration?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regwarden.errors import InputError
from regwarden.registries.client.docker_config import DockerLogin, find_docker_login


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials."""


@dataclass(frozen=True, slots=True)
class Basic:
    """A user name and a password, for Basic, Digest and token requests alike."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if ":" in self.username or not self.username:
            raise InputError(
                "the user name is empty or contains a colon",
                hint="Give the user name and the password separately.",
                code="bad-credentials",
            )


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """A refresh token of a token server, as ``docker login`` stores it."""

    token: str = field(repr=False)


Credentials = Anonymous | Basic | IdentityToken


def denial_hint(credentials: Credentials) -> str:
    """What to do when a registry or its token server refuses these credentials."""
    if isinstance(credentials, Anonymous):
        return "Give --user and --password-stdin, or run docker login."
    return "Check the user, the password and what this user may read."


@dataclass(frozen=True, slots=True)
class RegistryEnvironment:
    """What docker-registry-util's environment variables say; empty or ``None`` where they say nothing."""

    registry: str = ""
    credentials: Credentials | None = None
    use_digest_auth: bool = False
    client_certificate: Path | None = None
    client_key: Path | None = None
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class ResolvedCredentials:
    """The chosen credentials, where they came from (for people), and what went wrong on the way."""

    credentials: Credentials
    source: str
    warnings: tuple[str, ...] = ()


def from_environment(environ: Mapping[str, str]) -> RegistryEnvironment:
    """Read ``REGISTRY…`` and ``REQUESTS_CA_BUNDLE`` as docker-registry-util did.

    Any non-empty ``REGISTRY_USE_DIGEST_AUTH`` is true, also ``0``. Raises ``InputError`` for a bad user name.
    """
    username = environ.get("REGISTRY_USER", "")
    return RegistryEnvironment(
        registry=environ.get("REGISTRY", "").strip(),
        credentials=Basic(username, environ.get("REGISTRY_PASSWORD", "")) if username else None,
        use_digest_auth=bool(environ.get("REGISTRY_USE_DIGEST_AUTH", "")),
        client_certificate=_path(environ.get("REGISTRY_CLIENT_CERT", "")),
        client_key=_path(environ.get("REGISTRY_CLIENT_KEY", "")),
        ca_bundle=_path(environ.get("REQUESTS_CA_BUNDLE", "")),
    )


def find_docker_credentials(
    host: str, config_path: Path | None, environ: Mapping[str, str]
) -> tuple[Credentials | None, tuple[str, ...]]:
    """Credentials for ``host`` (``name[:port]``) in the Docker configuration, and warnings.

    ``config_path`` is a file; without it ``DOCKER_CONFIG`` or the home directory decides. May run a credential
    helper, so it can block: call it in a thread. Raises ``InputError`` when a named file cannot be read.
    """
    login = find_docker_login(host, config_path, environ)
    return _credentials(login), login.warnings


async def resolve_credentials(
    host: str,
    *,
    explicit: Credentials | None = None,
    environ: Mapping[str, str],
    config_path: Path | None = None,
) -> ResolvedCredentials:
    """Choose the credentials for ``host`` (``name[:port]``): explicit, environment, Docker configuration, none.

    The environment's user counts only when ``REGISTRY`` is absent or names the same host: a password meant for
    one registry must not reach another.
    """
    if explicit is not None:
        return ResolvedCredentials(explicit, "given")
    environment = from_environment(environ)
    if environment.credentials is not None and _names_host(environment.registry, host):
        return ResolvedCredentials(environment.credentials, "environment")
    found, warnings = await asyncio.to_thread(find_docker_credentials, host, config_path, environ)
    if found is not None:
        return ResolvedCredentials(found, "docker configuration", warnings)
    return ResolvedCredentials(Anonymous(), "none", warnings)


def _names_host(registry: str, host: str) -> bool:
    if not registry:
        return True
    return registry.rpartition("://")[2].partition("/")[0].lower() == host.lower()


def _credentials(login: DockerLogin) -> Credentials | None:
    if login.identity_token:
        return IdentityToken(login.identity_token)
    if login.username:
        return Basic(login.username, login.password)
    return None


def _path(text: str) -> Path | None:
    return Path(text) if text else None

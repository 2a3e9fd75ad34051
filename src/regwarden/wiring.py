"""How do settings become a running program? The only place that names concrete adapters.

From a word of the user (a name or an address) and the settings to the registry meant, its credentials, its connector.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from regwarden import clock
from regwarden.core.allow_images import compared_host, host_of
from regwarden.core.projects import FoundRegistry
from regwarden.core.pulls import Classifier
from regwarden.core.quantities import parse_duration
from regwarden.errors import InputError, NotFound
from regwarden.flows.allow_questions import build_allow_options
from regwarden.flows.allowing import AllowList
from regwarden.flows.crawl import RegistryTarget
from regwarden.flows.ingest import EventRegistry, Folding
from regwarden.flows.services import Services
from regwarden.registries.api import Connector
from regwarden.registries.client.addresses import is_loopback_host
from regwarden.registries.client.credentials import (
    Anonymous,
    Basic,
    Credentials,
    RegistryEnvironment,
    ResolvedCredentials,
    from_environment,
    resolve_credentials,
)
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import open_connector
from regwarden.registries.gitlab.configuring import find_registry
from regwarden.registries.gitlab.connector import open_gitlab
from regwarden.registries.gitlab.settings import GitLabSettings
from regwarden.settings import (
    Defaults,
    RegistrySettings,
    Secret,
    Settings,
    check_registry_name,
    looks_like_url,
    parse_registry_url,
    registry_name_of,
)
from regwarden.settings_checks import check_gitlab
from regwarden.settings_mistakes import nearest
from regwarden.settings_sources import LoadedSettings, read_secret, read_secret_file, revise_registry
from regwarden.store.database import Database
from regwarden.store.installation import ensure_installation_id
from regwarden.store.purging import Keeping

T = TypeVar("T")
Warn = Callable[[str], None]

_PREDECESSORS_LOGIN: Final = frozenset({"REGISTRY", "REGISTRY_USER", "REGISTRY_PASSWORD"})
_GITLAB: Final = "gitlab"
_ANY_NAME: Final = "regwarden"  # GitLab does not look at the name beside an access token


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """A registry, the password given for it, and what the predecessor's environment variables say about it.

    ``api_token`` is the token for the API of a GitLab, where it is not the password.
    """

    registry: RegistrySettings
    password: Secret | None = None
    environment: RegistryEnvironment = field(default_factory=RegistryEnvironment)
    api_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class OpenedRegistry:
    """A registry that can be asked, and how it will see us."""

    target: RegistryTarget
    connector: Connector
    credentials_source: str


def resolve_registry(
    word: str,
    loaded: LoadedSettings,
    environ: Mapping[str, str],
    *,
    known: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> RegistryAccess:
    """The registry that ``word`` means: a configured name, one ``known`` to the inventory (name → URL), an address.

    ``changes`` overrule its settings (``password``: a ``Secret``). Raises ``NotFound`` if no registry is meant,
    ``InputError`` for an address or credentials that make no sense.
    """
    overrides = dict(changes or {})
    password: Secret | None = overrides.pop("password", None)
    registry, is_typed = _find_registry(word, loaded, known or {})
    if new_name := overrides.get("name"):
        check_registry_name(new_name)
    if overrides.get("gitlab_url"):
        overrides["kind"] = _GITLAB
    elif registry.kind != _GITLAB and (overrides.get("gitlab_groups") or overrides.get("gitlab_projects")):
        hint = "Add --gitlab https://gitlab.example.com, its own address."
        raise InputError("groups or projects were given without their GitLab", hint=hint)
    registry = check_gitlab(revise_registry(registry, overrides), "what was given")
    if password is not None and not registry.username and registry.kind != _GITLAB:
        raise InputError("a password was given without a user name", hint="Add --user USER.", code="bad-credentials")
    if password is None and "username" not in overrides:
        password = read_secret(registry, loaded, environ)
    file = registry.gitlab_token_file
    api_token = read_secret_file(Path(file).expanduser()) if file else None
    return RegistryAccess(registry, password, _environment_for(registry, environ, is_typed=is_typed), api_token)


def credentials_of(access: RegistryAccess) -> Credentials | None:
    """The credentials that were named for this registry; ``None`` leaves it to the Docker configuration."""
    registry = access.registry
    if not registry.username and registry.kind == _GITLAB and access.password is not None:
        return Basic(_ANY_NAME, access.password.reveal())
    if not registry.username:
        return None if registry.docker_config else access.environment.credentials
    if access.password is None:
        raise InputError(
            f"registry {registry.name} has the user {registry.username} but no password",
            hint="Use --password-stdin or --password-file, or password_file in the configuration.",
            code="bad-credentials",
        )
    return Basic(registry.username, access.password.reveal())


def client_settings(access: RegistryAccess, credentials: Credentials, installation: str) -> ClientSettings:
    """How the client reaches this registry."""
    registry, environment = access.registry, access.environment
    return ClientSettings(
        url=registry.url,
        credentials=credentials,
        use_digest_auth=registry.digest_auth or environment.use_digest_auth,
        client_certificate=_path(registry.client_certificate) or environment.client_certificate,
        client_key=_path(registry.client_key) or environment.client_key,
        ca_bundle=_path(registry.ca_bundle) or environment.ca_bundle,
        token_hosts=registry.token_hosts,
        blob_hosts=registry.blob_hosts,
        installation=installation,
    )


def limits_for(registry: RegistrySettings, defaults: Defaults) -> Limits:
    """How much this registry may be asked; what it does not say itself, the defaults say."""
    return Limits(
        connections=registry.concurrency or defaults.concurrency,
        requests_per_second=registry.requests_per_second or defaults.requests_per_second or None,
        received_bytes_per_second=registry.received_bytes_per_second or defaults.received_bytes_per_second or None,
        request_budget=registry.request_budget or defaults.request_budget or None,
        manifest_bytes=defaults.max_manifest_bytes,
        page_size=defaults.page_size,
        request_timeout_seconds=defaults.request_timeout_seconds,
        connect_timeout_seconds=defaults.connect_timeout_seconds,
        retries=defaults.retries,
    )


@asynccontextmanager
async def open_registry(
    access: RegistryAccess, defaults: Defaults, installation: str, *, environ: Mapping[str, str], warn: Warn
) -> AsyncIterator[OpenedRegistry]:
    """A connector for the registry, closed at the end; nothing is asked yet. ``warn`` is told what looks unsafe."""
    registry = access.registry
    # What the predecessor's variables say is in the access already, bound to the registry that they mean.
    remaining = {name: value for name, value in environ.items() if name not in _PREDECESSORS_LOGIN}
    found = await resolve_credentials(
        urlsplit(registry.url).netloc,
        explicit=credentials_of(access),
        environ=remaining,
        config_path=_path(registry.docker_config),
    )
    for warning in found.warnings:
        warn(warning)
    settings = client_settings(access, found.credentials, installation)
    for url in filter(None, (settings.url, registry.gitlab_url)):
        if _is_sent_in_clear(url, access, found.credentials):
            host = urlsplit(url).netloc
            warn(f"credentials for {host} are sent unencrypted, because its address begins with http://")
    connector = _open_connector(access, settings, limits_for(registry, defaults))
    try:
        identity = fingerprint(settings.url, found.credentials, scope=_scope(registry))
        target = RegistryTarget(registry.name, settings.url, registry.kind, identity)
        yield OpenedRegistry(target, connector, _source(access, found))
    finally:
        await connector.close()


async def find_gitlab(
    gitlab_url: str, token: Secret | None, *, groups: Sequence[str] = (), projects: Sequence[str] = ()
) -> FoundRegistry:
    """What a GitLab that is not configured yet tells of its registry; nothing else is asked than GitLab itself.

    Raises ``RegistryError``, ``NotFound``, and ``InputError`` for an address that makes no sense.
    """
    credentials = Anonymous() if token is None else Basic(_ANY_NAME, token.reveal())
    settings = ClientSettings(gitlab_url, credentials=credentials)
    return await find_registry(
        GitLabSettings(settings, settings.url, groups=tuple(groups), projects=tuple(projects)), Limits(retries=2)
    )


@asynccontextmanager
async def open_services(
    database: Database,
    accesses: Sequence[RegistryAccess],
    defaults: Defaults,
    *,
    environ: Mapping[str, str],
    warn: Warn,
) -> AsyncIterator[tuple[Services, tuple[RegistryTarget, ...]]]:
    """What a flow needs to work on these registries, and the registries as flows call them."""
    installation = await database.write(lambda connection: ensure_installation_id(connection, new_installation_id()))
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_registry(access, defaults, installation, environ=environ, warn=warn))
            for access in accesses
        ]
        connectors = {one.target.name: one.connector for one in opened}
        yield Services(database, clock.now, dict(connectors)), tuple(one.target for one in opened)


def build_folding(settings: Settings, installation: str) -> Folding:
    """How events are read with these settings. Raises ``InputError`` for a rule about pulls that cannot be used."""
    registries = (EventRegistry(one.name, one.url, one.kind, one.aliases) for one in settings.registry)
    classifier = Classifier(settings.pull_rule)
    return Folding(installation, classifier.classify, frozenset(settings.pulls.use), tuple(registries))


def build_keeping(settings: Settings) -> Keeping:
    """How long what notifications brought, and what plans removed, is kept.

    Raises ``InputError`` for what is not a duration.
    """
    kept = settings.events
    return Keeping(
        bodies=parse_duration(kept.keep_bodies),
        quarantine=parse_duration(kept.keep_quarantine),
        events=parse_duration(kept.keep_events),
        pulls=parse_duration(kept.keep_pulls),
        trash=parse_duration(settings.cleanup.keep_trash),
        decisions=parse_duration(settings.allow.keep_decisions),
    )


def registry_hosts(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Under which hosts each configured registry is known, in the form in which images are compared."""
    return {
        one.name: tuple(dict.fromkeys(compared_host(host_of(text)) for text in (one.url, *one.aliases)))
        for one in settings.registry
    }


def build_allow_list(database: Database, settings: Settings) -> AllowList:
    """The allow-list as it answers in a service; it must be opened."""
    return AllowList(database, build_allow_options(settings.allow), registry_hosts(settings))


def new_installation_id() -> str:
    """A random id by which our traffic is recognised; kept by the first crawl into a database."""
    return secrets.token_hex(8)


def fingerprint(url: str, credentials: Credentials, *, scope: Sequence[str] = ()) -> str:
    """Identifies an address and who we are there, without any secret: a crawl notices when either changed.

    ``scope`` is what else decides which repositories there are.
    """
    name = credentials.username if isinstance(credentials, Basic) else ""
    text = "\n".join((url, type(credentials).__name__, name, *scope))
    return hashlib.sha256(text.encode()).hexdigest()


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end, on uvloop where there is one; also from within a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="regwarden-loop") as pool:
        return pool.submit(_run, work).result()


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def _find_registry(word: str, loaded: LoadedSettings, known: Mapping[str, str]) -> tuple[RegistrySettings, bool]:
    """The registry's settings, and whether its address was typed rather than configured."""
    if (configured := loaded.find_registry(word)) is not None:
        return configured, False
    if word in known:
        url = known[word]
        return loaded.find_registry_by_url(url) or RegistrySettings(name=word, url=url), True
    if not looks_like_url(word):
        names = sorted({*(registry.name for registry in loaded.settings.registry), *known})
        hint = nearest(word, names) if names else "Give an address such as https://registry.example.com."
        raise NotFound(f"there is no registry called {word[:120]!r}", hint=hint, code="unknown-registry")
    url = parse_registry_url(word)
    if (configured := loaded.find_registry_by_url(url)) is not None:
        return configured, True
    name = next((name for name, address in known.items() if address == url), registry_name_of(url))
    return RegistrySettings(name=name, url=url), True


def _environment_for(registry: RegistrySettings, environ: Mapping[str, str], *, is_typed: bool) -> RegistryEnvironment:
    """The predecessor's variables, if they mean this registry: a password must not reach another one."""
    environment = from_environment(environ)
    if environment.registry:
        is_meant = urlsplit(parse_registry_url(environment.registry)).netloc == urlsplit(registry.url).netloc
    else:
        is_meant = is_typed
    return environment if is_meant else RegistryEnvironment()


def _open_connector(access: RegistryAccess, settings: ClientSettings, limits: Limits) -> Connector:
    registry = access.registry
    if registry.kind != _GITLAB:
        return open_connector(settings, limits)
    token = "" if access.api_token is None else access.api_token.reveal()
    groups, projects = registry.gitlab_groups, registry.gitlab_projects
    return open_gitlab(GitLabSettings(settings, registry.gitlab_url, token, groups, projects), limits)


def _scope(registry: RegistrySettings) -> tuple[str, ...]:
    """What decides which repositories a registry of GitLab shows, besides who we are."""
    if registry.kind != _GITLAB:
        return ()
    groups = (f"group {path}" for path in sorted(registry.gitlab_groups))
    return (registry.gitlab_url, *groups, *(f"project {path}" for path in sorted(registry.gitlab_projects)))


def _is_sent_in_clear(url: str, access: RegistryAccess, credentials: Credentials) -> bool:
    parts = urlsplit(url)
    is_anonymous = isinstance(credentials, Anonymous) and access.api_token is None
    return parts.scheme == "http" and not is_anonymous and not is_loopback_host(parts.hostname or "")


def _source(access: RegistryAccess, found: ResolvedCredentials) -> str:
    if found.source != "given":
        return found.source
    is_in_settings = access.registry.username or access.password is not None
    return "settings" if is_in_settings else "environment"


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None

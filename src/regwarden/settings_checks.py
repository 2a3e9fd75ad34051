"""Do the settings make sense beyond the type of each value? Normalises addresses, refuses what cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import msgspec

from regwarden.core.hosts import normalise_host
from regwarden.core.pull_agents import check_class
from regwarden.core.pulls import check_rule_part, read_rule
from regwarden.core.quantities import parse_duration
from regwarden.core.schedule import parse_schedule
from regwarden.errors import InputError
from regwarden.settings import RegistrySettings, Settings, check_registry_name, parse_registry_url
from regwarden.settings_access_checks import (
    check_allow_list,
    check_directory,
    check_identity_providers,
    check_roles,
    check_sign_ins,
)
from regwarden.settings_mistakes import Lines
from regwarden.settings_mistakes import at_setting as _at
from regwarden.settings_sections import PullRule, check_proxy, parse_listen_address

MAX_HOOK_SECRETS: Final = 2
_MAX_TOKEN_LIFETIME: Final = timedelta(days=366)
_PREFIX: Final = re.compile(r"/|(?:/[A-Za-z0-9._~-]+)+")
_OF_GITLAB: Final = ("gitlab_url", "gitlab_groups", "gitlab_projects", "gitlab_token_file")
_GITLAB_PATH: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.][A-Za-z0-9_.-]*)*")
_REMOVE: Final = "Remove one of them."
_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def check_settings(settings: Settings, lines: Lines, origins: Mapping[str, str]) -> Settings:
    """The settings with addresses normalised. Raises ``InputError`` that begins with the place of the mistake."""
    settings = _check_registries(settings, lines)
    for path, text in _schedules(settings):
        with _at(origins, path):
            parse_schedule(text)
    _check_server(settings, origins)
    for registry in settings.registry:
        with _at(origins, f"registry.{registry.name}.collect_timeout"):
            parse_duration(registry.collect_timeout)
    for key in settings.events.__struct_fields__:
        with _at(origins, f"events.{key}"):
            parse_duration(getattr(settings.events, key))
    with _at(origins, "cleanup.keep_trash"):
        parse_duration(settings.cleanup.keep_trash)
    with _at(origins, "pulls.use"):
        for name in settings.pulls.use:
            check_class(name)
    for number, rule in enumerate(settings.pull_rule, 1):
        _check_rule(rule, f"pull_rule.{number}", origins)
    _check_regstat(settings, origins)
    _check_imagelist(settings, origins)
    _check_gitlab_rest(settings, origins)
    check_directory(settings, origins)
    check_identity_providers(settings, origins)
    check_roles(settings, origins)
    check_sign_ins(settings, origins)
    check_allow_list(settings, origins)
    return settings


def _schedules(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "defaults.crawl_every", settings.defaults.crawl_every
    for registry in settings.registry:
        if registry.crawl_every:
            yield f"registry.{registry.name}.crawl_every", registry.crawl_every


def _check_registries(settings: Settings, lines: Lines) -> Settings:
    """Normalise addresses; names, addresses and aliases must be unique."""
    checked: list[RegistrySettings] = []
    for number, registry in enumerate(settings.registry):
        place = lines.place("registry", "url", number)
        try:
            check_registry_name(registry.name)
            url = parse_registry_url(registry.url)
            aliases = tuple(_check_alias(alias) for alias in registry.aliases)
        except InputError as error:
            raise InputError(f"{place}: {error.message}", hint=error.hint, code=error.code) from None
        _check_kind(registry, place)
        _check_collection(registry, place)
        revised = msgspec.structs.replace(check_gitlab(registry, place), url=url, aliases=aliases)
        for other in checked:
            if registry.name == other.name or url == other.url:
                what = f"name {registry.name}" if registry.name == other.name else f"address {url}"
                is_gitlab = url == other.url and "gitlab" in (registry.kind, other.kind)
                raise InputError(
                    f"{place}: two registries have the {what}",
                    hint="One section may have several gitlab_groups and gitlab_projects." if is_gitlab else _REMOVE,
                )
            _check_aliases_differ(revised, other, place)
        checked.append(revised)
    return msgspec.structs.replace(settings, registry=tuple(checked))


def _check_alias(alias: str) -> str:
    host = normalise_host(alias)
    if "/" in alias or not _HOST.fullmatch(host):
        raise InputError(
            f"the alias {alias[:120]!r} is not a host with an optional port",
            hint="Write it as clients do, without https:// and path: registry.internal:5000",
        )
    return host


def _check_aliases_differ(registry: RegistrySettings, other: RegistrySettings, place: str) -> None:
    """An event that names a host must have one registry."""
    for one, two in ((registry, other), (other, registry)):
        for alias in one.aliases:
            if alias in two.aliases or alias == normalise_host(two.url):
                raise InputError(
                    f"{place}: {alias} means the registries {one.name} and {two.name}",
                    hint="Keep the alias of one of them.",
                )


def _check_kind(registry: RegistrySettings, place: str) -> None:
    if registry.kind not in ("distribution", "gitlab"):
        raise InputError(
            f"{place}: {registry.kind!r} is not a kind of registry that Regwarden knows",
            hint='Write kind = "distribution" or kind = "gitlab".',
        )
    if registry.password_file and registry.password_env:
        raise InputError(
            f"{place}: registry {registry.name} has password_file and password_env", hint="Keep one of them."
        )
    is_gitlab = registry.kind == "gitlab"  # which does not look at the user name beside an access token
    if (registry.password_file or registry.password_env) and not registry.username and not is_gitlab:
        raise InputError(
            f"{place}: registry {registry.name} has a password but no username", hint='Add username = "…".'
        )
    if len(registry.hook_secret_files) > MAX_HOOK_SECRETS:
        raise InputError(
            f"{place}: registry {registry.name} has {len(registry.hook_secret_files)} hook_secret_files",
            hint="Two secrets may be valid at a time; remove the oldest.",
        )


def check_gitlab(registry: RegistrySettings, place: str) -> RegistrySettings:
    """The same with the address of GitLab normalised. Raises ``InputError`` for what cannot be of this kind."""
    given = [name for name in _OF_GITLAB if getattr(registry, name)]
    if registry.kind != "gitlab":
        if given:
            raise InputError(
                f"{place}: registry {registry.name} has {given[0]}, but is not of kind gitlab",
                hint='Add kind = "gitlab", or remove it.',
            )
        return registry
    if not registry.gitlab_url:
        raise InputError(
            f"{place}: registry {registry.name} is of kind gitlab and has no gitlab_url",
            hint='Add gitlab_url = "https://gitlab.example.com"; url is the address of its registry.',
        )
    for path in (*registry.gitlab_groups, *registry.gitlab_projects):
        if not _GITLAB_PATH.fullmatch(path):
            raise InputError(
                f"{place}: {path[:120]!r} is not the path of a group or project",
                hint="Write it as in GitLab's addresses, without a slash at either end: team/app",
            )
    try:
        gitlab_url = parse_registry_url(registry.gitlab_url)
    except InputError as error:
        raise InputError(f"{place}: gitlab_url: {error.message}", hint=error.hint, code=error.code) from None
    return msgspec.structs.replace(registry, gitlab_url=gitlab_url)


def _check_collection(registry: RegistrySettings, place: str) -> None:
    if registry.storage_path and not registry.storage_path.startswith("/"):
        raise InputError(
            f"{place}: storage_path of registry {registry.name} is not an absolute path",
            hint='Write storage_path = "/var/lib/docker-registry".',
        )
    if registry.collect_command and not registry.collect_command[0].strip():
        raise InputError(
            f"{place}: collect_command of registry {registry.name} names no program",
            hint='Write collect_command = ["PROGRAM", "ARGUMENT", "…"].',
        )


def _check_server(settings: Settings, origins: Mapping[str, str]) -> None:
    server = settings.server
    with _at(origins, "server.listen"):
        _check_listeners(server.listen)
    with _at(origins, "server.public_url"):
        if server.public_url and not _is_web_address(server.public_url):
            raise InputError(
                f"{server.public_url[:120]!r} is not an address", hint="Write https://regwarden.example.com"
            )
    with _at(origins, "server.trusted_proxies"):
        for network in server.trusted_proxies:
            check_proxy(network)
    with _at(origins, "server.tls_key"):
        if server.tls_key and not server.tls_certificate:
            raise InputError("there is a key but no certificate", hint='Add tls_certificate = "…" to [server].')


def _check_listeners(listeners: Sequence[str]) -> None:
    for number, listener in enumerate(listeners):
        address = parse_listen_address(listener)
        if address in map(parse_listen_address, listeners[:number]) and address.port != 0:
            raise InputError(f"{listener} is listed twice", hint="Remove one of them.")


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and "@" not in parts.netloc
        )
    except ValueError:
        return False


def _check_rule(rule: PullRule, path: str, origins: Mapping[str, str]) -> None:
    for key in rule.__struct_fields__:
        with _at(origins, f"{path}.{key}"):
            check_rule_part(key, getattr(rule, key))
    with _at(origins, f"{path}.pull_class"):
        read_rule(rule)


def _check_regstat(settings: Settings, origins: Mapping[str, str]) -> None:
    regstat = settings.compat.regstat
    with _at(origins, "compat.regstat.listen"):
        if regstat.listen:
            _check_listeners((*settings.server.listen, regstat.listen))
    with _at(origins, "compat.regstat.unauthenticated"):
        if regstat.unauthenticated and not regstat.listen:
            raise InputError(
                "there is no listener that could take events from anybody",
                hint='Add listen = "0.0.0.0:3333" to [compat.regstat].',
            )
    with _at(origins, "compat.regstat.registry"):
        if regstat.registry and regstat.registry not in {registry.name for registry in settings.registry}:
            raise InputError(
                f"there is no registry called {regstat.registry[:120]!r}", hint="Add it as [[registry]], or correct it."
            )


def _check_imagelist(settings: Settings, origins: Mapping[str, str]) -> None:
    imagelist = settings.compat.imagelist
    with _at(origins, "compat.imagelist.listen"):
        if imagelist.listen:
            others = (settings.compat.regstat.listen,) if settings.compat.regstat.listen else ()
            _check_listeners((*settings.server.listen, *others, imagelist.listen))
    for key in ("unauthenticated_reads", "unauthenticated_writes", "tokens_file"):
        with _at(origins, f"compat.imagelist.{key}"):
            if getattr(imagelist, key) and not (imagelist.enabled or imagelist.listen):
                raise InputError(
                    "the interface of imagelist is not served anywhere",
                    hint='Add enabled = true or listen = "0.0.0.0:8000" to [compat.imagelist].',
                )
    with _at(origins, "compat.imagelist.unauthenticated_writes"):
        if imagelist.unauthenticated_writes and imagelist.tokens_file:
            raise InputError(
                "writing is open to anybody, and there is a tokens file",
                hint="Keep one of unauthenticated_writes and tokens_file.",
            )


def _check_gitlab_rest(settings: Settings, origins: Mapping[str, str]) -> None:
    compat, rest = settings.compat, settings.compat.gitlab_registry_usage_rest
    with _at(origins, "compat.gitlab_registry_usage_rest.listen"):
        if rest.listen:
            others = filter(None, (compat.regstat.listen, compat.imagelist.listen))
            _check_listeners((*settings.server.listen, *others, rest.listen))
    with _at(origins, "compat.gitlab_registry_usage_rest.prefix"):
        if not _PREFIX.fullmatch(rest.prefix):
            raise InputError(f"{rest.prefix[:120]!r} is not a path", hint="Write / or /some/path.")
    with _at(origins, "compat.gitlab_registry_usage_rest.token_lifetime"):
        if not timedelta() < parse_duration(rest.token_lifetime) <= _MAX_TOKEN_LIFETIME:
            raise InputError("tokens are valid for up to 366 days", hint='Write "2w".')
    with _at(origins, "compat.gitlab_registry_usage_rest.registry"):
        if rest.enabled or rest.listen or rest.registry:
            shown_registry(settings)


def shown_registry(settings: Settings) -> str:
    """The name of the one registry that gitlab-registry-usage-rest's interface shows. Raises ``InputError``."""
    named, names = settings.compat.gitlab_registry_usage_rest.registry, [one.name for one in settings.registry]
    if named in names or (not named and len(names) == 1):
        return named or names[0]
    if named:
        hint = "Add it as [[registry]], or correct it."
        raise InputError(f"there is no registry called {named[:120]!r}", hint=hint)
    raise InputError(
        f"the interface shows one registry, and {len(names)} are configured",
        hint='Add registry = "NAME" to [compat.gitlab_registry_usage_rest].',
    )

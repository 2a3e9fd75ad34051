"""Do the settings make sense beyond the type of each value? Normalises addresses, refuses what cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from regwarden.settings_mistakes import Lines
from regwarden.settings_sections import PullRule, parse_listen_address

MAX_HOOK_SECRETS: Final = 2
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
    return settings


def _schedules(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "defaults.crawl_every", settings.defaults.crawl_every
    for registry in settings.registry:
        if registry.crawl_every:
            yield f"registry.{registry.name}.crawl_every", registry.crawl_every


@contextmanager
def _at(origins: Mapping[str, str], path: str) -> Iterator[None]:
    """Raise an ``InputError`` of the block with the place of the setting in front."""
    try:
        yield
    except InputError as error:
        place = origins.get(path, "default").removeprefix("file ")
        raise InputError(f"{place}: {path}: {error.message}", hint=error.hint, code=error.code) from None


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
        revised = msgspec.structs.replace(registry, url=url, aliases=aliases)
        for other in checked:
            if registry.name == other.name or url == other.url:
                what = f"name {registry.name}" if registry.name == other.name else f"address {url}"
                raise InputError(f"{place}: two registries have the {what}", hint="Remove one of them.")
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
    if registry.kind != "distribution":
        raise InputError(
            f"{place}: {registry.kind!r} is not a kind of registry that Regwarden knows",
            hint='Write kind = "distribution".',
        )
    if registry.password_file and registry.password_env:
        raise InputError(
            f"{place}: registry {registry.name} has password_file and password_env", hint="Keep one of them."
        )
    if (registry.password_file or registry.password_env) and not registry.username:
        raise InputError(
            f"{place}: registry {registry.name} has a password but no username", hint='Add username = "…".'
        )
    if len(registry.hook_secret_files) > MAX_HOOK_SECRETS:
        raise InputError(
            f"{place}: registry {registry.name} has {len(registry.hook_secret_files)} hook_secret_files",
            hint="Two secrets may be valid at a time; remove the oldest.",
        )


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

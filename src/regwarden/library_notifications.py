"""Do the events of a registry arrive, and what must its configuration say so that they do?"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from regwarden import clock
from regwarden.core.hook_blocks import PLACEHOLDER, Flavour, Form, find_listening, hook_url, notification_block
from regwarden.core.schedule import next_run, parse_schedule
from regwarden.errors import Conflict, InputError, NotFound, StoreError
from regwarden.settings_sources import read_secret_file
from regwarden.store.drifts import LossReport
from regwarden.store.gitlab_reports import list_gitlab_registries
from regwarden.store.hook_secrets import ensure_hook_secret, load_hook_secrets, rotate_hook_secret
from regwarden.store.notification_reports import NotificationStatus, loss_since, notification_status

if TYPE_CHECKING:
    from regwarden.settings import RegistrySettings, Settings
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

Connection: TypeAlias = Any
Read: TypeAlias = Callable[[Callable[[Connection], Any]], Any]

LOSS_DAYS: Final = 30
_SECRET_BYTES: Final = 32
_NO_FORM: Final = "none"


@dataclass(frozen=True, slots=True)
class RegistrySecrets:
    """The valid secrets of a registry, the newest first, and where they are kept: ``files`` or ``database``."""

    registry: str
    secrets: tuple[str, ...] = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """Which block is wanted: ``form`` lean, full or none, ``flavour`` distribution, gitlab or empty: by the kind.

    ``address`` is that of the service as the registry reaches it; empty: as configured.
    """

    registry: str
    form: str
    flavour: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationReport:
    """How the notifications of a registry stand.

    ``loss`` is about the last ``LOSS_DAYS`` days, ``None`` where the inventory does not have the registry.
    ``block`` is to be pasted into the registry's configuration (empty: not asked for) and sends to ``url``; while
    ``is_usable`` is false something in it must be filled in. ``remarks`` are sentences about it.
    """

    registry: str
    status: NotificationStatus
    loss: LossReport | None
    next_crawl_at: datetime | None
    form: str = _NO_FORM
    flavour: str = ""
    url: str = ""
    block: str = field(default="", repr=False)
    is_usable: bool = True
    remarks: tuple[str, ...] = ()

    def to_record(self) -> Mapping[str, Any]:
        """The report as plain values, for programs."""
        return asdict(self)


def report_notifications(
    asked: BlockRequest,
    loaded: LoadedSettings,
    read: Read,
    secrets_of: Callable[[str], RegistrySecrets] | None,
) -> NotificationReport:
    """The status of a registry, and the block that is asked for; without ``secrets_of`` it has no secret.

    Raises ``InputError`` for an unknown form.
    """
    form, flavour = _chosen(asked, loaded, read)
    status, loss = _read_or(read, lambda connection: _stored(connection, asked.registry), (NotificationStatus(), None))
    next_at = _next_crawl_at(loaded, asked.registry, status.last_started_at)
    known = {"registry": asked.registry, "status": status, "loss": loss, "next_crawl_at": next_at}
    if form is None:
        return NotificationReport(**known)
    secret, about_secret = _secret_for_block(loaded, asked.registry, secrets_of)
    address, about_address = _address(asked.address, loaded.settings)
    url = hook_url(address, asked.registry)
    return NotificationReport(
        **known,
        form=form,
        flavour=flavour,
        url=url,
        block=notification_block(url, secret, form=form, flavour=flavour),
        is_usable=not about_secret and "REGWARDEN-HOST" not in url,
        remarks=(*about_secret, *about_address),
    )


def _chosen(asked: BlockRequest, loaded: LoadedSettings, read: Read) -> tuple[Form | None, Flavour]:
    wanted = asked.flavour
    if not wanted:
        configured = loaded.find_registry(asked.registry)
        known = _read_or(read, lambda connection: list_gitlab_registries(connection, asked.registry), {})
        is_gitlab = bool(known) if configured is None else configured.kind == "gitlab"
        wanted = "gitlab" if is_gitlab else "distribution"
    try:
        return None if asked.form == _NO_FORM else Form(asked.form), Flavour(wanted)
    except ValueError as error:
        hint = "Forms are lean, full and none, flavours distribution and gitlab."
        raise InputError(f"there is no such block: {error}", hint=hint) from None


def _stored(connection: Connection, registry: str) -> tuple[NotificationStatus, LossReport | None]:
    since = clock.now() - timedelta(days=LOSS_DAYS)
    return notification_status(connection, registry), loss_since(connection, registry, since)


def _read_or(read: Read, work: Callable[[Connection], Any], otherwise: Any) -> Any:
    """What ``work`` finds; ``otherwise`` where there is no inventory yet."""
    try:
        return read(work)
    except StoreError as error:
        if error.code != "no-inventory":
            raise
        return otherwise


def _next_crawl_at(loaded: LoadedSettings, registry: str, last_started_at: datetime | None) -> datetime | None:
    """When the service will crawl it next; ``None`` for a registry that it does not crawl."""
    configured = loaded.find_registry(registry)
    if configured is None:
        return None
    schedule = parse_schedule(configured.crawl_every or loaded.settings.defaults.crawl_every)
    return next_run(schedule, last_started_at, clock.now(), seed=registry)


def _secret_for_block(
    loaded: LoadedSettings, registry: str, secrets_of: Callable[[str], RegistrySecrets] | None
) -> tuple[str, tuple[str, ...]]:
    """The newest secret; or a placeholder, and why."""
    if loaded.find_registry(registry) is None:
        remark = (
            f"{registry} is not configured, so its events would not be taken: name it in the configuration file "
            f"([[registry]]), then check it by that name; {PLACEHOLDER} in the block stands for the secret"
        )
        return PLACEHOLDER, (remark,)
    if secrets_of is None:
        return PLACEHOLDER, (
            f"{PLACEHOLDER} in the block stands for the secret: `regwarden registry secret {registry}` prints it",
        )
    try:
        return secrets_of(registry).secrets[0], ()
    except Conflict as error:
        reason = f"{error.message}; the service makes secrets when it starts"
    except StoreError as error:
        if error.code != "no-inventory":
            raise
        reason = error.message
    return PLACEHOLDER, (f"{PLACEHOLDER} in the block stands for a secret that could not be made: {reason}",)


def _address(given: str, settings: Settings) -> tuple[str, tuple[str, ...]]:
    """The address of the service for the block, and what is doubtful about it."""
    if address := given or settings.server.public_url:
        if not address.startswith(("http://", "https://")):
            hint = "Give an address such as https://regwarden.example.com."
            raise InputError(f"{address[:120]!r} is not the address of the service", hint=hint)
        return address, ()
    change = "set server.public_url, or give --hook-url"
    listening = find_listening(settings.server.listen, has_tls=bool(settings.server.tls_certificate))
    if listening is None:
        return "http://REGWARDEN-HOST", (f"the service listens on sockets only, so its address is not known: {change}",)
    if listening.is_everywhere:
        return listening.url, (f"REGWARDEN-HOST in the block stands for the name of the service's machine: {change}",)
    if listening.is_local:
        return listening.url, (
            f"the service listens on {listening.url}, which only a registry on the same machine reaches: {change}",
        )
    return listening.url, ()


def find_secrets(read: Read, loaded: LoadedSettings, registry: str, *, rotate: bool) -> RegistrySecrets | None:
    """The secrets that there are; ``None`` if one is to be made.

    Raises ``NotFound`` for a registry that is not configured, ``Conflict`` where a new one belongs into a file, and
    ``InputError`` for a file that cannot be read.
    """
    configured = loaded.find_registry(registry)
    if configured is None:
        names = ", ".join(one.name for one in loaded.settings.registry[:10]) or "none"
        raise NotFound(
            f"the registry {registry[:160]} is not configured",
            hint=f"Name it in the configuration file: [[registry]]. Configured are: {names}.",
            code="unknown-registry",
        )
    if configured.hook_secret_files:
        return _file_secrets(configured, rotate=rotate)
    known = () if rotate else _read_or(read, load_hook_secrets, {}).get(registry, ())
    return RegistrySecrets(registry, known, "database") if known else None


def _file_secrets(registry: RegistrySettings, *, rotate: bool) -> RegistrySecrets:
    if rotate:
        raise Conflict(
            f"the secrets of {registry.name} are in files",
            hint="Write a new one into another file and name both in hook_secret_files.",
            code="secret-in-file",
        )
    found = tuple(read_secret_file(Path(name).expanduser()).reveal() for name in registry.hook_secret_files)
    return RegistrySecrets(registry.name, found, "files")


def make_secret(database: Database, registry: str, *, rotate: bool) -> RegistrySecrets:
    """Make a secret if there is none, or with ``rotate`` another one, and return the valid ones.

    Raises ``StoreError`` (code ``no-inventory``) for a database in memory: the service would never see it.
    """
    if database.is_in_memory:
        message = "the database :memory: keeps nothing, and so no secret"
        raise StoreError(message, hint="Name a file with --database.", code="no-inventory")

    def work(connection: Connection) -> RegistrySecrets:
        new, now = secrets.token_urlsafe(_SECRET_BYTES), clock.now()
        if rotate:
            rotate_hook_secret(connection, registry, new, now)
        else:
            ensure_hook_secret(connection, registry, new, now)
        return RegistrySecrets(registry, load_hook_secrets(connection)[registry], "database")

    return database.write_now(work)

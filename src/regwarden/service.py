"""What does `regwarden serve` run, in which order does it start, and how does it end?

Deliveries are taken in, applied and answered; registries are crawled by schedule; commands beside the service are run.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import structlog

from regwarden import clock
from regwarden.core.hosts import hosts_by_registry
from regwarden.core.schedule import Schedule, parse_schedule
from regwarden.errors import InputError, RegwardenError, StoreError
from regwarden.flows.crawl import CrawlOptions
from regwarden.flows.ingest import Applied, Applier
from regwarden.flows.intake import Intake
from regwarden.flows.services import Services
from regwarden.jobs.runner import RegistryWork, Runner, RunnerWork
from regwarden.library_tokens import SetupToken, ensure_setup_token
from regwarden.registries.api import Connector
from regwarden.service_commands import service_handlers
from regwarden.service_context import ServiceContext
from regwarden.settings import RegistrySettings, Settings
from regwarden.settings_sections import parse_listen_address
from regwarden.settings_sources import LoadedSettings, default_database
from regwarden.store.database import Access, Database, open_database
from regwarden.store.deliveries import replay_known
from regwarden.store.installation import ensure_installation_id
from regwarden.store.service_socket import socket_beside
from regwarden.web.app import Application, Readiness
from regwarden.web.bodies import BodyReader
from regwarden.web.control import Handler, control_app, control_socket
from regwarden.web.hooks import CompatibleHooks, Hooks
from regwarden.web.listening import bound, serving, shown_address
from regwarden.web.mounting import Web
from regwarden.web.secrets import HookSecrets
from regwarden.web.tls import ServerCertificate
from regwarden.wiring import build_folding, build_keeping, new_installation_id, open_registry, resolve_registry

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# Planning a cleanup computes for seconds in a reader thread. Storing a delivery takes the interpreter over from it
# about ten times, and would wait five milliseconds for it each time.
_SWITCH_SECONDS: Final = 0.0005

log = structlog.get_logger("regwarden.service")


@dataclass(frozen=True, slots=True)
class Ready:
    """What a service that has started tells: where it listens, whom it serves, and where it keeps what it learns.

    ``compatible_addresses`` has the listeners that behave as those of predecessors, by their names. ``setup`` is the
    token of a first start, or what to do where nobody could come in.
    ``schedules`` has the crawl schedule of each registry that is crawled, ``problems`` why others are not.
    """

    addresses: tuple[str, ...]
    compatible_addresses: Mapping[str, str]
    has_api: bool
    setup: SetupToken = field(repr=False)
    database: str
    schedules: Mapping[str, str]
    problems: Mapping[str, str]


async def serve(
    loaded: LoadedSettings,
    environ: Mapping[str, str],
    listen: Sequence[str] = (),
    *,
    on_ready: Callable[[Ready], None],
) -> None:
    """Run the service until SIGTERM or SIGINT; then answer what was taken, end, and return.

    ``listen`` overrules the configured addresses. Raises ``Conflict`` (``cannot-listen``, ``database-busy``),
    ``InputError`` for settings that make no sense, ``StoreError`` for a database that cannot be opened.
    """
    settings = loaded.settings
    sys.setswitchinterval(_SWITCH_SECONDS)
    async with AsyncExitStack() as stack:
        certificate = _certificate(settings)
        listeners = [
            listener
            for address in listen or settings.server.listen
            for listener in stack.enter_context(bound(parse_listen_address(address)))
        ]
        if not listeners:
            raise InputError("there is no address to listen on", hint="Add --listen 127.0.0.1:8350.")
        regstat = settings.compat.regstat.listen
        compatible = stack.enter_context(bound(parse_listen_address(regstat))) if regstat else []
        stopped = stack.enter_context(_stop_signals())
        database = stack.enter_context(
            open_database(settings.database or default_database(), access=Access.WRITE, create=True)
        )
        service = await _open(stack, database, loaded, environ)
        own = {
            one.name: (one.app, stack.enter_context(bound(parse_listen_address(one.address))))
            for one in service.web.listeners
        }
        tasks = await stack.enter_async_context(_in_background(*service.works(certificate)))
        stack.push_async_callback(service.intake.drain)
        await stack.enter_async_context(_commands(service))
        opened = partial(serving, certificate=certificate, trusted_proxies=settings.server.trusted_proxies)
        await stack.enter_async_context(opened(service.main_app(), listeners))
        if compatible:
            await stack.enter_async_context(opened(service.compatible_app(), compatible))
        for app, sockets in own.values():
            await stack.enter_async_context(opened(app, sockets))
        stack.push_async_callback(service.web.close)  # before the listeners wait for streams to end
        # Last of what may fail: a token that was made and never shown would keep everybody out.
        setup = await _ensure_setup_token(service, listeners)
        shown = {"regstat": compatible} | {name: sockets for name, (_, sockets) in own.items()}
        on_ready(service.ready(listeners, shown, setup, is_tls=certificate is not None))
        await _until(stopped, tasks)
        log.info("stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """The parts of a running service, put together by ``_open``."""

    database: Database
    settings: Settings
    secrets: HookSecrets
    runner: Runner
    applier: Applier
    intake: Intake
    schedules: Mapping[str, str]
    problems: Mapping[str, str]
    bodies: BodyReader
    handlers: Mapping[str, Handler]
    web: Web

    def works(self, certificate: ServerCertificate | None) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the service."""
        works = [self.applier.run(), self.runner.run(), self.secrets.watch(), *(work() for work in self.web.works)]
        return works if certificate is None else [*works, certificate.watch()]

    def main_app(self) -> Application:
        """The main listener."""
        hooks = Hooks(self.intake, self.secrets.senders, clock.now, self.bodies)
        return Application(hooks, Readiness(self.database, lambda: self.applier.problem), self.web.mounts)

    def compatible_app(self) -> CompatibleHooks:
        """The listener that behaves as regstat's."""
        regstat = self.settings.compat.regstat
        if regstat.unauthenticated:
            log.warning("events are taken from anybody who can reach the listener", listen=regstat.listen)
        return CompatibleHooks(self.intake, self.secrets.senders, clock.now, self.bodies, regstat)

    def ready(
        self,
        listeners: Sequence[socket.socket],
        compatible: Mapping[str, Sequence[socket.socket]],
        setup: SetupToken,
        *,
        is_tls: bool,
    ) -> Ready:
        """What there is to tell once it runs."""
        return Ready(
            addresses=tuple(shown_address(one, is_tls=is_tls) for one in listeners),
            compatible_addresses={
                name: ", ".join(shown_address(one, is_tls=is_tls) for one in sockets)
                for name, sockets in compatible.items()
                if sockets
            },
            has_api=self.settings.server.api_enabled,
            setup=setup,
            database=self.database.display_url,
            schedules=self.schedules,
            problems=self.problems,
        )


async def _open(
    stack: AsyncExitStack, database: Database, loaded: LoadedSettings, environ: Mapping[str, str]
) -> _Service:
    """Everything but the listeners; what must be closed is left to ``stack``."""
    settings = loaded.settings
    installation = await database.write(lambda connection: ensure_installation_id(connection, new_installation_id()))
    secrets = HookSecrets(database, settings.registry)
    await secrets.ensure(clock.now)
    registries = await _open_registries(stack, loaded, environ, installation)
    services = Services(database, clock.now, registries.connectors)
    runner = Runner(RunnerWork(services, tuple(registries.works), build_keeping(settings)))

    def note_applied(applied: Applied) -> None:
        if applied.has_rereads:
            runner.wake()
        elif applied.event_count:
            runner.note_events()

    applier = Applier(database, clock.now, build_folding(settings, installation), note_applied)
    wakes, refreshes = [applier.wake, runner.wake, secrets.wake], [secrets.reload]

    async def note_command(_name: str) -> None:
        """A command has changed something: look. A new secret or token is valid before anybody is told of it."""
        for wake in wakes:
            wake()
        for refresh in refreshes:
            with suppress(StoreError):  # woken, it looks again
                await refresh()

    context = ServiceContext(database, loaded, environ, note_command)
    handlers = service_handlers(context)
    web = await _open_web(stack, context, handlers, installation)
    wakes += web.wakes
    refreshes += web.refreshes
    sources = {*(one.name for one in settings.registry), *hosts_by_registry(_hosts(settings))}
    await database.write(lambda connection: replay_known(connection, sources))
    return _Service(
        database=database,
        settings=settings,
        secrets=secrets,
        runner=runner,
        applier=applier,
        intake=Intake(database, applier.wake),
        schedules={work.target.name: str(work.schedule) for work in registries.works},
        problems=registries.problems,
        bodies=BodyReader(),
        handlers=handlers,
        web=web,
    )


async def _open_web(
    stack: AsyncExitStack, context: ServiceContext, handlers: Mapping[str, Handler], installation: str
) -> Web:
    """What is served beside hooks. Loading the libraries for it takes as long as all else: only where it is wanted."""
    compat = context.loaded.settings.compat
    others = (compat.imagelist, compat.gitlab_registry_usage_rest)
    if not (context.loaded.settings.server.api_enabled or any(one.enabled or one.listen for one in others)):
        return Web()
    from regwarden.service_web import open_web

    return await open_web(stack, context, handlers, installation)


async def _ensure_setup_token(service: _Service, listeners: Sequence[socket.socket]) -> SetupToken:
    """The token of a first start, where there is an API that nobody else could use; it is valid from now on."""
    if not service.settings.server.api_enabled:
        return SetupToken()
    is_loopback_only = all(map(_is_of_this_machine, listeners))
    made = await asyncio.to_thread(
        ensure_setup_token, service.database, service.settings, is_loopback_only=is_loopback_only, now=clock.now()
    )
    for refresh in service.web.refreshes:
        await refresh()
    return made


def _is_of_this_machine(listener: socket.socket) -> bool:
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return True  # a Unix socket
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


@dataclass(frozen=True, slots=True)
class _Registries:
    """The registries that can be asked, and why others cannot."""

    connectors: dict[str, Connector] = field(default_factory=dict)
    works: list[RegistryWork] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


async def _open_registries(
    stack: AsyncExitStack, loaded: LoadedSettings, environ: Mapping[str, str], installation: str
) -> _Registries:
    """A connector for each registry, for as long as ``stack``; one that cannot be opened does not stop the others."""
    settings, found = loaded.settings, _Registries()
    for registry in settings.registry:
        try:
            access = resolve_registry(registry.name, loaded, environ)
            opened = await stack.enter_async_context(
                open_registry(access, settings.defaults, installation, environ=environ, warn=_warn(registry.name))
            )
        except RegwardenError as error:
            found.problems[registry.name] = error.message
            log.error("not crawled", registry=registry.name, reason=error.message, hint=error.hint)  # noqa: TRY400
            continue
        found.connectors[registry.name] = opened.connector
        found.works.append(RegistryWork(opened.target, _schedule(registry, settings), _options(registry, settings)))
    return found


@asynccontextmanager
async def _commands(service: _Service) -> AsyncIterator[None]:
    """Run commands of other processes while the block lasts, where they cannot write themselves."""
    path = socket_beside(service.database.url)
    if path is None:
        yield
        return
    async with control_socket(path, control_app(service.handlers)):
        yield


@asynccontextmanager
async def _in_background(*works: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run ``works`` while the block lasts; at its end they are cancelled, and have ended when it is left."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that is set by SIGTERM or SIGINT; a second one ends the process at once."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        stopped.set()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    with suppress(NotImplementedError):  # not on every platform; there the process is interrupted
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
    try:
        yield stopped
    finally:
        with suppress(NotImplementedError):
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


async def _until(stopped: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return when stopped; raises what a background task ended with, for none of them may end by itself."""
    waiting = asyncio.create_task(stopped.wait())
    try:
        ended, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in ended:
        task.result()


def _certificate(settings: Settings) -> ServerCertificate | None:
    server = settings.server
    if not server.tls_certificate:
        return None
    key = Path(server.tls_key).expanduser() if server.tls_key else None
    return ServerCertificate(Path(server.tls_certificate).expanduser(), key)


def _schedule(registry: RegistrySettings, settings: Settings) -> Schedule:
    return parse_schedule(registry.crawl_every or settings.defaults.crawl_every)


def _options(registry: RegistrySettings, settings: Settings) -> CrawlOptions:
    return CrawlOptions(concurrency=registry.concurrency or settings.defaults.concurrency)


def _hosts(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {one.name: (one.url, *one.aliases) for one in settings.registry}


def _warn(registry: str) -> Callable[[str], None]:
    return lambda text: log.warning(text, registry=registry)

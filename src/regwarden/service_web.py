"""What does the service answer to people and programs: the API, sign-in, and the predecessors' interfaces?

Loaded only where any of it is wanted: the libraries behind it take as long to load as the rest of the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from regwarden import clock
from regwarden.core.quantities import parse_duration
from regwarden.core.role_rules import parse_rule
from regwarden.flows.allowing import AllowList
from regwarden.identity.tokens_file import TokensFile
from regwarden.library_time import PastAnswers
from regwarden.service_context import ServiceContext
from regwarden.settings import Settings
from regwarden.web.api.application import build_api
from regwarden.web.api.context import ApiParts
from regwarden.web.api.documents import PREFIX as API
from regwarden.web.attempts import Attempts
from regwarden.web.auth import AuthParts, build_auth
from regwarden.web.authentication import Authentication
from regwarden.web.control import Handler
from regwarden.web.mounting import Mount, OwnListener, Web
from regwarden.web.sign_ins import LookUp, SignIns, parse_lifetimes
from regwarden.wiring import build_allow_list

if TYPE_CHECKING:
    from regwarden.identity.ldap import LdapDirectory

log = structlog.get_logger("regwarden.service")

_AUTH: Final = "/auth"
_IMAGELIST: Final = "/compat/imagelist"
_GITLAB_REST: Final = "/compat/gitlab-registry-usage-rest"
_GITLAB_REST_INTERFACE: Final = "gitlab-registry-usage-rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What several of the interfaces work with."""

    context: ServiceContext
    settings: Settings
    authentication: Authentication
    attempts: Attempts
    allow: AllowList
    directory: LdapDirectory | None


async def open_web(
    stack: AsyncExitStack, context: ServiceContext, handlers: Mapping[str, Handler], installation: str
) -> Web:
    """Everything that the settings ask for; what must be closed is left to ``stack``.

    Raises ``InputError`` for settings that make no sense, ``StoreError`` for a database that cannot be asked.
    """
    settings, web = context.loaded.settings, Web()
    shared = await _open_shared(stack, context, web, installation)
    if settings.server.api_enabled:
        past = PastAnswers(settings)
        stack.callback(past.close)
        parts = ApiParts(
            database=context.database,
            loaded=context.loaded,
            environ=context.environ,
            authenticator=shared.authentication,
            commands=handlers,
            allow=shared.allow,
            past=past,
        )
        web.mounts.append(Mount(API, build_api(parts), is_stripped=False))
        web.mounts.append(Mount(_AUTH, await _open_auth(stack, shared)))
        web.closes.append(parts.operations.close)
    _add_imagelist(shared, web)
    _add_gitlab_rest(shared, web)
    return web


async def _open_shared(stack: AsyncExitStack, context: ServiceContext, web: Web, installation: str) -> _Shared:
    settings = context.loaded.settings
    gitlab = settings.compat.gitlab_registry_usage_rest
    file = settings.auth.tokens_file
    authentication = Authentication(
        context.database,
        now=clock.now,
        installation=installation,
        tokens_file=_tokens_file(file),
        legacy={_GITLAB_REST_INTERFACE: parse_duration(gitlab.token_lifetime)}
        if gitlab.enabled or gitlab.listen
        else None,
    )
    await authentication.reload()
    allow = build_allow_list(context.database, context.loaded.settings)
    await allow.open()
    directory = _open_directory(stack, settings) if settings.ldap.servers else None
    web.works.extend([authentication.watch, allow.watch, allow.decisions.run])
    web.wakes.extend([authentication.wake, allow.wake])
    web.refreshes.extend([authentication.catch_up, allow.catch_up])
    return _Shared(
        context=context,
        settings=settings,
        authentication=authentication,
        attempts=Attempts(),
        allow=allow,
        directory=directory,
    )


def _open_directory(stack: AsyncExitStack, settings: Settings) -> LdapDirectory:
    from regwarden.identity.ldap import open_directory

    directory = open_directory(settings.ldap)
    stack.push_async_callback(directory.close)
    return directory


def _tokens_file(file: str, *, needs_roles: bool = True) -> TokensFile | None:
    return TokensFile(Path(file).expanduser(), needs_roles=needs_roles) if file else None


async def _open_auth(stack: AsyncExitStack, shared: _Shared) -> ASGIApp:
    settings, database = shared.settings, shared.context.database
    sign_ins = SignIns(
        database,
        shared.authentication,
        rules=tuple(map(parse_rule, settings.role)),
        lifetimes=parse_lifetimes(settings.auth),
        now=clock.now,
    )
    found: dict[str, LookUp] = {}
    routes: list[BaseRoute] = []
    if settings.oidc:
        from regwarden.identity.oidc_providers import open_providers
        from regwarden.web.oidc import OidcParts, oidc_routes

        providers = await stack.enter_async_context(open_providers(settings.oidc, settings.role))
        found.update(providers)
        routes += oidc_routes(
            OidcParts(
                providers=providers,
                public_url=settings.server.public_url,
                sign_ins=sign_ins,
                attempts=shared.attempts,
                database=database,
            )
        )
    if shared.directory is not None:
        found["ldap"] = shared.directory
    return build_auth(
        AuthParts(
            sign_ins=sign_ins,
            authentication=shared.authentication,
            attempts=shared.attempts,
            directory=shared.directory,
            providers=found,
            routes=routes,
        )
    )


def _add_imagelist(shared: _Shared, web: Web) -> None:
    settings = shared.settings.compat.imagelist
    if not (settings.enabled or settings.listen):
        return
    from regwarden.web.compat.imagelist import ImagelistParts, imagelist_app

    if settings.unauthenticated_writes:
        log.warning("anybody who can reach imagelist's interface may allow images", listen=settings.listen)
    tokens = _tokens_file(settings.tokens_file, needs_roles=False)
    parts = ImagelistParts(
        database=shared.context.database,
        settings=settings,
        authenticator=shared.authentication,
        attempts=shared.attempts,
        tokens=tokens,
        wake=shared.allow.wake,
    )
    if tokens is not None:
        # Whoever comes first finds them read.
        tokens.reload()
        web.works.append(tokens.watch)
    if settings.enabled:
        web.mounts.append(Mount(_IMAGELIST, imagelist_app(parts, mount=_IMAGELIST)))
    if settings.listen:
        web.listeners.append(OwnListener("imagelist", settings.listen, imagelist_app(parts)))


def _add_gitlab_rest(shared: _Shared, web: Web) -> None:
    settings = shared.settings.compat.gitlab_registry_usage_rest
    if not (settings.enabled or settings.listen):
        return
    from regwarden.web.compat.gitlab_rest import gitlab_rest_app, open_gitlab_rest

    parts = open_gitlab_rest(
        shared.context.database,
        shared.settings,
        authentication=shared.authentication,
        attempts=shared.attempts,
        directory=shared.directory,
    )
    if settings.enabled:
        web.mounts.append(Mount(_GITLAB_REST, gitlab_rest_app(parts, mount=_GITLAB_REST), is_stripped=False))
    if settings.listen:
        app = gitlab_rest_app(parts, mount=settings.prefix)
        web.listeners.append(OwnListener("gitlab-registry-usage-rest", settings.listen, app))

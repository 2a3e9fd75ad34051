"""Endpoint 16 and 15: who one is, what the token may do, which release this is, and what is set."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.gitlab_double.answers import forbidden, refuse, time_text
from tests.gitlab_double.credentials import ANY_SCOPE, RAILS, USER_SCOPES, is_administrator, signed_in
from tests.gitlab_double.rails_repositories import PREFIX
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import LONG_AGO, User

ROUTES = web.RouteTableDef()
REVISION = "0a1b2c3d4e5"


def user_json(scenario: Scenario, user: User) -> dict[str, Any]:
    """A user as everybody sees them."""
    return {
        "id": user.id,
        "username": user.username,
        "name": user.username.title(),
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{scenario.external_url}/{user.username}",
    }


@ROUTES.get(PREFIX + "/user", allow_head=False)
async def self_user(request: web.Request) -> web.StreamResponse:
    caller = signed_in(request, scopes=USER_SCOPES)
    assert caller.user is not None
    found = user_json(request.app[RAILS].scenario, caller.user)
    found |= {"created_at": time_text(LONG_AGO), "email": f"{caller.user.username}@example.com", "bot": False}
    if is_administrator(request, caller):
        found |= {"is_admin": True, "note": None}
    return web.json_response(found)


@ROUTES.get(PREFIX + "/personal_access_tokens/self", allow_head=False)
async def self_token(request: web.Request) -> web.StreamResponse:
    caller = signed_in(request, scopes=ANY_SCOPE)
    token = caller.token
    assert token is not None
    assert caller.user is not None
    if token.kind != "personal":
        raise refuse(400, "Bad request - This endpoint requires token type to be a personal access token")
    return web.json_response(
        {
            "id": token.id,
            "name": token.name,
            "revoked": token.is_revoked,
            "created_at": time_text(LONG_AGO),
            "description": None,
            "scopes": list(token.scopes),
            "user_id": caller.user.id,
            "last_used_at": time_text(request.app[RAILS].scenario.now()),
            "active": True,
            "expires_at": None if token.expires_at is None else f"{token.expires_at:%Y-%m-%d}",
        }
    )


@ROUTES.get(PREFIX + "/metadata", allow_head=False)
@ROUTES.get(PREFIX + "/version", allow_head=False)
async def release(request: web.Request) -> web.StreamResponse:
    signed_in(request, scopes=USER_SCOPES)
    scenario = request.app[RAILS].scenario
    kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
    version = scenario.settings.version
    return web.json_response(
        {"version": version, "revision": REVISION, "kas": kas, "enterprise": version.endswith("-ee")}
    )


@ROUTES.get(PREFIX + "/application/settings", allow_head=False)
async def settings(request: web.Request) -> web.StreamResponse:
    if not is_administrator(request, signed_in(request)):
        raise forbidden()
    chosen = request.app[RAILS].scenario.settings
    return web.json_response(
        {
            "id": 1,
            "container_registry_token_expire_delay": int(chosen.token_minutes),
            "container_expiration_policies_enable_historic_entries": False,
            "container_registry_cleanup_tags_service_max_list_size": 200,
            "container_registry_delete_tags_service_timeout": 250,
            "container_registry_expiration_policies_caching": True,
            "container_registry_expiration_policies_worker_capacity": 4,
        }
    )

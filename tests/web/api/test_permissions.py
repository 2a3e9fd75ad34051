"""Who may ask what? Every route of the application, each role, and somebody limited to another area."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from regwarden.core.access import ROLE_PERMISSIONS, UNSCOPED, Permission, Role
from regwarden.web.api.application import build_routes
from regwarden.web.api.context import PUBLIC, Permitted
from tests.web.api.conftest import Api, area

ROUTES = [route for route in build_routes(None).routes if isinstance(route, APIRoute)]
NAMES = [f"{'/'.join(sorted(route.methods or ()))} {route.path}" for route in ROUTES]
# What stands in a path, for the sample inventory; anything else names nothing.
PLACES = {"registry": "prod", "repository": "team%2Fapp", "tag": "1.0.0", "noun": "tag", "asset": "style.css"}

# The same for everybody: not a word of what is known.
OF_THE_PROGRAM = {"/api/v1/policies/schema", "/api/v1/policies/example"}


def permissions_of(dependant: Dependant) -> list[Permission]:
    own = [dependant.call.permission] if isinstance(dependant.call, Permitted) else []
    return own + [found for one in dependant.dependencies for found in permissions_of(one)]


def address(route: APIRoute) -> str:
    path = re.sub(r"\{(\w+)[^}]*\}", lambda match: PLACES.get(match[1], "1"), route.path)
    return path.removeprefix("/api/v1")


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_every_route_names_exactly_one_permission(route: APIRoute):
    found = permissions_of(route.dependant)
    assert len(found) == (0 if route.name in PUBLIC else 1), route.path


def test_everything_that_is_served_is_a_route_that_was_looked_at():
    others = [route for route in build_routes(None).routes if not isinstance(route, APIRoute)]
    assert others == []
    assert len(ROUTES) > 20
    assert {route.name for route in ROUTES} >= PUBLIC


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
async def test_every_role_is_let_in_where_it_has_the_permission_and_nowhere_else(api: Api, route: APIRoute):
    """What comes after the door (a missing body, a thing that is not there) does not matter here."""
    if route.name in PUBLIC:
        return
    (permission,) = permissions_of(route.dependant)
    for method in route.methods or ():
        assert (await api.ask(method, address(route), who=None)).status == 401
        assert (await api.ask(method, address(route), who="nobody")).json["code"] == "forbidden"
        for role in Role:
            if permission not in ROLE_PERMISSIONS[role]:
                answer = await api.ask(method, address(route), who=str(role))
                assert (answer.status, answer.json["code"]) == (403, "forbidden"), (method, role)


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
async def test_whoever_is_limited_to_another_area_learns_nothing(api: Api, route: APIRoute):
    """An area with nothing in it, for every role at once: single things are not there, lists are without rows."""
    if route.name in PUBLIC or route.path in OF_THE_PROGRAM or "stream" in route.path:
        return
    (permission,) = permissions_of(route.dependant)
    role = next(role for role in Role if permission in ROLE_PERMISSIONS[role])
    api.people.add("elsewhere", role, area(("elsewhere",), ("glob:none/**",)))
    for method in (route.methods or set()) & {"GET"}:
        answer = await api.ask(method, address(route), who="elsewhere")
        assert answer.status < 500, (method, route.path, answer.body)
        if permission in UNSCOPED:
            assert answer.status == 403, (method, route.path)
        for word in (b"team/", b"prod", b"other"):
            allowed = re.sub(rb'"(?:href|detail|instance)":"[^"]*"', b"", answer.body)
            assert word not in allowed, (method, route.path, answer.body)


@pytest.mark.parametrize("route", [one for one in ROUTES if "{registry}" in one.path], ids=lambda one: one.path)
async def test_a_thing_out_of_reach_is_not_there(api: Api, route: APIRoute):
    (permission,) = permissions_of(route.dependant)
    role = next(role for role in Role if permission in ROLE_PERMISSIONS[role])
    api.people.add("other", role, area(("other",)))
    for method in (route.methods or set()) & {"GET"}:
        answer = await api.ask(method, address(route), who="other")
        assert answer.status == 404, (method, route.path, answer.body)


async def test_nothing_but_problems_is_said_when_the_database_is_gone(api: Api, monkeypatch: pytest.MonkeyPatch):
    from regwarden.errors import StoreError

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("cannot connect to postgresql://secret@db/x", code="database-gone")

    monkeypatch.setattr(type(api.database), "read_now", fail)
    for path in ("/registries", "/tags", "/usage", "/manifests/sha256:abcdef", "/exports/tag", "/problems"):
        answer = await api.get(path)
        assert (answer.status, answer.json["code"]) == (503, "database-gone"), path
        assert b"secret" not in answer.body
        assert answer.headers["retry-after"]

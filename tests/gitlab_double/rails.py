"""The GitLab application: its routes, the record of what was asked of it, and its planned faults."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.gitlab_double import (
    graphql,
    rails_groups,
    rails_projects,
    rails_repositories,
    rails_rules,
    rails_tags,
    rails_users,
)
from tests.gitlab_double.answers import Refused
from tests.gitlab_double.credentials import RAILS, Rails
from tests.gitlab_double.faults import IS_SCRIPTED, misbehave
from tests.gitlab_double.issuer import Issuer, asked_scopes
from tests.gitlab_double.recording import FaultPlan, Part, Recorded, Recording, grouped, without_secrets
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import RegistryView

ISSUER_PATH = "/jwt/auth"
MOST_BODY_BYTES = 64 * 2**20


def build_rails(
    scenario: Scenario, view: RegistryView, recording: Recording, faults: FaultPlan, *, issuer: Issuer | None = None
) -> web.Application:
    """REST, GraphQL and the issuer over one state. What nobody wrote an answer for is 501, and recorded as such."""
    app = web.Application(middlewares=[_recorded, _faulty, _refusing], client_max_size=MOST_BODY_BYTES)
    issuer = issuer or Issuer(scenario)
    app[RAILS] = Rails(scenario, view, recording, faults, issuer)
    app.router.add_get(ISSUER_PATH, issuer.handle, allow_head=False)
    app.router.add_post(ISSUER_PATH, _no_such_page)
    for module in (
        graphql,
        rails_groups,
        rails_projects,
        rails_repositories,
        rails_rules,
        rails_tags,
        rails_users,
    ):
        app.add_routes(module.ROUTES)
    return app


async def _no_such_page(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


def _part(request: web.Request) -> Part:
    return "issuer" if request.path == ISSUER_PATH else "rails"


@web.middleware
async def _recorded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep what was asked and how it was answered."""
    request[IS_SCRIPTED] = request.match_info.http_exception is None
    status = 500
    try:
        answer = await handler(request)
        status = answer.status
    finally:
        request.app[RAILS].recording.add(
            Recorded(
                part=_part(request),
                method=request.method,
                path=request.rel_url.raw_path,
                query=grouped(request.query.items()),
                headers=without_secrets(request.headers.items()),
                status=status,
                scopes=asked_scopes(request) if _part(request) == "issuer" else (),
                is_scripted=request[IS_SCRIPTED],
            )
        )
    return answer


@web.middleware
async def _faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let go wrong what is planned to."""
    path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
    fault = request.app[RAILS].faults.take(_part(request), request.method, path, query=query)
    return await handler(request) if fault is None else await misbehave(fault, request, handler)


@web.middleware
async def _refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer refusals, and everything that is not scripted."""
    if not request[IS_SCRIPTED]:
        return web.json_response({"message": "501 The double does not know this request"}, status=501)
    try:
        return await handler(request)
    except Refused as refused:
        return refused.answer

"""Who asks, and may the token do this? GitLab's checks in their order, and how projects are found."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web
from yarl import URL

from tests.gitlab_double.answers import Refused, bad_token, insufficient_scope, refuse, unauthorized
from tests.gitlab_double.faults import EXPIRED_TEXT
from tests.gitlab_double.grants import is_visible
from tests.gitlab_double.issuer import Issuer
from tests.gitlab_double.recording import FaultPlan, Recording
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import Group, Project, RegistryView, Token, User

READ_SCOPES = ("api", "read_api")
WRITE_SCOPES = ("api",)
USER_SCOPES = ("api", "read_api", "read_user")
ANY_SCOPE: tuple[str, ...] = ()
REVOKED_TEXT = "Token was revoked. You have to re-authorize from the user."


@dataclass
class Rails:
    """Everything that the handlers of the GitLab application share."""

    scenario: Scenario
    view: RegistryView
    recording: Recording
    faults: FaultPlan
    issuer: Issuer


RAILS = web.AppKey("rails", Rails)


class Caller(NamedTuple):
    """Nobody, or a user by a token."""

    user: User | None
    token: Token | None


def identify(request: web.Request, *, scopes: tuple[str, ...] | None = None, allows_job: bool = False) -> Caller:
    """Who sent the request; nobody without credentials. Raises ``Refused``: unknown, expired, revoked, lacks the scope.

    ``scopes`` are those of which one is enough; by default those of reading or writing, by the request's method.
    """
    scenario = request.app[RAILS].scenario
    secret, is_job = _secret_of(request)
    if not secret or (is_job and not allows_job):
        return Caller(None, None)
    token = next((each for each in scenario.tokens if hmac.compare_digest(each.secret.encode(), secret.encode())), None)
    if token is None or token.kind == "deploy" or (token.kind == "job") != is_job:
        raise unauthorized()
    if token.expires_at is not None and token.expires_at <= scenario.now():
        raise bad_token(EXPIRED_TEXT)
    if token.is_revoked:
        raise bad_token(REVOKED_TEXT)
    wanted = scopes if scopes is not None else (READ_SCOPES if request.method == "GET" else WRITE_SCOPES)
    if wanted and token.kind != "job" and not set(wanted) & set(token.scopes):
        raise insufficient_scope(wanted)
    return Caller(scenario.user(token.user), token)


def _secret_of(request: web.Request) -> tuple[str, bool]:
    """The secret, and whether it was sent as that of a job."""
    headers = request.headers
    secret = headers.get("PRIVATE-TOKEN") or request.query.get("private_token")
    if secret:
        return secret, False
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value, False
    return headers.get("JOB-TOKEN", ""), True


def signed_in(request: web.Request, *, scopes: tuple[str, ...] | None = None) -> Caller:
    """As ``identify``, but somebody; raises ``Refused``."""
    caller = identify(request, scopes=scopes)
    if caller.user is None:
        raise unauthorized()
    return caller


def is_administrator(request: web.Request, caller: Caller) -> bool:
    """Whether the caller may use what only administrators may; with Admin Mode the token needs its scope."""
    if caller.user is None or not caller.user.is_admin:
        return False
    has_mode = caller.token is not None and "admin_mode" in caller.token.scopes
    return has_mode or not request.app[RAILS].scenario.settings.admin_mode


def find_project(request: web.Request, caller: Caller) -> Project:
    """The project of the path's ``id``; raises ``Refused`` if it is unknown, invisible or has moved."""
    scenario = request.app[RAILS].scenario
    name = request.match_info["id"]
    project = scenario.project(name)
    moved = scenario.moved_project(name) if project is None else None
    found = project or moved
    is_other = (
        found is not None
        and caller.token is not None
        and caller.token.kind == "job"
        and (found.path != caller.token.paths[0])
    )
    if found is None or not is_visible(scenario, caller.user, found) or (is_other and found.visibility != "public"):
        raise refuse(404, "Project Not Found")
    if moved is not None and request.method == "GET":
        parts = request.rel_url.raw_path.split("/")
        parts[4] = str(moved.id)
        place = URL(scenario.external_url + "/".join(parts), encoded=True).with_query(request.rel_url.query)
        text = '{"message":"This resource has been moved permanently to ' + str(place) + '"}'
        raise Refused(web.Response(status=301, text=text, headers={"Location": str(place)}))
    return found


def find_group(request: web.Request, caller: Caller) -> Group:
    """The group of the path's ``id``; raises ``Refused`` if it is unknown or invisible."""
    group = request.app[RAILS].scenario.group(request.match_info["id"])
    if group is None or not is_group_visible(request, caller, group):
        raise refuse(404, "Group Not Found")
    return group


def is_group_visible(request: web.Request, caller: Caller, group: Group) -> bool:
    """Public, or the caller has a role there or somewhere below."""
    if group.visibility == "public" or (group.visibility == "internal" and caller.user is not None):
        return True
    return has_role_below(request, caller, group)


def has_role_below(request: web.Request, caller: Caller, group: Group) -> bool:
    """Whether the caller has any role in the group, in one below it, or in a project of these."""
    scenario = request.app[RAILS].scenario
    if caller.user is None:
        return False
    places: list[Group | Project] = [*scenario.groups_in(group), *scenario.projects_in(group)]
    return any(scenario.role(caller.user, place) > 0 for place in places)

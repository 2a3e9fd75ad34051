"""Which registry token does GitLab give? ``GET /jwt/auth`` with its silent dropping, its errors and its address ban."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from aiohttp import web

from tests.gitlab_double import keys
from tests.gitlab_double.faults import FAULT
from tests.gitlab_double.grants import Holder, PushRefused, granted_actions, meta
from tests.gitlab_double.recording import Fault, FaultKind
from tests.gitlab_double.scenario import Scenario

CATALOG = "registry:catalog:*"
REGISTRY_SCOPES = frozenset({"api", "read_api", "read_registry", "write_registry"})
DENIED_LOGIN = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect "
    "or you're required to use a token instead of a password."
)


class BadLogin(Exception):
    """Credentials that nobody has, or not any more."""


def error(status: int, code: str, message: str) -> web.Response:
    """An error as the issuer writes it."""
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)


def asked_scopes(request: web.Request) -> tuple[str, ...]:
    """The scopes of a request: the parameter may be repeated, and each may have several with spaces between."""
    return tuple(scope for value in request.query.getall("scope", []) for scope in value.split())


@dataclass
class Issuer:
    """The issuer. ``failures`` are bad logins since the last good one; ``banned_until`` is of all addresses alike."""

    scenario: Scenario
    failures: int = 0
    banned_until: datetime | None = None
    token_count: int = field(default=0)

    @property
    def certificate_pem(self) -> bytes:
        """What the registry needs as ``rootcertbundle``."""
        return keys.certificate_pem()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /jwt/auth``."""
        settings = self.scenario.settings
        if request.query.get("service") != settings.service:
            return web.Response(status=404)
        if not settings.registry_is_enabled:
            return error(404, "UNAVAILABLE", "registry not enabled")
        try:
            name, secret = _basic(request.headers.get("Authorization", ""))
            holder = self._log_in(name, secret)
        except PermissionError:
            return web.Response(status=403, text="Forbidden\n")
        except BadLogin:
            return error(401, "UNAUTHORIZED", DENIED_LOGIN)
        if holder.token is not None and not holder.has_scope(REGISTRY_SCOPES):
            return error(403, "DENIED", "access forbidden")
        try:
            access = self.access(holder, asked_scopes(request), request.get(FAULT))
        except PushRefused:
            return error(403, "DENIED", "Pushing to protected repository path forbidden")
        if not access and not holder.is_known:
            return error(403, "DENIED", "access forbidden")
        return web.json_response({"token": self.mint(holder, access)})

    def _log_in(self, name: str, secret: str) -> Holder:
        """Who has these credentials; raises ``BadLogin``, and ``PermissionError`` while the address is banned."""
        if name == "gitlab-ci-token":
            return self._find_holder(name, secret)
        now = self.scenario.now()
        if self.banned_until is not None and now < self.banned_until:
            raise PermissionError
        try:
            holder = self._find_holder(name, secret)
        except BadLogin:
            self.failures += 1
            if self.failures >= self.scenario.settings.ban_after:
                self.banned_until = now + timedelta(seconds=self.scenario.settings.ban_seconds)
                self.failures = 0
            raise
        if holder.is_known:
            self.failures, self.banned_until = 0, None
        return holder

    def _find_holder(self, name: str, secret: str) -> Holder:
        if not name and not secret:
            return Holder()
        token = next((each for each in self.scenario.tokens if _is_same(each.secret, secret)), None)
        if token is None:
            user = self.scenario.user(name)
            if user is None or not user.password or not _is_same(user.password, secret) or user.has_second_factor:
                raise BadLogin
            return Holder(user)
        is_expired = token.expires_at is not None and token.expires_at <= self.scenario.now()
        bound_to = {"deploy": token.name, "job": "gitlab-ci-token"}.get(token.kind, name)  # others: to no name
        if token.is_revoked or is_expired or name != bound_to:
            raise BadLogin
        return Holder(self.scenario.user(token.user) if token.user else None, token)

    def access(self, holder: Holder, scopes: tuple[str, ...], fault: Fault | None = None) -> list[dict[str, Any]]:
        """The entries of the token; what is refused is left out. Raises ``PushRefused``."""
        found = []
        for scope in scopes:
            entry = self._catalog(holder) if scope == CATALOG else self._entry(holder, scope)
            if entry is not None and fault is not None and fault.kind == FaultKind.GRANT_LESS:
                kept = [action for action in entry["actions"] if fault.actions and action not in fault.actions]
                entry = {**entry, "actions": kept} if kept else None
            if entry is not None:
                found.append(entry)
        return found

    def _catalog(self, holder: Holder) -> dict[str, Any] | None:
        is_admin = holder.user is not None and holder.user.is_admin
        if not is_admin or (holder.token is not None and holder.token.kind == "job"):
            return None
        return {"type": "registry", "name": "catalog", "actions": ["*"]}

    def _entry(self, holder: Holder, scope: str) -> dict[str, Any] | None:
        kind, _, rest = scope.partition(":")
        path, _, actions = rest.rpartition(":")
        project = self.scenario.project_of_path(path) if kind == "repository" else None
        if project is None:
            return None
        granted = granted_actions(self.scenario, holder, project, path=path, asked=actions.split(","))
        if not granted:
            return None
        if "push" in granted:
            self.scenario.ensure_repository(path)
        return {"type": kind, "name": path, "actions": granted, "meta": meta(self.scenario, holder, project)}

    def mint(self, holder: Holder, access: list[dict[str, Any]]) -> str:
        """A signed token with these entries, with everything in it that GitLab puts there."""
        settings, now = self.scenario.settings, int(self.scenario.now().timestamp())
        times = {"iat": now, "nbf": now - 5, "exp": now + int(settings.token_minutes * 60), "jti": str(uuid4())}
        claims: dict[str, Any] = {"access": access, "aud": settings.service, "iss": settings.issuer, **times}
        if holder.is_known:
            claims["auth_type"] = holder.auth_type
            claims["user"] = keys.sign({**times, "jti": str(uuid4()), "user_info": _user_info(holder)})
        if holder.user is not None:
            claims["sub"] = holder.user.username
        self.token_count += 1
        return keys.sign(claims)


def _user_info(holder: Holder) -> dict[str, Any]:
    if holder.user is None:
        token = holder.token
        assert token is not None
        return {"token_type": holder.auth_type, "username": token.name, "deploy_token_id": token.id}
    return {"token_type": holder.auth_type, "username": holder.user.username, "user_id": holder.user.id}


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _basic(header: str) -> tuple[str, str]:
    """User name and password of the header, both empty without one; raises ``BadLogin``."""
    if not header:
        return "", ""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise BadLogin from None
    if not colon:
        raise BadLogin
    return name, secret

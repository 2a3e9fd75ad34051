"""Tokens of programs and sign-ins of people: made, shown, ended; and the one token with which everything begins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from regwarden import clock
from regwarden.core.access import Grant, Role
from regwarden.core.grants import grants_to_json, parse_grants
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.core.robot_tokens import build_token
from regwarden.errors import InputError, NotFound
from regwarden.identity.random_texts import random_token
from regwarden.store import audit, sessions, tokens

if TYPE_CHECKING:
    from regwarden.settings import Settings
    from regwarden.store.database import Database

DEFAULT_LIFETIME: Final = timedelta(days=90)
MAX_LIFETIME: Final = timedelta(days=5 * 366)
SETUP_LIFETIME: Final = timedelta(hours=24)
SETUP_NAME: Final = "first-start"
_SERVICE: Final = "regwarden"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/+-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMade:
    """A token that was made. ``token`` is shown this once; only what verifies it is kept."""

    token: str = field(repr=False)
    id: str
    name: str
    grants: list[dict[str, Any]]
    made_at: datetime
    made_by: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SetupToken:
    """With what the first administrator begins: a token to be shown once, or a hint what else to do."""

    token: str | None = field(default=None, repr=False)
    hint: str = ""


def make_token(
    database: Database,
    *,
    name: str,
    grants: Sequence[Mapping[str, Any]],
    expires: str | None,
    principal: str,
) -> TokenMade:
    """Make a token. Raises ``InputError`` (``bad-token-request``, ``bad-grant``), ``Conflict`` (``token-exists``)."""
    if not _NAME.fullmatch(name):
        hint = "Use letters, digits and . _ @ / + -, at most 100: ci-cleanup."
        raise InputError(f"{name[:120]!r} cannot be the name of a token", hint=hint, code="bad-token-request")
    parsed = parse_grants(list(grants))
    if not parsed:
        raise InputError("a token needs a role", hint="Add --role viewer.", code="bad-token-request")
    now = clock.now()
    new = partial(_save, name=name, grants=parsed, expires_at=_parse_expiry(expires, now), principal=principal, at=now)
    return database.write_now(new)


def find_tokens(connection: Any, *, include_ended: bool = False) -> list[dict[str, object]]:
    """Tokens as rows, in the order in which they were made; never with anything that verifies them."""
    living_at = None if include_ended else clock.now()
    return [_row(one) for one in tokens.list_tokens(connection, living_at=living_at)]


def end_token(database: Database, name_or_id: str, principal: str) -> None:
    """Revoke a token, for ever. Raises ``NotFound`` (``unknown-token``)."""

    def work(connection: Any) -> None:
        now = clock.now()
        found = tokens.find_token(connection, name_or_id, now)
        tokens.revoke_token(connection, found.id, now, principal)
        _record(connection, now, principal, "token-revoke", found.name, {"id": found.public_id})

    database.write_now(work)


def find_sessions(
    connection: Any, *, include_ended: bool = False, subject: str | None = None
) -> list[dict[str, object]]:
    """Sign-ins as rows, oldest first; of one principal, if ``subject`` is given."""
    living_at = None if include_ended else clock.now()
    return [
        {
            "id": one.public_id,
            "principal": one.principal.subject,
            "name": one.principal.name,
            "kind": one.principal.kind,
            "provider": one.provider,
            "interface": one.interface,
            "made_at": one.made_at,
            "made_from": one.made_from,
            "refreshed_at": one.refreshed_at,
            "expires_at": one.expires_at,
            "ended_at": one.revoked_at,
            "ended_reason": one.revoked_reason,
        }
        for one in sessions.list_sessions(connection, living_at=living_at, subject=subject)
    ]


def end_session(database: Database, session_id: str, principal: str, *, subject: str | None = None) -> None:
    """End a sign-in with all its tokens; with ``subject`` only one of theirs. Raises ``NotFound``."""

    def work(connection: Any) -> None:
        now = clock.now()
        found = sessions.find_session(connection, session_id)
        if found is None or not found.is_living(now) or subject not in (None, found.principal.subject):
            hint = "`regwarden token list --sessions` shows those that last."
            raise NotFound(f"there is no sign-in {session_id[:80]!r}", hint=hint, code="unknown-session")
        sessions.end_session(connection, session_id, f"ended by {principal}", now)
        _record(connection, now, principal, "session-end", found.principal.name, {"id": session_id})

    database.write_now(work)


def end_sessions_of(database: Database, subject: str, principal: str) -> int:
    """End all sign-ins of a principal, by its id; returns how many there were."""

    def work(connection: Any) -> int:
        now = clock.now()
        count = sessions.end_sessions_of(connection, subject, f"ended by {principal}", now)
        _record(connection, now, principal, "session-end-all", subject, {"count": count})
        return count

    return database.write_now(work)


def ensure_setup_token(database: Database, settings: Settings, *, is_loopback_only: bool, now: datetime) -> SetupToken:
    """The token of the first start, made if nobody could come in otherwise and only this machine can reach us.

    It may do everything, for a day, and ends when another token is made that may do everything, or when the service
    starts where others can reach it or sign in.
    """
    is_open = bool(settings.ldap.servers or settings.oidc or settings.auth.tokens_file)
    living = database.read_now(lambda connection: tokens.list_tokens(connection, living_at=now))
    if (is_open or not is_loopback_only) and any(one.purpose == tokens.SETUP for one in living):
        database.write_now(lambda connection: tokens.revoke_setup_tokens(connection, now, _SERVICE))
        living = [one for one in living if one.purpose != tokens.SETUP]
    if is_open:
        return SetupToken()

    def work(connection: Any) -> TokenMade | None:
        if tokens.list_tokens(connection, living_at=now):
            return None
        everything = (Grant(Role.ADMIN),)
        expires_at = now + SETUP_LIFETIME
        return _save(
            connection,
            name=SETUP_NAME,
            grants=everything,
            expires_at=expires_at,
            principal=_SERVICE,
            at=now,
            purpose=tokens.SETUP,
        )

    if not is_loopback_only:
        if living:
            return SetupToken()
        return SetupToken(hint="Nobody can sign in yet. Run: regwarden token create admin --role admin")
    made = database.write_now(work)
    if made is not None:
        return SetupToken(token=made.token)
    living = database.read_now(lambda connection: tokens.list_tokens(connection, living_at=now))
    if all(one.purpose == tokens.SETUP for one in living):
        return SetupToken(hint="The first token was shown before. Lost? Run: regwarden token create admin --role admin")
    return SetupToken()


def _save(  # noqa: PLR0913 -- what a token is made of
    connection: Any,
    *,
    name: str,
    grants: tuple[Grant, ...],
    expires_at: datetime,
    principal: str,
    at: datetime,
    purpose: str = tokens.API,
) -> TokenMade:
    parts = random_token()
    new = tokens.NewToken(
        public_id=parts.public_id,
        name=name,
        secret_sha256=parts.secret_sha256,
        grants=grants,
        made_by=principal,
        expires_at=expires_at,
        purpose=purpose,
    )
    tokens.save_token(connection, new, at)
    written = grants_to_json(grants)
    detail = {"id": parts.public_id, "grants": written, "expires_at": expires_at.isoformat(), "purpose": purpose}
    _record(connection, at, principal, "token-create", name, detail)
    return TokenMade(
        token=build_token(parts),
        id=parts.public_id,
        name=name,
        grants=written,
        made_at=at,
        made_by=principal,
        expires_at=expires_at,
    )


def _parse_expiry(expires: str | None, now: datetime) -> datetime:
    if expires is None:
        return now + DEFAULT_LIFETIME
    value = parse_moment_or_duration(expires.strip())
    try:
        ends = value if isinstance(value, datetime) else now + value
    except OverflowError:
        ends = now + MAX_LIFETIME + timedelta(days=1)
    if not now < ends <= now + MAX_LIFETIME:
        hint = "Give a time from now, at most five years: 90d."
        raise InputError(f"a token cannot expire at {expires[:80]!r}", hint=hint, code="bad-token-request")
    return ends


def _row(one: tokens.StoredToken) -> dict[str, object]:
    return {
        "id": one.public_id,
        "name": one.name,
        "roles": sorted({grant.role.value for grant in one.grants}),
        "registries": _patterns(one, "registries"),
        "repositories": _patterns(one, "repositories"),
        "grants": grants_to_json(one.grants),
        "purpose": one.purpose,
        "made_at": one.made_at,
        "made_by": one.made_by,
        "expires_at": one.expires_at,
        "last_used_at": one.last_used_at,
        "last_used_from": one.last_used_from,
        "revoked_at": one.revoked_at,
        "revoked_by": one.revoked_by,
    }


def _patterns(one: tokens.StoredToken, name: str) -> list[str]:
    """Where its roles hold, all together; nothing is everywhere."""
    if any(not getattr(grant.area, name) for grant in one.grants):
        return []
    return sorted({str(pattern) for grant in one.grants for pattern in getattr(grant.area, name)})


def _record(
    connection: Any, at: datetime, principal: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    audit.record(connection, at=at, principal=principal, action=action, subject=subject, detail=detail)

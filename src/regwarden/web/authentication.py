"""Who asks? Answered from memory: tokens, ended sign-ins and keys, read again within a second of a change.

While the database is gone, what was read last serves on.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request

from regwarden import clock
from regwarden.core.access import Grant, Principal, PrincipalKind
from regwarden.core.grants import parse_grants
from regwarden.core.robot_tokens import ROBOT, parse_token
from regwarden.errors import InputError, RegwardenError, StoreError, Unauthorized
from regwarden.identity.random_texts import random_id
from regwarden.identity.signing import (
    LEEWAY,
    KeyRing,
    Profile,
    SigningKey,
    api_profile,
    load_private_key,
    new_private_key,
    predecessor_profile,
)
from regwarden.identity.tokens_file import TokensFile
from regwarden.store.access_state import AccessState, load_access
from regwarden.store.changes import ACCESS, read_changes
from regwarden.store.database import Database
from regwarden.store.sessions import API
from regwarden.store.signing_keys import KeyUse, StoredKey, ensure_keys, needs_keys
from regwarden.store.tokens import StoredToken, note_uses

LOOK_AGAIN_SECONDS: Final = 1.0
USES_SECONDS: Final = 60.0
KEYS_SECONDS: Final = 600.0
MAX_ACCESS_LIFETIME: Final = timedelta(hours=1)
KEY_SIGNS: Final = timedelta(days=30)

_MAX_BEARER_CHARACTERS: Final = 16_384

log = structlog.get_logger("regwarden.auth")


@dataclass(frozen=True, slots=True)
class _Held:
    """What is in memory."""

    state: AccessState
    tokens: Mapping[str, StoredToken]
    rings: Mapping[str, KeyRing]


class Authentication:
    """Finds out who asks. ``reload`` once before anybody asks, and keep ``watch`` running."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        installation: str,
        tokens_file: TokensFile | None = None,
        legacy: Mapping[str, timedelta] | None = None,
    ) -> None:
        """``legacy``: interfaces of predecessors that sign tokens of their own, and how long these are valid."""
        self._database = database
        self._now = now
        self._file = tokens_file
        self._lifetimes = {API: MAX_ACCESS_LIFETIME, **(legacy or {})}
        self._profiles = {name: predecessor_profile() for name in legacy or ()} | {API: api_profile(installation)}
        self._held: _Held | None = None
        self._is_wanted = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._looked_for_key_at = -LOOK_AGAIN_SECONDS
        self._uses: dict[int, tuple[datetime, str]] = {}
        self._kept_uses: dict[int, datetime] = {}
        self.problem = ""

    async def authenticate(self, request: Request) -> Principal:
        """Who asks, by the header ``Authorization: Bearer``. Raises ``Unauthorized``."""
        token = bearer_of(request)
        if token is None:
            hint = "Send the header Authorization: Bearer TOKEN."
            raise Unauthorized("this needs a token", hint=hint, code="no-token")
        return await self.principal_of(token, peer_of(request))

    async def principal_of(self, token: str, peer: str) -> Principal:
        """Whose token it is: a program's, of somebody who signed in, or of the tokens file. Raises ``Unauthorized``."""
        if len(token) > _MAX_BEARER_CHARACTERS or not token.isascii():
            raise _refused()
        try:
            return self._robot(token, peer) if token.startswith(f"{ROBOT}_") else await self._signed_in(token)
        except Unauthorized:
            # A token of the file may look like anything.
            found = self._of_file(token)
            if found is None:
                raise
            return found

    async def verify(self, interface: str, token: str) -> dict[str, Any]:
        """The claims of a signed token of ``interface`` whose sign-in has not ended. Raises ``Unauthorized``."""
        await self._look_for_key(interface, token)
        claims = self.ring(interface).verify(token, now=self._now())
        if self.is_revoked(str(claims.get("sid", claims["jti"]))) or self._is_too_old(claims):
            raise _refused()
        return claims

    def ring(self, interface: str = API) -> KeyRing:
        """The keys of an interface."""
        return self._memory.rings[interface]

    def is_revoked(self, sid: str) -> bool:
        """Whether the sign-in with this public id was ended."""
        return sid in self._memory.state.ended

    async def reload(self) -> None:
        """Read everything now, and make keys that are missing. Raises ``StoreError``."""
        if self._file is not None:
            await asyncio.to_thread(self._file.reload)
        async with self._reloading:
            await self._ensure_keys()
            await self._load()

    def wake(self) -> None:
        """Something has changed: look at once."""
        self._is_wanted.set()

    async def catch_up(self) -> None:
        """Read everything if anything has changed. Raises ``StoreError``."""
        numbers = await self._database.read(read_changes)
        if self._held is None or numbers.get(ACCESS, 0) != self._held.state.number:
            async with self._reloading:
                await self._load()

    async def watch(self) -> None:
        """Keep up with changes, of the file too, and keep when tokens were used, until cancelled."""
        async with asyncio.TaskGroup() as works:
            works.create_task(self._watch_database())
            if self._file is not None:
                works.create_task(self._file.watch())

    async def _watch_database(self) -> None:
        keys_at = uses_at = clock.monotonic()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), LOOK_AGAIN_SECONDS)
            self._is_wanted.clear()
            now = clock.monotonic()
            try:
                await self.catch_up()
                if now - keys_at >= KEYS_SECONDS:
                    keys_at = now
                    await self.reload()
                if now - uses_at >= LOOK_AGAIN_SECONDS:
                    uses_at = now
                    await self.keep_uses()
            except RegwardenError as error:
                self._complain(error)
            else:
                self.problem = ""

    async def keep_uses(self) -> None:
        """Write down when tokens were used; of each token at most once a minute. Raises ``StoreError``."""
        due = {
            key: use
            for key, use in self._uses.items()
            if key not in self._kept_uses or (use[0] - self._kept_uses[key]).total_seconds() >= USES_SECONDS
        }
        if due:
            await self._database.write(partial(note_uses, uses=due))
            self._kept_uses |= {key: at for key, (at, _) in due.items()}
            for key, use in due.items():
                if self._uses.get(key) == use:
                    del self._uses[key]

    @property
    def _memory(self) -> _Held:
        if self._held is None:
            raise StoreError("it is not known yet who may come in", hint="Try again.", code="not-ready")
        return self._held

    async def _load(self) -> None:
        state = await self._database.read(partial(load_access, now=self._now()))
        rings = {name: KeyRing(profile, _keys(state, name, profile)) for name, profile in self._profiles.items()}
        self._held = _Held(state, {token.public_id: token for token in state.tokens}, rings)
        self._kept_uses = {token.id: self._kept_uses[token.id] for token in state.tokens if token.id in self._kept_uses}

    async def _ensure_keys(self) -> None:
        now = self._now()
        for name, profile in self._profiles.items():
            use = KeyUse(
                interface=name,
                signing=KEY_SIGNS,
                lifetime=self._lifetimes[name] + 2 * LEEWAY,
                make_kid=random_id,
                make_key=partial(new_private_key, profile.algorithm),
            )
            if await self._database.read(partial(needs_keys, use=use, now=now)):
                await self._database.write(partial(ensure_keys, use=use, now=now))

    async def _look_for_key(self, interface: str, token: str) -> None:
        """Another process may have made the key a moment ago. Nobody can make us look more than once a second."""
        if self.ring(interface).has(token):
            return
        now = clock.monotonic()
        if now - self._looked_for_key_at >= LOOK_AGAIN_SECONDS:
            self._looked_for_key_at = now
            with suppress(StoreError):
                await self.catch_up()

    def _robot(self, text: str, peer: str) -> Principal:
        try:
            parts = parse_token(text)
        except InputError:
            raise _refused() from None
        token = self._memory.tokens.get(parts.public_id)
        is_right = hmac.compare_digest(token.secret_sha256 if token else bytes(32), parts.secret_sha256)
        now = self._now()
        if token is None or not is_right or now >= token.expires_at:
            raise _refused()
        self._uses[token.id] = (now, peer)
        return Principal(id=f"token:{token.public_id}", name=token.name, kind=PrincipalKind.TOKEN, grants=token.grants)

    def _of_file(self, text: str) -> Principal | None:
        found = None if self._file is None else self._file.find(text)
        if found is None:
            return None
        return Principal(id=f"token:file:{found.name}", name=found.name, kind=PrincipalKind.TOKEN, grants=found.grants)

    async def _signed_in(self, token: str) -> Principal:
        if token.count(".") != 2:
            raise _refused()
        return _principal(await self.verify(API, token))

    def _is_too_old(self, claims: Mapping[str, Any]) -> bool:
        moment = self._memory.state.not_before.get(claims["sub"])
        # Tokens have whole seconds; those of the same second belong to sign-ins that were ended themselves.
        return moment is not None and claims["iat"] < int(moment.timestamp())

    def _complain(self, error: RegwardenError) -> None:
        if self.problem != error.message:
            self.problem = error.message
            log.warning("who may come in is not looked up: what was read last serves on", reason=error.message)


def bearer_of(request: Request) -> str | None:
    """The token that a request shows, without anything being known of it.

    Of two headers somebody before us may have looked at the other one: such a request shows none.
    """
    shown = request.headers.getlist("authorization")
    scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    return token.strip() or None if scheme.lower() == "bearer" else None


def peer_of(request: Request) -> str:
    """The address of the other side of the connection; empty for a Unix socket. Headers are not believed."""
    return request.client.host if request.client else ""


def _principal(claims: Mapping[str, Any]) -> Principal:
    try:
        kind, grants = PrincipalKind(claims["kind"]), _grants(msgspec.json.encode(claims["grants"]))
    except (InputError, ValueError):
        raise _refused() from None
    return Principal(
        id=claims["sub"],
        name=str(claims["name"]),
        kind=kind,
        grants=grants,
        display_name=str(claims.get("display_name", "")),
    )


@lru_cache(maxsize=1000)
def _grants(written: bytes) -> tuple[Grant, ...]:
    """Patterns take longer to compile than a signature to verify, and the same token is shown again and again."""
    return parse_grants(msgspec.json.decode(written))


def _keys(state: AccessState, interface: str, profile: Profile) -> list[SigningKey]:
    return [_signing_key(key, profile) for key in state.keys if key.interface == interface]


def _signing_key(stored: StoredKey, profile: Profile) -> SigningKey:
    return SigningKey(
        kid=stored.kid,
        key=load_private_key(profile.algorithm, stored.private_key),
        signs_from=stored.signs_from,
        signs_until=stored.signs_until,
        verifies_until=stored.verifies_until,
    )


def _refused() -> Unauthorized:
    return Unauthorized("the token is not valid", hint="Sign in again, or use another token.")

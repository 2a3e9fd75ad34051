"""Where do tokens for a GitLab's registry come from? One request for many repositories, granted compared with asked.

Source: GitLab's ``jwt_controller.rb``: ``scope`` may be repeated, and what is refused is left out without a word.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from yarl import URL

from regwarden import clock
from regwarden.errors import RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.client.addresses import matches_host
from regwarden.registries.client.challenges import Challenge
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.diagnostics import Answer, error_codes
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.tokens import Token, allowed_realm, basic_header, read_token, repeated
from regwarden.registries.client.transport import Call, Transport
from regwarden.registries.gitlab.batches import Batches, repository_of
from regwarden.registries.gitlab.grants import Grant, Grants, TokenMeta, read_grants
from regwarden.registries.gitlab.login import Login

T = TypeVar("T")

_DEFAULT_LIFETIME_SECONDS: Final = 60.0
_EARLY_SECONDS: Final = 30.0
_REMEMBERED_SECONDS: Final = 60.0
_MAX_TOKENS: Final = 4096
_MAX_METAS: Final = 10_000
_PARALLEL_REQUESTS: Final = 4
_UNUSABLE_LENGTH: Final = 7500  # proxies commonly stop headers at 8 kB
# An address that is too long for a proxy: the same may be asked in smaller parts.
_TOO_MUCH: Final = frozenset({400, 413, 414, 431})


class GitLabTokens:
    """Tokens of one GitLab's registry; a ``TokenSupply`` for ``AuthenticatedTransport``.

    What is not granted is refused here (``not-granted``), before the registry is asked, and remembered for a minute.
    ``settings.url`` is GitLab's own address.
    """

    is_only_way = True

    def __init__(self, settings: ClientSettings, transport: Transport, login: Login | None = None) -> None:
        self.login = Login() if login is None else login
        self._settings = settings
        self._transport = transport
        self._batches = Batches()
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._refused: OrderedDict[str, tuple[float, RegistryDenied]] = OrderedDict()
        self._metas: OrderedDict[str, TokenMeta] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._first_login = asyncio.Lock()
        self._requests = asyncio.Semaphore(_PARALLEL_REQUESTS)

    def expect(self, repositories: Iterable[str]) -> None:
        """Name repositories that are about to be read, in this order, after those named before."""
        self._batches.expect(repositories)

    def meta_of(self, repository: str) -> TokenMeta | None:
        """What the last token for ``repository`` said of its project; ``None`` where it is not known (any more)."""
        return self._metas.get(repository)

    def find(self, scope: str) -> Token | None:
        """The remembered token for ``scope``, if it can still be used; raises ``login-failed`` once that happened."""
        self.login.check()
        token = self._tokens.get(scope)
        return token if token is not None and token.is_fresh else None

    def refuse(self, scope: str, error: RegistryDenied) -> None:
        """Remember that ``scope`` is not granted, and forget the token that was not enough."""
        self._tokens.pop(scope, None)
        _remember(self._refused, scope, (clock.monotonic() + _REMEMBERED_SECONDS, error), _MAX_TOKENS)

    async def fetch(self, challenge: Challenge, scope: str, subject: str, *, rejected: str = "") -> Token:
        """A token for ``scope``, never the one whose header is ``rejected``; many tasks lead to one request.

        Raises ``RegistryDenied`` (``not-granted``, ``login-failed``), ``RegistryProtocolError`` for a realm that is
        not allowed or an answer that is no token.
        """
        lock = self._locks.setdefault(scope, asyncio.Lock())
        batch: Sequence[str] = (scope,)
        async with lock:
            try:
                if known := self._known(scope, rejected):
                    return known
                batch = self._batches.choose(scope, lambda other: self._is_wanted(other, rejected))
                self._locks.update(dict.fromkeys(batch, lock))
                await self._fetch_batch(challenge, batch, subject)
            finally:
                for each in batch:
                    self._locks.pop(each, None)
            self._raise_if_refused(scope)
            return self._tokens[scope]

    def _known(self, scope: str, rejected: str) -> Token | None:
        self._raise_if_refused(scope)
        known = self.find(scope)
        return known if known is not None and known.authorization != rejected else None

    def _is_wanted(self, scope: str, rejected: str) -> bool:
        """Whether another repository's token is to be asked for along the way: there is none, and nobody is asking."""
        if scope in self._locks or scope in self._refused:
            return False
        token = self._tokens.get(scope)
        return token is None or not token.is_fresh or token.authorization == rejected

    def _raise_if_refused(self, scope: str) -> None:
        until, error = self._refused.get(scope, (0.0, None))
        if error is None:
            return
        if clock.monotonic() < until:
            raise repeated(error)
        del self._refused[scope]

    async def _fetch_batch(self, challenge: Challenge, batch: Sequence[str], subject: str) -> None:
        """Ask for ``batch``, or for less of it if that is too much, and remember what came; the first is always in it.

        Others that were left out ask again for themselves.
        """
        while True:
            asked_at = clock.monotonic()
            answer, realm = await self._ask(challenge, batch, subject)
            if answer.status in _TOO_MUCH and len(batch) > 1:
                batch = batch[: self._batches.shrink(len(batch))]
                continue
            if answer.status != 200:
                raise self._refusal(answer, realm, batch)
            value, said_seconds = read_token(answer.body, realm)
            self._batches.note_length(len(value), len(batch))
            if len(value) > _UNUSABLE_LENGTH and len(batch) > 1:
                batch = batch[: self._batches.shrink(len(batch))]
                continue
            self._take(value, said_seconds, batch, asked_at)
            return

    def _take(self, value: str, said_seconds: float, batch: Sequence[str], asked_at: float) -> None:
        grants = read_grants(value)
        lifetime = grants.lifetime_seconds or said_seconds or _DEFAULT_LIFETIME_SECONDS
        replace_at = asked_at + max(lifetime - _EARLY_SECONDS, lifetime / 2)
        token = Token(f"Bearer {value}", replace_at, clock.monotonic(), frozenset(batch))
        for scope in batch:
            if missing := _missing(scope, grants):
                self.refuse(scope, _not_granted(*missing))
                continue
            self._refused.pop(scope, None)
            _remember(self._tokens, scope, token, _MAX_TOKENS)
        for (kind, name), grant in (grants.entries or {}).items():
            if kind == "repository" and grant.meta is not None:
                _remember(self._metas, name, grant.meta, _MAX_METAS)

    async def _ask(self, challenge: Challenge, scopes: Sequence[str], subject: str) -> tuple[Answer, URL]:
        self.login.check()
        realm = _realm_of(challenge, self._settings)
        service = challenge.get("service")
        query = [("service", service)] if service else []
        query += [("scope", scope) for each in scopes for scope in each.split()]
        call = Call("GET", realm.extend_query(query), f"a token for {subject}", self._transport.limits.token_bytes)
        credentials = self._settings.credentials
        if not isinstance(credentials, Basic):
            return await self._exchange(call, None), realm
        if self.login.was_accepted:
            return await self._exchange(call, basic_header(credentials)), realm
        # One at a time until it is known that the login is good: each failure counts towards the ban.
        async with self._first_login:
            return await self._exchange(call, basic_header(credentials)), realm

    async def _exchange(self, call: Call, authorization: str | None) -> Answer:
        async with self._requests:
            self.login.check()
            self._transport.traffic.token_requests += 1
            answer = await self._transport.exchange(call, authorization)
            if authorization is not None:
                self._note_login(answer, call)
            return answer

    def _note_login(self, answer: Answer, call: Call) -> None:
        """Raise ``login-failed`` where GitLab does not accept our credentials, or has banned our address."""
        if answer.status == 200:
            self.login.was_accepted = True
        is_push = any(_is_push(scope) for scope in call.url.query.getall("scope", []))
        # A known user gets what is granted, and 403 only for pushing where a rule or the storage limit forbids it.
        is_ban = answer.status == 403 and not (is_push and error_codes(answer))
        if answer.status == 401 or is_ban:
            host = call.url.host_port_subcomponent
            raise self.login.fail(
                RegistryDenied(
                    f"GitLab at {host} does not accept the user and the token ({answer.status}); nothing more is asked",
                    hint=_LOGIN_HINT if not is_ban else _DENIED_HINT if error_codes(answer) else _BANNED_HINT,
                    code="login-failed",
                    status=answer.status,
                    diagnostics=self._transport.redact.diagnose(answer),
                )
            )

    def _refusal(self, answer: Answer, realm: URL, batch: Sequence[str]) -> RegistryError:
        """The error for an answer that is no token; one that grants nothing is remembered for all of ``batch``."""
        status, said = answer.status, self._transport.redact.diagnose(answer)
        host = realm.host_port_subcomponent
        if status not in {401, 403}:
            hint = "Check that the container registry is switched on in GitLab." if status == 404 else ""
            message = f"GitLab at {host} answered {status} instead of a token"
            return RegistryProtocolError(message, hint=hint, status=status, diagnostics=said)
        for scope in batch:
            denied = RegistryDenied(
                f"GitLab at {host} gives no token for {repository_of(scope) or scope or 'the registry'} ({status})",
                hint=_PUSH_HINT if _is_push(scope) else _ANONYMOUS_HINT,
                status=status,
                diagnostics=said,
            )
            self.refuse(scope, denied)
        return repeated(self._refused[batch[0]][1])


_LOGIN_HINT: Final = (
    "Check that the token is not expired or revoked; with two-factor authentication a token is needed in place of the"
    " password. GitLab bans an address that goes on trying."
)
_BANNED_HINT: Final = "GitLab may have banned this address after failed logins: wait an hour, then check the token."
_DENIED_HINT: Final = "Give the token a scope for the registry: read_registry, read_api or api."
_ANONYMOUS_HINT: Final = "Only public projects can be read without a token: set username and password_file."
_PUSH_HINT: Final = "A rule may protect the repository from pushes, or the storage of the namespace is used up."
_ROLES: Final = {
    "pull": "The user needs the role Reporter in the project, and the token the scope read_registry, read_api or api.",
    "push": "The user needs the role Developer in the project, and the token the scope write_registry or api.",
    "delete": "The user needs the role Maintainer in the project, and the token the scope api.",
    "*": "Only a token of an administrator may list all repositories.",
}


def _realm_of(challenge: Challenge, settings: ClientSettings) -> URL:
    """The token server: our GitLab (``settings.url``), or one that was named for it.

    The registry is never its own: it is to see tokens for itself, not the secret that opens all of GitLab.
    Raises as ``allowed_realm``.
    """
    realm = allowed_realm(challenge.get("realm"), settings)
    if realm.origin() == URL(settings.url).origin() or matches_host(realm, settings.token_hosts):
        return realm
    host = realm.host_port_subcomponent
    raise RegistryProtocolError(
        f"the registry sends us to the token server {host}, which is not the GitLab of gitlab_url",
        hint=f'Check gitlab_url; if it is the right one, set token_hosts = ["{host}"] for this registry.',
        code="token-host-refused",
    )


def _is_push(scope: str) -> bool:
    return any("push" in single.rpartition(":")[2].split(",") for single in scope.split())


def _missing(scope: str, grants: Grants) -> tuple[str, str] | None:
    """The first thing and action of ``scope`` that are not granted; ``None`` if all are, or it cannot be told."""
    if grants.entries is None:
        return None
    for single in scope.split():
        name, _, actions = single.rpartition(":")
        kind, _, thing = name.partition(":")
        granted = grants.entries.get((kind, thing), Grant(frozenset()))
        for action in actions.split(","):
            if not granted.allows(frozenset({action})):
                return repository_of(single) or thing, action
    return None


def _not_granted(thing: str, action: str) -> RegistryDenied:
    what = "to list the catalog" if action == "*" else f"to {action} in {thing}"
    hint = _ROLES.get(action, "")
    return RegistryDenied(f"GitLab does not allow us {what}", hint=hint, code="not-granted")


def _remember(store: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    store[key] = value
    store.move_to_end(key)
    if len(store) > limit:
        store.popitem(last=False)

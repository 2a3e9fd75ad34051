"""Which ``Authorization`` does a request carry, and what follows from a 401?

Nothing is sent before the registry asks; then its scheme is remembered, so that later requests need no second try.
"""

from __future__ import annotations

from typing import Final, Literal

import aiohttp

from regwarden import clock
from regwarden.errors import RegistryDenied, RegistryProtocolError
from regwarden.registries.client.challenges import Challenge, find_challenge, parse_challenges
from regwarden.registries.client.credentials import Anonymous, Basic, IdentityToken, denial_hint
from regwarden.registries.client.diagnostics import Answer, protection_error
from regwarden.registries.client.digest_auth import DigestAuth
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.tokens import TokenSource, TokenSupply, basic_header
from regwarden.registries.client.transport import Call, Transport

Scheme = Literal["", "basic", "bearer", "digest"]

# A token younger than this that lacks rights will lack them again: asking once more would be a loop.
_JUST_FETCHED_SECONDS: Final = 5.0
_NEEDS_LOGIN: Final = "Give --user and --password-stdin, or run docker login."
_DIGEST_ONLY: Final = "Unset use_digest_auth (REGISTRY_USE_DIGEST_AUTH) to allow other ways."


class AuthenticatedTransport:
    """Sends requests to the registry's own origin with whatever authentication it asks for."""

    def __init__(self, settings: ClientSettings, transport: Transport, tokens: TokenSupply | None = None) -> None:
        self.scheme: Scheme = ""
        self._settings = settings
        self._transport = transport
        self._tokens: TokenSupply = TokenSource(settings, transport) if tokens is None else tokens
        self._bearer: Challenge | None = None
        self._basic = basic_header(settings.credentials) if isinstance(settings.credentials, Basic) else None
        self._middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = ()

    @property
    def has_sent_credentials(self) -> bool:
        """Whether the registry asked for credentials and we have some to give."""
        return self.scheme != "" and not isinstance(self._settings.credentials, Anonymous)

    async def send(self, call: Call) -> Answer:
        """The answer to ``call``, authenticated where needed; any status but 401.

        Raises ``RegistryDenied`` where the credentials do not suffice or a rule of the registry protects what was to
        be changed, and what ``Transport.exchange`` raises.
        """
        authorization = await self._authorization(call)
        answer = await self._exchange(call, authorization)
        if answer.status != 401:
            return answer
        authorization = await self._answer_challenge(answer, call, authorization)
        second = await self._exchange(call, authorization)
        if second.status != 401:
            return second
        raise self._still_denied(second, call)

    async def _exchange(self, call: Call, authorization: str | None) -> Answer:
        answer = await self._transport.exchange(call, authorization, self._middlewares)
        # A protection may come as 401: with another token the answer would be the same.
        if (protected := protection_error(answer, call.subject, self._transport.redact)) is not None:
            raise protected
        return answer

    async def _authorization(self, call: Call) -> str | None:
        if self.scheme == "basic":
            return self._basic
        if self.scheme != "bearer" or self._bearer is None:
            return None
        token = self._tokens.find(call.scope)
        if token is None:
            token = await self._tokens.fetch(self._bearer, call.scope, call.subject)
        return token.authorization

    async def _answer_challenge(self, answer: Answer, call: Call, used: str | None) -> str | None:
        """The ``Authorization`` for a second try; learns the scheme."""
        challenges = parse_challenges(answer.challenges)
        bearer = find_challenge(challenges, "bearer")
        if bearer is not None and not self._settings.use_digest_auth:
            return await self._answer_bearer(bearer, answer, call, used)
        if self._tokens.is_only_way:
            raise self._denied(
                f"the registry asks for a user and password for {call.subject}, which only its token server gets",
                "Check the address: it does not behave as the registry of this GitLab.",
                answer,
            )
        credentials = self._settings.credentials
        if find_challenge(challenges, "digest") is not None and isinstance(credentials, Basic):
            if self.scheme == "digest":  # the middleware has already tried
                raise self._wrong_password(answer, call)
            if self._settings.use_digest_auth or find_challenge(challenges, "basic") is None:
                self.scheme = "digest"
                self._middlewares = (DigestAuth(credentials, self._transport.base.origin()),)
                return None
        if find_challenge(challenges, "basic") is not None:
            return self._answer_basic(answer, call, used)
        raise self._cannot_answer(challenges, answer, call)

    async def _answer_bearer(self, challenge: Challenge, answer: Answer, call: Call, used: str | None) -> str:
        known = self._tokens.find(call.scope)
        self.scheme, self._bearer = "bearer", challenge
        if (
            known is not None
            and known.authorization == used
            and challenge.get("error") == "insufficient_scope"
            and clock.monotonic() - known.fetched_at < _JUST_FETCHED_SECONDS
            and known.scopes.issuperset(challenge.scopes)
        ):
            raise self._still_denied(answer, call)
        token = await self._tokens.fetch(challenge, call.scope, call.subject, rejected=used or "")
        return token.authorization

    def _answer_basic(self, answer: Answer, call: Call, used: str | None) -> str:
        if self._settings.use_digest_auth:
            raise self._denied("the registry does not offer Digest authentication", _DIGEST_ONLY, answer)
        if isinstance(self._settings.credentials, IdentityToken):
            raise self._denied(
                "the registry asks for a user and password, but there is only an identity token", _NEEDS_LOGIN, answer
            )
        if self._basic is None:
            raise self._denied(f"the registry asks for a user and password for {call.subject}", _NEEDS_LOGIN, answer)
        if used == self._basic:
            raise self._wrong_password(answer, call)
        self.scheme = "basic"
        return self._basic

    def _still_denied(self, answer: Answer, call: Call) -> RegistryDenied:
        if self.scheme != "bearer":
            return self._wrong_password(answer, call)
        credentials = self._settings.credentials
        denied = RegistryDenied(
            f"the registry refuses access to {call.subject}: the token it asked for does not suffice",
            hint=denial_hint(credentials) if isinstance(credentials, Anonymous) else _rights_hint(call.scope),
            status=answer.status,
            diagnostics=self._transport.redact.diagnose(answer),
        )
        self._tokens.refuse(call.scope, denied)
        return denied

    def _wrong_password(self, answer: Answer, call: Call) -> RegistryDenied:
        return self._denied(
            f"the registry does not accept the user and password for {call.subject}",
            "Check the user name and the password.",
            answer,
        )

    def _cannot_answer(
        self, challenges: tuple[Challenge, ...], answer: Answer, call: Call
    ) -> RegistryDenied | RegistryProtocolError:
        if find_challenge(challenges, "digest") is not None:
            return self._denied(f"the registry asks for a user and password for {call.subject}", _NEEDS_LOGIN, answer)
        if challenges and self._settings.use_digest_auth:
            return self._denied("the registry does not offer Digest authentication", _DIGEST_ONLY, answer)
        if challenges:
            schemes = ", ".join(challenge.scheme[:40] for challenge in challenges)
            return self._denied(f"the registry asks for an authentication we do not know: {schemes}", "", answer)
        return self._denied(
            f"the registry refuses access to {call.subject} and does not say how to authenticate",
            "Check the address; a proxy may have answered.",
            answer,
        )

    def _denied(self, message: str, hint: str, answer: Answer) -> RegistryDenied:
        return RegistryDenied(
            message, hint=hint, status=answer.status, diagnostics=self._transport.redact.diagnose(answer)
        )


def _rights_hint(scope: str) -> str:
    actions = set(scope.rpartition(":")[2].split(","))
    if "delete" in actions:
        return "Give this user the right to delete there."
    # A mount asks for two scopes, of which the writing one comes first.
    return "Give this user the right to push there." if ",push" in scope else "Check what this user may read."

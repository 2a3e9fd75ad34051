"""How do people sign in with an identity provider, and CI jobs show its tokens? The provider's half of both.

The authorization code flow with PKCE, state and nonce (OpenID Connect Core 1.0, 3.1; RFC 7636; RFC 9207), and the
verification of ID tokens. Nothing of the provider's is kept but its keys: no access token, no refresh token.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import structlog

from regwarden import clock
from regwarden.core.oidc_claims import (
    ClaimNames,
    Refused,
    check_access_token,
    check_audience,
    check_claims,
    check_client,
    check_kind,
    check_nonce,
    find_jti,
    read_person,
)
from regwarden.core.role_rules import SignedIn
from regwarden.errors import InputError, Unauthorized
from regwarden.identity.assertions import Assertion
from regwarden.identity.oidc_http import ProviderHttp
from regwarden.identity.oidc_keys import (
    Header,
    PublishedKey,
    Remembered,
    parse_header,
    parse_key_set,
    select_keys,
    verify_signature,
)
from regwarden.identity.oidc_people import person_of_login, with_login
from regwarden.settings_access import OidcSettings
from regwarden.settings_sources import read_secret_file

_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_MAX_CODE_LENGTH: Final = 4096

log = structlog.get_logger("regwarden.oidc")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked, by its discovery document (OpenID Connect Discovery 1.0, 3)."""

    authorization: str
    token: str
    keys: str
    takes_basic: bool
    names_itself: bool


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What must come back, or be shown, for a sign-in that has begun; the browser keeps it, sealed."""

    provider: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


class OidcProvider:
    """One configured identity provider; made by ``oidc_providers.open_providers``."""

    def __init__(
        self,
        settings: OidcSettings,
        claim_names: frozenset[str] = frozenset(),
        *,
        now: Callable[[], datetime] = clock.now,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        """``claim_names`` are the claims that rules of roles ask for. Raises ``InputError``."""
        self.settings = settings
        self._names = ClaimNames(settings.name_claim, settings.groups_claim, claim_names)
        self._now = now
        self._http = ProviderHttp(settings.name, settings.issuer, settings.ca_bundle)
        self._endpoints = Remembered(self._discover, monotonic)
        self._keys = Remembered(self._fetch_keys, monotonic)

    async def begin(self, redirect_uri: str) -> tuple[str, LoginAttempt]:
        """Where to send a browser to sign in, and what must be remembered of it.

        Raises ``ProviderError`` if the provider cannot be asked where that is.
        """
        endpoint = (await self._endpoints.get()).authorization
        attempt = LoginAttempt(self.settings.name, *(secrets.token_urlsafe(32) for _ in range(3)))
        challenge = hashlib.sha256(attempt.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *self.settings.scopes))),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", attempt

    async def complete(self, attempt: LoginAttempt, answer: Mapping[str, str], redirect_uri: str) -> SignedIn:
        """Who signed in, by the parameters with which the provider sent the browser back (``state`` was compared).

        Raises ``Unauthorized`` and ``ProviderError``.
        """
        try:
            return with_login(self._person(await self._complete(attempt, answer, redirect_uri)))
        except Refused as refused:
            log.warning("a sign-in was refused", provider=self.settings.name, reason=refused.reason)
            raise Unauthorized(
                "the sign-in did not succeed", hint="Try again; the service's log says why.", code="bad-login"
            ) from None

    async def verify_assertion(self, token: str) -> Assertion:
        """The ID token of a CI job, if it is for us alone; whether it was shown before is for the caller to find out.

        Raises ``Unauthorized`` and ``ProviderError``.
        """
        try:
            claims, _ = await self._verify(token)
            expires_at = check_claims(claims, issuer=self.settings.issuer, now=self._now())
            check_audience(claims, self.settings.audience)
            # A job is called by what its issuer vouches for: other claims may be chosen by people.
            who = replace(self._person(claims), name=str(claims["sub"]))
            return Assertion(who, self.settings.issuer, find_jti(claims, token), expires_at)
        except Refused as refused:
            raise not_accepted(self.settings.name, refused) from None

    async def look_up(self, login: str) -> SignedIn:
        """Somebody as they were when they signed in, by what their session keeps; the provider is not asked.

        Raises ``Unauthorized`` if that cannot be read.
        """
        return person_of_login(login, self.settings.name)

    async def close(self) -> None:
        """End all connections."""
        await self._http.close()

    async def _complete(self, attempt: LoginAttempt, answer: Mapping[str, str], redirect_uri: str) -> Mapping[str, Any]:
        endpoints = await self._endpoints.get()
        issuer = answer.get("iss")
        if issuer != self.settings.issuer and (issuer is not None or endpoints.names_itself):
            raise Refused("the answer is of another issuer")
        if "error" in answer:
            raise Refused(f"the provider says {answer['error'][:80]!r}")
        code = answer.get("code", "")
        if not code or len(code) > _MAX_CODE_LENGTH:
            raise Refused("there is no code in the answer")
        fields = await self._redeem(endpoints, code, attempt.verifier, redirect_uri)
        token = fields.get("id_token")
        if not isinstance(token, str):
            raise Refused("the provider gave no ID token")
        claims, header = await self._verify(token)
        check_claims(claims, issuer=self.settings.issuer, now=self._now())
        check_client(claims, self.settings.client_id)
        check_nonce(claims, attempt.nonce)
        check_access_token(claims, fields.get("access_token"), header.algorithm)
        return claims

    async def _discover(self) -> Endpoints:
        issuer = self.settings.issuer
        document = await self._http.get(issuer.rstrip("/") + _WELL_KNOWN, "discovery document")
        if document.get("issuer") != issuer:
            raise self._http.failure("its discovery document names another issuer than the settings")
        methods = document.get("token_endpoint_auth_methods_supported")
        return Endpoints(
            authorization=self._endpoint(document, "authorization_endpoint") if self.settings.client_id else "",
            token=self._endpoint(document, "token_endpoint") if self.settings.client_id else "",
            keys=self._endpoint(document, "jwks_uri"),
            takes_basic=not isinstance(methods, list) or "client_secret_basic" in methods,
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        return self._http.check_endpoint(document.get(name), name)

    async def _fetch_keys(self) -> tuple[PublishedKey, ...]:
        endpoints = await self._endpoints.get()
        keys = parse_key_set(await self._http.get(endpoints.keys, "jwks_uri"))
        if not keys:
            raise self._http.failure("it publishes no key that can be used")
        return keys

    async def _redeem(self, endpoints: Endpoints, code: str, verifier: str, redirect_uri: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        headers = {}
        if secret := await self._client_secret():
            if endpoints.takes_basic:
                # RFC 6749 2.3.1: both parts are form-encoded first.
                pair = f"{quote(self.settings.client_id, safe='')}:{quote(secret, safe='')}"
                headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
            else:
                form["client_secret"] = secret
        reply = await self._http.post(endpoints.token, "token_endpoint", form, headers)
        if reply.status == 200:
            return reply.fields
        error = reply.fields.get("error")
        if error == "invalid_grant":
            raise Refused("the provider does not take the code")
        # Another error than that is one of our configuration, or of the provider's.
        raise self._http.failure(f"its token_endpoint says {str(error)[:80]!r} with status {reply.status}")

    async def _client_secret(self) -> str:
        if not self.settings.client_secret_file:
            return ""
        try:
            return await asyncio.to_thread(_read_secret, self.settings.client_secret_file)
        except InputError as error:
            log.error("the client secret cannot be read", provider=self.settings.name, reason=error.message)  # noqa: TRY400 -- no traceback
            raise self._http.failure("the file with our secret cannot be read") from None

    async def _verify(self, token: str) -> tuple[Mapping[str, Any], Header]:
        header = parse_header(token)
        check_kind(header.kind)
        if header.algorithm not in self.settings.algorithms:
            raise Refused(f"it is signed with {header.algorithm[:20]!r}, which is not accepted")
        keys = select_keys(await self._keys.get(), header)
        if not keys:
            keys = select_keys(await self._keys.renew(), header)
        if not keys:
            raise Refused("it is signed with a key that the provider does not publish")
        return verify_signature(token, header, keys), header

    def _person(self, claims: Mapping[str, Any]) -> SignedIn:
        return read_person(claims, self._names, provider=self.settings.name, issuer=self.settings.issuer)


def not_accepted(provider: str, refused: Refused) -> Unauthorized:
    """What is told of the token of a CI job that is refused; why is told to the log."""
    log.warning("a token was refused", provider=provider, reason=refused.reason)
    return Unauthorized("this token is not accepted", hint="The service's log says why.", code="bad-assertion")


def _read_secret(file: str) -> str:
    return read_secret_file(Path(file).expanduser()).reveal()

"""Is a signed token ours, and does it still count? The rules of RFC 8725, for the API and a predecessor's interface.

The algorithm belongs to the key and never comes from a token; a token's ``kid`` only chooses among our own keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, OKPKey
from joserfc.jws import JWSRegistry

from regwarden.errors import Conflict, StoreError, Unauthorized

ED25519: Final = "Ed25519"  # RFC 9864: the name of what was EdDSA with this curve
HS256: Final = "HS256"
LEEWAY: Final = timedelta(seconds=30)
MAX_TOKEN_CHARACTERS: Final = 16_384

_MAX_SEEN: Final = 2000
_HEADER_NAMES: Final = frozenset({"alg", "typ", "kid"})
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{1,512}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{1,512}", re.ASCII)
_SECRET_BITS: Final = 256
_TIMES: Final = ("iat", "nbf", "exp")


@dataclass(frozen=True, slots=True)
class Profile:
    """What tokens of one interface are like. Without ``issuer`` and ``audience`` these claims are not looked at.

    ``required`` claims must be texts that are not empty, apart from the times and what is true or false.
    """

    algorithm: str
    typ: str
    required: tuple[str, ...]
    issuer: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One of our own keys: when it signs, and until when its signatures count."""

    kid: str
    key: OKPKey | OctKey = field(repr=False)
    signs_from: datetime
    signs_until: datetime
    verifies_until: datetime


def api_profile(installation: str) -> Profile:
    """Access tokens of the API (RFC 9068), of one installation."""
    issuer = f"urn:regwarden:{installation}"
    required = ("iss", "aud", "exp", "iat", "jti", "sub", "sid", "name", "kind", "grants")
    return Profile(ED25519, "at+jwt", required, issuer=issuer, audience=f"{issuer}:api")


def predecessor_profile() -> Profile:
    """Tokens as gitlab-registry-usage-rest had them: HS256, without issuer and audience."""
    return Profile(HS256, "JWT", ("sub", "jti", "iat", "nbf", "exp", "type", "fresh"))


def new_private_key(algorithm: str) -> bytes:
    """A new key for ``algorithm``, as a JWK in JSON."""
    made = OKPKey.generate_key("Ed25519") if algorithm == ED25519 else OctKey.generate_key(_SECRET_BITS)
    return msgspec.json.encode(made.as_dict(private=True))


def load_private_key(algorithm: str, private_key: bytes) -> OKPKey | OctKey:
    """A key as ``new_private_key`` made it, for this algorithm and no other. Raises ``StoreError`` (``damaged``)."""
    try:
        document = msgspec.json.decode(private_key, type=dict[str, str | list[str]])
        return OKPKey.import_key(document) if algorithm == ED25519 else OctKey.import_key(document)
    except (JoseError, ValueError, TypeError, KeyError):
        hint = "Delete its row in signing_keys: people sign in again, and a new key is made."
        raise StoreError("a signing key in the database cannot be used", hint=hint, code="damaged") from None


class KeyRing:
    """The keys of one interface."""

    def __init__(self, profile: Profile, keys: Sequence[SigningKey]) -> None:
        self._profile = profile
        self._keys = {key.kid: key for key in keys}
        self._registry = JWSRegistry(algorithms=[profile.algorithm])
        # Signatures that were verified, by the digest of the token: clients show the same token again and again.
        self._seen: dict[bytes, dict[str, Any]] = {}

    def has(self, token: str) -> bool:
        """Whether the key that a token names is among ours; nothing is verified."""
        try:
            return bool(_FORM.fullmatch(token)) and _peek(token).get("kid") in self._keys
        except (JoseError, ValueError, TypeError, Unauthorized):
            return False

    def sign(self, claims: Mapping[str, Any], *, now: datetime, expires_at: datetime) -> str:
        """A token with these claims, and ``iat``, ``exp``, ``iss`` and ``aud``. It ends with its key at the latest.

        Raises ``Conflict``: no key signs now, or so many grants fit into no token.
        """
        key = next((key for key in self._keys.values() if key.signs_from <= now < key.signs_until), None)
        if key is None:
            raise Conflict("no key can sign at the moment", hint="Try again in a minute.", code="no-signing-key")
        written = {**claims, "iat": int(now.timestamp()), "exp": int(min(expires_at, key.verifies_until).timestamp())}
        if self._profile.issuer:
            written |= {"iss": self._profile.issuer, "aud": self._profile.audience}
        header = {"alg": self._profile.algorithm, "typ": self._profile.typ, "kid": key.kid}
        token = jws.serialize_compact(header, msgspec.json.encode(written), key.key, registry=self._registry)
        if len(token) > MAX_TOKEN_CHARACTERS:
            hint = "Give fewer roles, or wider patterns."
            raise Conflict("the roles fit into no token", hint=hint, code="too-many-grants")
        return token

    def verify(self, token: str, *, now: datetime) -> dict[str, Any]:
        """The claims of a token that counts now. Raises ``Unauthorized`` that does not say why it does not.

        Code ``token-expired``: it was good, and is over.
        """
        if len(token) > MAX_TOKEN_CHARACTERS or not _FORM.fullmatch(token):
            raise _refused()
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._seen.get(digest)
        if claims is None:
            try:
                claims = self._verified(token, now)
            except (JoseError, ValueError, TypeError, RecursionError):
                raise _refused() from None
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen[digest] = claims
        self._check(claims, now)
        return dict(claims)

    def jwks(self, now: datetime) -> dict[str, Any]:
        """The public keys, those that will sign among them, as a JWK set (RFC 7517). Secrets are never in it."""
        shown = [key for key in self._keys.values() if now < key.verifies_until and isinstance(key.key, OKPKey)]
        about = {"use": "sig", "alg": self._profile.algorithm}
        return {"keys": [{**key.key.as_dict(private=False), "kid": key.kid, **about} for key in shown]}

    def _verified(self, token: str, now: datetime) -> dict[str, Any]:
        header = _peek(token)
        # jku, x5u, jwk, crit and whatever else could make somebody look elsewhere: no token of ours has them.
        if set(header) != _HEADER_NAMES or header["typ"] != self._profile.typ:
            raise _refused()
        key = self._keys.get(header["kid"])
        if key is None or header["alg"] != self._profile.algorithm or now >= key.verifies_until + LEEWAY:
            raise _refused()
        found = jws.deserialize_compact(token, key.key, registry=self._registry)
        return msgspec.json.decode(found.payload, type=dict[str, Any])

    def _check(self, claims: Mapping[str, Any], now: datetime) -> None:
        profile = self._profile
        if any(name not in claims or claims[name] == "" for name in profile.required):
            raise _refused()
        if profile.issuer and (claims["iss"] != profile.issuer or claims["aud"] != profile.audience):
            raise _refused()
        if not all(isinstance(claims[name], str) for name in ("sub", "jti")):
            raise _refused()
        times = {name: claims[name] for name in _TIMES if name in claims}
        if not all(type(value) in (int, float) for value in times.values()):
            raise _refused()
        moment, leeway = now.timestamp(), LEEWAY.total_seconds()
        if max(times["iat"], times.get("nbf", 0)) > moment + leeway:
            raise _refused()
        if times["exp"] <= moment - leeway:
            raise Unauthorized("the token has expired", hint="Sign in again, or refresh.", code="token-expired")


def _peek(token: str) -> dict[str, Any]:
    # The library takes any JSON for a header in which "alg" is found: a list, a text.
    header: object = jws.extract_compact(token.encode()).headers()
    if not isinstance(header, dict) or not all(isinstance(value, str) for value in header.values()):
        raise _refused()
    return dict(header)


def _refused() -> Unauthorized:
    return Unauthorized("the token is not valid", hint="Sign in again, or use another token.")

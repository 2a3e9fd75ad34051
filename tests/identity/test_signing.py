"""No forged, foreign, expired or altered token is accepted, whatever it claims about itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey, RSAKey

from regwarden.errors import Conflict, StoreError, Unauthorized
from regwarden.identity.signing import (
    ED25519,
    HS256,
    MAX_TOKEN_CHARACTERS,
    KeyRing,
    Profile,
    SigningKey,
    api_profile,
    load_private_key,
    new_private_key,
    predecessor_profile,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
PROFILE = api_profile("here")
CLAIMS = {"sub": "ldap:1", "sid": "s1", "jti": "j1", "name": "ann", "kind": "directory", "grants": [{"role": "viewer"}]}


def key_of(kid: str, algorithm: str = ED25519, begin: datetime = NOW - DAY) -> SigningKey:
    return SigningKey(
        kid=kid,
        key=load_private_key(algorithm, new_private_key(algorithm)),
        signs_from=begin,
        signs_until=begin + 30 * DAY,
        verifies_until=begin + 30 * DAY + timedelta(hours=1),
    )


CURRENT, NEXT = key_of("current"), key_of("next", begin=NOW + 29 * DAY)
RING = KeyRing(PROFILE, [CURRENT, NEXT])
STRANGER = key_of("current")


def good(now: datetime = NOW, **changes: Any) -> str:
    return RING.sign({**CLAIMS, **changes}, now=now, expires_at=now + 15 * MINUTE)


def encode(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(segment: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def signed(header: dict[str, Any], claims: dict[str, Any], key: Any = CURRENT.key, algorithm: str = ED25519) -> str:
    """Really signed by ``key``, with any header."""
    used = {"alg": algorithm}
    signing_input = f"{encode({**used, **header})}.{encode(claims)}"
    registry = jws.JWSRegistry(algorithms=[algorithm])
    signature = registry.get_alg(algorithm).sign(signing_input.encode(), key)
    return f"{signing_input}.{encode(signature)}"


HEADER = {"typ": "at+jwt", "kid": "current"}


def full(**changes: Any) -> dict[str, Any]:
    written = decode(good().split(".")[1])
    return {name: value for name, value in {**written, **changes}.items() if value is not None}


def test_a_token_of_ours_is_accepted_with_its_claims() -> None:
    claims = RING.verify(good(), now=NOW)
    assert claims.items() >= CLAIMS.items()
    assert (claims["iss"], claims["aud"]) == ("urn:regwarden:here", "urn:regwarden:here:api")
    assert RING.verify(signed(HEADER, full()), now=NOW)["sub"] == "ldap:1", "the forger of these tests can sign"


def test_clocks_may_differ_by_half_a_minute() -> None:
    token = good()
    RING.verify(token, now=NOW - timedelta(seconds=29))
    RING.verify(token, now=NOW + timedelta(minutes=15, seconds=29))
    with pytest.raises(Unauthorized):
        RING.verify(token, now=NOW - timedelta(seconds=31))
    with pytest.raises(Unauthorized) as raised:
        RING.verify(token, now=NOW + timedelta(minutes=15, seconds=31))
    assert raised.value.code == "token-expired"


def hmac_with_public_key() -> str:
    """The confusion of algorithms: our public key, which everybody knows, as the secret of HMAC."""
    public = CURRENT.key.as_dict(private=False)
    secret = base64.urlsafe_b64decode(str(public["x"]) + "=")
    signing_input = f"{encode({**HEADER, 'alg': HS256})}.{encode(full())}"
    return f"{signing_input}.{encode(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())}"


def unsigned(algorithm: str) -> str:
    return f"{encode({**HEADER, 'alg': algorithm})}.{encode(full())}."


def tampered(**changes: Any) -> str:
    header, _, signature = good().split(".")
    return f"{header}.{encode(full(**changes))}.{signature}"


def with_embedded_key() -> str:
    own = STRANGER.key
    return signed({**HEADER, "jwk": own.as_dict(private=False)}, full(), own)


FORGERIES: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None"),
    "alg none with a signature": lambda: unsigned("none") + good().split(".")[2],
    "no signature": lambda: good().rpartition(".")[0] + ".",
    "alg HS256 with our public key as secret": hmac_with_public_key,
    "alg RS256 of a foreign key": lambda: signed(HEADER, full(), RSAKey.generate_key(2048), "RS256"),
    "alg HS256 of an empty secret": lambda: signed(HEADER, full(), OctKey.import_key(b"\0" * 32), "HS256"),
    "alg EdDSA, the former name": lambda: f"{encode({**HEADER, 'alg': 'EdDSA'})}.{good().partition('.')[2]}",
    "a foreign key with our kid": lambda: signed(HEADER, full(), STRANGER.key),
    "an unknown kid": lambda: signed({**HEADER, "kid": "other"}, full()),
    "the kid of another key of ours": lambda: signed({**HEADER, "kid": "next"}, full()),
    "a kid that is a path": lambda: signed({**HEADER, "kid": "../../dev/null"}, full()),
    "a kid that is a list": lambda: signed({**HEADER, "kid": ["current"]}, full()),
    "no kid": lambda: signed({"typ": "at+jwt"}, full()),
    "jku": lambda: signed({**HEADER, "jku": "https://evil.example/keys"}, full()),
    "x5u": lambda: signed({**HEADER, "x5u": "https://evil.example/crt"}, full()),
    "jwk": with_embedded_key,
    "crit": lambda: signed({**HEADER, "crit": ["exp"]}, full()),
    "b64": lambda: signed({**HEADER, "b64": False, "crit": ["b64"]}, full()),
    "typ JWT": lambda: signed({**HEADER, "typ": "JWT"}, full()),
    "typ of another use": lambda: signed({**HEADER, "typ": "rt+jwt"}, full()),
    "no typ": lambda: signed({"kid": "current"}, full()),
    "another issuer": lambda: signed(HEADER, full(iss="urn:regwarden:there")),
    "another audience": lambda: signed(HEADER, full(aud="urn:regwarden:here:other")),
    "several audiences": lambda: signed(HEADER, full(aud=[PROFILE.audience])),
    "expired": lambda: good(NOW - timedelta(hours=1)),
    "of the future": lambda: good(NOW + timedelta(hours=1)),
    "not before the future": lambda: signed(HEADER, full(nbf=NOW.timestamp() + 3600)),
    "exp is a text": lambda: signed(HEADER, full(exp="9999999999")),
    "exp is true": lambda: signed(HEADER, full(exp=True)),
    "sub is a number": lambda: signed(HEADER, full(sub=1)),
    "sub is empty": lambda: signed(HEADER, full(sub="")),
    "the role was changed": lambda: tampered(grants=[{"role": "admin"}]),
    "the time was changed": lambda: tampered(exp=NOW.timestamp() + 9_999_999),
    "huge": lambda: good() + "A" * MAX_TOKEN_CHARACTERS,
    "a huge header": lambda: f"{encode({**HEADER, 'alg': ED25519, 'x': 'y' * 2000})}.{good().partition('.')[2]}",
    "a deep header": lambda: f"{encode(b'[' * 380)}.{good().partition('.')[2]}",
    "a header that is no object": lambda: f"{encode([1])}.{good().partition('.')[2]}",
    "a payload that is no object": lambda: signed(HEADER, [1]),  # type: ignore[arg-type]  # that is the point
    "five parts": lambda: f"{good()}.AA.AA",
    "trailing newline": lambda: f"{good()}\n",
    "empty": lambda: "",
    "dots": lambda: "..",
    **{
        f"without {name}": lambda name=name: signed(HEADER, full(**{name: None}))  # type: ignore[misc]  # a default binds the name
        for name in PROFILE.required
    },
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_is_accepted(name: str) -> None:
    token = FORGERIES[name]()
    with pytest.raises(Unauthorized) as raised:
        RING.verify(token, now=NOW)
    assert raised.value.code in ("unauthorized", "token-expired")
    assert raised.value.message in ("the token is not valid", "the token has expired"), "nothing is said about why"
    assert raised.value.__cause__ is None


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: f"{encode(raw)}.{encode(raw)}.{encode(raw)}"))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        RING.verify(text, now=NOW)
    assert RING.has(text) in (True, False)


@pytest.mark.parametrize("header", [["alg"], "alg", 1, None, {"alg": 1}, {"alg": ["none"]}, {}])
def test_a_header_that_is_no_object_of_texts_is_refused(header: object) -> None:
    token = f"{encode(json.dumps(header).encode())}.{encode(full())}.AA"
    with pytest.raises(Unauthorized):
        RING.verify(token, now=NOW)
    assert not RING.has(token)


@given(st.integers(0, 10_000), st.integers(1, 63))
def test_any_changed_character_is_noticed(place: int, distance: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = TOKEN
    # The last character of a signature has bits that mean nothing.
    place %= len(token) - 1
    if token[place] == ".":
        return
    changed = token[:place] + alphabet[(alphabet.index(token[place]) + distance) % 64] + token[place + 1 :]
    try:
        claims = RING.verify(changed, now=NOW)
    except Unauthorized:
        return
    # Only where base64 has bits that mean nothing at the end of a part.
    assert claims == RING.verify(token, now=NOW)


TOKEN = good()


def test_the_next_key_signs_in_its_time_and_the_former_still_counts() -> None:
    later = NOW + 29 * DAY - MINUTE
    old = RING.sign(CLAIMS, now=later, expires_at=later + 15 * MINUTE)
    new = RING.sign(CLAIMS, now=later + MINUTE, expires_at=later + 16 * MINUTE)
    assert [decode(token.split(".")[0])["kid"] for token in (old, new)] == ["current", "next"]
    for token in (old, new):
        RING.verify(token, now=later + 2 * MINUTE)


def test_what_was_accepted_before_is_looked_at_again() -> None:
    """A signature is verified once; whether the token still counts is asked every time."""
    ring = KeyRing(PROFILE, [CURRENT])
    token = good()
    first = ring.verify(token, now=NOW)
    first["sub"] = "changed by whoever got it"
    assert ring.verify(token, now=NOW)["sub"] == "ldap:1"
    with pytest.raises(Unauthorized):
        ring.verify(token, now=NOW + timedelta(hours=1))


def test_a_key_that_was_taken_away_does_not_count() -> None:
    token = good()
    with pytest.raises(Unauthorized):
        KeyRing(PROFILE, [NEXT]).verify(token, now=NOW)
    with pytest.raises(Unauthorized):
        KeyRing(api_profile("there"), [CURRENT]).verify(token, now=NOW)


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        pytest.param(new_private_key(HS256), id="of another algorithm"),
        b'{"kty": "OKP", "crv": "X"}',
    ],
)
def test_a_damaged_key_is_an_error_that_says_nothing_of_it(written: bytes) -> None:
    with pytest.raises(StoreError) as raised:
        load_private_key(ED25519, written)
    assert (raised.value.code, raised.value.__cause__) == ("damaged", None)


def test_public_keys_are_shown_and_nothing_else() -> None:
    shown = RING.jwks(NOW)["keys"]
    assert [key["kid"] for key in shown] == ["current", "next"]
    assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in shown)
    verified = jws.deserialize_compact(good(), OKPKey.import_key(shown[0]), algorithms=[ED25519])
    assert json.loads(verified.payload)["sub"] == "ldap:1"
    assert KeyRing(predecessor_profile(), [key_of("old", HS256)]).jwks(NOW) == {"keys": []}


def test_without_a_key_nothing_is_signed_and_too_many_grants_are_refused() -> None:
    with pytest.raises(Conflict) as raised:
        RING.sign(CLAIMS, now=NOW + 365 * DAY, expires_at=NOW + 366 * DAY)
    assert raised.value.code == "no-signing-key"
    with pytest.raises(Conflict) as raised:
        good(grants=[{"role": "viewer", "repositories": ["x" * 900] * 20}])
    assert raised.value.code == "too-many-grants"


def test_tokens_of_the_predecessor_are_of_their_own_kind() -> None:
    profile = predecessor_profile()
    ring = KeyRing(profile, [key_of("old", HS256)])
    claims = {"sub": "ann", "jti": "j", "nbf": int(NOW.timestamp()), "type": "access", "fresh": False}
    token = ring.sign(claims, now=NOW, expires_at=NOW + 14 * DAY)
    assert ring.verify(token, now=NOW + 13 * DAY).items() >= claims.items()
    header = decode(token.split(".")[0])
    assert (header["alg"], header["typ"]) == ("HS256", "JWT")
    for other in (
        RING,
        KeyRing(PROFILE, [key_of("old")]),
        KeyRing(Profile(HS256, "at+jwt", ()), [key_of("old", HS256)]),
    ):
        with pytest.raises(Unauthorized):
            other.verify(token, now=NOW)
    with pytest.raises(Unauthorized):
        ring.verify(good(), now=NOW)

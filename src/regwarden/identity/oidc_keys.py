"""Whose signature stands under a token? The provider's keys, remembered, and the one way in which they are used.

The algorithm is one of those configured, and the key must be one for it; keys that a token brings along are not
looked at (RFC 8725 3.1, 3.10).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from regwarden.core.oidc_claims import Refused
from regwarden.errors import ProviderError

MAX_TOKEN_LENGTH: Final = 16 * 1024
_FRESH_SECONDS: Final = 3600.0
_STALE_SECONDS: Final = 24 * 3600.0
_AGAIN_SECONDS: Final = 60.0
_AFTER_FAILURE_SECONDS: Final = 5.0
_MAX_HEADER_LENGTH: Final = 4096
_MAX_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8193)
# Which keys an algorithm is for (RFC 7518 3.1, RFC 8037 3.1): the type, and the curve where there is one.
_KEY_OF: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}

T = TypeVar("T")


class Remembered(Generic[T]):
    """Something of a provider's that is asked for again every hour, and served for a day while that fails."""

    def __init__(self, load: Callable[[], Awaitable[T]], monotonic: Callable[[], float]) -> None:
        self._load = load
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._kept: tuple[T, float] | None = None
        self._asked_at: float | None = None
        self._failure: ProviderError | None = None

    async def get(self) -> T:
        """The present value. Raises ``ProviderError`` if there is none that is less than a day old."""
        if self._kept is not None and self._age() < _FRESH_SECONDS:
            return self._kept[0]
        async with self._lock:
            if self._kept is not None and self._age() < _FRESH_SECONDS:
                return self._kept[0]
            if self._may_ask(_AFTER_FAILURE_SECONDS if self._kept is None else _AGAIN_SECONDS):
                await self._ask()
        if self._kept is not None and self._age() < _STALE_SECONDS:
            return self._kept[0]
        assert self._failure is not None  # noqa: S101 -- otherwise there would be a value
        raise self._failure.with_traceback(None)

    async def renew(self) -> T:
        """The value after having asked for it again, if that was not done within the last minute."""
        async with self._lock:
            if self._may_ask(_AGAIN_SECONDS):
                await self._ask()
        return await self.get()

    async def _ask(self) -> None:
        self._asked_at = self._monotonic()
        try:
            self._kept = (await self._load(), self._monotonic())
        except ProviderError as error:
            self._failure = error

    def _age(self) -> float:
        return self._monotonic() - self._kept[1] if self._kept is not None else _STALE_SECONDS

    def _may_ask(self, pause_seconds: float) -> bool:
        return self._asked_at is None or self._monotonic() - self._asked_at >= pause_seconds


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key with which a provider signs, and for which algorithm, if it says so."""

    kid: str
    kind: str
    curve: str
    algorithm: str
    key: Key

    def is_for(self, algorithm: str) -> bool:
        """Whether this key signs with ``algorithm``."""
        if self.algorithm not in {"", algorithm} and {self.algorithm, algorithm} != {"EdDSA", "Ed25519"}:
            return False
        return _KEY_OF.get(algorithm) == (self.kind, self.curve)


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says about its own signature; only good for finding the key."""

    algorithm: str
    kid: str
    kind: str


def parse_key_set(document: Mapping[str, Any]) -> tuple[PublishedKey, ...]:
    """The keys of a JWK set (RFC 7517 5) that can verify; keys that are secret, weak or not understood are left out."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        return ()
    found = (_parse_key(entry) for entry in listed[:_MAX_KEYS] if isinstance(entry, dict))
    return tuple(key for key in found if key is not None)


def parse_header(token: str) -> Header:
    """The header of a signed token in compact form (RFC 7515 7.1); raises ``Refused``."""
    if len(token) > MAX_TOKEN_LENGTH or token.count(".") != 2 or not token.isascii():
        raise Refused("it is no signed token, or a very long one")
    encoded = token.partition(".")[0]
    fields = decode_object(encoded) if len(encoded) <= _MAX_HEADER_LENGTH else {}
    # Whatever is nested would be read again by the library, which does not count how deep it goes.
    if any(isinstance(value, dict) or _is_nested(value) for value in fields.values()):
        raise Refused("its header has fields that are not understood")
    algorithm, kid, kind = (fields.get(name, "") for name in ("alg", "kid", "typ"))
    if not (isinstance(algorithm, str) and isinstance(kid, str) and isinstance(kind, str)):
        raise Refused("its header has fields of the wrong type")
    return Header(algorithm, kid, kind)


def decode_object(encoded: str) -> Mapping[str, Any]:
    """The JSON object in a part of a token, verified or not; raises ``Refused``."""
    try:
        found = msgspec.json.decode(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_"))
    except (ValueError, RecursionError):  # msgspec's own errors are among them
        found = None
    if not isinstance(found, dict):
        raise Refused("a part of it is no JSON object")
    return found


def verify_signature(token: str, header: Header, keys: Sequence[PublishedKey]) -> Mapping[str, Any]:
    """The claims of a token that one of ``keys`` has signed; raises ``Refused``.

    The caller has looked whether ``header.algorithm`` is accepted at all.
    """
    algorithm = "Ed25519" if header.algorithm == "EdDSA" else header.algorithm
    for published in keys:
        try:
            jws.deserialize_compact(token, published.key, registry=_Registry(algorithms=[algorithm]))
        except (JoseError, ValueError):
            continue
        return decode_object(token.split(".")[1])
    raise Refused("its signature is not valid")


def select_keys(keys: Sequence[PublishedKey], header: Header) -> list[PublishedKey]:
    """Those that may have signed: of that id, or, without an id, the only one that there is for the algorithm."""
    fitting = [key for key in keys if key.is_for(header.algorithm)]
    if header.kid:
        return [key for key in fitting if key.kid == header.kid]
    return fitting if len(fitting) == 1 else []


class _Registry(jws.JWSRegistry):
    """One algorithm. Headers that are not understood are nothing to us, unless they are marked critical."""

    max_header_length = _MAX_HEADER_LENGTH

    def __init__(self, algorithms: list[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> JWSAlgModel:
        """``EdDSA`` and ``Ed25519`` are the same signature (RFC 9864 2.2)."""
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


def _parse_key(entry: Mapping[str, Any]) -> PublishedKey | None:
    kind, kid, algorithm, use = (entry.get(name, "") for name in ("kty", "kid", "alg", "use"))
    if not all(isinstance(text, str) for text in (kind, kid, algorithm)) or use not in {"", "sig"}:
        return None
    try:
        if kind == "RSA" and _bits(entry["n"]) in _RSA_BITS:
            key: Key = RSAKey.import_key({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
            return PublishedKey(kid, kind, "", algorithm, key)
        if kind == "EC":
            key = ECKey.import_key({"kty": "EC", **{name: entry[name] for name in ("crv", "x", "y")}})
            return PublishedKey(kid, kind, entry["crv"], algorithm, key)
        if kind == "OKP" and entry["crv"] == "Ed25519":
            key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": entry["x"]})
            return PublishedKey(kid, kind, "Ed25519", algorithm, key)
    except (JoseError, KeyError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return None


def _bits(encoded: object) -> int:
    if not isinstance(encoded, str) or len(encoded) > _MAX_HEADER_LENGTH:
        return 0
    number = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_")
    return int.from_bytes(number, "big").bit_length()


def _is_nested(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(entry, (dict, list)) for entry in value)

"""Does whoever sends a notification know its registry's secret? Compared in constant time, whatever is presented."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as randomness
from collections.abc import Iterable, Mapping
from typing import Final

VALID_COUNT: Final = 2
_MAX_HEADER_BYTES: Final = 8192


class Senders:
    """The secrets that are valid now, two for each registry at most."""

    def __init__(self, secrets: Mapping[str, Iterable[str]] | None = None) -> None:
        self._nobody = self._padded(())
        self._digests: dict[str, tuple[bytes, ...]] = {}
        self.replace(secrets or {})

    def replace(self, secrets: Mapping[str, Iterable[str]]) -> None:
        """From now on these are valid: registry → secrets, the newest first."""
        self._digests = {registry: self._padded(values) for registry, values in secrets.items()}

    def knows(self, registry: str) -> bool:
        """Whether there is a registry of this name: for the log, never for an answer."""
        return registry in self._digests

    def is_authentic(self, registry: str, authorization: bytes | None) -> bool:
        """Whether the header has a secret of ``registry``; of an unknown one as many are compared."""
        presented = _presented(authorization)
        matches = [hmac.compare_digest(presented, digest) for digest in self._digests.get(registry, self._nobody)]
        return any(matches)

    def find_registry(self, authorization: bytes | None) -> str | None:
        """The registry whose secret the header has; all are compared."""
        presented = _presented(authorization)
        found = None
        for registry, digests in self._digests.items():
            for digest in digests:
                if hmac.compare_digest(presented, digest):
                    found = registry
        return found

    @staticmethod
    def _padded(values: Iterable[str]) -> tuple[bytes, ...]:
        known = [hashlib.sha256(value.encode()).digest() for value in values if value][:VALID_COUNT]
        return (*known, *(randomness.token_bytes(32) for _ in range(VALID_COUNT - len(known))))


def _presented(authorization: bytes | None) -> bytes:
    """The digest of what an Authorization header presents: ``Bearer SECRET``, or ``Basic`` with any user name."""
    scheme, _, value = (authorization or b"")[:_MAX_HEADER_BYTES].strip().partition(b" ")
    value = value.strip()
    if scheme.lower() == b"basic":
        try:
            value = base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            value = b""
    elif scheme.lower() != b"bearer":
        value = b""
    return hashlib.sha256(value).digest()

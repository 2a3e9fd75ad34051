"""Digests as values: ``sha256:<hex>`` parsed once (OCI image specification, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final, Self

from regwarden.errors import InputError

# Registered algorithms of the specification; the number is the first byte of the stored form and never changes.
_ALGORITHMS: Final = {"sha256": (1, 32), "sha512": (2, 64)}
_LOWER_HEX: Final = re.compile("[0-9a-f]*")
_BY_NUMBER: Final = {number: (name, length) for name, (number, length) in _ALGORITHMS.items()}


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content digest.

    ``algorithm`` is a registered name (``sha256``, ``sha512``), ``hex`` the lower-case hexadecimal value.
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``algorithm:hex``; raises ``InputError`` for anything that is not a registered, complete digest."""
        algorithm, separator, value = text.partition(":")
        known = _ALGORITHMS.get(algorithm)
        if not separator or known is None:
            raise InputError(
                f"{text[:80]!r} is not a digest",
                hint="A digest is sha256: or sha512: and hexadecimal digits.",
                code="bad-digest",
            )
        if len(value) != known[1] * 2 or _LOWER_HEX.fullmatch(value) is None:
            raise InputError(
                f"{text[:160]!r} is not a complete {algorithm} digest",
                hint=f"It needs {known[1] * 2} lower-case hexadecimal digits.",
                code="bad-digest",
            )
        return cls(algorithm, value)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of ``content`` (bytes)."""
        if algorithm not in _ALGORITHMS:
            raise InputError(f"{algorithm[:40]!r} is not a digest algorithm", code="bad-digest")
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """Read the stored form: one byte for the algorithm, then the raw value."""
        known = _BY_NUMBER.get(stored[0]) if stored else None
        if known is None or len(stored) != known[1] + 1:
            raise InputError("stored digest is damaged", code="bad-digest")
        return cls(known[0], stored[1:].hex())

    def to_bytes(self) -> bytes:
        """The stored form: one byte for the algorithm, then the raw value."""
        return bytes((_ALGORITHMS[self.algorithm][0],)) + bytes.fromhex(self.hex)

    @staticmethod
    def stored_form(text: str) -> bytes:
        """``Digest.parse(text).to_bytes()`` for what is known to be a digest, several times faster for SHA-256."""
        if text.startswith("sha256:"):
            return b"\x01" + bytes.fromhex(text[7:])
        return Digest.parse(text).to_bytes()

    def matches(self, content: bytes) -> bool:
        """Whether ``content`` (bytes) has this digest."""
        return hmac.compare_digest(hashlib.new(self.algorithm, content).hexdigest(), self.hex)

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

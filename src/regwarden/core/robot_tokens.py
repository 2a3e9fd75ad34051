"""What does a token look like? ``rgw_<id>_<secret>_<checksum>``: found by its prefix, checked without asking.

The id is public and leads to the row; the secret has more than 160 random bits, of which only the SHA-256 is kept.
The checksum (CRC-32 of what stands before it) tells scanners of leaked secrets a token from a text that resembles one.
"""

from __future__ import annotations

import hashlib
import re
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

from regwarden.errors import InputError

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_CHARACTERS: Final = 12
SECRET_CHARACTERS: Final = 32  # 190 bits
CHECKSUM_CHARACTERS: Final = 6
ROBOT: Final = "rgw"
REFRESH: Final = "rgr"

_FORM: Final = re.compile(
    rf"(?P<prefix>rg[wr])_(?P<id>[0-9A-Za-z]{{{ID_CHARACTERS}}})_(?P<secret>[0-9A-Za-z]{{{SECRET_CHARACTERS}}})"
    rf"_(?P<checksum>[0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class TokenParts:
    """A token, taken apart; its secret does not show when it is printed."""

    public_id: str
    secret: str = field(repr=False)

    @property
    def secret_sha256(self) -> bytes:
        """What is kept of the secret. It is random and long, so no slow function is needed."""
        return hashlib.sha256(self.secret.encode()).digest()


def build_token(parts: TokenParts, prefix: str = ROBOT) -> str:
    """The token of these parts; ``prefix`` is ``ROBOT`` or ``REFRESH``."""
    text = f"{prefix}_{parts.public_id}_{parts.secret}"
    return f"{text}_{_checksum(text)}"


def parse_token(text: str, prefix: str = ROBOT) -> TokenParts:
    """Take a token apart. Raises ``InputError`` (``bad-token``) that repeats nothing of ``text``."""
    match = _FORM.fullmatch(text)
    if match is None or match["prefix"] != prefix:
        raise InputError("this is not a token of Regwarden", hint="Copy the whole token.", code="bad-token")
    if _checksum(text.rpartition("_")[0]) != match["checksum"]:
        raise InputError("the token is incomplete or mistyped", hint="Copy the whole token.", code="bad-token")
    return TokenParts(match["id"], match["secret"])


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits

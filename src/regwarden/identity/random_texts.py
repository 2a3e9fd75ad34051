"""Where do secrets and ids that nobody can guess come from? From the system's source of randomness, in base 62."""

from __future__ import annotations

import secrets

from regwarden.core.robot_tokens import ALPHABET, ID_CHARACTERS, SECRET_CHARACTERS, TokenParts


def random_text(character_count: int) -> str:
    """This many random letters and digits; each has 5.95 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(character_count))


def random_id() -> str:
    """An id that is unique without anybody being asked; no secret."""
    return random_text(ID_CHARACTERS)


def random_token(public_id: str = "") -> TokenParts:
    """The parts of a new token; of ``public_id``, if there is one already."""
    return TokenParts(public_id or random_id(), random_text(SECRET_CHARACTERS))

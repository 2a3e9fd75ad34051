"""Which authentication does a 401 ask for? ``WWW-Authenticate`` headers as values (RFC 9110 11.6.1, RFC 6750)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import www_authenticate

_MAX_HEADER_LENGTH: Final = 8192
# The parser knows no empty quoted strings: they get a content that cannot stand in a header, and lose it again.
_EMPTY_VALUE: Final = re.compile(r"=\s*\"\"(?=\s*(?:,|$))")
_NOTHING: Final = "\0"
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: ``scheme`` in lower case and its parameters, names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """A parameter, empty when it is not there."""
        return self.parameters.get(name, "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of a Bearer challenge: several stand in one parameter, separated by spaces."""
        return tuple(self.get("scope").split())


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read the ``WWW-Authenticate`` headers of an answer; what cannot be read is left out, nothing is raised."""
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= _MAX_HEADER_LENGTH:
            found.extend(_parse(header))
    return tuple(found)


def find_challenge(challenges: Iterable[Challenge], scheme: str) -> Challenge | None:
    """The first challenge of a scheme (lower case)."""
    return next((challenge for challenge in challenges if challenge.scheme == scheme), None)


def _parse(header: str) -> list[Challenge]:
    try:
        parsed = www_authenticate.parse(_EMPTY_VALUE.sub(f'="{_NOTHING}"', header))
    except (ValueError, AttributeError, TypeError, IndexError):  # its ways to say that it did not understand
        return []
    schemes = [(str(scheme), parameters) for scheme, parameters in parsed.items()]
    return [Challenge(scheme, _parameters(parameters)) for scheme, parameters in schemes if scheme.isalnum()]


def _parameters(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict):
        return {}
    return {
        name.lower(): "" if value == _NOTHING else _ESCAPED.sub(r"\1", value)
        for name, value in raw.items()
        if isinstance(name, str) and isinstance(value, str)
    }

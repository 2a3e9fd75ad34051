"""Where in a policy document is a mistake, and how is it said?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from regwarden.errors import InputError

MAX_PROBLEMS: Final = 100


class Place(NamedTuple):
    """Where something stands in a text; both numbers begin with 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake, or with a code of ``core.policy_lint`` one warning: where, what, and what to do about it."""

    place: Place
    message: str
    hint: str = ""
    code: str = "bad-policy"

    @property
    def sort_key(self) -> tuple[Place, str, str]:
        """Problems are shown in the order in which they stand in the text."""
        return self.place, self.code, self.message


class PolicyError(InputError):
    """A policy document cannot be used. ``problems`` are all its mistakes, at least one, at most ``MAX_PROBLEMS``."""

    code = "bad-policy"

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: problem.sort_key)[:MAX_PROBLEMS])
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(f"{name}:{first.place}: {first.message}{more}", hint=first.hint)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known words, or all of them."""
    words = list(known)
    close = difflib.get_close_matches(word[:80].lower().replace("_", "-"), words, 1)
    return f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(words)}."

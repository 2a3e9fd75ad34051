"""Which repositories does one token serve? Those that are read next, as many as a header can carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

_MOST: Final = 16
_MAX_STEPS: Final = 64
_MAX_EXPECTED: Final = 500_000
_GOOD_LENGTH: Final = 6000  # of a token: proxies commonly stop headers at 8 kB
_PREFIX: Final = "repository:"
_SUFFIX: Final = ":pull"


class Batches:
    """What is going to be read, in order, and how much of it is asked for at once."""

    def __init__(self) -> None:
        self.size = _MOST
        self._following: dict[str, str] = {}
        self._last = ""

    def expect(self, repositories: Iterable[str]) -> None:
        """Add repositories that will be read, in order, after those that were added before."""
        if len(self._following) > _MAX_EXPECTED:
            self._following.clear()
        for repository in repositories:
            if self._last and self._last != repository:
                self._following[self._last] = repository
            self._last = repository

    def choose(self, scope: str, is_wanted: Callable[[str], bool]) -> tuple[str, ...]:
        """``scope`` alone, or with the same for repositories that follow and for which ``is_wanted`` is true.

        Only reading is asked for together: a token that could do more should be able to do it in one place only.
        """
        repository = repository_of(scope)
        if not repository or scope != f"{_PREFIX}{repository}{_SUFFIX}":
            return (scope,)
        chosen = {scope: None}
        for _ in range(_MAX_STEPS):
            repository = self._following.get(repository, "")
            if not repository or len(chosen) >= self.size:
                break
            other = f"{_PREFIX}{repository}{_SUFFIX}"
            if other not in chosen and is_wanted(other):
                chosen[other] = None
        return tuple(chosen)

    def note_length(self, token_length: int, count: int) -> None:
        """Ask for fewer from now on if a token for ``count`` repositories was too long."""
        if token_length > _GOOD_LENGTH and count > 1:
            self.size = min(self.size, max(1, count * _GOOD_LENGTH // token_length))

    def shrink(self, count: int) -> int:
        """How many to ask for after ``count`` were too many: at most half of them, from now on too."""
        self.size = min(self.size, max(1, count // 2))
        return self.size


def repository_of(scope: str) -> str:
    """The repository of a single scope ``repository:<name>:<actions>``; empty for all others."""
    name, _, actions = scope.rpartition(":")
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) and " " not in scope and actions else ""

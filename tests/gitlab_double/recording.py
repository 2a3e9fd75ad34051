"""What was asked of the three parts, and what shall go wrong when? Records of requests, and a plan of faults."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Part = Literal["rails", "issuer", "registry"]
SECRET_HEADERS = frozenset({"private-token", "job-token", "deploy-token", "cookie"})
SECRET_PARAMETERS = frozenset({"private_token", "access_token", "job_token"})
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request and the status of its answer. Names of headers are lower-case, secrets are hidden.

    ``path`` is as sent, percent-encoded. ``scopes`` are those a token was asked for, one per entry.
    """

    part: Part
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    status: int
    scopes: tuple[str, ...] = ()
    is_scripted: bool = True


def without_secrets(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers as they may be kept: of credentials the scheme only."""
    found = {name.lower(): HIDDEN if name.lower() in SECRET_HEADERS else value for name, value in headers}
    if "authorization" in found:
        scheme, space, _ = found["authorization"].partition(" ")
        found["authorization"] = f"{scheme} {HIDDEN}" if space else HIDDEN
    return found


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Parameters by name in their order, secrets hidden."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(HIDDEN if name in SECRET_PARAMETERS else value)
    return found


@dataclass
class Recording:
    """Every request of every part, in the order in which they were answered. Any thread may add."""

    requests: list[Recorded] = field(default_factory=list)

    def add(self, recorded: Recorded) -> None:
        self.requests.append(recorded)

    @property
    def unscripted(self) -> list[Recorded]:
        """Those that no test double knows an answer to."""
        return [each for each in self.requests if not each.is_scripted]

    def of(self, part: Part | None = None, method: str | None = None, path: str = "") -> list[Recorded]:
        """Those of a part, a method, and with a path in which the expression ``path`` is found."""
        return [
            each
            for each in self.requests
            if part in {None, each.part} and method in {None, each.method} and re.search(path, each.path)
        ]

    def scopes(self) -> list[str]:
        """All scopes that tokens were asked for."""
        return [scope for each in self.requests for scope in each.scopes]


class FaultKind(StrEnum):
    """What goes wrong; see ``faults.misbehave``, the issuer (GRANT_LESS, BANNED) and the background (DELETE_FAILED)."""

    TOO_MANY = "429 with headers"
    TOO_MANY_BARE = "429 without headers"
    BAD_GATEWAY = "502 with HTML"
    UNAVAILABLE = "503 with JSON"
    EXPIRED = "401 although it was good a moment ago"
    BANNED = "403 of the address ban"
    SLOW = "body in two halves, with a pause between"
    TRUNCATED = "half of the body, then closed"
    RESET = "connection aborted before any answer"
    GRANT_LESS = "tokens without what was asked for"
    DELETE_FAILED = "the background fails to delete a repository (method TICK, its path)"
    NOTHING = "answers as ever (for the sake of `run`)"


@dataclass
class Fault:
    """Something that goes wrong ``count`` times for requests that match, after ``skip`` of them went well.

    ``path`` is an expression to be found in the path with its query, ``method`` empty for any. ``run`` is called before
    the answer is made: the way to let a page shift. ``seconds`` is a pause or the value of Retry-After; ``actions`` are
    those that are not granted (none: no action is).
    """

    kind: FaultKind
    part: Part = "rails"
    method: str = ""
    path: str = ""
    count: int = 1
    skip: int = 0
    seconds: float = 0
    actions: tuple[str, ...] = ()
    run: Callable[[], object] | None = None

    def matches(self, part: Part, method: str, path: str) -> bool:
        return self.part == part and self.method in {"", method} and re.search(self.path, path) is not None


@dataclass
class FaultPlan:
    """What shall go wrong; the first fault that matches is used up by one."""

    faults: list[Fault] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        """Plan it; what is left of it can be seen in its ``count``."""
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        self.faults.clear()

    def take(self, part: Part, method: str, path: str, *, query: str = "") -> Fault | None:
        """The fault of this request, if any; its ``run`` has been called."""
        whole = f"{path}?{query}" if query else path
        with self._guard:
            fault = next((each for each in self.faults if each.count > 0 and each.matches(part, method, whole)), None)
            if fault is None:
                return None
            if fault.skip > 0:
                fault.skip -= 1
                return None
            fault.count -= 1
        if fault.run is not None:
            fault.run()
        return fault

"""May somebody try to sign in once more? Failures are counted by address, by name and altogether, in this process.

Nobody can lock somebody else out for long: an address from which a name signed in before answers only for itself, and
an address without failures may try now and then, however often others failed with the name.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Final

from regwarden import clock
from regwarden.errors import RegwardenError, TooManyAttempts, Unauthorized

WINDOW_SECONDS: Final = 300.0
ADDRESS_LIMIT: Final = 10
NAME_LIMIT: Final = 10
GLOBAL_LIMIT: Final = 1000
# Past the limit of a name or of all, an address without failures may try this often.
NAME_PAUSE_SECONDS: Final = 30.0
GLOBAL_PAUSE_SECONDS: Final = 1.0
TRUSTED_SECONDS: Final = 7 * 86_400.0
MAX_REMEMBERED: Final = 10_000

_NETWORK_BITS: Final = 64
_EVERYBODY: Final = b"all"


class Attempt:
    """A sign-in that is being tried. Until it is known how it ends, it counts as failed."""

    def __init__(self) -> None:
        self.has_succeeded = False

    def succeed(self) -> None:
        """The password was right."""
        self.has_succeeded = True


@dataclass(frozen=True, slots=True)
class _Limit:
    key: bytes
    count: int
    pause_seconds: float = 0.0


class Attempts:
    """Failed sign-ins of the last minutes. Memory is bounded: what is oldest is forgotten first."""

    def __init__(self, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._monotonic = monotonic
        self._salt = secrets.token_bytes(16)
        self._failures: OrderedDict[bytes, deque[float]] = OrderedDict()
        self._trusted: OrderedDict[bytes, float] = OrderedDict()
        self._passed: OrderedDict[bytes, float] = OrderedDict()

    @contextmanager
    def begin(self, address: str, name: str) -> Iterator[Attempt]:
        """Try to sign in as ``name``, as it was typed, from ``address``; call ``succeed`` when the password was right.

        Whoever leaves the block without that has failed, except with an error that is not ``Unauthorized``: then the
        directory is down, and nobody knows. Being cancelled is a failure too, or going away would avoid it.
        Raises ``TooManyAttempts`` before anything expensive is done.
        """
        source, typed = self._key(b"address", network_of(address)), self._key(b"name", _folded(name))
        pair = self._key(b"pair", source.hex() + typed.hex())
        keys = (source, typed, pair, _EVERYBODY)
        self._check(source, typed, pair)
        at = self._monotonic()
        for key in keys:
            self._note(key, at)
        attempt, is_unknown = Attempt(), False
        try:
            yield attempt
        except RegwardenError as error:
            is_unknown = not isinstance(error, Unauthorized)
            raise
        finally:
            if attempt.has_succeeded or is_unknown:
                for key in keys:
                    self._take_back(key, at)
            if attempt.has_succeeded:
                _remember(self._trusted, pair, self._monotonic())

    def _check(self, source: bytes, typed: bytes, pair: bytes) -> None:
        now = self._monotonic()
        if now - self._trusted.get(pair, -TRUSTED_SECONDS) < TRUSTED_SECONDS:
            # They signed in from here before: whatever others do, they are judged by their own failures.
            self._require(_Limit(pair, ADDRESS_LIMIT), now, is_clean=False)
            return
        is_clean = not self._count(source, now)
        self._require(_Limit(source, ADDRESS_LIMIT), now, is_clean=False)
        self._require(_Limit(typed, NAME_LIMIT, NAME_PAUSE_SECONDS), now, is_clean=is_clean)
        self._require(_Limit(_EVERYBODY, GLOBAL_LIMIT, GLOBAL_PAUSE_SECONDS), now, is_clean=is_clean)

    def _require(self, limit: _Limit, now: float, *, is_clean: bool) -> None:
        if self._count(limit.key, now) < limit.count:
            return
        wait = self._failures[limit.key][-limit.count] + WINDOW_SECONDS - now
        if is_clean:
            wait = self._passed.get(limit.key, -WINDOW_SECONDS) + limit.pause_seconds - now
            if wait <= 0:
                _remember(self._passed, limit.key, now)
                return
        raise TooManyAttempts(
            "too many sign-ins failed",
            retry_after_seconds=max(1, ceil(wait)),
            hint="Wait as long as Retry-After says, then try again.",
        )

    def _count(self, key: bytes, now: float) -> int:
        found = self._failures.get(key)
        if found is None:
            return 0
        while found and found[0] <= now - WINDOW_SECONDS:
            found.popleft()
        if not found:
            del self._failures[key]
        return len(found)

    def _note(self, key: bytes, at: float) -> None:
        kept = self._failures.get(key)
        if kept is None:
            kept = self._failures[key] = deque(maxlen=GLOBAL_LIMIT * 2 if key == _EVERYBODY else ADDRESS_LIMIT * 4)
        kept.append(at)
        self._failures.move_to_end(key)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def _take_back(self, key: bytes, at: float) -> None:
        found = self._failures.get(key)
        if found is not None and at in found:
            found.remove(at)
            if not found:
                del self._failures[key]

    def _key(self, kind: bytes, text: str) -> bytes:
        """What is typed as a name may be a password: only a salted digest of it is remembered."""
        return hashlib.blake2b(kind + b"\0" + text.encode("utf-8", "replace"), digest_size=16, key=self._salt).digest()


def network_of(address: str) -> str:
    """Who answers for a peer address: an IPv4 address, the /64 of an IPv6 one, or the text, as for Unix sockets."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ip_network((parsed, _NETWORK_BITS), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


def _folded(name: str) -> str:
    """Spellings that a directory takes for one account, as one."""
    return " ".join(unicodedata.normalize("NFKC", name[:1000]).casefold().split())


def _remember(known: OrderedDict[bytes, float], key: bytes, at: float) -> None:
    known[key] = at
    known.move_to_end(key)
    while len(known) > MAX_REMEMBERED:
        known.popitem(last=False)

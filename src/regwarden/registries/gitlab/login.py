"""Does GitLab accept our credentials? A refusal is remembered for a while, because GitLab bans those who go on.

Source: GitLab's documentation of the ban after failed logins: 30 within 3 minutes, at Git and ``/jwt/auth`` together.
A service opens many connectors with the same credentials: what one of them learned holds for the whole process.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from regwarden import clock
from regwarden.errors import RegistryDenied
from regwarden.registries.client.credentials import Basic, Credentials
from regwarden.registries.client.tokens import repeated

PAUSE_SECONDS: Final = 600.0
"""So long nothing is asked after a refusal: a service that runs on finds out by itself when it is over."""

_MAX_REMEMBERED: Final = 1000

_refusals: OrderedDict[bytes, tuple[float, RegistryDenied]] = OrderedDict()


class Login:
    """What became of our credentials at one GitLab; shared by everything that shows the same ones.

    Refusals are shared by all logins of the process with the same ``key``; without one they stay here.
    """

    def __init__(self, key: bytes = b"") -> None:
        self.was_accepted = False
        self._key = key
        self._own: tuple[float, RegistryDenied] | None = None

    @property
    def failure(self) -> RegistryDenied | None:
        """The refusal that still counts, if there is one."""
        found = self._own or (_refusals.get(self._key) if self._key else None)
        if found is None:
            return None
        if clock.monotonic() < found[0]:
            return found[1]
        self._own, self.was_accepted = None, False
        return None

    def check(self) -> None:
        """Raise the refusal (``login-failed``), if there was one: nothing more is to be asked."""
        if (failure := self.failure) is not None:
            raise repeated(failure)

    def fail(self, error: RegistryDenied, *, is_shared: bool = True) -> RegistryDenied:
        """Remember a refusal, and return it to be raised; the first one stays.

        ``is_shared`` off: it holds for this login alone, as one that does not prove the credentials to be wrong.
        """
        if (failure := self.failure) is not None:
            return repeated(failure)
        self._own = (clock.monotonic() + PAUSE_SECONDS, error)
        if self._key and is_shared:
            _refusals[self._key] = self._own
            _refusals.move_to_end(self._key)
            if len(_refusals) > _MAX_REMEMBERED:
                _refusals.popitem(last=False)
        return repeated(error)


def key_of(gitlab_url: str, credentials: Credentials) -> bytes:
    """What tells logins apart: GitLab's address, name and secret, of which nothing can be read back. Empty: nobody."""
    if not isinstance(credentials, Basic):
        return b""
    named = f"{gitlab_url}\0{credentials.username}\0{credentials.password}"
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()

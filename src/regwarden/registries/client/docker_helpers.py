"""Credential helpers that keep what they say to themselves and cannot hold a crawl up.

Imported only where a Docker configuration exists: the library takes a fifth of a second to load.
"""

from __future__ import annotations

import subprocess
from typing import Any, Final

from docker import auth
from docker.credentials import Store, errors

HELPER_TIMEOUT_SECONDS: Final = 30.0


class QuietStore(Store):  # type: ignore[misc]  # the library ships no types
    """A helper whose standard error does not reach the terminal, since it may quote a secret, within a time limit."""

    def _execute(self, subcmd: str, data_input: bytes | None) -> bytes:
        if self.exe is None:
            raise errors.StoreError(f"{self.program} is not installed")
        try:
            done = subprocess.run(  # noqa: S603 - the program that the user's own configuration names
                [self.exe, subcmd], input=data_input, capture_output=True, timeout=HELPER_TIMEOUT_SECONDS, check=True
            )
        except subprocess.CalledProcessError as error:
            raise errors.process_store_error(error, self.program) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.StoreError(f"{self.program} gave no answer") from error
        return done.stdout


class QuietConfig(auth.AuthConfig):  # type: ignore[misc]  # the library ships no types
    """Docker's configuration, asking its helpers through ``QuietStore``."""

    def _get_store_instance(self, name: str) -> Any:
        if name not in self._stores:
            self._stores[name] = QuietStore(name)
        return self._stores[name]

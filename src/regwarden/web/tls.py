"""How do listeners serve TLS, with a certificate that may be replaced while connections are open?"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

from regwarden.errors import InputError

CHECK_SECONDS: Final = 5.0

_Stamp = tuple[tuple[int, int, int], ...]


class ServerCertificate:
    """A certificate chain and its key, read again when a file changes; open connections keep the one they have."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """``key`` is None if it stands in the certificate's file. Raises ``InputError`` if they cannot be used."""
        self._certificate = certificate
        self._key = key
        self._stamp = self._look()
        self._current = self._load()
        self.context = self._load()
        # Whole contexts are exchanged: one that is loaded a second time keeps an old chain of another key type.
        self.context.sni_callback = self._choose

    def reload_if_changed(self) -> None:
        """Use new files for new connections; what cannot be used is logged, and the old certificate stays."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        log = structlog.get_logger("regwarden.tls")
        try:
            self._current = self._load()
        except InputError as error:
            log.error("the old certificate stays in use", reason=error.message)  # noqa: TRY400 -- a reason, no traceback
        else:
            log.info("the certificate was read again", file=str(self._certificate))

    async def watch(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await asyncio.to_thread(self.reload_if_changed)

    def _choose(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as error:
            files = f"{self._certificate}" + (f" and {self._key}" if self._key else "")
            raise InputError(
                f"the certificate in {files} cannot be used: {_reason(error)}",
                hint="tls_certificate is a PEM file with the chain, tls_key one with its key, without a passphrase.",
                code="bad-certificate",
            ) from error
        return context

    def _look(self) -> _Stamp:
        """What changes when a file does, also one that is exchanged by renaming or behind a symbolic link."""
        found = []
        for path in filter(None, (self._certificate, self._key)):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM format").lower().replace("_", " ")
    return (getattr(error, "strerror", None) or str(error)).lower()

"""The TLS contexts of one registry: its own (with our client certificate) and the one for token and blob hosts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from regwarden.errors import InputError
from regwarden.registries.client.settings import ClientSettings


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """``own`` may present the client certificate, ``foreign`` never does."""

    own: ssl.SSLContext
    foreign: ssl.SSLContext


def build_tls(settings: ClientSettings) -> TlsContexts:
    """Load certificate, key and CA bundle; raises ``InputError`` (code ``bad-tls-files``) when they cannot be used."""
    foreign = _context(settings)
    if settings.client_certificate is None:
        if settings.client_key is not None:
            raise _bad("client_key is set without client_certificate")
        return TlsContexts(foreign, foreign)
    own = _context(settings)
    try:
        # An encrypted key would make OpenSSL ask on the terminal; the empty answer makes it an error instead.
        own.load_cert_chain(settings.client_certificate, settings.client_key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not usable"
        key = f" with {settings.client_key}" if settings.client_key else ""
        raise _bad(f"the client certificate {settings.client_certificate}{key} cannot be loaded: {reason}") from None
    return TlsContexts(own, foreign)


def _context(settings: ClientSettings) -> ssl.SSLContext:
    bundle = settings.ca_bundle
    try:
        if bundle is not None and bundle.is_dir():
            context = ssl.create_default_context(capath=str(bundle))
        else:
            context = ssl.create_default_context(cafile=str(bundle) if bundle is not None else None)
    except OSError as error:
        raise _bad(f"the CA bundle {bundle} cannot be loaded: {error.strerror or 'it is not usable'}") from None
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _bad(message: str) -> InputError:
    return InputError(message, hint="Give PEM files that can be read.", code="bad-tls-files")

"""Why was there no answer? Exceptions of the HTTP library become one clear ``RegistryError`` each."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import aiohttp
from yarl import URL

from regwarden.errors import RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.client.addresses import ForbiddenAddress

Kind = Literal["setup", "connect", "reset", "timeout"]
_E = TypeVar("_E", bound=BaseException)

_TLS_HINTS: Final = (
    ("certificate required", "The server wants a client certificate: set client_certificate and client_key."),
    ("bad certificate", "The server wants a client certificate it trusts: check client_certificate and client_key."),
    ("unknown ca", "The server does not accept the client certificate: check client_certificate and client_key."),
    ("wrong version number", "The server seems to speak plain http: use an http:// address if that is intended."),
    ("record layer failure", "The server seems to speak plain http: use an http:// address if that is intended."),
    ("hostname mismatch", "The certificate is for another host name: use the name that it carries."),
    ("ip address mismatch", "The certificate is for another host name: use the name that it carries."),
    ("has expired", "The server's certificate has expired: renew it there."),
    ("self-signed", "If you trust it, set ca_bundle to the file of the authority that signed the certificate."),
    ("self signed", "If you trust it, set ca_bundle to the file of the authority that signed the certificate."),
    ("local issuer", "Set ca_bundle to the file of the authority that signed the certificate."),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What to raise, and of which kind it is: ``setup`` never goes away by asking again."""

    error: RegistryError
    kind: Kind


def explain(error: Exception, url: URL, subject: str) -> Failure:
    """Sort an exception of the HTTP library; ``subject`` names what was asked."""
    where = url.host_port_subcomponent or ""
    if tls := _tls_cause(error):
        return Failure(_tls_failure(tls, where), "setup")
    if forbidden := _cause(error, ForbiddenAddress):
        return Failure(_unreachable(f"{forbidden}, which is never connected to", "Check the address."), "setup")
    if reason := _no_connection(error, url):
        return Failure(_unreachable(reason, "Check host, port, name service and network."), "connect")
    if isinstance(error, TimeoutError):
        return Failure(_unreachable(f"no complete answer for {subject} in time", "Try later."), "timeout")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failure(_unreachable(f"the answer for {subject} broke off", "Try later."), "reset")
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError)):
        message = f"{where} does not speak HTTP that can be understood"
        return Failure(RegistryProtocolError(message, hint="Check the address, the port and http or https."), "setup")
    message = f"the connection to {where} was closed while asking for {subject}"
    # With TLS 1.3 a server refuses a missing certificate after the handshake, by closing without a word to us.
    wants = " If the server wants a client certificate, set client_certificate and client_key."
    return Failure(_unreachable(message, f"Try later.{wants if url.scheme == 'https' else ''}"), "reset")


def _no_connection(error: Exception, url: URL) -> str:
    """What to say where no connection came about; empty where one did."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the host {url.host} is not known"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to {url.host_port_subcomponent}: {_plain_words(error.os_error)}"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection to {url.host_port_subcomponent} in time"
    return ""


def _plain_words(error: OSError) -> str:
    """The system's words for an error; asyncio puts its own, with the address as a tuple, into ``strerror``."""
    return os.strerror(error.errno).lower() if error.errno else "it failed"


def _unreachable(message: str, hint: str) -> RegistryUnreachable:
    return RegistryUnreachable(message, hint=hint, temporary=True)


def _tls_failure(error: ssl.SSLError | ssl.CertificateError, where: str) -> RegistryUnreachable:
    reason = str(getattr(error, "verify_message", "") or error.reason or "handshake failed").replace("_", " ").lower()
    text = f"{reason} {error}".lower()
    hint = next((hint for mark, hint in _TLS_HINTS if mark in text), "Check the TLS settings of both sides.")
    return RegistryUnreachable(f"no secure connection to {where}: {reason}", hint=hint, code="registry-tls")


def _tls_cause(error: BaseException) -> ssl.SSLError | None:
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and isinstance(error.certificate_error, ssl.SSLError):
        return error.certificate_error
    found = _cause(error, ssl.SSLError)
    # An end without close_notify is a broken connection, not a wrong setting.
    return None if isinstance(found, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) else found


def _cause(error: BaseException, kind: type[_E]) -> _E | None:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return None
        # The library's own classes derive from the system's but lack what those have: look at the wrapped one.
        nested = getattr(seen, "os_error", None)
        if isinstance(seen, kind) and not isinstance(nested, kind):
            return seen
        seen = nested if isinstance(nested, BaseException) else seen.__cause__ or seen.__context__
    return None

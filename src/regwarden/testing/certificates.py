"""Where do tests of TLS get certificates? From the machine's ``openssl``: an authority, a server, a client."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from regwarden.errors import InputError

_EXTENSIONS = """
[server]
subjectAltName=IP:127.0.0.1,DNS:localhost
extendedKeyUsage=serverAuth
[client]
extendedKeyUsage=clientAuth
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority's certificate, and certificate and key of a server at 127.0.0.1 and of a client."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    def server_context(self, *, needs_client_certificate: bool = False) -> ssl.SSLContext:
        """A server's context, which may refuse clients without a certificate of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(self.server, self.server_key)
        context.verify_mode = ssl.CERT_REQUIRED if needs_client_certificate else ssl.CERT_NONE
        return context

    def client_context(self, *, has_certificate: bool = False) -> ssl.SSLContext:
        """A client's context that trusts this authority, with the client's certificate if asked."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if has_certificate:
            context.load_cert_chain(self.client, self.client_key)
        return context


def make_certificates(directory: Path) -> Certificates:
    """Write new certificates, valid for two days, into ``directory``; raises ``InputError`` without ``openssl``."""
    program = shutil.which("openssl")
    if program is None:
        raise InputError("the program openssl is not installed", hint="Install openssl.", code="no-openssl")
    maker = _Maker(program, directory)
    authority, authority_key = maker.make_authority()
    server, server_key = maker.make_signed("server", authority, authority_key)
    client, client_key = maker.make_signed("client", authority, authority_key)
    return Certificates(authority, server, server_key, client, client_key)


@dataclass(frozen=True, slots=True)
class _Maker:
    program: str
    directory: Path

    def make_authority(self) -> tuple[Path, Path]:
        certificate, key = self.directory / "authority.pem", self.directory / "authority.key"
        self._run(
            "req", "-x509", *self._new_key(key), "-subj", "/CN=sample authority", "-days", "2", "-out", certificate
        )
        return certificate, key

    def make_signed(self, role: str, authority: Path, authority_key: Path) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{role}.pem", self.directory / f"{role}.key"
        request, extensions = self.directory / f"{role}.csr", self.directory / "extensions.cnf"
        extensions.write_text(_EXTENSIONS, encoding="ascii")
        self._run("req", *self._new_key(key), "-subj", f"/CN=sample {role}", "-out", request)
        signer = ("-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", "2")
        chosen = ("-extfile", extensions, "-extensions", role)
        self._run("x509", "-req", "-in", request, *signer, *chosen, "-out", certificate)
        return certificate, key

    def _new_key(self, key: Path) -> tuple[str | Path, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)

    def _run(self, *arguments: str | Path) -> None:
        command = [self.program, *(str(argument) for argument in arguments)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  arguments are all ours

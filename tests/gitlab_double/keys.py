"""With what are registry tokens signed? One RSA key per process, its certificate, and its name for registries."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import RSAKey


@cache
def _private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def signing_key() -> RSAKey:
    """The pair of keys; making it takes a tenth of a second, so there is one."""
    text = _private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return RSAKey.import_key(text)


@cache
def key_id() -> str:
    """The libtrust fingerprint: of SHA-256 of the public key's DER 30 bytes, base32, a colon after every fourth."""
    der = _private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


@cache
def certificate_pem() -> bytes:
    """A self-signed certificate of the key, for the registry's ``rootcertbundle``."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gitlab-issuer")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_private_key().public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(_private_key(), hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM)


def sign(claims: dict[str, Any]) -> str:
    """A JWT with RS256 and the key's name."""
    return jwt.encode({"typ": "JWT", "alg": "RS256", "kid": key_id()}, claims, signing_key())


def read_signed(token: str) -> dict[str, Any]:
    """The claims of a token that this key signed; raises ``joserfc`` errors otherwise."""
    return dict(jwt.decode(token, signing_key(), algorithms=["RS256"]).claims)

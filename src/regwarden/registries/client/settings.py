"""How is one registry reached: address, credentials, TLS, and which other hosts it may send us to?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from yarl import URL

from regwarden._version import __version__
from regwarden.errors import InputError
from regwarden.registries.client.credentials import Anonymous, Credentials

_HINT: Final = "Give an address such as https://registry.example.com or http://localhost:5000."


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything a client needs to know about one registry.

    ``url`` is ``scheme://host[:port][/prefix]``; ``token_hosts`` and ``blob_hosts`` are the only other hosts we ever
    talk to (``host``, ``host:port``; for blobs also ``*.example.com``). ``verify_tls`` off trusts any certificate.
    ``installation`` is the random id that makes our own traffic recognisable. Raises ``InputError`` for a bad URL.
    """

    url: str
    credentials: Credentials = field(default_factory=Anonymous)
    use_digest_auth: bool = False
    client_certificate: Path | None = None
    client_key: Path | None = None
    ca_bundle: Path | None = None
    verify_tls: bool = True
    token_hosts: tuple[str, ...] = ()
    blob_hosts: tuple[str, ...] = ()
    installation: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", parse_registry_url(self.url))

    @property
    def user_agent(self) -> str:
        """How we call ourselves: ``regwarden/<version> (<installation>)``."""
        suffix = f" ({self.installation})" if self.installation else ""
        return f"regwarden/{__version__}{suffix}"

    @property
    def is_plain_http(self) -> bool:
        """Whether the address says ``http://``; only then is unencrypted traffic allowed."""
        return self.url.startswith("http://")

    @property
    def host(self) -> str:
        """``name[:port]`` as people write it; the key for Docker's configuration."""
        return URL(self.url).host_port_subcomponent or ""


def parse_registry_url(text: str) -> str:
    """Read an address of a registry; a bare ``host[:port][/prefix]`` means https.

    Returns it without trailing slash and ``/v2``. Raises ``InputError`` (code ``bad-registry-url``).
    """
    stripped = text.strip()
    if "://" not in stripped:
        stripped = f"https://{stripped}"
    try:
        url = URL(stripped)
        host, port = url.host, url.port
    except ValueError:
        raise _bad(text, "it cannot be read") from None
    if url.scheme not in {"http", "https"}:
        raise _bad(text, "it must begin with https:// or http://")
    if url.raw_user is not None or url.raw_password is not None:
        raise InputError(
            "the address of a registry must not contain a user name or password",
            hint="Give them separately, for example with --user and --password-stdin.",
            code="bad-registry-url",
        )
    if not host or port is None or any(character.isspace() for character in host):
        raise _bad(text, "it names no host")
    if url.raw_query_string or url.raw_fragment:
        raise _bad(text, "it has a query or fragment")
    path = url.raw_path.rstrip("/").removesuffix("/v2").rstrip("/")
    return f"{url.scheme}://{url.host_port_subcomponent}{path}"


def _bad(text: str, reason: str) -> InputError:
    return InputError(f"{text[:120]!r} is not the address of a registry: {reason}", hint=_HINT, code="bad-registry-url")

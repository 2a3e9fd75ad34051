"""One registry's client: URLs below ``/v2/``, authenticated requests, errors; what each kind of connector builds on."""

from __future__ import annotations

from collections.abc import Callable

from yarl import URL, Query

from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryError
from regwarden.registries.api import Traffic
from regwarden.registries.client.authentication import AuthenticatedTransport
from regwarden.registries.client.diagnostics import Answer, error_for
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.paging import is_repository, is_tag
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.tokens import TokenSource, TokenSupply
from regwarden.registries.client.transport import Call, Transport


class RegistryClient:
    """Requests to one registry. Nothing is opened before the first request.

    ``make_tokens`` makes what gets its Bearer tokens.
    """

    def __init__(
        self,
        settings: ClientSettings,
        limits: Limits,
        make_tokens: Callable[[ClientSettings, Transport], TokenSupply] = TokenSource,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.transport = Transport(settings, limits)
        self.authenticated = AuthenticatedTransport(settings, self.transport, make_tokens(settings, self.transport))
        self.prefix = self.transport.base.path.rstrip("/")

    @property
    def traffic(self) -> Traffic:
        """Counters since the client was made."""
        return self.transport.traffic

    @property
    def origin(self) -> URL:
        """Scheme, host and port of the registry."""
        return self.transport.base.origin()

    def url(self, path: str, query: Query = None) -> URL:
        """The URL of ``path`` (already encoded) below ``/v2/``, with ``query``."""
        url = URL(f"{self.settings.url}/v2/{path}", encoded=True)
        return url.with_query(query) if query else url

    async def send(self, call: Call) -> Answer:
        """The registry's answer to ``call``, whatever its status but 401, which is ``RegistryDenied``."""
        return await self.authenticated.send(call)

    def error(self, answer: Answer, subject: str) -> RegistryError:
        """The error for an answer that is not a success."""
        return error_for(answer, subject, self.transport.redact, self.settings.credentials)

    async def close(self) -> None:
        """End all connections."""
        await self.transport.close()


def pull_scope(repository: str) -> str:
    """The token scope for reading a repository."""
    return f"repository:{repository}:pull"


def delete_scope(repository: str) -> str:
    """The token scope for deleting in a repository."""
    return f"repository:{repository}:pull,delete"


def push_scope(repository: str) -> str:
    """The token scope for writing to a repository."""
    return f"repository:{repository}:pull,push"


def checked_repository(repository: str) -> str:
    """``repository`` if it is a valid name, so that it can stand in a path; else ``InputError``."""
    if not is_repository(repository):
        raise InputError(f"{repository[:160]!r} is not a repository name", code="bad-reference")
    return repository


def checked_reference(reference: str) -> str:
    """``reference`` if it is a valid tag or digest; else ``InputError``."""
    if not is_tag(reference):
        Digest.parse(reference)
    return reference


def reference_name(repository: str, reference: str) -> str:
    """How people write a manifest: ``repository:tag`` or ``repository@digest``."""
    return f"{repository}{'@' if ':' in reference else ':'}{reference}"

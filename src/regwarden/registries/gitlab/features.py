"""What does the registry behind a GitLab offer? Found out by its headers and its own API; decides how it is read.

Sources: container registry API of GitLab, "Base API checks"; headers and codes as in ``README.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL, Query

from regwarden import clock
from regwarden.core.projects import Features
from regwarden.errors import RegistryError
from regwarden.registries.client.client import RegistryClient, pull_scope
from regwarden.registries.client.transport import Call

_VERSION_HEADER: Final = "gitlab-container-registry-version"
_DATABASE_HEADER: Final = "gitlab-container-registry-database-enabled"
_VERSION: Final = re.compile(r"v?([0-9]{1,4})\.[0-9A-Za-z.+_-]{1,60}")
_NEWEST_KNOWN: Final = 4
_MAX_HEADER_LENGTH: Final = 80
_RENEWED_AFTER_SECONDS: Final = 3600.0
_SUBJECT: Final = "the registry's own API"


@dataclass(frozen=True, slots=True)
class Found:
    """How a registry is read, its version if it says one, and why that is doubtful, in words."""

    features: Features = Features.UNKNOWN
    version: str = ""
    doubt: str = ""


def own_url(client: RegistryClient, path: str, query: Query = None) -> URL:
    """The URL of ``path`` below ``/gitlab/v1/``, with ``query``."""
    url = URL(f"{client.settings.url}/gitlab/v1/{path}", encoded=True)
    return url.with_query(query) if query else url


async def find_features(
    client: RegistryClient, *, repository: str = "", headers: Mapping[str, str] | None = None
) -> Found:
    """Ask ``GET /v2/`` and ``GET /gitlab/v1/``, with a token for ``repository`` (empty: one for nothing).

    ``headers`` are those of ``GET /v2/``, where it was asked before.

    Raises the ``RegistryError``s of both: what cannot be asked is not decided.
    """
    scope = pull_scope(repository) if repository else ""
    if headers is None:
        first = await client.send(Call("GET", client.url(""), "the registry's /v2/", client.limits.error_bytes, scope))
        if first.status != 200:
            raise client.error(first, "the registry's /v2/")
        headers = first.headers
    own = await client.send(Call("GET", own_url(client, ""), _SUBJECT, client.limits.error_bytes, scope))
    if own.status not in {200, 404}:
        raise client.error(own, _SUBJECT)
    return judge(headers, has_own_api=own.status == 200)


def judge(headers: Mapping[str, str], *, has_own_api: bool) -> Found:
    """What the headers of ``GET /v2/``, and whether there is ``/gitlab/v1/``, say together."""
    named = {name.lower(): value[:_MAX_HEADER_LENGTH].strip() for name, value in headers.items()}
    version = named.get(_VERSION_HEADER, "")
    version = version if version.isprintable() else ""
    database = named.get(_DATABASE_HEADER, "").lower()
    if not version:
        if has_own_api:
            return Found(doubt="the registry has GitLab's API but does not say its version")
        return Found(Features.PLAIN)
    match = _VERSION.fullmatch(version)
    if match is None or int(match[1]) > _NEWEST_KNOWN:
        return Found(version=version, doubt=f"the registry's version {version} is none that is known here")
    # Before the header for it, the API alone told whether there is a metadata database.
    if database not in {"true", "false", ""} or (database and (database == "true") != has_own_api):
        return Found(version=version, doubt="the registry contradicts itself about its metadata database")
    return Found(Features.DATABASE if has_own_api else Features.FILES, version)


class FeatureProbe:
    """Asks once, and remembers; a registry that could not be asked is asked again with the next question."""

    def __init__(self, client: RegistryClient, *, is_anonymous: bool) -> None:
        self._client = client
        self._is_anonymous = is_anonymous
        self._headers: Mapping[str, str] | None = None
        self._renew_at = 0.0
        self.found: Found | None = None
        self._has_had_database = False

    @property
    def features(self) -> Features:
        """What is known now."""
        return Features.UNKNOWN if self.found is None else self.found.features

    @property
    def collects_itself(self) -> bool:
        """Whether the registry removes what no tag points to by itself.

        An answer that cannot be read does not end that: the way of removing must not change in the middle of a step.
        """
        return self.features is Features.DATABASE or (self._has_had_database and self.features is Features.UNKNOWN)

    async def ensure(self, repository: str = "") -> Found:
        """What the registry offers. Without a token nothing is granted for nothing: a repository must be named then.

        Raises what ``find_features`` raises.
        """
        if self.found is None and (repository or not self._is_anonymous):
            return await self._find(repository)
        return self.found or Found(doubt="without a token the registry can only be asked about a repository")

    async def _find(self, repository: str) -> Found:
        headers, self._headers = self._headers, None
        self.found = await find_features(self._client, repository=repository, headers=headers)
        self._renew_at = clock.monotonic() + _RENEWED_AFTER_SECONDS
        if self.features is not Features.UNKNOWN:
            self._has_had_database = self.features is Features.DATABASE
        return self.found

    async def renew(self) -> None:
        """Ask again after an hour, because registries are upgraded; what was known stays if that fails.

        Raises where the login failed.
        """
        if self._is_anonymous or (self.found is not None and clock.monotonic() < self._renew_at):
            return
        try:
            await self._find("")
        except RegistryError as error:
            if error.code == "login-failed":
                raise

    def note(self, headers: Mapping[str, str]) -> None:
        """Remember the headers of an answer to ``GET /v2/`` with a token."""
        self._headers = headers

    async def try_ensure(self, repository: str = "") -> Found:
        """As ``ensure``; what could not be asked is a doubt. Raises where the login failed."""
        try:
            return await self.ensure(repository)
        except RegistryError as error:
            if error.code == "login-failed":  # nothing may be asked any more
                raise
            return Found(doubt=f"the registry did not say what it offers: {error.message}")

    def distrust(self, reason: str) -> None:
        """The registry's own API answered what cannot be read: it is not used any more."""
        version = "" if self.found is None else self.found.version
        self.found = Found(version=version, doubt=reason)
        self._renew_at = clock.monotonic() + _RENEWED_AFTER_SECONDS

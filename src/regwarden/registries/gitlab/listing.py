"""Which tags does a repository have, with what they point to? GitLab's own listing, where there is a metadata database.

Source: container registry API of GitLab, "List repository tags" and "Get repository details". A link to the next page
loses ``referrers``, so that only its marker is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from regwarden.core.oci.digests import Digest
from regwarden.core.projects import RepositorySize
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.api import ListedTag, TagListing
from regwarden.registries.client.client import RegistryClient, checked_repository, pull_scope
from regwarden.registries.client.diagnostics import Answer, says_missing
from regwarden.registries.client.paging import is_tag, next_page
from regwarden.registries.client.transport import Call
from regwarden.registries.gitlab.features import own_url
from regwarden.registries.gitlab.records import field_of, moment_of, number_of, text_of

_LARGEST_PAGE: Final = 1000
_MAX_PAGES: Final = 10_000
_MAX_BARREN_PAGES: Final = 2
_MAX_REFERRERS: Final = 10_000
_MAX_ALL_REFERRERS: Final = 1_000_000
# GitLab has had a registry since 2016: what is said to be older was never set.
_EARLIEST: Final = datetime(2015, 1, 1, tzinfo=UTC)
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9.+-]{1,127}/[A-Za-z0-9.+-]{1,127}")
_decode_page = msgspec.json.Decoder(list[object]).decode


class UnreadableListing(Exception):
    """An answer of GitLab's own listing is none that is known here; the common one must be used."""


async def list_tags(client: RegistryClient, repository: str) -> TagListing:
    """All tags with what they point to, each once.

    A listing that breaks off after its first page is returned as incomplete, with the reason. Raises
    ``UnreadableListing`` for what cannot be understood, and the ``RegistryError``s of the first page.
    """
    checked_repository(repository)
    collected = _Collected(client, repository)
    if not await collected.read_page(""):
        return TagListing(repository, (), exists=False)
    while collected.marker:
        try:
            await collected.read_page(collected.marker)
        except RegistryDenied:
            raise
        except RegistryError as error:
            collected.doubts[f"page {collected.pages + 1}: {error.message}"] = None
            break
    return TagListing(
        repository,
        tuple(collected.found),
        is_complete=not collected.doubts,
        page_count=collected.pages,
        doubt="; ".join(collected.doubts),
        listed={tag: one for tag, one in collected.found.items() if one is not None},
    )


def with_doubt(listing: TagListing, doubt: str) -> TagListing:
    """The listing with another doubt in words; it stays as complete as it is."""
    return replace(listing, doubt="; ".join(filter(None, (doubt, listing.doubt)))) if doubt else listing


async def measure(client: RegistryClient, repository: str) -> RepositorySize | None:
    """GitLab's figure for a repository; ``None`` where it has none or does not know the repository."""
    checked_repository(repository)
    url, subject = own_url(client, f"repositories/{repository}/", {"size": "self"}), f"the size of {repository}"
    limit = client.limits.page_bytes
    answer = await client.send(Call("GET", url, subject, limit, scope=pull_scope(repository)))
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise client.error(answer, subject)
    try:
        row = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    size_bytes = number_of(field_of(row, "size_bytes"))
    if size_bytes is None:
        return None
    return RepositorySize(size_bytes=size_bytes, precision=text_of(field_of(row, "size_precision"))[:40] or "default")


class _Collected:
    """The tags read so far, and the marker of the next page (empty: there is none)."""

    def __init__(self, client: RegistryClient, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._size = max(1, min(client.limits.page_size, _LARGEST_PAGE))
        self._subject = f"the tags of {repository}"
        self._markers: set[str] = set()
        self._barren_pages = 0
        self._referrer_count = 0
        self.found: dict[str, ListedTag | None] = {}
        self.doubts: dict[str, None] = {}
        self.pages = 0
        self.marker = ""

    async def read_page(self, marker: str) -> bool:
        """Take in the page behind ``marker``; false where the registry does not know the repository."""
        query = {"n": str(self._size), "referrers": "true"} | ({"last": marker} if marker else {})
        url = own_url(self._client, f"repositories/{self._repository}/tags/list/", query)
        limit, scope = self._client.limits.page_bytes, pull_scope(self._repository)
        answer = await self._client.send(Call("GET", url, self._subject, limit, scope=scope))
        if not marker and says_missing(answer):
            return False
        if answer.status in {400, 404, 405, 501} or 300 <= answer.status < 400:
            raise UnreadableListing(f"the registry's own listing answered {answer.status}")
        if answer.status != 200:
            raise self._client.error(answer, self._subject)
        self._take(answer)
        return True

    def _take(self, answer: Answer) -> None:
        try:
            rows = _decode_page(answer.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise UnreadableListing("the registry's own listing is not a list in JSON") from None
        self.pages += 1
        names = [text_of(field_of(row, "name")) for row in rows]
        before = len(self.found)
        for name, row in zip(names, rows, strict=True):
            if is_tag(name):
                self._keep(name, _listed(row))
        self._barren_pages = self._barren_pages + 1 if len(self.found) == before else 0
        if skipped := sum(not is_tag(name) for name in names):
            if skipped == len(rows):
                raise UnreadableListing("the registry's own listing has no tags that can be used")
            self.doubts[f"{skipped} entries are not valid names and were skipped"] = None
        self._find_next(answer, names)

    def _keep(self, name: str, told: ListedTag | None) -> None:
        """One that comes twice and points to different places has moved, or is a lie: it must be asked for."""
        if name in self.found:
            known = self.found[name]
            self.found[name] = told if known is not None and told is not None and known.digest == told.digest else None
            return
        if told is not None and told.referrers:
            self._referrer_count += len(told.referrers)
            told = told if self._referrer_count <= _MAX_ALL_REFERRERS else replace(told, referrers=None)
        self.found[name] = told

    def _find_next(self, answer: Answer, names: list[str]) -> None:
        """The marker of the link; a full page without one is asked behind, in case that a proxy dropped it."""
        self.marker = ""
        url = own_url(self._client, f"repositories/{self._repository}/tags/list/")
        try:
            following = next_page(answer, url, self._client.prefix)
        except RegistryProtocolError as error:
            raise UnreadableListing(error.message) from None
        marker = (following.get("last") or "") if following is not None else ""
        if following is None and len(names) >= self._size:
            marker = names[-1]
        if not marker:
            if following is not None:
                self.doubts["the registry names a next page without saying where it begins"] = None
            return
        is_endless = self.pages >= _MAX_PAGES or self._barren_pages >= _MAX_BARREN_PAGES
        if marker in self._markers or is_endless:
            self.doubts["the pages of the list go round in a circle"] = None
            return
        self._markers.add(marker)
        self.marker = marker


def _listed(row: object) -> ListedTag | None:
    """What a row says besides the name; ``None`` where it does not say what the tag points to."""
    digest = _digest(field_of(row, "digest"))
    if digest is None:
        return None
    media_type = text_of(field_of(row, "media_type"))
    return ListedTag(
        digest,
        media_type if _MEDIA_TYPE.fullmatch(media_type) else "",
        _published_at(row),
        _referrers(row),
    )


def _published_at(row: object) -> datetime | None:
    moment = moment_of(field_of(row, "published_at"))
    return moment if moment is not None and moment >= _EARLIEST else None


def _referrers(row: object) -> tuple[Digest, ...] | None:
    """Those of a row; they are left out where there are none, and unknown if one cannot be read."""
    found = field_of(row, "referrers")
    if found is None:
        return () if isinstance(row, Mapping) else None
    if not isinstance(found, list) or len(found) > _MAX_REFERRERS:
        return None
    digests = [_digest(field_of(one, "digest")) for one in found]
    return None if None in digests else tuple(one for one in dict.fromkeys(digests) if one is not None)


def _digest(value: object) -> Digest | None:
    try:
        return Digest.parse(text_of(value))
    except InputError:
        return None

"""Which tags does a repository have? ``tags/list`` to its end (OCI distribution specification, "Listing Tags")."""

from __future__ import annotations

from yarl import Query

from regwarden.errors import RegistryDenied, RegistryError
from regwarden.registries.api import TagListing
from regwarden.registries.client.client import RegistryClient, checked_repository, pull_scope
from regwarden.registries.client.diagnostics import Answer, says_missing
from regwarden.registries.client.paging import Page, next_page, parse_tags_page
from regwarden.registries.client.transport import Call

_MAX_PAGES = 10_000


async def list_tags(client: RegistryClient, repository: str) -> TagListing:
    """All tags, each once. A list that breaks off after its first page is returned as incomplete, with the reason.

    Raises ``RegistryError``s of the first page; 404 ``NAME_UNKNOWN`` is a listing that does not exist.
    """
    checked_repository(repository)
    size = client.limits.page_size
    answer = await _ask(client, repository, {"n": str(size)})
    if answer.status == 400:  # some servers refuse a page size above theirs; without one they choose
        answer = await _ask(client, repository, {})
    if says_missing(answer):
        return TagListing(repository, (), exists=False)
    if answer.status != 200:
        raise client.error(answer, f"the tags of {repository}")
    collected = _Collected(client, repository, size)
    await collected.read(answer)
    return collected.listing()


class _Collected:
    """The tags read so far and the way to the next page."""

    def __init__(self, client: RegistryClient, repository: str, size: int) -> None:
        self._client = client
        self._repository = repository
        self._size = size
        self._tags: dict[str, None] = {}
        self._visited: set[str] = set()
        self._doubts: dict[str, None] = {}
        self._pages = 0

    def listing(self) -> TagListing:
        """What was found, complete unless something was doubtful."""
        return TagListing(
            self._repository,
            tuple(self._tags),
            is_complete=not self._doubts,
            page_count=self._pages,
            doubt="; ".join(self._doubts),
        )

    async def read(self, answer: Answer) -> None:
        """Take in a first page and all that follow."""
        query = self._take(answer)
        while query is not None:
            try:
                answer = await _ask(self._client, self._repository, query)
                if answer.status != 200:
                    raise self._client.error(answer, f"the tags of {self._repository}")
                query = self._take(answer)
            except RegistryDenied:
                raise
            except RegistryError as error:
                self._doubts[f"page {self._pages + 1}: {error.message}"] = None
                return

    def _take(self, answer: Answer) -> Query:
        page = parse_tags_page(answer, self._repository)
        self._pages += 1
        before = len(self._tags)
        self._tags.update(dict.fromkeys(page.names))
        if page.doubt:
            self._doubts[page.doubt] = None
        is_new = len(self._tags) > before
        url = self._client.url(f"{self._repository}/tags/list")
        following = next_page(answer, url, self._client.prefix)
        if following is None:
            return self._ask_behind(page) if is_new else None
        key = str(sorted(following.items()))
        if key in self._visited or self._pages >= _MAX_PAGES:
            self._doubts["the pages of the list go round in a circle"] = None
            return None
        self._visited.add(key)
        return following

    def _ask_behind(self, page: Page) -> Query:
        """A full page without a link may be a server that forgot it; one that ignores ``last`` brings nothing new."""
        if page.entry_count != self._size or not page.last:
            return None
        return {"n": str(self._size), "last": page.last}


async def _ask(client: RegistryClient, repository: str, query: Query) -> Answer:
    url, limit = client.url(f"{repository}/tags/list", query), client.limits.page_bytes
    return await client.send(Call("GET", url, f"the tags of {repository}", limit, scope=pull_scope(repository)))

"""Which repositories are there? ``_catalog`` to its end, around the ways in which it is known to lose entries.

What the traps are and how each is met stands in ``README.md`` beside this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from regwarden.errors import RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.api import RepositoryPage
from regwarden.registries.client.client import RegistryClient, pull_scope
from regwarden.registries.client.diagnostics import Answer, error_codes, says_missing
from regwarden.registries.client.paging import Page, next_page, parse_catalog_page, parse_tags_page
from regwarden.registries.client.transport import Call

CATALOG_SCOPE: Final = "registry:catalog:*"
_MAX_PAGES: Final = 10_000
_MAX_EMPTY_PAGES: Final = 3
_MAX_PROBES: Final = 200
_SUBJECT: Final = "the catalog"


class CatalogWalk:
    """One walk through the catalog; use it once."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._size = client.limits.page_size
        self._seen: set[str] = set()
        self._visited: set[tuple[tuple[str, str], ...]] = set()
        self._page_ends: list[str] = []
        self._requests = 0
        self._empty_pages = 0

    async def pages(self) -> AsyncIterator[RepositoryPage]:
        """The pages, each name once, then what asking for possible parents found.

        Raises ``RegistryProtocolError`` for links elsewhere and loops, and the errors of single requests.
        """
        query: Mapping[str, str] | None = {}
        while query is not None:
            answer, doubt = await self._fetch(query)
            page = parse_catalog_page(answer)
            names = tuple(name for name in dict.fromkeys(page.names) if name not in self._seen)
            self._seen.update(names)
            doubts = [doubt, page.doubt]
            query, more_doubt = self._next_query(answer, page, is_new=bool(names))
            doubts.append(more_doubt)
            text = "; ".join(filter(None, doubts))
            yield RepositoryPage(names, is_trustworthy=not text, doubt=text)
        if self._requests > 1:
            lost = await self._lost_parents()
            if lost is not None:
                yield lost

    def _next_query(self, answer: Answer, page: Page, *, is_new: bool) -> tuple[Mapping[str, str] | None, str]:
        """What to ask next, if anything, and what is doubtful about the end of this page."""
        following = next_page(answer, self._client.url("_catalog"), self._client.prefix)
        if following is None:
            is_full = page.entry_count >= self._size or (page.entry_count > 0 and page.entry_count % 100 == 0)
            if not is_full or not page.last or not is_new:
                return None, ""
            return {"last": page.last}, self._doubt_at_end(page)
        query = {name: value for name, value in following.items() if name != "n"}
        key = tuple(sorted(query.items()))
        self._empty_pages = 0 if is_new else self._empty_pages + 1
        if key in self._visited or len(self._visited) >= _MAX_PAGES or self._empty_pages > _MAX_EMPTY_PAGES:
            raise RegistryProtocolError(
                "the pages of the catalog go round in a circle",
                hint="The registry, or a proxy before it, builds wrong links.",
                code="page-loop",
            )
        self._visited.add(key)
        return query, self._doubt_at_end(page)

    def _doubt_at_end(self, page: Page) -> str:
        if page.last:
            self._page_ends.append(page.last)
        if any(True for _ in digit_parents(page.last)):
            return "the page ends at a repository below a possible parent, where this API can lose the parent"
        return ""

    async def _fetch(self, query: Mapping[str, str]) -> tuple[Answer, str]:
        """One page; where it breaks, with other sizes, because some servers fail at one size and place only."""
        try:
            return await self._ask_with_accepted_size(query), ""
        except RegistryError as error:
            if not (isinstance(error, RegistryUnreachable) or error.status == 502) or not error.temporary:
                raise
            failure = error
        for size in _other_sizes(self._size):
            try:
                answer = await self._ask(query, size)
            except RegistryError:
                continue
            if answer.status == 200:
                return answer, "the page broke off and was asked for with another size"
        raise failure

    async def _ask_with_accepted_size(self, query: Mapping[str, str]) -> Answer:
        while True:
            answer = await self._ask(query, self._size)
            if answer.status == 400 and self._size > 1 and _is_about_size(answer):
                self._size //= 2
                continue
            if answer.status == 200:
                return answer
            if answer.status in {404, 405, 501}:
                raise RegistryProtocolError(
                    f"this registry does not list its repositories ({answer.status})",
                    hint="Name the repositories in the settings of this registry.",
                    code="no-catalog",
                    status=answer.status,
                    diagnostics=self._client.transport.redact.diagnose(answer),
                )
            raise self._client.error(answer, _SUBJECT)

    async def _ask(self, query: Mapping[str, str], size: int) -> Answer:
        self._requests += 1
        url = self._client.url("_catalog", {**query, "n": str(size)})
        limit = self._client.limits.page_bytes
        return await self._client.send(Call("GET", url, _SUBJECT, limit, scope=CATALOG_SCOPE, reset_retries=2))

    async def _lost_parents(self) -> RepositoryPage | None:
        """Ask for every path that the listing may have left out; ``None`` where there is nothing to say."""
        wanted = dict.fromkeys(parent for name in self._page_ends for parent in digit_parents(name))
        wanted.update(dict.fromkeys(parent for name in sorted(self._seen) for parent in digit_parents(name)))
        candidates = [parent for parent in wanted if parent not in self._seen]
        asked = candidates[:_MAX_PROBES]
        results = await asyncio.gather(*(self._exists(parent) for parent in asked))
        found = tuple(parent for parent, exists in zip(asked, results, strict=True) if exists)
        self._seen.update(found)
        doubts = []
        if found:
            doubts.append(f"the catalog left out {len(found)} repositories, found by asking for parents")
        if unclear := sum(exists is None for exists in results):
            doubts.append(f"{unclear} possible parents could not be asked for")
        if len(candidates) > len(asked):
            doubts.append(f"{len(candidates) - len(asked)} possible parents were not asked for")
        return RepositoryPage(found, is_trustworthy=False, doubt="; ".join(doubts)) if doubts else None

    async def _exists(self, repository: str) -> bool | None:
        """Whether a repository has a tag list; ``None`` where the answer does not tell."""
        url, limit = self._client.url(f"{repository}/tags/list", {"n": "1"}), self._client.limits.page_bytes
        call = Call("GET", url, f"the tags of {repository}", limit, scope=pull_scope(repository))
        try:
            answer = await self._client.send(call)
            if answer.status == 200:
                parse_tags_page(answer, repository)
                return True
        except RegistryError:
            return None
        return False if says_missing(answer) else None


def digit_parents(name: str) -> tuple[str, ...]:
    """The paths above ``name`` whose next component begins with a digit: these sort behind their own children."""
    parts = name.split("/")
    return tuple("/".join(parts[:count]) for count in range(1, len(parts)) if parts[count][:1].isdigit())


def _other_sizes(size: int) -> tuple[int, ...]:
    """Sizes to try after ``size`` broke, smaller ones first: a server may refuse larger ones."""
    sizes = dict.fromkeys((size // 2 + 1, size // 3 + 1, size - 1, size + 1, size + 2, size * 2 + 1))
    return tuple(other for other in sizes if other > 0 and other != size)


def _is_about_size(answer: Answer) -> bool:
    codes = error_codes(answer)
    return not codes or any("PAGINATION" in code or code in {"UNKNOWN", "UNSUPPORTED"} for code in codes)

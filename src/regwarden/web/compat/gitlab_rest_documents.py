"""What do the documents of gitlab-registry-usage-rest look like? Members, links, levels, in the order that it had.

Writing is a walk that pauses often; between two pauses it asks the database for one page of tags at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import quote

from regwarden.store.connections import Connection
from regwarden.store.layer_sizes import SizedRepository, SizedTag, load_sized_tags, page_sized_tags
from regwarden.web.compat.gitlab_rest_writers import Writer

PAGE_ROWS: Final = 500

Walk = Iterator[None]
Links = dict[str, object]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a document is wanted: the path of the collection, how many levels are embedded, with links or without."""

    collection: str
    embed: int = 0
    has_links: bool = False

    @property
    def inner(self) -> Shape:
        """The shape of what is embedded."""
        return replace(self, embed=self.embed - 1)

    def repository(self, name: str) -> str:
        """The path of a repository; a slash in its name is encoded."""
        return f"{self.collection}/{quote(name, safe='')}"

    def tags(self, repository: str) -> str:
        """The path of a repository's tags."""
        return f"{self.repository(repository)}/tags"

    def tag(self, repository: str, tag: str) -> str:
        """The path of a tag."""
        return f"{self.tags(repository)}/{quote(tag, safe='')}"


class TagPages:
    """The tags of repositories, a page at a time; those of small repositories that follow each other come together.

    ``connection`` is set anew before each part of a walk.
    """

    connection: Connection

    def __init__(self) -> None:
        self._repositories: Sequence[SizedRepository] = ()
        self._places: dict[int, int] = {}
        self._near: dict[int, list[SizedTag]] = {}

    def expect(self, repositories: Sequence[SizedRepository]) -> None:
        """Those whose tags will be asked for, in this order."""
        self._repositories = repositories
        self._places = {repository.id: place for place, repository in enumerate(repositories)}

    def of(self, repository: SizedRepository) -> Iterator[list[SizedTag]]:
        """The tags of one repository by name; no page is empty."""
        if repository.tag_count > PAGE_ROWS:
            page = page_sized_tags(self.connection, repository.id, "", PAGE_ROWS)
            while page:
                yield page
                page = page_sized_tags(self.connection, repository.id, page[-1].name, PAGE_ROWS)
            return
        if repository.id not in self._near:
            self._near = load_sized_tags(self.connection, self._group(repository))
        if self._near[repository.id]:
            yield self._near[repository.id]

    def _group(self, first: SizedRepository) -> list[int]:
        group: list[int] = []
        tag_count = 0
        for repository in self._repositories[self._places[first.id] :]:
            tag_count += repository.tag_count
            if group and (tag_count > PAGE_ROWS or len(group) == PAGE_ROWS):
                break
            if repository.is_readable:
                group.append(repository.id)
        return group


class Documents:
    """Writes documents; every method is a walk."""

    def __init__(self, writer: Writer, pages: TagPages) -> None:
        self._writer = writer
        self._pages = pages

    def collection(self, repositories: Sequence[SizedRepository], crawled_at: datetime | None, shape: Shape) -> Walk:
        """All repositories."""
        writer = self._writer
        writer.begin()
        writer.member("timestamp", None if crawled_at is None else crawled_at.timestamp())
        if shape.has_links:
            writer.begin_member("_links")
            writer.member("self", {"href": shape.collection})
            pages = (repositories[start : start + PAGE_ROWS] for start in range(0, len(repositories), PAGE_ROWS))
            links = ([{"href": shape.repository(one.name), "title": one.name} for one in page] for page in pages)
            yield from self._elements(links)
            writer.end()
        if shape.embed > 0:
            writer.begin_member("_embedded")
            if repositories:
                writer.begin_member("items", is_list=True)
                for repository in repositories:
                    writer.begin_element()
                    yield from self._repository(repository, shape.inner)
                    writer.end()
                    yield
                writer.end()
            writer.end()
        writer.end()

    def repository(self, repository: SizedRepository, shape: Shape) -> Walk:
        """One repository."""
        self._writer.begin()
        yield from self._repository(repository, shape)
        self._writer.end()

    def tags(self, repository: SizedRepository, shape: Shape) -> Walk:
        """The tags of a repository."""
        self._writer.begin()
        yield from self._tags(repository, shape)
        self._writer.end()

    def tag(self, repository: str, tag: SizedTag, shape: Shape) -> Walk:
        """One tag."""
        self._writer.begin()
        for name, value in _tag(repository, tag, shape).items():
            self._writer.member(name, value)
        self._writer.end()
        yield

    def _repository(self, repository: SizedRepository, shape: Shape) -> Walk:
        writer, name = self._writer, repository.name
        writer.member("name", name)
        writer.member("size", repository.layer_bytes)
        writer.member("disk_size", repository.disk_bytes)
        if shape.has_links:
            links: Links = {"self": {"href": shape.repository(name)}, "collection": {"href": shape.collection}}
            if repository.is_readable:
                links["related"] = {"href": shape.tags(name), "title": "tags"}
            writer.member("_links", links)
        if shape.embed > 0 and repository.is_readable:
            writer.begin_member("_embedded")
            writer.begin_member("related")
            yield from self._tags(repository, shape.inner)
            writer.end()
            writer.end()

    def _tags(self, repository: SizedRepository, shape: Shape) -> Walk:
        writer, name = self._writer, repository.name
        if shape.has_links:
            writer.begin_member("_links")
            writer.member("self", {"href": shape.tags(name)})
            writer.member("up", {"href": shape.repository(name)})
            if repository.is_readable:
                yield from self._elements(
                    [{"href": shape.tag(name, tag.name), "title": tag.name} for tag in page]
                    for page in self._pages.of(repository)
                )
            writer.end()
        if shape.embed > 0 and repository.is_readable:
            writer.begin_member("_embedded")
            inner = shape.inner
            yield from self._elements([_tag(name, tag, inner) for tag in page] for page in self._pages.of(repository))
            writer.end()

    def _elements(self, pages: Iterator[Sequence[object]]) -> Walk:
        """The member ``items``; without any it is left out."""
        is_open = False
        for page in pages:
            if not is_open:
                self._writer.begin_member("items", is_list=True)
                is_open = True
            self._writer.elements(page)
            yield
        if is_open:
            self._writer.end()


def _tag(repository: str, tag: SizedTag, shape: Shape) -> dict[str, object]:
    document: dict[str, object] = {"name": tag.name, "size": tag.layer_bytes, "disk_size": tag.disk_bytes}
    if shape.has_links:
        links = {"self": {"href": shape.tag(repository, tag.name)}, "collection": {"href": shape.tags(repository)}}
        document["_links"] = links
    return document

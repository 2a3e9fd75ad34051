"""Which rows does a resource of gitlab-registry-usage-rest consist of, and is it there for whoever asks?"""

from __future__ import annotations

from typing import Final, NamedTuple

from regwarden.core.access import Reach
from regwarden.store.connections import Connection
from regwarden.store.layer_sizes import (
    SizedRegistry,
    SizedRepository,
    SizedTag,
    find_sized_registry,
    find_sized_repository,
    find_sized_tag,
    list_sized_repositories,
)
from regwarden.web.compat.gitlab_rest_documents import Documents, Shape, TagPages, Walk
from regwarden.web.compat.gitlab_rest_requests import Target
from regwarden.web.compat.gitlab_rest_writers import Writer

# No name of a repository or tag is so long; longer ones are not looked for.
_MAX_NAME: Final = 1_000


class Missing(Exception):
    """There is no such resource, or whoever asks may not know of it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Wanted(NamedTuple):
    """What is asked for: a resource of a registry, by somebody who may read so far, in this shape."""

    registry: str
    target: Target
    reach: Reach
    shape: Shape


def begin_walk(connection: Connection, wanted: Wanted, writer: Writer, pages: TagPages) -> Walk:
    """The walk that writes what is wanted, not begun yet. Raises ``Missing``."""
    target, shape = wanted.target, wanted.shape
    registry = find_sized_registry(connection, wanted.registry)
    documents = Documents(writer, pages)
    if target.repository is None:
        found = [] if registry is None else list_sized_repositories(connection, registry.id)
        shown = [one for one in found if wanted.reach.has(wanted.registry, one.name)]
        pages.expect(shown)
        return documents.collection(shown, None if registry is None else registry.crawled_at, shape)
    repository = _find_repository(connection, registry, wanted)
    pages.expect([repository])
    if target.tag is not None:
        tag = _find_tag(connection, repository, target)
        return documents.tag(repository.name, tag, shape)
    return documents.tags(repository, shape) if target.is_tags else documents.repository(repository, shape)


def _find_repository(connection: Connection, registry: SizedRegistry | None, wanted: Wanted) -> SizedRepository:
    target, name = wanted.target, wanted.target.repository or ""
    is_possible = _is_name(name) and wanted.reach.has(wanted.registry, name)
    found = find_sized_repository(connection, registry.id, name) if registry is not None and is_possible else None
    if found is None:
        raise Missing(target.path)
    return found


def _find_tag(connection: Connection, repository: SizedRepository, target: Target) -> SizedTag:
    """A tag; of a repository that cannot be read any, for nobody knows which it has."""
    name = target.tag or ""
    found = find_sized_tag(connection, repository.id, name) if _is_name(name) else None
    if found is None and repository.is_readable:
        raise Missing(target.path)
    return found or SizedTag(name, None, None)


def _is_name(text: str) -> bool:
    return len(text) <= _MAX_NAME and "\0" not in text

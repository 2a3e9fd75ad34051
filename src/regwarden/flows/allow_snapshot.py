"""The whole allow-list in memory: how is it loaded beside everything else, and how does it take in what is new?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from regwarden.core.allow_images import Synonyms
from regwarden.core.allow_index import AllowIndex, Relation
from regwarden.store.allow import Changed, iterate_entries, load_changed, read_number
from regwarden.store.allow_relations import (
    Newcomers,
    find_newcomers,
    find_unread,
    iterate_relations,
    newest_manifest,
    relations_of,
)
from regwarden.store.allow_tags import synonyms_of
from regwarden.store.connections import Connection
from regwarden.store.registry_hosts import Hosts, load_hosts

T = TypeVar("T")

_MOST_NEW: Final = 100_000
_SLICE: Final = 200
_BATCH: Final = 1_000
# A million entries take the interpreter for ten seconds and more; in between it is left to others wholly.
_PAUSE_SECONDS: Final = 0.001


class Unwanted(Exception):
    """Nobody waits for what was being loaded any more."""


@dataclass(slots=True)
class Snapshot:
    """All entries, and up to where changes and manifests are known.

    ``unread_at`` is when unread manifests were last looked at, on the monotonic clock.
    """

    index: AllowIndex
    number: int
    newest_id: int
    unread: frozenset[int]
    hosts: Hosts
    synonyms: Synonyms
    unread_at: float = 0.0


class News(NamedTuple):
    """What has come since. Without ``newcomers`` there is nothing new, or (``is_outgrown``) too much to take in."""

    changed: Changed
    newcomers: Newcomers | None
    relations: list[Relation]
    hosts: Hosts
    is_outgrown: bool


def load_snapshot(connection: Connection, stopped: threading.Event) -> Snapshot:
    """Everything, in some thread. Raises ``Unwanted`` soon after ``stopped`` is set."""
    number, newest, unread = read_number(connection), newest_manifest(connection), find_unread(connection)
    hosts = load_hosts(connection)
    index = AllowIndex()
    for entry in _paced(iterate_entries(connection), stopped):
        index.put(entry)
    index.relate(_paced(iterate_relations(connection), stopped))
    return Snapshot(index, number, newest, unread, hosts, synonyms_of(hosts))


def look(connection: Connection, snapshot: Snapshot, *, is_unread_due: bool) -> News:
    """What is new. Of too many new manifests none is looked at: loading everything is as fast."""
    changed = load_changed(connection, snapshot.number)
    newest = newest_manifest(connection)
    unread: Collection[int] = snapshot.unread if is_unread_due else ()
    touched = {one.digest for one in changed.entries if one.digest is not None}
    newcomers = None
    is_outgrown = newest - snapshot.newest_id > _MOST_NEW
    if not is_outgrown and (newest > snapshot.newest_id or unread):
        newcomers = find_newcomers(connection, snapshot.newest_id, unread)
        if not is_unread_due:
            newcomers = newcomers._replace(unread=newcomers.unread | snapshot.unread)
        touched.update(filter(snapshot.index.has_digest, newcomers.digests))
    relations = list(relations_of(connection, touched)) if touched else []
    return News(changed, newcomers, relations, load_hosts(connection), is_outgrown)


async def take_in(snapshot: Snapshot, news: News) -> None:
    """Relations and denials first: in between, nothing is allowed that is not allowed before or after."""
    snapshot.index.relate(news.relations)
    for number in news.changed.removed:
        snapshot.index.remove(number)
    ordered = sorted(news.changed.entries, key=lambda one: not one.is_deny)
    for start in range(0, len(ordered), _SLICE):
        for entry in ordered[start : start + _SLICE]:
            snapshot.index.put(entry)
        await asyncio.sleep(0)
    snapshot.number = news.changed.number
    if news.newcomers is not None:
        snapshot.newest_id, snapshot.unread = news.newcomers.newest_id, news.newcomers.unread
    if news.hosts != snapshot.hosts:
        snapshot.hosts, snapshot.synonyms = news.hosts, synonyms_of(news.hosts)


def _paced(loaded: Iterable[T], stopped: threading.Event) -> Iterator[T]:
    for number, one in enumerate(loaded, 1):
        if number % _BATCH == 0 and stopped.wait(_PAUSE_SECONDS):
            raise Unwanted
        yield one

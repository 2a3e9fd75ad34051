"""What does the inventory know of a registry, when it is decided what may go? Its repositories, one after the other.

Facts only: nothing is judged here. What is read of one repository stands in ``observed_contents``, what makes it
doubtful in ``observed_doubts``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, func, select
from sqlalchemy.engine import Connection

from regwarden.core.observed import Needs, ObservedRegistry, ObservedRepository
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store.bulk import bulk_ids
from regwarden.store.chunks import chunked
from regwarden.store.collector import collector_paused
from regwarden.store.event_schema import events
from regwarden.store.observed_contents import Asked, StoredRepository, build_repositories
from regwarden.store.observed_doubts import load_unrest
from regwarden.store.past_rows import fetch
from regwarden.store.schema import crawls, manifests, registries, repositories, repository_manifests
from regwarden.store.times import from_micros

_BATCH_ROWS: Final = 20_000
_BATCH_REPOSITORIES: Final = 200
_ABILITIES: Final = {"supported": True, "unsupported": False}


def load_registry(connection: Connection, name: str) -> ObservedRegistry:
    """What is known of a registry as a whole. Raises ``NotFound`` (code ``unknown-registry``)."""
    row = _find(connection, name)
    abilities = msgspec.json.decode(row.capabilities, type=dict[str, str])
    return ObservedRegistry(
        name=name,
        crawled_at=from_micros(row.crawled_at),
        coverage=row.crawl_state or "",
        events_since=from_micros(row.events_since),
        delivered_at=from_micros(row.delivered_at),
        can_delete=_ABILITIES.get(abilities.get("delete", "")),
        can_untag=_ABILITIES.get(abilities.get("delete_tag", "")),
        can_drop=_ABILITIES.get(abilities.get("delete_repository", "")),
        whole_crawls=tuple(
            (from_micros(begun), from_micros(ended)) for begun, ended in _whole_crawls(connection, row.id)
        ),
    )


def iterate_repositories(
    connection: Connection, registry: str, names: Callable[[str], bool] | None, needs: Needs, now: datetime
) -> Iterator[ObservedRepository]:
    """The repositories that are not gone and that ``names`` accepts (``None``: all), in the order of their names.

    Reads ahead some thousand rows at a time; ``now`` (aware) is when a push that is not over yet is looked for.
    Raises ``NotFound`` (code ``unknown-registry``).
    """
    row = _find(connection, registry)
    found = [one for one in _list_repositories(connection, row.id) if names is None or names(one.name)]
    yield from _build(connection, row, found, needs, now)


def count_tags(connection: Connection, registry: str, names: Callable[[str], bool]) -> int:
    """About how many tags the repositories have that ``names`` accepts: as many as the last snapshot counted.

    Raises ``NotFound`` (code ``unknown-registry``).
    """
    found = _list_repositories(connection, _find(connection, registry).id)
    return sum(one.tag_count for one in found if names(one.name))


def load_repository(
    connection: Connection, registry: str, name: str, needs: Needs, now: datetime
) -> ObservedRepository | None:
    """One repository; ``None`` where it is unknown or gone. Raises ``NotFound`` (code ``unknown-registry``)."""
    row = _find(connection, registry)
    found = _list_repositories(connection, row.id, name)
    return next(iter(_build(connection, row, found, needs, now)), None)


def repositories_sharing(connection: Connection, registry: str, digests: Collection[str]) -> set[str]:
    """The names of the repositories in which any of these manifests (``algorithm:hex``) exists.

    Raises ``NotFound`` (code ``unknown-registry``).
    """
    registry_id = _find(connection, registry).id
    ids = bulk_ids(connection, manifests, "digest", [Digest.parse(digest).to_bytes() for digest in set(digests)])
    here = repository_manifests.c
    found: set[str] = set()
    for chunk in chunked(sorted(ids.values())):
        statement = (
            select(repositories.c.name)
            .join(repository_manifests, here.repository_id == repositories.c.id)
            .where(
                here.manifest_id.in_(chunk),
                here.deleted_at.is_(None),
                repositories.c.registry_id == registry_id,
                repositories.c.deleted_at.is_(None),
            )
        )
        found.update(name for (name,) in fetch(connection, statement.distinct()))
    return found


def snapshot_name(connection: Connection, registry: str) -> str:
    """Names the state of the inventory: ``crawl 12, event 345``. Raises ``NotFound`` (code ``unknown-registry``)."""
    row = _find(connection, registry)
    event_id = connection.execute(select(func.max(events.c.id)).where(events.c.registry_id == row.id)).scalar()
    parts = [f"crawl {row.crawl_id}"] if row.crawl_id is not None else []
    parts += [f"event {event_id}"] if event_id is not None else []
    return ", ".join(parts) or "empty"


def _find(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(select(registries).where(registries.c.name == name)).first()
    if row is None:
        hint = "Crawl it first: regwarden crawl."
        raise NotFound(f"nothing is known of the registry {name[:80]!r}", hint=hint, code="unknown-registry")
    return row


def _list_repositories(connection: Connection, registry_id: int, name: str | None = None) -> list[StoredRepository]:
    columns = repositories.c
    wanted = [columns[field] for field in StoredRepository._fields]
    statement = select(*wanted).where(columns.registry_id == registry_id, columns.deleted_at.is_(None))
    if name is not None:
        statement = statement.where(columns.name == name)
    return list(map(StoredRepository._make, fetch(connection, statement.order_by(columns.name))))


def _build(
    connection: Connection, registry: Row[Any], found: Sequence[StoredRepository], needs: Needs, now: datetime
) -> Iterator[ObservedRepository]:
    only = found[0].name if len(found) == 1 else None
    asked = Asked(
        registry=registry.name,
        needs=needs,
        now=now,
        known_since=first_whole_crawl(connection, registry.id),
        unrest=load_unrest(connection, registry.id, now, only),
    )
    for batch in _batches(found):
        with collector_paused():
            built = build_repositories(connection, batch, asked)
        yield from built


def _batches(found: Iterable[StoredRepository]) -> Iterator[list[StoredRepository]]:
    batch: list[StoredRepository] = []
    row_count = 0
    for one in found:
        size = one.tag_count + one.manifest_count
        if batch and (row_count + size > _BATCH_ROWS or len(batch) == _BATCH_REPOSITORIES):
            yield batch
            batch, row_count = [], 0
        batch.append(one)
        row_count += size
    if batch:
        yield batch


def first_whole_crawl(connection: Connection, registry_id: int) -> int | None:
    """When (microseconds) everything that has tags had been seen once: what is first heard of later, is new."""
    return min((ended for _, ended in _whole_crawls(connection, registry_id)), default=None)


def _whole_crawls(connection: Connection, registry_id: int) -> list[tuple[int, int]]:
    """When (microseconds) the crawls that read everything began and ended, in their order."""
    whole = select(crawls.c.started_at, crawls.c.finished_at).where(
        crawls.c.registry_id == registry_id,
        crawls.c.state == "complete",
        crawls.c.finished_at.is_not(None),
        crawls.c.certificate.contains('"scope":""', autoescape=True),
    )
    return [(begun, ended) for begun, ended in fetch(connection, whole.order_by(crawls.c.finished_at))]

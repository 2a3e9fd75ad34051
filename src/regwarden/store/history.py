"""The stored history of tags, of those that are gone too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.history import Interval, Point, Removal, build_intervals
from regwarden.core.oci.digests import Digest
from regwarden.store.chunks import chunked
from regwarden.store.query_fields import load_registries
from regwarden.store.schema import registries, removals, repositories, tag_history
from regwarden.store.times import from_micros


@dataclass(frozen=True, slots=True)
class TagHistory:
    """What one tag pointed to since it was first observed, oldest first."""

    registry: str
    repository: str
    tag: str
    intervals: tuple[Interval, ...]


def registry_names(connection: Connection) -> dict[str, str]:
    """How a reference may name the registries: name or host → name."""
    known = load_registries(connection)
    return {registry.host: registry.name for registry in known} | {registry.name: registry.name for registry in known}


def find_histories(
    connection: Connection, repository: str, tag: str, names: Collection[str] = ()
) -> tuple[TagHistory, ...]:
    """The history of ``repository:tag`` in each of the named registries (none named: in all) that ever had it."""
    wanted = [repositories.c.name == repository, tag_history.c.tag == tag]
    if names:
        wanted.append(registries.c.name.in_(sorted(names)))
    history = tag_history.c
    rows = connection.execute(
        select(
            registries.c.name.label("registry"),
            history.repository_id,
            history.at,
            history.digest,
            history.cause,
            history.effective_at,
        )
        .select_from(tag_history.join(repositories).join(registries))
        .where(*wanted)
        .order_by(registries.c.name)
    )
    points: dict[tuple[str, int], list[Point]] = {}
    for row in rows:
        point = Point(from_micros(row.at), read_digest(row.digest), row.cause, from_micros(row.effective_at))
        points.setdefault((row.registry, row.repository_id), []).append(point)
    return tuple(
        TagHistory(name, repository, tag, build_intervals(found, _load_removals(connection, repository_id, found)))
        for (name, repository_id), found in points.items()
    )


def read_digest(stored: bytes) -> Digest | None:
    """The digest of a point or a removal; it is ``None`` where none is stored."""
    return Digest.from_bytes(bytes(stored)) if stored else None


def _load_removals(connection: Connection, repository_id: int, points: Iterable[Point]) -> list[Removal]:
    """The deletions that may end an interval of these points."""
    digests = {b"", *(point.digest.to_bytes() for point in points if point.digest is not None)}
    found: list[Removal] = []
    for chunk in chunked(sorted(digests)):
        statement = select(removals.c.at, removals.c.digest).where(
            removals.c.repository_id == repository_id, removals.c.digest.in_(chunk)
        )
        found.extend(Removal(from_micros(row.at), read_digest(row.digest)) for row in connection.execute(statement))
    return found

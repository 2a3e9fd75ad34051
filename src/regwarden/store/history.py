"""The stored history of tags, of those that are gone too."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.history import Interval, Point, build_intervals
from regwarden.core.oci.digests import Digest
from regwarden.store.query_fields import load_registries
from regwarden.store.schema import registries, repositories, tag_history
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
    rows = connection.execute(
        select(registries.c.name.label("registry"), tag_history.c.at, tag_history.c.digest, tag_history.c.cause)
        .select_from(tag_history.join(repositories).join(registries))
        .where(*wanted)
        .order_by(registries.c.name)
    )
    points: dict[str, list[Point]] = {}
    for row in rows:
        digest = Digest.from_bytes(row.digest) if row.digest else None
        points.setdefault(row.registry, []).append(Point(from_micros(row.at), digest, row.cause))
    return tuple(TagHistory(name, repository, tag, build_intervals(found)) for name, found in points.items())

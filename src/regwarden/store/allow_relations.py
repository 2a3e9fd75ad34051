"""Which contents belong to those on the allow-list: what an index lists, configs, and the indexes above?

Only what touches a listed digest is read. The facts are of content, so they never change once a manifest was read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import CTE, ColumnElement, Select, func, literal, or_, select, union, union_all
from sqlalchemy.engine import Connection

from regwarden.core.allow_index import Relation
from regwarden.core.oci.digests import Digest
from regwarden.store.allow_schema import allow_entries
from regwarden.store.chunks import chunked
from regwarden.store.schema import manifest_children, manifests

EMPTY_CONFIG: Final = Digest.of(b"{}").to_bytes()
"""The config of artifacts that have none: what shares it has nothing in common (OCI image specification, 1.1)."""

_ROWS: Final = 5_000
_UNREAD: Final = "unread"
_MOST_PENDING: Final = 5_000


class Newcomers(NamedTuple):
    """Manifests that were read since the last look.

    ``digests`` are theirs, of their configs, and of all above and below them; ``count`` is how many rows are new.
    ``unread`` are the ids of those to look at again.
    """

    newest_id: int
    digests: frozenset[bytes]
    unread: frozenset[int]


def iterate_relations(connection: Connection) -> Iterator[Relation]:
    """The relations of everything that is listed."""
    named = allow_entries.c.removed_at.is_(None) & allow_entries.c.digest.is_not(None)
    listed = select(allow_entries.c.digest).where(named).distinct()
    denied = select(allow_entries.c.digest).where(named, allow_entries.c.effect == "deny").distinct()
    yield from _run(connection, _below(_start(manifests.c.digest.in_(listed), manifests.c.config_digest.in_(listed))))
    above = _above(_start(manifests.c.digest.in_(denied), manifests.c.config_digest.in_(denied)))
    yield from _run(connection, above, is_part=True)


def relations_of(connection: Connection, digests: Collection[bytes]) -> Iterator[Relation]:
    """The relations of these listed digests, upwards too."""
    for some in chunked(sorted(digests)):
        start = _start(manifests.c.digest.in_(some), manifests.c.config_digest.in_(some))
        yield from _run(connection, _below(start))
        yield from _run(connection, _above(start), is_part=True)


def find_surroundings(connection: Connection, digest: bytes) -> frozenset[bytes]:
    """Every digest whose entries may decide about this one: itself, configs, all above and all below it."""
    first = select(manifests.c.id).where(or_(manifests.c.digest == digest, manifests.c.config_digest == digest))
    return _around(connection, first) | {digest}


def newest_manifest(connection: Connection) -> int:
    """The id of the manifest that was last taken in; 0 where there is none."""
    return int(connection.scalar(select(func.coalesce(func.max(manifests.c.id), 0))) or 0)


def find_unread(connection: Connection) -> frozenset[int]:
    """Manifests that are known by digest only, to be looked at again; the newest of them."""
    unread = select(manifests.c.id).where(manifests.c.state == _UNREAD).order_by(manifests.c.id.desc())
    return frozenset(connection.execute(unread.limit(_MOST_PENDING)).scalars())


def find_newcomers(connection: Connection, after_id: int, unread: Collection[int]) -> Newcomers:
    """What has come since ``after_id``, and which of ``unread`` have been read meanwhile."""
    newest = newest_manifest(connection)
    read: list[int] = []
    for some in chunked(sorted(unread)):
        is_read = select(manifests.c.id).where(manifests.c.id.in_(some), manifests.c.state != _UNREAD)
        read += connection.execute(is_read).scalars()
    digests: frozenset[bytes] = frozenset()
    waiting = set(unread) - set(read)
    if newest > after_id:
        is_new = manifests.c.id > after_id
        digests |= _around(connection, select(manifests.c.id).where(is_new))
        waiting.update(connection.execute(select(manifests.c.id).where(is_new, manifests.c.state == _UNREAD)).scalars())
    for some in chunked(read):
        digests |= _around(connection, select(manifests.c.id).where(manifests.c.id.in_(some)))
    return Newcomers(newest, digests, frozenset(sorted(waiting)[-_MOST_PENDING:]))


def _start(by_digest: ColumnElement[bool], by_config: ColumnElement[bool]) -> CTE:
    """Listed digests, and the manifests that they name or whose config they name."""
    named = select(manifests.c.digest.label("source"), manifests.c.id.label("id")).where(by_digest)
    same = select(manifests.c.config_digest, manifests.c.id).where(by_config, manifests.c.config_digest != EMPTY_CONFIG)
    return union_all(named, same).cte("start")


def _below(start: CTE) -> CTE:
    below = select(start.c.source, start.c.id).cte("below", recursive=True)
    child = manifest_children.c.child_id
    return below.union(
        select(below.c.source, child).join_from(below, manifest_children, manifest_children.c.parent_id == below.c.id)
    )


def _above(start: CTE) -> CTE:
    above = select(start.c.source, start.c.id).cte("above", recursive=True)
    parent = manifest_children.c.parent_id
    return above.union(
        select(above.c.source, parent).join_from(above, manifest_children, manifest_children.c.child_id == above.c.id)
    )


def _run(connection: Connection, reached: CTE, *, is_part: bool = False) -> Iterator[Relation]:
    statement: Select[Any] = select(reached.c.source, manifests.c.digest, manifests.c.config_digest).join_from(
        reached, manifests, manifests.c.id == reached.c.id
    )
    for source, digest, config in connection.execute(statement, execution_options={"yield_per": _ROWS}):
        if source != digest:
            yield Relation(bytes(source), bytes(digest), is_part)
        if not is_part and config is not None and config not in (source, EMPTY_CONFIG):
            yield Relation(bytes(source), bytes(config))


def _around(connection: Connection, first: Select[Any]) -> frozenset[bytes]:
    start = select(literal(b"").label("source"), first.subquery().c.id).cte("start")
    below, above = _below(start), _above(start)
    ids = union(select(below.c.id), select(above.c.id)).subquery()
    rows = connection.execute(
        select(manifests.c.digest, manifests.c.config_digest).where(manifests.c.id.in_(select(ids.c.id)))
    )
    found: set[bytes] = set()
    for digest, config in rows:
        found.add(bytes(digest))
        if config is not None and config != EMPTY_CONFIG:
            found.add(bytes(config))
    return frozenset(found)

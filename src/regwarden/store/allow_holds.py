"""What must cleanup leave alone because it is allowed to run? Only what exists in the registry is looked at.

An entry that is not valid yet holds too, one that is over does not; an entry whose pattern cannot be read holds all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, and_, exists, or_, select, union_all
from sqlalchemy.engine import Connection

from regwarden.core.allow_images import Image, parse_image
from regwarden.core.allowlist import matcher
from regwarden.core.observed import Hold
from regwarden.core.oci.digests import Digest
from regwarden.core.text import printable
from regwarden.errors import InputError
from regwarden.store.allow import starts_with
from regwarden.store.allow_relations import EMPTY_CONFIG, newest_manifest
from regwarden.store.allow_schema import allow_entries
from regwarden.store.changes import ALLOW, PROJECT_RULES, read_changes
from regwarden.store.chunks import chunked
from regwarden.store.project_rules import newest_tag
from regwarden.store.registry_hosts import load_hosts
from regwarden.store.schema import manifest_children, manifests, registries, repositories, repository_manifests, tags
from regwarden.store.times import from_micros, to_micros

_DOCKER: Final = "docker.io"


class HoldsMark(NamedTuple):
    """While none of these has grown, what is allowed or protected by rules can only have become less."""

    change_number: int = 0
    newest_manifest: int = 0
    rules_number: int = 0
    newest_tag: int = 0

    def has_grown_since(self, before: HoldsMark) -> bool:
        """Whether there may be more than there was."""
        return any(now > then for now, then in zip(self, before, strict=True))


class _Held(NamedTuple):
    entry: Any
    repository: str
    tag: str = ""
    digest: str = ""


def read_mark(connection: Connection) -> HoldsMark:
    """The mark of now. Tags matter only if there were ever rules: they are protected by their names."""
    numbers = read_changes(connection)
    rules = numbers.get(PROJECT_RULES, 0)
    return HoldsMark(
        change_number=numbers.get(ALLOW, 0),
        newest_manifest=newest_manifest(connection),
        rules_number=rules,
        newest_tag=newest_tag(connection) if rules else 0,
    )


def load_allow_holds(
    connection: Connection, registry: str, now: datetime, names: Collection[str] | None = None
) -> list[Hold]:
    """What the allow-list holds in a registry at ``now``; with ``names`` in these repositories only, which is fast."""
    protecting = and_(
        allow_entries.c.removed_at.is_(None),
        allow_entries.c.effect == "allow",
        allow_entries.c.is_protecting == 1,
        or_(allow_entries.c.expires_at.is_(None), allow_entries.c.expires_at > to_micros(now)),
    )
    if connection.execute(select(allow_entries.c.id).where(protecting).limit(1)).first() is None:
        return []
    hosts = load_hosts(connection).get(registry, ())
    found = [*_by_digest(connection, registry, hosts, protecting, names)]
    found += _by_reference(connection, hosts, protecting, names)
    found += _by_pattern(connection, registry, hosts, protecting, names)
    ordered = sorted(set(found), key=lambda one: (one.entry.id, one.repository, one.tag, one.digest))
    return [_hold(registry, one) for one in ordered]


def _hold(registry: str, held: _Held) -> Hold:
    entry = held.entry
    reason = f": {entry.reason}" if entry.reason else ""
    return Hold(
        id=-entry.id,
        registry=registry,
        repository=held.repository,
        tag=held.tag,
        digest=held.digest,
        until=from_micros(entry.expires_at),
        reason=printable(f"allowed to run by entry {entry.id} of {entry.made_by}{reason}", 500),
        entry_id=entry.id,
    )


def _entry_columns() -> tuple[ColumnElement[Any], ...]:
    columns = allow_entries.c
    return (columns.id, columns.expires_at, columns.reason, columns.made_by)


def _by_digest(
    connection: Connection,
    registry: str,
    hosts: Sequence[str],
    protecting: ColumnElement[bool],
    names: Collection[str] | None,
) -> Iterator[_Held]:
    """Manifests that an entry names by digest or config, and what these list."""
    rows = (
        iter(connection.execute(_downwards(registry, protecting)))
        if names is None
        else _upwards(connection, registry, protecting, names)
    )
    for row in rows:
        if not row.pattern or _may_match(row.pattern, hosts, row.name):
            yield _Held(_plain(row), row.name, digest=str(Digest.from_bytes(row.digest)))


def _downwards(registry: str, protecting: ColumnElement[bool]) -> Select[Any]:
    """From entries to what exists."""
    entry = allow_entries.c
    named = select(entry.id.label("entry_id"), manifests.c.id.label("id")).join_from(
        allow_entries, manifests, manifests.c.digest == entry.digest
    )
    same = select(entry.id, manifests.c.id).join_from(
        allow_entries, manifests, and_(manifests.c.config_digest == entry.digest, entry.digest != EMPTY_CONFIG)
    )
    start = union_all(named.where(protecting), same.where(protecting)).cte("start")
    below = select(start.c.entry_id, start.c.id).cte("below", recursive=True)
    children = below.join(manifest_children, manifest_children.c.parent_id == below.c.id)
    below = below.union(select(below.c.entry_id, manifest_children.c.child_id).select_from(children))
    return (
        select(*_entry_columns(), entry.pattern, repositories.c.name, manifests.c.digest)
        .distinct()
        .select_from(
            below.join(repository_manifests, repository_manifests.c.manifest_id == below.c.id)
            .join(repositories, repositories.c.id == repository_manifests.c.repository_id)
            .join(registries, registries.c.id == repositories.c.registry_id)
            .join(manifests, manifests.c.id == below.c.id)
            .join(allow_entries, entry.id == below.c.entry_id)
        )
        .where(*_existing(registry))
    )


class _Row(NamedTuple):
    id: int
    expires_at: int | None
    reason: str
    made_by: str
    pattern: str
    name: str
    digest: bytes


def _upwards(
    connection: Connection, registry: str, protecting: ColumnElement[bool], names: Collection[str]
) -> Iterator[_Row]:
    """From what exists in some repositories to entries: of these there may be a million, so they are looked up."""
    entry = allow_entries.c
    held: dict[bytes, set[tuple[str, bytes]]] = {}
    for some in chunked(sorted(names)):
        for name, digest, reached, config in connection.execute(_above(registry, some)):
            for one in (reached, config):
                if one is not None and (one != EMPTY_CONFIG or one == reached):
                    held.setdefault(bytes(one), set()).add((name, bytes(digest)))
    for digests in chunked(sorted(held)):
        found = select(*_entry_columns(), entry.pattern, entry.digest).where(protecting, entry.digest.in_(digests))
        for row in connection.execute(found):
            for name, digest in held[bytes(row.digest)]:
                yield _Row(row.id, row.expires_at, row.reason, row.made_by, row.pattern, name, digest)


def _above(registry: str, names: Sequence[str]) -> Select[Any]:
    """Each manifest of some repositories, with itself and all indexes above it."""
    there = repository_manifests.c
    first = (
        select(repositories.c.name.label("name"), there.manifest_id.label("source"), there.manifest_id.label("id"))
        .join_from(repository_manifests, repositories, repositories.c.id == there.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(*_existing(registry), repositories.c.name.in_(names))
        .cte("first")
    )
    above = select(first.c.name, first.c.source, first.c.id).cte("above", recursive=True)
    parents = above.join(manifest_children, manifest_children.c.child_id == above.c.id)
    above = above.union(select(above.c.name, above.c.source, manifest_children.c.parent_id).select_from(parents))
    reached = manifests.alias("reached")
    return select(above.c.name, manifests.c.digest, reached.c.digest, reached.c.config_digest).select_from(
        above.join(manifests, manifests.c.id == above.c.source).join(reached, reached.c.id == above.c.id)
    )


def _existing(registry: str) -> tuple[ColumnElement[bool], ...]:
    return (
        registries.c.name == registry,
        repositories.c.deleted_at.is_(None),
        repository_manifests.c.deleted_at.is_(None),
    )


def _by_reference(
    connection: Connection, hosts: Sequence[str], protecting: ColumnElement[bool], names: Collection[str] | None
) -> Iterator[_Held]:
    """Tags that an entry names under a host of the registry."""
    image = allow_entries.c.image
    without_digest = and_(protecting, allow_entries.c.digest.is_(None), image != "")
    if _DOCKER in hosts:  # it has short names
        conditions: list[ColumnElement[bool]] = [without_digest]
    elif names is None:
        conditions = [and_(without_digest, starts_with(image, f"{host}/")) for host in hosts]
    else:
        places = [f"{host}/{name}" for host in hosts for name in sorted(names)]
        conditions = [and_(without_digest, or_(image == one, starts_with(image, f"{one}:"))) for one in places]
    for condition in conditions:
        for row in connection.execute(select(*_entry_columns(), image).where(condition)):
            parsed = _parse(row.image)
            host, _, path = parsed.names[0].partition("/") if parsed.names else ("", "", "")
            if host in hosts and parsed.tag and (names is None or path in names):
                yield _Held(_plain(row), path, tag=parsed.tag)


def _parse(text: str) -> Image:
    try:
        return parse_image(text)
    except InputError:  # imagelist takes any text
        return Image(text)


def _by_pattern(
    connection: Connection,
    registry: str,
    hosts: Sequence[str],
    protecting: ColumnElement[bool],
    names: Collection[str] | None,
) -> Iterator[_Held]:
    """Repositories, or tags of them, whose name an entry matches that names nothing else."""
    columns = allow_entries.c
    only = and_(protecting, columns.digest.is_(None), columns.image == "")
    entries = connection.execute(select(*_entry_columns(), columns.pattern, columns.tags).where(only)).all()
    if not entries:
        return
    places = sorted(names) if names is not None else connection.execute(_repositories(registry)).scalars().all()
    for entry in entries:
        wanted = () if entry.tags is None else msgspec.json.decode(entry.tags, type=tuple[str, ...])
        for name in places:
            if not _may_match(entry.pattern, hosts, name):
                continue
            if not wanted:
                yield _Held(_plain(entry), name)
            for tag in connection.execute(_tags(registry, name)).scalars() if wanted else ():
                if any((matches := matcher(one)) is None or matches(tag) for one in wanted):
                    yield _Held(_plain(entry), name, tag=tag)


def _repositories(registry: str) -> Select[Any]:
    registry_id = select(registries.c.id).where(registries.c.name == registry).scalar_subquery()
    return select(repositories.c.name).where(
        repositories.c.registry_id == registry_id, repositories.c.deleted_at.is_(None)
    )


def _tags(registry: str, repository: str) -> Select[Any]:
    here = exists().where(
        repositories.c.id == tags.c.repository_id,
        repositories.c.name == repository,
        registries.c.id == repositories.c.registry_id,
        registries.c.name == registry,
    )
    return select(tags.c.name).where(here)


def _may_match(pattern: str, hosts: Sequence[str], name: str) -> bool:
    matches = matcher(pattern)
    if matches is None:
        return True
    return any(matches(spelling) for host in hosts for spelling in _parse(f"{host}/{name}").spellings)


class _Plain(NamedTuple):
    id: int
    expires_at: int | None
    reason: str
    made_by: str


def _plain(row: Any) -> _Plain:
    return _Plain(row.id, row.expires_at, row.reason, row.made_by)

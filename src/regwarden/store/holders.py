"""Who holds or needs this content? From a digest, or its first digits, to registries, repositories, tags, indexes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError
from regwarden.store.chunks import chunked
from regwarden.store.manifest_reports import ManifestReport, ReferrerEntry, describe_manifest, list_referrers
from regwarden.store.packing import pack_blob_ids
from regwarden.store.query_conditions import digest_range
from regwarden.store.query_fields import load_registries
from regwarden.store.query_selection import find_registry
from regwarden.store.reaching import touched
from regwarden.store.schema import (
    blobs,
    manifest_children,
    manifests,
    registries,
    repositories,
    repository_manifests,
    tags,
)

_SHORTEST_PREFIX: Final = 6
_CANDIDATES: Final = 5
_LONGEST: Final = 1000
_HOLDING: Final = ("config", "layer")
_CHUNK: Final = 5000
_PREFIX: Final = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{6,128})")
_STORED_ALGORITHMS: Final = (("sha256", b"\x01", 64), ("sha512", b"\x02", 128))


# Registry, repository, tag (empty for none), the manifest there.
Place = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Use:
    """A place that needs the content.

    ``tag`` is empty where a manifest is in a repository without a tag; ``digest`` is the manifest that the tag (or
    the repository) has, ``via`` how it leads to the content: ``itself``, ``layer``, ``config`` or ``index``.
    """

    registry: str
    repository: str
    tag: str
    digest: str
    via: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentReport:
    """Everything known of one digest.

    ``kinds``: ``manifest``, ``index``, ``config``, ``layer`` or ``subject`` (only named by referrers). ``manifests``
    hold a blob, ``indexes`` list them or the manifest, directly or through other indexes. ``uses`` are at most 1,000
    places by name, ``use_count`` and ``repository_count`` count them all.
    """

    digest: str
    kinds: tuple[str, ...]
    media_type: str
    size_bytes: int | None
    manifest: ManifestReport | None
    manifests: tuple[str, ...]
    manifest_count: int
    indexes: tuple[str, ...]
    uses: tuple[Use, ...]
    use_count: int
    repository_count: int
    referrers: tuple[ReferrerEntry, ...]


def find_content(
    connection: Connection, text: str, registry: str | None = None, reach: Reach = EVERYTHING
) -> ContentReport | None:
    """What ``text`` (a digest of a manifest, config, layer or subject, or its first six digits or more) is for.

    ``registry`` (name or host) limits the places to one registry. ``None`` if the inventory has no such digest;
    raises ``InputError`` if ``text`` cannot be one (code ``bad-digest``) or begins several (``ambiguous-digest``),
    and ``NotFound`` for an unknown registry. Content without a place in ``reach`` is not there. For a blob all packed
    lists are read: seconds for millions.
    """
    registry_id = None if registry is None else find_registry(registry, touched(load_registries(connection), reach)).id
    found = _candidates(connection, text)
    if len(found) > 1 and not reach.is_everything:
        # Neither the digests nor their number may tell of what lies outside.
        found = [one for one in found if find_content(connection, str(Digest.from_bytes(one)), registry, reach)]
    stored = _the_one(found, text)
    if stored is None:
        return None
    blob = connection.execute(select(blobs).where(blobs.c.digest == stored)).first()
    manifest = connection.execute(
        select(manifests.c.id, manifests.c.is_index, manifests.c.media_type, manifests.c.size_bytes).where(
            manifests.c.digest == stored
        )
    ).first()
    holders = _holders(connection, blob.id, stored) if blob is not None else {}
    kinds = set(holders.values())
    if manifest is not None:
        kinds.add("index" if manifest.is_index else "manifest")
        holders[manifest.id] = "itself"
    elif blob is None:
        kinds.add("subject")
    via = _with_parents(connection, holders)
    places = _find_places(connection, via, registry_id)
    if not reach.is_everything:
        places = {one for one in places if reach.has(one[0], one[1])}
        if not places:
            return None
        here = {one[3] for one in places}
        via = {number: how for number, how in via.items() if number in here}
    facts = manifest if manifest is not None else blob
    described = describe_manifest(connection, manifest.id) if manifest is not None else None
    referrers = described.referrers if described is not None else list_referrers(connection, stored)
    referrers = tuple(one for one in referrers if reach.has(one.registry, one.repository))
    held_by = [number for number, how in via.items() if how in _HOLDING]
    return ContentReport(
        digest=str(Digest.from_bytes(stored)),
        kinds=tuple(sorted(kinds)),
        media_type=facts.media_type if facts is not None else "",
        size_bytes=facts.size_bytes if facts is not None else None,
        manifest=None if described is None else replace(described, referrers=referrers),
        manifests=_digests(connection, held_by),
        manifest_count=len(held_by),
        indexes=_digests(connection, [number for number, how in via.items() if how == "index"]),
        uses=_shown_uses(connection, places, via),
        use_count=len(places),
        repository_count=len({place[:2] for place in places}),
        referrers=referrers,
    )


def _candidates(connection: Connection, text: str) -> list[bytes]:
    """The stored digests that ``text`` may name, by ranges of the digest indexes; not all where there are many."""
    match = _PREFIX.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(
            f"{text[:80]!r} is not a digest",
            hint=f"Give sha256: and hexadecimal digits, or at least the first {_SHORTEST_PREFIX} digits.",
            code="bad-digest",
        )
    algorithm, digits = match.groups()
    found: set[bytes] = set()
    for name, marker, length in _STORED_ALGORITHMS:
        if algorithm in (None, name) and len(digits) <= length:
            low, high = digest_range(marker, digits, length)
            for column in (manifests.c.digest, blobs.c.digest, manifests.c.config_digest, manifests.c.subject_digest):
                statement = select(column).where(column >= low, column <= high).distinct().limit(_CANDIDATES + 1)
                found.update(bytes(value) for value in connection.execute(statement).scalars())
    return sorted(found)


def _the_one(found: Sequence[bytes], text: str) -> bytes | None:
    if len(found) > 1:
        names = [str(Digest.from_bytes(value)) for value in found[:_CANDIDATES]]
        raise InputError(
            f"{text.strip()[:80]!r} begins more than one digest: {', '.join(names)}",
            hint="Give more digits.",
            code="ambiguous-digest",
        )
    return found[0] if found else None


def _holders(connection: Connection, blob_id: int, stored: bytes) -> dict[int, str]:
    """Manifests whose packed list has the blob, by one pass over all lists: id → ``config`` or ``layer``."""
    wanted, _ = pack_blob_ids([blob_id])
    width = len(wanted)
    found = []
    scan = select(manifests.c.id, manifests.c.blob_ids).execution_options(yield_per=10_000)
    for manifest_id, packed in connection.execute(scan):
        position = packed.find(wanted)
        while position >= 0 and position % width:
            position = packed.find(wanted, position + 1)
        if position >= 0:
            found.append(manifest_id)
    configured = set(connection.execute(select(manifests.c.id).where(manifests.c.config_digest == stored)).scalars())
    return {manifest_id: "config" if manifest_id in configured else "layer" for manifest_id in found}


def _with_parents(connection: Connection, holders: dict[int, str]) -> dict[int, str]:
    """``holders`` and every index that lists one of them, at whatever depth."""
    via = dict(holders)
    frontier = list(holders)
    while frontier:
        parents: set[int] = set()
        for chunk in chunked(frontier, _CHUNK):
            statement = select(manifest_children.c.parent_id).where(manifest_children.c.child_id.in_(chunk)).distinct()
            parents.update(connection.execute(statement).scalars())
        frontier = [parent for parent in parents if parent not in via]
        via.update(dict.fromkeys(frontier, "index"))
    return via


def _find_places(connection: Connection, via: dict[int, str], registry_id: int | None) -> set[Place]:
    """Every place that has one of these manifests."""
    here = () if registry_id is None else (registries.c.id == registry_id,)
    tagged = (
        select(
            registries.c.name.label("registry"),
            repositories.c.name.label("repository"),
            tags.c.name.label("tag"),
            tags.c.manifest_id,
        )
        .join_from(tags, repositories, repositories.c.id == tags.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(repositories.c.deleted_at.is_(None), *here)
    )
    present = (
        select(
            registries.c.name.label("registry"),
            repositories.c.name.label("repository"),
            repository_manifests.c.manifest_id,
        )
        .join_from(repository_manifests, repositories, repositories.c.id == repository_manifests.c.repository_id)
        .join(registries, registries.c.id == repositories.c.registry_id)
        .where(repositories.c.deleted_at.is_(None), repository_manifests.c.deleted_at.is_(None), *here)
    )
    places: set[Place] = set()
    for chunk in chunked(list(via), _CHUNK):
        rows = connection.execute(tagged.where(tags.c.manifest_id.in_(chunk)))
        places.update((row.registry, row.repository, row.tag, row.manifest_id) for row in rows)
    with_tag = {(place[0], place[1], place[3]) for place in places}
    for chunk in chunked(list(via), _CHUNK):
        rows = connection.execute(present.where(repository_manifests.c.manifest_id.in_(chunk)))
        places.update(
            (row.registry, row.repository, "", row.manifest_id)
            for row in rows
            if (row.registry, row.repository, row.manifest_id) not in with_tag
        )
    return places


def _shown_uses(connection: Connection, places: set[Place], via: dict[int, str]) -> tuple[Use, ...]:
    """The first places by name."""
    first = sorted(places)[:_LONGEST]
    names = _digest_by_id(connection, {place[3] for place in first})
    return tuple(Use(place[0], place[1], place[2], names[place[3]], via[place[3]]) for place in first)


def _digests(connection: Connection, manifest_ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(sorted(_digest_by_id(connection, manifest_ids[:_LONGEST]).values()))


def _digest_by_id(connection: Connection, manifest_ids: Iterable[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for chunk in chunked(sorted(manifest_ids)):
        statement = select(manifests.c.id, manifests.c.digest).where(manifests.c.id.in_(chunk))
        found.update((row.id, str(Digest.from_bytes(row.digest))) for row in connection.execute(statement))
    return found

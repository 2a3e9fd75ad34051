"""Rows of tags and manifests as facts, many repositories at a time: half a million may be wanted within seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import case, func, literal, select
from sqlalchemy.engine import Connection

from regwarden.core.conditions import FieldValue
from regwarden.core.observed import LastPull, Needs, ObservedManifest, ObservedRepository, ObservedTag, TagState
from regwarden.core.oci.digests import Digest
from regwarden.store.bulk import bulk_find
from regwarden.store.observed_clocks import TagClocks, load_first_pushes, load_tag_clocks
from regwarden.store.observed_doubts import Unrest, explain_doubt
from regwarden.store.observed_fields import TagKey, load_fields
from regwarden.store.observed_pulls import PullsByManifest, lift_pulls, load_pulls
from regwarden.store.past_rows import fetch
from regwarden.store.schema import manifest_children, manifests, repository_manifests, tags
from regwarden.store.times import from_micros, to_micros

_EPOCH: Final = from_micros(0)
_SHA256_BYTES: Final = 33  # one that says so, and 32 of it
_NEW: Final = tuple.__new__
_LABELS: Final = msgspec.json.Decoder(dict[str, str])
_DANGLING: Final = str(TagState.DANGLING)
_NOBODY: Final = TagClocks()
_NO_FIELDS: Final[Mapping[str, FieldValue | None]] = {}


class StoredRepository(NamedTuple):
    """A row of ``repositories``. The counts are those of the last snapshot, and only tell how much to expect."""

    id: int
    name: str
    state: str
    seen_at: int | None
    stored_bytes: int | None
    tag_count: int
    manifest_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is wanted of the repositories of a registry, and what is known of all of them.

    What is first heard of after ``known_since`` (microseconds) is new; ``None``: that can be said of nothing.
    """

    registry: str
    needs: Needs
    now: datetime
    known_since: int | None
    unrest: Unrest


class _Moments(dict[int, datetime]):
    """Moments by their stored form: many rows share them."""

    def __missing__(self, micros: int) -> datetime:
        found = self[micros] = _EPOCH + timedelta(0, 0, micros)
        return found


@dataclass(slots=True)
class _Batch:
    """What was read of some repositories; rows by repository id."""

    manifests: dict[int, list[Any]]
    tags: dict[int, list[Any]]
    stored: dict[int, bytes]
    texts: dict[int, str]
    children: dict[int, list[int]]
    clocks: dict[int, TagClocks]
    first_pushes: set[tuple[int, int]]
    known_since: int | None
    pulls: dict[int, PullsByManifest] = field(default_factory=dict)
    fields: dict[TagKey, Mapping[str, FieldValue | None]] = field(default_factory=dict)
    moments: _Moments = field(default_factory=_Moments)


def build_repositories(
    connection: Connection, found: Sequence[StoredRepository], asked: Asked
) -> list[ObservedRepository]:
    """The facts of some repositories of a registry, in the same order."""
    batch = _load(connection, [one.id for one in found], asked)
    return [_build_repository(batch, one, asked) for one in found]


def _build_repository(batch: _Batch, one: StoredRepository, asked: Asked) -> ObservedRepository:
    rows, tag_rows = batch.manifests.pop(one.id, []), batch.tags.pop(one.id, [])
    here, unread = _build_manifests(batch, one.id, rows, {row[2] for row in tag_rows})
    return ObservedRepository(
        registry=asked.registry,
        name=one.name,
        tags=_build_tags(batch, one.id, tag_rows, here),
        manifests=here,
        doubt=explain_doubt(one.name, one.state, asked.unrest, unread),
        open_push=asked.unrest.open_push(one.name),
        seen_at=from_micros(one.seen_at),
        stored_bytes=one.stored_bytes,
    )


def _load(connection: Connection, ids: Sequence[int], asked: Asked) -> _Batch:
    needs = asked.needs
    manifest_rows = fetch(connection, _select_manifests(ids, needs))
    tag_columns = (tags.c.repository_id, tags.c.name, tags.c.manifest_id, tags.c.state, tags.c.tagged_at)
    statement = select(*tag_columns).where(tags.c.repository_id.in_(ids)).order_by(tags.c.repository_id, tags.c.name)
    tag_rows = fetch(connection, statement)
    stored = {row[1]: row[2] for row in manifest_rows}
    indexes = list(dict.fromkeys(row[1] for row in manifest_rows if row[11]))
    children = _load_children(connection, indexes)
    # Tags and indexes may name what does not exist here.
    elsewhere = {row[2] for row in tag_rows if row[2] is not None}
    elsewhere.update(child for listed in children.values() for child in listed)
    stored.update(bulk_find(connection, manifests, "id", sorted(elsewhere - stored.keys()), ("id", "digest")))
    has_pushes = any(row[4] is not None and row[4] > row[3] for row in manifest_rows)
    return _Batch(
        manifests=_grouped(manifest_rows),
        tags=_grouped(tag_rows),
        stored=stored,
        texts={manifest_id: _text(digest) for manifest_id, digest in stored.items()},
        children=children,
        clocks=load_tag_clocks(connection, ids),
        first_pushes=load_first_pushes(connection, ids) if has_pushes and asked.known_since is not None else set(),
        known_since=asked.known_since,
        pulls=load_pulls(connection, ids) if needs.pulls else {},
        fields=load_fields(connection, ids, needs.fields, to_micros(asked.now)),
    )


def _text(stored: bytes) -> str:
    # What is not SHA-256 is rare, and Digest takes much longer.
    return f"sha256:{stored[1:].hex()}" if len(stored) == _SHA256_BYTES else str(Digest.from_bytes(stored))


def _select_manifests(ids: Sequence[int], needs: Needs) -> Any:
    here, facts = repository_manifests.c, manifests.c
    labels = case((facts.config_state == "read", func.coalesce(facts.labels, "{}"))) if needs.labels else literal(None)
    return (
        select(
            here.repository_id,
            here.manifest_id,
            facts.digest,
            here.first_seen_at,
            here.pushed_at,
            here.untagged_since,
            facts.state,
            facts.media_type,
            facts.created_at,
            facts.artifact_type,
            facts.config_media_type,
            facts.is_index,
            facts.subject_digest,
            facts.size_bytes,
            facts.logical_bytes,
            labels.label("labels"),
        )
        .select_from(repository_manifests.join(manifests, facts.id == here.manifest_id))
        .where(here.repository_id.in_(ids), here.deleted_at.is_(None))
        .order_by(here.repository_id)
    )


def _load_children(connection: Connection, indexes: Sequence[int]) -> dict[int, list[int]]:
    columns = ("parent_id", "position", "child_id")
    found: dict[int, list[int]] = {}
    for parent_id, _, child_id in sorted(bulk_find(connection, manifest_children, "parent_id", indexes, columns)):
        found.setdefault(parent_id, []).append(child_id)
    return found


def _grouped(rows: Sequence[Any]) -> dict[int, list[Any]]:
    """Rows by repository, whose rows stand together."""
    return {repository_id: list(group) for repository_id, group in groupby(rows, itemgetter(0))}


def _build_manifests(
    batch: _Batch, repository_id: int, rows: list[Any], tagged: set[int | None]
) -> tuple[dict[str, ObservedManifest], str]:
    """The manifests of a repository by digest, in its order, and the digest of one that was not read."""
    rows.sort(key=itemgetter(2))
    told = batch.clocks.get(repository_id, _NOBODY).moments
    pulls: Mapping[int, tuple[LastPull, ...]] = {}
    if known_pulls := batch.pulls.get(repository_id):
        here = {row[1] for row in rows}
        pulls = lift_pulls(known_pulls, {one: batch.children[one] for one in here & batch.children.keys()})
    found: dict[str, ObservedManifest] = {}
    unread = ""
    for row in rows:
        built = _build_manifest(batch, row, tagged, told, pulls.get(row[1], ()))
        found[built.digest] = built
        if not built.is_read and not unread:
            unread = built.digest
    return found, unread


def _build_manifest(
    batch: _Batch, row: Any, tagged: set[int | None], told: set[int], pulls: tuple[LastPull, ...]
) -> ObservedManifest:
    (
        repository_id,
        manifest_id,
        _,
        first_at,
        pushed_at,
        left_at,
        state,
        media_type,
        created_at,
        artifact_type,
        config_type,
        is_index,
        subject,
        size_bytes,
        logical_bytes,
        labels,
    ) = row
    moments = batch.moments
    # Exact is only what events told of after everything had been seen once.
    is_exact = (
        pushed_at is not None
        and batch.known_since is not None
        and first_at > batch.known_since
        and (pushed_at == first_at or (repository_id, manifest_id) in batch.first_pushes)
    )
    is_left_exact = False
    if manifest_id in tagged:
        left_at = None
    elif left_at is not None:
        is_left_exact = left_at in told
    else:
        # Never known to have had a tag.
        left_at = first_at if pushed_at is None or pushed_at < first_at else pushed_at
        is_left_exact = is_exact and left_at == first_at
    # All values in the order of the fields: the usual way takes several times longer.
    values = (
        batch.texts[manifest_id],
        media_type,
        state == "read",
        moments[first_at],
        is_exact,
        None if pushed_at is None else moments[pushed_at],
        None if left_at is None else moments[left_at],
        is_left_exact,
        None if created_at is None else moments[created_at],
        artifact_type,
        config_type,
        is_index == 1,
        _children_of(batch, manifest_id) if is_index else (),
        None if subject is None else _text(subject),
        size_bytes,
        logical_bytes,
        None if labels is None else _LABELS.decode(labels),
        pulls,
    )
    return _NEW(ObservedManifest, values)


def _children_of(batch: _Batch, manifest_id: int) -> tuple[str, ...]:
    listed = batch.children.get(manifest_id, ())
    return tuple(dict.fromkeys([batch.texts[child] for child in listed]))


def _build_tags(
    batch: _Batch, repository_id: int, rows: Sequence[Any], here: Mapping[str, ObservedManifest]
) -> tuple[ObservedTag, ...]:
    moments, texts, stored, fields = batch.moments, batch.texts, batch.stored, batch.fields
    clocks = batch.clocks.get(repository_id, _NOBODY)
    told_at, has_restored = clocks.told.get, bool(clocks.restored)
    found = []
    for _, name, manifest_id, state, since in rows:
        at, is_exact, digest = since, False, None
        if manifest_id is not None:
            raw, digest = stored[manifest_id], texts[manifest_id]
            # Tagging again refreshes it.
            if (told := told_at((name, raw))) is not None and told >= since:
                at, is_exact = told, True
            elif has_restored:
                at, is_exact = clocks.before_we_restored(name, raw, since)
            if digest not in here and state == "ok":
                state = _DANGLING  # noqa: PLW2901 -- its manifest is known to be gone
        known = fields[repository_id, name] if fields else _NO_FIELDS
        found.append(_NEW(ObservedTag, (name, digest, state, moments[at], is_exact, known)))
    return tuple(found)

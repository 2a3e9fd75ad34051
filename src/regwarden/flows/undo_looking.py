"""What is in a repository now, and which blobs can really be read? What an undo has to find out before it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.undo import BlobProof, Findings, Kept, Place, Present, Taken, Undo, build_undo
from regwarden.flows.concurrency import each
from regwarden.registries.api import Connector, ProvesBlobs, PutsManifests
from regwarden.store.blob_sources import list_blob_sources
from regwarden.store.database import Database

MAX_SOURCES: Final = 5
"""In how many repositories a blob is looked for that its own has lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableRegistry:
    """The abilities of one registry that an undo needs, all of the same connector."""

    name: str
    reading: Connector
    putting: PutsManifests
    proving: ProvesBlobs
    slots: asyncio.Semaphore


async def look(
    registry: WritableRegistry,
    repository: str,
    taken: Iterable[Taken],
    kept: Mapping[str, Kept],
    *,
    placeholders: frozenset[str],
) -> Present:
    """Where the tags that were taken point now, and which of all kept manifests exist, by unconditional HEADs.

    A tag that still points to one of our ``placeholders``, because applying broke off, counts as removed. Leaves a
    pull event for each at the registry. Raises ``RegistryError``.
    """
    every = tuple(taken)
    tags = sorted({tag for one in every for tag in one.tags})
    digests = sorted({one.digest for one in every} | kept.keys())

    async def head(reference: str) -> tuple[bool, str | None]:
        found = await registry.reading.head_manifest(repository, reference)
        return found is not None, str(found.digest) if found is not None and found.digest is not None else None

    answers = dict(zip((*tags, *digests), await each(head, (*tags, *digests), registry.slots), strict=True))
    return Present(
        {tag: answers[tag][1] for tag in tags if answers[tag][0] and answers[tag][1] not in placeholders},
        frozenset(digest for digest in digests if answers[digest][0]),
    )


async def prove(registry: WritableRegistry, proofs: Iterable[BlobProof]) -> frozenset[str]:
    """The blobs that cannot be read where they should be. Raises ``RegistryError``."""
    asked = tuple(proofs)

    async def is_readable(one: BlobProof) -> bool:
        return await registry.proving.prove_blob(one.repository, Digest.parse(one.digest), one.size_bytes)

    answers = await each(is_readable, asked, registry.slots)
    return frozenset(one.digest for one, is_there in zip(asked, answers, strict=True) if not is_there)


async def find_sources(
    registry: WritableRegistry, database: Database, undo: Undo, lost: frozenset[str]
) -> dict[tuple[str, str], Sequence[str]]:
    """For each blob that a repository has lost, one other repository of the registry in which it was read."""
    if not lost:
        return {}
    holders = await database.read(lambda connection: list_blob_sources(connection, registry.name, lost))
    found: dict[tuple[str, str], Sequence[str]] = {}
    for one in undo.proofs:
        for name in [name for name in holders.get(one.digest, ()) if name != one.repository][:MAX_SOURCES]:
            if await registry.proving.prove_blob(name, Digest.parse(one.digest), one.size_bytes):
                found[registry.name, one.digest] = (name,)
                break
    return found


async def ensure_mounted(registry: WritableRegistry, undo: Undo) -> frozenset[str]:
    """Link what is to be mounted, and prove each again; returns the blobs for which that did not work.

    Raises ``RegistryError`` where the registry takes no changes.
    """
    sizes = {one.digest: one.size_bytes for one in undo.proofs}
    failed = set()
    for one in undo.mounts:
        digest = Digest.parse(one.digest)
        is_mounted = await registry.putting.mount_blob(one.repository, digest, one.source)
        if not is_mounted or not await registry.proving.prove_blob(one.repository, digest, sizes[one.digest]):
            failed.add(one.digest)
    return frozenset(failed)


async def settle(
    registry: WritableRegistry,
    database: Database,
    taken: Sequence[Taken],
    kept: Mapping[str, Kept],
    *,
    placeholders: frozenset[str] = frozenset(),
) -> Undo:
    """What of ``taken``, all in one repository, comes back for certain: every blob proven, the lost ones mounted.

    Raises ``RegistryError``.
    """
    place: Place = (registry.name, taken[0].repository)
    present = {place: await look(registry, place[1], taken, kept, placeholders=placeholders)}
    # Of a hundred thousand manifests it takes seconds: in a thread, so that nothing else has to wait.
    wished = await asyncio.to_thread(build_undo, taken, kept, present)
    lost = await prove(registry, wished.proofs)
    sources = await find_sources(registry, database, wished, lost)
    findings = Findings(unreadable={place: lost}, sources=sources)
    undo = await asyncio.to_thread(build_undo, taken, kept, present, findings) if lost else wished
    if failed := await ensure_mounted(registry, undo):
        left = {key: names for key, names in sources.items() if key[1] not in failed}
        findings = Findings(unreadable={place: lost}, sources=left)
        undo = await asyncio.to_thread(build_undo, taken, kept, present, findings)
    return undo

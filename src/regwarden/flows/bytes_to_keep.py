"""Which bytes must be kept before something is removed? The manifest's own and those of everything it lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.core.plan import Step, StepKind
from regwarden.errors import RegistryMissing, RegistryProtocolError
from regwarden.flows.apply_records import Site
from regwarden.flows.asking import fetch
from regwarden.store.contents import load_payloads
from regwarden.store.trash import Role, TrashEntry

_MAX_DEPTH: Final = 8

Payload = tuple[str, bytes]  # media type and exact bytes


async def collect_bytes(site: Site, step: Step) -> tuple[TrashEntry, ...]:
    """The manifest of ``step`` and everything below it: from the inventory, or else from the registry by digest.

    A child that the registry does not have (404) cannot be kept and is left out; anything else that stands in the way
    raises: ``RegistryError``, or ``InputError`` for bytes that are no manifest.
    """
    root = Digest.parse(step.digest)
    found = await collect_tree(site, root)
    role = Role.DELETED if step.kind is StepKind.DELETE else Role.UNTAGGED
    return tuple(
        TrashEntry(
            position=step.position,
            digest=str(digest),
            role=role if digest == root else Role.DESCENDANT,
            media_type=media_type,
            payload=payload,
        )
        for digest, (media_type, payload) in found.items()
    )


async def collect_tree(site: Site, root: Digest) -> dict[Digest, Payload]:
    """The bytes of ``root`` and of everything it lists at whatever depth, parents first. Raises as above."""
    found: dict[Digest, Payload] = {}
    level = [root]
    for _ in range(_MAX_DEPTH + 1):
        if not level:
            return found
        loaded = await _load(site, level, root)
        found |= loaded
        level = [one for one in dict.fromkeys(_children(loaded.values())) if one not in found]
    raise RegistryProtocolError(f"indexes below {root} are nested more than {_MAX_DEPTH} levels deep", code="too-deep")


async def _load(site: Site, digests: list[Digest], root: Digest) -> dict[Digest, Payload]:
    known = await site.services.database.read(lambda connection: load_payloads(connection, digests))
    loaded: dict[Digest, Payload] = {}
    for digest in digests:
        payload = known.get(digest)
        if payload is None or not digest.matches(payload[1]):
            try:
                answer = await fetch(site, str(digest))
            except RegistryMissing:
                if digest == root:
                    raise
                continue
            payload = (answer.media_type, answer.payload)
        if not digest.matches(payload[1]):
            raise RegistryProtocolError(f"the bytes of {digest} cannot be verified", code="digest-mismatch")
        loaded[digest] = payload
    return loaded


def _children(payloads: Iterable[Payload]) -> Iterable[Digest]:
    for media_type, payload in payloads:
        yield from (child.digest for child in parse_manifest(payload, media_type).children)

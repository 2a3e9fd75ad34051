"""Can a blob really be read? One byte of it is, for a HEAD may be answered from a cache long after a collection.

Source: RFC 9110 14 (ranges); what Distribution answers after a collection in ``README.md``.
"""

from __future__ import annotations

from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.registries.client.client import RegistryClient, checked_repository, pull_scope
from regwarden.registries.client.diagnostics import Answer, says_missing
from regwarden.registries.client.transport import Call
from regwarden.registries.distribution.blobs import blob_name, follow

# Of a server that knows no ranges we take at most this much of the whole blob.
_MAX_READ_BYTES: Final = 8 * 1024 * 1024


async def prove_blob(client: RegistryClient, repository: str, digest: Digest, size_bytes: int) -> bool:
    """Whether the last byte of a blob of ``size_bytes`` comes; see ``ProvesBlobs.prove_blob``.

    The size of a manifest is the word of whoever pushed it, so the first byte counts where there is no such last
    one. A body that breaks off is asked for once more. Raises ``RegistryError``s where there is no clear answer.
    """
    checked_repository(repository)
    last = max(size_bytes - 1, 0)
    is_proven = await _read(client, repository, digest, size_bytes, f"bytes={last}-{last}" if size_bytes else "")
    if is_proven is None:
        is_proven = await _read(client, repository, digest, 1, "bytes=0-0")
    return bool(is_proven)


async def _read(client: RegistryClient, repository: str, digest: Digest, size_bytes: int, part: str) -> bool | None:
    """Whether what is asked for comes; ``None`` where the blob has no such part."""
    name = blob_name(repository, digest)
    limit = min(max(size_bytes, 1), _MAX_READ_BYTES)
    call = Call(
        "GET",
        client.url(f"{repository}/blobs/{digest}"),
        name,
        limit,
        scope=pull_scope(repository),
        headers={"Range": part} if part else {},
        counts_only=True,
    )
    for _ in range(2):
        answer, is_foreign = await follow(client, call)
        if answer.status == 416:
            return None
        # Storage has no words of ours for it, but its 404 to the address that the registry just signed is clear.
        if says_missing(answer) or (is_foreign and answer.status == 404):
            return False
        if answer.status not in {200, 206}:
            raise client.error(answer, name)
        if _is_delivered(answer, min(size_bytes, _MAX_READ_BYTES)):
            return True
    return False


def _is_delivered(answer: Answer, size_bytes: int) -> bool:
    if answer.status == 206:
        return answer.received_bytes == 1
    announced = answer.headers.get("Content-Length", "")
    wanted = min(size_bytes, int(announced)) if announced.isdecimal() else size_bytes
    return answer.received_bytes >= wanted

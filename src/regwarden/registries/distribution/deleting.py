"""What happens when a manifest or a tag is deleted, and can it be? One request each, never repeated on a doubt.

Sources: OCI distribution specification, "Content Management"; the answers of real servers in ``README.md``.
"""

from __future__ import annotations

import uuid
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryError
from regwarden.registries.api import Ability, Removal
from regwarden.registries.client.client import (
    RegistryClient,
    checked_repository,
    delete_scope,
    reference_name,
)
from regwarden.registries.client.diagnostics import Answer, error_codes, says_missing
from regwarden.registries.client.paging import is_tag
from regwarden.registries.client.transport import Call
from regwarden.registries.distribution.refusals import is_read_only, read_only

_NO_SUCH_DIGEST: Final = Digest("sha256", "0" * 64)
_DONE: Final = frozenset({200, 202, 204})
# "If tag deletion is disabled, the registry MUST respond with either a 400 Bad Request or a 405 Method Not Allowed."
_NO_UNTAG: Final = frozenset({400, 405})
_HOW_TO_SWITCH_ON: Final = (
    "Set `storage: delete: enabled: true` in the registry's configuration, "
    "or REGISTRY_STORAGE_DELETE_ENABLED=true in its environment, and restart it."
)


async def delete_manifest(client: RegistryClient, repository: str, digest: Digest) -> Removal:
    """Delete a manifest by its digest, with all its tags; see ``DeletesManifests.delete_manifest`` for the errors."""
    name = reference_name(repository, str(digest))
    answer = await _delete(client, repository, str(digest))
    if answer.status in _DONE:
        return Removal.REMOVED
    if says_missing(answer):
        return Removal.ALREADY_GONE
    if is_read_only(answer):
        raise read_only(client, answer, name)
    if answer.status == 405:
        raise RegistryError(
            f"the registry does not delete: {name} stays (405)",
            hint=_HOW_TO_SWITCH_ON,
            code="delete-disabled",
            status=answer.status,
            diagnostics=client.transport.redact.diagnose(answer),
        )
    if answer.status == 409 and any(code.startswith("MANIFEST_REFERENCED") for code in error_codes(answer)):
        raise RegistryError(
            f"the registry keeps {name} because an index lists it (409)",
            hint="Delete the index first.",
            code="manifest-referenced",
            status=answer.status,
            diagnostics=client.transport.redact.diagnose(answer),
        )
    raise client.error(answer, name)


async def delete_tag(client: RegistryClient, repository: str, tag: str) -> Removal:
    """Delete a tag alone; see ``DeletesTags.delete_tag`` for the errors.

    Distribution 2.x answers 400 ``DIGEST_INVALID``, or 405 where it deletes nothing at all.
    """
    name = reference_name(repository, tag)
    answer = await _delete(client, repository, checked_tag(tag))
    if answer.status in _DONE:
        return Removal.REMOVED
    if says_missing(answer):
        return Removal.ALREADY_GONE
    if is_read_only(answer):
        raise read_only(client, answer, name)
    if answer.status in _NO_UNTAG:
        raise RegistryError(
            f"the registry does not remove tags alone: {name} stays ({answer.status})",
            hint="Its manifest can be deleted by digest, with all its tags.",
            code="untag-unsupported",
            status=answer.status,
            diagnostics=client.transport.redact.diagnose(answer),
        )
    raise client.error(answer, name)


async def probe_delete(client: RegistryClient, repository: str) -> Ability:
    """Whether manifests can be deleted: no content has the digest of 64 zeros.

    Raises ``RegistryDenied`` and other ``RegistryError``s, which say why it cannot be known now.
    """
    answer = await _delete(client, repository, str(_NO_SUCH_DIGEST))
    if is_read_only(answer):
        raise read_only(client, answer, f"a delete in {repository}")
    if answer.status == 405:
        return Ability.UNSUPPORTED
    return _ability(client, answer, repository)


async def probe_untag(client: RegistryClient, repository: str) -> Ability:
    """Whether tags can be removed alone: nobody else can know the tag that is asked for. Raises as ``probe_delete``."""
    answer = await _delete(client, repository, f"regwarden-no-such-tag-{uuid.uuid4().hex}")
    if is_read_only(answer):
        raise read_only(client, answer, f"a delete in {repository}")
    if answer.status in _NO_UNTAG:
        return Ability.UNSUPPORTED
    return _ability(client, answer, repository)


def checked_tag(tag: str) -> str:
    """``tag`` if it is a valid tag and not a digest, whose deletion does something else; else ``InputError``."""
    if not is_tag(tag):
        raise InputError(f"{tag[:160]!r} is not a tag", code="bad-reference")
    return tag


async def _delete(client: RegistryClient, repository: str, reference: str) -> Answer:
    checked_repository(repository)
    url, name = client.url(f"{repository}/manifests/{reference}"), reference_name(repository, reference)
    limit, scope = client.limits.error_bytes, delete_scope(repository)
    return await client.send(Call("DELETE", url, f"a delete of {name}", limit, scope=scope, is_repeatable=False))


def _ability(client: RegistryClient, answer: Answer, repository: str) -> Ability:
    if answer.status in _DONE or says_missing(answer):
        return Ability.SUPPORTED
    if answer.status == 403:
        raise client.error(answer, f"a delete in {repository}")
    return Ability.UNKNOWN

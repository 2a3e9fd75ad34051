"""How do exact bytes get into a registry? Manifests, small blobs and mounts, for undo and placeholders.

Sources: OCI distribution specification, "Pushing blobs", "Mounting a blob", "Pushing Manifests".
"""

from __future__ import annotations

import contextlib
from typing import Final

from yarl import URL

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryError, RegistryProtocolError
from regwarden.registries.client.client import (
    RegistryClient,
    checked_reference,
    checked_repository,
    pull_scope,
    push_scope,
    reference_name,
)
from regwarden.registries.client.diagnostics import Answer, error_codes, named_digests
from regwarden.registries.client.transport import Call
from regwarden.registries.distribution.blobs import blob_name
from regwarden.registries.distribution.refusals import is_read_only, read_only

_STORED: Final = frozenset({200, 201, 202})
_MISSING_CODES: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"})
_SHOWN_DIGESTS: Final = 3
_DIGEST_HEADER: Final = "Docker-Content-Digest"
_BINARY: Final = {"Content-Type": "application/octet-stream"}


async def put_manifest(
    client: RegistryClient, repository: str, reference: str, *, media_type: str, payload: bytes
) -> None:
    """Put ``payload`` under a tag or digest; see ``PutsManifests.put_manifest`` for the errors.

    Raises ``RegistryProtocolError`` (code ``digest-mismatch``) where the registry stored it under another digest.
    """
    checked_repository(repository)
    name = reference_name(repository, checked_reference(reference))
    answer = await client.send(
        Call(
            "PUT",
            client.url(f"{repository}/manifests/{reference}"),
            f"a push of {name}",
            client.limits.error_bytes,
            scope=push_scope(repository),
            headers={"Content-Type": media_type},
            body=payload,
            is_repeatable=False,
        )
    )
    if answer.status not in _STORED:
        raise _refusal(client, answer, name)
    stored_as = answer.headers.get(_DIGEST_HEADER, "")
    if stored_as and media_type not in media_types.SCHEMA_1_MANIFESTS and stored_as != _digest_like(stored_as, payload):
        raise RegistryProtocolError(
            f"the registry stored {name} under another digest than that of its bytes",
            hint="It, or a proxy before it, changes manifests.",
            code="digest-mismatch",
            status=answer.status,
        )


async def put_blob(client: RegistryClient, repository: str, payload: bytes) -> Digest:
    """Upload ``payload`` in one piece (POST, then PUT, which every registry has); returns its digest.

    Raises ``RegistryError``s; one with the code ``upload-host-refused`` where the upload should go to another host.
    """
    checked_repository(repository)
    digest = Digest.of(payload)
    name, scope = blob_name(repository, digest), push_scope(repository)
    opened = await _post(client, repository, {}, name, scope)
    if opened.status != 202:
        raise _refusal(client, opened, name)
    place = upload_place(client, opened)
    separator = "&" if place.raw_query_string else "?"
    target = URL(f"{place}{separator}digest={digest}", encoded=True)
    call = Call(
        "PUT",
        target,
        f"an upload of {name}",
        client.limits.error_bytes,
        scope=scope,
        headers=_BINARY,
        body=payload,
        is_repeatable=False,
    )
    answer = await client.send(call)
    if answer.status not in {200, 201, 204}:
        raise _refusal(client, answer, name)
    return digest


async def mount_blob(client: RegistryClient, repository: str, digest: Digest, source: str) -> bool:
    """Link a blob of the repository ``source``; false where the registry opened an upload, which is cancelled."""
    checked_repository(repository)
    checked_repository(source)
    name = blob_name(repository, digest)
    scope = push_scope(repository) if source == repository else f"{push_scope(repository)} {pull_scope(source)}"
    answer = await _post(client, repository, {"mount": str(digest), "from": source}, name, scope)
    if answer.status == 201:
        return True
    if answer.status != 202:
        raise _refusal(client, answer, name)
    with contextlib.suppress(RegistryError):  # what is not cancelled the registry purges itself after some days
        place, limit = upload_place(client, answer), client.limits.error_bytes
        await client.send(Call("DELETE", place, f"an upload of {name}", limit, scope=push_scope(repository)))
    return False


def upload_place(client: RegistryClient, answer: Answer) -> URL:
    """Where an opened upload is to be sent: the ``Location``, relative or absolute, kept byte for byte.

    Raises ``RegistryProtocolError`` unless it is on the registry's own scheme, host and port: our credentials and
    the content are for the registry alone.
    """
    text = answer.headers.get("Location", "")
    try:
        place = client.url("").join(URL(text, encoded=True))
        origin = place.origin()
    except ValueError:
        origin, place = None, client.origin
    if not text or origin is None:
        raise RegistryProtocolError("the registry opened an upload without saying where")
    if origin != client.origin or place.raw_user is not None:
        where = client.transport.redact.clean(str(origin))
        raise RegistryProtocolError(
            f"the registry sends an upload to {where}, which is not its own address {client.origin}; not followed",
            hint="A proxy before the registry must pass on Host and X-Forwarded-Proto, "
            "or set `http: relativeurls: true` in the registry's configuration.",
            code="upload-host-refused",
        )
    return place.with_fragment(None) if place.raw_fragment else place


async def _post(client: RegistryClient, repository: str, query: dict[str, str], name: str, scope: str) -> Answer:
    url, limit = client.url(f"{repository}/blobs/uploads/", query or None), client.limits.error_bytes
    call = Call("POST", url, f"an upload of {name}", limit, scope=scope, body=b"", is_repeatable=False)
    return await client.send(call)


def _refusal(client: RegistryClient, answer: Answer, name: str) -> RegistryError:
    if is_read_only(answer):
        return read_only(client, answer, name)
    if answer.status in {400, 404} and _MISSING_CODES.intersection(error_codes(answer)):
        missing = [str(digest) for digest in named_digests(answer)]
        shown = ", ".join(missing[:_SHOWN_DIGESTS]) or "it does not say what"
        more = f" and {len(missing) - _SHOWN_DIGESTS} more" if len(missing) > _SHOWN_DIGESTS else ""
        return RegistryError(
            f"the registry does not take {name}: it lacks content that this names ({shown}{more})",
            hint="Mount or push what is missing to this repository first.",
            code="manifest-blob-unknown",
            status=answer.status,
            diagnostics=client.transport.redact.diagnose(answer),
        )
    return client.error(answer, name)


def _digest_like(text: str, payload: bytes) -> str:
    """The digest of ``payload`` by the algorithm of ``text``; empty where that is not known."""
    with contextlib.suppress(InputError):
        return str(Digest.of(payload, Digest.parse(text).algorithm))
    return ""

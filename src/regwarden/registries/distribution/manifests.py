"""What does a tag or digest point at? Manifests with all four types accepted and their bytes verified.

Source: OCI distribution specification, "Pulling manifests"; conditional requests as measured on Distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryMissing, RegistryProtocolError
from regwarden.registries.api import FetchedManifest, ManifestHead, Unchanged
from regwarden.registries.client.client import (
    RegistryClient,
    checked_reference,
    checked_repository,
    pull_scope,
    reference_name,
)
from regwarden.registries.client.diagnostics import Answer, head_says_missing
from regwarden.registries.client.transport import Call

_ACCEPT: Final[Mapping[str, str]] = {"Accept": ", ".join(media_types.ACCEPT_MANIFESTS)}
_DIGEST_HEADER: Final = "Docker-Content-Digest"
# Servers without HEAD on manifests (some proxies and Nexus versions) say so in one of these ways.
_NO_HEAD: Final = frozenset({400, 405, 501})


async def fetch_manifest(
    client: RegistryClient, repository: str, reference: str, known: Digest | None
) -> FetchedManifest | Unchanged:
    """The manifest's bytes, or ``Unchanged`` when the server answers 304 for ``known``.

    Bytes that do not match are asked for once more. Raises as ``Connector.fetch_manifest`` says.
    """
    checked_repository(repository)
    checked_reference(reference)
    answer = await _ask(client, repository, reference, known)
    if answer.status == 304 and known is not None:
        if _header_digest(answer) in {None, known}:
            client.traffic.not_modified += 1
            return Unchanged(known)
        answer = await _ask(client, repository, reference, None)
    try:
        return _fetched(client, answer, repository, reference)
    except RegistryProtocolError as error:
        if not error.temporary:
            raise
    return _fetched(client, await _ask(client, repository, reference, None), repository, reference)


async def head_manifest(client: RegistryClient, repository: str, reference: str) -> ManifestHead | None:
    """Proof of existence by HEAD, by GET where HEAD gives no clear answer; ``None`` for an honest 404."""
    checked_repository(repository)
    checked_reference(reference)
    name = reference_name(repository, reference)
    url = client.url(f"{repository}/manifests/{reference}")
    call = Call("HEAD", url, name, 0, scope=pull_scope(repository), headers=_ACCEPT)
    answer = await client.send(call)
    if answer.status == 200:
        size = answer.headers.get("Content-Length", "")
        return ManifestHead(_header_digest(answer), answer.content_type, int(size) if size.isdecimal() else None)
    if head_says_missing(answer):
        return None
    if answer.status != 404 and answer.status not in _NO_HEAD:
        raise client.error(answer, name)
    try:
        fetched = await fetch_manifest(client, repository, reference, None)
    except RegistryMissing:
        return None
    if isinstance(fetched, Unchanged):
        raise RegistryProtocolError(f"the registry answered 304 for {name} without being asked", status=304)
    return ManifestHead(fetched.digest, fetched.media_type, len(fetched.payload))


async def _ask(client: RegistryClient, repository: str, reference: str, known: Digest | None) -> Answer:
    headers = _ACCEPT if known is None else {**_ACCEPT, "If-None-Match": f'"{known}"'}
    url, name = client.url(f"{repository}/manifests/{reference}"), reference_name(repository, reference)
    call = Call("GET", url, name, client.limits.manifest_bytes, scope=pull_scope(repository), headers=headers)
    return await client.send(call)


def _fetched(client: RegistryClient, answer: Answer, repository: str, reference: str) -> FetchedManifest:
    name = reference_name(repository, reference)
    if answer.status != 200:
        raise client.error(answer, name)
    media_type = answer.content_type
    if media_type == "text/html":
        raise RegistryProtocolError(
            f"the answer for {name} is a web page, not a manifest", hint="Check the address; a proxy may have answered."
        )
    client.traffic.manifest_bodies += 1
    expected = Digest.parse(reference) if ":" in reference else _header_digest(answer)
    if media_type in media_types.SCHEMA_1_MANIFESTS:
        # Its digest leaves out the signatures that the body carries, so the bytes cannot be checked.
        return FetchedManifest(expected or Digest.of(answer.body), media_type, answer.body)
    if expected is None:
        expected = Digest.of(answer.body)
    elif not expected.matches(answer.body):
        raise RegistryProtocolError(
            f"the bytes of {name} do not match their digest",
            hint="The registry's storage, or a cache before it, may be damaged.",
            code="digest-mismatch",
            temporary=True,
        )
    return FetchedManifest(expected, media_type, answer.body)


def _header_digest(answer: Answer) -> Digest | None:
    """The digest that the registry names; ``None`` where there is none that can be read."""
    text = answer.headers.get(_DIGEST_HEADER, "")
    try:
        return Digest.parse(text) if text else None
    except InputError:
        return None

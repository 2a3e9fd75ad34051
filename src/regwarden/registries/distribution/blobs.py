"""Where are a blob's bytes, and is it there? Follows redirects to storage, by the rules for foreign hosts.

Source: OCI distribution specification, "Pulling blobs"; redirect rules in ``README.md`` beside this file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from yarl import URL

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryMissing, RegistryProtocolError
from regwarden.registries.api import BlobHead
from regwarden.registries.client.addresses import check_literal, is_loopback_host, matches_host
from regwarden.registries.client.client import RegistryClient, checked_repository, pull_scope
from regwarden.registries.client.diagnostics import Answer, head_says_missing
from regwarden.registries.client.transport import Call

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 3


async def fetch_blob(client: RegistryClient, repository: str, digest: Digest, max_bytes: int) -> bytes:
    """The bytes of a blob, at most ``max_bytes``; wrong bytes are asked for once more.

    Raises ``RegistryMissing``, ``RegistryDenied``, and ``RegistryProtocolError`` for too many or wrong bytes and
    for redirects that are not allowed.
    """
    checked_repository(repository)
    name = blob_name(repository, digest)
    call = Call("GET", client.url(f"{repository}/blobs/{digest}"), name, max_bytes, scope=pull_scope(repository))
    for _ in range(2):
        answer, _ = await follow(client, call)
        if answer.status != 200:
            raise client.error(answer, name)
        if digest.matches(answer.body):
            return answer.body
    raise RegistryProtocolError(
        f"the bytes of {name} do not match their digest",
        hint="The registry's storage, or a cache before it, may be damaged.",
        code="digest-mismatch",
        temporary=True,
    )


async def head_blob(client: RegistryClient, repository: str, digest: Digest) -> BlobHead:
    """Whether the blob is there; a redirect to storage counts, its size is then unknown."""
    checked_repository(repository)
    name = blob_name(repository, digest)
    call = Call("HEAD", client.url(f"{repository}/blobs/{digest}"), name, 0, scope=pull_scope(repository))
    answer = await client.send(call)
    if answer.status == 200:
        size = answer.headers.get("Content-Length", "")
        return BlobHead(exists=True, size_bytes=int(size) if size.isdecimal() else None)
    if answer.status in _REDIRECTS:
        return BlobHead(exists=True)
    if head_says_missing(answer):
        return BlobHead(exists=False)
    if answer.status != 404:
        raise client.error(answer, name)
    return await _confirm_by_get(client, call, name)


def blob_name(repository: str, digest: Digest) -> str:
    """How people are told of a blob."""
    return f"the blob {repository}@{digest}"


async def _confirm_by_get(client: RegistryClient, call: Call, name: str) -> BlobHead:
    """What a GET of the first byte says, whose 404 has a body that tells a registry from a gateway."""
    headers = {"Range": "bytes=0-0"}
    answer = await client.send(Call("GET", call.url, name, client.limits.page_bytes, scope=call.scope, headers=headers))
    if answer.status in {200, 206} or answer.status in _REDIRECTS:
        return BlobHead(exists=True)
    error = client.error(answer, name)
    if isinstance(error, RegistryMissing):
        return BlobHead(exists=False)
    raise error


async def follow(client: RegistryClient, call: Call) -> tuple[Answer, bool]:
    """The answer to the GET of a blob, behind its redirects, and whether it came from another host than the registry.

    Raises ``RegistryProtocolError`` for redirects that are not allowed, and what sending raises.
    """
    answer, is_foreign = await client.send(call), False
    for _ in range(_MAX_REDIRECTS):
        if answer.status not in _REDIRECTS:
            return answer, is_foreign
        target = allowed_target(client, call.url, answer.headers.get("Location", ""))
        call = replace(call, url=target)
        is_foreign = target.origin() != client.origin
        if is_foreign:
            answer = await client.transport.exchange(call)  # our credentials are for the registry alone
        else:
            answer = await client.send(call)
    if answer.status in _REDIRECTS:
        raise RegistryProtocolError(f"{call.subject} is redirected more than {_MAX_REDIRECTS} times")
    return answer, is_foreign


def allowed_target(client: RegistryClient, source: URL, location: str) -> URL:
    """Where a blob redirect leads, if the rules allow it; else ``RegistryProtocolError`` naming the setting.

    ``source`` is the URL that redirected, ``location`` the header's text, kept byte for byte (it may be signed).
    """
    try:
        target = source.join(URL(location, encoded=True))
        origin = target.origin()
    except ValueError:
        raise RegistryProtocolError("a blob is redirected to an address that cannot be read") from None
    if origin == client.origin:
        return target
    where = target.host_port_subcomponent
    if target.raw_user is not None or target.scheme not in (
        {"http", "https"} if client.settings.is_plain_http else {"https"}
    ):
        raise RegistryProtocolError(f"a blob is redirected to {where} unencrypted or with a user name; not followed")
    if not matches_host(target, client.settings.blob_hosts):
        raise RegistryProtocolError(
            f"a blob is redirected to {where}, which is not configured",
            hint=f'If it is the registry\'s storage, set blob_hosts = ["{where}"] for this registry.',
            code="blob-host-refused",
        )
    if reason := check_literal(target, allow_loopback=is_loopback_host(client.origin.host or "")):
        raise RegistryProtocolError(f"a blob is redirected to {reason}, which is never connected to")
    return target

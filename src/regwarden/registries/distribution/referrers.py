"""What refers to a manifest? The referrers API, where there is one (OCI distribution specification 1.1)."""

from __future__ import annotations

from typing import Final

from yarl import Query

from regwarden.core.oci import media_types
from regwarden.core.oci.descriptors import Descriptor
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.errors import InputError, RegistryProtocolError
from regwarden.registries.api import Ability
from regwarden.registries.client.client import RegistryClient, checked_repository, pull_scope
from regwarden.registries.client.diagnostics import Answer, error_codes
from regwarden.registries.client.paging import next_page
from regwarden.registries.client.transport import Call

_MAX_PAGES: Final = 1000
_ACCEPT: Final = {"Accept": media_types.OCI_INDEX}
_UNSUPPORTED: Final = frozenset({404, 405, 501})


class Referrers:
    """Asks for referrers until the registry shows that it cannot tell; then it is not asked again."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self.ability = Ability.UNKNOWN

    async def list(self, repository: str, subject: Digest) -> tuple[Descriptor, ...] | None:
        """All referrers of ``subject``; ``None`` where this registry has no referrers API.

        Raises ``RegistryMissing`` where the repository is not known, ``RegistryProtocolError`` for a broken list.
        """
        checked_repository(repository)
        if self.ability is Ability.UNSUPPORTED:
            return None
        name = f"the referrers of {repository}@{subject}"
        path = f"{repository}/referrers/{subject}"
        found: dict[Digest, Descriptor] = {}
        query: Query = None
        visited: set[str] = set()
        for _ in range(_MAX_PAGES):
            url, limit = self._client.url(path, query), self._client.limits.manifest_bytes
            call = Call("GET", url, name, limit, scope=pull_scope(repository), headers=_ACCEPT)
            answer = await self._client.send(call)
            if not visited and answer.status in _UNSUPPORTED and "NAME_UNKNOWN" not in error_codes(answer):
                self.ability = Ability.UNSUPPORTED
                return None
            if answer.status != 200:
                raise self._client.error(answer, name)
            self.ability = Ability.SUPPORTED
            found.update((descriptor.digest, descriptor) for descriptor in _descriptors(answer, name))
            following = next_page(answer, self._client.url(path), self._client.prefix)
            if following is None:
                return tuple(found.values())
            key = str(sorted(following.items()))
            if key in visited:
                break
            visited.add(key)
            query = following
        raise RegistryProtocolError(f"the pages of {name} go round in a circle", code="page-loop")


def _descriptors(answer: Answer, name: str) -> tuple[Descriptor, ...]:
    try:
        index = parse_manifest(answer.body, answer.content_type)
    except InputError as error:
        raise RegistryProtocolError(f"{name} cannot be read: {error.message}", temporary=True) from None
    if not index.is_index:
        raise RegistryProtocolError(f"the answer for {name} is not an index")
    return (*index.children, *index.blobs)

"""Removing tags, manifests and whole repositories: by the registry where it is granted, else by GitLab's API.

Sources: GitLab REST API, "Delete a registry repository tag", "Delete registry repository". The call that deletes tags
in bulk is never used: it runs once an hour, and tells nothing of single tags.
"""

from __future__ import annotations

from typing import Final

from regwarden.core.projects import Features, RepositoryStatus
from regwarden.errors import RegistryDenied, RegistryError
from regwarden.registries.api import Ability, Removal
from regwarden.registries.client.client import RegistryClient, reference_name
from regwarden.registries.distribution import deleting
from regwarden.registries.distribution.manifests import head_manifest
from regwarden.registries.gitlab.finding import Finder, status_of, unknown
from regwarden.registries.gitlab.rest import quoted

_NOT_GRANTED: Final = "not-granted"
# The registry deletes, only not this: a rule forbids it.
_PROTECTED: Final = frozenset({"tag-protected", "tag-immutable", "manifest-protected"})
_REMOVES_TAGS: Final = frozenset({Features.DATABASE, Features.FILES})
_PERHAPS_GONE: Final = frozenset({403, 404})


async def delete_tag(
    client: RegistryClient, finder: Finder, repository: str, *, tag: str, features: Features
) -> Removal:
    """Delete a tag alone. Where the registry's right to delete is not granted, developers may do it by the API.

    Raises as ``DeletesTags.delete_tag``, with the codes ``tag-protected`` and ``tag-immutable`` besides.
    """
    try:
        return await deleting.delete_tag(client, repository, tag)
    except RegistryDenied as error:
        if error.code != _NOT_GRANTED or features not in _REMOVES_TAGS or not await finder.may_untag(repository):
            raise
    found = await finder.find(repository)
    if found is None or found.id is None:
        raise unknown(repository)
    name = reference_name(repository, tag)
    path = f"projects/{found.project_id}/registry/repositories/{found.id}/tags/{quoted(tag)}"
    try:
        await finder.api.delete(path, subject=f"a delete of {name}")
    except RegistryError as error:
        # With the metadata database 403 also stands for a tag that is not there any more.
        if error.status not in _PERHAPS_GONE or error.code == "tag-protected":
            raise
        if await head_manifest(client, repository, tag) is not None:
            raise
        return Removal.ALREADY_GONE
    return Removal.REMOVED


async def probe_delete(client: RegistryClient, repository: str) -> Ability:
    """As the distribution connector; a rule that protects the manifests of a repository says that others go."""
    try:
        return await deleting.probe_delete(client, repository)
    except RegistryDenied as error:
        if error.code not in _PROTECTED:
            raise
        return Ability.SUPPORTED


async def probe_untag(client: RegistryClient, finder: Finder, repository: str, *, features: Features) -> Ability:
    """As the distribution connector; where the registry's right is not granted, what role and scope allow.

    GitLab's API is not asked to delete anything: its answers for a tag that is not there differ.
    """
    try:
        return await deleting.probe_untag(client, repository)
    except RegistryDenied as error:
        if error.code in _PROTECTED:
            return Ability.SUPPORTED
        if error.code != _NOT_GRANTED or features not in _REMOVES_TAGS or not await finder.may_untag(repository):
            raise
        return Ability.SUPPORTED


async def delete_repository(finder: Finder, repository: str) -> RepositoryStatus:
    """Ask GitLab once to delete a whole repository, which takes it a while.

    Raises ``RegistryError`` (``repository-unknown``, ``repository-protected``, and what the API raises).
    """
    found = await finder.find_again(repository)
    if found is None or found.id is None:
        raise unknown(repository)
    if (standing := status_of(found.status)) is RepositoryStatus.DELETING:
        return standing
    path = f"projects/{found.project_id}/registry/repositories/{found.id}"
    await finder.api.delete(path, subject=f"a delete of the repository {repository}")
    return RepositoryStatus.DELETING

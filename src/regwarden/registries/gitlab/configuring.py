"""Where is the registry of a GitLab, and what does a token allow there? Asked of GitLab alone, before anything else.

The registry's address is only told: whoever sets it up looks at it first. Source: GitLab REST API, "Projects"
(``container_registry_image_prefix``) and "Container registry" (``location``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from yarl import URL

from regwarden.core.projects import Access, FoundRegistry
from regwarden.errors import NotFound, RegistryError
from regwarden.registries.client.limits import Limits
from regwarden.registries.gitlab.access import missing_for, sentence
from regwarden.registries.gitlab.client import open_client
from regwarden.registries.gitlab.people import People
from regwarden.registries.gitlab.records import field_of, text_of
from regwarden.registries.gitlab.rest import GitLabApi, quoted
from regwarden.registries.gitlab.settings import GitLabSettings

_HOST: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?"
)
_MAX_PLACES: Final = 20
_REPOSITORIES: Final = "/registry/repositories"


async def find_registry(settings: GitLabSettings, limits: Limits | None = None) -> FoundRegistry:
    """Ask the GitLab of ``settings``, whose ``client`` has its own address, for its registry's.

    That is ``https``, or ``http`` where GitLab's own address is.

    Raises ``RegistryError`` where it does not answer or accept the token, and ``NotFound`` (``no-registry-found``).
    """
    client = open_client(settings.client, settings.gitlab_url, api_token=settings.api_token, limits=limits)
    try:
        person = await People(client.api).find()
        if person.refusal and person.scopes is None:
            await client.api.get("user", object, subject="our own user")  # raises what it was
        host, seen_in, refusals = await _find_host(client.api, settings)
    finally:
        await client.close()
    if not host:
        place = URL(settings.gitlab_url).host_port_subcomponent
        raise NotFound(
            f"no project that can be seen names the registry of {place}",
            hint=" ".join(refusals) or "Name a project that has a registry: --project team/app",
            code="no-registry-found",
        )
    url = f"{URL(settings.gitlab_url).scheme}://{host}"
    access = Access(
        mode=settings.mode,
        user=person.user,
        is_admin=person.is_admin,
        scopes=person.scopes,
        expires_at=person.expires_at,
        version=person.version,
        lacks=(*missing_for(person, settings), *refusals),
    )
    return FoundRegistry(url, seen_in, access)


async def _find_host(api: GitLabApi, settings: GitLabSettings) -> tuple[str, str, list[str]]:
    """The first usable host, who named it, and which of the groups and projects that were named cannot be read."""
    refusals: list[str] = []
    found = ("", "")
    for path, subject in _places(settings):
        is_list = path.endswith(_REPOSITORIES)
        if is_list and path.startswith("projects/") and found[0]:
            continue
        try:
            rows = await api.get(path, object, {"per_page": 1} if is_list else {}, subject=subject)
        except RegistryError as error:
            if error.code == "login-failed" or error.temporary:
                raise
            refusals.append(sentence(error.message))
            continue
        for row in rows if isinstance(rows, list) else [rows]:
            named = text_of(field_of(row, "container_registry_image_prefix")) or text_of(field_of(row, "location"))
            host = named.partition("/")[0]
            if not found[0] and _HOST.fullmatch(host):
                found = host, text_of(field_of(row, "path_with_namespace")) or text_of(field_of(row, "path"))
    return (*found, refusals)


def _places(settings: GitLabSettings) -> Iterator[tuple[str, str]]:
    """Where to look: every place that was named, so that each is known to be readable, or else all projects."""
    for path in settings.projects[:_MAX_PLACES]:
        yield f"projects/{quoted(path)}", f"the project {path}"
        # Who is not signed in is not told the project's prefix, but where its repositories are.
        yield f"projects/{quoted(path)}{_REPOSITORIES}", f"the repositories of the project {path}"
    for path in settings.groups[:_MAX_PLACES]:
        yield f"groups/{quoted(path)}{_REPOSITORIES}", f"the repositories of the group {path}"
    if not settings.projects and not settings.groups:
        yield "projects", "the projects"

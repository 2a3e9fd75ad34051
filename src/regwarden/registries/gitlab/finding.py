"""Which number has a repository at GitLab, and how does it stand? Asked for single repositories, before changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from regwarden.core.projects import AccessLevel, ProjectRepository, RepositoryStatus
from regwarden.errors import RegistryDenied, RegistryError
from regwarden.registries.client.client import RegistryClient, pull_scope
from regwarden.registries.client.transport import Call
from regwarden.registries.gitlab.learned import Learned
from regwarden.registries.gitlab.people import People
from regwarden.registries.gitlab.records import field_of, number_of, parse_project, parse_repository
from regwarden.registries.gitlab.rest import GitLabApi, quoted
from regwarden.registries.gitlab.tokens import GitLabTokens

_FAILED: Final = "delete_failed"
_DELETING: Final = "delete_"
_UNKNOWN: Final = "api-not-found"
_LEVELS_BELOW: Final = 2  # a repository lies at most so far below its project ("Naming convention for images")


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds repositories among those of their projects, and remembers them."""

    registry: RegistryClient
    tokens: GitLabTokens
    api: GitLabApi
    people: People
    learned: Learned

    async def find(self, repository: str) -> ProjectRepository | None:
        """A repository with its number; ``None`` where GitLab shows none of this name. Raises what the API raises."""
        known = self.learned.repositories.get(repository)
        if known is not None and known.id is not None:
            return known
        project = await self._find_project(repository)
        return None if project is None else await self.look_up(project, repository)

    async def find_again(self, repository: str) -> ProjectRepository | None:
        """As ``find``, of now: what was known may have been renamed, and another may have come to its name."""
        known = self.learned.repositories.pop(repository, None)
        if known is not None and (found := await self.look_up(known.project_id, repository)) is not None:
            return found
        return await self.find(repository)

    async def look_up(self, project: int, repository: str) -> ProjectRepository | None:
        """A repository as GitLab knows it now, in the whole list of its project."""
        path, subject = f"projects/{project}/registry/repositories", f"the repositories of the project {project}"
        found = None
        async for rows in self.api.pages(path, object, subject=subject):
            for one in map(parse_repository, rows):
                if one is not None and one.id is not None:
                    self.learned.take(one)
                    found = one if one.name == repository else found
        return found

    async def status(self, repository: str) -> RepositoryStatus:
        """How a repository stands. Gone is what its project, which we can read, does not list any more.

        Lists shift while repositories go: one that has a number is asked for by that first.
        """
        known = self.learned.repositories.get(repository)
        if known is not None and (row := await self._find_row(known)) is not None and row.name == repository:
            return status_of(row.status)
        project = known.project_id if known is not None else await self._find_project(repository)
        if project is None:
            raise unknown(repository)
        found = await self.look_up(project, repository)
        if found is None:
            self.learned.repositories.pop(repository, None)
            return RepositoryStatus.GONE
        return status_of(found.status)

    async def _find_row(self, known: ProjectRepository) -> ProjectRepository | None:
        """What GitLab knows under a number, which it tells users only."""
        if known.id is None or not self.people.is_somebody:
            return None
        try:
            path, subject = f"registry/repositories/{known.id}", f"the repository {known.name}"
            return parse_repository(await self.api.get(path, object, subject=subject))
        except RegistryError as error:
            if error.temporary or error.code == "login-failed":
                raise
            return None  # the list says more

    async def may_untag(self, repository: str) -> bool:
        """Whether GitLab's API removes tags there for us: the scope ``api``, and the role Developer or more."""
        if not self.people.is_somebody or not (await self.people.find()).may_write:
            return False
        try:
            found = await self.find(repository)
            if found is None:
                return False
            row = await self.api.get(f"projects/{found.project_id}", object, subject=f"the project of {repository}")
        except RegistryError as error:
            if error.temporary:
                raise
            return False
        person = await self.people.find()
        project = parse_project(row, is_admin=person.is_admin is True)
        level = None if project is None else project.access_level
        return level is not None and level >= AccessLevel.DEVELOPER

    async def _find_project(self, repository: str) -> int | None:
        """The number of a repository's project: a token for it names it, else the longest path that is a project's."""
        meta = self.tokens.meta_of(repository)
        if meta is None:
            await self._ask_token(repository)
            meta = self.tokens.meta_of(repository)
        if meta is not None and meta.project_id is not None:
            return meta.project_id
        for path in project_paths(repository):
            try:
                row = await self.api.get(f"projects/{quoted(path)}", object, subject=f"the project {path}")
            except RegistryError as error:
                if error.code != _UNKNOWN:
                    raise
                continue
            return number_of(field_of(row, "id"))
        return None

    async def _ask_token(self, repository: str) -> None:
        limit, scope = self.registry.limits.error_bytes, pull_scope(repository)
        try:
            await self.registry.send(Call("GET", self.registry.url(""), f"the project of {repository}", limit, scope))
        except RegistryDenied:
            return  # then GitLab's API is asked


def project_paths(repository: str) -> Iterator[str]:
    """Where the project of a repository may be, the longest path first."""
    parts = repository.split("/")
    for count in range(len(parts), max(len(parts) - _LEVELS_BELOW - 1, 1), -1):
        yield "/".join(parts[:count])


def status_of(word: str) -> RepositoryStatus:
    """GitLab's word for what becomes of a repository."""
    if word == _FAILED:
        return RepositoryStatus.FAILED
    return RepositoryStatus.DELETING if word.startswith(_DELETING) else RepositoryStatus.PRESENT


def unknown(repository: str) -> RegistryError:
    """The error for a repository of which GitLab shows us no number."""
    return RegistryError(
        f"GitLab does not show us a repository {repository}",
        hint="The token needs the scope api or read_api, and its user the role Reporter in the project.",
        code="repository-unknown",
    )

"""Which repositories are in the scope? The catalog, or GitLab's lists of groups and projects, page by page.

What a walk brings is kept in ``Learned``. A list that breaks off makes a page that is not trustworthy, and the walk
goes on with the next: never is a part taken for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from regwarden.core.projects import Mode
from regwarden.errors import RegistryDenied, RegistryError
from regwarden.registries.api import RepositoryPage
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.distribution.catalog import CatalogWalk
from regwarden.registries.gitlab.learned import Learned
from regwarden.registries.gitlab.login import Login
from regwarden.registries.gitlab.people import People
from regwarden.registries.gitlab.records import (
    field_of,
    is_registry_off,
    number_of,
    parse_project,
    parse_repository,
    text_of,
)
from regwarden.registries.gitlab.rest import GitLabApi, quoted
from regwarden.registries.gitlab.settings import GitLabSettings

AT_ONCE: Final = 16
_NO_CATALOG: Final = "no-catalog"


@dataclass(frozen=True, slots=True)
class Walks:
    """One connector's way to its repositories."""

    settings: GitLabSettings
    registry: RegistryClient
    api: GitLabApi
    people: People
    learned: Learned
    login: Login

    async def pages(self) -> AsyncIterator[RepositoryPage]:
        """The repositories of the scope, each once, by the names that they have in the registry.

        Raises ``RegistryError`` where nothing at all could be listed, and where the login failed.
        """
        self.learned.restart()
        failures: list[RegistryError] = []
        async for page in self._mode_pages(failures):
            names = tuple(sorted(set(page.names) - self.learned.listed))
            self.learned.listed.update(names)
            if page.doubt:
                self.learned.doubt(page.doubt, is_incomplete=not page.is_trustworthy)
            if names or page.doubt:
                yield replace(page, names=names)
        if failures and not self.learned.listed:
            raise failures[0]
        self.learned.has_walked = True

    async def projects_seen(self) -> None:
        """Read all projects that we see into ``Learned``, in pages of a hundred with what they weigh."""
        person = await self.people.find()
        query = {"pagination": "keyset", "order_by": "id", "sort": "asc"}
        if self.people.is_somebody:
            # Without this gitlab.com lists every public project there is to everybody.
            query |= {"statistics": "true"} if person.is_admin else {"statistics": "true", "membership": "true"}
        async for rows in self.api.keyset_pages("projects", object, query, subject="the projects"):
            for row in rows:
                self._take_project(row, is_admin=person.is_admin is True)

    async def _mode_pages(self, failures: list[RegistryError]) -> AsyncIterator[RepositoryPage]:
        if self.settings.mode is Mode.INSTANCE:
            async for page in self._catalog_pages():
                yield page
            if not self.learned.used_catalog:
                async for page in self._instance_pages(failures):
                    yield page
            return
        for group in self.settings.groups:
            async for page in self.group_pages(group, failures):
                yield page
        paths = [(f"projects/{quoted(path)}", path) for path in self.settings.projects]
        async for page in self.project_pages(paths, failures):
            yield page

    async def _catalog_pages(self) -> AsyncIterator[RepositoryPage]:
        """The catalog, or nothing where it is refused; nobody without credentials gets it (``README.md``)."""
        if self.settings.is_anonymous:
            return
        try:
            async for page in CatalogWalk(self.registry).pages():
                self.learned.used_catalog = True
                yield page
        except RegistryError as error:
            self.login.check()
            is_refusal = isinstance(error, RegistryDenied) or error.code == _NO_CATALOG
            if self.learned.used_catalog or not is_refusal:
                raise

    async def _instance_pages(self, failures: list[RegistryError]) -> AsyncIterator[RepositoryPage]:
        """Top-level groups with all that is below them, then projects that lie in none of those."""
        walked: set[str] = set()
        groups, page = await self._top_groups(failures)
        if page is not None:
            yield page
        for path in groups:
            refusals: list[RegistryError] = []
            async for page in self.group_pages(path, refusals):
                if not refusals:
                    yield page
            if not refusals:
                walked.add(path.lower())
        try:
            await self.projects_seen()
        except RegistryError as error:
            yield self.broken("the projects", error, failures)
        rest = [
            project
            for project in sorted(self.learned.projects.values(), key=lambda one: one.id)
            if project.id not in self.learned.registryless and project.path.partition("/")[0].lower() not in walked
        ]
        async for page in self.project_pages([(f"projects/{one.id}", one.path) for one in rest], failures):
            yield page

    async def _top_groups(self, failures: list[RegistryError]) -> tuple[list[str], RepositoryPage | None]:
        person = await self.people.find()
        query = {"top_level_only": "true", "order_by": "path"}
        if self.people.is_somebody and not person.is_admin:
            query["all_available"] = "false"
        found: list[str] = []
        try:
            async for rows in self.api.pages("groups", object, query, subject="the groups"):
                found.extend(filter(None, (text_of(field_of(row, "full_path")) for row in rows)))
        except RegistryError as error:
            return found, self.broken("the groups", error, failures)
        return found, None

    async def group_pages(self, group: str, failures: list[RegistryError]) -> AsyncIterator[RepositoryPage]:
        """The repositories of a group and all below it; ``failures`` gets why the list broke off."""
        path, subject = f"groups/{quoted(group)}/registry/repositories", f"the repositories of the group {group}"
        try:
            async for rows in self.api.pages(path, object, subject=subject):
                yield self._page(rows, subject)
        except RegistryError as error:
            yield self.broken(subject, error, failures)

    async def project_pages(
        self, places: Iterable[tuple[str, str]], failures: list[RegistryError]
    ) -> AsyncIterator[RepositoryPage]:
        """The repositories of projects (path below the API, name), several projects at a time; failures as above."""
        waiting = iter(places)
        while chunk := list(islice(waiting, AT_ONCE)):
            for pages in await asyncio.gather(*(self._of_project(*place, failures) for place in chunk)):
                for page in pages:
                    yield page

    async def _of_project(self, place: str, name: str, failures: list[RegistryError]) -> list[RepositoryPage]:
        subject = f"the repositories of the project {name}"
        found: list[RepositoryPage] = []
        try:
            async for rows in self.api.pages(f"{place}/registry/repositories", object, subject=subject):
                found.append(self._page(rows, subject))  # noqa: PERF401 - what came before it breaks off is kept
        except RegistryError as error:
            found.append(self.broken(subject, error, failures))
        return found

    def _page(self, rows: tuple[object, ...], subject: str) -> RepositoryPage:
        """Keep the repositories of a page; ``parse_repository`` says which rows can be used."""
        parsed = [one for one in map(parse_repository, rows) if one is not None]
        for one in parsed:
            self.learned.take(one)
        unusable = len(rows) - len(parsed)
        doubt = f"{unusable} of {subject} have no name that a registry takes, and were skipped" if unusable else ""
        return RepositoryPage(tuple(one.name for one in parsed), is_trustworthy=not unusable, doubt=doubt)

    def _take_project(self, row: object, *, is_admin: bool) -> None:
        number = number_of(field_of(row, "id"))
        if number and is_registry_off(row):
            self.learned.registryless.add(number)
        if (project := parse_project(row, is_admin=is_admin)) is not None:
            self.learned.projects[project.id] = project
        else:
            self.learned.doubt("a project could not be read: GitLab describes it in a form that is not known")

    def broken(self, subject: str, error: RegistryError, failures: list[RegistryError]) -> RepositoryPage:
        """A page without names that says why there are none. Raises where nothing may be asked any more."""
        self.login.check()
        failures.append(error)
        doubt = f"{subject} could not be read to the end: {error.message}"
        return RepositoryPage((), is_trustworthy=False, doubt=doubt, is_complete=False)

"""Whose are the repositories that were listed? Joins them to projects, and asks for owners, rules and figures.

Each question that is refused leaves its value unknown; only repositories that belong to no known project, and lists
that broke off, are doubts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from regwarden.core.projects import Discovery, Mode, Namespace, Project, ProjectRepository
from regwarden.errors import RegistryError
from regwarden.registries.api import RepositoryPage
from regwarden.registries.client.client import pull_scope
from regwarden.registries.client.transport import Call
from regwarden.registries.gitlab.discovery_walks import AT_ONCE, Walks
from regwarden.registries.gitlab.grants import TokenMeta
from regwarden.registries.gitlab.people import Person
from regwarden.registries.gitlab.project_rules import RuleReader
from regwarden.registries.gitlab.records import find_owners, parse_namespace, parse_project
from regwarden.registries.gitlab.rest import quoted
from regwarden.registries.gitlab.tokens import GitLabTokens

T = TypeVar("T")
_MAX_NAMED = 3


@dataclass(slots=True)
class Discoverer:
    """Finds out what there is to know of the repositories of one walk."""

    walks: Walks
    tokens: GitLabTokens
    rules: RuleReader
    owners: dict[str, str | None] = field(default_factory=dict)

    async def discover(self) -> Discovery:
        """See ``KnowsProjects.discover``. Walks by itself where nothing was listed yet."""
        learned = self.walks.learned
        self.owners.clear()
        if not learned.has_walked:
            async for page in self.walks.pages():
                self.tokens.expect(page.names)
        await self._ensure_projects()
        await self._ensure_rows()
        self._use_tokens()
        by_path = self._paths()
        joined = {name: learned.repositories.get(name) or self._join(name, by_path) for name in sorted(learned.listed)}
        homeless = [name for name, found in joined.items() if found is None]
        if homeless:
            learned.doubt(_homeless(homeless), is_incomplete=True)
        found = [one for one in joined.values() if one is not None]
        repositories = tuple(one for one in found if one.project_id in learned.projects)
        if len(repositories) < len(found):
            learned.doubt("the projects of some repositories are not known", is_incomplete=True)
        projects = await self._complete(repositories)
        return Discovery(
            mode=self.walks.settings.mode,
            projects=projects,
            repositories=repositories,
            namespaces=await self._namespaces(),
            is_complete=learned.is_complete,
            doubts=tuple(learned.doubts),
        )

    async def _ensure_projects(self) -> None:
        """With the catalog all projects are listed, otherwise those are asked for that repositories name."""
        learned, person = self.walks.learned, await self._person()
        if learned.used_catalog and not learned.projects:
            try:
                await self.walks.projects_seen()
            except RegistryError as error:
                self._note("the projects could not be listed", error)
        named = {one.project_id for name, one in learned.repositories.items() if name in learned.listed}

        async def ask(number: int) -> None:
            path, query = f"projects/{number}", {"statistics": "true"} if self.walks.people.is_somebody else {}
            try:
                row = await self.walks.api.get(path, object, query, subject=f"the project {number}")
            except RegistryError as error:
                self._note(f"the project {number} could not be read", error)
                return
            if (project := parse_project(row, is_admin=person.is_admin is True)) is not None:
                learned.projects[project.id] = project

        await each(sorted(named - set(learned.projects)), ask)

    async def _ensure_rows(self) -> None:
        """GitLab's numbers for names that the catalog brought: of whole groups at once, of personal projects singly."""
        learned = self.walks.learned
        if not learned.used_catalog:
            return
        by_path = self._paths()
        wanted = {name: self._join(name, by_path) for name in learned.listed - set(learned.repositories)}
        numbers = {one.project_id for one in wanted.values() if one is not None}
        projects = [learned.projects[number] for number in sorted(numbers)]
        failures: list[RegistryError] = []
        for root in sorted({one.path.partition("/")[0] for one in projects if one.owner is None}):
            await _read(self.walks.group_pages(root, failures))
        personal = [(f"projects/{one.id}", one.path) for one in projects if one.owner is not None]
        await _read(self.walks.project_pages(personal, failures))
        if failures:
            learned.doubt(f"GitLab's numbers of some repositories are not known: {failures[0].message}")

    def _use_tokens(self) -> None:
        """Tokens that were had for reading name projects too: all there is to know where the API is refused."""
        learned = self.walks.learned
        for name in learned.listed:
            row, meta = learned.repositories.get(name), self.tokens.meta_of(name)
            if meta is None or meta.project_id is None or not meta.project_path:
                continue
            if row is None or row.project_id == meta.project_id:
                group = meta.project_path.rpartition("/")[0]
                learned.projects.setdefault(
                    meta.project_id, Project(id=meta.project_id, path=meta.project_path, group=group)
                )

    @staticmethod
    def _join(name: str, by_path: Mapping[str, int]) -> ProjectRepository | None:
        """The project with the longest path that ``name`` begins with; paths of projects may have capitals."""
        parts = name.split("/")
        for count in range(len(parts), 0, -1):
            if (number := by_path.get("/".join(parts[:count]))) is not None:
                return ProjectRepository(name=name, project_id=number)
        return None

    async def _complete(self, repositories: Iterable[ProjectRepository]) -> tuple[Project, ...]:
        """The projects that have repositories, with owners and rules."""
        learned = self.walks.learned
        first: dict[int, str] = {}
        for one in repositories:
            first.setdefault(one.project_id, one.name)
        known = [learned.projects[number] for number in sorted(first) if number in learned.projects]
        groups = sorted({one.group for one in known if one.owner is None} - set(self.owners))
        if self.walks.people.is_somebody:
            await each(groups, self._ask_owners)
        completed: dict[int, Project] = {}

        async def complete(project: Project) -> None:
            meta = await self._meta(first[project.id])
            owner = project.owner if project.owner is not None else self.owners.get(project.group)
            rules, are_all = await self.rules.read(project, meta)
            completed[project.id] = replace(project, owner=owner, rules=rules, are_all_rules=are_all)

        await each(known, complete)
        return tuple(completed[number] for number in sorted(completed))

    def _paths(self) -> Mapping[str, int]:
        return {one.path.lower(): one.id for one in self.walks.learned.projects.values()}

    async def _ask_owners(self, group: str) -> None:
        rows: list[object] = []
        try:
            path = f"groups/{quoted(group)}/members/all"
            async for page in self.walks.api.pages(path, object, subject=f"the members of {group}"):
                rows.extend(page)
        except RegistryError:
            self.walks.login.check()
            self.owners[group] = None
            return
        self.owners[group] = find_owners(rows) or None

    async def _meta(self, repository: str) -> TokenMeta | None:
        """What a token for a repository says of its project; one is asked for where there was none."""
        if (known := self.tokens.meta_of(repository)) is not None:
            return known
        registry = self.walks.registry
        limit, scope = registry.limits.error_bytes, pull_scope(repository)
        try:
            await registry.send(Call("GET", registry.url(""), f"the rules of {repository}", limit, scope))
        except RegistryError:
            self.walks.login.check()
        return self.tokens.meta_of(repository)

    async def _namespaces(self) -> tuple[Namespace, ...]:
        """GitLab's figures of top-level groups, which it tells administrators only."""
        person = await self._person()
        if not person.is_admin or self.walks.settings.mode is not Mode.INSTANCE:
            return ()
        found: dict[str, Namespace] = {}
        query = {"statistics": "true", "top_level_only": "true", "order_by": "path"}
        try:
            async for page in self.walks.api.pages("groups", object, query, subject="the groups"):
                found.update((one.path, one) for one in map(parse_namespace, page) if one is not None)
        except RegistryError as error:
            self._note("the sizes of the groups are not known", error)
        return tuple(found[path] for path in sorted(found))

    async def _person(self) -> Person:
        try:
            return await self.walks.people.find()
        except RegistryError as error:
            self._note("GitLab did not say who we are", error)
            return Person()

    def _note(self, what: str, error: RegistryError) -> None:
        self.walks.login.check()
        self.walks.learned.doubt(f"{what}: {error.message}")


async def each(subjects: Collection[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Do something for each, a few at a time."""
    waiting = iter(subjects)
    while chunk := list(islice(waiting, AT_ONCE)):
        await asyncio.gather(*(act(one) for one in chunk))


async def _read(pages: AsyncIterator[RepositoryPage]) -> None:
    async for _ in pages:
        pass


def _homeless(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMED])
    more = f" and {len(names) - _MAX_NAMED} others" if len(names) > _MAX_NAMED else ""
    return f"no project that we see has the repositories {shown}{more}"

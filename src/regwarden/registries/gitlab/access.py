"""What do our token and role allow at this GitLab, which way of reading follows, and what is missing, in plain words?

Source: GitLab's ``container_registry_authentication_service.rb`` and the documentation of its token scopes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from regwarden import clock
from regwarden.core.projects import Access, Features, Mode
from regwarden.errors import RegistryError
from regwarden.registries.gitlab.client import GitLabClient
from regwarden.registries.gitlab.features import FeatureProbe, Found
from regwarden.registries.gitlab.learned import Learned
from regwarden.registries.gitlab.people import People, Person
from regwarden.registries.gitlab.probes import can_list_catalog
from regwarden.registries.gitlab.records import parse_repository
from regwarden.registries.gitlab.rest import quoted
from regwarden.registries.gitlab.settings import GitLabSettings

_READS_API: Final = frozenset({"api", "read_api"})
_READS_REGISTRY: Final = frozenset({"api", "read_api", "read_registry"})
_KNOWN_SCOPES: Final = _READS_REGISTRY | {"write_registry", "admin_mode", "read_user"}
_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class AccessProbe:
    """Asks the questions, each once, and changes nothing."""

    settings: GitLabSettings
    client: GitLabClient
    people: People
    features: FeatureProbe
    learned: Learned

    async def describe(self) -> Access:
        """See ``KnowsProjects.describe_access``: refusals are answers."""
        doubts: list[str] = []
        found = await self._features(doubts)
        if (failure := self.client.login.failure) is not None:
            lacks: tuple[str, ...] = (f"{sentence(failure.message)} {failure.hint}".strip(),)
            return Access(mode=self.settings.mode, lacks=lacks)
        person = await self._person(doubts)
        catalog = await self._catalog(doubts)
        readable, unreadable = await self._projects(person, doubts)
        may_write = person.may_write
        lacks = (*missing_for(person, self.settings), *unreadable)
        if self.settings.mode is Mode.INSTANCE and catalog is False and readable:
            lacks += ("Without administrator rights the catalog is refused: groups and projects are walked instead.",)
        return Access(
            mode=self.settings.mode,
            user=person.user,
            is_admin=person.is_admin,
            scopes=person.scopes,
            expires_at=person.expires_at,
            version=person.version,
            registry_version=found.version,
            features=found.features,
            can_list_catalog=catalog,
            can_read_projects=readable,
            can_untag=None if found.features is Features.UNKNOWN else may_write,
            can_delete=may_write,
            can_delete_repositories=may_write,
            lacks=tuple(dict.fromkeys(lacks)),
            doubts=tuple(dict.fromkeys((*doubts, *_doubts(person)))),
        )

    async def _features(self, doubts: list[str]) -> Found:
        """Without a token a repository must be known: whichever the last walk brought, or the first of the scope."""
        try:
            name = min(self.learned.listed, default="")
            if not name and self.settings.is_anonymous:
                name = await self._some_repository()
            found = await self.features.ensure(name)
        except RegistryError as error:
            found = Found(doubt=f"the registry did not say what it offers: {error.message}")
        if found.doubt:
            doubts.append(f"{found.doubt}; it is read by the API that all registries have")
        return found

    async def _some_repository(self) -> str:
        """A repository of the scope, empty if none is seen."""
        places = [f"projects/{quoted(path)}" for path in self.settings.projects]
        places += [f"groups/{quoted(path)}" for path in self.settings.groups]
        for place in places:
            try:
                path, query = f"{place}/registry/repositories", {"per_page": 1}
                rows = await self.client.api.get(path, list[object], query, subject="a repository")
            except RegistryError:
                continue
            for found in filter(None, map(parse_repository, rows)):
                return found.name
        return ""

    async def _person(self, doubts: list[str]) -> Person:
        try:
            return await self.people.find()
        except RegistryError as error:
            doubts.append(f"GitLab did not say who we are: {error.message}")
            return Person()

    async def _catalog(self, doubts: list[str]) -> bool | None:
        if self.settings.is_anonymous:
            return False
        try:
            return await can_list_catalog(self.client.registry)
        except RegistryError as error:
            doubts.append(f"whether the catalog is granted is not known: {error.message}")
            return None

    async def _projects(self, person: Person, doubts: list[str]) -> tuple[bool | None, list[str]]:
        """Whether the projects of the scope can be read by the API, and what cannot, where nothing said so yet.

        A GitLab that fails now says nothing about it.
        """
        if person.refusal and not _READS_API & set(person.scopes or ()):
            return False, []
        asked = [(f"groups/{quoted(path)}", f"the group {path}") for path in self.settings.groups]
        asked += [(f"projects/{quoted(path)}", f"the project {path}") for path in self.settings.projects]
        unreadable: list[str] = []
        is_known = True
        for path, subject in asked or [("projects", "the projects")]:
            try:
                await self.client.api.get(path, object, {"per_page": 1} if not asked else None, subject=subject)
            except RegistryError as error:
                is_known = is_known and not error.temporary
                (doubts if error.temporary else unreadable).append(sentence(error.message))
        return False if unreadable else (True if is_known else None), unreadable


def sentence(text: str) -> str:
    """A message as a sentence."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def missing_for(person: Person, settings: GitLabSettings) -> Iterator[str]:
    """What the token lacks for what, one sentence each."""
    if settings.is_anonymous and not settings.api_token:
        yield "There is no token: only public projects are read, and nothing can be deleted."
        return
    if person.refusal and person.scopes is None:
        yield f"GitLab's API cannot be used with this token. {sentence(person.refusal)}"
        yield "Without it only an administrator's catalog can be read, and owners, rules and figures stay unknown."
        return
    if person.scopes is None or not _KNOWN_SCOPES & set(person.scopes):
        return
    scopes, shown = set(person.scopes), ", ".join(person.scopes)
    if not scopes & _READS_REGISTRY and not settings.api_token:
        yield "The token lacks the scope read_registry (read_api or api serve, too): manifests cannot be read."
    if not scopes & _READS_API:
        yield "The token lacks the scope read_api (or api): groups, projects, rules and figures cannot be read."
    if "api" not in scopes:
        yield f"Deleting needs the scope api; this token has {shown}."


def _doubts(person: Person) -> Iterator[str]:
    if person.scopes is not None and not _KNOWN_SCOPES & set(person.scopes):
        yield "The token's rights are of a form that is not known here: what it may do shows when it is done."
    if person.is_admin and person.scopes is not None and "admin_mode" not in person.scopes:
        yield "Where Admin Mode is on, a token of an administrator needs the scope admin_mode to see all projects."
    if person.expires_at is not None:
        left = person.expires_at - clock.now()
        if left <= _SOON:
            yield (
                f"The token expires in {max(left.days, 0)} days: make a new one before."
                if left.days >= 1
                else ("The token expires within a day: make a new one.")
            )

"""Is a repository gone that GitLab does not let us read? Only what GitLab itself shows is a proof.

A project that was deleted is answered as one in which our token has lost its rights: then the repository stays known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from regwarden.errors import RegistryError
from regwarden.registries.gitlab.discovery_walks import Walks
from regwarden.registries.gitlab.finding import Finder, project_paths
from regwarden.registries.gitlab.records import field_of, number_of, text_of
from regwarden.registries.gitlab.rest import quoted

_UNKNOWN: Final = "api-not-found"
_MAX_ASKED: Final = 500  # so many projects are looked for in one walk: a lost right may be one for thousands


@dataclass(slots=True)
class Absence:
    """Looks for the projects of repositories that a walk did not bring, each path once."""

    walks: Walks
    finder: Finder
    _asked: dict[str, tuple[int, str] | None] = field(default_factory=dict)

    def restart(self) -> None:
        """A new walk begins."""
        self._asked.clear()

    async def is_proven(self, repository: str) -> bool:
        """Whether ``repository``, for which no token is to be had, is gone: what cannot be found out is no proof.

        Its project moved, and has it no more; or there is none, as the catalog and an administrator's question say.
        """
        learned = self.walks.learned
        if not learned.has_walked or not learned.is_complete or repository in learned.listed:
            return False
        try:
            for path in project_paths(repository):
                if (found := await self._find(path)) is None:
                    continue
                number, current = found
                if repository == current or repository.startswith(f"{current}/"):
                    return False
                return await self.finder.look_up(number, repository) is None
            return learned.used_catalog and (await self.walks.people.find()).is_admin is True
        except RegistryError:
            self.walks.login.check()
            return False

    async def _find(self, path: str) -> tuple[int, str] | None:
        """Number and path, in lower case, of the project that is or was at ``path``; ``None`` if we see none."""
        if path not in self._asked:
            if len(self._asked) >= _MAX_ASKED:
                raise RegistryError("too many projects are not to be seen", code=_UNKNOWN)
            try:
                row = await self.walks.api.get(f"projects/{quoted(path)}", object, subject=f"the project {path}")
            except RegistryError as error:
                if error.code != _UNKNOWN:
                    raise
                self._asked[path] = None
                return None
            number, current = number_of(field_of(row, "id")), text_of(field_of(row, "path_with_namespace")).lower()
            if not number or not current:
                raise RegistryError(f"GitLab describes the project {path} in a form that is not known")
            self._asked[path] = number, current
        return self._asked[path]

"""What has this connector learned of its GitLab so far? Repositories with their numbers, projects, doubts.

Filled by walks and questions, read by everything that needs a number of GitLab's; kept as long as the connector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from regwarden.core.projects import Project, ProjectRepository

_MAX_DOUBTS: Final = 50


@dataclass(slots=True)
class Learned:
    """Updated in place. ``listed`` are the names that the last walk brought; ``repositories`` all with a number.

    ``gone`` are repositories of which it was proven since then that GitLab has them no more.

    ``projects`` are by number; ``registryless`` are projects that have no registry. ``is_complete`` is false once
    something of the scope could not be read.
    """

    listed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    repositories: dict[str, ProjectRepository] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    registryless: set[int] = field(default_factory=set)
    has_walked: bool = False
    used_catalog: bool = False
    is_complete: bool = True
    doubts: dict[str, None] = field(default_factory=dict)

    def restart(self) -> None:
        """A new walk begins: nothing of the last one counts any more."""
        self.listed.clear()
        self.gone.clear()
        self.repositories.clear()
        self.projects.clear()
        self.registryless.clear()
        self.doubts.clear()
        self.has_walked = False
        self.used_catalog = False
        self.is_complete = True

    def doubt(self, reason: str, *, is_incomplete: bool = False) -> None:
        """Note why something is not known; ``is_incomplete``: repositories or projects may be missing."""
        if is_incomplete:
            self.is_complete = False
        if len(self.doubts) < _MAX_DOUBTS:
            self.doubts[reason] = None

    def take(self, repository: ProjectRepository) -> None:
        """Keep a repository, newer than what was known of it."""
        self.repositories[repository.name] = repository

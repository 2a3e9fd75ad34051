"""What ``Inventory`` answers about a GitLab: its projects, its sizes beside ours, its own cleanup policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from regwarden.core.access import Reach
from regwarden.library_rows import Row

if TYPE_CHECKING:
    from regwarden.core.importers.api import Imported
    from regwarden.library_gitlab_cleanup import SimulatedCleanup

T = TypeVar("T")


class GitlabQuestions:
    """The part of ``Inventory`` that is about GitLab. Everything is told as the last crawl found it."""

    _reach: Reach

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def projects(self, registry: str | None = None) -> list[Row]:
        """The projects of all registries of kind gitlab, or of one, by registry and path.

        Fields: ``registry``, ``project``, ``gitlab_id``, ``group``, ``owner``, ``visibility``, ``is_archived``,
        ``access_level`` (``maintainer``, …), ``repository_count``, ``rule_count`` (``None``: the rules were never
        read), ``rules_read_at``, ``is_cleanup_on``, ``cleanup_next_run_at``, ``gitlab_bytes``, ``seen_at``. Raises
        ``InputError`` for a registry that is of another kind.
        """
        from regwarden.library_gitlab_reports import project_rows

        return self._read(lambda connection: project_rows(connection, registry, self._reach))

    def gitlab_sizes(self, registry: str | None = None, *, by: str = "repository") -> list[Row]:
        """GitLab's figures beside ours, of each ``repository``, ``project`` or ``namespace``, with the reasons.

        Fields: ``registry``, ``name``, ``repository_count``, ``gitlab_bytes``, ``meaning``, ``precision``,
        ``is_estimated``, ``sized_at``, ``tagged_layer_bytes`` (ours by GitLab's definition), ``difference_bytes``
        (GitLab's less that), ``stored_bytes`` (all that tags reach) and ``reasons``, sentences. Raises ``InputError``.
        """
        from regwarden.library_gitlab_reports import parse_scope, size_rows

        scope = parse_scope(by)
        return self._read(lambda connection: size_rows(connection, registry, scope, self._reach))

    def cleanup_policies(
        self, registry: str | None = None, *, project: str | None = None, policies: Mapping[str, str] | None = None
    ) -> list[Row]:
        """GitLab's own cleanup policy of every project, or of one; ``policies`` are ours, texts by name.

        Fields: ``registry``, ``project``, ``is_enabled`` (``None``: not known), ``next_run_at``, ``policy`` (in
        words), ``cadence``, ``keep_n``, ``older_than``, ``name_regex``, ``name_regex_keep``, ``plan_ids`` (open plans
        that remove something there) and ``warnings``, also about ours that decide there too. Raises ``NotFound`` for a
        project that is not known, and ``InputError`` for policies that cannot be used.
        """
        from regwarden.library_gitlab_cleanup import policy_rows
        from regwarden.library_policy_texts import known_zones, parse_policy_texts

        ours = parse_policy_texts(policies, known_zones()) if policies else ()
        return self._read(lambda connection: policy_rows(connection, registry, project, ours, reach=self._reach))

    def simulate_cleanup(
        self, project: str, *, registry: str | None = None, as_of: datetime | str | None = None
    ) -> SimulatedCleanup:
        """What GitLab's own policy of a project would do to its tags in one run at ``as_of``, or now.

        A moment that lies ahead is possible: the tags are those of today. Raises ``NotFound`` for a project that is
        not known, ``InputError`` for a policy that cannot be understood.
        """
        from regwarden.library_gitlab_cleanup import simulate

        return self._read(lambda connection: simulate(connection, project, registry, as_of, self._reach))

    def import_cleanup_policy(self, project: str, *, registry: str | None = None) -> Imported:
        """GitLab's policy of a project as one of ours, with what differs. Raises ``NotFound`` and ``InputError``."""
        from regwarden.library_gitlab_cleanup import import_policy

        return self._read(lambda connection: import_policy(connection, project, registry, self._reach))

"""What does GitLab do in the background? Repositories deleted step by step, and tags removed by expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

import re2

from tests.gitlab_double.answers import time_text
from tests.gitlab_double.rails_projects import CADENCES
from tests.gitlab_double.rails_tags import is_tag_protected, parse_duration
from tests.gitlab_double.recording import FaultKind, FaultPlan
from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import BulkJob, Project, RegistryView, Repository, TagFacts

PAGE_TAGS = 1000  # with the database, each page of so many is a selection of its own
SAMPLE_TAGS = 200  # without it, so many and those to be kept are drawn before anything is put in order


@dataclass(frozen=True)
class Clean:
    """What a selection needs to know beside the tags."""

    job: BulkJob
    project: Project
    now: datetime
    has_database: bool
    random: Random


def selected(scenario: Scenario, tags: Mapping[str, TagFacts], clean: Clean) -> list[str]:
    """The tags that GitLab would remove: its order of conditions, its anchoring and its keeping per page."""
    names = sorted(tags)
    if clean.has_database:
        pages = [names[start : start + PAGE_TAGS] for start in range(0, len(names), PAGE_TAGS)]
    else:
        pages = [names]
    found = [name for page in pages for name in _of_page(page, tags, clean)]
    return [name for name in found if not is_tag_protected(scenario, None, clean.project, name)]


def _of_page(names: list[str], tags: Mapping[str, TagFacts], clean: Clean) -> list[str]:
    job = clean.job
    delete, keep = re2.compile(rf"\A{job.delete}\z"), re2.compile(rf"\A{job.keep}\z") if job.keep else None
    found = [name for name in names if name != "latest" and delete.search(name)]
    found = [name for name in found if keep is None or not keep.search(name)]
    if not clean.has_database and len(found) > SAMPLE_TAGS + (job.keep_n or 0):
        found = clean.random.sample(found, SAMPLE_TAGS + (job.keep_n or 0))

    def date(name: str) -> datetime | None:
        return tags[name].published_at if clean.has_database else tags[name].built_at

    if job.keep_n is not None:
        found = sorted(found, key=lambda name: (date(name) or clean.now, name), reverse=True)[job.keep_n :]
    if job.older_than is None:
        return found
    edge = clean.now - job.older_than
    return [name for name in found if (moment := date(name)) is not None and moment < edge]


@dataclass
class Background:
    """The workers. Each ``tick`` takes everything one step further; a run of a bulk removal has a limit of tags."""

    scenario: Scenario
    view: RegistryView
    faults: FaultPlan
    seed: int = 1

    def tick(self) -> None:
        """One step: scheduled deletions begin, begun ones end or fail, bulk removals take their next run."""
        for repository in list(self.scenario.repositories):
            if repository.status == "delete_scheduled":
                repository.status = "delete_ongoing"
            elif repository.status == "delete_ongoing":
                self._end_deletion(repository)
        for job in list(self.scenario.jobs):
            self._run(job)

    def _end_deletion(self, repository: Repository) -> None:
        fault = self.faults.take("rails", "TICK", repository.path)
        if fault is not None and fault.kind is FaultKind.DELETE_FAILED:
            repository.status = "delete_failed"
            return
        for tag in sorted(self.view.tags(repository.path)):
            self.view.delete_tag(repository.path, tag)
        self.scenario.repositories.remove(repository)

    def _run(self, job: BulkJob) -> None:
        self.scenario.jobs.remove(job)
        repository = self.scenario.repository(job.repository_id)
        project = None if repository is None else self.scenario.project(str(repository.project_id))
        if repository is None or project is None:
            return
        repository.cleanup_started_at = self.scenario.now()
        clean = Clean(job, project, self.scenario.now(), self.view.has_database, Random(self.seed))
        found = selected(self.scenario, self.view.tags(repository.path), clean)
        limit = self.scenario.settings.run_limit
        for tag in found[:limit]:
            self.view.delete_tag(repository.path, tag)
        if len(found) > limit:
            self.scenario.jobs.append(job)

    def run_policies(self) -> None:
        """Enqueue what the enabled cleanup policies that are due remove, and say when they run next."""
        now = self.scenario.now()
        for project in self.scenario.projects:
            policy = project.policy
            if policy is None or not policy["enabled"] or datetime.fromisoformat(policy["next_run_at"]) > now:
                continue
            policy["next_run_at"] = time_text(now + timedelta(days=CADENCES[policy["cadence"]]))
            for repository in self.scenario.repositories_of(project):
                older_than = policy["older_than"]
                job = BulkJob(repository.id, policy["name_regex"], policy["name_regex_keep"], policy["keep_n"])
                job.older_than = parse_duration(older_than) if older_than else None
                self.scenario.jobs.append(job)

    def run_out(self, *, most: int = 100) -> None:
        """Ticks until nothing is left to do."""
        for _ in range(most):
            is_idle = not self.scenario.jobs and all(
                each.status in {"", "delete_failed"} for each in self.scenario.repositories
            )
            if is_idle:
                return
            self.tick()

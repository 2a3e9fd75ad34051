"""A crawled registry that is told to be one of a GitLab, for tests of what is reported; no GitLab is asked."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from regwarden.core.projects import (
    Access,
    Discovery,
    Features,
    Mode,
    Namespace,
    Project,
    ProjectRepository,
    ProtectionRule,
    RepositorySize,
    RuleKind,
)
from regwarden.store.database import Database
from regwarden.store.projects import save_access, save_discovery, save_remote_size
from regwarden.store.schema import registries, repositories, tags
from regwarden.store.times import to_micros

SEEN_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
PUBLISHED_AT = datetime(2026, 11, 1, tzinfo=UTC)
POLICY = {
    "cadence": "7d",
    "enabled": True,
    "keep_n": 1,
    "older_than": "7d",
    "name_regex": ".*",
    "name_regex_keep": None,
    "next_run_at": "2026-12-01T03:00:00.000Z",
}
PROJECTS = (
    Project(
        id=7,
        path="Team/App",
        group="Team",
        owner="ann",
        visibility="private",
        access_level=40,
        cleanup_policy=POLICY,
        size_bytes=2_500_000,
        rules=(ProtectionRule(RuleKind.TAG, "^1\\.0", "maintainer", "maintainer"),),
    ),
    Project(id=8, path="team/web", group="team", visibility="public", access_level=20),
)
DISCOVERY = Discovery(
    mode=Mode.INSTANCE,
    projects=PROJECTS,
    repositories=(
        ProjectRepository(name="team/app", project_id=7, id=70),
        ProjectRepository(name="team/web", project_id=8, id=80),
    ),
    namespaces=(Namespace(path="Team", size_bytes=3_000_000, is_estimated=True),),
)


def make_gitlab(database: Database, registry: str, features: Features = Features.DATABASE) -> None:
    """Let the registry, crawled from ``tests.sample_inventory``, be of kind gitlab with two projects."""

    def write(connection: Connection) -> None:
        number = connection.execute(select(registries.c.id).where(registries.c.name == registry)).scalar_one()
        connection.execute(update(registries).where(registries.c.id == number).values(kind="gitlab"))
        save_access(connection, number, Access(mode=Mode.INSTANCE, features=features))
        save_discovery(connection, number, DISCOVERY, SEEN_AT)
        size = RepositorySize(size_bytes=2_500_000)
        save_remote_size(connection, number, "team/app", size, SEEN_AT)
        ours = select(repositories.c.id).where(repositories.c.registry_id == number)
        published = update(tags).where(tags.c.repository_id.in_(ours))
        connection.execute(published.values(published_at=to_micros(PUBLISHED_AT)))
        connection.execute(
            published.where(tags.c.name == "1.2.0").values(published_at=to_micros(PUBLISHED_AT.replace(day=2)))
        )

    database.write_now(write)

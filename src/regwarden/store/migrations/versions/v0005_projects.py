"""What a registry with projects tells: projects, their rules, namespaces; whose each repository is."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns, then the tables."""
    access = sa.Column(
        "access", sa.Text(), server_default="{}", nullable=False, comment="JSON: who we are there and what we may do"
    )
    op.add_column("registries", access)
    for column in _repository_columns():
        op.add_column("repositories", column)
    op.create_index(op.f("ix_repositories_project"), "repositories", ["project"], unique=False)
    for column in _tag_columns():
        op.add_column("tags", column)
    _create_projects()
    _create_rules()
    _create_namespaces()


def _repository_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("project", _NAME, comment="path of the project that it belongs to, where the registry has projects"),
        sa.Column("project_group", _NAME, comment="full path of that project's group"),
        sa.Column("owner", _NAME, comment="of that project; user names, joined by commas"),
        sa.Column("project_remote_id", sa.BigInteger(), comment="GitLab's number of the project"),
        sa.Column("access_level", sa.Integer(), comment="ours in that project, by GitLab's numbers"),
        sa.Column("remote_id", sa.BigInteger(), comment="GitLab's number of the repository"),
        sa.Column("remote_status", sa.Text(), comment="GitLab's word while it is being deleted; empty: it is not"),
        sa.Column("remote_created_at", sa.BigInteger()),
        sa.Column("remote_bytes", sa.BigInteger(), comment="GitLab's figure"),
        sa.Column("remote_precision", sa.Text(), comment="what that figure counts, in GitLab's word"),
        sa.Column("remote_sized_at", sa.BigInteger(), comment="when GitLab was asked for it"),
    )


def _tag_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("published_at", sa.BigInteger(), comment="since when it points there, by the registry's own listing"),
        sa.Column(
            "is_protected", sa.SmallInteger(), comment="whether a rule of the registry protects it; null: not looked at"
        ),
    )


def _create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("registry_id", _KEY, nullable=False),
        sa.Column("remote_id", sa.BigInteger(), nullable=False, comment="GitLab's number"),
        sa.Column("path", _NAME, nullable=False),
        sa.Column("project_group", _NAME, nullable=False, comment="full path of its group or of the user's namespace"),
        sa.Column("owner", _NAME, nullable=True, comment="user names, joined by commas; null: unknown"),
        sa.Column("visibility", sa.Text(), server_default="", nullable=False),
        sa.Column("is_archived", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column(
            "access_level", sa.Integer(), nullable=True, comment="ours there, by GitLab's numbers; null: unknown"
        ),
        sa.Column("cleanup_policy", sa.Text(), nullable=True, comment="JSON as GitLab gives it; null: unknown"),
        sa.Column("remote_bytes", sa.BigInteger(), nullable=True, comment="GitLab's figure for its registry"),
        sa.Column(
            "rules_read_at", sa.BigInteger(), nullable=True, comment="when its rules were last read; null: never"
        ),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_projects_registry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("registry_id", "remote_id", name=op.f("uq_projects_registry_id_remote_id")),
    )


def _create_rules() -> None:
    op.create_table(
        "project_rules",
        sa.Column("project_id", _KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="tag, immutable or repository"),
        sa.Column("pattern", _NAME, nullable=False),
        sa.Column("delete_role", sa.Text(), server_default="", nullable=False, comment="the least that may delete"),
        sa.Column("push_role", sa.Text(), server_default="", nullable=False, comment="the least that may push"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_rules_project_id")),
        sa.PrimaryKeyConstraint("project_id", "kind", "pattern", name=op.f("pk_project_rules")),
        comment="What GitLab protects. Rules that could not be read again go on holding.",
    )


def _create_namespaces() -> None:
    op.create_table(
        "namespaces",
        sa.Column("registry_id", _KEY, nullable=False),
        sa.Column("path", _NAME, nullable=False),
        sa.Column("remote_bytes", sa.BigInteger(), nullable=True, comment="GitLab's figure, deduplicated within it"),
        sa.Column("is_estimated", sa.SmallInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_namespaces_registry_id")),
        sa.PrimaryKeyConstraint("registry_id", "path", name=op.f("pk_namespaces")),
    )

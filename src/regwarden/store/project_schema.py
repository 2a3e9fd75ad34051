"""The tables of what a registry with projects (GitLab) tells: projects, the rules that hold there, namespaces."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, PrimaryKeyConstraint, Table, Text, UniqueConstraint

from regwarden.store.schema import Bytes, Flag, Key, Name, Time, metadata

projects: Final = Table(
    "projects",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("registry_id", Key, ForeignKey("registries.id"), nullable=False),
    Column("remote_id", BigInteger, nullable=False, comment="GitLab's number"),
    Column("path", Name, nullable=False),
    Column("project_group", Name, nullable=False, comment="full path of its group or of the user's namespace"),
    Column("owner", Name, comment="user names, joined by commas; null: unknown"),
    Column("visibility", Text, nullable=False, server_default=""),
    Column("is_archived", Flag, nullable=False, server_default="0"),
    Column("access_level", Integer, comment="ours there, by GitLab's numbers; null: unknown"),
    Column("cleanup_policy", Text, comment="JSON as GitLab gives it; null: unknown"),
    Column("remote_bytes", Bytes, comment="GitLab's figure for its registry"),
    Column("rules_read_at", Time, comment="when its rules were last read; null: never"),
    Column("seen_at", Time, nullable=False),
    UniqueConstraint("registry_id", "remote_id"),
)

project_rules: Final = Table(
    "project_rules",
    metadata,
    Column("project_id", Key, ForeignKey("projects.id"), nullable=False),
    Column("kind", Text, nullable=False, comment="tag, immutable or repository"),
    Column("pattern", Name, nullable=False),
    Column("delete_role", Text, nullable=False, server_default="", comment="the least that may delete"),
    Column("push_role", Text, nullable=False, server_default="", comment="the least that may push"),
    PrimaryKeyConstraint("project_id", "kind", "pattern"),
    comment="What GitLab protects. Rules that could not be read again go on holding.",
)

namespaces: Final = Table(
    "namespaces",
    metadata,
    Column("registry_id", Key, ForeignKey("registries.id"), nullable=False),
    Column("path", Name, nullable=False),
    Column("remote_bytes", Bytes, comment="GitLab's figure, deduplicated within it"),
    Column("is_estimated", Flag),
    Column("seen_at", Time, nullable=False),
    PrimaryKeyConstraint("registry_id", "path"),
)

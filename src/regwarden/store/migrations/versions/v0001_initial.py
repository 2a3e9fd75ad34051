"""The first schema: every table of the inventory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, those that others point to first."""
    _create_blobs()
    _create_installation()
    _create_manifests()
    _create_registries()
    _create_crawls()
    _create_manifest_children()
    _create_repositories()
    _create_usage_days()
    _create_crawl_checkpoints()
    _create_crawl_problems()
    _create_repository_blobs()
    _create_repository_manifests()
    _create_tag_history()
    _create_tags()


def _create_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column(
            "size_bytes", sa.BigInteger(), nullable=False, comment="the smallest size declared, or the verified one"
        ),
        sa.Column(
            "is_conflicting",
            sa.SmallInteger(),
            server_default="0",
            nullable=False,
            comment="declared with different sizes",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blobs")),
        sa.UniqueConstraint("digest", name=op.f("uq_blobs_digest")),
    )


def _create_installation() -> None:
    op.create_table(
        "installation",
        sa.Column("name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
        comment="What belongs to this database as a whole: the random installation id in our user agent.",
    )


def _create_manifests() -> None:
    op.create_table(
        "manifests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="read, unread, unsupported or bad"),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("artifact_type", sa.Text(), server_default="", nullable=False),
        sa.Column("config_media_type", sa.Text(), server_default="", nullable=False),
        sa.Column("config_digest", sa.LargeBinary(), nullable=True),
        sa.Column(
            "config_state", sa.Text(), server_default="none", nullable=False, comment="none, read, skipped or failed"
        ),
        sa.Column("subject_digest", sa.LargeBinary(), nullable=True),
        sa.Column("is_index", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column(
            "platform",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="os/architecture[/variant]; joined for an index",
        ),
        sa.Column(
            "created_at", sa.BigInteger(), nullable=True, comment="of the config; an index takes its newest child's"
        ),
        sa.Column("labels", sa.Text(), nullable=True, comment="JSON object, from the config"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="of the document itself"),
        sa.Column("layer_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("blob_ids", sa.LargeBinary(), nullable=False),
        sa.Column(
            "logical_bytes", sa.BigInteger(), nullable=True, comment="itself, children and blobs, each digest once"
        ),
        sa.Column("layer_bytes", sa.BigInteger(), nullable=True, comment="distinct layers"),
        sa.Column(
            "total_size",
            sa.BigInteger(),
            nullable=True,
            comment="layers as listed, repeated ones repeated (GitLab's definition)",
        ),
        sa.Column("payload", sa.LargeBinary(), nullable=True, comment="the exact bytes, zlib"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_manifests")),
        sa.UniqueConstraint("digest", name=op.f("uq_manifests_digest")),
        comment="Facts of content, by digest, once. blob_ids packs distinct blob ids: layers in order, then the others.",  # noqa: E501 -- a comment of the schema
    )
    op.create_index(op.f("ix_manifests_config_digest"), "manifests", ["config_digest"], unique=False)
    op.create_index(op.f("ix_manifests_created_at"), "manifests", ["created_at"], unique=False)
    op.create_index(op.f("ix_manifests_logical_bytes"), "manifests", ["logical_bytes"], unique=False)
    op.create_index(op.f("ix_manifests_subject_digest"), "manifests", ["subject_digest"], unique=False)


def _create_registries() -> None:
    op.create_table(
        "registries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("capabilities", sa.Text(), server_default="{}", nullable=False),
        sa.Column("endpoint_fingerprint", sa.Text(), server_default="", nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "crawl_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the last crawl that ended",
        ),
        sa.Column("crawled_at", sa.BigInteger(), nullable=True, comment="when that crawl ended"),
        sa.Column("crawl_state", sa.Text(), nullable=True, comment="complete, partial, restricted or failed"),
        sa.Column("sized_at", sa.BigInteger(), nullable=True, comment="when the graph figures were last materialised"),
        sa.Column("repository_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tag_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("manifest_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("problem_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("logical_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stored_all_bytes", sa.BigInteger(), nullable=True),
        sa.Column("layer_bytes", sa.BigInteger(), nullable=True, comment="predecessors' size"),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True, comment="predecessors' disk_size"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registries")),
        sa.UniqueConstraint("name", name=op.f("uq_registries_name")),
    )


def _create_crawls() -> None:
    op.create_table(
        "crawls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("registry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="running, complete, partial, failed or interrupted"),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "certificate", sa.Text(), server_default="{}", nullable=False, comment="JSON: how complete the reading was"
        ),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_crawls_registry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_crawls")),
    )
    op.create_index(op.f("ix_crawls_registry_id_started_at"), "crawls", ["registry_id", "started_at"], unique=False)


def _create_manifest_children() -> None:
    op.create_table(
        "manifest_children",
        sa.Column("parent_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("child_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("platform", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["child_id"], ["manifests.id"], name=op.f("fk_manifest_children_child_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["manifests.id"], name=op.f("fk_manifest_children_parent_id")),
        sa.PrimaryKeyConstraint("parent_id", "position", name=op.f("pk_manifest_children")),
    )
    op.create_index(op.f("ix_manifest_children_child_id"), "manifest_children", ["child_id"], unique=False)


def _create_repositories() -> None:
    op.create_table(
        "repositories",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("registry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("catalog_position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True, comment="start of the last complete reading"),
        sa.Column(
            "verified_at", sa.BigInteger(), nullable=True, comment="start of the last reading that probed everything"
        ),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True, comment="when it was found gone"),
        sa.Column(
            "crawl_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the crawl that published it last",
        ),
        sa.Column(
            "vanished_in",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the running crawl that found it gone; settled when that crawl ends",
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="complete, partial, denied, failed or untagged"),
        sa.Column("problem_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tag_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("manifest_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("newest_created_at", sa.BigInteger(), nullable=True),
        sa.Column("logical_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stored_all_bytes", sa.BigInteger(), nullable=True),
        sa.Column("exclusive_bytes", sa.BigInteger(), nullable=True),
        sa.Column("shared_bytes", sa.BigInteger(), nullable=True),
        sa.Column("attributed_bytes", sa.BigInteger(), nullable=True),
        sa.Column("layer_bytes", sa.BigInteger(), nullable=True),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_repositories_registry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
        sa.UniqueConstraint("registry_id", "name", name=op.f("uq_repositories_registry_id_name")),
    )


def _create_usage_days() -> None:
    op.create_table(
        "usage_days",
        sa.Column("registry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "repository_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="0: the registry as a whole",
        ),
        sa.Column("day", sa.Integer(), nullable=False, comment="days since 1970 UTC"),
        sa.Column("tag_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("manifest_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("logical_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("exclusive_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_usage_days_registry_id")),
        sa.PrimaryKeyConstraint("registry_id", "repository_id", "day", name=op.f("pk_usage_days")),
    )


def _create_crawl_checkpoints() -> None:
    op.create_table(
        "crawl_checkpoints",
        sa.Column("crawl_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tag", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("manifest_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["crawl_id"], ["crawls.id"], name=op.f("fk_crawl_checkpoints_crawl_id")),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], name=op.f("fk_crawl_checkpoints_manifest_id")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_crawl_checkpoints_repository_id")
        ),
        sa.PrimaryKeyConstraint("crawl_id", "repository_id", "tag", name=op.f("pk_crawl_checkpoints")),
        comment="Tags of a large repository that a running crawl has read; a continued crawl does not ask again.",
    )


def _create_crawl_problems() -> None:
    op.create_table(
        "crawl_problems",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("registry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "tag", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), server_default="", nullable=False
        ),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=False, comment="when the registry was last asked about it"),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_crawl_problems_registry_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_crawl_problems_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_crawl_problems")),
        comment="What stood in the way of the last reading of each repository; replaced when it is published.",
    )
    op.create_index(op.f("ix_crawl_problems_registry_id"), "crawl_problems", ["registry_id"], unique=False)
    op.create_index(op.f("ix_crawl_problems_repository_id"), "crawl_problems", ["repository_id"], unique=False)


def _create_repository_blobs() -> None:
    op.create_table(
        "repository_blobs",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("blob_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("pushed_at", sa.BigInteger(), nullable=True),
        sa.Column("pulled_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True, comment="when it was last asked for"),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True, comment="when it was found or reported missing"),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_repository_blobs_blob_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_repository_blobs_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "blob_id", name=op.f("pk_repository_blobs")),
    )
    op.create_index(op.f("ix_repository_blobs_blob_id"), "repository_blobs", ["blob_id"], unique=False)


def _create_repository_manifests() -> None:
    op.create_table(
        "repository_manifests",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("manifest_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("pushed_at", sa.BigInteger(), nullable=True),
        sa.Column("pulled_at", sa.BigInteger(), nullable=True),
        sa.Column("checked_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True, comment="when its existence was last proven"),
        sa.Column("untagged_since", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "exclusive_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="reachable from no other tagged manifest of the registry",
        ),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], name=op.f("fk_repository_manifests_manifest_id")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_repository_manifests_repository_id")
        ),
        sa.PrimaryKeyConstraint("repository_id", "manifest_id", name=op.f("pk_repository_manifests")),
    )
    op.create_index(op.f("ix_repository_manifests_manifest_id"), "repository_manifests", ["manifest_id"], unique=False)


def _create_tag_history() -> None:
    op.create_table(
        "tag_history",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tag", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="empty: gone"),
        sa.Column("cause", sa.Text(), nullable=False, comment="event, crawl or ourselves"),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_tag_history_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "tag", "at", "digest", "cause", name=op.f("pk_tag_history")),
        comment="Points, a set union: the order in which they arrive never matters.",
    )


def _create_tags() -> None:
    op.create_table(
        "tags",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("manifest_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("state", sa.Text(), nullable=False, comment="ok, dangling or unreadable"),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("tagged_at", sa.BigInteger(), nullable=False, comment="since when it points there, at latest"),
        sa.Column(
            "verified_at", sa.BigInteger(), nullable=True, comment="when its manifest was last proven to be there"
        ),
        sa.Column(
            "vanished_in",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the running crawl that found it gone; settled when that crawl ends",
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=True, comment="the manifest's, for sorting"),
        sa.Column("logical_bytes", sa.BigInteger(), nullable=True),
        sa.Column("exclusive_bytes", sa.BigInteger(), nullable=True, comment="freed by deleting this tag alone"),
        sa.Column("shared_bytes", sa.BigInteger(), nullable=True),
        sa.Column("layer_bytes", sa.BigInteger(), nullable=True),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], name=op.f("fk_tags_manifest_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_tags_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sa.UniqueConstraint("repository_id", "name", name=op.f("uq_tags_repository_id_name")),
    )
    op.create_index(op.f("ix_tags_created_at"), "tags", ["created_at"], unique=False)
    op.create_index(op.f("ix_tags_logical_bytes"), "tags", ["logical_bytes"], unique=False)
    op.create_index(op.f("ix_tags_manifest_id"), "tags", ["manifest_id"], unique=False)
    op.create_index(op.f("ix_tags_name"), "tags", ["name"], unique=False)
    op.create_index(op.f("ix_tags_repository_id_created_at"), "tags", ["repository_id", "created_at"], unique=False)
    op.create_index(
        op.f("ix_tags_repository_id_logical_bytes"), "tags", ["repository_id", "logical_bytes"], unique=False
    )

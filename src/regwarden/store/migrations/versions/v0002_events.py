"""Notifications: deliveries, events, pulls, and what they add to tags, manifests and repositories."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns to what there is, then the new tables."""
    _extend_crawls()
    _extend_registries()
    _extend_repositories()
    _extend_contents()
    _extend_tags()
    _date_history()
    _create_deliveries()
    _create_hook_secrets()
    _create_events()
    _create_repository_renames()
    _create_rereads()
    _create_senders()
    _create_drifts()
    _create_pull_days()
    _create_removals()


def _extend_crawls() -> None:
    op.add_column(
        "crawls",
        sa.Column(
            "confirmed_count",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="changes that events had told of",
        ),
    )
    op.add_column(
        "crawls",
        sa.Column(
            "drift_count",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="changes that no event had told of",
        ),
    )


def _extend_registries() -> None:
    op.add_column(
        "registries",
        sa.Column(
            "changed_at",
            sa.BigInteger(),
            nullable=True,
            comment="when an event last changed what the figures are made of",
        ),
    )
    op.add_column(
        "registries",
        sa.Column(
            "events_since", sa.BigInteger(), nullable=True, comment="when the first event of this registry was received"
        ),
    )
    op.add_column(
        "registries", sa.Column("delivered_at", sa.BigInteger(), nullable=True, comment="when the last one was")
    )


def _extend_repositories() -> None:
    op.add_column(
        "repositories",
        sa.Column(
            "settled_at",
            sa.BigInteger(),
            nullable=True,
            comment="older events are overruled by the last complete reading",
        ),
    )
    op.add_column(
        "repositories",
        sa.Column(
            "read_until",
            sa.BigInteger(),
            nullable=True,
            comment="end of that reading; events between the two ask for another",
        ),
    )


def _extend_contents() -> None:
    op.add_column(
        "repository_blobs",
        sa.Column(
            "alive_at", sa.BigInteger(), nullable=True, comment="last evidence from an event that it exists here"
        ),
    )
    op.add_column(
        "repository_manifests", sa.Column("fetched_at", sa.BigInteger(), nullable=True, comment="last GET by anybody")
    )
    op.add_column(
        "repository_manifests",
        sa.Column(
            "alive_at", sa.BigInteger(), nullable=True, comment="last evidence that it exists here: push, pull or probe"
        ),
    )


def _extend_tags() -> None:
    op.add_column(
        "tags",
        sa.Column(
            "event_at", sa.BigInteger(), nullable=True, comment="the last event that says so, until a crawl confirms it"
        ),
    )
    op.add_column(
        "tags",
        sa.Column(
            "host",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="under which name the last event knew the registry",
        ),
    )


def _date_history() -> None:
    """A crawl's observation of before overrules what is a minute older; there were no events yet."""
    op.add_column("tag_history", sa.Column("effective_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE tag_history SET effective_at = at - 60000000")
    with op.batch_alter_table("tag_history") as batch:
        batch.alter_column(
            "effective_at",
            existing_type=sa.BigInteger(),
            nullable=False,
            comment="events at or after this stand against it",
        )
    op.create_index(
        op.f("ix_tag_history_repository_id_tag_effective_at"), "tag_history", ["repository_id", "tag", "effective_at"]
    )


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column(
            "registry", _NAME, nullable=False, comment="fixed by the credential; empty: the event's host decides"
        ),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False, comment="address of the peer"),
        sa.Column("state", sa.Text(), nullable=False, comment="pending, applied, quarantined or unknown-registry"),
        sa.Column("reason", sa.Text(), server_default="", nullable=False, comment="why it is in quarantine"),
        sa.Column("event_count", sa.Integer(), server_default="0", nullable=False, comment="new events found in it"),
        sa.Column("body_bytes", sa.BigInteger(), nullable=False, comment="length of the body as it was sent"),
        sa.Column(
            "body", sa.LargeBinary(), nullable=True, comment="as it was sent, or its beginning; purged after a time"
        ),
        sa.Column(
            "body_sha256",
            sa.LargeBinary(),
            nullable=True,
            comment="of the whole body, where only its beginning is kept",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        comment="Raw bodies, committed before the sender is answered. Append-only, nothing is unique.",
    )
    op.create_index(
        "ix_deliveries_pending",
        "deliveries",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_quarantined",
        "deliveries",
        ["received_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('quarantined', 'unknown-registry')"),
        postgresql_where=sa.text("state IN ('quarantined', 'unknown-registry')"),
    )


def _create_hook_secrets() -> None:
    op.create_table(
        "hook_secrets",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("registry", _NAME, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hook_secrets")),
        comment="What authenticates the notifications of a registry; of each the two newest are valid.",
    )
    op.create_index(op.f("ix_hook_secrets_registry"), "hook_secrets", ["registry"], unique=False)


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("source", _NAME, nullable=False, comment="the registry's name, or the host where that is not known"),
        sa.Column("event_id", _NAME, nullable=False, comment="as sent, or made from the content"),
        sa.Column("registry_id", _KEY, nullable=True, comment="unknown until the host is configured"),
        sa.Column("delivery_id", _KEY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="applied or unknown-registry"),
        sa.Column("action", sa.Text(), nullable=False, comment="push, pull, mount, delete or rename"),
        sa.Column(
            "at", sa.BigInteger(), nullable=False, comment="the registry's time; never later than it was received"
        ),
        sa.Column("sent_at", sa.BigInteger(), nullable=True, comment="the registry's time where that was later"),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "target", sa.Text(), nullable=False, comment="manifest, blob, tag, repository or content (of unknown kind)"
        ),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("tag", _NAME, server_default="", nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("media_type", sa.Text(), server_default="", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("other_repository", _NAME, server_default="", nullable=False, comment="mounted from, or renamed to"),
        sa.Column("pull_class", sa.Text(), server_default="", nullable=False),
        sa.Column("method", sa.Text(), server_default="", nullable=False),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("host", sa.Text(), server_default="", nullable=False, comment="as the client called the registry"),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("instance_id", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_events_registry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("source", "event_id", name=op.f("uq_events_source_event_id")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(
        "ix_events_unknown",
        "events",
        ["source", "delivery_id"],
        unique=False,
        sqlite_where=sa.text("state = 'unknown-registry'"),
        postgresql_where=sa.text("state = 'unknown-registry'"),
    )
    op.create_index(
        op.f("ix_events_registry_id_repository_at"), "events", ["registry_id", "repository", "at"], unique=False
    )


def _create_repository_renames() -> None:
    op.create_table(
        "repository_renames",
        sa.Column("registry_id", _KEY, nullable=False),
        sa.Column("old_path", _NAME, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("new_path", _NAME, nullable=False),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_repository_renames_registry_id")),
        sa.PrimaryKeyConstraint("registry_id", "old_path", "at", name=op.f("pk_repository_renames")),
        comment="Renamed paths (GitLab): events of before belong to the new name.",
    )


def _create_rereads() -> None:
    op.create_table(
        "rereads",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("registry_id", _KEY, nullable=False),
        sa.Column("repository", _NAME, nullable=False, comment="empty: the whole registry"),
        sa.Column("reference", _NAME, nullable=False, comment="a digest; empty: the whole repository"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False, comment="why the last attempt failed"),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_rereads_registry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rereads")),
        sa.UniqueConstraint(
            "registry_id", "repository", "reference", name=op.f("uq_rereads_registry_id_repository_reference")
        ),
        comment="What must be read from a registry again, or for the first time; a row goes when it has been.",
    )
    op.create_index(op.f("ix_rereads_due_at"), "rereads", ["due_at"], unique=False)


def _create_senders() -> None:
    op.create_table(
        "senders",
        sa.Column("registry_id", _KEY, nullable=False),
        sa.Column("instance_id", _NAME, nullable=False, comment="changes at every start of a registry process"),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_senders_registry_id")),
        sa.PrimaryKeyConstraint("registry_id", "instance_id", name=op.f("pk_senders")),
    )


def _create_drifts() -> None:
    op.create_table(
        "drifts",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("registry_id", _KEY, nullable=False),
        sa.Column("crawl_id", _KEY, nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("tag", _NAME, nullable=False),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="missed-push, missed-move, missed-delete or missed-restore"
        ),
        sa.Column("expected", sa.LargeBinary(), nullable=True, comment="the digest by the events, if any"),
        sa.Column("found", sa.LargeBinary(), nullable=True, comment="the digest that the crawl found, if any"),
        sa.Column("at", sa.BigInteger(), nullable=False, comment="when the crawl found it"),
        sa.ForeignKeyConstraint(["crawl_id"], ["crawls.id"], name=op.f("fk_drifts_crawl_id")),
        sa.ForeignKeyConstraint(["registry_id"], ["registries.id"], name=op.f("fk_drifts_registry_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drifts")),
    )
    op.create_index(op.f("ix_drifts_crawl_id"), "drifts", ["crawl_id"], unique=False)
    op.create_index(op.f("ix_drifts_registry_id_at"), "drifts", ["registry_id", "at"], unique=False)


def _create_pull_days() -> None:
    op.create_table(
        "pull_days",
        sa.Column("repository_id", _KEY, nullable=False),
        sa.Column("manifest_id", _KEY, nullable=False),
        sa.Column("tag", _NAME, nullable=False, comment="as named in the request; empty: asked for by digest"),
        sa.Column("day", sa.Integer(), nullable=False, comment="days since 1970 UTC"),
        sa.Column("pull_class", _NAME, nullable=False),
        sa.Column("method", _NAME, nullable=False, comment="GET or HEAD"),
        sa.Column("pull_count", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], name=op.f("fk_pull_days_manifest_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_pull_days_repository_id")),
        sa.PrimaryKeyConstraint(
            "repository_id", "manifest_id", "tag", "day", "pull_class", "method", name=op.f("pk_pull_days")
        ),
    )
    op.create_index(op.f("ix_pull_days_day"), "pull_days", ["day"], unique=False)


def _create_removals() -> None:
    op.create_table(
        "removals",
        sa.Column("repository_id", _KEY, nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="of a manifest or blob, nobody says which; empty: everything",
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_removals_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "digest", "at", name=op.f("pk_removals")),
        comment="Deletions, a set union. What is newer than the last one exists.",
    )

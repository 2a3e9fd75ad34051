"""Cleanup: plans with their steps, approvals, the journal, the trash, protections, the audit."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables, and an index of events by which it is quickly seen what came in since the last look."""
    _create_audit()
    _create_plans()
    _create_protections()
    _create_trash()
    _create_approvals()
    _create_journal()
    _create_plan_repositories()
    _create_plan_steps()
    _create_trash_entries()
    op.create_index(op.f("ix_events_registry_id_id"), "events", ["registry_id", "id"], unique=False)


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False, comment="plan-create, plan-approve, plan-apply, plan-undo, …"),
        sa.Column("plan_id", _KEY, nullable=True),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False, comment="JSON object"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        comment="Who did what; append-only.",
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index(op.f("ix_audit_plan_id"), "audit", ["plan_id"], unique=False)


def _create_plans() -> None:
    op.create_table(
        "plans",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="incomplete, open, applying, applied, undone, finished or rejected",
        ),
        sa.Column("title", sa.Text(), nullable=False, comment="names of its policies, or the selection in words"),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", _NAME, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False, comment="zlib JSON: everything but steps and verdicts"),
        sa.Column("is_blocked", sa.SmallInteger(), nullable=False),
        sa.Column("needed_approval_count", sa.Integer(), nullable=False),
        sa.Column("repository_count", sa.BigInteger(), nullable=False),
        sa.Column("tag_count", sa.BigInteger(), nullable=False, comment="tags that go"),
        sa.Column("manifest_count", sa.BigInteger(), nullable=False, comment="manifests that are deleted"),
        sa.Column("reclaimable_bytes", sa.BigInteger(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=True, comment="when the last step was done"),
        sa.Column(
            "undo_until",
            sa.BigInteger(),
            nullable=True,
            comment="until when it can be undone, if the registry collects no garbage",
        ),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "outcome", sa.LargeBinary(), nullable=True, comment="zlib JSON: report of applying, verifying, finishing"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )


def _create_protections() -> None:
    op.create_table(
        "protections",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("registry", _NAME, nullable=False),
        sa.Column("repository", _NAME, nullable=False, comment="a name or a glob"),
        sa.Column("tag", _NAME, server_default="", nullable=False, comment="empty: every tag"),
        sa.Column("digest", _NAME, server_default="", nullable=False, comment="algorithm:hex; empty: every digest"),
        sa.Column("until", sa.BigInteger(), nullable=True, comment="null: until it is removed"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_protections")),
        comment="What people hold by hand. Removed rows stay, for the audit.",
    )


def _create_trash() -> None:
    op.create_table(
        "trash",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="the exact bytes, zlib"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_trash")),
        comment="Manifests that were deleted or that deleted ones lead to, by digest, once.",
    )


def _create_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("plan_id", _KEY, nullable=False),
        sa.Column("principal", _NAME, nullable=False),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="os-user: as the machine says; signed-in: as a directory says"
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", _NAME, nullable=False, comment="what was agreed to"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_approvals_plan_id")),
        sa.PrimaryKeyConstraint("plan_id", "kind", "principal", name=op.f("pk_approvals")),
    )


def _create_journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("plan_id", _KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False, comment="intent, outcome, restore-intent or restore-outcome"),
        sa.Column(
            "result",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="of an outcome: done, gone, failed, unknown, …",
        ),
        sa.Column("registry", _NAME, nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, comment="JSON array: those that pointed there at that moment"),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_journal_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
        comment="What was about to be done, and what came of it; append-only.",
    )
    op.create_index(op.f("ix_journal_plan_id_position"), "journal", ["plan_id", "position"], unique=False)
    op.create_index(op.f("ix_journal_registry_at"), "journal", ["registry", "at"], unique=False)


def _create_plan_repositories() -> None:
    op.create_table(
        "plan_repositories",
        sa.Column("plan_id", _KEY, nullable=False),
        sa.Column("registry", _NAME, nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("keep_count", sa.BigInteger(), nullable=False),
        sa.Column("remove_count", sa.BigInteger(), nullable=False),
        sa.Column("undecided_count", sa.BigInteger(), nullable=False),
        sa.Column("step_count", sa.BigInteger(), nullable=False),
        sa.Column("verdicts", sa.LargeBinary(), nullable=False, comment="zlib JSON"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_plan_repositories_plan_id")),
        sa.PrimaryKeyConstraint("plan_id", "registry", "repository", name=op.f("pk_plan_repositories")),
    )


def _create_plan_steps() -> None:
    op.create_table(
        "plan_steps",
        sa.Column("plan_id", _KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="untag or delete"),
        sa.Column("registry", _NAME, nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, comment="JSON array"),
        sa.Column("with_placeholder", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="pending, intended, done, gone, drifted, failed or restored"
        ),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=True, comment="of its last journal entry"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_plan_steps_plan_id")),
        sa.PrimaryKeyConstraint("plan_id", "position", name=op.f("pk_plan_steps")),
    )
    op.create_index(
        op.f("ix_plan_steps_registry_repository_digest"),
        "plan_steps",
        ["registry", "repository", "digest"],
        unique=False,
    )


def _create_trash_entries() -> None:
    op.create_table(
        "trash_entries",
        sa.Column("plan_id", _KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False, comment="deleted, untagged or descendant"),
        sa.ForeignKeyConstraint(["digest"], ["trash.digest"], name=op.f("fk_trash_entries_digest")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_trash_entries_plan_id")),
        sa.PrimaryKeyConstraint("plan_id", "position", "digest", name=op.f("pk_trash_entries")),
        comment="Which step needs which manifest to be undone.",
    )
    op.create_index(op.f("ix_trash_entries_digest"), "trash_entries", ["digest"], unique=False)

"""Tokens, sign-ins and signing keys; the allow-list and what it answered."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, those that others point to first."""
    _name_approvals()
    _create_allow_entries()
    _create_changes()
    _create_decisions()
    _create_principals()
    _create_signing_keys()
    _create_spent_assertions()
    _create_tokens()
    _create_sessions()
    _create_spent_refreshes()


def _name_approvals() -> None:
    column = sa.Column(
        "name", sa.Text(), server_default="", nullable=False, comment="of the principal, for people; empty: the same"
    )
    op.add_column("approvals", column)


def _create_allow_entries() -> None:
    op.create_table(
        "allow_entries",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("effect", sa.Text(), nullable=False, comment="allow or deny"),
        sa.Column(
            "image", _NAME, nullable=False, comment="as it was given: a digest, a reference, a literal id; may be empty"
        ),
        sa.Column("digest", sa.LargeBinary(), nullable=True, comment="of a manifest or a config, if image names one"),
        sa.Column("pattern", sa.Text(), server_default="", nullable=False, comment="of HOST/REPOSITORY; empty: any"),
        sa.Column("name", _NAME, server_default="", nullable=False, comment="what people call it; imagelist's name"),
        sa.Column("tags", sa.Text(), nullable=True, comment="JSON array; null: none were given"),
        sa.Column(
            "scope",
            sa.Text(),
            server_default="{}",
            nullable=False,
            comment="JSON: clusters, namespaces; empty: everywhere",
        ),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("evidence", sa.Text(), server_default="{}", nullable=False, comment="JSON object"),
        sa.Column(
            "is_protecting",
            sa.SmallInteger(),
            server_default="1",
            nullable=False,
            comment="keeps what it allows from cleanup",
        ),
        sa.Column("imagelist_id", _NAME, nullable=True, comment="its id in imagelist's interface, while it is there"),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False, comment="of changes.allow, when it last changed"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allow_entries")),
        sa.UniqueConstraint("imagelist_id", name=op.f("uq_allow_entries_imagelist_id")),
        comment="The allow-list. Removed rows stay, for the audit.",
    )
    op.create_index(op.f("ix_allow_entries_change_number"), "allow_entries", ["change_number"], unique=False)
    op.create_index(op.f("ix_allow_entries_digest"), "allow_entries", ["digest"], unique=False)
    op.create_index(op.f("ix_allow_entries_image"), "allow_entries", ["image"], unique=False)
    op.create_index(op.f("ix_allow_entries_name"), "allow_entries", ["name"], unique=False)


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("name", _NAME, nullable=False, comment="access or allow"),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_changes")),
        comment="Counts every change of a subject that processes hold in memory, in the transaction of the change.",
    )


def _create_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False, comment="of the first of these answers"),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("interface", sa.Text(), nullable=False, comment="api or the name of a predecessor"),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("scope", sa.Text(), server_default="{}", nullable=False, comment="JSON: cluster, namespace"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="allow, deny or unknown"),
        sa.Column("reason", sa.Text(), nullable=False, comment="code"),
        sa.Column("entry_ids", sa.Text(), server_default="[]", nullable=False, comment="JSON array"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        comment="What was answered; equal answers within a minute are one row.",
    )
    op.create_index(op.f("ix_decisions_at"), "decisions", ["at"], unique=False)


def _create_principals() -> None:
    op.create_table(
        "principals",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("subject", _NAME, nullable=False, comment="ldap:<entry's id>, oidc:<issuer>:<subject>"),
        sa.Column("kind", _NAME, nullable=False, comment="directory, oidc or workload"),
        sa.Column("name", sa.Text(), nullable=False, comment="as the directory or the issuer spells it"),
        sa.Column("display_name", sa.Text(), server_default="", nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False, comment="when they last signed in or refreshed"),
        sa.Column("not_before", sa.BigInteger(), nullable=True, comment="access tokens issued earlier are refused"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_principals")),
        sa.UniqueConstraint("subject", "kind", name=op.f("uq_principals_subject_kind")),
        comment="People and workloads that signed in. A job may have the subject of a person, and is one of its own.",
    )


def _create_signing_keys() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("kid", _NAME, nullable=False),
        sa.Column("interface", sa.Text(), nullable=False, comment="as in sessions: a key signs for one interface"),
        sa.Column("private_key", sa.LargeBinary(), nullable=False, comment="JWK, JSON"),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("signs_from", sa.BigInteger(), nullable=False, comment="published before it signs"),
        sa.Column("signs_until", sa.BigInteger(), nullable=False),
        sa.Column("verifies_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )


def _create_spent_assertions() -> None:
    op.create_table(
        "spent_assertions",
        sa.Column("issuer", _NAME, nullable=False),
        sa.Column("jti", _NAME, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "jti", name=op.f("pk_spent_assertions")),
        comment="ID tokens that were exchanged, until they expire: each is taken once.",
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("public_id", _NAME, nullable=False, comment="the part of the token that is no secret"),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False, comment="JSON: role, registries, repositories of each"),
        sa.Column(
            "purpose", sa.Text(), server_default="api", nullable=False, comment="api, or setup: that of the first start"
        ),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True, comment="written at most once a minute"),
        sa.Column("last_used_from", sa.Text(), server_default="", nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("public_id", name=op.f("uq_tokens_public_id")),
        comment="Robot tokens. Revoked ones stay, for the audit.",
    )
    op.create_index(op.f("ix_tokens_name"), "tokens", ["name"], unique=False)


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("public_id", _NAME, nullable=False, comment="the claim sid"),
        sa.Column("principal_id", _KEY, nullable=False),
        sa.Column(
            "interface", sa.Text(), nullable=False, comment="api, or the name of a predecessor whose tokens these are"
        ),
        sa.Column("provider", sa.Text(), nullable=False, comment="ldap, or the name of an OIDC provider"),
        sa.Column("login", sa.Text(), nullable=False, comment="by what the provider finds them again: a DN, a subject"),
        sa.Column(
            "refresh_sha256",
            sa.LargeBinary(),
            nullable=True,
            comment="of the one refresh token that is valid; null: it has none",
        ),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_from", sa.Text(), server_default="", nullable=False),
        sa.Column("refreshed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name=op.f("fk_sessions_principal_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("public_id", name=op.f("uq_sessions_public_id")),
        comment="Sign-ins. Each is a family of tokens that ends as a whole.",
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sessions_principal_id"), "sessions", ["principal_id"], unique=False)


def _create_spent_refreshes() -> None:
    op.create_table(
        "spent_refreshes",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", _KEY, nullable=False),
        sa.Column("spent_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_spent_refreshes_session_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_spent_refreshes")),
        comment="Refresh tokens that were used. Whoever shows one again has stolen it, or was robbed.",
    )
    op.create_index(op.f("ix_spent_refreshes_session_id"), "spent_refreshes", ["session_id"], unique=False)

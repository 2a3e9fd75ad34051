"""The tables of who may come in: tokens, people who signed in, their sessions, and the keys that sign for them.

The conventions of ``schema`` apply. No secret of somebody else's is kept, only its SHA-256.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from regwarden.store.schema import Key, Name, Time, metadata

changes = Table(
    "changes",
    metadata,
    Column("name", Name, primary_key=True, comment="access or allow"),
    Column("number", BigInteger, nullable=False),
    comment="Counts every change of a subject that processes hold in memory, in the transaction of the change.",
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("public_id", Name, nullable=False, unique=True, comment="the part of the token that is no secret"),
    Column("name", Name, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("grants", Text, nullable=False, comment="JSON: role, registries, repositories of each"),
    Column("purpose", Text, nullable=False, server_default="api", comment="api, or setup: that of the first start"),
    Column("made_at", Time, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("last_used_at", Time, comment="written at most once a minute"),
    Column("last_used_from", Text, nullable=False, server_default=""),
    Column("revoked_at", Time),
    Column("revoked_by", Text, nullable=False, server_default=""),
    comment="Robot tokens. Revoked ones stay, for the audit.",
)
Index(None, tokens.c.name)

principals = Table(
    "principals",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("subject", Name, nullable=False, comment="ldap:<entry's id>, oidc:<issuer>:<subject>"),
    Column("kind", Name, nullable=False, comment="directory, oidc or workload"),
    Column("name", Text, nullable=False, comment="as the directory or the issuer spells it"),
    Column("display_name", Text, nullable=False, server_default=""),
    Column("first_seen_at", Time, nullable=False),
    Column("last_seen_at", Time, nullable=False, comment="when they last signed in or refreshed"),
    Column("not_before", Time, comment="access tokens issued earlier are refused"),
    UniqueConstraint("subject", "kind"),
    comment="People and workloads that signed in. A job may have the subject of a person, and is one of its own.",
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("public_id", Name, nullable=False, unique=True, comment="the claim sid"),
    Column("principal_id", Key, ForeignKey("principals.id"), nullable=False),
    Column("interface", Text, nullable=False, comment="api, or the name of a predecessor whose tokens these are"),
    Column("provider", Text, nullable=False, comment="ldap, or the name of an OIDC provider"),
    Column("login", Text, nullable=False, comment="by what the provider finds them again: a DN, a subject"),
    Column("refresh_sha256", LargeBinary, comment="of the one refresh token that is valid; null: it has none"),
    Column("made_at", Time, nullable=False),
    Column("made_from", Text, nullable=False, server_default=""),
    Column("refreshed_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("revoked_at", Time),
    Column("revoked_reason", Text, nullable=False, server_default=""),
    comment="Sign-ins. Each is a family of tokens that ends as a whole.",
)
Index(None, sessions.c.principal_id)
Index(None, sessions.c.expires_at)

spent_refreshes = Table(
    "spent_refreshes",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("session_id", Key, ForeignKey("sessions.id"), nullable=False),
    Column("spent_at", Time, nullable=False),
    comment="Refresh tokens that were used. Whoever shows one again has stolen it, or was robbed.",
)
Index(None, spent_refreshes.c.session_id)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Name, primary_key=True),
    Column("interface", Text, nullable=False, comment="as in sessions: a key signs for one interface"),
    Column("private_key", LargeBinary, nullable=False, comment="JWK, JSON"),
    Column("made_at", Time, nullable=False),
    Column("signs_from", Time, nullable=False, comment="published before it signs"),
    Column("signs_until", Time, nullable=False),
    Column("verifies_until", Time, nullable=False),
)

spent_assertions = Table(
    "spent_assertions",
    metadata,
    Column("issuer", Name, nullable=False),
    Column("jti", Name, nullable=False),
    Column("expires_at", Time, nullable=False),
    PrimaryKeyConstraint("issuer", "jti"),
    comment="ID tokens that were exchanged, until they expire: each is taken once.",
)

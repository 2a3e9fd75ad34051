"""The tables of notifications: what arrived, what it said, and what is still to be done about it.

The conventions of ``schema`` apply.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from regwarden.store.schema import Bytes, Key, Name, Time, metadata

PENDING: Final = "pending"
SET_ASIDE: Final = ("quarantined", "unknown-registry")

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("registry", Name, nullable=False, comment="fixed by the credential; empty: the event's host decides"),
    Column("received_at", Time, nullable=False),
    Column("sender", Text, nullable=False, comment="address of the peer"),
    Column("state", Text, nullable=False, comment="pending, applied, quarantined or unknown-registry"),
    Column("reason", Text, nullable=False, server_default="", comment="why it is in quarantine"),
    Column("event_count", Integer, nullable=False, server_default="0", comment="new events found in it"),
    Column("body_bytes", Bytes, nullable=False, comment="length of the body as it was sent"),
    Column("body", LargeBinary, comment="as it was sent, or its beginning; purged after a time"),
    Column("body_sha256", LargeBinary, comment="of the whole body, where only its beginning is kept"),
    comment="Raw bodies, committed before the sender is answered. Append-only, nothing is unique.",
)
Index(
    "ix_deliveries_pending",
    deliveries.c.id,
    sqlite_where=deliveries.c.state == PENDING,
    postgresql_where=deliveries.c.state == PENDING,
)
Index(
    "ix_deliveries_quarantined",
    deliveries.c.received_at,
    sqlite_where=deliveries.c.state.in_(SET_ASIDE),
    postgresql_where=deliveries.c.state.in_(SET_ASIDE),
)

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("source", Name, nullable=False, comment="the registry's name, or the host where that is not known"),
    Column("event_id", Name, nullable=False, comment="as sent, or made from the content"),
    Column("registry_id", Key, ForeignKey("registries.id"), comment="unknown until the host is configured"),
    Column("delivery_id", Key, nullable=False),
    Column("state", Text, nullable=False, comment="applied or unknown-registry"),
    Column("action", Text, nullable=False, comment="push, pull, mount, delete or rename"),
    Column("at", Time, nullable=False, comment="the registry's time; never later than it was received"),
    Column("sent_at", Time, comment="the registry's time where that was later"),
    Column("received_at", Time, nullable=False),
    Column("target", Text, nullable=False, comment="manifest, blob, tag, repository or content (of unknown kind)"),
    Column("repository", Name, nullable=False),
    Column("tag", Name, nullable=False, server_default=""),
    Column("digest", LargeBinary),
    Column("media_type", Text, nullable=False, server_default=""),
    Column("size_bytes", Bytes),
    Column("other_repository", Name, nullable=False, server_default="", comment="mounted from, or renamed to"),
    Column("pull_class", Text, nullable=False, server_default=""),
    Column("method", Text, nullable=False, server_default=""),
    Column("actor", Text, nullable=False, server_default=""),
    Column("user_agent", Text, nullable=False, server_default=""),
    Column("address", Text, nullable=False, server_default=""),
    Column("host", Text, nullable=False, server_default="", comment="as the client called the registry"),
    Column("request_id", Text, nullable=False, server_default=""),
    Column("instance_id", Text, nullable=False, server_default=""),
    UniqueConstraint("source", "event_id"),
)
Index(None, events.c.registry_id, events.c.repository, events.c.at)
Index(None, events.c.registry_id, events.c.id)  # what came in since the last look
Index(None, events.c.at)
Index(
    "ix_events_unknown",
    events.c.source,
    events.c.delivery_id,
    sqlite_where=events.c.state == "unknown-registry",
    postgresql_where=events.c.state == "unknown-registry",
)

pull_days = Table(
    "pull_days",
    metadata,
    Column("repository_id", Key, ForeignKey("repositories.id"), nullable=False),
    Column("manifest_id", Key, ForeignKey("manifests.id"), nullable=False),
    Column("tag", Name, nullable=False, comment="as named in the request; empty: asked for by digest"),
    Column("day", Integer, nullable=False, comment="days since 1970 UTC"),
    Column("pull_class", Name, nullable=False),
    Column("method", Name, nullable=False, comment="GET or HEAD"),
    Column("pull_count", BigInteger, nullable=False),
    Column("last_at", Time, nullable=False),
    PrimaryKeyConstraint("repository_id", "manifest_id", "tag", "day", "pull_class", "method"),
)
Index(None, pull_days.c.day)

senders = Table(
    "senders",
    metadata,
    Column("registry_id", Key, ForeignKey("registries.id"), nullable=False),
    Column("instance_id", Name, nullable=False, comment="changes at every start of a registry process"),
    Column("address", Text, nullable=False),
    Column("first_at", Time, nullable=False),
    Column("last_at", Time, nullable=False),
    PrimaryKeyConstraint("registry_id", "instance_id"),
)

rereads = Table(
    "rereads",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("registry_id", Key, ForeignKey("registries.id"), nullable=False),
    Column("repository", Name, nullable=False, comment="empty: the whole registry"),
    Column("reference", Name, nullable=False, comment="a digest; empty: the whole repository"),
    Column("reason", Text, nullable=False),
    Column("due_at", Time, nullable=False),
    Column("attempt_count", Integer, nullable=False, server_default="0"),
    Column("problem", Text, nullable=False, server_default="", comment="why the last attempt failed"),
    UniqueConstraint("registry_id", "repository", "reference"),
    comment="What must be read from a registry again, or for the first time; a row goes when it has been.",
)
Index(None, rereads.c.due_at)

drifts = Table(
    "drifts",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("registry_id", Key, ForeignKey("registries.id"), nullable=False),
    Column("crawl_id", Key, ForeignKey("crawls.id"), nullable=False),
    Column("repository", Name, nullable=False),
    Column("tag", Name, nullable=False),
    Column("kind", Text, nullable=False, comment="missed-push, missed-move, missed-delete or missed-restore"),
    Column("expected", LargeBinary, comment="the digest by the events, if any"),
    Column("found", LargeBinary, comment="the digest that the crawl found, if any"),
    Column("at", Time, nullable=False, comment="when the crawl found it"),
)
Index(None, drifts.c.registry_id, drifts.c.at)
Index(None, drifts.c.crawl_id)

repository_renames = Table(
    "repository_renames",
    metadata,
    Column("registry_id", Key, ForeignKey("registries.id"), nullable=False),
    Column("old_path", Name, nullable=False),
    Column("at", Time, nullable=False),
    Column("new_path", Name, nullable=False),
    PrimaryKeyConstraint("registry_id", "old_path", "at"),
    comment="Renamed paths (GitLab): events of before belong to the new name.",
)

hook_secrets = Table(
    "hook_secrets",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("registry", Name, nullable=False),
    Column("secret", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    comment="What authenticates the notifications of a registry; of each the two newest are valid.",
)
Index(None, hook_secrets.c.registry)

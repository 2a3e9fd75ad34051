"""The tables of cleanup: plans with their steps, what was done at registries, what can be put back, who did it.

The conventions of ``schema`` apply. A step's state is a cache of its journal.
"""

from __future__ import annotations

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
)

from regwarden.store.schema import Bytes, Flag, Key, Name, Time, metadata

plans = Table(
    "plans",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("state", Text, nullable=False, comment="incomplete, open, applying, applied, undone, finished or rejected"),
    Column("title", Text, nullable=False, comment="names of its policies, or the selection in words"),
    Column("made_at", Time, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("fingerprint", Name, nullable=False),
    Column("document", LargeBinary, nullable=False, comment="zlib JSON: everything but steps and verdicts"),
    Column("is_blocked", Flag, nullable=False),
    Column("needed_approval_count", Integer, nullable=False),
    Column("repository_count", BigInteger, nullable=False),
    Column("tag_count", BigInteger, nullable=False, comment="tags that go"),
    Column("manifest_count", BigInteger, nullable=False, comment="manifests that are deleted"),
    Column("reclaimable_bytes", Bytes, nullable=False),
    Column("applied_at", Time, comment="when the last step was done"),
    Column("undo_until", Time, comment="until when it can be undone, if the registry collects no garbage"),
    Column("finished_at", Time),
    Column("outcome", LargeBinary, comment="zlib JSON: report of applying, verifying, finishing"),
)

plan_repositories = Table(
    "plan_repositories",
    metadata,
    Column("plan_id", Key, ForeignKey("plans.id"), nullable=False),
    Column("registry", Name, nullable=False),
    Column("repository", Name, nullable=False),
    Column("keep_count", BigInteger, nullable=False),
    Column("remove_count", BigInteger, nullable=False),
    Column("undecided_count", BigInteger, nullable=False),
    Column("step_count", BigInteger, nullable=False),
    Column("verdicts", LargeBinary, nullable=False, comment="zlib JSON"),
    PrimaryKeyConstraint("plan_id", "registry", "repository"),
)

plan_steps = Table(
    "plan_steps",
    metadata,
    Column("plan_id", Key, ForeignKey("plans.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False, comment="untag or delete"),
    Column("registry", Name, nullable=False),
    Column("repository", Name, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("tags", Text, nullable=False, comment="JSON array"),
    Column("with_placeholder", Flag, nullable=False, server_default="0"),
    Column("size_bytes", Bytes, nullable=False),
    Column("state", Text, nullable=False, comment="pending, intended, done, gone, drifted, failed or restored"),
    Column("detail", Text, nullable=False, server_default=""),
    Column("at", Time, comment="of its last journal entry"),
    PrimaryKeyConstraint("plan_id", "position"),
)
Index(None, plan_steps.c.registry, plan_steps.c.repository, plan_steps.c.digest)

approvals = Table(
    "approvals",
    metadata,
    Column("plan_id", Key, ForeignKey("plans.id"), nullable=False),
    Column("principal", Name, nullable=False),
    Column("kind", Text, nullable=False, comment="os-user: as the machine says; signed-in: as a directory says"),
    Column("at", Time, nullable=False),
    Column("fingerprint", Name, nullable=False, comment="what was agreed to"),
    Column("name", Text, nullable=False, server_default="", comment="of the principal, for people; empty: the same"),
    PrimaryKeyConstraint("plan_id", "kind", "principal"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("plan_id", Key, ForeignKey("plans.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("at", Time, nullable=False),
    Column("entry", Text, nullable=False, comment="intent, outcome, restore-intent or restore-outcome"),
    Column("result", Text, nullable=False, server_default="", comment="of an outcome: done, gone, failed, unknown, …"),
    Column("registry", Name, nullable=False),
    Column("repository", Name, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("tags", Text, nullable=False, comment="JSON array: those that pointed there at that moment"),
    Column("detail", Text, nullable=False, server_default=""),
    comment="What was about to be done, and what came of it; append-only.",
)
Index(None, journal.c.plan_id, journal.c.position)
Index(None, journal.c.registry, journal.c.at)

trash = Table(
    "trash",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False, comment="the exact bytes, zlib"),
    comment="Manifests that were deleted or that deleted ones lead to, by digest, once.",
)

trash_entries = Table(
    "trash_entries",
    metadata,
    Column("plan_id", Key, ForeignKey("plans.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("digest", LargeBinary, ForeignKey("trash.digest"), nullable=False),
    Column("role", Text, nullable=False, comment="deleted, untagged or descendant"),
    PrimaryKeyConstraint("plan_id", "position", "digest"),
    comment="Which step needs which manifest to be undone.",
)
Index(None, trash_entries.c.digest)

protections = Table(
    "protections",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("registry", Name, nullable=False),
    Column("repository", Name, nullable=False, comment="a name or a glob"),
    Column("tag", Name, nullable=False, server_default="", comment="empty: every tag"),
    Column("digest", Name, nullable=False, server_default="", comment="algorithm:hex; empty: every digest"),
    Column("until", Time, comment="null: until it is removed"),
    Column("reason", Text, nullable=False),
    Column("made_at", Time, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("removed_at", Time),
    comment="What people hold by hand. Removed rows stay, for the audit.",
)

audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("principal", Text, nullable=False),
    Column("action", Text, nullable=False, comment="plan-create, plan-approve, plan-apply, plan-undo, …"),
    Column("plan_id", Key),
    Column("subject", Text, nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default="{}", comment="JSON object"),
    comment="Who did what; append-only.",
)
Index(None, audit.c.at)
Index(None, audit.c.plan_id)

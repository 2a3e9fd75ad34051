"""The tables of the allow-list: what may run, what must not, and what was answered.

The conventions of ``schema`` apply.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from regwarden.store.schema import Flag, Key, Name, Time, metadata

allow_entries = Table(
    "allow_entries",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("effect", Text, nullable=False, comment="allow or deny"),
    Column("image", Name, nullable=False, comment="as it was given: a digest, a reference, a literal id; may be empty"),
    Column("digest", LargeBinary, comment="of a manifest or a config, if image names one"),
    Column("pattern", Text, nullable=False, server_default="", comment="of HOST/REPOSITORY; empty: any"),
    Column("name", Name, nullable=False, server_default="", comment="what people call it; imagelist's name"),
    Column("tags", Text, comment="JSON array; null: none were given"),
    Column("scope", Text, nullable=False, server_default="{}", comment="JSON: clusters, namespaces; empty: everywhere"),
    Column("not_before", Time),
    Column("expires_at", Time),
    Column("reason", Text, nullable=False, server_default=""),
    Column("evidence", Text, nullable=False, server_default="{}", comment="JSON object"),
    Column("is_protecting", Flag, nullable=False, server_default="1", comment="keeps what it allows from cleanup"),
    Column("imagelist_id", Name, unique=True, comment="its id in imagelist's interface, while it is there"),
    Column("made_at", Time, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("updated_at", Time, nullable=False),
    Column("removed_at", Time),
    Column("removed_by", Text, nullable=False, server_default=""),
    Column("change_number", BigInteger, nullable=False, comment="of changes.allow, when it last changed"),
    comment="The allow-list. Removed rows stay, for the audit.",
)
Index(None, allow_entries.c.digest)
Index(None, allow_entries.c.image)
Index(None, allow_entries.c.name)
Index(None, allow_entries.c.change_number)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False, comment="of the first of these answers"),
    Column("last_at", Time, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("principal", Text, nullable=False),
    Column("interface", Text, nullable=False, comment="api or the name of a predecessor"),
    Column("image", Text, nullable=False),
    Column("digest", LargeBinary),
    Column("scope", Text, nullable=False, server_default="{}", comment="JSON: cluster, namespace"),
    Column("outcome", Text, nullable=False, comment="allow, deny or unknown"),
    Column("reason", Text, nullable=False, comment="code"),
    Column("entry_ids", Text, nullable=False, server_default="[]", comment="JSON array"),
    comment="What was answered; equal answers within a minute are one row.",
)
Index(None, decisions.c.at)

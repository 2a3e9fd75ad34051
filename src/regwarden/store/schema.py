"""The tables, once for SQLite and PostgreSQL (design section 5). Migrations must produce exactly this.

Conventions: integer surrogate keys; digests in the stored form of ``Digest.to_bytes``; times as whole microseconds
since 1970 UTC; sizes in bytes; names compared byte by byte; flags as 0 or 1.
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
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives 64-bit row ids to INTEGER PRIMARY KEY only; PostgreSQL sorts by locale unless told otherwise.
Key = BigInteger().with_variant(Integer(), "sqlite")
Name = Text().with_variant(Text(collation="C"), "postgresql")
Time = BigInteger
Bytes = BigInteger
Flag = SmallInteger


def _key(name: str = "id") -> Column[int]:
    return Column(name, Key, primary_key=True, autoincrement=True)


def _ref(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Key, ForeignKey(target), nullable=nullable)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


installation = Table(
    "installation",
    metadata,
    Column("name", Name, primary_key=True),
    Column("value", Text, nullable=False),
    comment="What belongs to this database as a whole: the random installation id in our user agent.",
)

registries = Table(
    "registries",
    metadata,
    _key(),
    Column("name", Name, nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("capabilities", Text, nullable=False, server_default="{}"),
    Column("access", Text, nullable=False, server_default="{}", comment="JSON: who we are there and what we may do"),
    Column("endpoint_fingerprint", Text, nullable=False, server_default=""),
    Column("first_seen_at", Time, nullable=False),
    Column("crawl_id", Key, comment="the last crawl that ended"),
    Column("crawled_at", Time, comment="when that crawl ended"),
    Column("crawl_state", Text, comment="complete, partial, restricted or failed"),
    Column("sized_at", Time, comment="when the graph figures were last materialised"),
    Column("changed_at", Time, comment="when an event last changed what the figures are made of"),
    Column("events_since", Time, comment="when the first event of this registry was received"),
    Column("delivered_at", Time, comment="when the last one was"),
    _count("repository_count"),
    _count("tag_count"),
    _count("manifest_count"),
    _count("problem_count"),
    Column("logical_bytes", Bytes),
    Column("stored_bytes", Bytes),
    Column("stored_all_bytes", Bytes),
    Column("layer_bytes", Bytes, comment="predecessors' size"),
    Column("disk_bytes", Bytes, comment="predecessors' disk_size"),
)

repositories = Table(
    "repositories",
    metadata,
    _key(),
    _ref("registry_id", "registries.id"),
    Column("name", Name, nullable=False),
    Column("catalog_position", BigInteger, nullable=False, server_default="0"),
    Column("first_seen_at", Time, nullable=False),
    Column("seen_at", Time, comment="start of the last complete reading"),
    Column("verified_at", Time, comment="start of the last reading that probed everything"),
    Column("settled_at", Time, comment="older events are overruled by the last complete reading"),
    Column("read_until", Time, comment="end of that reading; events between the two ask for another"),
    Column("deleted_at", Time, comment="when it was found gone"),
    Column("crawl_id", Key, comment="the crawl that published it last"),
    Column("vanished_in", Key, comment="the running crawl that found it gone; settled when that crawl ends"),
    Column("state", Text, nullable=False, comment="complete, partial, denied, failed or untagged"),
    _count("problem_count"),
    _count("tag_count"),
    _count("manifest_count"),
    Column("newest_created_at", Time),
    Column("logical_bytes", Bytes),
    Column("stored_bytes", Bytes),
    Column("stored_all_bytes", Bytes),
    Column("exclusive_bytes", Bytes),
    Column("shared_bytes", Bytes),
    Column("attributed_bytes", Bytes),
    Column("layer_bytes", Bytes),
    Column("disk_bytes", Bytes),
    Column("project", Name, comment="path of the project that it belongs to, where the registry has projects"),
    Column("project_group", Name, comment="full path of that project's group"),
    Column("owner", Name, comment="of that project; user names, joined by commas"),
    Column("project_remote_id", BigInteger, comment="GitLab's number of the project"),
    Column("access_level", Integer, comment="ours in that project, by GitLab's numbers"),
    Column("remote_id", BigInteger, comment="GitLab's number of the repository"),
    Column("remote_status", Text, comment="GitLab's word while it is being deleted; empty: it is not"),
    Column("remote_created_at", Time),
    Column("remote_bytes", Bytes, comment="GitLab's figure"),
    Column("remote_precision", Text, comment="what that figure counts, in GitLab's word"),
    Column("remote_sized_at", Time, comment="when GitLab was asked for it"),
    UniqueConstraint("registry_id", "name"),
)
Index(None, repositories.c.project)

blobs = Table(
    "blobs",
    metadata,
    _key(),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", Bytes, nullable=False, comment="the smallest size declared, or the verified one"),
    Column("is_conflicting", Flag, nullable=False, server_default="0", comment="declared with different sizes"),
)

manifests = Table(
    "manifests",
    metadata,
    _key(),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("state", Text, nullable=False, comment="read, unread, unsupported or bad"),
    Column("media_type", Text, nullable=False),
    Column("artifact_type", Text, nullable=False, server_default=""),
    Column("config_media_type", Text, nullable=False, server_default=""),
    Column("config_digest", LargeBinary),
    Column("config_state", Text, nullable=False, server_default="none", comment="none, read, skipped or failed"),
    Column("subject_digest", LargeBinary),
    Column("is_index", Flag, nullable=False, server_default="0"),
    Column(
        "platform", Text, nullable=False, server_default="", comment="os/architecture[/variant]; joined for an index"
    ),
    Column("created_at", Time, comment="of the config; an index takes its newest child's"),
    Column("labels", Text, comment="JSON object, from the config"),
    Column("size_bytes", Bytes, nullable=False, comment="of the document itself"),
    Column("layer_count", BigInteger, nullable=False, server_default="0"),
    Column("blob_ids", LargeBinary, nullable=False),
    Column("logical_bytes", Bytes, comment="itself, children and blobs, each digest once"),
    Column("layer_bytes", Bytes, comment="distinct layers"),
    Column("total_size", Bytes, comment="layers as listed, repeated ones repeated (GitLab's definition)"),
    Column("payload", LargeBinary, comment="the exact bytes, zlib"),
    comment="Facts of content, by digest, once. blob_ids packs distinct blob ids: layers in order, then the others.",
)
Index(None, manifests.c.config_digest)
Index(None, manifests.c.subject_digest)
Index(None, manifests.c.created_at)
Index(None, manifests.c.logical_bytes)

manifest_children = Table(
    "manifest_children",
    metadata,
    _ref("parent_id", "manifests.id"),
    Column("position", Integer, nullable=False),
    _ref("child_id", "manifests.id"),
    Column("platform", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("parent_id", "position"),
)
Index(None, manifest_children.c.child_id)

repository_manifests = Table(
    "repository_manifests",
    metadata,
    _ref("repository_id", "repositories.id"),
    _ref("manifest_id", "manifests.id"),
    Column("first_seen_at", Time, nullable=False),
    Column("pushed_at", Time),
    Column("pulled_at", Time),  # last GET or HEAD by a class that counts as use
    Column("checked_at", Time),  # last HEAD by anybody
    Column("fetched_at", Time, comment="last GET by anybody"),
    Column("alive_at", Time, comment="last evidence that it exists here: push, pull or probe"),
    Column("verified_at", Time, comment="when its existence was last proven"),
    Column("untagged_since", Time),
    Column("deleted_at", Time),
    Column("exclusive_bytes", Bytes, comment="reachable from no other tagged manifest of the registry"),
    PrimaryKeyConstraint("repository_id", "manifest_id"),
)
Index(None, repository_manifests.c.manifest_id)

repository_blobs = Table(
    "repository_blobs",
    metadata,
    _ref("repository_id", "repositories.id"),
    _ref("blob_id", "blobs.id"),
    Column("first_seen_at", Time, nullable=False),
    Column("pushed_at", Time),
    Column("pulled_at", Time),
    Column("alive_at", Time, comment="last evidence from an event that it exists here"),
    Column("verified_at", Time, comment="when it was last asked for"),
    Column("deleted_at", Time, comment="when it was found or reported missing"),
    PrimaryKeyConstraint("repository_id", "blob_id"),
)
Index(None, repository_blobs.c.blob_id)

tags = Table(
    "tags",
    metadata,
    _key(),
    _ref("repository_id", "repositories.id"),
    Column("name", Name, nullable=False),
    _ref("manifest_id", "manifests.id", nullable=True),
    Column("state", Text, nullable=False, comment="ok, dangling or unreadable"),
    Column("first_seen_at", Time, nullable=False),
    Column("tagged_at", Time, nullable=False, comment="since when it points there, at latest"),
    Column("event_at", Time, comment="the last event that says so, until a crawl confirms it"),
    Column(
        "host", Text, nullable=False, server_default="", comment="under which name the last event knew the registry"
    ),
    Column("verified_at", Time, comment="when its manifest was last proven to be there"),
    Column("published_at", Time, comment="since when it points there, by the registry's own listing"),
    Column("is_protected", Flag, comment="whether a rule of the registry protects it; null: not looked at"),
    Column("vanished_in", Key, comment="the running crawl that found it gone; settled when that crawl ends"),
    Column("created_at", Time, comment="the manifest's, for sorting"),
    Column("logical_bytes", Bytes),
    Column("exclusive_bytes", Bytes, comment="freed by deleting this tag alone"),
    Column("shared_bytes", Bytes),
    Column("layer_bytes", Bytes),
    Column("disk_bytes", Bytes),
    UniqueConstraint("repository_id", "name"),
)
Index(None, tags.c.manifest_id)
Index(None, tags.c.created_at)
Index(None, tags.c.logical_bytes)
Index(None, tags.c.name)
# Conditions in the usual order: without these a page walks every tag of every repository before the first match.
Index(None, tags.c.repository_id, tags.c.created_at)
Index(None, tags.c.repository_id, tags.c.logical_bytes)

tag_history = Table(
    "tag_history",
    metadata,
    _ref("repository_id", "repositories.id"),
    Column("tag", Name, nullable=False),
    Column("at", Time, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="empty: gone"),
    Column("cause", Text, nullable=False, comment="event, crawl or ourselves"),
    Column("effective_at", Time, nullable=False, comment="events at or after this stand against it"),
    PrimaryKeyConstraint("repository_id", "tag", "at", "digest", "cause"),
    comment="Points, a set union: the order in which they arrive never matters.",
)
Index(None, tag_history.c.repository_id, tag_history.c.tag, tag_history.c.effective_at)

removals = Table(
    "removals",
    metadata,
    _ref("repository_id", "repositories.id"),
    Column(
        "digest", LargeBinary, nullable=False, comment="of a manifest or blob, nobody says which; empty: everything"
    ),
    Column("at", Time, nullable=False),
    PrimaryKeyConstraint("repository_id", "digest", "at"),
    comment="Deletions, a set union. What is newer than the last one exists.",
)

crawls = Table(
    "crawls",
    metadata,
    _key(),
    _ref("registry_id", "registries.id"),
    Column("state", Text, nullable=False, comment="running, complete, partial, failed or interrupted"),
    Column("options", Text, nullable=False, server_default="{}"),
    Column("started_at", Time, nullable=False),
    Column("finished_at", Time),
    Column("certificate", Text, nullable=False, server_default="{}", comment="JSON: how complete the reading was"),
    Column(
        "confirmed_count", BigInteger, nullable=False, server_default="0", comment="changes that events had told of"
    ),
    Column("drift_count", BigInteger, nullable=False, server_default="0", comment="changes that no event had told of"),
)
Index(None, crawls.c.registry_id, crawls.c.started_at)

crawl_problems = Table(
    "crawl_problems",
    metadata,
    _key(),
    _ref("registry_id", "registries.id"),
    _ref("repository_id", "repositories.id", nullable=True),
    Column("tag", Name, nullable=False, server_default=""),
    Column("digest", LargeBinary, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("first_seen_at", Time, nullable=False),
    Column("seen_at", Time, nullable=False),
    Column("tried_at", Time, nullable=False, comment="when the registry was last asked about it"),
    comment="What stood in the way of the last reading of each repository; replaced when it is published.",
)
Index(None, crawl_problems.c.registry_id)
Index(None, crawl_problems.c.repository_id)

crawl_checkpoints = Table(
    "crawl_checkpoints",
    metadata,
    _ref("crawl_id", "crawls.id"),
    _ref("repository_id", "repositories.id"),
    Column("tag", Name, nullable=False),
    _ref("manifest_id", "manifests.id"),
    PrimaryKeyConstraint("crawl_id", "repository_id", "tag"),
    comment="Tags of a large repository that a running crawl has read; a continued crawl does not ask again.",
)

usage_days = Table(
    "usage_days",
    metadata,
    _ref("registry_id", "registries.id"),
    Column("repository_id", Key, nullable=False, comment="0: the registry as a whole"),
    Column("day", Integer, nullable=False, comment="days since 1970 UTC"),
    _count("tag_count"),
    _count("manifest_count"),
    Column("logical_bytes", Bytes),
    Column("stored_bytes", Bytes),
    Column("exclusive_bytes", Bytes),
    PrimaryKeyConstraint("registry_id", "repository_id", "day"),
)

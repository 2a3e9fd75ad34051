"""How do queries written for regstat keep working? Its eight tables, as views on ours, in PostgreSQL.

They have its names, columns and types: digests as text, times as UTC without a zone. The list of a manifest's blobs is
packed in our tables, so its rows are kept beside them while the views are there: filled once, then by triggers.
"""

from __future__ import annotations

from typing import Final

VIEWS_VERSION: Final = 1
SCHEMA: Final = "regstat"
COMPANION: Final = "regwarden_regstat"
TABLES: Final = (
    "blobs",
    "manifests",
    "manifest_blob",
    "tags",
    "deleted_blobs",
    "deleted_manifests",
    "deleted_tags",
    "deleted_manifest_blob",
)
TRIGGERS: Final = ("regwarden_regstat_insert", "regwarden_regstat_update", "regwarden_regstat_delete")


def _moment(micros: str) -> str:
    return f"timestamp '1970-01-01 00:00:00' + ({micros}) * interval '1 microsecond'"


def _digest(stored: str) -> str:
    """The text of a stored digest: its first byte names the algorithm (``core.oci.digests``)."""
    return f"CASE get_byte({stored}, 0) WHEN 1 THEN 'sha256:' ELSE 'sha512:' END || encode(substr({stored}, 2), 'hex')"


def _unpacked(packed: str) -> str:
    """``unpacked(blob_id)`` for ``FROM``, of a packed list: little-endian numbers of 32 bits (``store.packing``)."""
    parts = " + ".join(f"(get_byte({packed}, place + {byte})::bigint << {8 * byte})" for byte in range(4))
    series = f"generate_series(0, length({packed}) - 4, 4) AS place"
    return f"LATERAL (SELECT {parts} AS blob_id FROM {series}) AS unpacked"  # noqa: S608 -- our own names


CREATE_LINKS: Final = (
    f"CREATE SCHEMA IF NOT EXISTS {COMPANION}",
    f"""CREATE TABLE IF NOT EXISTS {COMPANION}.manifest_blobs (
        manifest_id bigint NOT NULL, blob_id bigint NOT NULL, PRIMARY KEY (manifest_id, blob_id))""",
    f"CREATE INDEX IF NOT EXISTS manifest_blobs_blob_id ON {COMPANION}.manifest_blobs (blob_id)",
    f"""CREATE OR REPLACE FUNCTION {COMPANION}.keep_links() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM {COMPANION}.manifest_blobs WHERE manifest_id = OLD.id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO {COMPANION}.manifest_blobs
            SELECT NEW.id, unpacked.blob_id FROM {_unpacked("NEW.blob_ids")} ON CONFLICT DO NOTHING;
        END IF;
        RETURN NULL;
    END $$""",  # noqa: S608 -- our own names
)
CREATE_TRIGGERS: Final = (
    f"""CREATE TRIGGER {TRIGGERS[0]} AFTER INSERT ON manifests FOR EACH ROW
        WHEN (length(NEW.blob_ids) > 0) EXECUTE FUNCTION {COMPANION}.keep_links()""",
    f"""CREATE TRIGGER {TRIGGERS[1]} AFTER UPDATE OF blob_ids ON manifests FOR EACH ROW
        WHEN (OLD.blob_ids IS DISTINCT FROM NEW.blob_ids) EXECUTE FUNCTION {COMPANION}.keep_links()""",
    f"""CREATE TRIGGER {TRIGGERS[2]} AFTER DELETE ON manifests FOR EACH ROW
        EXECUTE FUNCTION {COMPANION}.keep_links()""",
)
# Locked, so that a list which changes meanwhile is waited for and then read as it has become.
FILL_LINKS: Final = f"""INSERT INTO {COMPANION}.manifest_blobs
    SELECT listed.id, unpacked.blob_id
    FROM (SELECT id, blob_ids FROM manifests WHERE id BETWEEN %s AND %s AND length(blob_ids) > 0 FOR SHARE) AS listed,
        {_unpacked("listed.blob_ids")}
    ON CONFLICT DO NOTHING"""  # noqa: S608 -- our own names

_LAST_USE: Final = "greatest(existing.fetched_at, existing.checked_at, existing.pulled_at)"
# What lives is found by joins alone: conditions on aggregates would make the planner expect next to nothing.
_LIVE_MANIFEST: Final = """
    SELECT DISTINCT existing.manifest_id
    FROM repository_manifests AS existing JOIN repositories ON repositories.id = existing.repository_id
    WHERE existing.deleted_at IS NULL AND repositories.deleted_at IS NULL"""
_MANIFEST_STATE: Final = f"""
    SELECT existing.manifest_id,
        {_moment("coalesce(max(existing.pushed_at), min(existing.first_seen_at))")} AS pushed,
        {_moment(f"max({_LAST_USE})")} AS pulled,
        {_moment("max(coalesce(existing.deleted_at, repositories.deleted_at))")} AS deleted
    FROM repository_manifests AS existing JOIN repositories ON repositories.id = existing.repository_id
    GROUP BY existing.manifest_id"""  # noqa: S608 -- our own names
# A blob is in a repository if it was uploaded there, or if a manifest there needs it and nobody found it missing.
_NEEDED: Final = f"""
    FROM repository_manifests AS existing
        JOIN repositories ON repositories.id = existing.repository_id
        JOIN {COMPANION}.manifest_blobs AS needed ON needed.manifest_id = existing.manifest_id
        LEFT JOIN repository_blobs AS missing ON missing.repository_id = existing.repository_id
            AND missing.blob_id = needed.blob_id AND missing.deleted_at IS NOT NULL
    WHERE existing.deleted_at IS NULL AND repositories.deleted_at IS NULL AND missing.blob_id IS NULL"""
_LIVE_BLOB: Final = f"""
    SELECT uploaded.blob_id
    FROM repository_blobs AS uploaded JOIN repositories ON repositories.id = uploaded.repository_id
    WHERE uploaded.deleted_at IS NULL AND repositories.deleted_at IS NULL
    UNION SELECT needed.blob_id {_NEEDED}"""  # noqa: S608 -- our own names
_BLOB_STATE: Final = f"""
    SELECT place.blob_id, {_moment("coalesce(max(place.pushed_at), min(place.first_seen_at))")} AS pushed,
        {_moment("max(place.pulled_at)")} AS pulled, {_moment("max(place.deleted_at)")} AS deleted
    FROM (
        SELECT uploaded.blob_id, uploaded.first_seen_at, uploaded.pushed_at, uploaded.pulled_at,
            coalesce(uploaded.deleted_at, repositories.deleted_at) AS deleted_at
        FROM repository_blobs AS uploaded JOIN repositories ON repositories.id = uploaded.repository_id
        UNION ALL
        SELECT needed.blob_id, least(existing.first_seen_at, existing.pushed_at), NULL, {_LAST_USE}, NULL {_NEEDED}
    ) AS place GROUP BY place.blob_id"""  # noqa: S608 -- our own names
_TAG_PULL: Final = """
    SELECT repository_id, tag, max(last_at) AS last_at FROM pull_days WHERE tag <> '' GROUP BY repository_id, tag"""
_LIVE_TAG: Final = """
    SELECT tags.repository_id, tags.name, tags.manifest_id, tags.tagged_at, tags.host
    FROM tags
        JOIN repositories ON repositories.id = tags.repository_id AND repositories.deleted_at IS NULL
        LEFT JOIN repository_manifests AS existing
            ON existing.repository_id = tags.repository_id AND existing.manifest_id = tags.manifest_id
    WHERE tags.manifest_id IS NOT NULL AND tags.state <> 'dangling' AND existing.deleted_at IS NULL"""

_HOST: Final = "split_part(split_part(registries.url, '://', 2), '/', 1)"
_TAGS: Final = f"""
    SELECT {_HOST} || '/' || repositories.name || ':' || live.name AS name,
        coalesce(nullif(live.host, ''), {_HOST}) AS registry, repositories.name::text AS repository,
        live.name::text AS tag, {_digest("manifests.digest")} AS manifest_digest, {_moment("live.tagged_at")} AS pushed,
        {_moment(f"greatest({_LAST_USE}, tag_pull.last_at)")} AS pulled
    FROM {COMPANION}.live_tag AS live
        JOIN repositories ON repositories.id = live.repository_id
        JOIN registries ON registries.id = repositories.registry_id
        JOIN manifests ON manifests.id = live.manifest_id
        LEFT JOIN repository_manifests AS existing
            ON existing.repository_id = live.repository_id AND existing.manifest_id = live.manifest_id
        LEFT JOIN {COMPANION}.tag_pull
            ON tag_pull.repository_id = live.repository_id AND tag_pull.tag = live.name"""  # noqa: S608 -- our own names
# What it pointed to last, and the first thing after that which says that it is gone.
_DELETED_TAGS: Final = f"""
    SELECT {_HOST} || '/' || repositories.name || ':' || last.tag AS name, {_HOST} AS registry,
        repositories.name::text AS repository, last.tag::text AS tag, {_digest("last.digest")} AS manifest_digest,
        {_moment("last.at")} AS pushed, {_moment(f"greatest({_LAST_USE}, tag_pull.last_at)")} AS pulled,
        {_moment("least(gone.at, removed.at, existing.deleted_at, repositories.deleted_at)")} AS deleted
    FROM (
        SELECT DISTINCT ON (repository_id, tag) repository_id, tag, at, effective_at, digest
        FROM tag_history WHERE length(digest) > 0 ORDER BY repository_id, tag, effective_at DESC, digest DESC
    ) AS last
        JOIN repositories ON repositories.id = last.repository_id
        JOIN registries ON registries.id = repositories.registry_id
        LEFT JOIN LATERAL (
            SELECT min(tag_history.at) AS at FROM tag_history
            WHERE tag_history.repository_id = last.repository_id AND tag_history.tag = last.tag
                AND tag_history.effective_at > last.effective_at AND length(tag_history.digest) = 0
        ) AS gone ON true
        LEFT JOIN LATERAL (
            SELECT min(removals.at) AS at FROM removals
            WHERE removals.repository_id = last.repository_id AND removals.digest IN (last.digest, '') AND
                removals.at > last.at
        ) AS removed ON true
        LEFT JOIN manifests ON manifests.digest = last.digest
        LEFT JOIN repository_manifests AS existing
            ON existing.repository_id = last.repository_id AND existing.manifest_id = manifests.id
        LEFT JOIN {COMPANION}.tag_pull ON tag_pull.repository_id = last.repository_id AND tag_pull.tag = last.tag
        LEFT JOIN {COMPANION}.live_tag AS live ON live.repository_id = last.repository_id AND live.name = last.tag
    WHERE live.name IS NULL
        AND coalesce(gone.at, removed.at, existing.deleted_at, repositories.deleted_at) IS NOT NULL
    """  # noqa: S608 -- our own names
_DELETED_LINKS: Final = f"""
    SELECT {_digest("manifests.digest")} AS manifest_digest, {_digest("blobs.digest")} AS blob_digest,
        least(CASE WHEN live.manifest_id IS NULL THEN manifest.deleted END,
            CASE WHEN held.blob_id IS NULL THEN blob.deleted END) AS deleted
    FROM {COMPANION}.manifest_blobs AS link
        JOIN manifests ON manifests.id = link.manifest_id
        JOIN blobs ON blobs.id = link.blob_id
        JOIN {COMPANION}.manifest_state AS manifest ON manifest.manifest_id = link.manifest_id
        LEFT JOIN {COMPANION}.blob_state AS blob ON blob.blob_id = link.blob_id
        LEFT JOIN {COMPANION}.live_manifest AS live ON live.manifest_id = link.manifest_id
        LEFT JOIN {COMPANION}.live_blob AS held ON held.blob_id = link.blob_id
    WHERE live.manifest_id IS NULL OR held.blob_id IS NULL"""  # noqa: S608 -- our own names


def _living(content: str) -> str:
    """``digest, pushed, pulled`` of the manifests or blobs that live."""
    table = f"{content}s"
    return f"""
    SELECT {_digest(f"{table}.digest")} AS digest, state.pushed, state.pulled
    FROM {COMPANION}.live_{content} AS live
        JOIN {table} ON {table}.id = live.{content}_id
        LEFT JOIN {COMPANION}.{content}_state AS state ON state.{content}_id = live.{content}_id"""  # noqa: S608


def _deleted(content: str) -> str:
    """The same of those that did, with when the last of them went."""
    table = f"{content}s"
    return f"""
    SELECT {_digest(f"{table}.digest")} AS digest, state.pushed, state.pulled, state.deleted
    FROM {COMPANION}.{content}_state AS state
        JOIN {table} ON {table}.id = state.{content}_id
        LEFT JOIN {COMPANION}.live_{content} AS live ON live.{content}_id = state.{content}_id
    WHERE live.{content}_id IS NULL"""  # noqa: S608 -- our own names


STATE_DEFINITIONS: Final = {
    "live_manifest": _LIVE_MANIFEST,
    "live_blob": _LIVE_BLOB,
    "manifest_state": _MANIFEST_STATE,
    "blob_state": _BLOB_STATE,
    "tag_pull": _TAG_PULL,
    "live_tag": _LIVE_TAG,
}
VIEWS: Final = {
    "blobs": _living("blob"),
    "manifests": _living("manifest"),
    "manifest_blob": f"""
    SELECT {_digest("manifests.digest")} AS manifest_digest, {_digest("blobs.digest")} AS blob_digest
    FROM {COMPANION}.manifest_blobs AS link
        JOIN manifests ON manifests.id = link.manifest_id
        JOIN blobs ON blobs.id = link.blob_id
        JOIN {COMPANION}.live_manifest AS live ON live.manifest_id = link.manifest_id
        JOIN {COMPANION}.live_blob AS held ON held.blob_id = link.blob_id""",  # noqa: S608 -- our own names
    "tags": _TAGS,
    "deleted_blobs": _deleted("blob"),
    "deleted_manifests": _deleted("manifest"),
    "deleted_tags": _DELETED_TAGS,
    "deleted_manifest_blob": _DELETED_LINKS,
}

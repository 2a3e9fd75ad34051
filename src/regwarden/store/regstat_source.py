"""What is in the tables that regstat itself filled? Read in pieces from one snapshot; nothing is written.

Event times stand there as the registry sent them, in UTC; deletion times in the time zone of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.engine import Connection

from regwarden.errors import InputError, NotFound
from regwarden.store import regstat
from regwarden.store.addresses import DatabaseAddress, parse_database_address
from regwarden.store.database import describe_place, explained
from regwarden.store.postgresql import open_engine, reading
from regwarden.store.regstat_views import SCHEMA, TABLES

_PIECE_ROWS: Final = 2_000
_SCHEMA_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# The part of a tag's name before its repository: the host by which regstat combined equivalent registries.
_NAMED_HOST: Final = "split_part({}.name, '/' || {}.repository, 1)"
_LIVE: Final = f"""
    SELECT t.registry, {_NAMED_HOST.format("t", "t")} AS named_host, t.repository, coalesce(t.tag, '') AS tag,
        t.manifest_digest AS digest, t.pushed, m.pulled
    FROM {{schema}}.tags AS t LEFT JOIN {{schema}}.manifests AS m ON m.digest = t.manifest_digest
    ORDER BY t.registry, t.repository, t.tag"""  # noqa: S608 -- our own names, and a schema's that was checked
_DELETED: Final = f"""
    SELECT d.registry, {_NAMED_HOST.format("d", "d")} AS named_host, d.repository, coalesce(d.tag, '') AS tag,
        d.manifest_digest AS digest, d.pushed, m.pulled, d.deleted::timestamptz AS deleted, live.pushed AS pushed_again,
        m.digest IS NOT NULL AND NOT EXISTS (
            SELECT FROM {{schema}}.tags AS t WHERE t.repository = d.repository AND t.manifest_digest = d.manifest_digest
        ) AS is_removed
    FROM {{schema}}.deleted_tags AS d
        LEFT JOIN {{schema}}.deleted_manifests AS m ON m.digest = d.manifest_digest
        LEFT JOIN {{schema}}.tags AS live ON live.name = d.name
    ORDER BY d.registry, d.repository, d.tag"""  # noqa: S608
_BLOBS: Final = f"""
    WITH place AS (
        SELECT registry, name, repository, manifest_digest FROM {{schema}}.tags
        UNION ALL SELECT registry, name, repository, manifest_digest FROM {{schema}}.deleted_tags
    ), link AS (
        SELECT manifest_digest, blob_digest FROM {{schema}}.manifest_blob
        UNION SELECT manifest_digest, blob_digest FROM {{schema}}.deleted_manifest_blob
    ), blob AS (
        SELECT digest, pushed, pulled, NULL::timestamptz AS deleted FROM {{schema}}.blobs
        UNION ALL SELECT digest, pushed, pulled, deleted::timestamptz FROM {{schema}}.deleted_blobs AS d
        WHERE NOT EXISTS (SELECT FROM {{schema}}.blobs AS b WHERE b.digest = d.digest)
    )
    SELECT DISTINCT place.registry, {_NAMED_HOST.format("place", "place")} AS named_host, place.repository,
        blob.digest, blob.pushed, blob.pulled, blob.deleted
    FROM place JOIN link ON link.manifest_digest = place.manifest_digest JOIN blob ON blob.digest = link.blob_digest
    ORDER BY 1, 3"""  # noqa: S608
_LINKS: Final = """
    SELECT manifest_digest, array_agg(DISTINCT blob_digest ORDER BY blob_digest) AS blob_digests
    FROM (
        SELECT manifest_digest, blob_digest FROM {schema}.manifest_blob
        UNION ALL SELECT manifest_digest, blob_digest FROM {schema}.deleted_manifest_blob
    ) AS link GROUP BY manifest_digest"""
_COUNTS: Final = """
    SELECT (SELECT count(*) FROM {schema}.manifests AS m
            WHERE NOT EXISTS (SELECT FROM {schema}.tags AS t WHERE t.manifest_digest = m.digest)) AS untagged_count,
        (SELECT count(*) FROM {schema}.blobs AS b
            WHERE NOT EXISTS (SELECT FROM {schema}.manifest_blob AS l WHERE l.blob_digest = b.digest)
            AND NOT EXISTS (SELECT FROM {schema}.deleted_manifest_blob AS l WHERE l.blob_digest = b.digest)
        ) AS unplaced_blob_count"""


class RegstatSource:
    """One snapshot of regstat's tables."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = f'"{schema}"'

    def live_tags(self) -> Iterator[list[Any]]:
        """``registry, named_host, repository, tag, digest, pushed, pulled`` of what exists; the tag may be empty."""
        return self._pieces(_LIVE)

    def deleted_tags(self) -> Iterator[list[Any]]:
        """The same of what is gone, with ``deleted``, ``pushed_again`` and whether its manifest ``is_removed``."""
        return self._pieces(_DELETED)

    def placed_blobs(self) -> Iterator[list[Any]]:
        """``registry, named_host, repository, digest, pushed, pulled, deleted`` of blobs that a manifest places."""
        return self._pieces(_BLOBS)

    def links(self) -> Iterator[list[Any]]:
        """``manifest_digest, blob_digests``."""
        return self._pieces(_LINKS)

    def count_unplaced(self) -> tuple[int, int]:
        """Manifests without a tag, and blobs without a manifest: nothing says in which repository they are."""
        row = self._connection.exec_driver_sql(_COUNTS.format(schema=self._schema)).one()
        return row.untagged_count, row.unplaced_blob_count

    def _pieces(self, statement: str) -> Iterator[list[Any]]:
        streamed = self._connection.execution_options(stream_results=True, yield_per=_PIECE_ROWS)
        for piece in streamed.exec_driver_sql(statement.format(schema=self._schema)).partitions(_PIECE_ROWS):
            yield list(piece)


@contextmanager
def open_regstat_source(url: str, schema: str) -> Iterator[RegstatSource]:
    """Open the tables at ``url`` to read. Raises ``InputError``, ``NotFound`` if they are not there, ``StoreError``."""
    address = parse_database_address(url)
    if address.dialect != "postgresql":
        raise InputError(
            "regstat's tables are in PostgreSQL",
            hint="Name its database with --from, for example --from 'host=localhost user=postgres'.",
            code="needs-postgresql",
        )
    if not _SCHEMA_NAME.fullmatch(schema):
        raise InputError(f"{schema[:80]!r} is not the name of a schema", hint="Usually it is regstat.")
    engine = open_engine(address)
    try:
        with explained(address), reading(engine).connect() as connection:
            _require_tables(connection, address, schema)
            yield RegstatSource(connection, schema)
    finally:
        engine.dispose()


def _require_tables(connection: Connection, address: DatabaseAddress, schema: str) -> None:
    if schema == SCHEMA and regstat.is_ours(connection):
        raise NotFound(
            "the schema regstat holds Regwarden's own views, not regstat's tables",
            hint="Name the renamed schema, for example --schema regstat_old_20260131.",
            code="no-regstat",
        )
    rows = connection.execute(
        text("SELECT table_name FROM information_schema.tables WHERE table_schema = :schema"), {"schema": schema}
    )
    missing = sorted(set(TABLES) - set(rows.scalars()))
    if missing:
        raise NotFound(
            f"{describe_place(address)} has no table {schema}.{missing[0]}",
            hint="Name regstat's database with --from, and its schema with --schema.",
            code="no-regstat",
        )

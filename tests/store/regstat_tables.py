"""The tables of regstat as it created them, and a way to ask the columns of either form."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import Connection

LIVE = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.blobs (digest text PRIMARY KEY, pushed timestamp NOT NULL, pulled timestamp);
CREATE TABLE {schema}.manifests (digest text PRIMARY KEY, pushed timestamp NOT NULL, pulled timestamp);
CREATE TABLE {schema}.manifest_blob (
    manifest_digest text REFERENCES {schema}.manifests, blob_digest text REFERENCES {schema}.blobs,
    PRIMARY KEY (manifest_digest, blob_digest));
CREATE TABLE {schema}.tags (
    name text PRIMARY KEY, registry text NOT NULL, repository text NOT NULL, tag text,
    manifest_digest text NOT NULL REFERENCES {schema}.manifests, pushed timestamp NOT NULL, pulled timestamp);
CREATE TABLE {schema}.deleted_blobs (
    digest text PRIMARY KEY, pushed timestamp NOT NULL, pulled timestamp, deleted timestamp NOT NULL);
CREATE TABLE {schema}.deleted_manifests (
    digest text PRIMARY KEY, pushed timestamp NOT NULL, pulled timestamp, deleted timestamp NOT NULL);
CREATE TABLE {schema}.deleted_tags (
    name text PRIMARY KEY, registry text NOT NULL, repository text NOT NULL, tag text,
    manifest_digest text NOT NULL, pushed timestamp NOT NULL, pulled timestamp, deleted timestamp NOT NULL);
CREATE TABLE {schema}.deleted_manifest_blob (
    manifest_digest text, blob_digest text, PRIMARY KEY (manifest_digest, blob_digest));
"""


def create_tables(connection: Connection, schema: str = "regstat") -> None:
    """Make the eight tables, empty."""
    for statement in LIVE.format(schema=schema).split(";"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def columns_of(connection: Connection, schema: str) -> dict[str, list[tuple[str, str]]]:
    """Table or view → its columns, in order, with their types."""
    rows = connection.execute(
        text(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = :schema ORDER BY table_name, ordinal_position"
        ),
        {"schema": schema},
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in rows:
        found.setdefault(table, []).append((column, kind))
    return found

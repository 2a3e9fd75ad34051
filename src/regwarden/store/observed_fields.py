"""The values of fields of tags that the conditions of policies compare, as lists of tags show them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from regwarden.core.conditions import FieldValue
from regwarden.core.oci.digests import Digest
from regwarden.store.past_rows import fetch
from regwarden.store.query_fields import Form, Scope, StoredField, load_registries, stored_fields
from regwarden.store.query_sources import Walk, joined
from regwarden.store.schema import tags

TagKey = tuple[int, str]
"""Repository id and name of the tag."""


def load_fields(
    connection: Connection, repository_ids: Sequence[int], names: Collection[str], now_micros: int
) -> dict[TagKey, Mapping[str, FieldValue | None]]:
    """The named fields of the tags of these repositories. ``now_micros`` is what ages are counted from."""
    if not names:
        return {}
    known = stored_fields("tag", Scope(connection.dialect.name, load_registries(connection), now_micros))
    wanted = {name: known[name] for name in sorted(names)}
    columns = [tags.c.repository_id, tags.c.name, *(one.expression.label(f"f_{name}") for name, one in wanted.items())]
    source = joined("tag", Walk.FREE, [one.expression for one in wanted.values()])
    rows = fetch(connection, select(*columns).select_from(source).where(tags.c.repository_id.in_(repository_ids)))
    readers = list(wanted.items())
    return {
        (repository_id, tag): {
            name: None if value is None else _typed(one, value)
            for (name, one), value in zip(readers, values, strict=True)
        }
        for repository_id, tag, *values in rows
    }


def _typed(field: StoredField, value: Any) -> FieldValue:
    if field.form is Form.DIGEST:
        return Digest.from_bytes(bytes(value))
    shown: FieldValue = field.shown(value)
    return shown

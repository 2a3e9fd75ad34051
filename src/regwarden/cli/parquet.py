"""How are rows written as a Parquet file? Needs the extra ``parquet``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from regwarden.core.fields import FIELDS, FieldType

_BATCH_ROWS: Final = 20_000
_TYPES: Final = {
    FieldType.TEXT: pa.string(),
    FieldType.DIGEST: pa.string(),
    FieldType.BYTES: pa.int64(),
    FieldType.COUNT: pa.int64(),
    FieldType.TIME: pa.timestamp("us", tz="UTC"),
    FieldType.BOOL: pa.bool_(),
}


def write_parquet(rows: Iterable[dict[str, object]], noun: str, names: Sequence[str], file: IO[Any]) -> int:
    """Write the fields ``names`` of all rows, typed as the noun's fields are; returns the number of rows."""
    fields = FIELDS[noun]  # type: ignore[index]  # the noun is one of ours
    schema = pa.schema([(name, _TYPES[fields[name].type]) for name in names])
    remaining = iter(rows)
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := list(islice(remaining, _BATCH_ROWS)):
            columns = {name: [row.get(name) for row in batch] for name in names}
            writer.write_table(pa.table(columns, schema=schema))
            count += len(batch)
    return count

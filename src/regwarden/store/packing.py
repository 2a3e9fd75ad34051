"""How is the list of blobs of a manifest stored? As little-endian 32-bit blob ids, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from regwarden.errors import StoreError

MAX_BLOB_ID: Final = 2**32 - 1
_ID = np.dtype("<u4")


def pack_blob_ids(layers: Iterable[int], others: Iterable[int] = ()) -> tuple[bytes, int]:
    """Pack the distinct ids, layers first and in order; give the bytes and how many of them are layers.

    Repeated ids count once, and an id that is both a layer and something else counts as a layer. Raises
    ``StoreError`` for an id that does not fit.
    """
    distinct_layers = dict.fromkeys(layers)
    distinct = list(distinct_layers | dict.fromkeys(others))
    if distinct and (min(distinct) < 0 or max(distinct) > MAX_BLOB_ID):
        raise StoreError("the database has run out of blob ids", hint="Crawl into a new database.", code="full")
    return np.array(distinct, dtype=_ID).tobytes(), len(distinct_layers)


def unpack_blob_ids(packed: bytes | bytearray | memoryview) -> list[int]:
    """The ids of one packed list, in order. Raises ``StoreError`` if the bytes are not one."""
    return [int(one) for one in blob_id_array(packed)]


def blob_id_array(packed: bytes | bytearray | memoryview) -> NDArray[np.uint32]:
    """The same as a read-only array, without copying; also for many lists joined together."""
    if len(packed) % _ID.itemsize:
        raise StoreError("a manifest's list of blobs is damaged", hint="Run regwarden db check.", code="damaged")
    return np.frombuffer(packed, dtype=_ID)

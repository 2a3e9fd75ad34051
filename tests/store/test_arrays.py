"""Do the array steps of the size engine stay exact where 64 bits, gaps and shapes get in the way?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.graph import MAX_SUM_BYTES
from regwarden.errors import StoreError
from regwarden.store.arrays import Edges, Lookup, add_capped, batches, sum_by_group, total
from regwarden.store.packing import MAX_BLOB_ID, blob_id_array, pack_blob_ids, unpack_blob_ids


def integers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 2**50))), max_size=40))
def test_sums_are_exact_up_to_the_largest_number_and_stop_there(rows: list[tuple[int, int]]):
    groups, values = integers(*(group for group, _ in rows)), integers(*(value for _, value in rows))
    expected = [min(MAX_SUM_BYTES, sum(value for group, value in rows if group == one)) for one in range(4)]
    assert sum_by_group(groups, values, 4).tolist() == expected
    assert total(values) == min(MAX_SUM_BYTES, sum(value for _, value in rows))


def test_a_million_of_the_largest_sizes_do_not_overflow():
    sizes = np.full(1_000_000, 2**50, dtype=np.int64)
    groups = np.arange(1_000_000, dtype=np.int64) % 1_000
    assert set(sum_by_group(groups, sizes, 1_000).tolist()) == {2**50 * 1_000}
    assert total(sizes) == MAX_SUM_BYTES


def test_adding_stops_at_the_largest_number():
    assert add_capped(integers(1, MAX_SUM_BYTES, 2**62), integers(2, 1, 2**62)).tolist() == [
        3,
        MAX_SUM_BYTES,
        MAX_SUM_BYTES,
    ]


@pytest.mark.parametrize("ids", [(1, 2, 5), (3, 2**31, 2**40), ()])
def test_ids_are_found_whether_they_lie_close_or_far_apart(ids: tuple[int, ...]):
    lookup = Lookup(integers(*ids))
    assert lookup.find(integers(*ids)).tolist() == list(range(len(ids)))
    assert lookup.find(integers(0, 4, 2**41)).tolist() == [-1, -1, -1]


def test_batches_hold_at_most_the_limit_unless_one_thing_alone_is_heavier():
    cuts = [(part.start, part.stop) for part in batches(integers(3, 3, 9, 1, 0, 4), 6)]
    assert cuts == [(0, 2), (2, 3), (3, 6)]


def test_closures_visit_a_circle_once():
    circle = Edges.grouped(integers(0, 1, 1), integers(1, 0, 2), 3)
    owners, reached = circle.closures(integers(1, 2))
    assert list(zip(owners.tolist(), reached.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 2)]
    assert circle.reachable(np.array([True, False, False])).tolist() == [True, True, True]


def test_packed_ids_keep_layers_first_and_each_once():
    packed, layer_count = pack_blob_ids([7, 3, 7], [3, 9])
    assert unpack_blob_ids(packed) == [7, 3, 9]
    assert layer_count == 2
    assert packed == bytes.fromhex("07000000 03000000 09000000")


@given(st.lists(st.integers(0, MAX_BLOB_ID), unique=True), st.lists(st.integers(0, MAX_BLOB_ID), unique=True))
def test_joined_packed_lists_read_as_one(first: list[int], second: list[int]):
    joined = pack_blob_ids(first)[0] + pack_blob_ids(second)[0]
    assert blob_id_array(joined).tolist() == first + second


def test_an_id_that_does_not_fit_is_an_error_not_another_id():
    with pytest.raises(StoreError) as caught:
        pack_blob_ids([MAX_BLOB_ID + 1])
    assert caught.value.code == "full"


def test_bytes_that_are_no_list_of_ids_are_an_error():
    with pytest.raises(StoreError) as caught:
        unpack_blob_ids(b"\x01\x00\x00")
    assert caught.value.code == "damaged"

"""Ragged shards: arrays of any number of rows, what they look like on the disk, and what damage does to them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.embeddings.shards import Layout, ShardedArrayStore

RAGGED = Layout(ragged=True)


def key(number: int) -> str:
    return f"{number:064x}"


def arrays(lengths: list[int], width: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(len(lengths))
    return [rng.normal(size=(length, width)).astype(np.float32) for length in lengths]


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_was_added_is_there_for_the_next(tmp_path_factory, batches):
    folder, kept = tmp_path_factory.mktemp("shelf"), {}
    with ShardedArrayStore(folder, {}, RAGGED) as shelf:
        for lengths in batches:
            added = arrays(lengths)
            keys = [key(len(kept) + i) for i in range(len(added))]
            shelf.add(keys, added)
            kept |= dict(zip(keys, added, strict=True))
        for name, expected in kept.items():
            np.testing.assert_array_equal(shelf.get(name), expected)
    with ShardedArrayStore(folder, {}, RAGGED) as shelf:
        assert len(shelf) == len(kept) and shelf.dimension == 3 and shelf.get(key(99)) is None
        for name, expected in kept.items():
            np.testing.assert_array_equal(shelf.get(name), expected)


def test_a_ragged_shard_is_an_ordinary_array_with_places_beside_it(tmp_path):
    added = arrays([2, 5, 1])
    with ShardedArrayStore(tmp_path, {"name": "x"}, RAGGED) as shelf:
        shelf.add([key(1), key(2)], added[:2])
        shelf.add([key(3)], added[2:])
    (shard,) = tmp_path.glob("*.npy")
    np.testing.assert_array_equal(np.load(shard), np.concatenate(added))
    places = [line.split()[2:] for line in shard.with_suffix(".ids").read_text().splitlines()]
    assert [(int(first, 16), int(count, 16)) for first, count in places] == [(0, 2), (2, 5), (7, 1)]
    sidecar = json.loads(shard.with_suffix(".json").read_text())
    assert sidecar == {"schema_version": 1, "dimension": 3, "dtype": "<f4", "ragged": True, "name": "x"}


def test_float16_is_half_as_large_and_read_as_float32(tmp_path):
    with ShardedArrayStore(tmp_path, {}, Layout(True, "<f2")) as shelf:
        shelf.add([key(1)], [np.array([[1 / 3, 2.0, 65504.0]], dtype=np.float32)])
        found = shelf.get(key(1))
    assert found.dtype == np.float32 and found.tolist() == [[float(np.float16(1 / 3)), 2.0, 65504.0]]
    (shard,) = tmp_path.glob("*.npy")
    assert np.load(shard).dtype == np.float16


@pytest.mark.parametrize("damage", ["a number", "a line", "the end"])
def test_damage_costs_the_array_it_hits_and_no_other(tmp_path, damage):
    added = arrays([2, 5, 1])
    with ShardedArrayStore(tmp_path, {}, RAGGED) as shelf:
        shelf.add([key(1), key(2), key(3)], added)
    (shard,) = tmp_path.glob("*.npy")
    numbers, ids = bytearray(shard.read_bytes()), bytearray(shard.with_suffix(".ids").read_bytes())
    if damage == "a number":
        numbers[-4 * 3 * 2] ^= 1  # in the last row of the second array
    elif damage == "a line":
        ids[96 + 70] = ord("x")
    else:
        numbers = numbers[: -4 * 3 - 1]  # the third array, and a byte of the second
    shard.write_bytes(numbers)
    shard.with_suffix(".ids").write_bytes(ids)
    with ShardedArrayStore(tmp_path, {}, RAGGED) as shelf:
        np.testing.assert_array_equal(shelf.get(key(1)), added[0])
        assert shelf.get(key(2)) is None
        assert (shelf.get(key(3)) is None) == (damage == "the end")

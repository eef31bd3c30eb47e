"""Ragged shards: round trip, format on disk, and damage."""

import json
from hashlib import sha256

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
def test_added_arrays_are_read_back(tmp_path_factory, batches):
    folder, expected_arrays = tmp_path_factory.mktemp("shards"), {}
    with ShardedArrayStore(folder, {}, RAGGED) as store:
        for lengths in batches:
            added = arrays(lengths)
            keys = [key(len(expected_arrays) + i) for i in range(len(added))]
            store.add(keys, added)
            expected_arrays |= dict(zip(keys, added, strict=True))
        for name, expected in expected_arrays.items():
            np.testing.assert_array_equal(store.get(name), expected)
    with ShardedArrayStore(folder, {}, RAGGED) as store:
        assert len(store) == len(expected_arrays) and store.dimension == 3 and store.get(key(99)) is None
        for name, expected in expected_arrays.items():
            np.testing.assert_array_equal(store.get(name), expected)


def test_ragged_shard_is_a_numpy_file_with_row_ranges(tmp_path):
    added = arrays([2, 5, 1])
    with ShardedArrayStore(tmp_path, {"name": "x"}, RAGGED) as store:
        store.add([key(1), key(2)], added[:2])
        store.add([key(3)], added[2:])
    (shard,) = tmp_path.glob("*.npy")
    np.testing.assert_array_equal(np.load(shard), np.concatenate(added))
    ranges = [line.split()[2:] for line in shard.with_suffix(".ids").read_text().splitlines()]
    assert [(int(first, 16), int(count, 16)) for first, count in ranges] == [(0, 2), (2, 5), (7, 1)]
    sidecar = json.loads(shard.with_suffix(".json").read_text())
    assert sidecar == {"schema_version": 1, "dimension": 3, "dtype": "<f4", "ragged": True, "name": "x"}


def test_float16_is_read_as_float32(tmp_path):
    with ShardedArrayStore(tmp_path, {}, Layout(True, "<f2")) as store:
        store.add([key(1)], [np.array([[1 / 3, 2.0, 65504.0]], dtype=np.float32)])
        stored = store.get(key(1))
    assert stored.dtype == np.float32 and stored.tolist() == [[float(np.float16(1 / 3)), 2.0, 65504.0]]
    (shard,) = tmp_path.glob("*.npy")
    assert np.load(shard).dtype == np.float16


@pytest.mark.parametrize("damage", ["value", "line", "end"])
def test_damage_loses_only_the_affected_array(tmp_path, damage):
    added = arrays([2, 5, 1])
    with ShardedArrayStore(tmp_path, {}, RAGGED) as store:
        store.add([key(1), key(2), key(3)], added)
    (shard,) = tmp_path.glob("*.npy")
    numbers, ids = bytearray(shard.read_bytes()), bytearray(shard.with_suffix(".ids").read_bytes())
    if damage == "value":
        numbers[-4 * 3 * 2] ^= 1  # in the last row of the second array
    elif damage == "line":
        ids[96 + 70] = ord("x")
    else:
        numbers = numbers[: -4 * 3 - 1]  # the third array, and a byte of the second
    shard.write_bytes(numbers)
    shard.with_suffix(".ids").write_bytes(ids)
    with ShardedArrayStore(tmp_path, {}, RAGGED) as store:
        np.testing.assert_array_equal(store.get(key(1)), added[0])
        assert store.get(key(2)) is None
        assert (store.get(key(3)) is None) == (damage == "end")


@pytest.mark.parametrize("damage", ["none", "key", "separator", "capital", "twice"])
def test_all_lines_at_once_are_indexed_as_line_by_line(tmp_path, monkeypatch, damage):
    keys = [sha256(bytes([i])).hexdigest() for i in range(20)]
    with ShardedArrayStore(tmp_path, {}) as store:
        store.add(keys, np.arange(60, dtype=np.float32).reshape(20, 3))
    (ids,) = tmp_path.glob("*.ids")
    lines = ids.read_bytes().splitlines(keepends=True)
    lines[5] = {
        "none": lines[5],
        "key": b"g" + lines[5][1:],
        "separator": lines[5].replace(b" ", b"0"),
        "capital": lines[5].upper(),
        "twice": lines[4],
    }[damage]
    ids.write_bytes(b"".join(lines))
    at_once = ShardedArrayStore(tmp_path, {})
    monkeypatch.setattr(ShardedArrayStore, "_index_valid_lines", lambda *_: False)
    by_line = ShardedArrayStore(tmp_path, {})
    assert len(at_once) == len(by_line) == (20 if damage == "none" else 19)
    for key in keys:
        np.testing.assert_equal(at_once.get(key), by_line.get(key))

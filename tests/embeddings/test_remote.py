"""The embedding cache in a remote folder: round trip, exchange with local folders, interrupted and parallel writers."""

import random
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from earmark.embeddings import remote
from earmark.embeddings.cache import EmbeddingCache
from earmark.embeddings.remote import RemoteArrayStore, RemoteContentHashes, open_store
from earmark.embeddings.shards import Layout, ShardedArrayStore
from earmark.errors import EarmarkError
from earmark.files import remote as files
from earmark.files.remote import RemotePath, location
from earmark.models.encoders.logmel import LogMel
from tests.embeddings.test_cache import Counting, vectors
from tests.models.encoders.sources import clips
from tests.object_storage import upload

memory = pytest.importorskip("fsspec.implementations.memory", reason="fsspec is not installed")
LAYOUTS = [Layout(), Layout(ragged=True), Layout(ragged=True, dtype="<f2")]


def new_folder() -> RemotePath:
    folder = location(f"memory://{uuid.uuid4().hex}/store")
    assert isinstance(folder, RemotePath)
    return folder


@pytest.fixture
def folder():
    return new_folder()


@pytest.fixture(autouse=True)
def other_machine(monkeypatch):
    """Each test starts without the hashes that this process has read; calling it gives another machine."""
    monkeypatch.setattr(RemoteContentHashes, "_read_before", {})
    return RemoteContentHashes._read_before.clear


@pytest.fixture
def n_reads(monkeypatch):
    """{key: number of reads}."""
    counts: dict[str, int] = {}
    read = memory.MemoryFileSystem.cat_file

    def cat_file(self, path, start=None, end=None, **how):
        counts[path] = counts.get(path, 0) + 1
        return read(self, path, start, end, **how)

    monkeypatch.setattr(memory.MemoryFileSystem, "cat_file", cat_file)
    return counts


def key(number: int) -> str:
    return f"{number:064x}"


def arrays(lengths, layout, width=3):
    rng = np.random.default_rng(len(lengths))
    values = [rng.normal(size=(length, width)).astype(layout.dtype).astype(np.float32) for length in lengths]
    return values if layout.ragged else [each[0] for each in values]


def download(folder: RemotePath, to: Path) -> Path:
    to.mkdir()
    for name in folder.list_now():
        (to / name).write_bytes((folder / name).read_bytes())
    return to


# --- arrays ---


@pytest.mark.slow
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from(LAYOUTS),
    st.integers(1, 300),
    st.integers(1, 100),
)
def test_added_arrays_are_read_back(batches, layout, max_unwritten, block):
    folder, expected = new_folder(), {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MAX_UNWRITTEN_BYTES", max_unwritten), ("BLOCK_BYTES", block), ("MAX_BLOCKS", 2)):
            patch.setattr(remote, name, value)
        with open_store(folder, {}, layout) as store:
            for lengths in batches:
                added = arrays(lengths, layout)
                keys = [key(len(expected) + i) for i in range(len(added))]
                store.add(keys, added)
                expected |= dict(zip(keys, added, strict=True))
            assert len(store) == len(expected) and store.dimension == 3
            for name, value in expected.items():
                np.testing.assert_array_equal(store.get(name), value)
        with open_store(folder, {}, layout) as store:
            assert len(store) == len(expected) and store.dimension == 3 and store.get(key(99)) is None
            for name in random.Random(0).sample(list(expected), len(expected)):
                np.testing.assert_array_equal(store.get(name), expected[name])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_folder_copied_to_disk_is_a_local_store_and_back(folder, tmp_path, layout):
    first, second = arrays([2, 5], layout), arrays([1, 3, 4], layout)
    with RemoteArrayStore(folder, {"name": "x"}, layout) as store:
        store.add([key(1), key(2)], first)
    with ShardedArrayStore(download(folder, tmp_path / "copy"), {"name": "x"}, layout) as store:
        for number, value in enumerate(first, 1):
            np.testing.assert_array_equal(store.get(key(number)), value)
        store.add([key(3), key(4), key(5)], second)
    back = upload(tmp_path / "copy", f"memory://{uuid.uuid4().hex}/back")
    with RemoteArrayStore(back, {"name": "x"}, layout) as store:
        for number, value in enumerate([*first, *second], 1):
            np.testing.assert_array_equal(store.get(key(number)), value)


def test_shard_without_ids_does_not_exist(folder):
    with RemoteArrayStore(folder, {}, Layout()) as store:
        store.add([key(1)], arrays([1], Layout()))
    (ids,) = [name for name in folder.list_now() if name.endswith(".ids")]
    memory.MemoryFileSystem().rm_file(str(folder / ids))
    with RemoteArrayStore(folder, {}, Layout()) as store:
        assert len(store) == 0 and store.get(key(1)) is None


@pytest.mark.parametrize("damage", ["value", "end", "gone", "sidecar"])
def test_damage_loses_only_the_affected_arrays(folder, damage):
    layout = Layout(ragged=True)
    added = arrays([2, 5, 1], layout)
    with RemoteArrayStore(folder, {}, layout) as store:
        store.add([key(1), key(2), key(3)], added)
    with RemoteArrayStore(folder, {}, layout) as store:
        store.add([key(4)], added[:1])
    ids = next(folder / name for name in folder.list_now() if _lines(folder / name) == 3)
    shard = ids.with_suffix(".npy")
    content = bytearray(shard.read_bytes())
    if damage == "value":
        content[-4 * 3 * 2] ^= 1  # in the last row of the second array
        shard.put(bytes(content))
    elif damage == "end":
        shard.put(bytes(content[: -4 * 3 - 1]))  # without the third array and a byte of the second
    elif damage == "sidecar":
        shard.with_suffix(".json").put(b"{")
    with RemoteArrayStore(folder, {}, layout) as store:
        if damage == "gone":
            memory.MemoryFileSystem().rm_file(str(shard))
        kept = {"value": {1, 3, 4}, "end": {1, 4}, "gone": {4}, "sidecar": {4}}[damage]
        assert {number for number in range(1, 5) if store.get(key(number)) is not None} == kept
        lost = [number for number in range(1, 4) if number not in kept]
        store.add([key(number) for number in lost], [added[number - 1] for number in lost])
    with RemoteArrayStore(folder, {}, layout) as store:
        for number in range(1, 4):
            np.testing.assert_array_equal(store.get(key(number)), added[number - 1])


def _lines(path: RemotePath) -> int:
    return path.read_bytes().count(b"\n") if path.suffix == ".ids" else 0


def test_writers_at_once_lose_nothing(folder):
    layout, values = Layout(), arrays([1] * 6, Layout())
    with RemoteArrayStore(folder, {}, layout) as one, RemoteArrayStore(folder, {}, layout) as other:
        one.add([key(1), key(2)], values[:2])
        other.add([key(2), key(3)], values[1:3])  # both embedded clip 2
        assert one.get(key(3)) is None
    with RemoteArrayStore(folder, {}, layout) as store:
        assert len(store) == 3
        for number in (1, 2, 3):
            np.testing.assert_array_equal(store.get(key(number)), values[number - 1])


def test_arrays_are_written_by_size_and_by_age(folder, monkeypatch):
    values = arrays([1] * 4, Layout())
    monkeypatch.setattr(remote, "MAX_UNWRITTEN_BYTES", 24)
    with RemoteArrayStore(folder, {}, Layout()) as store:
        store.add([key(1)], values[:1])  # 12 bytes
        assert folder.list_now() == ["encoder.json"]
        store.add([key(2)], values[1:2])
        assert len(folder.list_now()) == 4
        monkeypatch.setattr(remote, "MAX_UNWRITTEN_SECONDS", 0.0)
        store.add([key(3)], values[2:3])
        assert len(folder.list_now()) == 7


@pytest.mark.parametrize("n_written", [0, 1, 2])
def test_failed_write_names_the_loss_and_leaves_a_valid_store(folder, monkeypatch, n_written):
    """The connection is lost after none, one or two of the three files of a shard."""
    values, put = arrays([1] * 3, Layout()), memory.MemoryFileSystem.pipe_file
    with RemoteArrayStore(folder, {}, Layout()) as store:
        store.add([key(1)], values[:1])
    monkeypatch.setattr(files, "FIRST_WAIT", 0.0)
    written = []

    def pipe_file(self, path, content, **how):
        if len(written) >= n_written:
            raise ConnectionResetError("hunter2")
        written.append(path)
        return put(self, path, content, **how)

    monkeypatch.setattr(remote, "MAX_UNWRITTEN_BYTES", 1)
    monkeypatch.setattr(memory.MemoryFileSystem, "pipe_file", pipe_file)
    with (
        pytest.raises(EarmarkError, match=r"1 embeddings are stored; the last 2 could not be written\. Run") as raised,
        RemoteArrayStore(folder, {}, Layout()) as store,
    ):
        store.add([key(2), key(3)], values[1:])
    assert "hunter2" not in str(raised.value) and len(written) == n_written
    monkeypatch.setattr(memory.MemoryFileSystem, "pipe_file", put)
    with RemoteArrayStore(folder, {}, Layout()) as store:
        assert len(store) == 1 and store.get(key(2)) is None
        np.testing.assert_array_equal(store.get(key(1)), values[0])
        store.add([key(2), key(3)], values[1:])
    with RemoteArrayStore(folder, {}, Layout()) as store:
        assert len(store) == 3


def test_error_of_the_run_still_writes_what_waits(folder):
    with pytest.raises(RuntimeError, match="model"), RemoteArrayStore(folder, {}, Layout()) as store:
        store.add([key(1)], arrays([1], Layout()))
        raise RuntimeError("model")
    with RemoteArrayStore(folder, {}, Layout()) as store:
        assert len(store) == 1


def test_neighbours_are_read_with_one_request(folder, n_reads):
    with RemoteArrayStore(folder, {}, Layout()) as store:
        store.add([key(i) for i in range(500)], arrays([1] * 500, Layout(), width=64))
    n_reads.clear()
    with RemoteArrayStore(folder, {}, Layout()) as store:
        for i in range(500):
            assert store.get(key(i)) is not None
    assert sorted(path.rpartition(".")[2] for path in n_reads) == ["ids", "json", "npy"] and set(n_reads.values()) == {
        1
    }


# --- clips ---


@pytest.fixture
def remote_clips(tmp_path):
    """Ten clips in a remote folder, and the same on disk."""
    local = clips(tmp_path / "audio", 10)
    folder = upload(tmp_path / "audio", f"memory://{uuid.uuid4().hex}/audio")
    return [folder / path.relative_to(tmp_path / "audio").as_posix() for path in local], local


def test_remote_clips_and_cache_give_the_embeddings_of_local_ones(folder, remote_clips, tmp_path):
    distant, local = remote_clips
    expected = vectors(EmbeddingCache(tmp_path / "store").embed(LogMel(), local))
    found = vectors(EmbeddingCache(folder).embed(LogMel(), distant))
    for path, one in zip(local, distant, strict=True):
        np.testing.assert_array_equal(found[one], expected[path])


def test_remote_clip_is_read_once(folder, remote_clips, n_reads):
    distant, _ = remote_clips
    vectors(EmbeddingCache(folder).embed(LogMel(), distant))
    assert [n_reads[str(path).removeprefix("memory:/")] for path in distant] == [1] * 10


def test_another_machine_reads_embeddings_without_the_clips(folder, remote_clips, n_reads, other_machine, monkeypatch):
    monkeypatch.setattr("earmark.embeddings.content_hashes.MIN_AGE_SECONDS", -1.0)
    distant, _ = remote_clips
    expected = vectors(EmbeddingCache(folder).embed(LogMel(), distant))
    n_reads.clear()
    other_machine()
    encoder = Counting()
    found = vectors(EmbeddingCache(folder).embed(encoder, distant))
    assert encoder.n_embedded == 0 and not any(path.endswith(".wav") for path in n_reads)
    for path in distant:
        np.testing.assert_array_equal(found[path], expected[path])


def test_changed_remote_clip_is_embedded_again(folder, remote_clips, monkeypatch, tmp_path):
    monkeypatch.setattr("earmark.embeddings.content_hashes.MIN_AGE_SECONDS", -1.0)
    distant, _ = remote_clips
    vectors(EmbeddingCache(folder).embed(LogMel(), distant))
    soundfile.write(tmp_path / "new.wav", np.random.default_rng(9).normal(0, 0.1, 8000), 16_000)
    distant[3].put((tmp_path / "new.wav").read_bytes())
    encoder = Counting()
    vectors(EmbeddingCache(folder).embed(encoder, distant))
    assert encoder.n_embedded == 1


def test_missing_remote_clip_is_the_fault_of_that_clip(folder, remote_clips):
    distant, _ = remote_clips
    absent = distant[0].parent / "none.wav"
    results = dict(EmbeddingCache(folder).embed(LogMel(), [*distant, absent]))
    assert results[absent].error.endswith("file not found") and sum(each.error != "" for each in results.values()) == 1


def test_text_embeddings_in_a_remote_cache(folder):
    calls = []

    def embed(texts):
        calls.extend(texts)
        return np.array([[len(text), 0.5] for text in texts], dtype=np.float32)

    for _ in range(2):
        found = EmbeddingCache(folder).embed_texts("model", ["a", "bb"], embed)
        assert {text: each.vector.tolist() for text, each in found.items()} == {"a": [1, 0.5], "bb": [2, 0.5]}
    assert sorted(calls) == ["a", "bb"]


def test_damaged_hashes_are_read_as_far_as_possible(folder):
    (folder / "contents" / "x.tsv").put(b"not a line\n" + b"00ff\t1 2\tabcd\t\n" + b"zz\t1\t00\t\n\xff")
    hashes = RemoteContentHashes(folder / "contents")
    assert hashes._look_up(bytes.fromhex("00ff")) == ("1 2", bytes.fromhex("abcd"), "")
    hashes.close()

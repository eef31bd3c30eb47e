"""The store with real encoders and real files: what is embedded, how often, and what survives which accident."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.embeddings.cache import EmbeddingCache, _Ahead, _Job
from earmark.embeddings.content_hashes import ContentHashes
from earmark.embeddings.shards import ShardedArrayStore
from earmark.errors import EarmarkError
from earmark.models.encoders.base import EmbeddingError
from earmark.models.encoders.logmel import LogMel
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders import sources
from tests.models.encoders.sources import clips, noises, save

ROOT = Path(__file__).resolve().parents[2]


class Counting(LogMel):
    """The real encoder, which counts the clips that it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0
        self.batches: list[int] = []

    def embed_prepared(self, prepared):
        self.heard += len(prepared)
        self.batches.append(len(prepared))
        return super().embed_prepared(prepared)


@pytest.fixture
def store(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "store")


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return clips(tmp_path / "audio", 10)


def vectors(found) -> dict[Path, np.ndarray]:
    found = dict(found)
    assert not [one.error for one in found.values() if one.error]
    return {path: one.vector for path, one in found.items()}


def test_the_second_run_reads_the_store_only(store, paths):
    first, second = Counting(), Counting()
    fresh = vectors(store.embed(first, paths))
    stored = vectors(store.embed(second, paths))
    assert (first.heard, second.heard) == (10, 0)
    expected = LogMel().embed([soundfile.read(path, dtype="float32")[0] for path in paths])
    for path, vector in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(fresh[path], vector)
        np.testing.assert_array_equal(stored[path], vector)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["logmel", "xares"])
def test_no_vector_depends_on_batch_size_order_or_neighbours(tmp_path, paths, spec):
    if spec == "xares":
        pytest.importorskip("torch", reason="the extra `torch` is not installed")
        spec = str(save(tmp_path / "code", "mine.py", sources.XARES))
    encoder = load_encoder(spec, device="cpu")
    alone = {path: vectors(EmbeddingCache(tmp_path / path.stem).embed(encoder, [path]))[path] for path in paths}
    for size in (1, 3, 16):
        mixed = random.Random(size).sample(paths, len(paths))
        found = vectors(
            EmbeddingCache(tmp_path / f"of {size}").embed(encoder, mixed, batch_size=size, decoder_threads=3)
        )
        for path in paths:
            np.testing.assert_allclose(found[path], alone[path], rtol=1e-5, atol=1e-6)


def test_identical_content_under_two_paths_is_embedded_once(store, paths, tmp_path):
    copies = [Path(shutil.copy(path, tmp_path / f"copy of {path.name}")) for path in paths]
    encoder = Counting()
    found = vectors(store.embed(encoder, [*paths, *copies, *paths], batch_size=4))
    assert encoder.heard == 10 and len(found) == 20
    for path, copy in zip(paths, copies, strict=True):
        np.testing.assert_array_equal(found[path], found[copy])


def test_changed_audio_is_embedded_again_even_with_size_and_time_put_back(store, paths):
    before = vectors(store.embed(LogMel(), paths))
    stat = paths[3].stat()
    content = bytearray(paths[3].read_bytes())
    content[1000:3000] = content[3000:5000]
    paths[3].write_bytes(content)
    os.utime(paths[3], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    encoder = Counting()
    after = vectors(store.embed(encoder, paths))
    assert encoder.heard == 1
    assert [path for path in paths if not np.array_equal(before[path], after[path])] == [paths[3]]


@pytest.mark.slow
def test_a_changed_encoder_file_embeds_again(store, paths, tmp_path):
    file = save(tmp_path / "code", "mine.py", sources.case())
    one = load_encoder(str(file))
    before = vectors(store.embed(one, paths))
    file.write_text(sources.case().replace("np.abs(", "2 * np.abs("))
    other = load_encoder(str(file))
    after = vectors(store.embed(other, paths))
    assert store.folder(one) != store.folder(other)
    for path in paths:
        np.testing.assert_allclose(after[path], 2 * before[path], rtol=1e-5)


def test_a_shard_is_an_ordinary_array_with_ids_and_a_sidecar(store, paths):
    encoder = LogMel()
    list(store.embed(encoder, paths, batch_size=4))
    (shard,) = store.folder(encoder).glob("*.npy")
    assert np.load(shard).shape == (10, 80)
    assert len(shard.with_suffix(".ids").read_text().splitlines()) == 10
    sidecar = json.loads(shard.with_suffix(".json").read_text())
    assert sidecar["dimension"] == 80 and sidecar["identity"] == encoder.identity
    assert str(paths[0].parent) not in "".join(p.read_text() for p in store.folder(encoder).glob("*.json"))


def test_what_cannot_be_embedded_is_named_and_the_rest_goes_on(store, paths, tmp_path):
    folder = tmp_path / "audio"
    bad = {
        name: folder / name for name in ("absent.wav", "folder.wav", "text.wav", "silent.wav", "short.wav", "cut.wav")
    }
    bad["folder.wav"].mkdir()
    bad["text.wav"].write_text("no audio")
    soundfile.write(bad["silent.wav"], np.zeros(8000), 16_000)
    soundfile.write(bad["short.wav"], noises(1)[0][:160], 16_000)
    bad["cut.wav"].write_bytes(paths[0].read_bytes()[:6000])
    copy = Path(shutil.copy(bad["short.wav"], folder / "short too.wav"))
    found = dict(store.embed(LogMel(), [*bad.values(), copy, *paths], batch_size=4))
    assert {path.name: one.error for path, one in found.items() if one.error} == {
        "absent.wav": "absent.wav: file not found",
        "folder.wav": "folder.wav: is a folder, not a file",
        "text.wav": found[bad["text.wav"]].error,
        "silent.wav": "silent.wav: is silent, all its samples are zero",
        "short.wav": "short.wav: is too short: 10 ms, where logmel needs 25 ms",
        "short too.wav": "short too.wav: is too short: 10 ms, where logmel needs 25 ms",
        "cut.wav": "cut.wav: ends after 0.2 s of 0.5 s",
    }
    assert "is not audio" in found[bad["text.wav"]].error


def test_other_rates_and_stereo_are_heard_at_the_rate_of_the_encoder(store, tmp_path):
    time_ = np.arange(48_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * 500 * time_)
    made = {16_000: tone[::3], 48_000: tone, 8_000: tone[::6]}
    for rate, samples in made.items():
        soundfile.write(tmp_path / f"{rate}.wav", np.stack([samples, samples], axis=1), rate, subtype="FLOAT")
    found = vectors(store.embed(LogMel(), [tmp_path / f"{rate}.wav" for rate in made]))
    bands = [vector[5:12] for vector in found.values()]  # around 500 Hz, which all three rates hold
    np.testing.assert_allclose(bands[1], bands[0], atol=0.1)
    np.testing.assert_allclose(bands[2], bands[0], atol=0.1)


FAULTY = {
    "nan": ("np.full(6, np.nan)", "the embedding is not finite"),
    "constant": ("np.full(6, 2.0)", "the embedding is constant"),
    "dimension": ("np.arange(5.0)", "has 5 dimensions where 6 are expected"),
    "raises": ("{}['a key']", "the model failed"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_bad_embedding_is_an_error_of_its_clip_and_is_not_stored(store, paths, tmp_path, fault):
    result, message = FAULTY[fault]
    text = sources.case().replace(
        "        return np.array([part",
        f"        if len(samples) == {8000 + 4 * 37}:\n            return {result}\n        return np.array([part",
    )
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", text)))
    for _ in range(2):
        found = dict(store.embed(encoder, paths, batch_size=4))
        assert [path for path in paths if found[path].error] == [paths[4]]
        assert message in found[paths[4]].error and found[paths[4]].error.startswith("0-004.wav: ")


def test_an_encoder_that_tells_no_clips_apart_is_an_error_each_time(store, paths, tmp_path):
    text = sources.case().replace("return np.array([part", "return np.arange(6.0)  #")
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", text)))
    for _ in range(2):
        with pytest.raises(EmbeddingError, match="one and the same embedding for all 10 different clips"):
            list(store.embed(encoder, paths))
    assert len(list(store.embed(encoder, paths[:1]))) == 1


def test_threads_decode_only_so_far_ahead(store, paths, tmp_path):
    many = clips(tmp_path / "many", 60)
    begun = []

    class Watched(LogMel):
        def prepare(self, waveform):
            begun.append(1)
            return super().prepare(waveform)

    pace = store.embed(Watched(), many, batch_size=2, decoder_threads=2)
    next(pace)
    time.sleep(0.3)
    assert len(begun) <= 2 + 2 + 2 * 2 + 2
    pace.close()


def test_vectors_made_elsewhere_pass_through(store, tmp_path):
    np.savez(tmp_path / "x.npz", **{"anna/1.wav": np.arange(3.0)})
    given = load_encoder(f"embeddings:{tmp_path}/x.npz")
    ((_, found),) = store.embed(given, [Path("/audio/anna/1.wav")], audio_root=Path("/audio"))
    assert found.vector.tolist() == [0, 1, 2]


PROCESS = """
import sys
from pathlib import Path
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.encoders.registry import load_encoder
store, spec, *paths = sys.argv[1:]
for path, found in EmbeddingCache(Path(store)).embed(load_encoder(spec), [Path(p) for p in paths], batch_size=2):
    print(path, found.error, flush=True)
"""


def begin(store: EmbeddingCache, spec: Path, paths: list[Path]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, store.root, spec, *paths], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_two_processes_share_the_folder(store, tmp_path):
    many = clips(tmp_path / "many", 40)
    file = save(tmp_path / "code", "mine.py", sources.case(slow=0.01))
    processes = [begin(store, file, order) for order in (many[:30], many[:9:-1])]
    for process, n in zip(processes, (30, 30), strict=True):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and len(out.splitlines()) == n
    encoder = load_encoder(str(file))
    expected = encoder.embed([soundfile.read(path, dtype="float32")[0] for path in many[:3]])
    encoder.embed_prepared = None  # whoever asks it again fails
    found = vectors(store.embed(encoder, many))
    assert len(found) == 40
    np.testing.assert_allclose([found[path] for path in many[:3]], expected, rtol=1e-6)


@pytest.mark.slow
def test_killed_again_and_again_it_keeps_what_was_finished_and_nothing_else(store, tmp_path):
    many = clips(tmp_path / "many", 40)
    file = save(tmp_path / "code", "mine.py", sources.case(slow=0.02))
    encoder = load_encoder(str(file))
    finished: set[str] = set()
    for told in (1, 2, 3):  # each time further: what is stored is told first
        process = begin(store, file, many)
        for n, line in enumerate(process.stdout):
            finished.add(line.split()[0])
            if n == 4 * told:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with ShardedArrayStore(store.folder(encoder), {}) as shelf:
            kept = [shelf.get(ContentHashes(tmp_path / "hashes").of(Path(path))) for path in finished]
        assert all(vector is not None for vector in kept)
    assert 0 < len(finished) < 40
    found = vectors(store.embed(encoder, many))
    expected = encoder.embed([soundfile.read(path, dtype="float32")[0] for path in many])
    np.testing.assert_allclose([found[path] for path in many], expected, rtol=1e-6)


def test_damage_is_noticed_and_embedded_again(store, paths):
    encoder = Counting()
    before = vectors(store.embed(encoder, paths))
    (shard,) = store.folder(encoder).glob("*.npy")
    content = bytearray(shard.read_bytes())
    content[128 + 320 * 2 + 5] ^= 1  # a bit of the third row
    shard.write_bytes(content[:-10])  # and the end of the last
    shard.with_suffix(".ids").write_bytes(shard.with_suffix(".ids").read_bytes()[: 74 * 9 + 30])
    (store.folder(encoder) / "stray.npy").write_bytes(b"\x93NUM")
    after = vectors(store.embed(encoder, paths))
    assert encoder.heard == 12
    for path in paths:
        np.testing.assert_array_equal(before[path], after[path])
    list(store.embed(encoder, paths))
    assert encoder.heard == 12


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_run_with_what_is_safe(store, paths, tmp_path):
    code = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + PROCESS, store.root, "logmel", *paths], capture_output=True, text=True, cwd=ROOT
    )
    assert "cannot be written: File too large. Its 8 embeddings are safe" in done.stderr
    encoder = Counting()
    assert len(vectors(store.embed(encoder, paths))) == 10
    assert encoder.heard == 2


def test_a_store_that_is_a_file_is_refused_before_anything_is_embedded(tmp_path, paths):
    (tmp_path / "store").write_text("")
    with pytest.raises(EarmarkError, match=r"cannot be written: .*; choose another folder"):
        list(EmbeddingCache(tmp_path / "store").embed(LogMel(), paths))


@pytest.mark.slow
def test_hashes_are_remembered_only_for_files_that_have_settled(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    hashes = ContentHashes(tmp_path / "db" / "contents.sqlite")
    first = hashes.of(path)
    path.write_bytes(b"two")
    assert hashes.of(path) != first
    os.utime(path, (0, 0))
    time.sleep(2.1)
    settled = hashes.of(path)
    hashes.close()
    again = ContentHashes(tmp_path / "db" / "contents.sqlite")
    stamp = f"{path.stat().st_size} {path.stat().st_ino} {path.stat().st_mtime_ns} {path.stat().st_ctime_ns}"
    assert again.of(path) == settled
    with sqlite3.connect(tmp_path / "db" / "contents.sqlite") as database:
        assert [(row[1], row[2].hex()) for row in database.execute("SELECT * FROM contents")] == [(stamp, settled)]
    again.close()


def test_an_encoder_that_never_works_is_not_asked_to_the_end(tmp_path):
    class Broken(LogMel):
        heard = 0

        def embed_prepared(self, prepared):
            self.heard += len(prepared)
            raise RuntimeError("no such layer")

    encoder, paths = Broken(), [tmp_path / f"{i}.wav" for i in range(300)]
    for seed, path in enumerate(paths):
        soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 1600), 16_000)
    with pytest.raises(EmbeddingError, match=r"fails on each of the first \d+ clips, on \d+\.wav: .*no such layer"):
        list(EmbeddingCache(tmp_path / "store").embed(encoder, paths, batch_size=8))
    assert encoder.heard < 300


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 3), (4, 20)])
def test_work_ahead_loses_no_clip_however_threads_take_turns(workers, most):
    """A result may be taken before the thread that gave it has done anything else."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            ahead = _Ahead(lambda number: _Job(number, prepared=[0] * (number % 4)), range(200), workers, most)
            assert [job.path for job in ahead] == list(range(200))
    finally:
        sys.setswitchinterval(interval)

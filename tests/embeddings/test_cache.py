"""The embedding cache with real encoders and files: number of encoder calls, errors, and recovery."""

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
from threading import Event

import numpy as np
import pytest
import soundfile

from earmark.embeddings.cache import EmbeddingCache, _Job, _Prefetcher, default_decoder_threads
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
    """Log-mel encoder that counts the clips it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.n_embedded = 0
        self.batches: list[int] = []

    def embed_prepared(self, prepared):
        self.n_embedded += len(prepared)
        self.batches.append(len(prepared))
        return super().embed_prepared(prepared)


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "store")


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return clips(tmp_path / "audio", 10)


def vectors(results) -> dict[Path, np.ndarray]:
    embeddings = dict(results)
    assert not [each.error for each in embeddings.values() if each.error]
    return {path: each.vector for path, each in embeddings.items()}


def test_second_run_reads_cache_only(cache, paths):
    first, second = Counting(), Counting()
    fresh = vectors(cache.embed(first, paths))
    stored = vectors(cache.embed(second, paths))
    assert (first.n_embedded, second.n_embedded) == (10, 0)
    expected = LogMel().embed([soundfile.read(path, dtype="float32")[0] for path in paths])
    for path, vector in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(fresh[path], vector)
        np.testing.assert_array_equal(stored[path], vector)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["logmel", "xares"])
def test_embeddings_independent_of_batch_size_and_order(tmp_path, paths, spec):
    if spec == "xares":
        pytest.importorskip("torch", reason="the extra `torch` is not installed")
        spec = str(save(tmp_path / "code", "mine.py", sources.XARES))
    encoder = load_encoder(spec, device="cpu")
    alone = {path: vectors(EmbeddingCache(tmp_path / path.stem).embed(encoder, [path]))[path] for path in paths}
    for size in (1, 3, 16):
        mixed = random.Random(size).sample(paths, len(paths))
        embeddings = vectors(
            EmbeddingCache(tmp_path / f"of {size}").embed(encoder, mixed, batch_size=size, decoder_threads=3)
        )
        for path in paths:
            np.testing.assert_allclose(embeddings[path], alone[path], rtol=1e-5, atol=1e-6)


def test_identical_content_is_embedded_once(cache, paths, tmp_path):
    copies = [Path(shutil.copy(path, tmp_path / f"copy of {path.name}")) for path in paths]
    encoder = Counting()
    embeddings = vectors(cache.embed(encoder, [*paths, *copies, *paths], batch_size=4))
    assert encoder.n_embedded == 10 and len(embeddings) == 20
    for path, copy in zip(paths, copies, strict=True):
        np.testing.assert_array_equal(embeddings[path], embeddings[copy])


def test_changed_audio_with_same_size_and_mtime_is_embedded_again(cache, paths):
    before = vectors(cache.embed(LogMel(), paths))
    stat = paths[3].stat()
    content = bytearray(paths[3].read_bytes())
    content[1000:3000] = content[3000:5000]
    paths[3].write_bytes(content)
    os.utime(paths[3], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    encoder = Counting()
    after = vectors(cache.embed(encoder, paths))
    assert encoder.n_embedded == 1
    assert [path for path in paths if not np.array_equal(before[path], after[path])] == [paths[3]]


@pytest.mark.slow
def test_changed_encoder_file_embeds_again(cache, paths, tmp_path):
    file = save(tmp_path / "code", "mine.py", sources.case())
    original = load_encoder(str(file))
    before = vectors(cache.embed(original, paths))
    file.write_text(sources.case().replace("np.abs(", "2 * np.abs("))
    changed = load_encoder(str(file))
    after = vectors(cache.embed(changed, paths))
    assert cache.folder(original) != cache.folder(changed)
    for path in paths:
        np.testing.assert_allclose(after[path], 2 * before[path], rtol=1e-5)


def test_shard_is_a_numpy_file_with_ids_and_sidecar(cache, paths):
    encoder = LogMel()
    list(cache.embed(encoder, paths, batch_size=4))
    (shard,) = cache.folder(encoder).glob("*.npy")
    assert np.load(shard).shape == (10, 80)
    assert len(shard.with_suffix(".ids").read_text().splitlines()) == 10
    sidecar = json.loads(shard.with_suffix(".json").read_text())
    assert sidecar["dimension"] == 80 and sidecar["identity"] == encoder.identity
    assert str(paths[0].parent) not in "".join(p.read_text() for p in cache.folder(encoder).glob("*.json"))


def test_invalid_clips_get_errors_and_others_embeddings(cache, paths, tmp_path):
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
    embeddings = dict(cache.embed(LogMel(), [*bad.values(), copy, *paths], batch_size=4))
    assert {path.name: each.error for path, each in embeddings.items() if each.error} == {
        "absent.wav": "absent.wav: file not found",
        "folder.wav": "folder.wav: is a folder, not a file",
        "text.wav": embeddings[bad["text.wav"]].error,
        "silent.wav": "silent.wav: is silent, all its samples are zero",
        "short.wav": "short.wav: is too short: 10 ms, where logmel needs 25 ms",
        "short too.wav": "short too.wav: is too short: 10 ms, where logmel needs 25 ms",
        "cut.wav": "cut.wav: ends after 0.2 s of 0.5 s",
    }
    assert "is not audio" in embeddings[bad["text.wav"]].error


def test_audio_is_resampled_and_downmixed(cache, tmp_path):
    time_ = np.arange(48_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * 500 * time_)
    signals = {16_000: tone[::3], 48_000: tone, 8_000: tone[::6]}
    for rate, samples in signals.items():
        soundfile.write(tmp_path / f"{rate}.wav", np.stack([samples, samples], axis=1), rate, subtype="FLOAT")
    embeddings = vectors(cache.embed(LogMel(), [tmp_path / f"{rate}.wav" for rate in signals]))
    bands = [vector[5:12] for vector in embeddings.values()]  # around 500 Hz, below half of all three rates
    np.testing.assert_allclose(bands[1], bands[0], atol=0.1)
    np.testing.assert_allclose(bands[2], bands[0], atol=0.1)


INVALID_EMBEDDINGS = {
    "nan": ("np.full(6, np.nan)", "the embedding is not finite"),
    "constant": ("np.full(6, 2.0)", "the embedding is constant"),
    "dimension": ("np.arange(5.0)", "has 5 dimensions where 6 are expected"),
    "raises": ("{}['a key']", "the model failed"),
}


@pytest.mark.parametrize("fault", INVALID_EMBEDDINGS)
def test_invalid_embedding_is_an_error_and_not_cached(cache, paths, tmp_path, fault):
    result, message = INVALID_EMBEDDINGS[fault]
    text = sources.case().replace(
        "        return np.array([part",
        f"        if len(samples) == {8000 + 4 * 37}:\n            return {result}\n        return np.array([part",
    )
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", text)))
    for _ in range(2):
        embeddings = dict(cache.embed(encoder, paths, batch_size=4))
        assert [path for path in paths if embeddings[path].error] == [paths[4]]
        assert message in embeddings[paths[4]].error and embeddings[paths[4]].error.startswith("0-004.wav: ")


def test_constant_encoder_is_rejected_each_time(cache, paths, tmp_path):
    text = sources.case().replace("return np.array([part", "return np.arange(6.0)  #")
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", text)))
    for _ in range(2):
        with pytest.raises(EmbeddingError, match="all 10 clips have identical embeddings"):
            list(cache.embed(encoder, paths))
    assert len(list(cache.embed(encoder, paths[:1]))) == 1


def test_decoding_ahead_is_bounded(cache, paths, tmp_path):
    many = clips(tmp_path / "many", 60)
    begun = []

    class Watched(LogMel):
        def prepare(self, waveform):
            begun.append(1)
            return super().prepare(waveform)

    pace = cache.embed(Watched(), many, batch_size=2, decoder_threads=2)
    next(pace)
    time.sleep(0.3)
    assert len(begun) <= 2 + 2 + 2 * 2 + 2
    pace.close()


def test_precomputed_embeddings_pass_through(cache, tmp_path):
    np.savez(tmp_path / "x.npz", **{"anna/1.wav": np.arange(3.0)})
    precomputed = load_encoder(f"embeddings:{tmp_path}/x.npz")
    ((_, embedding),) = cache.embed(precomputed, [Path("/audio/anna/1.wav")], audio_root=Path("/audio"))
    assert embedding.vector.tolist() == [0, 1, 2]


PROCESS = """
import sys
from pathlib import Path
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.encoders.registry import load_encoder
cache, spec, *paths = sys.argv[1:]
for path, embedding in EmbeddingCache(Path(cache)).embed(load_encoder(spec), [Path(p) for p in paths], batch_size=2):
    print(path, embedding.error, flush=True)
"""


def start_process(cache: EmbeddingCache, spec: Path, paths: list[Path]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, cache.root, spec, *paths], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_two_processes_share_the_cache(cache, tmp_path):
    many = clips(tmp_path / "many", 40)
    file = save(tmp_path / "code", "mine.py", sources.case(slow=0.01))
    processes = [start_process(cache, file, order) for order in (many[:30], many[:9:-1])]
    for process, n in zip(processes, (30, 30), strict=True):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and len(out.splitlines()) == n
    encoder = load_encoder(str(file))
    expected = encoder.embed([soundfile.read(path, dtype="float32")[0] for path in many[:3]])
    encoder.embed_prepared = None  # a further call would fail
    embeddings = vectors(cache.embed(encoder, many))
    assert len(embeddings) == 40
    np.testing.assert_allclose([embeddings[path] for path in many[:3]], expected, rtol=1e-6)


@pytest.mark.slow
def test_killed_process_keeps_finished_batches(cache, tmp_path):
    many = clips(tmp_path / "many", 40)
    file = save(tmp_path / "code", "mine.py", sources.case(slow=0.02))
    encoder = load_encoder(str(file))
    finished: set[str] = set()
    for round_ in (1, 2, 3):  # cached clips are printed first, so each round gets further
        process = start_process(cache, file, many)
        for n, line in enumerate(process.stdout):
            finished.add(line.split()[0])
            if n == 4 * round_:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with ShardedArrayStore(cache.folder(encoder), {}) as arrays:
            hashes = ContentHashes(tmp_path / "hashes")
            stored = [arrays.get(hashes.content_hash(Path(path))) for path in finished]
        assert all(vector is not None for vector in stored)
    assert 0 < len(finished) < 40
    embeddings = vectors(cache.embed(encoder, many))
    expected = encoder.embed([soundfile.read(path, dtype="float32")[0] for path in many])
    np.testing.assert_allclose([embeddings[path] for path in many], expected, rtol=1e-6)


def test_damaged_shard_is_embedded_again(cache, paths):
    encoder = Counting()
    before = vectors(cache.embed(encoder, paths))
    (shard,) = cache.folder(encoder).glob("*.npy")
    content = bytearray(shard.read_bytes())
    content[128 + 320 * 2 + 5] ^= 1  # a bit of the third row
    shard.write_bytes(content[:-10])  # and the end of the last
    shard.with_suffix(".ids").write_bytes(shard.with_suffix(".ids").read_bytes()[: 74 * 9 + 30])
    (cache.folder(encoder) / "stray.npy").write_bytes(b"\x93NUM")
    after = vectors(cache.embed(encoder, paths))
    assert encoder.n_embedded == 12
    for path in paths:
        np.testing.assert_array_equal(before[path], after[path])
    list(cache.embed(encoder, paths))
    assert encoder.n_embedded == 12


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_ends_run_and_keeps_stored_embeddings(cache, paths, tmp_path):
    code = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + PROCESS, cache.root, "logmel", *paths], capture_output=True, text=True, cwd=ROOT
    )
    assert "cannot be written: File too large. 8 embeddings are stored" in done.stderr
    encoder = Counting()
    assert len(vectors(cache.embed(encoder, paths))) == 10
    assert encoder.n_embedded == 2


def test_cache_path_that_is_a_file_is_rejected(tmp_path, paths):
    (tmp_path / "store").write_text("")
    with pytest.raises(EarmarkError, match=r"cannot be written: .* Choose another folder"):
        list(EmbeddingCache(tmp_path / "store").embed(LogMel(), paths))


@pytest.mark.slow
def test_hashes_are_cached_only_for_settled_files(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    hashes = ContentHashes(tmp_path / "db" / "contents.sqlite")
    first = hashes.content_hash(path)
    path.write_bytes(b"two")
    assert hashes.content_hash(path) != first
    os.utime(path, (0, 0))
    time.sleep(2.1)
    settled = hashes.content_hash(path)
    hashes.close()
    reopened = ContentHashes(tmp_path / "db" / "contents.sqlite")
    stamp = f"{path.stat().st_size} {path.stat().st_ino} {path.stat().st_mtime_ns} {path.stat().st_ctime_ns}"
    assert reopened.content_hash(path) == settled
    with sqlite3.connect(tmp_path / "db" / "contents.sqlite") as database:
        assert [(row[1], row[2].hex()) for row in database.execute("SELECT * FROM contents")] == [(stamp, settled)]
    reopened.close()


def test_encoder_that_always_fails_stops_early(tmp_path):
    class Broken(LogMel):
        n_embedded = 0

        def embed_prepared(self, prepared):
            self.n_embedded += len(prepared)
            raise RuntimeError("no such layer")

    encoder, paths = Broken(), [tmp_path / f"{i}.wav" for i in range(300)]
    for seed, path in enumerate(paths):
        soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 1600), 16_000)
    with pytest.raises(
        EmbeddingError, match=r"failed on each of the first \d+ clips\. Last error, of \d+\.wav: .*no such layer"
    ):
        list(EmbeddingCache(tmp_path / "store").embed(encoder, paths, batch_size=8))
    assert encoder.n_embedded < 300


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "max_ready"), [(1, 1), (2, 3), (4, 20)])
def test_prefetcher_loses_no_clip(workers, max_ready):
    """A result may be consumed before its thread does anything else."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            jobs = _Prefetcher(lambda number: _Job(number, prepared=[0] * (number % 4)), range(200), workers, max_ready)
            assert [job.clip for job in jobs] == list(range(200))
    finally:
        sys.setswitchinterval(interval)


def test_count_is_that_of_stored_embeddings_and_reads_no_audio(cache, paths, monkeypatch):
    monkeypatch.setattr("earmark.embeddings.content_hashes.MIN_AGE_SECONDS", 0.0)  # hashes of new files are kept
    encoder = Counting()
    assert cache.count(encoder, paths) == 0 and not cache.root.exists()
    vectors(cache.embed(encoder, paths[:4]))
    monkeypatch.setattr("earmark.embeddings.content_hashes.file_hash", lambda _: pytest.fail("a file was read"))
    assert cache.count(encoder, paths) == 4 and encoder.n_embedded == 4
    os.utime(paths[0], (1, 1))  # may have changed
    assert cache.count(encoder, paths) == 3
    other = load_encoder("logmel")
    other.identity = "other"
    assert cache.count(other, paths) == 0


@pytest.mark.parametrize(("cores", "threads"), [(1, 4), (8, 8), (128, 32)])
def test_default_decoder_threads_are_one_per_core_within_limits(monkeypatch, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert default_decoder_threads() == threads


def test_embed_encodes_the_next_batch_while_results_are_used(tmp_path, paths):
    encoder, second_prepared, second_started = LogMel(), Event(), Event()
    prepare, encode, calls = encoder.prepare, encoder.embed_prepared, []

    def watched_prepare(waveform):
        prepared = prepare(waveform)
        calls.append("prepared")
        if calls.count("prepared") == 2:
            second_prepared.set()
        return prepared

    def watched_encode(prepared):
        calls.append("encoded")
        if calls.count("encoded") == 1:
            second_prepared.wait(30)
            time.sleep(0.5)  # the second batch is waiting by then
        else:
            second_started.set()
        return encode(prepared)

    encoder.prepare, encoder.embed_prepared = watched_prepare, watched_encode
    results = EmbeddingCache(tmp_path / "cache").embed(encoder, paths[:3], batch_size=1)
    next(results)
    assert second_started.wait(30)
    assert len(list(results)) == 2

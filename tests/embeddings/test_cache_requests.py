"""The embedding cache with frames, crops and layers, and with members of tar files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.audio.clips import tar_members
from earmark.embeddings.cache import EmbeddingCache
from earmark.embeddings.content_hashes import ContentHashes
from earmark.embeddings.shards import Layout, ShardedArrayStore
from earmark.errors import EarmarkError
from earmark.models.encoders.base import EmbeddingError
from earmark.models.encoders.logmel import LogMel, log_mel
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders import sources
from tests.models.encoders.sources import clips, noises, save

ROOT = Path(__file__).resolve().parents[2]
FRAMES, HALF, CROPS = (
    EmbeddingRequest(frames=True),
    EmbeddingRequest(frames=True, dtype="float16"),
    EmbeddingRequest(crop_seconds=0.2),
)


class Counting(LogMel):
    """Log-mel encoder that counts its inputs. max_batch: a larger batch runs out of memory."""

    def __init__(self, max_batch: int = 1000) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.max_batch = max_batch

    def encode_prepared(self, prepared, embedding_request):
        self.batches.append(len(prepared))
        if len(prepared) > self.max_batch:
            raise OutOfMemoryError("CUDA out of memory")
        return super().encode_prepared(prepared, embedding_request)


class OutOfMemoryError(RuntimeError):
    """Has the class name of the torch error, by which it is recognised."""


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "store")


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return clips(tmp_path / "audio", 10)


def arrays(results) -> dict:
    embeddings = dict(results)
    assert not [each.error for each in embeddings.values() if each.error]
    return {path: each.vector for path, each in embeddings.items()}


def waveform(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


@pytest.mark.parametrize(
    "embedding_request",
    [FRAMES, HALF, CROPS, EmbeddingRequest(layers=True), EmbeddingRequest(crop_seconds=0.2, layers=True)],
)
def test_second_run_reads_bit_identical_embeddings(cache, paths, embedding_request):
    first, second = Counting(), Counting()
    fresh = arrays(cache.embed(first, paths, request=embedding_request, batch_size=4))
    stored = arrays(cache.embed(second, paths, request=embedding_request, batch_size=4))
    assert sum(first.batches) == (10 if embedding_request.crop_seconds is None else 30) and not second.batches
    expected = LogMel().embed_clips([waveform(path) for path in paths], embedding_request)
    for path, rows in zip(paths, expected, strict=True):
        rows = rows.astype(np.float16).astype(np.float32) if embedding_request == HALF else rows
        np.testing.assert_array_equal(fresh[path], rows if embedding_request.ragged else rows[0])
        np.testing.assert_array_equal(stored[path], fresh[path])
        assert stored[path].dtype == fresh[path].dtype == np.float32


def test_requests_have_separate_folders_and_sidecars(cache, paths):
    encoder = LogMel()
    requests = [DEFAULT_REQUEST, FRAMES, HALF, CROPS, EmbeddingRequest(crop_seconds=0.3), EmbeddingRequest(layers=True)]
    embeddings = [arrays(cache.embed(encoder, paths, request=embedding_request)) for embedding_request in requests]
    assert [each[paths[0]].shape for each in embeddings] == [(80,), (48, 40), (48, 40), (3, 80), (2, 80), (80,)]
    assert len({cache.folder(encoder, embedding_request) for embedding_request in requests}) == len(requests)
    assert cache.folder(encoder) == cache.root / f"{encoder.identity}-p1"
    np.testing.assert_allclose(embeddings[1][paths[0]].mean(axis=0), embeddings[0][paths[0]][:40], rtol=1e-5)
    (plain,), (half,) = (
        list(cache.folder(encoder, embedding_request).glob("*.npy")) for embedding_request in (DEFAULT_REQUEST, HALF)
    )
    assert set(json.loads(plain.with_suffix(".json").read_text())) == {
        *("schema_version", "dimension", "dtype", "name", "identity", "preprocessing", "sample_rate", "encoder")
    }
    sidecar = json.loads(half.with_suffix(".json").read_text())
    assert (sidecar["dtype"], sidecar["dimension"], sidecar["hop_seconds"]) == ("<f2", 40, 0.01)
    assert sidecar["view"] == {"frames": True, "crop_seconds": None, "layers": False, "dtype": "float16"}


def test_default_shard_format(cache, paths):
    encoder = LogMel()
    list(cache.embed(encoder, paths[:1]))
    (shard,) = cache.folder(encoder).glob("*.npy")
    (row,) = encoder.embed([waveform(paths[0])])
    assert shard.read_bytes()[128:] == row.astype("<f4").tobytes()
    key = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert shard.with_suffix(".ids").read_text() == f"{key} {zlib.crc32(row.tobytes()):08x}\n"


def test_out_of_memory_halves_batches_of_crops(cache, paths):
    encoder = Counting(max_batch=3)
    embeddings = arrays(cache.embed(encoder, paths, request=CROPS, batch_size=8))
    assert encoder.batches[0] == 8 and max(encoder.batches[3:]) <= 2
    np.testing.assert_array_equal(embeddings[paths[0]], LogMel().embed_clips([waveform(paths[0])], CROPS)[0])


@pytest.mark.slow
def test_layers_of_crops_of_xares_file(cache, paths, tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", sources.layered())), device="cpu")
    embedding_request = EmbeddingRequest(crop_seconds=0.2, layers=True)
    embeddings = arrays(cache.embed(encoder, paths, request=embedding_request, batch_size=4))
    for path in paths:
        (alone,) = encoder.embed_clips([waveform(path)], embedding_request)
        assert alone.shape[1] == 36
        np.testing.assert_allclose(embeddings[path], alone, rtol=1e-5, atol=1e-6)


INVALID_OUTPUTS = {
    "nan": ("x * float('nan')", FRAMES, "the frames are not finite"),
    "width": ("x[..., :5]", FRAMES, "the frames have 5 dimensions where 12 are expected"),
    "too few": ("x[:, ::2]", FRAMES, "the model failed (returned 32 frames for 0.65 s, but its hop of 10 ms"),
    "none": ("x[:, :0]", FRAMES, "the model failed (the clip is too short for a single frame)"),
    "constant": ("x * 0", FRAMES, "the frames are constant: all 756 values are 0"),
    "too large": ("x + 1e5", HALF, "the frames exceed the range of float16"),
    "crops": ("x * float('nan')", EmbeddingRequest(crop_seconds=5.0), "crop 1 of 1: the embedding is not finite"),
    "one layer": ("x[..., :5]", EmbeddingRequest(layers=True), "the embedding has 5 dimensions where 12 are expected"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", INVALID_OUTPUTS)
def test_invalid_output_is_an_error_of_its_clip(cache, paths, tmp_path, fault):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    result, embedding_request, message = INVALID_OUTPUTS[fault]
    odd = tmp_path / "odd.wav"
    soundfile.write(odd, noises(1, seconds=0.65)[0], 16_000)
    text = sources.XARES.replace(
        "return self.frames(audio)",
        f"x = self.frames(audio)\n        return {result} if audio.shape[1] == 10400 else x",
    )
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", text)), device="cpu")
    for _ in range(2):
        embeddings = dict(cache.embed(encoder, [*paths[:5], odd, *paths[5:]], request=embedding_request, batch_size=4))
        assert [path for path, each in embeddings.items() if each.error] == [odd]
        assert embeddings[odd].error.startswith(f"odd.wav: {message}")


def test_constant_frames_are_rejected(cache, paths, tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES.replace("self.frames(audio)", "self.frames(audio) * 0 + torch.arange(12.0)")
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", text)), device="cpu")
    with pytest.raises(EmbeddingError, match="all 10 clips have identical embeddings"):
        list(cache.embed(encoder, paths, request=FRAMES))


def test_unsupported_requests(cache, paths, tmp_path):
    encoder = load_encoder(str(save(tmp_path / "code", "mine.py", sources.case())))
    with pytest.raises(EarmarkError, match="bands: returns one embedding per clip and no frames"):
        list(cache.embed(encoder, paths, request=FRAMES))
    np.savez(tmp_path / "x.npz", **{"anna/1.wav": np.arange(3.0)})
    precomputed = load_encoder(f"embeddings:{tmp_path}/x.npz")
    with pytest.raises(EarmarkError, match=r"x: has one vector per clip; crops-0\.2s requires an encoder"):
        list(cache.embed(precomputed, [Path("anna/1.wav")], request=CROPS))


PROCESS = """
import sys, time
from pathlib import Path
from earmark.audio.clips import tar_members
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.encoders.logmel import LogMel
from earmark.models.encoders.output import EmbeddingRequest
class Slow(LogMel):
    def frames_prepared(self, prepared):
        time.sleep(0.03)
        return super().frames_prepared(prepared)
cache, tar = map(Path, sys.argv[1:])
for member, embedding in EmbeddingCache(cache).embed(
    Slow(), tar_members(tar), request=EmbeddingRequest(frames=True), batch_size=2
):
    print(member.name, embedding.error, flush=True)
"""


@pytest.mark.slow
def test_killed_process_keeps_finished_frames_of_tar_members(cache, tmp_path):
    tar = packed(tmp_path / "train.tar", clips(tmp_path / "many", 40))
    members = {member.name: member for member in tar_members(tar)}
    finished: set[str] = set()
    for round_ in (1, 2, 3):  # cached clips are printed first, so each round gets further
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, cache.root, tar], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for n, line in enumerate(process.stdout):
            finished.add(line.split()[0])
            if n == 4 * round_:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        hashes = ContentHashes(tmp_path / "hashes")
        with ShardedArrayStore(cache.folder(LogMel(), FRAMES), {}, Layout(ragged=True)) as shards:
            stored = [shards.get(hashes.content_hash(members[name])) for name in finished]
        assert all(rows is not None for rows in stored)
    assert 0 < len(finished) < 40
    encoder = Counting()
    embeddings = arrays(cache.embed(encoder, list(members.values()), request=FRAMES))
    assert sum(encoder.batches) <= 40 - len(finished)
    for name, member in members.items():
        expected = log_mel(waveform(tmp_path / "many" / name)).astype(np.float32)
        np.testing.assert_array_equal(embeddings[member], expected)


def packed(tar: Path, files: list[Path]) -> Path:
    with tarfile.open(tar, "w") as archive:
        for file in files:
            archive.add(file, file.name)
    return tar


def test_tar_member_and_file_of_same_content_are_embedded_once(cache, paths, tmp_path):
    members = tar_members(packed(tmp_path / "x.tar", paths))
    encoder = Counting()
    embeddings = arrays(cache.embed(encoder, [*members, *paths], batch_size=4))
    assert sum(encoder.batches) == 10 and len(embeddings) == 20
    for member, path in zip(members, paths, strict=True):
        np.testing.assert_array_equal(embeddings[member], embeddings[path])
        np.testing.assert_array_equal(embeddings[path], encoder.embed([waveform(path)])[0])


def test_errors_of_tar_members_name_tar_and_member(cache, paths, tmp_path):
    (tmp_path / "label.json").write_text("{}")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    members = tar_members(packed(tmp_path / "x.tar", [tmp_path / "label.json", tmp_path / "silent.wav", *paths]))
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[: members[-1].offset + 1000])
    results = cache.embed(LogMel(), members, request=FRAMES)
    errors = {member.name: embedding.error for member, embedding in results if embedding.error}
    assert set(errors) == {"label.json", "silent.wav", "0-009.wav"}
    assert errors["label.json"].startswith("x.tar:label.json: is not audio")
    assert errors["silent.wav"] == "x.tar:silent.wav: is silent, all its samples are zero"
    assert errors["0-009.wav"].startswith("x.tar:0-009.wav: the tar file ends after 1,000 of the")
    (tmp_path / "x.tar").unlink()
    ((_, embedding),) = cache.embed(LogMel(), members[3:4])
    assert embedding.error == "x.tar:0-001.wav: tar file not found"


def test_changed_tar_is_embedded_again(cache, paths, tmp_path):
    tar = packed(tmp_path / "x.tar", paths)
    before = arrays(cache.embed(LogMel(), tar_members(tar)))
    content = bytearray(tar.read_bytes())
    third = tar_members(tar)[3]
    content[third.offset + 1000 : third.offset + 3000] = content[third.offset + 3000 : third.offset + 5000]
    tar.write_bytes(content)
    after = arrays(cache.embed(LogMel(), tar_members(tar)))
    assert [member for member in before if not np.array_equal(before[member], after[member])] == [third]

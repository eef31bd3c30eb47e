"""The embedding cache that workers fill: the embeddings and errors of a run in one process."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from earmark.cli import Invocation, RayOptions
from earmark.cluster import pool
from earmark.cluster.cache import CacheWithout, ClusterCache, _parts, embedding_cache, killed_clips
from earmark.cluster.worker import EncoderFromOptions, Shard, Worker
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError
from earmark.models.encoders.base import EmbeddingError, Encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from tests.cluster.fake_ray import FakeRay, LostError
from tests.models.encoders.sources import clips, save

QUIET = Invocation(Path("probe.py"), quiet=True)


@dataclass(frozen=True)
class Loaded:
    """A source that gives an encoder of this process."""

    encoder: Encoder

    def load(self):
        return self.encoder


@pytest.fixture
def ray(monkeypatch):
    """A stand-in for Ray with real workers on two nodes of one core."""
    fake = FakeRay(Worker, [{"CPU": 1}, {"CPU": 1}])
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def distributed(tmp_path, encoder, name="shared", **options):
    return ClusterCache(tmp_path / name, Loaded(encoder), RayOptions("", **options), QUIET)


def rows(results):
    """{clip: bytes of its embedding, or its error}."""
    return {clip: each.error if each.vector is None else each.vector.tobytes() for clip, each in results}


@pytest.mark.parametrize("request_", [DEFAULT_REQUEST, EmbeddingRequest(frames=True, dtype="float16")])
def test_embed_is_bit_identical_to_one_process(tmp_path, ray, request_):
    paths, encoder = clips(tmp_path / "audio", 11), load_encoder("logmel")
    (tmp_path / "audio/broken.wav").write_bytes(b"RIFF")
    paths += [tmp_path / "audio/broken.wav", tmp_path / "audio/absent.wav", paths[0]]
    here = rows(EmbeddingCache(tmp_path / "alone").embed(encoder, paths, request=request_, batch_size=2))
    there = rows(distributed(tmp_path, encoder).embed(encoder, paths, request=request_, batch_size=2))
    assert there == here
    assert sum(isinstance(each, str) for each in here.values()) == 2
    assert len(ray.made) == 2 and len(ray.killed) == 2


def test_embed_starts_no_worker_if_everything_is_stored(tmp_path, ray, monkeypatch):
    monkeypatch.setattr("earmark.embeddings.content_hashes.MIN_AGE_SECONDS", -1.0)
    paths, encoder = clips(tmp_path / "audio", 4), load_encoder("logmel")
    first = rows(distributed(tmp_path, encoder).embed(encoder, paths))
    ray.made.clear()
    assert rows(distributed(tmp_path, encoder).embed(encoder, paths)) == first
    assert not ray.made


def test_missing_leaves_out_stored_clips_without_reading_audio(tmp_path, ray, monkeypatch):
    monkeypatch.setattr("earmark.embeddings.content_hashes.MIN_AGE_SECONDS", -1.0)
    paths, encoder = clips(tmp_path / "audio", 6), load_encoder("logmel")
    cache = distributed(tmp_path, encoder)
    rows(cache.embed(encoder, paths[:4]))
    monkeypatch.setattr("earmark.embeddings.content_hashes.file_hash", lambda path: pytest.fail("read"))
    assert cache._missing(encoder, [*paths, paths[5]], DEFAULT_REQUEST) == paths[4:]


def test_embed_computes_here_what_was_lost_with_a_node(tmp_path, ray, monkeypatch):
    paths, encoder = clips(tmp_path / "audio", 6), load_encoder("logmel")
    alone = rows(EmbeddingCache(tmp_path / "alone").embed(encoder, paths, batch_size=2))
    fill = ClusterCache.fill

    def fill_and_lose(self, *words, **settings):
        errors = fill(self, *words, **settings)
        self.close()
        next((tmp_path / "shared").glob("logmel*/*.ids")).unlink()
        return errors

    monkeypatch.setattr(ClusterCache, "fill", fill_and_lose)
    assert rows(distributed(tmp_path, encoder).embed(encoder, paths, batch_size=2)) == alone


def test_embed_names_the_clip_that_ends_its_workers_and_embeds_the_others(tmp_path, ray, monkeypatch):
    paths, encoder = clips(tmp_path / "audio", 8), load_encoder("logmel")
    embed = Worker.embed

    def embed_or_end(self, shard):
        if paths[3] in shard.clips:
            raise LostError("killed")
        return embed(self, shard)

    monkeypatch.setattr(Worker, "embed", embed_or_end)
    found = rows(distributed(tmp_path, encoder).embed(encoder, paths, batch_size=2))
    alone = rows(EmbeddingCache(tmp_path / "alone").embed(encoder, paths, batch_size=2))
    error = f"{paths[3].name}: {pool.KILLED}"
    assert found == {**alone, paths[3]: error}
    assert killed_clips({paths[3]: error, paths[4]: "4.wav: is silent"}) == {paths[3]: error}


@pytest.mark.slow
def test_embed_rejects_constant_embeddings_of_all_shards_together(tmp_path, ray):
    constant = save(tmp_path, "same.py", SAME)
    pytest.importorskip("torch")
    paths = clips(tmp_path / "audio", 6)
    encoder = load_encoder(str(constant))
    with pytest.raises(EmbeddingError, match="all 6 clips have identical embeddings"):
        rows(distributed(tmp_path, encoder).embed(encoder, paths, batch_size=2))


SAME = """import torch


class SameEncoder(torch.nn.Module):
    sampling_rate, output_dim, hop_size_in_ms = 16_000, 3, 10

    def forward(self, audio):
        return torch.tensor([1.0, 2.0, 3.0]).expand(len(audio), 5, 3)
"""


def test_embed_passes_a_full_disk_on_and_keeps_what_is_stored(tmp_path, ray, monkeypatch):
    paths, encoder = clips(tmp_path / "audio", 6), load_encoder("logmel")
    from earmark.embeddings import shards

    write, calls = shards._write, []

    def full(file, content, offset):
        calls.append(offset)
        if len(calls) > 8:
            raise OSError(28, "No space left on device")
        write(file, content, offset)

    monkeypatch.setattr(shards, "_write", full)
    with pytest.raises(EarmarkError, match=r"cannot be written: No space left on device\. 4 embeddings are stored"):
        rows(distributed(tmp_path, encoder, ray_actors=1).embed(encoder, paths, batch_size=2))
    monkeypatch.setattr(shards, "_write", write)
    alone = rows(EmbeddingCache(tmp_path / "alone").embed(encoder, paths, batch_size=2))
    assert rows(distributed(tmp_path, encoder).embed(encoder, paths, batch_size=2)) == alone


def test_load_reports_what_cannot_be_loaded(tmp_path, ray):
    settings = pool.WorkerSettings(EncoderFromOptions(EncoderOptions(encoder="nothing.py")), tmp_path, Path.cwd())
    assert "nothing.py" in Worker(settings).load().error
    gone = pool.WorkerSettings(EncoderFromOptions(EncoderOptions(encoder="logmel")), tmp_path, tmp_path / "gone")
    assert "FileNotFoundError" in Worker(gone).load().error


def test_worker_keeps_the_cache_open_from_shard_to_shard(tmp_path, ray, monkeypatch):
    paths = clips(tmp_path / "audio", 4)
    worker = Worker(pool.WorkerSettings(Loaded(load_encoder("logmel")), tmp_path / "shared", Path.cwd()))
    worker.load()
    for path in paths:
        assert worker.embed(Shard((path,), DEFAULT_REQUEST, 2, 1)).embedded == 1
    assert len(list((tmp_path / "shared").glob("logmel*/*.npy"))) == 1
    frames = EmbeddingRequest(frames=True)
    assert worker.embed(Shard((paths[0],), frames, 2, 1)).embedded == 1
    assert len(list((tmp_path / "shared").glob("logmel*/*.npy"))) == 2


def test_cache_without_gives_the_errors_and_embeds_the_rest(tmp_path):
    paths, encoder = clips(tmp_path / "audio", 3), load_encoder("logmel")
    found = rows(CacheWithout(tmp_path / "store", {paths[1]: "no"}).embed(encoder, paths))
    alone = rows(EmbeddingCache(tmp_path / "alone").embed(encoder, paths))
    assert found == {**alone, paths[1]: "no"}


def test_embedding_cache_needs_no_source_without_a_cluster(tmp_path):
    found = embedding_cache(tmp_path, RayOptions(), QUIET, lambda: pytest.fail("made"))
    assert type(found) is EmbeddingCache


@pytest.mark.parametrize(
    ("n", "batch_size", "workers", "sizes"),
    [(10, 4, 2, [4, 4, 2]), (1000, 16, 1, [240] * 4 + [40]), (100_000, 16, 4, [512] * 195 + [160]), (0, 16, 4, [])],
)
def test_parts_are_whole_batches(n, batch_size, workers, sizes):
    numbers = list(range(n))
    parts = list(_parts(numbers, batch_size, workers))
    assert [len(part) for part in parts] == sizes
    assert np.array_equal(np.concatenate([*parts, []]), numbers)

"""Shards of clips on workers that are lost."""

from pathlib import Path

import pytest

from earmark.cluster import pool
from earmark.cluster.pool import MAX_LOSSES, MAX_TRIES, WorkerPool
from earmark.cluster.session import Share
from earmark.cluster.worker import Shard, ShardReport, WorkerReport, WorkerSettings
from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.base import EmbeddingError
from earmark.models.encoders.output import DEFAULT_REQUEST
from tests.cluster.fake_ray import FakeRay, LostError

SETTINGS = WorkerSettings(None, Path("cache"), Path())  # type: ignore[arg-type]
CLIPS = tuple(Path(f"{i}.wav") for i in range(12))


class Worker:
    """Records the clips it gets in `seen`; ends when it meets a deadly one."""

    seen: list[tuple[Path, ...]]
    deadly: frozenset[Path] = frozenset()
    report = WorkerReport("node-a", "1", "model-1")

    def load(self):
        return self.report

    def embed(self, shard):
        self.seen.append(shard.clips)
        if self.deadly & set(shard.clips):
            raise LostError("killed")
        return ShardReport(len(shard.clips), {})


def shards(size, clips=CLIPS, batch_size=2):
    return [Shard(clips[first : first + size], DEFAULT_REQUEST, batch_size, 1) for first in range(0, len(clips), size)]


@pytest.fixture
def cluster(monkeypatch):
    """A stand-in cluster; `start(**changes)` gives a pool whose workers have these attributes."""

    def start(workers=2, nodes=({"CPU": 2},), **changes):
        kind = type("Changed", (Worker,), {"seen": [], **changes})
        fake = FakeRay(lambda settings: kind(), list(nodes))
        monkeypatch.setattr(pool, "ray_module", lambda: fake)
        return WorkerPool(SETTINGS, Share(1, 0.0, workers), "model-1"), fake, kind

    return start


def run(workers, items):
    """{clip: error} of all clips that were finished, in the order of the clips; no clip twice."""
    finished: dict[Path, str] = {}
    for shard, errors in workers.embed(items):
        assert not set(shard.clips) & set(finished)
        finished |= {clip: errors.get(clip, "") for clip in shard.clips}
    return dict(sorted(finished.items(), key=lambda item: CLIPS.index(item[0])))


def test_embed_gives_every_shard_to_one_worker(cluster):
    workers, fake, kind = cluster()
    assert run(workers, shards(4)) == dict.fromkeys(CLIPS, "")
    assert set(kind.seen) == {CLIPS[:4], CLIPS[4:8], CLIPS[8:]} and len(kind.seen) == 3
    assert len(fake.made) == 2


def test_embed_starts_no_more_workers_than_shards(cluster):
    workers, fake, _ = cluster(workers=8)
    run(workers, shards(6))
    assert len(fake.made) == 2


def test_embed_repeats_the_shard_of_a_lost_worker_as_it_was(cluster):
    lost = []

    def embed(self, shard):
        self.seen.append(shard.clips)
        if shard.clips == CLIPS[4:8] and not lost:
            lost.append(shard.clips)
            raise LostError("node lost")
        return ShardReport(len(shard.clips), {})

    workers, fake, kind = cluster(embed=embed)
    assert run(workers, shards(4)) == dict.fromkeys(CLIPS, "")
    assert kind.seen.count(CLIPS[4:8]) == 2 and len(kind.seen) == 4
    assert len(fake.made) == 3 and len(fake.killed) == 1


def test_embed_gives_up_only_the_clip_that_ends_its_workers(cluster):
    workers, _, kind = cluster(deadly=frozenset({CLIPS[5]}))
    finished = run(workers, shards(6))
    assert {clip for clip, error in finished.items() if error} == {CLIPS[5]}
    assert finished[CLIPS[5]] == "5.wav: the worker was killed 3 times on this clip, possibly out of memory"
    # 6 clips twice, then halves of whole batches: 4 clips or 2, then single ones
    assert [len(clips) for clips in kind.seen if CLIPS[5] in clips] == [6, 6, 2, 1, 1]
    assert kind.seen.count((CLIPS[5],)) == MAX_TRIES - 1


def test_embed_stops_if_workers_end_again_and_again(cluster):
    workers, fake, _ = cluster(deadly=frozenset(CLIPS))
    with pytest.raises(EarmarkError, match=r"30 workers .* ended one after the other, possibly out of memory"):
        run(workers, shards(12))
    assert len(fake.killed) == MAX_LOSSES


def test_embed_stops_if_no_node_is_left_with_room(cluster):
    workers, fake, _ = cluster(nodes=[{"CPU": 0}])
    fake.room = 0
    with pytest.raises(EarmarkError, match="No node of the Ray cluster is left"):
        run(workers, shards(4))


def test_embed_does_not_wait_for_a_replacement_that_has_no_room(cluster):
    lost = []

    def embed(self, shard):
        if not lost:
            lost.append(shard.clips)
            raise LostError("node lost")
        return ShardReport(len(shard.clips), {})

    workers, fake, _ = cluster(embed=embed)
    fake.room = 2  # the third worker, a replacement, never starts
    assert run(workers, shards(3)) == dict.fromkeys(CLIPS, "")
    assert len(fake.made) == 3


def test_embed_names_the_node_that_cannot_load_the_model(cluster):
    workers, _, _ = cluster(report=WorkerReport("node-b", "2", error="torch is not installed"))
    with pytest.raises(MissingError, match="Node node-b of the Ray cluster: torch is not installed"):
        run(workers, shards(4))


def test_embed_names_the_node_with_another_model(cluster):
    workers, _, _ = cluster(report=WorkerReport("node-b", "2", "model-2"))
    with pytest.raises(MissingError, match=r"Node node-b .* loads another model: model-2 instead of model-1"):
        run(workers, shards(4))


def test_embed_stops_at_a_full_disk_with_its_message(cluster):
    workers, _, _ = cluster(embed=lambda self, shard: ShardReport(2, {}, stopped="cache cannot be written: full"))
    with pytest.raises(EarmarkError, match="cache cannot be written: full"):
        run(workers, shards(4))


def test_embed_stops_if_the_encoder_fails_on_all_first_clips(cluster):
    workers, _, _ = cluster(embed=lambda self, shard: ShardReport(0, {}, useless="failed on each of the first 64"))
    with pytest.raises(EmbeddingError, match="failed on each of the first 64"):
        run(workers, shards(4))


def test_embed_goes_on_if_only_one_shard_fails_as_a_whole(cluster):
    def embed(self, shard):
        if CLIPS[11] not in shard.clips:
            return ShardReport(len(shard.clips), {})
        if shard.stop_early:
            return ShardReport(0, {}, useless="failed on each of the first 64")
        return ShardReport(0, dict.fromkeys(shard.clips, "failed"))

    workers, _, _ = cluster(embed=embed, workers=1)
    finished = run(workers, shards(4))
    assert finished == dict.fromkeys(CLIPS[:8], "") | dict.fromkeys(CLIPS[8:], "failed")


def test_exit_ends_all_workers(cluster):
    workers, fake, _ = cluster()
    with workers:
        run(workers, shards(4))
    assert len(fake.killed) == len(fake.made) == 2

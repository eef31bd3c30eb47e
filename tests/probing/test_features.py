"""Embeddings as feature rows, independent of the other clips; frame labels; ids of precomputed embeddings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.audio.clips import TarMember
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.encoders.registry import load_encoder
from earmark.probing.data import TaskData
from earmark.probing.features import MAX_SHOWN, ClipEmbedder, Features, candidate_ids
from earmark.probing.task_types import task_type
from earmark.probing.xares import published_tasks
from tests.models.encoders.sources import XARES, clips, save

LOGMEL = load_encoder("logmel")


def embed(encoder, paths, wanted, store, ids=None, **options):
    return ClipEmbedder(encoder, store, **options).embed(paths, wanted, ids)


def frame_labels(task, labels, rows, hop, protocol="strict"):
    return task_type(task).frame_labels(labels, rows, hop, protocol)


def request_of(task, layers=False):
    return task_type(task).embedding_request(layers)


# --- rows ---------------------------------------------------------------------------------------------------

PIECES = [np.array([[1.0, 2]]), np.array([[3.0, 4], [5, 8], [7, 0]]), np.array([[0.0, 1], [2, 1]])]


def test_features_row_indices_and_means():
    rows = Features.from_clips(PIECES)
    assert (rows.clip.tolist(), rows.offsets.tolist()) == ([0, 1, 1, 1, 2, 2], [0, 1, 4, 6])
    assert rows.row_indices(np.array([2, 0])).tolist() == [4, 5, 0]
    assert rows.row_indices(np.array([], dtype=np.int64)).tolist() == []
    assert rows.means().tolist() == [[1, 2], [5, 4], [1, 1]]


def test_frame_labels_from_overlapping_events():
    rows = Features.from_clips([np.zeros((4, 2)), np.zeros((2, 2))])
    events = [[(0.05, 0.2, 1), (0.3, 9.0, 0)], []]
    labels = TaskData([Path("a"), Path("b")], events, ["x", "y"], np.array(["train", "test"]), None, ["a", "b"])
    assert frame_labels(published_tasks()["desed"], labels, rows, hop=0.1).T.tolist() == [
        [0, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0, 0],
    ]
    one_each = published_tasks()["librispeechphoneme"]
    assert frame_labels(one_each, labels, rows, hop=0.1).tolist() == [1, 1, -1, 0, -1, -1]
    between = replace(labels, labels=[[(0.05, 0.15, 1)], [(0.1, 0.2, 0)]])
    published = frame_labels(published_tasks()["desed"], between, rows, 0.1, "xares")
    assert frame_labels(published_tasks()["desed"], between, rows, 0.1).T.tolist()[1] == [1, 1, 0, 0, 0, 0]
    assert published.T.tolist() == [[0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert frame_labels(one_each, between, rows, 0.1, "xares").tolist() == [1, 1, -1, -1, -1, 0]


def test_embedding_request_of_task_types():
    known = published_tasks()
    assert (
        request_of(known["desed"]) == request_of(known["librispeech"]) == EmbeddingRequest(frames=True, dtype="float16")
    )
    assert request_of(known["voxceleb1"], layers=True) == EmbeddingRequest(crop_seconds=6, layers=True)
    assert request_of(known["desed"], layers=True) == EmbeddingRequest(frames=True, dtype="float16")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    return load_encoder(str(save(tmp_path_factory.mktemp("encoder"), "tiny.py", XARES)), device="cpu")


@pytest.mark.parametrize(
    "wanted",
    [EmbeddingRequest(), EmbeddingRequest(crop_seconds=0.2), EmbeddingRequest(frames=True)],
    ids=["mean", "crops", "frames"],
)
def test_embed_rows_independent_of_other_clips(tiny, tmp_path, wanted):
    paths = clips(tmp_path / "clips", 7)

    def features(paths, size):
        store = EmbeddingCache(tmp_path / f"store{size}")
        rows, kept = embed(tiny, paths, wanted, store, batch_size=size)
        assert kept.all()
        return rows

    together, alone, backwards = features(paths, 7), features(paths, 1), features(paths[::-1], 3)
    assert together.offsets.tolist() == alone.offsets.tolist()
    np.testing.assert_allclose(together.x, alone.x, rtol=1e-4, atol=1e-6)
    turned = backwards.row_indices(np.arange(7)[::-1])
    np.testing.assert_allclose(together.x, backwards.x[turned], rtol=1e-4, atol=1e-6)


def test_embed_repeated_clip(tmp_path):
    one, other = clips(tmp_path / "clips", 2)
    features, _ = embed(LOGMEL, [one, other, one], EmbeddingRequest(), EmbeddingCache(tmp_path / "s"), batch_size=2)
    assert features.clip.tolist() == [0, 1, 2]
    assert features.x[0].tolist() == features.x[2].tolist() != features.x[1].tolist()


def test_embed_lists_all_missing_embeddings(tmp_path):
    good = clips(tmp_path / "clips", 2)
    broken = [tmp_path / f"broken{i:02}.wav" for i in range(MAX_SHOWN + 2)]
    for path in broken[1:]:
        path.write_text("no audio")
    soundfile.write(broken[0], np.zeros(0), 16_000)
    with pytest.raises(EarmarkError) as caught:
        embed(LOGMEL, [*good, *broken], EmbeddingRequest(), EmbeddingCache(tmp_path / "s"), batch_size=2)
    first, *lines, advice = str(caught.value).splitlines()
    assert first == f"{len(broken)} clips have no embedding:" and "--allow-missing" in advice
    empty, others = sorted(lines, key=len)
    assert empty.count("broken00.wav") == 1
    assert others.count("broken") == MAX_SHOWN and " and 1 more: " in others and "broken01.wav, broken02.wav" in others


def test_embed_allow_missing_but_not_all(tmp_path):
    good, broken = clips(tmp_path / "clips", 2), tmp_path / "broken.wav"
    broken.write_text("no audio")
    options = {"batch_size": 2, "allow_missing": True}
    rows, kept = embed(
        LOGMEL, [good[0], broken, good[1]], EmbeddingRequest(), EmbeddingCache(tmp_path / "s"), **options
    )
    assert kept.tolist() == [True, False, True]
    assert rows.clip.tolist() == [0, 1]
    with pytest.raises(EarmarkError, match="1 clip has no embedding"):
        embed(LOGMEL, [broken], EmbeddingRequest(), EmbeddingCache(tmp_path / "s"), **options)


def test_precomputed_embeddings_are_per_clip(tmp_path):
    given_ = PrecomputedEmbeddings(
        "mine", "mine-1", {}, 2, {"a.wav": 0, "b": 1}, np.array([[1.0, 2], [3, 4]], np.float32)
    )
    paths = [tmp_path / "b.wav", tmp_path / "a.wav"]
    crops = replace(published_tasks()["voxceleb1"])
    ids = {path: [Path("no/such.wav"), path.relative_to(tmp_path)] for path in paths}
    features, _ = embed(given_, paths, request_of(crops), EmbeddingCache(tmp_path), batch_size=1, ids=ids)
    assert features.x.tolist() == [[3, 4], [1, 2]]
    with pytest.raises(EarmarkError, match="requires an encoder that takes audio"):
        embed(given_, paths, EmbeddingRequest(frames=True), EmbeddingCache(tmp_path), batch_size=1, ids=ids)


def test_candidate_ids_of_tar_members_and_manifest_clips(tmp_path):
    tars = [tmp_path / "data/cremad" / name for name in ("train.tar", "test.tar")]
    members = [
        TarMember(tar, name, 0, 1) for tar, name in zip(tars * 2, ("1.wav", "1.wav", "2.wav", "3.wav"), strict=True)
    ]
    ids = candidate_ids("cremad", TaskData(members, [], [], None, None, []), tmp_path / "data")
    twice = [TarMember(tmp_path / f"data/cremad/{part}/x.tar", "1.wav", 0, 1) for part in "pq"]
    separate = candidate_ids("cremad", TaskData(twice, [], [], None, None, []), tmp_path / "data")
    assert [list(map(str, separate[one])) for one in twice] == [["cremad/p/x.tar:1.wav"], ["cremad/q/x.tar:1.wav"]]
    assert list(map(str, ids[members[0]])) == ["cremad/train.tar:1.wav", "train.tar:1.wav"]  # 1.wav is ambiguous
    assert list(map(str, ids[members[2]])) == ["cremad/train.tar:2.wav", "train.tar:2.wav", "2.wav"]
    clip, elsewhere = tmp_path / "data/mine/a/1.wav", tmp_path / "b/2.wav"
    ids = candidate_ids(
        "mine", TaskData([clip, elsewhere], [], [], None, None, [], ["a/1.wav", "2.wav"]), tmp_path / "data"
    )
    assert list(map(str, ids[clip])) == ["mine/a/1.wav", "a/1.wav"] and list(map(str, ids[elsewhere])) == [
        "mine/2.wav",
        "2.wav",
    ]

"""Which clips train, choose and test; and embeddings of clips as rows, whichever clips were embedded beside them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from earmark.audio.clips import TarMember
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError
from earmark.models.encoders.output import View
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.models.encoders.registry import load_encoder
from earmark.probing.data import TaskData
from earmark.probing.features import (
    SHOWN,
    Rows,
    drawn_folds,
    embedded,
    frame_labels,
    ids_of,
    published_folds,
    strict_folds,
    view_of,
)
from earmark.probing.tasks import tasks
from tests.models.encoders.sources import XARES, clips, save

LOGMEL = load_encoder("logmel")


def data(parts, group=None, folds=False, names=None):
    """Clips of two classes whose splits, or folds, are these."""
    paths = [Path(name) for name in names or (f"{i}.wav" for i in range(len(parts)))]
    groups = list(map(str, group if group is not None else range(len(parts))))
    labels = np.arange(len(parts)) % 2
    column = np.array(parts, dtype=str)
    return TaskData(paths, labels, ["a", "b"], None if folds else column, column if folds else None, groups)


def parts_of(fold):
    return [part.tolist() for part in (fold.train, fold.valid, fold.test)]


# --- splits as published ------------------------------------------------------------------------------------


def test_published_splits_are_taken_as_they_are():
    (fold,) = published_folds(data(["train", "test", "valid", "train"]))
    assert parts_of(fold) == [[0, 3], [2], [1]]


def test_where_nothing_else_is_published_the_test_clips_choose():
    (fold,) = published_folds(data(["train", "test", "test"]))
    assert parts_of(fold) == [[0], [1, 2], [1, 2]]
    assert tasks()["desed"].select_on_test and not tasks()["cremad"].select_on_test


@pytest.mark.parametrize("k", [2, 3, 5])
def test_published_folds_are_left_out_one_by_one_and_choose_their_own_epoch(k):
    found = published_folds(data([i % k for i in range(11)], folds=True))
    assert len(found) == k
    for number, fold in enumerate(found):
        assert fold.number == number
        assert fold.test.tolist() == fold.valid.tolist() == list(range(number, 11, k))
        assert sorted([*fold.train, *fold.test]) == list(range(11))


# --- strict splits ------------------------------------------------------------------------------------------


def test_strict_folds_choose_on_the_next_fold():
    found = strict_folds(data(["a", "b", "c", "a"], folds=True), seed=0)
    assert [parts_of(fold) for fold in found] == [[[2], [1], [0, 3]], [[0, 3], [2], [1]], [[1], [0, 3], [2]]]


def test_numbered_folds_follow_each_other_as_numbers():
    found = strict_folds(data([*range(1, 11)], folds=True), seed=0)
    assert [fold.test.tolist() for fold in found] == [[i] for i in range(10)]
    assert [fold.valid.tolist() for fold in found] == [[(i + 1) % 10] for i in range(10)]
    assert [fold.test.tolist() for fold in published_folds(data([*range(1, 11)], folds=True))] == [
        [i] for i in range(10)
    ]


def test_a_published_validation_split_is_kept():
    (fold,) = strict_folds(data(["train", "test", "valid", "train"]), seed=0)
    assert parts_of(fold) == [[0, 3], [2], [1]]


def test_a_tenth_of_training_is_cut_off_where_there_is_no_validation_split():
    (fold,) = strict_folds(data(["train"] * 50 + ["test"] * 5), seed=0)
    assert (len(fold.train), len(fold.valid), fold.test.tolist()) == (45, 5, list(range(50, 55)))
    seeds = {tuple(strict_folds(data(["train"] * 50 + ["test"]), seed)[0].valid) for seed in range(5)}
    assert len(seeds) == 5


def test_two_folds_cut_validation_off_from_the_other():
    found = strict_folds(data([0, 1] * 20, folds=True), seed=0)
    assert [(len(fold.train), len(fold.valid), len(fold.test)) for fold in found] == [(18, 2, 20)] * 2


@st.composite
def any_data(draw):
    """Splits with or without validation, or 2 to 5 folds; every part is there, and sources have several clips."""
    folds = draw(st.booleans())
    needed = draw(st.sampled_from([["train", "test"], ["train", "valid", "test"]]))
    needed = [str(i) for i in range(draw(st.integers(2, 5)))] if folds else needed
    more = draw(st.lists(st.sampled_from(needed), min_size=0, max_size=30))
    parts = [*needed, *needed, *more]
    group = draw(st.lists(st.integers(0, 6), min_size=len(parts), max_size=len(parts)))
    group[: 2 * len(needed)] = range(100, 100 + 2 * len(needed))  # of each part there are two sources at least
    return data(parts, group, folds)


@given(any_data(), st.integers(0, 5))
def test_no_clip_is_on_two_sides_and_all_test_clips_are_tested_once(task_data, seed):
    found = strict_folds(task_data, seed)
    column = task_data.split if task_data.fold is None else task_data.fold
    tested = np.concatenate([fold.test for fold in found])
    expected = np.flatnonzero(column == "test") if task_data.fold is None else np.arange(len(column))
    assert sorted(tested) == expected.tolist()
    for fold in found:
        train, valid, test = (set(part.tolist()) for part in (fold.train, fold.valid, fold.test))
        assert train and valid and test
        assert len(train | valid | test) == len(train) + len(valid) + len(test) == len(column)
        cut_off = len(found) == 2 if task_data.fold is not None else "valid" not in column
        if cut_off:
            sources = [{task_data.group[i] for i in part} for part in (train, valid)]
            assert not sources[0] & sources[1]
    again = strict_folds(task_data, seed)
    assert [parts_of(fold) for fold in again] == [parts_of(fold) for fold in found]


def test_training_on_the_test_clips_is_left_to_the_published_recipe():
    twice = data(["train", "train", "test", "test"], names=["a.wav", "b.wav", "a.wav", "b.wav"])
    assert parts_of(published_folds(twice)[0]) == [[0, 1], [2, 3], [2, 3]]
    with pytest.raises(ValueError, match="all training clips are test clips"):
        strict_folds(twice, seed=0)
    some = data(["train"] * 4 + ["test"], names=["a.wav", "b.wav", "c.wav", "d.wav", "a.wav"])
    (fold,) = strict_folds(some, seed=0)
    assert sorted([*fold.train, *fold.valid]) == [1, 2, 3]


def test_one_source_cannot_be_divided():
    with pytest.raises(ValueError, match="all training clips have one source"):
        strict_folds(data(["train", "train", "test"], group=["x", "x", "y"]), seed=0)


# --- few shots ----------------------------------------------------------------------------------------------


def test_draws_take_as_many_clips_of_each_class_from_training_alone():
    task_data = data(["train"] * 20 + ["valid"] * 2 + ["test"] * 4)
    (fold,) = strict_folds(task_data, 0)
    labels = np.asarray(task_data.labels)
    found = drawn_folds(labels, fold, shots=3, draws=6, seed=1)
    assert [draw.number for draw in found] == list(range(6))
    for draw in found:
        assert np.bincount(labels[draw.train]).tolist() == [3, 3]
        assert set(draw.train) <= set(fold.train) and len(set(draw.train)) == 6
        assert draw.valid is fold.valid and draw.test is fold.test
    assert len({tuple(draw.train) for draw in found}) == 6
    again = drawn_folds(labels, fold, shots=3, draws=2, seed=1)
    assert [draw.train.tolist() for draw in again] == [draw.train.tolist() for draw in found[:2]]
    assert drawn_folds(labels, fold, 3, 1, seed=2)[0].train.tolist() != found[0].train.tolist()


def test_more_shots_than_a_class_has():
    (fold,) = strict_folds(data(["train"] * 6 + ["valid", "test"]), 0)
    with pytest.raises(ValueError, match="4 shots: a class has 3 training clips only"):
        drawn_folds(np.arange(8) % 2, fold, shots=4, draws=1, seed=0)


# --- rows ---------------------------------------------------------------------------------------------------

PIECES = [np.array([[1.0, 2]]), np.array([[3.0, 4], [5, 8], [7, 0]]), np.array([[0.0, 1], [2, 1]])]


def test_rows_of_clips_by_hand():
    rows = Rows.of(PIECES)
    assert (rows.clip.tolist(), rows.offsets.tolist()) == ([0, 1, 1, 1, 2, 2], [0, 1, 4, 6])
    assert rows.of_clips(np.array([2, 0])).tolist() == [4, 5, 0]
    assert rows.of_clips(np.array([], dtype=np.int64)).tolist() == []
    assert rows.means().tolist() == [[1, 2], [5, 4], [1, 1]]


def test_frames_are_labelled_by_the_events_that_overlap_them():
    rows = Rows.of([np.zeros((4, 2)), np.zeros((2, 2))])
    events = [[(0.05, 0.2, 1), (0.3, 9.0, 0)], []]
    labels = TaskData([Path("a"), Path("b")], events, ["x", "y"], np.array(["train", "test"]), None, ["a", "b"])
    assert frame_labels(tasks()["desed"], labels, rows, hop=0.1).T.tolist() == [[0, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    one_each = tasks()["librispeechphoneme"]
    assert frame_labels(one_each, labels, rows, hop=0.1).tolist() == [1, 1, -1, 0, -1, -1]
    between = replace(labels, labels=[[(0.05, 0.15, 1)], [(0.1, 0.2, 0)]])
    published = frame_labels(tasks()["desed"], between, rows, 0.1, "xares")
    assert frame_labels(tasks()["desed"], between, rows, 0.1).T.tolist()[1] == [1, 1, 0, 0, 0, 0]
    assert published.T.tolist() == [[0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert frame_labels(one_each, between, rows, 0.1, "xares").tolist() == [1, 1, -1, -1, -1, 0]


def test_views_are_what_task_types_need():
    known = tasks()
    assert view_of(known["desed"]) == view_of(known["librispeech"]) == View(frames=True, dtype="float16")
    assert view_of(known["voxceleb1"], layers=True) == View(crop_seconds=6, layers=True)
    assert view_of(known["desed"], layers=True) == View(frames=True, dtype="float16")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    return load_encoder(str(save(tmp_path_factory.mktemp("encoder"), "tiny.py", XARES)), device="cpu")


@pytest.mark.parametrize("view", [View(), View(crop_seconds=0.2), View(frames=True)], ids=["mean", "crops", "frames"])
def test_a_clips_rows_do_not_depend_on_its_neighbours(tiny, tmp_path, view):
    paths = clips(tmp_path / "clips", 7)

    def found(paths, size):
        store = EmbeddingStore(tmp_path / f"store{size}")
        rows, kept = embedded(tiny, paths, view, store, batch_size=size)
        assert kept.all()
        return rows

    together, alone, backwards = found(paths, 7), found(paths, 1), found(paths[::-1], 3)
    assert together.offsets.tolist() == alone.offsets.tolist()
    np.testing.assert_allclose(together.x, alone.x, rtol=1e-4, atol=1e-6)
    turned = backwards.of_clips(np.arange(7)[::-1])
    np.testing.assert_allclose(together.x, backwards.x[turned], rtol=1e-4, atol=1e-6)


def test_a_clip_that_is_there_twice_has_its_rows_in_both_places(tmp_path):
    one, other = clips(tmp_path / "clips", 2)
    found, _ = embedded(LOGMEL, [one, other, one], View(), EmbeddingStore(tmp_path / "s"), batch_size=2)
    assert found.clip.tolist() == [0, 1, 2]
    assert found.x[0].tolist() == found.x[2].tolist() != found.x[1].tolist()


def test_all_clips_without_an_embedding_are_told_at_once(tmp_path):
    good = clips(tmp_path / "clips", 2)
    broken = [tmp_path / f"broken{i:02}.wav" for i in range(SHOWN + 2)]
    for path in broken[1:]:
        path.write_text("no audio")
    soundfile.write(broken[0], np.zeros(0), 16_000)
    with pytest.raises(EarmarkError) as caught:
        embedded(LOGMEL, [*good, *broken], View(), EmbeddingStore(tmp_path / "s"), batch_size=2)
    first, *told, advice = str(caught.value).splitlines()
    assert first == f"{len(broken)} clips have no embedding:" and "--allow-missing" in advice
    empty, others = sorted(told, key=len)
    assert empty.count("broken00.wav") == 1
    assert others.count("broken") == SHOWN and " and 1 more: " in others and "broken01.wav, broken02.wav" in others


def test_clips_without_an_embedding_may_be_left_out_but_not_all(tmp_path):
    good, broken = clips(tmp_path / "clips", 2), tmp_path / "broken.wav"
    broken.write_text("no audio")
    how = {"batch_size": 2, "allow_missing": True}
    rows, kept = embedded(LOGMEL, [good[0], broken, good[1]], View(), EmbeddingStore(tmp_path / "s"), **how)
    assert kept.tolist() == [True, False, True]
    assert rows.clip.tolist() == [0, 1]
    with pytest.raises(EarmarkError, match="1 clip has no embedding"):
        embedded(LOGMEL, [broken], View(), EmbeddingStore(tmp_path / "s"), **how)


def test_embeddings_made_elsewhere_are_one_for_a_clip_and_have_no_frames(tmp_path):
    given_ = GivenEmbeddings("mine", "mine-1", {}, 2, {"a.wav": 0, "b": 1}, np.array([[1.0, 2], [3, 4]], np.float32))
    paths = [tmp_path / "b.wav", tmp_path / "a.wav"]
    crops = replace(tasks()["voxceleb1"])
    ids = {path: [Path("no/such.wav"), path.relative_to(tmp_path)] for path in paths}
    found, _ = embedded(given_, paths, view_of(crops), EmbeddingStore(tmp_path), batch_size=1, ids=ids)
    assert found.x.tolist() == [[3, 4], [1, 2]]
    with pytest.raises(EarmarkError, match="need an encoder that hears the audio"):
        embedded(given_, paths, View(frames=True), EmbeddingStore(tmp_path), batch_size=1, ids=ids)


def test_the_ids_of_a_tars_member_and_of_a_manifests_clip(tmp_path):
    tars = [tmp_path / "data/cremad" / name for name in ("train.tar", "test.tar")]
    members = [
        TarMember(tar, name, 0, 1) for tar, name in zip(tars * 2, ("1.wav", "1.wav", "2.wav", "3.wav"), strict=True)
    ]
    of = ids_of("cremad", TaskData(members, [], [], None, None, []), tmp_path / "data")
    twice = [TarMember(tmp_path / f"data/cremad/{part}/x.tar", "1.wav", 0, 1) for part in "pq"]
    apart = ids_of("cremad", TaskData(twice, [], [], None, None, []), tmp_path / "data")
    assert [list(map(str, apart[one])) for one in twice] == [["cremad/p/x.tar:1.wav"], ["cremad/q/x.tar:1.wav"]]
    assert list(map(str, of[members[0]])) == ["cremad/train.tar:1.wav", "train.tar:1.wav"]  # 1.wav might be the other
    assert list(map(str, of[members[2]])) == ["cremad/train.tar:2.wav", "train.tar:2.wav", "2.wav"]
    clip, elsewhere = tmp_path / "data/mine/a/1.wav", tmp_path / "b/2.wav"
    of = ids_of("mine", TaskData([clip, elsewhere], [], [], None, None, [], ["a/1.wav", "2.wav"]), tmp_path / "data")
    assert list(map(str, of[clip])) == ["mine/a/1.wav", "a/1.wav"] and list(map(str, of[elsewhere])) == [
        "mine/2.wav",
        "2.wav",
    ]


@pytest.mark.parametrize("sizes", [[90, *[1] * 10], [60, 40], [50, 50], [7, 8, 85], [1, 99]])
def test_validation_never_takes_much_more_than_a_tenth_but_for_sources_that_are_larger(sizes):
    sources = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(12):
        (fold,) = strict_folds(data(["train"] * len(sources) + ["test"], group=[*sources, -1]), seed)
        assert 1 <= len(fold.valid) <= max(11, min(sizes)) and not set(sources[fold.valid]) & set(sources[fold.train])


@given(seed=st.integers(0, 50))
def test_the_last_source_of_a_class_stays_in_training(seed):
    labels = np.array([0] * 10 + [1] * 9 + [2] + [0, 1, 2, 0])
    found = replace(data(["train"] * 20 + ["test"] * 4), labels=labels, classes=["a", "b", "c"])
    (fold,) = strict_folds(found, seed)
    assert set(labels[fold.train]) == {0, 1, 2} and len(fold.valid)

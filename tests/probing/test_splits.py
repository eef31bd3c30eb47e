"""Training, validation and test clips of both recipes, and few-shot draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.probing.data import TaskData
from earmark.probing.splits import few_shot_folds, published_folds, strict_folds
from earmark.probing.xares import published_tasks


def data(parts, group=None, folds=False, names=None):
    """Clips of two classes with these splits or folds."""
    paths = [Path(name) for name in names or (f"{i}.wav" for i in range(len(parts)))]
    groups = list(map(str, group if group is not None else range(len(parts))))
    labels = np.arange(len(parts)) % 2
    column = np.array(parts, dtype=str)
    return TaskData(paths, labels, ["a", "b"], None if folds else column, column if folds else None, groups)


def parts_of(fold):
    return [part.tolist() for part in (fold.train, fold.valid, fold.test)]


# --- splits as published ------------------------------------------------------------------------------------


def test_published_folds_keep_given_splits():
    (fold,) = published_folds(data(["train", "test", "valid", "train"]))
    assert parts_of(fold) == [[0, 3], [2], [1]]


def test_published_folds_select_on_test_without_validation():
    (fold,) = published_folds(data(["train", "test", "test"]))
    assert parts_of(fold) == [[0], [1, 2], [1, 2]]
    assert published_tasks()["desed"].select_on_test and not published_tasks()["cremad"].select_on_test


@pytest.mark.parametrize("k", [2, 3, 5])
def test_published_folds_select_on_held_out_fold(k):
    result = published_folds(data([i % k for i in range(11)], folds=True))
    assert len(result) == k
    for number, fold in enumerate(result):
        assert fold.number == number
        assert fold.test.tolist() == fold.valid.tolist() == list(range(number, 11, k))
        assert sorted([*fold.train, *fold.test]) == list(range(11))


# --- strict splits ------------------------------------------------------------------------------------------


def test_strict_folds_validate_on_next_fold():
    result = strict_folds(data(["a", "b", "c", "a"], folds=True), seed=0)
    assert [parts_of(fold) for fold in result] == [[[2], [1], [0, 3]], [[0, 3], [2], [1]], [[1], [0, 3], [2]]]


def test_strict_folds_sort_numbers_numerically():
    result = strict_folds(data([*range(1, 11)], folds=True), seed=0)
    assert [fold.test.tolist() for fold in result] == [[i] for i in range(10)]
    assert [fold.valid.tolist() for fold in result] == [[(i + 1) % 10] for i in range(10)]
    assert [fold.test.tolist() for fold in published_folds(data([*range(1, 11)], folds=True))] == [
        [i] for i in range(10)
    ]


def test_strict_folds_keep_given_validation():
    (fold,) = strict_folds(data(["train", "test", "valid", "train"]), seed=0)
    assert parts_of(fold) == [[0, 3], [2], [1]]


def test_strict_folds_hold_out_a_tenth():
    (fold,) = strict_folds(data(["train"] * 50 + ["test"] * 5), seed=0)
    assert (len(fold.train), len(fold.valid), fold.test.tolist()) == (45, 5, list(range(50, 55)))
    seeds = {tuple(strict_folds(data(["train"] * 50 + ["test"]), seed)[0].valid) for seed in range(5)}
    assert len(seeds) == 5


def test_strict_folds_of_two_folds():
    result = strict_folds(data([0, 1] * 20, folds=True), seed=0)
    assert [(len(fold.train), len(fold.valid), len(fold.test)) for fold in result] == [(18, 2, 20)] * 2


@st.composite
def any_data(draw):
    """Splits with or without validation, or 2 to 5 folds; no part is empty, and sources have several clips."""
    folds = draw(st.booleans())
    needed = draw(st.sampled_from([["train", "test"], ["train", "valid", "test"]]))
    needed = [str(i) for i in range(draw(st.integers(2, 5)))] if folds else needed
    more = draw(st.lists(st.sampled_from(needed), min_size=0, max_size=30))
    parts = [*needed, *needed, *more]
    group = draw(st.lists(st.integers(0, 6), min_size=len(parts), max_size=len(parts)))
    group[: 2 * len(needed)] = range(100, 100 + 2 * len(needed))  # at least two sources in each part
    return data(parts, group, folds)


@given(any_data(), st.integers(0, 5))
def test_strict_folds_are_disjoint_and_complete(task_data, seed):
    result = strict_folds(task_data, seed)
    column = task_data.split if task_data.fold is None else task_data.fold
    tested = np.concatenate([fold.test for fold in result])
    expected = np.flatnonzero(column == "test") if task_data.fold is None else np.arange(len(column))
    assert sorted(tested) == expected.tolist()
    for fold in result:
        train, valid, test = (set(part.tolist()) for part in (fold.train, fold.valid, fold.test))
        assert train and valid and test
        assert len(train | valid | test) == len(train) + len(valid) + len(test) == len(column)
        cut_off = len(result) == 2 if task_data.fold is not None else "valid" not in column
        if cut_off:
            sources = [{task_data.group[i] for i in part} for part in (train, valid)]
            assert not sources[0] & sources[1]
    again = strict_folds(task_data, seed)
    assert [parts_of(fold) for fold in again] == [parts_of(fold) for fold in result]


def test_strict_folds_exclude_test_clips_from_training():
    twice = data(["train", "train", "test", "test"], names=["a.wav", "b.wav", "a.wav", "b.wav"])
    assert parts_of(published_folds(twice)[0]) == [[0, 1], [2, 3], [2, 3]]
    with pytest.raises(ValueError, match="all training clips are also test clips"):
        strict_folds(twice, seed=0)
    some = data(["train"] * 4 + ["test"], names=["a.wav", "b.wav", "c.wav", "d.wav", "a.wav"])
    (fold,) = strict_folds(some, seed=0)
    assert sorted([*fold.train, *fold.valid]) == [1, 2, 3]


def test_hold_out_validation_rejects_single_source():
    with pytest.raises(ValueError, match="all training clips have the same source"):
        strict_folds(data(["train", "train", "test"], group=["x", "x", "y"]), seed=0)


# --- few-shot ------------------------------------------------------------------------------------------------


def test_few_shot_folds_draw_equally_from_training():
    task_data = data(["train"] * 20 + ["valid"] * 2 + ["test"] * 4)
    (fold,) = strict_folds(task_data, 0)
    labels = np.asarray(task_data.labels)
    result = few_shot_folds(labels, fold, shots=3, draws=6, seed=1)
    assert [draw.number for draw in result] == list(range(6))
    for draw in result:
        assert np.bincount(labels[draw.train]).tolist() == [3, 3]
        assert set(draw.train) <= set(fold.train) and len(set(draw.train)) == 6
        assert draw.valid is fold.valid and draw.test is fold.test
    assert len({tuple(draw.train) for draw in result}) == 6
    again = few_shot_folds(labels, fold, shots=3, draws=2, seed=1)
    assert [draw.train.tolist() for draw in again] == [draw.train.tolist() for draw in result[:2]]
    assert few_shot_folds(labels, fold, 3, 1, seed=2)[0].train.tolist() != result[0].train.tolist()


def test_few_shot_folds_reject_too_many_shots():
    (fold,) = strict_folds(data(["train"] * 6 + ["valid", "test"]), 0)
    with pytest.raises(ValueError, match="4 shots: a class has only 3 training clips"):
        few_shot_folds(np.arange(8) % 2, fold, shots=4, draws=1, seed=0)


@pytest.mark.parametrize("sizes", [[90, *[1] * 10], [60, 40], [50, 50], [7, 8, 85], [1, 99]])
def test_hold_out_validation_size(sizes):
    sources = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(12):
        (fold,) = strict_folds(data(["train"] * len(sources) + ["test"], group=[*sources, -1]), seed)
        assert 1 <= len(fold.valid) <= max(11, min(sizes)) and not set(sources[fold.valid]) & set(sources[fold.train])


@given(seed=st.integers(0, 50))
def test_hold_out_validation_keeps_last_source_of_class(seed):
    labels = np.array([0] * 10 + [1] * 9 + [2] + [0, 1, 2, 0])
    result = replace(data(["train"] * 20 + ["test"] * 4), labels=labels, classes=["a", "b", "c"])
    (fold,) = strict_folds(result, seed)
    assert set(labels[fold.train]) == {0, 1, 2} and len(fold.valid)

"""Source overlap and source-disjoint splits, by hand and by property."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.probing.data import TaskData
from earmark.probing.sources import EXCLUDED, SourceOverlap, assign_sources, make_source_disjoint, source_overlap
from earmark.probing.splits import require_training_classes, strict_folds


def data(parts, group, labels=None, folds=False):
    """Clips with these splits or folds."""
    labels = np.arange(len(parts)) % 2 if labels is None else np.asarray(labels)
    paths = [Path(f"{i}.wav") for i in range(len(parts))]
    column, names = np.array(parts, dtype=str), [f"c{i}" for i in range(int(labels.max()) + 1)]
    return TaskData(paths, labels, names, None if folds else column, column if folds else None, list(map(str, group)))


def sides(result):
    """{source: its splits or folds}."""
    parts = result.split if result.fold is None else result.fold
    of: dict[str, set[str]] = {}
    for source, part in zip(result.group, parts.tolist(), strict=True):
        of.setdefault(source, set()).add(part)
    return {source: own - {EXCLUDED} for source, own in of.items()}


# --- counts -------------------------------------------------------------------------------------------------


def test_source_overlap_of_folds():
    assert source_overlap(data([0, 1, 1, 2, 0], "aabcc", folds=True)) == SourceOverlap("folds", 3, 2, 5, 4)
    assert source_overlap(data([0, 0, 1, 2, 2], "aabcc", folds=True)) is None


def test_source_overlap_of_splits():
    shared = data(["train", "train", "valid", "test", "test", "test"], "abcacd")
    assert source_overlap(shared) == SourceOverlap("splits", 4, 2, 3, 1)  # c is in valid and test only
    assert source_overlap(data(["train", "train", "test"], "aab")) is None


def test_source_overlap_ignores_training_clips_in_test():
    twice = data(["train", "train", "test"], "aba")
    twice = replace(twice, clips=[Path("a.wav"), Path("b.wav"), Path("a.wav")])
    assert source_overlap(twice) is None


# --- splits -------------------------------------------------------------------------------------------------


def test_make_source_disjoint_drops_shared_sources():
    parts = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    result = make_source_disjoint(
        data(parts, "aabbccddefae"), seed=0
    )  # test sources: a is also in training, e in validation
    assert result.data.split.tolist() == [*["", ""], *["train"] * 6, "", "valid", "test", "test"]
    assert result.n_excluded == 3 and result.description.startswith("given test clips; their sources are excluded from")
    assert source_overlap(result.data) is None


def test_make_source_disjoint_resplits_training_and_validation():
    parts = ["train", "valid"] * 12 + ["test"] * 4
    group = [i // 2 for i in range(24)] + [90, 91, 92, 93]
    labels = [i // 2 % 2 for i in range(28)]
    result = make_source_disjoint(data(parts, group, labels), seed=0)
    assert (
        result.data.split[24:].tolist() == ["test"] * 4
        and "the other sources reassigned to training and validation" in result.description
    )
    assert Counter(result.data.split.tolist()) == {"train": 12, "valid": 12, "test": 4}
    assert result.n_excluded == 0 and source_overlap(result.data) is None


def test_make_source_disjoint_resplits_all():
    parts = (["train"] * 6 + ["valid"] * 2 + ["test"] * 2) * 8
    half = make_source_disjoint(data(parts, [i // 10 for i in range(80)]), seed=0)
    assert half.description.startswith("sources reassigned to splits")
    counts = Counter(half.data.split.tolist())  # 60, 20 and 20 % of eight sources with ten clips each
    assert counts["train"] == 50 and sorted(counts.values()) == [10, 20, 50]
    parts, group = ["train"] * 10 + ["test"] * 6, [0, 0, *range(1, 9), 0, *range(20, 25)]
    lost = make_source_disjoint(
        data(parts, group, [1, 1, *[0] * 8, 1, *[0] * 5]), seed=0
    )  # class 1 occurs in source 0 only
    assert lost.description.startswith("sources reassigned to splits") and source_overlap(lost.data) is None


def test_make_source_disjoint_excluded_clips_are_unused():
    parts = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    (fold,) = strict_folds(make_source_disjoint(data(parts, "aabbccddefae"), seed=0).data, seed=0)
    assert [part.tolist() for part in (fold.train, fold.valid, fold.test)] == [[2, 3, 4, 5, 6, 7], [9], [10, 11]]


# --- folds --------------------------------------------------------------------------------------------------


@st.composite
def sources(draw):
    """Clips of sources with one class each, in overlapping folds or splits."""
    folds = draw(st.booleans())
    names = [str(i) for i in range(draw(st.integers(2, 5)))] if folds else ["train", "valid", "test"]
    n = draw(st.integers(max(3, len(names)), 30))
    sizes = draw(st.lists(st.integers(1, 6), min_size=n, max_size=n))
    group = np.repeat(np.arange(n), sizes)
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    parts = [*names, *rng.choice(names, len(group) - len(names))]
    return data(parts, group, rng.integers(0, 2, n)[group], folds)


@given(sources(), st.integers(0, 5))
def test_make_source_disjoint_property(task_data, seed):
    parts = task_data.split if task_data.fold is None else task_data.fold
    result = make_source_disjoint(task_data, seed)
    assert all(len(own) <= 1 for own in sides(result.data).values())
    assert set().union(*sides(result.data).values()) == set(parts.tolist())
    assert source_overlap(result.data) is None
    if task_data.fold is not None:
        assert result.n_excluded == 0 and result.data.split is None
    again = make_source_disjoint(task_data, seed).data
    assert sides(again) == sides(result.data)
    assert result.data.group == task_data.group and result.data.labels is task_data.labels


def test_assign_sources_balances_folds():
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 12, 120)
    group = np.repeat(np.arange(120), sizes)
    labels = rng.integers(0, 4, 120)[group]
    result = make_source_disjoint(data(rng.integers(0, 5, len(group)), group, labels, folds=True), seed=0).data
    for code in (None, 0, 1, 2, 3):
        kept = np.ones(len(group), bool) if code is None else labels == code
        counts = np.array(list(Counter(result.fold[kept].tolist()).values()))
        assert len(counts) == 5 and np.ptp(counts) <= 0.1 * counts.mean() + 3
    seeds = {tuple(make_source_disjoint(result, seed).data.fold) for seed in range(4)}
    assert len(seeds) == 4


def test_assign_sources_spreads_rare_class():
    group = np.repeat(np.arange(12), 3)
    labels = np.repeat([0, 0, 0, *[1] * 9], 3)
    result = make_source_disjoint(data(np.arange(36) % 3, group, labels, folds=True), seed=0).data
    assert set(result.fold[labels == 0]) == {"0", "1", "2"}
    require_training_classes(result, strict_folds(result, 0))


def test_assign_sources_largest_first_and_no_empty_part():
    result = assign_sources(
        data([0] * 12, [0] * 9 + [1, 2, 3], folds=True), np.arange(12), {"a": 0.9, "b": 0.05, "c": 0.05}, 0
    )
    assert result[:9].tolist() == ["a"] * 9 and set(result.tolist()) == {"a", "b", "c"}


def test_assign_sources_rejects_too_few_sources():
    with pytest.raises(ValueError, match="2 sources are too few for the parts 0, 1, 2; each needs at least one"):
        make_source_disjoint(data([0, 1, 2, 0], "aabb", folds=True), seed=0)


def test_assign_sources_without_classes_balances_size():
    numbers = replace(data([0, 1] * 10, [i // 4 for i in range(20)], folds=True), classes=[], labels=np.zeros((20, 2)))
    assert sorted(Counter(make_source_disjoint(numbers, seed=0).data.fold.tolist()).values()) == [8, 12]

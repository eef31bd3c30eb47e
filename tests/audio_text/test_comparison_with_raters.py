"""Model and raters on the same ratings: loops over pairs of raters, missing ratings, faults."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import balanced_accuracy_score, f1_score

import earmark.audio_text.comparison_with_raters as module
from earmark.audio_text.comparison_with_raters import (
    ALL_EQUAL,
    NO_PAIR,
    TOO_MANY_PAIRS,
    Ratings,
    ScoredItems,
    answers_against_single_raters,
    numbers_against_single_raters,
)
from earmark.metrics.resample import Resample

ITEMS, RATERS = 30, 5


def some_ratings(rng: np.random.Generator, levels: int) -> tuple[Ratings, np.ndarray]:
    """Ratings of 30 items by five raters, a fifth missing; and the table, NaN where missing."""
    truth = rng.integers(0, levels, (ITEMS, 1))
    table = np.where(rng.random((ITEMS, RATERS)) < 0.6, truth, rng.integers(0, levels, (ITEMS, RATERS))).astype(float)
    table[rng.random((ITEMS, RATERS)) < 0.2] = np.nan
    item, rater = np.nonzero(np.isfinite(table))
    return Ratings(item, rater, table[item, rater]), table


def scored(x: np.ndarray) -> ScoredItems:
    return ScoredItems(x, np.full(len(x), np.nan), np.zeros(len(x), dtype=np.int64), np.arange(len(x)).astype(str))


@pytest.mark.parametrize("seed", range(3))
def test_numbers_of_pairs_equals_a_loop(seed: int):
    rng = np.random.default_rng(seed)
    ratings, table = some_ratings(rng, 5)
    x = np.nan_to_num(np.nanmean(table, axis=1)) + rng.normal(size=ITEMS)
    x[3] = np.nan  # the model failed on an item
    found = numbers_against_single_raters(ratings, scored(x), 0, rng)
    own = {"spearman": [], "pearson": []}
    n = 0
    for a, b in permutations(range(RATERS), 2):
        both = np.isfinite(table[:, a]) & np.isfinite(table[:, b]) & np.isfinite(x)
        n += both.sum()
        for name, function in (("spearman", spearmanr), ("pearson", pearsonr)):
            own[name].append([function(v[both], table[both, b])[0] for v in (x, table[:, a])])
    for name, values in own.items():
        parity = found.by_name[f"mean_rating_{name}"]
        model, person = np.mean(values, axis=0)
        assert (parity.model.value, parity.person.value) == pytest.approx((model, person))
        assert (parity.difference.value, parity.n) == pytest.approx((model - person, n))
    assert (found.groups, found.groups_left_out) == (20, 0)


@pytest.mark.parametrize("seed", range(3))
def test_answers_of_pairs_equals_a_loop(seed: int):
    rng = np.random.default_rng(seed)
    ratings, table = some_ratings(rng, 3)
    answers = rng.integers(-1, 3, ITEMS)
    found = answers_against_single_raters(ratings, answers, 3, np.arange(ITEMS).astype(str), 0, rng).by_name
    model, person, reference = [], [], []
    for answer, row in zip(answers, table, strict=True):
        for a, b in permutations(row[np.isfinite(row)], 2):
            model.append(answer)
            person.append(a)
            reference.append(b)
    for place, own in (("model", model), ("person", person)):
        expected = {
            "accuracy": np.mean(np.array(own) == np.array(reference)),
            "macro_f1": f1_score(reference, own, labels=[0, 1, 2], average="macro"),
        }
        for name, value in expected.items():
            assert getattr(found[f"zero_shot_{name}"], place).value == pytest.approx(value)
    assert found["zero_shot_balanced_accuracy"].person.value == pytest.approx(
        balanced_accuracy_score(reference, person)
    )
    assert found["zero_shot_accuracy"].n == found["zero_shot_accuracy"].model.n == len(reference)


def test_numbers_with_new_raters_keeps_values():
    ratings, table = some_ratings(np.random.default_rng(0), 5)
    x = np.nan_to_num(np.nanmean(table, axis=1))

    def compared(resample: Resample):
        rng = np.random.default_rng(1)
        return numbers_against_single_raters(ratings, scored(x), 100, rng, resample).by_name["mean_rating_pearson"]

    clips, both = compared("clips"), compared("both")
    assert (both.model.value, both.person.value) == (clips.model.value, clips.person.value)
    assert both.person.high - both.person.low >= clips.person.high - clips.person.low
    assert "only 5 raters" in (both.person.note or "")
    assert clips.person.note is None


def test_answers_with_new_raters_are_wider_where_raters_differ():
    # Half of the raters know every class, half guess: other raters would give another rate.
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (200, 1))
    table = np.where(np.arange(8) < 4, truth, rng.integers(0, 3, (200, 8)))
    ratings = Ratings(np.repeat(np.arange(200), 8), np.tile(np.arange(8), 200), table.ravel().astype(float))
    clips = np.arange(200).astype(str)

    def width(resample: Resample) -> float:
        found = answers_against_single_raters(ratings, truth[:, 0], 3, clips, 100, np.random.default_rng(0), resample)
        person = found.by_name["zero_shot_accuracy"].person
        return person.high - person.low

    assert width("both") > 3 * width("clips")


def test_numbers_of_many_pairs_has_no_ranks(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    ratings, table = some_ratings(rng, 5)
    x = scored(np.nan_to_num(np.nanmean(table, axis=1)))
    every = numbers_against_single_raters(ratings, x, 0, rng)
    monkeypatch.setattr(module, "MOST_RANKED_PAIRS", 10)
    found = numbers_against_single_raters(ratings, x, 0, rng)
    assert found.by_name == {"mean_rating_pearson": every.by_name["mean_rating_pearson"]}
    assert found.groups == every.groups


def test_numbers_says_why_there_is_nothing(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    ratings, _ = some_ratings(rng, 5)
    assert numbers_against_single_raters(ratings, scored(np.full(ITEMS, 0.3)), 0, rng).why == ALL_EQUAL
    alone = Ratings(np.arange(ITEMS), np.zeros(ITEMS, dtype=int), np.arange(ITEMS) % 5.0)
    assert numbers_against_single_raters(alone, scored(np.arange(ITEMS) / 7), 0, rng).why == NO_PAIR
    monkeypatch.setattr(module, "MOST_PAIRS", 10)
    assert numbers_against_single_raters(ratings, scored(np.arange(ITEMS) / 7), 0, rng).why == TOO_MANY_PAIRS

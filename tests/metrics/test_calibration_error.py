"""Calibration error: by hand, unbiased for calibrated and miscalibrated classifiers, coverage of its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics.bootstrap import Bootstrap, Units, estimate_from_replicates
from earmark.metrics.calibration_error import MAX_BINS, confidences, equal_size_bins, squared_calibration_error
from earmark.metrics.intervals import DIFFERENCE


def sources(units, replicates=0):
    return Bootstrap.from_units(units, replicates, np.random.default_rng(3))


def test_confidences_are_softmax_maxima():
    logits = np.log([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    assert confidences(logits + 5) == pytest.approx([0.5, 0.8])
    assert confidences([[1000.0, 0.0]]).tolist() == [1.0]


def test_two_bins_by_hand():
    """Gaps 0.5 − 0.75 and 0.9 − 0.5; variances of the mean of 20 items, divided by 19 instead of 20."""
    confidence = np.repeat([0.5, 0.9], 20)
    correct = np.tile([1, 1, 1, 0], 5).tolist() + [1, 0] * 10
    expected = (0.25**2 - 0.75 * 0.25 / 19 + 0.4**2 - 0.5 * 0.5 / 19) / 2
    assert squared_calibration_error(confidence, correct, sources(np.arange(40)))[0] == pytest.approx(expected)


def test_items_of_one_source_count_as_one():
    """Ten copies of each item: the bin is the same, and so is the variance of its gap."""
    confidence, correct = np.full(10, 0.9), np.arange(10) < 5
    alone = squared_calibration_error(confidence, correct, sources(np.arange(10)))[0]
    copied = squared_calibration_error(np.full(100, 0.9), np.tile(correct, 10), sources(np.tile(np.arange(10), 10)))[0]
    assert copied == pytest.approx(alone)


@given(st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.71, 0.9, 1.0]), min_size=1, max_size=500), st.randoms())
def test_bins_are_ordered_and_ignore_the_order_of_items(values, random):
    bins = equal_size_bins(values)
    assert bins.min() == 0 and bins.max() < min(MAX_BINS, max(1, len(values) // 20))
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)
    assert equal_size_bins(np.array(values)[shuffled]).tolist() == bins[shuffled].tolist()
    order = np.argsort(values, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert all(len(set(bins[np.array(values) == value])) == 1 for value in set(values))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("confidence", "units"), [([], []), ([np.nan, 0.5], [0, 1]), ([0.5, 0.5], [0, 0])])
def test_undefined(confidence, units):
    assert np.isnan(squared_calibration_error(confidence, np.zeros(len(confidence)), sources(units, 5))[0])


def simulated(n, per_source, sharpness, seed, replicates=0):
    """Answers that are correct with probability σ(sharpness · logit of the confidence); sources agree with one another.

    Returns the estimate, its replicates and the true squared error of its bins.
    """
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(n // per_source), per_source)
    logit = np.abs(rng.normal(1.8, 1.5, n))
    confidence, probability = (1 / (1 + np.exp(-z)) for z in (logit, sharpness * logit))
    shared = rng.random(n) < (0.5 if per_source > 1 else 0.0)
    uniform = np.where(shared, rng.random(n // per_source)[units], rng.random(n))
    bins = equal_size_bins(confidence)
    gaps = np.bincount(bins, confidence - probability) / np.bincount(bins)
    estimate = squared_calibration_error(confidence, uniform < probability, sources(units, replicates))
    return *estimate, float(gaps[bins] @ gaps[bins]) / n


@pytest.mark.slow
@pytest.mark.parametrize("per_source", [1, 5])
@pytest.mark.parametrize(("sharpness", "least"), [(1.0, 0.98), (0.6, 0.94), (0.3, 0.9)])
def test_intervals_contain_the_true_error(per_source, sharpness, least):
    """Of a calibrated classifier, nearly all begin at 0: resampling adds the variance of chance gaps once more."""
    contained = begins_at_0 = 0
    for seed in range(200):
        value, replicates, true = simulated(400, per_source, sharpness, seed, 200)
        units = Units(400 // per_source, "sources")
        estimate = estimate_from_replicates(value, replicates, n=400, units=units, values=DIFFERENCE)
        contained += estimate.low <= true <= estimate.high
        begins_at_0 += estimate.low <= 0
    assert contained >= 200 * least
    assert sharpness < 1 or begins_at_0 >= 195


@pytest.mark.slow
@pytest.mark.parametrize("per_source", [1, 5])
@pytest.mark.parametrize("sharpness", [1.0, 0.6, 0.3])  # calibrated, and too confident
def test_squared_error_is_unbiased(per_source, sharpness):
    drawn = np.array(
        [(value, true) for value, _, true in (simulated(200, per_source, sharpness, s) for s in range(600))]
    )
    error = drawn[:, 0] - drawn[:, 1]
    assert abs(error.mean()) < 4 * error.std() / len(error) ** 0.5
    assert error.std() > 10 * abs(error.mean())

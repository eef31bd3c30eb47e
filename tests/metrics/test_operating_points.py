"""Operating points: thresholds and rates by hand, against scikit-learn, as properties, and without errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from earmark.metrics.detection import LabelledScores, min_dcf
from earmark.metrics.detection_intervals import ScoredTrials
from earmark.metrics.operating_points import (
    errors_at_false_alarm_rate,
    errors_at_threshold,
    lowest_cost_point,
    threshold_at_false_alarm_rate,
    upper_bound,
)

# Ten non-targets 0 … 9 and five targets: one of ten may be accepted at a rate of .1.
SCORES = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2.5, 7.5, 8.5, 9.5, 11])
LABELS = np.arange(15) >= 10


def labelled(scores=SCORES, labels=LABELS):
    return LabelledScores.from_arrays(scores, labels)


def with_speakers(seed=0, n_speakers=80, separation=3.0):
    """Four targets and forty non-targets per speaker."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(n_speakers), 4)
    first = np.repeat(np.arange(n_speakers), 40)
    second = (first + rng.integers(1, n_speakers, len(first))) % n_speakers
    labels = np.arange(len(targets) + len(first)) < len(targets)
    scores = rng.normal(size=len(labels)) + separation * labels
    sides = np.r_[targets, first], np.r_[targets, second]
    return ScoredTrials.from_trials(LabelledScores.from_arrays(scores, labels), *sides, n_speakers)


def test_errors_at_false_alarm_rate_by_hand():
    # Between 8 (rejected) and 8.5 (the lowest accepted): 9 is a false alarm; 2.5 and 7.5 are missed.
    point = errors_at_false_alarm_rate(labelled(), 0.1)
    assert point.threshold == pytest.approx(8.25)
    assert point.misses.estimate.value == pytest.approx(2 / 5)
    assert point.false_alarms.estimate.value == pytest.approx(1 / 10)
    # .3 allows three: 7, 8 and 9 are accepted, 6 is not; 7 is the lowest accepted score.
    point = errors_at_false_alarm_rate(labelled(), 0.3)
    assert point.threshold == pytest.approx(6.5)
    assert (point.misses.estimate.value, point.false_alarms.estimate.value) == pytest.approx((1 / 5, 3 / 10))


def test_worked_example_of_metrics_md():
    trials = LabelledScores.from_arrays([2.1, 1.4, -0.3, 0.6, -0.8, -1.5, -2.2], np.arange(7) < 3)
    point = errors_at_false_alarm_rate(trials, 0.25)
    assert point.threshold == pytest.approx(-0.55)
    assert (point.misses.estimate.value, point.false_alarms.estimate.value) == (0, 0.25)
    assert round(100 * upper_bound(0.0, 300), 2) == 0.99


def test_false_alarm_rate_below_one_trial_is_undefined():
    point = errors_at_false_alarm_rate(labelled(), 0.05)
    assert np.isnan(point.threshold)
    for rate in (point.misses, point.false_alarms):
        assert rate.estimate.value is None
        assert rate.estimate.why == "a rate of 5 % needs at least 20 non-target trials, not 10"


def test_tied_non_targets_are_rejected_together():
    scores = np.array([1.0, 2.0, 2.0, 2.0, 3.0])
    assert threshold_at_false_alarm_rate(scores, np.array([5.0]), 0.4) == pytest.approx(2.5)
    assert threshold_at_false_alarm_rate(scores, np.array([5.0]), 0.8) == pytest.approx(1.5)


def test_threshold_lies_above_all_scores_if_the_highest_non_targets_are_tied():
    scores = np.array([1.0, 3.0, 3.0])
    threshold = threshold_at_false_alarm_rate(scores, np.array([2.0]), 0.34)
    assert threshold == np.nextafter(3.0, np.inf)


def test_lowest_cost_point_has_the_rate_of_min_dcf():
    trials = labelled()
    point = lowest_cost_point(trials, 0.01)
    assert point.threshold == pytest.approx(9.25)  # only 9.5 and 11 are accepted
    assert point.rate == min_dcf(trials.curve, 0.01).rate == pytest.approx(3 / 5)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_miss_rate_at_false_alarm_rate_is_that_of_scikit_learn(rate):
    trials = with_speakers()
    false_alarms, hits, _ = roc_curve(trials.labels, trials.scores, drop_intermediate=False)
    expected = 1 - hits[false_alarms <= rate].max()
    assert errors_at_false_alarm_rate(trials, rate).misses.estimate.value == pytest.approx(expected)


@pytest.mark.parametrize(("errors", "n"), [(0, 50), (3, 120), (119, 120)])
def test_upper_bound_is_that_of_clopper_and_pearson(errors, n):
    expected = binomtest(errors, n, alternative="less").proportion_ci(0.95, "exact").high
    assert upper_bound(errors / n, n) == pytest.approx(expected)


def test_upper_bound_without_errors_is_the_rule_of_three():
    assert upper_bound(0.0, 1000) == pytest.approx(1 - 0.05**0.001)
    assert upper_bound(0.0, 1000) * 1000 == pytest.approx(3, rel=0.005)


def test_rates_without_errors_have_an_upper_bound_of_at_least_three_in_n():
    trials = with_speakers()
    rates = errors_at_threshold(trials, 100.0)
    assert rates.false_alarms.estimate.value == rates.false_alarms.estimate.low == 0
    assert 0 < rates.false_alarms.estimate.high < 0.01
    assert 0.99 * 3 / 3200 < rates.false_alarms.upper_bound < 0.01
    assert rates.misses.estimate.value == rates.misses.upper_bound == 1


def test_threshold_adds_to_the_interval_of_the_miss_rate():
    trials = with_speakers()
    point = errors_at_false_alarm_rate(trials, 0.01)
    fixed = errors_at_threshold(trials, point.threshold)
    assert point.misses.estimate.value == fixed.misses.estimate.value
    assert (point.false_alarms, point.threshold) == (fixed.false_alarms, fixed.threshold)
    widths = [rate.estimate.high - rate.estimate.low for rate in (point.misses, fixed.misses)]
    assert widths[0] > 1.1 * widths[1]


def test_few_false_alarms_have_a_note():
    trials = with_speakers()
    assert "only 3 non-target trials lie above" in errors_at_false_alarm_rate(trials, 0.001).misses.estimate.note
    assert errors_at_false_alarm_rate(trials, 0.05).misses.estimate.note is None


def test_two_speakers_are_needed_for_intervals():
    trials = ScoredTrials.from_trials(labelled(), np.zeros(15, dtype=int), np.zeros(15, dtype=int), 1)
    rates = errors_at_threshold(trials, 5.0)
    assert rates.misses.estimate.value == pytest.approx(1 / 5)
    assert (rates.misses.estimate.low, rates.misses.upper_bound) == (None, None)
    assert "fewer than two speakers" in rates.misses.estimate.why


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=40),
    st.lists(st.integers(-20, 20), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
)
def test_threshold_is_the_lowest_at_the_rate(non_targets, targets, rate):
    others, own = np.array(non_targets, float), np.array(targets, float)
    threshold = threshold_at_false_alarm_rate(others, own, rate)
    allowed = np.floor(rate * len(others) + 1e-9)
    if allowed < 1:
        assert np.isnan(threshold)
        return
    accepted = (others >= threshold).sum()
    assert accepted <= allowed
    lower = np.r_[others, own][np.r_[others, own] < threshold]
    if len(lower):  # the next lower score would accept too many, or no further target
        below = lower.max()
        assert (others >= below).sum() > allowed or (own >= below).sum() == (own >= threshold).sum()


@given(st.integers(0, 30), st.floats(0.1, 5), st.floats(-3, 3))
def test_miss_rate_at_false_alarm_rate_ignores_increasing_transforms(seed, scale, shift):
    trials = with_speakers(seed % 3, 20)
    moved = LabelledScores.from_arrays(scale * trials.scores + shift, trials.labels)
    before, after = (errors_at_false_alarm_rate(t, 0.05).misses.estimate.value for t in (trials, moved))
    assert before == after

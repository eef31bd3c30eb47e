"""Influence of trials against numerical derivatives, and limits of intervals."""

import numpy as np
import pytest

from earmark.metrics import detection
from earmark.metrics.detection import LabelledScores, SortedTrials
from earmark.metrics.detection_intervals import ScoredTrials, difference, with_intervals
from earmark.metrics.intervals import wilson_interval

NAMES = ("eer", "eer_interpolated", "min_dcf", "act_dcf", "cllr", "min_cllr")
P_TARGET = 0.2


def scored(seed=0, n=400, separation=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    scores = rng.normal(size=n) + separation * labels - separation / 2
    return scores, labels


def reweighted(name, ordered, weights):
    """A metric for each row of trial weights, (rows, n), from its definition."""
    if name == "eer":
        return ordered.equal_error_rates(weights)
    result = []
    for targets, others in zip(*ordered.counts(weights), strict=True):
        misses = np.cumsum(np.r_[0, targets]) / targets.sum()  # below each score, and above the last
        alarms = 1 - np.cumsum(np.r_[0, others]) / others.sum()
        costs = (P_TARGET * misses + (1 - P_TARGET) * alarms) / P_TARGET
        result.append(
            {
                "min_dcf": costs.min(),
                "act_dcf": costs[np.searchsorted(ordered.scores, detection.bayes_threshold(P_TARGET))],
                "cllr": (
                    targets @ np.log2(1 + np.exp(-ordered.scores)) / targets.sum()
                    + others @ np.log2(1 + np.exp(ordered.scores)) / others.sum()
                )
                / 2,
                "min_cllr": ordered.pool_adjacent_violators(targets, others).min_cllr,
            }[name]
        )
    return np.array(result)


def evaluated(scores, labels, first=None, second=None):
    """Evaluate with one speaker per trial, so that pair sums are influences of trials, unless speakers are passed."""
    first = np.arange(len(scores)) if first is None else first
    second = first if second is None else second
    n = int(max(first.max(), second.max())) + 1
    trials = ScoredTrials.from_trials(LabelledScores.from_arrays(scores, labels), first, second, n)
    return with_intervals(trials, detection.evaluate(trials, P_TARGET, NAMES), P_TARGET)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "eer_interpolated"])
def test_influence_matches_numerical_derivative(name):
    scores, labels = scored()
    ordered, step = SortedTrials.from_arrays(scores, labels), 1e-6
    rows = np.random.default_rng(1).choice(len(scores), 60, replace=False)
    weights = np.ones((len(rows), len(scores)))
    weights[np.arange(len(rows)), rows] += step
    base, moved = (reweighted(name, ordered, w) for w in (np.ones((1, len(scores))), weights))
    pairs = evaluated(scores, labels)[name].pairs
    assert pairs.sums[rows] == pytest.approx((moved - base) / step, abs=2e-6)
    assert np.abs(pairs.sums).max() > 1e-3


def test_standard_error_of_independent_trials_is_binomial():
    scores, labels = scored(n=2000)
    result = evaluated(scores, labels)["act_dcf"]
    threshold = detection.bayes_threshold(P_TARGET)
    misses, alarms = (scores[labels] < threshold).mean(), (scores[~labels] >= threshold).mean()
    variance = misses * (1 - misses) / labels.sum() + (4 * np.sqrt(alarms * (1 - alarms) / (~labels).sum())) ** 2
    assert result.pairs.variance().standard_error == pytest.approx(np.sqrt(variance), rel=0.01)


def test_interval_without_errors_depends_on_speakers():
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(40), 5)
    labels = np.tile(np.arange(5) < 3, 40)
    other = np.where(labels, speaker, (speaker + 1) % 40)
    scores = labels * 10.0 + rng.normal(size=200)
    result = evaluated(scores, labels, speaker, other)["eer"]
    assert result.estimate.value == result.estimate.low == 0
    assert result.estimate.high == pytest.approx(wilson_interval(0.0, 40, 2.0227)[1], abs=1e-4)
    assert "misses or false alarms at the threshold (0 misses, 0 false alarms)" in result.estimate.note


def test_min_dcf_interval_at_most_one():
    scores, labels = scored(n=60, separation=0.2)
    estimate = evaluated(scores, labels)["min_dcf"].estimate
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_min_dcf_interval_wider_without_false_alarms():
    few = evaluated(*scored(n=60, separation=4))["min_dcf"].estimate
    many = evaluated(*scored(n=20000, separation=4))["min_dcf"].estimate
    assert few.high - few.low > 5 * (many.high - many.low)


def test_jackknife_corrects_min_cllr_upwards():
    scores, labels = scored(n=300)
    speaker = np.random.default_rng(1).integers(0, 40, 300)
    result = evaluated(scores, labels, speaker, np.where(labels, speaker, (speaker + 1) % 40))["min_cllr"].estimate
    assert result.high - result.value > result.value - result.low, "a recalibration fits noise, so the value is too low"


def test_difference_antisymmetric():
    scores, labels = scored()
    one, other = evaluated(scores, labels), evaluated(scores + np.random.default_rng(3).normal(size=400), labels)
    for name in NAMES:
        (first, p), (second, q) = difference(one[name], other[name]), difference(other[name], one[name])
        assert (first.value, first.low, first.high) == pytest.approx((-second.value, -second.high, -second.low))
        assert p == pytest.approx(q)

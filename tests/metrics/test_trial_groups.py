"""Count-equalised error rates and areas under the ROC curve: by hand, against scikit-learn, and as derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from earmark.metrics.detection import LabelledScores, equal_error_rate, min_dcf, roc
from earmark.metrics.detection_intervals import ScoredTrials
from earmark.metrics.trial_groups import area_under_roc, equalised_error_rate, equalised_min_dcf, group_weights


def drawn(seed=0, n=300):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    labels[:2] = [True, False]
    group = (rng.random(n) < 0.2).astype(int)
    group[:2] = 1
    scores = rng.normal(size=n) + 1.5 * labels - group
    return scores, labels, group


def one_speaker_per_trial(scores, labels):
    each = np.arange(len(scores))
    return ScoredTrials.from_trials(LabelledScores.from_arrays(scores, labels), each, each, len(scores))


def test_equalised_error_rate_by_hand():
    # Group 0 has four targets at 5 and above, group 1 a single one at 1; non-targets are at 0 and 3. The hull goes from
    # (miss 0, false alarm ½) to (miss ½, false alarm 0), with one target in five missed: x = ½ − x, or x = ½ − 5/2 x.
    scores = np.array([5.0, 5.1, 5.2, 5.3, 1.0, 3.0, 0.0])
    labels = np.array([True] * 5 + [False] * 2)
    group = np.array([0, 0, 0, 0, 1, 0, 0])
    assert equalised_error_rate(LabelledScores.from_arrays(scores, labels), group).estimate.value == pytest.approx(
        1 / 4
    )
    assert equal_error_rate(LabelledScores.from_arrays(scores, labels).curve).rate == pytest.approx(1 / 7)


def test_equalised_error_rate_equals_eer_of_repeated_trials():
    scores, labels, group = drawn()
    cells = [np.flatnonzero((labels == y) & (group == g)) for y in (True, False) for g in (0, 1)]
    # A target group repeated as often as the other has trials, and so on: both weigh the same.
    repeats = [len(cells[1]), len(cells[0]), len(cells[3]), len(cells[2])]
    rows = np.concatenate([np.repeat(cell, n) for cell, n in zip(cells, repeats, strict=True)])
    expected = equal_error_rate(LabelledScores.from_arrays(scores[rows], labels[rows]).curve).rate
    value = equalised_error_rate(LabelledScores.from_arrays(scores, labels), group).estimate.value
    assert value == pytest.approx(expected)


def test_equalised_min_dcf_equals_min_dcf_of_repeated_trials():
    scores, labels, group = drawn()
    cells = [np.flatnonzero((labels == y) & (group == g)) for y in (True, False) for g in (0, 1)]
    repeats = [len(cells[1]), len(cells[0]), len(cells[3]), len(cells[2])]
    rows = np.concatenate([np.repeat(cell, n) for cell, n in zip(cells, repeats, strict=True)])
    expected = min_dcf(roc(scores[rows], labels[rows]), 0.1).rate
    assert equalised_min_dcf(LabelledScores.from_arrays(scores, labels), group, 0.1) == pytest.approx(expected)


def test_one_group_is_not_equalised():
    scores, labels, _ = drawn()
    trials = LabelledScores.from_arrays(scores, labels)
    expected = equal_error_rate(trials.curve).rate
    assert equalised_error_rate(trials, np.zeros(len(scores), int)).estimate.value == pytest.approx(expected)


def test_influence_on_equalised_rate_is_the_numerical_derivative():
    scores, labels, group = drawn()
    trials, step = one_speaker_per_trial(scores, labels), 1e-6
    base = equalised_error_rate(trials, group).estimate.value
    sums = equalised_error_rate(trials, group).pairs.sums

    def reweighted(trial):
        """Equal error rate where one trial counts a little more within its group."""
        weight = np.ones(len(scores))
        weight[trial] += step
        cell = 2 * group + labels
        total = np.bincount(cell, weight)
        return trials.sorted_trials.equal_error_rates((weight / total[cell])[None])[0]

    for trial in range(0, len(scores), 7):
        assert sums[trial] == pytest.approx((reweighted(trial) - base) / step, abs=2e-5)
    assert np.abs(sums).max() > 1e-3


def test_group_weights_sum_to_one_per_class():
    _, labels, group = drawn()
    weights = group_weights(labels, group)
    assert weights[labels].sum() == pytest.approx(1) and weights[~labels].sum() == pytest.approx(1)
    assert weights[labels & (group == 1)].sum() == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_area_under_roc_is_that_of_scikit_learn(trials):
    scores, labels = np.array([s for s, _ in trials], float), np.array([y for _, y in trials])
    labels[0], labels[1] = True, False
    value = area_under_roc(LabelledScores.from_arrays(scores, labels)).estimate.value
    assert value == pytest.approx(roc_auc_score(labels, scores))


def test_area_under_roc_has_the_standard_error_of_delong():
    scores, labels, _ = drawn()
    x, y = scores[labels], scores[~labels]
    placements = (x[:, None] > y).mean(axis=1), (x[:, None] > y).mean(axis=0)
    expected = np.sqrt(sum(each.var() / len(each) for each in placements))
    result = area_under_roc(one_speaker_per_trial(scores, labels))
    n = len(scores)
    assert result.pairs.variance().standard_error == pytest.approx(expected * np.sqrt(n / (n - 1)))
    assert result.estimate.low < result.estimate.value < result.estimate.high


def test_perfect_predictor_has_an_interval_up_to_one():
    labels = np.arange(40) < 20
    result = area_under_roc(one_speaker_per_trial(labels.astype(float), labels)).estimate
    assert (result.value, result.high) == (1.0, 1.0)
    assert 0.7 < result.low < 1

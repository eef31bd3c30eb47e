"""Detection metrics: worked examples, reference implementations, and invariances."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from earmark.metrics.detection import (
    METRICS,
    LabelledScores,
    MetricKind,
    SortedTrials,
    actual_dcf,
    bayes_threshold,
    case_equal_error_rate,
    cllr,
    det_curve,
    equal_error_rate,
    evaluate,
    interpolated_equal_error_rate,
    min_cllr,
    min_dcf,
    roc,
)
from earmark.report.render import definitions

SEVEN = [0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.1], np.arange(7) < 3
EIGHT = [1, 2, 3, 4, 0, 1, 2, 3], np.arange(8) < 4


def test_metrics_worked_example():
    curve = roc(*SEVEN)
    assert equal_error_rate(curve).rate == pytest.approx(1 / 7)
    assert interpolated_equal_error_rate(curve).rate == pytest.approx(0.25)
    assert min_dcf(curve).rate == pytest.approx(1 / 3)
    assert cllr(*SEVEN) == pytest.approx(0.925808, abs=1e-6)
    assert min_cllr(*SEVEN) == pytest.approx(0.287358, abs=1e-6)


def test_metrics_worked_example_with_ties():
    assert equal_error_rate(roc(*EIGHT)).rate == pytest.approx(0.375)
    assert min_dcf(roc(*EIGHT)).rate == pytest.approx(0.75)
    assert min_cllr(*EIGHT) == pytest.approx(0.75)


def test_metrics_equal_scores():
    scores, labels = [1.0] * 6, [1, 0, 0, 1, 0, 0]
    assert equal_error_rate(roc(scores, labels)).rate == 0.5
    assert interpolated_equal_error_rate(roc(scores, labels)).rate == 0.5
    assert min_dcf(roc(scores, labels)).rate == 1.0
    assert min_cllr(scores, labels) == pytest.approx(1.0)


def test_metrics_separable_scores():
    scores, labels = [3, 2, 1, 0], [1, 1, 0, 0]
    curve = roc(scores, labels)
    assert (equal_error_rate(curve).rate, min_dcf(curve).rate, min_cllr(scores, labels)) == (0.0, 0.0, 0.0)
    assert case_equal_error_rate(scores, labels).rate == 0.0
    assert 1 < min_dcf(curve).threshold <= 2


def test_operating_point_threshold_gives_rate():
    scores, labels = np.array(SEVEN[0]), SEVEN[1]
    best = min_dcf(roc(scores, labels))
    accepted = scores >= best.threshold
    misses, false_alarms = (~accepted)[labels].mean(), accepted[~labels].mean()
    assert (0.01 * misses + 0.99 * false_alarms) / 0.01 == pytest.approx(best.rate)


def test_detection_costs_depend_on_prior():
    assert bayes_threshold(0.01) == pytest.approx(np.log(99))
    assert bayes_threshold(0.5, c_miss=2.0) == pytest.approx(-np.log(2))
    scores, labels = [6.0, 4.0, -1.0, 5.0], [1, 1, 0, 0]
    assert actual_dcf(scores, labels).rate == pytest.approx((0.01 * 0.5 + 0.99 * 0.5) / 0.01)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2], [1, 1], "only target trials"),
        ([1, 2], [0, 0], "no target trials"),
        ([], [], "no target trials"),
        ([1, 2, 3], [1, 0], "equally long"),
        ([1, np.nan], [1, 0], "finite"),
        ([1, 0], [0.3, 0.9], "swapped"),
    ],
)
def test_validate_trials_rejects_invalid_input(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        roc(scores, labels)


# --- reference implementations ------------------------------------------------------------------------------


def case_tool(scores, labels):
    """The CASE definition with scikit-learn and scipy."""
    false_alarms, hits, _ = roc_curve(labels, scores, pos_label=1)
    misses = 1 - hits
    i = np.argmin(np.abs(false_alarms - misses))
    if i in (0, len(misses) - 1):
        return false_alarms[i]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            line = interp1d(false_alarms, misses)
            return brentq(lambda x: line(x) - x, false_alarms[i - 1], false_alarms[i + 1])
    except ValueError:
        return (false_alarms[i] + misses[i]) / 2


@pytest.mark.parametrize("decimals", [None, 2, 1, 0])
def test_case_equal_error_rate_matches_case_tool(decimals):
    rng = np.random.default_rng(7)
    compared = 0
    for _ in range(400):
        labels = rng.random(rng.integers(4, 80)) < rng.uniform(0.1, 0.9)
        if labels.all() or not labels.any():
            continue
        scores = rng.normal(size=len(labels)) + rng.uniform(0, 3) * labels
        scores = scores if decimals is None else scores.round(decimals)
        assert case_equal_error_rate(scores, labels).rate == pytest.approx(case_tool(scores, labels), abs=1e-9)
        compared += 1
    assert compared > 300


def test_roc_matches_sklearn():
    rng = np.random.default_rng(8)
    labels = rng.random(500) < 0.3
    scores = (rng.normal(size=500) + labels).round(1)
    curve = roc(scores, labels)
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    along = curve.misses - curve.false_alarms  # rises from -1 to 1 along the curve
    there = (1 - hits) - false_alarms
    np.testing.assert_allclose(np.interp(there, along, curve.misses), 1 - hits, atol=1e-12)
    np.testing.assert_allclose(np.interp(there, along, curve.false_alarms), false_alarms, atol=1e-12)


# --- invariances --------------------------------------------------------------------------------------------


@st.composite
def trials(draw):
    n = draw(st.integers(2, 40))
    labels = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda y: any(y) and not all(y)))
    scores = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    return np.array(scores, dtype=float), np.array(labels)


def every_rate(scores, labels):
    curve = roc(scores, labels)
    return [
        equal_error_rate(curve).rate,
        interpolated_equal_error_rate(curve).rate,
        case_equal_error_rate(scores, labels).rate,
        min_dcf(curve).rate,
        min_cllr(scores, labels),
    ]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(trials(), st.randoms(use_true_random=False))
def test_metrics_invariant_to_order(result, random):
    scores, labels = result
    order = list(range(len(scores)))
    random.shuffle(order)
    assert every_rate(scores[order], labels[order]) == pytest.approx(every_rate(scores, labels), abs=1e-12)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(trials())
def test_error_rates_invariant_to_increasing_transform(result):
    scores, labels = result
    assert every_rate(np.exp(scores / 2) * 100 - 7, labels) == pytest.approx(every_rate(scores, labels), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(trials())
def test_eer_invariant_to_swapped_classes(result):
    scores, labels = result
    swapped, straight = roc(-scores, ~labels), roc(scores, labels)
    assert equal_error_rate(swapped).rate == pytest.approx(equal_error_rate(straight).rate, abs=1e-12)
    assert interpolated_equal_error_rate(swapped).rate == pytest.approx(
        interpolated_equal_error_rate(straight).rate, abs=1e-12
    )


@settings(max_examples=200, deadline=None)
@given(trials())
def test_hull_eer_at_most_interpolated_eer_and_half(result):
    curve = roc(*result)
    assert equal_error_rate(curve).rate <= interpolated_equal_error_rate(curve).rate + 1e-12
    assert equal_error_rate(curve).rate <= 0.5 + 1e-12


# --- weighted trials ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(trials(), st.integers(0, 100))
def test_weights_equal_repetition(result, seed):
    scores, labels = result
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, len(scores)))
    ordered = SortedTrials.from_arrays(scores, labels)
    rates = ordered.equal_error_rates(weights.astype(float))
    for rate, w in zip(rates, weights, strict=True):
        s, y = np.repeat(scores, w), np.repeat(labels, w)
        if not y.any() or y.all():
            assert np.isnan(rate)
            continue
        assert rate == pytest.approx(equal_error_rate(roc(s, y)).rate, abs=1e-9)
        assert ordered.pool_adjacent_violators(*ordered.counts(w)).min_cllr == pytest.approx(min_cllr(s, y), abs=1e-9)


# --- the table of metrics -----------------------------------------------------------------------------------


def test_metrics_table_matches_functions_and_definitions():
    curve, p = roc(*SEVEN), 0.05
    result = evaluate(LabelledScores.from_arrays(*SEVEN), p)
    assert result | {"cllr": None, "min_cllr": None} == {
        "eer": equal_error_rate(curve),
        "eer_interpolated": interpolated_equal_error_rate(curve),
        "eer_case": case_equal_error_rate(*SEVEN),
        "min_dcf": min_dcf(curve, p),
        "act_dcf": actual_dcf(*SEVEN, p),
        "cllr": None,
        "min_cllr": None,
    }
    assert list(result) == list(METRICS)
    assert (result["cllr"].rate, result["min_cllr"].rate) == (cllr(*SEVEN), min_cllr(*SEVEN))
    assert np.isnan([result["cllr"].threshold, result["min_cllr"].threshold]).all()
    assert set(METRICS) <= set(definitions())
    assert all(metric.loss for metric in METRICS.values() if metric.kind == MetricKind.MEAN_LOSS)


def test_det_curve_probit_axes():
    x, y = det_curve(roc([1, 2, 3, 4, 0, 1, 2, 3], EIGHT[1]))
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    assert 0.0 in y.round(12)  # half of the targets missed

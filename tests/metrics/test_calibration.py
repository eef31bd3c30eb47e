"""Linear calibration: scikit-learn's optimum, the analytic likelihood ratio of Gaussians, and separable classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from earmark.metrics import detection
from earmark.metrics.calibration import LinearCalibration, fit


def gaussian(n_target=3000, n_other=9000, separation=2.0, seed=0):
    """Scores from N(separation, 1) and N(0, 1); the log-likelihood ratio is separation · s − separation² / 2."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_target + n_other) < n_target
    return rng.normal(size=len(labels)) + separation * labels, labels


@pytest.mark.parametrize("p_target", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-3, -40.0])
def test_fit_matches_sklearn(p_target, scale):
    scores, labels = gaussian(300, 700)
    weights = {True: p_target / 300 * 1000, False: (1 - p_target) / 700 * 1000}
    oracle = LogisticRegression(C=1e12, class_weight=weights, solver="newton-cholesky", tol=1e-13, max_iter=500)
    oracle.fit(scores[:, None], labels)
    calibration = fit(scores * scale, labels, p_target)
    assert calibration.scale * scale == pytest.approx(oracle.coef_[0, 0], rel=1e-6)
    assert calibration.offset == pytest.approx(oracle.intercept_[0] - logit(p_target), rel=1e-6)


@pytest.mark.parametrize("p_target", [0.05, 0.5])
def test_fit_posteriors_average_to_prior(p_target):
    """The gradient in the offset is zero: the weighted mean posterior equals the weighted share of targets."""
    scores, labels = gaussian(200, 300)
    posterior = expit(fit(scores, labels, p_target)(scores) + logit(p_target))
    mean = p_target * posterior[labels].mean() + (1 - p_target) * posterior[~labels].mean()
    assert mean == pytest.approx(p_target, abs=1e-10)


def test_fit_worked_example():
    """Targets 1 and 3, non-targets 0 and 2: symmetric about 1.5, where the log-likelihood ratio is 0."""
    calibration = fit([3.0, 1.0, 2.0, 0.0], [1, 1, 0, 0])
    assert calibration.offset / calibration.scale == pytest.approx(-1.5, abs=1e-9)
    a = calibration.scale  # the slope's gradient: 1.5 σ(−1.5 a) = 0.5 σ(0.5 a)
    assert 1.5 * expit(-1.5 * a) == pytest.approx(0.5 * expit(0.5 * a), abs=1e-9)


def test_fit_recovers_gaussian_llr():
    scores, labels = gaussian(200_000, 200_000, separation=1.5)
    calibration = fit(scores, labels)
    assert calibration.scale == pytest.approx(1.5, abs=0.02)
    assert calibration.offset == pytest.approx(-1.125, abs=0.02)


def test_calibrated_gaussian_scores_reach_min_cllr():
    scores, labels = gaussian(20_000, 20_000)
    calibrated = fit(7 * scores - 3, labels)(7 * scores - 3)
    lowest = detection.min_cllr(scores, labels)
    assert lowest <= detection.cllr(calibrated, labels) < lowest + 0.003
    assert detection.cllr(7 * scores - 3, labels) > lowest + 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.99))
def test_fit_preserves_eer_and_minimises_cllr(seed, p_target):
    scores, labels = gaussian(40, 60, separation=0.8, seed=seed)
    calibration = fit(scores, labels, p_target)
    calibrated = calibration(scores)
    if calibration.scale > 0:
        before, after = (detection.equal_error_rate(detection.roc(s, labels)).rate for s in (scores, calibrated))
        assert after == pytest.approx(before, abs=1e-12)
    if p_target == 0.5:
        assert detection.cllr(calibrated, labels) <= detection.cllr(np.zeros(100), labels)
    assert weighted(calibrated, labels, p_target) <= weighted(1.01 * calibrated + 0.01, labels, p_target) + 1e-9
    assert weighted(calibrated, labels, p_target) <= weighted(np.zeros(100), labels, p_target) + 1e-9


def weighted(llr, labels, p_target):
    posterior = llr + logit(p_target)
    targets, others = np.logaddexp(0, -posterior[labels]).mean(), np.logaddexp(0, posterior[~labels]).mean()
    return p_target * targets + (1 - p_target) * others


def test_fit_invariant_to_score_scale():
    scores, labels = gaussian(200, 300)
    assert fit(1e-6 * scores + 5, labels)(1e-6 * scores + 5) == pytest.approx(fit(scores, labels)(scores), abs=1e-6)


@pytest.mark.parametrize("p_target", [0.01, 0.5])
def test_fit_separable_classes_finite_scale(p_target):
    calibration = fit([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], p_target)
    assert 20 < calibration.scale < 100
    assert (calibration([2.0, 3.0]) > 5).all()
    assert (calibration([0.0, 1.0]) < -5).all()


def test_fit_reversed_scores_negative_scale():
    scores, labels = gaussian(200, 300)
    assert fit(-scores, labels).scale < 0


def test_fit_equal_scores_zero_scale():
    assert fit([0.3, 0.3, 0.3], [1, 0, 0], 0.01) == LinearCalibration(0.0, 0.0)


def test_linear_calibration_keeps_nan():
    assert np.isnan(LinearCalibration(2.0, 1.0)([np.nan])).all()


@pytest.mark.parametrize(
    ("scores", "labels", "p_target", "message"),
    [
        ([1.0, 2.0], [True], 0.5, r"equally long, not \(2,\) and \(1,\)"),
        ([1.0, np.nan], [True, False], 0.5, "finite"),
        ([1.0, 2.0], [True, True], 0.5, "only target trials"),
        ([1.0, 2.0], [False, False], 0.5, "no target trials"),
        ([1.0, 0.0], [0.3, 0.2], 0.5, "swapped"),
        ([1.0, 0.0], [True, False], 1.0, "p_target must be between 0 and 1, not 1.0"),
    ],
)
def test_fit_rejects_invalid_input(scores, labels, p_target, message):
    with pytest.raises(ValueError, match=message):
        fit(scores, labels, p_target)

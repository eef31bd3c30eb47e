"""Linear calibration: another tool's optimum, the analytic likelihood ratio of Gaussians, and separable classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from earmark.metrics import detection
from earmark.metrics.calibration import LinearCalibration, fit


def gaussian(n_target=3000, n_other=9000, separation=2.0, seed=0):
    """Scores of N(separation, 1) and N(0, 1); their log-likelihood ratio is separation · s − separation² / 2."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_target + n_other) < n_target
    return rng.normal(size=len(labels)) + separation * labels, labels


@pytest.mark.parametrize("p_target", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-3, -40.0])
def test_the_optimum_is_scikit_learns(p_target, scale):
    scores, labels = gaussian(300, 700)
    weights = {True: p_target / 300 * 1000, False: (1 - p_target) / 700 * 1000}
    oracle = LogisticRegression(C=1e12, class_weight=weights, solver="newton-cholesky", tol=1e-13, max_iter=500)
    oracle.fit(scores[:, None], labels)
    found = fit(scores * scale, labels, p_target)
    assert found.scale * scale == pytest.approx(oracle.coef_[0, 0], rel=1e-6)
    assert found.offset == pytest.approx(oracle.intercept_[0] - logit(p_target), rel=1e-6)


@pytest.mark.parametrize("p_target", [0.05, 0.5])
def test_at_the_optimum_posteriors_average_to_the_prior(p_target):
    """The offset's gradient is zero: the weighted mean posterior is the weighted share of targets."""
    scores, labels = gaussian(200, 300)
    posterior = expit(fit(scores, labels, p_target)(scores) + logit(p_target))
    mean = p_target * posterior[labels].mean() + (1 - p_target) * posterior[~labels].mean()
    assert mean == pytest.approx(p_target, abs=1e-10)


def test_two_pairs_by_hand():
    """Targets 1 and 3, others 0 and 2: symmetric about 1.5, where the log-likelihood ratio is therefore 0."""
    found = fit([3.0, 1.0, 2.0, 0.0], [1, 1, 0, 0])
    assert found.offset / found.scale == pytest.approx(-1.5, abs=1e-9)
    a = found.scale  # the slope's gradient: 1.5 σ(−1.5 a) = 0.5 σ(0.5 a)
    assert 1.5 * expit(-1.5 * a) == pytest.approx(0.5 * expit(0.5 * a), abs=1e-9)


def test_gaussian_scores_become_their_log_likelihood_ratio():
    scores, labels = gaussian(200_000, 200_000, separation=1.5)
    found = fit(scores, labels)
    assert found.scale == pytest.approx(1.5, abs=0.02)
    assert found.offset == pytest.approx(-1.125, abs=0.02)


def test_calibrated_gaussian_scores_reach_min_cllr():
    scores, labels = gaussian(20_000, 20_000)
    calibrated = fit(7 * scores - 3, labels)(7 * scores - 3)
    lowest = detection.min_cllr(scores, labels)
    assert lowest <= detection.cllr(calibrated, labels) < lowest + 0.003
    assert detection.cllr(7 * scores - 3, labels) > lowest + 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.99))
def test_an_increasing_map_leaves_the_eer_alone_and_no_other_line_costs_less(seed, p_target):
    scores, labels = gaussian(40, 60, separation=0.8, seed=seed)
    found = fit(scores, labels, p_target)
    calibrated = found(scores)
    if found.scale > 0:
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


def test_the_unit_of_the_scores_does_not_matter():
    scores, labels = gaussian(200, 300)
    assert fit(1e-6 * scores + 5, labels)(1e-6 * scores + 5) == pytest.approx(fit(scores, labels)(scores), abs=1e-6)


@pytest.mark.parametrize("p_target", [0.01, 0.5])
def test_separable_classes_have_a_steep_but_finite_scale(p_target):
    found = fit([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], p_target)
    assert 20 < found.scale < 100
    assert (found([2.0, 3.0]) > 5).all()
    assert (found([0.0, 1.0]) < -5).all()


def test_scores_that_fall_where_targets_are_have_a_negative_scale():
    scores, labels = gaussian(200, 300)
    assert fit(-scores, labels).scale < 0


def test_equal_scores_carry_nothing():
    assert fit([0.3, 0.3, 0.3], [1, 0, 0], 0.01) == LinearCalibration(0.0, 0.0)


def test_missing_scores_stay_missing():
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
def test_what_cannot_be_calibrated(scores, labels, p_target, message):
    with pytest.raises(ValueError, match=message):
        fit(scores, labels, p_target)

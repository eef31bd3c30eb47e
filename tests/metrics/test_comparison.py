"""Holm's adjustment, detectable differences, and replicates from histograms against direct loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from earmark.metrics.binned import cross_fitted_replicates, ranking_replicates
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import assign_folds, cross_fit, ranking_metrics
from earmark.metrics.comparison import holm, minimum_detectable_difference


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(np.array(holm(p_values), float), expected, atol=1e-12)


def test_holm_ignores_missing_p_values():
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]
    assert holm([]) == []


def test_minimum_detectable_difference_has_80_percent_power():
    rng = np.random.default_rng(0)
    effect = minimum_detectable_difference(1.0)
    assert np.mean(np.abs(rng.normal(effect, 1.0, 100_000)) > 1.96) == pytest.approx(0.8, abs=0.01)
    assert np.isnan(minimum_detectable_difference(float("nan"))) and np.isnan(minimum_detectable_difference(0.0))


def data(n=400, seed=0, distinct=None):
    """Scores, soft labels and a bootstrap over clips of four items."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0.0, 1 / 3, 2 / 3, 1.0], n)
    scores = rng.normal(size=n) + labels
    if distinct:
        scores = np.round(scores * distinct) / distinct
    return scores, labels, Bootstrap.from_units(np.arange(n) // 4, 40, np.random.default_rng(1))


@pytest.mark.parametrize("distinct", [None, 2])
def test_ranking_replicates_are_those_of_a_direct_loop(distinct):
    scores, labels, bootstrap = data(distinct=distinct)
    expected = [ranking_metrics(scores, labels, weights[bootstrap.unit]) for weights in bootstrap.weights]
    np.testing.assert_allclose(ranking_replicates(scores, labels, bootstrap), expected, rtol=1e-10)


def test_ranking_replicates_of_many_scores_vary_as_the_exact_ones():
    scores, labels, bootstrap = data(n=8000)
    exact = np.array([ranking_metrics(scores, labels, weights[bootstrap.unit]) for weights in bootstrap.weights])
    binned = ranking_replicates(scores, labels, bootstrap)
    np.testing.assert_allclose(binned.std(axis=0), exact.std(axis=0), rtol=0.01)


def test_cross_fitted_replicates_vary_as_those_of_cross_fit():
    scores, labels, _ = data(n=600)
    bootstrap = Bootstrap.from_units(np.arange(600) // 4, 400, np.random.default_rng(1))
    known = cross_fit(scores, labels, bootstrap, np.random.default_rng(2)).balanced_accuracy
    fold = assign_folds(labels, bootstrap, np.random.default_rng(2), 5)
    deviation = np.nanstd(cross_fitted_replicates(scores, labels, bootstrap, fold))
    assert 3.92 * deviation == pytest.approx(known.high - known.low, rel=0.1)

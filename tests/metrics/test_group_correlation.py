"""Correlations within groups: values by hand, SciPy on repeated items, properties and degenerate data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.group_correlation import (
    cross_fitted_concordance,
    moment_replicates,
    spearman_by_group,
    spearman_replicates,
)
from earmark.metrics.interval_agreement import concordance, correlation


def one(n: int) -> np.ndarray:
    return np.zeros(n, dtype=int)


def sample(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities, whole ratings with ties, and three groups."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, np.round(x + rng.normal(size=n)), rng.integers(0, 3, n)


def repeated(bootstrap: Bootstrap, replicate: int) -> np.ndarray:
    """Items of a replicate, each as often as it was drawn."""
    return np.repeat(np.arange(len(bootstrap.unit)), bootstrap.weights[replicate][bootstrap.unit])


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 1 2 4 3: 1 - 6 (1 + 1) / (4 * 15) = 0.8.
    assert spearman_by_group([10, 20, 30, 40], [1, 2, 9, 5], one(4)).tolist() == pytest.approx([0.8])


def test_spearman_of_ties_has_mean_ranks():
    # Ranks 1 2 3 4 against 1.5 1.5 3.5 3.5.
    assert spearman_by_group([1, 2, 3, 4], [0, 0, 1, 1], one(4))[0] == pytest.approx(4 / np.sqrt(5 * 4))


@pytest.mark.parametrize("seed", range(5))
def test_spearman_replicates_equal_scipy_on_drawn_items(seed: int):
    x, y, group = sample(seed)
    bootstrap = Bootstrap.from_units(np.arange(40) // 2, 8, np.random.default_rng(seed))
    found = spearman_replicates(x, y, group, bootstrap)
    for g in range(3):
        assert found.values[g] == pytest.approx(spearmanr(x[group == g], y[group == g])[0])
    for r in range(8):
        items = repeated(bootstrap, r)
        for g in range(3):
            drawn = items[group[items] == g]
            assert found.replicates[r, g] == pytest.approx(spearmanr(x[drawn], y[drawn])[0])


def test_pearson_replicates_equal_scipy_on_drawn_items():
    x, y, group = sample(0)
    bootstrap = Bootstrap.from_units(np.arange(40) // 2, 8, np.random.default_rng(0))
    found = moment_replicates(correlation, 1e-9 * x + 3, y, group, bootstrap)
    for r in range(8):
        items = repeated(bootstrap, r)
        drawn = items[group[items] == 1]
        assert found.replicates[r, 1] == pytest.approx(pearsonr(x[drawn], y[drawn])[0], abs=1e-6)


@given(st.integers(0, 10_000))
def test_spearman_ignores_rising_transforms_and_order(seed: int):
    x, y, group = sample(seed, 20)
    order = np.random.default_rng(seed).permutation(20)
    expected = spearman_by_group(x, y, group)
    assert spearman_by_group(np.exp(x), y**3, group) == pytest.approx(expected, nan_ok=True)
    assert spearman_by_group(x[order], y[order], group[order]) == pytest.approx(expected, nan_ok=True)


def test_groups_without_variation_or_items_are_left_out():
    x, y, group = [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 1, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 2, 2]
    bootstrap = Bootstrap.from_units(np.arange(8), 50, np.random.default_rng(0))
    for found in (
        spearman_replicates(x, y, group, bootstrap),
        moment_replicates(correlation, x, y, group, bootstrap),
    ):
        assert found.defined.tolist() == [True, False, False]
        assert (found.mean_value, found.n, found.units.n) == (pytest.approx(1.0), 3, 3)
        assert np.isnan(found.replicates[:, 1:]).all()


def test_correlation_of_nothing_is_undefined():
    empty = np.empty(0)
    bootstrap = Bootstrap.from_units(empty, 10, np.random.default_rng(0))
    for found in (
        spearman_replicates(empty, empty, empty, bootstrap),
        moment_replicates(concordance, empty, empty, empty, bootstrap),
    ):
        assert found.mean().value is None
        assert found.mean().why


def test_concordance_of_constant_values_is_undefined():
    bootstrap = Bootstrap.from_units(np.arange(5), 0, np.random.default_rng(0))
    found = moment_replicates(concordance, np.ones(5), np.arange(5.0), one(5), bootstrap)
    assert found.mean().value is None


def test_concordance_by_hand():
    # y = x + 1 on 1, 2, 3: 2 (2/3) / (2/3 + 2/3 + 1) = 4/7.
    bootstrap = Bootstrap.from_units(np.arange(3), 0, np.random.default_rng(0))
    found = moment_replicates(concordance, [1.0, 2, 3], [2.0, 3, 4], one(3), bootstrap)
    assert found.mean_value == pytest.approx(4 / 7)


def test_cross_fitted_concordance_by_hand():
    # Two folds. Fold 0 is scaled by fold 1, where x has mean 4 and deviation 1 and y mean 10 and deviation 2, so that
    # 1, 3 become 4, 8; fold 1 is scaled by fold 0 (mean 2, deviation 1 to mean 5, deviation 1): 3, 5 become 6, 8.
    x, y, fold = np.array([1.0, 3, 3, 5]), np.array([4.0, 6, 8, 12]), np.array([0, 0, 1, 1])
    bootstrap = Bootstrap.from_units(np.arange(4), 0, np.random.default_rng(0))
    found = cross_fitted_concordance(x, y, fold, bootstrap)
    assert found.scaled.tolist() == pytest.approx([4, 8, 6, 8])
    a, b = np.array([4.0, 8, 6, 8]), y
    covariance = np.mean((a - a.mean()) * (b - b.mean()))
    assert found.concordance.value == pytest.approx(2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_cross_fitted_concordance_ignores_unit_of_the_similarity(slope: float, offset: float):
    x, y, _ = sample(3)
    bootstrap = Bootstrap.from_units(np.arange(40), 0, np.random.default_rng(0))
    expected = cross_fitted_concordance(x, y, np.arange(40) % 5, bootstrap).concordance.value
    found = cross_fitted_concordance(slope * x + offset, y, np.arange(40) % 5, bootstrap).concordance.value
    assert found == pytest.approx(expected, abs=1e-6)


def test_cross_fitted_concordance_tends_to_pearson():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)
    y = 0.6 * x + 0.8 * rng.normal(size=20_000)
    bootstrap = Bootstrap.from_units(np.arange(20_000), 0, rng)
    found = cross_fitted_concordance(x, y, np.arange(20_000) % 5, bootstrap)
    assert found.concordance.value == pytest.approx(pearsonr(x, y)[0], abs=0.001)
    reversed_ = cross_fitted_concordance(-x, y, np.arange(20_000) % 5, bootstrap)
    assert reversed_.concordance.value == pytest.approx(-pearsonr(x, y)[0], abs=0.001)


def test_cross_fitted_concordance_of_one_fold_or_constant_values_is_undefined():
    bootstrap = Bootstrap.from_units(np.arange(6), 0, np.random.default_rng(0))
    assert cross_fitted_concordance(np.arange(6), np.arange(6), one(6), bootstrap).concordance.value is None
    constant = cross_fitted_concordance(np.ones(6), np.arange(6), np.arange(6) % 2, bootstrap)
    assert (constant.concordance.value, len(constant.scaled)) == (None, 0)

"""Agreement of numbers: values by hand, other tools, invariances, and where coefficients are undefined."""

import json
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from earmark.metrics.agreement import cohen_kappa
from earmark.metrics.interval_agreement import (
    ICCS,
    IntervalSums,
    complete_ratings,
    concordance,
    correlation,
    icc_contributions,
    interval_contributions,
    intraclass_correlations,
    krippendorff_alpha_interval,
    mean_absolute_difference,
    means_of_others,
    moments,
    reliability_of_mean,
    standardised,
)

pytestmark = pytest.mark.filterwarnings("error")

# Shrout and Fleiss (1979), table 2: 6 targets, 4 judges.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
# Krippendorff's example: 4 raters × 12 items; alpha interval .849107.
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, np.nan, np.nan, np.nan],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, np.nan, 3],
    [np.nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, np.nan],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, np.nan],
]


def listed(matrix):
    """(raters, items) with NaN as item, rater and value of each rating."""
    table = np.asarray(matrix, dtype=float)
    rater, item = np.nonzero(~np.isnan(table))
    return item, rater, table[rater, item]


def sums(matrix):
    item, _, value = listed(matrix)
    return IntervalSums.from_sums(interval_contributions(item, value, np.shape(matrix)[1]).sum(axis=0))


def iccs(ratings):
    return {name: float(v) for name, v in intraclass_correlations(icc_contributions(ratings).sum(axis=0)).items()}


def test_alpha_of_krippendorffs_example():
    assert float(krippendorff_alpha_interval(sums(KRIPPENDORFF))) == pytest.approx(0.849107, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_equals_the_package_krippendorff_with_missing_ratings(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=30) + rng.normal(size=(5, 30))
    matrix[rng.random(matrix.shape) < 0.4] = np.nan
    expected = krippendorff.alpha(matrix, level_of_measurement="interval")
    assert float(krippendorff_alpha_interval(sums(matrix))) == pytest.approx(expected, abs=1e-10)


def test_alpha_ignores_items_with_one_rating():
    with_single = np.column_stack([KRIPPENDORFF, [99, np.nan, np.nan, np.nan]])
    assert float(krippendorff_alpha_interval(sums(with_single))) == pytest.approx(0.849107, abs=1e-6)


def test_alpha_is_undefined_for_equal_ratings_and_without_pairs():
    assert np.isnan(krippendorff_alpha_interval(sums([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]])))
    assert np.isnan(krippendorff_alpha_interval(sums([[1.0, np.nan], [np.nan, 2.0]])))


def test_mean_absolute_difference_by_hand():
    """Item 1: |1 − 2|, |1 − 4| and |2 − 4|, item 2: |5 − 5|; item 3 has one rating."""
    matrix = [[1, 5, 7], [2, 5, np.nan], [4, np.nan, np.nan]]
    assert float(mean_absolute_difference(sums(matrix))) == pytest.approx((1 + 3 + 2 + 0) / 4)
    assert np.isnan(mean_absolute_difference(sums([[1.0]])))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1e6), st.floats(-1e6, 1e6))
def test_coefficients_do_not_depend_on_unit_and_origin(seed, unit, origin):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 10, 8) + rng.normal(size=(3, 8))
    moved = matrix * unit + origin
    first, second = sums(matrix), sums(moved)
    assert float(krippendorff_alpha_interval(first)) == pytest.approx(
        float(krippendorff_alpha_interval(second)), abs=1e-5
    )
    assert float(mean_absolute_difference(first)) * unit == pytest.approx(
        float(mean_absolute_difference(second)), rel=1e-4
    )
    assert list(iccs(matrix.T).values()) == pytest.approx(list(iccs(moved.T).values()), abs=1e-4)


def test_icc_of_shrout_and_fleiss():
    expected = {"icc_1": 0.17, "icc_a1": 0.29, "icc_c1": 0.71, "icc_1k": 0.44, "icc_ak": 0.62, "icc_ck": 0.91}
    assert {name: round(value, 2) for name, value in iccs(SHROUT_FLEISS).items()} == expected


PINGOUIN = json.loads(Path(__file__).with_name("pingouin_values.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", PINGOUIN, ids=lambda case: "{}x{}".format(*np.shape(case["ratings"])))
def test_icc_equals_pingouin(case):
    assert iccs(case["ratings"]) == pytest.approx(case["values"], abs=1e-8)


def test_icc_equals_the_mean_squares_of_statsmodels():
    rng = np.random.default_rng(4)
    ratings = rng.normal(size=(20, 1)) + rng.normal(size=3) + rng.normal(size=(20, 3))
    long = pd.DataFrame({"item": np.repeat(np.arange(20), 3), "rater": np.tile(np.arange(3), 20), "x": ratings.ravel()})
    r, c, e = anova_lm(ols("x ~ C(item) + C(rater)", long).fit())["mean_sq"]
    assert iccs(ratings)["icc_c1"] == pytest.approx((r - e) / (r + 2 * e))
    assert iccs(ratings)["icc_a1"] == pytest.approx((r - e) / (r + 2 * e + 3 * (c - e) / 20))


def test_icc_consistency_ignores_a_constant_difference_and_absolute_agreement_does_not():
    ratings = np.array([[1.0, 3.0], [2.0, 4.0], [5.0, 7.0]])
    assert iccs(ratings)["icc_c1"] == pytest.approx(1.0)
    assert iccs(ratings)["icc_a1"] < 0.8


def test_icc_of_the_mean_follows_spearman_and_brown():
    values = iccs(SHROUT_FLEISS)
    for single, of_mean in zip(ICCS[:3], ICCS[3:], strict=True):
        assert reliability_of_mean(values[single], 4) == pytest.approx(values[of_mean])


@pytest.mark.parametrize(
    "ratings",
    [[[1.0, 2.0]], [[1.0], [2.0]], [[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]]],
    ids=["one item", "one rater", "all equal"],
)
def test_icc_is_undefined_without_variation(ratings):
    assert all(np.isnan(value) for value in iccs(ratings).values())


def test_icc_of_a_replicate_equals_that_of_the_drawn_items():
    rng = np.random.default_rng(0)
    ratings = rng.normal(size=(10, 1)) + rng.normal(size=(10, 3))
    drawn = rng.integers(0, 10, 10)
    weights = np.bincount(drawn, minlength=10)
    replicate = intraclass_correlations(weights @ icc_contributions(ratings))
    assert {name: float(v) for name, v in replicate.items()} == pytest.approx(iccs(ratings[drawn]), abs=1e-10)


def test_complete_ratings_keeps_items_of_every_rater():
    items, ratings = complete_ratings(*listed(KRIPPENDORFF), n_items=12, n_raters=4)
    assert items.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ratings[4].tolist() == [1, 2, 3, 4]


def test_concordance_is_the_weighted_kappa_of_whole_numbers():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    table = np.zeros((5, 5))
    np.add.at(table, (x, y), 1)
    assert float(concordance(moments(x, y).sum(axis=0))) == pytest.approx(float(cohen_kappa(table, "quadratic")))


def test_concordance_by_hand_is_below_correlation_for_shifted_values():
    """Variances and covariance 2/3, means one apart: 2 · 2/3 / (4/3 + 1)."""
    total = moments([1, 2, 3], [2, 3, 4]).sum(axis=0)
    assert float(concordance(total)) == pytest.approx((4 / 3) / (7 / 3))
    assert float(correlation(total)) == pytest.approx(1.0)


def test_correlation_equals_numpy():
    x, y = np.random.default_rng(2).normal(size=(2, 50))
    assert float(correlation(moments(x, y).sum(axis=0))) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_correlation_is_undefined_and_concordance_zero_if_one_variable_does_not_vary():
    total = moments(standardised([0.1, 0.1, 0.1]), [0.1, 0.2, 0.5]).sum(axis=0)
    assert np.isnan(correlation(total))
    assert float(concordance(total)) == 0.0
    assert np.isnan(concordance(moments([0.3, 0.3], [0.3, 0.3]).sum(axis=0)))


def test_means_of_others_leave_out_the_rating_itself():
    assert means_of_others([0, 0, 0, 1], [1.0, 2.0, 6.0, 9.0], 2)[:3].tolist() == [4.0, 3.5, 1.5]

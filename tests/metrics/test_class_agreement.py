"""Agreement on single classes and within a step: values by hand, and equality with other formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.agreement import (
    AgreementSums,
    category_weights,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    item_contributions,
    krippendorff_alpha,
    percent_agreement,
)
from earmark.metrics.class_agreement import (
    ClassSums,
    alpha_nominal,
    class_contributions,
    kappa_from_margins,
    ordered_pairs,
    percent_within,
    specific_agreement,
)

pytestmark = pytest.mark.filterwarnings("error")


def table(counts):
    q = np.shape(counts)[1]
    return ordered_pairs(counts).sum(axis=0).reshape(q, q)


def sums(counts):
    return ClassSums.from_sums(class_contributions(counts).sum(axis=0))


def random_counts(seed, items=20, q=4):
    return np.random.default_rng(seed).integers(0, 4, (items, q))


def test_specific_agreement_of_two_raters_by_hand():
    """Both say a on 3 items, both b on 1, they differ on 2: 2 · 3 / (2 · 3 + 2) and 2 · 1 / (2 · 1 + 2)."""
    counts = [[2, 0]] * 3 + [[0, 2]] + [[1, 1]] * 2
    assert specific_agreement(sums(counts)).tolist() == [0.75, 0.5]


def test_specific_agreement_of_an_unused_class_is_undefined():
    values = specific_agreement(sums([[2, 0, 0], [1, 0, 1], [0, 1, 0]]))
    assert np.isnan(values[1])  # class 1 has a single rating, which no other rating of its item can match
    assert values[0] == pytest.approx(2 / 3)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_specific_agreement_averages_to_percent_agreement(seed):
    """Weighted by the pairs that a class takes part in."""
    pairs = table(random_counts(seed))
    items = AgreementSums.from_sums(item_contributions(random_counts(seed)).sum(axis=0))
    mean = np.nansum(specific_agreement(sums(random_counts(seed))) * pairs.sum(axis=1)) / pairs.sum()
    assert mean == pytest.approx(float(percent_agreement(items)))


def test_percent_within_one_by_hand():
    """Pairs 1-2, 1-1 and 1-3, each twice: two of three within a step."""
    counts = [[1, 1, 0], [2, 0, 0], [1, 0, 1]]
    assert float(percent_within(table(counts))) == pytest.approx(2 / 3)
    assert float(percent_within(table(counts), 0)) == pytest.approx(1 / 3)
    assert float(percent_within(table(counts), 2)) == 1.0


def test_percent_within_is_undefined_without_pairs():
    assert np.isnan(percent_within(table([[1, 0], [0, 1]])))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["unweighted", "linear", "quadratic"]))
def test_kappa_from_margins_equals_cohen_kappa(seed, weighting):
    confusion = np.random.default_rng(seed).integers(0, 9, (4, 4)).astype(float)
    credit = category_weights(4, weighting)
    value = kappa_from_margins((confusion * credit).sum(), confusion.sum(axis=1), confusion.sum(axis=0), credit)
    assert float(value) == pytest.approx(float(cohen_kappa(confusion, weighting)), nan_ok=True, abs=1e-12)


def test_kappa_from_margins_of_a_single_category_is_undefined():
    assert np.isnan(kappa_from_margins(5, [5, 0], [5, 0], np.eye(2)))
    assert np.isnan(kappa_from_margins(0, [0, 0], [0, 0], np.eye(2)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_coefficients_without_the_coincidence_matrix_equal_those_with_it(seed):
    counts = random_counts(seed)
    items, named = AgreementSums.from_sums(item_contributions(counts).sum(axis=0)), sums(counts)
    for function in (percent_agreement, fleiss_kappa, gwet_ac):
        assert float(function(named.unweighted)) == pytest.approx(float(function(items)), abs=1e-12)
    assert float(alpha_nominal(named)) == pytest.approx(krippendorff_alpha(counts, "nominal"), abs=1e-10)


def test_alpha_nominal_of_one_class_or_without_pairs_is_undefined():
    assert np.isnan(alpha_nominal(sums([[2, 0], [3, 0]])))
    assert np.isnan(alpha_nominal(sums([[1, 0], [0, 1]])))

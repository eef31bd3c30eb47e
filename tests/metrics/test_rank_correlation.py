"""Rank correlation by prompt and its ceilings: values by hand, scipy as reference, simulated raters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from earmark.metrics.bootstrap import Bootstrap, estimate_from_replicates
from earmark.metrics.intervals import COEFFICIENT
from earmark.metrics.rank_correlation import (
    NO_PROMPT,
    NO_RATERS,
    NO_RELIABILITY,
    _rowwise_ranks,
    attainable_spearman,
    intraclass_correlation,
    spearman,
    spearman_by_prompt,
    split_half_ceiling,
)


def bootstrap_of(units, replicates=0, seed=0):
    return Bootstrap.from_units(units, replicates, np.random.default_rng(seed))


# --- Spearman's rho ---------------------------------------------------------------------------------------------


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 1.5 1.5 3.5 3.5: Σ of products of deviations 4, Σ of squares 5 and 4.
    assert spearman([1, 2, 3, 4], [0, 0, 1, 1])[0] == pytest.approx(4 / 20**0.5)


values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=3, max_size=25)


@given(values)
def test_spearman_is_that_of_scipy(pairs):
    x, y = np.array(pairs, dtype=float).T
    ours = spearman(x, y)[0]
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(spearmanr(x, y).statistic)


@given(values, st.data())
def test_weighted_spearman_is_that_of_repeated_items(pairs, data):
    x, y = np.array(pairs, dtype=float).T
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x))), dtype=float)
    repeated = np.repeat(np.arange(len(x)), weights.astype(int))
    ours = spearman(x, y, weights[np.newaxis])[0]
    if (weights > 0).sum() < 3 or len(set(x[repeated])) < 2 or len(set(y[repeated])) < 2:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(spearmanr(x[repeated], y[repeated]).statistic)


def test_spearman_of_two_items_is_undefined():
    assert np.isnan(spearman([1, 2], [0, 1])[0])


# --- by prompt --------------------------------------------------------------------------------------------------

SCORES = [1, 2, 3, 4, 4, 3, 2, 1, 1, 2, 1, 2, 3, 5, 5, 5]
SHARES = [0, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0.5, 0.5, 0.5, 0, 1, 1]
PROMPTS = ["a"] * 4 + ["b"] * 4 + ["two items"] * 2 + ["one share"] * 3 + ["one score"] * 3


def test_spearman_by_prompt_averages_prompts_and_counts_those_left_out():
    found = spearman_by_prompt(SCORES, SHARES, PROMPTS, bootstrap_of(np.arange(16)))
    assert found.rho.value == pytest.approx(0.0)
    assert (found.n_prompts, found.n_left_out, found.rho.n) == (2, 3, 8)
    assert found.included.tolist() == [True] * 8 + [False] * 8
    first = spearman_by_prompt(SCORES[:4], SHARES[:4], PROMPTS[:4], bootstrap_of(np.arange(4)))
    assert first.rho.value == pytest.approx(4 / 20**0.5)


def test_spearman_by_prompt_undefined_if_all_prompts_are_left_out():
    found = spearman_by_prompt(SCORES[8:], SHARES[8:], PROMPTS[8:], bootstrap_of(np.arange(8), 30))
    assert (found.rho.value, found.rho.why, found.n_prompts, found.n_left_out) == (None, NO_PROMPT, 0, 3)
    empty = spearman_by_prompt([], [], [], bootstrap_of([]))
    assert (empty.rho.value, empty.n_left_out) == (None, 0)


def test_spearman_by_prompt_interval_is_that_of_direct_recomputation():
    rng = np.random.default_rng(0)
    prompts, clips = rng.integers(0, 4, 80), rng.integers(0, 30, 80)
    scores, shares = rng.normal(size=80), rng.integers(0, 4, 80) / 3
    bootstrap = bootstrap_of(clips, 40)
    replicates = []
    for weights in bootstrap.weights:
        drawn = np.repeat(np.arange(80), weights[bootstrap.unit])
        groups = [drawn[prompts[drawn] == prompt] for prompt in range(4)]
        replicates.append(np.mean([spearmanr(scores[g], shares[g]).statistic for g in groups]))
    found = spearman_by_prompt(scores, shares, prompts, bootstrap).rho
    expected = estimate_from_replicates(
        found.value, np.array(replicates), n=80, units=bootstrap.units, values=COEFFICIENT
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(st.integers(0, 1000))
def test_spearman_by_prompt_ignores_increasing_transforms_and_changes_sign(seed):
    rng = np.random.default_rng(seed)
    prompts, scores, shares = rng.integers(0, 3, 40), rng.normal(size=40), rng.integers(0, 3, 40) / 2
    bootstrap = bootstrap_of(np.arange(40))
    value = spearman_by_prompt(scores, shares, prompts, bootstrap).rho.value
    transformed = np.exp(scores) + 7.0 * prompts
    assert spearman_by_prompt(transformed, shares, prompts, bootstrap).rho.value == pytest.approx(value)
    assert spearman_by_prompt(-scores, shares, prompts, bootstrap).rho.value == pytest.approx(-value)


# --- ceilings ---------------------------------------------------------------------------------------------------


def test_split_half_ceiling_by_hand():
    # Items with 2, 0, 1 and 1 of two raters: the halves of the split items agree in direction (rho 1/3) or not (0), so
    # r = 1/6 on average, the reliability is (2/6) / (7/6) = 2/7.
    estimate = split_half_ceiling([2, 0, 1, 1], [2, 2, 2, 2], ["a"] * 4, np.random.default_rng(0), splits=20_000)
    assert estimate.value == pytest.approx((2 / 7) ** 0.5, abs=0.01)
    assert (estimate.n, estimate.low) == (4, None)


def test_intraclass_correlation_by_hand():
    # Both raters present on 1 of 4 items; squared mean ((1 + ½ + ½)² − 1½) / 12 = 5/24; (1/4 − 5/24) / (1/2 − 5/24).
    value = intraclass_correlation(np.array([2, 0, 1, 1]), np.array([2, 2, 2, 2]), [np.arange(4)])
    assert value == pytest.approx((1 / 24) / (7 / 24))


def test_intraclass_correlation_of_simulated_raters():
    rng = np.random.default_rng(0)
    prompts, raters = rng.integers(0, 5, 40_000), rng.integers(1, 5, 40_000)
    mean = np.array([0.2, 0.3, 0.4, 0.5, 0.6])[prompts]
    present = rng.binomial(raters, rng.beta(1.5 * mean, 1.5 * (1 - mean)))  # 1 / (1 + 1.5)
    groups = [np.flatnonzero(prompts == prompt) for prompt in range(5)]
    assert intraclass_correlation(present, raters, groups) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("ceiling", [split_half_ceiling, attainable_spearman])
def test_ceilings_of_degenerate_votes_are_undefined_with_a_reason(ceiling):
    rng = np.random.default_rng(0)

    def why(present, raters):
        estimate = ceiling(present, raters, ["a"] * len(present), rng)
        assert estimate.value is None
        return estimate.why

    assert why([1, 0, 1, 0], [1, 1, 1, 1]) == NO_RATERS
    assert why([2, 2, 2, 2], [2, 2, 2, 2]) == NO_RATERS
    assert why([], []) == NO_RATERS
    assert why([1, 1, 1, 1], [2, 2, 2, 2]) == NO_RELIABILITY  # raters always disagree


SHAPES = {
    "beta": lambda rng, mean: rng.beta(2 * mean, 2 * (1 - mean)),
    "skewed": lambda rng, mean: rng.beta(0.6 * mean, 0.6 * (1 - mean)),
    "logistic": lambda rng, mean: 1 / (1 + np.exp(-2 * rng.normal(size=mean.shape) - np.log(mean / (1 - mean)))),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [2, 3, 5])
def test_a_scorer_equal_to_the_true_share_attains_the_attainable_correlation(shape, most):
    rng = np.random.default_rng(0)
    reached, attainable, ceiling = [], [], []
    for _ in range(30):
        prompts = np.repeat(np.arange(15), 60)
        mean = rng.uniform(0.15, 0.6, 15)[prompts]
        true, raters = SHAPES[shape](rng, mean), rng.integers(2, most + 1, len(prompts))
        present = rng.binomial(raters, true)
        bootstrap = bootstrap_of(np.arange(len(prompts)))
        reached.append(spearman_by_prompt(true, present / raters, prompts, bootstrap).rho.value)
        attainable.append(attainable_spearman(present, raters, prompts, rng, draws=10).value)
        ceiling.append(split_half_ceiling(present, raters, prompts, rng, splits=10).value)
    assert np.mean(attainable) == pytest.approx(np.mean(reached), abs=0.015)
    assert np.mean(ceiling) > np.mean(reached) - 0.01


@given(st.integers(0, 4), st.integers(0, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_rowwise_ranks_are_those_of_scipy(rows, columns, distinct, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, distinct, (rows, columns)) / 7.0
    if values.size:
        values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, 0.5])
    np.testing.assert_array_equal(_rowwise_ranks(values), rankdata(values, axis=1))

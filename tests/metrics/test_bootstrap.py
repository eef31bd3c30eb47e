"""Bootstrap: multiplicities, replicates against metrics recomputed from resampled data, and coverage."""

import json
from math import nan

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse, stats
from scipy.stats import binom, binomtest, norm
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from earmark.metrics.agreement import (
    AgreementSums,
    alpha_from_sums,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    item_contributions,
    nanmean,
    percent_agreement,
    rater_pairs,
    rating_counts,
)
from earmark.metrics.bootstrap import (
    CONSTANT,
    Bootstrap,
    Units,
    estimate_from_replicates,
    mcnemar_exact,
    mean_of_rates,
    multiplicities,
    paired_difference,
)
from earmark.metrics.classification import (
    DECISION_METRICS,
    decision_contributions,
    decision_metrics,
    evaluate,
    ranking_metrics,
    units_by_metric,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, COST, DIFFERENCE, SHARE, interval, t_quantile, wilson_interval

N_CLIPS, Q = 15, 4


def generator(seed=0):
    return np.random.default_rng(seed)


def replicates_of(bootstrap, contributions, formula):
    """Values of a formula on every replicate, (replicates,)."""
    seen = []

    def recording(sums):
        seen.append(formula(sums))
        return seen[-1]

    bootstrap.estimate(contributions, recording, n=1)
    return np.concatenate(seen[1:])


def resampled_items(bootstrap):
    """Items of each replicate, repeated by the multiplicity of their unit."""
    rows = np.arange(len(bootstrap.unit))
    return [
        np.concatenate([np.tile(rows[bootstrap.unit == u], k) for u, k in enumerate(drawn)])
        for drawn in bootstrap.weights
    ]


@pytest.fixture
def clips():
    """Clip of each of 45 items, 1 to 6 items per clip, in random order."""
    return generator(1).permutation(np.r_[np.arange(N_CLIPS), generator(2).integers(0, N_CLIPS, 30)])


@pytest.fixture
def bootstrap(clips):
    """60 replicates over the clips."""
    return Bootstrap.from_units(clips, 60, generator(3))


@pytest.fixture
def ratings(clips):
    """(5 raters, items) with missing values, on a scale of four categories."""
    rng = generator(4)
    truth = rng.integers(0, Q, len(clips))
    codes = np.where(rng.random((5, len(clips))) < 0.5, rng.integers(0, Q, (5, len(clips))), truth)
    return np.where(rng.random(codes.shape) < 0.35, np.nan, codes)


@pytest.fixture
def scored(clips):
    """Scores with ties, and labels of the items."""
    rng = generator(5)
    labels = rng.random(len(clips)) < 0.5
    return rng.normal(labels * 1.0).round(1), labels


# --- multiplicities -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_multiplicities_sum_to_number_of_units(n_units, replicates, seed):
    weights = multiplicities(n_units, replicates, generator(seed))
    assert weights.shape == (replicates, n_units)
    assert (weights.sum(axis=1) == n_units).all()


def test_multiplicities_are_binomial():
    weights = multiplicities(50, 4000, generator())
    assert_allclose(weights.mean(axis=0), 1, atol=0.08)  # 5 standard errors
    expected = binom.pmf(np.arange(4), 50, 1 / 50)
    assert_allclose([(weights == k).mean() for k in range(4)], expected, atol=0.006)


def test_bootstrap_reproducible_with_seed(clips):
    one, same, other = (Bootstrap.from_units(clips, 30, generator(seed)) for seed in (7, 7, 8))
    assert one.weights.tobytes() == same.weights.tobytes()
    assert one.unit.tobytes() == same.unit.tobytes()
    assert one.weights.tobytes() != other.weights.tobytes()


def test_from_units_groups_by_value():
    bootstrap = Bootstrap.from_units(["b", "a", "b", "c"], 5, generator())
    assert bootstrap.unit.tolist() == [1, 0, 1, 2]
    assert bootstrap.n_units == 3


def test_items_of_a_unit_share_multiplicity(bootstrap):
    each_item = np.eye(len(bootstrap.unit))
    held = np.stack(
        [replicates_of(bootstrap, column[:, None], lambda sums: sums[..., 0]) for column in each_item], axis=1
    )
    for unit in range(bootstrap.n_units):
        assert (held[:, bootstrap.unit == unit] == bootstrap.weights[:, [unit]]).all()


@pytest.mark.parametrize("kind", ["mask", "indices"])
def test_take_keeps_multiplicities(bootstrap, kind):
    values = generator(6).normal(size=len(bootstrap.unit))
    mask = values > 0.8
    assert len(set(bootstrap.unit[mask])) < bootstrap.n_units, "some unit must be without a row"
    taken = bootstrap.take(mask if kind == "mask" else np.flatnonzero(mask))
    assert (taken.weights[:, taken.unit] == bootstrap.weights[:, bootstrap.unit[mask]]).all()
    direct = [values[rows][mask[rows]].sum() for rows in resampled_items(bootstrap)]
    assert_allclose(replicates_of(taken, values[mask, None], lambda sums: sums[..., 0]), direct)


def test_take_with_repeated_indices(bootstrap):
    rows = np.array([4, 4, 0, 2])
    taken = bootstrap.take(rows)
    assert (taken.weights[:, taken.unit] == bootstrap.weights[:, bootstrap.unit[rows]]).all()
    assert taken.unit[0] == taken.unit[1]


@pytest.mark.filterwarnings("error")
def test_take_nothing(bootstrap):
    taken = bootstrap.take(np.zeros(len(bootstrap.unit), dtype=bool))
    estimate = taken.estimate(np.empty((0, 2)), lambda s: np.full(s.shape[:-1], nan), n=0, why="nothing")
    assert estimate == Estimate(None, n=0, why="nothing")


def test_take_single_unit_has_no_interval(bootstrap):
    mask = bootstrap.unit == 3
    estimate = bootstrap.take(mask).estimate(np.ones((mask.sum(), 2)), mean_formula, n=1)
    assert estimate == Estimate(1.0, n=1, why="no interval: fewer than two clips")


# --- replicates that do not vary --------------------------------------------------------------------------------


def alike(clips: int = 12) -> Bootstrap:
    return Bootstrap.from_units(np.arange(clips), 100, np.random.default_rng(0))


def test_estimate_of_equal_units_has_no_interval_inside_its_range():
    sums = np.tile([1.0, 2.0], (12, 1))
    estimate = alike().estimate(sums, mean_formula, n=12)
    assert estimate == Estimate(0.5, n=12, why=CONSTANT)
    cost = alike().estimate(sums, mean_formula, n=12, values=COST)
    assert cost == Estimate(0.5, n=12, why=CONSTANT)


def test_estimate_of_equal_units_at_a_bound_uses_the_number_of_units():
    estimate = alike().estimate(np.ones((12, 2)), mean_formula, n=12)
    t = stats.t.ppf(0.975, 11)
    assert (estimate.low, estimate.high) == (pytest.approx(12 / (12 + t**2)), 1.0)  # Wilson's interval of 12 of 12
    assert estimate.why is None


def test_paired_difference_that_does_not_vary_has_no_p():
    ones, zeros = np.ones(100), np.zeros(100)
    estimate, p = paired_difference(1.0, 0.0, ones, zeros, n=3, units=Units(3, "clips"))
    assert estimate == Estimate(1.0, n=3, why=CONSTANT)
    assert p is None


def test_paired_difference_of_equal_systems_is_zero():
    ones = np.ones(100)
    estimate, p = paired_difference(1.0, 1.0, ones, ones, n=3, units=Units(3, "clips"))
    assert (estimate.value, estimate.low, estimate.high, p) == (0.0, 0.0, 0.0, 1.0)


def test_mean_of_rates_of_a_constant_decision_has_an_interval():
    # Every item is predicted present: recall 1, specificity 0, and their mean is 0.5 in every replicate.
    replicates = np.tile([1.0, 0.0], (100, 1))
    units = (Units(25, "clips with a present item"), Units(30, "clips with an absent item"))
    estimate = mean_of_rates([1.0, 0.0], replicates, n=55, units=units)
    of_recall, of_specificity = wilson_interval(1.0, 25, t_quantile(24)), wilson_interval(0.0, 30, t_quantile(29))
    assert estimate.low == pytest.approx(0.5 - (1 - of_recall[0]) / 2)
    assert estimate.high == pytest.approx(0.5 + of_specificity[1] / 2)
    assert estimate.why is None and estimate.note is None


def test_mean_of_rates_without_variation_inside_the_range_has_no_interval():
    units = (Units(25, "clips"), Units(30, "clips"))
    estimate = mean_of_rates([0.5, 0.25], np.tile([0.5, 0.25], (100, 1)), n=55, units=units)
    assert estimate == Estimate(0.375, n=55, why=CONSTANT)
    # One rate at a bound does not show how the other may vary.
    estimate = mean_of_rates([1.0, 0.5], np.tile([1.0, 0.5], (100, 1)), n=55, units=units)
    assert estimate == Estimate(0.75, n=55, why=CONSTANT)


# --- replicates ---------------------------------------------------------------------------------------------


def sums_formula(formula):
    return lambda sums: formula(AgreementSums.from_sums(sums))


def direct_percent_agreement(ratings):
    agreeing = pairs = 0
    for i in range(len(ratings)):
        for j in range(i):
            both = ~np.isnan(ratings[[i, j]]).any(axis=0)
            agreeing, pairs = agreeing + (ratings[i] == ratings[j])[both].sum(), pairs + both.sum()
    return agreeing / pairs


def direct_quadratic_ac2(ratings):
    """Gwet's AC2 by a loop over ratings."""
    observed, shares = [], []
    for item in ratings.T:
        votes = item[~np.isnan(item)]
        if len(votes):
            shares.append([np.mean(votes == k) for k in range(Q)])
        if len(votes) > 1:
            credit = 1 - (np.subtract.outer(votes, votes) / (Q - 1)) ** 2
            observed.append((credit.sum() - len(votes)) / (len(votes) * (len(votes) - 1)))
    weights = 1 - (np.subtract.outer(np.arange(Q), np.arange(Q)) / (Q - 1)) ** 2
    pi = np.mean(shares, axis=0)
    chance = weights.sum() / (Q * (Q - 1)) * (pi * (1 - pi)).sum()
    return (np.mean(observed) - chance) / (1 - chance)


@pytest.mark.parametrize(
    ("formula", "direct"),
    [
        (percent_agreement, direct_percent_agreement),
        (
            lambda sums: alpha_from_sums(sums, "ordinal"),
            lambda r: krippendorff.alpha(reliability_data=r, value_domain=range(Q), level_of_measurement="ordinal"),
        ),
        (lambda sums: gwet_ac(sums, "quadratic"), direct_quadratic_ac2),
    ],
    ids=["percent agreement", "ordinal alpha", "quadratic AC2"],
)
def test_agreement_replicates_match_resampled_ratings(bootstrap, ratings, formula, direct):
    result = replicates_of(bootstrap, item_contributions(rating_counts(ratings, Q)), sums_formula(formula))
    expected = [direct(ratings[:, rows]) for rows in resampled_items(bootstrap)]
    assert len(expected) == 60
    assert_allclose(result, expected, rtol=0, atol=1e-10)


def cohen_of_pairs(ratings, bootstrap):
    """Sparse contributions of rater pairs, their bootstrap, and the formula of the mean kappa over pairs."""
    rater, item = np.nonzero(~np.isnan(ratings))
    pairs = rater_pairs(item, rater, ratings[rater, item].astype(int))
    n = len(pairs.pair)
    cells = sparse.csr_array((np.ones(n), (np.arange(n), pairs.cells(Q))), shape=(n, len(pairs.first) * Q * Q))
    return (
        cells,
        bootstrap.take(pairs.item),
        lambda sums: nanmean(cohen_kappa(sums.reshape(*sums.shape[:-1], -1, Q, Q), "quadratic")),
    )


def test_cohen_kappa_replicates_match_sklearn(bootstrap, ratings):
    def direct(resampled):
        kappas = []
        for i in range(len(resampled)):
            for j in range(i):
                both = ~np.isnan(resampled[[i, j]]).any(axis=0)
                a, b = resampled[i, both], resampled[j, both]
                kappas.append(sk.cohen_kappa_score(a, b, labels=range(Q), weights="quadratic") if both.any() else nan)
        return np.nanmean(kappas)

    cells, taken, formula = cohen_of_pairs(ratings, bootstrap)
    expected = [direct(ratings[:, rows]) for rows in resampled_items(bootstrap)]
    assert_allclose(replicates_of(taken, cells, formula), expected, rtol=0, atol=1e-10)


def test_estimate_sparse_equals_dense(bootstrap, ratings):
    cells, taken, formula = cohen_of_pairs(ratings, bootstrap)
    thin, thick = taken.estimate(cells, formula, n=5), taken.estimate(cells.toarray(), formula, n=5)
    assert_allclose([thin.value, thin.low, thin.high], [thick.value, thick.low, thick.high])


def test_balanced_accuracy_replicates_match_sklearn(bootstrap, scored):
    scores, labels = scored
    decisions = scores > 0.4
    column = DECISION_METRICS.index("balanced_accuracy")
    result = replicates_of(
        bootstrap, decision_contributions(decisions, labels), lambda sums: decision_metrics(sums)[..., column]
    )
    expected = [sk.balanced_accuracy_score(labels[r], decisions[r]) for r in resampled_items(bootstrap)]
    assert_allclose(result, expected)


def test_ranking_replicates_match_sklearn(bootstrap, scored):
    scores, labels = scored
    result = ranking_metrics(scores, labels, bootstrap.weights[:, bootstrap.unit])
    rows = resampled_items(bootstrap)
    assert_allclose(result[:, 0], [sk.roc_auc_score(labels[r], scores[r]) for r in rows])
    assert_allclose(result[:, 1], [sk.average_precision_score(labels[r], scores[r]) for r in rows])


def test_evaluate_intervals_from_replicates(bootstrap, scored):
    scores, labels = scored
    decisions, rows = scores > 0.4, resampled_items(bootstrap)
    result = evaluate(scores, decisions, labels, bootstrap)
    direct = {
        "balanced_accuracy": [sk.balanced_accuracy_score(labels[r], decisions[r]) for r in rows],
        "accuracy": [sk.accuracy_score(labels[r], decisions[r]) for r in rows],
        "f1": [sk.f1_score(labels[r], decisions[r]) for r in rows],
        "precision": [sk.precision_score(labels[r], decisions[r]) for r in rows],
        "recall": [sk.recall_score(labels[r], decisions[r]) for r in rows],
        "roc_auc": [sk.roc_auc_score(labels[r], scores[r]) for r in rows],
        "average_precision": [sk.average_precision_score(labels[r], scores[r]) for r in rows],
    }
    assert set(result) == set(direct)
    units = units_by_metric(decisions, labels, bootstrap)
    direct.pop("balanced_accuracy")  # of two rates, see below
    for name, replicates in direct.items():
        spread = np.std(replicates, ddof=1) * np.sqrt(units[name].n / (units[name].n - 1))
        low, high = interval(result[name].value, spread, units=units[name].n)
        assert_allclose([result[name].low, result[name].high], [low, high], err_msg=name)


def test_replicates_independent_of_chunk_size(bootstrap, scored, monkeypatch):
    scores, labels = scored
    whole = evaluate(scores, scores > 0.4, labels, bootstrap)
    for name in ("bootstrap", "classification"):
        monkeypatch.setattr(f"earmark.metrics.{name}.CHUNK_VALUES", 7 * 4 * len(labels))
    pieces = []
    bootstrap.estimate(scores[:, None], lambda s: pieces.append(len(s)) or s[..., 0], n=1)
    assert len(pieces) > 1
    monkeypatch.setattr("earmark.metrics.bootstrap.CHUNK_VALUES", 7)
    portions = evaluate(scores, scores > 0.4, labels, bootstrap)
    for name, estimate in whole.items():
        assert_allclose([portions[name].low, portions[name].high], [estimate.low, estimate.high], err_msg=name)


# --- estimates ----------------------------------------------------------------------------------------------


def mean_formula(sums):
    return sums[..., 0] / sums[..., 1]


def test_estimate_from_replicates_wilson_interval():
    replicates = 0.3 + 0.05 * np.tile([-1.0, 1.0], 500)
    estimate = estimate_from_replicates(0.3, replicates, n=7, units=Units(1000, "clips"))
    assert (estimate.value, estimate.n, estimate.why, estimate.note) == (0.3, 7, None, None)
    expected = proportion_confint(0.3 * 84, 84, method="wilson")  # 0.3 · 0.7 / 0.05² observations
    assert_allclose([estimate.low, estimate.high], expected, atol=1e-3)


@pytest.mark.parametrize("count", [5, 19, 20, 200])
def test_estimate_from_replicates_at_bound(count):
    estimate = estimate_from_replicates(1.0, np.ones(100), n=3 * count, units=Units(count, "clips"))
    assert estimate.high == 1
    assert estimate.low == pytest.approx(1 / (1 + t_quantile(count - 1) ** 2 / count))
    assert (estimate.note is None) == (count >= 20)


def test_mean_of_rates_away_from_bounds():
    rng = generator(1)
    drawn = rng.multivariate_normal([0.5, 0.5], [[1e-4, 5e-5], [5e-5, 1e-4]], 4000)
    units = Units(1000, "clips"), Units(1000, "clips")
    result = mean_of_rates([0.5, 0.5], drawn, n=9, units=units)
    assert result.high - result.low == pytest.approx(2 * t_quantile(999) * drawn.mean(axis=1).std(), rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_mean_of_rates_that_sum_to_one_has_finite_ends(seed):
    recall = np.random.default_rng(seed).integers(0, 12, 1000) / 12  # soft labels of one share, such as 2/3
    units = (Units(15, "clips with a present item"), Units(15, "clips with an absent item"))
    result = mean_of_rates([0.5, 0.5], np.stack([recall, 1 - recall], axis=1), n=18, units=units)
    assert 0 <= result.low <= 0.5 <= result.high <= 1


def test_mean_of_rates_with_rate_of_one():
    drawn = np.stack([np.ones(200), generator(1).normal(0.9, 0.02, 200)], axis=1)
    result = mean_of_rates([1.0, 0.9], drawn, n=325, units=(Units(25, "clips"), Units(300, "clips")))
    of_present = 1 - interval(1.0, 0.0, units=25)[0]
    assert result.value == pytest.approx(0.95)
    assert result.value - result.low > of_present / 2
    assert result.high - result.value < 0.03


def test_estimate_from_replicates_needs_20_replicates():
    assert estimate_from_replicates(0.5, np.array([0.4, 0.6]), n=9, units=Units(30, "clips")).why.endswith(
        "fewer than 20 replicates"
    )


@pytest.mark.parametrize("values", [SHARE, COEFFICIENT, COST, DIFFERENCE])
def test_interval_within_range_contains_value(values):
    rng = generator(3)
    for _ in range(300):
        value = rng.uniform(max(values.lower, -3), min(values.upper, 3))
        low, high = interval(value, rng.exponential(0.5), units=rng.integers(2, 50), values=values)
        assert values.lower <= low <= value <= high <= values.upper


def test_interval_needs_two_units():
    assert interval(0.5, 0.1, units=1) is None
    assert (
        estimate_from_replicates(0.5, np.linspace(0.4, 0.6, 30), n=9, units=Units(1, "clips")).why
        == "no interval: fewer than two clips"
    )


@pytest.mark.parametrize("undefined", [10, 11])
def test_estimate_from_replicates_needs_90_percent_defined(undefined):
    replicates = np.r_[np.full(undefined, np.nan), np.linspace(0, 1, 100 - undefined)]
    estimate = estimate_from_replicates(0.4, replicates, n=3, units=Units(30, "clips"))
    assert estimate.value == 0.4
    if undefined == 10:
        assert estimate.low < 0.4 < estimate.high
        assert estimate.why is None
    else:
        assert estimate.low is None and estimate.high is None
        assert estimate.why == "no interval: undefined in 11 of 100 replicates"


@pytest.mark.parametrize("value", [nan, np.inf, -np.inf])
def test_undefined_value_is_null_with_reason(value):
    estimate = estimate_from_replicates(value, np.ones(100), n=4, units=Units(9, "clips"), why="no items")
    assert estimate.as_dict() == {"value": None, "low": None, "high": None, "n": 4, "why": "no items"}
    assert estimate_from_replicates(value, np.ones(100), n=4, units=Units(9, "clips")).why


def test_as_dict_omits_why_of_defined_estimate():
    assert json.loads(json.dumps(Estimate(0.5, 0.4, 0.6, 9).as_dict(), allow_nan=False)) == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 9,
    }


def test_estimate_without_replicates_has_no_interval(clips):
    estimate = Bootstrap.from_units(clips, 0, generator()).estimate(np.ones((len(clips), 2)), mean_formula, n=2)
    assert estimate == Estimate(1.0, n=2)


def test_estimate_with_one_unit_has_no_interval():
    estimate = Bootstrap.from_units(["x", "x", "x"], 100, generator()).estimate(np.ones((3, 2)), mean_formula, n=3)
    assert estimate == Estimate(1.0, n=3, why="no interval: fewer than two clips")


def test_estimates_share_replicates(bootstrap):
    contributions = generator(9).random((len(bootstrap.unit), 2))
    first, second = bootstrap.estimates(contributions, lambda s: s * [1, 2], n=[1, 2], why=["", ""])
    alone = bootstrap.estimate(contributions, lambda s: 2 * s[..., 1], n=2)
    assert second == alone
    assert first.n == 1 and first.value == pytest.approx(contributions[:, 0].sum())


NO_PAIR = np.array([[0, nan, 1, nan], [nan, 1, nan, nan]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "ratings",
    [NO_PAIR, np.array([[0.0, 1.0, 1.0]]), np.zeros((3, 4)), np.full((2, 3), nan), np.empty((2, 0))],
    ids=["no item with two ratings", "one rater", "one category", "nothing rated", "no item"],
)
@pytest.mark.parametrize(
    "formula",
    [fleiss_kappa, alpha_from_sums, lambda s: alpha_from_sums(s, "ordinal"), gwet_ac],
    ids=["fleiss", "alpha", "ordinal alpha", "AC1"],
)
def test_undefined_agreement_is_null_in_json(ratings, formula):
    bootstrap = Bootstrap.from_units(np.arange(ratings.shape[1]), 20, generator())
    contributions = item_contributions(rating_counts(ratings, 2))
    estimate = bootstrap.estimate(contributions, sums_formula(formula), n=0, why="nothing to agree about")
    assert json.loads(json.dumps(estimate.as_dict(), allow_nan=False)) == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "why": "nothing to agree about",
    }


@pytest.mark.filterwarnings("error")
def test_agreement_undefined_in_most_replicates_has_no_interval():
    ratings = np.zeros((2, 6))
    ratings[0, 0] = 1  # only one item has a second category, which is missing in (5/6)^6 = 33 % of the replicates
    bootstrap = Bootstrap.from_units(np.arange(6), 300, generator())
    contributions = item_contributions(rating_counts(ratings, 2))
    estimate = bootstrap.estimate(contributions, sums_formula(gwet_ac), n=6)
    assert estimate.value is not None and estimate.low is None
    n_lost = int((bootstrap.weights[:, 0] == 0).sum())
    assert estimate.why == f"no interval: undefined in {n_lost} of 300 replicates"


# --- comparisons --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, 4, 10, 37])
@pytest.mark.parametrize("second", [0, 2, 4, 11, 60])
def test_mcnemar_exact_matches_statsmodels(first, second):
    p = mcnemar_exact(first, second)
    assert p == pytest.approx(mcnemar([[50, first], [second, 20]], exact=True).pvalue)
    assert p == mcnemar_exact(second, first)
    if first + second:
        assert p == pytest.approx(binomtest(first, first + second).pvalue)


def test_mcnemar_exact_worked_examples():
    assert mcnemar_exact(0, 0) == 1
    assert mcnemar_exact(5, 5) == 1
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar_exact(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)


# --- coverage -----------------------------------------------------------------------------------------------

DATA_SETS, REPLICATES, CLIPS, PER_CLIP = 500, 400, 150, 3
CLIP_OF = np.repeat(np.arange(CLIPS), PER_CLIP)


def covered(estimates, truth):
    return np.mean([e.low <= truth <= e.high for e in estimates])


@pytest.mark.slow
def test_percent_agreement_coverage_with_clustered_items():
    # A clip's items are rated present with a probability p ~ Beta(½, ½) of the clip: E[p² + (1 − p)²] = 3/4.
    rng, estimates, naive_widths, widths = generator(11), [], [], []
    for _ in range(DATA_SETS):
        p = rng.beta(0.5, 0.5, CLIPS)[CLIP_OF]
        ratings = (rng.random((3, len(p))) < p).astype(float)
        ratings[rng.random(ratings.shape) < 0.2] = np.nan
        contributions = item_contributions(rating_counts(ratings, 2))
        bootstrap = Bootstrap.from_units(CLIP_OF, REPLICATES, rng)
        estimates.append(bootstrap.estimate(contributions, sums_formula(percent_agreement), n=len(p)))
        widths.append(estimates[-1].high - estimates[-1].low)
        naive_widths.append(np.sqrt(0.75 * 0.25 / contributions[:, 1].sum() * 2) * 2 * 1.96)
    assert np.mean(widths) > 1.2 * np.mean(naive_widths), "the clip effect must be large enough to matter"
    assert 0.92 <= covered(estimates, 0.75) <= 0.98


@pytest.mark.slow
def test_balanced_accuracy_and_auc_coverage_with_clustered_items():
    # Scores: 1.2 for a positive, plus a clip effect and noise of equal variance; threshold .5.
    shift, deviation, threshold = 1.2, np.sqrt(2), 0.5
    truth = {
        "balanced_accuracy": (norm.sf((threshold - shift) / deviation) + norm.cdf(threshold / deviation)) / 2,
        "roc_auc": norm.cdf(shift / (deviation * np.sqrt(2))),
    }
    rng, estimates = generator(12), {name: [] for name in truth}
    for _ in range(DATA_SETS):
        labels = rng.random(len(CLIP_OF)) < 0.4
        scores = shift * labels + rng.normal(size=CLIPS)[CLIP_OF] + rng.normal(size=len(CLIP_OF))
        result = evaluate(scores, scores >= threshold, labels, Bootstrap.from_units(CLIP_OF, REPLICATES, rng))
        for name, kept in estimates.items():
            kept.append(result[name])
    shares = {name: covered(kept, truth[name]) for name, kept in estimates.items()}
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


def paired(first, second, rng, replicates=2000):
    """Difference of two means over the same units, with its p-value."""
    bootstrap = Bootstrap.from_units(np.arange(len(first)), replicates, rng)
    columns = np.stack([first, second, np.ones(len(first))], axis=1)
    both = bootstrap.replicates(columns, lambda sums: sums[..., :2] / sums[..., 2:], 2)
    return paired_difference(
        np.mean(first), np.mean(second), both[:, 0], both[:, 1], n=len(first), units=bootstrap.units
    )


def test_paired_difference_cancels_shared_difficulty():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    first, second = hard + 0.1 + 0.1 * rng.normal(size=200), hard + 0.1 * rng.normal(size=200)
    difference, p = paired(first, second, rng)
    assert difference.low < 0.1 < difference.high
    assert difference.high - difference.low < 0.06  # standard error of unpaired means: about 0.28
    assert p == pytest.approx(2 / 2001), "2,000 replicates cannot show less"


def test_paired_difference_of_same_system_is_zero():
    values = np.random.default_rng(1).normal(size=50)
    difference, p = paired(values, values, np.random.default_rng(2))
    assert (difference.value, difference.low, difference.high, p) == (0.0, 0.0, 0.0, 1.0)


def test_paired_difference_p_values_uniform_under_null():
    rng = np.random.default_rng(3)
    small = sum(paired(*rng.normal(size=(2, 80)), rng, replicates=400)[1] < 0.05 for _ in range(200))
    assert 2 <= small <= 22  # 10 expected; outside with probability below 0.002


def test_paired_difference_antisymmetric():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 60))
    one, p = paired(first, second, np.random.default_rng(5))
    other, q = paired(second, first, np.random.default_rng(5))
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert p == pytest.approx(q)


def test_paired_difference_without_replicates():
    difference, p = paired_difference(0.6, 0.5, np.empty(0), np.empty(0), n=3, units=Units(3, "clips"))
    assert (round(difference.value, 3), difference.low, p) == (0.1, None, None)
    assert paired_difference(np.nan, 0.5, np.empty(0), np.empty(0), n=3, units=Units(3, "clips"))[0].value is None


# --- units with equal contents ------------------------------------------------------------------------------


@pytest.fixture
def group_always(monkeypatch):
    monkeypatch.setattr("earmark.metrics.multisets.MIN_GROUPS", 0)
    monkeypatch.setattr("earmark.metrics.bootstrap.MIN_GROUPED", 0)


KINDS = np.random.default_rng(4).integers(0, 3, 90)
UNITS = np.repeat(np.arange(60), [1, 2] * 30)
CONTENTS = np.array([[0.1, 1.0], [1 / 3, 1.0], [0.7, 2.0]])


def test_grouped_gives_same_replicates(group_always):
    bootstrap = Bootstrap.from_units(UNITS, 40, generator(1))
    grouped = bootstrap.grouped(KINDS)
    assert grouped.weights.shape[1] < 15 < bootstrap.n_units == grouped.n_units
    for mask in (np.ones(90, dtype=bool), KINDS == 1):
        one, other = bootstrap.take(mask), grouped.take(mask)
        assert one.n_units == other.n_units
        values = [each.replicates(CONTENTS[KINDS[mask]], mean_formula, 1) for each in (one, other)]
        np.testing.assert_allclose(*values, rtol=1e-12)
        assert one.units_with(KINDS[mask] == 1, "") == other.units_with(KINDS[mask] == 1, "")


def test_grouped_accepts_sparse_contributions(group_always):
    bootstrap = Bootstrap.from_units(UNITS, 40, generator(1))
    values = [
        each.replicates(sparse.csr_array(CONTENTS[KINDS]), mean_formula, 1)
        for each in (bootstrap, bootstrap.grouped(KINDS))
    ]
    np.testing.assert_allclose(*values, rtol=1e-12)


def test_from_units_alike_draws_the_same(group_always):
    full = Bootstrap.from_units(UNITS, 30, generator(2)).grouped(KINDS)
    drawn = Bootstrap.from_units(np.arange(600), 30, generator(2), alike=np.arange(600) % 3)
    expected = Bootstrap.from_units(np.arange(600), 30, generator(2)).grouped(np.arange(600) % 3)
    assert (drawn.weights == expected.weights).all()
    assert drawn.weights.shape == (30, 3)
    assert full.weights.sum(axis=1).tolist() == [60] * 30


def test_grouped_again_by_coarser_and_by_finer_numbers(group_always):
    bootstrap = Bootstrap.from_units(np.arange(90), 20, generator(2))
    fine = bootstrap.grouped(KINDS)
    assert (fine.grouped(KINDS > 0).weights == bootstrap.grouped(KINDS > 0).weights).all()
    assert fine.grouped(np.arange(90)) is fine


def test_grouped_with_different_contents_raises(group_always):
    grouped = Bootstrap.from_units(np.arange(90), 20, generator(2)).grouped(KINDS)
    different = CONTENTS[KINDS].copy()
    different[np.flatnonzero(KINDS == 1)[1], 0] = 5.0
    for contributions in (different, sparse.csr_array(different)):
        with pytest.raises(ValueError, match="finer numbers"):
            grouped.replicates(contributions, mean_formula, 1)
    with pytest.raises(ValueError, match="finer numbers"):
        grouped.take(np.arange(45))


def test_estimate_from_replicates_cost_that_is_tiny_beside_its_standard_error():
    estimate = estimate_from_replicates(1e-9, np.linspace(0.0, 2.0, 99), n=30, units=Units(30, "clips"), values=COST)
    assert (estimate.value, estimate.low, estimate.high) == (1e-9, None, None)
    assert estimate.why == "no interval: the value is too small for its standard error"
    zero = estimate_from_replicates(0.0, np.linspace(0.0, 2.0, 99), n=30, units=Units(30, "clips"), values=COST)
    assert zero.why == "no interval: the value is 0"

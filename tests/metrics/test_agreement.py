"""Agreement: published examples, other packages on random data, invariances, and undefined cases."""

import json
from itertools import combinations
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa as statsmodels_cohen
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from earmark.metrics.agreement import (
    AgreementSums,
    RaterPairs,
    alpha_from_sums,
    brennan_prediger,
    category_weights,
    cohen_kappa,
    conger_kappa,
    fleiss_kappa,
    gwet_ac,
    item_contributions,
    krippendorff_alpha,
    leave_one_out,
    nanmean,
    pairwise_accuracies,
    percent_agreement,
    rater_pairs,
    rating_counts,
)

_ = np.nan
# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability: 4 raters, 12 items, values 1 … 5.
TWELVE_ITEMS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)
VALUES = np.arange(1, 6)
# Fleiss (1971): 14 psychiatrists, 10 patients, 5 diagnoses.
PSYCHIATRISTS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
PARADOX = [[118, 5], [2, 0]]
IRRCAC = json.loads(Path(__file__).with_name("irrcac_values.json").read_text(encoding="utf-8"))
LEVELS = ("nominal", "ordinal", "interval", "ratio")
WEIGHTINGS = ("unweighted", "linear", "quadratic")
SHAPES = [(5, 2, 2), (12, 3, 3), (30, 4, 5), (80, 8, 4), (200, 12, 7)]  # items, raters, categories


def sums_of(ratings, q=None):
    return AgreementSums.from_sums(item_contributions(rating_counts(ratings, q)).sum(axis=0))


def counted(counts):
    return AgreementSums.from_sums(item_contributions(counts).sum(axis=0))


def two_raters(confusion):
    """Ratings, (2, items), that give a confusion matrix."""
    table = np.asarray(confusion)
    return np.repeat(np.indices(table.shape).reshape(2, -1), table.ravel(), axis=1).astype(float)


def random_ratings(items, raters, q, seed, missing=0.3, noise=0.5):
    """Noisy copies of a reference with missing values, (raters, items); every category is used in a pair."""
    rng = np.random.default_rng(seed)
    while True:
        truth = rng.binomial(q - 1, 0.4, items)
        ratings = np.where(rng.random((raters, items)) < noise, rng.integers(0, q, (raters, items)), truth[None])
        ratings = np.where(rng.random((raters, items)) < missing, np.nan, ratings)
        paired = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
        if len(np.unique(paired[~np.isnan(paired)])) == q:
            return ratings


def random_confusion(q, seed):
    return np.random.default_rng(seed).integers(0, 12, (q, q)) + 5 * np.eye(q, dtype=int)


def all_coefficients(ratings, q):
    """All coefficients of a rating matrix, by name."""
    counts, sums = rating_counts(ratings, q), sums_of(ratings, q)
    result = {
        "percent": percent_agreement(sums),
        "percent_ratings": percent_agreement(sums, "ratings"),
        "fleiss": fleiss_kappa(sums),
    }
    for weighting in WEIGHTINGS:
        result[f"gwet_{weighting}"] = gwet_ac(sums, weighting)
        result[f"brennan_prediger_{weighting}"] = brennan_prediger(sums, weighting)
        result[f"conger_{weighting}"] = conger_kappa(ratings, weighting)
    for level in LEVELS:
        result[f"alpha_{level}"] = krippendorff_alpha(counts, level, np.arange(1, q + 1))
        result[f"alpha_sums_{level}"] = alpha_from_sums(sums, level, np.arange(1, q + 1))
    return {name: float(value) for name, value in result.items()}


def assert_same(one, other, names=None):
    for name in names or one:
        assert one[name] == pytest.approx(other[name], abs=1e-9, nan_ok=True), name


# --- published and worked examples --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107), ("ratio", 0.797403)]
)
def test_krippendorff_alpha_published_example(level, value):
    counts = rating_counts(TWELVE_ITEMS - 1, 5)
    assert krippendorff_alpha(counts, level, VALUES) == pytest.approx(value, abs=5e-7)
    assert alpha_from_sums(counted(counts), level, VALUES) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("trap", [0.789, 0.83364])  # a bug of an older package; Gwet's "ordinal" weights
def test_krippendorff_alpha_ordinal_differs_from_known_mistakes(trap):
    counts = rating_counts(TWELVE_ITEMS - 1, 5)
    assert abs(krippendorff_alpha(counts, "ordinal") - trap) > 0.01
    assert abs(alpha_from_sums(counted(counts), "ordinal") - trap) > 0.01


def test_gwet_coefficients_published_example():
    sums = sums_of(TWELVE_ITEMS - 1, 5)
    assert gwet_ac(sums) == pytest.approx(0.77544, abs=5e-6)
    assert gwet_ac(sums, "quadratic") == pytest.approx(0.914, abs=5e-4)
    assert brennan_prediger(sums) == pytest.approx(0.77273, abs=5e-6)
    assert fleiss_kappa(sums) == pytest.approx(0.76117, abs=5e-6)


def test_conger_kappa_published_example():
    # statistics.md prints .76282; the formula gives .76207, and irrCAC 0.4.4 agrees with the formula.
    assert conger_kappa(TWELVE_ITEMS - 1) == pytest.approx(0.76207, abs=5e-6)


def test_percent_agreement_worked_example():
    # Agreeing pairs of the 12 items: 3 3 6 6 6 0 6 3 6 3 1 0, of 3 6 6 6 6 6 6 6 6 3 1 0.
    sums = sums_of(TWELVE_ITEMS - 1, 5)
    assert percent_agreement(sums) == pytest.approx(43 / 55)
    # Proportions 1 ½ 1 1 1 0 1 ½ 1 1 1, weighted by ratings 3 4 4 4 4 4 4 4 4 3 2; the last item has no pair.
    assert percent_agreement(sums, "ratings") == pytest.approx((3 + 2 + 4 + 4 + 4 + 0 + 4 + 2 + 4 + 3 + 2) / 40)


def test_gwet_ac_kappa_paradox():
    assert cohen_kappa(PARADOX) == pytest.approx(-0.0234, abs=5e-5)
    assert gwet_ac(sums_of(two_raters(PARADOX))) == pytest.approx(0.9408, abs=5e-5)


def test_cohen_kappa_textbook_table():
    assert cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)


def test_fleiss_kappa_published_example():
    assert fleiss_kappa(counted(PSYCHIATRISTS)) == pytest.approx(0.210, abs=5e-4)


def test_category_weights_values():
    assert category_weights(3, "unweighted").tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert category_weights(3, "linear").tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]
    assert category_weights(3, "quadratic").tolist() == [[1, 0.75, 0], [0.75, 1, 0.75], [0, 0.75, 1]]


def test_rating_counts_worked_example():
    assert rating_counts([[0, 2, _], [0, 1, _]], 4).tolist() == [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("fault", [-1, 0.5, 3, np.inf])
def test_rating_counts_rejects_invalid_codes(fault):
    with pytest.raises(ValueError, match=r"codes 0 … 2 or NaN"):
        rating_counts([[0, 1], [2, fault]], 3)


# --- against other packages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_krippendorff_alpha_matches_krippendorff_package(shape, seed, level):
    items, raters, q = shape
    ratings, values = random_ratings(items, raters, q, seed), np.array([1, 2, 4, 7, 11, 16, 22])[:q]
    as_values = np.where(np.isnan(ratings), np.nan, values[np.nan_to_num(ratings).astype(int)])
    expected = krippendorff.alpha(reliability_data=as_values, level_of_measurement=level)
    assert krippendorff_alpha(rating_counts(ratings, q), level, values) == pytest.approx(expected, abs=1e-10)
    assert alpha_from_sums(sums_of(ratings, q), level, values) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("level", LEVELS)
def test_krippendorff_alpha_matches_definition(level):
    ratings, values = random_ratings(15, 4, 4, seed=3), np.array([1.0, 2.0, 4.0, 7.0])
    pairable = [r[~np.isnan(r)].astype(int) for r in ratings.T if (~np.isnan(r)).sum() > 1]
    everything = np.concatenate(pairable)
    used = np.bincount(everything, minlength=4)

    def distance(c, k):
        low, high = min(c, k), max(c, k)
        return {
            "nominal": float(c != k),
            "ordinal": (used[low : high + 1].sum() - (used[low] + used[high]) / 2) ** 2,
            "interval": (values[c] - values[k]) ** 2,
            "ratio": ((values[c] - values[k]) / (values[c] + values[k])) ** 2,
        }[level]

    within = sum(2 * distance(a, b) / (len(item) - 1) for item in pairable for a, b in combinations(item, 2))
    among = sum(2 * distance(a, b) for a, b in combinations(everything, 2))
    expected = 1 - (within / len(everything)) / (among / (len(everything) * (len(everything) - 1)))
    assert krippendorff_alpha(rating_counts(ratings), level, values) == pytest.approx(expected)
    assert alpha_from_sums(sums_of(ratings), level, values) == pytest.approx(expected)


@pytest.mark.parametrize("level", LEVELS)
def test_krippendorff_alpha_default_values(level):
    ratings = random_ratings(25, 4, 4, seed=11)
    expected = krippendorff.alpha(reliability_data=ratings, level_of_measurement=level)
    assert krippendorff_alpha(rating_counts(ratings), level) == pytest.approx(expected, abs=1e-10)
    assert alpha_from_sums(sums_of(ratings), level) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("case", IRRCAC["cases"], ids=lambda case: f"{len(case['ratings'])}x{len(case['ratings'][0])}")
def test_coefficients_match_irrcac(case):
    ratings, q = np.array(case["ratings"], dtype=float), case["categories"]
    sums = sums_of(ratings, q)
    assert fleiss_kappa(sums) == pytest.approx(case["values"]["fleiss"]["unweighted"], abs=1e-11)
    for weighting in WEIGHTINGS:
        actual = {
            "gwet": gwet_ac(sums, weighting),
            "bp": brennan_prediger(sums, weighting),
            "conger": conger_kappa(ratings, weighting),
        }
        for name, value in actual.items():
            assert value == pytest.approx(case["values"][name][weighting], abs=1e-11), (name, weighting)


def test_irrcac_values_include_missing_and_single_ratings():
    shares_missing, lone = [], 0
    for case in IRRCAC["cases"]:
        rated = ~np.isnan(np.array(case["ratings"], dtype=float))
        shares_missing.append(1 - rated.mean())
        lone += int((rated.sum(axis=0) == 1).sum())
    assert len(IRRCAC["cases"]) >= 6
    assert max(shares_missing) > 0.5 and min(shares_missing) == 0
    assert lone > 10


@pytest.mark.parametrize("seed", range(5))
def test_fleiss_kappa_matches_statsmodels(seed):
    rng = np.random.default_rng(seed)
    table = rng.multinomial(6, rng.dirichlet([1, 1, 1, 1]), 40)
    assert fleiss_kappa(counted(table)) == pytest.approx(statsmodels_fleiss(table, method="fleiss"))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("q", [2, 3, 6])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_cohen_kappa_matches_statsmodels(weighting, q, seed):
    table = random_confusion(q, seed)
    expected_kappa = statsmodels_cohen(table, wt=None if weighting == "unweighted" else weighting)
    assert cohen_kappa(table, weighting) == pytest.approx(expected_kappa.kappa)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_cohen_kappa_matches_sklearn(weighting, seed):
    table = random_confusion(4, seed)
    first, second = two_raters(table).astype(int)
    expected = cohen_kappa_score(first, second, weights=None if weighting == "unweighted" else weighting)
    assert cohen_kappa(table, weighting) == pytest.approx(expected)


def test_cohen_kappa_vectorised():
    tables = np.stack([[random_confusion(3, 2 * i + j) for j in range(2)] for i in range(3)])
    together = cohen_kappa(tables, "linear")
    assert together.shape == (3, 2)
    assert_allclose(together, [[cohen_kappa(t, "linear") for t in row] for row in tables])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_conger_kappa_equals_cohen_kappa_for_two_raters(weighting):
    table = random_confusion(4, seed=9)
    assert conger_kappa(two_raters(table), weighting) == pytest.approx(float(cohen_kappa(table, weighting)))


@pytest.mark.parametrize("shape", SHAPES)
def test_percent_agreement_matches_loop_over_pairs(shape):
    items, raters, q = shape
    ratings = random_ratings(items, raters, q, seed=5)
    agreeing, pairs, weighed, ratings_in_pairs = 0, 0, 0.0, 0
    for item in ratings.T:
        votes = item[~np.isnan(item)]
        equal = [a == b for a, b in combinations(votes, 2)]
        agreeing, pairs = agreeing + sum(equal), pairs + len(equal)
        if equal:
            weighed += len(votes) * sum(equal) / len(equal)
            ratings_in_pairs += len(votes)
    sums = sums_of(ratings, q)
    assert percent_agreement(sums) == pytest.approx(agreeing / pairs)
    assert percent_agreement(sums, "ratings") == pytest.approx(weighed / ratings_in_pairs)


def test_agreement_sums_keep_leading_axes():
    matrices = [random_ratings(20, 4, 3, seed) for seed in range(4)]
    stacked = np.stack([item_contributions(rating_counts(r, 3)).sum(axis=0) for r in matrices]).reshape(2, 2, -1)
    sums = AgreementSums.from_sums(stacked)
    for formula in (
        percent_agreement,
        fleiss_kappa,
        gwet_ac,
        brennan_prediger,
        lambda s: alpha_from_sums(s, "ordinal"),
    ):
        assert_allclose(formula(sums).ravel(), [float(formula(sums_of(r, 3))) for r in matrices])


# --- pairs of raters ----------------------------------------------------------------------------------------


def long_form(ratings):
    """Item, rater and rating codes of a matrix in shuffled order."""
    rater, item = np.nonzero(~np.isnan(ratings))
    order = np.random.default_rng(0).permutation(len(item))
    return item[order], rater[order], ratings[rater, item].astype(int)[order]


@pytest.mark.parametrize("shape", SHAPES)
def test_rater_pairs_match_double_loop(shape):
    items, raters, q = shape
    ratings = random_ratings(items, raters, q, seed=8)
    result = rater_pairs(*long_form(ratings))
    entries = sorted(
        zip(result.first[result.pair], result.second[result.pair], result.item, result.left, result.right, strict=True)
    )
    expected = [
        (a, b, i, ratings[a, i], ratings[b, i])
        for a, b in combinations(range(raters), 2)
        for i in range(items)
        if not np.isnan(ratings[[a, b], i]).any()
    ]
    assert entries == expected


def test_rater_pairs_cells_orientation():
    # Rater 0 rates 0, 0, 1; rater 1 rates 1, 1, 1; rater 2 rates the last item only.
    result = rater_pairs(
        np.array([0, 0, 1, 1, 2, 2, 2]), np.array([1, 0, 0, 1, 2, 0, 1]), np.array([1, 0, 0, 1, 0, 1, 1])
    )
    tables = np.bincount(result.cells(2), minlength=12).reshape(3, 2, 2)
    assert list(zip(result.first, result.second, strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert tables.tolist() == [[[0, 2], [0, 1]], [[0, 0], [1, 0]], [[0, 0], [1, 0]]]


def test_rater_pairs_unique_per_item():
    result = rater_pairs(*long_form(random_ratings(60, 9, 3, seed=2, missing=0.7)))
    assert (result.first < result.second).all()
    assert len(set(zip(result.first, result.second, strict=True))) == len(result.first)
    assert len(set(zip(result.pair, result.item, strict=True))) == len(result.pair)
    assert set(result.pair) == set(range(len(result.first)))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_cohen_kappa_of_rater_pairs_matches_sklearn(weighting):
    q, ratings = 4, random_ratings(80, 6, 4, seed=4)
    result = rater_pairs(*long_form(ratings))
    tables = np.bincount(result.cells(q), minlength=len(result.first) * q * q).reshape(-1, q, q)
    kappas = cohen_kappa(tables, weighting)
    assert len(kappas) == 15
    for a, b, kappa in zip(result.first, result.second, kappas, strict=True):
        both = ~np.isnan(ratings[[a, b]]).any(axis=0)
        expected = cohen_kappa_score(
            ratings[a, both],
            ratings[b, both],
            labels=range(q),
            weights=None if weighting == "unweighted" else weighting,
        )
        assert kappa == pytest.approx(expected)


def test_rater_pairs_without_ratings():
    none = np.empty(0, dtype=np.int64)
    result = rater_pairs(none, none, none)
    assert isinstance(result, RaterPairs)
    assert [len(x) for x in (result.first, result.second, result.pair, result.item, result.left, result.right)] == [
        0
    ] * 6


def test_rater_pairs_ignore_single_ratings():
    result = rater_pairs(np.array([0, 1, 2]), np.array([0, 1, 0]), np.array([1, 1, 0]))
    assert len(result.first) == len(result.pair) == 0


def direct_pairwise_accuracies(tables):
    rows = []
    for table in tables:
        n = table.sum()
        directions = [
            (truth[0, 0] / truth[0].sum() + truth[1, 1] / truth[1].sum()) / 2
            for truth in (table, table.T)
            if (truth.sum(axis=1) > 0).all()
        ]
        accuracy = np.trace(table) / n if n else np.nan
        rows.append((n, accuracy, np.mean(directions) if directions else np.nan))
    n, accuracy, balanced = np.array(rows, dtype=float).T
    there = ~np.isnan(balanced)
    return [
        np.nanmean(accuracy),
        np.nanmean(balanced),
        np.nansum(n * accuracy) / n[n > 0].sum(),
        (n * balanced)[there].sum() / n[there].sum(),
    ]


@pytest.mark.parametrize("seed", range(10))
def test_pairwise_accuracies_match_loop_over_pairs(seed):
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, 6, (8, 2, 2)) * rng.integers(0, 2, (8, 2, 2))  # many empty cells, rows, tables
    tables[0] = [[4, 1], [2, 3]]
    assert_allclose(pairwise_accuracies(tables.astype(float)), direct_pairwise_accuracies(tables))


def test_pairwise_accuracies_worked_example():
    # One pair, 10 items: accuracy 7/10. First as reference: (4/5 + 3/5) / 2; second: (4/6 + 3/4) / 2.
    result = pairwise_accuracies(np.array([[[4.0, 1.0], [2.0, 3.0]]]))
    assert_allclose(result, [0.7, (0.7 + 17 / 24) / 2, 0.7, (0.7 + 17 / 24) / 2])


def test_pairwise_balanced_accuracy_ignores_undefined_direction():
    # The first rater gives only 1: a reference of one class. Second as reference: (0 + 1) / 2.
    assert pairwise_accuracies(np.array([[[0.0, 0.0], [2.0, 6.0]]]))[1] == pytest.approx(0.5)


def test_nanmean_ignores_nan():
    assert nanmean(np.array([1.0, np.nan, 4.0])) == 2.5
    assert nanmean(np.array([1.0, np.nan, 4.0]), [3, 100, 1]) == 1.75
    assert_allclose(nanmean(np.array([[np.nan, np.nan], [2.0, np.nan], [0.0, 1.0]])), [np.nan, 2.0, 0.5])


def direct_leave_one_out(ratings):
    """Leave-one-out counts, (items, 4), by a loop over ratings of 0, 1 and NaN."""
    table = np.zeros((ratings.shape[1], 4))
    for i, item in enumerate(ratings.T):
        votes = item[~np.isnan(item)]
        for j, vote in enumerate(votes):
            others = np.delete(votes, j)
            if len(others) < 2 or others.mean() == 0.5:
                continue
            truth = others.mean() > 0.5
            table[i, {(True, 1): 0, (True, 0): 1, (False, 0): 2, (False, 1): 3}[truth, int(vote)]] += 1
    return table


@pytest.mark.parametrize(("raters", "missing"), [(2, 0.2), (3, 0.0), (4, 0.2), (7, 0.5)])
def test_leave_one_out_matches_loop(raters, missing):
    ratings = random_ratings(120, raters, 2, seed=raters, missing=missing)
    assert leave_one_out(rating_counts(ratings, 2)).tolist() == direct_leave_one_out(ratings).tolist()


# --- undefined cases ----------------------------------------------------------------------------------------

NO_PAIR = np.array([[0, _, 1, _], [_, 1, _, _]])
ONE_RATER = np.array([[0.0, 1.0, 0.0, 1.0]])
ONE_CATEGORY = np.zeros((3, 5))
DEFINED_ON_ONE_CATEGORY = {"percent", "percent_ratings"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("ratings", "q"),
    [(NO_PAIR, 2), (ONE_RATER, 2), (np.full((3, 4), np.nan), 2), (np.empty((0, 5)), 2), (np.empty((3, 0)), 2)],
    ids=["no item with two ratings", "one rater", "nothing rated", "no rater", "no item"],
)
def test_coefficients_undefined_without_pairs(ratings, q):
    assert {name for name, value in all_coefficients(ratings, q).items() if not np.isnan(value)} == set()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("q", [1, 2, 5])
def test_coefficients_undefined_for_single_category(q):
    result = all_coefficients(ONE_CATEGORY, q)
    assert {name for name, value in result.items() if not np.isnan(value)} == DEFINED_ON_ONE_CATEGORY
    assert result["percent"] == result["percent_ratings"] == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ratings", [np.empty((0, 0)), np.empty((0, 4)), np.full((3, 4), np.nan)])
def test_coefficients_undefined_without_categories(ratings):
    assert np.isnan(list(all_coefficients(ratings, 0).values())).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("level", LEVELS)
def test_krippendorff_alpha_ignores_single_ratings(level):
    ratings = np.array([[0, 0, 1], [0, 0, _]])
    assert np.isnan(krippendorff_alpha(rating_counts(ratings), level))
    assert np.isnan(alpha_from_sums(sums_of(ratings), level))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("table", [np.zeros((2, 2)), [[7, 0], [0, 0]], [[0, 0], [0, 3]]])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_cohen_kappa_undefined_for_equal_constant_raters(table, weighting):
    assert np.isnan(cohen_kappa(table, weighting))


@pytest.mark.filterwarnings("error")
def test_cohen_kappa_of_one_constant_rater_is_zero():
    assert cohen_kappa([[6, 0], [4, 0]]) == pytest.approx(0)


@pytest.mark.filterwarnings("error")
def test_pairwise_accuracies_undefined_without_pairs():
    assert np.isnan(pairwise_accuracies(np.zeros((0, 2, 2)))).all()
    assert np.isnan(pairwise_accuracies(np.zeros((3, 2, 2)))).all()
    assert np.isnan(nanmean(np.empty(0)))


@pytest.mark.filterwarnings("error")
def test_leave_one_out_requires_untied_majority():
    assert leave_one_out([[0, 0], [1, 0], [1, 1], [0, 2]]).tolist() == [[0] * 4] * 4
    assert leave_one_out(np.empty((0, 2))).shape == (0, 4)
    assert leave_one_out([[0, 3], [3, 0], [2, 2]]).tolist() == [[3, 0, 0, 0], [0, 0, 3, 0], [0, 2, 0, 2]]


# --- invariances --------------------------------------------------------------------------------------------


@st.composite
def rating_matrices(draw, q=3):
    """Matrices (raters, items) of codes 0 … q − 1 and NaN."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 8)))
    codes = draw(arrays(np.int64, shape, elements=st.integers(-1, q - 1)))
    return np.where(codes < 0, np.nan, codes)


def is_symmetric(name):
    """Whether a coefficient is invariant to relabelling of categories."""
    return name.startswith(("percent", "fleiss")) or name.endswith(("unweighted", "nominal"))


@settings(deadline=None)
@given(rating_matrices(), st.randoms(use_true_random=False))
def test_coefficients_invariant_to_order(ratings, random):
    raters, items = ratings.shape
    shuffled = ratings[random.sample(range(raters), raters)][:, random.sample(range(items), items)]
    assert_same(all_coefficients(ratings, 3), all_coefficients(shuffled, 3))


@settings(deadline=None)
@given(rating_matrices(), st.permutations([0, 1, 2]))
def test_nominal_coefficients_invariant_to_relabelling(ratings, names):
    renamed = np.where(np.isnan(ratings), np.nan, np.array(names)[np.nan_to_num(ratings).astype(int)])
    before = all_coefficients(ratings, 3)
    assert_same(before, all_coefficients(renamed, 3), [name for name in before if is_symmetric(name)])


@settings(deadline=None)
@given(rating_matrices(q=4))
def test_coefficients_invariant_to_reversed_scale(ratings):
    before = all_coefficients(ratings, 4)
    names = [name for name in before if not name.endswith("ratio")]
    assert_same(before, all_coefficients(3 - ratings, 4), names)


@settings(deadline=None)
@given(rating_matrices())
def test_coefficients_ignore_empty_items_and_raters(ratings):
    padded = np.pad(ratings, 1, constant_values=np.nan)
    assert_same(all_coefficients(ratings, 3), all_coefficients(padded, 3))


@settings(deadline=None)
@given(rating_matrices())
def test_effect_of_unused_category(ratings):
    before = all_coefficients(ratings, 3)
    names = [n for n in before if n.startswith(("percent", "fleiss", "alpha", "conger"))]
    assert_same(before, all_coefficients(ratings, 4), names)


def test_brennan_prediger_unused_category_lowers_chance():
    ratings = random_ratings(30, 3, 3, seed=0)
    assert brennan_prediger(sums_of(ratings, 4)) > brennan_prediger(sums_of(ratings, 3))


@settings(deadline=None)
@given(rating_matrices())
def test_alpha_from_sums_matches_krippendorff_alpha(ratings):
    result = all_coefficients(ratings, 3)
    for level in LEVELS:
        assert result[f"alpha_sums_{level}"] == pytest.approx(result[f"alpha_{level}"], abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(rating_matrices())
def test_coefficients_at_most_one(ratings):
    result = all_coefficients(ratings, 3)
    perfect = result["percent"] == 1
    for name, value in result.items():
        if not np.isnan(value):
            assert value <= 1 + 1e-12, name
            assert (value > 1 - 1e-9) == perfect, name


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_leave_one_out_symmetric_in_classes(counts):
    mirrored = leave_one_out([(present, absent) for absent, present in counts])
    assert mirrored[:, [2, 3, 0, 1]].tolist() == leave_one_out(counts).tolist()


@settings(deadline=None)
@given(arrays(np.int64, (3, 3), elements=st.integers(0, 9)))
def test_cohen_kappa_symmetric(table):
    for weighting in WEIGHTINGS:
        assert cohen_kappa(table, weighting) == pytest.approx(cohen_kappa(table.T, weighting), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6])
@pytest.mark.parametrize("level", ["interval", "ratio"])
def test_krippendorff_alpha_invariant_to_scaling(level, scale):
    counts = rating_counts(TWELVE_ITEMS - 1, 5)
    expected = krippendorff_alpha(counts, level, VALUES)
    assert krippendorff_alpha(counts, level, VALUES * scale) == pytest.approx(expected)
    assert alpha_from_sums(counted(counts), level, VALUES * scale) == pytest.approx(expected)


def test_krippendorff_alpha_interval_invariant_to_shift():
    sums = sums_of(TWELVE_ITEMS - 1, 5)
    assert alpha_from_sums(sums, "interval", VALUES + 10) == pytest.approx(alpha_from_sums(sums, "interval", VALUES))
    assert alpha_from_sums(sums, "ratio", VALUES + 10) != pytest.approx(alpha_from_sums(sums, "ratio", VALUES))

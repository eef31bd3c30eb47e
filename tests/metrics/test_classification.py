"""Classification metrics: scikit-learn as reference, invariances, thresholds against brute force, missing classes."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn import metrics as sk

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import (
    DECISION_METRICS,
    RANKING_METRICS,
    assign_folds,
    best_threshold,
    cross_fit,
    decision_contributions,
    decision_metrics,
    evaluate,
    ranking_metrics,
)

DECIMALS = [None, 1, 0]  # rounding of the scores: no ties, many ties, three or four distinct scores


def scored(n, seed, decimals=None):
    """Weakly informative scores, with both classes present."""
    rng = np.random.default_rng(seed)
    labels = np.r_[True, False, rng.random(n - 2) < 0.4]
    scores = rng.normal(labels * 1.0)
    return (scores if decimals is None else scores.round(decimals)), labels


def bootstrap_of(n, replicates=20, seed=0):
    return Bootstrap.from_units(np.arange(n), replicates, np.random.default_rng(seed))


def sklearn_decisions(labels, decisions, sample_weight=None):
    w = {"sample_weight": sample_weight}
    return [
        sk.balanced_accuracy_score(labels, decisions, **w),
        sk.accuracy_score(labels, decisions, **w),
        sk.f1_score(labels, decisions, zero_division=np.nan, **w),
        sk.precision_score(labels, decisions, zero_division=np.nan, **w),
        sk.recall_score(labels, decisions, zero_division=np.nan, **w),
    ]


def sklearn_ranking(labels, scores, sample_weight=None):
    return [
        sk.roc_auc_score(labels, scores, sample_weight=sample_weight),
        sk.average_precision_score(labels, scores, sample_weight=sample_weight),
    ]


def metrics_of(decisions, labels):
    return decision_metrics(decision_contributions(decisions, labels).sum(axis=0))


# --- decisions ----------------------------------------------------------------------------------------------


def test_decision_metrics_worked_example():
    # 3 true positives, 1 false positive, 4 true negatives, 2 false negatives.
    decisions = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    labels = [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert decision_contributions(decisions, labels).sum(axis=0).tolist() == [3, 1, 4, 2]
    assert_allclose(metrics_of(decisions, labels), [(3 / 5 + 4 / 5) / 2, 7 / 10, 6 / 9, 3 / 4, 3 / 5])


@pytest.mark.parametrize("n", [5, 50, 500])
@pytest.mark.parametrize("seed", range(4))
def test_decision_metrics_match_sklearn(n, seed):
    scores, labels = scored(n, seed)
    assert_allclose(metrics_of(scores > 0.3, labels), sklearn_decisions(labels, scores > 0.3))


@pytest.mark.parametrize("seed", range(3))
def test_decision_metrics_with_soft_labels(seed):
    rng = np.random.default_rng(seed)
    shares, decisions, scores = rng.integers(0, 4, 60) / 3, rng.random(60) < 0.5, rng.normal(size=60).round(1)
    twice, weight = np.repeat([True, False], 60), np.r_[shares, 1 - shares]
    assert_allclose(metrics_of(decisions, shares), sklearn_decisions(twice, np.tile(decisions, 2), weight))
    assert_allclose(ranking_metrics(scores, shares), sklearn_ranking(twice, np.tile(scores, 2), weight))


def test_decision_metrics_keep_leading_axes():
    sums = np.random.default_rng(0).integers(0, 9, (2, 3, 4)).astype(float)
    together = decision_metrics(sums)
    assert together.shape == (2, 3, 5)
    assert_allclose(together[1, 2], decision_metrics(sums[1, 2]))


@pytest.mark.filterwarnings("error")
def test_f1_zero_or_undefined():
    by_name = dict(zip(DECISION_METRICS, metrics_of([0, 0, 0], [1, 0, 0]), strict=True))
    assert by_name["f1"] == by_name["recall"] == 0 and np.isnan(by_name["precision"])
    by_name = dict(zip(DECISION_METRICS, metrics_of([0, 0, 0], [0, 0, 0]), strict=True))
    assert np.isnan([by_name[name] for name in ("f1", "recall", "precision", "balanced_accuracy")]).all()
    assert by_name["accuracy"] == 1


# --- ranking metrics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 50, 500])
@pytest.mark.parametrize("decimals", DECIMALS)
@pytest.mark.parametrize("seed", range(3))
def test_ranking_metrics_match_sklearn(n, decimals, seed):
    scores, labels = scored(n, seed, decimals)
    assert_allclose(ranking_metrics(scores, labels), sklearn_ranking(labels, scores))


@pytest.mark.parametrize("decimals", DECIMALS)
@pytest.mark.parametrize("seed", range(3))
def test_ranking_metrics_weighted_match_sklearn(decimals, seed):
    scores, labels = scored(80, seed, decimals)
    weights = np.random.default_rng(seed).poisson(1.0, (2, 3, 80)).astype(np.uint8)
    result = ranking_metrics(scores, labels, weights)
    assert result.shape == (2, 3, 2)
    for row, values in zip(weights.reshape(6, 80), result.reshape(6, 2), strict=True):
        assert_allclose(values, sklearn_ranking(labels, scores, row))


@pytest.mark.parametrize("decimals", DECIMALS)
def test_roc_auc_matches_definition(decimals):
    scores, labels = scored(60, 7, decimals)
    differences = np.subtract.outer(scores[labels], scores[~labels])
    assert ranking_metrics(scores, labels)[0] == pytest.approx(((differences > 0) + (differences == 0) / 2).mean())


def test_ranking_metrics_weights_equal_repetition():
    scores, labels = scored(40, 1, 1)
    times = np.random.default_rng(1).integers(0, 4, 40)
    repeated = ranking_metrics(np.repeat(scores, times), np.repeat(labels, times))
    assert_allclose(ranking_metrics(scores, labels, times), repeated)


def tied_trials(both=True):
    """Lists of (score, label) with few distinct scores; optionally with both classes present."""
    trial = st.tuples(st.integers(-3, 3), st.booleans())
    extremes = st.tuples(st.integers(-3, 3), st.integers(-3, 3))
    lists = st.lists(trial, max_size=30)
    return st.builds(lambda x, e: [*x, (e[0], True), (e[1], False)], lists, extremes) if both else lists


@settings(deadline=None)
@given(tied_trials())
def test_roc_auc_with_swapped_labels(trials):
    scores, labels = np.array(trials).T
    assert ranking_metrics(scores, labels)[0] + ranking_metrics(scores, 1 - labels)[0] == pytest.approx(1)


@settings(deadline=None)
@given(tied_trials())
def test_roc_auc_with_negated_scores(trials):
    scores, labels = np.array(trials).T
    assert ranking_metrics(scores, labels)[0] + ranking_metrics(-scores, labels)[0] == pytest.approx(1)


@settings(deadline=None)
@given(tied_trials(), st.sampled_from([lambda s: 3 * s - 7, np.exp, lambda s: s**3, np.arctan, lambda s: s * 1e-300]))
def test_ranking_metrics_invariant_to_increasing_transform(trials, transform):
    scores, labels = np.array(trials, dtype=float).T
    assert_allclose(ranking_metrics(transform(scores), labels), ranking_metrics(scores, labels))


@settings(deadline=None)
@given(tied_trials(), st.randoms(use_true_random=False))
def test_ranking_metrics_invariant_to_order(trials, random):
    shuffled = random.sample(trials, len(trials))
    (scores, labels), (other_scores, other_labels) = np.array(trials).T, np.array(shuffled).T
    assert_allclose(ranking_metrics(other_scores, other_labels), ranking_metrics(scores, labels))
    assert best_threshold(other_scores, other_labels) == best_threshold(scores, labels)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(-1e6, 1e6))
def test_ranking_metrics_equal_scores(positives, negatives, score):
    labels = np.r_[np.ones(positives), np.zeros(negatives)]
    auc, average_precision = ranking_metrics(np.full(len(labels), score), labels)
    assert auc == pytest.approx(0.5)
    assert average_precision == pytest.approx(positives / (positives + negatives))


def test_ranking_metrics_distinguish_last_bit():
    assert ranking_metrics([np.nextafter(1, 2), 1.0], [True, False])[0] == 1


@pytest.mark.filterwarnings("error")
def test_ranking_metrics_undefined_for_missing_class():
    assert np.isnan(ranking_metrics([0.1, 0.2], [False, False])).all()
    auc, average_precision = ranking_metrics([0.1, 0.2], [True, True])
    assert np.isnan(auc) and average_precision == 1
    assert np.isnan(ranking_metrics([], [])).all()
    assert np.isnan(ranking_metrics([0.1, 0.2], [True, False], np.zeros((3, 2)))).all()


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_ranking_metrics_reject_non_finite_scores(score):
    with pytest.raises(ValueError, match="finite"):
        ranking_metrics([0.1, score], [True, False])


def test_ranking_metrics_reject_different_lengths():
    with pytest.raises(ValueError, match="equally long"):
        ranking_metrics([0.1, 0.2, 0.3], [True, False])


# --- evaluate -----------------------------------------------------------------------------------------------


def test_evaluate_matches_sklearn():
    scores, labels = scored(200, 3)
    result = evaluate(scores, scores > 0.5, labels, bootstrap_of(200, 300))
    assert list(result) == [*DECISION_METRICS, *RANKING_METRICS]
    expected = [*sklearn_decisions(labels, scores > 0.5), *sklearn_ranking(labels, scores)]
    assert_allclose([e.value for e in result.values()], expected)
    assert all(e.low < e.value < e.high and e.n == 200 and e.why is None for e in result.values())


@pytest.mark.filterwarnings("error")
def test_evaluate_without_items():
    result = evaluate([], [], [], bootstrap_of(0))
    assert list(result) == [*DECISION_METRICS, *RANKING_METRICS]
    assert {(e.value, e.low, e.high, e.n, e.why) for e in result.values()} == {(None, None, None, 0, "no items")}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        (False, {"balanced_accuracy", "f1", "precision", "recall", "roc_auc", "average_precision"}),
        (True, {"balanced_accuracy", "roc_auc"}),
    ],
)
def test_evaluate_single_class_reasons(label, undefined):
    scores = np.linspace(0, 1, 10)
    result = evaluate(scores, scores > 0.5, np.full(10, label), bootstrap_of(10))
    assert {name for name, e in result.items() if e.value is None} == undefined
    assert {result[name].why for name in undefined - {"f1", "precision"}} == {"the labels have a single class"}
    json.dumps({name: e.as_dict() for name, e in result.items()}, allow_nan=False)


@pytest.mark.filterwarnings("error")
def test_evaluate_without_positives_reasons():
    result = evaluate([0.1, 0.2], [False, False], [False, False], bootstrap_of(2))
    assert result["f1"].why == "no positive label"
    assert result["precision"].why == "no positive label or no positive prediction"
    assert result["accuracy"].value == 1


@pytest.mark.filterwarnings("error")
def test_evaluate_single_unit_has_no_intervals():
    scores, labels = scored(12, 0)
    bootstrap = Bootstrap.from_units(np.zeros(12), 50, np.random.default_rng(0))
    for estimate in evaluate(scores, scores > 0, labels, bootstrap).values():
        assert estimate.value is not None and estimate.low is None and estimate.high is None


@pytest.mark.filterwarnings("error")
def test_evaluate_no_interval_if_class_missing_in_replicates():
    labels = np.arange(10) == 0  # one positive, which is missing in (9/10)^10 = 35 % of the replicates
    result = evaluate(np.arange(10.0), np.arange(10) < 3, labels, bootstrap_of(10, 200))
    for name in ("balanced_accuracy", "roc_auc", "average_precision", "recall"):
        assert result[name].value is not None and result[name].low is None
        assert result[name].why.startswith("no interval: undefined in ")
    assert result["accuracy"].low is not None


# --- thresholds ---------------------------------------------------------------------------------------------


def balanced_accuracy_at(threshold, scores, labels):
    return ((scores >= threshold)[labels].mean() + (scores < threshold)[~labels].mean()) / 2


def brute_force(scores, labels):
    """Best balanced accuracy and all candidate thresholds that reach it."""
    distinct = sorted(set(scores.tolist()))
    candidates = [distinct[0], *((a + b) / 2 for a, b in pairwise(distinct))]
    reached = [balanced_accuracy_at(t, scores, labels) for t in candidates]
    return max(reached), [t for t, r in zip(candidates, reached, strict=True) if r > max(reached) - 1e-9]


@pytest.mark.parametrize("decimals", DECIMALS)
@pytest.mark.parametrize("n", [3, 10, 100])
@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_matches_brute_force(n, decimals, seed):
    scores, labels = scored(n, seed, decimals)
    best, candidates = brute_force(scores, labels)
    threshold = best_threshold(scores, labels)
    assert balanced_accuracy_at(threshold, scores, labels) == pytest.approx(best)
    assert threshold == candidates[len(candidates) // 2]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=2, max_size=20))
def test_best_threshold_is_optimal(trials):
    scores, labels = np.array([s for s, _ in trials]), np.array([y for _, y in trials])
    if labels.all() or not labels.any():
        assert np.isnan(best_threshold(scores, labels))
        return
    reached = balanced_accuracy_at(best_threshold(scores, labels), scores, labels)
    for threshold in [*scores, np.inf, -np.inf]:
        assert reached >= balanced_accuracy_at(threshold, scores, labels) - 1e-9


def test_best_threshold_worked_examples():
    assert best_threshold([0.1, 0.2, 0.4, 0.6], [False, False, True, True]) == pytest.approx(0.3)
    assert best_threshold([0.6, 0.1], [False, True]) == 0.1  # reversed scores: predicting all positive is best
    assert best_threshold([0.5, 0.5], [False, True]) == 0.5


@pytest.mark.parametrize("low", [1.0, 0.3, -2.0, 5e-324])
def test_best_threshold_distinguishes_last_bit(low):
    scores, labels = np.array([low, np.nextafter(low, np.inf)]), np.array([False, True])
    assert balanced_accuracy_at(best_threshold(scores, labels), scores, labels) == 1


@pytest.mark.filterwarnings("error")
def test_best_threshold_undefined_for_single_class():
    assert np.isnan(best_threshold([0.1, 0.2], [True, True]))
    assert np.isnan(best_threshold([0.1, 0.2], [False, False]))
    assert np.isnan(best_threshold([], []))


def cross_fit_thresholds(scores, labels, groups, seed=0, folds=5):
    """Threshold of every item, and thresholds of the folds."""
    bootstrap = Bootstrap.from_units(groups, 0, np.random.default_rng(0))
    result = cross_fit(scores, labels, bootstrap, np.random.default_rng(seed), folds)
    return (result.item_thresholds if len(result.item_thresholds) else np.full(len(scores), np.nan)), result.thresholds


@pytest.fixture
def grouped():
    """Scores, labels and named groups: 120 items in 23 groups of unequal sizes."""
    scores, labels = scored(120, 0)
    groups = np.random.default_rng(35).integers(0, 23, 120)
    return scores, labels, np.array([f"clip_{g}" for g in groups])


def test_assign_folds_keeps_groups_whole(grouped):
    thresholds, chosen = cross_fit_thresholds(*grouped)
    groups = grouped[2]
    assert len(set(chosen)) == 5, "thresholds must tell folds apart for this test"
    fold_of = {group: set(thresholds[groups == group]) for group in set(groups)}
    assert {len(folds) for folds in fold_of.values()} == {1}
    sizes = [sum(t in folds for folds in fold_of.values()) for t in chosen]
    assert sum(sizes) == 23 and max(sizes) - min(sizes) <= 1


def test_assign_folds_stratifies_positives():
    labels = np.arange(50) < 10
    for seed in range(20):
        bootstrap = Bootstrap.from_units(np.arange(50), 0, np.random.default_rng(0))
        fold = assign_folds(labels.astype(float), bootstrap, np.random.default_rng(seed), 5)
        assert np.bincount(fold, labels).tolist() == [2] * 5


def test_cross_fit_threshold_is_best_on_other_folds(grouped):
    scores, labels, _ = grouped
    thresholds, chosen = cross_fit_thresholds(*grouped)
    assert len(set(chosen)) == 5, "thresholds must tell folds apart for this test"
    for threshold in chosen:
        others = thresholds != threshold
        assert threshold == best_threshold(scores[others], labels[others])


def test_cross_fit_ignores_scores_of_held_out_fold(grouped):
    scores, labels, groups = grouped
    thresholds, chosen = cross_fit_thresholds(*grouped)
    for threshold in chosen:
        in_fold = thresholds == threshold
        moved = cross_fit_thresholds(scores + 100 * in_fold, labels, groups)[0]
        assert (moved[in_fold] == threshold).all()
        assert (moved[~in_fold] != thresholds[~in_fold]).any()


def test_cross_fit_leave_one_group_out():
    scores, labels = scored(40, 2)
    groups = np.arange(40) % 4
    thresholds, chosen = cross_fit_thresholds(scores, labels, groups, folds=10)
    assert len(chosen) == 4
    for group in range(4):
        expected = best_threshold(scores[groups != group], labels[groups != group])
        assert (thresholds[groups == group] == expected).all()


def test_cross_fit_reproducible_with_seed(grouped):
    assert cross_fit_thresholds(*grouped)[0].tobytes() == cross_fit_thresholds(*grouped)[0].tobytes()
    assert cross_fit_thresholds(*grouped)[0].tobytes() != cross_fit_thresholds(*grouped, seed=1)[0].tobytes()


def test_cross_fit_balanced_accuracy_at_item_thresholds(grouped):
    scores, labels, groups = grouped
    thresholds, _ = cross_fit_thresholds(*grouped)
    bootstrap = Bootstrap.from_units(groups, 50, np.random.default_rng(0))
    estimate = cross_fit(scores, labels, bootstrap, np.random.default_rng(0)).balanced_accuracy
    assert estimate.value == pytest.approx(sk.balanced_accuracy_score(labels, scores >= thresholds))
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("labels", "groups"),
    [([1, 0, 1, 0], [7, 7, 7, 7]), ([1, 0, 0, 0], [0, 1, 2, 3]), ([1, 1, 1, 1], [0, 1, 2, 3]), ([], [])],
    ids=["one group", "the only positive is in one fold", "one class", "nothing"],
)
def test_cross_fit_undefined_for_single_class_training_set(labels, groups):
    thresholds, chosen = cross_fit_thresholds(np.arange(len(labels)) / 10, labels, groups)
    assert len(thresholds) == len(labels) and np.isnan(thresholds).all()
    assert len(chosen) == 0

"""K-class Dawid-Skene model: equality with the binary model, recovery of simulated raters, and sparse data."""

import numpy as np
import pytest

from earmark.metrics.dawid_skene import dawid_skene
from earmark.metrics.dawid_skene_classes import accuracy_errors, dawid_skene_classes, expected_ratings

pytestmark = pytest.mark.filterwarnings("error")


def simulated(rng, n_items=4000, n_raters=6, per_item=4, k=4):
    """Raters with their own confusion matrices, items of unequal classes."""
    truth = rng.choice(k, n_items, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    confusion = rng.dirichlet(np.ones(k), (n_raters, k)) * 0.4 + np.eye(k) * 0.6
    item = np.repeat(np.arange(n_items), per_item)
    rater = np.sort(rng.random((n_items, n_raters)).argsort(axis=1)[:, :per_item], axis=1).ravel()
    cumulative = confusion.cumsum(axis=-1)[rater, truth[item]]
    rating = np.minimum((rng.random((len(item), 1)) > cumulative).sum(axis=1), k - 1)
    return truth, confusion, item, rater, rating


@pytest.mark.parametrize("seed", range(4))
def test_two_classes_equal_the_binary_model(seed):
    rng = np.random.default_rng(seed)
    item, rater = np.repeat(np.arange(60), 3), rng.integers(0, 5, 180)
    vote = rng.integers(0, 2, 180)
    first = np.unique(item * 5 + rater, return_index=True)[1]
    ratings = item[first], rater[first], vote[first]
    binary = dawid_skene(*ratings, n_items=61, n_raters=6)
    fit = dawid_skene_classes(*ratings, n_items=61, n_raters=6, n_classes=2)
    assert fit.converged and binary.converged
    np.testing.assert_allclose(fit.posterior[:, 1], binary.posterior, atol=1e-6)
    np.testing.assert_allclose(fit.confusion[:, 1, 1], binary.sensitivity, atol=1e-6)
    np.testing.assert_allclose(fit.confusion[:, 0, 0], binary.specificity, atol=1e-6)
    assert fit.prevalence[1] == pytest.approx(binary.prevalence, abs=1e-6)


def test_overlapping_levels_reach_the_fixed_point():
    """Neighbouring levels, where plain EM has not converged after a thousand steps."""
    rng = np.random.default_rng(0)
    item, rater = np.repeat(np.arange(20_000), 4), np.tile(np.arange(4), 20_000)
    levels = np.clip(np.round(rng.normal(2, 1, 20_000)[item] + 0.8 * rng.normal(size=len(item))), 0, 4).astype(int)
    fit = dawid_skene_classes(item, rater, levels, n_items=20_000, n_raters=4, n_classes=5)
    assert fit.converged and fit.iterations < 500
    expected = expected_ratings(fit, item, rater, levels) + np.where(np.eye(5) == 1, 2.0, 0.25)
    again = expected / expected.sum(axis=-1, keepdims=True)
    assert np.abs(again - fit.confusion).max() < 1e-7


def test_fit_recovers_confusion_matrices_and_prevalences():
    truth, confusion, item, rater, rating = simulated(np.random.default_rng(0))
    fit = dawid_skene_classes(item, rater, rating, n_items=4000, n_raters=6, n_classes=4)
    assert np.abs(fit.confusion - confusion).max() < 0.09
    assert np.abs(fit.prevalence - np.bincount(truth) / 4000).max() < 0.03
    assert (fit.posterior.argmax(axis=1) == truth).mean() > 0.85


def test_fit_is_a_fixed_point_computed_item_by_item():
    _, _, item, rater, rating = simulated(np.random.default_rng(1), n_items=100)
    fit = dawid_skene_classes(item, rater, rating, n_items=100, n_raters=6, n_classes=4)
    for i in range(100):
        likelihood = fit.prevalence.copy()
        for r, v in zip(rater[item == i], rating[item == i], strict=True):
            likelihood *= fit.confusion[r, :, v]
        assert fit.posterior[i] == pytest.approx(likelihood / likelihood.sum(), abs=1e-5)


def test_fit_does_not_depend_on_the_order_of_ratings_or_names_of_classes():
    _, _, item, rater, rating = simulated(np.random.default_rng(2), n_items=200)
    size = {"n_items": 200, "n_raters": 6, "n_classes": 4}
    fit = dawid_skene_classes(item, rater, rating, **size)
    shuffled, renamed = np.random.default_rng(0).permutation(len(item)), np.array([2, 0, 3, 1])
    other = dawid_skene_classes(item[shuffled], rater[shuffled], renamed[rating[shuffled]], **size)
    np.testing.assert_allclose(other.posterior[:, renamed], fit.posterior, atol=1e-7)


def test_items_and_raters_without_ratings():
    fit = dawid_skene_classes([0, 0], [0, 1], [1, 1], n_items=2, n_raters=3, n_classes=3)
    assert np.isnan(fit.confusion[2]).all()
    assert fit.posterior[1] == pytest.approx(fit.prevalence)
    assert fit.posterior.sum(axis=1) == pytest.approx(1)


def test_without_ratings_everything_is_undefined():
    fit = dawid_skene_classes([], [], [], n_items=2, n_raters=1, n_classes=3)
    assert np.isnan(fit.posterior).all()
    assert np.isnan(fit.confusion).all()
    assert fit.posterior.shape == (2, 3)


def test_expected_ratings_sum_to_the_ratings_of_each_rater():
    _, _, item, rater, rating = simulated(np.random.default_rng(3), n_items=100)
    fit = dawid_skene_classes(item, rater, rating, n_items=100, n_raters=6, n_classes=4)
    expected = expected_ratings(fit, item, rater, rating)
    assert expected.sum(axis=1) == pytest.approx(
        np.stack([np.bincount(rating[rater == r], minlength=4) for r in range(6)])
    )


@pytest.mark.slow
def test_accuracy_errors_match_refits_on_resampled_items():
    _, _, item, rater, rating = simulated(np.random.default_rng(5), n_items=400)
    size = {"n_items": 400, "n_raters": 6, "n_classes": 4}
    errors = accuracy_errors(dawid_skene_classes(item, rater, rating, **size), item, rater, rating, np.arange(400))
    rng, refits = np.random.default_rng(0), []
    for _ in range(200):
        rows = (rng.integers(0, 400, 400)[:, np.newaxis] * 4 + np.arange(4)).ravel()
        refits.append(dawid_skene_classes(item, rater[rows], rating[rows], **size).accuracy)
    assert errors == pytest.approx(np.std(refits, axis=0), rel=0.2)


def test_accuracy_errors_are_undefined_for_one_unit_or_class():
    ratings = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0, 0, 0, 0])
    fit = dawid_skene_classes(*ratings, n_items=2, n_raters=2, n_classes=1)
    assert np.isnan(accuracy_errors(fit, *ratings, np.arange(2))).all()
    fit = dawid_skene_classes(*ratings, n_items=2, n_raters=2, n_classes=2)
    assert np.isnan(accuracy_errors(fit, *ratings, np.zeros(2, dtype=int))).all()

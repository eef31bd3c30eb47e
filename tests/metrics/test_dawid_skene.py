"""Dawid-Skene model: recovery of simulated raters, and sparse data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.dawid_skene import dawid_skene

pytestmark = pytest.mark.filterwarnings("error")


def simulated(rng, n_items=6000, n_raters=6, per_item=4):
    truth = rng.random(n_items) < 0.3
    sensitivity, specificity = rng.uniform(0.55, 0.95, n_raters), rng.uniform(0.55, 0.95, n_raters)
    item = np.repeat(np.arange(n_items), per_item)
    rater = np.concatenate([rng.choice(n_raters, per_item, replace=False) for _ in range(n_items)])
    vote = rng.random(len(item)) < np.where(truth[item], sensitivity[rater], 1 - specificity[rater])
    return truth, sensitivity, specificity, item, rater, vote


def test_dawid_skene_recovers_parameters():
    truth, sensitivity, specificity, item, rater, vote = simulated(np.random.default_rng(0))
    fit = dawid_skene(item, rater, vote, n_items=len(truth), n_raters=6)
    assert np.abs(fit.sensitivity - sensitivity).max() < 0.05
    assert np.abs(fit.specificity - specificity).max() < 0.05
    assert abs(fit.prevalence - truth.mean()) < 0.03


def test_dawid_skene_posterior_beats_majority():
    truth, _, _, item, rater, vote = simulated(np.random.default_rng(1))
    fit = dawid_skene(item, rater, vote, n_items=len(truth), n_raters=6)
    votes = np.bincount(item, vote, len(truth)) / 4
    majority_right = np.where(votes == 0.5, 0.5, (votes > 0.5) == truth)
    assert ((fit.posterior > 0.5) == truth).mean() > majority_right.mean() + 0.02


def test_dawid_skene_fit_is_fixed_point():
    _, _, _, item, rater, vote = simulated(np.random.default_rng(2), n_items=200)
    fit = dawid_skene(item, rater, vote, n_items=200, n_raters=6)
    for i in range(200):
        positive, negative = fit.prevalence, 1 - fit.prevalence
        for r, v in zip(rater[item == i], vote[item == i], strict=True):
            positive *= fit.sensitivity[r] if v else 1 - fit.sensitivity[r]
            negative *= 1 - fit.specificity[r] if v else fit.specificity[r]
        assert fit.posterior[i] == pytest.approx(positive / (positive + negative), abs=1e-5)


def test_dawid_skene_single_votes_give_prior():
    fit = dawid_skene([0, 1], [0, 1], [1, 0], n_items=2, n_raters=2)
    assert fit.posterior[0] > 0.5 > fit.posterior[1]
    assert (fit.sensitivity > 0.5).all()


def test_dawid_skene_raters_and_items_without_votes():
    fit = dawid_skene([0, 0], [0, 1], [1, 1], n_items=2, n_raters=3)
    assert np.isnan(fit.sensitivity[2])
    assert np.isnan(fit.specificity[2])
    assert fit.posterior[1] == pytest.approx(fit.prevalence)


def test_dawid_skene_without_votes():
    fit = dawid_skene([], [], [], n_items=0, n_raters=0)
    assert len(fit.posterior) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_dawid_skene_invariant_to_order(seed):
    rng = np.random.default_rng(seed)
    _, _, _, item, rater, vote = simulated(rng, n_items=30)
    fit = dawid_skene(item, rater, vote, n_items=30, n_raters=6)
    renamed, order = rng.permutation(6), rng.permutation(len(item))
    other = dawid_skene(item[order], renamed[rater[order]], vote[order], n_items=30, n_raters=6)
    np.testing.assert_allclose(other.posterior, fit.posterior, atol=1e-6)
    np.testing.assert_allclose(other.sensitivity[renamed], fit.sensitivity, atol=1e-6)

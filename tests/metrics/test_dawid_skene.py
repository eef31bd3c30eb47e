"""Dawid-Skene model: recovery of simulated raters, and sparse data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.dawid_skene import dawid_skene, leave_one_rater_out_posteriors, standard_errors

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


def fit_of_every_vote(item, rater, vote, n_items, n_raters):
    """EM over the votes one by one, to its limit: posteriors, sensitivities, specificities."""
    votes_on = np.bincount(item, minlength=n_items)
    posterior = np.bincount(item, vote, n_items) / np.maximum(votes_on, 1)
    for _ in range(100_000):
        p = posterior[item]
        sensitivity = (np.bincount(rater, p * vote, n_raters) + 2) / (np.bincount(rater, p, n_raters) + 3)
        specificity = np.bincount(rater, (1 - p) * (1 - vote), n_raters) + 2
        specificity = specificity / (np.bincount(rater, 1 - p, n_raters) + 3)
        prevalence = (posterior[votes_on > 0].sum() + 1) / ((votes_on > 0).sum() + 2)
        positive = np.where(vote, sensitivity[rater], 1 - sensitivity[rater])
        negative = np.where(vote, 1 - specificity[rater], specificity[rater])
        odds = np.exp(np.bincount(item, np.log(positive / negative), n_items)) * prevalence / (1 - prevalence)
        updated = odds / (1 + odds)
        change, posterior = np.abs(updated - posterior).max(), updated
        if change < 1e-13:
            break
    return posterior, sensitivity, specificity


@pytest.fixture(params=[0, 10**6], ids=["patterns", "items"])
def grouping(request, monkeypatch):
    """Fits on patterns of votes, and on every item."""
    monkeypatch.setattr("earmark.metrics.multisets.MIN_GROUPS", request.param)


@pytest.mark.parametrize("seed", range(5))
def test_dawid_skene_matches_fit_of_every_vote(grouping, seed):
    _, _, _, item, rater, vote = simulated(np.random.default_rng(seed), n_items=150, per_item=3)
    fit = dawid_skene(item, rater, vote, n_items=151, n_raters=6)
    posterior, sensitivity, specificity = fit_of_every_vote(item, rater, vote, 151, 6)
    assert fit.converged
    np.testing.assert_allclose(fit.posterior, posterior, atol=1e-7)
    np.testing.assert_allclose(fit.sensitivity, sensitivity, atol=1e-7)
    np.testing.assert_allclose(fit.specificity, specificity, atol=1e-7)


def test_dawid_skene_converges_where_raters_agree_little():
    """Plain EM needs thousands of steps here, and after a thousand is .04 from its limit."""
    rng = np.random.default_rng(0)
    item, truth = np.repeat(np.arange(18_632), 2), rng.random(18_632) < 0.4
    rater = rng.random((18_632, 8)).argsort(axis=1)[:, :2].ravel()
    vote = np.where(rng.random(len(item)) < 0.65, truth[item], ~truth[item]).astype(int)
    fit = dawid_skene(item, rater, vote, n_items=18_632, n_raters=8)
    assert fit.converged and fit.iterations < 500
    p = fit.posterior[item]
    sensitivity = (np.bincount(rater, p * vote, 8) + 2) / (np.bincount(rater, p, 8) + 3)
    np.testing.assert_allclose(fit.sensitivity, sensitivity, atol=1e-8)


def test_leave_one_rater_out_posteriors_match_fits_of_every_vote(grouping):
    _, _, _, item, rater, vote = simulated(np.random.default_rng(7), n_items=120, per_item=3)
    fit = dawid_skene(item, rater, vote, n_items=120, n_raters=6)
    posteriors = leave_one_rater_out_posteriors(fit, item, rater, vote)
    for number in range(6):
        own = rater == number
        expected = fit_of_every_vote(item[~own], rater[~own], vote[~own], 120, 6)[0]
        np.testing.assert_allclose(posteriors[own], expected[item[own]], atol=1e-7)


def test_standard_errors_do_not_depend_on_grouping(monkeypatch):
    _, _, _, item, rater, vote = simulated(np.random.default_rng(3), n_items=400, per_item=3)
    unit, results = np.arange(400) // 2, []
    for groups in (0, 10**6):
        monkeypatch.setattr("earmark.metrics.multisets.MIN_GROUPS", groups)
        fit = dawid_skene(item, rater, vote, n_items=400, n_raters=6)
        results.append(np.concatenate(standard_errors(fit, item, rater, vote, unit)))
    np.testing.assert_allclose(*results, rtol=1e-6)

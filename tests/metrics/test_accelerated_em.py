"""Accelerated EM: the limit of plain EM, the likelihood as a safeguard, and no convergence."""

import numpy as np
import pytest

import earmark.metrics.accelerated_em as module
from earmark.metrics.accelerated_em import accelerated_em


def mixture(rng):
    """Two overlapping normal distributions with unit variance: steps of EM for their means and the logit of a share."""
    x = np.concatenate([rng.normal(0, 1, 400), rng.normal(1, 1, 200)])

    def expectation(parameters):
        low, high, logit = parameters
        odds = logit + 0.5 * ((x - low) ** 2 - (x - high) ** 2)
        likelihood = np.logaddexp(0, odds) - 0.5 * (x - low) ** 2 - np.logaddexp(0, logit)
        return 1 / (1 + np.exp(-odds)), float(likelihood.sum())

    def maximisation(posterior):
        share = posterior.mean()
        others = 1 - posterior
        return np.array([others @ x / others.sum(), posterior @ x / posterior.sum(), np.log(share / (1 - share))])

    return expectation, maximisation, np.array([-0.5, 1.5, 0.0])


def plain(expectation, maximisation, at, steps=200_000):
    for step in range(steps):
        new = maximisation(expectation(at)[0])
        if np.abs(new - at).max() < 1e-13:
            return new, step
        at = new
    return at, steps


@pytest.mark.parametrize("seed", range(4))
def test_limit_is_that_of_plain_em_in_a_fraction_of_the_steps(seed):
    problem = mixture(np.random.default_rng(seed))
    expected, steps = plain(*problem)
    fit = accelerated_em(*problem)
    assert fit.converged
    assert fit.parameters == pytest.approx(expected, abs=1e-5)
    assert fit.steps < steps / 10
    np.testing.assert_allclose(fit.posterior, problem[0](fit.parameters)[0])


def test_likelihood_never_falls_from_one_accepted_step_to_the_next():
    expectation, maximisation, start = mixture(np.random.default_rng(0))
    accepted = []

    def counted(posterior):
        accepted.append(likelihoods[-1])
        return maximisation(posterior)

    def recorded(parameters):
        posterior, likelihood = expectation(parameters)
        likelihoods.append(likelihood)
        return posterior, likelihood

    likelihoods: list[float] = []
    accelerated_em(recorded, counted, start)
    assert (np.diff(accepted) > -1e-6).all()


def test_wild_extrapolations_fall_back_to_em():
    expectation, maximisation, start = mixture(np.random.default_rng(1))
    expected, _ = plain(expectation, maximisation, start)
    fit = accelerated_em(expectation, maximisation, start, normalised=lambda parameters: parameters + 5.0)
    assert np.abs(fit.parameters - expected).max() < 0.01


def test_no_convergence_is_said(monkeypatch):
    monkeypatch.setattr(module, "MAX_STEPS", 3)
    fit = accelerated_em(*mixture(np.random.default_rng(0)))
    assert (fit.converged, fit.steps) == (False, 3)


@pytest.mark.parametrize("steps", range(1, 9))
def test_without_convergence_posterior_and_parameters_belong_together(monkeypatch, steps):
    monkeypatch.setattr(module, "MAX_STEPS", steps)
    expectation, maximisation, start = mixture(np.random.default_rng(0))
    best = expectation(start)[1]
    # Every extrapolation is wild, so that some runs end at a point that was refused.
    fit = accelerated_em(expectation, maximisation, start, normalised=lambda parameters: parameters + 5.0)
    posterior, likelihood = expectation(fit.parameters)
    assert not fit.converged
    np.testing.assert_allclose(fit.posterior, posterior)
    assert likelihood >= best

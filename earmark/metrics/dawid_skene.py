"""Dawid-Skene model of binary votes: item posteriors and rater sensitivities and specificities by EM."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]

PSEUDO_CORRECT, PSEUDO_INCORRECT = 2.0, 1.0  # pseudo-counts of votes, per rater and class
TOLERANCE = 1e-8  # largest change of a posterior at convergence
MAX_ITERATIONS = 1000
MAX_REFITS = 100  # with more raters, `leave_one_rater_out_posteriors` does not refit the model


@dataclass(frozen=True)
class DawidSkene:
    """Fitted Dawid-Skene model. All probabilities are in [0, 1].

    Attributes
    ----------
    posterior : (items,) float
        Probability that the item is positive; NaN without any votes.
    sensitivity, specificity : (raters,) float
        NaN for a rater without votes.
    prevalence : float
        Estimated proportion of positive items; NaN without any votes.
    iterations : int
        Number of EM iterations.
    """

    posterior: FloatArray
    sensitivity: FloatArray
    specificity: FloatArray
    prevalence: float
    iterations: int


def dawid_skene(item: ArrayLike, rater: ArrayLike, vote: ArrayLike, *, n_items: int, n_raters: int) -> DawidSkene:
    """Fit the Dawid-Skene model of binary votes by expectation maximisation.

    An item is positive with the prevalence. A rater votes positive on a positive item with the rater's sensitivity, and
    negative on a negative item with the rater's specificity. EM starts from each item's proportion of positive votes
    and is deterministic.

    Pseudo-counts regularise the fit: each rater gets two correct votes and one incorrect vote of either class, and the
    prevalence gets one item of either class. So a rater with two votes is not estimated to be perfect, and raters are
    better than chance unless their votes show otherwise.

    Parameters
    ----------
    item, rater : (n,) int
        Codes from 0.
    vote : (n,) bool
    n_items, n_raters : int

    Returns
    -------
    DawidSkene
        An item without votes has the prevalence as its posterior.

    References
    ----------
    Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28:20, eqs. 2.3 to 2.5, for two classes.

    Examples
    --------
    >>> fit = dawid_skene([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0], n_items=2, n_raters=3)
    >>> fit.posterior.round(2).tolist()
    [0.75, 0.08]
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    votes_on, votes_by = np.bincount(i, minlength=n_items), np.bincount(r, minlength=n_raters)
    if not len(i):
        undefined = np.full(n_raters, np.nan)
        return DawidSkene(np.full(n_items, np.nan), undefined, undefined, float("nan"), 0)
    posterior = np.bincount(i, v, n_items) / np.maximum(votes_on, 1)
    iteration = 0
    for iteration in range(1, MAX_ITERATIONS + 1):  # noqa: B007 — returned
        p = posterior[i]
        sensitivity = _smoothed_share(np.bincount(r, p * v, n_raters), np.bincount(r, p, n_raters))
        specificity = _smoothed_share(np.bincount(r, (1 - p) * (1 - v), n_raters), np.bincount(r, 1 - p, n_raters))
        prevalence = (posterior[votes_on > 0].sum() + 1) / ((votes_on > 0).sum() + 2)
        evidence = np.bincount(i, _evidence(sensitivity, specificity, r, v), n_items)
        updated = special.expit(evidence + special.logit(prevalence))
        change, posterior = np.abs(updated - posterior).max(), updated
        if change < TOLERANCE:
            break
    without_votes = votes_by == 0
    return DawidSkene(
        posterior,
        np.where(without_votes, np.nan, sensitivity),
        np.where(without_votes, np.nan, specificity),
        float(prevalence),
        iteration,
    )


def leave_one_rater_out_posteriors(fit: DawidSkene, item: ArrayLike, rater: ArrayLike, vote: ArrayLike) -> FloatArray:
    """Posterior of each vote's item from the other raters' votes (leave one rater out).

    The model is refitted without each rater. With more than MAX_REFITS raters, where a single rater hardly changes the
    fit, only the evidence of the vote itself is removed.

    Parameters
    ----------
    fit : DawidSkene
    item, rater, vote : (n,)
        The votes that `fit` was fitted on.

    Returns
    -------
    (n,) float
        In [0, 1]; NaN where the other raters gave votes of one class only.

    References
    ----------
    Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28:20, eqs. 2.3 to 2.5.

    Examples
    --------
    >>> votes = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0]
    >>> fit = dawid_skene(*votes, n_items=2, n_raters=3)
    >>> leave_one_rater_out_posteriors(fit, *votes).round(2).tolist()
    [0.4, 0.4, 0.86, 0.15, 0.15, 0.14]
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    n_items, n_raters = len(fit.posterior), len(fit.sensitivity)
    if n_raters > MAX_REFITS:
        own = _evidence(fit.sensitivity, fit.specificity, r, v)
        others = np.bincount(i, own, n_items)[i] - own
        return np.asarray(special.expit(others + special.logit(fit.prevalence)))
    posteriors = np.full(len(i), np.nan)
    for number in range(n_raters):
        own = r == number
        if len(np.unique(v[~own])) > 1:
            without = dawid_skene(i[~own], r[~own], v[~own], n_items=n_items, n_raters=n_raters)
            posteriors[own] = without.posterior[i[own]]
    return posteriors


def remove_pseudo_counts(share: ArrayLike, votes: ArrayLike) -> FloatArray:
    """Sensitivities or specificities without the pseudo-counts of `dawid_skene`.

    Parameters
    ----------
    share : (raters,) float
        Sensitivities or specificities.
    votes : (raters,) float
        Weight of the rater's own votes on items of the class.

    Returns
    -------
    (raters,) float
        In [0, 1]; unchanged for a rater without such votes.

    Examples
    --------
    >>> remove_pseudo_counts([0.75], [5.0]).tolist()  # (2 + 4) / (3 + 5)
    [0.8]
    """
    s, n = np.asarray(share, dtype=float), np.asarray(votes, dtype=float)
    own = s * (n + PSEUDO_CORRECT + PSEUDO_INCORRECT) - PSEUDO_CORRECT
    return np.clip(np.divide(own, n, out=s.copy(), where=n > 0), 0.0, 1.0)


def standard_errors(
    fit: DawidSkene, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, unit: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Standard errors of sensitivities and specificities: cluster-robust sandwich estimator with the delta method.

    The bread is the observed information, by numerical differentiation of the score through the posteriors, so that it
    includes the uncertainty of the items' classes. The meat is the covariance of the units' scores. The delta method
    maps errors of logits to errors of probabilities.

    Parameters
    ----------
    fit : DawidSkene
    item, rater, vote : (n,)
        The votes that `fit` was fitted on.
    unit : (items,) array_like
        Sampled unit (cluster) of each item, such as its clip.

    Returns
    -------
    sensitivity, specificity : (raters,) float
        NaN for a rater without votes, and everywhere if the information matrix is singular.

    References
    ----------
    Louis (1982), Finding the observed information matrix when using the EM algorithm, Journal of the Royal Statistical
    Society B 44:226.
    White (1982), Maximum likelihood estimation of misspecified models, Econometrica 50:1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> item, rater = np.repeat(np.arange(200), 3), np.tile(np.arange(3), 200)
    >>> vote = (rng.random(200) < 0.5)[item] ^ (rng.random(600) < 0.1)
    >>> fit = dawid_skene(item, rater, vote, n_items=200, n_raters=3)
    >>> standard_errors(fit, item, rater, vote, np.arange(200))[0].round(2).tolist()
    [0.03, 0.04, 0.03]
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    known = np.isfinite(fit.sensitivity)[r]
    i, r, v = i[known], r[known], v[known]
    voted = np.flatnonzero(np.isfinite(fit.sensitivity))
    code = np.full(len(fit.sensitivity), -1)
    code[voted] = np.arange(len(voted))
    model = _Score(i, code[r], v, np.bincount(i, minlength=len(fit.posterior)) > 0, len(voted))
    theta = special.logit(np.concatenate([fit.sensitivity[voted], fit.specificity[voted], [fit.prevalence]]))
    hessian = np.stack([_slope(model, theta, k) for k in range(len(theta))], axis=1)
    units, of_item = np.unique(np.asarray(unit), return_inverse=True)
    by_unit = model.by_unit(theta, of_item, len(units))
    meat = by_unit.T @ by_unit * len(units) / max(len(units) - 1, 1)
    undefined = np.full(len(fit.sensitivity), np.nan)
    try:
        variance = np.diag(np.linalg.solve(hessian, np.linalg.solve(hessian, meat).T))
    except np.linalg.LinAlgError:
        return undefined, undefined.copy()
    probability = special.expit(theta)
    error = np.sqrt(np.where(variance > 0, variance, np.nan)) * probability * (1 - probability)  # delta method
    errors = [undefined.copy(), undefined.copy()]
    for all_raters, part in zip(errors, np.split(error[:-1], 2), strict=True):
        all_raters[voted] = part
    return errors[0], errors[1]


@dataclass(frozen=True)
class _Score:
    """Score function: derivative of the log-likelihood in the logits of sensitivities, specificities and prevalence."""

    item: NDArray[np.int64]
    rater: NDArray[np.int64]
    vote: FloatArray
    rated: NDArray[np.bool_]
    n_raters: int

    def _parts(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        sensitivity, specificity = special.expit(theta[: self.n_raters]), special.expit(theta[self.n_raters : -1])
        evidence = np.bincount(self.item, _evidence(sensitivity, specificity, self.rater, self.vote), len(self.rated))
        posterior = np.where(self.rated, special.expit(evidence + theta[-1]), 0.0)
        p = posterior[self.item]
        of_positive = p * (self.vote - sensitivity[self.rater])
        of_negative = (1 - p) * (1 - self.vote - specificity[self.rater])
        return of_positive, of_negative, self.rated * (posterior - special.expit(theta[-1])), special.expit(theta)

    def total(self, theta: FloatArray) -> FloatArray:
        """Score summed over items, plus that of the pseudo-counts: (2 · raters + 1,), 0 at the fit."""
        of_positive, of_negative, of_prevalence, share = self._parts(theta)
        votes = [np.bincount(self.rater, part, self.n_raters).astype(float) for part in (of_positive, of_negative)]
        prior = PSEUDO_CORRECT * (1 - share) - PSEUDO_INCORRECT * share
        prior[-1] = 1 - 2 * share[-1]
        return np.concatenate([*votes, [of_prevalence.sum()]]) + prior

    def by_unit(self, theta: FloatArray, unit: NDArray[np.int64], n_units: int) -> FloatArray:
        """Score of each unit, (units, 2 · raters + 1). unit: (items,)."""
        of_positive, of_negative, of_prevalence, _ = self._parts(theta)
        cell, n = unit[self.item] * self.n_raters + self.rater, n_units * self.n_raters
        votes = [np.bincount(cell, part, n).reshape(n_units, self.n_raters) for part in (of_positive, of_negative)]
        return np.concatenate([*votes, np.bincount(unit, of_prevalence, n_units)[:, np.newaxis]], axis=1)


def _slope(model: _Score, theta: FloatArray, k: int, step: float = 1e-5) -> FloatArray:
    up, down = theta.copy(), theta.copy()
    up[k] += step
    down[k] -= step
    return (model.total(up) - model.total(down)) / (2 * step)


def _evidence(
    sensitivity: FloatArray, specificity: FloatArray, rater: NDArray[np.int64], vote: FloatArray
) -> FloatArray:
    """Log-likelihood ratio of positive to negative for each vote."""
    for_positive = np.where(vote > 0, np.log(sensitivity)[rater], np.log1p(-sensitivity)[rater])
    for_negative = np.where(vote > 0, np.log1p(-specificity)[rater], np.log(specificity)[rater])
    return np.asarray(for_positive - for_negative)


def _smoothed_share(correct: ArrayLike, votes: ArrayLike) -> FloatArray:
    return (np.asarray(correct, dtype=float) + PSEUDO_CORRECT) / (
        np.asarray(votes, dtype=float) + PSEUDO_CORRECT + PSEUDO_INCORRECT
    )

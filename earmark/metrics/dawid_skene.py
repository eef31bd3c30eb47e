"""Which answer is right, and who is reliable, when neither is known: Dawid and Skene's model of binary votes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]

IMAGINED_RIGHT, IMAGINED_WRONG = 2.0, 1.0  # votes of each kind that every rater is credited with in advance
TOLERANCE = 1e-8
MAX_ITERATIONS = 1000
MAX_REFITS = 100  # raters without each of whom the model is fitted anew


@dataclass(frozen=True)
class DawidSkene:
    """posterior: (items,) probability that the item is positive. sensitivity, specificity: (raters,).

    prevalence: share of positive items. iterations: how many it took. All in [0, 1]; empty for no votes, and
    NaN for a rater without votes.
    """

    posterior: FloatArray
    sensitivity: FloatArray
    specificity: FloatArray
    prevalence: float
    iterations: int


def dawid_skene(item: ArrayLike, rater: ArrayLike, vote: ArrayLike, *, n_items: int, n_raters: int) -> DawidSkene:
    """Fit by expectation maximisation, starting from each item's share of positive votes; no randomness.

    item, rater: (n,) codes from 0. vote: (n,) booleans. Every rater is credited with two right votes and a wrong
    one of either kind in advance, and the prevalence with one item of either kind: so a rater with two votes is
    not believed to be infallible, and raters are taken to be better than chance until their votes say otherwise.
    An item without votes gets the prevalence.
    Source: Dawid and Skene (1979), Applied Statistics 28:20, eqs. 2.3 to 2.5, for two classes.

    >>> fit = dawid_skene([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0], n_items=2, n_raters=3)
    >>> fit.posterior.round(2).tolist()
    [0.75, 0.08]
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    votes_on, votes_by = np.bincount(i, minlength=n_items), np.bincount(r, minlength=n_raters)
    if not len(i):
        nothing = np.full(n_raters, np.nan)
        return DawidSkene(np.full(n_items, np.nan), nothing, nothing, float("nan"), 0)
    posterior = np.bincount(i, v, n_items) / np.maximum(votes_on, 1)
    iteration = 0
    for iteration in range(1, MAX_ITERATIONS + 1):  # noqa: B007 — returned
        p = posterior[i]
        sensitivity = _share_right(np.bincount(r, p * v, n_raters), np.bincount(r, p, n_raters))
        specificity = _share_right(np.bincount(r, (1 - p) * (1 - v), n_raters), np.bincount(r, 1 - p, n_raters))
        prevalence = (posterior[votes_on > 0].sum() + 1) / ((votes_on > 0).sum() + 2)
        evidence = np.bincount(i, _evidence(sensitivity, specificity, r, v), n_items)
        updated = special.expit(evidence + special.logit(prevalence))
        moved, posterior = np.abs(updated - posterior).max(), updated
        if moved < TOLERANCE:
            break
    silent = votes_by == 0
    return DawidSkene(
        posterior,
        np.where(silent, np.nan, sensitivity),
        np.where(silent, np.nan, specificity),
        float(prevalence),
        iteration,
    )


def leave_one_rater_out_posteriors(fit: DawidSkene, item: ArrayLike, rater: ArrayLike, vote: ArrayLike) -> FloatArray:
    """For each vote, (n,), the probability that its item is positive, as the other raters have it.

    item, rater, vote: as `fit` was fitted on. The model is fitted anew without each rater; with more than MAX_REFITS
    raters, none of whom matters much then, only the vote is taken out. NaN where others gave one answer only.
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    n_items, n_raters = len(fit.posterior), len(fit.sensitivity)
    if n_raters > MAX_REFITS:
        own = _evidence(fit.sensitivity, fit.specificity, r, v)
        others = np.bincount(i, own, n_items)[i] - own
        return np.asarray(special.expit(others + special.logit(fit.prevalence)))
    found = np.full(len(i), np.nan)
    for number in range(n_raters):
        mine = r == number
        if len(np.unique(v[~mine])) > 1:
            without = dawid_skene(i[~mine], r[~mine], v[~mine], n_items=n_items, n_raters=n_raters)
            found[mine] = without.posterior[i[mine]]
    return found


def remove_pseudo_counts(share: ArrayLike, votes: ArrayLike) -> FloatArray:
    """Sensitivities or specificities without the votes credited in advance, (raters,); in [0, 1].

    votes: (raters,) the weight of the rater's own votes.

    >>> remove_pseudo_counts([0.75], [5.0]).tolist()  # (2 + 4) / (3 + 5)
    [0.8]
    """
    of, n = np.asarray(share, dtype=float), np.asarray(votes, dtype=float)
    own = of * (n + IMAGINED_RIGHT + IMAGINED_WRONG) - IMAGINED_RIGHT
    return np.clip(np.divide(own, n, out=of.copy(), where=n > 0), 0.0, 1.0)


def standard_errors(
    fit: DawidSkene, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, unit: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """The standard errors of each rater's sensitivity and specificity, (raters,) each, over units of items.

    item, rater, vote: as the model was fitted on. unit: (items,) what was sampled together. The sandwich of the
    derivative of the score (numerically, through the posteriors, so that it knows what is not known of the items) and
    the spread of the units' scores. NaN where it does not exist: for a rater without votes, or everywhere where the
    votes do not determine the model.
    Sources: Louis (1982), Journal of the Royal Statistical Society B 44:226; White (1982), Econometrica 50:1.
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    known = np.isfinite(fit.sensitivity)[r]
    i, r, v = i[known], r[known], v[known]
    voted = np.flatnonzero(np.isfinite(fit.sensitivity))
    place = np.full(len(fit.sensitivity), -1)
    place[voted] = np.arange(len(voted))
    model = _Score(i, place[r], v, np.bincount(i, minlength=len(fit.posterior)) > 0, len(voted))
    theta = special.logit(np.concatenate([fit.sensitivity[voted], fit.specificity[voted], [fit.prevalence]]))
    hessian = np.stack([_slope(model, theta, k) for k in range(len(theta))], axis=1)
    units, of_item = np.unique(np.asarray(unit), return_inverse=True)
    by_unit = model.by_unit(theta, of_item, len(units))
    spread = by_unit.T @ by_unit * len(units) / max(len(units) - 1, 1)
    nothing = np.full(len(fit.sensitivity), np.nan)
    try:
        variance = np.diag(np.linalg.solve(hessian, np.linalg.solve(hessian, spread).T))
    except np.linalg.LinAlgError:
        return nothing, nothing.copy()
    probability = special.expit(theta)
    error = np.sqrt(np.where(variance > 0, variance, np.nan)) * probability * (1 - probability)
    found = [nothing.copy(), nothing.copy()]
    for one, part in zip(found, np.split(error[:-1], 2), strict=True):
        one[voted] = part
    return found[0], found[1]


@dataclass(frozen=True)
class _Score:
    """The derivative of the log-likelihood in the logits of sensitivities, specificities and the prevalence."""

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
        """Over all items, with what is credited in advance: (2 raters + 1,), 0 at the fit."""
        of_positive, of_negative, of_prevalence, share = self._parts(theta)
        votes = [np.bincount(self.rater, part, self.n_raters).astype(float) for part in (of_positive, of_negative)]
        credited = IMAGINED_RIGHT * (1 - share) - IMAGINED_WRONG * share
        credited[-1] = 1 - 2 * share[-1]
        return np.concatenate([*votes, [of_prevalence.sum()]]) + credited

    def by_unit(self, theta: FloatArray, unit: NDArray[np.int64], n_units: int) -> FloatArray:
        """Each unit's part in the derivatives, (units, 2 raters + 1). unit: (items,)."""
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
    """The logarithm of each vote's likelihood ratio of positive to negative."""
    for_positive = np.where(vote > 0, np.log(sensitivity)[rater], np.log1p(-sensitivity)[rater])
    for_negative = np.where(vote > 0, np.log1p(-specificity)[rater], np.log(specificity)[rater])
    return np.asarray(for_positive - for_negative)


def _share_right(right: ArrayLike, votes: ArrayLike) -> FloatArray:
    return (np.asarray(right, dtype=float) + IMAGINED_RIGHT) / (
        np.asarray(votes, dtype=float) + IMAGINED_RIGHT + IMAGINED_WRONG
    )

"""Which answer is right, and who is reliable, when neither is known: Dawid and Skene's model of binary votes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]

IMAGINED_RIGHT, IMAGINED_WRONG = 2.0, 1.0  # votes of each kind that every rater is credited with in advance
TOLERANCE = 1e-8
MAX_ITERATIONS = 1000


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
        for_positive = np.where(v > 0, np.log(sensitivity)[r], np.log1p(-sensitivity)[r])
        for_negative = np.where(v > 0, np.log1p(-specificity)[r], np.log(specificity)[r])
        evidence = np.bincount(i, for_positive - for_negative, n_items) + np.log(prevalence / (1 - prevalence))
        updated = special.expit(evidence)
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


def _share_right(right: ArrayLike, votes: ArrayLike) -> FloatArray:
    return (np.asarray(right, dtype=float) + IMAGINED_RIGHT) / (
        np.asarray(votes, dtype=float) + IMAGINED_RIGHT + IMAGINED_WRONG
    )

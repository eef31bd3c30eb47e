"""Bootstrap replicates of ranking metrics and of cross-fitted thresholds from histograms of the scores.

With many items and replicates, the time goes into sorting and summing each replicate item by item. Here scores are
placed into at most `BINS` bins of equal counts, and a replicate is a product of its multiplicities with the histogram
of each unit. Values are exact; only their replicates treat scores of one bin as tied.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import recall_and_specificity
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
BINS = 1024


@dataclass(frozen=True)
class BinnedScores:
    """Scores of items as bins, with the weight of positive and negative labels of each unit in each bin.

    Attributes
    ----------
    positive, negative : (units, bins) sparse.
    """

    positive: sparse.csr_array
    negative: sparse.csr_array

    @classmethod
    def from_scores(cls, scores: ArrayLike, labels: ArrayLike, unit: NDArray[np.int64], n_units: int) -> "BinnedScores":
        """Place scores into bins.

        Parameters
        ----------
        scores : (n,) finite.
        labels : (n,) 0/1, or the share in [0, 1] that is positive.
        unit : (n,) the unit of each item.
        n_units : how many units there are.
        """
        s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
        distinct = np.unique(s)
        edges = distinct if len(distinct) <= BINS else np.unique(np.quantile(s, np.linspace(0, 1, BINS + 1)[:-1]))
        place = np.searchsorted(edges, s, side="right") - 1
        shape = (n_units, len(edges))
        return cls(*(sparse.csr_array((weight, (unit, place)), shape=shape) for weight in (y, 1 - y)))

    def ranking(self, weights: FloatArray) -> FloatArray:
        """Area under the ROC and average precision of each row of unit weights, (rows, units) → (rows, 2)."""
        positive = (weights @ self.positive)[:, ::-1]
        negative = (weights @ self.negative)[:, ::-1]
        tp, fp = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
        area = (negative * (tp - positive / 2)).sum(axis=1)
        precision = ratio(tp, tp + fp, empty=0.0)
        total, others = tp[:, -1], fp[:, -1]
        return np.stack([ratio(area, total * others), ratio((positive * precision).sum(axis=1), total)], axis=1)

    def below(self, weights: FloatArray, units: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Positive and negative weight below each bin's lower edge and in all, of some units: (rows, bins + 1) each."""
        sums = []
        for histogram in (self.positive, self.negative):
            counts = weights[:, units] @ histogram[units]
            sums.append(np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1))
        return sums[0], sums[1]


def ranking_replicates(scores: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> FloatArray:
    """Replicates of the area under the ROC and of average precision, (replicates, 2).

    Parameters
    ----------
    scores, labels : (n,) as in `classification.ranking_metrics`.
    bootstrap : of the items.

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(40), 3, np.random.default_rng(0))
    >>> ranking_replicates(np.arange(40.0), np.arange(40) > 20, bootstrap)[:, 0].tolist()
    [1.0, 1.0, 1.0]
    """
    binned = BinnedScores.from_scores(scores, labels, bootstrap.unit, bootstrap.n_units)
    chunks = [
        binned.ranking(bootstrap.weights[i : i + 200].astype(float)) for i in range(0, len(bootstrap.weights), 200)
    ]
    return np.concatenate([np.empty((0, 2)), *chunks])


def cross_fitted_replicates(
    scores: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap, fold: NDArray[np.int64]
) -> FloatArray:
    """Deviations of balanced accuracy at cross-fitted thresholds from its mean, of replicates of two kinds.

    Parameters
    ----------
    scores, labels : (n,) as in `classification.cross_fit`.
    bootstrap : of the items.
    fold : (n,) the fold of each item; items of one unit are in one fold.

    Returns
    -------
    (2 · replicates,) float
        First of replicates that choose thresholds anew, then of those that keep the thresholds; their common variance
        is the mean of both. NaN where a class is missing.
    """
    binned = BinnedScores.from_scores(scores, labels, bootstrap.unit, bootstrap.n_units)
    of_unit = np.zeros(bootstrap.n_units, dtype=np.int64)
    of_unit[bootstrap.unit] = fold
    once = np.ones((1, bootstrap.n_units))
    kept = [int(_best(*binned.below(once, of_unit != k))[0]) for k in np.unique(fold)]
    drawn: tuple[list[FloatArray], list[FloatArray]] = ([np.empty(0)], [np.empty(0)])
    for start in range(0, len(bootstrap.weights), 200):
        weights = bootstrap.weights[start : start + 200].astype(float)
        sums = np.zeros((2, len(weights), 4))
        for place, k in enumerate(np.unique(fold)):
            inside = of_unit == k
            chosen = _best(*binned.below(weights, ~inside))
            positive, negative = binned.below(weights, inside)
            for kind, at in enumerate((chosen, np.full(len(weights), kept[place]))):
                rows = np.arange(len(weights))
                missed, rejected = positive[rows, at], negative[rows, at]
                sums[kind] += np.stack([positive[:, -1] - missed, negative[:, -1] - rejected, rejected, missed], axis=1)
        for kind in (0, 1):
            drawn[kind].append(recall_and_specificity(sums[kind]).mean(axis=1))
    both = [np.concatenate(own) for own in drawn]
    return np.concatenate([own - np.nanmean(own) if np.isfinite(own).any() else own for own in both])


def _best(positive: FloatArray, negative: FloatArray) -> NDArray[np.int64]:
    """The bin from which on `present` gives the highest balanced accuracy, the middle one of several, of each row."""
    missed = ratio(positive, positive[:, -1:])
    rejected = ratio(negative, negative[:, -1:])
    balanced = np.nan_to_num(rejected - missed, nan=-np.inf)[:, :-1]
    best = balanced >= balanced.max(axis=1, keepdims=True) - 1e-12
    return np.argmax(np.cumsum(best, axis=1) > (best.sum(axis=1) // 2)[:, None], axis=1)

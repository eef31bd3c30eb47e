"""Decisions and scores against binary labels.

Two shapes: decisions are counted into (…, 4) sums of true positives, false positives, true negatives, false
negatives; scores are sorted once and swept for all replicates together. What does not exist (a class is
missing) is NaN, never 0.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.resampling import CHUNK_VALUES, Bootstrap, Estimate, summarise

FloatArray = NDArray[np.float64]

DECISION_METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall")
RANKING_METRICS = ("roc_auc", "average_precision")
ONE_CLASS = "the labels hold one class only"
WHY = {"f1": "no label is positive", "precision": "no label or no prediction is positive"}


def decision_contributions(decisions: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Each item's true positive, false positive, true negative, false negative: (n, 4).

    decisions, labels: (n,) booleans. Labels may be shares in [0, 1]: an item that is 2/3 positive counts so.
    """
    said, y = np.asarray(decisions, dtype=float), np.asarray(labels, dtype=float)
    return np.stack([said * y, said * (1 - y), (1 - said) * (1 - y), (1 - said) * y], axis=-1)


def decision_metrics(sums: FloatArray) -> FloatArray:
    """Balanced accuracy, accuracy, F1, precision, recall: (…, 4) sums → (…, 5), in the order of DECISION_METRICS.

    Balanced accuracy is the mean of recall and specificity. F1 = 2 tp / (2 tp + fp + fn): 0, not undefined,
    where nothing was called positive though something is. Without a positive label neither F1 nor precision exists.
    """
    tp, fp, tn, fn = np.moveaxis(sums, -1, 0)
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    return np.stack(
        [
            (recall + specificity) / 2,
            _ratio(tp + tn, tp + fp + tn + fn),
            np.where(tp + fn > 0, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
            np.where(tp + fn > 0, _ratio(tp, tp + fp), np.nan),
            recall,
        ],
        axis=-1,
    )


def ranking_metrics(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Area under the ROC and average precision: (…, 2). Equal scores are one point of either curve.

    scores: (n,) higher means more likely positive. labels: (n,) True for positive, or the share in [0, 1] that
    is. weights: (…, n) how often each item counts (default once), one result per row.
    A class missing: NaN (average precision needs a positive only).
    Sources: ROC, Fawcett (2006), Pattern Recognition Letters 27:861; average precision, as Σ (R_k − R_{k−1}) P_k.

    >>> ranking_metrics([.9, .8, .7, .6], [True, True, False, True]).round(4).tolist()
    [0.6667, 0.9167]
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    if s.shape != y.shape or s.ndim != 1:
        raise ValueError(f"scores {s.shape} and labels {y.shape} must be two lists of the same length")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite; leave failed items out first")
    order = np.argsort(-s, kind="stable")
    last = np.flatnonzero(np.diff(s[order], append=-np.inf))  # the last item of each run of equal scores
    w = (np.ones(len(s)) if weights is None else np.asarray(weights, dtype=float))[..., order]
    tp = np.cumsum(w * y[order], axis=-1)[..., last]
    fp = np.cumsum(w * (1 - y[order]), axis=-1)[..., last]
    new_tp, new_fp = np.diff(tp, prepend=0.0), np.diff(fp, prepend=0.0)
    positives, negatives = new_tp.sum(axis=-1), new_fp.sum(axis=-1)
    area = (new_fp * (tp - new_tp / 2)).sum(axis=-1)
    precision = _ratio(tp, tp + fp, empty=0.0)
    return np.stack(
        [_ratio(area, positives * negatives), _ratio((new_tp * precision).sum(axis=-1), positives)], axis=-1
    )


def evaluate(scores: ArrayLike, decisions: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Every metric of decisions and of scores, with intervals over the bootstrap's units.

    scores, decisions, labels: (n,). Returns {metric: Estimate}; n is the number of items.
    """
    y = np.asarray(labels, dtype=float)
    n = len(y)
    names = [*DECISION_METRICS, *RANKING_METRICS]
    if n == 0:
        return {name: Estimate(None, why="no item was evaluated") for name in names}
    decided = bootstrap.estimates(
        decision_contributions(decisions, y),
        decision_metrics,
        n=[n] * len(DECISION_METRICS),
        why=[WHY.get(name, ONE_CLASS) for name in DECISION_METRICS],
    )
    values, replicates = ranking_metrics(scores, y), ranking_replicates(scores, y, bootstrap)
    ranked = [summarise(v, r, n=n, why=ONE_CLASS) for v, r in zip(values, replicates.T, strict=True)]
    return dict(zip(names, [*decided, *ranked], strict=True))


def ranking_replicates(scores: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> FloatArray:
    """Area under the ROC and average precision of every replicate, (replicates, 2), from scores sorted once."""
    swept = [ranking_metrics(scores, labels, weights) for weights in _item_weights(bootstrap)]
    return np.concatenate([np.empty((0, 2)), *swept])


def _item_weights(bootstrap: Bootstrap) -> Iterator[NDArray[np.uint8]]:
    """The multiplicity of every item in every replicate, a bounded number of replicates at a time."""
    if bootstrap.n_units < 2:
        return
    rows = max(1, CHUNK_VALUES // (4 * max(len(bootstrap.unit), 1)))
    for i in range(0, len(bootstrap.weights), rows):
        yield bootstrap.weights[i : i + rows, bootstrap.unit]


def best_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """The threshold with the highest balanced accuracy for `score >= threshold`; of several, the middle one.

    Candidates lie halfway between neighbouring scores, and at the lowest score. One class only: NaN.
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    order = np.argsort(s, kind="stable")
    s, y = s[order], y[order]
    positives, negatives = y.sum(), (1 - y).sum()
    if not positives or not negatives:
        return float("nan")
    first = np.flatnonzero(np.diff(s, prepend=-np.inf))  # where calling "positive from here on" makes a difference
    missed = np.concatenate([[0.0], np.cumsum(y)])[first]
    rejected = np.concatenate([[0.0], np.cumsum(1 - y)])[first]
    balanced = (1 - missed / positives + rejected / negatives) / 2
    below = s[np.maximum(first - 1, 0)]
    middle = (s[first] + below) / 2
    # Between neighbours that differ in the last bit there is no middle; the upper one does.
    candidates = np.where((first > 0) & (middle > below), middle, s[first])
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    return float(candidates[best[len(best) // 2]])


def cross_fitted_thresholds(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, rng: np.random.Generator, folds: int = 5
) -> tuple[FloatArray, FloatArray]:
    """A threshold for every item, chosen without any item of its group.

    groups: (n,) items of a group stay in one fold; groups are dealt to folds at random. Each fold gets the
    threshold that maximises balanced accuracy on the others. Returns (n,) thresholds, and one per fold; all NaN
    where some fold's others hold one class only, or there are fewer than two groups.
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    folds = min(folds, len(names))
    if folds < 2:
        return np.full(len(s), np.nan), np.empty(0)
    fold = (rng.permutation(len(names)) % folds)[group.ravel()]
    chosen = np.array([best_threshold(s[fold != k], y[fold != k]) for k in range(folds)])
    if np.isnan(chosen).any():
        return np.full(len(s), np.nan), np.empty(0)
    return chosen[fold], chosen


def _ratio(numerator: FloatArray, denominator: FloatArray, empty: float = np.nan) -> FloatArray:
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float))
    return np.divide(top, bottom, out=np.full(top.shape, empty), where=bottom > 0)

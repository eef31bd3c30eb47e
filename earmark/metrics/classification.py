"""Decisions and scores against binary labels.

Two shapes: decisions are counted into (…, 4) sums of true positives, false positives, true negatives, false
negatives; scores are sorted once and swept for all replicates together. What does not exist (a class is
missing) is NaN, never 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.bootstrap import (
    CHUNK_VALUES,
    Bootstrap,
    Contributions,
    Units,
    estimate_from_replicates,
    mean_of_rates,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]

DECISION_METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall")
RANKING_METRICS = ("roc_auc", "average_precision")
ONE_CLASS = "the labels hold one class only"
NO_THRESHOLD = "some fold's other clips hold one class only, so no threshold could be chosen on them"
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
    recall, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return np.stack(
        [
            (recall + specificity) / 2,
            ratio(tp + tn, tp + fp + tn + fn),
            np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan),
            np.where(tp + fn > 0, ratio(tp, tp + fp), np.nan),
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
    precision = ratio(tp, tp + fp, empty=0.0)
    return np.stack([ratio(area, positives * negatives), ratio((new_tp * precision).sum(axis=-1), positives)], axis=-1)


def evaluate(scores: ArrayLike, decisions: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Every metric of decisions and of scores, with intervals over the bootstrap's units.

    scores, decisions, labels: (n,). Returns {metric: Estimate}; n is the number of items. An interval is as good as the
    units of the class that the metric is about are many.
    """
    y = np.asarray(labels, dtype=float)
    n = len(y)
    names = [*DECISION_METRICS, *RANKING_METRICS]
    if n == 0:
        return {name: Estimate(None, why="no item was evaluated") for name in names}
    units = units_by_metric(decisions, y, bootstrap)
    decided = bootstrap.estimates(
        decision_contributions(decisions, y),
        decision_metrics,
        n=[n] * len(DECISION_METRICS),
        why=[WHY.get(name, ONE_CLASS) for name in DECISION_METRICS],
        units=[units[name] for name in DECISION_METRICS],
    )
    decided[0] = balanced_accuracy(decision_contributions(decisions, y), bootstrap, bootstrap.units_of_classes(y), n=n)
    values, replicates = ranking_metrics(scores, y), ranking_replicates(scores, y, bootstrap)
    ranked = [
        estimate_from_replicates(value, drawn, n=n, why=ONE_CLASS, units=units[name])
        for name, value, drawn in zip(RANKING_METRICS, values, replicates.T, strict=True)
    ]
    return dict(zip(names, [*decided, *ranked], strict=True))


def balanced_accuracy(
    contributions: Contributions, bootstrap: Bootstrap, units: Sequence[Units], *, n: int, why: str = ONE_CLASS
) -> Estimate:
    """Balanced accuracy with an interval that holds where one class is all right or all wrong.

    contributions: (items, 4), as `decision_contributions` gives them. units: those with a positive item and with a
    negative one.
    """
    total = np.asarray(contributions.sum(axis=0), dtype=float)[np.newaxis]
    replicates = bootstrap.replicates(contributions, recall_and_specificity, 2)
    return mean_of_rates(recall_and_specificity(total)[0], replicates, n=n, units=units, why=why)


def recall_and_specificity(sums: FloatArray) -> FloatArray:
    """Recall and specificity: (…, 4) sums of `decision_contributions` → (…, 2)."""
    tp, fp, tn, fn = np.moveaxis(sums, -1, 0)
    return np.stack([ratio(tp, tp + fn), ratio(tn, tn + fp)], axis=-1)


def units_by_metric(decisions: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> dict[str, Units]:
    """{metric: the units that decide how well it is known}: those with an item of the class that it is about.

    decisions, labels: (n,), labels as booleans or shares.
    """
    said, y = np.asarray(decisions, dtype=bool), np.asarray(labels, dtype=float)
    present, both = bootstrap.units_with(y > 0, "with a present item"), bootstrap.units_of_rarer_class(y)
    return {
        "balanced_accuracy": both,
        "accuracy": bootstrap.units,
        "f1": present,
        "precision": bootstrap.units_with(said, "with an item called present"),
        "recall": present,
        "roc_auc": both,
        "average_precision": present,
    }


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
    y = np.asarray(labels, dtype=float)
    return float(_Candidates.of(scores).best(y, np.ones((1, len(y))))[0])


@dataclass(frozen=True)
class _Candidates:
    """Where a threshold can be: scores sorted once, for any number of reweightings.

    order: (n,) items by rising score; first: (k,) where each distinct score begins in it; thresholds: (k,).
    """

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    thresholds: FloatArray

    @classmethod
    def of(cls, scores: ArrayLike) -> "_Candidates":
        s = np.asarray(scores, dtype=float)
        order = np.argsort(s, kind="stable")
        s = s[order]
        first = np.flatnonzero(np.diff(s, prepend=-np.inf))  # where "positive from here on" makes a difference
        below = s[np.maximum(first - 1, 0)]
        middle = (s[first] + below) / 2
        # Between neighbours that differ in the last bit there is no middle; the upper one does.
        return cls(order, first, np.where((first > 0) & (middle > below), middle, s[first]))

    def best(self, labels: FloatArray, weights: FloatArray) -> FloatArray:
        """The best threshold for each row of item weights, (rows, n); NaN where a class is missing."""
        w, y = weights[:, self.order], labels[self.order]
        missed, positives = _below(w * y, self.first)
        rejected, negatives = _below(w * (1 - y), self.first)
        known = (positives > 0) & (negatives > 0)
        if not known.any():
            return np.full(len(weights), np.nan)
        balanced = (1 - ratio(missed, positives[:, None]) + ratio(rejected, negatives[:, None])) / 2
        best = balanced >= balanced.max(axis=1, keepdims=True) - 1e-12
        middle = np.cumsum(best, axis=1) > (best.sum(axis=1) // 2)[:, None]
        return np.where(known, self.thresholds[np.argmax(middle, axis=1)], np.nan)


def _below(weights: FloatArray, first: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """The weight before each of the places, (rows, k), and in all, (rows,)."""
    sums = np.cumsum(weights, axis=1)
    return np.where(first > 0, sums[:, first - 1], 0.0), sums[:, -1] if sums.shape[1] else np.zeros(len(sums))


@dataclass(frozen=True)
class CrossFitted:
    """Balanced accuracy at thresholds that were chosen on other clips.

    thresholds: (folds,); item_thresholds: (n,) each item's. Both are empty where there is no threshold.
    """

    balanced_accuracy: Estimate
    thresholds: FloatArray = field(default_factory=lambda: np.empty(0))
    item_thresholds: FloatArray = field(default_factory=lambda: np.empty(0))


def cross_fit(
    scores: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap, rng: np.random.Generator, folds: int = 5
) -> CrossFitted:
    """Balanced accuracy at thresholds that are chosen without the clips they are applied to.

    The bootstrap's units are dealt to folds at random, so that each fold has its part of the positives. A fold is
    judged at the threshold that is best on the others. The interval has the mean of two variances: of replicates that
    keep the thresholds, which alone is too small, and of those that choose them anew, too large, since a sample with
    repeats chooses less steadily than the data did.

    scores, labels: (n,). No thresholds where some fold's others hold one class only, or with fewer than two units.
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    fold = assign_folds(y, bootstrap, rng, folds)
    inside = [fold == k for k in range(int(fold.max(initial=-1)) + 1)]
    candidates = [_Candidates.of(s[~rows]) for rows in inside]

    def chosen(weights: FloatArray) -> FloatArray:
        each = [c.best(y[~rows], weights[:, ~rows]) for rows, c in zip(inside, candidates, strict=True)]
        return np.stack(each, axis=1)

    def judged(thresholds: FloatArray, weights: FloatArray) -> FloatArray:
        sums = np.zeros((len(weights), 4))
        for rows, threshold in zip(inside, thresholds.T, strict=True):
            said, w = s[rows] >= threshold[:, None], weights[:, rows]
            hits, present = (w * said) @ y[rows], w @ y[rows]
            called, total = (w * said).sum(axis=1), w.sum(axis=1)
            sums += np.stack([hits, called - hits, total - present - called + hits, present - hits], axis=1)
        known = np.isfinite(thresholds).all(axis=1, keepdims=True)
        return np.where(known, recall_and_specificity(sums), np.nan)

    once = np.ones((1, len(s)))
    thresholds = chosen(once) if len(inside) > 1 else np.full((1, 1), np.nan)
    if not np.isfinite(thresholds).all():
        return CrossFitted(Estimate(None, n=len(s), why=NO_THRESHOLD))
    anew, kept = [np.empty((0, 2))], [np.empty((0, 2))]
    for drawn in _item_weights(bootstrap):
        weights = drawn.astype(float)
        anew.append(judged(chosen(weights), weights))
        kept.append(judged(np.repeat(thresholds, len(weights), axis=0), weights))
    # Replicates around their own means, side by side, so that the variance is the mean of the two.
    first, second = np.concatenate(anew), np.concatenate(kept)
    undefined = ~(np.isfinite(first) & np.isfinite(second)).all(axis=1)
    first[undefined] = second[undefined] = np.nan
    if len(first) and not undefined.all():
        first, second = first - np.nanmean(first, axis=0), second - np.nanmean(second, axis=0)
    both = np.concatenate([first, second])
    rates = judged(thresholds, once)[0]
    estimate = mean_of_rates(rates, both, n=len(s), units=bootstrap.units_of_classes(y), why=ONE_CLASS)
    return CrossFitted(estimate, thresholds[0], thresholds[0][fold])


def assign_folds(labels: FloatArray, bootstrap: Bootstrap, rng: np.random.Generator, folds: int) -> NDArray[np.int64]:
    """The fold of each item: whole units, dealt in the order of their share of positives, so that folds are alike."""
    n_units = bootstrap.n_units
    folds = min(folds, n_units)
    if folds < 2:
        return np.zeros(len(labels), dtype=np.int64)
    counts = np.bincount(bootstrap.unit, minlength=n_units)
    share = np.bincount(bootstrap.unit, labels, n_units) / np.maximum(counts, 1)
    order = np.lexsort((rng.random(n_units), share))
    fold = np.empty(n_units, dtype=np.int64)
    fold[order] = np.arange(n_units) % folds
    return fold[bootstrap.unit]

"""Metrics of binary decisions and scores: balanced accuracy, F1, precision, recall, ROC AUC and average precision.

Decisions are counted as (…, 4) sums of true positives, false positives, true negatives and false negatives. Scores are
sorted once and evaluated for all bootstrap replicates together. An undefined metric (a class is missing) is NaN, not 0.
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
from earmark.metrics.rater_resampling import Deletions
from earmark.metrics.ratio import NEGLIGIBLE, ratio

FloatArray = NDArray[np.float64]

DECISION_METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall")
RANKING_METRICS = ("roc_auc", "average_precision")
ONE_CLASS = "the labels have a single class"
NO_THRESHOLD = "no threshold: the training set of a fold has a single class"
UNDEFINED_REASONS = {"f1": "no positive label", "precision": "no positive label or no positive prediction"}


def decision_contributions(decisions: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Count true positives, false positives, true negatives and false negatives of each item.

    Parameters
    ----------
    decisions : (n,) bool
        Predicted positive.
    labels : (n,) bool or float
        Reference labels, or the positive share of each item in [0, 1], which is counted fractionally.

    Returns
    -------
    (n, 4) float
        Each row sums to 1.

    Examples
    --------
    >>> decision_contributions([True, False], [1.0, 0.25]).tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.75, 0.25]]
    """
    d, y = np.asarray(decisions, dtype=float), np.asarray(labels, dtype=float)
    return np.stack([d * y, d * (1 - y), (1 - d) * (1 - y), (1 - d) * y], axis=-1)


def decision_metrics(sums: FloatArray) -> FloatArray:
    """Compute balanced accuracy, accuracy, F1, precision and recall from counts.

    Balanced accuracy is the mean of recall and specificity. F1 = 2 tp / (2 tp + fp + fn).

    Parameters
    ----------
    sums : (…, 4) float
        Sums of `decision_contributions`: true positives, false positives, true negatives, false negatives.

    Returns
    -------
    (…, 5) float
        In [0, 1], in the order of DECISION_METRICS. NaN where undefined: balanced accuracy without positive or negative
        labels; F1, precision and recall without positive labels; precision without positive predictions. F1 is 0 if
        there are positive labels but no positive predictions.

    References
    ----------
    Sokolova and Lapalme (2009), A systematic analysis of performance measures for classification tasks, Information
    Processing and Management 45:427.
    Brodersen et al. (2010), The balanced accuracy and its posterior distribution, ICPR.

    Examples
    --------
    >>> decision_metrics(np.array([3.0, 1.0, 4.0, 2.0])).round(4).tolist()
    [0.7, 0.7, 0.6667, 0.75, 0.6]
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
    """Compute the area under the ROC curve (ROC AUC) and average precision.

    Average precision is Σ_k (R_k − R_{k−1}) P_k over distinct scores, with recall R and precision P. Tied scores are
    one point of the ROC and of the precision-recall curve.

    Parameters
    ----------
    scores : (n,) float
        Finite; higher means more likely positive.
    labels : (n,) bool or float
        Reference labels, or the positive share of each item in [0, 1].
    weights : (…, n) float, optional
        Multiplicity of each item, one result per row; 1 by default.

    Returns
    -------
    (…, 2) float
        In [0, 1]. ROC AUC is NaN without positives or negatives, average precision is NaN without positives.

    Raises
    ------
    ValueError
        If the lengths differ or a score is not finite.

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognition Letters 27:861.

    Examples
    --------
    >>> ranking_metrics([.9, .8, .7, .6], [True, True, False, True]).round(4).tolist()
    [0.6667, 0.9167]
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    if s.shape != y.shape or s.ndim != 1:
        raise ValueError(f"scores and labels must be one-dimensional and equally long, not {s.shape} and {y.shape}")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite; exclude failed items first")
    order = np.argsort(-s, kind="stable")
    last = np.flatnonzero(np.diff(s[order], append=-np.inf))  # the last of tied scores
    w = (np.ones(len(s)) if weights is None else np.asarray(weights, dtype=float))[..., order]
    tp = np.cumsum(w * y[order], axis=-1)[..., last]
    fp = np.cumsum(w * (1 - y[order]), axis=-1)[..., last]
    new_tp, new_fp = np.diff(tp, prepend=0.0), np.diff(fp, prepend=0.0)
    positives, negatives = new_tp.sum(axis=-1), new_fp.sum(axis=-1)
    area = (new_fp * (tp - new_tp / 2)).sum(axis=-1)
    precision = ratio(tp, tp + fp, empty=0.0)
    return np.stack([ratio(area, positives * negatives), ratio((new_tp * precision).sum(axis=-1), positives)], axis=-1)


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Receiver operating characteristic: one point for each distinct score, and (0, 0).

    Parameters
    ----------
    scores : (n,) float
        Finite; higher means more likely positive.
    labels : (n,) bool
        At least one of each class.

    Returns
    -------
    false_positive_rate, true_positive_rate, thresholds : (k,) float
        Rates of `score >= threshold`, from the highest threshold (infinity) to the lowest score.

    Examples
    --------
    >>> [a.tolist() for a in roc_curve([0.9, 0.8, 0.7], [True, False, True])[:2]]
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]]
    """
    tp, fp, thresholds = _counts_by_threshold(scores, labels)
    return ratio(fp, fp[-1]), ratio(tp, tp[-1]), thresholds


def pr_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Precision-recall curve: one point for each distinct score.

    Parameters
    ----------
    scores, labels : (n,)
        As in `roc_curve`.

    Returns
    -------
    recall, precision : (k,) float
        From the highest score to the lowest.

    Examples
    --------
    >>> [a.tolist() for a in pr_curve([0.9, 0.8], [True, False])]
    [[1.0, 1.0], [1.0, 0.5]]
    """
    tp, fp, _ = _counts_by_threshold(scores, labels)
    return ratio(tp, tp[-1])[1:], ratio(tp, tp + fp)[1:]


def _counts_by_threshold(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """True and false positives at each distinct score, from infinity down."""
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    order = np.argsort(-s, kind="stable")
    last = np.flatnonzero(np.diff(s[order], append=-np.inf))
    tp, fp = np.cumsum(y[order])[last], np.cumsum(1 - y[order])[last]
    return np.append(0.0, tp), np.append(0.0, fp), np.append(np.inf, s[order][last])


def evaluate(scores: ArrayLike, decisions: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Compute all decision and ranking metrics with bootstrap intervals.

    The units of the class that a metric is about determine its interval; see `units_by_metric`.

    Parameters
    ----------
    scores : (n,) float
    decisions : (n,) bool
    labels : (n,) bool or float
        Reference labels, or the positive share of each item.
    bootstrap : Bootstrap
        Over the units of the n items.

    Returns
    -------
    dict of str to Estimate
        Keys are those of DECISION_METRICS and RANKING_METRICS.

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(4), 0, np.random.default_rng(0))
    >>> metrics = evaluate([.9, .8, .7, .6], [True, True, False, False], [1, 1, 0, 1], bootstrap)
    >>> round(metrics["balanced_accuracy"].value, 4), round(metrics["roc_auc"].value, 4)
    (0.8333, 0.6667)
    """
    y = np.asarray(labels, dtype=float)
    n = len(y)
    names = [*DECISION_METRICS, *RANKING_METRICS]
    if n == 0:
        return {name: Estimate(None, why="no items") for name in names}
    units = units_by_metric(decisions, y, bootstrap)
    decided = bootstrap.estimates(
        decision_contributions(decisions, y),
        decision_metrics,
        n=[n] * len(DECISION_METRICS),
        why=[UNDEFINED_REASONS.get(name, ONE_CLASS) for name in DECISION_METRICS],
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
    contributions: Contributions,
    bootstrap: Bootstrap,
    units: Sequence[Units],
    *,
    n: int,
    why: str = ONE_CLASS,
    deletions: Deletions | None = None,
) -> Estimate:
    """Balanced accuracy with a confidence interval that stays valid where recall or specificity is 0 or 1.

    Parameters
    ----------
    contributions : (n, 4) array or sparse array
        From `decision_contributions`.
    bootstrap : Bootstrap
    units : sequence of two Units
        Units with a positive item, and units with a negative item.
    n : int
        Sample size to report.
    why : str
        Reason to report if a class is missing.
    deletions : Deletions, optional
        Sums without each rater; see `Bootstrap.estimate`.

    Returns
    -------
    Estimate
        In [0, 1].

    References
    ----------
    Zou and Donner (2008), Statistics in Medicine 27:1693, for the interval; see `bootstrap.mean_of_rates`.

    Examples
    --------
    >>> labels = np.repeat([True, False], 20)
    >>> bootstrap = Bootstrap.from_units(np.arange(40), 100, np.random.default_rng(0))
    >>> counts = decision_contributions(np.ones(40), labels)
    >>> estimate = balanced_accuracy(counts, bootstrap, bootstrap.units_of_classes(labels), n=40)
    >>> estimate.value, estimate.low < 0.5 < estimate.high
    (0.5, True)
    """
    total = np.asarray(contributions.sum(axis=0), dtype=float)[np.newaxis]
    replicates = bootstrap.replicates(contributions, recall_and_specificity, 2)
    raters = bootstrap.rater_variations(contributions, _rates_and_mean, 3, deletions)
    return mean_of_rates(recall_and_specificity(total)[0], replicates, n=n, units=units, why=why, raters=raters)


def _rates_and_mean(sums: FloatArray) -> FloatArray:
    rates = recall_and_specificity(sums)
    return np.concatenate([rates, rates.mean(axis=-1, keepdims=True)], axis=-1)


def recall_and_specificity(sums: FloatArray) -> FloatArray:
    """Compute recall and specificity from counts.

    Parameters
    ----------
    sums : (…, 4) float
        Sums of `decision_contributions`.

    Returns
    -------
    (…, 2) float
        In [0, 1]; NaN without positive or negative labels.

    Examples
    --------
    >>> recall_and_specificity(np.array([3.0, 1.0, 4.0, 2.0])).tolist()
    [0.6, 0.8]
    """
    tp, fp, tn, fn = np.moveaxis(sums, -1, 0)
    return np.stack([ratio(tp, tp + fn), ratio(tn, tn + fp)], axis=-1)


def units_by_metric(decisions: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> dict[str, Units]:
    """Units that determine the precision of each metric: those with an item of the class that the metric is about.

    Parameters
    ----------
    decisions : (n,) bool
    labels : (n,) bool or float
    bootstrap : Bootstrap

    Returns
    -------
    dict of str to Units

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(4), 0, np.random.default_rng(0))
    >>> units_by_metric([True, False, False, False], [1, 1, 0, 0], bootstrap)["recall"]
    Units(n=2, name='clips with a present item')
    """
    positive, y = np.asarray(decisions, dtype=bool), np.asarray(labels, dtype=float)
    present, both = bootstrap.units_with(y > 0, "with a present item"), bootstrap.units_of_rarer_class(y)
    return {
        "balanced_accuracy": both,
        "accuracy": bootstrap.units,
        "f1": present,
        "precision": bootstrap.units_with(positive, "with an item predicted present"),
        "recall": present,
        "roc_auc": both,
        "average_precision": present,
    }


def ranking_replicates(scores: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap) -> FloatArray:
    """Compute ROC AUC and average precision on every bootstrap replicate; scores are sorted once per block.

    Parameters
    ----------
    scores : (n,) float
    labels : (n,) bool or float
    bootstrap : Bootstrap

    Returns
    -------
    (replicates, 2) float

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(4), 10, np.random.default_rng(0))
    >>> ranking_replicates([.9, .8, .7, .6], [1, 1, 0, 1], bootstrap).shape
    (10, 2)
    """
    swept = [ranking_metrics(scores, labels, weights) for weights in item_weights(bootstrap)]
    return np.concatenate([np.empty((0, 2)), *swept])


def item_weights(bootstrap: Bootstrap) -> Iterator[NDArray[np.uint8]]:
    """Yield the multiplicity of every item, a bounded number of replicates at a time."""
    if bootstrap.n_units < 2:
        return
    rows = max(1, CHUNK_VALUES // (4 * max(len(bootstrap.unit), 1)))
    for i in range(0, len(bootstrap.weights), rows):
        yield bootstrap.weights[i : i + rows, bootstrap.unit]


def best_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """Choose the threshold with the highest balanced accuracy, for decisions score ≥ threshold.

    Candidates are the midpoints between neighbouring distinct scores, and the lowest score. Of several best candidates,
    the middle one is returned.

    Parameters
    ----------
    scores : (n,) float
    labels : (n,) bool or float
        Reference labels, or the positive share of each item.

    Returns
    -------
    float
        NaN if a class is missing.

    References
    ----------
    Youden (1950), Index for rating diagnostic tests, Cancer 3:32; balanced accuracy is (J + 1) / 2.

    Examples
    --------
    >>> round(best_threshold([.1, .2, .8, .9], [0, 0, 1, 1]), 4)
    0.5
    """
    y = np.asarray(labels, dtype=float)
    return float(ThresholdCandidates.from_scores(scores).best(y, np.ones((1, len(y))))[0])


@dataclass(frozen=True)
class ThresholdCandidates:
    """Candidate thresholds of scores that are sorted once, for any number of reweightings or relabellings.

    Attributes
    ----------
    order : (n,) int
        Items by rising score.
    first : (k,) int
        Start of each distinct score in `order`.
    thresholds : (k,) float
        Midpoints between neighbouring distinct scores, and the lowest score.

    Examples
    --------
    >>> ThresholdCandidates.from_scores([0.4, 0.2, 0.4]).thresholds.round(4).tolist()
    [0.2, 0.3]
    """

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    thresholds: FloatArray

    @classmethod
    def from_scores(cls, scores: ArrayLike) -> "ThresholdCandidates":
        """Sort scores, (n,) finite float."""
        s = np.asarray(scores, dtype=float)
        order = np.argsort(s, kind="stable")
        s = s[order]
        first = np.flatnonzero(np.diff(s, prepend=-np.inf))  # the first of tied scores
        below = s[np.maximum(first - 1, 0)]
        middle = (s[first] + below) / 2
        # Neighbours that differ in the last bit have no midpoint between them; use the upper one.
        return cls(order, first, np.where((first > 0) & (middle > below), middle, s[first]))

    def best(self, labels: FloatArray, weights: FloatArray) -> FloatArray:
        """Threshold with the highest balanced accuracy for each row, the middle one of several.

        Parameters
        ----------
        labels : (n,) or (rows, n) float
            Reference labels, or the positive share of each item.
        weights : (rows, n) float
            Multiplicity of each item.

        Returns
        -------
        (rows,) float
            NaN where a class is missing.
        """
        w = weights[:, self.order]
        positive = w * labels[..., self.order]
        missed, positives = self._below(positive)
        rejected, negatives = self._below(w - positive)
        defined = (positives > NEGLIGIBLE) & (negatives > NEGLIGIBLE)
        if not defined.any():
            return np.full(len(weights), np.nan)
        # Recall and specificity minus 1, but for a constant of the row; rows without a class are not used.
        youden = rejected * ratio(1, negatives, empty=0.0)[:, None]
        youden -= missed * ratio(1, positives, empty=0.0)[:, None]
        best = youden >= youden.max(axis=1, keepdims=True) - 2e-12
        place, several = np.argmax(best, axis=1), np.flatnonzero(best.sum(axis=1) > 1)
        middle = np.cumsum(best[several], axis=1) > (best[several].sum(axis=1) // 2)[:, None]
        place[several] = np.argmax(middle, axis=1)
        return np.where(defined, self.thresholds[place], np.nan)

    def _below(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sum of the weights below each candidate, (rows, k), and of all weights, (rows,). weights: in `order`."""
        sums = np.zeros((len(weights), weights.shape[1] + 1))
        np.cumsum(weights, axis=1, out=sums[:, 1:])
        every = len(self.first) == weights.shape[1]  # no ties
        return sums[:, :-1] if every else sums[:, self.first], sums[:, -1]


@dataclass(frozen=True)
class CrossFitted:
    """Balanced accuracy at cross-fitted thresholds.

    Attributes
    ----------
    balanced_accuracy : Estimate
    thresholds : (folds,) float
        Empty if undefined.
    item_thresholds : (n,) float
        Threshold applied to each item; empty if undefined.
    fold : (n,) int
        Fold of each item; empty if undefined.
    replicate_thresholds : (replicates, folds) float
        Thresholds chosen again in each replicate, NaN where a class is missing; empty if undefined.
    """

    balanced_accuracy: Estimate
    thresholds: FloatArray = field(default_factory=lambda: np.empty(0))
    item_thresholds: FloatArray = field(default_factory=lambda: np.empty(0))
    fold: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    replicate_thresholds: FloatArray = field(default_factory=lambda: np.empty((0, 0)))


def cross_fit(
    scores: ArrayLike, labels: ArrayLike, bootstrap: Bootstrap, rng: np.random.Generator, folds: int = 5
) -> CrossFitted:
    """Balanced accuracy at cross-fitted thresholds: each fold is evaluated at the threshold that is best on the other
    folds.

    The bootstrap's units are assigned to folds at random, stratified by their share of positives. The variance is the
    mean of two estimates: one from replicates that keep the thresholds, which is too small, and one from replicates
    that choose them again, which is too large because resampling with repeats makes the choice less stable.

    Parameters
    ----------
    scores : (n,) float
    labels : (n,) bool or float
        Reference labels, or the positive share of each item.
    bootstrap : Bootstrap
        Over the units of the n items.
    rng : numpy.random.Generator
        For the assignment to folds.
    folds : int
        At most the number of units is used.

    Returns
    -------
    CrossFitted
        Without thresholds, and with an undefined balanced accuracy, if a training set (the other folds of some fold)
        has a single class, or with fewer than two units.

    References
    ----------
    Chernozhukov et al. (2018), Double/debiased machine learning for treatment and structural parameters, The
    Econometrics Journal 21:C1, for cross-fitting.

    Examples
    --------
    >>> scores = np.arange(20) / 20
    >>> bootstrap = Bootstrap.from_units(np.arange(20), 0, np.random.default_rng(0))
    >>> cross_fit(scores, scores >= 0.5, bootstrap, np.random.default_rng(0)).thresholds.shape
    (5,)
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    fold = assign_folds(y, bootstrap, rng, folds)
    held_out = [fold == k for k in range(int(fold.max(initial=-1)) + 1)]
    candidates = [ThresholdCandidates.from_scores(s[~rows]) for rows in held_out]

    def choose_thresholds(weights: FloatArray) -> FloatArray:
        each = [c.best(y[~rows], weights[:, ~rows]) for rows, c in zip(held_out, candidates, strict=True)]
        return np.stack(each, axis=1)

    def evaluate_rates(thresholds: FloatArray, weights: FloatArray) -> FloatArray:
        sums = np.zeros((len(weights), 4))
        for rows, threshold in zip(held_out, thresholds.T, strict=True):
            predicted, w = s[rows] >= threshold[:, None], weights[:, rows]
            tp, positives = (w * predicted) @ y[rows], w @ y[rows]
            called, total = (w * predicted).sum(axis=1), w.sum(axis=1)
            sums += np.stack([tp, called - tp, total - positives - called + tp, positives - tp], axis=1)
        defined = np.isfinite(thresholds).all(axis=1, keepdims=True)
        return np.where(defined, recall_and_specificity(sums), np.nan)

    once = np.ones((1, len(s)))
    thresholds = choose_thresholds(once) if len(held_out) > 1 else np.full((1, 1), np.nan)
    if not np.isfinite(thresholds).all():
        return CrossFitted(Estimate(None, n=len(s), why=NO_THRESHOLD))
    chosen_again, fixed = [np.empty((0, 2))], [np.empty((0, 2))]
    replicate_thresholds = [np.empty((0, len(held_out)))]
    for drawn in item_weights(bootstrap):
        weights = drawn.astype(float)
        replicate_thresholds.append(choose_thresholds(weights))
        chosen_again.append(evaluate_rates(replicate_thresholds[-1], weights))
        fixed.append(evaluate_rates(np.repeat(thresholds, len(weights), axis=0), weights))
    # Centre both sets of replicates and concatenate them, so that the variance is the mean of the two.
    first, second = np.concatenate(chosen_again), np.concatenate(fixed)
    undefined = ~(np.isfinite(first) & np.isfinite(second)).all(axis=1)
    first[undefined] = second[undefined] = np.nan
    if len(first) and not undefined.all():
        first, second = first - np.nanmean(first, axis=0), second - np.nanmean(second, axis=0)
    both = np.concatenate([first, second])
    rates = evaluate_rates(thresholds, once)[0]
    estimate = mean_of_rates(rates, both, n=len(s), units=bootstrap.units_of_classes(y), why=ONE_CLASS)
    return CrossFitted(estimate, thresholds[0], thresholds[0][fold], fold, np.concatenate(replicate_thresholds))


def assign_folds(labels: FloatArray, bootstrap: Bootstrap, rng: np.random.Generator, folds: int) -> NDArray[np.int64]:
    """Assign items to cross-validation folds: units stay whole and are stratified by their share of positives.

    Parameters
    ----------
    labels : (n,) float
        Reference labels, or the positive share of each item.
    bootstrap : Bootstrap
    rng : numpy.random.Generator
    folds : int
        At most the number of units is used.

    Returns
    -------
    (n,) int
        Fold of each item; all 0 with fewer than two folds.

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units([0, 0, 1, 2, 3], 0, np.random.default_rng(0))
    >>> fold = assign_folds(np.array([1.0, 1, 1, 0, 0]), bootstrap, np.random.default_rng(0), 2)
    >>> len(set(fold[:2].tolist())), len(set(fold.tolist()))  # items of a unit share a fold
    (1, 2)
    """
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

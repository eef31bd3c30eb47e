"""Detection metrics for scored target and non-target trials: equal error rates, detection costs, Cllr and DET curves.

A trial is accepted if its score is at least the threshold, so tied scores are accepted together: they are one point of
the ROC, and no metric depends on the order of the trials. Rates are proportions in [0, 1]. Throughout, scores are (n,)
finite numbers, higher for targets, and labels are (n,), True for target trials. Without target or without non-target
trials all metrics are undefined: ValueError.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import logit, ndtri

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

P_TARGET = 0.01


@dataclass(frozen=True)
class OperatingPoint:
    """An error rate or cost with its threshold.

    Attributes
    ----------
    rate : float
    threshold : float
        On the axis of the scores; NaN for a metric without a threshold.
    """

    rate: float
    threshold: float


@dataclass(frozen=True)
class Roc:
    """ROC as operating points by rising threshold, from accepting all trials to rejecting all, linear in between.

    Attributes
    ----------
    thresholds : (k,) float
    misses : (k,) float
        Miss rate (false rejection rate), rising from 0 to 1.
    false_alarms : (k,) float
        False alarm rate (false acceptance rate), falling from 1 to 0.
    """

    thresholds: FloatArray
    misses: FloatArray
    false_alarms: FloatArray


def roc(scores: ArrayLike, labels: ArrayLike) -> Roc:
    """Compute the ROC: all of its vertices and some points on its edges.

    Only the distinct scores of the rarer class are visited, so the cost is that of sorting.

    Parameters
    ----------
    scores : (n,) float
        Finite; higher means more likely a target.
    labels : (n,) bool
        True for target trials.

    Returns
    -------
    Roc

    Raises
    ------
    ValueError
        If a class is missing, the lengths differ, or a score is not finite.

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognition Letters 27:861.

    Examples
    --------
    >>> curve = roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
    >>> curve.misses.tolist(), curve.false_alarms.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0, 1.0], [1.0, 0.5, 0.5, 0.0, 0.0, 0.0])
    """
    targets, non_targets = _split(scores, labels)
    targets.sort()
    non_targets.sort()
    rare, common = (targets, non_targets) if len(targets) <= len(non_targets) else (non_targets, targets)
    score = rare[np.flatnonzero(np.diff(rare, prepend=-np.inf))]
    # Two points for each distinct score: the threshold at the score, and just above it.
    rare_below = np.stack([np.searchsorted(rare, score, "left"), np.searchsorted(rare, score, "right")], axis=1).ravel()
    below = np.stack([np.searchsorted(common, score, "left"), np.searchsorted(common, score, "right")], axis=1).ravel()
    rejected_rare, rejected_common = rare_below / len(rare), below / len(common)
    misses, rejections = (rejected_rare, rejected_common) if rare is targets else (rejected_common, rejected_rare)
    between = np.stack([score, np.nextafter(score, np.inf)], axis=1).ravel()
    lowest, highest = min(targets[0], non_targets[0]), max(targets[-1], non_targets[-1])
    return Roc(
        np.concatenate([[lowest], between, [np.nextafter(highest, np.inf)]]),
        np.concatenate([[0.0], misses, [1.0]]),
        np.concatenate([[1.0], 1 - rejections, [0.0]]),
    )


# --- equal error rate: three definitions --------------------------------------------------------------------


def equal_error_rate(curve: Roc) -> OperatingPoint:
    """Equal error rate (EER) on the convex hull of the ROC.

    The rate at which misses and false alarms are equal. The hull makes the value independent of the order of tied
    scores.
    Points between two vertices of the hull are reached by randomising between their thresholds.

    Parameters
    ----------
    curve : Roc

    Returns
    -------
    OperatingPoint
        The rate in [0, 0.5] and its threshold; 0.5 where all scores are equal.

    References
    ----------
    Brümmer (2010), Measuring, refining and calibrating speaker and language information extracted from speech, PhD
    thesis, Stellenbosch University.

    Examples
    --------
    >>> equal_error_rate(roc([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3)).rate
    0.14285714285714285
    """
    misses, false_alarms = curve.misses, curve.false_alarms
    left, right = 0, len(misses) - 1
    while True:
        # Find the hull's edge that crosses the diagonal: search for a point below the line through the current ends.
        across = misses[right] - misses[left], false_alarms[left] - false_alarms[right]
        cost = across[0] * false_alarms + across[1] * misses
        beyond = int(cost.argmin())
        if cost[beyond] >= cost[left] - 1e-15:
            return _crossing(curve, left, right).operating_point(curve)
        if misses[beyond] >= false_alarms[beyond]:
            right = beyond
        else:
            left = beyond


def interpolated_equal_error_rate(curve: Roc) -> OperatingPoint:
    """Equal error rate (EER) on the ROC itself, interpolated linearly between its points.

    Parameters
    ----------
    curve : Roc

    Returns
    -------
    OperatingPoint
        The rate in [0, 1], at least that of `equal_error_rate`, and its threshold; 0.5 where all scores are equal.

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognition Letters 27:861, for the ROC.

    Examples
    --------
    >>> interpolated_equal_error_rate(roc([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3)).rate
    0.25
    """
    return crossing(curve).operating_point(curve)


def case_equal_error_rate(scores: ArrayLike, labels: ArrayLike) -> OperatingPoint:
    """Equal error rate (EER) as the CASE benchmark computes it, for comparison with published results.

    Among the ROC points that scikit-learn's `roc_curve` keeps, i is the one with the closest rates. At either end of
    the curve, the result is its false alarm rate. Otherwise it is the root of FNR(x) − x between points i − 1 and i +
    1, where FNR is linear between points and takes the lower value at a step. Without a change of sign there, it is the
    mean of both rates at i.

    Parameters
    ----------
    scores : (n,) float
    labels : (n,) bool

    Returns
    -------
    OperatingPoint
        The rate in [0, 1] and the threshold of point i.

    Raises
    ------
    ValueError
        As in `roc`.

    References
    ----------
    CASE benchmark (2025), metrics module.

    Examples
    --------
    >>> round(case_equal_error_rate([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3).rate, 4)
    0.25
    """
    thresholds, false_alarms, misses = _kept_by_roc_curve(*_split(scores, labels))
    i = int(np.argmin(np.abs(false_alarms - misses)))
    if i in (0, len(misses) - 1):
        return OperatingPoint(float(false_alarms[i]), float(thresholds[i]))
    x, first = np.unique(false_alarms, return_index=True)
    upper, lower = misses[first], misses[np.append(first[1:], len(misses)) - 1]
    a, b = np.searchsorted(x, false_alarms[[i - 1, i + 1]])
    gaps = lower - x
    if gaps[a] * gaps[b] > 0:
        return OperatingPoint(float(false_alarms[i] + misses[i]) / 2, float(thresholds[i]))
    k = a + int(np.argmax(gaps[a : b + 1] <= 0))  # the first point on or below the diagonal
    before = upper[k] - x[k]  # the gap just before the step at k
    if gaps[k] == 0 or k == a or before >= 0:
        root = x[k]
    else:
        root = x[k - 1] + (x[k] - x[k - 1]) * gaps[k - 1] / (gaps[k - 1] - before)
    return OperatingPoint(float(root), float(thresholds[i]))


class Crossing(NamedTuple):
    """Intersection of the diagonal with the line between two ROC points.

    Attributes
    ----------
    left, right : int
        Indices of the two points.
    share : float
        Position between them, from 0 (left) to 1 (right).
    """

    left: int
    right: int
    share: float

    def interpolate(self, values: FloatArray) -> float:
        """Interpolate a quantity that is given at the ROC points."""
        return float(values[self.left] + self.share * (values[self.right] - values[self.left]))

    def operating_point(self, curve: Roc) -> OperatingPoint:
        """Equal error rate and threshold."""
        return OperatingPoint(self.interpolate(curve.misses), self.interpolate(curve.thresholds))


def crossing(curve: Roc) -> Crossing:
    """Intersection of a ROC, linear between its points, with the diagonal.

    Parameters
    ----------
    curve : Roc

    Returns
    -------
    Crossing

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognition Letters 27:861, for the ROC.

    Examples
    --------
    >>> curve = roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
    >>> crossing(curve).interpolate(curve.misses)
    0.5
    """
    right = int(np.argmax(curve.misses >= curve.false_alarms))
    return _crossing(curve, right - 1, right)


def _crossing(curve: Roc, left: int, right: int) -> Crossing:
    below = curve.false_alarms[left] - curve.misses[left]
    above = curve.misses[right] - curve.false_alarms[right]
    return Crossing(left, right, float(below / (below + above)) if below + above > 0 else 0.0)


def _kept_by_roc_curve(targets: FloatArray, non_targets: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds (falling), false alarm and miss rates of scikit-learn's roc_curve with drop_intermediate."""
    pooled = np.sort(np.concatenate([targets, non_targets]))[::-1]
    last = np.flatnonzero(np.diff(pooled, append=-np.inf))
    detections = len(targets) - np.searchsorted(np.sort(targets), pooled[last], "left")
    alarms = 1 + last - detections
    if len(last) > 2:
        turns = (np.diff(alarms, 2) != 0) | (np.diff(detections, 2) != 0)
        kept = np.concatenate([[True], turns, [True]])
        last, detections, alarms = last[kept], detections[kept], alarms[kept]
    thresholds = np.concatenate([[np.inf], pooled[last]])
    return (
        thresholds,
        np.concatenate([[0], alarms]) / len(non_targets),
        1 - np.concatenate([[0], detections]) / len(targets),
    )


# --- costs --------------------------------------------------------------------------------------------------


def min_dcf(curve: Roc, p_target: float = P_TARGET) -> OperatingPoint:
    """Minimum detection cost (minDCF) over all thresholds, normalised.

    min over thresholds of [P · FNR + (1 − P) · FPR] / min(P, 1 − P), with the target prior P.

    Parameters
    ----------
    curve : Roc
    p_target : float
        Target prior P in (0, 1).

    Returns
    -------
    OperatingPoint
        The cost in [0, 1] and its threshold; 1 is the cost of the better of accepting all and rejecting all trials.

    References
    ----------
    NIST (2016), Speaker Recognition Evaluation Plan, section on the detection cost function.

    Examples
    --------
    >>> round(min_dcf(roc([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3)).rate, 4)
    0.3333
    """
    cost = detection_cost(curve.misses, curve.false_alarms, p_target)
    best = int(cost.argmin())
    return OperatingPoint(float(cost[best]), float(curve.thresholds[best]))


def actual_dcf(scores: ArrayLike, labels: ArrayLike, p_target: float = P_TARGET) -> OperatingPoint:
    """Actual detection cost (actDCF): normalised cost at the Bayes threshold of log-likelihood ratios, −logit(P).

    Scores that are not log-likelihood ratios, such as cosines, usually have a high actual cost.

    Parameters
    ----------
    scores : (n,) float
        Natural log-likelihood ratios.
    labels : (n,) bool
    p_target : float
        Target prior P in (0, 1).

    Returns
    -------
    OperatingPoint
        The cost, at least 0, and the Bayes threshold.

    Raises
    ------
    ValueError
        As in `roc`.

    References
    ----------
    NIST (2016), Speaker Recognition Evaluation Plan, section on the detection cost function.

    Examples
    --------
    >>> actual_dcf([6.0, 5.0, 2.0, -3.0], [True, True, True, False]).rate
    0.3333333333333333
    """
    targets, non_targets = _split(scores, labels)
    threshold = bayes_threshold(p_target)
    misses, false_alarms = np.asarray((targets < threshold).mean()), np.asarray((non_targets >= threshold).mean())
    return OperatingPoint(float(detection_cost(misses, false_alarms, p_target)), threshold)


def bayes_threshold(p_target: float = P_TARGET, c_miss: float = 1.0, c_false_alarm: float = 1.0) -> float:
    """Optimal threshold of a log-likelihood ratio: −logit(P) − log(C_miss / C_fa).

    Parameters
    ----------
    p_target : float
        Target prior P in (0, 1).
    c_miss, c_false_alarm : float
        Costs of a miss and of a false alarm; above 0.

    Returns
    -------
    float

    References
    ----------
    Brümmer and du Preez (2006), Application-independent evaluation of speaker detection, Computer Speech and Language
    20:230.

    Examples
    --------
    >>> round(bayes_threshold(0.01), 4)
    4.5951
    """
    return float(-logit(p_target) - np.log(c_miss / c_false_alarm))


def detection_cost(misses: FloatArray, false_alarms: FloatArray, p_target: float = P_TARGET) -> FloatArray:
    """Normalised detection cost of operating points: [P · FNR + (1 − P) · FPR] / min(P, 1 − P).

    Parameters
    ----------
    misses, false_alarms : float array
        Rates in [0, 1]; any shape.
    p_target : float
        Target prior P in (0, 1). Both kinds of error cost 1.

    Returns
    -------
    float array
        At least 0.

    References
    ----------
    NIST (2016), Speaker Recognition Evaluation Plan, section on the detection cost function.

    Examples
    --------
    >>> float(detection_cost(np.array(0.5), np.array(0.0)))
    0.5
    """
    return (p_target * misses + (1 - p_target) * false_alarms) / min(p_target, 1 - p_target)


def cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Cost of the log-likelihood ratio (Cllr) in bits.

    Cllr = ½ [mean log2(1 + e^−t) + mean log2(1 + e^n)] over target scores t and non-target scores n.

    Parameters
    ----------
    scores : (n,) float
        Natural log-likelihood ratios.
    labels : (n,) bool

    Returns
    -------
    float
        At least 0, unbounded above; 1 if all scores are 0 (uninformative).

    Raises
    ------
    ValueError
        As in `roc`.

    References
    ----------
    Brümmer and du Preez (2006), Application-independent evaluation of speaker detection, Computer Speech and Language
    20:230.

    Examples
    --------
    >>> round(cllr([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3), 6)
    0.925808
    """
    targets, non_targets = _split(scores, labels)
    return float((np.logaddexp(0, -targets).mean() + np.logaddexp(0, non_targets).mean()) / (2 * np.log(2)))


def cllr_loss(ratios: FloatArray, labels: BoolArray) -> FloatArray:
    """Loss of each log-likelihood ratio in bits; Cllr is the mean of the two classes' mean losses.

    Parameters
    ----------
    ratios : (n,) float
        Natural log-likelihood ratios; may be infinite.
    labels : (n,) bool

    Returns
    -------
    (n,) float
        At least 0.

    References
    ----------
    Brümmer and du Preez (2006), Computer Speech and Language 20:230.

    Examples
    --------
    >>> cllr_loss(np.zeros(2), np.array([True, False])).tolist()
    [1.0, 1.0]
    """
    return np.where(labels, np.logaddexp(0, -ratios), np.logaddexp(0, ratios)) / np.log(2)


def min_cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Minimum Cllr (minCllr): Cllr after the optimal increasing recalibration of the scores.

    The recalibration is isotonic regression by pool adjacent violators (PAV). Tied scores stay tied.

    Parameters
    ----------
    scores : (n,) float
    labels : (n,) bool

    Returns
    -------
    float
        In [0, 1]; 0 if a threshold separates the classes, 1 where all scores are equal.

    Raises
    ------
    ValueError
        As in `roc`.

    References
    ----------
    Brümmer and du Preez (2006), Application-independent evaluation of speaker detection, Computer Speech and Language
    20:230.

    Examples
    --------
    >>> round(min_cllr([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3), 6)
    0.287358
    """
    return LabelledScores.from_arrays(scores, labels).pav_blocks.min_cllr


# --- sorted trials ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PavBlocks:
    """Blocks of scores formed by pool adjacent violators (PAV), by rising score.

    Attributes
    ----------
    targets, non_targets : (k,) float
        Weight of the target and non-target trials in each block.
    lowest : (k,) float
        Lowest score of each block.
    """

    targets: FloatArray
    non_targets: FloatArray
    lowest: FloatArray

    @property
    def log_likelihood_ratios(self) -> FloatArray:
        """Log-likelihood ratio of each block, (k,); infinite where a block has a single class."""
        odds = self.targets.sum() / self.non_targets.sum()
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.targets) - np.log(self.non_targets) - np.log(odds))

    @property
    def min_cllr(self) -> float:
        """Cllr of the blocks' log-likelihood ratios."""
        ratio = self.log_likelihood_ratios
        for_targets = _weighted_sum(self.targets, np.logaddexp(0, -ratio)) / self.targets.sum()
        for_non_targets = _weighted_sum(self.non_targets, np.logaddexp(0, ratio)) / self.non_targets.sum()
        return float((for_targets + for_non_targets) / (2 * np.log(2)))

    @property
    def hull(self) -> Roc:
        """Convex hull of the ROC: one vertex between neighbouring blocks, infinite thresholds at both ends."""
        misses = np.concatenate([[0.0], np.cumsum(self.targets)]) / self.targets.sum()
        false_alarms = 1 - np.concatenate([[0.0], np.cumsum(self.non_targets)]) / self.non_targets.sum()
        return Roc(np.concatenate([[-np.inf], self.lowest[1:], [np.inf]]), misses, false_alarms)


@dataclass(frozen=True)
class SortedTrials:
    """Trials sorted once, for any number of reweightings.

    Attributes
    ----------
    order : (n,) int
        Trials by rising score.
    scores : (k,) float
        Distinct scores.
    first : (k,) int
        Start of each distinct score in `order`.
    is_target : (n,) bool
        Labels in that order.
    """

    order: NDArray[np.int64]
    scores: FloatArray
    first: NDArray[np.int64]
    is_target: BoolArray

    @classmethod
    def from_arrays(cls, scores: ArrayLike, labels: ArrayLike) -> "SortedTrials":
        """Sort and group trials.

        Parameters
        ----------
        scores : (n,) float
        labels : (n,) bool

        Raises
        ------
        ValueError
            As in `roc`.
        """
        s, y = validate_trials(scores, labels)
        order = np.argsort(s, kind="stable")
        ordered = s[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-np.inf))
        return cls(order, ordered[first], first, y[order])

    def counts(self, weights: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """Weight of targets and non-targets at each distinct score, (…, k) each.

        Parameters
        ----------
        weights : (…, n) float, optional
            In the original order of the trials; 1 by default.
        """
        w = np.ones(len(self.order)) if weights is None else np.take(np.asarray(weights, float), self.order, axis=-1)
        targets = w * self.is_target
        non_targets = w - targets
        if len(self.first) == len(self.order):  # no two scores are equal
            return targets, non_targets
        return np.add.reduceat(targets, self.first, axis=-1), np.add.reduceat(non_targets, self.first, axis=-1)

    def pool_adjacent_violators(self, targets: FloatArray, non_targets: FloatArray) -> PavBlocks:
        """Blocks of reweighted trials; `targets` and `non_targets` are (k,) weights from `counts`."""
        return pool_adjacent_violators(self.scores, targets, non_targets)

    def equal_error_rates(self, weights: FloatArray) -> FloatArray:
        """Equal error rate on the hull for each row of weights, (rows, n); NaN where a class has no weight."""
        rates = []
        for targets, non_targets in zip(*self.counts(weights), strict=True):
            defined = targets.any() and non_targets.any()
            hull = self.pool_adjacent_violators(targets, non_targets).hull if defined else None
            rates.append(np.nan if hull is None else crossing(hull).interpolate(hull.misses))
        return np.array(rates)


def pool_adjacent_violators(scores: FloatArray, targets: FloatArray, non_targets: FloatArray) -> PavBlocks:
    """Blocks in which the proportion of targets rises with the score (isotonic regression).

    Parameters
    ----------
    scores : (k,) float
        Rising.
    targets, non_targets : (k,) float
        Weight of the target and non-target trials at each score; scores without weight are ignored.

    References
    ----------
    Zadrozny and Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates, KDD.

    Examples
    --------
    >>> blocks = pool_adjacent_violators(np.arange(4.0), np.array([0.0, 1, 0, 1]), np.array([1.0, 0, 1, 0]))
    >>> blocks.targets.tolist(), blocks.lowest.tolist()
    ([0.0, 1.0, 1.0], [0.0, 1.0, 3.0])
    """
    total = targets + non_targets
    present = total > 0
    targets, non_targets, total = targets[present], non_targets[present], total[present]
    edges = isotonic_regression(targets / total, weights=total).blocks[:-1]
    return PavBlocks(np.add.reduceat(targets, edges), np.add.reduceat(non_targets, edges), scores[present][edges])


@dataclass(frozen=True)
class LabelledScores:
    """Validated scores and labels, with cached intermediate results shared by the metrics.

    Attributes
    ----------
    scores : (n,) float
    labels : (n,) bool
    """

    scores: FloatArray
    labels: BoolArray

    @classmethod
    def from_arrays(cls, scores: ArrayLike, labels: ArrayLike) -> "LabelledScores":
        """Validate scores and labels.

        Raises
        ------
        ValueError
            As in `roc`.
        """
        return cls(*validate_trials(scores, labels))

    @cached_property
    def curve(self) -> Roc:
        """ROC."""
        return roc(self.scores, self.labels)

    @cached_property
    def sorted_trials(self) -> SortedTrials:
        """The trials sorted by score."""
        return SortedTrials.from_arrays(self.scores, self.labels)

    @cached_property
    def pav_blocks(self) -> PavBlocks:
        """Blocks of pool adjacent violators, from the trials between neighbouring points of the ROC.

        Those are few where one class is rare: trials of the other class between two scores of the rare class have the
        same proportion of targets, so pooling them changes nothing.
        """
        n_target = int(self.labels.sum())
        targets = np.rint(np.diff(self.curve.misses) * n_target)
        non_targets = np.rint(-np.diff(self.curve.false_alarms) * (len(self.labels) - n_target))
        return pool_adjacent_violators(self.curve.thresholds[:-1], targets, non_targets)


# --- all metrics --------------------------------------------------------------------------------------------


class MetricKind(StrEnum):
    """Kind of a metric, which determines the method for its confidence interval (`detection_intervals`)."""

    ERROR_RATE = "equal error rate at a threshold"
    ERROR_RATE_ON_HULL = "equal error rate between two thresholds"
    COST = "cost at a threshold"
    LOWEST_COST = "minimum cost over thresholds"
    MEAN_LOSS = "mean of the mean losses of both classes"
    RECALIBRATED = "minimum Cllr over recalibrations"


@dataclass(frozen=True)
class MetricDefinition:
    """Definition of a detection metric.

    Attributes
    ----------
    point : callable
        Maps labelled scores and the target prior to the value and its threshold.
    kind : MetricKind
    loss : callable or None
        Loss of each trial, for mean losses.
    needs_llr : bool
        Whether scores are interpreted as log-likelihood ratios.
    """

    point: Callable[[LabelledScores, float], OperatingPoint]
    kind: MetricKind
    loss: Callable[[FloatArray, BoolArray], FloatArray] | None = None
    needs_llr: bool = False


# By name, in the order of reports. Definitions: definitions.toml and METRICS.md.
METRICS = {
    "eer": MetricDefinition(lambda trials, p: equal_error_rate(trials.curve), MetricKind.ERROR_RATE_ON_HULL),
    "eer_interpolated": MetricDefinition(
        lambda trials, p: interpolated_equal_error_rate(trials.curve), MetricKind.ERROR_RATE
    ),
    "eer_case": MetricDefinition(
        lambda trials, p: case_equal_error_rate(trials.scores, trials.labels), MetricKind.ERROR_RATE
    ),
    "min_dcf": MetricDefinition(lambda trials, p: min_dcf(trials.curve, p), MetricKind.LOWEST_COST),
    "act_dcf": MetricDefinition(
        lambda trials, p: actual_dcf(trials.scores, trials.labels, p), MetricKind.COST, needs_llr=True
    ),
    "cllr": MetricDefinition(
        lambda trials, p: OperatingPoint(cllr(trials.scores, trials.labels), np.nan),
        MetricKind.MEAN_LOSS,
        loss=cllr_loss,
        needs_llr=True,
    ),
    "min_cllr": MetricDefinition(
        lambda trials, p: OperatingPoint(trials.pav_blocks.min_cllr, np.nan), MetricKind.RECALIBRATED
    ),
}


def evaluate(
    trials: LabelledScores, p_target: float = P_TARGET, names: Iterable[str] = METRICS
) -> dict[str, OperatingPoint]:
    """Compute detection metrics by name.

    Parameters
    ----------
    trials : LabelledScores
    p_target : float
        Target prior in (0, 1), for detection costs.
    names : iterable of str
        Keys of METRICS; all by default.

    Returns
    -------
    dict of str to OperatingPoint
        The threshold is NaN for metrics without one.

    Examples
    --------
    >>> points = evaluate(LabelledScores.from_arrays([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3))
    >>> points["eer"].rate, round(points["cllr"].rate, 6)
    (0.14285714285714285, 0.925808)
    """
    return {name: METRICS[name].point(trials, p_target) for name in names}


def det_curve(curve: Roc) -> tuple[FloatArray, FloatArray]:
    """False alarm and miss rates on probit axes, for a DET plot.

    Parameters
    ----------
    curve : Roc

    Returns
    -------
    false_alarms, misses : (m,) float
        Normal quantiles. Points with a rate of 0 or 1 are dropped.

    References
    ----------
    Martin et al. (1997), The DET curve in assessment of detection task performance, Eurospeech.

    Examples
    --------
    >>> det_curve(roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False]))[0].tolist()
    [0.0]
    """
    inside = (curve.misses > 0) & (curve.misses < 1) & (curve.false_alarms > 0) & (curve.false_alarms < 1)
    return ndtri(curve.false_alarms[inside]), ndtri(curve.misses[inside])


def _weighted_sum(weights: FloatArray, values: FloatArray) -> float:
    return float((weights[weights > 0] * values[weights > 0]).sum())


def _split(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray]:
    s, y = validate_trials(scores, labels)
    return s[y], s[~y]


def validate_trials(
    scores: ArrayLike, labels: ArrayLike, needed_by: str = "an error rate"
) -> tuple[FloatArray, BoolArray]:
    """Convert scores and labels to arrays and validate them.

    Parameters
    ----------
    scores : (n,) array_like
    labels : (n,) array_like
        Booleans, or 0 and 1.
    needed_by : str
        What is computed, for the error message.

    Returns
    -------
    scores : (n,) float
    labels : (n,) bool

    Raises
    ------
    ValueError
        If the lengths differ, a label is not boolean, a score is not finite, or a class is missing.

    Examples
    --------
    >>> validate_trials([0.5, 1], [0, 1])[1].tolist()
    [False, True]
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels)
    if s.shape != y.shape or s.ndim != 1:
        raise ValueError(f"scores and labels must be one-dimensional and equally long, not {s.shape} and {y.shape}")
    if y.dtype != bool:
        if not np.isin(y, (0, 1)).all():
            raise ValueError("labels must be True or False; are scores and labels swapped?")
        y = y.astype(bool)
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if not y.any() or y.all():
        raise ValueError(f"{'no' if not y.any() else 'only'} target trials: {needed_by} needs both classes")
    return s, y

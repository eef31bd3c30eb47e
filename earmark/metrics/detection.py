"""Error rates of a detector: scores of target and non-target trials, higher meaning more likely a target.

A trial is accepted at a threshold when its score is at least the threshold. Equal scores are accepted together, so
they are one point of the ROC and nothing depends on the order of the input. Rates are shares in [0, 1].

scores: (n,) finite numbers. labels: (n,) True for target trials. A metric without a single target or non-target
trial does not exist: ValueError.
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
    """An error rate or a cost, and the threshold on the score axis at which it is met."""

    rate: float
    threshold: float


@dataclass(frozen=True)
class Roc:
    """Operating points by rising threshold, from accepting everything to accepting nothing; straight in between.

    thresholds, misses (false rejection rate, rising), false_alarms (false acceptance rate, falling): (k,).
    """

    thresholds: FloatArray
    misses: FloatArray
    false_alarms: FloatArray


def roc(scores: ArrayLike, labels: ArrayLike) -> Roc:
    """The corners of the ROC: every point where it turns, and a few between.

    The rarer class is walked through and its scores looked up among the other's, so the cost is that of sorting.
    Source: Fawcett (2006), Pattern Recognition Letters 27:861.
    """
    targets, others = _split(scores, labels)
    targets.sort()
    others.sort()
    rare, common = (targets, others) if len(targets) <= len(others) else (others, targets)
    score = rare[np.flatnonzero(np.diff(rare, prepend=-np.inf))]
    # Two points for each distinct score: accepting it, and just not accepting it any more.
    rare_below = np.stack([np.searchsorted(rare, score, "left"), np.searchsorted(rare, score, "right")], axis=1).ravel()
    below = np.stack([np.searchsorted(common, score, "left"), np.searchsorted(common, score, "right")], axis=1).ravel()
    rejected_rare, rejected_common = rare_below / len(rare), below / len(common)
    misses, rejections = (rejected_rare, rejected_common) if rare is targets else (rejected_common, rejected_rare)
    between = np.stack([score, np.nextafter(score, np.inf)], axis=1).ravel()
    lowest, highest = min(targets[0], others[0]), max(targets[-1], others[-1])
    return Roc(
        np.concatenate([[lowest], between, [np.nextafter(highest, np.inf)]]),
        np.concatenate([[0.0], misses, [1.0]]),
        np.concatenate([[1.0], 1 - rejections, [0.0]]),
    )


# --- equal error rate, in three definitions -----------------------------------------------------------------


def equal_error_rate(curve: Roc) -> OperatingPoint:
    """Error rate at which false acceptances and false rejections balance, on the ROC convex hull.

    The hull makes the value independent of how ties are ordered and never larger than what a threshold on these
    scores can reach (randomising between two thresholds where needed). All scores equal: 0.5.
    Source: Brümmer (2010), Measuring, refining and calibrating speaker and language information.

    >>> equal_error_rate(roc([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3)).rate
    0.14285714285714285
    """
    misses, false_alarms = curve.misses, curve.false_alarms
    left, right = 0, len(misses) - 1
    while True:
        # The hull's edge across the diagonal: look for a point beyond the line through the two ends known so far.
        across = misses[right] - misses[left], false_alarms[left] - false_alarms[right]
        cost = across[0] * false_alarms + across[1] * misses
        beyond = int(cost.argmin())
        if cost[beyond] >= cost[left] - 1e-15:
            return _crossing(curve, left, right).point(curve)
        if misses[beyond] >= false_alarms[beyond]:
            right = beyond
        else:
            left = beyond


def interpolated_equal_error_rate(curve: Roc) -> OperatingPoint:
    """Error rate at which the ROC itself, straight between its points, meets the diagonal.

    >>> interpolated_equal_error_rate(roc([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3)).rate
    0.25
    """
    return crossing(curve).point(curve)


def case_equal_error_rate(scores: ArrayLike, labels: ArrayLike) -> OperatingPoint:
    """Equal error rate as the CASE benchmark computes it, for published numbers.

    Of the points of the ROC that scikit-learn's `roc_curve` keeps, i is the one where the two rates are closest.
    At an end: its false alarm rate. Else the root of FNR(x) − x between points i − 1 and i + 1, where FNR is linear
    between points and takes the lower value at a step; without a change of sign there, the mean of both rates at i.
    Source: CASE benchmark, metrics module (2025).
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
    k = a + int(np.argmax(gaps[a : b + 1] <= 0))  # the first of these points that lies on or below the diagonal
    before = upper[k] - x[k]  # the gap just before the step at k
    if gaps[k] == 0 or k == a or before >= 0:
        root = x[k]
    else:
        root = x[k - 1] + (x[k] - x[k - 1]) * gaps[k - 1] / (gaps[k - 1] - before)
    return OperatingPoint(float(root), float(thresholds[i]))


class Crossing(NamedTuple):
    """Where the line between two points of a ROC meets the diagonal. share: of the way from the left to the right."""

    left: int
    right: int
    share: float

    def between(self, values: FloatArray) -> float:
        """What is known at the ROC's points, there."""
        return float(values[self.left] + self.share * (values[self.right] - values[self.left]))

    def point(self, curve: Roc) -> OperatingPoint:
        """The equal error rate and its threshold."""
        return OperatingPoint(self.between(curve.misses), self.between(curve.thresholds))


def crossing(curve: Roc) -> Crossing:
    """Where a ROC, straight between its points, meets the diagonal."""
    right = int(np.argmax(curve.misses >= curve.false_alarms))
    return _crossing(curve, right - 1, right)


def _crossing(curve: Roc, left: int, right: int) -> Crossing:
    below = curve.false_alarms[left] - curve.misses[left]
    above = curve.misses[right] - curve.false_alarms[right]
    return Crossing(left, right, float(below / (below + above)) if below + above > 0 else 0.0)


def _kept_by_roc_curve(targets: FloatArray, others: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds, false alarm and miss rates of scikit-learn's roc_curve with drop_intermediate, thresholds falling."""
    pooled = np.concatenate([targets, others])
    order = np.argsort(-pooled, kind="stable")
    pooled, is_target = pooled[order], (order < len(targets))
    last = np.flatnonzero(np.diff(pooled, append=-np.inf))
    hits = np.cumsum(is_target)[last]
    alarms = 1 + last - hits
    if len(last) > 2:
        turns = (np.diff(alarms, 2) != 0) | (np.diff(hits, 2) != 0)
        kept = np.concatenate([[True], turns, [True]])
        last, hits, alarms = last[kept], hits[kept], alarms[kept]
    thresholds = np.concatenate([[np.inf], pooled[last]])
    return thresholds, np.concatenate([[0], alarms]) / len(others), 1 - np.concatenate([[0], hits]) / len(targets)


# --- costs --------------------------------------------------------------------------------------------------


def min_dcf(curve: Roc, p_target: float = P_TARGET) -> OperatingPoint:
    """Lowest normalised detection cost that any threshold reaches; 1 is what no scores at all would cost.

    Source: NIST Speaker Recognition Evaluation plans; normalised by the better of accepting all and none.

    >>> round(min_dcf(roc([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3)).rate, 4)
    0.3333
    """
    cost = detection_cost(curve.misses, curve.false_alarms, p_target)
    best = int(cost.argmin())
    return OperatingPoint(float(cost[best]), float(curve.thresholds[best]))


def actual_dcf(scores: ArrayLike, labels: ArrayLike, p_target: float = P_TARGET) -> OperatingPoint:
    """Normalised detection cost at the threshold that is right for scores that are log-likelihood ratios.

    The threshold is −logit(p_target). Scores that are no log-likelihood ratios (cosines, say) have
    an actual cost too, and it is high.
    """
    targets, others = _split(scores, labels)
    threshold = bayes_threshold(p_target)
    misses, false_alarms = np.asarray((targets < threshold).mean()), np.asarray((others >= threshold).mean())
    return OperatingPoint(float(detection_cost(misses, false_alarms, p_target)), threshold)


def bayes_threshold(p_target: float = P_TARGET, c_miss: float = 1.0, c_false_alarm: float = 1.0) -> float:
    """Where a log-likelihood ratio should be cut: −logit(p_target) − log(c_miss / c_false_alarm)."""
    return float(-logit(p_target) - np.log(c_miss / c_false_alarm))


def detection_cost(misses: FloatArray, false_alarms: FloatArray, p_target: float = P_TARGET) -> FloatArray:
    """Normalised detection cost of operating points, any shape; either error costs 1."""
    return (p_target * misses + (1 - p_target) * false_alarms) / min(p_target, 1 - p_target)


def cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits: ½ [mean log2(1 + e^−t) + mean log2(1 + e^n)]; 1 for useless scores.

    Source: Brümmer and du Preez (2006), Computer Speech and Language 20:230.

    >>> round(cllr([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3), 6)
    0.925808
    """
    targets, others = _split(scores, labels)
    return float((np.logaddexp(0, -targets).mean() + np.logaddexp(0, others).mean()) / (2 * np.log(2)))


def cllr_loss(ratios: FloatArray, labels: BoolArray) -> FloatArray:
    """What each log-likelihood ratio costs, (n,) in bits: Cllr is the mean of the two classes' means."""
    return np.where(labels, np.logaddexp(0, -ratios), np.logaddexp(0, ratios)) / np.log(2)


def min_cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Cllr after the best increasing recalibration of the scores (pool adjacent violators); ties stay tied.

    >>> round(min_cllr([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3), 6)
    0.287358
    """
    return LabelledScores.from_arrays(scores, labels).pooled.min_cllr


# --- trials in order ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PavBlocks:
    """The blocks of scores that pool adjacent violators forms, by rising score.

    targets, others: (k,) target and non-target trials in each. lowest: (k,) the score where each begins.
    """

    targets: FloatArray
    others: FloatArray
    lowest: FloatArray

    @property
    def log_likelihood_ratios(self) -> FloatArray:
        """What the blocks' shares of targets amount to, (k,); infinite where a block holds one class only."""
        odds = self.targets.sum() / self.others.sum()
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.targets) - np.log(self.others) - np.log(odds))

    @property
    def min_cllr(self) -> float:
        """Cllr of the log-likelihood ratios that the blocks' shares of targets amount to."""
        ratio = self.log_likelihood_ratios
        for_targets = _weighted_sum(self.targets, np.logaddexp(0, -ratio)) / self.targets.sum()
        for_others = _weighted_sum(self.others, np.logaddexp(0, ratio)) / self.others.sum()
        return float((for_targets + for_others) / (2 * np.log(2)))

    @property
    def hull(self) -> Roc:
        """The ROC's convex hull, whose corners are the blocks' edges; its ends have infinite thresholds."""
        misses = np.concatenate([[0.0], np.cumsum(self.targets)]) / self.targets.sum()
        false_alarms = 1 - np.concatenate([[0.0], np.cumsum(self.others)]) / self.others.sum()
        return Roc(np.concatenate([[-np.inf], self.lowest[1:], [np.inf]]), misses, false_alarms)


@dataclass(frozen=True)
class SortedTrials:
    """Trials sorted once, for any number of reweightings.

    order: (n,) trials by rising score. scores: (k,) the distinct scores. first: (k,) where each begins in order.
    is_target: (n,) in that order.
    """

    order: NDArray[np.int64]
    scores: FloatArray
    first: NDArray[np.int64]
    is_target: BoolArray

    @classmethod
    def from_arrays(cls, scores: ArrayLike, labels: ArrayLike) -> "SortedTrials":
        """Sort and group trials."""
        s, y = validate_trials(scores, labels)
        order = np.argsort(s, kind="stable")
        ordered = s[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-np.inf))
        return cls(order, ordered[first], first, y[order])

    def counts(self, weights: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """Targets and non-targets at each distinct score, (…, k). weights: (…, n) in the trials' own order."""
        w = np.ones(len(self.order)) if weights is None else np.take(np.asarray(weights, float), self.order, axis=-1)
        targets = w * self.is_target
        others = w - targets
        if len(self.first) == len(self.order):  # no two scores are equal
            return targets, others
        return np.add.reduceat(targets, self.first, axis=-1), np.add.reduceat(others, self.first, axis=-1)

    def pooled(self, targets: FloatArray, others: FloatArray) -> PavBlocks:
        """Pool adjacent violators: the blocks in which the share of targets rises with the score."""
        total = targets + others
        there = total > 0
        targets, others, total = targets[there], others[there], total[there]
        edges = isotonic_regression(targets / total, weights=total).blocks[:-1]
        return PavBlocks(np.add.reduceat(targets, edges), np.add.reduceat(others, edges), self.scores[there][edges])

    def equal_error_rates(self, weights: FloatArray) -> FloatArray:
        """The equal error rate on the hull for every row of weights, (rows, n); NaN where a class has no weight."""
        rates = []
        for targets, others in zip(*self.counts(weights), strict=True):
            known = targets.any() and others.any()
            hull = self.pooled(targets, others).hull if known else None
            rates.append(np.nan if hull is None else crossing(hull).between(hull.misses))
        return np.array(rates)


@dataclass(frozen=True)
class LabelledScores:
    """Checked scores, (n,), and labels, (n,); what several metrics need of them is made once."""

    scores: FloatArray
    labels: BoolArray

    @classmethod
    def from_arrays(cls, scores: ArrayLike, labels: ArrayLike) -> "LabelledScores":
        """ValueError for what has no error rate."""
        return cls(*validate_trials(scores, labels))

    @cached_property
    def curve(self) -> Roc:
        """Their ROC."""
        return roc(self.scores, self.labels)

    @cached_property
    def sorted_trials(self) -> SortedTrials:
        """Sorted."""
        return SortedTrials.from_arrays(self.scores, self.labels)

    @cached_property
    def pooled(self) -> PavBlocks:
        """Their blocks of equal shares of targets."""
        return self.sorted_trials.pooled(*self.sorted_trials.counts())


# --- all metrics --------------------------------------------------------------------------------------------


class MetricKind(StrEnum):
    """What a metric is, which decides the method of its interval (`detection_intervals`)."""

    ERROR_RATE = "errors at its threshold"
    ERROR_RATE_ON_HULL = "errors between two thresholds"
    COST = "a cost at its threshold"
    LOWEST_COST = "the lowest cost at any threshold"
    MEAN_LOSS = "the mean of the classes' mean losses"
    RECALIBRATED = "the lowest Cllr of any recalibration"


@dataclass(frozen=True)
class MetricDefinition:
    """A metric: its value, from scores and the prior of targets, and its kind.

    loss: of each trial, for mean losses. needs_llr: it takes scores to be log-likelihood ratios.
    """

    point: Callable[[LabelledScores, float], OperatingPoint]
    kind: MetricKind
    loss: Callable[[FloatArray, BoolArray], FloatArray] | None = None
    needs_llr: bool = False


# By name, in the order of reports; definitions.toml and METRICS.md say what each is.
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
        lambda trials, p: OperatingPoint(trials.pooled.min_cllr, np.nan), MetricKind.RECALIBRATED
    ),
}


def evaluate(
    trials: LabelledScores, p_target: float = P_TARGET, names: Iterable[str] = METRICS
) -> dict[str, OperatingPoint]:
    """{metric: its value and threshold}; NaN for the threshold of a metric that has none.

    >>> found = evaluate(LabelledScores.from_arrays([.9, .8, .4, .7, .3, .2, .1], np.arange(7) < 3))
    >>> found["eer"].rate, round(found["cllr"].rate, 6)
    (0.14285714285714285, 0.925808)
    """
    return {name: METRICS[name].point(trials, p_target) for name in names}


def det_curve(curve: Roc) -> tuple[FloatArray, FloatArray]:
    """False alarm and miss rates on probit axes, for a DET plot; rates of 0 and 1 are left out.

    Source: Martin et al. (1997), The DET curve in assessment of detection task performance, Eurospeech.
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
    """Scores and labels as arrays. ValueError for other shapes, values that are not finite, or one class alone."""
    s, y = np.asarray(scores, dtype=float), np.asarray(labels)
    if s.shape != y.shape or s.ndim != 1:
        raise ValueError(f"scores {s.shape} and labels {y.shape} must be two lists of the same length")
    if y.dtype != bool:
        if not np.isin(y, (0, 1)).all():
            raise ValueError("labels must be True or False; did you pass scores and labels the wrong way round?")
        y = y.astype(bool)
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if not y.any() or y.all():
        raise ValueError(f"{'no' if not y.any() else 'only'} target trials: {needed_by} needs both kinds")
    return s, y

"""Confidence intervals of detection metrics over speakers, and paired differences between two systems.

Each metric is a weighted sum of mean losses over target and non-target trials, at a threshold or recalibration that is
optimal on these trials. By the envelope theorem, that choice has no first-order effect on the sampling error. The
influence of a trial is therefore its loss minus the mean loss of its class, and `speaker_pairs` gives the standard
error.

  equal error rates   max over priors π of min over thresholds of π · misses + (1 − π) · false alarms (Brümmer 2010);
                      the loss is an error, weighted by the π of the hull edge that crosses the diagonal
  minDCF              the minimum is biased towards thresholds with few errors; the interval runs from the lowest lower
                      end to the lowest upper end of the intervals at single thresholds
  minCllr             the optimal recalibration overfits; a jackknife over groups of speakers estimates the bias and
                      the additional variance
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.detection import METRICS, LabelledScores, MetricDefinition, MetricKind, OperatingPoint
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import (
    COST,
    DIFFERENCE,
    NEGLIGIBLE_ERROR,
    SHARE,
    Range,
    effective_sample_size,
    interval,
    t_quantile,
    two_sided_p,
    wilson_interval,
)
from earmark.metrics.speaker_pairs import PairSums, SpeakerPairs, VarianceEstimate, linear_combination

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# From coverage simulations (docs/coverage.md); an interval below any of them carries a note.
MIN_SPEAKERS, MIN_ERRORS, MIN_DF = 50, 10, 12
MIN_ERRORS_FOR_P = 20  # misses and false alarms at the minDCF threshold of either system
JACKKNIFE_GROUPS = 30  # of speakers
MAX_THRESHOLDS = 2000  # at which the interval of minDCF is evaluated
DEPENDENCE_ERRORS = 20  # false alarms at the threshold where their dependence is measured
TrackProgress = Callable[[Iterator[int], int], Iterable[int]]


class ErrorCounts(NamedTuple):
    """Misses and false alarms at a threshold."""

    misses: int
    false_alarms: int

    def __str__(self) -> str:
        return f"{self.misses:,} misses, {self.false_alarms:,} false alarms"


class Difference(NamedTuple):
    """Difference between two systems, first − second.

    Attributes
    ----------
    estimate : Estimate
    p : float or None
        Two-sided p-value; None if undefined.
    """

    estimate: Estimate
    p: float | None


@dataclass(frozen=True)
class MetricEstimate:
    """A metric of one trial list, with the statistics needed to compare and combine lists.

    Attributes
    ----------
    estimate : Estimate
    threshold : float
        NaN for a metric without a threshold.
    pairs : PairSums or None
        Influence of each speaker pair; None without intervals.
    errors : ErrorCounts or None
        At the threshold.
    errors_for_p : int
        Misses and false alarms that a comparison needs for a p-value; 0 for metrics that weight both kinds alike.
    groups : (groups,) float
        Jackknife: value without each group of speakers. Empty if not used.
    """

    estimate: Estimate
    threshold: float = np.nan
    pairs: PairSums | None = None
    errors: ErrorCounts | None = None
    errors_for_p: int = 0
    groups: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class ScoredTrials(LabelledScores):
    """Scored, labelled trials with the speaker of either side.

    Attributes
    ----------
    scores : (n,) float
    labels : (n,) bool
    first, second : (n,) int
        Speaker of either side.
    pairs : SpeakerPairs
    units : str
        What the speakers are called in notes.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    pairs: SpeakerPairs
    units: str

    @classmethod
    def from_trials(
        cls,
        trials: LabelledScores,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        n_speakers: int,
        units: str = "speakers",
    ) -> "ScoredTrials":
        """Add speakers to labelled scores.

        Parameters
        ----------
        trials : LabelledScores
        first, second : (n,) int
            Speaker of either side, 0 … n_speakers − 1.
        n_speakers : int
        units : str
            What the speakers are called in notes.
        """
        return cls(
            trials.scores, trials.labels, first, second, SpeakerPairs.from_speakers(first, second, n_speakers), units
        )

    def influence(self, loss: FloatArray, target_weight: float, non_target_weight: float) -> PairSums:
        """Influence of each speaker pair on a weighted sum of the classes' mean losses.

        Parameters
        ----------
        loss : (n,) float
            Loss of each trial.
        target_weight, non_target_weight : float
            Weights of the targets' and the non-targets' mean loss.
        """
        part = np.empty(len(loss))
        for kind, weight in ((self.labels, target_weight), (~self.labels, non_target_weight)):
            part[kind] = weight * (loss[kind] - loss[kind].mean()) / kind.sum()
        return self.pairs.sums(part)

    @property
    def n_speakers(self) -> int:
        """Number of speakers with trials of the class that has fewer of them."""
        n = self.pairs.n_speakers
        sides = ((self.first[kind], self.second[kind]) for kind in (self.labels, ~self.labels))
        return min(int(np.count_nonzero(np.bincount(a, minlength=n) + np.bincount(b, minlength=n))) for a, b in sides)

    def errors(self, threshold: float) -> FloatArray:
        """Error of each trial at a threshold, (n,): 1 for a miss or false alarm, else 0."""
        return np.where(self.labels, self.scores < threshold, self.scores >= threshold).astype(float)

    def error_counts(self, threshold: float) -> ErrorCounts:
        """Count misses and false alarms at a threshold."""
        errors = self.errors(threshold)
        return ErrorCounts(int(errors[self.labels].sum()), int(errors[~self.labels].sum()))


def with_intervals(
    trials: ScoredTrials,
    points: Mapping[str, OperatingPoint],
    p_target: float,
    track_progress: TrackProgress = lambda groups, total: groups,
) -> dict[str, MetricEstimate]:
    """Add 95 % confidence intervals over speakers to detection metrics.

    Parameters
    ----------
    trials : ScoredTrials
    points : mapping of str to OperatingPoint
        Values and thresholds from `detection.evaluate`.
    p_target : float
        Target prior in (0, 1).
    track_progress : callable
        Receives the jackknife groups and their number and returns the groups; for a progress bar.

    Returns
    -------
    dict of str to MetricEstimate
        Without intervals for fewer than two speakers, and for a cost of 0. With notes for fewer than 50 speakers, fewer
        than 10 misses or false alarms at the threshold, or errors that a few speakers dominate.

    References
    ----------
    Aronow, Samii and Assenova (2015), Cluster-robust variance estimation for dyadic data, Political Analysis 23:564,
    for the standard error.
    Brümmer (2010), Measuring, refining and calibrating speaker and language information extracted from speech, for the
    equal error rate as a maximum over priors.
    Zou and Donner (2008), Construction of confidence limits about effect measures: a general approach, Statistics in
    Medicine 27:1693, for costs.

    Examples
    --------
    >>> speaker = np.tile(np.arange(60), 2)
    >>> scores = np.r_[np.arange(60) / 10, np.arange(60) / 10 - 3]
    >>> labelled = LabelledScores.from_arrays(scores, np.arange(120) < 60)
    >>> trials = ScoredTrials.from_trials(labelled, speaker, np.r_[np.arange(60), np.roll(np.arange(60), 1)], 60)
    >>> eer = with_intervals(trials, detection.evaluate(trials, names=["eer"]), p_target=0.01)["eer"].estimate
    >>> round(eer.value, 2), eer.low < eer.value < eer.high
    (0.24, True)
    """
    estimates = {
        name: _with_interval(METRICS[name], trials, point, p_target, track_progress) for name, point in points.items()
    }
    return _at_chance({name: replace(each, threshold=points[name].threshold) for name, each in estimates.items()})


def _with_interval(
    metric: MetricDefinition,
    trials: ScoredTrials,
    point: OperatingPoint,
    p_target: float,
    track_progress: TrackProgress,
) -> MetricEstimate:
    match metric.kind:
        case MetricKind.ERROR_RATE | MetricKind.ERROR_RATE_ON_HULL:
            return _error_rate(trials, point, on_hull=metric.kind == MetricKind.ERROR_RATE_ON_HULL)
        case MetricKind.COST | MetricKind.LOWEST_COST:
            return _detection_cost(trials, point, p_target, any_threshold=metric.kind == MetricKind.LOWEST_COST)
        case MetricKind.RECALIBRATED:
            return _min_cllr(trials, point.rate, track_progress)
        case MetricKind.MEAN_LOSS:
            assert metric.loss is not None
            loss = metric.loss(trials.scores, trials.labels)
            return _metric(trials, point.rate, trials.influence(loss, 0.5, 0.5), COST)


def _at_chance(estimates: dict[str, MetricEstimate]) -> dict[str, MetricEstimate]:
    """Raise upper ends where scores may be uninformative: the hull's EER is then below .5 and minCllr below 1 by
    overfitting.

    The upper end of the hull's EER is at least that of the interpolated EER. If the latter reaches .5, the upper end of
    minCllr is 1.
    """
    if not {"eer", "eer_interpolated"} <= set(estimates):
        return estimates
    interpolated = estimates["eer_interpolated"].estimate
    changed = dict(estimates)
    hull = estimates["eer"].estimate
    if hull.high is not None and interpolated.high is not None:
        changed["eer"] = replace(estimates["eer"], estimate=replace(hull, high=max(hull.high, interpolated.high)))
    min_cllr = estimates["min_cllr"].estimate if "min_cllr" in estimates else None
    if (
        min_cllr is not None
        and min_cllr.high is not None
        and interpolated.high is not None
        and interpolated.high >= 0.5
    ):
        changed["min_cllr"] = replace(estimates["min_cllr"], estimate=replace(min_cllr, high=1.0))
    return changed


def _metric(
    trials: ScoredTrials,
    value: float,
    pairs: PairSums,
    values: Range = SHARE,
    errors: ErrorCounts | None = None,
) -> MetricEstimate:
    variance, n_speakers = pairs.variance(), trials.n_speakers
    df = min(variance.df, max(n_speakers - 1, 1))
    ends = interval(value, variance.standard_error, units=n_speakers, df=df, values=values)
    note = interval_note(n_speakers, trials.units, variance, errors)
    return MetricEstimate(
        estimate_between(value, ends, len(trials.scores), note, trials.units), pairs=pairs, errors=errors
    )


def estimate_between(value: float, ends: tuple[float, float] | None, n: int, note: str | None, units: str) -> Estimate:
    """An estimate with the ends of its interval, which contain the value; without ends, the reason."""
    if ends is None:
        return Estimate(value, n=n, why=f"no interval: fewer than two {units} of a class, or a value of 0")
    return Estimate(value, min(ends[0], value), max(ends[1], value), n, note=note)


def speakers_of(pairs: PairSums) -> int:
    """Number of speakers in the pairs."""
    return len(np.unique(np.concatenate(np.divmod(pairs.code, pairs.n_speakers))))


def interval_note(n_speakers: int, units: str, variance: VarianceEstimate, errors: ErrorCounts | None) -> str | None:
    """Caveats about an interval, or None."""
    notes = []
    if n_speakers < MIN_SPEAKERS:
        notes.append(
            f"only {n_speakers} {units} have trials of the rarer class (95 % intervals need at least {MIN_SPEAKERS})"
        )
    elif variance.standard_error > NEGLIGIBLE_ERROR and variance.df < MIN_DF:
        notes.append(f"a few {units} cause most of the errors (effective number of {units}: {variance.df + 1:.0f})")
    if errors is not None and min(errors) < MIN_ERRORS:
        notes.append(
            f"fewer than {MIN_ERRORS} misses or false alarms at the threshold ({errors}), so the interval is wide"
        )
    return "; ".join(notes) or None


# --- equal error rates --------------------------------------------------------------------------------------


def _error_rate(trials: ScoredTrials, point: OperatingPoint, *, on_hull: bool) -> MetricEstimate:
    hull = trials.pav_blocks.hull
    across = detection.crossing(hull)
    ends = [across.left, across.right]
    up, down = float(np.diff(hull.misses[ends])[0]), -float(np.diff(hull.false_alarms[ends])[0])
    prior = down / (up + down)
    if on_hull:  # reached by randomising between the two ends of the hull's edge
        left, right = (trials.errors(threshold) for threshold in hull.thresholds[ends])
        loss = (1 - across.share) * left + across.share * right
    else:
        loss = trials.errors(point.threshold)
    pairs = trials.influence(loss, prior, 1 - prior)
    n_targets = int(trials.labels.sum())
    errors = ErrorCounts(round(point.rate * n_targets), round(point.rate * (len(trials.labels) - n_targets)))
    return _metric(trials, point.rate, pairs, SHARE, errors)


# --- detection costs ----------------------------------------------------------------------------------------


def _detection_cost(
    trials: ScoredTrials, point: OperatingPoint, p_target: float, *, any_threshold: bool
) -> MetricEstimate:
    """A normalised cost at a threshold, or the minimum over thresholds."""
    miss_cost, false_alarm_cost = (
        float(detection.detection_cost(np.array(m), np.array(1 - m), p_target)) for m in (1, 0)
    )
    targets, non_targets = np.sort(trials.scores[trials.labels]), np.sort(trials.scores[~trials.labels])
    thresholds = _candidates(targets, non_targets) if any_threshold else np.empty(0)
    thresholds = np.concatenate([[point.threshold], thresholds])
    misses = np.searchsorted(targets, thresholds) / len(targets)
    alarms = (len(non_targets) - np.searchsorted(non_targets, thresholds)) / len(non_targets)
    t = t_quantile(max(trials.n_speakers - 1, 1))
    sizes = _effective_sizes(trials, point.threshold, targets, non_targets)
    (low_m, high_m), (low_a, high_a) = _wilson_each(misses, sizes[0], t), _wilson_each(alarms, sizes[1], t)
    cost = miss_cost * misses + false_alarm_cost * alarms
    low = cost - np.hypot(miss_cost * (misses - low_m), false_alarm_cost * (alarms - low_a))
    high = cost + np.hypot(miss_cost * (high_m - misses), false_alarm_cost * (high_a - alarms))
    pairs = trials.influence(trials.errors(point.threshold), miss_cost, false_alarm_cost)
    n_speakers, errors = trials.n_speakers, trials.error_counts(point.threshold)
    highest = 1.0 if any_threshold else np.inf  # rejecting all trials costs 1
    ends = None if n_speakers < 2 else (max(float(low.min()), 0.0), min(float(high.min()), highest))
    note = interval_note(n_speakers, trials.units, VarianceEstimate(0.0, np.inf), errors)
    enough = MIN_ERRORS_FOR_P if any_threshold else MIN_ERRORS
    estimate = estimate_between(point.rate, ends, len(trials.scores), note, trials.units)
    return MetricEstimate(estimate, pairs=pairs, errors=errors, errors_for_p=enough)


def _candidates(targets: FloatArray, non_targets: FloatArray) -> FloatArray:
    """Thresholds that may minimise a cost: non-target scores from the highest down, with growing steps."""
    steps = np.unique(np.geomspace(1, len(non_targets), MAX_THRESHOLDS).astype(np.int64))
    return np.concatenate([np.unique(non_targets[-steps]), [np.nextafter(max(non_targets[-1], targets[-1]), np.inf)]])


def _effective_sizes(
    trials: ScoredTrials, threshold: float, targets: FloatArray, non_targets: FloatArray
) -> tuple[float, float]:
    """Effective sample sizes of the miss and false alarm rates; trials that share speakers count less.

    False alarms are evaluated where there are about 20 of them, since there may be none at the threshold.
    """
    reference_threshold = non_targets[max(len(non_targets) - DEPENDENCE_ERRORS, 0)]
    sizes = []
    for kind, at, n in (
        (trials.labels, threshold, len(targets)),
        (~trials.labels, min(reference_threshold, threshold), len(non_targets)),
    ):
        errors = trials.errors(at)[kind]
        rate = float(errors.mean())
        pairs = trials.pairs.take(kind).sums((errors - rate) / n)
        deviation = pairs.variance().standard_error
        sizes.append(
            min(effective_sample_size(rate, deviation, speakers_of(pairs)), n) if np.isfinite(deviation) else 1.0
        )
    return sizes[0], sizes[1]


def _wilson_each(shares: FloatArray, size: float, t: float) -> tuple[FloatArray, FloatArray]:
    low, high = np.array([wilson_interval(float(share), size, t) for share in shares]).T
    return low, high


# --- minCllr ------------------------------------------------------------------------------------------------


def _min_cllr(trials: ScoredTrials, value: float, track_progress: TrackProgress) -> MetricEstimate:
    blocks = trials.pav_blocks
    block = np.searchsorted(blocks.lowest, trials.scores, side="right") - 1
    loss = detection.cllr_loss(blocks.log_likelihood_ratios[block], trials.labels)
    pairs = trials.influence(loss, 0.5, 0.5)
    groups = _without_each_group(trials, track_progress)
    variance, n_speakers = pairs.variance(), trials.n_speakers
    deviation = np.sqrt(max(variance.standard_error**2, _jackknife_variance(groups) - _sum_over_mixed_pairs(pairs)))
    centre = min(max(value - _jackknife_bias(groups, value), value / 2), 2 * value, 1.0)
    size = effective_sample_size(value, deviation, n_speakers)
    ends = None if n_speakers < 2 else wilson_interval(centre, size, t_quantile(n_speakers - 1))
    note = interval_note(n_speakers, trials.units, variance, None)
    return MetricEstimate(
        estimate_between(value, ends, len(trials.scores), note, trials.units), pairs=pairs, groups=groups
    )


def _without_each_group(trials: ScoredTrials, track_progress: TrackProgress) -> FloatArray:
    """minCllr without each of at most JACKKNIFE_GROUPS groups of speakers (jackknife); NaN where a class is missing."""
    present = np.unique(np.concatenate([trials.first, trials.second]))
    n_groups = min(JACKKNIFE_GROUPS, len(present))
    group = np.zeros(trials.pairs.n_speakers, dtype=np.int64)
    group[present] = np.arange(len(present)) % n_groups
    first, second = group[trials.first], group[trials.second]
    values = []
    for number in track_progress(iter(range(n_groups)), n_groups):
        targets, non_targets = trials.sorted_trials.counts(((first != number) & (second != number)).astype(float))
        defined = targets.any() and non_targets.any()
        values.append(
            trials.sorted_trials.pool_adjacent_violators(targets, non_targets).min_cllr if defined else np.nan
        )
    return np.array(values)


def _jackknife_bias(groups: FloatArray, value: float) -> float:
    """Jackknife estimate of bias: (g − 1) · (mean of the g leave-one-out values − value).

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 11.
    """
    defined = groups[np.isfinite(groups)]
    return (len(defined) - 1) * float(defined.mean() - value) if len(defined) > 1 else 0.0


def _jackknife_variance(groups: FloatArray) -> float:
    defined = groups[np.isfinite(groups)]
    return (len(defined) - 1) * float(defined.var()) if len(defined) > 1 else 0.0


def _sum_over_mixed_pairs(pairs: PairSums) -> float:
    """Σ p² over pairs of two different speakers, which the jackknife over speakers counts twice."""
    first, second = np.divmod(pairs.code, pairs.n_speakers)
    return float((pairs.sums[first != second] ** 2).sum())


# --- several lists ------------------------------------------------------------------------------------------


def combined_estimate(
    value: float, parts: Sequence[tuple[float, MetricEstimate]], *, n: int, values: Range, why: str
) -> Estimate:
    """Estimate a function of metrics from several lists with the same speakers, by the delta method.

    Parameters
    ----------
    value : float
        Value of the function; not finite if undefined.
    parts : sequence of (float, MetricEstimate)
        Partial derivative of the function in each metric, and the metric.
    n : int
        Sample size to report.
    values : Range
        Possible values of the function.
    why : str
        Reason to report if the value is undefined.

    Returns
    -------
    Estimate
        Without an interval if a metric has none.

    References
    ----------
    Oehlert (1992), A note on the delta method, The American Statistician 46:27.

    Examples
    --------
    >>> metrics = [MetricEstimate(Estimate(0.1)), MetricEstimate(Estimate(0.3))]
    >>> combined_estimate(0.2, [(0.5, metric) for metric in metrics], n=10, values=SHARE, why="").value
    0.2
    """
    if not np.isfinite(value):
        return Estimate(None, n=n, why=why)
    weighted = [(slope, each.pairs) for slope, each in parts if each.pairs is not None]
    if not weighted or len(weighted) < len(parts):
        return Estimate(value, n=n)
    pairs = linear_combination(weighted)
    variance, n_speakers = pairs.variance(), speakers_of(pairs)
    ends = interval(value, variance.standard_error, units=n_speakers, df=variance.df, values=values)
    few = sum(each.errors is not None and min(each.errors) < MIN_ERRORS for _, each in parts)
    few_errors = f"{few} of {len(parts)} lists have fewer than {MIN_ERRORS} misses or false alarms at the threshold"
    notes = [
        note for note in (interval_note(n_speakers, "speakers", variance, None), few_errors if few else None) if note
    ]
    return estimate_between(value, ends, n, "; ".join(notes) or None, "speakers")


# --- two systems --------------------------------------------------------------------------------------------


def difference(first: MetricEstimate, second: MetricEstimate) -> Difference:
    """Paired difference of a metric between two systems on the same trials, first − second.

    Influences are subtracted trial by trial, so difficulty shared by both systems cancels.

    Parameters
    ----------
    first, second : MetricEstimate
        The same metric of both systems, on the same trials.

    Returns
    -------
    Difference
        Where a cost has too few errors at its threshold, the interval is that of two independent values, which is too
        wide, and p is None. p is also None if either metric is undefined or has no interval.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 12.
    Zou and Donner (2008), Statistics in Medicine 27:1693, for the interval without p.

    Examples
    --------
    >>> first, second = MetricEstimate(Estimate(0.25, n=10)), MetricEstimate(Estimate(0.125, n=10))
    >>> result = difference(first, second)  # without intervals
    >>> result.estimate.value, result.p
    (0.125, None)
    """
    a, b = first.estimate, second.estimate
    if a.value is None or b.value is None:
        return Difference(Estimate(None, n=a.n, why=a.why or b.why), None)
    value = a.value - b.value
    if first.pairs is None or second.pairs is None or a.low is None or b.low is None:
        return Difference(Estimate(value, n=a.n, why=a.why or b.why), None)
    few = [m.errors for m in (first, second) if m.errors is not None and min(m.errors) < m.errors_for_p]
    pairs = first.pairs - second.pairs
    variance, n_speakers = pairs.variance(), speakers_of(pairs)
    if few and variance.standard_error > NEGLIGIBLE_ERROR:
        low = value - np.hypot(a.value - a.low, (b.high or 0.0) - b.value)
        high = value + np.hypot((a.high or 0.0) - a.value, b.value - b.low)
        note = f"few misses or false alarms at a threshold ({few[0]}), so the interval is wide and p is undefined"
        return Difference(Estimate(value, float(low), float(high), a.n, note=note), None)
    deviation = variance.standard_error
    if len(first.groups) and len(first.groups) == len(second.groups):
        jackknife = _jackknife_variance(first.groups - second.groups) - _sum_over_mixed_pairs(pairs)
        deviation = float(np.sqrt(max(deviation**2, jackknife)))
    ends = interval(value, deviation, units=n_speakers, values=DIFFERENCE)
    parts = (part for note in (a.note, b.note) if note for part in note.split("; "))
    notes = dict.fromkeys(parts)
    estimate = estimate_between(value, ends, a.n, "; ".join(notes) or None, "speakers")
    return Difference(estimate, two_sided_p(value, deviation, n_speakers - 1))

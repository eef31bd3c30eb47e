"""Intervals of detection metrics over speakers, and of differences between two systems on the same trials.

Every metric is a weighted sum of mean losses over target and non-target trials, at thresholds or a recalibration that
are best on these trials; by the envelope theorem, the choice has no part in its sampling error. So each trial's
influence is its loss less its class's mean, and `speaker_pairs` gives the standard error.

  equal error rates   the largest minimum, over priors π, of π · misses + (1 − π) · false alarms (Brümmer 2010); the
                      loss is an error, weighted by the π of the convex hull's edge across the diagonal
  minDCF              its minimum takes what happens to be low, with few errors above all; the interval is the lowest
                      lower and the lowest upper end of those at single thresholds
  minCllr             the best recalibration fits noise; leaving groups of speakers out (a jackknife) says how much the
                      value is too low and how much wider its distribution is
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

# Chosen by simulation (docs/coverage.md); below them an interval is printed with a note.
MIN_SPEAKERS, MIN_ERRORS, MIN_DF = 50, 10, 12
MIN_ERRORS_FOR_P = 20  # misses and false alarms at the thresholds of two systems' minDCF
GROUPS = 30  # of speakers that the jackknife leaves out, one after the other
CANDIDATES = 2000  # thresholds that the interval of minDCF looks at
ERRORS_OF_RATE = 20  # false alarms at the threshold where their dependence is measured
TrackProgress = Callable[[Iterator[int], int], Iterable[int]]


class ErrorCounts(NamedTuple):
    """Wrong decisions at a threshold."""

    misses: int
    false_alarms: int

    def __str__(self) -> str:
        return f"{self.misses:,} misses, {self.false_alarms:,} false alarms"


class Difference(NamedTuple):
    """One system's value less another's, and the two-sided p-value, None where there is none."""

    estimate: Estimate
    p: float | None


@dataclass(frozen=True)
class MetricEstimate:
    """A metric of a list and what its interval needs.

    threshold: where its value is met; NaN where it has none. pairs: what each pair of speakers has to do with its
    error; None without intervals. errors: at its threshold. errors_for_p: how many of either kind a comparison needs;
    0 for metrics whose errors weigh alike. groups: its values without each group of speakers.
    """

    estimate: Estimate
    threshold: float = np.nan
    pairs: PairSums | None = None
    errors: ErrorCounts | None = None
    errors_for_p: int = 0
    groups: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class ScoredTrials(LabelledScores):
    """Scored, labelled trials, (n,), and the speaker of either side. units: what speakers are called in notes."""

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
        """first, second: (n,) the speaker of either side, 0 … n_speakers − 1. units: what they are, for notes."""
        return cls(
            trials.scores, trials.labels, first, second, SpeakerPairs.from_speakers(first, second, n_speakers), units
        )

    def influence(self, loss: FloatArray, of_targets: float, of_others: float) -> PairSums:
        """Of of_targets · mean loss of targets + of_others · mean loss of the others. loss: (n,)."""
        part = np.empty(len(loss))
        for kind, weight in ((self.labels, of_targets), (~self.labels, of_others)):
            part[kind] = weight * (loss[kind] - loss[kind].mean()) / kind.sum()
        return self.pairs.sums(part)

    @property
    def n_speakers(self) -> int:
        """Speakers with trials of the class, target or non-target, that has fewer."""
        n = self.pairs.n_speakers
        sides = ((self.first[kind], self.second[kind]) for kind in (self.labels, ~self.labels))
        return min(int(np.count_nonzero(np.bincount(a, minlength=n) + np.bincount(b, minlength=n))) for a, b in sides)

    def errors(self, threshold: float) -> FloatArray:
        """1 for a miss or a false alarm at a threshold, else 0."""
        return np.where(self.labels, self.scores < threshold, self.scores >= threshold).astype(float)

    def error_counts(self, threshold: float) -> ErrorCounts:
        """Misses and false alarms at a threshold."""
        errors = self.errors(threshold)
        return ErrorCounts(int(errors[self.labels].sum()), int(errors[~self.labels].sum()))


def with_intervals(
    trials: ScoredTrials,
    points: Mapping[str, OperatingPoint],
    p_target: float,
    track_progress: TrackProgress = lambda groups, total: groups,
) -> dict[str, MetricEstimate]:
    """{metric: its estimate with an interval}.

    points: {metric: its value and threshold}, of `detection.METRICS`. watch: given the groups of the jackknife and how
    many there are, passes them on; for a progress bar.
    """
    found = {
        name: _with_interval(METRICS[name], trials, point, p_target, track_progress) for name, point in points.items()
    }
    return _at_chance({name: replace(one, threshold=points[name].threshold) for name, one in found.items()})


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


def _at_chance(found: dict[str, MetricEstimate]) -> dict[str, MetricEstimate]:
    """Upper ends where scores may say nothing: there the hull lies below .5 and the best recalibration below 1.

    The hull's equal error rate is at most the interpolated one, and so is its interval's upper end otherwise; where the
    latter's interval reaches .5, minCllr may be 1.
    """
    if not {"eer", "eer_interpolated"} <= set(found):
        return found
    between = found["eer_interpolated"].estimate
    changed = dict(found)
    hull = found["eer"].estimate
    if hull.high is not None and between.high is not None:
        changed["eer"] = replace(found["eer"], estimate=replace(hull, high=max(hull.high, between.high)))
    least = found["min_cllr"].estimate if "min_cllr" in found else None
    if least is not None and least.high is not None and between.high is not None and between.high >= 0.5:
        changed["min_cllr"] = replace(found["min_cllr"], estimate=replace(least, high=1.0))
    return changed


def _metric(
    trials: ScoredTrials,
    value: float,
    pairs: PairSums,
    can_be: Range = SHARE,
    errors: ErrorCounts | None = None,
) -> MetricEstimate:
    variance, n_speakers = pairs.variance(), trials.n_speakers
    df = min(variance.df, max(n_speakers - 1, 1))
    known = interval(value, variance.standard_error, units=n_speakers, df=df, values=can_be)
    note = _note(n_speakers, trials.units, variance, errors)
    return MetricEstimate(_estimate(value, known, len(trials.scores), note, trials.units), pairs=pairs, errors=errors)


def _estimate(value: float, known: tuple[float, float] | None, n: int, note: str | None, units: str) -> Estimate:
    if known is None:
        return Estimate(
            value, n=n, why=f"no interval: it needs two {units} or more of either class, and a value above 0"
        )
    return Estimate(value, min(known[0], value), max(known[1], value), n, note=note)


def _speakers(pairs: PairSums) -> int:
    return len(np.unique(np.concatenate(np.divmod(pairs.code, pairs.n_speakers))))


def _note(n_speakers: int, units: str, variance: VarianceEstimate, errors: ErrorCounts | None) -> str | None:
    """What to know before trusting an interval."""
    notes = []
    if n_speakers < MIN_SPEAKERS:
        notes.append(f"only {n_speakers} {units} with trials of one class; 95 % intervals need {MIN_SPEAKERS}")
    elif variance.standard_error > NEGLIGIBLE_ERROR and variance.df < MIN_DF:
        notes.append(f"few {units} make most of the errors: the interval rests on some {variance.df + 1:.0f} of them")
    if errors is not None and min(errors) < MIN_ERRORS:
        notes.append(f"few errors at the threshold ({errors}), so the interval is wide")
    return "; ".join(notes) or None


# --- equal error rates --------------------------------------------------------------------------------------


def _error_rate(trials: ScoredTrials, point: OperatingPoint, *, on_hull: bool) -> MetricEstimate:
    hull = trials.pooled.hull
    across = detection.crossing(hull)
    ends = [across.left, across.right]
    up, down = float(np.diff(hull.misses[ends])[0]), -float(np.diff(hull.false_alarms[ends])[0])
    prior = down / (up + down)
    if on_hull:  # met by randomising between the two ends of the hull's edge
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
    """A normalised cost at a threshold, or the lowest at any."""
    of_misses, of_alarms = (float(detection.detection_cost(np.array(m), np.array(1 - m), p_target)) for m in (1, 0))
    targets, others = np.sort(trials.scores[trials.labels]), np.sort(trials.scores[~trials.labels])
    thresholds = _candidates(targets, others) if any_threshold else np.empty(0)
    thresholds = np.concatenate([[point.threshold], thresholds])
    misses = np.searchsorted(targets, thresholds) / len(targets)
    alarms = (len(others) - np.searchsorted(others, thresholds)) / len(others)
    t = t_quantile(max(trials.n_speakers - 1, 1))
    sizes = _effective_sizes(trials, point.threshold, targets, others)
    (low_m, high_m), (low_a, high_a) = _wilson_each(misses, sizes[0], t), _wilson_each(alarms, sizes[1], t)
    cost = of_misses * misses + of_alarms * alarms
    low = cost - np.hypot(of_misses * (misses - low_m), of_alarms * (alarms - low_a))
    high = cost + np.hypot(of_misses * (high_m - misses), of_alarms * (high_a - alarms))
    pairs = trials.influence(trials.errors(point.threshold), of_misses, of_alarms)
    n_speakers, errors = trials.n_speakers, trials.error_counts(point.threshold)
    most = 1.0 if any_threshold else np.inf  # rejecting everything costs 1, whatever the scores
    known = None if n_speakers < 2 else (max(float(low.min()), 0.0), min(float(high.min()), most))
    note = _note(n_speakers, trials.units, VarianceEstimate(0.0, np.inf), errors)
    enough = MIN_ERRORS_FOR_P if any_threshold else MIN_ERRORS
    estimate = _estimate(point.rate, known, len(trials.scores), note, trials.units)
    return MetricEstimate(estimate, pairs=pairs, errors=errors, errors_for_p=enough)


def _candidates(targets: FloatArray, others: FloatArray) -> FloatArray:
    """Thresholds at which a cost may be lowest: non-target scores from the highest down, ever further apart."""
    steps = np.unique(np.geomspace(1, len(others), CANDIDATES).astype(np.int64))
    return np.concatenate([np.unique(others[-steps]), [np.nextafter(max(others[-1], targets[-1]), np.inf)]])


def _effective_sizes(
    trials: ScoredTrials, threshold: float, targets: FloatArray, others: FloatArray
) -> tuple[float, float]:
    """How many independent trials would give miss and false alarm rates as good: trials that share speakers count less.

    Of misses at the threshold; of false alarms where there are some twenty, since at the threshold there may be none.
    """
    some = others[max(len(others) - ERRORS_OF_RATE, 0)]
    sizes = []
    for kind, at, n in ((trials.labels, threshold, len(targets)), (~trials.labels, min(some, threshold), len(others))):
        errors = trials.errors(at)[kind]
        rate = float(errors.mean())
        pairs = trials.pairs.take(kind).sums((errors - rate) / n)
        deviation = pairs.variance().standard_error
        sizes.append(
            min(effective_sample_size(rate, deviation, _speakers(pairs)), n) if np.isfinite(deviation) else 1.0
        )
    return sizes[0], sizes[1]


def _wilson_each(shares: FloatArray, size: float, t: float) -> tuple[FloatArray, FloatArray]:
    low, high = np.array([wilson_interval(float(share), size, t) for share in shares]).T
    return low, high


# --- minCllr ------------------------------------------------------------------------------------------------


def _min_cllr(trials: ScoredTrials, value: float, track_progress: TrackProgress) -> MetricEstimate:
    pooled = trials.pooled
    block = np.searchsorted(pooled.lowest, trials.scores, side="right") - 1
    loss = detection.cllr_loss(pooled.log_likelihood_ratios[block], trials.labels)
    pairs = trials.influence(loss, 0.5, 0.5)
    groups = _without_each_group(trials, track_progress)
    variance, n_speakers = pairs.variance(), trials.n_speakers
    deviation = np.sqrt(max(variance.standard_error**2, _jackknife_variance(groups) - _of_two(pairs)))
    centre = min(max(value - _jackknife_bias(groups, value), value / 2), 2 * value, 1.0)
    size = effective_sample_size(value, deviation, n_speakers)
    known = None if n_speakers < 2 else wilson_interval(centre, size, t_quantile(n_speakers - 1))
    note = _note(n_speakers, trials.units, variance, None)
    return MetricEstimate(_estimate(value, known, len(trials.scores), note, trials.units), pairs=pairs, groups=groups)


def _without_each_group(trials: ScoredTrials, track_progress: TrackProgress) -> FloatArray:
    """minCllr without each of GROUPS groups of speakers, NaN where a class is lost."""
    present = np.unique(np.concatenate([trials.first, trials.second]))
    n_groups = min(GROUPS, len(present))
    group = np.zeros(trials.pairs.n_speakers, dtype=np.int64)
    group[present] = np.arange(len(present)) % n_groups
    first, second = group[trials.first], group[trials.second]
    values = []
    for number in track_progress(iter(range(n_groups)), n_groups):
        targets, others = trials.sorted_trials.counts(((first != number) & (second != number)).astype(float))
        known = targets.any() and others.any()
        values.append(trials.sorted_trials.pooled(targets, others).min_cllr if known else np.nan)
    return np.array(values)


def _jackknife_bias(groups: FloatArray, value: float) -> float:
    """Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 11."""
    known = groups[np.isfinite(groups)]
    return (len(known) - 1) * float(known.mean() - value) if len(known) > 1 else 0.0


def _jackknife_variance(groups: FloatArray) -> float:
    known = groups[np.isfinite(groups)]
    return (len(known) - 1) * float(known.var()) if len(known) > 1 else 0.0


def _of_two(pairs: PairSums) -> float:
    """Σ p² over pairs of two speakers, which leaving speakers out counts twice."""
    first, second = np.divmod(pairs.code, pairs.n_speakers)
    return float((pairs.sums[first != second] ** 2).sum())


# --- several lists ------------------------------------------------------------------------------------------


def combined_estimate(
    value: float, parts: Sequence[tuple[float, MetricEstimate]], *, n: int, values: Range, why: str
) -> Estimate:
    """A function of metrics of several lists with the same speakers, with its interval.

    value: of the function; not finite where it does not exist, with the reason in `why`. parts: each metric and the
    function's slope in it. values: those that the function can take.
    """
    if not np.isfinite(value):
        return Estimate(None, n=n, why=why)
    known = [(slope, one.pairs) for slope, one in parts if one.pairs is not None]
    if not known or len(known) < len(parts):
        return Estimate(value, n=n)
    pairs = linear_combination(known)
    variance, n_speakers = pairs.variance(), _speakers(pairs)
    found = interval(value, variance.standard_error, units=n_speakers, df=variance.df, values=values)
    few = sum(one.errors is not None and min(one.errors) < MIN_ERRORS for _, one in parts)
    of_lists = f"{few} of {len(parts)} lists have fewer than {MIN_ERRORS} errors at their thresholds"
    notes = [note for note in (_note(n_speakers, "speakers", variance, None), of_lists if few else None) if note]
    return _estimate(value, found, n, "; ".join(notes) or None, "speakers")


# --- two systems --------------------------------------------------------------------------------------------


def difference(first: MetricEstimate, second: MetricEstimate) -> Difference:
    """How much the first system's value is above the second's on the same trials.

    What is hard for both cancels. Where the threshold of a cost has next to no errors the interval is that of two
    independent values, which is too wide, and there is no p-value.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 12; without p: Zou and Donner (2008),
    Statistics in Medicine 27:1693.
    """
    one, other = first.estimate, second.estimate
    if one.value is None or other.value is None:
        return Difference(Estimate(None, n=one.n, why=one.why or other.why), None)
    value = one.value - other.value
    if first.pairs is None or second.pairs is None or one.low is None or other.low is None:
        return Difference(Estimate(value, n=one.n, why=one.why or other.why), None)
    few = [m.errors for m in (first, second) if m.errors is not None and min(m.errors) < m.errors_for_p]
    pairs = first.pairs - second.pairs
    variance, n_speakers = pairs.variance(), _speakers(pairs)
    if few and variance.standard_error > NEGLIGIBLE_ERROR:
        low = value - np.hypot(one.value - one.low, (other.high or 0.0) - other.value)
        high = value + np.hypot((one.high or 0.0) - one.value, other.value - other.low)
        note = f"few errors at a threshold ({few[0]}), so the interval is wide and there is no p"
        return Difference(Estimate(value, float(low), float(high), one.n, note=note), None)
    deviation = variance.standard_error
    if len(first.groups) and len(first.groups) == len(second.groups):
        without = _jackknife_variance(first.groups - second.groups) - _of_two(pairs)
        deviation = float(np.sqrt(max(deviation**2, without)))
    known = interval(value, deviation, units=n_speakers, values=DIFFERENCE)
    parts = (part for note in (one.note, other.note) if note for part in note.split("; "))
    notes = dict.fromkeys(parts)
    estimate = _estimate(value, known, one.n, "; ".join(notes) or None, "speakers")
    return Difference(estimate, two_sided_p(value, deviation, n_speakers - 1))

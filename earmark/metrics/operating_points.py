"""Operating points of a detection system: which threshold to use, and what is missed and falsely accepted there.

An operating point is a threshold and the error rates that it gives. The threshold comes from this list (for a false
alarm rate, or of the lowest cost) or from elsewhere. A trial is accepted if its score is at least the threshold.

Two questions have different intervals:

  at a false alarm rate  The threshold is a quantile of the non-target scores and varies with the list. The interval of
                         the miss rate contains both: misses at a fixed threshold, and the change of the threshold times
                         the slope of the ROC.
  at a threshold         Both rates are means of errors. Their intervals are for other speakers at the same threshold.

Rates without any error have an upper bound, which ISO/IEC 19795-1 calls the rule of three: 3 / n for n independent
trials. Trials that share a speaker are dependent, so n is an effective sample size.
"""

from dataclasses import dataclass, replace
from math import floor

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from earmark.metrics.detection import LabelledScores, OperatingPoint, min_dcf
from earmark.metrics.detection_intervals import (
    DEPENDENCE_ERRORS,
    MIN_ERRORS,
    ScoredTrials,
    estimate_between,
    interval_note,
    speakers_of,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import CONFIDENCE, SHARE, effective_sample_size, interval, t_quantile
from earmark.metrics.ratio import ratio
from earmark.metrics.speaker_pairs import PairSums, SpeakerPairs

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NORMAL_QUANTILE = 1.959964  # two-sided, 95 %
ROUNDING = 1e-9  # of rate · n, so that 0.05 · 20 is 1


@dataclass(frozen=True)
class RateAtThreshold:
    """An error rate with its interval and upper bound.

    Attributes
    ----------
    estimate : Estimate
    upper_bound : float or None
        One-sided 95 % upper limit; None without intervals or where the rate is undefined.
    """

    estimate: Estimate
    upper_bound: float | None


@dataclass(frozen=True)
class ErrorsAtThreshold:
    """Both error rates at a threshold.

    Attributes
    ----------
    threshold : float
        NaN where the operating point does not exist.
    misses, false_alarms : RateAtThreshold
    """

    threshold: float
    misses: RateAtThreshold
    false_alarms: RateAtThreshold


def threshold_at_false_alarm_rate(non_targets: FloatArray, targets: FloatArray, rate: float) -> float:
    """Lowest threshold at which at most this share of non-target trials is accepted.

    Parameters
    ----------
    non_targets, targets : (n,), (m,) float
        Scores; finite.
    rate : float
        In (0, 1).

    Returns
    -------
    float
        Halfway between the lowest accepted and the highest rejected score, so that rounding it changes no decision;
        just above all scores if none is accepted. NaN if the rate is below 1 / n, which n trials cannot show. Trials
        with equal scores are accepted together, so the rate may be lower than requested.

    Examples
    --------
    Of five non-targets, one may be accepted at a rate of .2:

    >>> non_targets, targets = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0.4, 0.5, 0.9])
    >>> round(threshold_at_false_alarm_rate(non_targets, targets, 0.2), 9)
    0.45
    >>> threshold_at_false_alarm_rate(non_targets, targets, 0.1)
    nan
    """
    n = len(non_targets)
    allowed = floor(rate * n + ROUNDING)
    if allowed < 1:
        return float("nan")
    if allowed >= n:
        return float(min(non_targets.min(), targets.min()))
    rejected = float(np.partition(non_targets, n - allowed - 1)[n - allowed - 1])
    above = [float(scores[scores > rejected].min(initial=np.inf)) for scores in (non_targets, targets)]
    accepted = min(above)
    if not np.isfinite(accepted):
        return float(np.nextafter(rejected, np.inf))
    middle = rejected + (accepted - rejected) / 2
    return middle if middle > rejected else accepted


def upper_bound(rate: float, size: float) -> float:
    """One-sided 95 % upper limit of an error rate (Clopper and Pearson 1934), for a real-valued sample size.

    Parameters
    ----------
    rate : float
        In [0, 1].
    size : float
        Number of independent trials, or the effective sample size; above 0.

    Returns
    -------
    float
        In [0, 1]. Without any error it is 1 − .05^(1 / size), about 3 / size: the rule of three.

    References
    ----------
    Clopper and Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26:404. Korn and Graubard (1998), Survey Methodology 24:193, for effective sample sizes. Jovanovic and
    Levy (1997), A look at the rule of three, The American Statistician 51:137. ISO/IEC 19795-1:2021, Biometric
    performance testing and reporting, part 1, for its use in biometrics.

    Examples
    --------
    >>> round(upper_bound(0.0, 300), 5), round(upper_bound(0.1, 50), 3), upper_bound(1.0, 5)
    (0.00994, 0.199, 1.0)
    """
    errors = rate * size
    if size - errors <= 0:
        return 1.0
    return float(betaincinv(errors + 1, size - errors, CONFIDENCE))


def errors_at_threshold(trials: LabelledScores, threshold: float) -> ErrorsAtThreshold:
    """Miss and false alarm rate at a threshold that does not depend on this list.

    Parameters
    ----------
    trials : LabelledScores
        With intervals for `ScoredTrials`.
    threshold : float
        NaN gives undefined rates.

    Returns
    -------
    ErrorsAtThreshold
        Intervals are Wilson's on the effective sample size; where no trial or every trial is an error, it is
        that of the 20 trials nearest to the threshold. Without an interval for fewer than two speakers.

    References
    ----------
    Aronow, Samii and Assenova (2015), Political Analysis 23:564; Wilson (1927), Journal of the American Statistical
    Association 22:209.

    Examples
    --------
    >>> labelled = LabelledScores.from_arrays([0.9, 0.7, 0.2, 0.5, 0.1, 0.0], np.arange(6) < 3)
    >>> rates = errors_at_threshold(labelled, 0.4)
    >>> round(rates.misses.estimate.value, 3), round(rates.false_alarms.estimate.value, 3)
    (0.333, 0.333)
    """
    return ErrorsAtThreshold(
        threshold, _class_rate(trials, threshold, trials.labels), _class_rate(trials, threshold, ~trials.labels)
    )


def errors_at_false_alarm_rate(trials: LabelledScores, rate: float) -> ErrorsAtThreshold:
    """Miss rate at a false alarm rate, the threshold being chosen on this list.

    Parameters
    ----------
    trials : LabelledScores
        With intervals for `ScoredTrials`.
    rate : float
        False alarm rate in (0, 1).

    Returns
    -------
    ErrorsAtThreshold
        The interval of the miss rate includes the sampling error of the threshold; that of the false alarm rate is for
        the threshold as printed. With a note below ten false alarms. Undefined, with the reason, for a rate below one
        in the number of non-target trials.

    References
    ----------
    Hsieh and Turnbull (1996), Nonparametric and semiparametric estimation of the receiver operating characteristic
    curve, Annals of Statistics 24:25, for the variance at a fixed false alarm rate.

    Examples
    --------
    >>> labelled = LabelledScores.from_arrays([0.9, 0.7, 0.2, 0.5, 0.1, 0.0], np.arange(6) < 3)
    >>> point = errors_at_false_alarm_rate(labelled, 0.34)
    >>> round(point.threshold, 9), round(point.misses.estimate.value, 3)
    (0.15, 0.0)
    """
    non_targets, targets = trials.scores[~trials.labels], trials.scores[trials.labels]
    threshold = threshold_at_false_alarm_rate(non_targets, targets, rate)
    if not np.isfinite(threshold):
        why = (
            f"a rate of {100 * rate:g} % needs at least {round(1 / rate):,} non-target trials, not {len(non_targets):,}"
        )
        return ErrorsAtThreshold(threshold, *(RateAtThreshold(Estimate(None, n=n, why=why), None) for n in (
            len(targets), len(non_targets))))  # fmt: skip
    fixed = errors_at_threshold(trials, threshold)
    if not isinstance(trials, ScoredTrials):
        return fixed
    value = float(fixed.misses.estimate.value or 0.0)
    n_alarms = int((non_targets >= threshold).sum())
    pairs = trials.influence(trials.errors(threshold), 1.0, _roc_slope(targets, non_targets, n_alarms))
    variance, n_speakers = pairs.variance(), trials.n_speakers
    notes = [interval_note(n_speakers, trials.units, variance, None)]
    if n_alarms < MIN_ERRORS:
        notes.append(f"only {n_alarms} non-target trials lie above the threshold, so it is uncertain")
    note = "; ".join(filter(None, notes)) or None
    if not 0 < value < 1:
        estimate = replace(fixed.misses.estimate, note=note)
        return replace(fixed, misses=RateAtThreshold(estimate, fixed.misses.upper_bound))
    df = min(variance.df, max(n_speakers - 1, 1))
    ends = interval(value, variance.standard_error, units=n_speakers, df=df, values=SHARE)
    estimate = estimate_between(value, ends, len(targets), note, trials.units)
    size = _size(value, pairs, n_speakers, len(targets))
    return ErrorsAtThreshold(
        threshold, RateAtThreshold(estimate, upper_bound(value, size) if size else None), fixed.false_alarms
    )


def lowest_cost_point(trials: LabelledScores, p_target: float) -> OperatingPoint:
    """Threshold of the lowest detection cost on this list; halfway between two scores, as for false alarm rates.

    Parameters
    ----------
    trials : LabelledScores
    p_target : float
        Target prior in (0, 1); both errors cost 1.

    Examples
    --------
    >>> labelled = LabelledScores.from_arrays([0.9, 0.7, 0.2, 0.5, 0.1, 0.0], np.arange(6) < 3)
    >>> point = lowest_cost_point(labelled, 0.01)
    >>> round(point.rate, 3), round(point.threshold, 9)
    (0.333, 0.6)
    """
    point = min_dcf(trials.curve, p_target)
    lower = trials.scores[trials.scores < point.threshold]
    higher = trials.scores[trials.scores >= point.threshold]
    if not len(lower) or not len(higher):
        return point
    middle = float(lower.max() + (higher.min() - lower.max()) / 2)
    return OperatingPoint(point.rate, middle if middle > lower.max() else float(higher.min()))


def _class_rate(trials: LabelledScores, threshold: float, kind: BoolArray) -> RateAtThreshold:
    """The error rate of one class at a threshold."""
    scores, n = trials.scores[kind], int(kind.sum())
    if np.isnan(threshold):
        return RateAtThreshold(Estimate(None, n=n, why="the threshold is undefined"), None)
    is_target = bool(trials.labels[np.argmax(kind)])
    wrong = scores < threshold if is_target else scores >= threshold
    rate = float(wrong.mean())
    if not isinstance(trials, ScoredTrials):
        return RateAtThreshold(Estimate(rate, n=n), None)
    class_pairs = trials.pairs.take(kind)
    pairs = class_pairs.sums((wrong - rate) / n)
    variance, n_speakers = pairs.variance(), speakers_of(pairs)
    note = interval_note(n_speakers, trials.units, variance, None)
    if 0 < rate < 1:
        df = min(variance.df, max(n_speakers - 1, 1))
        ends = interval(rate, variance.standard_error, units=n_speakers, df=df, values=SHARE)
        size = _size(rate, pairs, n_speakers, n)
    else:
        size = _size_without_errors(scores, class_pairs, nearest_is_low=bool(wrong[0]) == is_target)
        ends = interval(rate, 0.0, units=size or 0.0, df=max(n_speakers - 1, 1), values=SHARE)
    estimate = estimate_between(rate, ends, n, note, trials.units)
    return RateAtThreshold(estimate, upper_bound(rate, size) if size else None)


def _size(rate: float, pairs: PairSums, n_speakers: int, n: int) -> float | None:
    """Effective sample size for an upper bound, reduced for few degrees of freedom; None below two speakers.

    Korn and Graubard (1998) multiply it by the squared ratio of the normal to Student's quantile.
    """
    variance = pairs.variance()
    if n_speakers < 2 or not np.isfinite(variance.standard_error):
        return None
    size = min(effective_sample_size(rate, variance.standard_error, n_speakers), n)
    if 0 < rate < 1:
        size *= (NORMAL_QUANTILE / t_quantile(min(variance.df, n_speakers - 1))) ** 2
    return size


def _size_without_errors(scores: FloatArray, class_pairs: SpeakerPairs, *, nearest_is_low: bool) -> float | None:
    """Effective sample size where all trials of a class are decided alike, so that errors show no dependence.

    It is that of the DEPENDENCE_ERRORS trials nearest to the threshold as errors, of at most half of the trials. Rarer
    errors depend less on one another, so the size is rather too small.
    """
    n = len(scores)
    rank = min(DEPENDENCE_ERRORS, n // 2) - 1
    if rank < 0:
        return None
    nearest = np.sort(scores)[rank if nearest_is_low else n - 1 - rank]
    errors = scores <= nearest if nearest_is_low else scores >= nearest
    rate = float(errors.mean())
    pairs = class_pairs.sums((errors - rate) / n)
    return _size(rate, pairs, speakers_of(pairs), n)


def _roc_slope(targets: FloatArray, non_targets: FloatArray, n_alarms: int) -> float:
    """Decrease of the miss rate for an increase of the false alarm rate, over about two standard errors either way."""
    window = 2 * np.sqrt(max(n_alarms, 1))
    lower_rank, higher_rank = (
        int(np.clip(round(n_alarms + shift), 0, len(non_targets) - 1)) for shift in (window, -window)
    )
    ordered = np.sort(non_targets)[::-1]
    lower, higher = ordered[lower_rank], ordered[higher_rank]
    misses = [float((targets < end).mean()) for end in (lower, higher)]
    alarms = [float((non_targets >= end).mean()) for end in (lower, higher)]
    return float(ratio(misses[1] - misses[0], alarms[0] - alarms[1], 0.0))

"""Groups of trials: an equal error rate in which every group counts alike, and how well a variable predicts the label.

Trial lists mix groups, such as trials within and across languages, in proportions that their designers chose. In the
count-equalised rate the miss rate is the mean of the groups' miss rates, and the false alarm rate that of the groups'
false alarm rates, whatever their sizes.
"""

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.detection import LabelledScores, crossing, detection_cost, pool_adjacent_violators
from earmark.metrics.detection_intervals import MetricEstimate, ScoredTrials, estimate_between, interval_note
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import SHARE, interval
from earmark.metrics.speaker_pairs import PairSums

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def equalised_error_rate(trials: LabelledScores, group: IntArray) -> MetricEstimate:
    """Equal error rate on the convex hull of the ROC of group means.

    Parameters
    ----------
    trials : LabelledScores
        With an interval for `ScoredTrials`.
    group : (n,) int
        Group of each trial, from 0. Targets and non-targets of one group number are different groups.

    Returns
    -------
    MetricEstimate
        The equal error rate if every group is of the same size.

    References
    ----------
    NIST (2019), 2019 NIST Speaker Recognition Evaluation Plan, section on equalised trial counts.

    Examples
    --------
    Of the first group's targets one of two is missed, of the second's none; no non-target is accepted above .5:

    >>> labelled = LabelledScores.from_arrays([0.9, 0.3, 0.8, 0.7, 0.6, 0.5, 0.2, 0.1], np.arange(8) < 4)
    >>> group = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    >>> round(equalised_error_rate(labelled, group).estimate.value, 4)
    0.1667
    """
    hull = pool_adjacent_violators(*equalised_counts(trials, group)).hull
    across = crossing(hull)
    value = across.interpolate(hull.misses)
    n = len(trials.labels)
    if not isinstance(trials, ScoredTrials):
        return MetricEstimate(Estimate(value, n=n))
    ends = [across.left, across.right]
    up, down = float(np.diff(hull.misses[ends])[0]), -float(np.diff(hull.false_alarms[ends])[0])
    prior = down / (up + down)
    left, right = (trials.errors(threshold) for threshold in hull.thresholds[ends])
    loss = (1 - across.share) * left + across.share * right
    weight = group_weights(trials.labels, group)
    part = np.where(trials.labels, prior, 1 - prior) * weight * (loss - _group_means(loss, trials.labels, group))
    return _with_interval(trials, value, trials.pairs.sums(part))


def equalised_min_dcf(trials: LabelledScores, group: IntArray, p_target: float) -> float:
    """Minimum detection cost of group means, both error costs being 1.

    Parameters
    ----------
    trials : LabelledScores
    group : (n,) int
        As in `equalised_error_rate`.
    p_target : float
        Target prior in (0, 1).

    Returns
    -------
    float
        In [0, 1]; minDCF if every group is of the same size.

    Examples
    --------
    >>> labelled = LabelledScores.from_arrays([0.9, 0.3, 0.8, 0.7, 0.6, 0.5, 0.2, 0.1], np.arange(8) < 4)
    >>> round(equalised_min_dcf(labelled, np.array([0, 0, 1, 1, 0, 0, 1, 1]), 0.01), 4)
    0.25
    """
    _, targets, others = equalised_counts(trials, group)
    misses = np.concatenate([[0.0], np.cumsum(targets)])
    false_alarms = 1 - np.concatenate([[0.0], np.cumsum(others)])
    return float(detection_cost(misses, np.clip(false_alarms, 0, 1), p_target).min())


def equalised_counts(trials: LabelledScores, group: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights of targets and non-targets between neighbouring points of the ROC, every group having the same weight.

    Parameters
    ----------
    trials : LabelledScores
    group : (n,) int
        As in `equalised_error_rate`.

    Returns
    -------
    thresholds : (k,) float
        Rising; that of all points of the ROC but the last.
    targets, non_targets : (k,) float
        Weight of the trials from each threshold up to the next; each sums to 1.

    Examples
    --------
    >>> labelled = LabelledScores.from_arrays([0.9, 0.3, 0.5, 0.1], [True, True, False, False])
    >>> equalised_counts(labelled, np.array([0, 1, 0, 0]))[1].tolist()
    [0.0, 0.5, 0.0, 0.5, 0.0]
    """
    thresholds = trials.curve.thresholds
    weights = np.zeros((2, len(thresholds) - 1))
    for label, members in ((True, trials.labels), (False, ~trials.labels)):
        groups = np.flatnonzero(np.bincount(group[members]))
        for each in groups:
            scores = np.sort(trials.scores[members & (group == each)])
            below = np.searchsorted(scores, thresholds, "left")
            weights[0 if label else 1] += np.diff(below) / (len(scores) * len(groups))
    return thresholds[:-1], weights[0], weights[1]


def group_weights(labels: NDArray[np.bool_], group: IntArray) -> FloatArray:
    """Weight of each trial, (n,), so that every group of a class has the same weight and every class the weight 1.

    Examples
    --------
    >>> group_weights(np.array([True, True, True, False]), np.array([0, 1, 1, 0])).tolist()
    [0.5, 0.25, 0.25, 1.0]
    """
    cell = 2 * group + labels
    size = np.bincount(cell)
    groups = np.array([np.count_nonzero(size[0::2]), np.count_nonzero(size[1::2])])
    return 1.0 / (size[cell] * groups[labels.astype(np.int64)])


def _group_means(loss: FloatArray, labels: NDArray[np.bool_], group: IntArray) -> FloatArray:
    cell = 2 * group + labels
    size = np.bincount(cell)
    means = np.bincount(cell, loss) / np.maximum(size, 1)
    return np.asarray(means[cell])


def area_under_roc(trials: LabelledScores) -> MetricEstimate:
    """Probability that a random target scores higher than a random non-target, ties counting half (AUC).

    Parameters
    ----------
    trials : LabelledScores
        With an interval for `ScoredTrials`.

    Returns
    -------
    MetricEstimate
        In [0, 1]; 0.5 where the scores say nothing.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated receiver operating
    characteristic curves, Biometrics 44:837, for the influence of a trial.

    Examples
    --------
    >>> area_under_roc(LabelledScores.from_arrays([3, 1, 1, 0], [True, True, False, False])).estimate.value
    0.875
    """
    if not isinstance(trials, ScoredTrials):
        scores, ordered = np.sort(trials.scores[trials.labels]), np.sort(trials.scores[~trials.labels])
        lower = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
        return MetricEstimate(Estimate(float(lower.mean() / (2 * len(ordered))), n=len(trials.labels)))
    values, code = np.unique(trials.scores, return_inverse=True)
    targets = np.bincount(code[trials.labels], minlength=len(values))
    others = np.bincount(code[~trials.labels], minlength=len(values))
    # Share of the other class below (for targets) or above (for non-targets), per distinct value.
    lower = (np.cumsum(others) - others / 2) / others.sum()
    higher = 1 - (np.cumsum(targets) - targets / 2) / targets.sum()
    value = float((targets * lower).sum() / targets.sum())
    placement = np.where(trials.labels, lower[code], higher[code]) - value
    size = np.where(trials.labels, targets.sum(), others.sum())
    return _with_interval(trials, value, trials.pairs.sums(placement / size))


def _with_interval(trials: ScoredTrials, value: float, pairs: PairSums) -> MetricEstimate:
    variance, n_speakers = pairs.variance(), trials.n_speakers
    df = min(variance.df, max(n_speakers - 1, 1))
    ends = interval(value, variance.standard_error, units=n_speakers, df=df, values=SHARE)
    note = interval_note(n_speakers, trials.units, variance, None)
    return MetricEstimate(estimate_between(value, ends, len(trials.scores), note, trials.units), pairs=pairs)

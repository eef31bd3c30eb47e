"""Figures and clips of the page that `evaluate_speaker.py` writes beside its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.detection import (
    LabelledScores,
    OperatingPoint,
    Roc,
    interpolated_equal_error_rate,
    min_dcf,
    roc,
)
from earmark.report.figures import Figure, det_plot, histograms
from earmark.report.page import ClipList, ListedClip
from earmark.speaker.trials import Trials

SHOWN_TRIALS = 24  # in all; at least two of each kind and list
MAX_HISTOGRAM_SCORES = 200_000


def verification_figures(trials: LabelledScores, label: str, p_target: float) -> list[Figure]:
    """Draw the DET curve and the distributions of scores of a list.

    Parameters
    ----------
    trials : LabelledScores
    label : str
        Name of the system.
    p_target : float
        Target prior of minDCF.

    Returns
    -------
    list of Figure
    """
    scores, labels, curve = trials.scores, trials.labels, trials.curve
    eer, cost = interpolated_equal_error_rate(curve), min_dcf(curve, p_target)
    figures = [
        det_plot(
            "det",
            f"Detection error trade-off, with the points of EER and minDCF (P_target {p_target:g}).",
            {label: (curve.false_alarms, curve.misses)},
            {label: eer.rate},
            {label: rates_at(curve, cost)},
        ),
        histograms(
            "scores",
            "Scores of target and non-target trials, with the thresholds of the equal error rate and of minDCF.",
            {"target": _thinned(scores[labels]), "non-target": _thinned(scores[~labels])},
            "score",
            {"EER": eer.threshold, "minDCF": cost.threshold} if np.isfinite(cost.threshold) else {"EER": eer.threshold},
        ),
    ]
    return [figure for figure in figures if figure is not None]


def rates_at(curve: Roc, point: OperatingPoint) -> tuple[float, float]:
    """False alarm and miss rate at the threshold of an operating point."""
    place = min(int(np.searchsorted(curve.thresholds, point.threshold)), len(curve.misses) - 1)
    return float(curve.false_alarms[place]), float(curve.misses[place])


def _thinned(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most MAX_HISTOGRAM_SCORES scores at equal distances in rank, which keeps the distribution."""
    if len(scores) <= MAX_HISTOGRAM_SCORES:
        return scores
    return np.sort(scores)[np.linspace(0, len(scores) - 1, MAX_HISTOGRAM_SCORES).astype(int)]


def hardest_trials(
    lists: Mapping[str, Trials], root: Path, thresholds: Mapping[str, float] | None = None
) -> list[ClipList]:
    """List the false alarms with the highest scores and the misses with the lowest, both sides of each trial.

    Parameters
    ----------
    lists : mapping
        {condition, or an empty text: labelled and scored trials}.
    root : Path
        Directory that the names of utterances start from.
    thresholds : mapping, optional
        {list: its threshold at the interpolated equal error rate}, where it is known.

    Returns
    -------
    list of ClipList
        One for each list with errors at its equal error rate.
    """
    most = max(2, SHOWN_TRIALS // (2 * max(len(lists), 1)))  # of each kind
    shown = []
    for name, trials in lists.items():
        scores, labels = np.asarray(trials.scores), np.asarray(trials.labels)
        if not labels.any() or labels.all():
            continue
        threshold = (thresholds or {}).get(name)
        if threshold is None:
            threshold = interpolated_equal_error_rate(roc(scores, labels)).threshold
        different = ~trials.is_self
        alarms = np.flatnonzero(~labels & (scores >= threshold) & different)
        misses = np.flatnonzero(labels & (scores < threshold) & different)
        alarms = alarms[np.argsort(-scores[alarms], kind="stable")][:most]
        misses = misses[np.argsort(scores[misses], kind="stable")][:most]
        groups = [
            _sides(trials, int(trial), kind, root)
            for kind, found in (("false alarm", alarms), ("miss", misses))
            for trial in found
        ]
        shown.append(
            ClipList(
                f"Hardest trials: {name}" if name else "Hardest trials",
                "False alarms with the highest scores and misses with the lowest, at the threshold of the EER.",
                groups,
            )
        )
    return shown


def _sides(trials: Trials, trial: int, kind: str, root: Path) -> Sequence[ListedClip]:
    enrolment, test = (str(trials.names[side[trial]]) for side in (trials.enrolment, trials.test))
    facts = [("error", kind), ("score", f"{np.asarray(trials.scores)[trial]:.3f}")]
    return [ListedClip(f"enrolment: {enrolment}", root / enrolment), ListedClip(f"test: {test}", root / test, facts)]

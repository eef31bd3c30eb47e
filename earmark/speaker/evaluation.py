"""Detection metrics of a labelled, scored trial list, with confidence intervals over speakers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from earmark.metrics import detection
from earmark.metrics.detection import LabelledScores, Roc
from earmark.metrics.detection_intervals import (
    Difference,
    MetricEstimate,
    ScoredTrials,
    TrackProgress,
    difference,
    with_intervals,
)
from earmark.metrics.estimate import Estimate
from earmark.speaker.trials import Trials, linked_speakers

MIN_AUC_DEFICIT = 0.1  # below 0.5; the area under the ROC curve of a weak but valid system is not that low


class SpeakerSource(StrEnum):
    """The units that count as speakers in confidence intervals."""

    SPEAKERS = "speakers"
    LINKED = "utterances linked by target trials"
    UTTERANCES = "utterances"


@dataclass(frozen=True)
class TrialCounts:
    """Size of a trial list.

    Attributes
    ----------
    n_trials, n_target, n_nontarget : int
    n_speakers : int
        0 if the speakers are unknown.
    n_self_trials : int
        Trials of an utterance with itself.
    n_repeated_trials : int
        Trials that repeat an earlier trial.
    """

    n_trials: int
    n_target: int
    n_nontarget: int
    n_speakers: int
    n_self_trials: int
    n_repeated_trials: int

    @classmethod
    def from_trials(cls, trials: Trials, speakers: Sequence[str] | None) -> "TrialCounts":
        """Count the trials of a labelled list; `speakers` are those of `trials.names`, None if unknown."""
        n_target = int(np.asarray(trials.labels).sum())
        return cls(
            n_trials=len(trials),
            n_target=n_target,
            n_nontarget=len(trials) - n_target,
            n_speakers=len(set(speakers)) if speakers is not None else 0,
            n_self_trials=int(trials.is_self.sum()),
            n_repeated_trials=int(trials.is_repeated.sum()),
        )


@dataclass(frozen=True)
class VerificationResult:
    """Metrics of a labelled, scored trial list.

    Attributes
    ----------
    details : dict
        {metric name: its estimate, its threshold and the data for paired comparisons}.
    speakers : SpeakerSource
        The units that count as speakers in intervals.
    trials : Trials or None
        The trials that were evaluated; None if they were dropped to save memory.
    speaker_names : list of str or None
        The speaker of each of `trials.names`; None if unknown.
    scored : LabelledScores or None
        Their scores, `ScoredTrials` with intervals; None if they were dropped.
    """

    details: dict[str, MetricEstimate]
    speakers: SpeakerSource
    trials: Trials | None = None
    speaker_names: list[str] | None = None
    scored: LabelledScores | None = None

    @cached_property
    def counts(self) -> TrialCounts:
        """Size of the list, counted when it is first needed."""
        assert self.trials is not None
        return TrialCounts.from_trials(self.trials, self.speaker_names)

    @property
    def resampled(self) -> str:
        """The units of the intervals: speakers or utterances."""
        return "speakers" if self.speakers == SpeakerSource.SPEAKERS else "utterances"

    @property
    def metrics(self) -> dict[str, Estimate]:
        """{metric name: its estimate}."""
        return {name: metric.estimate for name, metric in self.details.items()}

    @property
    def threshold(self) -> float:
        """Threshold at the interpolated EER, where the miss and false alarm rates are closest.

        The EER on the convex hull has no single threshold, because it randomises between two.
        """
        return self.details["eer_interpolated"].threshold


def evaluate(
    trials: Trials,
    speakers: list[str] | None,
    *,
    intervals: bool = True,
    speaker_numbers: Mapping[str, int] | None = None,
    p_target: float = detection.P_TARGET,
    metrics: Iterable[str] = detection.METRICS,
    track_progress: TrackProgress = lambda groups, total: groups,
) -> VerificationResult:
    """Compute metrics of `metrics.detection`, with 95 % confidence intervals over speakers.

    Parameters
    ----------
    trials : Trials
        A labelled list with a finite score for every trial.
    speakers : list of str or None
        The speaker of each of `trials.names`. If None, utterances linked by target trials count as one speaker, or,
        if that contradicts the labels, every utterance counts as a speaker.
    intervals : bool
        Whether to compute confidence intervals.
    speaker_numbers : mapping, optional
        {speaker: number from 0}, shared by several lists whose results are combined afterwards.
    p_target : float
        Target prior of minDCF and actDCF, in (0, 1).
    metrics : iterable of str
        Names of metrics; all by default.
    track_progress : callable
        Wraps the iterator over the groups of speakers that the jackknife leaves out, given their number; for a
        progress bar.

    Returns
    -------
    VerificationResult

    Raises
    ------
    ValueError
        If labels or scores are missing, or there are no target or no non-target trials.

    Examples
    --------
    >>> labels, scores = np.array([True, False, False]), np.array([0.9, 0.2, 0.1])
    >>> names = np.array(["ann/1", "ann/2", "ben/1"], dtype=object)
    >>> trials = Trials(names, np.array([0, 0, 1]), np.array([1, 2, 2]), labels, scores)
    >>> result = evaluate(trials, ["ann", "ann", "ben"], intervals=False)
    >>> result.metrics["eer"].value, result.counts.n_speakers
    (0.0, 2)
    """
    if trials.labels is None or trials.scores is None:
        raise ValueError("metrics need labels and scores")
    scored = LabelledScores.from_arrays(trials.scores, trials.labels)
    names, units = _speaker_units(trials, speakers)
    if intervals:
        numbers = speaker_numbers or {name: number for number, name in enumerate(sorted(set(names)))}
        speaker = np.array([numbers[name] for name in names], dtype=np.int64)
        sides = speaker[trials.enrolment], speaker[trials.test]
        scored = ScoredTrials.from_trials(scored, *sides, len(numbers), str(units))
        details = with_intervals(scored, detection.evaluate(scored, p_target, metrics), p_target, track_progress)
    else:
        details = {
            name: MetricEstimate(Estimate(point.rate, n=len(trials)), point.threshold)
            for name, point in detection.evaluate(scored, p_target, metrics).items()
        }
    return VerificationResult(details, units, trials, speakers, scored)


def _speaker_units(trials: Trials, speakers: list[str] | None) -> tuple[Sequence[str], SpeakerSource]:
    """The unit that counts as the speaker of each of trials.names."""
    if speakers is not None:
        return speakers, SpeakerSource.SPEAKERS
    linked = linked_speakers(trials)
    if linked is not None:
        return linked, SpeakerSource.LINKED
    return list(map(str, trials.names)), SpeakerSource.UTTERANCES


def reversed_score_notes(curve: Roc, n_target: int, n_nontarget: int, source: str) -> tuple[str, ...]:
    """Return a warning if targets score lower than non-targets, as distances do.

    The area under the ROC curve must be below 0.5 by more than 0.1 and by more than three standard errors.

    Parameters
    ----------
    curve : Roc
    n_target, n_nontarget : int
        Numbers of trials.
    source : str
        Name of the scores for the message.

    Returns
    -------
    tuple of str
        One message, or none.

    Examples
    --------
    >>> curve = detection.roc([0.1, 0.2, 0.8, 0.9] * 9, [True, True, False, False] * 9)
    >>> reversed_score_notes(curve, 18, 18, "s.txt")[0][:63]
    's.txt: targets score lower than non-targets (area under the ROC'
    """
    area = float(np.trapezoid((1 - curve.misses)[::-1], curve.false_alarms[::-1]))
    chance = np.sqrt((n_target + n_nontarget + 1) / (12 * n_target * n_nontarget))
    if area >= 0.5 - max(MIN_AUC_DEFICIT, 3 * chance):
        return ()
    return (
        f"{source}: targets score lower than non-targets (area under the ROC curve {area:.3f}). These look like "
        "distances; provide similarities, for example the negated distances.",
    )


def compare_systems(first: VerificationResult, second: VerificationResult) -> dict[str, Difference]:
    """Compare two systems on the same trials.

    Parameters
    ----------
    first, second : VerificationResult
        Results on the same trials with the same speakers.

    Returns
    -------
    dict
        {metric name: first minus second, with its interval and two-sided p-value}.
    """
    return {name: difference(metric, second.details[name]) for name, metric in first.details.items()}

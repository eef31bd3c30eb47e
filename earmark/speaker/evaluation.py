"""What a labelled, scored trial list amounts to: every detection metric, with intervals over speakers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

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

WELL_BELOW = 0.1  # one half: an area under the ROC curve that no weak system has


class SpeakerSource(StrEnum):
    """What counts as a speaker in intervals."""

    SPEAKERS = "speakers"
    LINKED = "utterances linked by target trials"
    UTTERANCES = "utterances"


@dataclass(frozen=True)
class TrialCounts:
    """What a list holds. n_speakers: 0 where they are not known."""

    n_trials: int
    n_target: int
    n_nontarget: int
    n_speakers: int
    n_self_trials: int
    n_repeated_trials: int

    @classmethod
    def from_trials(cls, trials: Trials, speakers: Sequence[str] | None) -> "TrialCounts":
        """Of a labelled list; speakers: of its names."""
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
    """What a labelled, scored list amounts to.

    details: metrics by name, with what their comparison needs. speakers: what counts as one in intervals.
    """

    details: dict[str, MetricEstimate]
    counts: TrialCounts
    speakers: SpeakerSource

    @property
    def resampled(self) -> str:
        """What intervals are over: speakers or utterances."""
        return "speakers" if self.speakers == SpeakerSource.SPEAKERS else "utterances"

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Estimates by name."""
        return {name: one.estimate for name, one in self.details.items()}

    @property
    def threshold(self) -> float:
        """Where misses and false alarms are closest, at the interpolated EER; the hull's randomises between two."""
        return self.details["eer_interpolated"].threshold


def evaluate(
    trials: Trials,
    speakers: list[str] | None,
    *,
    intervals: bool = True,
    column: Mapping[str, int] | None = None,
    p_target: float = detection.P_TARGET,
    track_progress: TrackProgress = lambda groups, total: groups,
) -> VerificationResult:
    """Every metric of `metrics.detection`, with intervals over speakers.

    trials: labelled and scored. speakers: of trials.names; None where they are not known: then utterances that target
    trials link count as one, or where that contradicts the labels, each utterance. column: {speaker: number} of several
    lists that are to be combined. watch: given the groups of speakers that a jackknife leaves out and how many there
    are, passes them on; for a progress bar, since millions of trials take a minute. ValueError without targets or
    non-targets.
    """
    if trials.labels is None or trials.scores is None:
        raise ValueError("metrics need labels and scores")
    scored = LabelledScores.from_arrays(trials.scores, trials.labels)
    names, units = _units(trials, speakers)
    if intervals:
        column = column or {name: number for number, name in enumerate(sorted(set(names)))}
        place = np.array([column[name] for name in names], dtype=np.int64)
        sides = place[trials.enrolment], place[trials.test]
        scored = ScoredTrials.from_trials(scored, *sides, len(column), str(units))
        found = with_intervals(scored, detection.evaluate(scored, p_target), p_target, track_progress)
    else:
        found = {
            name: MetricEstimate(Estimate(point.rate, n=len(trials)), point.threshold)
            for name, point in detection.evaluate(scored, p_target).items()
        }
    return VerificationResult(found, TrialCounts.from_trials(trials, speakers), units)


def _units(trials: Trials, speakers: list[str] | None) -> tuple[Sequence[str], SpeakerSource]:
    """The speaker of each of trials.names, or what stands for it."""
    if speakers is not None:
        return speakers, SpeakerSource.SPEAKERS
    linked = linked_speakers(trials)
    if linked is not None:
        return linked, SpeakerSource.LINKED
    return list(map(str, trials.names)), SpeakerSource.UTTERANCES


def reversed_score_notes(curve: Roc, n_target: int, n_nontarget: int, where: str) -> tuple[str, ...]:
    """What to say where targets score lower than the others: more than WELL_BELOW, and three standard errors of chance.

    where: the scores are, for the message.

    >>> curve = detection.roc([0.1, 0.2, 0.8, 0.9] * 9, [True, True, False, False] * 9)
    >>> reversed_score_notes(curve, 18, 18, "s.txt")[0][:63]
    's.txt: targets score lower than non-targets (area under the ROC'
    """
    area = float(np.trapezoid((1 - curve.misses)[::-1], curve.false_alarms[::-1]))
    chance = np.sqrt((n_target + n_nontarget + 1) / (12 * n_target * n_nontarget))
    if area >= 0.5 - max(WELL_BELOW, 3 * chance):
        return ()
    return (
        f"{where}: targets score lower than non-targets (area under the ROC curve {area:.3f}): these look like "
        "distances. Give scores that are higher for one speaker, such as the distances with a minus.",
    )


def compare_systems(first: VerificationResult, second: VerificationResult) -> dict[str, Difference]:
    """{metric: first less second} of two systems on the same trials."""
    return {name: difference(one, second.details[name]) for name, one in first.details.items()}

"""What a labelled, scored trial list amounts to: every detection metric, with intervals over speakers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.detection import OperatingPoint
from earmark.metrics.detection_intervals import Metric, ScoredTrials, difference, with_intervals
from earmark.metrics.estimate import Estimate
from earmark.speaker.trials import Trials, linked_speakers

FloatArray = NDArray[np.float64]
Watch = Callable[[Iterator[int], int], Iterable[int]]


class SpeakerSource(StrEnum):
    """What counts as a speaker in intervals."""

    SPEAKERS = "speakers"
    LINKED = "utterances linked by target trials"
    UTTERANCES = "utterances"


@dataclass(frozen=True)
class Verification:
    """What a labelled, scored list amounts to. details: metrics by name, with what their comparison needs.

    threshold: where misses and false alarms of this list are closest, at the interpolated EER; the hull's is reached
    by randomising between two. case_threshold: at the EER as CASE computes it. speakers: what counts as one in
    intervals.
    """

    details: dict[str, Metric]
    counts: dict[str, int]
    threshold: float
    case_threshold: float
    speakers: SpeakerSource

    @property
    def resampled(self) -> str:
        """What intervals are over: speakers or utterances."""
        return "speakers" if self.speakers == SpeakerSource.SPEAKERS else "utterances"

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Estimates by name."""
        return {name: one.estimate for name, one in self.details.items()}


def evaluate(
    trials: Trials,
    speakers: list[str] | None,
    *,
    intervals: bool = True,
    column: Mapping[str, int] | None = None,
    p_target: float = 0.01,
    watch: Watch = lambda groups, total: groups,
) -> Verification:
    """Every metric of `metrics.detection`, with intervals over speakers.

    trials: labelled and scored. speakers: of trials.names; None where they are not known: then utterances that target
    trials link count as one, or where that contradicts the labels, each utterance. column: {speaker: number} of several
    lists that are to be combined. watch: given the groups of speakers that a jackknife leaves out and how many there
    are, passes them on; for a progress bar, since millions of trials take a minute. ValueError without targets or
    non-targets.
    """
    if trials.labels is None or trials.scores is None:
        raise ValueError("metrics need labels and scores")
    curve = detection.roc(trials.scores, trials.labels)
    values = {
        "eer": detection.equal_error_rate(curve),
        "eer_interpolated": detection.interpolated_equal_error_rate(curve),
        "eer_case": detection.case_equal_error_rate(trials.scores, trials.labels),
        "min_dcf": detection.min_dcf(curve, p_target),
        "act_dcf": detection.actual_dcf(trials.scores, trials.labels, p_target),
        "cllr": OperatingPoint(detection.cllr(trials.scores, trials.labels), np.nan),
        "min_cllr": OperatingPoint(detection.min_cllr(trials.scores, trials.labels), np.nan),
    }
    names, units = _units(trials, speakers)
    if intervals:
        column = column or {name: number for number, name in enumerate(sorted(set(names)))}
        place = np.array([column[name] for name in names], dtype=np.int64)
        sides = place[trials.enrolment], place[trials.test]
        scored = ScoredTrials.of(trials.scores, trials.labels, *sides, len(column), str(units))
        found = with_intervals(scored, values, p_target, watch)
    else:
        found = {name: Metric(Estimate(point.rate, n=len(trials))) for name, point in values.items()}
    threshold, by_case = values["eer_interpolated"].threshold, values["eer_case"].threshold
    return Verification(found, _counts(trials, speakers), threshold, by_case, units)


def _units(trials: Trials, speakers: list[str] | None) -> tuple[Sequence[str], SpeakerSource]:
    """The speaker of each of trials.names, or what stands for it."""
    if speakers is not None:
        return speakers, SpeakerSource.SPEAKERS
    linked = linked_speakers(trials)
    if linked is not None:
        return linked, SpeakerSource.LINKED
    return list(map(str, trials.names)), SpeakerSource.UTTERANCES


def compared(first: Verification, second: Verification) -> dict[str, tuple[Estimate, float | None]]:
    """{metric: (first less second, two-sided p-value)} of two systems on the same trials."""
    return {name: difference(one, second.details[name]) for name, one in first.details.items()}


def _counts(trials: Trials, speakers: list[str] | None) -> dict[str, int]:
    labels = trials.labels if trials.labels is not None else np.zeros(len(trials), dtype=bool)
    return {
        "n_trials": len(trials),
        "n_target": int(labels.sum()),
        "n_nontarget": int((~labels).sum()),
        "n_speakers": len(set(speakers)) if speakers is not None else 0,
        "n_self_trials": int(trials.is_self.sum()),
        "n_repeated_trials": int(trials.is_repeated.sum()),
    }

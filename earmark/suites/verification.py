"""What a labelled, scored trial list amounts to: every detection metric, with intervals over speakers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.resampling import Estimate, multiplicities, paired_difference, summarise
from earmark.suites.trials import Trials

FloatArray = NDArray[np.float64]
Watch = Callable[[Iterator[FloatArray], int], Iterable[FloatArray]]


@dataclass(frozen=True)
class Draws:
    """Speakers (or utterances) drawn anew: the same draws for every list and every system, so that they compare.

    column: where each unit stands. multiplicities: (replicates, units) how often each replicate drew it.
    """

    column: dict[str, int]
    multiplicities: NDArray[np.uint8]

    @classmethod
    def of(cls, units: Iterable[str], replicates: int, rng: np.random.Generator) -> "Draws":
        """Samples with replacement of the distinct units; none where there are fewer than two."""
        column = {unit: place for place, unit in enumerate(sorted(set(units)))}
        return cls(column, multiplicities(len(column), replicates if len(column) > 1 else 0, rng))

    def n_chunks(self, n_trials: int) -> int:
        """How many chunks `weights` gives for so many trials."""
        return -(-len(self.multiplicities) // max(1, detection.CHUNK_VALUES // max(n_trials, 1)))

    def weights(self, trials: Trials, units: Sequence[str]) -> Iterator[FloatArray]:
        """Chunks (replicates, n) of how often each trial counts. units: of trials.names."""
        place = np.array([self.column[unit] for unit in units], dtype=np.int64)
        return detection.pair_weights(self.multiplicities, place[trials.enrolment], place[trials.test])


@dataclass(frozen=True)
class Verification:
    """What a labelled, scored list amounts to. metrics: estimates by name.

    threshold: where misses and false alarms of this list are closest, at the interpolated EER; the hull's is reached
    by randomising between two. case_threshold: at the EER as CASE computes it.

    replicates: {metric: (replicates,)}, of those that have an interval.
    """

    metrics: dict[str, Estimate]
    counts: dict[str, int]
    threshold: float
    case_threshold: float
    resampled: str
    replicates: dict[str, FloatArray] = field(default_factory=dict)


def evaluate(
    trials: Trials,
    speakers: list[str] | None,
    *,
    replicates: int = 0,
    rng: np.random.Generator | None = None,
    draws: Draws | None = None,
    p_target: float = 0.01,
    watch: Watch = lambda chunks, total: chunks,
) -> Verification:
    """Every metric of `metrics.detection`, with intervals over speakers where they are known, else utterances.

    trials: labelled and scored. speakers: of trials.names. draws: made for several lists at once; else so many
    `replicates` are drawn with `rng`. watch: given the chunks of replicates and how many there are, passes them on;
    for a progress bar, since millions of trials take minutes. Raises ValueError without targets or non-targets.
    """
    if trials.labels is None or trials.scores is None:
        raise ValueError("metrics need labels and scores")
    units = speakers if speakers is not None else list(map(str, trials.names))
    draws = draws or Draws.of(units, replicates, rng or np.random.default_rng(0))
    curve = detection.roc(trials.scores, trials.labels)
    eer = detection.equal_error_rate(curve)
    interpolated, by_case = (
        detection.interpolated_equal_error_rate(curve),
        detection.case_equal_error_rate(trials.scores, trials.labels),
    )
    values = {
        "eer": eer.rate,
        "eer_interpolated": interpolated.rate,
        "min_dcf": detection.min_dcf(curve, p_target).rate,
        "act_dcf": detection.actual_dcf(trials.scores, trials.labels, p_target).rate,
        "cllr": detection.cllr(trials.scores, trials.labels),
        "min_cllr": detection.min_cllr(trials.scores, trials.labels),
    }
    found = np.empty((0, len(values)))
    if len(draws.multiplicities):
        sorted_trials = detection.SortedTrials.of(trials.scores, trials.labels)
        chunks = watch(draws.weights(trials, units), draws.n_chunks(len(trials)))
        found = sorted_trials.replicates(iter(chunks), p_target)
    metrics = {
        name: summarise(value, column, n=len(trials))
        for (name, value), column in zip(values.items(), found.T, strict=True)
    }
    metrics["eer_case"] = Estimate(by_case.rate, n=len(trials))
    ordered = {name: metrics[name] for name in detection.METRICS}
    resampled = "speakers" if speakers else "utterances"
    columns = dict(zip(values, found.T, strict=True))
    return Verification(
        ordered, _counts(trials, speakers), interpolated.threshold, by_case.threshold, resampled, columns
    )


def compared(first: Verification, second: Verification) -> dict[str, tuple[Estimate, float | None]]:
    """{metric: (first less second, two-sided p-value)} of two systems on the same trials and the same draws.

    What is hard for both cancels, so the interval of the difference is narrower than the two intervals suggest.
    """
    found = {}
    for name, replicates in first.replicates.items():
        one, other = first.metrics[name], second.metrics[name]
        values = float(one.value or 0.0), float(other.value or 0.0)
        found[name] = paired_difference(*values, replicates, second.replicates[name], n=one.n)
    return found


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

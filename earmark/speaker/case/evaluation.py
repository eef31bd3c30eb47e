"""What a system's scores on CASE amount to, as published and strictly.

published  every line of the lists, equal error rates as the CASE tool computes them
strict     without trials of a recording against itself and without repeats, equal error rates on the convex hull
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.detection_intervals import MetricEstimate, combined_estimate
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COST, DIFFERENCE, SHARE
from earmark.speaker.case.benchmark import Benchmark, same_recording
from earmark.speaker.case.conditions import PUBLISHED, STRICT, aggregate_eers, category
from earmark.speaker.case.schema import CaseProtocol, ProtocolFigures
from earmark.speaker.evaluation import VerificationResult, evaluate
from earmark.speaker.trials import Trials

FloatArray = NDArray[np.float64]
EER = {PUBLISHED: "eer_case", STRICT: "eer"}
STEP = 1e-6  # of an equal error rate, for slopes of aggregates


@dataclass(frozen=True)
class ConditionResult:
    """One protocol. trials: scored, complete ones. found: {published or strict: metrics}."""

    protocol: str
    trials: Trials
    n_self: int
    n_repeated: int
    n_missing: int
    found: dict[str, VerificationResult]

    def eer(self, version: str) -> MetricEstimate:
        """The equal error rate by the definition of a version."""
        return self.found[version].details[EER[version]]

    @property
    def row(self) -> CaseProtocol:
        """As summaries and tables have it."""
        return CaseProtocol(
            protocol=self.protocol,
            category=category(self.protocol),
            n_self_trials=self.n_self,
            n_repeated_trials=self.n_repeated,
            n_missing=self.n_missing,
            published=self._figures(PUBLISHED),
            strict=self._figures(STRICT),
        )

    def _figures(self, version: str) -> ProtocolFigures | None:
        if version not in self.found:
            return None
        found = self.found[version]
        return ProtocolFigures(
            n_trials=found.counts.n_trials,
            n_target=found.counts.n_target,
            eer=self.eer(version).estimate,
            min_dcf=found.metrics["min_dcf"],
            threshold=found.threshold,
        )


def det_curves(outcomes: Iterable[ConditionResult]) -> dict[str, list[tuple[FloatArray, FloatArray]]]:
    """{category: [(false alarms, misses) of each of its protocols]} on probit axes, of all trials."""
    curves: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    for one in outcomes:
        curve = detection.roc(np.asarray(one.trials.scores), np.asarray(one.trials.labels))
        curves.setdefault(category(one.protocol), []).append(detection.det_curve(curve))
    return curves


def evaluate_protocols(
    benchmark: Benchmark,
    scored: Mapping[str, Trials],
    *,
    versions: Iterable[str],
    intervals: bool,
    p_target: float,
) -> Iterator[ConditionResult]:
    """Each protocol as soon as it is known. scored: {protocol: trials with scores, NaN where there is none}.

    Speakers are the same in all protocols, so that aggregates have intervals too. ValueError names the protocol that
    has no target or no non-target trials left.
    """
    complete_lists = {name: t.take(~np.isnan(np.asarray(t.scores))).compact() for name, t in scored.items()}
    there = {speaker for trials in complete_lists.values() for speaker in benchmark.speakers_of(trials)}
    column = {speaker: number for number, speaker in enumerate(sorted(there))}
    for name, complete in complete_lists.items():
        n_missing = len(scored[name]) - len(complete)
        itself, repeated = same_recording(complete), complete.is_repeated
        kept = {PUBLISHED: np.ones(len(complete), dtype=bool), STRICT: ~itself & ~repeated}
        speakers = benchmark.speakers_of(complete)
        found: dict[str, VerificationResult] = {}
        try:
            for version in versions:
                if found and kept[version].all():  # nothing to leave out: the same trials once more
                    found[version] = found[PUBLISHED]
                else:
                    part = complete.take(kept[version])
                    found[version] = evaluate(part, speakers, intervals=intervals, column=column, p_target=p_target)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        yield ConditionResult(name, complete, int(itself.sum()), int(repeated.sum()), n_missing, found)


def aggregate_estimates(outcomes: Sequence[ConditionResult], version: str) -> dict[str, Estimate]:
    """The aggregates of CASE and the means of the categories, with intervals; of all its protocols.

    n is the number of trials behind them. An aggregate's error is that of the protocols' rates, each weighted by how
    much the aggregate changes with it; the ratio's interval is multiplicative.
    """
    details = {outcome.protocol: outcome.eer(version) for outcome in outcomes}
    rates = {name: float(one.estimate.value or 0.0) for name, one in details.items()}
    n = sum(one.estimate.n for one in details.values())
    slopes = {name: _slopes(rates, name) for name in rates}
    why = "there are no errors on clean speech to divide by"
    found = {}
    for name, value in aggregate_eers(rates).by_name.items():
        can_be = {"degradation_factor": DIFFERENCE, "case_score_v1": COST}.get(name, SHARE)
        parts = [(slopes[protocol][name], one) for protocol, one in details.items() if slopes[protocol][name]]
        found[name] = combined_estimate(value, parts, n=n, values=can_be, why=why)
    return found


def _slopes(rates: Mapping[str, float], protocol: str) -> dict[str, float]:
    """How fast each aggregate changes with the rate of a protocol."""
    rate = rates[protocol]
    below, above = max(rate - STEP, rate / 2), rate + STEP
    high, low = (aggregate_eers({**rates, protocol: moved}).by_name for moved in (above, below))
    change = {name: (high[name] - low[name]) / (above - below) for name in high}
    return {name: slope if np.isfinite(slope) else 0.0 for name, slope in change.items()}

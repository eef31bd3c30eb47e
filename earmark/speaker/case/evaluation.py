"""Evaluation of a system on CASE under two scorings.

published  all trials of the lists; equal error rate as computed by the CASE tool
strict     without trials that compare a recording with itself and without repeated trials; equal error rate on the
           ROC convex hull
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.detection_intervals import MetricEstimate, combined_estimate
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COST, DIFFERENCE, SHARE
from earmark.speaker.case.benchmark import Benchmark, compares_same_recording
from earmark.speaker.case.conditions import PUBLISHED, STRICT, aggregate_eers, category
from earmark.speaker.case.schema import ConditionAtThresholds, ConditionScores, ConditionSummary
from earmark.speaker.evaluation import VerificationResult, evaluate
from earmark.speaker.operating_points import (
    NamedThresholds,
    apply_thresholds,
    choose_operating_points,
    thresholds_of,
)
from earmark.speaker.schema import OperatingPointSummary
from earmark.speaker.trials import Trials

FloatArray = NDArray[np.float64]
EER_METRIC = {PUBLISHED: "eer_case", STRICT: "eer"}
CLEAN_CONDITION = "clean_clean"
DERIVATIVE_STEP = 1e-6  # change of an equal error rate in numerical derivatives


@dataclass(frozen=True)
class ConditionResult:
    """Results of one condition.

    Attributes
    ----------
    condition : str
    trials : Trials
        All trials that have a score.
    n_self_trials, n_repeated_trials, n_missing : int
        As in `ConditionSummary`.
    by_scoring : dict
        "published" or "strict" to metrics.
    """

    condition: str
    trials: Trials
    n_self_trials: int
    n_repeated_trials: int
    n_missing: int
    by_scoring: dict[str, VerificationResult]

    def eer(self, scoring: str) -> MetricEstimate:
        """The equal error rate as defined by a scoring."""
        return self.by_scoring[scoring].details[EER_METRIC[scoring]]

    @property
    def summary(self) -> ConditionSummary:
        """The record for summary.json and protocols.csv."""
        return ConditionSummary(
            protocol=self.condition,
            category=category(self.condition),
            n_self_trials=self.n_self_trials,
            n_repeated_trials=self.n_repeated_trials,
            n_missing=self.n_missing,
            published=self._scores(PUBLISHED),
            strict=self._scores(STRICT),
        )

    def _scores(self, scoring: str) -> ConditionScores | None:
        if scoring not in self.by_scoring:
            return None
        result = self.by_scoring[scoring]
        return ConditionScores(
            n_trials=result.counts.n_trials,
            n_target=result.counts.n_target,
            eer=self.eer(scoring).estimate,
            min_dcf=result.metrics["min_dcf"],
            threshold=result.threshold,
        )


@dataclass(frozen=True)
class ThresholdShift:
    """Thresholds of one condition or run, and what they give on every condition.

    Attributes
    ----------
    condition : str
        The condition whose operating points are chosen.
    eer_threshold : float
        Threshold of its interpolated equal error rate.
    chosen : list of OperatingPointSummary
        Its operating points.
    applied : NamedThresholds
        The thresholds that are applied to all conditions.
    by_condition : list of ConditionAtThresholds
    """

    condition: str
    eer_threshold: float
    chosen: list[OperatingPointSummary]
    applied: NamedThresholds
    by_condition: list[ConditionAtThresholds]


def threshold_shift(
    results: Sequence[ConditionResult],
    scoring: str,
    rates: Iterable[float],
    p_target: float,
    given: NamedThresholds | None = None,
) -> ThresholdShift:
    """Apply thresholds that suit one condition to all of them: the shift that deployment would meet.

    Parameters
    ----------
    results : sequence of ConditionResult
    scoring : str
        "published" or "strict".
    rates : iterable of float
        False alarm rates of the operating points.
    p_target : float
        Target prior of the lowest cost.
    given : NamedThresholds, optional
        Thresholds of another run; those of clean_clean by default, or of the first condition without it.

    Returns
    -------
    ThresholdShift
    """
    reference = next((result for result in results if result.condition == CLEAN_CONDITION), results[0])
    scored = {result.condition: result.by_scoring[scoring].scored for result in results}
    own = scored[reference.condition]
    assert own is not None
    chosen, eer_threshold = choose_operating_points(own, rates, p_target), reference.by_scoring[scoring].threshold
    applied = given or NamedThresholds(reference.condition, thresholds_of(chosen, eer_threshold))
    by_condition = [
        ConditionAtThresholds(protocol=name, points=apply_thresholds(trials, applied.thresholds))
        for name, trials in scored.items()
        if trials is not None
    ]
    return ThresholdShift(reference.condition, eer_threshold, chosen, applied, by_condition)


def det_curves(results: Iterable[ConditionResult]) -> dict[str, list[tuple[FloatArray, FloatArray]]]:
    """DET curves of all conditions, grouped by category.

    Returns
    -------
    dict
        Category to list of (false alarm rates, miss rates) on probit axes, one per condition, over all trials.
    """
    curves: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    for result in results:
        roc = detection.roc(np.asarray(result.trials.scores), np.asarray(result.trials.labels))
        curves.setdefault(category(result.condition), []).append(detection.det_curve(roc))
    return curves


def evaluate_conditions(
    benchmark: Benchmark,
    scored_lists: Mapping[str, Trials],
    *,
    scorings: Iterable[str],
    intervals: bool,
    p_target: float,
) -> Iterator[ConditionResult]:
    """Compute the metrics of each condition.

    Parameters
    ----------
    benchmark : Benchmark
        Supplies the speaker of each utterance.
    scored_lists : mapping
        Condition to labelled trials with scores; trials with score NaN are excluded and counted in `n_missing`.
    scorings : iterable of str
        "published", "strict" or both.
    intervals : bool
        Whether to compute 95 % confidence intervals.
    p_target : float
        Target prior of the detection costs, in (0, 1).

    Yields
    ------
    ConditionResult
        In the order of `scored_lists`. Speakers have the same index in all conditions, so that
        `aggregate_estimates` can combine the conditions' variances.

    Raises
    ------
    ValueError
        If a condition has no target or no non-target trials.
    """
    complete_lists = {
        name: trials.take(~np.isnan(np.asarray(trials.scores))).compact() for name, trials in scored_lists.items()
    }
    all_speakers = {speaker for trials in complete_lists.values() for speaker in benchmark.speakers_of(trials)}
    speaker_index = {speaker: index for index, speaker in enumerate(sorted(all_speakers))}
    for name, complete in complete_lists.items():
        n_missing = len(scored_lists[name]) - len(complete)
        is_self, is_repeated = compares_same_recording(complete), complete.is_repeated
        selected = {PUBLISHED: np.ones(len(complete), dtype=bool), STRICT: ~is_self & ~is_repeated}
        speakers = benchmark.speakers_of(complete)
        by_scoring: dict[str, VerificationResult] = {}
        try:
            for scoring in scorings:
                if by_scoring and selected[scoring].all():  # strict excludes nothing: same trials as published
                    by_scoring[scoring] = by_scoring[PUBLISHED]
                else:
                    part = complete.take(selected[scoring])
                    by_scoring[scoring] = evaluate(
                        part, speakers, intervals=intervals, speaker_numbers=speaker_index, p_target=p_target
                    )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        yield ConditionResult(name, complete, int(is_self.sum()), int(is_repeated.sum()), n_missing, by_scoring)


def aggregate_estimates(results: Sequence[ConditionResult], scoring: str) -> dict[str, Estimate]:
    """Aggregate scores of CASE and category means, with confidence intervals.

    Parameters
    ----------
    results : sequence of ConditionResult
        All 24 conditions, evaluated with shared speaker indices.
    scoring : str
        "published" or "strict".

    Returns
    -------
    dict
        Aggregate or category to estimate; `n` is the number of trials of all conditions. case_score_v1 is undefined
        if the equal error rate on clean speech is 0.

    Notes
    -----
    Standard errors use the delta method: the conditions' equal error rates are weighted by the numerical derivatives
    of the aggregate. The interval of case_score_v1 is multiplicative.
    """
    details = {result.condition: result.eer(scoring) for result in results}
    rates = {name: float(detail.estimate.value or 0.0) for name, detail in details.items()}
    n = sum(detail.estimate.n for detail in details.values())
    derivatives = {name: aggregate_derivatives(rates, name) for name in rates}
    reason = "the equal error rate on clean speech is 0"
    estimates = {}
    for name, value in aggregate_eers(rates).by_name.items():
        value_range = {"degradation_factor": DIFFERENCE, "case_score_v1": COST}.get(name, SHARE)
        parts = [
            (derivatives[condition][name], detail)
            for condition, detail in details.items()
            if derivatives[condition][name]
        ]
        estimates[name] = combined_estimate(value, parts, n=n, values=value_range, why=reason)
    return estimates


def aggregate_derivatives(rates: Mapping[str, float], condition: str) -> dict[str, float]:
    """Numerical derivative of each aggregate with respect to the rate of a condition; 0 if it is not finite."""
    rate = rates[condition]
    below, above = max(rate - DERIVATIVE_STEP, rate / 2), rate + DERIVATIVE_STEP
    high, low = (aggregate_eers({**rates, condition: changed}).by_name for changed in (above, below))
    change = {name: (high[name] - low[name]) / (above - below) for name in high}
    return {name: slope if np.isfinite(slope) else 0.0 for name, slope in change.items()}

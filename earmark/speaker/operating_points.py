"""Operating points of a list: thresholds for false alarm rates and costs, and what thresholds of another list give."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from earmark.errors import EarmarkError, shown_path
from earmark.metrics.detection import LabelledScores
from earmark.metrics.operating_points import (
    ErrorsAtThreshold,
    errors_at_false_alarm_rate,
    errors_at_threshold,
    lowest_cost_point,
)
from earmark.report.provenance import output_path
from earmark.report.signature import Signature
from earmark.speaker.schema import OperatingPointSummary, TransferredThresholds

EER_POINT = "equal error rate"
SCORE_SCALE = ("scores", "mean", "top_n", "calibration")  # parts of the back end that thresholds depend on


@dataclass(frozen=True)
class NamedThresholds:
    """Thresholds of another run.

    Attributes
    ----------
    source : str
        The list or condition that they were chosen on.
    thresholds : mapping
        {operating point: threshold}; points that were undefined there are missing.
    note : str
        Why they may not suit the evaluated system; empty if nothing speaks against them.
    """

    source: str
    thresholds: Mapping[str, float]
    note: str = ""


def false_alarm_point(rate: float) -> str:
    """Name of an operating point.

    Examples
    --------
    >>> false_alarm_point(0.001)
    'false alarm rate 0.1 %'
    """
    return f"false alarm rate {100 * rate:.6g} %"


def choose_operating_points(
    trials: LabelledScores, rates: Iterable[float], p_target: float
) -> list[OperatingPointSummary]:
    """Choose thresholds on a list, for false alarm rates and for the lowest detection cost.

    Parameters
    ----------
    trials : LabelledScores
        With intervals for `ScoredTrials`.
    rates : iterable of float
        False alarm rates in (0, 1).
    p_target : float
        Target prior of the cost, in (0, 1).

    Returns
    -------
    list of OperatingPointSummary
    """
    points = [
        operating_point(false_alarm_point(rate), errors_at_false_alarm_rate(trials, rate))
        for rate in dict.fromkeys(rates)
    ]
    cost = lowest_cost_point(trials, p_target)
    return [
        *points,
        operating_point(f"lowest cost, P_target = {p_target:g}", errors_at_threshold(trials, cost.threshold)),
    ]


def apply_thresholds(trials: LabelledScores, thresholds: Mapping[str, float]) -> list[OperatingPointSummary]:
    """Error rates of a list at thresholds that were chosen elsewhere.

    Parameters
    ----------
    trials : LabelledScores
    thresholds : mapping
        {operating point: threshold}.
    """
    return [operating_point(name, errors_at_threshold(trials, value)) for name, value in thresholds.items()]


def transferred(trials: LabelledScores, given: NamedThresholds) -> TransferredThresholds:
    """Thresholds of another run on this list, as the record for summary.json."""
    return TransferredThresholds(
        source=given.source, note=given.note, points=apply_thresholds(trials, given.thresholds)
    )


def operating_point(name: str, errors: ErrorsAtThreshold) -> OperatingPointSummary:
    """The record of an operating point for summary.json."""
    return OperatingPointSummary(
        name=name,
        threshold=errors.threshold if np.isfinite(errors.threshold) else None,
        miss_rate=errors.misses.estimate,
        miss_rate_upper_bound=errors.misses.upper_bound,
        false_alarm_rate=errors.false_alarms.estimate,
        false_alarm_rate_upper_bound=errors.false_alarms.upper_bound,
    )


def thresholds_of(points: Sequence[OperatingPointSummary], eer_threshold: float | None = None) -> dict[str, float]:
    """{operating point: threshold} of the points that exist, with the threshold of the equal error rate if given."""
    found = {point.name: point.threshold for point in points if point.threshold is not None}
    return found if eer_threshold is None else {EER_POINT: eer_threshold, **found}


def read_thresholds(path: Path, model: str | None = None, back_end: Mapping[str, Any] | None = None) -> NamedThresholds:
    """Read the thresholds of another run.

    Parameters
    ----------
    path : Path
        summary.json of `trials`, `tidyvoice` or `case`. Of CASE, the thresholds are those of its first condition. A
        summary without operating points gives its threshold at the equal error rate.
    model : str or None
        Identity of the evaluated encoder, None for given scores.
    back_end : mapping or None
        How the evaluated scores were computed; None if the command has no back end.

    Returns
    -------
    NamedThresholds
        With a note if the other run had another model or back end.

    Raises
    ------
    EarmarkError
        If the file is not a summary of `evaluate_speaker.py` or has no threshold.
    """
    advice = "Give the summary.json of `evaluate_speaker.py trials`, `tidyvoice` or `case`."
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        points = [OperatingPointSummary.model_validate(point) for point in summary.get("operating_points", [])]
        eer = summary.get("threshold")
        found = thresholds_of(points, float(eer) if eer is not None else None)
        parts = dict(Signature.parse(str(summary["signature"])).parts)
    except FileNotFoundError as error:
        raise EarmarkError(f"{shown_path(path)}: does not exist. {advice}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EarmarkError(f"{shown_path(path)}: is not a summary of a speaker verification run. {advice}") from error
    if not found:
        raise EarmarkError(f"{shown_path(path)}: has no thresholds; run it again. {advice}")
    notes = []
    other = parts.get("model")
    if other is not None and model is not None and other != Signature.from_parts(model=model)["model"]:
        notes.append(f"the thresholds are those of another model ({other})")
    others = summary.get("back_end")
    if back_end is not None and others is not None:
        notes += [
            f"the scores of the other run were computed differently ({key}: {_described(others.get(key))}, here "
            f"{_described(back_end.get(key))})"
            for key in SCORE_SCALE
            if _described(others.get(key)) != _described(back_end.get(key))
        ]
    condition = summary.get("threshold_condition") or ""
    source = f"{output_path(path)}{f', {condition}' if condition else ''}"
    return NamedThresholds(source, found, "; ".join(notes))


def _described(value: Any) -> str:
    """A part of a back end as text, the same from JSON and from a model."""
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    return "none" if plain is None else str(plain)

"""What the summary.json of `evaluate_speaker.py case` holds."""

from typing import Any

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import Common, Strict


class ProtocolFigures(Strict):
    """One protocol of CASE by one definition."""

    n_trials: int
    n_target: int
    eer: Estimate
    min_dcf: Estimate
    threshold: float


class CaseProtocol(Strict):
    """One protocol of CASE: what its list holds, and its figures as published and strictly."""

    protocol: str
    category: str
    n_self_trials: int
    n_repeated_trials: int
    n_missing: int
    published: ProtocolFigures | None
    strict: ProtocolFigures | None


class CaseSummary(Common):
    """benchmark_outputs/speaker/case/<model>/summary.json; aggregates: {published or strict: {name: estimate}}"""

    model_name: str
    self_made: bool
    n_speakers: int
    protocols: list[CaseProtocol]
    aggregates: dict[str, dict[str, Estimate]]
    encoder: dict[str, Any] = Field(default_factory=dict)

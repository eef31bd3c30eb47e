"""What the summary.json and the results.json of `evaluate_speaker.py case` hold."""

from typing import Any

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class ProtocolFigures(StrictModel):
    """One protocol of CASE by one definition."""

    n_trials: int
    n_target: int
    eer: Estimate
    min_dcf: Estimate
    threshold: float


class CaseProtocol(StrictModel):
    """One protocol of CASE: what its list holds, and its figures as published and strictly."""

    protocol: str
    category: str
    n_self_trials: int
    n_repeated_trials: int
    n_missing: int
    published: ProtocolFigures | None
    strict: ProtocolFigures | None


class CaseSummary(SummaryBase):
    """benchmark_outputs/speaker/case/<model>/summary.json; aggregates: {published or strict: {name: estimate}}"""

    model_name: str
    self_made: bool
    n_speakers: int
    protocols: list[CaseProtocol]
    aggregates: dict[str, dict[str, Estimate]]
    encoder: dict[str, Any] = Field(default_factory=dict)


class CaseConfig(StrictModel):
    """Where the results of a submission come from."""

    benchmark_dir: str
    device: str
    self_made_carriers: bool


class ProtocolResult(StrictModel):
    """One protocol in a submission, by the published definition."""

    eer: float
    eer_threshold: float
    min_dcf: float
    num_trials: int
    num_targets: int
    num_impostors: int


class CaseResults(StrictModel):
    """results.json, which the CASE leaderboard takes. Aggregates that do not exist are None."""

    model_name: str
    clean_eer: float | None
    absolute_eer: float | None
    degradation_factor: float | None
    case_score_v1: float | None
    config: CaseConfig
    category_breakdown: dict[str, float | None]
    protocol_results: dict[str, ProtocolResult]

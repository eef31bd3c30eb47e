"""Schemas of summary.json and results.json of `evaluate_speaker.py case`.

Field names are JSON keys. CASE calls its conditions protocols, hence `protocols` and `protocol_results`.
"""

from typing import Any

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase
from earmark.speaker.schema import OperatingPointSummary


class ConditionScores(StrictModel):
    """Metrics of one condition under one scoring.

    Attributes
    ----------
    n_trials, n_target : int
        Scored trials, and target trials among them.
    eer, min_dcf : Estimate
        Equal error rate in [0, 1] and normalised minimum detection cost.
    threshold : float
        Score at which miss rate and false alarm rate are closest.
    """

    n_trials: int
    n_target: int
    eer: Estimate
    min_dcf: Estimate
    threshold: float


class ConditionSummary(StrictModel):
    """One condition in summary.json.

    Attributes
    ----------
    protocol, category : str
        Name and category of the condition.
    n_self_trials : int
        Trials that compare a recording with itself, possibly under another condition.
    n_repeated_trials : int
        Trials that repeat an earlier line.
    n_missing : int
        Trials without a score.
    published, strict : ConditionScores or None
        None if this scoring was not requested.
    """

    protocol: str
    category: str
    n_self_trials: int
    n_repeated_trials: int
    n_missing: int
    published: ConditionScores | None
    strict: ConditionScores | None


class ConditionAtThresholds(StrictModel):
    """Error rates of one condition at the thresholds of another condition or run."""

    protocol: str
    points: list[OperatingPointSummary]


class CaseSummary(SummaryBase):
    """Contents of benchmark_outputs/speaker/case/<model>/summary.json.

    Attributes
    ----------
    model_name : str
    self_made : bool
        True for simulated conditions, False for the official benchmark.
    n_speakers : int
    protocols : list of ConditionSummary
    aggregates : dict
        Scoring to {aggregate or category: estimate}; empty unless all 24 conditions were evaluated.
    encoder : dict
        Description of the encoder.
    operating_points : list of OperatingPointSummary
        Thresholds chosen on the condition `threshold_condition`, under the last scoring.
    threshold_condition : str
        clean_clean, or the first condition if it was not evaluated.
    threshold : float or None
        Threshold of the interpolated equal error rate of that condition.
    threshold_source, threshold_note : str
        Where the applied thresholds come from, and why they may not suit the system.
    at_thresholds : list of ConditionAtThresholds
        What these thresholds, or those of --threshold-from, give on each condition.
    """

    model_name: str
    self_made: bool
    n_speakers: int
    protocols: list[ConditionSummary]
    aggregates: dict[str, dict[str, Estimate]]
    encoder: dict[str, Any] = Field(default_factory=dict)
    operating_points: list[OperatingPointSummary] = Field(default_factory=list)
    threshold_condition: str = ""
    threshold: float | None = None
    threshold_source: str = ""
    threshold_note: str = ""
    at_thresholds: list[ConditionAtThresholds] = Field(default_factory=list)


class CaseConfig(StrictModel):
    """Origin of the results in results.json."""

    benchmark_dir: str
    device: str
    self_made_carriers: bool


class SubmittedCondition(StrictModel):
    """Published scoring of one condition in results.json."""

    eer: float
    eer_threshold: float
    min_dcf: float
    num_trials: int
    num_targets: int
    num_impostors: int


class CaseResults(StrictModel):
    """Contents of results.json, the format of the CASE leaderboard. Undefined aggregates are None."""

    model_name: str
    clean_eer: float | None
    absolute_eer: float | None
    degradation_factor: float | None
    case_score_v1: float | None
    config: CaseConfig
    category_breakdown: dict[str, float | None]
    protocol_results: dict[str, SubmittedCondition]

"""What the summary.json of `evaluate_speaker.py trials` and `tidyvoice` holds."""

from typing import Any

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import Common, Strict


class Against(Strict):
    """A second system on the same trials: differences (this one less the other) and two-sided p-values."""

    name: str
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    p_values: dict[str, float | None]
    calibration: dict[str, float] | None = None


class Languages(Strict):
    """TidyVoice's breakdown: groups of trials, and the same- and cross-language lists; baseline: as published."""

    why: str
    groups: list[dict[str, str | int | float | None]]
    conditions: list[dict[str, str | int | Estimate]]
    baseline: dict[str, Any]


class SpeakerSummary(Common):
    """benchmark_outputs/speaker/{trials,tidyvoice}/summary.json"""

    n_trials: int
    n_target: int
    n_nontarget: int
    n_speakers: int
    n_self_trials: int
    n_repeated_trials: int
    resampled: str
    units: str = ""
    threshold: float
    metrics: dict[str, Estimate]
    encoder: dict[str, Any] = Field(default_factory=dict)
    back_end: dict[str, Any] = Field(default_factory=dict)
    against: Against | None = None
    languages: Languages | None = None

"""What the summary.json of `anonymize.py` and `analysis.py` hold."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from earmark.annotation.reliability import HumanCeiling
from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class AnonymizeSummary(SummaryBase):
    """annotations/<subset>/summary.json"""

    subset: str
    people: int
    k: int
    unique_people: int
    unique_by: dict[str, int]


class Agreement(BaseModel):
    """Estimates by name, and pairs of raters: {"user_0__user_1": {"n": …, "cohen_kappa_binary": …}}."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Estimate]
    pairs: dict[str, dict[str, Estimate | int]]

    @classmethod
    def from_estimates(
        cls, estimates: Mapping[str, Estimate], pairs: Mapping[str, Mapping[str, Estimate | int]]
    ) -> "Agreement":
        """From both by name."""
        return cls.model_validate({**estimates, "pairs": pairs})

    @property
    def estimates(self) -> dict[str, Estimate]:
        """All of them by name."""
        return self.__pydantic_extra__

    def get(self, name: str) -> Estimate | None:
        """One of them, or None where the scale has no such figure."""
        return self.estimates.get(name)


class AnalysisResult(StrictModel):
    """What `analyse` finds about a subset, but for tables."""

    subset: str
    rating_scale: list[str]
    rows_raw: int
    rows_deduplicated: int
    ratings_used: int
    clips_total: int
    items_total: int
    items_complete: int
    items_incomplete: int
    items_flagged: int
    items_tied: int
    rater_coverage: dict[str, int]
    annotators: list[str]
    smallest_pair_items: int | None = None
    demographics: dict[str, dict[str, int]]
    majority_present_rate: Estimate
    preselection_confirm_rate: Estimate
    human_upper_bound_binary: Estimate
    agreement: Agreement
    human_ceiling: HumanCeiling
    human_ceiling_with_prior: HumanCeiling
    emolia_bench: dict[str, float | int | None]
    slices: dict[str, list[dict[str, str | int | float | Estimate]]]
    raters: list[dict[str, Any]] = Field(default_factory=list)
    raters_who_stand_out: dict[str, list[str]] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)


class AnalysisSummary(AnalysisResult, SummaryBase):
    """analysis_outputs/<subset>/summary.json"""

"""Schemas of the summary.json files of `anonymize.py` and `analysis.py`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from earmark.annotation.reliability import HumanCeiling
from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class AnonymizeSummary(SummaryBase):
    """Contents of annotations/<subset>/summary.json."""

    subset: str
    people: int
    k: int
    unique_people: int
    unique_by: dict[str, int]


class Agreement(BaseModel):
    """Agreement coefficients by name, and Cohen's kappa of each pair of raters.

    Attributes
    ----------
    pairs : dict
        One entry per pair of raters with common items, such as
        {"user_0__user_1": {"n": …, "cohen_kappa_binary": …}}, where n is the number of common items.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Estimate]
    pairs: dict[str, dict[str, Estimate | int]]

    @classmethod
    def from_estimates(
        cls, estimates: Mapping[str, Estimate], pairs: Mapping[str, Mapping[str, Estimate | int]]
    ) -> "Agreement":
        """Combine estimates by name with the entries for pairs of raters."""
        return cls.model_validate({**estimates, "pairs": pairs})

    @property
    def estimates(self) -> dict[str, Estimate]:
        """All estimates by name, without those of pairs."""
        return self.__pydantic_extra__

    def get(self, name: str) -> Estimate | None:
        """One estimate, or None if the scale does not define it."""
        return self.estimates.get(name)


class AnalysisResult(StrictModel):
    """Results of `analyse` for one subset, without the tables."""

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
    """Contents of analysis_outputs/<subset>/summary.json."""

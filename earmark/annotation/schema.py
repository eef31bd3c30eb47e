"""Schemas of the summary.json files of `anonymize.py` and `analysis.py`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from earmark.annotation.gold import GoldSummary
from earmark.annotation.machines import MachineRater
from earmark.annotation.reliability import HumanCeiling
from earmark.annotation.subsets import ScaleName
from earmark.metrics.estimate import Estimate
from earmark.metrics.resample import Resample
from earmark.report.schema import StrictModel, SummaryBase


class AnonymizeSummary(SummaryBase):
    """Contents of annotations/<subset>/summary.json.

    Attributes
    ----------
    subset : str
    people : int
        Number of users.
    k : int
        k-anonymity over the published demographic columns; 0 without users.
    unique_people : int
        Number of users whose demographics no other user has.
    unique_by : dict of str to int
        Number of users with a unique value, for each demographic column.
    """

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


class RaterChecks(StrictModel):
    """Machines, quality items and what intervals speak for; absent from summary.json where nothing was asked for.

    Attributes
    ----------
    machines : list of MachineRater
        Machines among the raters.
    gold : GoldSummary or None
        Quality items.
    resample : {"clips", "raters", "both"}
        What intervals speak for.
    """

    omitted_when_default: ClassVar[frozenset[str]] = frozenset({"machines", "gold", "resample"})

    machines: list[MachineRater] = Field(default_factory=list)
    gold: GoldSummary | None = None
    resample: Resample = "clips"


class RatedItems(RaterChecks):
    """What the results of every subset begin with.

    Attributes
    ----------
    subset : str
    rating_scale : list of str
        Levels from low to high, or classes; empty on an interval scale.
    rows_raw, rows_deduplicated, ratings_used : int
        Number of ratings in annotations.csv, after removal of superseded ratings and withdrawn consent, and after all
        exclusions.
    clips_total, items_total : int
    items_complete, items_incomplete : int
        Number of items with at least, and with fewer than, the required number of raters.
    items_flagged, items_tied : int
        items_tied is None on an interval scale.
    rater_coverage : dict of str to int
        Number of items by number of raters.
    annotators : list of str
        Usernames of the raters.
    smallest_pair_items : int or None
        Smallest number of common items of two raters; None without common items.
    demographics : dict of str to dict of str to int
        Number of raters with each value, by demographic column.
    """

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
    items_tied: int | None = None
    rater_coverage: dict[str, int]
    annotators: list[str]
    smallest_pair_items: int | None = None
    demographics: dict[str, dict[str, int]]


class AnalysisResult(RatedItems):
    """Results of `analyse` for one subset, without the tables.

    Attributes
    ----------
    items_tied : int
        Items with equally many present and absent ratings.
    majority_present_rate, preselection_confirm_rate : Estimate
        Share of items with a majority whose majority is present, and is the label expected from sampling.
    human_upper_bound_binary : Estimate
        Percent agreement on present/absent.
    agreement : Agreement
    human_ceiling, human_ceiling_with_prior : HumanCeiling
        Without and with the sampling prior as a further rater.
    emolia_bench : dict
        The metrics of emolia-bench by its own definitions; None where undefined.
    slices : dict of str to list of dict
        Rows of the summary tables.
    raters : list of dict
        Rows of the table of raters.
    raters_who_stand_out : dict of str to list of str
        Flagged raters with the reasons.
    warnings : list of str
        Warnings about the spelling of keys.
    """

    items_tied: int
    majority_present_rate: Estimate
    preselection_confirm_rate: Estimate | None
    human_upper_bound_binary: Estimate
    agreement: Agreement
    human_ceiling: HumanCeiling
    human_ceiling_with_prior: HumanCeiling | None
    emolia_bench: dict[str, float | int | None]
    slices: dict[str, list[dict[str, str | int | float | Estimate]]]
    raters: list[dict[str, Any]] = Field(default_factory=list)
    raters_who_stand_out: dict[str, list[str]] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)


class AnalysisSummary(AnalysisResult, SummaryBase):
    """Contents of analysis_outputs/<subset>/summary.json."""


class ScaleResult(RatedItems):
    """Results of `analyse_scale` for a subset without a decision between present and absent.

    Attributes
    ----------
    scale : {"binary", "nominal", "ordinal", "interval"}
    agreement : Agreement
        Coefficients of the scale by name, and the statistics of each pair of raters.
    specific_agreement : dict of str to Estimate
        Agreement specific to each class; empty unless the scale is nominal.
    slices : dict of str to list of dict
        For each column of `Subset.by` one row per value: the value, `items`, and the coefficients of its items.
    raters : list of dict
        Rows of the table of raters.
    raters_who_stand_out : dict of str to list of str
        Flagged raters with the reasons.
    warnings : list of str
    """

    scale: ScaleName
    agreement: Agreement
    specific_agreement: dict[str, Estimate] = Field(default_factory=dict)
    slices: dict[str, list[dict[str, str | int | float | Estimate]]] = Field(default_factory=dict)
    raters: list[dict[str, Any]] = Field(default_factory=list)
    raters_who_stand_out: dict[str, list[str]] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)


class ScaleSummary(ScaleResult, SummaryBase):
    """Contents of analysis_outputs/<subset>/summary.json for a subset without a decision."""

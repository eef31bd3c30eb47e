"""What the summary.json of `compare.py` holds."""

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class ComparedResult(StrictModel):
    """A result that is compared: its name, where it lies, its signature, its training step."""

    name: str
    folder: str
    signature: str
    step: int | None = None


class ComparisonRow(StrictModel):
    """A system against the reference: one metric of all items, or of one slice.

    `slice` is the column that slices, empty for all items. `difference`: system less reference.
    """

    metric: str
    slice: str = ""
    value_of_slice: str = ""
    system: str
    reference: str
    value: float | None
    reference_value: float | None
    difference: Estimate
    p: float | None = None
    p_holm: float | None = None
    p_mcnemar: float | None = None
    minimum_detectable: float | None = None
    n: int = 0
    tied_with_best: bool | None = None
    reference_tied_with_best: bool | None = None


class SystemScore(StrictModel):
    """A system on one metric of all items, or of one slice: its value, and its rank among all systems.

    `rank` is 1 for the best system and all that are tied with it; None without intervals of the differences.
    """

    metric: str
    slice: str = ""
    value_of_slice: str = ""
    system: str
    step: int | None = None
    value: Estimate
    rank: int | None = None
    tied_with_best: bool | None = None
    n: int = 0


class CompareSummary(SummaryBase):
    """benchmark_outputs/compare/<names>/summary.json"""

    suite: str
    systems: list[ComparedResult]
    n_items: int
    n_left_out: int
    flips: int
    notes: list[str]
    comparisons: list[ComparisonRow]
    scores: list[SystemScore] = Field(default_factory=list)

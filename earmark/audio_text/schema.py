"""Schema of the summary.json of benchmark.py."""

from typing import Any

from pydantic import Field

from earmark.annotation.parity import Parity
from earmark.annotation.reliability import HumanCeiling
from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class Metrics(StrictModel):
    """Metrics of a model against the reference labels; counts are fractional for soft labels."""

    balanced_accuracy: Estimate
    accuracy: Estimate
    f1: Estimate
    precision: Estimate
    recall: Estimate
    roc_auc: Estimate
    average_precision: Estimate
    tp: int | float
    fp: int | float
    tn: int | float
    fn: int | float


class CrossFitted(StrictModel):
    """Balanced accuracy at thresholds chosen on other clips.

    Attributes
    ----------
    threshold : float or None
        Median over folds; None if no threshold could be chosen.
    thresholds : list of float
        One per fold.
    balanced_accuracy : Estimate
    """

    threshold: float | None
    thresholds: list[float]
    balanced_accuracy: Estimate


class SliceMetrics(StrictModel):
    """Metrics of one slice: n pairs, n_positive of them labelled present."""

    value: str
    n: int
    n_positive: int | float
    accuracy: Estimate
    balanced_accuracy: Estimate
    f1: Estimate
    roc_auc: Estimate
    average_precision: Estimate


class BenchmarkResult(StrictModel):
    """Metrics that `evaluate_scores` computes.

    `questions_for_people` counts the comparison-only pairs, which are scored for the comparison with raters alone.
    """

    rows_total: int
    rows_evaluated_ok: int
    majority_baseline: float | None
    quality_band: str | None
    quality_band_cross_fitted: str | None
    overall: Metrics
    unanimous_subset: Metrics
    cross_fitted_threshold: CrossFitted
    slices: dict[str, list[SliceMetrics]] = Field(default_factory=dict)
    questions_for_people: int = 0
    questions_for_people_failed: int = 0
    human_parity: Parity | None = None
    human_parity_cross_fitted: Parity | None = None
    warnings: list[str] = Field(default_factory=list)


class BenchmarkSummary(BenchmarkResult, SummaryBase):
    """Content of benchmark_outputs/<subset>/summary.json."""

    subset: str
    mode: str
    endpoint: str | None
    labels: str = "majority"
    threshold: float
    filters: dict[str, Any]
    missing_audio: int
    evaluation_errors: int
    items_tied_excluded: int
    human_ceiling: HumanCeiling | None
    human_ceiling_with_prior: HumanCeiling | None
    scorer: dict[str, Any] = Field(default_factory=dict)

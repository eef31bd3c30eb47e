"""Schema of the summary.json of benchmark.py."""

from typing import Any

from pydantic import Field

from earmark.annotation.parity import PairwiseParity, Parity
from earmark.annotation.reliability import HumanCeiling
from earmark.audio_text.scale_schema import WordingScores
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


class PromptMetrics(StrictModel):
    """Thresholds by prompt and rank correlation within prompts; None in summaries of earlier releases.

    Attributes
    ----------
    prompts, prompts_with_threshold : int or None
        Number of prompts among the evaluated pairs, and of those with a threshold of their own.
    best_threshold : float or None
        The one threshold with the highest balanced accuracy on the evaluated pairs.
    balanced_accuracy_best_threshold, balanced_accuracy_by_prompt : Estimate or None
        At thresholds chosen on the labels they are judged by: optimistic. `_cross_fitted`: thresholds from other clips;
        `_permuted`: mean over similarities permuted within prompts.
    spearman_by_prompt : Estimate or None
    spearman_prompts, spearman_prompts_left_out : int or None
        Number of prompts in the mean, and of those left out.
    spearman_ceiling, spearman_attainable : Estimate or None
        Square root of the split-half reliability of the shares; correlation that the shares of very many raters reach.
    """

    prompts: int | None = None
    prompts_with_threshold: int | None = None
    best_threshold: float | None = None
    balanced_accuracy_best_threshold: Estimate | None = None
    balanced_accuracy_best_threshold_cross_fitted: Estimate | None = None
    balanced_accuracy_best_threshold_permuted: Estimate | None = None
    balanced_accuracy_by_prompt: Estimate | None = None
    balanced_accuracy_by_prompt_cross_fitted: Estimate | None = None
    balanced_accuracy_by_prompt_permuted: Estimate | None = None
    spearman_by_prompt: Estimate | None = None
    spearman_prompts: int | None = None
    spearman_prompts_left_out: int | None = None
    spearman_ceiling: Estimate | None = None
    spearman_attainable: Estimate | None = None


class BenchmarkResult(PromptMetrics):
    """Metrics that `evaluate_scores` computes.

    `questions_for_people` counts the comparison-only pairs with at least three raters, which are scored for the
    comparison with raters and the rank correlation alone; `questions_for_pairs` counts those with two raters.
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
    questions_for_pairs: int = 0
    human_parity: Parity | None = None
    human_parity_cross_fitted: Parity | None = None
    pairwise_parity: PairwiseParity | None = None
    pairwise_parity_cross_fitted: PairwiseParity | None = None
    warnings: list[str] = Field(default_factory=list)
    wordings: WordingScores | None = None


class BenchmarkSummary(BenchmarkResult, SummaryBase):
    """Content of benchmark_outputs/<subset>/summary.json.

    `name` is the name that the user gave the model, `resample` what intervals of the comparison with raters speak for.
    """

    subset: str
    mode: str
    name: str | None = None
    protocol: str = "earmark"
    endpoint: str | None
    labels: str = "majority"
    resample: str = "clips"
    threshold: float
    filters: dict[str, Any]
    missing_audio: int
    evaluation_errors: int
    items_tied_excluded: int
    human_ceiling: HumanCeiling | None
    human_ceiling_with_prior: HumanCeiling | None
    scorer: dict[str, Any] = Field(default_factory=dict)

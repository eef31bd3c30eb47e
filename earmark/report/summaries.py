"""What each summary.json holds, as models that write and read it.

A file of an earlier release must still load: fields are added with a default, and never change their meaning.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earmark.errors import EarmarkError, shown_path


class Strict(BaseModel):
    """A model that knows all its keys and admits neither NaN nor infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Estimate(Strict):
    """A number with its 95 % interval and n; null with `why` where it does not exist.

    note: what to know before trusting the interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    why: str | None = None
    note: str | None = None


class Input(Strict):
    """A file that was read."""

    path: str
    sha256: str
    rows: int


class Exclusion(Strict):
    """Something left out, and how much of it."""

    reason: str
    count: int


class Common(Strict):
    """What every summary begins with."""

    schema_version: int
    script: str
    argv: list[str]
    created_utc: str
    git: dict[str, str | bool | None]
    python: str
    packages: dict[str, str]
    device: str
    seed: int
    signature: str
    inputs: list[Input]
    parameters: dict[str, Any]
    exclusions: list[Exclusion]


class AnonymizeSummary(Common):
    """annotations/<subset>/summary.json"""

    subset: str
    people: int
    k: int
    unique_people: int
    unique_by: dict[str, int]


class Ceiling(Strict):
    """How well a person predicts the others."""

    pairwise_accuracy: Estimate
    pairwise_balanced_accuracy: Estimate
    pairwise_accuracy_weighted: Estimate
    pairwise_balanced_accuracy_weighted: Estimate
    pairwise_balanced_accuracy_pooled: Estimate | None = None
    loo_accuracy: Estimate
    loo_balanced_accuracy: Estimate
    loo_n_annotations: int


class Agreement(BaseModel):
    """Estimates by name, and pairs of raters: {"user_0__user_1": {"n": …, "cohen_kappa_binary": …}}."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Estimate]
    pairs: dict[str, dict[str, Estimate | int]]


class AnalysisSummary(Common):
    """analysis_outputs/<subset>/summary.json"""

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
    human_ceiling: Ceiling
    human_ceiling_with_prior: Ceiling
    emolia_bench: dict[str, float | int | None]
    slices: dict[str, list[dict[str, str | int | float | Estimate]]]
    raters: list[dict[str, Any]] = Field(default_factory=list)
    raters_who_stand_out: dict[str, list[str]] = Field(default_factory=dict)


class Metrics(Strict):
    """A scorer against labels."""

    balanced_accuracy: Estimate
    accuracy: Estimate
    f1: Estimate
    precision: Estimate
    recall: Estimate
    roc_auc: Estimate
    average_precision: Estimate
    tp: int | float  # shares of items under soft labels
    fp: int | float
    tn: int | float
    fn: int | float


class CrossFitted(Strict):
    """Balanced accuracy at thresholds chosen on other clips."""

    threshold: float | None
    thresholds: list[float]
    balanced_accuracy: Estimate


class Parity(Strict):
    """Balanced accuracy of a model in each person's place, of a person there, and their difference."""

    n: int
    model: Estimate
    person: Estimate
    difference: Estimate
    p: float | None


class SliceMetrics(Strict):
    """The questions of one slice."""

    value: str
    n: int
    n_positive: int | float
    accuracy: Estimate
    balanced_accuracy: Estimate
    f1: Estimate
    roc_auc: Estimate
    average_precision: Estimate


class BenchmarkSummary(Common):
    """benchmark_outputs/<subset>/summary.json"""

    subset: str
    mode: str
    endpoint: str | None
    labels: str = "majority"
    threshold: float
    filters: dict[str, Any]
    rows_total: int
    rows_evaluated_ok: int
    missing_audio: int
    evaluation_errors: int
    items_tied_excluded: int
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
    human_ceiling: Ceiling | None
    human_ceiling_with_prior: Ceiling | None
    scorer: dict[str, Any] = Field(default_factory=dict)


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


class ProbeRow(Strict):
    """A score of one task by one track and protocol; layer: null for the encoder's own output."""

    task: str
    formal_name: str
    domain: str
    track: str
    protocol: str
    metric: str
    score: Estimate
    n_test: int
    weight: float
    private: bool
    folds: int
    seeds: int
    seconds: float
    layer: int | None = None
    shots: int | None = None
    chosen: str = ""


class ProbeAverage(Strict):
    """Means over tasks whose metric is a score. scope: public, or all, with private tasks and your own."""

    track: str
    protocol: str
    scope: str
    n_tasks: int
    weighted: float | None
    unweighted: float
    test_size: float
    layer: int | None = None


class FailedTask(Strict):
    """What could not be probed, and why: a task, or one track and protocol of it."""

    task: str
    track: str
    protocol: str
    error: str


class SkippedTask(Strict):
    """What was not asked of a task, and why: a track that it does not have, or data that are private."""

    task: str
    reason: str


class SharedSources(Strict):
    """A task in whose folds or splits (parts) some sources have clips on both sides; strict: how that protocol divides
    the clips instead. shared_test_clips: those whose source also trains.
    """

    task: str
    parts: str
    sources: int
    spanning: int
    test_clips: int
    shared_test_clips: int
    strict: str


class ProbeSummary(Common):
    """benchmark_outputs/probe/<encoder>/summary.json"""

    encoder_name: str
    encoder: dict[str, Any]
    scores: list[ProbeRow]
    averages: list[ProbeAverage]
    failed: list[FailedTask]
    skipped: list[SkippedTask]
    shared_sources: list[SharedSources] = Field(default_factory=list)


Summary = TypeVar("Summary", bound=Common)


def to_json(model: type[Summary], data: dict[str, Any]) -> str:
    """The data as JSON text, after the model has found it whole and finite; keys keep their order."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    model.model_validate_json(text)
    return text + "\n"


def read_summary(model: type[Summary], path: Path) -> Summary:
    """A summary that some run wrote, of this release or an earlier one. EarmarkError names what is wrong with it."""
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[:3]
        raise EarmarkError(f"{shown_path(path)} is no {model.__doc__}: {' '.join(first)}; make it again.") from error


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "as_dict"):
        return value.as_dict()
    raise TypeError(f"{type(value).__name__} does not belong in a summary")

"""What the summary.json of `evaluate_speaker.py trials` and `tidyvoice` holds."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Self

from pydantic import Field

from earmark.metrics.calibration import LinearCalibration
from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class Calibration(StrictModel):
    """scale · score + offset is the log-likelihood ratio."""

    scale: float
    offset: float

    @classmethod
    def from_fit(cls, fitted: LinearCalibration | None) -> Self | None:
        """As a summary holds it; None for none."""
        return cls(**asdict(fitted)) if fitted is not None else None


class BackEndSummary(StrictModel):
    """What happened between embeddings and scores. A file holds what was said of this run, not the defaults.

    scores: how they were made, or given. mean: none, cohort or a file. cohort_embeddings: their file, where they have
    one of their own. cohort_speakers_in_trials: None where nobody can tell.
    """

    scores: str = ""
    mean: str | None = None
    cohort_speakers: int | None = None
    cohort_embeddings: str | None = None
    top_n: int | None = None
    enrolment_models: int | None = None
    calibration: Calibration | None = None
    calibration_pairs_in_trials: int = 0
    cohort_speakers_in_trials: int | None = 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # pydantic has a generator here
        return ((name, value) for name, value in super().__iter__() if name in self.model_fields_set)

    @property
    def parameters(self) -> dict[str, Any]:
        """What of it decides the numbers."""
        return self.model_dump(exclude_unset=True, exclude={"cohort_speakers_in_trials"})


class ComparedSystem(StrictModel):
    """A second system on the same trials: differences (this one less the other) and two-sided p-values."""

    name: str
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    p_values: dict[str, float | None]
    calibration: Calibration | None = None


class TrialGroup(StrictModel):
    """One kind of trial. error: "miss rate" of targets or "false alarm rate" of the others, at the pooled threshold.

    mean_score and rate are None where the list has no such trial.
    """

    name: str
    n: int
    mean_score: float | None
    error: str
    rate: float | None


class LanguageCondition(StrictModel):
    """Targets and non-targets of one condition of language. Rates have no value, but a reason, where one is lacking."""

    name: str
    n_target: int
    n_nontarget: int
    eer: Estimate
    min_dcf: Estimate


class PublishedRates(StrictModel):
    """Of the baseline on one list, as shares."""

    eer: float
    min_dcf: float


class PublishedBaseline(StrictModel):
    """The published baseline. results: {list: its rates}."""

    model: str
    training: str
    results: dict[str, PublishedRates]


class LanguageBreakdown(StrictModel):
    """TidyVoice's breakdown: groups of trials, and the same- and cross-language lists; why: there are none."""

    why: str
    groups: list[TrialGroup]
    conditions: list[LanguageCondition]
    baseline: PublishedBaseline


class SpeakerSummary(SummaryBase):
    """benchmark_outputs/speaker/{trials,tidyvoice}/summary.json"""

    # speakers_from: {map, path, linked or itself: utterances whose speaker that says}, see `speaker.speakers`.
    # notes: what the user was warned about that bears on the numbers.

    n_trials: int
    n_target: int
    n_nontarget: int
    n_speakers: int
    n_self_trials: int
    n_repeated_trials: int
    resampled: str
    units: str = ""
    speakers_from: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    threshold: float
    metrics: dict[str, Estimate]
    encoder: dict[str, Any] = Field(default_factory=dict)
    back_end: BackEndSummary = Field(default_factory=BackEndSummary)
    against: ComparedSystem | None = None
    languages: LanguageBreakdown | None = None

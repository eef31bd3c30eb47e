"""Schema of summary.json of `evaluate_speaker.py trials` and `tidyvoice`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Self

from pydantic import Field

from earmark.metrics.calibration import LinearCalibration
from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class Calibration(StrictModel):
    """Linear calibration: the log-likelihood ratio is scale · score + offset."""

    scale: float
    offset: float

    @classmethod
    def from_fit(cls, fitted: LinearCalibration | None) -> Self | None:
        """Convert a fitted calibration; None if there is none."""
        return cls(**asdict(fitted)) if fitted is not None else None


class BackEndSummary(StrictModel):
    """How scores were computed from embeddings. The file contains only the fields that were set.

    Attributes
    ----------
    scores : str
        The scoring method, or given for scores from a file.
    mean : str or None
        The subtracted mean: none, cohort or the name of a file.
    cohort_speakers : int or None
        Number of cohort speakers.
    cohort_embeddings : str or None
        File of the cohort's precomputed embeddings, if there is a separate one.
    top_n : int or None
        Number of most similar cohort speakers that AS-norm used.
    enrolment_models : int or None
        Number of enrolment models of several utterances.
    calibration : Calibration or None
    calibration_pairs_in_trials : int
        Number of pairs of the calibration list that are also evaluated.
    cohort_speakers_in_trials : int or None
        Number of cohort speakers that are also in the trials; None if unknown.
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
        """The fields that affect the metrics."""
        return self.model_dump(exclude_unset=True, exclude={"cohort_speakers_in_trials"})


class ComparedSystem(StrictModel):
    """A second system on the same trials.

    Attributes
    ----------
    name : str
        Name of its score file.
    metrics : dict
        {metric name: its estimate}.
    differences : dict
        {metric name: evaluated system minus this system}.
    p_values : dict
        {metric name: two-sided p-value of the difference}; None where undefined.
    calibration : Calibration or None
    """

    name: str
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    p_values: dict[str, float | None]
    calibration: Calibration | None = None


class TrialGroup(StrictModel):
    """Error rate of one group of trials, at the threshold of all trials.

    Attributes
    ----------
    name : str
    n : int
        Number of trials.
    mean_score : float or None
        None if there are no trials.
    error : str
        "miss rate" for targets, "false alarm rate" for non-targets.
    rate : float or None
        In [0, 1]; None if there are no trials.
    """

    name: str
    n: int
    mean_score: float | None
    error: str
    rate: float | None


class LanguageCondition(StrictModel):
    """Metrics of the trials with a language condition, such as same language.

    The estimates are undefined, with a reason, if there are no targets or no non-targets.
    """

    name: str
    n_target: int
    n_nontarget: int
    eer: Estimate
    min_dcf: Estimate


class PublishedRates(StrictModel):
    """Published rates of the baseline on one list, in [0, 1]."""

    eer: float
    min_dcf: float


class PublishedBaseline(StrictModel):
    """The published baseline: model, training data and {list: its rates}."""

    model: str
    training: str
    results: dict[str, PublishedRates]


class LanguageBreakdown(StrictModel):
    """TidyVoice results by language.

    Attributes
    ----------
    why : str
        The reason if there are no results by language; else empty.
    groups : list of TrialGroup
        {target, non-target} × {same language, different languages}.
    conditions : list of LanguageCondition
        All trials, same-language trials, cross-language trials.
    baseline : PublishedBaseline
    """

    why: str
    groups: list[TrialGroup]
    conditions: list[LanguageCondition]
    baseline: PublishedBaseline


class TrialKind(StrictModel):
    """Metrics of one kind of trials, such as targets of different languages and non-targets of the same language.

    The estimates are undefined, with a reason, if there are no targets or no non-targets.

    Attributes
    ----------
    targets, nontargets : str
        Such as "same language", or all.
    n_target, n_nontarget : int
    eer, min_dcf : Estimate
    published_eer : float or None
        Equal error rate of the published baseline on its own list, in [0, 1].
    """

    targets: str
    nontargets: str
    n_target: int
    n_nontarget: int
    eer: Estimate
    min_dcf: Estimate
    published_eer: float | None = None


class ConditionBreakdown(StrictModel):
    """Results by an attribute of the utterances.

    Attributes
    ----------
    name : str
        The attribute.
    source : str
        File or paths that its values come from.
    why : str
        Why there are no results; empty otherwise.
    n_unknown : int
        Trials without a value on either side, which are not in these results.
    kinds : list of TrialKind
        All trials, and the four kinds.
    equalised_eer : Estimate or None
        Equal error rate in which the four groups of trials count alike.
    equalised_min_dcf : Estimate or None
        The same for minDCF, without an interval.
    dependence : Estimate or None
        Equal error rate of the hardest kind minus that of the easiest.
    """

    name: str
    source: str
    why: str = ""
    n_unknown: int = 0
    kinds: list[TrialKind] = Field(default_factory=list)
    equalised_eer: Estimate | None = None
    equalised_min_dcf: Estimate | None = None
    dependence: Estimate | None = None


class DesignPredictor(StrictModel):
    """How well a property of the two files predicts the label of a trial.

    Attributes
    ----------
    name : str
    rule : str
        "same value" or "similar value": what is taken as a sign of a target.
    n_unknown : int
        Trials for which it is unknown.
    auc : Estimate
        Area under the ROC curve; 0.5 if it says nothing.
    """

    name: str
    rule: str
    n_unknown: int
    auc: Estimate


class DesignGroup(StrictModel):
    """Size of a group of trials. `n_speakers` is None if speakers are unknown."""

    name: str
    n_trials: int
    n_utterances: int
    n_speakers: int | None
    n_repeated_trials: int


class TrialDesign(StrictModel):
    """What predicts the labels of a list without its voices, and the sizes of its groups."""

    predictors: list[DesignPredictor]
    groups: list[DesignGroup]
    warnings: list[str]


class OperatingPointSummary(StrictModel):
    """A threshold and the error rates that it gives.

    Attributes
    ----------
    name : str
        How the threshold was chosen.
    threshold : float or None
        None where the operating point does not exist.
    miss_rate, false_alarm_rate : Estimate
        In [0, 1]. The interval of a miss rate at a false alarm rate includes the sampling error of the threshold.
    miss_rate_upper_bound, false_alarm_rate_upper_bound : float or None
        One-sided 95 % upper limits; None without intervals.
    """

    name: str
    threshold: float | None
    miss_rate: Estimate
    miss_rate_upper_bound: float | None = None
    false_alarm_rate: Estimate
    false_alarm_rate_upper_bound: float | None = None


class TransferredThresholds(StrictModel):
    """Thresholds that were chosen on another list, and the error rates that they give on this one.

    Attributes
    ----------
    source : str
        The list or condition that they were chosen on.
    note : str
        Why they may not suit the system; empty if nothing speaks against them.
    points : list of OperatingPointSummary
    """

    source: str
    note: str = ""
    points: list[OperatingPointSummary]


class SpeakerSummary(SummaryBase):
    """Schema of benchmark_outputs/speaker/{trials,tidyvoice}/summary.json.

    Attributes
    ----------
    n_trials, n_target, n_nontarget, n_speakers, n_self_trials, n_repeated_trials : int
        As in `evaluation.TrialCounts`.
    resampled : str
        speakers or utterances: the units of the intervals.
    units : str
        The units that count as speakers (`evaluation.SpeakerSource`).
    speakers_from : dict
        {map, path, linked or itself: number of utterances with a speaker from this source}, see `speaker.speakers`.
    notes : list of str
        Warnings that concern the metrics.
    threshold : float
        Threshold at the interpolated equal error rate.
    metrics : dict
        {metric name: its estimate}, as fractions.
    encoder : dict
        Description of the encoder; empty for scores from a file.
    back_end : BackEndSummary
    against : ComparedSystem or None
        The system of --compare-with.
    languages : LanguageBreakdown or None
        Only for TidyVoice.
    by_condition : list of ConditionBreakdown
        Results by language and by the attributes of --condition.
    design : TrialDesign or None
        What predicts the labels without the voices.
    model_name : str
        Name of the system.
    operating_points : list of OperatingPointSummary
        Thresholds chosen on this list.
    transferred : TransferredThresholds or None
        The thresholds of --threshold-from.
    """

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
    by_condition: list[ConditionBreakdown] = Field(default_factory=list)
    design: TrialDesign | None = None
    model_name: str = ""
    operating_points: list[OperatingPointSummary] = Field(default_factory=list)
    transferred: TransferredThresholds | None = None

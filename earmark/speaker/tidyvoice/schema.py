"""Schema of evaluation.json: results on the evaluation lists of TidyVoice, once their keys are released."""

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase
from earmark.speaker.schema import ConditionBreakdown, OperatingPointSummary


class EvaluationListResult(StrictModel):
    """Results on one evaluation list.

    Attributes
    ----------
    n_trials, n_target, n_nontarget, n_speakers : int
        `n_speakers` is 0 if the speakers are unknown.
    units : str
        The units that count as speakers in intervals.
    metrics : dict
        {metric name: its estimate}, as fractions.
    rank, ranked : int
        Place by equal error rate among `ranked` systems: the published ones and this.
    operating_points : list of OperatingPointSummary
    by_condition : list of ConditionBreakdown
        Results by language, if the languages are known.
    """

    n_trials: int
    n_target: int
    n_nontarget: int
    n_speakers: int
    units: str
    metrics: dict[str, Estimate]
    rank: int
    ranked: int
    operating_points: list[OperatingPointSummary]
    by_condition: list[ConditionBreakdown]


class EvaluationSummary(SummaryBase):
    """Contents of benchmark_outputs/speaker/tidyvoice/<model>/evaluation.json.

    Attributes
    ----------
    model_name : str
    lists : dict
        {A or U: its results}.
    """

    model_name: str
    lists: dict[str, EvaluationListResult] = Field(default_factory=dict)

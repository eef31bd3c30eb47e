"""Schema of the summary.json of benchmark.py on nominal, ordinal and interval labels, and of several wordings."""

from typing import Any

from pydantic import Field

from earmark.annotation.parity import Parity
from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class Spread(StrictModel):
    """Smallest, largest and mean score of the wordings, and their standard deviation (n − 1); None for one wording."""

    low: float
    high: float
    mean: float
    sd: float | None


class WordingScore(StrictModel):
    """Scores of one wording.

    Attributes
    ----------
    wording : int
        From 1: the position of its sentences among those of their label.
    n : int
        Number of items that have this wording.
    sentence : str
        Its first sentence, as an example.
    scores : dict of str to Estimate
    """

    wording: int
    n: int
    sentence: str
    scores: dict[str, Estimate]


class WordingScores(StrictModel):
    """Scores of several wordings.

    Attributes
    ----------
    file : str
        The file of --prompts.
    count : int
        Largest number of sentences of a label.
    fewer : dict of str to int
        Number of sentences of each label that has fewer.
    scores : list of WordingScore
    spread : dict of str to Spread
        By name of the score, over the wordings that have one.
    mean_similarity : dict of str to Estimate
        Scores of the mean similarity over the wordings of each item; the headline of the run.
    """

    file: str
    count: int
    fewer: dict[str, int] = Field(default_factory=dict)
    scores: list[WordingScore]
    spread: dict[str, Spread]
    mean_similarity: dict[str, Estimate]


class ClassScores(StrictModel):
    """Scores of one class: n reference items (fractional for soft labels) and the number of answers."""

    name: str
    sentence: str
    n: int | float
    answers: int | float
    recall: Estimate
    precision: Estimate
    f1: Estimate


class SentenceScores(StrictModel):
    """Correlations of the items of one sentence with their mean ratings."""

    label: str
    sentence: str
    n: int
    spearman: Estimate
    pearson: Estimate


class SliceScores(StrictModel):
    """Scores of one slice of n items."""

    value: str
    n: int
    scores: dict[str, Estimate]


class ScaleBenchmarkResult(StrictModel):
    """Scores on a scale without a decision between present and absent.

    Attributes
    ----------
    scale : {"nominal", "ordinal", "interval"}
    items_total, items_evaluated : int
        Items after the filters, and those of them with a score.
    items_tied_excluded : int
        Items whose ratings have no unique most frequent class.
    metrics : dict of str to Estimate
        The headline scores by name.
    classes : list of ClassScores
        Nominal scale only.
    confusion : list of list of int or float
        Reference class by answered class; the last column holds items without an answer. Nominal scale only.
    answers_tied : int
        Items on which several classes have the highest similarity. They have no answer and count as wrong.
    baselines : dict of str to dict of str to float
        Scores of models that read no audio. Nominal scale only.
    sentences : list of SentenceScores
        Ordinal and interval scales with several sentences.
    sentences_left_out : int
        Sentences with fewer than three items or without variation, which enter no mean over sentences.
    equal_footing : dict of str to Parity
        The model and the raters on the same held-out ratings against the same references, by name of the score.
    equal_footing_why : str
        Why there is no such comparison; empty if there is one.
    equal_footing_raters, equal_footing_raters_left_out : int
        Raters who were compared, and those with too few items. Ordinal and interval scales only.
    pairwise : dict of str to Parity
        The model and the raters against each single other rater, on the items that both rated.
    pairwise_why : str
        Why there is no such comparison; empty if there is one, and in summaries of earlier releases.
    pairwise_pairs, pairwise_pairs_left_out : int
        Ordered pairs of raters over which correlations are averaged, and those with too few common items.
    questions_for_people, questions_for_people_failed : int
        Items that were scored for the comparison with raters alone.
    slices : dict of str to list of SliceScores
    wordings : WordingScores or None
    warnings : list of str
    """

    scale: str
    items_total: int
    items_evaluated: int
    items_tied_excluded: int = 0
    metrics: dict[str, Estimate]
    classes: list[ClassScores] = Field(default_factory=list)
    confusion: list[list[int | float]] = Field(default_factory=list)
    answers_tied: int = 0
    baselines: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    sentences: list[SentenceScores] = Field(default_factory=list)
    sentences_left_out: int = 0
    equal_footing: dict[str, Parity] = Field(default_factory=dict)
    equal_footing_why: str = ""
    equal_footing_raters: int = 0
    equal_footing_raters_left_out: int = 0
    pairwise: dict[str, Parity] = Field(default_factory=dict)
    pairwise_why: str = ""
    pairwise_pairs: int = 0
    pairwise_pairs_left_out: int = 0
    questions_for_people: int = 0
    questions_for_people_failed: int = 0
    slices: dict[str, list[SliceScores]] = Field(default_factory=dict)
    wordings: WordingScores | None = None
    warnings: list[str] = Field(default_factory=list)


class ScaleBenchmarkSummary(ScaleBenchmarkResult, SummaryBase):
    """Content of benchmark_outputs/<subset>/summary.json on a nominal, ordinal or interval scale.

    `name` is the name that the user gave the model, `resample` what intervals of the comparison with raters speak for.
    """

    subset: str
    mode: str
    name: str | None = None
    endpoint: str | None
    labels: str = "majority"
    resample: str = "clips"
    filters: dict[str, Any]
    missing_audio: int
    evaluation_errors: int
    scorer: dict[str, Any] = Field(default_factory=dict)

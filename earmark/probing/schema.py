"""Results of `probe.py run` and the schema of its summary.json."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase

MAX_SHOWN = 20  # listed groups of classes; further ones are only counted
ClassRow = dict[str, str | int | float | None]  # "class" and its metrics, which depend on the task type


@dataclass(frozen=True)
class ScoreKey:
    """Track, recipe (`protocol`) and layer of a score; layer None is the encoder's own output."""

    track: str
    protocol: str
    layer: int | None = None


class TaskScore(StrictModel):
    """A score of one task on one track with one recipe.

    Attributes
    ----------
    protocol : str
        The recipe: `xares`, `strict` or `strict_given_splits`.
    n_test : int
        Number of scored items.
    counts : str
        Unit of `n_test`: clips, crops or utterances.
    weight : float
        Weight of the task in the weighted mean.
    folds, n_heads : int
        Number of test folds; number of heads whose scores are averaged.
    seconds : float
        Duration of training and scoring.
    layer : int or None
        Layer; None for the encoder's own output.
    shots : int or None
        Training clips per class in few-shot training.
    chosen : str
        Learning rates or k selected on validation.
    """

    task: str
    formal_name: str
    domain: str
    track: str
    protocol: str
    metric: str
    score: Estimate
    n_test: int
    counts: str = "items"  # absent in the first release
    weight: float
    private: bool
    folds: int
    n_heads: int = Field(validation_alias=AliasChoices("n_heads", "seeds"))
    seconds: float
    layer: int | None = None
    shots: int | None = None
    chosen: str = ""

    # Columns of scores.csv. The estimate takes three columns; durations are omitted so that files are reproducible.
    COLUMNS: ClassVar[tuple[str, ...]] = (
        "task", "formal_name", "domain", "track", "protocol", "metric", "score", "low", "high", "n_test", "counts",
        "weight", "folds", "n_heads", "layer", "shots", "chosen",
    )  # fmt: skip

    @property
    def key(self) -> ScoreKey:
        """Track, recipe and layer."""
        return ScoreKey(self.track, self.protocol, self.layer)

    @property
    def value(self) -> float | None:
        """Value of the estimate."""
        return self.score.value

    def cells(self) -> list[Any]:
        """The values of COLUMNS."""
        ends = {"score": self.score.value, "low": self.score.low, "high": self.score.high}
        return [ends[column] if column in ends else getattr(self, column) for column in self.COLUMNS]


def leading_scores(scores: Iterable[TaskScore]) -> list[TaskScore]:
    """The scores that represent a task in figures and means: without its further metrics.

    Parameters
    ----------
    scores : iterable of TaskScore
        In the order of `ProbeSummary.scores`, where the first metric of a task is its main one.

    Returns
    -------
    list of TaskScore
        The first score of each task, track, recipe, layer and number of shots.
    """
    first: dict[tuple[str, ScoreKey, int | None], TaskScore] = {}
    for row in scores:
        first.setdefault((row.task, row.key, row.shots), row)
    return list(first.values())


class ClassTable(StrictModel):
    """Metrics of every class or label for one track and recipe."""

    track: str
    protocol: str
    rows: list[ClassRow]


class LowestRecallClasses(StrictModel):
    """Part of a confusion matrix.

    Attributes
    ----------
    classes : list of str
        The columns: predicted classes.
    rows : list of lists
        Class, number of items, share of its items predicted as each column, and share predicted as any other class.
    """

    classes: list[str]
    rows: list[list[str | int | float]]


class Confusion(LowestRecallClasses):
    """The classes with the lowest recall for one track and recipe."""

    track: str
    protocol: str


class Failure(StrictModel):
    """A task, or one track and recipe of it, that could not be scored.

    Attributes
    ----------
    error : str
        The message.
    missing : bool
        Whether something required was missing.
    again : bool
        Whether the next run tries again; False if the data are the cause.
    """

    error: str
    track: str = ""
    protocol: str = ""
    layer: int | None = None
    missing: bool = False
    again: bool = True


class FailedTask(StrictModel):
    """A failure in a summary."""

    task: str
    track: str
    protocol: str
    error: str


class SkippedTask(StrictModel):
    """A task, or a track of it, that was skipped, and the reason."""

    task: str
    reason: str


class SharedSources(StrictModel):
    """A task with sources that have clips in several folds or splits.

    Attributes
    ----------
    parts : str
        "folds" or "splits".
    sources, spanning : int
        Number of sources, and of those with clips in at least two parts.
    test_clips, shared_test_clips : int
        Number of test clips, and of those whose source also occurs in training.
    strict : str
        How the strict recipe assigns the clips instead.
    """

    task: str
    parts: str
    sources: int
    spanning: int
    test_clips: int
    shared_test_clips: int
    strict: str

    def message(self, name: str) -> str:
        """One-line message; `name` is the task name to show."""
        strict = f" strict recipe: {self.strict}." if self.strict else ""
        return (
            f"{name}: {self.spanning:,} of {self.sources:,} sources have clips in several {self.parts}; "
            f"{self.shared_test_clips:,} of {self.test_clips:,} test clips share a source with training.{strict}"
        )


class NearDuplicateClasses(StrictModel):
    """Classes of a task whose names differ only in case or spaces, in groups; they stay separate classes."""

    task: str
    classes: list[list[str]]

    def message(self, name: str) -> str:
        """One-line message; `name` is the task name to show."""
        groups = [" and ".join(map(repr, names)) for names in self.classes]
        more = f"; and {len(groups) - MAX_SHOWN:,} more" if len(groups) > MAX_SHOWN else ""
        return (
            f"{name}: class names that differ only in case or spaces are separate classes: "
            f"{'; '.join(groups[:MAX_SHOWN])}{more}. If they mean one class, spell them alike in the labels."
        )


class NotCompared(StrictModel):
    """A published task that is not compared with published encoders, and how its data differ."""

    task: str
    reason: str


class ProbeAverage(StrictModel):
    """Means over tasks.

    Attributes
    ----------
    scope : str
        "public", or "all" with private and user tasks.
    n_tasks : int
        Number of tasks.
    weighted : float or None
        Mean with the weights of the tasks; None if no task has a weight.
    unweighted, test_size : float
        Unweighted mean; mean weighted by the number of scored items.
    layer : int or None
        Layer; None for the encoder's own output.
    """

    track: str
    protocol: str
    scope: str
    n_tasks: int
    weighted: float | None
    unweighted: float
    test_size: float
    layer: int | None = None


class ProbeSummary(SummaryBase):
    """Contents of benchmark_outputs/probe/<encoder>/summary.json.

    `collected`: the tasks that other runs with the same settings finished in the same folder.
    """

    encoder_name: str
    encoder: dict[str, Any]
    scores: list[TaskScore]
    averages: list[ProbeAverage]
    failed: list[FailedTask]
    skipped: list[SkippedTask]
    warnings: list[str] = Field(default_factory=list)
    shared_sources: list[SharedSources] = Field(default_factory=list)
    alike_classes: list[NearDuplicateClasses] = Field(default_factory=list)
    not_compared: list[NotCompared] = Field(default_factory=list)
    collected: list[str] = Field(default_factory=list)

    @property
    def signatures(self) -> Sequence[str]:
        """One line for each track, recipe and metric with a score."""
        parts = dict.fromkeys((row.track, row.protocol, row.metric) for row in self.scores)
        return [
            str(self.signature.replaced(track=track, protocol=protocol, metric=metric))
            for track, protocol, metric in parts
        ]

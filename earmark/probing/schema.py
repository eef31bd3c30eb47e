"""What `probe.py run` finds out, from computation to disk, tables and report; and what its summary.json holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase

MAX_SHOWN = 20  # groups of classes in a line; the rest are counted
ClassRow = dict[str, str | int | float | None]  # "class" and its figures; which these are depends on the task's type


@dataclass(frozen=True)
class ScoreKey:
    """Where scores come from. layer: None for the encoder's own output."""

    track: str
    protocol: str
    layer: int | None = None


class TaskScore(StrictModel):
    """A score of one task by one track and protocol; layer: null for the encoder's own output.

    n_test: scored items, and counts: what they are (clips, crops, utterances). n_heads: whose scores are averaged.
    chosen: learning rates or k that validation chose.
    """

    task: str
    formal_name: str
    domain: str
    track: str
    protocol: str
    metric: str
    score: Estimate
    n_test: int
    counts: str = "items"  # which the first release did not say
    weight: float
    private: bool
    folds: int
    n_heads: int = Field(validation_alias=AliasChoices("n_heads", "seeds"))
    seconds: float
    layer: int | None = None
    shots: int | None = None
    chosen: str = ""

    # Of scores.csv, where the estimate is three columns; no durations, so that its bytes are those of any run.
    COLUMNS: ClassVar[tuple[str, ...]] = (
        "task", "formal_name", "domain", "track", "protocol", "metric", "score", "low", "high", "n_test", "counts",
        "weight", "folds", "n_heads", "layer", "shots", "chosen",
    )  # fmt: skip

    @property
    def key(self) -> ScoreKey:
        """Where it comes from."""
        return ScoreKey(self.track, self.protocol, self.layer)

    @property
    def value(self) -> float | None:
        """Of the estimate."""
        return self.score.value

    def cells(self) -> list[Any]:
        """What COLUMNS hold."""
        ends = {"score": self.score.value, "low": self.score.low, "high": self.score.high}
        return [ends[column] if column in ends else getattr(self, column) for column in self.COLUMNS]


class ClassTable(StrictModel):
    """A row for each class or label of a track and protocol."""

    track: str
    protocol: str
    rows: list[ClassRow]


class LowestRecallClasses(StrictModel):
    """Part of a table of confusions. classes: its columns. rows: a class, its n, the share of its items that was said
    to be of each column, and the share said to be of others.
    """

    classes: list[str]
    rows: list[list[str | int | float]]


class Confusion(LowestRecallClasses):
    """The hardest classes of a track and protocol."""

    track: str
    protocol: str


class Failure(StrictModel):
    """What could not be scored, and why: a whole task, or one track and protocol of it.

    missing: something that it needs is not there. again: it is tried again the next time; else the data are such.
    """

    error: str
    track: str = ""
    protocol: str = ""
    layer: int | None = None
    missing: bool = False
    again: bool = True


class FailedTask(StrictModel):
    """A failure as a summary has it."""

    task: str
    track: str
    protocol: str
    error: str


class SkippedTask(StrictModel):
    """What was not asked of a task, and why: a track that it does not have, or data that are private."""

    task: str
    reason: str


class SharedSources(StrictModel):
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

    def message(self, name: str) -> str:
        """A line about it; name: what to call the task."""
        strict = f" strict: {self.strict}." if self.strict else ""
        return (
            f"{name}: {self.spanning:,} of {self.sources:,} sources have clips in several {self.parts}; "
            f"{self.shared_test_clips:,} of {self.test_clips:,} test clips have a source that also trains.{strict}"
        )


class NearDuplicateClasses(StrictModel):
    """Classes of a task that differ only in case or blanks, each with all that it is like; they are kept apart."""

    task: str
    classes: list[list[str]]

    def message(self, name: str) -> str:
        """A line about it; name: what to call the task."""
        groups = [" and ".join(map(repr, names)) for names in self.classes]
        more = f"; and {len(groups) - MAX_SHOWN:,} more" if len(groups) > MAX_SHOWN else ""
        return (
            f"{name}: class names that differ only in case or spaces are separate classes: "
            f"{'; '.join(groups[:MAX_SHOWN])}{more}. If they mean one class, spell them alike in the labels."
        )


class NotCompared(StrictModel):
    """A published task that stands beside no published encoder, and how its data differ from theirs."""

    task: str
    reason: str


class ProbeAverage(StrictModel):
    """Means over tasks whose metric is a score. scope: public, or all, with private tasks and your own."""

    track: str
    protocol: str
    scope: str
    n_tasks: int
    weighted: float | None
    unweighted: float
    test_size: float
    layer: int | None = None


class ProbeSummary(SummaryBase):
    """benchmark_outputs/probe/<encoder>/summary.json"""

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

    @property
    def signatures(self) -> Sequence[str]:
        """A line for each track, protocol and metric that has a score."""
        parts = dict.fromkeys((row.track, row.protocol, row.metric) for row in self.scores)
        return [
            str(self.signature.replaced(track=track, protocol=protocol, metric=metric))
            for track, protocol, metric in parts
        ]

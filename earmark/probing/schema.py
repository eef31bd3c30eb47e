"""What the summary.json of `probe.py run` holds."""

from typing import Any

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import Common, Strict


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

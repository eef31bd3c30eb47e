"""Finished scores as a report shows them: beside the published encoders, averaged, and layer by layer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import METRICS
from earmark.probing.options import STRICT, STRICT_GIVEN_SPLITS, XARES
from earmark.probing.schema import ProbeAverage, TaskScore
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.probing.xares import AVERAGES, SOURCES, published_averages, published_scores, weighted_average

ENCODERS = ("dasheng", "wav2vec2", "whisper", "data2vec")
COMPARED = (XARES, STRICT)


@dataclass(frozen=True)
class Comparison:
    """A track's scores beside those of a source. rows: a task each. averages: weighted means over these tasks, of the
    published encoders and of ours, and the published means, which are over all tasks of the source. lacking: tasks that
    the source has no score of.
    """

    track: str
    source: str
    rows: list[list[Any]]
    averages: list[list[Any]]
    unpublished: list[str]


def averages(scores: Sequence[TaskScore], tasks: Mapping[str, Task]) -> list[ProbeAverage]:
    """Means over tasks for every track, protocol and layer: by the tasks' weights, unweighted, by true test size.

    Only tasks whose metric is a score (higher is better) count, and no scores of splits that sources span. public: of
    the published tasks those that everybody has; all: with private ones and your own, where there are any.
    """
    found = []
    main = [
        row
        for row in scores
        if row.metric == task_type(tasks[row.task]).primary_metric
        and row.value is not None
        and not METRICS[row.metric].lower_is_better
        and row.protocol != STRICT_GIVEN_SPLITS
    ]
    for key in dict.fromkeys(row.key for row in main):
        of_key = [row for row in main if row.key == key]
        public = [row for row in of_key if not row.private and tasks[row.task].home is None]
        for scope, rows in {"public": public, "all": of_key if len(public) < len(of_key) else []}.items():
            if rows:
                found.append(_average(scope, rows, tasks))
    return found


def _average(scope: str, rows: Sequence[TaskScore], tasks: Mapping[str, Task]) -> ProbeAverage:
    """Over scores of one track, protocol and layer."""
    values, sizes = [row.value or 0.0 for row in rows], [row.n_test for row in rows]
    weighted = weighted_average(zip((tasks[row.task] for row in rows), values, strict=True), private=True)
    return ProbeAverage(
        track=rows[0].track,
        protocol=rows[0].protocol,
        layer=rows[0].layer,
        scope=scope,
        n_tasks=len(rows),
        weighted=weighted if weighted == weighted else None,  # NaN: none of them has a weight
        unweighted=sum(values) / len(values),
        test_size=sum(value * n for value, n in zip(values, sizes, strict=True)) / sum(sizes),
    )


def comparison_rows(scores: Sequence[TaskScore], tasks: Mapping[str, Task], track: str, source: str) -> list[list[Any]]:
    """Rows of tasks that a source has scores of: the published encoders, ours by both protocols, our rank, n.

    The rank is that of our published-recipe score among the encoders, 1 for the best; equal scores share a rank.
    """
    published, rows = published_scores(source), []
    for name, task in tasks.items():
        theirs = [published.get((track, name, encoder)) for encoder in ENCODERS]
        ours = _main_scores(scores, task, track)
        if not any(theirs) or not ours:
            continue
        values = [found.score if found else None for found in theirs]
        value = ours[XARES].value if XARES in ours else None
        rank = None if value is None else 1 + sum(score is not None and score > value for score in values)
        mini = " (mini)" if any(found.mini for found in theirs if found) else ""
        shown = [ours[protocol].score if protocol in ours else None for protocol in COMPARED]
        n = next(iter(ours.values())).n_test
        rows.append([f"{task.formal_name}{mini}", task.metric, *values, *shown, rank, n])
    return rows


def _main_scores(scores: Sequence[TaskScore], task: Task, track: str) -> dict[str, TaskScore]:
    """{protocol: what stands for the task on a track}, of all shots and the encoder's own output."""
    metric = task_type(task).primary_metric
    return {
        row.protocol: row
        for row in scores
        if (row.task, row.track, row.metric, row.layer, row.shots) == (task.name, track, metric, None, None)
    }


def comparison_tables(
    scores: Sequence[TaskScore], tasks: Mapping[str, Task], excluded: Collection[str] = ()
) -> list[Comparison]:
    """A table for each track and source that has any of the tasks.

    unlike: tasks whose data are not the published ones. A score on other clips or classes has no place beside them.
    """
    found = []
    tasks = {name: task for name, task in tasks.items() if name not in excluded}
    for track in dict.fromkeys(row.track for row in scores):
        asked = {row.task for row in scores if row.track == track}
        for source in SOURCES:
            rows = comparison_rows(scores, tasks, track, source)
            if not rows:
                continue
            known = {name for of_track, name, _ in published_scores(source) if of_track == track}
            lacking = [task.formal_name for name, task in tasks.items() if name in asked and name not in known]
            compared = [task for name, task in tasks.items() if name in known]
            means = [_compared_means(scores, compared, track, source), *_published_means(track, source)]
            found.append(Comparison(track, source, rows, means, lacking))
    return found


def _published_means(track: str, source: str) -> list[list[Any]]:
    """A row for each mean that the source has."""
    means = published_averages(source)
    return [
        [f"published, {kind.removeprefix('average_')} tasks", *values, *(None for _ in COMPARED)]
        for kind in AVERAGES
        if any(values := [means.get((track, kind, encoder)) for encoder in ENCODERS])
    ]


def _compared_means(scores: Sequence[TaskScore], compared: Sequence[Task], track: str, source: str) -> list[Any]:
    """Means over the tasks that all of them have, by the table's weights; None where one lacks a task."""
    published = published_scores(source)
    ours = {task.name: _main_scores(scores, task, track) for task in compared}
    scored = [task for task in compared if any(protocol in ours[task.name] for protocol in COMPARED)]

    def mean(found: list[float | None]) -> float | None:
        values = [score for score in found if score is not None]
        if len(values) < len(found):
            return None
        value = weighted_average(zip(scored, values, strict=True), private=True)
        return value if value == value else None

    theirs = [
        mean([one.score if (one := published.get((track, task.name, encoder))) else None for task in scored])
        for encoder in ENCODERS
    ]
    own = [mean([_value(ours[task.name].get(protocol)) for task in scored]) for protocol in COMPARED]
    return [f"these {len(scored)} tasks" if len(scored) > 1 else "this task", *theirs, *own]


def _value(row: TaskScore | None) -> float | None:
    return None if row is None else row.value


def layer_curves(scores: Iterable[TaskScore]) -> dict[str, list[tuple[float, Estimate]]]:
    """{task, track, protocol: [(layer, estimate)]} of what was probed layer by layer."""
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for row in scores:
        if row.layer is not None and not METRICS[row.metric].lower_is_better:
            lines.setdefault(f"{row.task}, {row.track}, {row.protocol}", []).append((row.layer, row.score))
    return lines

"""Tables of finished scores for reports: comparison with published encoders, means over tasks, scores by layer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import METRICS
from earmark.probing.options import STRICT, STRICT_GIVEN_SPLITS, XARES
from earmark.probing.schema import ProbeAverage, TaskScore, leading_scores
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.probing.xares import AVERAGES, SOURCES, published_averages, shown_scores, weighted_average

ENCODERS = ("dasheng", "wav2vec2", "whisper", "data2vec")
COMPARED = (XARES, STRICT)


@dataclass(frozen=True)
class Comparison:
    """Comparison of the scores on one track with one source of published scores.

    Attributes
    ----------
    track, source : str
        Track, and source as in `xares.SOURCES`.
    rows : list of lists
        One row per task, as in `comparison_rows`.
    averages : list of lists
        Weighted means over these tasks, and the published means over all tasks of the source.
    unpublished : list of str
        Tasks without a published score on the same data.
    """

    track: str
    source: str
    rows: list[list[Any]]
    averages: list[list[Any]]
    unpublished: list[str]


def averages(scores: Sequence[TaskScore], tasks: Mapping[str, Task]) -> list[ProbeAverage]:
    """Means over tasks for every track, recipe and layer.

    Included are primary metrics that are better when higher, without scores of `strict_given_splits`.

    Parameters
    ----------
    scores : sequence of TaskScore
        The scores.
    tasks : mapping
        {name: task}.

    Returns
    -------
    list of ProbeAverage
        Scope "public" covers published tasks with public data; "all" adds private and user tasks, if there are any.
    """
    means = []
    eligible = [
        row
        for row in scores
        if row.metric == task_type(tasks[row.task]).primary_metric
        and row.value is not None
        and not METRICS[row.metric].lower_is_better
        and row.protocol != STRICT_GIVEN_SPLITS
    ]
    for key in dict.fromkeys(row.key for row in eligible):
        same_key = [row for row in eligible if row.key == key]
        public = [row for row in same_key if not row.private and tasks[row.task].home is None]
        for scope, rows in {"public": public, "all": same_key if len(public) < len(same_key) else []}.items():
            if rows:
                means.append(_average(scope, rows, tasks))
    return means


def _average(scope: str, rows: Sequence[TaskScore], tasks: Mapping[str, Task]) -> ProbeAverage:
    """Mean over scores of one track, recipe and layer."""
    values, sizes = [row.value or 0.0 for row in rows], [row.n_test for row in rows]
    weighted = weighted_average(zip((tasks[row.task] for row in rows), values, strict=True), private=True)
    return ProbeAverage(
        track=rows[0].track,
        protocol=rows[0].protocol,
        layer=rows[0].layer,
        scope=scope,
        n_tasks=len(rows),
        weighted=weighted if weighted == weighted else None,  # NaN: no task has a weight
        unweighted=sum(values) / len(values),
        test_size=sum(value * n for value, n in zip(values, sizes, strict=True)) / sum(sizes),
    )


def comparison_rows(scores: Sequence[TaskScore], tasks: Mapping[str, Task], track: str, source: str) -> list[list[Any]]:
    """Compare the scores of tasks with those of one source.

    Parameters
    ----------
    scores : sequence of TaskScore
        Scores of the encoder.
    tasks : mapping
        {name: task}.
    track, source : str
        Track, and source as in `xares.SOURCES`.

    Returns
    -------
    list of lists
        Name, metric, published scores of ENCODERS, xares and strict score, rank, number of items. The rank is that of
        the xares score among the published ones: 1 is best, ties share a rank.
    """
    published, rows = shown_scores(track, source), []
    for name, task in tasks.items():
        values = [published.get((name, encoder)) for encoder in ENCODERS]
        own_scores = _main_scores(scores, task, track)
        if all(value is None for value in values) or not own_scores:
            continue
        value = own_scores[XARES].value if XARES in own_scores else None
        rank = None if value is None else 1 + sum(score is not None and score > value for score in values)
        shown = [own_scores[recipe].score if recipe in own_scores else None for recipe in COMPARED]
        n = next(iter(own_scores.values())).n_test
        rows.append([task.formal_name, task.metric, *values, *shown, rank, n])
    return rows


def _main_scores(scores: Sequence[TaskScore], task: Task, track: str) -> dict[str, TaskScore]:
    """{recipe: primary score} of a task on a track, with all training clips and the encoder's own output."""
    metric = task_type(task).primary_metric
    return {
        row.protocol: row
        for row in scores
        if (row.task, row.track, row.metric, row.layer, row.shots) == (task.name, track, metric, None, None)
    }


def comparison_tables(
    scores: Sequence[TaskScore], tasks: Mapping[str, Task], excluded: Collection[str] = ()
) -> list[Comparison]:
    """Build a comparison for each track and source that shares tasks with the scores.

    Parameters
    ----------
    scores : sequence of TaskScore
        Scores of the encoder.
    tasks : mapping
        {name: task}.
    excluded : collection of str
        Tasks whose data differ from the published data; their scores are not comparable.
    """
    tables = []
    tasks = {name: task for name, task in tasks.items() if name not in excluded}
    for track in dict.fromkeys(row.track for row in scores):
        track_tasks = {row.task for row in scores if row.track == track}
        for source in SOURCES:
            rows = comparison_rows(scores, tasks, track, source)
            if not rows:
                continue
            available = {name for name, _ in shown_scores(track, source)}
            unpublished = [
                task.formal_name for name, task in tasks.items() if name in track_tasks and name not in available
            ]
            compared = [task for name, task in tasks.items() if name in available]
            means = [_compared_means(scores, compared, track, source), *_published_means(track, source)]
            tables.append(Comparison(track, source, rows, means, unpublished))
    return tables


def _published_means(track: str, source: str) -> list[list[Any]]:
    """One row for each published mean of the source."""
    means = published_averages(source)
    return [
        [f"published, {kind.removeprefix('average_')} tasks", *values, *(None for _ in COMPARED)]
        for kind in AVERAGES
        if any(values := [means.get((track, kind, encoder)) for encoder in ENCODERS])
    ]


def _compared_means(scores: Sequence[TaskScore], compared: Sequence[Task], track: str, source: str) -> list[Any]:
    """Weighted means over the compared tasks; None if a task is missing."""
    published = shown_scores(track, source)
    own_scores = {task.name: _main_scores(scores, task, track) for task in compared}
    scored = [task for task in compared if any(recipe in own_scores[task.name] for recipe in COMPARED)]

    def mean(values_by_task: list[float | None]) -> float | None:
        values = [score for score in values_by_task if score is not None]
        if len(values) < len(values_by_task):
            return None
        value = weighted_average(zip(scored, values, strict=True), private=True)
        return value if value == value else None

    published_means = [mean([published.get((task.name, encoder)) for task in scored]) for encoder in ENCODERS]
    own_means = [mean([_value(own_scores[task.name].get(recipe)) for task in scored]) for recipe in COMPARED]
    return [f"these {len(scored)} tasks" if len(scored) > 1 else "this task", *published_means, *own_means]


def _value(row: TaskScore | None) -> float | None:
    return None if row is None else row.value


def layer_curves(scores: Iterable[TaskScore]) -> dict[str, list[tuple[float, Estimate]]]:
    """{"task, track, recipe": [(layer, estimate), …]} of the main scores by layer; errors are omitted."""
    curves: dict[str, list[tuple[float, Estimate]]] = {}
    for row in leading_scores(scores):
        if row.layer is not None and not METRICS[row.metric].lower_is_better:
            curves.setdefault(f"{row.task}, {row.track}, {row.protocol}", []).append((row.layer, row.score))
    return curves

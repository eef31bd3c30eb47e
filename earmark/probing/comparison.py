"""Finished scores as a report shows them: beside the published encoders, averaged, and layer by layer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from earmark.metrics.estimate import Estimate
from earmark.probing.features import STRICT, STRICT_GIVEN, XARES
from earmark.probing.tasks import (
    LOWER_IS_BETTER,
    SOURCES,
    Task,
    baselines,
    published_averages,
    weighted_average,
)

ENCODERS = ("dasheng", "wav2vec2", "whisper", "data2vec")
COMPARED = (XARES, STRICT)
Score = Mapping[str, Any]  # a row of summary.json


def own(task: Task) -> str:
    """The metric that stands for a task in tables and averages."""
    return "frame_accuracy" if task.one_label_per_frame else task.metric


def averages(scores: Sequence[Score], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Means over tasks for every track, protocol and layer: by the tasks' weights, unweighted, by true test size.

    Only tasks whose metric is a score (higher is better) count, and no scores of splits that sources span. public: of
    the published tasks those that everybody has; all: with private ones and your own, where there are any.
    """
    found = []
    main = [row for row in scores if row["metric"] == own(tasks[row["task"]]) and row["score"]["value"] is not None]
    main = [row for row in main if row["metric"] not in LOWER_IS_BETTER and row["protocol"] != STRICT_GIVEN]
    for track, protocol, layer in dict.fromkeys((row["track"], row["protocol"], row["layer"]) for row in main):
        of_place = [row for row in main if (row["track"], row["protocol"], row["layer"]) == (track, protocol, layer)]
        public = [row for row in of_place if not row["private"] and tasks[row["task"]].home is None]
        for scope, rows in {"public": public, "all": of_place if len(public) < len(of_place) else []}.items():
            if rows:
                place = {"track": track, "protocol": protocol, "layer": layer, "scope": scope, "n_tasks": len(rows)}
                found.append({**place, **_means(rows, tasks)})
    return found


def _means(rows: Sequence[Score], tasks: Mapping[str, Task]) -> dict[str, float | None]:
    values, sizes = [row["score"]["value"] for row in rows], [row["n_test"] for row in rows]
    weighted = weighted_average([(tasks[row["task"]], row["score"]["value"]) for row in rows], private=True)
    return {
        "weighted": weighted if weighted == weighted else None,  # NaN: none of them has a weight
        "unweighted": sum(values) / len(values),
        "test_size": sum(value * n for value, n in zip(values, sizes, strict=True)) / sum(sizes),
    }


def comparison(scores: Sequence[Score], tasks: Mapping[str, Task], track: str, source: str) -> list[list[Any]]:
    """Rows of tasks that a source has scores of: the published encoders, ours by both protocols, our rank, n.

    The rank is that of our published-recipe score among the encoders, 1 for the best; equal scores share a rank.
    """
    published, rows = baselines(source), []
    for name, task in tasks.items():
        known = {encoder: published.get((track, name, encoder)) for encoder in ENCODERS}
        if not any(known.values()):
            continue
        ours = {
            row["protocol"]: row
            for row in scores
            if (row["task"], row["track"]) == (name, track) and _is_main(row, task)
        }
        if not ours:
            continue
        mini = any(found.mini for found in known.values() if found)
        theirs = [found.score if found else None for found in known.values()]
        first = ours.get(XARES)
        value = first["score"]["value"] if first else None
        rank = None if value is None else 1 + sum(score is not None and score > value for score in theirs)
        n = next(iter(ours.values()))["n_test"]
        shown = [ours[p]["score"] if p in ours else None for p in COMPARED]
        rows.append([f"{task.formal_name}{' (mini)' if mini else ''}", task.metric, *theirs, *shown, rank, n])
    return rows


def _is_main(row: Score, task: Task) -> bool:
    return bool(row["metric"] == own(task) and row["layer"] is None and row["shots"] is None)


def comparisons(scores: Sequence[Score], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """A table for each track and source that has any of the tasks.

    averages: weighted means over the tasks of the table, of the published encoders and of ours, and the published
    means, which are over all tasks of the source. lacking: tasks that the source has no score of.
    """
    found = []
    for track in dict.fromkeys(row["track"] for row in scores):
        for source in SOURCES:
            if rows := comparison(scores, tasks, track, source):
                compared = [task for task in tasks.values() if _known(task, track, source)]
                means = published_averages(source)
                published = [
                    [
                        f"published, {kind.removeprefix('average_')} tasks",
                        *(means.get((track, kind, e)) for e in ENCODERS),
                    ]
                    for kind in ("average_public", "average_all")
                    if any((track, kind, encoder) in means for encoder in ENCODERS)
                ]
                averages = [_compared_means(scores, compared, track, source)]
                averages += [[*row, *(None for _ in COMPARED)] for row in published]
                asked = {row["task"] for row in scores if row["track"] == track}
                lacking = [task.formal_name for task in tasks.values() if task.name in asked and task not in compared]
                found.append({"track": track, "source": source, "rows": rows, "averages": averages, "lacking": lacking})
    return found


def _known(task: Task, track: str, source: str) -> bool:
    return any((track, task.name, encoder) in baselines(source) for encoder in ENCODERS)


def _compared_means(scores: Sequence[Score], compared: Sequence[Task], track: str, source: str) -> list[Any]:
    """Means over the tasks that all of them have, by the table's weights; None where one lacks a task."""
    published = baselines(source)
    ours = {
        (row["task"], row["protocol"]): row["score"]["value"]
        for row in scores
        for task in compared
        if row["task"] == task.name and row["track"] == track and _is_main(row, task)
    }
    scored = [task for task in compared if any((task.name, protocol) in ours for protocol in COMPARED)]

    def mean(found: list[float | None]) -> float | None:
        if any(score is None for score in found):
            return None
        value = weighted_average([(t, float(s or 0.0)) for t, s in zip(scored, found, strict=True)], private=True)
        return value if value == value else None

    theirs = [
        mean([one.score if (one := published.get((track, task.name, encoder))) else None for task in scored])
        for encoder in ENCODERS
    ]
    own_means = [mean([ours.get((task.name, protocol)) for task in scored]) for protocol in COMPARED]
    return [f"these {len(scored)} tasks" if len(scored) > 1 else "this task", *theirs, *own_means]


def by_layer(scores: Iterable[Score]) -> dict[str, list[tuple[float, Estimate]]]:
    """{task, track, protocol: [(layer, estimate)]} of what was probed layer by layer."""
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for row in scores:
        if row["layer"] is not None and row["metric"] not in LOWER_IS_BETTER:
            name = f"{row['task']}, {row['track']}, {row['protocol']}"
            lines.setdefault(name, []).append((row["layer"], Estimate(**row["score"])))
    return lines

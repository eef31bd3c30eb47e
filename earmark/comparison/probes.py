"""Results of `probe.py` compared: the same tasks and test items, several encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.cli import Invocation
from earmark.comparison.comparison import Comparison
from earmark.comparison.differences import Compared, MetricOfSystems
from earmark.comparison.options import CompareOptions
from earmark.comparison.results import FinishedResult
from earmark.errors import EarmarkError
from earmark.metrics.bootstrap import Bootstrap, Units
from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import METRICS, Predictions, score_replicates
from earmark.probing.outcome import ITEMS
from earmark.probing.page import layer_map, layer_tables
from earmark.probing.schema import ProbeSummary, TaskScore, leading_scores
from earmark.probing.stored_predictions import read_predictions
from earmark.report.page import ClipList, ListedClip
from earmark.report.provenance import file_name
from earmark.report.schema import read_summary
from earmark.report.tables import Table

SHOWN_CLIPS = 24
MEAN = "mean over tasks"
TRAINING_NOTE = "differences are of the heads that were trained; another training seed would change them"
LAYERS_NOTE = "predictions of layers are not stored, so differences between encoders have no intervals"
FEW_SHOT_NOTE = "few-shot scores are compared over test sources; the variance of the draws is left out"


@dataclass(frozen=True)
class ComparedTask:
    """A task that all encoders were probed on, with one track and recipe.

    Attributes
    ----------
    score : of the first encoder: task, metric, track and recipe.
    predictions : of each encoder, for the same items.
    clips : (n,) names of the items' clips.
    n_left_out : items that not all encoders hold.
    """

    score: TaskScore
    predictions: list[Predictions]
    clips: list[str]
    n_left_out: int

    @property
    def label(self) -> str:
        """Task, track and recipe, as tables name it."""
        return f"{self.score.formal_name}, {self.score.track}, {self.score.protocol}"


def read_tasks(results: Sequence[FinishedResult], common: bool) -> tuple[list[ComparedTask], list[str]]:
    """The tasks that all results hold, with their predictions.

    Parameters
    ----------
    results : of `probe.py`.
    common : compare on the items that all hold; otherwise different items are an error.

    Returns
    -------
    tasks : list of ComparedTask
    notes : list of str
        What was left out.

    Raises
    ------
    EarmarkError
        If no task is in all results, or items or labels differ.
    """
    summaries = [read_probe(result) for result in results]
    scores = [{_key(score): score for score in summary.scores if score.layer is None} for summary in summaries]
    shared = [key for key in scores[0] if all(key in own for own in scores) and METRICS[key[3]].finish is None]
    notes = []
    for result, own in zip(results, scores, strict=True):
        if extra := sorted({key[0] for key in own} - {key[0] for key in shared}):
            notes.append(f"{result.system}: tasks that are not in all results are left out: {', '.join(extra)}")
    if not shared:
        raise EarmarkError("The results share no task with the same track, recipe and metric.")
    tasks = []
    for key in shared:
        score = scores[0][key]
        read = [read_predictions(_items(result.folder, score)) for result in results]
        tasks.append(_aligned(score, read, [result.system for result in results], common))
    notes.append(TRAINING_NOTE)
    if any(task.predictions[0].draws for task in tasks):
        notes.append(FEW_SHOT_NOTE)
    return tasks, notes


def _key(score: TaskScore) -> tuple[str, str, str, str, int | None]:
    return (score.task, score.track, score.protocol, score.metric, score.shots)


def _items(folder: Path, score: TaskScore) -> Path:
    return folder / "predictions" / f"{file_name(score.task)}_{score.track}_{score.protocol}.{ITEMS}"


def _aligned(
    score: TaskScore, read: Sequence[tuple[Predictions, list[str]]], systems: Sequence[str], common: bool
) -> ComparedTask:
    """One task with the same items of every encoder."""
    clips = [own for _, own in read]
    predictions = [own for own, _ in read]
    left_out = 0
    if any(own != clips[0] for own in clips[1:]):
        shared = set(clips[0]).intersection(*clips[1:])
        left_out = len(set().union(*clips)) - len(shared)
        if not common:
            each = ", ".join(f"{system} has {len(own):,}" for system, own in zip(systems, clips, strict=True))
            raise EarmarkError(
                f"{score.task}: the test items differ ({len(shared):,} clips are in all results; {each}). "
                "Give --common to compare on those."
            )
        kept = [np.array([clip in shared for clip in own]) for own in clips]
        predictions = [own.subset(mask) for own, mask in zip(predictions, kept, strict=True)]
        clips = [[clip for clip in own if clip in shared] for own in clips]
        if any(own != clips[0] for own in clips[1:]):
            raise EarmarkError(f"{score.task}: the test items are in different orders; run the task again for both.")
    first = predictions[0]
    for system, own in zip(systems, predictions, strict=True):
        if list(own.group) != list(first.group) or not _same(own.labels, first.labels):
            raise EarmarkError(f"{score.task}: {system} has other labels or sources than {systems[0]}.")
    return ComparedTask(score, predictions, clips[0], left_out)


def _same(one: NDArray[np.generic] | None, other: NDArray[np.generic] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def compare_tasks(tasks: Sequence[ComparedTask], replicates: int, seed: int) -> list[MetricOfSystems]:
    """Every task's score for every encoder on the same draws of sources, and the mean over tasks.

    Parameters
    ----------
    tasks : as returned by `read_tasks`.
    replicates : bootstrap replicates; 0 for values alone.
    seed : of the draws.

    Returns
    -------
    list of MetricOfSystems
        First the mean over tasks of each track and recipe with at least two tasks, of the main metric of each task and
        without metrics for which lower is better; then each task.
    """
    leading = leading_scores(task.score for task in tasks)
    rows: list[MetricOfSystems] = []
    means: dict[tuple[str, str], list[tuple[list[float], list[NDArray[np.float64]], Units]]] = {}
    for task in tasks:
        score = task.score
        values, drawn = [], []
        units = Units(0, "sources")
        for predictions in task.predictions:
            rng = np.random.default_rng((seed, crc32(score.task.encode())))
            bootstrap = Bootstrap.from_units(np.asarray(predictions.group), replicates, rng, "sources")
            value, own, units = score_replicates(score.metric, predictions, bootstrap)
            values.append(value)
            drawn.append(own)
        lower, leads = METRICS[score.metric].lower_is_better, score in leading
        rows.append(
            MetricOfSystems.from_replicates(
                score.metric,
                values,
                drawn,
                n=task.predictions[0].n,
                units=units,
                slice="task",
                value_of_slice=task.label,
                value_range=METRICS[score.metric].values,
                lower_is_better=lower,
                panel=f"{score.formal_name} ({score.metric})" if leads else "",
                line=_line(score),
            )
        )
        if not lower and leads:
            means.setdefault((score.track, score.protocol), []).append((values, drawn, units))
    return [*_means(means), *rows]


def _line(score: TaskScore) -> str:
    """Track and recipe."""
    return f"{score.track}, {score.protocol}"


def _means(
    means: dict[tuple[str, str], list[tuple[list[float], list[NDArray[np.float64]], Units]]],
) -> list[MetricOfSystems]:
    """The unweighted mean over tasks of each track and recipe; tasks are drawn independently of one another."""
    rows = []
    for (track, recipe), tasks in means.items():
        if len(tasks) < 2:
            continue
        n_systems = len(tasks[0][0])
        values = [float(np.mean([own[0][place] for own in tasks])) for place in range(n_systems)]
        drawn = [np.mean([own[1][place] for own in tasks], axis=0) for place in range(n_systems)]
        units = Units(sum(own[2].n for own in tasks), "sources")
        rows.append(
            MetricOfSystems.from_replicates(
                f"{MEAN} ({track}, {recipe})",
                values,
                drawn,
                n=len(tasks),
                units=units,
                why="a task is undefined",
                panel=MEAN,
                line=f"{track}, {recipe}",
            )
        )
    return rows


def most_different_items(tasks: Sequence[ComparedTask], systems: Sequence[str], reference: int) -> pd.DataFrame:
    """Test items of one class that the encoders classify differently.

    Parameters
    ----------
    tasks : as returned by `read_tasks`.
    systems : names.
    reference : the place of the reference.

    Returns
    -------
    pandas.DataFrame
        `task`, `clip`, for each encoder `correct_<name>` (share of its heads that are right), `spread` and `flip`.
    """
    tables = []
    for task in tasks:
        classes = [getattr(own, "classes", None) for own in task.predictions]
        if any(own is None for own in classes):
            continue
        labels = np.asarray(task.predictions[0].labels)
        right = np.array([np.mean([each == labels for each in own], axis=0) for own in classes if own is not None])
        table = pd.DataFrame({"task": task.label, "clip": task.clips})
        for system, own in zip(systems, right, strict=True):
            table[f"correct_{system}"] = own
        decided = right > 0.5
        table["spread"] = np.ptp(right, axis=0)
        table["flip"] = np.any(decided != decided[reference], axis=0)
        tables.append(table[table["spread"] > 0])
    if not tables:
        return pd.DataFrame({"task": [], "clip": [], "spread": [], "flip": []})
    joined = pd.concat(tables, ignore_index=True)
    return joined.sort_values(["flip", "spread"], ascending=False, kind="stable").reset_index(drop=True)


def compare_probes(
    results: Sequence[FinishedResult], reference: int, options: CompareOptions, invocation: Invocation
) -> Comparison:
    """Compare results of `probe.py`: every task, means over tasks, items that are classified differently, layers."""
    summaries = {result.system: read_probe(result) for result in results}
    if all(
        summary.scores and all(score.layer is not None for score in summary.scores) for summary in summaries.values()
    ):
        return compare_layers(summaries)
    tasks, notes = read_tasks(results, options.common)
    names = [result.system for result in results]
    flipped = most_different_items(tasks, names, reference)
    return Comparison(
        metrics=compare_tasks(tasks, options.replicates, invocation.seed),
        flips=flipped,
        n_flips=int(flipped["flip"].sum()),
        n_items=sum(len(set(task.clips)) for task in {task.score.task: task for task in tasks}.values()),
        n_left_out=sum(task.n_left_out for task in tasks),
        notes=notes,
        clips=[_clips(flipped, names, options)],
    )


def read_probe(result: FinishedResult) -> ProbeSummary:
    """The summary of a result of `probe.py`. EarmarkError if it is invalid."""
    return read_summary(ProbeSummary, result.folder / "summary.json")


def compare_layers(summaries: Mapping[str, ProbeSummary]) -> Comparison:
    """Compare results with scores of layers: heat maps and tables of layer × task, and every layer of every task.

    Predictions of layers are not stored, so that differences have no intervals.

    Parameters
    ----------
    summaries : mapping
        {encoder: its summary}.

    Returns
    -------
    Comparison

    Raises
    ------
    EarmarkError
        If the encoders share no layer of a task, or were tested on different numbers of items.
    """
    scores = [{(*_key(score), score.layer): score for score in summary.scores} for summary in summaries.values()]
    shared = [key for key in scores[0] if all(key in own for own in scores)]
    if not shared:
        raise EarmarkError("The results share no layer of a task with the same track, recipe and metric.")
    metrics = []
    for key in shared:
        rows = [own[key] for own in scores]
        if len({row.n_test for row in rows}) > 1:
            each = ", ".join(f"{name} has {row.n_test:,}" for name, row in zip(summaries, rows, strict=True))
            raise EarmarkError(f"{rows[0].task}: the test items differ ({each}).")
        metrics.append(_layer_metric(rows))
    tables = [(name, table) for name, summary in summaries.items() for table in layer_tables(summary.scores)]
    n_items = {score.task: score.n_test for score in (scores[0][key] for key in shared)}
    return Comparison(
        metrics=metrics,
        flips=pd.DataFrame({"task": [], "clip": [], "spread": [], "flip": []}),
        n_flips=0,
        n_items=sum(n_items.values()),
        n_left_out=0,
        notes=[LAYERS_NOTE, TRAINING_NOTE],
        figures=[figure for name, table in tables if (figure := layer_map(table, name)) is not None],
        tables=[
            Table(f"{name}: layer and task, {table.heading}", ["layer", *table.tasks], table.rows)
            for name, table in tables
        ],
    )


def _layer_metric(rows: Sequence[TaskScore]) -> MetricOfSystems:
    """One layer of one task, with differences that have no intervals."""
    values = [row.value for row in rows]

    def compare(first: int, second: int) -> Compared:
        one, other = values[first], values[second]
        gap = None if one is None or other is None else one - other
        return Compared(Estimate(gap, n=rows[0].n_test, why=LAYERS_NOTE), None, float("nan"))

    return MetricOfSystems(
        rows[0].metric,
        values,
        compare,
        rows[0].n_test,
        slice="layer",
        value_of_slice=f"{rows[0].formal_name}, {_line(rows[0])}, layer {rows[0].layer}",
        lower_is_better=METRICS[rows[0].metric].lower_is_better,
        estimates=[row.score for row in rows],
        line=_line(rows[0]),
    )


def _clips(flipped: pd.DataFrame, names: Sequence[str], options: CompareOptions) -> ClipList:
    """Items that one encoder classifies correctly and another does not, with the share of correct heads."""
    shown = flipped[flipped["flip"].astype(bool)].head(SHOWN_CLIPS) if len(flipped) else flipped
    root = options.audio_root or Path()
    clips = [
        [
            ListedClip(
                str(row["clip"]),
                root / str(row["clip"]),
                [
                    ("task", str(row["task"])),
                    *((name, f"{row[f'correct_{name}']:.0%} of heads correct") for name in names),
                ],
            )
        ]
        for row in shown.to_dict("records")
    ]
    return ClipList("Different predictions", "Items that one encoder classifies correctly and another does not.", clips)

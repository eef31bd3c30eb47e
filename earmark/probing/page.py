"""Figures and clips of the page that `probe.py` writes beside its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import METRICS, OF_CLASSES
from earmark.probing.layouts import LocatedTask
from earmark.probing.options import KNN, LINEAR, RECIPES, STRICT
from earmark.probing.schema import TaskScore, leading_scores
from earmark.probing.tasks import Task
from earmark.probing.xares import SOURCES, shown_scores
from earmark.report.figures import Figure, Interval, forest_plot, matrix, small_multiples
from earmark.report.page import ClipList, ListedClip
from earmark.report.provenance import file_name

MAX_CLASSES = 30  # of a confusion matrix
SHOWN_CLIPS = 12  # of each task
HEAD = "said_0"  # column of the first head's predictions


def probe_figures(
    scores: Sequence[TaskScore], tasks: Mapping[str, Task], compared: set[str], folder: Path
) -> list[Figure]:
    """Draw the scores by task beside published encoders, the scores by layer, and a confusion matrix of each task.

    Parameters
    ----------
    scores : sequence of TaskScore
    tasks : mapping
        {name: task}.
    compared : set of str
        Tasks that may be compared with published encoders.
    folder : Path
        Result folder of the encoder, which holds the predictions.

    Returns
    -------
    list of Figure
    """
    figures = [_by_task(scores, tasks, compared, track) for track in (LINEAR, KNN)]
    figures.append(_by_layer(scores, tasks))
    figures += [layer_map(each) for each in layer_tables(scores)]
    figures += [_confusion(folder, task) for task in tasks.values()]
    return [figure for figure in figures if figure is not None]


def _by_task(scores: Sequence[TaskScore], tasks: Mapping[str, Task], compared: set[str], track: str) -> Figure | None:
    """Scores of the last layer with intervals; published encoders as dots."""
    rows = []
    for row in leading_scores(scores):
        task = tasks.get(row.task)
        if row.layer is not None or row.track != track or METRICS[row.metric].lower_is_better or task is None:
            continue
        rows.append(Interval(row.formal_name, row.score, f"this encoder, {row.protocol}"))
    published = []
    for source in SOURCES:
        published = [
            Interval(tasks[name].formal_name, Estimate(score), f"{encoder} (published)")
            for (name, encoder), score in shown_scores(track, source).items()
            if name in compared and any(row.label == tasks[name].formal_name for row in rows)
        ]
        if published:
            break
    return forest_plot(
        f"tasks_{track}",
        f"Scores by task ({track}) with 95 % intervals; published encoders as dots.",
        [*rows, *published],
        "score",
    )


def _by_layer(scores: Sequence[TaskScore], tasks: Mapping[str, Task]) -> Figure | None:
    panels: dict[str, dict[str, list[tuple[float, Estimate]]]] = {}
    for row in leading_scores(scores):
        if row.layer is not None and not METRICS[row.metric].lower_is_better:
            lines = panels.setdefault(row.formal_name, {})
            lines.setdefault(f"{row.track}, {row.protocol}", []).append((float(row.layer), row.score))
    return small_multiples("layers", "Scores by layer with 95 % intervals.", panels, ("layer", "score"))


@dataclass(frozen=True)
class LayerTable:
    """Scores by layer and task, for one track and recipe.

    Attributes
    ----------
    heading : str
        Track and recipe.
    layers : list of int
        The rows.
    tasks : list of str
        The columns.
    scores : list of lists of Estimate or None
        One list for each layer; None where a task has no score.
    """

    heading: str
    layers: list[int]
    tasks: list[str]
    scores: list[list[Estimate | None]]

    @property
    def rows(self) -> list[list[int | Estimate | None]]:
        """The rows of a table: layer and scores."""
        return [[layer, *scores] for layer, scores in zip(self.layers, self.scores, strict=True)]


def layer_tables(scores: Sequence[TaskScore]) -> list[LayerTable]:
    """Tables of layer × task, of the main metric of each task; errors, which are better when lower, are left out.

    Parameters
    ----------
    scores : sequence of TaskScore
        Scores of one encoder.

    Returns
    -------
    list of LayerTable
        One for each track, recipe and number of shots; empty without scores of layers.
    """
    groups: dict[str, dict[str, dict[int, Estimate]]] = {}
    for row in leading_scores(scores):
        if row.layer is not None and not METRICS[row.metric].lower_is_better:
            heading = f"{row.track}, {row.protocol}" + (f", {row.shots} shots" if row.shots else "")
            groups.setdefault(heading, {}).setdefault(row.formal_name, {})[row.layer] = row.score
    tables = []
    for heading, by_task in groups.items():
        layers = sorted({layer for own in by_task.values() for layer in own})
        cells = [[own.get(layer) for own in by_task.values()] for layer in layers]
        tables.append(LayerTable(heading, layers, list(by_task), cells))
    return tables


def layer_map(table: LayerTable, system: str = "") -> Figure | None:
    """Heat map of layer × task.

    Parameters
    ----------
    table : LayerTable
        The scores.
    system : str
        Name of the encoder, where a report has several.

    Returns
    -------
    Figure or None
        None if no score is defined.
    """
    values = [[np.nan if cell is None or cell.value is None else cell.value for cell in row] for row in table.scores]
    of = f" of {system}" if system else ""
    return matrix(
        "layer_map_" + file_name("_".join(filter(None, (system, table.heading)))),
        f"Scores by layer and task{of} ({table.heading}); each task is shaded from its worst to its best layer.",
        np.array(values, dtype=float),
        [str(layer) for layer in table.layers],
        table.tasks,
        ("layer", "task"),
        by_column=True,
        digits=3,
    )


def _predictions(folder: Path, task: Task) -> pd.DataFrame | None:
    """The predictions of one class per item, of the strict recipe and the linear probe where they exist."""
    for recipe in (STRICT, *RECIPES):
        for track in (LINEAR, KNN):
            path = folder / "predictions" / f"{file_name(task.name)}_{track}_{recipe}.csv"
            if path.is_file():
                table = pd.read_csv(path, dtype=str, keep_default_na=False)
                if {"label", HEAD} <= set(table.columns) and task.metric in OF_CLASSES and task.type == "clip":
                    return table
    return None


def _confusion(folder: Path, task: Task) -> Figure | None:
    """Labels against predictions, of the most frequent classes."""
    table = _predictions(folder, task)
    if table is None:
        return None
    classes = table["label"].value_counts().index[:MAX_CLASSES].tolist()
    inside = table[table["label"].isin(classes)]
    predicted = inside[HEAD].where(inside[HEAD].isin(classes), "(other)")
    columns = [*classes, *(["(other)"] if (predicted == "(other)").any() else [])]
    cells = pd.crosstab(inside["label"], predicted).reindex(index=classes, columns=columns, fill_value=0)
    caption = f"{task.formal_name}: labels against predictions of the first head, counts of test items."
    return matrix(
        f"confusion_{file_name(task.name)}", caption, cells.to_numpy(dtype=float), classes, columns,
        ("label", "predicted"), shares=True,
    )  # fmt: skip


def confused_clips(located: Sequence[LocatedTask], folder: Path) -> list[ClipList]:
    """List misclassified test clips of each task, the most frequent confusions first.

    Parameters
    ----------
    located : sequence of LocatedTask
    folder : Path
        Result folder of the encoder.

    Returns
    -------
    list of ClipList
        Clips of tasks with a manifest or a release have audio; members of tar files are named only.
    """
    lists = []
    for place in located:
        table = _predictions(folder, place.task)
        if table is None:
            continue
        wrong = table[table["label"] != table[HEAD]]
        counts = wrong.groupby(["label", HEAD])["clip"].transform("size")
        order = np.argsort(-counts.to_numpy(), kind="stable")
        clips = []
        for row in wrong.iloc[order].drop_duplicates("clip").head(SHOWN_CLIPS).to_dict("records"):
            name = str(row["clip"])
            audio = None if place.clip_folder is None else place.clip_folder / name
            clips.append([ListedClip(name, audio, [("label", str(row["label"])), ("predicted", str(row[HEAD]))])])
        lists.append(
            ClipList(
                f"{place.task.formal_name}: confused clips", "Misclassified clips, frequent confusions first.", clips
            )
        )
    return lists

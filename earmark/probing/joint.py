"""A table of several encoders: their finished scores side by side, task × encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from earmark.errors import EarmarkError, shown_path
from earmark.files.atomic import lock_when_free, write_together
from earmark.probing.evaluation import METRICS
from earmark.probing.options import STRICT_GIVEN_SPLITS
from earmark.probing.outcome import TaskOutcome, stored_outcomes
from earmark.probing.schema import ProbeSummary, TaskScore
from earmark.report.render import render
from earmark.report.schema import read_summary
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex

Group = tuple[str, str, int | None]  # track, recipe, number of shots


@dataclass(frozen=True)
class FinishedEncoder:
    """A result folder of an encoder.

    Attributes
    ----------
    name : str
        Name of the folder, which tells encoders of one name apart.
    folder : Path
        Result folder.
    summary : ProbeSummary
        Its report.
    """

    name: str
    folder: Path
    summary: ProbeSummary

    @classmethod
    def read(cls, folder: Path, name: str = "") -> "FinishedEncoder":
        """Read a result folder. EarmarkError if it has no valid summary.json."""
        try:
            summary = read_summary(ProbeSummary, folder / "summary.json")
        except OSError as error:
            raise EarmarkError(f"{shown_path(folder)} has no report yet.") from error
        return cls(name or folder.name, folder, summary)


def write_joint_report(output_dir: Path, encoders: Sequence[FinishedEncoder]) -> str:
    """Write report.md, report.tex and scores.csv of several encoders.

    Parameters
    ----------
    output_dir : Path
        Parent of the result folders.
    encoders : sequence of FinishedEncoder
        In the order of the columns.

    Returns
    -------
    str
        The report as Markdown.
    """
    names = [each.name for each in encoders]
    tables = {group: joint_rows(encoders, group) for group in _groups(encoders)}
    report, exported = render(
        "probe_encoders.md.j2",
        names=names,
        tables=[{"heading": _heading(group), "rows": rows} for group, rows in tables.items()],
        notes=[*_missing(encoders), *different_data({each.name: each.folder for each in encoders})],
        command=f"uv run compare.py {' '.join(shown_path(each.folder) for each in encoders)}",
    )
    with lock_when_free(output_dir / ".locks"):
        write_together(
            {
                output_dir / "report.md": report,
                output_dir / "report.tex": to_tex(exported, f"probe {' '.join(names)}"),
                output_dir / "scores.csv": to_csv(joint_scores(encoders)),
            }
        )
    return report


def _groups(encoders: Sequence[FinishedEncoder]) -> list[Group]:
    scores = [row for each in encoders for row in each.summary.scores]
    return list(dict.fromkeys((row.track, row.protocol, row.shots) for row in scores))


def _heading(group: Group) -> str:
    track, recipe, shots = group
    return f"{track}, {recipe}" + (f", {shots} shot{'s' if shots > 1 else ''}" if shots else "")


def joint_rows(encoders: Sequence[FinishedEncoder], group: Group) -> list[list[Any]]:
    """Rows of task, metric and one estimate of each encoder; last the mean over the tasks that all encoders have.

    Parameters
    ----------
    encoders : sequence of FinishedEncoder
        The encoders.
    group : tuple
        Track, recipe and number of shots.

    Returns
    -------
    list of lists
        Scores of layers have a row for each layer. The mean is over the main metrics of tasks that are better when
        higher; there is none for fewer than two tasks, for `strict_given_splits`, or for layers.
    """
    scores = [
        {
            (row.task, row.metric, row.layer): row
            for row in each.summary.scores
            if (row.track, row.protocol, row.shots) == group
        }
        for each in encoders
    ]
    keys = list(dict.fromkeys(key for own in scores for key in own))
    rows: list[list[Any]] = []
    means: list[list[float]] = []
    leading: set[tuple[str, int | None]] = set()
    for key in keys:
        task, metric, layer = key
        found = [own.get(key) for own in scores]
        first = next(row for row in found if row is not None)
        label = first.formal_name + ("" if layer is None else f", layer {layer}")
        rows.append([label, metric, *(None if row is None else row.score for row in found)])
        values = [row.value for row in found if row is not None and row.value is not None]
        main = (task, layer) not in leading
        leading.add((task, layer))
        if main and layer is None and len(values) == len(encoders) and not METRICS[metric].lower_is_better:
            means.append(values)
    if len(means) > 1 and group[1] != STRICT_GIVEN_SPLITS:
        columns = zip(*means, strict=True)
        rows.append([f"mean over {len(means)} tasks", "", *(sum(column) / len(means) for column in columns)])
    return rows


def joint_scores(encoders: Sequence[FinishedEncoder]) -> pd.DataFrame:
    """scores.csv of several encoders: one row for each encoder and score."""
    rows = [[each.name, *row.cells()] for each in encoders for row in each.summary.scores]
    table = pd.DataFrame(rows, columns=["encoder", *TaskScore.COLUMNS])
    return table.astype({"layer": "Int64", "shots": "Int64"})


def _missing(encoders: Sequence[FinishedEncoder]) -> list[str]:
    """Tasks that not all encoders have."""
    tasks = {each.name: {row.task for row in each.summary.scores} for each in encoders}
    every = set().union(*tasks.values())
    return [
        f"{name} has no scores of {', '.join(sorted(absent))}" for name, own in tasks.items() if (absent := every - own)
    ]


def different_data(folders: Mapping[str, Path]) -> list[str]:
    """Tasks whose labels differ between result folders, so that their scores are not comparable.

    Parameters
    ----------
    folders : mapping
        {name: result folder}.
    """
    labels: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        for task, outcome in stored_outcomes(folder):
            if outcome.scores and (digest := _labels(outcome)):
                labels.setdefault(task, {})[name] = digest
    notes = []
    for task, own in sorted(labels.items()):
        first = next(iter(own.values()))
        if others := [name for name, digest in own.items() if digest != first]:
            notes.append(
                f"{task}: {', '.join(others)} had other data than {next(iter(own))}; scores are not comparable"
            )
    return notes


def _labels(outcome: TaskOutcome) -> str:
    return "" if outcome.origin is None else outcome.origin.labels_hash

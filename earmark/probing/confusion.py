"""What was taken for what: answers on test items, class by class and label by label."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.classification import ranking_metrics
from earmark.probing.evaluation import Answers, segments_present

FloatArray = NDArray[np.float64]


def by_frame(answers: Answers) -> Answers:
    """Answers whose items are the labelled frames, of a task that gives each frame one class."""
    known = answers.labels >= 0
    classes = [each.argmax(axis=1)[known] for each in answers.outputs]
    return replace(answers, labels=answers.labels[known], classes=classes)


def per_label(answers: Answers, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each label of clips or frames that may have several, means over heads.

    Of clips: n positives, average precision. Of frames, by segment: n, F1, precision, recall. None where it does not
    exist: nothing positive, or for precision nothing that was said to be.
    """
    columns: dict[str, Any]
    if answers.edges is None:
        found = [[ranking_metrics(each[:, i], answers.labels[:, i])[1] for each in answers.outputs]
                 for i in range(len(names))]  # fmt: skip
        columns = {"n": (answers.labels > 0).sum(axis=0), "average_precision": np.mean(found, axis=1)}
    else:
        true = segments_present(answers.labels, answers)
        said = np.stack([segments_present(each, answers) for each in answers.outputs])
        hits, claims, n = (said * true).sum(axis=1), said.sum(axis=1), true.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = {"f1": 2 * hits / (claims + n), "precision": hits / claims, "recall": hits / n}
        columns = {"n": n.astype(int), **{name: share.mean(axis=0) for name, share in shares.items()}}
    rows = [
        dict(zip(columns, row, strict=True)) for row in zip(*(each.tolist() for each in columns.values()), strict=True)
    ]
    return [
        {"class": name, **{key: value if value == value else None for key, value in row.items()}}
        for name, row in zip(names, rows, strict=True)
    ]


def confusion(answers: Answers, n_classes: int) -> FloatArray:
    """(true, said) how often a class was taken for another, mean over heads."""
    table = np.zeros((n_classes, n_classes))
    for classes in answers.classes:
        np.add.at(table, (answers.labels, classes), 1 / len(answers.classes))
    return table


def hardest(table: FloatArray, names: Sequence[str], most: int) -> dict[str, Any]:
    """The part of a confusion table that tells most: the classes of lowest recall, and what they are taken for.

    {"classes": columns, "rows": [[name, n, share said of each column, share said of others]]}. Columns are
    these classes and the answers that they got most often. No rows where every class is always right.
    """
    n = table.sum(axis=1)
    recall = np.divide(np.diag(table), n, out=np.ones(len(n)), where=n > 0)
    places = np.argsort(recall, kind="stable")[: min(most, int((recall < 1).sum()))]
    shares = table[places] / n[places, np.newaxis]
    said = np.argsort(-shares.sum(axis=0), kind="stable")[:most]
    columns = np.union1d(places, said[shares[:, said].sum(axis=0) > 0])
    rows = [
        [names[place], round(float(n[place])), *(round(float(x), 6) for x in row[columns]), _rest(row, columns)]
        for place, row in zip(places, shares, strict=True)
    ]
    return {"classes": [names[column] for column in columns], "rows": rows}


def _rest(row: FloatArray, columns: NDArray[np.int64]) -> float:
    return round(float(1 - row[columns].sum()), 6)


def per_class(table: FloatArray, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class of a confusion table: n, recall, precision, and what it was most often taken for.

    Recall of a class without test items, and precision of one that is never named, do not exist: None.
    """
    rows = []
    for i, name in enumerate(names):
        n, said, right = table[i].sum(), table[:, i].sum(), table[i, i]
        others = np.where(np.arange(len(names)) == i, 0, table[i])
        wrong = int(others.argmax())
        rows.append(
            {
                "class": name,
                "n": round(float(n)),
                "recall": float(right / n) if n else None,
                "precision": float(right / said) if said else None,
                "taken_for": names[wrong] if others[wrong] > 0 else "",
                "taken_for_share": float(others[wrong] / n) if n else None,
            }
        )
    return rows

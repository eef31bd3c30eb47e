"""What was taken for what: predictions on test items, class by class and label by label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.classification import ranking_metrics
from earmark.probing.evaluation import FramePredictions, Predictions
from earmark.probing.schema import ClassRow, LowestRecallClasses

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def per_label(predictions: Predictions, names: Sequence[str]) -> list[ClassRow]:
    """A row for each label of clips that may have several, means over heads: n positives, average precision.

    None where it does not exist: nothing positive.
    """
    labels = predictions.labels
    found = [[ranking_metrics(each[:, i], labels[:, i])[1] for each in predictions.outputs] for i in range(len(names))]
    return _rows(names, {"n": (labels > 0).sum(axis=0), "average_precision": np.mean(found, axis=1)})


def per_event(predictions: FramePredictions, names: Sequence[str]) -> list[ClassRow]:
    """A row for each label of sound events, by segment, means over heads: n, F1, precision, recall.

    None where it does not exist: nothing positive, or for precision nothing that was predicted to be.
    """
    true = predictions.segment_presence(predictions.labels)
    predicted = np.stack([predictions.segment_presence(each) for each in predictions.outputs])
    hits, claims, n = (predicted * true).sum(axis=1), predicted.sum(axis=1), true.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {"f1": 2 * hits / (claims + n), "precision": hits / claims, "recall": hits / n}
    return _rows(names, {"n": n.astype(int), **{name: share.mean(axis=0) for name, share in shares.items()}})


def _rows(names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> list[ClassRow]:
    """A row for each name; what does not exist is None."""
    rows = zip(names, *(column.tolist() for column in columns.values()), strict=True)
    return [
        {"class": name, **{key: v if v == v else None for key, v in zip(columns, values, strict=True)}}
        for name, *values in rows
    ]


def confusion_matrix(labels: IntArray, classes: Sequence[IntArray], n_classes: int) -> FloatArray:
    """(true, predicted) how often a class was taken for another, mean over heads.

    labels: (n,); classes: for each head (n,) what it named.
    """
    table = np.zeros((n_classes, n_classes))
    for named in classes:
        np.add.at(table, (labels, named), 1 / len(classes))
    return table


def lowest_recall_classes(table: FloatArray, names: Sequence[str], most: int) -> LowestRecallClasses:
    """The part of a confusion table that tells most: the classes of lowest recall, and what they are taken for.

    Columns are these classes and the answers that they got most often. No rows where every class is always right.
    """
    n = table.sum(axis=1)
    recall = np.divide(np.diag(table), n, out=np.ones(len(n)), where=n > 0)
    places = np.argsort(recall, kind="stable")[: min(most, int((recall < 1).sum()))]
    shares = table[places] / n[places, np.newaxis]
    predicted = np.argsort(-shares.sum(axis=0), kind="stable")[:most]
    columns = np.union1d(places, predicted[shares[:, predicted].sum(axis=0) > 0])
    rows = [
        [names[place], round(float(n[place])), *(round(float(share), 6) for share in _with_rest(row, columns))]
        for place, row in zip(places, shares, strict=True)
    ]
    return LowestRecallClasses(classes=[names[column] for column in columns], rows=rows)


def _with_rest(shares: FloatArray, columns: IntArray) -> FloatArray:
    """The shares of some columns, then of all others together."""
    return np.append(shares[columns], 1 - shares[columns].sum())


def per_class(table: FloatArray, names: Sequence[str]) -> list[ClassRow]:
    """A row for each class of a confusion table: n, recall, precision, and what it was most often taken for.

    Recall of a class without test items, and precision of one that is never named, do not exist: None.
    """
    rows: list[ClassRow] = []
    for i, name in enumerate(names):
        n, predicted, right = table[i].sum(), table[:, i].sum(), table[i, i]
        others = np.where(np.arange(len(names)) == i, 0, table[i])
        wrong = int(others.argmax())
        rows.append(
            {
                "class": name,
                "n": round(float(n)),
                "recall": float(right / n) if n else None,
                "precision": float(right / predicted) if predicted else None,
                "taken_for": names[wrong] if others[wrong] > 0 else "",
                "taken_for_share": float(others[wrong] / n) if n else None,
            }
        )
    return rows

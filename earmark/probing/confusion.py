"""Confusion matrices and metrics by class or label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.classification import ranking_metrics
from earmark.metrics.intervals import interval
from earmark.metrics.ratio import ratio
from earmark.probing.evaluation import FramePredictions, Predictions
from earmark.probing.schema import ClassRow, LowestRecallClasses

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def per_label(predictions: Predictions, names: Sequence[str]) -> list[ClassRow]:
    """Average precision of each label of multilabel clips, mean over heads.

    Parameters
    ----------
    predictions : Predictions
        Labels (n, C) 0/1, and outputs.
    names : sequence of str
        Names of the C labels.

    Returns
    -------
    list of dict
        Class, number of positives, average precision (None without positives).
    """
    labels = predictions.labels
    precisions = [
        [ranking_metrics(each[:, i], labels[:, i])[1] for each in predictions.outputs] for i in range(len(names))
    ]
    return _rows(names, {"n": (labels > 0).sum(axis=0), "average_precision": np.mean(precisions, axis=1)})


def per_event(predictions: FramePredictions, names: Sequence[str]) -> list[ClassRow]:
    """F1, precision and recall of each sound event on segments, mean over heads.

    Parameters
    ----------
    predictions : FramePredictions
        Labels (T, C) 0/1, and outputs.
    names : sequence of str
        Names of the C labels.

    Returns
    -------
    list of dict
        Class, number of positive segments, F1, precision, recall. Undefined values are None.
    """
    true = predictions.segment_presence(predictions.labels)
    predicted = np.stack([predictions.segment_presence(each) for each in predictions.outputs])
    true_positives, n_predicted, n = (predicted * true).sum(axis=1), predicted.sum(axis=1), true.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        metrics = {
            "f1": 2 * true_positives / (n_predicted + n),
            "precision": true_positives / n_predicted,
            "recall": true_positives / n,
        }
    return _rows(names, {"n": n.astype(int), **{name: share.mean(axis=0) for name, share in metrics.items()}})


def _rows(names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> list[ClassRow]:
    """One row per name; NaN becomes None."""
    rows = zip(names, *(column.tolist() for column in columns.values()), strict=True)
    return [
        {"class": name, **{key: v if v == v else None for key, v in zip(columns, values, strict=True)}}
        for name, *values in rows
    ]


def confusion_matrix(labels: IntArray, classes: Sequence[IntArray], n_classes: int) -> FloatArray:
    """Confusion matrix, mean over heads.

    Parameters
    ----------
    labels : (n,) int
        True classes.
    classes : sequence of (n,) int
        Predicted classes of each head.
    n_classes : int
        Number of classes C.

    Returns
    -------
    (C, C) float
        Rows: true class; columns: predicted class.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1]), [np.array([0, 1, 1])], 2).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    table = np.zeros((n_classes, n_classes))
    for predicted in classes:
        np.add.at(table, (labels, predicted), 1 / len(classes))
    return table


def lowest_recall_classes(table: FloatArray, names: Sequence[str], max_classes: int) -> LowestRecallClasses:
    """Part of a confusion matrix: the classes with the lowest recall and their most frequent predictions.

    Parameters
    ----------
    table : (C, C) float
        Confusion matrix.
    names : sequence of str
        Class names.
    max_classes : int
        Maximum number of rows.

    Returns
    -------
    LowestRecallClasses
        Columns are the classes of the rows and their most frequent predictions. No rows if every recall is 1.

    Examples
    --------
    >>> lowest_recall_classes(np.array([[3.0, 1.0], [0.0, 2.0]]), ["a", "b"], 8).rows
    [['a', 4, 0.75, 0.25, 0.0]]
    """
    n = table.sum(axis=1)
    recall = np.divide(np.diag(table), n, out=np.ones(len(n)), where=n > 0)
    lowest = np.argsort(recall, kind="stable")[: min(max_classes, int((recall < 1).sum()))]
    shares = table[lowest] / n[lowest, np.newaxis]
    predicted = np.argsort(-shares.sum(axis=0), kind="stable")[:max_classes]
    columns = np.union1d(lowest, predicted[shares[:, predicted].sum(axis=0) > 0])
    rows = [
        [names[index], round(float(n[index])), *(round(float(share), 6) for share in _with_rest(row, columns))]
        for index, row in zip(lowest, shares, strict=True)
    ]
    return LowestRecallClasses(classes=[names[column] for column in columns], rows=rows)


def _with_rest(shares: FloatArray, columns: IntArray) -> FloatArray:
    """Shares of the columns, followed by the share of all other classes."""
    return np.append(shares[columns], 1 - shares[columns].sum())


def recall_intervals(
    labels: IntArray, classes: Sequence[IntArray], group: Sequence[str], n_classes: int
) -> list[tuple[float, float] | None]:
    """95 % confidence interval of the recall of each class, mean over heads.

    Recall is a ratio of sums over sources, so its standard error is that of the linearised ratio; the interval is
    Wilson's on the effective number of items.

    Parameters
    ----------
    labels : (n,) int
        True classes.
    classes : sequence of (n,) int
        Predicted classes of each head.
    group : (n,) sequence
        Source of each item.
    n_classes : int
        Number of classes C.

    Returns
    -------
    list of (low, high) or None
        None for a class with items of fewer than two sources.

    References
    ----------
    Cochran (1977), Sampling Techniques, ch. 6 (ratio estimates); `intervals.interval` for the interval.

    Examples
    --------
    >>> ends, none = recall_intervals(np.array([0, 0, 0, 1]), [np.array([0, 0, 1, 1])], list("abcd"), 2)
    >>> [round(end, 2) for end in ends], none
    ([0.04, 0.99], None)
    """
    hits = np.mean([each == labels for each in classes], axis=0)
    _, source = np.unique(np.asarray(group), return_inverse=True)
    cells, cell = np.unique(labels * (source.max(initial=0) + 1) + source.ravel(), return_inverse=True)
    of_class = cells // (source.max(initial=0) + 1)
    right, items = np.bincount(cell.ravel(), hits), np.bincount(cell.ravel())
    recall = ratio(np.bincount(of_class, right, n_classes), np.bincount(of_class, items, n_classes))
    squares = np.bincount(of_class, (right - recall[of_class] * items) ** 2, n_classes)
    n, n_sources = np.bincount(of_class, items, n_classes), np.bincount(of_class, minlength=n_classes)
    errors = np.sqrt(ratio(squares * n_sources, n**2 * (n_sources - 1.0)))
    return [interval(r, e, units=m) for r, e, m in zip(recall.tolist(), errors.tolist(), n_sources, strict=True)]


def per_class(
    table: FloatArray, names: Sequence[str], recall_ends: Sequence[tuple[float, float] | None] = ()
) -> list[ClassRow]:
    """Recall, precision, F1 and most frequent error of each class.

    Parameters
    ----------
    table : (C, C) float
        Confusion matrix.
    names : sequence of str
        Class names.
    recall_ends : sequence of (low, high) or None, optional
        Interval of the recall of each class (`recall_intervals`).

    Returns
    -------
    list of dict
        Class, number of items, recall (None without items), its interval if given, precision (None if never
        predicted), F1 (None without items), most frequent wrong class and its share.
    """
    rows: list[ClassRow] = []
    ends = [each or (None, None) for each in recall_ends]
    for i, name in enumerate(names):
        n, predicted, correct = table[i].sum(), table[:, i].sum(), table[i, i]
        errors = np.where(np.arange(len(names)) == i, 0, table[i])
        top_error = int(errors.argmax())
        rows.append(
            {
                "class": name,
                "n": round(float(n)),
                "recall": float(correct / n) if n else None,
                **({"recall_low": ends[i][0], "recall_high": ends[i][1]} if ends else {}),
                "precision": float(correct / predicted) if predicted else None,
                "f1": float(2 * correct / (n + predicted)) if n else None,
                "taken_for": names[top_error] if errors[top_error] > 0 else "",
                "taken_for_share": float(errors[top_error] / n) if n else None,
            }
        )
    return rows

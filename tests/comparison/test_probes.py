"""Comparison of probe results: which scores enter the mean over tasks."""

import numpy as np
import pytest

from earmark.comparison.probes import ComparedTask, compare_tasks
from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import ClassPredictions
from earmark.probing.schema import TaskScore


def compared(task: str, metric: str, right: tuple[int, int]) -> ComparedTask:
    """Ten clips of two classes, of which two encoders answer the first `right` correctly."""
    labels = np.arange(10) % 2
    predictions = [
        ClassPredictions(
            [str(i) for i in range(10)], np.zeros(10, int), labels, classes=[np.where(np.arange(10) < n, labels, 2)]
        )
        for n in right
    ]
    score = TaskScore(
        task=task, formal_name=task, domain="", track="knn", protocol="strict", metric=metric, score=Estimate(0.5),
        n_test=10, weight=1.0, private=False, folds=1, n_heads=1, seconds=0.0,
    )  # fmt: skip
    return ComparedTask(score, predictions, [], 0)


def test_mean_over_tasks_counts_each_task_once():
    tasks = [
        compared("a", "accuracy", (4, 6)), compared("a", "macro_f1", (4, 6)), compared("b", "accuracy", (10, 8)),
    ]  # fmt: skip
    mean, *rows = compare_tasks(tasks, 50, 0)
    assert mean.metric == "mean over tasks (knn, strict)"
    assert list(mean.values) == pytest.approx([(0.4 + 1.0) / 2, (0.6 + 0.8) / 2])
    assert [each.metric for each in rows] == ["accuracy", "macro_f1", "accuracy"]
    assert list(rows[1].values) == pytest.approx([2 * 2 / (2 + 5), 2 * 3 / (3 + 5)])

"""Comparison of probe results: which scores enter the mean over tasks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.comparison.differences import Compared, MetricOfSystems
from earmark.comparison.probes import LAYERS_NOTE, ComparedTask, compare_layers, compare_tasks
from earmark.errors import EarmarkError
from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import ClassPredictions, Predictions
from earmark.probing.schema import ProbeSummary, TaskScore


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


def test_intervals_of_errors_have_the_range_of_errors():
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 10, (40, 1))
    predictions = [
        Predictions([str(i) for i in range(40)], np.zeros(40, int), labels, [labels + error])
        for error in (rng.normal(0, 5, (40, 1)), rng.normal(0, 6, (40, 1)))
    ]
    score = compared("a", "mse", (1, 1)).score
    (row,) = compare_tasks([ComparedTask(score, predictions, [], 0)], 100, 0)
    for place, own in enumerate(predictions):
        estimate = row.estimate(place)
        assert estimate.value == pytest.approx(np.mean((own.outputs[0] - labels) ** 2))
        assert 1 < estimate.low < estimate.value < estimate.high


def of_values(values, half_width, lower_is_better=False):
    """Systems whose differences all have intervals of this half width; None for no intervals."""

    def compare(one, other):
        gap = values[one] - values[other]
        ends = (None, None) if half_width is None else (gap - half_width, gap + half_width)
        return Compared(Estimate(gap, *ends), None, 1.0)

    return MetricOfSystems("accuracy", values, compare, 10, lower_is_better=lower_is_better)


@pytest.mark.parametrize(
    ("values", "half_width", "lower", "ranks"),
    [
        ([0.1, 0.4, 0.3], 0.15, False, [3, 1, 1]),
        ([0.1, 0.4, 0.3], 0.15, True, [1, 2, 2]),  # 0.3 is the best of the others
        ([0.1, 0.2, 0.3], 0.15, False, [3, 1, 1]),  # 0.1 and 0.2 are tied with each other, but not with the best
        ([0.5, 0.5], 0.0, False, [1, 1]),
        ([0.5, None, 0.9], 0.1, False, [2, None, 1]),
        ([None, None], 0.1, False, [None, None]),
        ([0.5, 0.9], None, False, [None, None]),
        ([0.9], 0.1, False, [1]),
    ],
)
def test_ranks_of_systems_with_ties(values, half_width, lower, ranks):
    metric = of_values(values, half_width, lower)
    assert metric.ranks() == ranks
    if half_width is not None:
        assert metric.tied_with_best() == [None if r is None else r == 1 for r in ranks]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.floats(0, 0.5),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_ranks_do_not_depend_on_the_order_and_count_those_before(values, half_width, lower, random):
    ranks = of_values(values, half_width, lower).ranks()
    for value, rank in zip(values, ranks, strict=True):
        better = [own for own, other in zip(values, ranks, strict=True) if other < rank]
        assert rank == 1 + len(better)
        assert all(own >= value if lower is False else own <= value for own in better)
    order = list(range(len(values)))
    random.shuffle(order)
    assert of_values([values[i] for i in order], half_width, lower).ranks() == [ranks[i] for i in order]


def a_layered_summary(values):
    score = compared("a", "accuracy", (1, 1)).score
    rows = [score.model_copy(update={"layer": layer, "score": Estimate(value)}) for layer, value in enumerate(values)]
    return ProbeSummary.model_construct(scores=rows)


def test_compare_layers_gives_values_without_intervals_of_differences():
    found = compare_layers({"x": a_layered_summary([0.2, 0.4]), "y": a_layered_summary([0.5, 0.3, 0.9])})
    assert [list(metric.values) for metric in found.metrics] == [[0.2, 0.5], [0.4, 0.3]]  # the layers that both have
    difference = found.metrics[0].compare(1, 0).difference
    assert difference.value == pytest.approx(0.3) and difference.low is None and difference.why == LAYERS_NOTE
    assert [(table.headers, [row[0] for row in table.rows]) for table in found.tables] == [
        (["layer", "a"], [0, 1]), (["layer", "a"], [0, 1, 2]),
    ]  # fmt: skip
    assert [figure.name for figure in found.figures] == ["layer_map_x_knn-strict", "layer_map_y_knn-strict"]


def test_compare_layers_refuses_other_items():
    other = a_layered_summary([0.5])
    other.scores[0] = other.scores[0].model_copy(update={"n_test": 11})
    with pytest.raises(EarmarkError, match="the test items differ"):
        compare_layers({"x": a_layered_summary([0.2]), "y": other})

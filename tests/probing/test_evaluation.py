"""Metrics of probes: by hand, against scikit-learn and jiwer, and their replicates against resampled answers."""

from dataclasses import replace
from itertools import pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.intervals import COST, SHARE, interval
from earmark.probing.confusion import confusion_matrix, lowest_recall_classes, per_class, per_event, per_label
from earmark.probing.evaluation import (
    FOLDS_NOTE,
    METRICS,
    CaptionPredictions,
    ClassPredictions,
    FramePredictions,
    Predictions,
    score,
)
from earmark.probing.recall import source_influences
from earmark.probing.task_types import task_type
from earmark.probing.xares import published_tasks

N, LABELS = 12, 3
FOLDS = np.arange(N) % 4
GROUPS = [f"source {i // 2}" for i in range(N)]  # two items each
EDGES = np.concatenate([[0], np.cumsum([3, 5, 4, 7, 3, 6, 5, 4, 3, 8, 5, 2])])
TEXTS = ["one two three", "four", "five six", "seven eight nine ten", "one", "two two"] * 2
HEARD = ["one three", "four", "five seven six", "seven nine ten", "", "two"] * 2


def generator(seed=0):
    return np.random.default_rng(seed)


def answers_for(metric, seed=0):
    """Random predictions of two heads in the shape that a metric reads."""
    rng = generator(seed)
    common = {"group": GROUPS, "fold": FOLDS}
    if metric == "accuracy":
        labels = rng.integers(0, LABELS, N)
        return ClassPredictions(**common, labels=labels, classes=[rng.integers(0, LABELS, N) for _ in range(2)])
    if metric == "eer":
        outputs = [rng.normal(size=(N, 2)) for _ in range(2)]
        return ClassPredictions(**common, labels=np.arange(N) % 2, outputs=outputs)
    if metric == "mAP":
        hot = (rng.random((N, LABELS)) < 0.4).astype(int)
        return Predictions(**common, labels=hot, outputs=[rng.normal(size=(N, LABELS)).round(1) for _ in range(2)])
    if metric in ("mse", "mae"):
        labels, *outputs = (rng.normal(size=(N, 2)) for _ in range(3))
        return Predictions(**common, labels=labels, outputs=outputs)
    if metric == "recall_at_1":
        owner = np.repeat(np.arange(N), 1 + np.arange(N) % 3)
        outputs = [rng.normal(size=(N, len(owner))) for _ in range(2)]
        return CaptionPredictions(**common, labels=None, outputs=outputs, owner=owner)
    if metric == "word_accuracy":
        return Predictions(**common, labels=TEXTS, outputs=[HEARD, TEXTS])
    frames = rng.normal(size=(2, EDGES[-1], LABELS))
    if metric == "frame_accuracy":
        labels = rng.integers(-1, LABELS, EDGES[-1])
        return FramePredictions(**common, labels=labels, outputs=list(frames), edges=EDGES)
    hot = (rng.random((EDGES[-1], LABELS)) < 0.2).astype(int)
    return FramePredictions(**common, labels=hot, outputs=list(frames), edges=EDGES, segment_frames=2)


def taken(answers, items):
    """The predictions on these items, each as often as it is named: what a replicate's data are."""
    rows, further = items, {}
    if isinstance(answers, ClassPredictions):
        further = {"classes": [each[items] for each in answers.classes]}
    if isinstance(answers, FramePredictions):
        rows = np.concatenate([np.arange(answers.edges[i], answers.edges[i + 1]) for i in items])
        further = {"edges": np.concatenate([[0], np.cumsum(np.diff(answers.edges)[items])])}

    def pick(values):
        return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]

    return replace(
        answers,
        group=[answers.group[i] for i in items],
        fold=answers.fold[items],
        labels=pick(answers.labels),
        outputs=[pick(each) for each in answers.outputs],
        **further,
    )


def value(metric, answers):
    return METRICS[metric].compute(answers, Bootstrap.from_units(answers.group, 0, generator()))[0]


# --- by hand ------------------------------------------------------------------------------------------------


def clip_answers(**changes):
    """Two folds, of three items and of one: right are 2 of 3 and 0 of 1 (first head), all (second)."""
    labels = np.array([0, 1, 1, 0])
    told = [np.array([0, 1, 0, 1]), labels]
    return ClassPredictions(list("abcd"), np.array([0, 0, 0, 1]), labels, classes=told, **changes)


def test_accuracy_pooled_and_by_fold():
    assert value("accuracy", clip_answers()).tolist() == [0.5, 1.0]
    by_fold = score("accuracy", clip_answers(by_fold=True), 0, generator()).value
    assert by_fold == pytest.approx(((2 / 3 + 0) / 2 + 1.0) / 2)  # of two heads
    estimate = score("accuracy", clip_answers(), 0, generator())
    assert (estimate.value, estimate.low, estimate.n) == (0.75, None, 4)


def test_mse_and_mae_average_items_and_values():
    labels, said = np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    answers = Predictions(["a", "b"], np.zeros(2, int), labels, [said])
    assert value("mse", answers)[0] == (1 + 0 + 0 + 4) / 4
    assert value("mae", answers)[0] == (1 + 0 + 0 + 2) / 4


def test_mse_by_fold_averages_folds():
    labels, said = np.array([[0.0], [0.0], [0.0]]), np.array([[3.0], [0.0], [1.0]])
    answers = Predictions(["a", "b", "c"], np.array([0, 1, 1]), labels, [said], by_fold=True)
    assert score("mse", answers, 0, generator()).value == (9 + 0.5) / 2
    assert score("mse", replace(answers, by_fold=False), 0, generator()).value == pytest.approx(10 / 3)


def test_equal_error_rate_targets_second_class():
    """Spoofs score 3, 2, 0 and humans 1, −1, −2. The hull has misses and false alarms (⅓, 0) and (0, ⅓): ⅙ of both."""
    logits = np.array([[0.0, 3], [0, 2], [0, 0], [0, 1], [0, -1], [0, -2]])
    labels = np.array([1, 1, 1, 0, 0, 0])
    answers = ClassPredictions(list("abcdef"), np.zeros(6, int), labels, [logits, logits + 7, -logits])
    found = value("eer", answers)
    assert found == pytest.approx([1 / 6, 1 / 6, 1 / 2])


def test_frame_accuracy_ignores_unlabelled_frames():
    logits = np.eye(2)[[0, 1, 1, 0, 1]]
    answers = FramePredictions(
        ["a", "b"], np.zeros(2, int), np.array([0, 0, -1, -1, 1]), [logits], edges=np.array([0, 2, 5])
    )
    assert value("frame_accuracy", answers)[0] == 2 / 3


def test_segment_f1_segments_do_not_cross_clips():
    """Clips of 3 and 2 frames in segments of 2: [1], [0] and [1]. Said: [1], [1] and [0]. F1 = 2·1 / (2 + 2)."""
    true, said = np.array([[0], [1], [0], [1], [0]]), np.array([[5.0], [-1], [2], [-3], [-3]])
    answers = FramePredictions(["a", "b"], np.zeros(2, int), true, [said], edges=np.array([0, 3, 5]), segment_frames=2)
    assert value("segment_f1_micro", answers)[0] == value("segment_f1_macro", answers)[0] == 0.5


def test_recall_at_1_averages_both_directions():
    """Clip 0 finds a caption of its own, clip 1 does not; of three captions the first two find their clip."""
    similarity = np.array([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]])
    answers = CaptionPredictions(["a", "b"], np.zeros(2, int), None, [similarity], owner=np.array([0, 0, 1]))
    assert value("recall_at_1", answers)[0] == pytest.approx((2 / 2 + 2 / 3) / 2)
    worse = replace(answers, outputs=[similarity[::-1]])
    assert value("recall_at_1", worse)[0] == pytest.approx((0 / 2 + 1 / 3) / 2)


def test_word_accuracy_pools_utterances():
    answers = Predictions(["a", "b"], np.zeros(2, int), ["a b c", "d"], [["a c", "d"], ["", "x y z"]])
    assert value("word_accuracy", answers).tolist() == [0.75, 0.0]  # 1 of 4; then 3 + 3 errors, which is below none


# --- other tools --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_metrics_match_scikit_learn(seed):
    clip, labels = answers_for("accuracy", seed), answers_for("mAP", seed)
    assert value("accuracy", clip) == pytest.approx([sk.accuracy_score(clip.labels, each) for each in clip.classes])
    occurring = labels.labels.any(axis=0)
    expected = [sk.average_precision_score(labels.labels[:, occurring], each[:, occurring]) for each in labels.outputs]
    assert value("mAP", labels) == pytest.approx(expected)
    numbers = answers_for("mse", seed)
    assert value("mse", numbers) == pytest.approx([sk.mean_squared_error(numbers.labels, x) for x in numbers.outputs])
    assert value("mae", numbers) == pytest.approx([sk.mean_absolute_error(numbers.labels, x) for x in numbers.outputs])


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_segment_f1_matches_scikit_learn(average, size):
    answers = replace(answers_for("segment_f1_macro"), segment_frames=size)
    pieces = [
        slice(start, min(start + size, stop)) for begin, stop in pairwise(EDGES) for start in range(begin, stop, size)
    ]
    true = np.array([answers.labels[piece].max(axis=0) for piece in pieces])
    expected = [
        sk.f1_score(true, np.array([each[p].max(axis=0) > 0 for p in pieces]), average=average, zero_division=0)
        for each in answers.outputs
    ]
    assert value(f"segment_f1_{average}", answers) == pytest.approx(expected)


def test_word_accuracy_matches_jiwer():
    assert value("word_accuracy", answers_for("word_accuracy"))[0] == pytest.approx(1 - jiwer.wer(TEXTS, HEARD))


def test_word_accuracy_undefined_without_words():
    answers = replace(answers_for("word_accuracy"), labels=[""] * N)
    assert (
        score("word_accuracy", answers, 20, generator()).why
        == "the test set lacks what the metric needs, such as a positive label"
    )


def test_recall_at_1_from_retrieval_prediction_columns():
    answers = answers_for("recall_at_1")
    for said, expected in zip(
        task_type(published_tasks()["clotho"]).prediction_columns(answers, np.array([])).predicted,
        value("recall_at_1", answers),
        strict=True,
    ):
        ranks = [(int(own), list(map(int, of.split("|")))) for own, of in (each.split(":") for each in said)]
        assert [len(of) for _, of in ranks] == np.bincount(answers.owner).tolist()
        captions = [rank for _, of in ranks for rank in of]
        assert (np.mean([own == 1 for own, _ in ranks]) + np.mean([rank == 1 for rank in captions])) / 2 == expected


# --- replicates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "mse", "mAP", "segment_f1_macro", "frame_accuracy"])
def test_by_fold_replicates_average_folds_of_drawn_sources(metric):
    fold = np.arange(N) // 2 % 3 // 2  # of four sources, and of two
    answers = replace(answers_for(metric), fold=fold, by_fold=True)
    parts = [taken(answers, np.flatnonzero(fold == number)) for number in (0, 1)]
    found = score(metric, answers, 60, generator(5))
    assert found.value == pytest.approx(np.mean([value(metric, part) for part in parts]))
    bootstrap = Bootstrap.from_units(answers.group, 60, generator(5))
    drawn = []
    for weights in bootstrap.weights:
        chosen = np.repeat(np.arange(N), weights[bootstrap.unit])
        of_folds = [chosen[fold[chosen] == number] for number in (0, 1)]
        times = np.array([len(own) / (fold == number).sum() for number, own in enumerate(of_folds)])
        means = np.array([value(metric, taken(answers, own)).mean() if len(own) else 0 for own in of_folds])
        drawn.append((means * times).sum() / times.sum())
    values = COST if metric == "mse" else SHARE
    assert (found.low, found.high) == pytest.approx(spread(found.value, drawn, bootstrap, values))


def test_by_fold_with_folds_as_sources_and_single_class_fold():
    answers = replace(answers_for("accuracy"), fold=np.arange(N) // 2, by_fold=True)  # each fold is one source
    found = score("accuracy", answers, 200, generator())
    assert found == score("accuracy", replace(answers, by_fold=False), 200, generator())  # as drawn, so often it counts
    one_class = replace(answers_for("eer"), fold=np.arange(N) % 2, by_fold=True)
    assert (
        score("eer", one_class, 20, generator()).why
        == "the test set lacks what the metric needs, such as a positive label"
    )


def test_segment_f1_macro_excludes_labels_not_drawn():
    """Two clips, one label each, both found: whichever clip is drawn, what was there was found."""
    frames = np.eye(2, dtype=int)
    answers = FramePredictions(["a", "b"], np.zeros(2, int), frames, [frames - 0.5], edges=np.array([0, 1, 2]))
    drawn = METRICS["segment_f1_macro"].compute(answers, Bootstrap.from_units(answers.group, 20, generator()))[1]
    assert (drawn == 1).all()
    wide = replace(answers, labels=np.eye(2, 3, dtype=int), outputs=[np.eye(2, 3) - 0.5])  # the third is nowhere
    drawn = METRICS["segment_f1_macro"].compute(wide, Bootstrap.from_units(wide.group, 20, generator()))[1]
    assert set(drawn.ravel().round(6)) == {0.5, round(2 / 3, 6)}


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "recall_at_1"])
def test_replicates_equal_metric_of_drawn_sources(metric):
    answers = answers_for(metric)
    bootstrap = Bootstrap.from_units(answers.group, 25, generator(5))
    drawn = METRICS[metric].compute(answers, bootstrap)[1]
    for weights, found in zip(bootstrap.weights, drawn, strict=True):
        items = np.repeat(np.arange(N), weights[bootstrap.unit])
        again = taken(answers, items)
        if metric == "eer" and len(set(again.labels)) < 2:
            continue
        assert found == pytest.approx(value(metric, again))
    assert len(np.unique(drawn[:, 0])) > 3


def test_recall_at_1_replicates_sum_source_influences():
    answers = answers_for("recall_at_1")
    bootstrap = Bootstrap.from_units(answers.group, 25, generator(5))
    values, drawn = METRICS["recall_at_1"].compute(answers, bootstrap)
    of_first = source_influences(answers.outputs[0], answers.owner, bootstrap.unit)
    for weights, found in zip(bootstrap.weights, drawn, strict=True):
        assert found[0] == pytest.approx(values[0] + np.repeat(of_first, weights).mean())


def test_interval_adds_variance_of_draws():
    """Two draws, right on 3 and 2 of 4 sources and on 2 and 1: what varies over both is in neither alone."""
    answers = replace(answers_for("accuracy"), draws=True)
    bootstrap = Bootstrap.from_units(answers.group, 400, generator(3))
    drawn = METRICS["accuracy"].compute(answers, bootstrap)[1]
    units = bootstrap.n_units
    of_sources, of_one = (np.var(x, axis=0, ddof=1).mean() * units / (units - 1) for x in (drawn.mean(1), drawn))
    values = value("accuracy", answers)
    of_draws = np.var(values, ddof=1) / 2
    total = max(of_sources + of_draws - (of_one - of_sources), of_sources, of_draws)
    df = (of_sources + of_draws) ** 2 / (of_sources**2 / (units - 1) + of_draws**2)
    found = score("accuracy", answers, 400, generator(3))
    assert (found.low, found.high) == pytest.approx(interval(values.mean(), np.sqrt(total), units=units, df=df))
    alone = score("accuracy", replace(answers, draws=False), 400, generator(3))
    assert alone.value == found.value
    assert (alone.low, alone.high) == pytest.approx(spread(found.value, drawn.mean(axis=1), bootstrap))


def test_interval_of_identical_draws_equals_source_interval():
    answers = answers_for("accuracy")
    one = replace(answers, classes=answers.classes[:1])
    same = replace(one, classes=one.classes * 3, draws=True)
    assert score("accuracy", same, 200, generator()) == score("accuracy", one, 200, generator())
    all_right = replace(one, classes=[one.labels] * 3, draws=True)
    assert score("accuracy", all_right, 200, generator()).high == 1.0


def spread(value, replicates, bootstrap, values=SHARE):
    """The interval that the standard deviation of replicates gives."""
    units = bootstrap.n_units
    return interval(value, np.std(replicates, ddof=1) * np.sqrt(units / (units - 1)), units=units, values=values)


def test_note_mentions_folds():
    answers = answers_for("accuracy")
    assert score("accuracy", answers, 20, generator()).note == f"only 6 sources; 95 % intervals need 20; {FOLDS_NOTE}"
    many = replace(answers, group=[f"{i}" for i in range(N)], fold=np.zeros(N, int))
    assert "folds" not in score("accuracy", many, 20, generator()).note
    without = score("accuracy", replace(answers, group=["one"] * N), 20, generator())
    assert (without.low, without.note) == (None, None)


@pytest.mark.parametrize(
    ("metric", "labels", "decide"),
    [
        ("eer", np.arange(N) < 3, (2, "sources of the rarer class")),
        ("mAP", np.arange(N)[:, None] == [[0, 1, 2]], (2, "sources with a label")),
        ("frame_accuracy", np.where(np.arange(EDGES[-1]) < 8, 0, -1), (1, "sources with a label")),
        ("segment_f1_macro", np.arange(EDGES[-1])[:, None] == [[0, 9, 20]], (3, "sources with an event")),
        ("segment_f1_micro", np.arange(EDGES[-1])[:, None] == [[0, 9, 20]], (3, "sources with an event")),
        ("word_accuracy", ["a b", "", "c d", *[""] * (N - 3)], (2, "sources with words")),
    ],
)
def test_units_are_informative_sources(metric, labels, decide):
    answers = replace(answers_for(metric), labels=labels)
    assert METRICS[metric].units(answers, Bootstrap.from_units(answers.group, 0, generator(), "sources")) == decide


def test_note_of_few_informative_sources():
    found = score("eer", replace(answers_for("eer"), fold=np.zeros(N, int), labels=np.arange(N) < 5), 400, generator())
    assert found.note == "only 3 sources of the rarer class; 95 % intervals need 20"


def test_single_source_has_no_interval():
    for metric in METRICS:
        found = score(metric, replace(answers_for(metric), group=["alone"] * N), 20, generator())
        assert found.value is not None and (found.low, found.high, found.n) == (None, None, N)


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_metrics_ignore_item_order(metric, seed):
    answers = answers_for(metric, seed % 7)
    order = np.random.default_rng(seed).permutation(N)
    if metric == "recall_at_1":
        place = np.argsort(order)[answers.owner]
        shuffled = replace(answers, outputs=[each[order] for each in answers.outputs], owner=place)
    else:
        shuffled = taken(answers, order)
    assert value(metric, shuffled) == pytest.approx(value(metric, answers))


# --- what does not exist ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_undefined_metric_has_reason():
    nothing = replace(answers_for("mAP"), labels=np.zeros((N, LABELS), int))
    assert (
        score("mAP", nothing, 20, generator()).why
        == "the test set lacks what the metric needs, such as a positive label"
    )
    human = replace(answers_for("eer"), labels=np.zeros(N, int))
    assert score("eer", human, 20, generator()).value is None
    unlabelled = replace(answers_for("frame_accuracy"), labels=np.full(EDGES[-1], -1))
    assert score("frame_accuracy", unlabelled, 20, generator()).value is None


@pytest.mark.filterwarnings("error")
def test_map_of_one_positive_has_no_interval():
    labels = np.zeros((N, LABELS), int)
    labels[4, 1] = 1
    found = score("mAP", replace(answers_for("mAP"), labels=labels), 200, generator())
    assert found.value is not None and found.low is None
    assert found.why is not None and "undefined in" in found.why


def test_absent_label_excluded_from_map_and_zero_in_macro_f1():
    answers = answers_for("mAP")
    labels = np.array(answers.labels)
    labels[:, 2] = 0
    expected = [sk.average_precision_score(labels[:, :2], each[:, :2]) for each in answers.outputs]
    assert value("mAP", replace(answers, labels=labels)) == pytest.approx(expected)
    silent = FramePredictions(
        ["a"], np.zeros(1, int), np.array([[1, 0]]), [np.array([[1.0, -1.0]])], edges=np.array([0, 1])
    )
    assert value("segment_f1_macro", silent)[0] == 0.5 and value("segment_f1_micro", silent)[0] == 1.0


def test_equal_error_rate_rejects_three_classes():
    three = replace(answers_for("eer"), outputs=[generator().normal(size=(N, 3))])
    with pytest.raises(ValueError, match="equal error rate needs two classes, not 3"):
        score("eer", three, 0, generator())


# --- classes ------------------------------------------------------------------------------------------------


def test_confusion_matrix_matches_scikit_learn():
    answers = answers_for("accuracy")
    expected = np.mean([sk.confusion_matrix(answers.labels, each, labels=range(4)) for each in answers.classes], axis=0)
    np.testing.assert_allclose(confusion_matrix(answers.labels, answers.classes, 4), expected)


TABLE = np.array([[3.0, 1, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 4, 0, 4]])  # recalls ¾, ½, none, ½


def test_per_class_by_hand():
    first, second, third, fourth = per_class(TABLE, ["a", "b", "c", "d"])
    assert first == {
        "class": "a", "n": 4, "recall": 0.75, "precision": 0.6, "taken_for": "b", "taken_for_share": 0.25,
    }  # fmt: skip
    assert (second["precision"], second["taken_for"]) == (pytest.approx(2 / 7), "a")
    assert third == {
        "class": "c", "n": 0, "recall": None, "precision": None, "taken_for": "", "taken_for_share": None,
    }  # fmt: skip
    assert (fourth["precision"], fourth["taken_for"], fourth["taken_for_share"]) == (1.0, "b", 0.5)


def test_lowest_recall_classes_order():
    assert lowest_recall_classes(TABLE, ["a", "b", "c", "d"], 2).model_dump() == {
        "classes": ["a", "b", "d"], "rows": [["b", 4, 0.5, 0.5, 0.0, 0.0], ["d", 8, 0.0, 0.5, 0.5, 0.0]],
    }  # fmt: skip
    assert [name for name, *_ in lowest_recall_classes(TABLE, ["a", "b", "c", "d"], 9).rows] == ["b", "d", "a"]
    assert lowest_recall_classes(np.diag([3.0, 2.0]), ["a", "b"], 9).model_dump() == {"classes": [], "rows": []}


def test_per_label_by_hand():
    """Label a: positives rank 1st and 3rd of 4, (1 + 2/3) / 2. Label b has none."""
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    logits = np.array([[4.0, 0], [3, 1], [2, 0], [1, 0]])
    answers = Predictions(list("wxyz"), np.zeros(4, int), labels, [logits])
    first, second = per_label(answers, ["a", "b"])
    assert first == {"class": "a", "n": 2, "average_precision": pytest.approx(5 / 6)}
    assert second == {"class": "b", "n": 0, "average_precision": None}


def test_per_event_matches_scikit_learn():
    answers = answers_for("segment_f1_macro")
    pieces = [range(i, min(i + 2, end)) for start, end in pairwise(EDGES) for i in range(start, end, 2)]
    true = np.array([answers.labels[p].max(axis=0) for p in pieces])
    said = [np.array([each[p].max(axis=0) > 0 for p in pieces]) for each in answers.outputs]
    found = per_event(answers, list("abc"))
    for name, metric in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        expected = np.mean([metric(true, each, average=None) for each in said], axis=0)
        assert [row[name] for row in found] == pytest.approx(expected.tolist())
    assert [row["n"] for row in found] == true.sum(axis=0).tolist()


def test_confusion_matrix_ignores_unlabelled_frames():
    logits = np.eye(2)[[0, 1, 1, 0, 1]]
    answers = FramePredictions(
        ["a", "b"], np.zeros(2, int), np.array([0, 0, -1, -1, 1]), [logits], edges=np.array([0, 2, 5])
    )
    assert confusion_matrix(*answers.labelled_frames(), 2).tolist() == [[1, 1], [0, 1]]

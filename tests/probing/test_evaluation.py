"""Probe metrics by hand, against scikit-learn and jiwer, and bootstrap replicates against resampled predictions."""

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
from earmark.probing.confusion import (
    confusion_matrix,
    lowest_recall_classes,
    per_class,
    per_event,
    per_label,
    recall_intervals,
)
from earmark.probing.evaluation import (
    FOLDS_NOTE,
    METRICS,
    OF_CLASSES,
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
REFERENCES = ["one two three", "four", "five six", "seven eight nine ten", "one", "two two"] * 2
HYPOTHESES = ["one three", "four", "five seven six", "seven nine ten", "", "two"] * 2


def generator(seed=0):
    return np.random.default_rng(seed)


def random_predictions(metric, seed=0):
    """Random predictions of two heads in the form that a metric needs."""
    rng = generator(seed)
    common = {"group": GROUPS, "fold": FOLDS}
    if metric == "calibration_error":
        outputs = [rng.normal(size=(N, LABELS)) for _ in range(2)]
        classes = [each.argmax(axis=1) for each in outputs]
        return ClassPredictions(**common, labels=rng.integers(0, LABELS, N), outputs=outputs, classes=classes)
    if metric in OF_CLASSES:
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
        return Predictions(**common, labels=REFERENCES, outputs=[HYPOTHESES, REFERENCES])
    frames = rng.normal(size=(2, EDGES[-1], LABELS))
    if metric == "frame_accuracy":
        labels = rng.integers(-1, LABELS, EDGES[-1])
        return FramePredictions(**common, labels=labels, outputs=list(frames), edges=EDGES)
    hot = (rng.random((EDGES[-1], LABELS)) < 0.2).astype(int)
    return FramePredictions(**common, labels=hot, outputs=list(frames), edges=EDGES, segment_frames=2)


def resampled(predictions, items):
    """The predictions for these items, with repetition, as in a bootstrap replicate."""
    rows, further = items, {}
    if isinstance(predictions, ClassPredictions):
        further = {"classes": [each[items] for each in predictions.classes]}
    if isinstance(predictions, FramePredictions):
        rows = np.concatenate([np.arange(predictions.edges[i], predictions.edges[i + 1]) for i in items])
        further = {"edges": np.concatenate([[0], np.cumsum(np.diff(predictions.edges)[items])])}

    def pick(values):
        return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]

    return replace(
        predictions,
        group=[predictions.group[i] for i in items],
        fold=predictions.fold[items],
        labels=pick(predictions.labels),
        outputs=[pick(each) for each in predictions.outputs],
        **further,
    )


def value(metric, predictions):
    return METRICS[metric].compute(predictions, Bootstrap.from_units(predictions.group, 0, generator()))[0]


# --- by hand ------------------------------------------------------------------------------------------------


def two_fold_predictions(**changes):
    """Two folds of three items and one item; head 1 has 2 of 3 and 0 of 1 correct, head 2 all."""
    labels = np.array([0, 1, 1, 0])
    predicted = [np.array([0, 1, 0, 1]), labels]
    return ClassPredictions(list("abcd"), np.array([0, 0, 0, 1]), labels, classes=predicted, **changes)


def test_accuracy_pooled_and_by_fold():
    assert value("accuracy", two_fold_predictions()).tolist() == [0.5, 1.0]
    by_fold = score("accuracy", two_fold_predictions(by_fold=True), 0, generator()).value
    assert by_fold == pytest.approx(((2 / 3 + 0) / 2 + 1.0) / 2)  # mean of two heads
    estimate = score("accuracy", two_fold_predictions(), 0, generator())
    assert (estimate.value, estimate.low, estimate.n) == (0.75, None, 4)


def test_mse_and_mae_average_items_and_values():
    labels, outputs = np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    predictions = Predictions(["a", "b"], np.zeros(2, int), labels, [outputs])
    assert value("mse", predictions)[0] == (1 + 0 + 0 + 4) / 4
    assert value("mae", predictions)[0] == (1 + 0 + 0 + 2) / 4


def test_mse_by_fold_averages_folds():
    labels, outputs = np.array([[0.0], [0.0], [0.0]]), np.array([[3.0], [0.0], [1.0]])
    predictions = Predictions(["a", "b", "c"], np.array([0, 1, 1]), labels, [outputs], by_fold=True)
    assert score("mse", predictions, 0, generator()).value == (9 + 0.5) / 2
    assert score("mse", replace(predictions, by_fold=False), 0, generator()).value == pytest.approx(10 / 3)


def test_equal_error_rate_targets_second_class():
    """Spoofs score 3, 2, 0 and humans 1, −1, −2. The hull passes (⅓, 0) and (0, ⅓), so the rate is ⅙."""
    logits = np.array([[0.0, 3], [0, 2], [0, 0], [0, 1], [0, -1], [0, -2]])
    labels = np.array([1, 1, 1, 0, 0, 0])
    predictions = ClassPredictions(list("abcdef"), np.zeros(6, int), labels, [logits, logits + 7, -logits])
    result = value("eer", predictions)
    assert result == pytest.approx([1 / 6, 1 / 6, 1 / 2])


def test_macro_f1_by_hand():
    """Class 0: 2 tp, 1 fp, 1 fn: 2/3. Class 1: 1 tp, 1 fp, 1 fn: 1/2. Class 2 has no item and is predicted: no part."""
    labels, classes = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
    predictions = ClassPredictions(
        list("abcde"), np.zeros(5, int), labels, classes=[classes, np.array([0, 2, 1, 1, 0])]
    )
    assert value("macro_f1", predictions).tolist() == pytest.approx([(2 / 3 + 1 / 2) / 2, (2 / 5 + 1 / 2) / 2])
    assert score("macro_f1", predictions, 0, generator()).value == pytest.approx((7 / 12 + 9 / 20) / 2)


def test_macro_f1_counts_classes_and_accuracy_clips():
    """Nine clips of class 0 and one of class 1, all answered with class 0."""
    predictions = ClassPredictions(
        [str(i) for i in range(10)], np.zeros(10, int), np.arange(10) // 9, classes=[np.zeros(10, int)]
    )
    assert value("accuracy", predictions)[0] == 0.9
    assert value("macro_f1", predictions)[0] == pytest.approx((18 / 19 + 0) / 2)


def test_macro_f1_leaves_absent_classes_out_of_replicates():
    """Each source is its own class: whatever is drawn, the drawn classes are right."""
    labels = np.arange(N)
    predictions = ClassPredictions(list(map(str, labels)), np.zeros(N, int), labels, classes=[labels])
    result = score("macro_f1", predictions, 200, generator())
    assert (result.value, result.high) == (1.0, 1.0) and result.low is not None


def test_balanced_accuracy_counts_classes_and_accuracy_clips():
    """Nine clips of one class and one of another, all answered with the first."""
    labels = np.array([0] * 9 + [1])
    predictions = ClassPredictions([f"{i}" for i in range(10)], np.zeros(10, int), labels, classes=[labels * 0])
    assert value("balanced_accuracy", predictions)[0] == 0.5
    assert value("accuracy", predictions)[0] == 0.9


def test_calibration_error_averages_squared_errors_of_heads():
    """Two heads with one confidence each, 0.9 and 0.5, of which half the answers are correct."""
    labels, items = np.arange(N) % 2, np.zeros((N, 1))
    outputs = [np.hstack([items + np.log(odds), items]) for odds in (9, 1)]
    classes = [each.argmax(axis=1) for each in outputs]
    predictions = ClassPredictions([f"{i}" for i in range(N)], np.zeros(N, int), labels, outputs, classes=classes)
    chance = 0.5 * 0.5 / (N - 1)
    result = score("calibration_error", predictions, 200, generator())
    assert result.value == pytest.approx(((0.4**2 + 0.0**2) / 2 - chance) ** 0.5)
    assert 0 <= result.low < result.value < result.high
    calibrated = replace(predictions, outputs=outputs[1:], classes=classes[1:])
    assert score("calibration_error", calibrated, 200, generator()).value == 0


def test_calibration_error_of_one_source_is_undefined_with_a_reason():
    alone = replace(random_predictions("calibration_error"), group=["alone"] * N)
    result = score("calibration_error", alone, 20, generator())
    assert result.value is None and "one source only" in result.why


def test_macro_f1_of_many_classes_needs_no_square_matrix():
    """20,000 classes: a confusion matrix for each replicate would take terabytes."""
    labels = np.repeat(np.arange(20_000), 2)
    predictions = ClassPredictions(
        [str(i % 7) for i in range(len(labels))], np.zeros(len(labels), int), labels, classes=[labels]
    )
    assert score("macro_f1", predictions, 40, generator()).value == 1.0


def test_frame_accuracy_ignores_unlabelled_frames():
    logits = np.eye(2)[[0, 1, 1, 0, 1]]
    predictions = FramePredictions(
        ["a", "b"], np.zeros(2, int), np.array([0, 0, -1, -1, 1]), [logits], edges=np.array([0, 2, 5])
    )
    assert value("frame_accuracy", predictions)[0] == 2 / 3


def test_segment_f1_segments_do_not_cross_clips():
    """Clips of 3 and 2 frames, segments of 2: true 1, 0, 1; predicted 1, 1, 0. F1 = 2·1 / (2 + 2)."""
    true, outputs = np.array([[0], [1], [0], [1], [0]]), np.array([[5.0], [-1], [2], [-3], [-3]])
    predictions = FramePredictions(
        ["a", "b"], np.zeros(2, int), true, [outputs], edges=np.array([0, 3, 5]), segment_frames=2
    )
    assert value("segment_f1_micro", predictions)[0] == value("segment_f1_macro", predictions)[0] == 0.5


def test_recall_at_1_averages_both_directions():
    """Clip 0 retrieves its caption, clip 1 does not; the first two of three captions retrieve their clip."""
    similarity = np.array([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]])
    predictions = CaptionPredictions(["a", "b"], np.zeros(2, int), None, [similarity], owner=np.array([0, 0, 1]))
    assert value("recall_at_1", predictions)[0] == pytest.approx((2 / 2 + 2 / 3) / 2)
    worse = replace(predictions, outputs=[similarity[::-1]])
    assert value("recall_at_1", worse)[0] == pytest.approx((0 / 2 + 1 / 3) / 2)


def test_word_accuracy_pools_utterances():
    predictions = Predictions(["a", "b"], np.zeros(2, int), ["a b c", "d"], [["a c", "d"], ["", "x y z"]])
    assert value("word_accuracy", predictions).tolist() == [
        0.75,
        0.0,
    ]  # 1 error in 4 words; then 6 errors, clipped at 0


# --- reference tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_metrics_match_scikit_learn(seed):
    clip, labels = random_predictions("accuracy", seed), random_predictions("mAP", seed)
    assert value("accuracy", clip) == pytest.approx([sk.accuracy_score(clip.labels, each) for each in clip.classes])
    expected = [sk.f1_score(clip.labels, x, average="macro", labels=np.unique(clip.labels)) for x in clip.classes]
    assert value("macro_f1", clip) == pytest.approx(expected)
    occurring = labels.labels.any(axis=0)
    expected = [sk.average_precision_score(labels.labels[:, occurring], each[:, occurring]) for each in labels.outputs]
    assert value("mAP", labels) == pytest.approx(expected)
    numbers = random_predictions("mse", seed)
    assert value("mse", numbers) == pytest.approx([sk.mean_squared_error(numbers.labels, x) for x in numbers.outputs])
    assert value("mae", numbers) == pytest.approx([sk.mean_absolute_error(numbers.labels, x) for x in numbers.outputs])


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_segment_f1_matches_scikit_learn(average, size):
    predictions = replace(random_predictions("segment_f1_macro"), segment_frames=size)
    pieces = [
        slice(start, min(start + size, stop)) for begin, stop in pairwise(EDGES) for start in range(begin, stop, size)
    ]
    true = np.array([predictions.labels[piece].max(axis=0) for piece in pieces])
    expected = [
        sk.f1_score(true, np.array([each[p].max(axis=0) > 0 for p in pieces]), average=average, zero_division=0)
        for each in predictions.outputs
    ]
    assert value(f"segment_f1_{average}", predictions) == pytest.approx(expected)


def test_word_accuracy_matches_jiwer():
    assert value("word_accuracy", random_predictions("word_accuracy"))[0] == pytest.approx(
        1 - jiwer.wer(REFERENCES, HYPOTHESES)
    )


def test_word_accuracy_undefined_without_words():
    predictions = replace(random_predictions("word_accuracy"), labels=[""] * N)
    assert (
        score("word_accuracy", predictions, 20, generator()).why
        == "required labels are missing in the test set, such as positives or a second class"
    )


def test_recall_at_1_from_retrieval_prediction_columns():
    predictions = random_predictions("recall_at_1")
    for outputs, expected in zip(
        task_type(published_tasks()["clotho"]).prediction_columns(predictions, np.array([])).predicted,
        value("recall_at_1", predictions),
        strict=True,
    ):
        ranks = [(int(own), list(map(int, of.split("|")))) for own, of in (each.split(":") for each in outputs)]
        assert [len(of) for _, of in ranks] == np.bincount(predictions.owner).tolist()
        captions = [rank for _, of in ranks for rank in of]
        assert (np.mean([own == 1 for own, _ in ranks]) + np.mean([rank == 1 for rank in captions])) / 2 == expected


# --- replicates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["accuracy", "mse", "mAP", "segment_f1_macro", "frame_accuracy"])
def test_by_fold_replicates_average_folds_of_drawn_sources(metric):
    fold = np.arange(N) // 2 % 3 // 2  # folds of four and of two sources
    predictions = replace(random_predictions(metric), fold=fold, by_fold=True)
    parts = [resampled(predictions, np.flatnonzero(fold == number)) for number in (0, 1)]
    result = score(metric, predictions, 60, generator(5))
    assert result.value == pytest.approx(np.mean([value(metric, part) for part in parts]))
    bootstrap = Bootstrap.from_units(predictions.group, 60, generator(5))
    drawn = []
    for weights in bootstrap.weights:
        chosen = np.repeat(np.arange(N), weights[bootstrap.unit])
        of_folds = [chosen[fold[chosen] == number] for number in (0, 1)]
        times = np.array([len(own) / (fold == number).sum() for number, own in enumerate(of_folds)])
        means = np.array([value(metric, resampled(predictions, own)).mean() if len(own) else 0 for own in of_folds])
        drawn.append((means * times).sum() / times.sum())
    values = COST if metric == "mse" else SHARE
    assert (result.low, result.high) == pytest.approx(spread(result.value, drawn, bootstrap, values))


def test_by_fold_with_folds_as_sources_and_single_class_fold():
    predictions = replace(
        random_predictions("accuracy"), fold=np.arange(N) // 2, by_fold=True
    )  # each fold is one source
    result = score("accuracy", predictions, 200, generator())
    assert result == score(
        "accuracy", replace(predictions, by_fold=False), 200, generator()
    )  # folds are weighted by how often they are drawn
    one_class = replace(random_predictions("eer"), fold=np.arange(N) % 2, by_fold=True)
    assert (
        score("eer", one_class, 20, generator()).why
        == "required labels are missing in the test set, such as positives or a second class"
    )


def test_segment_f1_macro_excludes_labels_not_drawn():
    """Two clips with one label each, both predicted: every replicate has F1 = 1."""
    frames = np.eye(2, dtype=int)
    predictions = FramePredictions(["a", "b"], np.zeros(2, int), frames, [frames - 0.5], edges=np.array([0, 1, 2]))
    drawn = METRICS["segment_f1_macro"].compute(predictions, Bootstrap.from_units(predictions.group, 20, generator()))[
        1
    ]
    assert (drawn == 1).all()
    wide = replace(
        predictions, labels=np.eye(2, 3, dtype=int), outputs=[np.eye(2, 3) - 0.5]
    )  # the third label never occurs
    drawn = METRICS["segment_f1_macro"].compute(wide, Bootstrap.from_units(wide.group, 20, generator()))[1]
    assert set(drawn.ravel().round(6)) == {0.5, round(2 / 3, 6)}


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric not in ("recall_at_1", "calibration_error")])
def test_replicates_equal_metric_of_drawn_sources(metric):
    predictions = random_predictions(metric)
    bootstrap = Bootstrap.from_units(predictions.group, 25, generator(5))
    drawn = METRICS[metric].compute(predictions, bootstrap)[1]
    for weights, result in zip(bootstrap.weights, drawn, strict=True):
        items = np.repeat(np.arange(N), weights[bootstrap.unit])
        again = resampled(predictions, items)
        if metric == "eer" and len(set(again.labels)) < 2:
            continue
        assert result == pytest.approx(value(metric, again))
    assert len(np.unique(drawn[:, 0])) > 3


def test_recall_at_1_replicates_sum_source_influences():
    predictions = random_predictions("recall_at_1")
    bootstrap = Bootstrap.from_units(predictions.group, 25, generator(5))
    values, drawn = METRICS["recall_at_1"].compute(predictions, bootstrap)
    of_first = source_influences(predictions.outputs[0], predictions.owner, bootstrap.unit)
    for weights, result in zip(bootstrap.weights, drawn, strict=True):
        assert result[0] == pytest.approx(values[0] + np.repeat(of_first, weights).mean())


def test_interval_adds_variance_of_draws():
    """Variance over sources plus variance over draws minus their interaction."""
    predictions = replace(random_predictions("accuracy"), draws=True)
    bootstrap = Bootstrap.from_units(predictions.group, 400, generator(3))
    drawn = METRICS["accuracy"].compute(predictions, bootstrap)[1]
    units = bootstrap.n_units
    of_sources, of_one = (np.var(x, axis=0, ddof=1).mean() * units / (units - 1) for x in (drawn.mean(1), drawn))
    values = value("accuracy", predictions)
    of_draws = np.var(values, ddof=1) / 2
    total = max(of_sources + of_draws - (of_one - of_sources), of_sources, of_draws)
    df = (of_sources + of_draws) ** 2 / (of_sources**2 / (units - 1) + of_draws**2)
    result = score("accuracy", predictions, 400, generator(3))
    assert (result.low, result.high) == pytest.approx(interval(values.mean(), np.sqrt(total), units=units, df=df))
    alone = score("accuracy", replace(predictions, draws=False), 400, generator(3))
    assert alone.value == result.value
    assert (alone.low, alone.high) == pytest.approx(spread(result.value, drawn.mean(axis=1), bootstrap))


def test_interval_of_identical_draws_equals_source_interval():
    predictions = random_predictions("accuracy")
    one = replace(predictions, classes=predictions.classes[:1])
    same = replace(one, classes=one.classes * 3, draws=True)
    assert score("accuracy", same, 200, generator()) == score("accuracy", one, 200, generator())
    all_right = replace(one, classes=[one.labels] * 3, draws=True)
    assert score("accuracy", all_right, 200, generator()).high == 1.0


def spread(value, replicates, bootstrap, values=SHARE):
    """The interval from the standard deviation of replicates."""
    units = bootstrap.n_units
    return interval(value, np.std(replicates, ddof=1) * np.sqrt(units / (units - 1)), units=units, values=values)


def test_note_mentions_folds():
    predictions = random_predictions("accuracy")
    assert (
        score("accuracy", predictions, 20, generator()).note
        == f"only 6 sources (95 % intervals need at least 20); {FOLDS_NOTE}"
    )
    many = replace(predictions, group=[f"{i}" for i in range(N)], fold=np.zeros(N, int))
    assert "folds" not in score("accuracy", many, 20, generator()).note
    without = score("accuracy", replace(predictions, group=["one"] * N), 20, generator())
    assert (without.low, without.note) == (None, None)


@pytest.mark.parametrize(
    ("metric", "labels", "decide"),
    [
        ("macro_f1", np.arange(N) // 4, (6, "sources, if all classes had as few as the rarest")),
        ("macro_f1", np.arange(N) < 3, (4, "sources, if all classes had as few as the rarest")),
        ("eer", np.arange(N) < 3, (2, "sources of the rarer class")),
        ("mAP", np.arange(N)[:, None] == [[0, 1, 2]], (2, "sources with a label")),
        ("frame_accuracy", np.where(np.arange(EDGES[-1]) < 8, 0, -1), (1, "sources with a label")),
        ("segment_f1_macro", np.arange(EDGES[-1])[:, None] == [[0, 9, 20]], (3, "sources with an event")),
        ("segment_f1_micro", np.arange(EDGES[-1])[:, None] == [[0, 9, 20]], (3, "sources with an event")),
        ("word_accuracy", ["a b", "", "c d", *[""] * (N - 3)], (2, "sources with words")),
    ],
)
def test_units_are_informative_sources(metric, labels, decide):
    predictions = replace(random_predictions(metric), labels=labels)
    assert (
        METRICS[metric].units(predictions, Bootstrap.from_units(predictions.group, 0, generator(), "sources")) == decide
    )


def test_note_of_few_informative_sources():
    result = score(
        "eer", replace(random_predictions("eer"), fold=np.zeros(N, int), labels=np.arange(N) < 5), 400, generator()
    )
    assert result.note == "only 3 sources of the rarer class (95 % intervals need at least 20)"


def test_single_source_has_no_interval():
    for metric in METRICS.keys() - {"calibration_error"}:
        result = score(metric, replace(random_predictions(metric), group=["alone"] * N), 20, generator())
        assert result.value is not None and (result.low, result.high, result.n) == (None, None, N)


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_metrics_ignore_item_order(metric, seed):
    predictions = random_predictions(metric, seed % 7)
    order = np.random.default_rng(seed).permutation(N)
    if metric == "recall_at_1":
        place = np.argsort(order)[predictions.owner]
        shuffled = replace(predictions, outputs=[each[order] for each in predictions.outputs], owner=place)
    else:
        shuffled = resampled(predictions, order)
    assert value(metric, shuffled) == pytest.approx(value(metric, predictions))


# --- undefined metrics --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_undefined_metric_has_reason():
    nothing = replace(random_predictions("mAP"), labels=np.zeros((N, LABELS), int))
    assert (
        score("mAP", nothing, 20, generator()).why
        == "required labels are missing in the test set, such as positives or a second class"
    )
    human = replace(random_predictions("eer"), labels=np.zeros(N, int))
    assert score("eer", human, 20, generator()).value is None
    unlabelled = replace(random_predictions("frame_accuracy"), labels=np.full(EDGES[-1], -1))
    assert score("frame_accuracy", unlabelled, 20, generator()).value is None


@pytest.mark.filterwarnings("error")
def test_map_of_one_positive_has_no_interval():
    labels = np.zeros((N, LABELS), int)
    labels[4, 1] = 1
    result = score("mAP", replace(random_predictions("mAP"), labels=labels), 200, generator())
    assert result.value is not None and result.low is None
    assert result.why is not None and "undefined in" in result.why


def test_absent_label_excluded_from_map_and_zero_in_macro_f1():
    predictions = random_predictions("mAP")
    labels = np.array(predictions.labels)
    labels[:, 2] = 0
    expected = [sk.average_precision_score(labels[:, :2], each[:, :2]) for each in predictions.outputs]
    assert value("mAP", replace(predictions, labels=labels)) == pytest.approx(expected)
    silent = FramePredictions(
        ["a"], np.zeros(1, int), np.array([[1, 0]]), [np.array([[1.0, -1.0]])], edges=np.array([0, 1])
    )
    assert value("segment_f1_macro", silent)[0] == 0.5 and value("segment_f1_micro", silent)[0] == 1.0


def test_equal_error_rate_rejects_three_classes():
    three = replace(random_predictions("eer"), outputs=[generator().normal(size=(N, 3))])
    with pytest.raises(ValueError, match="equal error rate needs two classes, not 3"):
        score("eer", three, 0, generator())


# --- classes ------------------------------------------------------------------------------------------------


def test_confusion_matrix_matches_scikit_learn():
    predictions = random_predictions("accuracy")
    expected = np.mean(
        [sk.confusion_matrix(predictions.labels, each, labels=range(4)) for each in predictions.classes], axis=0
    )
    np.testing.assert_allclose(confusion_matrix(predictions.labels, predictions.classes, 4), expected)


TABLE = np.array([[3.0, 1, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 4, 0, 4]])  # recalls ¾, ½, none, ½


def test_per_class_by_hand():
    first, second, third, fourth = per_class(TABLE, ["a", "b", "c", "d"])
    assert first == {
        "class": "a", "n": 4, "recall": 0.75, "precision": 0.6, "f1": 6 / 9, "taken_for": "b", "taken_for_share": 0.25,
    }  # fmt: skip
    first = per_class(TABLE, ["a", "b", "c", "d"], [(0.3, 0.9), (0.1, 0.8), None, None])[0]
    assert (first["recall_low"], first["recall_high"]) == (0.3, 0.9)
    assert (second["precision"], second["taken_for"]) == (pytest.approx(2 / 7), "a")
    assert third == {
        "class": "c", "n": 0, "recall": None, "precision": None, "f1": None, "taken_for": "", "taken_for_share": None,
    }  # fmt: skip
    assert (fourth["precision"], fourth["taken_for"], fourth["taken_for_share"]) == (1.0, "b", 0.5)


def test_recall_intervals_match_the_bootstrap_of_sources():
    """Sources of one to four clips; the interval from resampled recalls has nearly the same ends."""
    rng = generator()
    group = np.repeat(np.arange(200), rng.integers(1, 5, 200))
    labels = rng.integers(0, 2, len(group))
    agreeing = rng.random(200)[group] < 0.5
    classes = [np.where(agreeing | (rng.random(len(group)) < 0.4), labels, 1 - labels) for _ in range(2)]
    ends = recall_intervals(labels, classes, group, 2)
    bootstrap = Bootstrap.from_units(group, 4000, rng, "sources")
    hits = np.mean([each == labels for each in classes], axis=0)
    for label in (0, 1):
        counts = np.stack([hits, np.ones(len(hits))], axis=1) * (labels == label)[:, np.newaxis]
        expected = bootstrap.estimate(counts, lambda sums: sums[..., 0] / sums[..., 1], n=len(hits))
        assert ends[label] == pytest.approx((expected.low, expected.high), abs=0.01)


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
    predictions = Predictions(list("wxyz"), np.zeros(4, int), labels, [logits])
    first, second = per_label(predictions, ["a", "b"])
    assert first == {"class": "a", "n": 2, "average_precision": pytest.approx(5 / 6)}
    assert second == {"class": "b", "n": 0, "average_precision": None}


def test_per_event_matches_scikit_learn():
    predictions = random_predictions("segment_f1_macro")
    pieces = [range(i, min(i + 2, end)) for start, end in pairwise(EDGES) for i in range(start, end, 2)]
    true = np.array([predictions.labels[p].max(axis=0) for p in pieces])
    outputs = [np.array([each[p].max(axis=0) > 0 for p in pieces]) for each in predictions.outputs]
    result = per_event(predictions, list("abc"))
    for name, metric in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        expected = np.mean([metric(true, each, average=None) for each in outputs], axis=0)
        assert [row[name] for row in result] == pytest.approx(expected.tolist())
    assert [row["n"] for row in result] == true.sum(axis=0).tolist()


def test_confusion_matrix_ignores_unlabelled_frames():
    logits = np.eye(2)[[0, 1, 1, 0, 1]]
    predictions = FramePredictions(
        ["a", "b"], np.zeros(2, int), np.array([0, 0, -1, -1, 1]), [logits], edges=np.array([0, 2, 5])
    )
    assert confusion_matrix(*predictions.labelled_frames(), 2).tolist() == [[1, 1], [0, 1]]

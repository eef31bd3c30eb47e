"""Simulated probe scores: predictions on test clips from heterogeneous sources."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import (
    METRICS,
    OF_CLASSES,
    CaptionPredictions,
    ClassPredictions,
    FramePredictions,
    Predictions,
    score,
)
from earmark.probing.heads.few_shot import few_shot_logits
from earmark.probing.heads.knn import knn_predict
from tests.coverage.framework import Scenario

REPLICATES = 300
LARGE = 20_000  # sources


def on_one_split(source: np.ndarray, labels, kind: type[Predictions] = Predictions, **fields) -> Predictions:
    """Predictions on a single split."""
    return kind(source.tolist(), np.zeros(len(source), dtype=np.int64), labels, **fields)


def accuracies(rng: np.random.Generator, source: np.ndarray) -> np.ndarray:
    """Probability that a clip is classified correctly, (n,): 0.7 on average, varying between sources."""
    return rng.beta(7, 3, source.max() + 1)[source]


def classification(rng: np.random.Generator, sources: int) -> Predictions:
    """Six clips per source, classified by three heads."""
    source = np.repeat(np.arange(sources), 6)
    correct = rng.random(len(source)) < accuracies(rng, source)
    others = np.where(rng.random((2, len(source))) < 0.7, correct, rng.random((2, len(source))) < 0.7)
    classes = [1 - each.astype(int) for each in (correct, *others)]
    return on_one_split(source, np.zeros(len(source), int), ClassPredictions, classes=classes)


def wrong_or_right(rng: np.random.Generator, source: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Predicted classes, (n,): right as often as `accuracies` says, otherwise any other class."""
    right = rng.random(len(source)) < accuracies(rng, source)
    return np.where(right, label, (label + rng.integers(1, classes, len(label))) % classes)


def languages_of_multilingual_speakers(rng: np.random.Generator, sources: int) -> Predictions:
    """Eight clips per source, two in each of four classes."""
    source = np.repeat(np.arange(sources), 8)
    label = np.tile(np.arange(4), 2 * sources)
    return on_one_split(source, label, ClassPredictions, classes=[wrong_or_right(rng, source, label, 4)])


def unequal_classes(rng: np.random.Generator, sources: int) -> Predictions:
    """Six clips per source, each source of one of four classes that 40, 30, 20 and 10 % of the sources have."""
    label = rng.choice(4, sources, p=[0.4, 0.3, 0.2, 0.1])
    source = np.repeat(np.arange(sources), 6)
    return on_one_split(
        source, label[source], ClassPredictions, classes=[wrong_or_right(rng, source, label[source], 4)]
    )


def many_classes(rng: np.random.Generator, sources: int) -> Predictions:
    """Four clips per source, each source of one of 20 classes."""
    source = np.repeat(np.arange(sources), 4)
    label = source % 20
    return on_one_split(source, label, ClassPredictions, classes=[wrong_or_right(rng, source, label, 20)])


def cross_validation(rng: np.random.Generator, sources: int, folds: int) -> Predictions:
    """Ten clips per source, sources assigned to folds; the score is the mean over folds."""
    source = np.repeat(np.arange(sources), 10)
    correct = rng.random(len(source)) < accuracies(rng, source)
    labels = np.zeros(len(source), int)
    return ClassPredictions(source.tolist(), source % folds, labels, classes=[1 - correct.astype(int)], by_fold=True)


def sixty_folds(rng: np.random.Generator, sources: int) -> Predictions:
    """One source per fold (leave one speaker out)."""
    return cross_validation(rng, sources, 60)


def four_folds(rng: np.random.Generator, sources: int) -> Predictions:
    """Many sources per fold."""
    return cross_validation(rng, sources, 4)


def binary_detection(rng: np.random.Generator, sources: int) -> Predictions:
    """Five clips per source, each source of a single class."""
    source = np.repeat(np.arange(sources), 5)
    label = source % 2
    score = 1.8 * label + 0.6 * rng.normal(size=sources)[source] + 0.8 * rng.normal(size=len(source))
    return on_one_split(source, label, ClassPredictions, outputs=[np.stack([np.zeros(len(source)), score], axis=1)])


def multi_label(rng: np.random.Generator, sources: int) -> Predictions:
    """Four clips per source, ten labels, each on a tenth of the clips and correlated within sources."""
    source = np.repeat(np.arange(sources), 4)
    likely = rng.beta(0.5, 4.5, (sources, 10))[source]
    labels = (rng.random(likely.shape) < likely).astype(int)
    return on_one_split(source, labels, outputs=[rng.normal(size=labels.shape) + 1.5 * labels])


def rare_labels(rng: np.random.Generator, sources: int) -> Predictions:
    """One clip per source, ten labels, each on one clip in fifty."""
    labels = (rng.random((sources, 10)) < 0.02).astype(int)
    return on_one_split(np.arange(sources), labels, outputs=[rng.normal(size=labels.shape) + 1.5 * labels])


def regression(rng: np.random.Generator, sources: int) -> Predictions:
    """Five clips per source, two target values, errors correlated within sources."""
    source = np.repeat(np.arange(sources), 5)
    off = 0.6 * rng.normal(size=(sources, 2))[source] + 0.8 * rng.normal(size=(len(source), 2))
    return on_one_split(source, np.zeros(off.shape), outputs=[off])


def transcripts(rng: np.random.Generator, sources: int) -> Predictions:
    """Four transcripts per source, six to twelve words each."""
    source = np.repeat(np.arange(sources), 4)
    lengths = rng.integers(6, 13, len(source))
    predicted = [
        ["a" if x < p else "b" for x in rng.random(n)] for n, p in zip(lengths, accuracies(rng, source), strict=True)
    ]
    return on_one_split(source, [" ".join("a" * n) for n in lengths], outputs=[[" ".join(each) for each in predicted]])


def frame_classification(rng: np.random.Generator, sources: int) -> Predictions:
    """Three clips per source, 10 to 30 frames each, one frame in five unlabelled."""
    source = np.repeat(np.arange(sources), 3)
    lengths = rng.integers(10, 31, len(source))
    correct = rng.random(lengths.sum()) < np.repeat(accuracies(rng, source), lengths)
    frame_labels = np.where(rng.random(len(correct)) < 0.2, -1, 0)
    outputs = [np.eye(2)[1 - correct.astype(int)]]
    return on_one_split(source, frame_labels, FramePredictions, outputs=outputs, edges=edges(lengths))


def sound_events(rng: np.random.Generator, sources: int) -> Predictions:
    """Three clips per source, ten segments of two frames, five labels."""
    source = np.repeat(np.arange(sources), 3)
    lengths = np.full(len(source), 20)
    likely = np.repeat(rng.beta(1, 4, (sources, 5))[source], 20, axis=0)
    labels = np.repeat((rng.random((len(likely) // 2, 5)) < likely[::2]).astype(int), 2, axis=0)
    offset = np.repeat(0.5 * rng.normal(size=(sources, 5))[source], 20, axis=0)
    outputs = [3 * labels - 2 + offset + rng.normal(size=labels.shape)]
    return on_one_split(source, labels, FramePredictions, outputs=outputs, edges=edges(lengths), segment_frames=2)


def edges(lengths: np.ndarray) -> np.ndarray:
    """First frame of each item, and the end."""
    return np.concatenate([[0], np.cumsum(lengths)])


def captions(rng: np.random.Generator, sources: int) -> Predictions:
    """Two similar clips per source, two captions per clip, of varying difficulty."""
    source = np.repeat(np.arange(sources), 2)
    clip = 0.6 * rng.normal(size=(sources, 16))[source] + 0.8 * rng.normal(size=(len(source), 16))
    owner = np.repeat(np.arange(len(source)), 2)
    vague = rng.uniform(0.5, 1.5, sources)[source][owner]
    text = clip[owner] + vague[:, None] * rng.normal(size=(len(owner), 16))
    similarity = unit(clip) @ unit(text).T
    return on_one_split(source, None, CaptionPredictions, outputs=[similarity.astype(np.float32)], owner=owner)


def unit(x: np.ndarray) -> np.ndarray:
    """Normalise rows to unit norm."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


CENTRES = 1.2 * np.random.default_rng(1).normal(size=(4, 16))
POOL = CENTRES[np.repeat(np.arange(4), 50)] + np.random.default_rng(2).normal(size=(200, 16))


def one_shot(rng: np.random.Generator, sources: int) -> Predictions:
    """Ten draws of one shot for each of four classes from the same 200 clips; three test clips per source."""
    source = np.repeat(np.arange(sources), 3)
    label = source % 4
    test = CENTRES[label] + 0.6 * rng.normal(size=(sources, 16))[source] + 0.8 * rng.normal(size=(len(source), 16))
    shots = [np.array([rng.integers(50 * c, 50 * c + 50) for c in range(4)]) for _ in range(10)]
    classes = [few_shot_logits(POOL[each], np.arange(4), test, 4).argmax(axis=1) for each in shots]
    return on_one_split(source, label, ClassPredictions, classes=classes, draws=True)


def nearest_neighbours_by_fold(rng: np.random.Generator, sources: int) -> Predictions:
    """Five folds of sources, each classified by the nearest neighbours among the clips of the other folds."""
    source = np.repeat(np.arange(sources), 6)
    label, fold = source % 4, source // 4 % 5
    x = 0.8 * CENTRES[label] + rng.normal(size=(sources, 16))[source] + rng.normal(size=(len(source), 16))
    predicted = np.empty(len(source), dtype=np.int64)
    for number in range(5):
        test = fold == number
        predicted[test] = knn_predict(x[~test], label[~test], x[test])[10]
    return ClassPredictions(source.tolist(), fold, label, classes=[predicted])


Simulation = Callable[[np.random.Generator, int], Predictions]


def estimates(
    rng: np.random.Generator, make: Simulation, sources: int, metrics: tuple[str, ...]
) -> Mapping[str, Estimate]:
    """Metrics of one data set."""
    predictions = make(rng, sources)
    return {metric: score(metric, predictions, REPLICATES, rng) for metric in metrics}


def truth(rng: np.random.Generator, make: Simulation, metrics: tuple[str, ...]) -> dict[str, float]:
    """Metrics of a very large data set."""
    predictions = make(rng, LARGE)
    no_replicates = Bootstrap.from_units(predictions.group, 0, rng)
    return {metric: float(METRICS[metric].compute(predictions, no_replicates)[0].mean()) for metric in metrics}


def scenario(
    make: Simulation, sources: int, *metrics: str, size_free: bool = True, noted: bool = False, **options
) -> Scenario:
    """Probe scenario. size_free: whether the expected value is independent of the size of the test set."""
    return Scenario(
        "Probes",
        f"{make.__name__.replace('_', ' ')}, {sources} sources",
        partial(estimates, make=make, sources=sources, metrics=metrics),
        partial(truth, make=make, metrics=metrics) if size_free else None,
        noted=frozenset(metrics if noted else ()),
        **options,
    )


# Average precision and recall at 1 depend on the size of the test set: the true value is the mean for that size.
SCENARIOS = [
    scenario(classification, 20, "accuracy"),
    scenario(classification, 10, "accuracy", noted=True),
    scenario(languages_of_multilingual_speakers, 20, *OF_CLASSES),
    scenario(languages_of_multilingual_speakers, 10, *OF_CLASSES, noted=True),
    scenario(unequal_classes, 200, *OF_CLASSES),
    scenario(many_classes, 60, *OF_CLASSES),
    scenario(sixty_folds, 60, "accuracy"),  # no head is trained, so folds are independent
    scenario(four_folds, 80, "accuracy"),
    scenario(binary_detection, 40, "eer", size_free=False),
    scenario(binary_detection, 10, "eer", size_free=False, noted=True),
    scenario(multi_label, 60, "mAP", size_free=False),
    scenario(multi_label, 15, "mAP", size_free=False, noted=True),
    scenario(rare_labels, 400, "mAP", size_free=False, data_sets=300),
    scenario(regression, 30, "mse", "mae"),
    scenario(regression, 10, "mse", "mae", noted=True),
    scenario(transcripts, 20, "word_accuracy"),
    scenario(frame_classification, 20, "frame_accuracy"),
    scenario(sound_events, 30, "segment_f1_macro", "segment_f1_micro"),
    scenario(sound_events, 10, "segment_f1_macro", "segment_f1_micro", noted=True),
    scenario(captions, 50, "recall_at_1", size_free=False),
    scenario(captions, 100, "recall_at_1", size_free=False),
    scenario(captions, 200, "recall_at_1", size_free=False, data_sets=300),
    scenario(captions, 10, "recall_at_1", size_free=False, noted=True),
    scenario(one_shot, 40, "accuracy", size_free=False),
    scenario(nearest_neighbours_by_fold, 20, "accuracy", size_free=False, noted=True),
    scenario(nearest_neighbours_by_fold, 100, "accuracy", size_free=False, noted=True),
]

"""Scores of probes: predictions on test clips of sources that are unlike each other, whatever gave them."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.estimate import Estimate
from earmark.probing.evaluation import (
    METRICS,
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


def on_one_split(source: np.ndarray, labels, kind: type[Predictions] = Predictions, **given) -> Predictions:
    """Predictions on one split."""
    return kind(source.tolist(), np.zeros(len(source), dtype=np.int64), labels, **given)


def shares(rng: np.random.Generator, source: np.ndarray) -> np.ndarray:
    """How often clips are answered rightly, (n,): seven in ten on average, more or less for each source."""
    return rng.beta(7, 3, source.max() + 1)[source]


def right_or_wrong(rng: np.random.Generator, sources: int) -> Predictions:
    """Six clips of each source, answered by three heads."""
    source = np.repeat(np.arange(sources), 6)
    right = rng.random(len(source)) < shares(rng, source)
    others = np.where(rng.random((2, len(source))) < 0.7, right, rng.random((2, len(source))) < 0.7)
    classes = [1 - each.astype(int) for each in (right, *others)]
    return on_one_split(source, np.zeros(len(source), int), ClassPredictions, classes=classes)


def right_by_fold(rng: np.random.Generator, sources: int, folds: int) -> Predictions:
    """Ten clips of each source, sources dealt to folds; the score is the mean of the folds' scores."""
    source = np.repeat(np.arange(sources), 10)
    right = rng.random(len(source)) < shares(rng, source)
    labels = np.zeros(len(source), int)
    return ClassPredictions(source.tolist(), source % folds, labels, classes=[1 - right.astype(int)], by_fold=True)


def sixty_folds(rng: np.random.Generator, sources: int) -> Predictions:
    """As where one speaker is left out at a time."""
    return right_by_fold(rng, sources, 60)


def four_folds(rng: np.random.Generator, sources: int) -> Predictions:
    """As where each fold has many sources."""
    return right_by_fold(rng, sources, 4)


def two_classes(rng: np.random.Generator, sources: int) -> Predictions:
    """Five clips of each source; all of a source are of one class."""
    source = np.repeat(np.arange(sources), 5)
    label = source % 2
    score = 1.8 * label + 0.6 * rng.normal(size=sources)[source] + 0.8 * rng.normal(size=len(source))
    return on_one_split(source, label, ClassPredictions, outputs=[np.stack([np.zeros(len(source)), score], axis=1)])


def several_labels(rng: np.random.Generator, sources: int) -> Predictions:
    """Four clips of each source, ten labels, each on a tenth of the clips and likelier where the source has it."""
    source = np.repeat(np.arange(sources), 4)
    likely = rng.beta(0.5, 4.5, (sources, 10))[source]
    hot = (rng.random(likely.shape) < likely).astype(int)
    return on_one_split(source, hot, outputs=[rng.normal(size=hot.shape) + 1.5 * hot])


def rare_labels(rng: np.random.Generator, sources: int) -> Predictions:
    """A clip of each source, ten labels, each on one clip in fifty."""
    hot = (rng.random((sources, 10)) < 0.02).astype(int)
    return on_one_split(np.arange(sources), hot, outputs=[rng.normal(size=hot.shape) + 1.5 * hot])


def numbers(rng: np.random.Generator, sources: int) -> Predictions:
    """Five clips of each source, two numbers each, that some sources are further from than others."""
    source = np.repeat(np.arange(sources), 5)
    off = 0.6 * rng.normal(size=(sources, 2))[source] + 0.8 * rng.normal(size=(len(source), 2))
    return on_one_split(source, np.zeros(off.shape), outputs=[off])


def words(rng: np.random.Generator, sources: int) -> Predictions:
    """Four transcripts of each source, six to twelve words each."""
    source = np.repeat(np.arange(sources), 4)
    lengths = rng.integers(6, 13, len(source))
    said = [["a" if x < p else "b" for x in rng.random(n)] for n, p in zip(lengths, shares(rng, source), strict=True)]
    return on_one_split(source, [" ".join("a" * n) for n in lengths], outputs=[[" ".join(each) for each in said]])


def frames(rng: np.random.Generator, sources: int) -> Predictions:
    """Three clips of each source, of ten to thirty frames, one frame in five without a label."""
    source = np.repeat(np.arange(sources), 3)
    lengths = rng.integers(10, 31, len(source))
    right = rng.random(lengths.sum()) < np.repeat(shares(rng, source), lengths)
    known = np.where(rng.random(len(right)) < 0.2, -1, 0)
    outputs = [np.eye(2)[1 - right.astype(int)]]
    return on_one_split(source, known, FramePredictions, outputs=outputs, edges=edges(lengths))


def events(rng: np.random.Generator, sources: int) -> Predictions:
    """Three clips of each source, ten segments of two frames, five labels."""
    source = np.repeat(np.arange(sources), 3)
    lengths = np.full(len(source), 20)
    likely = np.repeat(rng.beta(1, 4, (sources, 5))[source], 20, axis=0)
    hot = np.repeat((rng.random((len(likely) // 2, 5)) < likely[::2]).astype(int), 2, axis=0)
    heard = np.repeat(0.5 * rng.normal(size=(sources, 5))[source], 20, axis=0)
    outputs = [3 * hot - 2 + heard + rng.normal(size=hot.shape)]
    return on_one_split(source, hot, FramePredictions, outputs=outputs, edges=edges(lengths), segment_frames=2)


def edges(lengths: np.ndarray) -> np.ndarray:
    """Where the items' frames begin."""
    return np.concatenate([[0], np.cumsum(lengths)])


def captions(rng: np.random.Generator, sources: int) -> Predictions:
    """Two clips of each source that are alike, two captions of each clip; some clips are harder to describe."""
    source = np.repeat(np.arange(sources), 2)
    clip = 0.6 * rng.normal(size=(sources, 16))[source] + 0.8 * rng.normal(size=(len(source), 16))
    owner = np.repeat(np.arange(len(source)), 2)
    vague = rng.uniform(0.5, 1.5, sources)[source][owner]
    text = clip[owner] + vague[:, None] * rng.normal(size=(len(owner), 16))
    similarity = unit(clip) @ unit(text).T
    return on_one_split(source, None, CaptionPredictions, outputs=[similarity.astype(np.float32)], owner=owner)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of norm 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


CENTRES = 1.2 * np.random.default_rng(1).normal(size=(4, 16))
POOL = CENTRES[np.repeat(np.arange(4), 50)] + np.random.default_rng(2).normal(size=(200, 16))


def one_shot(rng: np.random.Generator, sources: int) -> Predictions:
    """Ten draws of a shot of each of four classes from the same 200 clips; three test clips of each source."""
    source = np.repeat(np.arange(sources), 3)
    label = source % 4
    test = CENTRES[label] + 0.6 * rng.normal(size=(sources, 16))[source] + 0.8 * rng.normal(size=(len(source), 16))
    shots = [np.array([rng.integers(50 * c, 50 * c + 50) for c in range(4)]) for _ in range(10)]
    classes = [few_shot_logits(POOL[each], np.arange(4), test, 4).argmax(axis=1) for each in shots]
    return on_one_split(source, label, ClassPredictions, classes=classes, draws=True)


def neighbours_by_fold(rng: np.random.Generator, sources: int) -> Predictions:
    """Five folds by source, each answered by the nearest neighbours among the others' clips."""
    source = np.repeat(np.arange(sources), 6)
    label, fold = source % 4, source // 4 % 5
    x = 0.8 * CENTRES[label] + rng.normal(size=(sources, 16))[source] + rng.normal(size=(len(source), 16))
    said = np.empty(len(source), dtype=np.int64)
    for number in range(5):
        test = fold == number
        said[test] = knn_predict(x[~test], label[~test], x[test])[10]
    return ClassPredictions(source.tolist(), fold, label, classes=[said])


Made = Callable[[np.random.Generator, int], Predictions]


def estimates(rng: np.random.Generator, make: Made, sources: int, metrics: tuple[str, ...]) -> Mapping[str, Estimate]:
    """The metrics of one data set."""
    made = make(rng, sources)
    return {metric: score(metric, made, REPLICATES, rng) for metric in metrics}


def truth(rng: np.random.Generator, make: Made, metrics: tuple[str, ...]) -> dict[str, float]:
    """The metrics of a very large data set."""
    made = make(rng, LARGE)
    none = Bootstrap.from_units(made.group, 0, rng)
    return {metric: float(METRICS[metric].compute(made, none)[0].mean()) for metric in metrics}


def scenario(make: Made, sources: int, *metrics: str, known: bool = True, noted: bool = False, **further) -> Scenario:
    """Test clips of so many sources. known: a very large data set has the same value as small ones on average."""
    return Scenario(
        "Probes",
        f"{make.__name__.replace('_', ' ')}, {sources} sources",
        partial(estimates, make=make, sources=sources, metrics=metrics),
        partial(truth, make=make, metrics=metrics) if known else None,
        noted=frozenset(metrics if noted else ()),
        **further,
    )


# Average precision and recall hang on the size of the test set: what is covered is what sets of that size give.
SCENARIOS = [
    scenario(right_or_wrong, 20, "accuracy"),
    scenario(right_or_wrong, 10, "accuracy", noted=True),
    scenario(sixty_folds, 60, "accuracy"),  # nothing is trained here, so that folds share nothing
    scenario(four_folds, 80, "accuracy"),
    scenario(two_classes, 40, "eer", known=False),
    scenario(two_classes, 10, "eer", known=False, noted=True),
    scenario(several_labels, 60, "mAP", known=False),
    scenario(several_labels, 15, "mAP", known=False, noted=True),
    scenario(rare_labels, 400, "mAP", known=False, data_sets=300),
    scenario(numbers, 30, "mse", "mae"),
    scenario(numbers, 10, "mse", "mae", noted=True),
    scenario(words, 20, "word_accuracy"),
    scenario(frames, 20, "frame_accuracy"),
    scenario(events, 30, "segment_f1_macro", "segment_f1_micro"),
    scenario(events, 10, "segment_f1_macro", "segment_f1_micro", noted=True),
    scenario(captions, 50, "recall_at_1", known=False),
    scenario(captions, 100, "recall_at_1", known=False),
    scenario(captions, 200, "recall_at_1", known=False, data_sets=300),
    scenario(captions, 10, "recall_at_1", known=False, noted=True),
    scenario(one_shot, 40, "accuracy", known=False),
    scenario(neighbours_by_fold, 20, "accuracy", known=False, noted=True),
    scenario(neighbours_by_fold, 100, "accuracy", known=False, noted=True),
]

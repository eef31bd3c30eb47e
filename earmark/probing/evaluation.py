"""What answers on test clips amount to: the task's metrics with intervals.

Answers of several heads (seeds, or draws of few-shot training) on the same clips: a metric is computed for each of
them, and its mean is the score. Clips are resampled in groups of one source. Draws add their own variance: the interval
of few-shot training is about other draws from the same training clips and other test sources.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.bootstrap import Bootstrap, Units, standard_error, summarise
from earmark.metrics.classification import ranking_metrics
from earmark.metrics.detection import SortedTrials, equal_error_rate, roc
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COST, SHARE, Range, interval
from earmark.metrics.retrieval import mean_recall_at_1
from earmark.metrics.sound_events import segment_maxima, segments_of
from earmark.metrics.word_error_rate import word_errors, words_right
from earmark.probing.recall import influences

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHUNK_VALUES = 20_000_000  # replicates × items worked on at once
COSTS = frozenset({"mse", "mae"})  # without an upper bound
OF_FOLDS = "the sources tested here also train the heads of other folds, which the interval leaves out"


@dataclass(frozen=True)
class Answers:
    """What heads answered, one entry of each list for each head.

    group: (n,) the source of each scored item; fold: (n,). labels: (n,) classes, (n, C) 0/1, (n, k) numbers, (T, C)
    frames, or references; outputs: for each head (n, C) or (T, C) logits or numbers, (n, m) similarities of clips and
    captions, or hypotheses. classes: for each head (n,) the class it names, of clip tasks. edges: (n + 1,) where the
    items' frames begin. segment_frames, whole_segments: of frame tasks. owner: (m,) the clip of each caption.
    left_out: what training went without, and how many.
    """

    group: Sequence[str]
    fold: IntArray
    labels: Any
    outputs: list[Any] = field(default_factory=list)
    classes: list[IntArray] = field(default_factory=list)
    edges: IntArray | None = None
    segment_frames: int = 1
    whole_segments: bool = False
    owner: IntArray | None = None
    by_fold: bool = False  # the score is the mean of the folds' scores, as published
    draws: bool = False
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Scored items: clips, or crops where each stands for itself."""
        return len(self.group)


Values = tuple[FloatArray, FloatArray]  # of every head: (heads,), and of every replicate: (replicates, heads)
Metric = Callable[[Answers, Bootstrap], Values]


def score(metric: str, answers: Answers, replicates: int, rng: np.random.Generator) -> Estimate:
    """The metric of the answers, mean over heads, with its interval.

    metric: a key of METRICS. Undefined (no positives, say): an Estimate without value, with the reason.
    """
    bootstrap = Bootstrap.of(np.asarray(answers.group), replicates, rng, "sources")
    values, drawn = _of_folds(METRICS[metric], answers, bootstrap)
    value, means = float(np.mean(values)), drawn.mean(axis=1)
    units = UNITS.get(metric, _all)(answers, bootstrap)
    why, can_be = "a test split without what the metric needs", COST if metric in COSTS else SHARE
    found = summarise(value, means, n=answers.n, why=why, units=units, values=can_be)
    if answers.draws and found.low is not None:
        found = _with_draws(found, values, drawn[np.isfinite(drawn).all(axis=1)], units, can_be)
    if len(np.unique(answers.fold)) > 1 and found.low is not None:
        found = replace(found, note="; ".join(filter(None, [found.note, OF_FOLDS])))
    return found


def _with_draws(found: Estimate, values: FloatArray, drawn: FloatArray, units: Units, can_be: Range) -> Estimate:
    """The estimate with the interval of three variances: of sources, plus of draws, less what both of them hold.

    values: (draws,); drawn: (replicates, draws), of sources. That a draw does better on some sources than on others is
    in the variance over sources of the mean over draws, and in that over draws; it is known from how much more a single
    draw varies over sources than their mean. Degrees of freedom: Satterthwaite (1946), Biometrics Bulletin 2:110.
    """
    n = len(values)
    if n < 2 or found.value is None:
        return found
    of_sources = standard_error(drawn.mean(axis=1), units.n) ** 2
    of_draws = float(np.var(values, ddof=1)) / n
    of_one = float(np.mean([standard_error(each, units.n) ** 2 for each in drawn.T]))
    total = max(of_sources + of_draws - (of_one - of_sources) / (n - 1), of_sources, of_draws)
    if not total:
        return found
    df = (of_sources + of_draws) ** 2 / (of_sources**2 / (units.n - 1) + of_draws**2 / (n - 1))
    bounds = interval(found.value, float(np.sqrt(total)), units=units.n, df=df, values=can_be)
    return found if bounds is None else replace(found, low=bounds[0], high=bounds[1])


def _of_folds(metric: Metric, answers: Answers, bootstrap: Bootstrap) -> Values:
    """The metric of all answers together; or as published, its mean over the folds, each by itself.

    In a replicate, a fold counts by how often its sources were drawn: where each fold is one source, as in leaving one
    speaker out, the folds are what is resampled.
    """
    folds = np.unique(answers.fold)
    if not answers.by_fold or len(folds) < 2:
        return metric(answers, bootstrap)
    of_folds = [answers.fold == fold for fold in folds]
    found = [metric(*_part(answers, bootstrap, items)) for items in of_folds]
    values = np.mean([values for values, _ in found], axis=0)
    drawn = np.stack([drawn for _, drawn in found])
    times = np.stack([bootstrap.weights[:, np.unique(bootstrap.unit[items])].mean(axis=1) for items in of_folds])
    there = np.isfinite(drawn)
    shares = there * times[:, : drawn.shape[1], np.newaxis]
    with np.errstate(invalid="ignore"):
        return values, (np.where(there, drawn, 0) * shares).sum(axis=0) / shares.sum(axis=0)


def _part(answers: Answers, bootstrap: Bootstrap, items: NDArray[np.bool_]) -> tuple[Answers, Bootstrap]:
    """Some of the items, with the same draws of all sources."""
    lengths = None if answers.edges is None else np.diff(answers.edges)
    rows = items if lengths is None else np.repeat(items, lengths)
    part = replace(
        answers,
        group=[group for group, kept in zip(answers.group, items, strict=True) if kept],
        fold=answers.fold[items],
        labels=answers.labels[rows],
        outputs=[each[rows] for each in answers.outputs],
        classes=[each[items] for each in answers.classes],
        edges=None if lengths is None else np.concatenate([[0], np.cumsum(lengths[items])]),
    )
    return part, Bootstrap(bootstrap.unit[items], bootstrap.weights, bootstrap.name)


# --- metrics that are formulas on sums ----------------------------------------------------------------------


def _from_sums(
    contributions: Sequence[FloatArray], formula: Callable[[FloatArray], FloatArray], bootstrap: Bootstrap
) -> Values:
    """contributions: for each head (n, d); formula: (…, d) sums → (…)."""
    values = [float(formula(each.sum(axis=0)[np.newaxis])[0]) for each in contributions]
    drawn = [bootstrap.replicates(each, lambda sums: formula(sums)[..., np.newaxis], 1)[:, 0] for each in contributions]
    return np.array(values), np.stack(drawn, axis=1)


def _ratio(sums: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def accuracy(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Share of items whose class is right."""
    right = [(classes == answers.labels).astype(float) for classes in answers.classes]
    return _from_sums([np.stack([each, np.ones(answers.n)], axis=1) for each in right], _ratio, bootstrap)


def squared_error(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Mean squared error over items and numbers."""
    errors = [((each - answers.labels) ** 2).mean(axis=1) for each in answers.outputs]
    return _from_sums([np.stack([each, np.ones(answers.n)], axis=1) for each in errors], _ratio, bootstrap)


def absolute_error(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Mean absolute error over items and numbers."""
    errors = [np.abs(each - answers.labels).mean(axis=1) for each in answers.outputs]
    return _from_sums([np.stack([each, np.ones(answers.n)], axis=1) for each in errors], _ratio, bootstrap)


def frame_accuracy(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Share of labelled frames whose class is right."""
    known = answers.labels >= 0
    counts = _by_clip(known.astype(float), answers)
    right = [
        _by_clip((known & (each.argmax(axis=1) == answers.labels)).astype(float), answers) for each in answers.outputs
    ]
    return _from_sums([np.stack([each, counts], axis=1) for each in right], _ratio, bootstrap)


def _by_clip(of_frames: FloatArray, answers: Answers) -> FloatArray:
    assert answers.edges is not None
    sums = np.concatenate([np.zeros((1, *of_frames.shape[1:])), np.cumsum(of_frames, axis=0)])
    return np.asarray(sums[answers.edges[1:]] - sums[answers.edges[:-1]])


def segments_present(frames: NDArray[Any], answers: Answers) -> FloatArray:
    """0/1 of each segment and label, of frames (T, C) whose numbers above 0 are a yes."""
    whole = answers.whole_segments
    return segment_maxima(frames > 0, answers.segment_frames, answers.edges, whole=whole).astype(float)


def segment_f1(answers: Answers, bootstrap: Bootstrap, average: str) -> Values:
    """F1 over segments of frames; macro: mean over labels, one that never occurs and is never predicted counting 0.

    A label that is merely not drawn into a replicate is left out of the replicate's mean.
    """
    assert answers.edges is not None
    lengths = segments_of(np.diff(answers.edges), answers.segment_frames, whole=answers.whole_segments)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    true = segments_present(answers.labels, answers)

    def counts(outputs: NDArray[Any]) -> FloatArray:
        said = segments_present(outputs, answers)  # a logit above 0 is more likely than not
        stacked = np.concatenate([said * true, said + true], axis=1)
        sums = np.concatenate([np.zeros((1, stacked.shape[1])), np.cumsum(stacked, axis=0)])
        found = sums[edges[1:]] - sums[edges[:-1]]
        if average == "macro":
            return np.asarray(found)
        labels = true.shape[1]
        return np.stack([found[:, :labels].sum(axis=1), found[:, labels:].sum(axis=1)], axis=1)

    def formula(sums: FloatArray, nowhere: NDArray[np.bool_]) -> FloatArray:
        half = sums.shape[-1] // 2
        hits, claims = sums[..., :half], sums[..., half:]
        f1 = np.divide(2 * hits, claims, out=np.zeros_like(hits), where=claims > 0)
        counted = (claims > 0) | nowhere
        with np.errstate(invalid="ignore"):
            return np.asarray((f1 * counted).sum(axis=-1) / counted.sum(axis=-1))

    found = []
    for each in map(counts, answers.outputs):
        nowhere = each[:, each.shape[1] // 2 :].sum(axis=0) == 0
        found.append(_from_sums([each], partial(formula, nowhere=nowhere), bootstrap))
    return np.concatenate([values for values, _ in found]), np.concatenate([drawn for _, drawn in found], axis=1)


def word_accuracy(answers: Answers, bootstrap: Bootstrap) -> Values:
    """max(0, 1 − WER) over all utterances together; of no words, undefined."""
    counts = [word_errors(answers.labels, each).astype(float) for each in answers.outputs]
    return _from_sums(counts, lambda sums: np.where(sums[..., 3] > 0, words_right(sums), np.nan), bootstrap)


def recall_at_1(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Mean of both directions' recall at 1: clips that find a caption of theirs, captions that find their clip.

    A replicate draws what each source does to the value as query and as candidate (`probe_recall`).
    """
    assert answers.owner is not None
    owner = answers.owner
    values = [mean_recall_at_1(each, owner) for each in answers.outputs]
    if bootstrap.n_units < 2:
        return np.array(values), np.empty((0, len(values)))
    by_source = np.stack([influences(each, owner, bootstrap.unit) for each in answers.outputs], axis=1)
    return np.array(values), values + (bootstrap.weights / bootstrap.n_units) @ by_source


# --- metrics of rankings ------------------------------------------------------------------------------------


def mean_average_precision(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Mean over the labels that occur of their average precision."""
    values = [_map(each, answers.labels) for each in answers.outputs]
    drawn = [_in_chunks(bootstrap, partial(_map, each, answers.labels)) for each in answers.outputs]
    return np.array([float(value) for value in values]), np.stack(drawn, axis=1)


def _map(outputs: NDArray[Any], labels: NDArray[Any], weights: FloatArray | None = None) -> FloatArray:
    """Of weights (replicates, n), (replicates,); a label without a positive in a replicate is left out there."""
    occurring = np.flatnonzero((labels > 0).any(axis=0))
    if not len(occurring):
        return np.full(() if weights is None else len(weights), np.nan)
    found = np.array([ranking_metrics(outputs[:, label], labels[:, label], weights)[..., 1] for label in occurring])
    with np.errstate(invalid="ignore"):  # a replicate may hold no label's positive
        return np.asarray(np.nansum(found, axis=0) / np.isfinite(found).sum(axis=0))


def error_rate(answers: Answers, bootstrap: Bootstrap) -> Values:
    """Equal error rate of two classes, on the convex hull; the second class is what is looked for."""
    if other := [each.shape[1] for each in answers.outputs if each.shape[1] != 2]:
        raise ValueError(f"an equal error rate is of two classes; there are {other[0]}")
    labels = np.asarray(answers.labels) == 1
    if labels.all() or not labels.any():
        n_drawn = len(bootstrap.weights) if bootstrap.n_units > 1 else 0
        return np.full(len(answers.outputs), np.nan), np.full((n_drawn, len(answers.outputs)), np.nan)
    scores = [np.asarray(each[:, 1] - each[:, 0], dtype=float) for each in answers.outputs]
    values = [equal_error_rate(roc(each, labels)).rate for each in scores]

    def replicates(each: FloatArray) -> FloatArray:
        trials = SortedTrials.of(each, labels)
        return _in_chunks(bootstrap, lambda weights: trials.replicates(iter([weights]))[:, 0])

    return np.array(values), np.stack([replicates(each) for each in scores], axis=1)


def _in_chunks(bootstrap: Bootstrap, work: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """The work on the weights of all replicates, (rows, n) at a time."""
    if bootstrap.n_units < 2 or not len(bootstrap.weights):
        return np.empty(0)
    rows = max(1, CHUNK_VALUES // max(len(bootstrap.unit), 1) // 8)
    chunks = range(0, len(bootstrap.weights), rows)
    return np.concatenate([work(bootstrap.weights[i : i + rows, bootstrap.unit].astype(float)) for i in chunks])


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "eer": error_rate,
    "mAP": mean_average_precision,
    "mse": squared_error,
    "mae": absolute_error,
    "frame_accuracy": frame_accuracy,
    "segment_f1_macro": lambda answers, bootstrap: segment_f1(answers, bootstrap, "macro"),
    "segment_f1_micro": lambda answers, bootstrap: segment_f1(answers, bootstrap, "micro"),
    "recall_at_1": recall_at_1,
    "word_accuracy": word_accuracy,
}


# --- the sources that decide how well a metric is known, where that is not all ------------------------------


def _all(answers: Answers, bootstrap: Bootstrap) -> Units:
    return bootstrap.units


def _with_frames(answers: Answers, bootstrap: Bootstrap, frames: NDArray[np.bool_], what: str) -> Units:
    return bootstrap.with_any(_by_clip(frames.astype(float), answers) > 0, what)


UNITS: dict[str, Callable[[Answers, Bootstrap], Units]] = {
    "eer": lambda answers, bootstrap: bootstrap.of_rarer_class(np.asarray(answers.labels) == 1),
    "mAP": lambda answers, bootstrap: bootstrap.with_any((answers.labels > 0).any(axis=1), "with a label"),
    "frame_accuracy": lambda answers, bootstrap: _with_frames(answers, bootstrap, answers.labels >= 0, "with a label"),
    "segment_f1_macro": lambda answers, bootstrap: _with_frames(
        answers, bootstrap, (answers.labels > 0).any(axis=1), "with an event"
    ),
    "segment_f1_micro": lambda answers, bootstrap: _with_frames(
        answers, bootstrap, (answers.labels > 0).any(axis=1), "with an event"
    ),
    "word_accuracy": lambda answers, bootstrap: bootstrap.with_any(
        [bool(text) for text in answers.labels], "with words"
    ),
}

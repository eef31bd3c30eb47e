"""What predictions on test items amount to: the task's metrics with intervals.

Predictions of several heads (seeds, or draws of few-shot training) on the same items: a metric is computed for each of
them, and its mean is the score. Items are resampled in groups of one source. Draws add their own variance: the interval
of few-shot training is about other draws from the same training clips and other test sources.

A metric is a row of METRICS: what it is computed from, how, and what is to know about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.bootstrap import Bootstrap, Units, estimate_from_replicates, standard_error
from earmark.metrics.classification import ranking_metrics
from earmark.metrics.detection import SortedTrials, equal_error_rate, roc
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COST, SHARE, Range, interval
from earmark.metrics.retrieval import mean_recall_at_1
from earmark.metrics.sound_events import f1_scores, segment_counts, segment_maxima, segments_per_clip
from earmark.metrics.word_error_rate import one_minus_wer, word_errors
from earmark.probing.recall import source_influences

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CHUNK_VALUES = 20_000_000  # replicates × items worked on at once
FOLDS_NOTE = "the sources tested here also train the heads of other folds, which the interval leaves out"


@dataclass(frozen=True)
class Predictions:
    """What heads predicted for n test items, an entry of `outputs` for each head.

    group: (n,) the source of each item; fold: (n,). labels: (n, C) 0/1, (n, k) numbers, or n references. outputs: for
    each head as many logits or numbers, or n hypotheses. by_fold: the score is the mean of the folds' scores, as
    published. draws: heads are draws of few-shot training. left_out: what training went without, and how many.
    """

    group: Sequence[str]
    fold: IntArray
    labels: Any
    outputs: list[Any] = field(default_factory=list)
    by_fold: bool = field(default=False, kw_only=True)
    draws: bool = field(default=False, kw_only=True)
    left_out: dict[str, int] = field(default_factory=dict, kw_only=True)

    @property
    def n(self) -> int:
        """Scored items: clips, or crops where each stands for itself."""
        return len(self.group)

    @property
    def n_heads(self) -> int:
        """How many heads predicted."""
        return len(self.outputs)

    def subset(self, items: BoolArray) -> Self:
        """Some of the items."""
        return replace(
            self,
            group=[group for group, kept in zip(self.group, items, strict=True) if kept],
            fold=self.fold[items],
            **self._subset_of_values(items),
        )

    def _subset_of_values(self, items: BoolArray) -> dict[str, Any]:
        return {"labels": self.labels[items], "outputs": [each[items] for each in self.outputs]}


@dataclass(frozen=True)
class ClassPredictions(Predictions):
    """One class for each item. labels: (n,) classes; classes: for each head (n,); outputs: (n, C) logits, or none."""

    classes: list[IntArray] = field(default_factory=list)

    @property
    def n_heads(self) -> int:
        """How many heads, or ways of asking neighbours."""
        return len(self.classes)

    def _subset_of_values(self, items: BoolArray) -> dict[str, Any]:
        outputs, classes = ([each[items] for each in values] for values in (self.outputs, self.classes))
        return {"labels": self.labels[items], "outputs": outputs, "classes": classes}


@dataclass(frozen=True)
class FramePredictions(Predictions):
    """Clips by their frames. labels: (T,) classes, −1 for none, or (T, C) 0/1; outputs: for each head (T, C) logits.

    edges: (n + 1,) where the items' frames begin. segment_frames, whole_segments: what sound events are scored over.
    """

    edges: IntArray = field(kw_only=True)
    segment_frames: int = 1
    whole_segments: bool = False

    def sum_by_clip(self, of_frames: FloatArray) -> FloatArray:
        """Sums over each clip's frames."""
        return _sums_between(of_frames, self.edges)

    def segment_presence(self, frames: NDArray[Any]) -> FloatArray:
        """0/1 of each segment and label, of frames (T, C) whose numbers above 0 are a yes."""
        whole = self.whole_segments
        return segment_maxima(frames > 0, self.segment_frames, self.edges, drop_last=whole).astype(float)

    def labelled_frames(self) -> tuple[IntArray, list[IntArray]]:
        """The class of every frame that has one, and what each head says it is."""
        known = self.labels >= 0
        return self.labels[known], [each.argmax(axis=1)[known] for each in self.outputs]

    def _subset_of_values(self, items: BoolArray) -> dict[str, Any]:
        lengths = np.diff(self.edges)
        edges = np.concatenate([[0], np.cumsum(lengths[items])])
        return {**super()._subset_of_values(np.repeat(items, lengths)), "edges": edges}


@dataclass(frozen=True)
class CaptionPredictions(Predictions):
    """Clips and captions. outputs: for each head (n, m) similarities; owner: (m,) the clip of each caption."""

    owner: IntArray = field(kw_only=True)


P = TypeVar("P", bound=Predictions)
MetricValues = tuple[FloatArray, FloatArray]  # of every head: (heads,), and of every replicate: (replicates, heads)


def _all(predictions: Predictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units


@dataclass(frozen=True)
class Metric(Generic[P]):
    """needs: the predictions it is computed from. values: those that it can take. units: the sources that decide how
    well it is known, where these are not all.
    """

    predictions_type: type[P]
    compute: Callable[[P, Bootstrap], MetricValues]
    lower_is_better: bool = False
    values: Range = SHARE
    units: Callable[[P, Bootstrap], Units] = _all


def score(metric: str, predictions: Predictions, replicates: int, rng: np.random.Generator) -> Estimate:
    """The metric of the predictions, mean over heads, with its interval.

    metric: a key of METRICS. Undefined (no positives, say): an Estimate without value, with the reason.
    """
    how = METRICS[metric]
    if not isinstance(predictions, how.predictions_type):
        raise ValueError(
            f"{metric} is computed from {how.predictions_type.__name__}, not from {type(predictions).__name__}"
        )
    bootstrap = Bootstrap.from_units(np.asarray(predictions.group), replicates, rng, "sources")
    values, drawn = _of_folds(how, predictions, bootstrap)
    value, means = float(np.mean(values)), drawn.mean(axis=1)
    units = how.units(predictions, bootstrap)
    why = "a test split without what the metric needs"
    found = estimate_from_replicates(value, means, n=predictions.n, why=why, units=units, values=how.values)
    if predictions.draws and found.low is not None:
        found = _with_draws(found, values, drawn[np.isfinite(drawn).all(axis=1)], units, how.values)
    if len(np.unique(predictions.fold)) > 1 and found.low is not None:
        found = replace(found, note="; ".join(filter(None, [found.note, FOLDS_NOTE])))
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


def _of_folds(metric: Metric[Any], predictions: Predictions, bootstrap: Bootstrap) -> MetricValues:
    """The metric of all items together; or as published, its mean over the folds, each by itself.

    In a replicate, a fold counts by how often its sources were drawn: where each fold is one source, as in leaving one
    speaker out, the folds are what is resampled.
    """
    folds = np.unique(predictions.fold)
    if not predictions.by_fold or len(folds) < 2:
        return metric.compute(predictions, bootstrap)
    of_folds = [predictions.fold == fold for fold in folds]
    found = [
        metric.compute(predictions.subset(items), Bootstrap(bootstrap.unit[items], bootstrap.weights, bootstrap.name))
        for items in of_folds
    ]
    values = np.mean([values for values, _ in found], axis=0)
    drawn = np.stack([drawn for _, drawn in found])
    times = np.stack([bootstrap.weights[:, np.unique(bootstrap.unit[items])].mean(axis=1) for items in of_folds])
    there = np.isfinite(drawn)
    shares = there * times[:, : drawn.shape[1], np.newaxis]
    with np.errstate(invalid="ignore"):
        return values, (np.where(there, drawn, 0) * shares).sum(axis=0) / shares.sum(axis=0)


# --- metrics that are formulas on sums ----------------------------------------------------------------------


def correct(classes: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    """(n,) 1 where the class is right, else 0."""
    return np.asarray(classes == labels, dtype=float)


def squared_errors(outputs: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    """(n,) the squared error of each item, mean over its numbers."""
    return np.asarray(((outputs - labels) ** 2).mean(axis=1))


def absolute_errors(outputs: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    """(n,) the absolute error of each item, mean over its numbers."""
    return np.asarray(np.abs(outputs - labels).mean(axis=1))


def _from_sums(
    contributions: Sequence[FloatArray], formula: Callable[[FloatArray], FloatArray], bootstrap: Bootstrap
) -> MetricValues:
    """contributions: for each head (n, d); formula: (…, d) sums → (…)."""
    values = [float(formula(each.sum(axis=0)[np.newaxis])[0]) for each in contributions]
    drawn = [bootstrap.replicates(each, lambda sums: formula(sums)[..., np.newaxis], 1)[:, 0] for each in contributions]
    return np.array(values), np.stack(drawn, axis=1)


def _means(of_items: Sequence[FloatArray], counts: FloatArray, bootstrap: Bootstrap) -> MetricValues:
    """For each head the sum over items over the sum of their counts, both (n,)."""

    def ratio(sums: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums[..., 0] / sums[..., 1])

    return _from_sums([np.stack([each, counts], axis=1) for each in of_items], ratio, bootstrap)


def _accuracy(predictions: ClassPredictions, bootstrap: Bootstrap) -> MetricValues:
    right = [correct(classes, predictions.labels) for classes in predictions.classes]
    return _means(right, np.ones(predictions.n), bootstrap)


def _mean_error(
    predictions: Predictions, bootstrap: Bootstrap, errors: Callable[[NDArray[Any], NDArray[Any]], FloatArray]
) -> MetricValues:
    of_items = [errors(each, predictions.labels) for each in predictions.outputs]
    return _means(of_items, np.ones(predictions.n), bootstrap)


def _frame_accuracy(predictions: FramePredictions, bootstrap: Bootstrap) -> MetricValues:
    known = predictions.labels >= 0
    right = [known * correct(each.argmax(axis=1), predictions.labels) for each in predictions.outputs]
    counts = predictions.sum_by_clip(known.astype(float))
    return _means([predictions.sum_by_clip(each) for each in right], counts, bootstrap)


def _sums_between(values: FloatArray, edges: IntArray) -> FloatArray:
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return np.asarray(sums[edges[1:]] - sums[edges[:-1]])


def _segment_f1(predictions: FramePredictions, bootstrap: Bootstrap, average: str) -> MetricValues:
    """F1 over segments of frames; macro: mean over labels, one that never occurs and is never predicted counting 0.

    A label that is merely not drawn into a replicate is left out of the replicate's mean.
    """
    size, whole = predictions.segment_frames, predictions.whole_segments
    lengths = segments_per_clip(np.diff(predictions.edges), size, drop_last=whole)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    true = predictions.segment_presence(predictions.labels)

    def formula(sums: FloatArray, nowhere: BoolArray) -> FloatArray:
        half = sums.shape[-1] // 2
        claims = sums[..., half:]
        f1, counted = f1_scores(sums[..., :half], claims), (claims > 0) | nowhere
        with np.errstate(invalid="ignore"):
            return np.asarray((f1 * counted).sum(axis=-1) / counted.sum(axis=-1))

    found = []
    for each in predictions.outputs:  # a logit above 0 is more likely than not
        counts = _sums_between(segment_counts(predictions.segment_presence(each), true, average), edges)
        nowhere = counts[:, counts.shape[1] // 2 :].sum(axis=0) == 0
        found.append(_from_sums([counts], partial(formula, nowhere=nowhere), bootstrap))
    return np.concatenate([values for values, _ in found]), np.concatenate([drawn for _, drawn in found], axis=1)


def _word_accuracy(predictions: Predictions, bootstrap: Bootstrap) -> MetricValues:
    """max(0, 1 − WER) over all utterances together; of no words, undefined."""
    counts = [word_errors(predictions.labels, each).astype(float) for each in predictions.outputs]
    return _from_sums(counts, lambda sums: np.where(sums[..., 3] > 0, one_minus_wer(sums), np.nan), bootstrap)


def _recall_at_1(predictions: CaptionPredictions, bootstrap: Bootstrap) -> MetricValues:
    """Mean of both directions' recall at 1: clips that find a caption of theirs, captions that find their clip.

    A replicate draws what each source does to the value as query and as candidate (`recall`).
    """
    owner = predictions.owner
    values = [mean_recall_at_1(each, owner) for each in predictions.outputs]
    if bootstrap.n_units < 2:
        return np.array(values), np.empty((0, len(values)))
    by_source = np.stack([source_influences(each, owner, bootstrap.unit) for each in predictions.outputs], axis=1)
    return np.array(values), values + (bootstrap.weights / bootstrap.n_units) @ by_source


# --- metrics of rankings ------------------------------------------------------------------------------------


def mean_average_precision(
    outputs: NDArray[Any], labels: NDArray[Any], weights: FloatArray | None = None
) -> FloatArray:
    """The mean over the labels that occur of their average precision, (); of weights (replicates, n), (replicates,).

    A label without a positive in a replicate is left out there. No label occurs, or an output is not finite, as after
    a learning rate that was too high: NaN.
    """
    occurring = np.flatnonzero((labels > 0).any(axis=0))
    if not len(occurring) or not np.isfinite(outputs).all():
        return np.full(() if weights is None else len(weights), np.nan)
    found = np.array([ranking_metrics(outputs[:, label], labels[:, label], weights)[..., 1] for label in occurring])
    with np.errstate(invalid="ignore"):  # a replicate may hold no label's positive
        return np.asarray(np.nansum(found, axis=0) / np.isfinite(found).sum(axis=0))


def _map(predictions: Predictions, bootstrap: Bootstrap) -> MetricValues:
    labels = predictions.labels
    values = [float(mean_average_precision(each, labels)) for each in predictions.outputs]
    drawn = [_in_chunks(bootstrap, partial(mean_average_precision, each, labels)) for each in predictions.outputs]
    return np.array(values), np.stack(drawn, axis=1)


def _equal_error_rate(predictions: ClassPredictions, bootstrap: Bootstrap) -> MetricValues:
    """Of two classes, on the convex hull; the second class is what is looked for."""
    outputs = predictions.outputs
    if other := [each.shape[1] for each in outputs if each.shape[1] != 2]:
        raise ValueError(f"an equal error rate is of two classes; there are {other[0]}")
    labels = np.asarray(predictions.labels) == 1
    if labels.all() or not labels.any():
        n_drawn = len(bootstrap.weights) if bootstrap.n_units > 1 else 0
        return np.full(len(outputs), np.nan), np.full((n_drawn, len(outputs)), np.nan)
    scores = [np.asarray(each[:, 1] - each[:, 0], dtype=float) for each in outputs]
    values = [equal_error_rate(roc(each, labels)).rate for each in scores]

    def replicates(each: FloatArray) -> FloatArray:
        trials = SortedTrials.from_arrays(each, labels)
        return _in_chunks(bootstrap, trials.equal_error_rates)

    return np.array(values), np.stack([replicates(each) for each in scores], axis=1)


def _in_chunks(bootstrap: Bootstrap, work: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """The work on the weights of all replicates, (rows, n) at a time."""
    if bootstrap.n_units < 2 or not len(bootstrap.weights):
        return np.empty(0)
    rows = max(1, CHUNK_VALUES // max(len(bootstrap.unit), 1) // 8)
    chunks = range(0, len(bootstrap.weights), rows)
    return np.concatenate([work(bootstrap.weights[i : i + rows, bootstrap.unit].astype(float)) for i in chunks])


# --- the table ----------------------------------------------------------------------------------------------


def _of_rarer_class(predictions: ClassPredictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_of_rarer_class(np.asarray(predictions.labels) == 1)


def _with_a_label(predictions: Predictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with((predictions.labels > 0).any(axis=1), "with a label")


def _with_a_labelled_frame(predictions: FramePredictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with(predictions.sum_by_clip((predictions.labels >= 0).astype(float)) > 0, "with a label")


def _with_an_event(predictions: FramePredictions, bootstrap: Bootstrap) -> Units:
    events = (predictions.labels > 0).any(axis=1).astype(float)
    return bootstrap.units_with(predictions.sum_by_clip(events) > 0, "with an event")


def _with_words(predictions: Predictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with([bool(text) for text in predictions.labels], "with words")


METRICS: dict[str, Metric[Any]] = {
    "accuracy": Metric(ClassPredictions, _accuracy),
    "eer": Metric(ClassPredictions, _equal_error_rate, lower_is_better=True, units=_of_rarer_class),
    "mAP": Metric(Predictions, _map, units=_with_a_label),
    "mse": Metric(Predictions, partial(_mean_error, errors=squared_errors), lower_is_better=True, values=COST),
    "mae": Metric(Predictions, partial(_mean_error, errors=absolute_errors), lower_is_better=True, values=COST),
    "frame_accuracy": Metric(FramePredictions, _frame_accuracy, units=_with_a_labelled_frame),
    "segment_f1_macro": Metric(FramePredictions, partial(_segment_f1, average="macro"), units=_with_an_event),
    "segment_f1_micro": Metric(FramePredictions, partial(_segment_f1, average="micro"), units=_with_an_event),
    "recall_at_1": Metric(CaptionPredictions, _recall_at_1),
    "word_accuracy": Metric(Predictions, _word_accuracy, units=_with_words),
}

"""Metrics of predictions on test items, with confidence intervals.

Several heads (seeds, or draws of few-shot training) predict the same items. A metric is computed for each head; the
score is the mean over heads. The bootstrap resamples sources with all their items. Draws add their own variance: the
interval of few-shot training covers other draws from the same training clips and other test sources.

METRICS defines the metrics: the predictions they need, the computation, and the range of values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.bootstrap import Bootstrap, Contributions, Units, estimate_from_replicates, standard_error
from earmark.metrics.calibration_error import confidences, squared_calibration_error
from earmark.metrics.choice import balanced_accuracy, f1_contributions, macro_f1
from earmark.metrics.classification import ranking_metrics
from earmark.metrics.detection import SortedTrials, equal_error_rate, roc
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COST, DIFFERENCE, SHARE, Range, interval
from earmark.metrics.retrieval import mean_recall_at_1
from earmark.metrics.sound_events import f1_scores, segment_counts, segment_maxima, segments_per_clip
from earmark.metrics.word_error_rate import one_minus_wer, word_errors
from earmark.probing.recall import source_influences

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CHUNK_VALUES = 20_000_000  # replicates × items per chunk
OF_CLASSES = ("accuracy", "macro_f1", "balanced_accuracy")  # of every task of one class per clip
CALIBRATION_ERROR = "calibration_error"
FOLDS_NOTE = "test sources also train the heads of other folds, which the interval ignores"


@dataclass(frozen=True)
class Predictions:
    """Outputs of heads for n test items.

    Attributes
    ----------
    group : (n,) sequence
        Source of each item.
    fold : (n,) int
        Test fold of each item.
    labels : (n, C) 0/1, (n, k) float, or n texts
        Reference labels.
    outputs : list
        One entry per head: logits or values in the shape of `labels`, or n hypotheses.
    by_fold : bool
        Whether the score is the mean over folds, as published.
    draws : bool
        Whether heads are draws of few-shot training.
    left_out : dict
        {reason: number of excluded training clips}.
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
        """Number of scored items: clips, or crops if each is an item."""
        return len(self.group)

    @property
    def n_heads(self) -> int:
        """Number of heads."""
        return len(self.outputs)

    def subset(self, items: BoolArray) -> Self:
        """The predictions for the items where `items`, (n,) bool, is True."""
        return replace(
            self,
            group=[group for group, selected in zip(self.group, items, strict=True) if selected],
            fold=self.fold[items],
            **self._subset_of_values(items),
        )

    def _subset_of_values(self, items: BoolArray) -> dict[str, Any]:
        return {"labels": self.labels[items], "outputs": [each[items] for each in self.outputs]}


@dataclass(frozen=True)
class ClassPredictions(Predictions):
    """Predictions of one class per item.

    Attributes
    ----------
    labels : (n,) int
        Class indices.
    outputs : list of (n, C) float
        Logits of each head; empty for k-NN.
    classes : list of (n,) int
        Predicted class indices of each head.
    """

    classes: list[IntArray] = field(default_factory=list)

    @property
    def n_heads(self) -> int:
        """Number of heads, or of k-NN classifiers."""
        return len(self.classes)

    def _subset_of_values(self, items: BoolArray) -> dict[str, Any]:
        outputs, classes = ([each[items] for each in values] for values in (self.outputs, self.classes))
        return {"labels": self.labels[items], "outputs": outputs, "classes": classes}


@dataclass(frozen=True)
class FramePredictions(Predictions):
    """Predictions for the frames of n clips, T frames in total.

    Attributes
    ----------
    labels : (T,) int or (T, C) 0/1
        Class index of each frame, −1 for unlabelled; or labels present in each frame.
    outputs : list of (T, C) float
        Logits of each head.
    edges : (n + 1,) int
        First frame of each clip, and T.
    segment_frames : int
        Length of the segments in which sound events are scored.
    whole_segments : bool
        Whether a shorter last segment is ignored.
    """

    edges: IntArray = field(kw_only=True)
    segment_frames: int = 1
    whole_segments: bool = False

    def sum_by_clip(self, values: FloatArray) -> FloatArray:
        """(n, …) sums over the frames of each clip."""
        return _sums_between(values, self.edges)

    def segment_presence(self, frames: NDArray[Any]) -> FloatArray:
        """(segments, C) 0/1: whether any frame of the segment has a value above 0 in `frames`, (T, C)."""
        drop_last = self.whole_segments
        return segment_maxima(frames > 0, self.segment_frames, self.edges, drop_last=drop_last).astype(float)

    def labelled_frames(self) -> tuple[IntArray, list[IntArray]]:
        """Class indices of the labelled frames, and the predictions of each head for them."""
        labelled = self.labels >= 0
        return self.labels[labelled], [each.argmax(axis=1)[labelled] for each in self.outputs]

    def _subset_of_values(self, items: BoolArray) -> dict[str, Any]:
        lengths = np.diff(self.edges)
        edges = np.concatenate([[0], np.cumsum(lengths[items])])
        return {**super()._subset_of_values(np.repeat(items, lengths)), "edges": edges}


@dataclass(frozen=True)
class CaptionPredictions(Predictions):
    """Similarities of n clips and m captions.

    Attributes
    ----------
    outputs : list of (n, m) float
        Similarities of each head.
    owner : (m,) int
        Clip of each caption.
    """

    owner: IntArray = field(kw_only=True)


P = TypeVar("P", bound=Predictions)
MetricValues = tuple[FloatArray, FloatArray]  # values (heads,) and replicates (replicates, heads)


def _all_sources(predictions: Predictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units


@dataclass(frozen=True)
class Metric(Generic[P]):
    """Definition of a metric.

    Attributes
    ----------
    predictions_type : type
        Class of the predictions it is computed from.
    compute : callable
        From predictions and a bootstrap: values (heads,) and replicates (replicates, heads).
    lower_is_better : bool
        Whether it is an error.
    values : Range
        Range of its values.
    units : callable
        The informative sources, if not all are.
    finish : callable, optional
        From the estimate on the scale of `compute` and of the replicates to the reported one.
    why : str
        Reason to report if the metric is undefined.
    """

    predictions_type: type[P]
    compute: Callable[[P, Bootstrap], MetricValues]
    lower_is_better: bool = False
    values: Range = SHARE
    units: Callable[[P, Bootstrap], Units] = _all_sources
    finish: Callable[[Estimate], Estimate] | None = None
    why: str = "required labels are missing in the test set, such as positives or a second class"


def score(metric: str, predictions: Predictions, replicates: int, rng: np.random.Generator) -> Estimate:
    """Compute a metric, averaged over heads, with its interval.

    Parameters
    ----------
    metric : str
        A key of METRICS.
    predictions : Predictions
        Of the class that the metric needs.
    replicates : int
        Bootstrap replicates.
    rng : numpy.random.Generator
        Random numbers of the bootstrap.

    Returns
    -------
    Estimate
        As `score_on`.

    Raises
    ------
    ValueError
        If the metric cannot be computed from these predictions.
    """
    return score_on(metric, predictions, source_bootstrap(predictions, replicates, rng))


def source_bootstrap(predictions: Predictions, replicates: int, rng: np.random.Generator) -> Bootstrap:
    """Bootstrap over the sources of predictions; all their metrics can share it."""
    return Bootstrap.from_units(np.asarray(predictions.group), replicates, rng, "sources")


def score_on(metric: str, predictions: Predictions, bootstrap: Bootstrap) -> Estimate:
    """Compute a metric, averaged over heads, with its interval.

    Parameters
    ----------
    metric : str
        A key of METRICS.
    predictions : Predictions
        Of the class that the metric needs.
    bootstrap : Bootstrap
        Of the sources of the items (`source_bootstrap`).

    Returns
    -------
    Estimate
        Without a value, but with a reason, if the metric is undefined (for example without positives). `n` is the
        number of items.

    Raises
    ------
    ValueError
        If the metric cannot be computed from these predictions.
    """
    spec = METRICS[metric]
    if not isinstance(predictions, spec.predictions_type):
        raise ValueError(
            f"{metric} is computed from {spec.predictions_type.__name__}, not from {type(predictions).__name__}"
        )
    values, drawn = _compute(spec, predictions, bootstrap)
    value, means = float(np.mean(values)), drawn.mean(axis=1)
    units = spec.units(predictions, bootstrap)
    estimate = estimate_from_replicates(value, means, n=predictions.n, why=spec.why, units=units, values=spec.values)
    if predictions.draws and estimate.low is not None:
        estimate = _with_draws(estimate, values, drawn[np.isfinite(drawn).all(axis=1)], units, spec.values)
    if len(np.unique(predictions.fold)) > 1 and estimate.low is not None:
        estimate = replace(estimate, note="; ".join(filter(None, [estimate.note, FOLDS_NOTE])))
    return estimate if spec.finish is None else spec.finish(estimate)


def score_replicates(metric: str, predictions: Predictions, bootstrap: Bootstrap) -> tuple[float, FloatArray, Units]:
    """Compute a metric, averaged over heads, with its replicates.

    Parameters
    ----------
    metric : str
        A key of METRICS.
    predictions : Predictions
        Of the class that the metric needs.
    bootstrap : Bootstrap
        Of the sources of the items. Two encoders on the same bootstrap are compared pair by pair.

    Returns
    -------
    value : float
        NaN if undefined.
    replicates : (replicates,) float
    units : Units
        The informative sources.
    """
    spec = METRICS[metric]
    values, drawn = _compute(spec, predictions, bootstrap)
    return float(np.mean(values)), drawn.mean(axis=1), spec.units(predictions, bootstrap)


def _with_draws(
    estimate: Estimate, values: FloatArray, replicates: FloatArray, units: Units, value_range: Range
) -> Estimate:
    """Replace the interval of an estimate by one that includes the variance over draws.

    The variance is that over sources, plus that over draws, minus their interaction, which both contain. The
    interaction follows from how much more a single draw varies over sources than the mean over draws.

    Parameters
    ----------
    estimate : Estimate
        Mean over draws.
    values : (draws,) float
        Value of each draw.
    replicates : (replicates, draws) float
        Bootstrap replicates over sources.
    units : Units
        Informative sources.
    value_range : Range
        Range of the metric.

    References
    ----------
    Satterthwaite (1946), An approximate distribution of estimates of variance components, Biometrics Bulletin 2:110
    (degrees of freedom).
    """
    n_draws = len(values)
    if n_draws < 2 or estimate.value is None:
        return estimate
    source_variance = standard_error(replicates.mean(axis=1), units.n) ** 2
    draw_variance = float(np.var(values, ddof=1)) / n_draws
    single_draw_variance = float(np.mean([standard_error(each, units.n) ** 2 for each in replicates.T]))
    variance = max(
        source_variance + draw_variance - (single_draw_variance - source_variance) / (n_draws - 1),
        source_variance,
        draw_variance,
    )
    if not variance:
        return estimate
    df = (source_variance + draw_variance) ** 2 / (
        source_variance**2 / (units.n - 1) + draw_variance**2 / (n_draws - 1)
    )
    bounds = interval(estimate.value, float(np.sqrt(variance)), units=units.n, df=df, values=value_range)
    return estimate if bounds is None else replace(estimate, low=bounds[0], high=bounds[1])


def _compute(metric: Metric[Any], predictions: Predictions, bootstrap: Bootstrap) -> MetricValues:
    """Compute a metric over all items, or as the mean over folds as published.

    In a replicate, a fold is weighted by how often its sources were drawn. If each fold is one source, as in
    leave-one-speaker-out, this resamples the folds.
    """
    folds = np.unique(predictions.fold)
    if not predictions.by_fold or len(folds) < 2:
        return metric.compute(predictions, bootstrap)
    fold_masks = [predictions.fold == fold for fold in folds]
    results = [
        metric.compute(predictions.subset(items), Bootstrap(bootstrap.unit[items], bootstrap.weights, bootstrap.name))
        for items in fold_masks
    ]
    values = np.mean([values for values, _ in results], axis=0)
    drawn = np.stack([drawn for _, drawn in results])
    fold_weights = np.stack(
        [bootstrap.weights[:, np.unique(bootstrap.unit[items])].mean(axis=1) for items in fold_masks]
    )
    finite = np.isfinite(drawn)
    weights = finite * fold_weights[:, : drawn.shape[1], np.newaxis]
    with np.errstate(invalid="ignore"):
        return values, (np.where(finite, drawn, 0) * weights).sum(axis=0) / weights.sum(axis=0)


# --- metrics computed from sums over items ----------------------------------------------------------------------


def correct(classes: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    """Whether each predicted class is correct.

    Parameters
    ----------
    classes, labels : (n,) int
        Predicted and true class of each item.

    Returns
    -------
    (n,) float
        1 for a correct class, otherwise 0.
    """
    return np.asarray(classes == labels, dtype=float)


def squared_errors(outputs: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    """Squared error of each item.

    Parameters
    ----------
    outputs, labels : (n, k) float
        Predicted and true values.

    Returns
    -------
    (n,) float
        Mean over the k values.

    Examples
    --------
    >>> squared_errors(np.array([[1.0, 3.0]]), np.array([[2.0, 0.0]]))
    array([5.])
    """
    return np.asarray(((outputs - labels) ** 2).mean(axis=1))


def absolute_errors(outputs: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    """Absolute error of each item.

    Parameters
    ----------
    outputs, labels : (n, k) float
        Predicted and true values.

    Returns
    -------
    (n,) float
        Mean over the k values.
    """
    return np.asarray(np.abs(outputs - labels).mean(axis=1))


def _compute_from_sums(
    contributions: Sequence[Contributions], formula: Callable[[FloatArray], FloatArray], bootstrap: Bootstrap
) -> MetricValues:
    """Apply a formula to sums over items.

    Parameters
    ----------
    contributions : sequence of (n, d) array or sparse array
        Contributions of the items, for each head.
    formula : callable
        From sums (…, d) to values (…).
    bootstrap : Bootstrap
        Resampled sources.
    """
    values = [float(formula(np.asarray(each.sum(axis=0), dtype=float)[np.newaxis])[0]) for each in contributions]
    drawn = [bootstrap.replicates(each, lambda sums: formula(sums)[..., np.newaxis], 1)[:, 0] for each in contributions]
    return np.array(values), np.stack(drawn, axis=1)


def _means(item_values: Sequence[FloatArray], counts: FloatArray, bootstrap: Bootstrap) -> MetricValues:
    """For each head, the sum over items divided by the sum of their counts, both (n,)."""

    def ratio(sums: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums[..., 0] / sums[..., 1])

    return _compute_from_sums([np.stack([each, counts], axis=1) for each in item_values], ratio, bootstrap)


def _accuracy(predictions: ClassPredictions, bootstrap: Bootstrap) -> MetricValues:
    correct_items = [correct(classes, predictions.labels) for classes in predictions.classes]
    return _means(correct_items, np.ones(predictions.n), bootstrap)


def _mean_over_classes(
    predictions: ClassPredictions, bootstrap: Bootstrap, formula: Callable[[FloatArray, int], FloatArray]
) -> MetricValues:
    labels = np.asarray(predictions.labels)
    n_classes = 1 + max(int(each.max(initial=0)) for each in (labels, *predictions.classes))
    counts = [f1_contributions(classes, labels, n_classes) for classes in predictions.classes]
    return _compute_from_sums(counts, lambda sums: formula(sums, n_classes), bootstrap)


def _squared_calibration_error(predictions: ClassPredictions, bootstrap: Bootstrap) -> MetricValues:
    results = [
        squared_calibration_error(confidences(outputs), correct(classes, predictions.labels), bootstrap)
        for outputs, classes in zip(predictions.outputs, predictions.classes, strict=True)
    ]
    return np.array([value for value, _ in results]), np.stack([drawn for _, drawn in results], axis=1)


def _root(estimate: Estimate) -> Estimate:
    """Root of a squared error and of the ends of its interval; 0 for those below 0."""
    ends = (None if end is None else max(end, 0.0) ** 0.5 for end in (estimate.value, estimate.low, estimate.high))
    value, low, high = ends
    return replace(estimate, value=value, low=low, high=high)


def _mean_error(
    predictions: Predictions, bootstrap: Bootstrap, errors: Callable[[NDArray[Any], NDArray[Any]], FloatArray]
) -> MetricValues:
    item_errors = [errors(each, predictions.labels) for each in predictions.outputs]
    return _means(item_errors, np.ones(predictions.n), bootstrap)


def _frame_accuracy(predictions: FramePredictions, bootstrap: Bootstrap) -> MetricValues:
    labelled = predictions.labels >= 0
    correct_frames = [labelled * correct(each.argmax(axis=1), predictions.labels) for each in predictions.outputs]
    counts = predictions.sum_by_clip(labelled.astype(float))
    return _means([predictions.sum_by_clip(each) for each in correct_frames], counts, bootstrap)


def _sums_between(values: FloatArray, edges: IntArray) -> FloatArray:
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return np.asarray(sums[edges[1:]] - sums[edges[:-1]])


def _segment_f1(predictions: FramePredictions, bootstrap: Bootstrap, average: str) -> MetricValues:
    """F1 over segments of frames; macro averages over labels, with 0 for labels that neither occur nor are predicted.

    A label that is absent only from a replicate is excluded from the mean of that replicate.
    """
    size, drop_last = predictions.segment_frames, predictions.whole_segments
    lengths = segments_per_clip(np.diff(predictions.edges), size, drop_last=drop_last)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    true = predictions.segment_presence(predictions.labels)

    def formula(sums: FloatArray, absent: BoolArray) -> FloatArray:
        half = sums.shape[-1] // 2
        denominators = sums[..., half:]
        f1, counted = f1_scores(sums[..., :half], denominators), (denominators > 0) | absent
        with np.errstate(invalid="ignore"):
            return np.asarray((f1 * counted).sum(axis=-1) / counted.sum(axis=-1))

    results = []
    for each in predictions.outputs:  # logit > 0: probability > 0.5
        counts = _sums_between(segment_counts(predictions.segment_presence(each), true, average), edges)
        absent = counts[:, counts.shape[1] // 2 :].sum(axis=0) == 0
        results.append(_compute_from_sums([counts], partial(formula, absent=absent), bootstrap))
    return np.concatenate([values for values, _ in results]), np.concatenate([drawn for _, drawn in results], axis=1)


def _word_accuracy(predictions: Predictions, bootstrap: Bootstrap) -> MetricValues:
    """max(0, 1 − WER) over all utterances together; undefined without words."""
    counts = [word_errors(predictions.labels, each).astype(float) for each in predictions.outputs]
    return _compute_from_sums(counts, lambda sums: np.where(sums[..., 3] > 0, one_minus_wer(sums), np.nan), bootstrap)


def _recall_at_1(predictions: CaptionPredictions, bootstrap: Bootstrap) -> MetricValues:
    """Mean of clip → caption and caption → clip recall at rank 1.

    Replicates sum the influences of the drawn sources as queries and candidates (see `recall`).
    """
    owner = predictions.owner
    values = [mean_recall_at_1(each, owner) for each in predictions.outputs]
    if bootstrap.n_units < 2:
        return np.array(values), np.empty((0, len(values)))
    by_source = np.stack([source_influences(each, owner, bootstrap.unit) for each in predictions.outputs], axis=1)
    return np.array(values), values + (bootstrap.weights / bootstrap.n_units) @ by_source


# --- ranking metrics ------------------------------------------------------------------------------------


def mean_average_precision(
    outputs: NDArray[Any], labels: NDArray[Any], weights: FloatArray | None = None
) -> FloatArray:
    """Mean over occurring labels of their average precision.

    Parameters
    ----------
    outputs : (n, C) float
        Scores of each label.
    labels : (n, C) 0/1
        Labels of each item.
    weights : (replicates, n) float, optional
        Weights of the items in each replicate.

    Returns
    -------
    () or (replicates,) float
        A label without positives in a replicate is excluded there. NaN if no label occurs or if outputs are not finite,
        as after a too high learning rate.

    Examples
    --------
    >>> labels = np.array([[1, 0], [0, 0], [1, 0]])
    >>> outputs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    >>> round(float(mean_average_precision(outputs, labels)), 3)
    0.833
    """
    occurring = np.flatnonzero((labels > 0).any(axis=0))
    if not len(occurring) or not np.isfinite(outputs).all():
        return np.full(() if weights is None else len(weights), np.nan)
    precisions = np.array(
        [ranking_metrics(outputs[:, label], labels[:, label], weights)[..., 1] for label in occurring]
    )
    with np.errstate(invalid="ignore"):  # a replicate may have no positives
        return np.asarray(np.nansum(precisions, axis=0) / np.isfinite(precisions).sum(axis=0))


def _map(predictions: Predictions, bootstrap: Bootstrap) -> MetricValues:
    labels = predictions.labels
    values = [float(mean_average_precision(each, labels)) for each in predictions.outputs]
    drawn = [_in_chunks(bootstrap, partial(mean_average_precision, each, labels)) for each in predictions.outputs]
    return np.array(values), np.stack(drawn, axis=1)


def _equal_error_rate(predictions: ClassPredictions, bootstrap: Bootstrap) -> MetricValues:
    """Equal error rate of two classes on the convex hull of the ROC; class 1 is the target."""
    outputs = predictions.outputs
    if class_counts := [each.shape[1] for each in outputs if each.shape[1] != 2]:
        raise ValueError(f"the equal error rate needs two classes, not {class_counts[0]}")
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


def _in_chunks(bootstrap: Bootstrap, compute: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Apply `compute` to the item weights of all replicates, (rows, n) at a time."""
    if bootstrap.n_units < 2 or not len(bootstrap.weights):
        return np.empty(0)
    rows = max(1, CHUNK_VALUES // max(len(bootstrap.unit), 1) // 8)
    chunks = range(0, len(bootstrap.weights), rows)
    return np.concatenate([compute(bootstrap.weights[i : i + rows, bootstrap.unit].astype(float)) for i in chunks])


# --- table of metrics ----------------------------------------------------------------------------------------------


def _sources_of_rarer_class(predictions: ClassPredictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_of_rarer_class(np.asarray(predictions.labels) == 1)


def _sources_if_all_classes_were_rare(predictions: ClassPredictions, bootstrap: Bootstrap) -> Units:
    """Number of classes times the sources of the rarest one, which contributes as much as the others; at most all."""
    class_and_source = np.unique(np.stack([np.asarray(predictions.labels), bootstrap.unit]), axis=1)
    _, sources = np.unique(class_and_source[0], return_counts=True)
    n = min(bootstrap.n_units, int(sources.min(initial=bootstrap.n_units)) * len(sources))
    return Units(n, f"{bootstrap.name}, if all classes had as few as the rarest")


def _sources_with_label(predictions: Predictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with((predictions.labels > 0).any(axis=1), "with a label")


def _sources_with_labelled_frame(predictions: FramePredictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with(predictions.sum_by_clip((predictions.labels >= 0).astype(float)) > 0, "with a label")


def _sources_with_event(predictions: FramePredictions, bootstrap: Bootstrap) -> Units:
    events = (predictions.labels > 0).any(axis=1).astype(float)
    return bootstrap.units_with(predictions.sum_by_clip(events) > 0, "with an event")


def _sources_with_words(predictions: Predictions, bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with([bool(text) for text in predictions.labels], "with words")


METRICS: dict[str, Metric[Any]] = {
    "accuracy": Metric(ClassPredictions, _accuracy),
    "macro_f1": Metric(
        ClassPredictions, partial(_mean_over_classes, formula=macro_f1), units=_sources_if_all_classes_were_rare
    ),
    "balanced_accuracy": Metric(
        ClassPredictions,
        partial(_mean_over_classes, formula=balanced_accuracy),
        units=_sources_if_all_classes_were_rare,
    ),
    CALIBRATION_ERROR: Metric(
        ClassPredictions,
        _squared_calibration_error,
        lower_is_better=True,
        values=DIFFERENCE,
        finish=_root,
        why="some confidences occur in one source only, so chance cannot be told from miscalibration",
    ),
    "eer": Metric(ClassPredictions, _equal_error_rate, lower_is_better=True, units=_sources_of_rarer_class),
    "mAP": Metric(Predictions, _map, units=_sources_with_label),
    "mse": Metric(Predictions, partial(_mean_error, errors=squared_errors), lower_is_better=True, values=COST),
    "mae": Metric(Predictions, partial(_mean_error, errors=absolute_errors), lower_is_better=True, values=COST),
    "frame_accuracy": Metric(FramePredictions, _frame_accuracy, units=_sources_with_labelled_frame),
    "segment_f1_macro": Metric(FramePredictions, partial(_segment_f1, average="macro"), units=_sources_with_event),
    "segment_f1_micro": Metric(FramePredictions, partial(_segment_f1, average="micro"), units=_sources_with_event),
    "recall_at_1": Metric(CaptionPredictions, _recall_at_1),
    "word_accuracy": Metric(Predictions, _word_accuracy, units=_sources_with_words),
}

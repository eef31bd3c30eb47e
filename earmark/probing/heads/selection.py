"""Metrics that select the best epoch: the metric of a task, computed from the outputs for its validation rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.sound_events import segment_f1, segment_maxima
from earmark.probing.evaluation import correct, mean_average_precision, squared_errors

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
SelectionMetric = Callable[[FloatArray, IntArray], float]  # (outputs (n, C), row indices (n,)) → higher is better


def selection_metric(
    metric: str,
    y: ArrayLike,
    *,
    clip: ArrayLike | None = None,
    segment_frames: int = 1,
    whole_segments: bool = False,
) -> SelectionMetric:
    """Metric by which `train_heads` selects the epoch of a task.

    Parameters
    ----------
    metric : str
        accuracy; mAP (mean over labels that occur); mse (negated); segment_f1_macro or segment_f1_micro.
    y : (N,) or (N, C)
        Labels, as in training. Rows of unknown label are excluded.
    clip : (N,) int, optional
        Clip of each row. Clip metrics average the outputs over the rows (crops) of a clip. Required for segment
        metrics, whose segments lie within clips.
    segment_frames : int
        Frames per segment.
    whole_segments : bool
        Exclude the last segment of a clip if it is shorter.

    Returns
    -------
    callable
        (outputs (n, C), row indices (n,)) → value; higher is better. NaN if an output is not finite or the metric is
        undefined.

    Raises
    ------
    ValueError
        If the metric is unknown; at the call of the result, if a segment metric has no `clip`.
    """
    labels = np.asarray(y)
    clips = None if clip is None else np.asarray(clip)

    def clip_metric(outputs: FloatArray, rows: IntArray) -> float:
        keep = known_rows(labels[rows])
        outputs, rows = outputs[keep], rows[keep]
        if not np.isfinite(outputs).all():
            return float("nan")
        if clips is not None:
            outputs, first = mean_by_clip(outputs, clips[rows])
            rows = rows[first]
        return CLIP_METRICS[metric](outputs, labels[rows])

    def segment_metric(outputs: FloatArray, rows: IntArray) -> float:
        if clips is None:
            raise ValueError("segment metrics need `clip`, the clip of each row")
        keep = known_rows(labels[rows])
        if not np.isfinite(outputs[keep]).all():
            return float("nan")
        edges = np.flatnonzero(np.diff(clips[rows[keep]], prepend=np.nan, append=np.nan) != 0)
        # A logit above 0 is a probability above 0.5.
        predicted = segment_maxima(outputs[keep] > 0, segment_frames, edges, drop_last=whole_segments)
        reference = segment_maxima(labels[rows[keep]] > 0, segment_frames, edges, drop_last=whole_segments)
        return segment_f1(predicted, reference, average=metric.removeprefix("segment_f1_"))

    if metric in CLIP_METRICS:
        return clip_metric
    if metric in SEGMENT_METRICS:
        return segment_metric
    raise ValueError(f"metric {metric!r} is not one of {', '.join([*CLIP_METRICS, *SEGMENT_METRICS])}")


CLIP_METRICS: dict[str, Callable[[FloatArray, NDArray[Any]], float]] = {
    "accuracy": lambda outputs, y: _mean(correct(outputs.argmax(axis=1), y)),
    "mAP": lambda outputs, y: float(mean_average_precision(outputs, y)),
    "mse": lambda outputs, y: -_mean(squared_errors(outputs, y)),
}
SEGMENT_METRICS = ("segment_f1_macro", "segment_f1_micro")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def mean_by_clip(outputs: FloatArray, clip: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Average outputs over the rows of each clip.

    Parameters
    ----------
    outputs : (n, C) float
    clip : (n,)
        Clip of each row.

    Returns
    -------
    means : (n_clips, C) float32
        In the sorted order of the clips.
    first : (n_clips,) int
        Index of the first row of each clip.

    Examples
    --------
    >>> mean_by_clip(np.array([[1.0], [2.0], [4.0]], np.float32), [7, 3, 3])[0].tolist()
    [[3.0], [1.0]]
    """
    clips = np.asarray(clip)
    order = np.argsort(clips, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(clips[order]) != 0]) if len(clips) else np.empty(0, dtype=int)
    counts = np.diff(first, append=len(clips))
    means = np.add.reduceat(outputs[order], first, axis=0) / counts[:, np.newaxis] if len(clips) else outputs
    return means.astype(np.float32), order[first]


def known_rows(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask (N,) of rows with a known label, for labels (N,) or (N, C).

    −1 marks unknown integer labels. Labels of other types are always known.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        return np.ones(len(labels), dtype=bool)
    return np.asarray(labels >= 0 if labels.ndim == 1 else (labels >= 0).all(axis=1), dtype=bool)

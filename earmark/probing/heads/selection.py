"""The numbers by which training chooses an epoch: a task's metric, on the outputs for its validation rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.sound_events import segment_f1, segment_maxima
from earmark.probing.evaluation import correct, mean_average_precision, squared_errors

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
SelectionMetric = Callable[[FloatArray, IntArray], float]  # (outputs (n, C), their rows (n,)) → higher is better


def selection_metric(
    metric: str,
    y: ArrayLike,
    *,
    clip: ArrayLike | None = None,
    segment_frames: int = 1,
    whole_segments: bool = False,
) -> SelectionMetric:
    """The score by which a task chooses its epoch, for `train_heads`.

    metric: accuracy; mAP, the mean over labels that occur; mse, negated; segment_f1_macro and segment_f1_micro, over
    segments of segment_frames frames within a clip, whole_segments or the shorter last ones too. y: (N,) or (N, C) as
    in training; unknown rows are left out. clip: (N,) the clip of each row. Clip metrics average the outputs of a
    clip's rows (its crops) before scoring; segment metrics need it. Outputs that are not finite, as after a rate that
    was too high: NaN.
    """
    labels = np.asarray(y)
    clips = None if clip is None else np.asarray(clip)

    def clipwise(outputs: FloatArray, rows: IntArray) -> float:
        keep = known_rows(labels[rows])
        outputs, rows = outputs[keep], rows[keep]
        if not np.isfinite(outputs).all():
            return float("nan")
        if clips is not None:
            outputs, first = mean_by_clip(outputs, clips[rows])
            rows = rows[first]
        return CLIP_SCORES[metric](outputs, labels[rows])

    def segmentwise(outputs: FloatArray, rows: IntArray) -> float:
        if clips is None:
            raise ValueError("segments lie within clips; give `clip`, the clip of each row")
        keep = known_rows(labels[rows])
        if not np.isfinite(outputs[keep]).all():
            return float("nan")
        edges = np.flatnonzero(np.diff(clips[rows[keep]], prepend=np.nan, append=np.nan) != 0)
        # A logit above 0 is a probability above ½.
        predicted = segment_maxima(outputs[keep] > 0, segment_frames, edges, drop_last=whole_segments)
        reference = segment_maxima(labels[rows[keep]] > 0, segment_frames, edges, drop_last=whole_segments)
        return segment_f1(predicted, reference, average=metric.removeprefix("segment_f1_"))

    if metric in CLIP_SCORES:
        return clipwise
    if metric in SEGMENT_SCORES:
        return segmentwise
    raise ValueError(f"metric {metric!r} is not one of {', '.join([*CLIP_SCORES, *SEGMENT_SCORES])}")


CLIP_SCORES: dict[str, Callable[[FloatArray, NDArray[Any]], float]] = {
    "accuracy": lambda outputs, y: _mean(correct(outputs.argmax(axis=1), y)),
    "mAP": lambda outputs, y: float(mean_average_precision(outputs, y)),
    "mse": lambda outputs, y: -_mean(squared_errors(outputs, y)),
}
SEGMENT_SCORES = ("segment_f1_macro", "segment_f1_micro")


def _mean(of_rows: NDArray[np.float64]) -> float:
    return float(of_rows.mean()) if len(of_rows) else float("nan")


def mean_by_clip(outputs: FloatArray, clip: ArrayLike) -> tuple[FloatArray, IntArray]:
    """The mean output of each clip's rows, (clips, C), and each clip's first row, in the order of the clips' values.

    >>> mean_by_clip(np.array([[1.0], [2.0], [4.0]], np.float32), [7, 3, 3])[0].tolist()
    [[3.0], [1.0]]
    """
    names = np.asarray(clip)
    order = np.argsort(names, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(names[order]) != 0]) if len(names) else np.empty(0, dtype=int)
    counts = np.diff(first, append=len(names))
    means = np.add.reduceat(outputs[order], first, axis=0) / counts[:, np.newaxis] if len(names) else outputs
    return means.astype(np.float32), order[first]


def known_rows(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have a label: (N,) or (N, C) → (N,). Only whole numbers use −1 for unknown."""
    if not np.issubdtype(labels.dtype, np.integer):
        return np.ones(len(labels), dtype=bool)
    return np.asarray(labels >= 0 if labels.ndim == 1 else (labels >= 0).all(axis=1), dtype=bool)

"""Sound events, scored segment by segment.

Time is cut into segments of equal length. An event counts as present in every segment it touches, a prediction where
any of the segment's frames exceeds the threshold; then each segment and label is one binary decision.
Source: Mesaros, Heittola and Virtanen (2016), Metrics for polyphonic sound event detection, Applied Sciences 6:162.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

AVERAGES = ("macro", "micro")
ROUNDING = 1e-6  # of a frame: 0.3 s / 0.1 s is 2.9999999999999996


def events_to_frames(
    events: Iterable[tuple[float, float, int]],
    n_frames: int,
    hop: float,
    n_labels: int,
    *,
    onset_rounding: Literal["floor", "ceil"] = "floor",
) -> NDArray[np.uint8]:
    """Events as 0/1 for each frame and label: (n_frames, n_labels).

    events: (onset, offset, label), seconds from the start of the clip, labels 0 … n_labels − 1. hop: seconds from
    frame to frame. Frame t lasts from t·hop to (t + 1)·hop; an event is on in every frame it overlaps. What lies
    beyond the last frame is cut off. An event of no length overlaps nothing. late: an event begins with the first frame
    that begins within it, as X-ARES has it; one between two beginnings of frames is then on in none. ValueError: a
    label out of range, an offset before its onset, a negative onset, a hop that is not positive.

    >>> events_to_frames([(0.1, 0.35, 0), (0.4, 9.0, 1)], n_frames=6, hop=0.1, n_labels=2).T.tolist()
    [[0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    >>> events_to_frames([(0.15, 0.35, 0)], n_frames=4, hop=0.1, n_labels=1, onset_rounding="ceil").T.tolist()
    [[0, 0, 1, 1]]
    """
    _positive(hop, "hop")
    frames = np.zeros((n_frames, n_labels), dtype=np.uint8)
    for onset, offset, label in events:
        if not 0 <= label < n_labels:
            raise ValueError(f"label {label} is not one of 0 … {n_labels - 1}")
        if not 0 <= onset <= offset:
            raise ValueError(f"an event from {onset} s to {offset} s: onsets are not negative and come before offsets")
        if onset < offset:
            first = (
                math.ceil(onset / hop - ROUNDING) if onset_rounding == "ceil" else math.floor(onset / hop + ROUNDING)
            )
            end = math.ceil(min(offset / hop, n_frames) - ROUNDING)
            frames[first:end, label] = 1
    return frames


def frames_per_segment(segment_seconds: float, hop: float) -> int:
    """How many frames make a segment: ⌈segment_seconds / hop⌉, at least one.

    >>> frames_per_segment(1.0, 0.32), frames_per_segment(0.3, 0.1), frames_per_segment(0.1, 0.16)
    (4, 3, 1)
    """
    _positive(hop, "hop")
    _positive(segment_seconds, "segment")
    return max(1, math.ceil(segment_seconds / hop - ROUNDING))


def segments_per_clip(lengths: NDArray[np.int64], size: int, *, drop_last: bool = False) -> NDArray[np.int64]:
    """How many segments of `size` frames clips of these lengths (clips,) have; whole: those that are not shorter."""
    return lengths // size if drop_last else -(-lengths // size)


def segment_maxima(
    frames: NDArray[Any], size: int, offsets: ArrayLike | None = None, *, drop_last: bool = False
) -> NDArray[Any]:
    """The maximum over each segment of `size` frames, per label: (T, C) → (segments, C).

    offsets: (clips + 1,) where clips begin, from 0 to T; no segment crosses from one clip into the next. None: one
    clip. A clip's last segment may be shorter, and is left out if segments have to be whole, as X-ARES has it; a clip
    without frames has no segment.

    >>> segment_maxima(np.array([[1], [0], [0], [0], [1]]), 2).ravel().tolist()
    [1, 0, 1]
    >>> segment_maxima(np.array([[1], [0], [0], [0], [1]]), 2, [0, 3, 5]).ravel().tolist()
    [1, 0, 1]
    >>> segment_maxima(np.array([[1], [0], [0], [0], [1]]), 2, [0, 3, 5], drop_last=True).ravel().tolist()
    [1, 1]
    """
    edges = np.array([0, len(frames)]) if offsets is None else np.asarray(offsets)
    if size < 1:
        raise ValueError(f"segments of {size} frames: at least one is needed")
    if len(edges) < 1 or edges[0] != 0 or edges[-1] != len(frames) or (np.diff(edges) < 0).any():
        raise ValueError(f"offsets must rise from 0 to the number of frames, {len(frames)}")
    lengths = np.diff(edges)
    segments = segments_per_clip(lengths, size)
    within = np.arange(segments.sum()) - np.repeat(np.cumsum(segments) - segments, segments)
    starts = np.repeat(edges[:-1], segments) + within * size
    maxima = np.maximum.reduceat(frames, starts, axis=0) if len(starts) else frames[:0]
    return maxima[within < np.repeat(segments_per_clip(lengths, size, drop_last=drop_last), segments)]


def segment_counts(predicted: ArrayLike, reference: ArrayLike, average: Literal["macro", "micro"] | str) -> FloatArray:
    """What each segment adds to an F1: for each label its true positives, then for each what counts as 2 tp + fp + fn.

    predicted, reference: (segments, C) booleans or 0/1; returns (segments, 2C), or for micro (segments, 2), the sums
    over labels.
    """
    said, true = np.asarray(predicted).astype(float), np.asarray(reference).astype(float)
    if said.shape != true.shape or said.ndim != 2:
        raise ValueError(f"predicted {said.shape} and reference {true.shape} must both be (segments, labels)")
    if average not in AVERAGES:
        raise ValueError(f"average {average!r} is not one of {', '.join(AVERAGES)}")
    parts = [said * true, said + true]
    return np.concatenate([part.sum(axis=1, keepdims=True) for part in parts] if average == "micro" else parts, axis=1)


def f1_scores(hits: FloatArray, claims: FloatArray) -> FloatArray:
    """F1 of sums of `segment_counts`, 2 hits / claims; 0 where nothing occurs and nothing is predicted."""
    return np.divide(2 * hits, claims, out=np.zeros_like(hits), where=claims > 0)


def segment_f1(predicted: ArrayLike, reference: ArrayLike, average: Literal["macro", "micro"] | str = "macro") -> float:
    """F1 = 2 tp / (2 tp + fp + fn) of decisions on segments.

    predicted, reference: (segments, C) booleans or 0/1. macro: the mean over labels (DESED); a label that neither
    occurs nor is predicted counts 0, as in scikit-learn with zero_division=0, so the number is comparable with
    published ones. micro: counts of all labels together (MAESTRO); nothing occurs and nothing is predicted: 0.
    No label: NaN.

    >>> segment_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]], "micro")
    0.8
    """
    hits, claims = np.split(segment_counts(predicted, reference, average).sum(axis=0), 2)
    no_label = np.shape(predicted)[1:] == (0,)
    return float("nan") if no_label else float(f1_scores(hits, claims).mean())


def _positive(value: float, name: str) -> None:
    if not value > 0:
        raise ValueError(f"{name} of {value} s: it must be positive")

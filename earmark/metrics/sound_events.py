"""Segment-based F1 for sound event detection.

Time is cut into segments of equal length. A reference event is active in every segment that it overlaps. A prediction
is active in a segment if any of its frames exceeds the threshold. Each (segment, label) is one binary decision.

References: Mesaros, Heittola and Virtanen (2016), Metrics for polyphonic sound event detection, Applied Sciences 6:162,
section 3.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

AVERAGES = ("macro", "micro")
ROUNDING = 1e-6  # tolerance in frames: 0.3 s / 0.1 s is 2.9999999999999996


def events_to_frames(
    events: Iterable[tuple[float, float, int]],
    n_frames: int,
    hop: float,
    n_labels: int,
    *,
    onset_rounding: Literal["floor", "ceil"] = "floor",
) -> NDArray[np.uint8]:
    """Convert events to binary frame labels.

    Frame t lasts from t · hop to (t + 1) · hop. Events are cut off at the last frame. An event of zero length is
    dropped.

    Parameters
    ----------
    events : iterable of (float, float, int)
        Onset and offset in seconds from the start of the clip, and label in 0 … n_labels − 1.
    n_frames : int
    hop : float
        Seconds between frames.
    n_labels : int
    onset_rounding : {"floor", "ceil"}
        floor: an event is active in every frame that it overlaps. ceil: it starts with the first frame that starts
        within it, as in X-ARES, so a short event between two frame starts is dropped.

    Returns
    -------
    (n_frames, n_labels) uint8
        0 or 1.

    Raises
    ------
    ValueError
        If a label is out of range, an offset is before its onset, an onset is negative, or the hop is not positive.

    References
    ----------
    Mesaros, Heittola and Virtanen (2016), Metrics for polyphonic sound event detection, Applied Sciences 6:162, section
    3.

    Examples
    --------
    >>> events_to_frames([(0.1, 0.35, 0), (0.4, 9.0, 1)], n_frames=6, hop=0.1, n_labels=2).T.tolist()
    [[0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    >>> events_to_frames([(0.15, 0.35, 0)], n_frames=4, hop=0.1, n_labels=1, onset_rounding="ceil").T.tolist()
    [[0, 0, 1, 1]]
    """
    _positive(hop, "hop")
    frames = np.zeros((n_frames, n_labels), dtype=np.uint8)
    for onset, offset, label in events:
        if not 0 <= label < n_labels:
            raise ValueError(f"label {label} is not in 0 … {n_labels - 1}")
        if not 0 <= onset <= offset:
            raise ValueError(
                f"invalid event from {onset} s to {offset} s: onset must be at least 0 and at most the offset"
            )
        if onset < offset:
            first = (
                math.ceil(onset / hop - ROUNDING) if onset_rounding == "ceil" else math.floor(onset / hop + ROUNDING)
            )
            end = math.ceil(min(offset / hop, n_frames) - ROUNDING)
            frames[first:end, label] = 1
    return frames


def frames_per_segment(segment_seconds: float, hop: float) -> int:
    """Number of frames in a segment: ⌈segment_seconds / hop⌉, at least 1.

    Parameters
    ----------
    segment_seconds, hop : float
        Seconds; above 0.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a duration is not positive.

    Examples
    --------
    >>> frames_per_segment(1.0, 0.32), frames_per_segment(0.3, 0.1), frames_per_segment(0.1, 0.16)
    (4, 3, 1)
    """
    _positive(hop, "hop")
    _positive(segment_seconds, "segment")
    return max(1, math.ceil(segment_seconds / hop - ROUNDING))


def segments_per_clip(lengths: NDArray[np.int64], size: int, *, drop_last: bool = False) -> NDArray[np.int64]:
    """Number of segments in each clip.

    Parameters
    ----------
    lengths : (clips,) int
        Frames in each clip.
    size : int
        Frames in a segment.
    drop_last : bool
        Whether to drop a clip's last segment if it is shorter than the others.

    Returns
    -------
    (clips,) int

    Examples
    --------
    >>> segments_per_clip(np.array([3, 4]), 2).tolist(), segments_per_clip(np.array([3, 4]), 2, drop_last=True).tolist()
    ([2, 2], [1, 2])
    """
    return lengths // size if drop_last else -(-lengths // size)


def segment_maxima(
    frames: NDArray[Any], size: int, offsets: ArrayLike | None = None, *, drop_last: bool = False
) -> NDArray[Any]:
    """Maximum of each segment, for each label.

    Parameters
    ----------
    frames : (T, C) array
        Frames × labels.
    size : int
        Frames in a segment; at least 1.
    offsets : (clips + 1,) int, optional
        Start of each clip, from 0 to T. Segments do not cross clips. A single clip by default.
    drop_last : bool
        Whether to drop a clip's last segment if it is shorter than the others, as in X-ARES.

    Returns
    -------
    (segments, C) array
        A clip without frames has no segments.

    Raises
    ------
    ValueError
        If the size is below 1 or the offsets are invalid.

    References
    ----------
    Mesaros, Heittola and Virtanen (2016), Applied Sciences 6:162, section 3.

    Examples
    --------
    >>> segment_maxima(np.array([[1], [0], [0], [0], [1]]), 2).ravel().tolist()
    [1, 0, 1]
    >>> segment_maxima(np.array([[1], [0], [0], [0], [1]]), 2, [0, 3, 5]).ravel().tolist()
    [1, 0, 1]
    >>> segment_maxima(np.array([[1], [0], [0], [0], [1]]), 2, [0, 3, 5], drop_last=True).ravel().tolist()
    [1, 1]
    """
    edges = np.array([0, len(frames)]) if offsets is None else np.asarray(offsets)
    if size < 1:
        raise ValueError(f"size must be at least 1 frame, not {size}")
    if len(edges) < 1 or edges[0] != 0 or edges[-1] != len(frames) or (np.diff(edges) < 0).any():
        raise ValueError(f"offsets must rise from 0 to the number of frames, {len(frames)}")
    lengths = np.diff(edges)
    segments = segments_per_clip(lengths, size)
    within = np.arange(segments.sum()) - np.repeat(np.cumsum(segments) - segments, segments)
    starts = np.repeat(edges[:-1], segments) + within * size
    maxima = np.maximum.reduceat(frames, starts, axis=0) if len(starts) else frames[:0]
    return maxima[within < np.repeat(segments_per_clip(lengths, size, drop_last=drop_last), segments)]


def segment_counts(predicted: ArrayLike, reference: ArrayLike, average: Literal["macro", "micro"] | str) -> FloatArray:
    """Contribution of each segment to F1: true positives and 2 tp + fp + fn, for each label.

    Parameters
    ----------
    predicted, reference : (segments, C) bool
    average : {"macro", "micro"}

    Returns
    -------
    (segments, 2C) or (segments, 2) float
        The C true positives followed by the C denominators; for micro, both are summed over labels.

    Raises
    ------
    ValueError
        If the shapes differ or the average is unknown.

    References
    ----------
    Mesaros, Heittola and Virtanen (2016), Applied Sciences 6:162, section 3.

    Examples
    --------
    >>> segment_counts([[1, 0]], [[1, 1]], "macro").tolist()
    [[1.0, 0.0, 2.0, 1.0]]
    """
    p, r = np.asarray(predicted).astype(float), np.asarray(reference).astype(float)
    if p.shape != r.shape or p.ndim != 2:
        raise ValueError(f"predicted and reference must both be (segments, labels), not {p.shape} and {r.shape}")
    if average not in AVERAGES:
        raise ValueError(f"average {average!r} is not one of {', '.join(AVERAGES)}")
    parts = [p * r, p + r]
    return np.concatenate([part.sum(axis=1, keepdims=True) for part in parts] if average == "micro" else parts, axis=1)


def f1_scores(true_positives: FloatArray, denominators: FloatArray) -> FloatArray:
    """F1 = 2 tp / (2 tp + fp + fn) from sums of `segment_counts`.

    Parameters
    ----------
    true_positives, denominators : float array
        Of the same shape.

    Returns
    -------
    float array
        In [0, 1]; 0 where the denominator is 0 (nothing occurs and nothing is predicted).

    References
    ----------
    Mesaros, Heittola and Virtanen (2016), Applied Sciences 6:162, section 3.

    Examples
    --------
    >>> f1_scores(np.array([1.0, 0.0]), np.array([3.0, 0.0])).round(4).tolist()
    [0.6667, 0.0]
    """
    return np.divide(2 * true_positives, denominators, out=np.zeros_like(true_positives), where=denominators > 0)


def segment_f1(predicted: ArrayLike, reference: ArrayLike, average: Literal["macro", "micro"] | str = "macro") -> float:
    """Segment-based F1 score: 2 tp / (2 tp + fp + fn).

    macro is the mean over labels (DESED), micro sums the counts over labels (MAESTRO).

    Parameters
    ----------
    predicted, reference : (segments, C) bool
    average : {"macro", "micro"}

    Returns
    -------
    float
        In [0, 1]; NaN without labels. A label that neither occurs nor is predicted scores 0, as in scikit-learn with
        zero_division=0.

    Raises
    ------
    ValueError
        If the shapes differ or the average is unknown.

    References
    ----------
    Mesaros, Heittola and Virtanen (2016), Metrics for polyphonic sound event detection, Applied Sciences 6:162, section
    3.

    Examples
    --------
    >>> segment_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]], "micro")
    0.8
    """
    true_positives, denominators = np.split(segment_counts(predicted, reference, average).sum(axis=0), 2)
    no_label = np.shape(predicted)[1:] == (0,)
    return float("nan") if no_label else float(f1_scores(true_positives, denominators).mean())


def _positive(value: float, name: str) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, not {value} s")

"""Scores as cosine similarities of embeddings, with each clip and each sentence embedded once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.models.embedding import Embedding, Vector

# Distances between unit vectors. Scores of two sentences for the same clip differ by at most their distance.
IDENTICAL_DISTANCE = 1e-6
NEARLY_IDENTICAL_DISTANCE = 0.01


def pairs_by_clip(pairs: Sequence[ClipTextPair]) -> dict[Path, list[int]]:
    """Group pairs by clip.

    Returns
    -------
    dict
        {clip: indices of its pairs}, in the order of first appearance.
    """
    indices: dict[Path, list[int]] = {}
    for i, pair in enumerate(pairs):
        indices.setdefault(pair.clip, []).append(i)
    return indices


def unique_texts(pairs: Sequence[ClipTextPair]) -> list[str]:
    """Unique sentences in the order of first appearance."""
    return list(dict.fromkeys(pair.text for pair in pairs))


def max_distance_from_first(vectors: Iterable[Vector]) -> float | None:
    """Maximum Euclidean distance of vectors from the first one.

    Parameters
    ----------
    vectors : iterable of (d,) float
        Unit vectors. Vectors whose dimension differs from the first are ignored.

    Returns
    -------
    float or None
        None if fewer than two vectors are comparable.

    Examples
    --------
    >>> a, b = np.eye(2, dtype=np.float32)
    >>> max_distance_from_first([a, b, a]) == 2**0.5, max_distance_from_first([a, a]), max_distance_from_first([a])
    (True, 0.0, None)
    """
    first, *others = [vector.astype(np.float64) for vector in vectors] or [np.empty(0)]
    distances = [float(np.linalg.norm(first - other)) for other in others if len(other) == len(first)]
    return max(distances, default=None)


def cosine_scores(
    pairs: Sequence[ClipTextPair], indices: Sequence[int], clip: Embedding, texts: Mapping[str, Embedding]
) -> Iterator[tuple[int, Score]]:
    """Score the pairs of one clip.

    Parameters
    ----------
    pairs : sequence of ClipTextPair
    indices : sequence of int
        Indices of the pairs with this clip.
    clip : Embedding
        Embedding of the clip, of length 1, or its error.
    texts : mapping
        {sentence: embedding of length 1, or its error}.

    Yields
    ------
    tuple of int and Score
        A Score with an error if either embedding is unavailable or their dimensions differ.
    """
    for i in indices:
        text = texts[pairs[i].text]
        if clip.vector is None or text.vector is None:
            yield i, Score(None, clip.error or f"sentence: {text.error}")
        elif len(clip.vector) != len(text.vector):
            error = f"the clip embedding has {len(clip.vector)} dimensions, the text embedding {len(text.vector)}"
            yield i, Score(None, error)
        else:
            yield i, Score(float(clip.vector.astype(np.float64) @ text.vector.astype(np.float64)))

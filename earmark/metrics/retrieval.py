"""Retrieval between clips and captions (recall at k, mean average precision); a clip may have several captions.

A similarity matrix is (clips, captions). Each caption belongs to one clip. Clips are queries for their captions
(audio to text), and captions are queries for their clip (text to audio). Ties are ranked pessimistically: candidates
that do not match come before matching ones of equal similarity. So a model with constant similarities has a recall of
0, and two clips with the same caption are both penalised.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK_CELLS = 1 << 22  # cells of the matrix per block
RECALL_AT = (1, 5, 10)
MAP_DEPTH = 10


@dataclass(frozen=True)
class Ranking:
    """Results of queries; a metric is a mean over queries.

    Attributes
    ----------
    first_rank : (q,) int
        Rank, from 1, of the first match.
    average_precision : (q,) float
        Average precision at 10, in [0, 1].
    """

    first_rank: IntArray
    average_precision: FloatArray

    def recall_at(self, k: int) -> float:
        """Recall at k: share of queries with a match among the first k.

        Parameters
        ----------
        k : int
            At least 1.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        ValueError
            If k is below 1.

        Examples
        --------
        >>> rank_captions([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1]).recall_at(1)
        0.5
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        return float(np.mean(self.first_rank <= k))


def rank_captions(similarity: ArrayLike, clip: ArrayLike) -> Ranking:
    """Rank captions for every clip (audio to text); each of a clip's captions is a match.

    Average precision at 10 is Σ i / rank_i over the matches within the first 10 ranks, divided by min(captions, 10).

    Parameters
    ----------
    similarity : (n, m) float
        Finite; clips × captions, higher means more similar.
    clip : (m,) int
        Row of the clip that each caption belongs to.

    Returns
    -------
    Ranking
        One query for each clip.

    Raises
    ------
    ValueError
        If a value is not finite, a clip has no caption, or a caption has no clip.

    References
    ----------
    Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, ch. 8.4.

    Examples
    --------
    >>> rank_captions([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1]).first_rank.tolist()
    [1, 2]
    """
    s, owner = _checked(similarity, clip)
    caption = np.argsort(owner, kind="stable")
    return _rank(s, owner[caption], caption)


def rank_clips(similarity: ArrayLike, clip: ArrayLike) -> Ranking:
    """Rank clips for every caption (text to audio); the caption's clip is the only match.

    Parameters
    ----------
    similarity : (n, m) float
    clip : (m,) int
        As in `rank_captions`.

    Returns
    -------
    Ranking
        One query for each caption.

    Raises
    ------
    ValueError
        As in `rank_captions`.

    References
    ----------
    Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, ch. 8.4.

    Examples
    --------
    >>> rank_clips([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1]).first_rank.tolist()
    [1, 1, 2]
    """
    s, owner = _checked(similarity, clip)
    return _rank(s.T, np.arange(len(owner)), owner)


def retrieval_metrics(similarity: ArrayLike, clip: ArrayLike) -> dict[str, float]:
    """Compute recall at 1, 5 and 10 and mean average precision at 10, in both directions.

    Parameters
    ----------
    similarity : (n, m) float
    clip : (m,) int
        As in `rank_captions`.

    Returns
    -------
    dict of str to float
        audio_to_text_r1, …, text_to_audio_map10, and mean_r1, the mean of both recalls at 1; all in [0, 1].

    Raises
    ------
    ValueError
        As in `rank_captions`.

    References
    ----------
    Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, ch. 8.4.

    Examples
    --------
    >>> retrieval_metrics([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1])["mean_r1"]
    0.5833333333333333
    """
    directions = {"audio_to_text": rank_captions(similarity, clip), "text_to_audio": rank_clips(similarity, clip)}
    metrics: dict[str, float] = {}
    for name, ranking in directions.items():
        metrics |= {f"{name}_r{k}": ranking.recall_at(k) for k in RECALL_AT}
        metrics[f"{name}_map{MAP_DEPTH}"] = float(np.mean(ranking.average_precision))
    return {**metrics, "mean_r1": (metrics["audio_to_text_r1"] + metrics["text_to_audio_r1"]) / 2}


def mean_recall_at_1(similarity: ArrayLike, clip: ArrayLike) -> float:
    """Mean of the recalls at 1 of both directions, without the other metrics.

    Parameters
    ----------
    similarity : (n, m) float
    clip : (m,) int
        As in `rank_captions`.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, ch. 8.4.

    Examples
    --------
    >>> round(mean_recall_at_1([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1]), 4)
    0.5833
    """
    return (rank_captions(similarity, clip).recall_at(1) + rank_clips(similarity, clip).recall_at(1)) / 2


def _rank(similarity: NDArray[np.floating], query: IntArray, candidate: IntArray) -> Ranking:
    """similarity: (queries, candidates). query, candidate: (p,) matching pairs, sorted by query."""
    before = np.concatenate([_before(*block) for block in _blocks(similarity, query, candidate)])
    # The i-th match of a query ranks behind i − 1 matches and all non-matches that are at least as similar.
    order = np.lexsort((-similarity[query, candidate], query))
    first = np.flatnonzero(np.diff(query, prepend=-1))
    counts = np.diff(first, append=len(query))
    position = np.arange(len(query)) - np.repeat(first, counts) + 1
    rank = before[order] + position
    precision = np.add.reduceat(np.where(rank <= MAP_DEPTH, position / rank, 0.0), first) / np.minimum(
        counts, MAP_DEPTH
    )
    return Ranking(rank[first], precision)


def _blocks(
    similarity: NDArray[np.floating], query: IntArray, candidate: IntArray
) -> Iterator[tuple[NDArray[np.floating], IntArray, IntArray]]:
    """Yield blocks of rows with their matching pairs, bounded in memory."""
    rows = max(1, BLOCK_CELLS * len(similarity) // (len(query) * similarity.shape[1]))
    for start in range(0, len(similarity), rows):
        pairs = slice(*np.searchsorted(query, [start, start + rows]))
        yield similarity[start : start + rows], query[pairs] - start, candidate[pairs]


def _before(similarity: NDArray[np.floating], query: IntArray, candidate: IntArray) -> IntArray:
    """Number of non-matching candidates that are at least as similar as each matching pair."""
    non_match = np.ones(similarity.shape, dtype=bool)
    non_match[query, candidate] = False
    reached = similarity[query] >= similarity[query, candidate][:, np.newaxis]
    return np.asarray((reached & non_match[query]).sum(axis=1), dtype=np.int64)


def _checked(similarity: ArrayLike, clip: ArrayLike) -> tuple[NDArray[np.floating], IntArray]:
    s, owner = np.asarray(similarity), np.asarray(clip)
    s = s if np.issubdtype(s.dtype, np.floating) else s.astype(float)
    if s.ndim != 2 or not s.size or owner.shape != s.shape[1:]:
        raise ValueError(f"similarity must be (clips, captions) and clip (captions,), not {s.shape} and {owner.shape}")
    if not np.issubdtype(owner.dtype, np.integer) or owner.min() < 0 or owner.max() >= len(s):
        raise ValueError(f"clip must hold whole numbers in 0 … {len(s) - 1}")
    without = np.setdiff1d(np.arange(len(s)), owner)
    if len(without):
        raise ValueError(
            f"clip {without[0]} has no caption ({len(without)} such clips); exclude clips without captions"
        )
    if not all(np.isfinite(row).all() for row in s):
        raise ValueError("similarities must be finite; check for embeddings of zeros or NaN")
    return s, owner.astype(np.int64)

"""Retrieval between clips and captions, where a clip may have several captions.

A similarity matrix is (clips, captions); each caption belongs to one clip. Clips are asked for their captions, and
captions for their clip. Ties are resolved against the model: what does not belong comes before what does and is as
similar, so that a model that finds everything alike finds nothing. Two clips with the same caption are therefore both
penalised for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CELLS_AT_ONCE = 1 << 22  # of the matrix, compared at a time
RECALL_AT = (1, 5, 10)
DEPTH = 10  # of the mean average precision


@dataclass(frozen=True)
class Ranking:
    """What queries found, one entry each; a mean over queries is the metric.

    first_rank: (q,) rank, from 1, of the first candidate that belongs. average_precision: (q,) at DEPTH, in [0, 1].
    """

    first_rank: IntArray
    average_precision: FloatArray

    def recall_at(self, k: int) -> float:
        """Share of queries with something that belongs among the first k. k below 1: ValueError."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        return float(np.mean(self.first_rank <= k))


def rank_captions(similarity: ArrayLike, clip: ArrayLike) -> Ranking:
    """Every clip asked for its captions: any of them is a hit.

    similarity: (n, m), higher means more alike. clip: (m,) the row of the clip that each caption belongs to.
    Average precision at 10: Σ i / rank_i over the captions within the first 10, divided by min(captions, 10).
    ValueError: values that are not finite, a clip without a caption, a caption of no clip.

    >>> rank_captions([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1]).first_rank.tolist()
    [1, 2]
    """
    s, owner = _checked(similarity, clip)
    caption = np.argsort(owner, kind="stable")
    return _rank(s, owner[caption], caption)


def rank_clips(similarity: ArrayLike, clip: ArrayLike) -> Ranking:
    """Every caption asked for its one clip. similarity, clip, errors: as in `rank_captions`.

    >>> rank_clips([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1]).first_rank.tolist()
    [1, 1, 2]
    """
    s, owner = _checked(similarity, clip)
    return _rank(s.T, np.arange(len(owner)), owner)


def retrieval_metrics(similarity: ArrayLike, clip: ArrayLike) -> dict[str, float]:
    """Recall at 1, 5 and 10 and mean average precision at 10 of both directions, and mean_r1, all in [0, 1].

    Keys: audio_to_text_r1, …, text_to_audio_map10, and mean_r1, the mean of the two recalls at 1.
    similarity, clip, errors: as in `rank_captions`.

    >>> retrieval_metrics([[.9, .2, .8], [.4, .1, .3]], [0, 0, 1])["mean_r1"]
    0.5833333333333333
    """
    directions = {"audio_to_text": rank_captions(similarity, clip), "text_to_audio": rank_clips(similarity, clip)}
    found: dict[str, float] = {}
    for name, ranking in directions.items():
        found |= {f"{name}_r{k}": ranking.recall_at(k) for k in RECALL_AT}
        found[f"{name}_map{DEPTH}"] = float(np.mean(ranking.average_precision))
    return {**found, "mean_r1": (found["audio_to_text_r1"] + found["text_to_audio_r1"]) / 2}


def mean_recall_at_1(similarity: ArrayLike, clip: ArrayLike) -> float:
    """The mean of both directions' recall at 1 alone, which training asks for after every epoch."""
    return (rank_captions(similarity, clip).recall_at(1) + rank_clips(similarity, clip).recall_at(1)) / 2


def _rank(similarity: NDArray[np.floating], query: IntArray, candidate: IntArray) -> Ranking:
    """similarity: (queries, candidates). query, candidate: (p,) the pairs that belong, in the order of queries."""
    before = np.concatenate([_before(*block) for block in _blocks(similarity, query, candidate)])
    # A query's pairs by similarity: before the i-th come i − 1 others that belong, and what does not and is as similar.
    order = np.lexsort((-similarity[query, candidate], query))
    first = np.flatnonzero(np.diff(query, prepend=-1))
    counts = np.diff(first, append=len(query))
    place = np.arange(len(query)) - np.repeat(first, counts) + 1
    rank = before[order] + place
    precision = np.add.reduceat(np.where(rank <= DEPTH, place / rank, 0.0), first) / np.minimum(counts, DEPTH)
    return Ranking(rank[first], precision)


def _blocks(
    similarity: NDArray[np.floating], query: IntArray, candidate: IntArray
) -> Iterator[tuple[NDArray[np.floating], IntArray, IntArray]]:
    """Whole rows of the matrix at a time, with their pairs; a pair takes a row's room."""
    rows = max(1, CELLS_AT_ONCE * len(similarity) // (len(query) * similarity.shape[1]))
    for start in range(0, len(similarity), rows):
        pairs = slice(*np.searchsorted(query, [start, start + rows]))
        yield similarity[start : start + rows], query[pairs] - start, candidate[pairs]


def _before(similarity: NDArray[np.floating], query: IntArray, candidate: IntArray) -> IntArray:
    """How many candidates that do not belong to the query are at least as similar as each pair."""
    others = np.ones(similarity.shape, dtype=bool)
    others[query, candidate] = False
    reached = similarity[query] >= similarity[query, candidate][:, np.newaxis]
    return np.asarray((reached & others[query]).sum(axis=1), dtype=np.int64)


def _checked(similarity: ArrayLike, clip: ArrayLike) -> tuple[NDArray[np.floating], IntArray]:
    s, owner = np.asarray(similarity), np.asarray(clip)
    s = s if np.issubdtype(s.dtype, np.floating) else s.astype(float)
    if s.ndim != 2 or not s.size or owner.shape != s.shape[1:]:
        raise ValueError(
            f"similarity {s.shape} must be (clips, captions), with one clip for each caption {owner.shape}"
        )
    if not np.issubdtype(owner.dtype, np.integer) or owner.min() < 0 or owner.max() >= len(s):
        raise ValueError(f"captions must belong to clips 0 … {len(s) - 1}, given as whole numbers")
    without = np.setdiff1d(np.arange(len(s)), owner)
    if len(without):
        raise ValueError(f"clip {without[0]} has no caption ({len(without)} such); leave it out first")
    if not all(np.isfinite(row).all() for row in s):
        raise ValueError("similarities must be finite; an embedding of zeros or NaN has none")
    return s, owner.astype(np.int64)

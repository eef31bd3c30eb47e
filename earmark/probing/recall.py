"""Recall at 1 without each source in turn, for its interval: a source that is not there is no candidate either.

Whether a query finds what belongs to it hangs on the other clips and captions. Drawing queries alone leaves these as
they are, and its spread is too small; drawing candidates with repeats would put copies of a clip beside it. Leaving one
source out does neither, and costs one pass: a query changes its answer only where all that comes before what belongs
to it is of one source.

The jackknife counts twice what two sources do to each other, here a query and what is in its way; that part is known
pair by pair, and taken off once. Without that, intervals would be too wide.
Source: Efron and Stein (1981), The jackknife estimate of variance, Annals of Statistics 9:586, section 4.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CELLS_AT_ONCE = 1 << 22  # of the similarities, compared at a time
NO_SOURCE = -1  # the query's own is first
SEVERAL_SOURCES = -2  # sources come before it


def competitors(similarity: NDArray[np.floating], owner: IntArray, source: IntArray) -> tuple[IntArray, IntArray]:
    """The source of all that comes before the first that belongs: of every clip (n,) and of every caption (m,).

    similarity: (n, m); owner: (m,) the clip of each caption; source: (n,) from 0. NOBODY where a query finds its own,
    SEVERAL where more than one source is in the way. What does not belong and is as similar comes before.
    """
    clips = np.arange(len(similarity))
    own = similarity[owner, np.arange(len(owner))]  # of each caption with its clip
    best = np.full(len(clips), -np.inf)
    np.maximum.at(best, owner, own)
    of_clips = _before(similarity, best, clips, owner, source[owner])
    return of_clips, _before(similarity.T, own, owner, clips, source)


def source_influences(similarity: NDArray[np.floating], owner: IntArray, source: IntArray) -> FloatArray:
    """How much each source, (S,), moves the mean of both directions' recall at 1; S must be 2 or more.

    The jackknife's pseudo-values less their mean, drawn together so that their standard deviation over √S is the
    value's standard error. Arguments as in `in_the_way`.
    """
    n_sources = int(source.max()) + 1
    found = competitors(similarity, owner, source)
    without, pairs = np.zeros(n_sources), []
    for way, asking in zip(found, (source, source[owner]), strict=True):
        asked = np.bincount(asking, minlength=n_sources)
        hits = np.bincount(asking, way == NO_SOURCE, n_sources)
        freed = (way >= 0) & (way != asking)  # by leaving that one source out
        gained = np.bincount(way[freed], minlength=n_sources)
        without += (hits.sum() - hits + gained) / (asked.sum() - asked) / 2
        pairs.append((asking[freed], way[freed], 1 / (2 * len(asking))))
    deviations = -(n_sources - 1) * (without - without.mean())
    total = float(deviations.var(ddof=1)) / n_sources
    once = max(total - _twice(pairs, n_sources), total / 2)  # were everything between two sources, half would be left
    return np.asarray(deviations * np.sqrt(once / total)) if total else deviations


def _twice(pairs: Sequence[tuple[IntArray, IntArray, float]], n_sources: int) -> float:
    """The variance of what pairs of sources do to the value together, from (a source, another, by how much) of each."""
    names = np.concatenate([np.minimum(one, other) * n_sources + np.maximum(one, other) for one, other, _ in pairs])
    by = np.concatenate([np.full(len(one), size) for one, _, size in pairs])
    sums = np.bincount(np.unique(names, return_inverse=True)[1], by)
    return float((sums**2).sum() - by.sum() ** 2 / (n_sources * (n_sources - 1) / 2))


def _before(
    similarity: NDArray[np.floating], own: NDArray[np.floating], query: IntArray, candidate: IntArray, source: IntArray
) -> IntArray:
    """similarity: (queries, candidates). own: (queries,) of the best that belongs; query, candidate: what belongs where
    they are equal; source: of each candidate.
    """
    found = np.empty(len(similarity), dtype=np.int64)
    rows = max(1, CELLS_AT_ONCE // similarity.shape[1])
    for start in range(0, len(similarity), rows):
        part = slice(start, start + rows)
        before = similarity[part] >= own[part, np.newaxis]
        before &= query[part, np.newaxis] != candidate
        least = np.where(before, source, np.iinfo(np.int64).max).min(axis=1)
        most = np.where(before, source, NO_SOURCE).max(axis=1)
        found[part] = np.where((most == NO_SOURCE) | (least == most), most, SEVERAL_SOURCES)
    return found

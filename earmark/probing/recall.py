"""Confidence interval of recall at 1 by a jackknife over sources.

Recall at 1 of a query depends on the other clips and captions. Resampling only queries keeps the candidates fixed and
underestimates the variance; resampling candidates with replacement would create duplicates of a clip. Leaving out one
source, as query and as candidate, avoids both and takes one pass: a query changes only if all candidates ranked before
its match are from one source.

The jackknife counts interactions of two sources (here: a query and its competitors) twice. They are known for each pair
and subtracted once; otherwise intervals would be too wide.

References
----------
Efron and Stein (1981), The jackknife estimate of variance, Annals of Statistics 9:586, section 4.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CELLS_AT_ONCE = 1 << 22  # similarities per chunk
NO_SOURCE = -1  # a match is ranked first
SEVERAL_SOURCES = -2  # candidates of several sources are ranked before it


def competitors(similarity: NDArray[np.floating], owner: IntArray, source: IntArray) -> tuple[IntArray, IntArray]:
    """Find the source of all candidates ranked before the first match of each query.

    Parameters
    ----------
    similarity : (n, m) float
        Similarities of clips and captions.
    owner : (m,) int
        Clip of each caption.
    source : (n,) int
        Source of each clip, from 0.

    Returns
    -------
    of_clips : (n,) int
        For each clip as query: the source of the competing captions; NO_SOURCE if a match is first, SEVERAL_SOURCES if
        there is more than one. Ties count as ranked before the match.
    of_captions : (m,) int
        The same for each caption as query.
    """
    clips = np.arange(len(similarity))
    match = similarity[owner, np.arange(len(owner))]  # similarity of each caption to its clip
    best_match = np.full(len(clips), -np.inf)
    np.maximum.at(best_match, owner, match)
    clip_blockers = _blocking_source(similarity, best_match, clips, owner, source[owner])
    return clip_blockers, _blocking_source(similarity.T, match, owner, clips, source)


def source_influences(similarity: NDArray[np.floating], owner: IntArray, source: IntArray) -> FloatArray:
    """Influence of each source on the mean of both directions' recall at 1.

    Parameters
    ----------
    similarity, owner, source
        As in `competitors`; at least two sources.

    Returns
    -------
    (S,) float
        Centred jackknife pseudo-values, scaled so that their standard deviation / √S is the standard error of the
        value.
    """
    n_sources = int(source.max()) + 1
    blocking = competitors(similarity, owner, source)
    without, pairs = np.zeros(n_sources), []
    for blocker, query_source in zip(blocking, (source, source[owner]), strict=True):
        n_queries = np.bincount(query_source, minlength=n_sources)
        n_correct = np.bincount(query_source, blocker == NO_SOURCE, n_sources)
        unblocked = (blocker >= 0) & (blocker != query_source)  # correct if this source is left out
        gained = np.bincount(blocker[unblocked], minlength=n_sources)
        without += (n_correct.sum() - n_correct + gained) / (n_queries.sum() - n_queries) / 2
        pairs.append((query_source[unblocked], blocker[unblocked], 1 / (2 * len(query_source))))
    deviations = -(n_sources - 1) * (without - without.mean())
    jackknife_variance = float(deviations.var(ddof=1)) / n_sources
    # If all variance came from interactions, half of it would remain.
    variance = max(jackknife_variance - _pair_variance(pairs, n_sources), jackknife_variance / 2)
    return np.asarray(deviations * np.sqrt(variance / jackknife_variance)) if jackknife_variance else deviations


def _pair_variance(pairs: Sequence[tuple[IntArray, IntArray, float]], n_sources: int) -> float:
    """Variance from interactions between sources.

    Parameters
    ----------
    pairs : sequence
        For each direction: source, other source (both (k,) int), and the size of the change.
    n_sources : int
        Number of sources.
    """
    pair_ids = np.concatenate(
        [np.minimum(first, second) * n_sources + np.maximum(first, second) for first, second, _ in pairs]
    )
    sizes = np.concatenate([np.full(len(first), size) for first, _, size in pairs])
    sums = np.bincount(np.unique(pair_ids, return_inverse=True)[1], sizes)
    return float((sums**2).sum() - sizes.sum() ** 2 / (n_sources * (n_sources - 1) / 2))


def _blocking_source(
    similarity: NDArray[np.floating], own: NDArray[np.floating], query: IntArray, candidate: IntArray, source: IntArray
) -> IntArray:
    """Source of the candidates ranked before the match of each query.

    Parameters
    ----------
    similarity : (queries, candidates) float
        Similarities.
    own : (queries,) float
        Similarity of the best match.
    query, candidate : (queries,), (candidates,) int
        A candidate matches a query if these are equal.
    source : (candidates,) int
        Source of each candidate.
    """
    result = np.empty(len(similarity), dtype=np.int64)
    chunk_rows = max(1, CELLS_AT_ONCE // similarity.shape[1])
    for start in range(0, len(similarity), chunk_rows):
        chunk = slice(start, start + chunk_rows)
        before = similarity[chunk] >= own[chunk, np.newaxis]
        before &= query[chunk, np.newaxis] != candidate
        lowest = np.where(before, source, np.iinfo(np.int64).max).min(axis=1)
        highest = np.where(before, source, NO_SOURCE).max(axis=1)
        result[chunk] = np.where((highest == NO_SOURCE) | (lowest == highest), highest, SEVERAL_SOURCES)
    return result

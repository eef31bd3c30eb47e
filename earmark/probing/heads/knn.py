"""Nearest neighbours among frozen embeddings: nothing is trained.

Two ways of comparing, named in every result. `strict` is the cosine. `published` is what X-ARES's track B computes:
each feature of the training embeddings is divided by its norm over the training samples, each test embedding by its
own norm, and the product is taken for a similarity. In both, a neighbour votes with exp(similarity / 0.07).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

TEMPERATURE = 0.07
K_CANDIDATES = (1, 5, 10, 20, 50)  # of the strict protocol, chosen on validation
PUBLISHED_K = 10
DECIMALS = 9  # of a sum of votes, where the nearest neighbour's is 1
SMALLEST_NORM = 1e-12  # of what is divided by; a vector of zeros stays one
SIMILARITIES_AT_ONCE = 1 << 24  # 64 MB of float32


def knn_predict(
    train: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    ks: Sequence[int] = (PUBLISHED_K,),
    *,
    protocol: Literal["strict", "published"] = "strict",
) -> dict[int, IntArray]:
    """The class that each test embedding's k nearest training embeddings vote for, for every k at once.

    train: (n, D), labels: (n,) classes from 0, test: (m, D). Returns {k: (m,) classes}. A k beyond n uses all n.
    Similarities equal to the last bit: the earlier training row is nearer. Votes equal: the lowest class wins.
    An embedding of zeros is equally similar, 0, to all. Memory beyond the inputs, their normalised copies and the
    neighbours is bounded. ValueError: no training row, numbers that are not finite, negative classes, a k below 1.
    Source of the weights: Wu et al. (2018), Unsupervised feature learning via non-parametric instance discrimination,
    eq. 13 (τ = 0.07); of `published`: X-ARES, Zhang et al. (2025).

    >>> train = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> knn_predict(train, [0, 0, 1], [[0.2, 1.0], [1.0, 0.1]], ks=[1, 3])[3].tolist()
    [1, 0]
    """
    y = np.asarray(labels)
    a, b = normalised(train, test, protocol)
    if y.shape != (len(a),) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ValueError(f"labels {y.dtype} {y.shape} must be one class, from 0, for each of {len(a)} embeddings")
    if not ks or min(ks) < 1:
        raise ValueError(f"k must be at least 1, not {min(ks, default=None)}")
    similarities, neighbours = nearest(a, b, min(max(ks), len(a)))
    votes = np.exp((similarities.astype(np.float64) - similarities[:, :1]) / TEMPERATURE)  # the nearest's is 1
    return {k: _winners(votes[:, :k], y[neighbours[:, :k]]) for k in ks}


def normalised(
    train: ArrayLike, test: ArrayLike, protocol: Literal["strict", "published"]
) -> tuple[FloatArray, FloatArray]:
    """Training and test embeddings such that their products are the protocol's similarities."""
    a, b = np.asarray(train, dtype=np.float32), np.asarray(test, dtype=np.float32)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"training {a.shape} and test {b.shape} embeddings must be rows of the same width")
    if not len(a):
        raise ValueError("there is no training embedding to be near to")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("embeddings must be finite")
    if protocol not in ("strict", "published"):
        raise ValueError(f"protocol {protocol!r} is not one of strict, published")
    return _divided(a, axis=1 if protocol == "strict" else 0), _divided(b, axis=1)


def nearest(train: FloatArray, test: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """The k ≤ n largest products with training rows, (m, k), falling, and their rows, (m, k), the earlier on ties."""
    similarities = np.empty((len(test), k), dtype=np.float32)
    rows = np.empty((len(test), k), dtype=np.int64)

    def keep(start: int, block: FloatArray) -> None:
        stop = start + len(block)
        similarities[start:stop], rows[start:stop] = _largest(block, k)

    # The product keeps BLAS's threads busy; while the next block is multiplied, another thread sorts this one out.
    with ThreadPoolExecutor(1) as pool:
        pending = None
        for start, block in _products(train, test):
            if pending is not None:
                pending.result()
            pending = pool.submit(keep, start, block)
        if pending is not None:
            pending.result()
    return similarities, rows


def _products(train: FloatArray, test: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """Blocks of test @ train.T, each with the place of its first row."""
    size = max(1, SIMILARITIES_AT_ONCE // len(train))
    for start in range(0, len(test), size):
        yield start, test[start : start + size] @ train.T


def _largest(block: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """The k largest of every row, falling, and their columns, the lowest of equals."""
    n = block.shape[1]
    least = np.partition(block, n - k, axis=1)[:, n - k]  # of those that may stay
    columns = np.empty((len(block), k), dtype=np.int64)
    row, column = np.nonzero(block >= least[:, np.newaxis])
    found = np.bincount(row, minlength=len(block))
    exact = found == k
    columns[exact] = column[np.repeat(exact, found)].reshape(-1, k)
    for tied in np.flatnonzero(~exact):  # more equals than places: the lowest columns
        above = np.flatnonzero(block[tied] > least[tied])
        equal = np.flatnonzero(block[tied] == least[tied])[: k - len(above)]
        columns[tied] = np.sort(np.concatenate([above, equal]))
    values = np.take_along_axis(block, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


def _winners(votes: NDArray[np.float64], classes: IntArray) -> IntArray:
    """The class with the largest sum of votes in every row, (m, k) → (m,); the lowest of equals.

    Sums that agree to DECIMALS are equal: how a sum is rounded must not decide between classes.
    """
    winners = np.zeros(len(classes), dtype=np.int64)
    most = np.full(len(classes), -np.inf)
    for place in range(classes.shape[1]):
        candidate = classes[:, place]
        total = (votes * (classes == candidate[:, np.newaxis])).sum(axis=1).round(DECIMALS)
        better = (total > most) | ((total == most) & (candidate < winners))
        winners, most = np.where(better, candidate, winners), np.where(better, total, most)
    return winners


def _divided(vectors: FloatArray, axis: int) -> FloatArray:
    norms = np.sqrt(np.einsum("ij,ij->i" if axis == 1 else "ij,ij->j", vectors, vectors, dtype=np.float64))
    return (vectors / np.expand_dims(np.maximum(norms, SMALLEST_NORM), axis)).astype(np.float32)

"""k-NN classification on frozen embeddings.

There are two similarities. `strict` is the cosine. `published` is that of X-ARES's track B: each dimension of the
training embeddings is divided by its norm over the training set, each test embedding by its own norm, and similarity
is their inner product. In both recipes, a neighbour votes with weight exp(similarity / 0.07).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.probing.heads.batched import torch_library

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

TEMPERATURE = 0.07
K_CANDIDATES = (1, 5, 10, 20, 50)  # the strict recipe selects k on validation data
PUBLISHED_K = 10
VOTE_DECIMALS = 9  # sums of votes that agree to this precision are tied; the nearest neighbour has a vote of 1
MIN_NORM = 1e-12  # smaller norms are replaced by it, so zero vectors stay zero
MAX_SIMILARITIES = 1 << 24  # computed at a time; 64 MB of float32
BLOCK_VALUES = 1 << 20  # of embeddings that are checked or divided at a time; 8 MB of float64


def knn_predict(
    train: ArrayLike,
    labels: ArrayLike,
    test: ArrayLike,
    ks: Sequence[int] = (PUBLISHED_K,),
    *,
    recipe: Literal["strict", "published"] = "strict",
    device: str = "cpu",
    overwrite: bool = False,
) -> dict[int, IntArray]:
    """Predict classes by weighted voting of the k nearest training embeddings, for several k.

    Parameters
    ----------
    train : (n, D) float
    labels : (n,) int
        Classes of the training embeddings, ≥ 0.
    test : (m, D) float
    ks : sequence of int
        Numbers of neighbours, ≥ 1. A k above n uses all n.
    recipe : {"strict", "published"}
        Similarity; see the module docstring.
    device : str
        Name of a torch device; `cpu` and `auto` use NumPy.
    overwrite : bool
        Whether float32 embeddings may be normalised in place, which saves a copy of them.

    Returns
    -------
    dict
        {k: (m,) classes}.

    Raises
    ------
    ValueError
        If there is no training embedding, shapes do not match, a number is not finite, a class is negative, or a k is
        below 1.

    Notes
    -----
    Of neighbours with bit-identical similarity, the first training row is nearer. Of classes with equal votes, the
    lowest is predicted. A zero embedding has similarity 0 to all others. Apart from the normalised copies of the inputs
    and the neighbours, memory is bounded by MAX_SIMILARITIES.

    References
    ----------
    Wu et al. (2018), Unsupervised feature learning via non-parametric instance discrimination, eq. 13 (τ = 0.07).
    Zhang et al. (2025), X-ARES: a comprehensive framework for assessing audio encoder performance (`published`).

    Examples
    --------
    >>> train = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> knn_predict(train, [0, 0, 1], [[0.2, 1.0], [1.0, 0.1]], ks=[1, 3])[3].tolist()
    [1, 0]
    """
    y = np.asarray(labels)
    a, b = normalise_embeddings(train, test, recipe, overwrite=overwrite)
    if y.shape != (len(a),) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ValueError(f"labels are {y.dtype} of shape {y.shape}; expected {len(a)} integers ≥ 0")
    if not ks or min(ks) < 1:
        raise ValueError(f"k must be at least 1, got {min(ks, default=None)}")
    k = min(max(ks), len(a))
    on_cpu = device in ("cpu", "auto")
    similarities, neighbours = nearest_neighbours(a, b, k) if on_cpu else neighbours_on_device(a, b, k, device)
    votes = np.exp((similarities.astype(np.float64) - similarities[:, :1]) / TEMPERATURE)  # 1 for the nearest neighbour
    return {k: _vote(votes[:, :k], y[neighbours[:, :k]]) for k in ks}


def normalise_embeddings(
    train: ArrayLike, test: ArrayLike, recipe: Literal["strict", "published"], *, overwrite: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Normalise embeddings so that their inner products are the similarities of a recipe.

    Parameters
    ----------
    train : (n, D) float
    test : (m, D) float
    recipe : {"strict", "published"}
    overwrite : bool
        Whether float32 embeddings may be normalised in place.

    Returns
    -------
    train : (n, D) float32
    test : (m, D) float32

    Raises
    ------
    ValueError
        If there is no training embedding, shapes do not match, a number is not finite, or the recipe is unknown.

    Examples
    --------
    >>> train, test = normalise_embeddings([[3.0, 0.0], [4.0, 2.0]], [[3.0, 4.0]], "published")
    >>> (test @ train.T).round(2)  # column norms are 5 and 2
    array([[0.36, 1.28]], dtype=float32)
    """
    a, b = np.asarray(train, dtype=np.float32), np.asarray(test, dtype=np.float32)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"training {a.shape} and test embeddings {b.shape} must be (n, d) and (m, d)")
    if not len(a):
        raise ValueError("the training set is empty")
    if not all(np.isfinite(part[rows]).all() for part in (a, b) for rows in _blocks(part)):
        raise ValueError("embeddings must be finite")
    if recipe not in ("strict", "published"):
        raise ValueError(f"recipe {recipe!r} is not one of strict, published")
    return _divide_by_norm(a, 1 if recipe == "strict" else 0, overwrite), _divide_by_norm(b, 1, overwrite)


def nearest_neighbours(train: FloatArray, test: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Find the k training rows with the largest inner product with each test row.

    Parameters
    ----------
    train : (n, D) float32
    test : (m, D) float32
    k : int
        At most n.

    Returns
    -------
    similarities : (m, k) float32
        In decreasing order.
    rows : (m, k) int
        Training rows; the first ones on ties.
    """
    similarities = np.empty((len(test), k), dtype=np.float32)
    rows = np.empty((len(test), k), dtype=np.int64)

    def store(start: int, block: FloatArray) -> None:
        stop = start + len(block)
        similarities[start:stop], rows[start:stop] = _largest(block, k)

    # BLAS computes the next block of products while another thread selects the largest values of this one.
    with ThreadPoolExecutor(1) as pool:
        pending = None
        for start, block in _products(train, test):
            if pending is not None:
                pending.result()
            pending = pool.submit(store, start, block)
        if pending is not None:
            pending.result()
    return similarities, rows


def neighbours_on_device(train: FloatArray, test: FloatArray, k: int, device: str) -> tuple[FloatArray, IntArray]:
    """As `nearest_neighbours`, with torch on a device. A stable sort keeps the first rows on ties, unlike torch.topk.

    Parameters
    ----------
    train : (n, D) float32
    test : (m, D) float32
    k : int
        At most n.
    device : str
        Name of a torch device.

    Returns
    -------
    similarities : (m, k) float32
    rows : (m, k) int
    """
    torch = torch_library()
    columns = torch.as_tensor(train).to(device).T
    similarities = np.empty((len(test), k), dtype=np.float32)
    rows = np.empty((len(test), k), dtype=np.int64)
    size = max(1, MAX_SIMILARITIES // len(train))
    for start in range(0, len(test), size):
        part = slice(start, start + size)
        found = torch.sort(torch.as_tensor(test[part]).to(device) @ columns, dim=1, descending=True, stable=True)
        similarities[part], rows[part] = found.values[:, :k].cpu().numpy(), found.indices[:, :k].cpu().numpy()
    return similarities, rows


def _products(train: FloatArray, test: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """Blocks of test @ train.T, each with the index of its first row."""
    size = max(1, MAX_SIMILARITIES // len(train))
    for start in range(0, len(test), size):
        yield start, test[start : start + size] @ train.T


def _largest(block: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """The k largest values of each row in decreasing order, and their columns; the lowest columns on ties."""
    n = block.shape[1]
    smallest = np.partition(block, n - k, axis=1)[:, n - k]  # of the k largest
    columns = np.empty((len(block), k), dtype=np.int64)
    row, column = np.nonzero(block >= smallest[:, np.newaxis])
    counts = np.bincount(row, minlength=len(block))
    exact = counts == k
    columns[exact] = column[np.repeat(exact, counts)].reshape(-1, k)
    for tied in np.flatnonzero(~exact):  # ties at the smallest value: keep the lowest columns
        above = np.flatnonzero(block[tied] > smallest[tied])
        equal = np.flatnonzero(block[tied] == smallest[tied])[: k - len(above)]
        columns[tied] = np.sort(np.concatenate([above, equal]))
    values = np.take_along_axis(block, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


def _vote(votes: NDArray[np.float64], classes: IntArray) -> IntArray:
    """The class with the largest sum of votes in each row, (m, k) → (m,); the lowest class on ties.

    Sums are rounded to VOTE_DECIMALS, so that rounding errors do not break ties.
    """
    winners = np.zeros(len(classes), dtype=np.int64)
    most = np.full(len(classes), -np.inf)
    for neighbour in range(classes.shape[1]):
        candidate = classes[:, neighbour]
        total = (votes * (classes == candidate[:, np.newaxis])).sum(axis=1).round(VOTE_DECIMALS)
        better = (total > most) | ((total == most) & (candidate < winners))
        winners, most = np.where(better, candidate, winners), np.where(better, total, most)
    return winners


def _divide_by_norm(vectors: FloatArray, axis: int, overwrite: bool) -> FloatArray:
    norms = np.sqrt(np.einsum("ij,ij->i" if axis == 1 else "ij,ij->j", vectors, vectors, dtype=np.float64))
    norms = np.expand_dims(np.maximum(norms, MIN_NORM), axis)
    result = vectors if overwrite and vectors.flags.writeable else np.empty_like(vectors)
    for rows in _blocks(vectors):  # quotients in float64 need twice the memory
        result[rows] = vectors[rows] / (norms[rows] if axis == 1 else norms)
    return result


def _blocks(vectors: FloatArray) -> Iterator[slice]:
    """Slices of the rows of embeddings with at most BLOCK_VALUES numbers each."""
    size = max(1, BLOCK_VALUES // max(1, vectors.shape[1]))
    return (slice(start, start + size) for start in range(0, len(vectors), size))

"""One embedding, or the reason why there is none."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """An embedding or an error.

    Attributes
    ----------
    vector : (d,) float32 or None
        The embedding. Clips with several rows (frames, crops) have (n, d).
    error : str
        Why there is no embedding; empty if there is one.
    """

    vector: Vector | None
    error: str = ""


def unit_embedding(vector: Vector, dimension: int | None) -> Embedding:
    """Check a vector and scale it to length 1.

    Parameters
    ----------
    vector : (d,) float32
        An embedding from a model.
    dimension : int or None
        Expected number of dimensions, None for any.

    Returns
    -------
    Embedding
        The scaled vector, or an error if the vector is empty, not one-dimensional, of another dimension, not finite or
        all zeros.

    Examples
    --------
    >>> unit_embedding(np.array([3, 4], dtype=np.float32), None).vector
    array([0.6, 0.8], dtype=float32)
    >>> unit_embedding(np.zeros(2, dtype=np.float32), None).error
    'the embedding is all zeros'
    """
    if vector.ndim != 1:
        return Embedding(None, f"the embedding has shape {vector.shape}; it must be a list of numbers")
    if dimension is not None and len(vector) != dimension:
        return Embedding(None, f"the embedding has {len(vector)} dimensions where earlier ones have {dimension}")
    if not len(vector):
        return Embedding(None, "the embedding is empty")
    if not np.isfinite(vector).all():
        return Embedding(None, "the embedding is not finite")
    length = np.linalg.norm(vector.astype(np.float64))
    if length == 0:
        return Embedding(None, "the embedding is all zeros")
    return Embedding((vector / length).astype(np.float32))

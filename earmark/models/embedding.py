"""A vector that a model gave, or why there is none; and what makes a vector unusable."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """A vector, or why there is none."""

    vector: Vector | None
    error: str = ""


def unit_embedding(vector: Vector, dimension: int | None) -> Embedding:
    """The vector scaled to length 1, or what is wrong with it. dimension: what earlier ones had, if there were any."""
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

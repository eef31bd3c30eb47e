"""Embeddings in the replies of servers, in the shape of OpenAI and infinity: {"data": [{"index", "embedding"}]}."""

import base64
from typing import Any

import numpy as np

from earmark.models.embedding import Vector
from earmark.models.http import RefusedError, shown


def vectors_in(reply: Any, n: int) -> list[Vector]:
    """The reply's embeddings in the order of the request, whatever order they came in."""
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) and "embedding" in entry for entry in data):
        raise RefusedError(f"the reply has no list `data` of embeddings: {shown(reply)}")
    indices = [entry.get("index", position) for position, entry in enumerate(data)]
    if sorted(map(str, indices)) != sorted(map(str, range(n))):
        raise RefusedError(f"the reply has the indices {shown(indices)} for {n} inputs")
    by_index = {int(index): entry["embedding"] for index, entry in zip(indices, data, strict=True)}
    return [_vector(by_index[i]) for i in range(n)]


def _vector(embedding: Any) -> Vector:
    try:
        return from_base64(embedding) if isinstance(embedding, str) else np.asarray(embedding, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedError(f"an embedding is no list of numbers: {shown(embedding)}") from error


def from_base64(text: str) -> Vector:
    """A vector of little-endian 32-bit numbers."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")

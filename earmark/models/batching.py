"""Batches for a model: cut to its window, of one length, as large as the accelerator's memory allows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import shown_cause
from earmark.models.embedding import Embedding, unit_embedding
from earmark.models.torch_runtime import is_out_of_memory, release_memory

Array = NDArray[np.float32]


def split_into_windows(waveform: Array, rate: int, seconds: float | None) -> list[Array]:
    """A waveform cut into the fewest pieces of at most `seconds`, whose lengths differ by one sample at most.

    >>> [len(piece) for piece in windows(np.zeros(25, dtype=np.float32), rate=1, seconds=10)]
    [9, 8, 8]
    """
    longest = max(1, len(waveform) if seconds is None else round(seconds * rate))
    return np.array_split(waveform, max(1, -(-len(waveform) // longest)))


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Items in their order, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def map_by_length(
    items: Sequence[Any], length: Callable[[Any], Any], run: Callable[[Sequence[Any]], Sequence[Array]]
) -> list[Array]:
    """An array for each item, in the order of the items, where only items of one length are run together."""
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(length(item), []).append(i)
    found = {i: one for group in groups.values() for i, one in zip(group, run([items[i] for i in group]), strict=True)}
    return [found[i] for i in range(len(items))]


def embed_by_length(
    items: Sequence[Any], length: Callable[[Any], Any], embed: Callable[[Sequence[Any]], Array]
) -> Array:
    """Embeddings in the order of the items, where only items of one length are embedded together."""
    return concatenate_batches([one[None] for one in map_by_length(items, length, lambda group: list(embed(group)))])


def concatenate_batches(batches: Sequence[Array]) -> Array:
    """Batches of embeddings as one; ValueError where their dimensions differ."""
    if len({batch.shape[1:] for batch in batches}) > 1:
        raise ValueError("the model gave embeddings of different dimensions")
    return np.concatenate(batches)


class AdaptiveBatches:
    """Embeds batches; one that the accelerator has no memory for is halved, and so are all after it."""

    def __init__(
        self,
        embed: Callable[[Sequence[Any]], Array],
        size: int,
        check: Callable[[Array], Embedding] = lambda vector: unit_embedding(vector, None),
    ) -> None:
        self._embed, self._size, self._check = embed, size, check

    def __call__(self, items: Sequence[Any]) -> list[Embedding]:
        """One embedding or error for each item; a batch that the model fails on is halved until it is clear on what."""
        found: list[Embedding] = []
        size = self._size
        while len(found) < len(items):
            part = items[len(found) : len(found) + min(size, self._size)]
            vectors, full, cause = self._attempt(part)
            if vectors is not None:
                found += [self._check(vector) for vector in vectors]
                continue
            size = max(1, len(part) // 2)
            if full:
                release_memory()
                self._size = size
            if len(part) == 1:
                found.append(Embedding(None, f"the model fails on it ({cause})"))
        return found

    def _attempt(self, part: Sequence[Any]) -> tuple[Array | None, bool, str]:
        """Embeddings, or whether memory ran out, and what the model said; the error itself would keep memory."""
        try:
            return self._embed(part), False, ""
        except (RuntimeError, ValueError) as error:
            return None, is_out_of_memory(error), shown_cause(error)

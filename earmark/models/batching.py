"""Batches for a model: windows of limited length, items of equal length, sizes that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, shown_cause
from earmark.models.embedding import Embedding, unit_embedding
from earmark.models.torch_runtime import accelerator_is_lost, is_out_of_memory, release_memory

Array = NDArray[np.float32]


def split_into_windows(waveform: Array, rate: int, seconds: float | None) -> list[Array]:
    """Split a waveform into as few windows as possible.

    Parameters
    ----------
    waveform : (n,) float32
        Samples.
    rate : int
        Sample rate in Hz.
    seconds : float or None
        Maximum length of a window; None for no limit.

    Returns
    -------
    list of arrays
        Consecutive windows whose lengths differ by at most one sample.

    Examples
    --------
    >>> [len(window) for window in split_into_windows(np.zeros(25, dtype=np.float32), rate=1, seconds=10)]
    [9, 8, 8]
    """
    longest = max(1, len(waveform) if seconds is None else round(seconds * rate))
    return np.array_split(waveform, max(1, -(-len(waveform) // longest)))


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Split items into consecutive batches of `size` items; the last batch may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def map_by_length(
    items: Sequence[Any], length: Callable[[Any], Any], run: Callable[[Sequence[Any]], Sequence[Array]]
) -> list[Array]:
    """Run a function on groups of items of equal length, so that no item is padded.

    Parameters
    ----------
    items : sequence
        Inputs.
    length : callable
        Returns the length of an item, or any hashable value that is equal within a group.
    run : callable
        Maps a group of items to one array per item.

    Returns
    -------
    list of arrays
        One array per item, in the order of the items.
    """
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(length(item), []).append(i)
    results = {
        i: result for group in groups.values() for i, result in zip(group, run([items[i] for i in group]), strict=True)
    }
    return [results[i] for i in range(len(items))]


def embed_by_length(
    items: Sequence[Any], length: Callable[[Any], Any], embed: Callable[[Sequence[Any]], Array]
) -> Array:
    """Embed groups of items of equal length, so that no item is padded.

    Parameters
    ----------
    items : sequence
        Inputs.
    length : callable
        As in `map_by_length`.
    embed : callable
        Maps a group of n items to an array of shape (n, d).

    Returns
    -------
    (n, d) float32
        Embeddings in the order of the items.

    Raises
    ------
    ValueError
        If the dimensions of the embeddings differ.
    """
    rows = map_by_length(items, length, lambda group: list(embed(group)))
    return concatenate_batches([row[None] for row in rows])


def concatenate_batches(batches: Sequence[Array]) -> Array:
    """Concatenate batches of embeddings; ValueError if their dimensions differ."""
    if len({batch.shape[1:] for batch in batches}) > 1:
        raise ValueError("the model returned embeddings of different dimensions")
    return np.concatenate(batches)


class AdaptiveBatches:
    """Embed items in batches that fit into accelerator memory.

    After an out-of-memory error, the batch and all later ones are halved.

    Parameters
    ----------
    embed : callable
        Maps a batch of n items to an array of shape (n, d).
    size : int
        Initial batch size.
    check : callable, optional
        Maps a vector to an `Embedding`. By default, `unit_embedding`.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Any]], Array],
        size: int,
        check: Callable[[Array], Embedding] = lambda vector: unit_embedding(vector, None),
    ) -> None:
        self._embed, self._size, self._check = embed, size, check

    def __call__(self, items: Sequence[Any]) -> list[Embedding]:
        """Embed items; a failing batch is halved until the failing item is isolated.

        Returns
        -------
        list of Embedding
            One embedding or error per item.

        Raises
        ------
        EarmarkError
            If the accelerator can no longer be used by this process.
        """
        results: list[Embedding] = []
        size = self._size
        while len(results) < len(items):
            batch = items[len(results) : len(results) + min(size, self._size)]
            vectors, out_of_memory, cause = self._attempt(batch)
            if vectors is not None:
                results += [self._check(vector) for vector in vectors]
                continue
            size = max(1, len(batch) // 2)
            if out_of_memory:
                release_memory()
                self._size = size
            if len(batch) == 1:
                results.append(Embedding(None, f"the model failed ({cause})"))
        return results

    def _attempt(self, batch: Sequence[Any]) -> tuple[Array | None, bool, str]:
        """Embeddings (None on failure), whether memory ran out, and the error message.

        Returns text rather than the exception, whose traceback would keep tensors alive.
        """
        try:
            return self._embed(batch), False, ""
        except (RuntimeError, ValueError) as error:
            if accelerator_is_lost(error):
                raise EarmarkError(
                    f"The GPU stopped ({shown_cause(error)}). Run the command again; finished clips are kept. If it "
                    "stops again, use another --device or a smaller --batch-size."
                ) from error
            return None, is_out_of_memory(error), shown_cause(error)

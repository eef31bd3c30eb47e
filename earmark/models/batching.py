"""Batches for a model whose accelerator may have too little memory, or that fails on some of them."""

from collections.abc import Callable, Sequence
from typing import Any

from earmark.errors import shown_cause
from earmark.models.audio_text.networks import Array, out_of_memory, release_memory
from earmark.models.embedding import Embedding, checked


class Careful:
    """Embeds batches; one that the accelerator has no memory for is halved, and so are all after it."""

    def __init__(
        self,
        embed: Callable[[Sequence[Any]], Array],
        size: int,
        check: Callable[[Array], Embedding] = lambda vector: checked(vector, None),
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
            return None, out_of_memory(error), shown_cause(error)

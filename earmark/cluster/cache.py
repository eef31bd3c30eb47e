"""An embedding cache that workers on a Ray cluster fill."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from earmark.audio.clips import Clip
from earmark.cli import Invocation, RayOptions
from earmark.cluster.pool import KILLED, WorkerPool
from earmark.cluster.session import ray_module, share
from earmark.cluster.worker import EncoderSource, Shard, WorkerSettings
from earmark.embeddings.cache import MIN_DECODER_THREADS, EmbeddingCache
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.encoders.precomputed import PrecomputedEmbeddings

BATCHES_PER_SHARD = 32
SHARDS_PER_WORKER = 4  # of few clips, so that no worker waits long for the last one
C = TypeVar("C", bound=Clip)


class CacheWithout(EmbeddingCache):
    """An embedding cache in which given clips have an error.

    Parameters
    ----------
    root : Path
        The folder of the cache.
    errors : mapping
        {clip: its error}.
    """

    def __init__(self, root: Path, errors: Mapping[Clip, str]) -> None:
        super().__init__(root)
        self._errors = errors

    def embed(
        self,
        encoder: Encoder | PrecomputedEmbeddings,
        clips: Sequence[C],
        *,
        request: EmbeddingRequest = DEFAULT_REQUEST,
        batch_size: int = 16,
        decoder_threads: int | None = None,
        audio_root: Path | None = None,
    ) -> Iterator[tuple[C, Embedding]]:
        """As in the base class; clips with an error first."""
        yield from ((clip, Embedding(None, self._errors[clip])) for clip in clips if clip in self._errors)
        yield from super().embed(
            encoder,
            [clip for clip in clips if clip not in self._errors],
            request=request,
            batch_size=batch_size,
            decoder_threads=decoder_threads,
            audio_root=audio_root,
        )


class ClusterCache(EmbeddingCache):
    """An embedding cache whose missing embeddings are computed by workers on the connected Ray cluster.

    The workers write to the cache, which all nodes and this process see. This process then reads the embeddings from
    there; it computes those that were lost with a node before they were written.

    Parameters
    ----------
    root : Path
        The folder of the cache.
    source : EncoderSource
        Loads the encoder in the workers.
    options : RayOptions
        Resources and number of workers.
    invocation : Invocation
        For the progress bar.
    device : str
        Device of the encoder.
    """

    def __init__(
        self, root: Path, source: EncoderSource, options: RayOptions, invocation: Invocation, device: str = "auto"
    ) -> None:
        super().__init__(root)
        self._source, self._options, self._invocation, self._device = source, options, invocation, device
        self._pool: WorkerPool | None = None

    def embed(
        self,
        encoder: Encoder | PrecomputedEmbeddings,
        clips: Sequence[C],
        *,
        request: EmbeddingRequest = DEFAULT_REQUEST,
        batch_size: int = 16,
        decoder_threads: int | None = None,
        audio_root: Path | None = None,
    ) -> Iterator[tuple[C, Embedding]]:
        """As in the base class; embeddings are yielded after all were computed."""
        errors: dict[Clip, str] = {}
        if isinstance(encoder, Encoder):
            with contextlib.closing(self):
                errors = self.fill(
                    encoder, clips, request=request, batch_size=batch_size, decoder_threads=decoder_threads
                )
        yield from CacheWithout(self.root, errors).embed(
            encoder,
            clips,
            request=request,
            batch_size=batch_size,
            decoder_threads=decoder_threads,
            audio_root=audio_root,
        )

    def fill(
        self,
        encoder: Encoder,
        clips: Sequence[Clip],
        *,
        request: EmbeddingRequest = DEFAULT_REQUEST,
        batch_size: int = 16,
        decoder_threads: int | None = None,
    ) -> dict[Clip, str]:
        """Compute the embeddings that are not in the cache; workers stay for the next call.

        Parameters
        ----------
        encoder : Encoder
        clips : sequence of Clip
        request, batch_size, decoder_threads
            As for `embed`.

        Returns
        -------
        dict
            {clip: why it has no embedding}.

        Raises
        ------
        EarmarkError
            As `WorkerPool.embed`.
        """
        encoder.require_support(request)
        missing = self._missing(encoder, clips, request)
        if not missing:
            return {}
        if self._pool is None:
            settings = WorkerSettings(self._source, self.root.absolute(), Path.cwd())
            workers = share(ray_module(), self._options, self._device)
            self._pool = WorkerPool(settings, workers, encoder.identity)
            self._workers, self._cpus = workers.workers, workers.cpus
        threads = decoder_threads or max(MIN_DECODER_THREADS, self._cpus)  # a worker has a part of its node
        shards = [Shard(part, request, batch_size, threads) for part in _parts(missing, batch_size, self._workers)]
        errors: dict[Clip, str] = {}

        def finished() -> Iterator[Clip]:
            assert self._pool is not None
            for shard, failed in self._pool.embed(shards):
                errors.update(failed)
                yield from shard.clips

        for _ in self._invocation.progress(finished(), total=len(missing), label=f"{encoder.name}, Ray", unit="clip"):
            pass
        return errors

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.__exit__(None, None, None)
            self._pool = None

    def _missing(self, encoder: Encoder, clips: Sequence[Clip], request: EmbeddingRequest) -> list[Clip]:
        """Clips that are not known to be in the cache; no audio is read."""
        with self.opened(encoder, request) as (store, hashes), ThreadPoolExecutor(8) as threads:

            def is_stored(clip: Clip) -> bool:
                try:
                    content = hashes.known_hash(clip)
                except OSError:
                    return False
                return content is not None and content in store

            unique = list(dict.fromkeys(clips))
            known = threads.map(is_stored, unique) if len(store) else iter([False] * len(unique))
            return [clip for clip, stored in zip(unique, known, strict=True) if not stored]


def killed_clips(errors: Mapping[Clip, str]) -> dict[Clip, str]:
    """The clips that ended their workers, which must not be tried elsewhere."""
    return {clip: error for clip, error in errors.items() if error.endswith(KILLED)}


def embedding_cache(
    root: Path,
    options: RayOptions,
    invocation: Invocation,
    source: Callable[[], EncoderSource],
    device: str = "auto",
) -> EmbeddingCache:
    """The embedding cache of a folder, filled by the connected Ray cluster if there is one.

    Parameters
    ----------
    root : Path
    options : RayOptions
    invocation : Invocation
    source : callable
        Makes the `EncoderSource`; not called without a cluster.
    device : str
        Device of the encoder.
    """
    return EmbeddingCache(root) if options.ray is None else ClusterCache(root, source(), options, invocation, device)


def _parts(clips: Sequence[C], batch_size: int, workers: int) -> Iterable[tuple[C, ...]]:
    """Split clips into shards of whole batches, so that batches are those of a run on one machine."""
    batches = -(-len(clips) // batch_size)
    size = batch_size * max(1, min(BATCHES_PER_SHARD, batches // (workers * SHARDS_PER_WORKER)))
    for first in range(0, len(clips), size):
        yield tuple(clips[first : first + size])

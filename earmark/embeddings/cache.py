"""Embedding cache: clips are embedded once per encoder and request, then read from disk."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Generic, TypeVar

import numpy as np

from earmark.audio.clips import AudioError, Clip, TarMember, reading_once, shown_clip
from earmark.audio.decode import read_nonsilent_audio
from earmark.embeddings.content_hashes import ContentHashes
from earmark.embeddings.remote import open_hashes, open_store
from earmark.embeddings.shards import Array, Layout, ShardedArrayStore
from earmark.errors import EarmarkError, shown_cause
from earmark.models.batching import AdaptiveBatches, in_batches
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import EmbeddingError, Encoder, embedding_fault, indistinguishable
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.encoders.precomputed import PrecomputedEmbeddings

MIN_DECODER_THREADS, MAX_DECODER_THREADS = 4, 32
MAX_INITIAL_FAILURES = 64  # stop if an encoder fails on this many clips without a single success
PREPROCESSING_VERSION = 1  # increase it whenever decoding, downmixing or resampling changes the waveforms
C = TypeVar("C", bound=Clip)


def default_decoder_threads() -> int:
    """One thread per core that this process may use, at least 4 and at most 32; decoding does not hold the GIL."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_DECODER_THREADS, max(MIN_DECODER_THREADS, cores))


@dataclass(frozen=True)
class OutputChecks:
    """Checks of a whole run that stop it.

    Attributes
    ----------
    failures : bool
        Stop if the encoder fails on each of the first `MAX_INITIAL_FAILURES` clips.
    constant : bool
        Stop at the end if all embeddings are identical.
    """

    failures: bool = True
    constant: bool = True


class EmbeddingCache:
    """Cached embeddings in a folder, by encoder identity, `PREPROCESSING_VERSION`, request and content hash.

    Several processes can use the folder at the same time. Each reads the embeddings that existed when it started.
    Every finished batch survives if the process is interrupted; in a remote folder, all but the last minute.

    Parameters
    ----------
    root : Path
        The folder of the cache; a `RemotePath` for object storage.
    """

    checks = OutputChecks()

    def __init__(self, root: Path) -> None:
        self.root = root

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
        """Embed clips, or read their embeddings from the cache.

        Parameters
        ----------
        encoder : Encoder or PrecomputedEmbeddings
        clips : sequence of Path or TarMember
            Audio files or members of tar files. Clips of the same content are embedded once.
        request : EmbeddingRequest
            The output to compute from each clip.
        batch_size : int
            Clips or crops per batch. Halved permanently when the accelerator runs out of memory.
        decoder_threads : int, optional
            Threads that hash, decode and prepare clips ahead of the encoder; by default one per available core, from
            4 to 32 (`default_decoder_threads`). At most decoder_threads + 3 · batch_size
            pieces are in memory, plus the further pieces of decoder_threads + 1 clips.
        audio_root : Path, optional
            Folder that the ids of precomputed embeddings are relative to.

        Yields
        ------
        clip : Path or TarMember
        embedding : Embedding
            As soon as it is available, in any order. The vector is float32, (d,) or, for frames and crops, (rows, d),
            bit-identical to the one on disk. Clips that fail have an error in place of a vector.

        Raises
        ------
        EmbeddingError
            At the end, if all of at least two different clips have identical embeddings; earlier if the encoder fails
            on each of the first `MAX_INITIAL_FAILURES` clips.
        EarmarkError
            If the encoder does not support the request, a server does not respond, or the cache cannot be written.
        """
        if isinstance(encoder, PrecomputedEmbeddings):
            encoder.require_support(request)
            yield from _precomputed(encoder, clips, audio_root)
            return
        encoder.require_support(request)
        with self.opened(encoder, request) as (store, hashes):
            threads = decoder_threads or default_decoder_threads()
            yield from _Run[C](encoder, request, store, hashes, batch_size, self.checks).embed(clips, threads)

    @contextlib.contextmanager
    def opened(
        self, encoder: Encoder, request: EmbeddingRequest
    ) -> Generator[tuple[ShardedArrayStore, ContentHashes], None, None]:
        """The arrays of an encoder and request, and the content hashes, open within a `with` block."""
        hashes = open_hashes(self.root)
        layout = Layout(request.ragged, "<f2" if request.dtype == "float16" else "<f4")
        try:
            with open_store(self.folder(encoder, request), _sidecar(encoder, request), layout) as store:
                yield store, hashes
        finally:
            hashes.close()

    def embed_texts(
        self, identity: str, texts: Sequence[str], embed: Callable[[Sequence[str]], Array], batch_size: int = 16
    ) -> dict[str, Embedding]:
        """Embed sentences, or read their embeddings from the cache.

        Parameters
        ----------
        identity : str
            Name of the model's weights and settings; part of the folder name.
        texts : sequence of str
        embed : callable
            n sentences → (n, d).
        batch_size : int
            Sentences per batch. Halved permanently when the accelerator runs out of memory.

        Returns
        -------
        dict
            {sentence: embedding as returned by the model, or an error}.
        """
        keys = {text: sha256(text.encode()).hexdigest() for text in texts}
        with open_store(self.root / f"{identity}-texts", {"identity": identity}, Layout(False, "<f4")) as store:
            cached = {text: store.get(key) for text, key in keys.items()}
            new = sorted((text for text, vector in cached.items() if vector is None), key=len)  # batches of like length
            adaptive = AdaptiveBatches(embed, batch_size, lambda rows: _checked_text_embedding(rows, store.dimension))
            computed: dict[str, Embedding] = {}
            for batch in in_batches(new, batch_size):
                embeddings = dict(zip(batch, adaptive(batch), strict=True))
                valid = {keys[text]: each.vector for text, each in embeddings.items() if each.vector is not None}
                if valid:
                    store.add(list(valid), list(valid.values()))
                computed |= embeddings
        return {text: Embedding(vector) if vector is not None else computed[text] for text, vector in cached.items()}

    def count(self, encoder: Encoder, clips: Sequence[Clip], *, request: EmbeddingRequest = DEFAULT_REQUEST) -> int:
        """Count the clips whose embeddings are in the cache, without reading audio.

        Parameters
        ----------
        encoder : Encoder
        clips : sequence of Path or TarMember
            Clips that were changed since they were embedded do not count.
        request : EmbeddingRequest
            As for `embed`.
        """
        folder, database = self.folder(encoder, request), self.root / "contents.sqlite"
        if not folder.is_dir() or not database.is_file():
            return 0
        hashes = ContentHashes(database)
        layout = Layout(request.ragged, "<f2" if request.dtype == "float16" else "<f4")
        try:
            with ShardedArrayStore(folder, _sidecar(encoder, request), layout) as store:
                return sum((known := hashes.known_hash(clip)) is not None and known in store for clip in clips)
        finally:
            hashes.close()

    def folder(self, encoder: Encoder, request: EmbeddingRequest = DEFAULT_REQUEST) -> Path:
        """Return the folder of the embeddings of an encoder for a request."""
        return self.root / "-".join(filter(None, [encoder.identity, f"p{PREPROCESSING_VERSION}", request.name]))


def _precomputed(
    encoder: PrecomputedEmbeddings, clips: Sequence[C], root: Path | None
) -> Iterator[tuple[C, Embedding]]:
    """Look up precomputed embeddings; members of tar files by their name."""
    ids = [Path(clip.name) if isinstance(clip, TarMember) else clip for clip in clips]
    embeddings = (embedding for _, embedding in encoder.embed_paths(ids, root))
    yield from zip(clips, embeddings, strict=True)


def _sidecar(encoder: Encoder, request: EmbeddingRequest) -> dict[str, Any]:
    described = {
        "name": encoder.name,
        "identity": encoder.identity,
        "preprocessing": PREPROCESSING_VERSION,
        "sample_rate": encoder.sample_rate,
        "encoder": encoder.description,
    }
    if request == DEFAULT_REQUEST:
        return described
    return {**described, "view": request.description, "hop_seconds": encoder.hop_seconds if request.frames else None}


@dataclass
class _Job(Generic[C]):
    """A clip in progress.

    Attributes
    ----------
    clip : Path or TarMember
    content : str
        Content hash; empty if the clip cannot be read.
    prepared : list or None
        Inputs for the encoder, for the first clip of a content that is not cached.
    vector : array or None
        The cached embedding.
    error : str
        Why the clip cannot be embedded.
    """

    clip: C
    content: str = ""
    prepared: list[Any] | None = None
    vector: Array | None = None
    error: str = ""

    @property
    def pieces(self) -> int:
        """Number of inputs for the encoder."""
        return len(self.prepared or ())


@dataclass(frozen=True)
class _RunningBatch(Generic[C]):
    """A batch that the encoder works on.

    Attributes
    ----------
    batch : sequence of _Job
    pieces : Future
        One embedding or error per input of the encoder.
    """

    batch: Sequence[_Job[C]]
    pieces: Future[list[Embedding]]


class _Run(Generic[C]):
    """One pass over clips.

    Threads hash, decode and prepare. One thread runs the encoder, while the caller's thread writes the batch before.
    """

    def __init__(
        self,
        encoder: Encoder,
        request: EmbeddingRequest,
        store: ShardedArrayStore,
        hashes: ContentHashes,
        batch_size: int,
        checks: OutputChecks,
    ) -> None:
        self._encoder, self._request, self._store, self._checks = encoder, request, store, checks
        self._hashes, self._batch_size = hashes, batch_size
        self._run_in_batches = AdaptiveBatches(self._encode, batch_size, self._validate)
        self._width = store.dimension
        self._claimed: set[str] = set()  # contents that a clip of this run is responsible for
        self._claims = Lock()
        self._failed: dict[str, str] = {}  # {content: error}
        self._waiting: dict[str, list[C]] = {}  # {content in progress: further clips of that content}
        self._constant_output = ConstantOutputCheck(encoder.name)
        self._any_success, self._n_failures = False, 0

    def embed(self, clips: Sequence[C], decoder_threads: int) -> Iterator[tuple[C, Embedding]]:
        batch: list[_Job[C]] = []
        running: _RunningBatch[C] | None = None
        prefetcher = _Prefetcher(self._prepare, clips, decoder_threads, decoder_threads + self._batch_size)
        with ThreadPoolExecutor(1, thread_name_prefix="encoder") as pool, contextlib.closing(iter(prefetcher)) as jobs:
            for job in jobs:
                if running is not None and running.pieces.done():
                    yield from self._finish(running)
                    running = None
                if job.prepared is None:
                    yield from self._resolve(job)
                    continue
                batch.append(job)
                if sum(job.pieces for job in batch) >= self._batch_size:
                    before, running = running, self._start(batch, pool)
                    batch = []
                    if before is not None:
                        yield from self._finish(before)
            before, running = running, self._start(batch, pool) if batch else None
            for each in (before, running):
                if each is not None:
                    yield from self._finish(each)
        if self._checks.constant:
            self._constant_output.require_different_embeddings()

    def _prepare(self, clip: C) -> _Job[C]:
        """Everything before the encoder; runs in a thread."""
        with reading_once(clip):
            return self._prepared(clip)

    def _prepared(self, clip: C) -> _Job[C]:
        job = _Job(clip)
        file = clip.tar if isinstance(clip, TarMember) else clip
        try:
            if not file.is_file():
                read_nonsilent_audio(clip, self._encoder.sample_rate)  # raises with the reason
            job.content = self._hashes.content_hash(clip)
            job.vector = self._store.get(job.content)
            if job.vector is None and self._claim(job.content):
                job.prepared = self._encoder.prepare_clip(
                    read_nonsilent_audio(clip, self._encoder.sample_rate), self._request
                )
        except AudioError as error:
            job.error = str(error).removeprefix(f"{shown_clip(clip)}: ")
        except OSError as error:
            job.error = f"cannot be read ({error.strerror or type(error).__name__})"
        except EarmarkError:
            raise
        except Exception as error:  # an error of a feature extractor concerns this clip only
            job.error = f"cannot be prepared for the model ({shown_cause(error)})"
        return job

    def _claim(self, content: str) -> bool:
        """Whether this is the first clip of a content that is not cached."""
        with self._claims:
            first = content not in self._claimed
            self._claimed.add(content)
            return first

    def _resolve(self, job: _Job[C]) -> Iterator[tuple[C, Embedding]]:
        """Finish a clip that needs no encoder: cached, invalid, or of the same content as one in progress."""
        if job.error:
            if job.content:
                self._failed[job.content] = job.error
            yield from self._results(job, Embedding(None, job.error))
            return
        vector = job.vector if job.vector is not None else self._store.get(job.content)
        if vector is not None:
            self._constant_output.add(job.content, vector)
            yield job.clip, Embedding(vector)
        elif job.content in self._failed:
            yield job.clip, _with_clip_name(job.clip, Embedding(None, self._failed[job.content]))
        else:
            self._waiting.setdefault(job.content, []).append(job.clip)

    def _start(self, batch: Sequence[_Job[C]], pool: ThreadPoolExecutor) -> "_RunningBatch[C]":
        """Run the encoder in its thread."""
        pieces = [piece for job in batch for piece in job.prepared or []]
        return _RunningBatch(batch, pool.submit(self._run_in_batches, pieces))

    def _finish(self, running: "_RunningBatch[C]") -> Iterator[tuple[C, Embedding]]:
        """Wait for the encoder, write the embeddings to disk, then yield them."""
        batch, embedded_pieces = running.batch, iter(running.pieces.result())
        embeddings = [self._combine([next(embedded_pieces) for _ in job.prepared or []]) for job in batch]
        pairs = zip(batch, embeddings, strict=True)
        valid = [(job.content, each.vector) for job, each in pairs if each.vector is not None]
        if valid:
            self._store.add([content for content, _ in valid], [rows for _, rows in valid])
            self._any_success = True
        self._require_success(batch, embeddings)
        for job, embedding in zip(batch, embeddings, strict=True):
            if embedding.vector is None:
                self._failed[job.content] = embedding.error
            else:
                self._constant_output.add(job.content, embedding.vector)
            yield from self._results(job, embedding)

    def _require_success(self, batch: Sequence[_Job[C]], embeddings: Sequence[Embedding]) -> None:
        """Stop early if the encoder fails on every clip."""
        self._n_failures += sum(each.vector is None for each in embeddings)
        if self._checks.failures and not self._any_success and self._n_failures >= MAX_INITIAL_FAILURES:
            raise EmbeddingError(
                f"{self._encoder.name} failed on each of the first {self._n_failures} clips. Last error, of "
                f"{shown_clip(batch[-1].clip)}: {embeddings[-1].error}"
            )

    def _combine(self, pieces: Sequence[Embedding]) -> Embedding:
        """The embedding of a clip from those of its pieces; an error if any piece has one."""
        rows = [piece.vector for piece in pieces if piece.vector is not None]
        if len(rows) == len(pieces):
            return Embedding(self._encoder.combine_pieces(rows, self._request))
        number, error = next((i, piece.error) for i, piece in enumerate(pieces, 1) if piece.error)
        if self._request.crop_seconds is not None:
            return Embedding(None, f"crop {number} of {len(pieces)}: {error}")
        return Embedding(None, f"window {number} of {len(pieces)}: {error}" if len(pieces) > 1 else error)

    def _results(self, job: _Job[C], embedding: Embedding) -> Iterator[tuple[C, Embedding]]:
        """The embedding for the clip of a job and all clips of the same content."""
        for clip in (job.clip, *self._waiting.pop(job.content, [])):
            yield clip, _with_clip_name(clip, embedding)

    def _encode(self, prepared: Sequence[Any]) -> Any:
        """One array per piece."""
        try:
            return self._encoder.encode_prepared(prepared, self._request)
        except (EarmarkError, RuntimeError, ValueError, MemoryError):
            raise
        except Exception as error:  # AdaptiveBatches handles RuntimeError: it isolates the clip that fails
            raise RuntimeError(f"{type(error).__name__}: {shown_cause(error)}") from error

    def _validate(self, output: Array) -> Embedding:
        """The output as it will be read from disk, or an error."""
        if fault := embedding_fault(output, self._width or self._encoder.width(self._request)):
            return Embedding(None, fault)
        rows = output.astype(np.float32)
        if self._request.dtype == "float16":
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float16).astype(np.float32)
            if not np.isfinite(rows).all():
                return Embedding(None, "the frames exceed the range of float16 (±65,504)")
        self._width = rows.shape[-1]
        return Embedding(rows)


class ConstantOutputCheck:
    """Detects encoders whose embeddings of different clips are all identical.

    Frames and crops are compared by their mean, because clips of different lengths have different numbers of rows.

    Parameters
    ----------
    name : str
        Name of the encoder, for the error message.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: tuple[str, Array] | None = None
        self._identical: set[str] = set()  # contents whose embedding equals the first one
        self._different = False

    def add(self, content: str, embedding: Array) -> None:
        """Add an embedding (d,) or (rows, d). content: hash of the clip."""
        if self._different or (self._first is not None and content == self._first[0]):
            return
        vector = embedding.mean(axis=0) if embedding.ndim == 2 else embedding
        if self._first is None:
            self._first = (content, vector)
        else:
            self._different = not indistinguishable(self._first[1], vector)
            self._identical.add(content)

    def require_different_embeddings(self) -> None:
        """Raise EmbeddingError if at least two different clips were added and all embeddings are identical."""
        if self._identical and not self._different:
            raise EmbeddingError(
                f"{self._name}: all {1 + len(self._identical):,} clips have identical embeddings. "
                "Check that the weights are loaded."
            )


def _checked_text_embedding(vector: Array, dimension: int | None) -> Embedding:
    fault = embedding_fault(vector, dimension)
    return Embedding(None, fault) if fault else Embedding(vector.astype(np.float32))


def _with_clip_name(clip: Clip, embedding: Embedding) -> Embedding:
    return Embedding(None, f"{shown_clip(clip)}: {embedding.error}") if embedding.error else embedding


class _Prefetcher(Generic[C]):
    """Jobs for clips, in order, prepared by threads ahead of the caller.

    `workers` clips are in progress at any time, unless `max_ready` clips or pieces are ready and not yet consumed.
    """

    def __init__(self, prepare: Callable[[C], _Job[C]], clips: Sequence[C], workers: int, max_ready: int) -> None:
        self._prepare, self._remaining, self._workers, self._max_ready = prepare, iter(clips), workers, max_ready
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decoder")
        self._submitted: deque[Future[_Job[C]]] = deque()
        self._in_progress = self._ready = 0
        self._lock = RLock()

    def __iter__(self) -> Generator[_Job[C], None, None]:
        try:
            self._submit()
            while self._submitted:
                job = self._submitted.popleft().result()
                with self._lock:
                    self._ready -= max(1, job.pieces)
                self._submit()
                yield job
        finally:
            with self._lock:
                self._remaining = iter(())
            self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        with self._lock:
            while self._in_progress < self._workers and self._ready < self._max_ready:
                if (clip := next(self._remaining, None)) is None:
                    return
                self._in_progress += 1
                self._submitted.append(self._pool.submit(self._prepare_and_count, clip))

    def _prepare_and_count(self, clip: C) -> _Job[C]:
        """Prepare a clip and update the counts before the result is visible, so no consumed job is uncounted."""
        job = self._prepare(clip)
        with self._lock:
            self._in_progress -= 1
            self._ready += max(1, job.pieces)
            self._submit()
        return job

"""Clips → embeddings, each made once: what is in the store is read, the rest is embedded and kept."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Generic, TypeVar

import numpy as np

from earmark.audio.clips import AudioError, Clip, TarMember, shown_clip
from earmark.audio.decode import read_nonsilent_audio
from earmark.embeddings.content_hashes import ContentHashes
from earmark.embeddings.shards import Array, Layout, ShardedArrayStore
from earmark.errors import EarmarkError, shown_cause
from earmark.models.batching import AdaptiveBatches, in_batches
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import EmbeddingError, Encoder, embedding_fault, indistinguishable
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.encoders.precomputed import PrecomputedEmbeddings

IN_VAIN = 64  # clips that an encoder may fail on before it ever works
PREPROCESSING_VERSION = 1  # raise it whenever decoding, mixing down or resampling changes what an encoder hears
C = TypeVar("C", bound=Clip)


class EmbeddingCache:
    """Embeddings below a folder, by encoder identity, content hash, PREPROCESSING_VERSION and request.

    Several processes may use the folder at the same time; each finds what was finished before it began. A process
    that is killed leaves every batch behind that it had finished.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def embed(
        self,
        encoder: Encoder | PrecomputedEmbeddings,
        paths: Sequence[C],
        *,
        request: EmbeddingRequest = DEFAULT_REQUEST,
        batch_size: int = 16,
        decoder_threads: int = 4,
        audio_root: Path | None = None,
    ) -> Iterator[tuple[C, Embedding]]:
        """Each clip with its numbers (as the encoder gave them) or what is wrong, as soon as it is known, in any order.

        paths: files, or members of tar files. view: what is wanted of each. `Embedding.vector` is (d,), and where a
        clip has as many rows as its length gives, frames or crops, (rows, d): always float32, and what is on the disk
        to the last bit, the first time too. Clips of the same content are embedded once. batch_size: clips, or crops,
        that the encoder hears at once; halved for good when the accelerator's memory does not suffice. decoder_threads:
        threads that hash, decode and prepare ahead. At most decoder_threads + 3 · batch_size pieces are held
        at a time, plus those of decoder_threads + 1 clips. audio_root: what the ids of precomputed embeddings
        are relative to.
        Raises EarmarkError for a view that the encoder cannot give, EmbeddingError at the end where an encoder gives
        two or more different clips one and the same vector, and passes on what ends a run: no permission, a server
        that stays away, a full disk.
        """
        if isinstance(encoder, PrecomputedEmbeddings):
            encoder.require_support(request)
            yield from _given(encoder, paths, audio_root)
            return
        encoder.require_support(request)
        contents = ContentHashes(self.root / "contents.sqlite")
        layout = Layout(request.ragged, "<f2" if request.dtype == "float16" else "<f4")
        try:
            with ShardedArrayStore(self.folder(encoder, request), _described(encoder, request), layout) as shelf:
                yield from _Run[C](encoder, request, shelf, contents, batch_size).all(paths, decoder_threads)
        finally:
            contents.close()

    def embed_texts(
        self, identity: str, texts: Sequence[str], embed: Callable[[Sequence[str]], Array], batch_size: int = 16
    ) -> dict[str, Embedding]:
        """{sentence: its numbers, as the model gave them, or what is wrong}; each is embedded once, ever.

        identity: names the model's weights and settings. embed: n sentences → (n, d).
        """
        keys = {text: sha256(text.encode()).hexdigest() for text in texts}
        with ShardedArrayStore(self.root / f"{identity}-texts", {"identity": identity}, Layout(False, "<f4")) as shelf:
            known = {text: shelf.get(key) for text, key in keys.items()}
            new = sorted((text for text, vector in known.items() if vector is None), key=len)  # those share batches
            adaptive = AdaptiveBatches(embed, batch_size, lambda rows: _faultless(rows, shelf.dimension))
            found: dict[str, Embedding] = {}
            for batch in in_batches(new, batch_size):
                embedded = dict(zip(batch, adaptive(batch), strict=True))
                good = {keys[text]: one.vector for text, one in embedded.items() if one.vector is not None}
                if good:
                    shelf.add(list(good), list(good.values()))
                found |= embedded
        return {text: Embedding(vector) if vector is not None else found[text] for text, vector in known.items()}

    def folder(self, encoder: Encoder, request: EmbeddingRequest = DEFAULT_REQUEST) -> Path:
        """Where what was asked of an encoder is."""
        return self.root / "-".join(filter(None, [encoder.identity, f"p{PREPROCESSING_VERSION}", request.name]))


def _given(encoder: PrecomputedEmbeddings, clips: Sequence[C], root: Path | None) -> Iterator[tuple[C, Embedding]]:
    """Vectors made elsewhere; those of a tar file's member by its name."""
    ids = [Path(clip.name) if isinstance(clip, TarMember) else clip for clip in clips]
    yield from ((clip, found) for clip, (_, found) in zip(clips, encoder.embed_paths(ids, root), strict=True))


def _described(encoder: Encoder, request: EmbeddingRequest) -> dict[str, Any]:
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
    """A clip on its way. prepared: its pieces, set for the first clip of a content that is new. vector: set for a
    known one.
    """

    path: C
    content: str = ""
    prepared: list[Any] | None = None
    vector: Array | None = None
    error: str = ""

    @property
    def pieces(self) -> int:
        """How many inputs for the encoder it holds."""
        return len(self.prepared or ())


class _Run(Generic[C]):
    """One pass over clips. Threads hash, decode and prepare; the caller's thread runs the encoder and writes."""

    def __init__(
        self,
        encoder: Encoder,
        request: EmbeddingRequest,
        shelf: ShardedArrayStore,
        contents: ContentHashes,
        batch_size: int,
    ) -> None:
        self._encoder, self._view, self._shelf = encoder, request, shelf
        self._contents, self._batch_size = contents, batch_size
        self._in_batches = AdaptiveBatches(self._rows, batch_size, self._checked)
        self._width = shelf.dimension
        self._claimed: set[str] = set()
        self._claims = Lock()
        self._failed: dict[str, str] = {}  # content → what is wrong with it
        self._waiting: dict[str, list[C]] = {}  # content on its way → further files of it
        self._variety = ConstantOutputCheck(encoder.name)
        self._works, self._in_vain = False, 0

    def all(self, paths: Sequence[C], decoder_threads: int) -> Iterator[tuple[C, Embedding]]:
        batch: list[_Job[C]] = []
        ahead = _Ahead(self._prepare, paths, decoder_threads, decoder_threads + 2 * self._batch_size)
        with contextlib.closing(iter(ahead)) as jobs:
            for job in jobs:
                if job.prepared is not None:
                    batch.append(job)
                    if sum(job.pieces for job in batch) >= self._batch_size:
                        yield from self._embed(batch)
                        batch = []
                else:
                    yield from self._settle(job)
            if batch:
                yield from self._embed(batch)
        self._variety.require()

    def _prepare(self, path: C) -> _Job[C]:
        """In a thread: everything but the encoder."""
        job = _Job(path)
        file = path.tar if isinstance(path, TarMember) else path
        try:
            if not file.is_file():
                read_nonsilent_audio(path, self._encoder.sample_rate)  # says what is wrong
            job.content = self._contents.of(path)
            job.vector = self._shelf.get(job.content)
            if job.vector is None and self._claim(job.content):
                job.prepared = self._encoder.prepare_clip(
                    read_nonsilent_audio(path, self._encoder.sample_rate), self._view
                )
        except AudioError as error:
            job.error = str(error).removeprefix(f"{shown_clip(path)}: ")
        except OSError as error:
            job.error = f"cannot be read ({error.strerror or type(error).__name__})"
        except EarmarkError:
            raise
        except Exception as error:  # whatever an extractor raises, the other clips go on
            job.error = f"cannot be prepared for the model ({shown_cause(error)})"
        return job

    def _claim(self, content: str) -> bool:
        """Whether this is the first clip of a content that is not in the store."""
        with self._claims:
            first = content not in self._claimed
            self._claimed.add(content)
            return first

    def _settle(self, job: _Job[C]) -> Iterator[tuple[C, Embedding]]:
        """A clip that the encoder need not hear: known, broken, or of the same content as one on its way."""
        if job.error:
            if job.content:
                self._failed[job.content] = job.error
            yield from self._answers(job, Embedding(None, job.error))
            return
        vector = job.vector if job.vector is not None else self._shelf.get(job.content)
        if vector is not None:
            self._variety.note(job.content, vector)
            yield job.path, Embedding(vector)
        elif job.content in self._failed:
            yield job.path, _named(job.path, Embedding(None, self._failed[job.content]))
        else:
            self._waiting.setdefault(job.content, []).append(job.path)

    def _embed(self, batch: Sequence[_Job[C]]) -> Iterator[tuple[C, Embedding]]:
        """Through the encoder, onto the disk, and only then to the caller."""
        heard_pieces = iter(self._in_batches([piece for job in batch for piece in job.prepared or []]))
        found = [self._joined([next(heard_pieces) for _ in job.prepared or []]) for job in batch]
        good = [(job.content, one.vector) for job, one in zip(batch, found, strict=True) if one.vector is not None]
        if good:
            self._shelf.add([content for content, _ in good], [rows for _, rows in good])
            self._works = True
        self._require_some(batch, found)
        for job, one in zip(batch, found, strict=True):
            if one.vector is None:
                self._failed[job.content] = one.error
            else:
                self._variety.note(job.content, one.vector)
            yield from self._answers(job, one)

    def _require_some(self, batch: Sequence[_Job[C]], found: Sequence[Embedding]) -> None:
        """An encoder that fails on every clip is not asked for a million more."""
        self._in_vain += sum(one.vector is None for one in found)
        if not self._works and self._in_vain >= IN_VAIN:
            clip, error = shown_clip(batch[-1].path), found[-1].error
            raise EmbeddingError(
                f"{self._encoder.name}: fails on each of the first {self._in_vain} clips, on {clip}: {error}"
            )

    def _joined(self, pieces: Sequence[Embedding]) -> Embedding:
        """A clip's rows, one for each crop, or one for all of its pieces."""
        rows = [piece.vector for piece in pieces if piece.vector is not None]
        if len(rows) == len(pieces):
            return Embedding(self._encoder.combine_pieces(rows, self._view))
        number, error = next((i, piece.error) for i, piece in enumerate(pieces, 1) if piece.error)
        if self._view.crop_seconds is not None:
            return Embedding(None, f"crop {number} of {len(pieces)}: {error}")
        return Embedding(None, f"window {number} of {len(pieces)}: {error}" if len(pieces) > 1 else error)

    def _answers(self, job: _Job[C], found: Embedding) -> Iterator[tuple[C, Embedding]]:
        for path in (job.path, *self._waiting.pop(job.content, [])):
            yield path, _named(path, found)

    def _rows(self, prepared: Sequence[Any]) -> Any:
        """An array for each piece; AdaptiveBatches asks for nothing but that they can be counted through."""
        try:
            return self._encoder.encode_prepared(prepared, self._view)
        except (EarmarkError, RuntimeError, ValueError, MemoryError):
            raise
        except Exception as error:  # a user's model may raise anything; the clip is at fault until all are
            raise RuntimeError(f"{type(error).__name__}: {shown_cause(error)}") from error

    def _checked(self, found: Array) -> Embedding:
        """As it will be read from the disk, or what is wrong with it."""
        if fault := embedding_fault(found, self._width or self._encoder.width(self._view)):
            return Embedding(None, fault)
        rows = found.astype(np.float32)
        if self._view.dtype == "float16":
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float16).astype(np.float32)
            if not np.isfinite(rows).all():
                return Embedding(None, "the frames are beyond what float16 holds (65,504); store them in float32")
        self._width = rows.shape[-1]
        return Embedding(rows)


class ConstantOutputCheck:
    """Whether an encoder tells any two clips apart."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: tuple[str, Array] | None = None
        self._alike: set[str] = set()
        self._varied = False

    def note(self, content: str, found: Array) -> None:
        """Clips of different lengths have different numbers of rows; what counts is their mean."""
        if self._varied or (self._first is not None and content == self._first[0]):
            return
        vector = found.mean(axis=0) if found.ndim == 2 else found
        if self._first is None:
            self._first = (content, vector)
        else:
            self._varied = not indistinguishable(self._first[1], vector)
            self._alike.add(content)

    def require(self) -> None:
        if self._alike and not self._varied:
            raise EmbeddingError(
                f"{self._name}: is constant, it gives one and the same embedding for all {1 + len(self._alike):,} "
                "different clips; check that its weights are loaded."
            )


def _faultless(rows: Array, dimension: int | None) -> Embedding:
    fault = embedding_fault(rows, dimension)
    return Embedding(None, fault) if fault else Embedding(rows.astype(np.float32))


def _named(path: Clip, found: Embedding) -> Embedding:
    return Embedding(None, f"{shown_clip(path)}: {found.error}") if found.error else found


class _Ahead(Generic[C]):
    """The work on each path, in order, done by threads ahead of the caller.

    At any time, `workers` paths are being worked on, unless so many clips or pieces (`most`) are ready and not taken.
    """

    def __init__(self, work: Callable[[C], _Job[C]], paths: Sequence[C], workers: int, most: int) -> None:
        self._work, self._remaining, self._workers, self._most = work, iter(paths), workers, most
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decoder")
        self._begun: deque[Future[_Job[C]]] = deque()
        self._working = self._ready = 0
        self._lock = RLock()

    def __iter__(self) -> Generator[_Job[C], None, None]:
        try:
            self._begin()
            while self._begun:
                job = self._begun.popleft().result()
                with self._lock:
                    self._ready -= max(1, job.pieces)
                self._begin()
                yield job
        finally:
            with self._lock:
                self._remaining = iter(())
            self._pool.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        with self._lock:
            while self._working < self._workers and self._ready < self._most:
                if (path := next(self._remaining, None)) is None:
                    return
                self._working += 1
                self._begun.append(self._pool.submit(self._counted, path))

    def _counted(self, path: C) -> _Job[C]:
        """The work, counted before anybody can see its result: so what is taken was counted, and what follows begun."""
        job = self._work(path)
        with self._lock:
            self._working -= 1
            self._ready += max(1, job.pieces)
            self._begin()
        return job

"""Clips → embeddings, each made once: what is in the store is read, the rest is embedded and kept."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from earmark.audio.decode import AudioError
from earmark.embeddings.contents import ContentHashes
from earmark.embeddings.shards import Array, Shelf
from earmark.errors import EarmarkError
from earmark.models.embedders import shown_cause
from earmark.models.encoders import EmbeddingError, Encoder, same, wrong
from earmark.models.encoders.given import GivenEmbeddings
from earmark.models.scorers.cosine import Embedding
from earmark.models.scorers.in_process import Careful, heard

PREPROCESSING = 1  # raise it whenever decoding, mixing down or resampling changes what an encoder hears


class EmbeddingStore:
    """Embeddings below a folder, by encoder identity, sha256 of the audio file, and PREPROCESSING.

    Several processes may use the folder at the same time; each finds what was finished before it began. A process
    that is killed leaves every batch behind that it had finished.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def embed(
        self,
        encoder: Encoder | GivenEmbeddings,
        paths: Sequence[Path],
        *,
        batch_size: int = 16,
        decoders: int = 4,
        audio_root: Path | None = None,
    ) -> Iterator[tuple[Path, Embedding]]:
        """Each path with its vector (as the encoder gave it) or what is wrong, as soon as it is known, in any order.

        Files of the same content are embedded once. batch_size: clips that the encoder hears at once; halved for
        good when the accelerator's memory does not suffice. decoders: threads that hash, decode and prepare ahead of
        the encoder. audio_root: what the ids of embeddings made elsewhere are relative to.
        Raises EmbeddingError at the end where an encoder gives two or more different clips one and the same vector,
        and passes on what ends a run: no permission, a server that stays away, a full disk.
        """
        if isinstance(encoder, GivenEmbeddings):
            yield from encoder.embed_paths(paths, audio_root)
            return
        contents = ContentHashes(self.root / "contents.sqlite")
        try:
            with Shelf(self.folder(encoder), _described(encoder)) as shelf:
                yield from _Run(encoder, shelf, contents, batch_size).all(paths, decoders)
        finally:
            contents.close()

    def folder(self, encoder: Encoder) -> Path:
        """Where an encoder's embeddings are."""
        return self.root / f"{encoder.identity}-p{PREPROCESSING}"


def _described(encoder: Encoder) -> dict[str, Any]:
    return {
        "name": encoder.name,
        "identity": encoder.identity,
        "preprocessing": PREPROCESSING,
        "sample_rate": encoder.sample_rate,
        "encoder": encoder.description,
    }


@dataclass
class _Job:
    """A clip on its way. prepared: set for the first clip of a content that is new. vector: set for a known one."""

    path: Path
    content: str = ""
    prepared: Any = None
    vector: Array | None = None
    error: str = ""


class _Run:
    """One pass over clips. Threads hash, decode and prepare; the caller's thread runs the encoder and writes."""

    def __init__(self, encoder: Encoder, shelf: Shelf, contents: ContentHashes, batch_size: int) -> None:
        self._encoder, self._shelf, self._contents, self._batch_size = encoder, shelf, contents, batch_size
        self._careful = Careful(self._vectors, batch_size, self._checked)
        self._claimed: set[str] = set()
        self._claims = Lock()
        self._failed: dict[str, str] = {}  # content → what is wrong with it
        self._waiting: dict[str, list[Path]] = {}  # content on its way → further files of it
        self._variety = _Variety(encoder.name)

    def all(self, paths: Sequence[Path], decoders: int) -> Iterator[tuple[Path, Embedding]]:
        batch: list[_Job] = []
        pool = ThreadPoolExecutor(decoders, thread_name_prefix="decoder")
        try:
            for job in _ahead(pool, self._prepare, paths, decoders + 2 * self._batch_size):
                if job.prepared is not None:
                    batch.append(job)
                    if len(batch) == self._batch_size:
                        yield from self._embed(batch)
                        batch = []
                else:
                    yield from self._settle(job)
            if batch:
                yield from self._embed(batch)
        finally:
            pool.shutdown(cancel_futures=True)
        self._variety.require()

    def _prepare(self, path: Path) -> _Job:
        """In a thread: everything but the encoder."""
        job = _Job(path)
        try:
            if not path.is_file():
                heard(path, self._encoder.sample_rate)  # says what is wrong
            job.content = self._contents.of(path)
            job.vector = self._shelf.get(job.content)
            if job.vector is None and self._claim(job.content):
                job.prepared = self._encoder.prepare(heard(path, self._encoder.sample_rate))
        except AudioError as error:
            job.error = str(error).removeprefix(f"{path.name}: ")
        except OSError as error:
            job.error = f"cannot be read ({error.strerror or type(error).__name__})"
        except EarmarkError:
            raise
        except Exception as error:  # whatever an extractor raises, the other clips go on
            job.error = f"cannot be prepared for the encoder ({shown_cause(error)})"
        return job

    def _claim(self, content: str) -> bool:
        """Whether this is the first clip of a content that is not in the store."""
        with self._claims:
            first = content not in self._claimed
            self._claimed.add(content)
            return first

    def _settle(self, job: _Job) -> Iterator[tuple[Path, Embedding]]:
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

    def _embed(self, batch: Sequence[_Job]) -> Iterator[tuple[Path, Embedding]]:
        """Through the encoder, onto the disk, and only then to the caller."""
        found = self._careful([job.prepared for job in batch])
        good = [(job.content, one.vector) for job, one in zip(batch, found, strict=True) if one.vector is not None]
        if good:
            self._shelf.add([content for content, _ in good], np.stack([vector for _, vector in good]))
        for job, one in zip(batch, found, strict=True):
            if one.vector is None:
                self._failed[job.content] = one.error
            else:
                self._variety.note(job.content, one.vector)
            yield from self._answers(job, one)

    def _answers(self, job: _Job, found: Embedding) -> Iterator[tuple[Path, Embedding]]:
        for path in (job.path, *self._waiting.pop(job.content, [])):
            yield path, _named(path, found)

    def _vectors(self, prepared: Sequence[Any]) -> Array:
        try:
            found = self._encoder.embed_prepared(prepared)
        except (EarmarkError, RuntimeError, ValueError, MemoryError):
            raise
        except Exception as error:  # a user's model may raise anything; the clip is at fault until all are
            raise RuntimeError(f"{type(error).__name__}: {shown_cause(error)}") from error
        self._encoder.require_shape(found, len(prepared))
        return found

    def _checked(self, vector: Array) -> Embedding:
        fault = wrong(vector, self._shelf.dimension or self._encoder.dimension)
        return Embedding(None, fault) if fault else Embedding(vector.astype(np.float32))


class _Variety:
    """Whether an encoder tells any two clips apart."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: tuple[str, Array] | None = None
        self._alike: set[str] = set()
        self._varied = False

    def note(self, content: str, vector: Array) -> None:
        if self._first is None:
            self._first = (content, vector)
        elif not self._varied and content != self._first[0]:
            self._varied = not same(self._first[1], vector)
            self._alike.add(content)

    def require(self) -> None:
        if self._alike and not self._varied:
            raise EmbeddingError(
                f"{self._name}: is constant, it gives one and the same embedding for all {1 + len(self._alike):,} "
                "different clips; check that its weights are loaded."
            )


def _named(path: Path, found: Embedding) -> Embedding:
    return Embedding(None, f"{path.name}: {found.error}") if found.error else found


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Path], _Job], paths: Sequence[Path], most: int) -> Iterator[_Job]:
    """The work on each path in order, at most so many of them begun and not taken."""
    remaining = iter(paths)
    begun: deque[Future[_Job]] = deque(pool.submit(work, path) for path in islice(remaining, most))
    while begun:
        job = begun.popleft().result()
        begun.extend(pool.submit(work, path) for path in islice(remaining, 1))
        yield job

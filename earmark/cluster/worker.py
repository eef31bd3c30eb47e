"""What runs in a worker process on a node: embeds shards of clips into the shared embedding cache."""

import contextlib
import os
import socket
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from earmark.audio.clips import Clip
from earmark.cluster.session import ray_module
from earmark.embeddings.cache import EmbeddingCache, OutputChecks
from earmark.embeddings.content_hashes import ContentHashes
from earmark.embeddings.shards import ShardedArrayStore
from earmark.errors import EarmarkError, shown_cause
from earmark.models.encoders.base import EmbeddingError, Encoder
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.output import EmbeddingRequest


class EncoderSource(Protocol):
    """Loads an encoder in a worker process."""

    def load(self) -> Encoder:
        """Load the encoder."""


@dataclass(frozen=True)
class EncoderFromOptions:
    """The encoder of `--encoder`."""

    options: EncoderOptions

    def load(self) -> Encoder:
        """Load the encoder."""
        encoder = load_encoder_from_options(self.options)
        assert isinstance(encoder, Encoder)
        return encoder


@dataclass(frozen=True)
class AudioTextSource:
    """The audio encoder of an audio-text model; attributes as the parameters of `load_model`."""

    name: str
    device: str
    dtype: str
    max_seconds: float | None
    clap: bool

    def load(self) -> Encoder:
        """Load the encoder."""
        from earmark.models.audio_text.encoder import AudioTextEncoder
        from earmark.models.audio_text.loading import load_model

        return AudioTextEncoder(
            load_model(self.name, device=self.device, dtype=self.dtype, max_seconds=self.max_seconds, clap=self.clap)
        )


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of all workers of a run.

    Attributes
    ----------
    source : EncoderSource
    cache : Path
        Root of the embedding cache.
    folder : Path
        Working directory, which relative paths refer to.
    """

    source: EncoderSource
    cache: Path
    folder: Path


@dataclass(frozen=True)
class Shard:
    """Clips that one worker embeds.

    Attributes
    ----------
    clips : tuple of Clip
    request : EmbeddingRequest
    batch_size, decoder_threads : int
        As for `EmbeddingCache.embed`.
    stop_early : bool
        Whether to stop if the encoder fails on all of the first clips.
    """

    clips: tuple[Clip, ...]
    request: EmbeddingRequest
    batch_size: int
    decoder_threads: int
    stop_early: bool = True


@dataclass(frozen=True)
class ShardReport:
    """What a worker did.

    Attributes
    ----------
    embedded : int
        Clips whose embeddings are in the cache.
    errors : dict
        {clip: why it has no embedding}.
    useless : str
        Why the worker stopped early, if the encoder failed on each of the first clips.
    stopped : str
        Why no further clip can be embedded, such as a full disk.
    """

    embedded: int = 0
    errors: dict[Clip, str] | None = None
    useless: str = ""
    stopped: str = ""


@dataclass(frozen=True)
class WorkerReport:
    """Where a worker runs and what it has loaded.

    Attributes
    ----------
    host : str
        Name of the machine.
    node : str
        Ray's name of the node.
    identity : str
        Identity of the encoder; empty if it cannot be loaded.
    error : str
        Why it cannot be loaded.
    """

    host: str
    node: str
    identity: str = ""
    error: str = ""


class Worker:
    """A process with a model. Ray runs its methods one after the other.

    Parameters
    ----------
    settings : WorkerSettings
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._encoder: Encoder | None = None
        self._cache: _OpenCache | None = None

    def load(self) -> WorkerReport:
        """Load the model."""
        host, node = socket.gethostname(), ray_module().get_runtime_context().get_node_id()
        try:
            os.chdir(self._settings.folder)
            self._encoder = self._settings.source.load()
        except (Exception, SystemExit) as error:  # a user's model may raise anything
            text = str(error) if isinstance(error, EarmarkError) else f"{type(error).__name__}: {shown_cause(error)}"
            return WorkerReport(host, node, error=text)
        self._cache = _OpenCache(self._settings.cache)
        return WorkerReport(host, node, self._encoder.identity)

    def embed(self, shard: Shard) -> ShardReport:
        """Embed the clips of a shard that are not in the cache, and make them permanent."""
        assert self._encoder is not None and self._cache is not None
        self._cache.checks = OutputChecks(failures=shard.stop_early, constant=False)
        embedded, errors = 0, dict[Clip, str]()
        try:
            for clip, embedding in self._cache.embed(
                self._encoder,
                shard.clips,
                request=shard.request,
                batch_size=shard.batch_size,
                decoder_threads=shard.decoder_threads,
            ):
                if embedding.vector is None:
                    errors[clip] = embedding.error
                else:
                    embedded += 1
            self._cache.flush()
        except EmbeddingError as error:
            return ShardReport(embedded, errors, useless=str(error))
        except (EarmarkError, OSError) as error:
            return ShardReport(embedded, errors, stopped=str(error))
        return ShardReport(embedded, errors)


class _OpenCache(EmbeddingCache):
    """An embedding cache that stays open from one shard to the next, since opening it reads the index of all arrays."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._key: tuple[str, EmbeddingRequest] | None = None
        self._open: tuple[ShardedArrayStore, ContentHashes] | None = None
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def opened(
        self, encoder: Encoder, request: EmbeddingRequest
    ) -> Generator[tuple[ShardedArrayStore, ContentHashes], None, None]:
        """As in the base class; closed when another request is opened."""
        if self._open is None or self._key != (encoder.identity, request):
            self._stack.close()
            self._open = self._stack.enter_context(super().opened(encoder, request))
            self._key = (encoder.identity, request)
        yield self._open

    def flush(self) -> None:
        """Make embeddings and hashes permanent."""
        if self._open is not None:
            store, hashes = self._open
            store.flush()
            hashes.flush()

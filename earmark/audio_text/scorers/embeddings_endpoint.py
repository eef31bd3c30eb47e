"""Score pairs with a server that embeds clips and sentences (see `models.embeddings_api`).

Embeddings are stored in the journal of the run and not in the embedding cache: the weights behind a URL are unknown
and may change. For the same reason, a run that continues first requests one known sentence and one known clip again.
"""

import contextlib
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from earmark.audio.decode import AudioError, read_audio
from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.audio_text.scorers.cosine import (
    IDENTICAL_DISTANCE,
    NEARLY_IDENTICAL_DISTANCE,
    cosine_scores,
    max_distance_from_first,
    pairs_by_clip,
    unique_texts,
)
from earmark.audio_text.scorers.parallel import in_parallel
from earmark.errors import EarmarkError
from earmark.files.hashing import file_hash
from earmark.files.safe_text import one_line, shown_url
from earmark.models.embedding import Embedding, Vector, unit_embedding
from earmark.models.embeddings_api import (
    EmbeddingsServer,
    Modality,
    data_uri,
    from_base64,
    to_base64,
    wav_bytes,
)
from earmark.models.http import Client, RefusedError, StoppedError, TransientError
from earmark.models.journal import Journal, journal_key

MAX_BATCH = 32


@dataclass(frozen=True)
class EmbeddedBatch:
    """Embeddings of a batch, in order."""

    embeddings: list[Embedding]

    @property
    def error(self) -> str:
        """The first error if every embedding failed; otherwise empty."""
        return "" if any(not e.error for e in self.embeddings) else self.embeddings[0].error


@dataclass(frozen=True)
class EmbeddingsEndpointScorer:
    """Score pairs by the cosine similarity of embeddings from a server.

    Attributes
    ----------
    client : Client
    journal : Journal
        Stores every embedding.
    model : str
        Model name to request.
    batch_size : int
        Clips or sentences per request; at most 32 are sent.
    concurrency : int
        Number of concurrent requests.
    sample_rate : int or None
        Sample rate in Hz to resample clips to, sent as 16-bit WAV; None sends files unchanged.
    max_consecutive_failures : int
        Number of consecutive failed requests after which the run stops.
    warnings : list of str
        Filled during scoring, for the user.
    """

    client: Client
    journal: Journal
    model: str = "default"
    batch_size: int = 8
    concurrency: int = 4
    sample_rate: int | None = None
    max_consecutive_failures: int = 20
    warnings: list[str] = field(default_factory=list)

    @property
    def _server(self) -> EmbeddingsServer:
        return EmbeddingsServer(self.client, self.model)

    @property
    def _shown_url(self) -> str:
        return shown_url(self.client.url)

    def __call__(self, pairs: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
        """Score pairs: embed all sentences first, then yield the pairs of each clip as its embedding arrives.

        Yields
        ------
        tuple of int and Score

        Raises
        ------
        StoppedError
            If too many consecutive requests fail, or a known input cannot be requested again.
        UnauthorisedError
            If the server requires another token.
        MissingError
            If the journal holds embeddings of another model.
        EarmarkError
            If the embeddings of all sentences, or of all clips, are identical. For clips, after the last score.
        """
        indices = pairs_by_clip(pairs)
        self._require_same_model(unique_texts(pairs), list(indices))
        texts: dict[str, Embedding] = dict(self._embed_all("text", unique_texts(pairs)))
        self._check_text_embeddings([e.vector for e in texts.values() if e.vector is not None])
        dimension = next((len(e.vector) for e in texts.values() if e.vector is not None), None)
        first: Vector | None = None
        identical: list[Path] = []
        n_embedded = 0
        for clip, raw in self._embed_all("audio", list(indices)):
            embedding = unit_embedding(raw.vector, dimension) if raw.vector is not None else raw
            if embedding.vector is not None:
                first = embedding.vector if first is None else first
                if (max_distance_from_first([first, embedding.vector]) or 0.0) <= IDENTICAL_DISTANCE:
                    identical.append(clip)
            n_embedded += embedding.vector is not None
            yield from cosine_scores(pairs, indices[clip], embedding, texts)
        if len(identical) == n_embedded and len(contents := {_content_hash(clip) for clip in identical}) > 1:
            raise EarmarkError(self._identical_embeddings(f"{len(contents):,} different clips"))

    def _check_text_embeddings(self, vectors: Sequence[Vector]) -> None:
        """Raise EarmarkError if all text embeddings are identical; warn if they are nearly identical."""
        distance = max_distance_from_first(vectors)
        if distance is None or distance > NEARLY_IDENTICAL_DISTANCE:
            return
        if distance <= IDENTICAL_DISTANCE:
            raise EarmarkError(self._identical_embeddings(f"{len(vectors):,} different sentences"))
        self.warnings.append(
            f"{self._shown_url}: the embeddings of all {len(vectors):,} sentences are nearly identical (within "
            f"{distance:.2g} of the first), so scores hardly depend on the sentence. Check that the server uses the "
            "text encoder and has loaded its weights."
        )

    def _identical_embeddings(self, inputs: str) -> str:
        return (
            f"{self._shown_url}: the embeddings of all {inputs} are identical. Check that the model's weights are "
            "loaded and that the server embeds the inputs it receives. Then run the same command with --restart."
        )

    def _require_same_model(self, texts: Sequence[str], clips: Sequence[Path]) -> None:
        """Request the first stored sentence and the first stored clip again and compare the embeddings."""
        if not len(self.journal):
            return
        pairs: list[tuple[Vector, Vector]] = []
        inputs: dict[Modality, Iterator[str]] = {"text": iter(texts), "audio": self._readable(clips)}
        for modality, modality_inputs in inputs.items():
            for text in modality_inputs:
                if (stored := self._stored(modality, text)) is not None:
                    before = unit_embedding(stored, None).vector
                    assert before is not None  # `_stored` returns valid vectors only
                    pairs.append((before, self._embed_again(modality, text, len(before))))
                    break
        for before, now in pairs:
            self.journal.require_same_score(1.0, _dot(before, now), self._shown_url)
        if len(pairs) == 2 and len(pairs[0][0]) == len(pairs[1][0]):
            # Both encoders may have changed in the same way: compare across modalities too.
            (text_before, text_now), (clip_before, clip_now) = pairs
            self.journal.require_same_score(_dot(text_before, clip_before), _dot(text_now, clip_now), self._shown_url)

    def _readable(self, clips: Sequence[Path]) -> Iterator[str]:
        for clip in clips:
            with contextlib.suppress(AudioError, OSError, ValueError):  # reported later as the error of its pairs
                yield self._data_uri(clip)

    def _embed_again(self, modality: Modality, text: str, dimension: int) -> Vector:
        try:
            embedding = unit_embedding(self._server.embed([text], modality)[0], dimension)
        except TransientError as error:
            raise StoppedError(f"{self._shown_url}: no valid reply: {error}") from None
        except RefusedError as error:
            embedding = Embedding(None, str(error))
        if embedding.vector is None:
            self.journal.raise_model_changed(f"an error ({embedding.error})", self._shown_url)
        return embedding.vector

    def _stored(self, modality: Modality, text: str) -> Vector | None:
        """Embedding of an input in the journal, as the server sent it; None if absent or invalid."""
        with contextlib.suppress(ValueError, TypeError):  # absent, or a value of another kind of run
            vector = from_base64(self.journal.get(self._key(modality, text)))
            return vector if unit_embedding(vector, None).vector is not None else None
        return None

    def _embed_all(self, modality: Modality, items: Sequence[Any]) -> Iterator[tuple[Any, Embedding]]:
        size = min(self.batch_size, MAX_BATCH)
        batches = [items[i : i + size] for i in range(0, len(items), size)]
        for batch, embedded in in_parallel(
            zip(batches, batches, strict=True),
            lambda b: self._embed_batch(modality, b),
            self.client,
            self.concurrency,
            self.max_consecutive_failures,
        ):
            yield from zip(batch, embedded.embeddings, strict=True)

    def _embed_batch(self, modality: Modality, batch: Sequence[Any]) -> EmbeddedBatch:
        """Embed a batch from the journal and the server."""
        inputs, errors = self._inputs(modality, batch)
        stored = {i: self._stored(modality, text) for i, text in inputs.items()}
        vectors = {i: vector for i, vector in stored.items() if vector is not None}
        new_inputs = {i: text for i, text in inputs.items() if i not in vectors}
        for i, vector in self._request(modality, new_inputs, errors):
            vectors[i] = vector
            if not unit_embedding(vector, None).error:
                self.journal.add(self._key(modality, inputs[i]), to_base64(vector))
        return EmbeddedBatch(
            [
                unit_embedding(vectors[i], None) if i in vectors else Embedding(None, errors[i])
                for i in range(len(batch))
            ]
        )

    def _inputs(self, modality: Modality, batch: Sequence[Any]) -> tuple[dict[int, str], dict[int, str]]:
        """{position: text to send} and {position: error} of a batch."""
        if modality == "text":
            return dict(enumerate(batch)), {}
        inputs, errors = {}, {}
        for i, clip in enumerate(batch):
            try:
                inputs[i] = self._data_uri(clip)
            except AudioError as error:
                errors[i] = one_line(str(error))
            except (OSError, ValueError) as error:  # ValueError: invalid path
                reason = getattr(error, "strerror", None) or type(error).__name__
                errors[i] = f"{one_line(clip.name)}: cannot be read ({reason})"
        return inputs, errors

    def _data_uri(self, clip: Path) -> str:
        if self.sample_rate is None:
            media_type, content = mimetypes.guess_type(clip.name)[0] or "audio/mpeg", clip.read_bytes()
        else:
            waveform = read_audio(clip, self.sample_rate)
            media_type, content = "audio/wav", wav_bytes(waveform, self.sample_rate)
        return data_uri(content, media_type)

    def _key(self, modality: Modality, text: str) -> str:
        return journal_key(
            sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), modality, self.client.url, self.model
        )

    def _request(
        self, modality: Modality, inputs: dict[int, str], errors: dict[int, str]
    ) -> Iterator[tuple[int, Vector]]:
        """Request embeddings; split a batch that the server refuses in halves to isolate the refused inputs."""
        if not inputs:
            return
        try:
            vectors = self._server.embed(list(inputs.values()), modality)
        except TransientError as error:
            errors.update(dict.fromkeys(inputs, str(error)))
        except RefusedError as error:
            if len(inputs) == 1:
                errors.update(dict.fromkeys(inputs, str(error)))
                return
            items, half = list(inputs.items()), len(inputs) // 2
            yield from self._request(modality, dict(items[:half]), errors)
            yield from self._request(modality, dict(items[half:]), errors)
        else:
            yield from zip(inputs, vectors, strict=True)


def _dot(a: Vector, b: Vector) -> float:
    return float(a.astype(np.float64) @ b.astype(np.float64))


def _content_hash(clip: Path) -> str:
    """Hash of a file; empty if it cannot be read."""
    try:
        return file_hash(clip)
    except (OSError, ValueError):
        return ""

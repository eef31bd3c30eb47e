"""A model behind an address that embeds clips and sentences (see `models.embeddings_api`).

What it gave is kept in the journal of the run alone, not in the store of embeddings: which weights a server holds is
not known here, and those of a model in training change from run to run. For the same reason a run that finds
embeddings in the journal asks for the first of them again, of a sentence and of a clip.
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
from earmark.audio_text.scorers.cosine import NEAR, SAME, answers, pairs_by_clip, spread, unique_texts
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
class Batch:
    """The embeddings of a batch, in order; an error where none of them came."""

    embeddings: list[Embedding]

    @property
    def error(self) -> str:
        """Empty when anything came of the batch."""
        return "" if any(not e.error for e in self.embeddings) else self.embeddings[0].error


@dataclass(frozen=True)
class EmbeddingsEndpointScorer:
    """Scores questions by the cosine of embeddings that a server makes; a journal remembers every embedding.

    model: the name that the server knows. batch_size: clips or sentences in one request, at most 32.
    sample_rate: resample clips to so many Hz before sending them; without it files go as they are.
    warnings: what was noticed about the server while it was asked, for the user.
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

    def __call__(self, questions: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
        """Answers as clips come in, after the sentences.

        Raises as `EndpointScorer`, and EarmarkError where all sentences get one and the same vector, or all clips: the
        latter at the end, when it is known of all.
        """
        asked = pairs_by_clip(questions)
        self._require_same_model(unique_texts(questions), list(asked))
        texts: dict[str, Embedding] = dict(self._embedded("text", unique_texts(questions)))
        self._look_at_sentences([e.vector for e in texts.values() if e.vector is not None])
        dimension = next((len(e.vector) for e in texts.values() if e.vector is not None), None)
        first: Vector | None = None
        alike: list[Path] = []
        embedded = 0
        for clip, embedding in self._embedded("audio", list(asked)):
            right = unit_embedding(embedding.vector, dimension) if embedding.vector is not None else embedding
            if right.vector is not None:
                first = right.vector if first is None else first
                if (spread([first, right.vector]) or 0.0) <= SAME:
                    alike.append(clip)
            embedded += right.vector is not None
            yield from answers(questions, asked[clip], right, texts)
        if len(alike) == embedded and len(contents := {_content(clip) for clip in alike}) > 1:
            raise EarmarkError(self._constant(f"{len(contents):,} different clips"))

    def _look_at_sentences(self, vectors: Sequence[Vector]) -> None:
        """EarmarkError where all have one vector; a warning where they are so close that scores hardly differ."""
        distance = spread(vectors)
        if distance is None or distance > NEAR:
            return
        if distance <= SAME:
            raise EarmarkError(self._constant(f"{len(vectors):,} different sentences"))
        self.warnings.append(
            f"{shown_url(self.client.url)}: the embeddings of all {len(vectors):,} sentences lie within {distance:.2g} "
            "of the first, so that no clip's score differs by more from it; check that the server embeds text by the "
            "right tower and with its weights."
        )

    def _constant(self, what: str) -> str:
        return (
            f"{shown_url(self.client.url)}: gives one and the same embedding for all {what}; check that the model's "
            "weights are loaded and that the server embeds what it is sent. Then give the same command with --restart."
        )

    def _require_same_model(self, texts: Sequence[str], clips: Sequence[Path]) -> None:
        """Embed the first sentence and the first clip again whose embeddings the journal has, and compare."""
        if not len(self.journal):
            return
        pairs: list[tuple[Vector, Vector]] = []
        inputs: dict[Modality, Iterator[str]] = {"text": iter(texts), "audio": self._readable(clips)}
        for modality, sent in inputs.items():
            for text in sent:
                if (known := self._known(modality, text)) is not None:
                    before = unit_embedding(known, None).vector
                    assert before is not None  # else it would not be known
                    pairs.append((before, self._again(modality, text, len(before))))
                    break
        address = shown_url(self.client.url)
        for before, now in pairs:
            self.journal.require_same_score(1.0, _cosine(before, now), address)
        if len(pairs) == 2 and len(pairs[0][0]) == len(pairs[1][0]):
            (text_before, text_now), (clip_before, clip_now) = pairs
            self.journal.require_same_score(_cosine(text_before, clip_before), _cosine(text_now, clip_now), address)

    def _readable(self, clips: Sequence[Path]) -> Iterator[str]:
        for clip in clips:
            with contextlib.suppress(AudioError, OSError, ValueError):  # which the questions about it will say
                yield self._data_uri(clip)

    def _again(self, modality: Modality, text: str, dimension: int) -> Vector:
        address = shown_url(self.client.url)
        try:
            now = unit_embedding(self._server.embed([text], modality)[0], dimension)
        except TransientError as error:
            raise StoppedError(f"{address}: gives no answer: {error}") from None
        except RefusedError as error:
            now = Embedding(None, str(error))
        if now.vector is None:
            self.journal.raise_model_changed(f"with an error ({now.error})", address)
        return now.vector

    def _known(self, modality: Modality, text: str) -> Vector | None:
        """What the journal has of an input, as the server gave it, if that is a vector."""
        with contextlib.suppress(ValueError, TypeError):  # nothing, or a value of another kind of run
            vector = from_base64(self.journal.get(self._key(modality, text)))
            return vector if unit_embedding(vector, None).vector is not None else None
        return None

    def _embedded(self, modality: Modality, items: Sequence[Any]) -> Iterator[tuple[Any, Embedding]]:
        size = min(self.batch_size, MAX_BATCH)
        batches = [items[i : i + size] for i in range(0, len(items), size)]
        for batch, found in in_parallel(
            zip(batches, batches, strict=True),
            lambda b: self._embed(modality, b),
            self.client,
            self.concurrency,
            self.max_consecutive_failures,
        ):
            yield from zip(batch, found.embeddings, strict=True)

    def _embed(self, modality: Modality, batch: Sequence[Any]) -> Batch:
        """A batch from the journal and the server; a batch that the server refuses is halved to find out why."""
        inputs, errors = self._inputs(modality, batch)
        known = {i: self._known(modality, text) for i, text in inputs.items()}
        found = {i: vector for i, vector in known.items() if vector is not None}
        for i, vector in self._ask(modality, {i: text for i, text in inputs.items() if i not in found}, errors):
            found[i] = vector
            if not unit_embedding(vector, None).error:
                self.journal.add(self._key(modality, inputs[i]), to_base64(vector))
        return Batch(
            [unit_embedding(found[i], None) if i in found else Embedding(None, errors[i]) for i in range(len(batch))]
        )

    def _inputs(self, modality: Modality, batch: Sequence[Any]) -> tuple[dict[int, str], dict[int, str]]:
        """{position: what to send}, {position: why it cannot be sent}."""
        if modality == "text":
            return dict(enumerate(batch)), {}
        inputs, errors = {}, {}
        for i, clip in enumerate(batch):
            try:
                inputs[i] = self._data_uri(clip)
            except AudioError as error:
                errors[i] = one_line(str(error))
            except (OSError, ValueError) as error:  # ValueError: a path that no file can have
                reason = getattr(error, "strerror", None) or type(error).__name__
                errors[i] = f"{one_line(clip.name)}: cannot be read ({reason})"
        return inputs, errors

    def _data_uri(self, clip: Path) -> str:
        if self.sample_rate is None:
            kind, content = mimetypes.guess_type(clip.name)[0] or "audio/mpeg", clip.read_bytes()
        else:
            waveform = read_audio(clip, self.sample_rate)
            kind, content = "audio/wav", wav_bytes(waveform, self.sample_rate)
        return data_uri(content, kind)

    def _key(self, modality: Modality, text: str) -> str:
        return journal_key(
            sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), modality, self.client.url, self.model
        )

    def _ask(self, modality: Modality, inputs: dict[int, str], errors: dict[int, str]) -> Iterator[tuple[int, Vector]]:
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
            pairs, half = list(inputs.items()), len(inputs) // 2
            yield from self._ask(modality, dict(pairs[:half]), errors)
            yield from self._ask(modality, dict(pairs[half:]), errors)
        else:
            yield from zip(inputs, vectors, strict=True)


def _cosine(one: Vector, other: Vector) -> float:
    return float(one.astype(np.float64) @ other.astype(np.float64))


def _content(clip: Path) -> str:
    """What a clip is, whatever it is called."""
    try:
        return file_hash(clip)
    except (OSError, ValueError):
        return ""

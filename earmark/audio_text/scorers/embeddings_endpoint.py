"""A model behind an address that embeds clips and sentences (see `models.embeddings_api`).

What it gave is kept in the journal of the run alone, not in the store of embeddings: which weights a server holds is
not known here, and those of a model in training change from run to run.
"""

import base64
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from earmark.audio.decode import AudioError, read_audio
from earmark.audio_text.scorers import Answer, Question
from earmark.audio_text.scorers.cosine import answers, unique_clips, unique_texts
from earmark.audio_text.scorers.parallel import in_parallel
from earmark.models.embedding import Embedding, Vector, checked
from earmark.models.embeddings_api import EmbeddingsServer, EncodingFormat, Modality, data_uri, from_base64, wav_bytes
from earmark.models.http import Client, PassingError, RefusedError
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
    """

    client: Client
    journal: Journal
    model: str = "default"
    batch_size: int = 8
    concurrency: int = 4
    sample_rate: int | None = None
    encoding_format: EncodingFormat = "base64"
    max_consecutive_failures: int = 20

    @property
    def _server(self) -> EmbeddingsServer:
        return EmbeddingsServer(self.client, self.model, self.encoding_format)

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Answers as clips come in, after the sentences. Raises as `EndpointScorer`."""
        texts: dict[str, Embedding] = dict(self._embedded("text", unique_texts(questions)))
        dimension = next((len(e.vector) for e in texts.values() if e.vector is not None), None)
        asked = unique_clips(questions)
        for clip, embedding in self._embedded("audio", list(asked)):
            right = checked(embedding.vector, dimension) if embedding.vector is not None else embedding
            yield from answers(questions, asked[clip], right, texts)

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
        keys = {i: self._key(modality, text) for i, text in inputs.items()}
        found = {i: from_base64(self.journal[key]) for i, key in keys.items() if key in self.journal}
        for i, vector in self._ask(modality, {i: text for i, text in inputs.items() if i not in found}, errors):
            found[i] = vector
            if not checked(vector, None).error:
                self.journal.add(keys[i], base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii"))
        return Batch([checked(found[i], None) if i in found else Embedding(None, errors[i]) for i in range(len(batch))])

    def _inputs(self, modality: Modality, batch: Sequence[Any]) -> tuple[dict[int, str], dict[int, str]]:
        """{position: what to send}, {position: why it cannot be sent}."""
        if modality == "text":
            return dict(enumerate(batch)), {}
        inputs, errors = {}, {}
        for i, clip in enumerate(batch):
            try:
                inputs[i] = self._data_uri(clip)
            except (AudioError, OSError) as error:
                errors[i] = str(error)
        return inputs, errors

    def _data_uri(self, clip: Path) -> str:
        if self.sample_rate is None:
            kind, content = mimetypes.guess_type(clip.name)[0] or "audio/mpeg", clip.read_bytes()
        else:
            waveform = read_audio(clip, self.sample_rate)
            kind, content = "audio/wav", wav_bytes(waveform, self.sample_rate)
        return data_uri(content, kind)

    def _key(self, modality: Modality, text: str) -> str:
        return journal_key(sha256(text.encode()).hexdigest(), modality, self.client.url, self.model)

    def _ask(self, modality: Modality, inputs: dict[int, str], errors: dict[int, str]) -> Iterator[tuple[int, Vector]]:
        if not inputs:
            return
        try:
            vectors = self._server.embed(list(inputs.values()), modality)
        except PassingError as error:
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

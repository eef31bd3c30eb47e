"""A model in this process: each clip and each sentence embedded once, and kept in the store of embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.audio_text.scorers.cosine import answers, pairs_by_clip, unique_texts
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.audio_text.encoder import AudioTextEncoder
from earmark.models.audio_text.loading import AudioTextModel
from earmark.models.embedding import Embedding, unit_embedding


@dataclass(frozen=True)
class InProcessScorer:
    """Scores questions by the cosine of a model's embeddings.

    batch_size: pieces that the model hears at once. decoders: threads that decode and prepare ahead of it. Batches are
    formed in the order of the clips, whichever is decoded first, so that a run can be repeated to the last bit.
    """

    model: AudioTextModel
    store: EmbeddingCache
    batch_size: int = 16
    decoders: int = 4

    def __call__(self, questions: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
        """Answers to all questions about a clip as soon as its batch is done.

        Raises EmbeddingError at the end where the model gives all clips one and the same embedding.
        """
        asked, encoder = pairs_by_clip(questions), AudioTextEncoder(self.model)
        texts = {
            text: one if one.vector is None else unit_embedding(one.vector, None)
            for text, one in self.store.embed_texts(
                encoder.identity, unique_texts(questions), self.model.embed_texts, self.batch_size
            ).items()
        }
        dimension = next((len(e.vector) for e in texts.values() if e.vector is not None), None)
        embedded = self.store.embed(encoder, list(asked), batch_size=self.batch_size, decoder_threads=self.decoders)
        for clip, found in embedded:
            yield from answers(questions, asked[clip], _direction(found, dimension, clip.name), texts)


def _direction(found: Embedding, dimension: int | None, name: str) -> Embedding:
    """The embedding scaled to length 1, or what is wrong with it, in words that name the clip."""
    scaled = unit_embedding(found.vector, dimension) if found.vector is not None else found
    return Embedding(None, f"{name}: {scaled.error}") if scaled.error and found.vector is not None else scaled

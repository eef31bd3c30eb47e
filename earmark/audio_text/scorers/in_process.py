"""Score pairs with a model in this process, through the embedding cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.audio_text.scorers.cosine import cosine_scores, pairs_by_clip, unique_texts
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.audio_text.encoder import AudioTextEncoder
from earmark.models.audio_text.loading import AudioTextModel
from earmark.models.embedding import Embedding, unit_embedding


@dataclass(frozen=True)
class InProcessScorer:
    """Score pairs by the cosine similarity of a model's embeddings.

    Batches follow the order of the clips, not the order in which decoding finishes, so that runs are bit-reproducible.

    Attributes
    ----------
    model : AudioTextModel
    cache : EmbeddingCache
        Embedding cache.
    batch_size : int
        Number of audio windows per batch.
    text_batch_size : int or None
        Number of sentences per batch; None for `batch_size`.
    decoder_threads : int or None
        Number of threads that decode and prepare clips in advance; None for one per core, as in `EmbeddingCache`.
    """

    model: AudioTextModel
    cache: EmbeddingCache
    batch_size: int = 16
    decoder_threads: int | None = None
    text_batch_size: int | None = None

    def __call__(self, pairs: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
        """Score pairs.

        Yields
        ------
        tuple of int and Score
            All pairs of a clip as soon as its batch is done.

        Raises
        ------
        EmbeddingError
            After the last score, if the embeddings of all clips are identical.
        """
        indices, encoder = pairs_by_clip(pairs), AudioTextEncoder(self.model)
        text_batch_size = self.text_batch_size or self.batch_size
        texts = {
            text: embedding if embedding.vector is None else unit_embedding(embedding.vector, None)
            for text, embedding in self.cache.embed_texts(
                encoder.identity, unique_texts(pairs), self.model.embed_texts, text_batch_size
            ).items()
        }
        dimension = next((len(e.vector) for e in texts.values() if e.vector is not None), None)
        embeddings = self.cache.embed(
            encoder, list(indices), batch_size=self.batch_size, decoder_threads=self.decoder_threads
        )
        for clip, embedding in embeddings:
            yield from cosine_scores(pairs, indices[clip], _normalised(embedding, dimension, clip.name), texts)


def _normalised(embedding: Embedding, dimension: int | None, clip_name: str) -> Embedding:
    """Scale an embedding to length 1, or return its error; errors found here start with the name of the clip."""
    if embedding.vector is None:
        return embedding
    scaled = unit_embedding(embedding.vector, dimension)
    return Embedding(None, f"{clip_name}: {scaled.error}") if scaled.error else scaled

"""The audio encoder of an audio-text model, with the interface and the embedding cache of all encoders."""

from collections.abc import Sequence

import numpy as np

from earmark.models.audio_text.loading import AudioTextModel
from earmark.models.audio_text.networks import Prepared
from earmark.models.batching import Array, split_into_windows
from earmark.models.embedding import unit_embedding
from earmark.models.encoders.base import Encoder, encoder_key
from earmark.models.encoders.output import EmbeddingRequest


class AudioTextEncoder(Encoder):
    """Embeds clips with an audio-text model.

    A clip longer than the window of the model is split. Its embedding is the mean of the window embeddings, each scaled
    to length 1.

    Parameters
    ----------
    model : AudioTextModel
        The model.
    """

    def __init__(self, model: AudioTextModel) -> None:
        description = model.description
        parts = {key: value for key, value in description.items() if key != "device"}
        name = description["model"]
        super().__init__(name, model.sample_rate, encoder_key(name, **parts), description, None)
        self.model = model

    def prepare_clip(self, waveform: Array, request: EmbeddingRequest) -> list[Prepared]:
        """Model inputs, one per window."""
        windows = split_into_windows(waveform, self.sample_rate, self.model.window_seconds)
        return [self.model.prepare(window) for window in windows]

    def embed_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """(n, d) embeddings of windows, independent of the batch."""
        return self.model.embed_audio(prepared)

    def combine_pieces(self, rows: Sequence[Array], request: EmbeddingRequest) -> Array:
        """(d,) mean of the window embeddings, each scaled to length 1."""
        directions = [unit_embedding(row, None).vector for row in rows]
        return np.mean([vector for vector in directions if vector is not None], axis=0)

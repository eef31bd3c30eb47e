"""The audio side of an audio-text model as an encoder, so that its clips are embedded and kept like any other's."""

from collections.abc import Sequence

import numpy as np

from earmark.models.audio_text.loading import AudioTextModel
from earmark.models.audio_text.networks import Prepared
from earmark.models.batching import Array, split_into_windows
from earmark.models.embedding import unit_embedding
from earmark.models.encoders.base import Encoder, encoder_key
from earmark.models.encoders.output import EmbeddingRequest


class AudioTextEncoder(Encoder):
    """A clip longer than the model's window is the mean of its windows' embeddings, each scaled to length 1."""

    def __init__(self, model: AudioTextModel) -> None:
        known = model.description
        parts = {key: value for key, value in known.items() if key != "device"}
        super().__init__(known["model"], model.sample_rate, encoder_key(known["model"], **parts), known, None)
        self.model = model

    def prepare_clip(self, waveform: Array, request: EmbeddingRequest) -> list[Prepared]:
        """The model's input for each of the clip's windows."""
        pieces = split_into_windows(waveform, self.sample_rate, self.model.window_seconds)
        return [self.model.prepare(piece) for piece in pieces]

    def embed_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """Windows, each the same whatever its neighbours are."""
        return self.model.embed_audio(prepared)

    def combine_pieces(self, rows: Sequence[Array], request: EmbeddingRequest) -> Array:
        """The mean of the windows' directions."""
        directions = [unit_embedding(row, None).vector for row in rows]
        return np.mean([vector for vector in directions if vector is not None], axis=0)

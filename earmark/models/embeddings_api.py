"""Servers that embed audio or text, in the shape of OpenAI and infinity.

Request   {"model", "input": […], "modality": "audio" or "text", "encoding_format": "float" or "base64"}
Reply     {"data": [{"index", "embedding"}]}
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from earmark.models.embedding import Vector
from earmark.models.http import Client, RefusedError, shown

Modality = Literal["audio", "text"]
EncodingFormat = Literal["float", "base64"]
MAX_REPLY = 1 << 26  # 32 embeddings of 65,536 dimensions as numbers


@dataclass(frozen=True)
class EmbeddingsServer:
    """A server that embeds. model: what it calls its model. encoding_format: how numbers come back."""

    client: Client
    model: str = "default"
    encoding_format: EncodingFormat = "base64"

    def embed(self, inputs: Sequence[str], modality: Modality) -> list[Vector]:
        """The embeddings of sentences, or of clips as data URIs, in one request and in their order.

        Raises PassingError, RefusedError and UnauthorisedError as `Client.post`; RefusedError for a reply that does not
        hold as many embeddings.
        """
        body = {
            "model": self.model,
            "input": list(inputs),
            "modality": modality,
            "encoding_format": self.encoding_format,
        }
        return vectors_in(self.client.post(json.dumps(body).encode()), len(inputs))


def data_uri(content: bytes, kind: str) -> str:
    """A file as the text that a request holds. kind: its media type.

    >>> data_uri(b"RIFF", "audio/wav")
    'data:audio/wav;base64,UklGRg=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def wav_bytes(waveform: NDArray[Any], rate: int) -> bytes:
    """A mono waveform in [−1, 1], or of 16-bit numbers, as a 16-bit wav file."""
    wav = io.BytesIO()
    soundfile.write(wav, waveform, rate, format="WAV", subtype="PCM_16")
    return wav.getvalue()


def vectors_in(reply: Any, n: int) -> list[Vector]:
    """The reply's embeddings in the order of the request, whatever order they came in."""
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) and "embedding" in entry for entry in data):
        raise RefusedError(f"the reply has no list `data` of embeddings: {shown(reply)}")
    indices = [entry.get("index", position) for position, entry in enumerate(data)]
    if sorted(map(str, indices)) != sorted(map(str, range(n))):
        raise RefusedError(f"the reply has the indices {shown(indices)} for {n} inputs")
    by_index = {int(index): entry["embedding"] for index, entry in zip(indices, data, strict=True)}
    return [_vector(by_index[i]) for i in range(n)]


def _vector(embedding: Any) -> Vector:
    try:
        return from_base64(embedding) if isinstance(embedding, str) else np.asarray(embedding, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedError(f"an embedding is no list of numbers: {shown(embedding)}") from error


def from_base64(text: str) -> Vector:
    """A vector of little-endian 32-bit numbers."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")

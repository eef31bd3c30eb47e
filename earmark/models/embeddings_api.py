"""Servers that embed audio or text, in the shape of OpenAI and infinity.

Request   {"model", "input": […], "modality": "audio" or "text", "encoding_format": "float"}
Reply     {"data": [{"index", "embedding"}]}

Numbers are asked for as JSON numbers. base64 would be shorter, but says nowhere how wide its numbers are, and servers
send 2, 4 or 8 bytes: a vector of 64-bit numbers read as 32-bit ones is noise of twice the length.
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
from earmark.models.http import Client, ReplyError

Modality = Literal["audio", "text"]
MAX_REPLY = 1 << 26  # 32 embeddings of 65,536 dimensions as numbers


@dataclass(frozen=True)
class EmbeddingsServer:
    """A server that embeds. model: what it calls its model."""

    client: Client
    model: str = "default"

    def embed(self, inputs: Sequence[str], modality: Modality) -> list[Vector]:
        """The embeddings of sentences, or of clips as data URIs, in one request and in their order.

        Raises TransientError, RefusedError and UnauthorisedError as `Client.post`; RefusedError for a reply that does
        not hold as many lists of numbers.
        """
        body = {
            "model": self.model,
            "input": list(inputs),
            "modality": modality,
            "encoding_format": "float",
        }
        return self.client.post(json.dumps(body).encode(), lambda reply: embeddings_from_reply(reply, len(inputs)))


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


def embeddings_from_reply(reply: Any, n: int) -> list[Vector]:
    """The reply's embeddings in the order of the request, whatever order they came in.

    ReplyError where they are not n lists of numbers, or entries do not say which is which. Without any `index` the
    order is that of the request.
    """
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) and "embedding" in entry for entry in data):
        raise ReplyError("the reply has no list `data` of embeddings")
    if len(data) != n:
        raise ReplyError(f"the reply has {len(data)} embeddings for {n} inputs")
    indices = [entry["index"] for entry in data if "index" in entry] or list(range(n))
    if set(map(type, indices)) - {int} or sorted(indices) != list(range(n)):
        raise ReplyError(f"the embeddings do not have the indices 0 to {n - 1}, each once")
    by_index = dict(zip(indices, data, strict=True))
    return [_vector(by_index[i]["embedding"]) for i in range(n)]


def _vector(embedding: Any) -> Vector:
    """Numbers as they stand in JSON; what numpy would make numbers of (texts, true, null) is none."""
    if isinstance(embedding, str):
        raise ReplyError("an embedding is a text, where a list of numbers was asked for (encoding_format float)")
    if not isinstance(embedding, list) or set(map(type, embedding)) - {int, float}:
        raise ReplyError("an embedding is no list of numbers")
    if not embedding:
        raise ReplyError("an embedding is empty")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which `checked` refuses
            return np.asarray(embedding, dtype=np.float32)
    except OverflowError:
        raise ReplyError("an embedding is not finite") from None


def to_base64(vector: Vector) -> str:
    """A vector as text: little-endian 32-bit numbers."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def from_base64(text: str) -> Vector:
    """A vector that `to_base64` wrote. ValueError for another text."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")

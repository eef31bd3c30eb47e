"""Client for servers with an OpenAI-compatible embeddings API, such as infinity, for audio and text.

Request   {"model", "input": […], "modality": "audio" or "text", "encoding_format": "float"}
Reply     {"data": [{"index", "embedding"}]}

Embeddings are requested as JSON numbers. base64 is shorter, but does not state the width of its numbers, and servers
send 2, 4 or 8 bytes: 64-bit numbers read as 32-bit numbers give a vector of noise with twice the dimensions.
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
MAX_REPLY = 1 << 26  # bytes; 32 embeddings of 65,536 dimensions as JSON numbers


@dataclass(frozen=True)
class EmbeddingsServer:
    """A server with an embeddings API.

    Attributes
    ----------
    client : Client
        Client for its address.
    model : str
        Model name for the requests.
    """

    client: Client
    model: str = "default"

    def embed(self, inputs: Sequence[str], modality: Modality) -> list[Vector]:
        """Embed inputs in one request.

        Parameters
        ----------
        inputs : sequence of str
            Sentences, or clips as data URIs.
        modality : {"audio", "text"}
            Type of the inputs.

        Returns
        -------
        list of (d,) float32
            In the order of the inputs.

        Raises
        ------
        TransientError, UnauthorisedError
            As `Client.post`.
        RefusedError
            As `Client.post`, and if the reply does not have one list of numbers per input.
        """
        body = {
            "model": self.model,
            "input": list(inputs),
            "modality": modality,
            "encoding_format": "float",
        }
        return self.client.post(json.dumps(body).encode(), lambda reply: embeddings_from_reply(reply, len(inputs)))


def data_uri(content: bytes, kind: str) -> str:
    """Encode a file as a data URI.

    Parameters
    ----------
    content : bytes
        The file.
    kind : str
        Media type.

    Examples
    --------
    >>> data_uri(b"RIFF", "audio/wav")
    'data:audio/wav;base64,UklGRg=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def wav_bytes(waveform: NDArray[Any], rate: int) -> bytes:
    """Encode a mono waveform as a 16-bit WAV file.

    Parameters
    ----------
    waveform : (n,) float or int16
        Samples; floats in [−1, 1].
    rate : int
        Sample rate in Hz.

    Returns
    -------
    bytes
        The file.
    """
    wav = io.BytesIO()
    soundfile.write(wav, waveform, rate, format="WAV", subtype="PCM_16")
    return wav.getvalue()


def embeddings_from_reply(reply: Any, n: int) -> list[Vector]:
    """Extract the embeddings of a reply in the order of the request.

    Parameters
    ----------
    reply : Any
        The decoded JSON.
    n : int
        Number of inputs.

    Returns
    -------
    list of (d,) float32
        Sorted by `index`. If no entry has an index, the order of the reply is used.

    Raises
    ------
    ReplyError
        If there are not n lists of numbers, or the indices are not 0 to n − 1.

    Examples
    --------
    >>> reply = {"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}
    >>> [vector.tolist() for vector in embeddings_from_reply(reply, 2)]
    [[1.0], [2.0]]
    """
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) and "embedding" in entry for entry in data):
        raise ReplyError("the reply has no list `data` of embeddings")
    if len(data) != n:
        raise ReplyError(f"the reply has {len(data)} embeddings for {n} inputs")
    indices = [entry["index"] for entry in data if "index" in entry] or list(range(n))
    if set(map(type, indices)) - {int} or sorted(indices) != list(range(n)):
        raise ReplyError(f"the indices of the embeddings are not 0 to {n - 1}, each once")
    by_index = dict(zip(indices, data, strict=True))
    return [_vector(by_index[i]["embedding"]) for i in range(n)]


def _vector(embedding: Any) -> Vector:
    """Convert a list of JSON numbers; strings, booleans and null are rejected, which numpy would convert."""
    if isinstance(embedding, str):
        raise ReplyError("an embedding is a string; a list of numbers was requested (encoding_format float)")
    if not isinstance(embedding, list) or set(map(type, embedding)) - {int, float}:
        raise ReplyError("an embedding is not a list of numbers")
    if not embedding:
        raise ReplyError("an embedding is empty")
    try:
        with np.errstate(over="ignore"):  # overflow gives inf, which `unit_embedding` rejects
            return np.asarray(embedding, dtype=np.float32)
    except OverflowError:
        raise ReplyError("an embedding is not finite") from None


def to_base64(vector: Vector) -> str:
    """Encode a vector in base64 as little-endian 32-bit floats."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def from_base64(text: str) -> Vector:
    """Decode a vector from `to_base64`; ValueError if the text is not valid."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")

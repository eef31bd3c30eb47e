"""Encoder behind a server with an OpenAI-compatible embeddings API (see `models.embeddings_api`)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from earmark.errors import EarmarkError
from earmark.models.batching import concatenate_batches, in_batches
from earmark.models.embeddings_api import MAX_REPLY, EmbeddingsServer, data_uri, wav_bytes
from earmark.models.encoders.base import Array, Encoder, encoder_key
from earmark.models.http import Client, RefusedError, StoppedError, TransientError

RATE = 16_000
BATCH = 8
CONCURRENCY = 4
MAX_FAILURES = 5  # consecutive requests that failed after all retries


class EndpointEncoder(Encoder):
    """Sends clips as 16-bit WAV files at 16 kHz, 8 per request, 4 requests in parallel.

    The weights on the server are unknown, so `identity` contains only the address and the model name.

    Parameters
    ----------
    client : Client
        Client for the address.
    model : str
        Model name for the requests.
    """

    def __init__(self, client: Client, model: str) -> None:
        self._server = EmbeddingsServer(client, model)
        self._failures = 0
        parts = urlsplit(client.url)
        address = f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        public_url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        description: dict[str, Any] = {"address_sha256": sha256(public_url.encode()).hexdigest()[:16], "model": model}
        description |= {"sample_rate": RATE}
        super().__init__(
            f"{model} at {address}", RATE, encoder_key(f"endpoint-{model}", **description), description, None
        )

    def prepare(self, waveform: Array) -> str:
        """Encode the clip as a data URI."""
        samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
        return data_uri(wav_bytes(samples, RATE), "audio/wav")

    def embed_prepared(self, prepared: Sequence[str]) -> Array:
        """(n, d) embeddings.

        Raises
        ------
        ValueError
            If the server rejects a request.
        RuntimeError
            If a request failed after all retries.
        StoppedError
            If `MAX_FAILURES` consecutive requests failed after all retries.
        """
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return concatenate_batches(list(pool.map(self._request, in_batches(prepared, BATCH))))

    def _request(self, clips: Sequence[str]) -> Array:
        try:
            vectors = self._server.embed(clips, "audio")
        except TransientError as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise StoppedError(f"{self._failures} requests in a row failed; the last one: {error}") from error
            raise RuntimeError(str(error)) from error
        except RefusedError as error:
            raise ValueError(str(error)) from error
        self._failures = 0
        return concatenate_batches([np.asarray(vector, dtype=np.float32)[None] for vector in vectors])


def load(url: str, client: Any = None, model: str = "default") -> EndpointEncoder:
    """Create the encoder of a URL.

    Parameters
    ----------
    url : str
        Address of the embeddings API.
    client : Client, optional
        With token and time-outs. By default, a client without a token.
    model : str
        Model name for the requests.

    Returns
    -------
    EndpointEncoder
        The encoder.

    Raises
    ------
    EarmarkError
        If `client` is not a `Client`.
    """
    if client is not None and not isinstance(client, Client):
        raise EarmarkError("client must be an http.Client")
    return EndpointEncoder(client or Client(url, max_reply=MAX_REPLY), model)

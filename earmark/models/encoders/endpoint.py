"""A server that embeds audio, in the shape of OpenAI and infinity (see `models.embeddings_api`)."""

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
MAX_FAILURES = 5  # requests in a row that failed after all their tries


class EndpointEncoder(Encoder):
    """Clips go as 16-bit wav at 16 kHz, 8 in a request, 4 requests at a time.

    What weights the server holds is not known here: the identity names its address and the model it is asked for.
    """

    def __init__(self, client: Client, model: str) -> None:
        self._server = EmbeddingsServer(client, model)
        self._failures = 0
        parts = urlsplit(client.url)
        address = f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        secret_free = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        described: dict[str, Any] = {"address_sha256": sha256(secret_free.encode()).hexdigest()[:16], "model": model}
        described |= {"sample_rate": RATE}
        super().__init__(f"{model} at {address}", RATE, encoder_key(f"endpoint-{model}", **described), described, None)

    def prepare(self, waveform: Array) -> str:
        """The clip as a data URI."""
        samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
        return data_uri(wav_bytes(samples, RATE), "audio/wav")

    def embed_prepared(self, prepared: Sequence[str]) -> Array:
        """Raises ValueError or RuntimeError for clips that get no embedding, StoppedError when nothing gets one."""
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return concatenate_batches(list(pool.map(self._ask, in_batches(prepared, BATCH))))

    def _ask(self, clips: Sequence[str]) -> Array:
        try:
            found = self._server.embed(clips, "audio")
        except TransientError as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise StoppedError(f"{self._failures} requests in a row failed; the last one: {error}") from error
            raise RuntimeError(str(error)) from error
        except RefusedError as error:
            raise ValueError(str(error)) from error
        self._failures = 0
        return concatenate_batches([np.asarray(vector, dtype=np.float32)[None] for vector in found])


def load(url: str, client: Any = None, model: str = "default") -> EndpointEncoder:
    """The encoder behind an address. client: with token and time-outs; without one, those of `Client`."""
    if client is not None and not isinstance(client, Client):
        raise EarmarkError("client has to be an http.Client")
    return EndpointEncoder(client or Client(url, max_reply=MAX_REPLY), model)

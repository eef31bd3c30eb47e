"""Each way to score as one thing: the scorer, what a summary says of it, and what went over the wire."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from earmark.audio_text.scorers import Scorer
from earmark.audio_text.scorers.embeddings_endpoint import MAX_BATCH, EmbeddingsEndpointScorer
from earmark.audio_text.scorers.endpoint import EndpointScorer
from earmark.audio_text.scorers.sham import score_sham
from earmark.models.http import Client, Traffic
from earmark.models.journal import Journal

MAX_EMBEDDINGS_REPLY = 1 << 26  # 32 embeddings of 65,536 dimensions as numbers


@dataclass(frozen=True)
class Model:
    """What is scored. mode: how. identity: what a signature calls it. description: what a summary says of it."""

    mode: str
    scorer: Scorer
    identity: str
    description: dict[str, Any] = field(default_factory=dict)
    traffic: Traffic | None = None


def sham_model() -> Model:
    """No model: numbers from a hash."""
    return Model("sham", score_sham, "sham")


def endpoint_model(
    client: Client, journal: Journal, *, send_audio: bool, concurrency: int, max_consecutive_failures: int
) -> Model:
    """A server that scores a clip and a sentence."""
    scorer = EndpointScorer(client, journal, concurrency, send_audio, max_consecutive_failures)
    return Model("endpoint", scorer, f"endpoint-{_short_hash(client.url)}", {"send_audio": send_audio}, client.traffic)


def embeddings_model(
    client: Client,
    journal: Journal,
    *,
    model: str,
    batch_size: int,
    sample_rate: int | None,
    concurrency: int,
    max_consecutive_failures: int,
) -> Model:
    """A server that embeds clips and sentences. model: what the server calls it."""
    batch = min(batch_size, MAX_BATCH)
    scorer = EmbeddingsEndpointScorer(
        client, journal, model, batch, concurrency, sample_rate, max_consecutive_failures=max_consecutive_failures
    )
    described = {"model": model, "sample_rate": sample_rate, "batch_size": batch}
    return Model("embeddings-endpoint", scorer, f"{model}-{_short_hash(client.url)}", described, client.traffic)


def in_process_model(
    name: str, *, clap: bool, device: str, dtype: str, max_seconds: float | None, batch_size: int
) -> Model:
    """A model in this process, from a folder, the hub, or a shortcut. clap: `name` is a transformers ClapModel."""
    from earmark.audio_text.scorers.in_process import InProcessScorer
    from earmark.models.audio_text.loading import load_model

    loaded = load_model(name, device=device, dtype=dtype, max_seconds=max_seconds, clap=clap)
    described = loaded.description
    weights = described.get("weights_sha256") or described.get("revision") or "unknown"
    identity = f"{described['model']}-{weights[:8]}"
    return Model("in-process", InProcessScorer(loaded, batch_size=batch_size), identity, described)


def _short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]

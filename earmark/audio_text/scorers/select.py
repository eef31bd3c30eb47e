"""Each way to score as one thing: the scorer, what a summary says of it, and what went over the wire."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from earmark.audio_text.options import ScorerOptions, ServerOptions
from earmark.audio_text.scorers import Scorer
from earmark.audio_text.scorers.embeddings_endpoint import MAX_BATCH, EmbeddingsEndpointScorer
from earmark.audio_text.scorers.endpoint import EndpointScorer
from earmark.audio_text.scorers.sham import score_sham
from earmark.models.http import Client, Traffic
from earmark.models.journal import Journal


@dataclass(frozen=True)
class Model:
    """What is scored. mode: how. identity: what a signature calls it. description: what a summary says of it."""

    mode: str
    scorer: Scorer
    identity: str
    description: dict[str, Any] = field(default_factory=dict)
    traffic: Traffic | None = None

    @property
    def name(self) -> str:
        """Where its runs are kept, unless the user says otherwise."""
        return str(self.description.get("model") or self.mode)


def sham_model() -> Model:
    """No model: numbers from a hash."""
    return Model("sham", score_sham, "sham")


def endpoint_model(client: Client, journal: Journal, server: ServerOptions) -> Model:
    """A server that scores a clip and a sentence."""
    send_audio = not server.no_audio_send
    scorer = EndpointScorer(client, journal, server.concurrency, send_audio, server.max_consecutive_failures)
    return Model("endpoint", scorer, f"endpoint-{_short_hash(client.url)}", {"send_audio": send_audio}, client.traffic)


def embeddings_model(client: Client, journal: Journal, options: ScorerOptions, server: ServerOptions) -> Model:
    """A server that embeds clips and sentences."""
    model, batch = options.model or "default", min(options.batch_size, MAX_BATCH)
    scorer = EmbeddingsEndpointScorer(
        client,
        journal,
        model,
        batch,
        server.concurrency,
        server.sample_rate,
        max_consecutive_failures=server.max_consecutive_failures,
    )
    described = {"model": model, "sample_rate": server.sample_rate, "batch_size": batch}
    return Model("embeddings-endpoint", scorer, f"{model}-{_short_hash(client.url)}", described, client.traffic)


def in_process_model(options: ScorerOptions) -> Model:
    """A model in this process, from a folder, the hub, or a shortcut."""
    from earmark.audio_text.scorers.in_process import InProcessScorer
    from earmark.embeddings.cache import EmbeddingCache
    from earmark.models.audio_text.loading import load_model

    name, clap = options.clap_model or options.model or "", options.clap_model is not None
    loaded = load_model(name, device=options.device, dtype=options.dtype, max_seconds=options.max_seconds, clap=clap)
    described = loaded.description
    weights = described.get("weights_sha256") or described.get("revision") or "unknown"
    identity = f"{described['model']}-{weights[:8]}"
    return Model(
        "in-process",
        InProcessScorer(loaded, EmbeddingCache(options.embedding_cache), options.batch_size),
        identity,
        described,
    )


def _short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]

"""Build the scorer that the options select, with its description for summary.json."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from earmark.audio_text.options import ScorerOptions, ServerOptions
from earmark.audio_text.scorers import Scorer
from earmark.audio_text.scorers.embeddings_endpoint import MAX_BATCH, EmbeddingsEndpointScorer
from earmark.audio_text.scorers.endpoint import EndpointScorer
from earmark.audio_text.scorers.sham import score_sham
from earmark.cli import Invocation, RayOptions
from earmark.models.http import Client, Traffic
from earmark.models.journal import Journal


@dataclass(frozen=True)
class Model:
    """The model to benchmark.

    Attributes
    ----------
    mode : str
        "sham", "endpoint", "embeddings-endpoint" or "in-process".
    scorer : Scorer
    identity : str
        Name in the signature; differs between checkpoints of the same name.
    description : dict
        Model, weights and settings, as summary.json records them.
    traffic : Traffic or None
        Request statistics, for models behind a server.
    """

    mode: str
    scorer: Scorer
    identity: str
    description: dict[str, Any] = field(default_factory=dict)
    traffic: Traffic | None = None

    @property
    def name(self) -> str:
        """Default directory name of the runs of this model."""
        return str(self.description.get("model") or self.mode)


def sham_model() -> Model:
    """The sham scorer, which needs no model."""
    return Model("sham", score_sham, "sham")


def endpoint_model(client: Client, journal: Journal, server: ServerOptions, name: str | None = None) -> Model:
    """A server that scores a clip and a sentence.

    Parameters
    ----------
    client : Client
    journal : Journal
        Stores the replies.
    server : ServerOptions
    name : str, optional
        Name of the model behind the server, for results.
    """
    send_audio = not server.no_audio_send
    scorer = EndpointScorer(client, journal, server.concurrency, send_audio, server.max_consecutive_failures)
    description: dict[str, Any] = {**({"model": name} if name else {}), "send_audio": send_audio}
    return Model("endpoint", scorer, f"{name or 'endpoint'}-{_short_hash(client.url)}", description, client.traffic)


def embeddings_model(client: Client, journal: Journal, options: ScorerOptions, server: ServerOptions) -> Model:
    """A server that embeds clips and sentences.

    Parameters
    ----------
    client : Client
    journal : Journal
        Stores the embeddings.
    options : ScorerOptions
        `model` is the name to request ("default" if None); `batch_size` is limited to `MAX_BATCH`.
    server : ServerOptions
    """
    model, batch_size = options.model or "default", min(options.batch_size, MAX_BATCH)
    scorer = EmbeddingsEndpointScorer(
        client,
        journal,
        model,
        batch_size,
        server.concurrency,
        server.sample_rate,
        max_consecutive_failures=server.max_consecutive_failures,
    )
    description = {"model": model, "sample_rate": server.sample_rate, "batch_size": batch_size}
    return Model("embeddings-endpoint", scorer, f"{model}-{_short_hash(client.url)}", description, client.traffic)


def in_process_model(options: ScorerOptions, cluster: RayOptions, invocation: Invocation) -> Model:
    """A model in this process, from a directory, the hub or a shortcut.

    Parameters
    ----------
    options : ScorerOptions
    cluster : RayOptions
        The connected Ray cluster that embeds clips.
    invocation : Invocation
        For the progress bar of a cluster.

    Raises
    ------
    MissingError
        If the model or a library is not available.
    """
    from earmark.audio_text.scorers.in_process import InProcessScorer
    from earmark.cluster.cache import embedding_cache
    from earmark.cluster.worker import AudioTextSource
    from earmark.files.remote import require_reachable
    from earmark.models.audio_text.loading import load_model

    require_reachable(options.embedding_cache)
    name, clap = options.clap_model or options.model or "", options.clap_model is not None
    model = load_model(name, device=options.device, dtype=options.dtype, max_seconds=options.max_seconds, clap=clap)
    description = model.description
    weights = description.get("weights_sha256") or description.get("revision") or "unknown"
    source = AudioTextSource(name, options.device, options.dtype, options.max_seconds, clap)
    cache = embedding_cache(options.embedding_cache, cluster, invocation, lambda: source, options.device)
    scorer = InProcessScorer(model, cache, options.batch_size, text_batch_size=options.text_batch_size)
    return Model("in-process", scorer, f"{description['model']}-{weights[:8]}", description)


def _short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]

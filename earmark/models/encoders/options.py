"""Encoder options shared by all scripts."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class EncoderOptions:
    """An encoder or a file of precomputed embeddings, and how to run it.

    Attributes
    ----------
    encoder : str or None
        Specification of the encoder.
    embeddings : str or None
        File of precomputed embeddings.
    device, dtype : str
        As in `load_encoder`.
    batch_size : int
        Clips per batch.
    embedding_cache : Path
        Directory of the embedding cache.
    token : str or None
        Secret token for a server.
    """

    encoder: str | None = None
    embeddings: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 16
    embedding_cache: Path = Path("benchmark_outputs/embeddings")
    token: str | None = field(default=None, repr=False)

    @property
    def spec(self) -> str:
        """Specification for `load_encoder`; empty if there is neither an encoder nor a file."""
        return f"embeddings:{self.embeddings}" if self.embeddings else self.encoder or ""

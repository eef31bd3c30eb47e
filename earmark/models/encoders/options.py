"""What every script can be asked about an encoder."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class EncoderOptions:
    """An encoder by its string, or a file of embeddings, and how it runs.

    batch_size: clips at a time. embedding_cache: its directory. token: for a server; secret.
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
        """The string that names it; empty for none."""
        return f"embeddings:{self.embeddings}" if self.embeddings else self.encoder or ""

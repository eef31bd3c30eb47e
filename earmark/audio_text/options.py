"""What `benchmark.py` can be asked for, as records that its flags fill once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LabelSource = Literal["majority", "dawid-skene", "soft"]
# What a scorer is held against: the column of the labels that holds each kind of them, as a share in [0, 1].
LABEL_COLUMNS: dict[LabelSource, str] = {
    "majority": "majority_present",
    "dawid-skene": "ds_present_probability",
    "soft": "soft_present",
}


@dataclass(frozen=True)
class ScorerOptions:
    """What scores: a server's address, a model of this process, or neither for the sham scorer.

    model: the name of a model, or what a server calls its own. batch_size: clips at a time. max_seconds: the longest
    piece that a model hears at once. store: the folder of embeddings that models of this process made.
    """

    endpoint: str | None = None
    embeddings_endpoint: str | None = None
    clap_model: str | None = None
    model: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 16
    max_seconds: float | None = None
    embedding_cache: Path = Path("benchmark_outputs/embeddings")

    @property
    def address(self) -> str | None:
        """Of the server, if one scores."""
        return self.endpoint or self.embeddings_endpoint


@dataclass(frozen=True)
class ServerOptions:
    """How a server is asked. timeout, max_wait: seconds for one reply and for all tries. token: secret, or None."""

    no_audio_send: bool = False
    sample_rate: int | None = None
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 5
    max_wait: float = 300.0
    max_consecutive_failures: int = 20
    restart: bool = False
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FilterOptions:
    """Which questions are asked."""

    min_raters: int = 1
    require_3_raters: bool = False
    exclude_flagged: bool = False
    unanimous_only: bool = False
    limit: int | None = None

    @property
    def fewest_raters(self) -> int:
        """What both flags amount to."""
        return max(self.min_raters, 3 if self.require_3_raters else 1)


@dataclass(frozen=True)
class BenchmarkOptions:
    """subset: a name, or both. labels: what scores are held against. by: keys of the clips' JSON files to slice by.

    model_name: the folder of its run, where its run is kept; None for its own.
    """

    subset: str
    scorer: ScorerOptions
    server: ServerOptions
    filters: FilterOptions
    labels: LabelSource
    threshold: float
    by: tuple[str, ...]
    bootstrap: int
    allow_missing: bool
    model_name: str | None
    analysis_root: Path
    dataset_root: Path
    output_dir: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """What a summary records of them."""
        return {"threshold": self.threshold, "bootstrap": self.bootstrap, **vars(self.filters)}

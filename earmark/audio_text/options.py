"""Options of benchmark.py."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from earmark.cli import NO_RAY, NO_TRACKERS, DatasetId, RayOptions, TrackerOptions
from earmark.metrics.resample import Resample

Protocol = Literal["earmark", "voicenet"]
# Smallest number of raters of an item under each protocol. voicenet: the VoiceNet paper, arXiv 2609.32016.
MIN_RATERS: dict[Protocol, int] = {"earmark": 1, "voicenet": 2}
LabelSource = Literal["majority", "dawid-skene", "soft"]
# Column of benchmark_labels.csv that holds each kind of reference label; values in [0, 1].
LABEL_COLUMNS: dict[LabelSource, str] = {
    "majority": "majority_present",
    "dawid-skene": "ds_present_probability",
    "soft": "soft_present",
}


@dataclass(frozen=True)
class ScorerOptions:
    """The model to benchmark: a server, an in-process model, or the sham scorer if no model is set.

    Attributes
    ----------
    endpoint : str or None
        URL of a server that scores a clip and a sentence.
    embeddings_endpoint : str or None
        URL of a server that embeds clips and sentences.
    clap_model : str or None
        Directory or hub id of a transformers ClapModel.
    model : str or None
        Directory, hub id or shortcut of an in-process model; with `embeddings_endpoint`, the model name to request;
        with `endpoint`, the name of the model in results.
    device : str
        "auto" selects a GPU if there is one.
    dtype : str
        "float32", "bfloat16" or "float16".
    batch_size : int
        Clips or windows per batch.
    text_batch_size : int or None
        Sentences per batch of an in-process model; None for `batch_size`.
    max_seconds : float or None
        Maximum window length in seconds; None for the default of the model.
    embedding_cache : Path
        Directory of the embedding cache for in-process models.
    """

    endpoint: str | None = None
    embeddings_endpoint: str | None = None
    clap_model: str | None = None
    model: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 16
    text_batch_size: int | None = None
    max_seconds: float | None = None
    embedding_cache: Path = Path("benchmark_outputs/embeddings")

    @property
    def address(self) -> str | None:
        """URL of the server; None if the model runs in this process."""
        return self.endpoint or self.embeddings_endpoint

    @property
    def is_in_process(self) -> bool:
        """Whether the scorer is a model in this process."""
        return not self.address and bool(self.clap_model or self.model)


@dataclass(frozen=True)
class ServerOptions:
    """Requests to a server.

    Attributes
    ----------
    no_audio_send : bool
        Send the name of a clip without its audio.
    sample_rate : int or None
        Sample rate in Hz to resample clips to; None sends files unchanged. Embeddings endpoint only.
    concurrency : int
        Number of concurrent requests.
    timeout : float
        Time limit of one reply, in seconds.
    retries : int
        Maximum number of retries of a request.
    max_wait : float
        Time limit of a request with all its retries, in seconds.
    max_consecutive_failures : int
        Number of consecutive failed requests after which the run stops.
    restart : bool
        Discard the journal of an interrupted run.
    token : str or None
        Bearer token.
    """

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
    """Filters on the items to evaluate.

    Attributes
    ----------
    min_raters : int
        Minimum number of raters of an item.
    require_3_raters : bool
        Equivalent to `min_raters=3`.
    exclude_flagged : bool
        Exclude items that a rater flagged.
    unanimous_only : bool
        Keep only items with at least two raters who all agree.
    limit : int or None
        Maximum number of pairs.
    """

    min_raters: int = 1
    require_3_raters: bool = False
    exclude_flagged: bool = False
    unanimous_only: bool = False
    limit: int | None = None

    @property
    def required_raters(self) -> int:
        """Minimum number of raters under both flags."""
        return max(self.min_raters, 3 if self.require_3_raters else 1)


@dataclass(frozen=True)
class BenchmarkOptions:
    """All options of a run.

    Attributes
    ----------
    subset : str
        Name of a subset; "both" for every published subset that has labels, or for those of `subset_file`; "all" also
        for those that analysis.py described.
    scorer : ScorerOptions
    server : ServerOptions
    filters : FilterOptions
    labels : {"majority", "dawid-skene", "soft"}
        Source of the reference labels.
    threshold : float
        A pair is predicted present if its similarity is at least this value.
    by : tuple of str
        Keys of the JSON files of the clips to slice by.
    bootstrap : int
        Number of bootstrap replicates; 0 for no intervals.
    allow_missing : bool
        Exit with 0 even if clips are missing.
    model_name : str or None
        Name of the model in the report and of its directory below `output_dir`/runs; None for the model's own.
    analysis_root, dataset_root, output_dir : Path
        Directories of the labels, of the clips and of the results.
    dataset_id : DatasetId or None
        Dataset to name in the files for model hubs; None writes none.
    trackers : TrackerOptions
    protocol : {"earmark", "voicenet"}
        Whose rules select the items and come first in the report.
    subset_file : Path or None
        Description of further subsets.
    prompt, clip : str or None
        Sentence and path of a clip, in place of those of the subset's description.
    prompts : Path or None
        Several sentences for each label.
    resample : {"clips", "raters", "both"}
        What intervals of the comparison with raters speak for.
    cluster : RayOptions
        Ray cluster that embeds clips with an in-process model.
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
    figures: bool
    embed_audio: float
    analysis_root: Path
    dataset_root: Path
    output_dir: Path
    dataset_id: DatasetId | None = None
    trackers: TrackerOptions = NO_TRACKERS
    protocol: Protocol = "earmark"
    subset_file: Path | None = None
    prompt: str | None = None
    clip: str | None = None
    prompts: Path | None = None
    resample: Resample = "clips"
    cluster: RayOptions = NO_RAY

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that summary.json records."""
        resample = {} if self.resample == "clips" else {"resample": self.resample}
        return {
            "threshold": self.threshold,
            "bootstrap": self.bootstrap,
            **vars(self.filters),
            **self.sentence_options,
            **resample,
        }

    @property
    def sentence_options(self) -> dict[str, Any]:
        """Options that replace the sentences or the clips of a subset; only those that are set."""
        prompts = None if self.prompts is None else self.prompts.name
        return {k: v for k, v in {"prompt": self.prompt, "clip": self.clip, "prompts": prompts}.items() if v}

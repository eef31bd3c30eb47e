"""Options of the `probe.py` commands, and the names of tracks and recipes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earmark.cli import NO_RAY, NO_TRACKERS, DatasetId, RayOptions, TrackerOptions
from earmark.errors import MissingError
from earmark.models.encoders.options import EncoderOptions

LINEAR, KNN = "linear", "knn"
TRACKS = (LINEAR, KNN)
XARES, STRICT, STRICT_GIVEN_SPLITS = "xares", "strict", "strict_given_splits"
RECIPES = (XARES, STRICT, STRICT_GIVEN_SPLITS)
BOTH = "both"
PUBLISHED_LANGUAGE_MODEL = "Qwen/Qwen2.5-0.5B"
ZENODO = "https://zenodo.org"


@dataclass(frozen=True)
class ProbeSettings:
    """Settings that apply to every task.

    Attributes
    ----------
    tracks : tuple of str
        `linear`, `knn` or both.
    protocols : tuple of str
        Recipes: `xares`, `strict` or both.
    seed : int
        First seed; also the seed of splits and draws.
    seeds : int
        Number of seeds of the strict recipe.
    layers : tuple of int or None
        Layers scored separately; empty for all, None for the encoder's own output.
    shots : int or None
        Training clips per class in few-shot training; None for all clips.
    replicates : int
        Bootstrap replicates.
    device : str
        Device that heads are trained on.
    language_model : str
        Name or folder of the language model for `asr` tasks under xares.
    tokenizer : str or None
        Name or folder of the tokenizer for `retrieval` tasks; None for words of the training captions.
    """

    tracks: tuple[str, ...] = TRACKS
    protocols: tuple[str, ...] = (XARES, STRICT)
    seed: int = 0
    seeds: int = 3
    layers: tuple[int, ...] | None = None
    shots: int | None = None
    replicates: int = 1000
    device: str = "cpu"
    language_model: str = PUBLISHED_LANGUAGE_MODEL
    tokenizer: str | None = None

    @property
    def needs_torch(self) -> bool:
        """Whether heads are trained with torch; few-shot heads are fitted without it."""
        return LINEAR in self.tracks and self.shots is None

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings as recorded in a summary."""
        return asdict(self)


@dataclass(frozen=True)
class RunOptions:
    """Options of `probe.py run`.

    Attributes
    ----------
    model : EncoderOptions
        Encoder or precomputed embeddings.
    tasks : tuple of str
        Task names, `all`, or paths of TOML files.
    data_root, output_dir : Path
        Folder with the data of tasks; parent of the encoders' result folders.
    track : str
        `linear`, `knn` or `both`.
    recipe : str
        `xares`, `strict` or `both`.
    bootstrap : int
        Bootstrap replicates.
    allow_missing : bool
        Whether clips without an embedding are excluded instead of failing the task.
    workers : int
        Tasks in parallel.
    model_name : str or None
        Encoder name in reports; None for the encoder's own.
    dataset_id : DatasetId or None
        Dataset to name in the files for model hubs; None writes none.
    trackers : TrackerOptions
    wait : bool
        Whether to wait for tasks that other processes work on; otherwise they are skipped.
    only_these_tasks : bool
        Whether the report leaves out tasks of other runs in the same folder.
    cluster : RayOptions
        Ray cluster that embeds clips and probes tasks.
    dry_run : bool
        Whether to print what would be done, and do nothing.
    seeds, layers, shots, language_model, tokenizer
        As in `ProbeSettings`.
    """

    model: EncoderOptions
    tasks: tuple[str, ...]
    data_root: Path
    output_dir: Path
    track: str = BOTH
    recipe: str = BOTH
    seeds: int = 3
    layers: tuple[int, ...] | None = None
    shots: int | None = None
    bootstrap: int = 1000
    allow_missing: bool = False
    workers: int = 1
    language_model: str = PUBLISHED_LANGUAGE_MODEL
    tokenizer: str | None = None
    model_name: str | None = None
    figures: bool = True
    embed_audio: float = 0.0
    dataset_id: DatasetId | None = None
    trackers: TrackerOptions = NO_TRACKERS
    wait: bool = False
    only_these_tasks: bool = False
    cluster: RayOptions = NO_RAY
    dry_run: bool = False

    def settings(self, seed: int) -> ProbeSettings:
        """Build the settings of a run.

        Parameters
        ----------
        seed : int
            First seed.

        Raises
        ------
        MissingError
            If options contradict each other.
        """
        if self.shots and self.recipe == XARES:
            raise MissingError(
                "--shots needs the strict recipe: xares has no few-shot training. Use `--recipe strict`."
            )
        protocols = (XARES, STRICT) if self.recipe == BOTH else (self.recipe,)
        return ProbeSettings(
            tracks=TRACKS if self.track == BOTH else (self.track,),
            protocols=(STRICT,) if self.shots else protocols,
            seed=seed,
            seeds=self.seeds,
            layers=self.layers,
            shots=self.shots,
            replicates=self.bootstrap,
            device=self.model.device,
            language_model=self.language_model,
            tokenizer=self.tokenizer,
        )


@dataclass(frozen=True)
class ReportOptions:
    """Options of `probe.py report`.

    Attributes
    ----------
    folders : tuple of Path
        Result folders of encoders, or their parents.
    tasks : tuple of str
        Tasks that the report is restricted to; empty for all.
    output_dir : Path
        Folder of the table of several encoders, and parent of merged result folders.
    figures, embed_audio, dataset_id
        As in `RunOptions`.
    """

    folders: tuple[Path, ...]
    tasks: tuple[str, ...] = ()
    output_dir: Path = Path("benchmark_outputs/probe")
    figures: bool = True
    embed_audio: float = 0.0
    dataset_id: DatasetId | None = None


@dataclass(frozen=True)
class CheckOptions:
    """Options of `probe.py check`.

    Attributes
    ----------
    model : EncoderOptions
        The encoder to check.
    max_clip_seconds : float or None
        Length of the longest test clip; None for the ten minutes of the challenge.
    max_memory : int or None
        Bytes that the encoder's process may hold; None for three quarters of the free memory.
    """

    model: EncoderOptions
    max_clip_seconds: float | None = None
    max_memory: int | None = None


@dataclass(frozen=True)
class ListOptions:
    """Options of `probe.py list`.

    Attributes
    ----------
    tasks : tuple of str
        Task names, `all`, or paths of TOML files; empty for all known tasks.
    data_root : Path
        Folder with the data of tasks.
    """

    tasks: tuple[str, ...]
    data_root: Path


@dataclass(frozen=True)
class DownloadOptions:
    """Options of `probe.py download`.

    Attributes
    ----------
    tasks : tuple of str
        Task names, or `all`.
    data_root : Path
        Folder to download into.
    zenodo : str
        Address of the Zenodo server.
    """

    tasks: tuple[str, ...]
    data_root: Path
    zenodo: str = ZENODO

"""What `probe.py` can be asked for, as records that its flags fill once, and the names of tracks and protocols."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    """What is asked of every task. seeds: of the strict protocol. layers: None for the last alone, or their numbers;
    empty for all. shots: clips of a class in few-shot training, None for all clips. device: of the heads.
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
        """Whether heads are trained; those of few shots are fitted without it."""
        return LINEAR in self.tracks and self.shots is None

    @property
    def parameters(self) -> dict[str, Any]:
        """What a summary records of them."""
        return asdict(self)


@dataclass(frozen=True)
class RunOptions:
    """`probe.py run`. tasks: names, all, or files. track, protocol: one of them, or both. bootstrap: replicates. jobs:
    tasks at a time. name: of the encoder in reports, if not its own.
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

    def settings(self, seed: int) -> ProbeSettings:
        """What the flags ask of every task. MissingError for what does not go together."""
        if self.shots and self.recipe == XARES:
            raise MissingError("--shots: the published recipe has no few-shot training; it is `--recipe strict` alone.")
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
class CheckOptions:
    """`probe.py check`. longest: seconds of the longest clip tried; None for the challenge's ten minutes."""

    model: EncoderOptions
    max_clip_seconds: float | None = None


@dataclass(frozen=True)
class ListOptions:
    """`probe.py list`. tasks: names, all, or files; all that are known where there are none."""

    tasks: tuple[str, ...]
    data_root: Path


@dataclass(frozen=True)
class DownloadOptions:
    """`probe.py download`. zenodo: the address of the archive."""

    tasks: tuple[str, ...]
    data_root: Path
    zenodo: str = ZENODO

"""Options of `finetune_speaker.py`."""

from dataclasses import dataclass
from pathlib import Path

TINY = "simam-resnet-tiny"
PUBLISHED, STRICT, SCRATCH = RECIPES = ("published", "strict", "scratch")  # tables in recipes.toml


@dataclass(frozen=True)
class ProcessGroup:
    """Place of this process among those that train together, as `torchrun` sets it.

    Attributes
    ----------
    size : int
        Number of processes.
    rank, local_rank : int
        Number of this process, among all and on its machine.
    """

    size: int = 1
    rank: int = 0
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of a run.

    Attributes
    ----------
    train : Path
        Folder spk/…/file, CSV or text list of training clips.
    output_dir : Path
    init : str or None
        Checkpoint folder, or ORG/NAME on the Hugging Face hub.
    model : str or None
        Name of a model with random weights, instead of `init`.
    recipe : str or None
        Name of the recipe; by default published, or scratch for a model with random weights.
    settings : tuple of str
        Changes to the recipe, `KEY=VALUE`.
    audio_root : Path or None
        Folder that paths in the list are relative to; its own folder by default.
    speakers : Path or None
        `utterance speaker` lines.
    validation : Path or None
        Labelled trial list for validation instead of held-out speakers.
    test : tuple of Path
        Trial lists whose speakers must not be trained on.
    allow_overlap, allow_missing : bool
        Whether to train on speakers of these lists, and whether to leave out unusable clips.
    noises, rooms : Path or None
        Folders of recordings for augmentation; built-in ones by default.
    device, dtype : str
        As in `load_encoder`; other types than float32 train with mixed precision.
    workers : int
        Threads that read and augment clips.
    restart : bool
        Whether to replace the run in `output_dir`.
    model_name : str or None
        Name in the report; that of `output_dir` by default.
    figures : bool
        Whether to write figures and report.html.
    group : ProcessGroup
    """

    train: Path
    output_dir: Path
    init: str | None = None
    model: str | None = None
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    audio_root: Path | None = None
    speakers: Path | None = None
    validation: Path | None = None
    test: tuple[Path, ...] = ()
    allow_overlap: bool = False
    allow_missing: bool = False
    noises: Path | None = None
    rooms: Path | None = None
    device: str = "auto"
    dtype: str = "float32"
    workers: int = 2
    restart: bool = False
    model_name: str | None = None
    figures: bool = True
    group: ProcessGroup = ProcessGroup()

"""What `compare.py` can be asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CompareOptions:
    """Flags of `compare.py`.

    Attributes
    ----------
    results : folders of finished results, or names below `runs`.
    names : a name for each result, by default those of their folders.
    reference : the system that the others are compared with, by name; the first by default.
    steps : the training step of each result, for checkpoints of one model.
    common : compare on the items that all results hold.
    bootstrap : replicates for results with clips or sources; trials need none.
    no_intervals : values and differences alone.
    figures : whether to write figures and report.html.
    embed_audio : MiB of audio that may become part of report.html; 0 links to the clips.
    """

    results: tuple[str, ...]
    names: tuple[str, ...] = ()
    reference: str | None = None
    steps: tuple[int, ...] = ()
    common: bool = False
    bootstrap: int = 1000
    no_intervals: bool = False
    figures: bool = True
    embed_audio: float = 0.0
    runs: Path = Path("benchmark_outputs/runs")
    dataset_root: Path = Path("dataset")
    audio_root: Path | None = None
    output_dir: Path = Path("benchmark_outputs/compare")

    @property
    def replicates(self) -> int:
        """Bootstrap replicates; 0 without intervals."""
        return 0 if self.no_intervals else self.bootstrap

    @property
    def parameters(self) -> dict[str, Any]:
        """What a summary records of the flags."""
        return {"common": self.common, "bootstrap": self.replicates, "reference": self.reference}

"""Options of `anonymize.py` and `analysis.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Ties = Literal["exclude", "absent"]
TIES: tuple[Ties, ...] = ("exclude", "absent")


@dataclass(frozen=True)
class AnonymizeOptions:
    """Options of `anonymize.py`.

    Attributes
    ----------
    subset : str
        Name of a subset, or "all".
    k_min : int or None
        Smallest acceptable k-anonymity; None disables the check.
    drop, keep : tuple of str
        Columns of users.csv to leave out, and columns to publish in addition to the documented ones.
    band_age : int or None
        Width of age bands in years; None keeps exact ages.
    coarsen_times : {"day", "month"} or None
        Precision of `created_at`; None keeps exact times.
    raw_root, output_dir : Path
        Input and output folder.
    """

    subset: str
    k_min: int | None
    drop: tuple[str, ...]
    keep: tuple[str, ...]
    band_age: int | None
    coarsen_times: str | None
    raw_root: Path
    output_dir: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """Options recorded in summary.json."""
        return {key: getattr(self, key) for key in ("k_min", "drop", "keep", "band_age", "coarsen_times")}


@dataclass(frozen=True)
class AnalysisOptions:
    """Options of `analysis.py`.

    Attributes
    ----------
    subset : str
        Name of a subset, or "all".
    required_raters : int
        Number of raters that makes an item complete.
    ties : {"exclude", "absent"}
        Label of tied items: none, or absent.
    exclude_rater : tuple of str
        Raters to exclude.
    min_reaction_ms : float or None
        Exclude ratings with a shorter reaction time, in milliseconds; None keeps all.
    exact_keys : bool
        Treat keys that differ only in spelling as different items.
    show_names : bool
        Write usernames that are not pseudonyms unchanged.
    bootstrap : int
        Number of bootstrap replicates; 0 gives no intervals.
    annotations_root, output_dir : Path
        Input and output folder.
    """

    subset: str
    required_raters: int
    ties: Ties
    exclude_rater: tuple[str, ...]
    min_reaction_ms: float | None
    exact_keys: bool
    show_names: bool
    bootstrap: int
    annotations_root: Path
    dataset_root: Path
    figures: bool
    embed_audio: float
    output_dir: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """Options recorded in summary.json; `exact_keys` only where it is set."""
        names = ("required_raters", "ties", "bootstrap", "exclude_rater", "min_reaction_ms")
        recorded = {name: getattr(self, name) for name in names}
        return {**recorded, "exact_keys": True} if self.exact_keys else recorded

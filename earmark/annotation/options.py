"""What `anonymize.py` and `analysis.py` can be asked for, as records that their flags fill once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Ties = Literal["exclude", "absent"]
TIES: tuple[Ties, ...] = ("exclude", "absent")


@dataclass(frozen=True)
class AnonymizeOptions:
    """subset: a name, or all. k_min: fewest people alike. drop, keep: columns. band_age: years. coarsen_times: day or
    month.
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
        """What a summary records of them."""
        return {key: getattr(self, key) for key in ("k_min", "drop", "keep", "band_age", "coarsen_times")}


@dataclass(frozen=True)
class AnalysisOptions:
    """subset: a name, or all. required_raters: of a complete item. bootstrap: replicates. exclude_rater: names.

    exact_keys: keys that differ only in spelling are different items. show_names: of people who have no pseudonym.
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
    output_dir: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """What a summary records of them."""
        names = ("required_raters", "ties", "bootstrap", "exclude_rater", "min_reaction_ms")
        told = {name: getattr(self, name) for name in names}
        return {**told, "exact_keys": True} if self.exact_keys else told

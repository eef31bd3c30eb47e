"""Options of `anonymize.py` and `analysis.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from earmark.annotation.subsets import ScaleName
from earmark.errors import MissingError
from earmark.metrics.resample import Resample

Ties = Literal["exclude", "absent"]
TIES: tuple[Ties, ...] = ("exclude", "absent")


@dataclass(frozen=True)
class ReadingOptions:
    """How tables of ratings are read.

    Attributes
    ----------
    map : tuple of str
        OLD=NEW: a column or a rating to rename.
    missing : tuple of str or None
        Ratings that mean "no rating", besides the empty cell; None if an empty cell is a fault where the format has no
        missing ratings.
    day_first, month_first : bool
        Order of dates that are not ISO 8601.
    decimal_comma : bool
        Numbers have a decimal comma.
    ignore_case : bool
        Ratings and raters that differ in case are the same.
    drop_identical : bool
        Drop lines that are equal to an earlier line in every column.
    exact_keys : bool
        Treat items, raters and ratings that differ only in spelling as different.
    """

    map: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None
    day_first: bool = False
    month_first: bool = False
    decimal_comma: bool = False
    ignore_case: bool = False
    drop_identical: bool = False
    exact_keys: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Options that differ from their default, for summary.json."""
        default = ReadingOptions()
        return {name: value for name, value in vars(self).items() if value != getattr(default, name)}

    def mapping(self) -> dict[str, str]:
        """New names by old names.

        Raises
        ------
        MissingError
            If an entry of `map` has no "=", an empty side or an old name that occurs twice.
        """
        pairs: dict[str, str] = {}
        for entry in self.map:
            old, equals, new = (part.strip() for part in entry.partition("="))
            if not equals or not old or not new:
                raise MissingError(f"--map {entry}: write OLD=NEW, such as --map schwach=weakly_present.")
            if pairs.get(old, new) != new:
                raise MissingError(f"--map: '{old}' is given twice, as '{pairs[old]}' and as '{new}'.")
            pairs[old] = new
        return pairs


AS_WRITTEN = ReadingOptions()


@dataclass(frozen=True)
class TableOptions:
    """A table of ratings, and its description by flags.

    Attributes
    ----------
    table : Path or None
        CSV, Parquet or JSON export of Label Studio; None to read the folders of subsets.
    users : Path or None
        Table of the raters, read with `table`.
    subset_file : Path or None
        TOML file that describes subsets.
    name : str or None
        Name of the outputs; None for the stem of the file.
    item : tuple of str
        Columns that identify an item.
    rater, rating : str or None
        Columns of the rater and of the rating.
    time : str or None
        Column of the time.
    scale : {"binary", "nominal", "ordinal", "interval"} or None
    order : tuple of str
        Levels of an ordinal scale from low to high.
    positive : str or None
        Level of a binary scale that counts as present.
    by : tuple of str
        Columns by whose values agreement is also reported.
    """

    table: Path | None = None
    users: Path | None = None
    subset_file: Path | None = None
    name: str | None = None
    item: tuple[str, ...] = ()
    rater: str | None = None
    rating: str | None = None
    time: str | None = None
    scale: ScaleName | None = None
    order: tuple[str, ...] = ()
    positive: str | None = None
    by: tuple[str, ...] = ()


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
    source : TableOptions
        A table or description that is not in `raw_root`.
    reading : ReadingOptions
    """

    subset: str
    k_min: int | None
    drop: tuple[str, ...]
    keep: tuple[str, ...]
    band_age: int | None
    coarsen_times: str | None
    raw_root: Path
    output_dir: Path
    source: TableOptions = TableOptions()
    reading: ReadingOptions = AS_WRITTEN

    @property
    def parameters(self) -> dict[str, Any]:
        """Options recorded in summary.json."""
        recorded = {key: getattr(self, key) for key in ("k_min", "drop", "keep", "band_age", "coarsen_times")}
        return {**recorded, **self.reading.parameters}


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
    trimmed_mean : float or None
        Share of ratings that the trimmed mean of an interval scale leaves out at either end; None for no such mean.
    resample : {"clips", "raters", "both"}
        What intervals generalise over.
    machine_rater : tuple of str
        Raters that are machines.
    gold : Path or None
        Table of quality items with the expected ratings.
    gold_column : str or None
        Column of the ratings with the expected rating of quality items.
    gold_tolerance : float
        Largest difference from the expected rating that passes on an interval scale.
    min_gold_rate : float or None
        Exclude raters whose pass rate is lower; None keeps all.
    show_names : bool
        Write usernames that are not pseudonyms unchanged.
    bootstrap : int
        Number of bootstrap replicates; 0 gives no intervals.
    annotations_root, output_dir : Path
        Input and output folder.
    source : TableOptions
        A table or description that is not in `annotations_root`.
    reading : ReadingOptions
    """

    subset: str
    required_raters: int
    ties: Ties
    exclude_rater: tuple[str, ...]
    min_reaction_ms: float | None
    trimmed_mean: float | None
    resample: Resample
    machine_rater: tuple[str, ...]
    gold: Path | None
    gold_column: str | None
    gold_tolerance: float
    min_gold_rate: float | None
    show_names: bool
    bootstrap: int
    annotations_root: Path
    dataset_root: Path
    figures: bool
    embed_audio: float
    output_dir: Path
    source: TableOptions = TableOptions()
    reading: ReadingOptions = AS_WRITTEN

    @property
    def parameters(self) -> dict[str, Any]:
        """Options recorded in summary.json; those of `reading` only where they are set."""
        names = ("required_raters", "ties", "bootstrap", "exclude_rater", "min_reaction_ms")
        recorded = {name: getattr(self, name) for name in names}
        further: dict[str, Any] = {
            "trimmed_mean": self.trimmed_mean,
            "resample": None if self.resample == "clips" else self.resample,
            "machine_rater": self.machine_rater,
            "gold": None if self.gold is None else self.gold.name,
            "gold_column": self.gold_column,
            "gold_tolerance": self.gold_tolerance,
            "min_gold_rate": self.min_gold_rate,
        }
        recorded |= {name: value for name, value in further.items() if value}
        return {**recorded, **self.reading.parameters}

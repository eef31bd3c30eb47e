"""Annotated subsets: scale, item keys, columns, clip paths and prompts. subsets.toml holds the published ones."""

import string
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

ScaleName = Literal["binary", "nominal", "ordinal", "interval"]
SCALES: tuple[ScaleName, ...] = ("binary", "nominal", "ordinal", "interval")
EMOLIA_BENCH = "emolia-bench"
FORMATS = (EMOLIA_BENCH, "table")


@dataclass(frozen=True)
class Prior:
    """Label expected from how the items were sampled.

    Attributes
    ----------
    column, value : str
        An item is expected to be present if and only if `column` equals `value`.
    """

    column: str
    value: str


@dataclass(frozen=True)
class Slice:
    """A summary table of the items grouped by one column.

    Attributes
    ----------
    slice : str
        Column to group by.
    columns : dict of str to str
        Columns of the table and the measure that each one holds.
    """

    slice: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Columns:
    """Names of columns in the table of ratings.

    Attributes
    ----------
    rater, rating : str
    time : str
        Time of a rating. Of repeated ratings the newest counts. Used if the table has it.
    id : str
        Unique identifier of a rating. Used if the table has it.
    """

    rater: str = "username"
    rating: str = "rating"
    time: str = "created_at"
    id: str = "annotation_id"


@dataclass(frozen=True)
class Subset:
    """One annotated subset.

    Attributes
    ----------
    name : str
    scale : {"binary", "nominal", "ordinal", "interval"}
    key : tuple of str
        Columns that identify an item.
    levels : tuple of str
        Rating levels: classes of a nominal scale, levels of an ordinal or binary scale from low to high. Empty for an
        interval scale, and for a nominal or binary scale whose levels are those of the data.
    present_from : str or None
        Lowest level that counts as present, for a binary or ordinal scale; None without such a decision.
    columns : Columns
    format : {"emolia-bench", "table"}
        "emolia-bench" requires users.csv, identifiers and times, and adds the comparison with emolia-bench to the
        report. "table" requires only the key, the rater and the rating.
    choices : dict of str to tuple of str
        Allowed values of columns.
    carried : tuple of str
        Columns of annotations.csv that are copied to the labels.
    by : tuple of str
        Columns of the key or carried columns; agreement is also reported for each of their values.
    prior : Prior or None
        None if the sampling of the items implies no label.
    words : dict of str to str
        Names of "present" and "absent" in `benchmark_bucket`.
    clip : str
        Path of a clip below dataset/<subset>/, with {column} for values of the key; by default the first key column.
    sham_stem : {"stem", "path"}
        Input that the sham scorer hashes.
    prompt : dict of str to str
        A sentence, with {label} for the value of a column, or a rubric file and the columns that select a text in it.
        On a nominal scale {label} is a class. Empty if there are no sentences.
    slices : tuple of str
        Columns of predictions by which metrics are sliced.
    difficulty : dict of str to str
        Column whose values are ranked by unanimity, and the noun for its values; may be empty.
    names : dict of str to str
        Names of the label columns "expected" and "matches_expected".
    labels : tuple of str
        Columns of benchmark_labels.csv, in order; empty for the columns of the scale.
    summaries : dict of str to Slice
        Summary tables by file name.
    """

    name: str
    scale: ScaleName
    key: tuple[str, ...]
    levels: tuple[str, ...] = ()
    present_from: str | None = None
    columns: Columns = Columns()
    format: str = "table"
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    prior: Prior | None = None
    words: dict[str, str] = field(default_factory=lambda: {"present": "present", "absent": "absent"})
    clip: str = ""
    sham_stem: str = "path"
    prompt: dict[str, str] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    difficulty: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(
        default_factory=lambda: {"expected": "expected", "matches_expected": "matches_expected"}
    )
    labels: tuple[str, ...] = ()
    summaries: dict[str, Slice] = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        """Whether ratings are present or absent, so that the measures of a binary decision are defined."""
        return self.present_from is not None

    @property
    def is_ordinal(self) -> bool:
        """Whether the levels are ordered and more than two, so that ordinal coefficients are defined."""
        return self.scale == "ordinal" and len(self.levels) > 2

    @property
    def first_present(self) -> int:
        """Lowest position on the scale that counts as present.

        Raises
        ------
        ValueError
            If the scale has no decision between present and absent.
        """
        if self.present_from is None:
            raise ValueError(f"{self.name} has no level from which a rating counts as present")
        return self.levels.index(self.present_from)

    @property
    def meaning(self) -> dict[str, Any]:
        """What the ratings mean, as far as agreement depends on it."""
        return {
            "scale": self.scale,
            "levels": list(self.levels),
            "present_from": self.present_from,
            "key": list(self.key),
            "rater": self.columns.rater,
            "rating": self.columns.rating,
        }

    @property
    def clip_pattern(self) -> str:
        """Path of a clip below dataset/<subset>/, with {column} for columns of the labels."""
        return self.clip or "{" + self.key[0] + "}"

    @property
    def clip_columns(self) -> tuple[str, ...]:
        """Key columns that identify a clip: those in the path of the clip."""
        fields = {name for _, name, _, _ in string.Formatter().parse(self.clip_pattern) if name}
        return tuple(column for column in self.key if column in fields) or self.key[:1]

    @property
    def scales(self) -> tuple[str, ...]:
        """Scales on which agreement is reported for a decided subset: "binary" and, if defined, "ordinal"."""
        return ("binary", "ordinal") if self.is_ordinal else ("binary",)


@cache
def subsets() -> dict[str, Subset]:
    """The published subsets by name, in the order of subsets.toml.

    Returns
    -------
    dict of str to Subset

    Raises
    ------
    DataError
        If subsets.toml has faults.

    Examples
    --------
    >>> "emolia-dim" in subsets()
    True
    """
    from earmark.annotation.subset_files import parse_subsets

    text = files(__package__).joinpath("subsets.toml").read_text(encoding="utf-8")
    return {subset.name: subset for subset in parse_subsets(text, "subsets.toml")}


def select_subsets(name: str) -> list[Subset]:
    """Select one published subset by name, or all of them.

    Parameters
    ----------
    name : str
        Name of a subset. Any other word, such as "all" or "both", selects every subset.

    Returns
    -------
    list of Subset

    Examples
    --------
    >>> [subset.name for subset in select_subsets("emolia-dim")]
    ['emolia-dim']
    """
    known = subsets()
    return [known[name]] if name in known else list(known.values())

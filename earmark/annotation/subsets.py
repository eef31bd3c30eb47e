"""Annotated subsets, defined in subsets.toml: item keys, rating scale, clip paths and prompts."""

import dataclasses
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from earmark.errors import MissingError


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
class Subset:
    """One annotated subset.

    Attributes
    ----------
    name : str
    scale : tuple of str
        Rating levels from low to high.
    present_from : str
        Lowest level that counts as present.
    key : tuple of str
        Columns that identify an item.
    choices : dict of str to tuple of str
        Allowed values of columns.
    carried : tuple of str
        Columns of annotations.csv that are copied to the labels.
    prior : Prior
    words : dict of str to str
        Names of "present" and "absent" in `benchmark_bucket`.
    clip : str
        Path of a clip below dataset/<subset>/, with {column} for values of the key.
    sham_stem : {"stem", "path"}
        Input that the sham scorer hashes.
    prompt : dict of str to str
        A sentence with {label}, or a rubric file and the columns that select a text in it.
    slices : tuple of str
        Columns of predictions by which metrics are sliced.
    difficulty : dict of str to str
        Column whose values are ranked by unanimity, and the noun for its values.
    names : dict of str to str
        Names of the label columns "expected" and "matches_expected".
    labels : tuple of str
        Columns of benchmark_labels.csv, in order.
    summaries : dict of str to Slice
        Summary tables by file name.
    """

    name: str
    scale: tuple[str, ...]
    present_from: str
    key: tuple[str, ...]
    choices: dict[str, tuple[str, ...]]
    carried: tuple[str, ...]
    prior: Prior
    words: dict[str, str]
    clip: str
    sham_stem: str
    prompt: dict[str, str]
    slices: tuple[str, ...]
    difficulty: dict[str, str]
    names: dict[str, str]
    labels: tuple[str, ...]
    summaries: dict[str, Slice]

    @property
    def is_ordinal(self) -> bool:
        """Whether the scale has more than two levels, so that ordinal coefficients are defined."""
        return len(self.scale) > 2

    @property
    def first_present(self) -> int:
        """Lowest position on the scale that counts as present."""
        return self.scale.index(self.present_from)

    @property
    def clip_columns(self) -> tuple[str, ...]:
        """Key columns that identify a clip: the file name, or all columns of the path if file names repeat."""
        if self.sham_stem == "stem":
            return ("file_name",)
        return tuple(column for column in self.key if f"{{{column}}}" in self.clip)

    @property
    def scales(self) -> tuple[str, ...]:
        """Scales on which agreement is reported: "binary" and, if defined, "ordinal"."""
        return ("binary", "ordinal") if self.is_ordinal else ("binary",)


@cache
def subsets() -> dict[str, Subset]:
    """All subsets by name, in the order of subsets.toml.

    Returns
    -------
    dict of str to Subset

    Raises
    ------
    MissingError
        If a table of subsets.toml has missing, unknown or inconsistent fields.

    Examples
    --------
    >>> "emolia-dim" in subsets()
    True
    """
    tables = tomllib.loads(files(__package__).joinpath("subsets.toml").read_text(encoding="utf-8"))
    return {name: _parse_subset(name, fields) for name, fields in tables.items()}


def _parse_subset(name: str, fields: dict[str, Any]) -> Subset:
    fields = {"choices": {}, "carried": [], "summaries": {}, **fields}
    known = {field.name for field in dataclasses.fields(Subset)} - {"name"}
    faults = [f"missing field {field}" for field in sorted(known - set(fields))]
    faults += [f"unknown field {field}" for field in sorted(set(fields) - known)]
    if not faults and fields["present_from"] not in fields["scale"]:
        faults = [f"present_from = {fields['present_from']!r} is not in scale"]
    if not faults and not {"n_raters", "benchmark_bucket", "majority_present", *fields["key"]} <= set(fields["labels"]):
        faults = ["labels must include the key columns, benchmark_bucket, majority_present and n_raters"]
    if faults:
        raise MissingError(
            f"subsets.toml: [{name}] {'; '.join(faults)}. See the comment at the top of subsets.toml for all fields."
        )
    converted: dict[str, Any] = {
        "prior": Prior(**fields.pop("prior")),
        "summaries": {file: Slice(**columns) for file, columns in fields.pop("summaries").items()},
        "choices": {column: tuple(values) for column, values in fields.pop("choices").items()},
    }
    plain: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in fields.items()
    }
    return Subset(name=name, **converted, **plain)


def select_subsets(name: str) -> list[Subset]:
    """Select one subset by name, or all subsets.

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

"""The annotated subsets, read from subsets.toml: what identifies an item, how it is rated, how it is asked about."""

import dataclasses
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from earmark.errors import MissingError


@dataclass(frozen=True)
class Prior:
    """What the sampling expected of an item: present exactly where `column` holds `value`."""

    column: str
    value: str


@dataclass(frozen=True)
class Slice:
    """A summary file: the column that slices, and the measure behind each column to write."""

    slice: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Subset:
    """One annotated subset; the comment on top of subsets.toml says what each field means."""

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
        """Whether the scale has more than two levels, so that ordinal figures exist beside the binary ones."""
        return len(self.scale) > 2

    @property
    def first_present(self) -> int:
        """Position on the scale from which a rating counts as present."""
        return self.scale.index(self.present_from)

    @property
    def clip_columns(self) -> tuple[str, ...]:
        """The key columns that tell clips apart: the file name, or all that its path is made of where names repeat."""
        if self.sham_stem == "stem":
            return ("file_name",)
        return tuple(column for column in self.key if f"{{{column}}}" in self.clip)

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales on which agreement is reported."""
        return ("binary", "ordinal") if self.is_ordinal else ("binary",)


@cache
def subsets() -> dict[str, Subset]:
    """Every subset by name, in the order of subsets.toml.

    >>> list(subsets())
    ['emolia-emo', 'emolia-dim']
    """
    described = tomllib.loads(files(__package__).joinpath("subsets.toml").read_text(encoding="utf-8"))
    return {name: _subset(name, fields) for name, fields in described.items()}


def _subset(name: str, fields: dict[str, Any]) -> Subset:
    fields = {"choices": {}, "carried": [], "summaries": {}, **fields}
    known = {field.name for field in dataclasses.fields(Subset)} - {"name"}
    wrong = [f"lacks {field}" for field in sorted(known - set(fields))]
    wrong += [f"has the unknown field {field}" for field in sorted(set(fields) - known)]
    if not wrong and fields["present_from"] not in fields["scale"]:
        wrong = [f"has present_from = {fields['present_from']!r}, which is not on its scale"]
    if not wrong and not {"n_raters", "benchmark_bucket", "majority_present", *fields["key"]} <= set(fields["labels"]):
        wrong = ["has labels without its key, benchmark_bucket, majority_present or n_raters"]
    if wrong:
        raise MissingError(f"subsets.toml: [{name}] {'; '.join(wrong)}. The comment on top says what each field means.")
    made: dict[str, Any] = {
        "prior": Prior(**fields.pop("prior")),
        "summaries": {file: Slice(**columns) for file, columns in fields.pop("summaries").items()},
        "choices": {column: tuple(values) for column, values in fields.pop("choices").items()},
    }
    plain: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in fields.items()
    }
    return Subset(name=name, **made, **plain)


def select_subsets(name: str) -> list[Subset]:
    """The subset of a name, or all of them for a word that is no name, such as all.

    >>> [subset.name for subset in select_subsets("emolia-dim")], len(select_subsets("all"))
    (['emolia-dim'], 2)
    """
    known = subsets()
    return [known[name]] if name in known else list(known.values())

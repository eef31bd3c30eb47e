"""Models of summary.json: the common fields, reading and writing. The schema of each domain adds its own fields.

Summaries of earlier releases must stay readable: new fields get a default, and fields never change their meaning.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from earmark.errors import EarmarkError, shown_path
from earmark.metrics.estimate import Estimate
from earmark.report.signature import Signature

SCHEMA_VERSION = 2  # version 1 had `seeds` instead of `n_heads` in probe scores


class StrictModel(BaseModel):
    """Model that forbids unknown keys, NaN and infinity.

    Attributes
    ----------
    omitted_when_default : frozenset of str
        Fields that are left out of JSON where they have their default.
    """

    omitted_when_default: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, values: Any) -> Any:
        return _plain(values)


class Input(StrictModel):
    """An input file."""

    path: str
    sha256: str
    rows: int


class Exclusion(StrictModel):
    """A reason for exclusion and the number of excluded items."""

    reason: str
    count: int


class SummaryBase(StrictModel):
    """Fields that every summary begins with."""

    schema_version: int
    script: str
    argv: list[str]
    created_utc: str
    git: dict[str, str | bool | None]
    python: str
    packages: dict[str, str]
    device: str
    seed: int
    signature: Signature
    inputs: list[Input]
    parameters: dict[str, Any]
    exclusions: list[Exclusion]

    @classmethod
    def from_common(cls, common: "SummaryBase", *results: StrictModel, **own: Any) -> Self:
        """Create a summary from common fields, results and further fields.

        Parameters
        ----------
        common : SummaryBase
            From `provenance`.
        results : StrictModel
            Models whose fields are copied.
        own
            Further fields.

        Raises
        ------
        pydantic.ValidationError
            If a field is missing or invalid.
        """
        keys = {name: getattr(common, name) for name in SummaryBase.model_fields}
        return cls(**keys, **{name: value for result in results for name, value in result}, **own)


Summary = TypeVar("Summary", bound=SummaryBase)


def to_json(summary: BaseModel) -> str:
    """Serialise a summary, or a part of it, as JSON with its keys in order.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    return json.dumps(_jsonable(summary), indent=2, ensure_ascii=False, allow_nan=False, default=_jsonable) + "\n"


def read_summary(model: type[Summary], path: Path) -> Summary:
    """Read a summary of this or an earlier release.

    Parameters
    ----------
    model : subclass of SummaryBase
    path : Path

    Raises
    ------
    EarmarkError
        If the file is not a valid summary.
    """
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[:3]
        raise EarmarkError(
            f"{shown_path(path)} is not a valid {model.__name__}: {' '.join(first)}; rerun the command that wrote it"
        ) from error


def _plain(value: Any) -> Any:
    """Convert NumPy scalars to Python numbers, recursively."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _jsonable(value: object) -> object:
    if isinstance(value, StrictModel):
        own, omitted = type(value).model_fields, value.omitted_when_default
        defaults = {name: own[name].get_default(call_default_factory=True) for name in omitted & own.keys()}
        return {key: item for key, item in value if key not in defaults or item != defaults[key]}
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, Estimate):
        return value.as_dict()
    if isinstance(value, Signature):
        return str(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot serialise {type(value).__name__} in a summary")

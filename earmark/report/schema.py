"""What every summary.json begins with; the models that write and read it. Each domain's `schema` adds its own keys.

A file of an earlier release must still load: fields are added with a default, and never change their meaning.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from earmark.errors import EarmarkError, shown_path
from earmark.metrics.estimate import Estimate
from earmark.report.signature import Signature

SCHEMA_VERSION = 2  # 1: `seeds` in scores of probes, which is `n_heads` now


class StrictModel(BaseModel):
    """A model that knows all its keys and admits neither NaN nor infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, values: Any) -> Any:
        return _plain(values)


class Input(StrictModel):
    """A file that was read."""

    path: str
    sha256: str
    rows: int


class Exclusion(StrictModel):
    """Something left out, and how much of it."""

    reason: str
    count: int


class SummaryBase(StrictModel):
    """What every summary begins with."""

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
        """A summary that begins with another's keys. ValidationError where one of its own is wrong or missing.

        results: models whose fields are this one's too, as computations gave them.
        """
        keys = {name: getattr(common, name) for name in SummaryBase.model_fields}
        return cls(**keys, **{name: value for result in results for name, value in result}, **own)


Summary = TypeVar("Summary", bound=SummaryBase)


def to_json(summary: BaseModel) -> str:
    """A summary, or a part of it, as JSON text, its keys in their order. ValueError for a number that is not finite."""
    return json.dumps(_jsonable(summary), indent=2, ensure_ascii=False, allow_nan=False, default=_jsonable) + "\n"


def read_summary(model: type[Summary], path: Path) -> Summary:
    """A summary that some run wrote, of this release or an earlier one. EarmarkError names what is wrong with it."""
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[:3]
        raise EarmarkError(f"{shown_path(path)} is no {model.__doc__}: {' '.join(first)}; make it again.") from error


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's, however deep."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _jsonable(value: object) -> object:
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
    raise TypeError(f"{type(value).__name__} does not belong in a summary")

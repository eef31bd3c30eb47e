"""Recipes of fine-tuning: tables of settings in recipes.toml, and changes to them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import Any

from earmark.errors import MissingError

LAST, BEST = "last", "best"
BASE = "based_on"


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run; recipes.toml explains them."""

    segment_frames: int
    min_frames: int
    max_frames: int
    min_utterances: int
    augment_probability: float
    dither: float
    batch_size: int
    epochs: int
    scale: float
    margin: tuple[float, float]
    margin_epochs: tuple[float, float]
    margin_first_epoch: int
    learning_rate: tuple[float, float]
    reference_batch: int
    warmup_epochs: float
    momentum: float
    weight_decay: float
    validation_share: float
    select: str

    @property
    def faults(self) -> list[str]:
        """One sentence for each invalid setting."""
        positive = ("segment_frames", "min_frames", "max_frames", "min_utterances", "batch_size", "epochs", "scale")
        shares = ("augment_probability", "validation_share", "momentum")
        faults = [f"{name} must be above 0" for name in positive if getattr(self, name) <= 0]
        faults += [f"{name} must be from 0 to 1" for name in shares if not 0 <= getattr(self, name) <= 1]
        natural = ("dither", "reference_batch", "warmup_epochs", "weight_decay")
        faults += [f"{name} must be at least 0" for name in natural if getattr(self, name) < 0]
        if self.max_frames < self.min_frames:
            faults.append("max_frames must be at least min_frames")
        if min(self.learning_rate) <= 0:
            faults.append("learning_rate must be above 0")
        if not all(0 <= margin < 1.5 for margin in self.margin):
            faults.append("margin must be from 0 to below 1.5")
        if self.margin_epochs[1] < self.margin_epochs[0]:
            faults.append("margin_epochs must rise")
        if self.select not in (LAST, BEST):
            faults.append("select must be last or best")
        return faults


@cache
def recipes() -> dict[str, Recipe]:
    """All recipes by name.

    Examples
    --------
    >>> recipes()["published"].epochs, recipes()["strict"].margin_first_epoch
    (6, 0)
    """
    tables = tomllib.loads(files(__package__).joinpath("recipes.toml").read_text(encoding="utf-8"))
    return {name: _recipe(name, tables) for name in tables}


def _recipe(name: str, tables: Mapping[str, Mapping[str, Any]]) -> Recipe:
    settings = {key: value for key, value in tables[name].items() if key != BASE}
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    base = tables[name].get(BASE)
    return Recipe(**settings) if base is None else replace(_recipe(base, tables), **settings)


def with_settings(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Change settings of a recipe.

    Parameters
    ----------
    recipe : Recipe
    changes : sequence of str
        `KEY=VALUE`; two values are separated by a comma.

    Returns
    -------
    Recipe

    Raises
    ------
    MissingError
        With all unknown keys and invalid values.

    Examples
    --------
    >>> with_settings(recipes()["published"], ["epochs=2", "learning_rate=1e-4,1e-5"]).learning_rate
    (0.0001, 1e-05)
    """
    faults, values = [], dict[str, Any]()
    current = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or key not in current:
            faults.append(f"{change!r} is not one of {', '.join(f'{name}=…' for name in current)}")
            continue
        try:
            values[key] = _parsed(text, current[key])
        except ValueError:
            faults.append(f"{key} must be like {_shown(current[key])}, not {text!r}")
    changed = replace(recipe, **values)
    faults += changed.faults
    if faults:
        raise MissingError("\n  ".join(["Invalid settings of the recipe:", *faults]))
    return changed


def _parsed(text: str, like: Any) -> Any:
    if isinstance(like, tuple):
        parts = tuple(_parsed(part, 0.0) for part in text.split(","))
        if len(parts) != len(like):
            raise ValueError(text)
        return parts
    value = type(like)(text)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(text)
    return value


def _shown(value: Any) -> str:
    return ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)

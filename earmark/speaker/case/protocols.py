"""The CASE benchmark: how far speaker verification suffers from the carrier, from clean audio to playback.

Twenty-four protocols in six categories; every aggregate follows from the protocols' equal error rates.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark.errors import EarmarkError, shown_path

FloatArray = NDArray[np.float64]
CLEAN = "clean_clean"
SELF_MADE = "yours, self-made carriers"
COLUMNS = (
    "rank",
    "model_name",
    "clean_eer",
    "absolute_eer",
    "degradation_factor",
    "case_score_v1",
    "rank_degradation",
    "rank_clean",
    "source",
)


@cache
def facts() -> dict[str, Any]:
    """The published facts: `hub`, `categories`, `protocols`, and the `published` models."""
    return tomllib.loads(files(__package__).joinpath("case.toml").read_text(encoding="utf-8"))


def protocols() -> list[str]:
    """The 24 protocols, clean first.

    >>> len(protocols()), protocols()[0]
    (24, 'clean_clean')
    """
    return list(facts()["protocols"])


def category(protocol: str) -> str:
    """The category of a protocol: the second word of its name.

    >>> category("clean_codec_opus_6k")
    'codec'
    """
    return protocol.split("_")[1]


@dataclass(frozen=True)
class Aggregates:
    """What CASE makes of its protocols. Rates are shares in [0, 1]; lower is better everywhere."""

    clean_eer: float
    absolute_eer: float
    degradation_factor: float
    case_score_v1: float
    category_breakdown: dict[str, float]


def aggregates(eers: Mapping[str, float]) -> Aggregates:
    """The aggregates of {protocol: equal error rate}, of all 24 protocols.

    absolute_eer: mean of the six categories' means. degradation_factor: that less clean_eer. case_score_v1: mean
    over categories of mean / clean_eer, where the clean category enters with its raw rate, as in the published
    tool; the ratio flatters models that are poor on clean audio. A clean_eer of 0 has no such ratio: infinity.
    ValueError names protocols that are missing, unknown or not finite.
    """
    wrong = [f"{p} is missing" for p in protocols() if p not in eers]
    wrong += [f"{p} is no protocol of CASE" for p in eers if p not in protocols()]
    wrong += [f"{p} has the equal error rate {e}" for p, e in eers.items() if not 0 <= e <= 1]
    if wrong:
        raise ValueError("; ".join(wrong))
    return _of_categories({name: float(mean) for name, mean in category_means(eers).items()})


def category_means(eers: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    """Mean over the protocols of each category, of numbers or of arrays of replicates."""
    return {
        name: np.mean([np.asarray(eers[p], dtype=float) for p in protocols() if category(p) == name], axis=0)
        for name in facts()["categories"]
    }


def headline(means: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    """The four aggregates, from the categories' means; the ratio is infinite where clean speech has no errors."""
    arrays = {name: np.asarray(mean, dtype=float) for name, mean in means.items()}
    clean = arrays["clean"]
    without_errors = clean == 0
    ratios = [
        mean if name == "clean" else np.where(without_errors, np.inf, mean / np.where(without_errors, 1, clean))
        for name, mean in arrays.items()
    ]
    absolute = np.mean(list(arrays.values()), axis=0)
    return {
        "clean_eer": clean,
        "absolute_eer": absolute,
        "degradation_factor": absolute - clean,
        "case_score_v1": np.mean(ratios, axis=0),
    }


def _of_categories(means: Mapping[str, float]) -> Aggregates:
    return Aggregates(**{name: float(value) for name, value in headline(means).items()}, category_breakdown=dict(means))


@dataclass(frozen=True)
class Results:
    """A model's {protocol: equal error rate}. self_made: on carriers made elsewhere than at CASE."""

    model_name: str
    eers: dict[str, float]
    self_made: bool = False


def read_results(path: Path) -> Results:
    """What a results file of any shape in circulation says.

    `protocol_results` holds numbers or tables with `eer`, in every shape: the submission's, the published files' (with
    `contributions` and `case_score_v2`), the tool's own (with `category_summary`). Aggregates are not read.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        results = said["protocol_results"]
        eers = {str(name): float(r["eer"] if isinstance(r, dict) else r) for name, r in results.items()}
        config = said.get("config") or {}
        return Results(str(said.get("model_name") or path.stem), eers, bool(config.get("self_made_carriers")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EarmarkError(f"{shown_path(path)} is no results file: {type(error).__name__}: {error}") from error


def leaderboard(results: Sequence[Results]) -> pd.DataFrame:
    """Models beside the six published ones, best absolute EER first, with the ranks by degradation and clean EER.

    Equal figures share a rank. Results on self-made carriers come last and have none: they are of other data.
    """
    rows = [(one.model_name, aggregates(one.eers), SELF_MADE if one.self_made else "yours") for one in results]
    rows += [(m["model_name"], _of_categories(m["category_breakdown"]), "published") for m in facts()["published"]]
    table = pd.DataFrame(
        [
            {
                "model_name": name,
                **{key: getattr(found, key) for key in COLUMNS[2:6]},
                **{f"eer_{key}": value for key, value in found.category_breakdown.items()},
                "source": source,
            }
            for name, found, source in rows
        ]
    )
    for rank, key in (
        ("rank", "absolute_eer"),
        ("rank_degradation", "degradation_factor"),
        ("rank_clean", "clean_eer"),
    ):
        ranked = table[key].where(table["source"] != SELF_MADE).round(12)
        table[rank] = ranked.rank(method="min").astype("Int64")
    by_category = [f"eer_{name}" for name in facts()["categories"]]
    return table.sort_values(["rank", "absolute_eer", "model_name"], ignore_index=True)[
        [*COLUMNS[:-1], *by_category, "source"]
    ]

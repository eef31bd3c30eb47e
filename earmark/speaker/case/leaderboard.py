"""Results on CASE beside the models that it published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from earmark.errors import EarmarkError, shown_path
from earmark.speaker.case.conditions import AGGREGATES, Aggregates, aggregate_eers, case_definition, categories

SELF_MADE = "yours, self-made carriers"
RANKS = {"rank": "absolute_eer", "rank_degradation": "degradation_factor", "rank_clean": "clean_eer"}
COLUMNS = ("rank", "model_name", *AGGREGATES, "rank_degradation", "rank_clean", "source")


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
        content = json.loads(path.read_text(encoding="utf-8"))
        results = content["protocol_results"]
        eers = {str(name): float(r["eer"] if isinstance(r, dict) else r) for name, r in results.items()}
        config = content.get("config") or {}
        return Results(str(content.get("model_name") or path.stem), eers, bool(config.get("self_made_carriers")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EarmarkError(f"{shown_path(path)} is no results file: {type(error).__name__}: {error}") from error


def leaderboard(results: Sequence[Results]) -> pd.DataFrame:
    """Models beside the published ones, best absolute EER first, with the ranks by degradation and clean EER.

    Equal figures share a rank. Results on self-made carriers come last and have none: they are of other data.
    """
    rows = [_row(one.model_name, aggregate_eers(one.eers), SELF_MADE if one.self_made else "yours") for one in results]
    rows += [
        _row(model["model_name"], Aggregates.of_categories(model["category_breakdown"]), "published")
        for model in case_definition()["published"]
    ]
    table = pd.DataFrame(rows)
    for rank, key in RANKS.items():
        ranked = table[key].where(table["source"] != SELF_MADE).round(12)
        table[rank] = ranked.rank(method="min").astype("Int64")
    by_category = [f"eer_{name}" for name in categories()]
    return table.sort_values(["rank", "absolute_eer", "model_name"], ignore_index=True)[
        [*COLUMNS[:-1], *by_category, "source"]
    ]


def _row(name: str, found: Aggregates, source: str) -> dict[str, str | float]:
    by_name = {key if key in AGGREGATES else f"eer_{key}": value for key, value in found.by_name.items()}
    return {"model_name": name, **by_name, "source": source}

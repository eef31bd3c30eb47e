"""Rank results on CASE among the models published with the benchmark."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from earmark.errors import EarmarkError, shown_path
from earmark.report.tables import Table, distinct_decimals, percent
from earmark.speaker.case.conditions import AGGREGATES, Aggregates, aggregate_eers, case_definition, categories

SIMULATED = "yours, simulated conditions"
RANKS = {"rank": "absolute_eer", "rank_degradation": "degradation_factor", "rank_clean": "clean_eer"}
COLUMNS = ("rank", "model_name", *AGGREGATES, "rank_degradation", "rank_clean", "source")
HEADERS = {
    "model_name": "model",
    "clean_eer": "clean EER",
    "absolute_eer": "absolute EER",
    "degradation_factor": "degradation",
    "case_score_v1": "CASE score v1",
    "rank_degradation": "rank (degradation)",
    "rank_clean": "rank (clean EER)",
}


@dataclass(frozen=True)
class ModelResults:
    """Results of one model.

    Attributes
    ----------
    model_name : str
    eers : dict
        Condition to equal error rate in [0, 1].
    simulated : bool
        True if the model was evaluated on simulated conditions instead of the official benchmark.
    """

    model_name: str
    eers: dict[str, float]
    simulated: bool = False


def read_results(path: Path) -> ModelResults:
    """Read the equal error rates of a results file.

    Parameters
    ----------
    path : Path
        JSON with `protocol_results`: condition to rate, or condition to an object with `eer`. The files of
        submissions, of the published models and of the CASE tool all have this key. Aggregates are ignored.

    Returns
    -------
    ModelResults
        The name defaults to the file name without suffix.

    Raises
    ------
    EarmarkError
        If the file cannot be read or has another structure.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = content["protocol_results"]
        eers = {str(name): float(r["eer"] if isinstance(r, dict) else r) for name, r in results.items()}
        config = content.get("config") or {}
        return ModelResults(str(content.get("model_name") or path.stem), eers, bool(config.get("self_made_carriers")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EarmarkError(f"{shown_path(path)}: not a CASE results file ({type(error).__name__}: {error})") from error


def leaderboard(results: Sequence[ModelResults]) -> pd.DataFrame:
    """Rank models together with the published ones.

    Parameters
    ----------
    results : sequence of ModelResults
        Rates of all 24 conditions for each model.

    Returns
    -------
    DataFrame
        Columns `COLUMNS` without `source`, then eer_<category>, then `source`; sorted by absolute_eer. Equal values
        share a rank. Results on simulated conditions are not comparable: they come last and have no rank.

    Raises
    ------
    ValueError
        If a condition is missing or unknown, or a rate is not in [0, 1].
    """
    rows = [
        _row(model.model_name, aggregate_eers(model.eers), SIMULATED if model.simulated else "yours")
        for model in results
    ]
    rows += [
        _row(model["model_name"], Aggregates.from_category_means(model["category_breakdown"]), "published")
        for model in case_definition()["published"]
    ]
    table = pd.DataFrame(rows)
    for rank, key in RANKS.items():
        ranked = table[key].where(table["source"] != SIMULATED).round(12)
        table[rank] = ranked.rank(method="min").astype("Int64")
    category_columns = [f"eer_{name}" for name in categories()]
    return table.sort_values(["rank", "absolute_eer", "model_name"], ignore_index=True)[
        [*COLUMNS[:-1], *category_columns, "source"]
    ]


def printable_leaderboard(table: pd.DataFrame, columns: Sequence[str] = COLUMNS) -> Table:
    """Select columns of a leaderboard for printing; rates are in per cent, with the decimals that show their ranks."""
    rates = set(RANKS.values())
    records = table[list(columns)].astype(object).to_dict("records")
    decimals = {name: distinct_decimals(100 * table[name]) for name in columns if name in rates}
    rows = [
        [percent(record[name], decimals[name]) if name in rates else record[name] for name in columns]
        for record in records
    ]
    return Table("", [HEADERS.get(name, name) for name in columns], rows)


def _row(name: str, aggregates: Aggregates, source: str) -> dict[str, str | float]:
    values = {key if key in AGGREGATES else f"eer_{key}": value for key, value in aggregates.by_name.items()}
    return {"model_name": name, **values, "source": source}

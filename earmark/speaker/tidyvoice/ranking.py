"""Published results of TidyVoice: the baseline by kind of trials, and the ranking of the challenge with yours in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from earmark.report.tables import Table, distinct_decimals, percent

EER_COLUMNS = {"A": "eval_a_eer_percent", "U": "eval_u_eer_percent"}
COST_COLUMNS = {"A": "eval_a_min_dcf", "U": "eval_u_min_dcf"}
ROUNDING = 9  # decimals up to which rates in per cent are equal


@dataclass(frozen=True)
class EvaluationResult:
    """Equal error rate and minDCF on one evaluation list, both in [0, 1]."""

    eer: float
    min_dcf: float


@cache
def published_teams() -> pd.DataFrame:
    """Results of 42 teams and the baseline: columns team, eval_{a,u}_eer_percent, eval_{a,u}_min_dcf."""
    with files(__package__).joinpath("challenge.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def published_kinds() -> dict[tuple[bool, bool] | None, float]:
    """Equal error rates of the baseline on the dev list, in [0, 1].

    Returns
    -------
    dict
        {(targets same language, non-targets same language), None for all trials: rate}.

    Examples
    --------
    >>> published_kinds()[None], published_kinds()[False, True]
    (0.0307, 0.0519)
    """
    with files(__package__).joinpath("baseline_dev.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    same = {"same language": True, "different language": False}
    return {
        None if row.targets == "all" else (same[row.targets], same[row.nontargets]): round(row.eer_percent / 100, 6)
        for row in table.itertuples()
    }


def ranked(name: str, results: Mapping[str, EvaluationResult]) -> pd.DataFrame:
    """The published teams with a further system, ranked by equal error rate on each evaluation list.

    Parameters
    ----------
    name : str
        Name of the system.
    results : mapping
        {A or U: its results}; a list without results gets no rank.

    Returns
    -------
    DataFrame
        Columns rank_a, rank_u, team, and those of `published_teams`; sorted by the rank on the first list with
        results. Equal rates share a rank. Ranks of the published teams include the further system.

    Examples
    --------
    >>> table = ranked("ours", {"A": EvaluationResult(0.0222, 0.2)})
    >>> table[table.team == "ours"][["rank_a", "eval_a_eer_percent"]].values.tolist()
    [[3, 2.22]]
    """
    own: dict[str, str | float] = {"team": name}
    for which, result in results.items():
        own |= {EER_COLUMNS[which]: 100 * result.eer, COST_COLUMNS[which]: result.min_dcf}
    table = pd.concat([published_teams(), pd.DataFrame([own])], ignore_index=True)
    for which, column in EER_COLUMNS.items():
        table[f"rank_{which.lower()}"] = table[column].round(ROUNDING).rank(method="min").astype("Int64")
    table["own"] = [False] * (len(table) - 1) + [True]
    first = next((f"rank_{which.lower()}" for which in EER_COLUMNS if which in results), "rank_a")
    columns = ["rank_a", "rank_u", *published_teams().columns, "own"]
    return table.sort_values([first, "own", "team"], ignore_index=True)[columns]


def printable_ranking(table: pd.DataFrame) -> Table:
    """The ranked table for a report; rates have as many decimals as their ranks need to be visible."""
    decimals = {which: distinct_decimals(table[column]) for which, column in EER_COLUMNS.items()}
    rows = []
    for record in table.astype(object).where(table.notna(), None).to_dict("records"):
        row = [record["rank_a"], record["rank_u"], f"**{record['team']}**" if record["own"] else record["team"]]
        for which, column in EER_COLUMNS.items():
            rate = record[column]
            row += [percent(None if rate is None else rate / 100, decimals[which]), record[COST_COLUMNS[which]]]
        rows.append(row)
    headers = ["rank A", "rank U", "team", "EER A", "minDCF A", "EER U", "minDCF U"]
    return Table("TidyVoice: your results among the teams of the challenge", headers, rows)

"""Published results of TidyVoice, and the rank of a further system."""

import numpy as np
import pandas as pd

from earmark.report.tables import cell
from earmark.speaker.tidyvoice.ranking import (
    EvaluationResult,
    printable_ranking,
    published_kinds,
    published_teams,
    ranked,
)


def test_published_teams_are_42_and_the_baseline():
    teams = published_teams()
    assert len(teams) == 43
    baseline = teams[teams["team"].str.lower().str.contains("baseline")].iloc[0]
    assert (baseline.eval_a_eer_percent, baseline.eval_u_eer_percent) == (9.06, 11.6)


def test_published_kinds_have_the_spread_of_the_baseline():
    kinds = published_kinds()
    assert {kind: round(100 * rate, 2) for kind, rate in kinds.items()} == {
        None: 3.07,
        (False, False): 1.79,
        (False, True): 5.19,
        (True, False): 0.88,
        (True, True): 2.97,
    }


def test_ranked_counts_better_systems_on_each_list():
    table = ranked("ours", {"A": EvaluationResult(0.0223, 0.2), "U": EvaluationResult(0.02, np.nan)})
    own = table[table["own"]].iloc[0]
    teams = published_teams()
    assert own["rank_a"] == 1 + (teams["eval_a_eer_percent"] < 2.23).sum() == 3
    assert own["rank_u"] == 1 + (teams["eval_u_eer_percent"] < 2.0).sum() == 2
    assert table["rank_a"].is_monotonic_increasing and len(table) == 44


def test_equal_rates_share_a_rank():
    rate = published_teams()["eval_a_eer_percent"].iloc[1]
    table = ranked("ours", {"A": EvaluationResult(rate / 100, 0.2)})
    tied = table[table["rank_a"] == 2]
    assert set(tied["team"]) == {"ours", "T02"} and (table["rank_a"] == 3).sum() == 0


def test_list_without_results_has_no_rank():
    table = ranked("ours", {"U": EvaluationResult(0.05, 0.3)})
    own = table[table["own"]].iloc[0]
    assert pd.isna(own["rank_a"]) and own["rank_u"] > 1
    assert table["rank_u"].is_monotonic_increasing
    row = next(row for row in printable_ranking(table).rows if row[2] == "**ours**")
    assert row[0] is row[3].value is None and row[5].value == 0.05


def test_printed_digits_make_ranks_visible():
    table = ranked("ours", {"A": EvaluationResult(0.022101, 0.2)})  # T02 has 2.21 %
    rows = {row[2]: row for row in printable_ranking(table).rows}
    assert (cell(rows["T02"][3]), cell(rows["**ours**"][3])) == ("2.2100 %", "2.2101 %")

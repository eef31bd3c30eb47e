"""Analysis of one annotated subset: labels, agreement, human ceiling, raters and summaries by slice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.labels import clip_ids, majority_labels
from earmark.annotation.options import Ties
from earmark.annotation.parity import leave_one_out_table
from earmark.annotation.pseudonyms import DEMOGRAPHICS
from earmark.annotation.raters import fit_dawid_skene, flagged_raters, per_rater
from earmark.annotation.reliability import (
    Votes,
    agreement,
    emolia_bench_agreement,
    human_ceiling,
    pair_kappas,
)
from earmark.annotation.schema import Agreement, AnalysisResult
from earmark.annotation.subsets import Slice, Subset
from earmark.annotation.tables import REPEATED, WITHDRAWN, Annotations
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.dawid_skene import DawidSkene, leave_one_rater_out_posteriors
from earmark.metrics.estimate import Estimate
from earmark.metrics.ratio import ratio


@dataclass(frozen=True)
class Analysis:
    """Results for one subset.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Contents of the CSV files, by file name without suffix.
    result : AnalysisResult
        Contents of summary.json without provenance.
    """

    tables: dict[str, pd.DataFrame]
    result: AnalysisResult


def analyse(
    annotations: Annotations, *, ties: Ties, required: int, replicates: int, rng: np.random.Generator
) -> Analysis:
    """Compute labels, agreement, human ceiling, per-rater statistics and slices of one subset.

    Parameters
    ----------
    annotations : Annotations
    ties : {"exclude", "absent"}
        Label of tied items: none, or absent.
    required : int
        Number of raters that makes an item complete.
    replicates : int
        Number of bootstrap replicates; 0 gives no intervals.
    rng : numpy.random.Generator

    Returns
    -------
    Analysis
    """
    subset = annotations.subset
    labels = majority_labels(annotations, ties)
    votes = Votes.from_annotations(annotations)
    fit = fit_dawid_skene(votes)
    labels["ds_present_probability"] = fit.posterior.round(6)  # digits that do not depend on the platform
    bootstrap = Bootstrap.from_units(clip_ids(labels, subset), replicates, rng)
    raters = per_rater(annotations, votes, fit, bootstrap)
    results = agreement_estimates(votes, bootstrap, required)
    slices = {name: slice_summary(labels, subset, name, bootstrap) for name in subset.summaries}
    result = AnalysisResult(
        subset=subset.name,
        rating_scale=list(subset.scale),
        **_counts(annotations, labels, bootstrap.n_units, required),
        annotators=votes.raters,
        smallest_pair_items=min((pair["n"] for pair in results["agreement"].pairs.values()), default=None),
        demographics=demographics(annotations),
        majority_present_rate=_mean_estimate(labels["majority_present"], bootstrap),
        preselection_confirm_rate=_mean_estimate(labels[subset.names["matches_expected"]], bootstrap),
        **results,
        emolia_bench={**emolia_bench_agreement(votes, required), **_rates_with_ties_absent(annotations)},
        slices=slices,
        raters=_records(raters),
        raters_who_stand_out=flagged_raters(raters),
        warnings=list(annotations.warnings),
    )
    tables = {
        "benchmark_labels": labels[list(subset.labels)],
        "per_rater_summary": raters.drop(columns=["kappa_why", "note", "ds_note"]),
        "leave_one_out": _leave_one_out(votes, fit),
        **{name: slice_table(slices[name], subset.summaries[name]) for name in subset.summaries},
        "incomplete_items": incomplete_items(labels, subset, required),
    }
    return Analysis(tables, result)


def _leave_one_out(votes: Votes, fit: DawidSkene) -> pd.DataFrame:
    """Contents of leave_one_out.csv, with which benchmark.py compares a model with a rater left out."""
    vote = votes.codes("binary")
    others = leave_one_rater_out_posteriors(fit, votes.item, votes.rater, vote)
    return leave_one_out_table(votes.items, votes.item, votes.rater, vote, others, votes.raters)


def agreement_estimates(votes: Votes, bootstrap: Bootstrap, required: int) -> dict[str, Any]:
    """Agreement coefficients and the human ceiling, without and with the sampling prior.

    Parameters
    ----------
    votes : Votes
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.
    required : int
        Number of raters that makes an item complete.

    Returns
    -------
    dict
        Fields of `AnalysisResult`: "human_upper_bound_binary" (Estimate), "agreement" (Agreement), "human_ceiling" and
        "human_ceiling_with_prior" (HumanCeiling).
    """
    coefficients = agreement(votes, bootstrap, required)
    kappa_means, pairs = pair_kappas(votes, bootstrap)
    return {
        "human_upper_bound_binary": coefficients["percent_binary"],
        "agreement": Agreement.from_estimates({**coefficients, **kappa_means}, pairs),
        "human_ceiling": human_ceiling(votes, bootstrap),
        "human_ceiling_with_prior": human_ceiling(votes.with_prior(), bootstrap.take(votes.raters_per_item >= 2)),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as dicts, with None for missing values."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _counts(annotations: Annotations, labels: pd.DataFrame, n_clips: int, required: int) -> dict[str, Any]:
    coverage = labels["n_raters"].value_counts().sort_index()
    complete = int((labels["n_raters"] >= required).sum())
    return {
        "rows_raw": annotations.rows_raw,
        "rows_deduplicated": annotations.rows_raw - annotations.excluded[REPEATED] - annotations.excluded[WITHDRAWN],
        "ratings_used": len(annotations.ratings),
        "clips_total": n_clips,
        "items_total": len(labels),
        "items_complete": complete,
        "items_incomplete": len(labels) - complete,
        "items_flagged": int(labels["flagged"].sum()),
        "items_tied": int(labels["majority_present_tie"].sum()),
        "rater_coverage": {str(n): int(count) for n, count in coverage.items()},
    }


def _mean_estimate(column: pd.Series, bootstrap: Bootstrap) -> Estimate:
    """Mean of the values that are not missing, with its interval over clips."""
    known = column.notna().to_numpy(dtype=bool)
    values = column.astype("Float64").fillna(0).to_numpy(dtype=float)
    return bootstrap.estimate(
        np.stack([values, known], axis=1).astype(float),
        lambda sums: ratio(sums[..., 0], sums[..., 1]),
        n=int(known.sum()),
        why="no item with a defined value",
        units=bootstrap.units_with(known, "with a defined value"),
    )


def _rates_with_ties_absent(annotations: Annotations) -> dict[str, float | None]:
    subset = annotations.subset
    published = majority_labels(annotations, "absent")
    matches = published[subset.names["matches_expected"]].astype(float)
    if not len(published):
        return {"majority_present_rate": None, "preselection_confirm_rate": None}
    return {
        "majority_present_rate": float(published["majority_present"].mean()),
        "preselection_confirm_rate": float(matches.mean()),
    }


def demographics(annotations: Annotations) -> dict[str, dict[str, int]]:
    """Count the raters with each value of the demographic columns.

    Parameters
    ----------
    annotations : Annotations

    Returns
    -------
    dict of str to dict of str to int
        For each demographic column of users.csv, the number of raters with each value. Users without ratings and empty
        cells are not counted. `languages` is a comma-separated list; a rater counts once for each language.
    """
    rated = (
        annotations.users["username"].isin(annotations.ratings["username"]) if "username" in annotations.users else []
    )
    users = annotations.users[rated] if len(annotations.users) else annotations.users
    counted: dict[str, dict[str, int]] = {}
    for column in (column for column in DEMOGRAPHICS if column in users):
        values = users[column].str.split(",").explode().str.strip() if column == "languages" else users[column]
        counts = values[values != ""].value_counts()
        counted[column] = {str(value): int(counts[value]) for value in sorted(counts.index)}
    return counted


# Measures in the columns of summary tables: a count of the rows of a slice, or the mean of a column of the labels.
COUNTS: dict[str, Callable[[pd.DataFrame, Subset], int]] = {
    "items": lambda rows, subset: len(rows),
    "expected_rate": lambda rows, subset: int(rows[subset.names["expected"]].iloc[0]),
}
RATES: dict[str, Callable[[pd.DataFrame, Subset], pd.Series]] = {
    "present_rate": lambda rows, subset: rows["majority_present"],
    "confirm_rate": lambda rows, subset: rows[subset.names["matches_expected"]],
    "unanimous_binary_rate": lambda rows, subset: (
        rows["all_agree_binary"].astype("boolean").where(rows["n_raters"] > 1)
    ),
    "unanimous_ordinal_rate": lambda rows, subset: (
        rows["all_agree_ordinal"].astype("boolean").where(rows["n_raters"] > 1)
    ),
}


def slice_summary(labels: pd.DataFrame, subset: Subset, name: str, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Rows of one summary table of a subset.

    Parameters
    ----------
    labels : DataFrame
        Labels of all items, as returned by `majority_labels`.
    subset : Subset
    name : str
        Name of the summary table.
    bootstrap : Bootstrap
        Bootstrap over the clips of `labels`.

    Returns
    -------
    list of dict
        One row per value of the slice column, with counts (int) and rates (Estimate). Rates of the majority exclude
        ties; rates of unanimity exclude items with a single rater.
    """
    description = subset.summaries[name]
    records = []
    for value, rows in labels.groupby(description.slice, sort=True):
        replicates = bootstrap.take(rows.index.to_numpy())
        record: dict[str, Any] = {description.slice: value}
        for column, measure in description.columns.items():
            if measure in COUNTS:
                record[column] = COUNTS[measure](rows, subset)
            else:
                record[column] = _mean_estimate(RATES[measure](rows, subset), replicates)
        records.append(record)
    return records


def slice_table(records: Sequence[dict[str, Any]], description: Slice) -> pd.DataFrame:
    """Contents of a summary CSV file: values without intervals; undefined values are missing.

    Parameters
    ----------
    records : list of dict
        Rows as returned by `slice_summary`.
    description : Slice

    Returns
    -------
    DataFrame
    """
    rows = [[cell.value if isinstance(cell, Estimate) else cell for cell in record.values()] for record in records]
    return pd.DataFrame(rows, columns=[description.slice, *description.columns])


def incomplete_items(labels: pd.DataFrame, subset: Subset, required: int) -> pd.DataFrame:
    """Items with fewer than `required` raters, with their number of ratings and their raters.

    Parameters
    ----------
    labels : DataFrame
        Labels of all items, as returned by `majority_labels`.
    subset : Subset
    required : int
        Number of raters that makes an item complete.

    Returns
    -------
    DataFrame
        Columns: the key, `ratings_observed` and `usernames`.
    """
    rows = labels[labels["n_raters"] < required]
    return rows[[*subset.key, "n_raters", "usernames"]].rename(columns={"n_raters": "ratings_observed"})

"""Analysis of one annotated subset: labels, agreement, human ceiling, raters and summaries by slice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.labels import clip_ranks, expected_labels, majority_labels
from earmark.annotation.options import Ties
from earmark.annotation.parity import leave_one_out_table
from earmark.annotation.pseudonyms import DEMOGRAPHICS
from earmark.annotation.raters import fit_dawid_skene, flagged_raters, per_rater
from earmark.annotation.reading import IDENTICAL, NO_RATING
from earmark.annotation.reliability import (
    Votes,
    agreement,
    emolia_bench_agreement,
    human_ceiling,
    pair_kappas,
)
from earmark.annotation.schema import Agreement, AnalysisResult
from earmark.annotation.subsets import EMOLIA_BENCH, Slice, Subset
from earmark.annotation.tables import REPEATED, WITHDRAWN, Annotations
from earmark.metrics.accelerated_em import NOT_CONVERGED
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.dawid_skene import DawidSkene, leave_one_rater_out_posteriors
from earmark.metrics.estimate import Estimate
from earmark.metrics.multisets import IntArray, dense_ranks
from earmark.metrics.ratio import ratio
from earmark.metrics.resample import Resample

REMOVED = (REPEATED, WITHDRAWN, NO_RATING, IDENTICAL)  # reasons to leave a row out before any analysis
MAX_SLICES = 200  # values of a column; a column with more is not a condition but a name
TIMES = ("reaction_time_ms_mean", "reaction_time_ms_median", "sample_time_ms_mean")


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
    annotations: Annotations,
    *,
    ties: Ties,
    required: int,
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
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
    resample : {"clips", "raters", "both"}
        What intervals of agreement and of the human ceiling speak for. Those of single raters and pairs of raters, of
        majority rates and of slices always speak for other clips.

    Returns
    -------
    Analysis
    """
    subset = annotations.subset
    labels = majority_labels(annotations, ties)
    votes = Votes.from_annotations(annotations)
    fit = fit_dawid_skene(votes)
    labels["ds_present_probability"] = fit.posterior.round(6)  # digits that do not depend on the platform
    sliced = {*subset.by, *(table.slice for table in subset.summaries.values())}
    if subset.prior is not None:
        sliced.add(subset.prior.column)
    alike = votes.alike([labels[column] for column in sorted(sliced)])
    bootstrap = Bootstrap.from_units(clip_ranks(labels, subset), replicates, rng, resample=resample, alike=alike)
    raters = per_rater(annotations, votes, fit, bootstrap.grouped(votes.alike()))
    results = agreement_estimates(votes, bootstrap, required)
    present, confirmed = majority_rates(labels, subset, bootstrap)
    slices = {name: slice_summary(labels, subset, name, bootstrap) for name in subset.summaries}
    by_column, warnings = slice_agreement(labels, votes, bootstrap, required)
    result = AnalysisResult(
        subset=subset.name,
        rating_scale=list(subset.levels),
        **_counts(annotations, labels, bootstrap.n_units, required),
        annotators=votes.raters,
        smallest_pair_items=min((pair["n"] for pair in results["agreement"].pairs.values()), default=None),
        demographics=demographics(annotations),
        majority_present_rate=present,
        preselection_confirm_rate=confirmed,
        **results,
        emolia_bench=(
            {**emolia_bench_agreement(votes, required), **_rates_with_ties_absent(labels, subset)}
            if subset.format == EMOLIA_BENCH
            else {}
        ),
        slices={**slices, **by_column},
        raters=_records(raters),
        raters_who_stand_out=flagged_raters(raters),
        warnings=[*annotations.warnings, *warnings, *([] if fit.converged else [NOT_CONVERGED])],
        resample=resample,
    )
    tables = {
        "benchmark_labels": labels[list(subset.labels or label_columns(labels, subset))],
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
    prior = votes.subset.prior
    bootstrap = bootstrap.grouped(votes.alike([] if prior is None else [votes.items[prior.column]]))
    coefficients = agreement(votes, bootstrap, required)
    kappa_means, pairs = pair_kappas(votes, bootstrap)
    return {
        "human_upper_bound_binary": coefficients["percent_binary"],
        "agreement": Agreement.from_estimates({**coefficients, **kappa_means}, pairs),
        "human_ceiling": human_ceiling(votes, bootstrap),
        "human_ceiling_with_prior": (
            human_ceiling(votes.with_prior(), bootstrap.take(votes.raters_per_item >= 2)) if prior is not None else None
        ),
    }


def label_columns(labels: pd.DataFrame, subset: Subset) -> list[str]:
    """Columns of benchmark_labels.csv for a subset whose description does not list them.

    Parameters
    ----------
    labels : DataFrame
        As `majority_labels` returns it.
    subset : Subset

    Returns
    -------
    list of str
        Without times that the table lacks, and without ordinal columns on a binary scale.
    """
    left_out = {column for column in TIMES if column in labels and labels[column].isna().all()}
    if not subset.is_ordinal:
        left_out |= {column for column in labels if column.startswith("majority_rating")} | {"all_agree_ordinal"}
    return [column for column in labels if column not in left_out]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as dicts, with None for missing values."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _counts(annotations: Annotations, labels: pd.DataFrame, n_clips: int, required: int) -> dict[str, Any]:
    coverage = labels["n_raters"].value_counts().sort_index()
    complete = int((labels["n_raters"] >= required).sum())
    return {
        "rows_raw": annotations.rows_raw,
        "rows_deduplicated": annotations.rows_raw - sum(annotations.excluded.get(reason, 0) for reason in REMOVED),
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


def majority_rates(labels: pd.DataFrame, subset: Subset, bootstrap: Bootstrap) -> tuple[Estimate, Estimate | None]:
    """Share of items whose majority says present, and of items whose majority is the label expected from sampling.

    Parameters
    ----------
    labels : DataFrame
        Labels of all items, as returned by `majority_labels`.
    subset : Subset
    bootstrap : Bootstrap
        Bootstrap over the clips of `labels`.

    Returns
    -------
    present : Estimate
    confirmed : Estimate or None
        None if sampling expects no label.
    """
    columns = ["majority_present", *([subset.names["matches_expected"]] if subset.prior else [])]
    bootstrap = bootstrap.grouped(_equal_values([labels[column] for column in columns]))
    rates = [_mean_estimate(labels[column], bootstrap) for column in columns]
    return rates[0], rates[1] if subset.prior else None


def _equal_values(columns: Sequence[pd.Series], within: IntArray | None = None) -> IntArray:
    """Number the items so that two have the same number if all columns of 0, 1 or missing, and `within`, are equal."""
    equal = np.zeros(len(columns[0]), dtype=np.int64) if within is None else within
    for values in columns:
        equal = dense_ranks(equal * 3 + values.astype("Float64").fillna(2).to_numpy(dtype=np.int64))
    return equal


def _rates_with_ties_absent(labels: pd.DataFrame, subset: Subset) -> dict[str, float | None]:
    if not len(labels):
        return {"majority_present_rate": None, "preselection_confirm_rate": None}
    present = labels["majority_present"].fillna(0)  # only ties have no majority
    expected = expected_labels(labels, subset)
    return {
        "majority_present_rate": float(present.mean()),
        "preselection_confirm_rate": None if expected is None else float((present == expected).astype(float).mean()),
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
    raters = annotations.ratings["username"].unique()
    rated = annotations.users["username"].isin(raters) if "username" in annotations.users else []
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
    rates = {
        column: RATES[measure](labels, subset) for column, measure in description.columns.items() if measure in RATES
    }
    slice_of_item = pd.factorize(labels[description.slice])[0].astype(np.int64)
    bootstrap = bootstrap.grouped(_equal_values(list(rates.values()), slice_of_item))
    records = []
    for value, rows in labels.groupby(description.slice, sort=True):
        selected = rows.index.to_numpy()
        replicates = bootstrap.take(selected)
        record: dict[str, Any] = {description.slice: value}
        for column, measure in description.columns.items():
            if measure in COUNTS:
                record[column] = COUNTS[measure](rows, subset)
            else:
                record[column] = _mean_estimate(rates[column].iloc[selected], replicates)
        records.append(record)
    return records


def slice_agreement(
    labels: pd.DataFrame, votes: Votes, bootstrap: Bootstrap, required: int
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Agreement of the items with each value of the columns `Subset.by`.

    Parameters
    ----------
    labels : DataFrame
        Labels of all items.
    votes : Votes
    bootstrap : Bootstrap
        Bootstrap over the clips of `labels`.
    required : int

    Returns
    -------
    slices : dict of str to list of dict
        For each column the rows: value, `items`, and the coefficients without those of pairs of raters.
    warnings : list of str
        Columns with more than MAX_SLICES values, which are left out.
    """
    slices: dict[str, list[dict[str, Any]]] = {}
    warnings = []
    for column in votes.subset.by:
        values, code = np.unique(labels[column].to_numpy(dtype=object).astype(str), return_inverse=True)
        if len(values) > MAX_SLICES:
            warnings.append(f"no agreement by {column}: it has {len(values):,} values, more than {MAX_SLICES}")
            continue
        slices[column] = [
            {
                column: str(value),
                "items": int(items.sum()),
                **agreement(votes.of_items(items), bootstrap.take(items), required),
            }
            for value, items in ((value, code.ravel() == at) for at, value in enumerate(values))
        ]
    return slices, warnings


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

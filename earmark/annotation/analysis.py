"""A subset's annotations → everything that analysis.py writes about it: labels, slices, agreement, ceilings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.labels import clip_ids, majority_labels
from earmark.annotation.options import Ties
from earmark.annotation.parity import ratings_and_others
from earmark.annotation.pseudonyms import DEMOGRAPHICS
from earmark.annotation.raters import fit_dawid_skene, flagged_raters, per_rater
from earmark.annotation.reliability import (
    Votes,
    agreement,
    emolia_bench_figures,
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
    """Tables to write as they are, and what summary.json holds but for its provenance."""

    tables: dict[str, pd.DataFrame]
    result: AnalysisResult


def analyse(
    annotations: Annotations, *, ties: Ties, required: int, replicates: int, rng: np.random.Generator
) -> Analysis:
    """Labels, summaries and agreement of one subset. required: raters that make an item complete."""
    subset = annotations.subset
    labels = majority_labels(annotations, ties)
    votes = Votes.from_annotations(annotations)
    fit = fit_dawid_skene(votes)
    labels["ds_present_probability"] = fit.posterior.round(6)  # the digits that hold on any machine
    bootstrap = Bootstrap.from_units(clip_ids(labels, subset), replicates, rng)
    raters = per_rater(annotations, votes, fit, bootstrap)
    found = agreement_estimates(votes, bootstrap, required)
    slices = {name: slice_summary(labels, subset, name, bootstrap) for name in subset.summaries}
    result = AnalysisResult(
        subset=subset.name,
        rating_scale=list(subset.scale),
        **_counts(annotations, labels, bootstrap.n_units, required),
        annotators=votes.raters,
        smallest_pair_items=min((pair["n"] for pair in found["agreement"].pairs.values()), default=None),
        demographics=demographics(annotations),
        majority_present_rate=_mean(labels["majority_present"], bootstrap),
        preselection_confirm_rate=_mean(labels[subset.names["matches_expected"]], bootstrap),
        **found,
        emolia_bench={**emolia_bench_figures(votes, required), **_tie_counted_as_absent(annotations)},
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
    """What benchmark.py needs to put a model in a person's place under Dawid and Skene's labels."""
    vote = votes.codes("binary")
    others = leave_one_rater_out_posteriors(fit, votes.item, votes.rater, vote)
    return ratings_and_others(votes.items, votes.item, votes.rater, vote, others, votes.raters)


def agreement_estimates(votes: Votes, bootstrap: Bootstrap, required: int) -> dict[str, Any]:
    """Agreement, pairs of raters, and how well a person predicts the others, without and with the prior."""
    found = agreement(votes, bootstrap, required)
    kappa_means, pairs = pair_kappas(votes, bootstrap)
    return {
        "human_upper_bound_binary": found["percent_binary"],
        "agreement": Agreement.from_estimates({**found, **kappa_means}, pairs),
        "human_ceiling": human_ceiling(votes, bootstrap),
        "human_ceiling_with_prior": human_ceiling(votes.with_prior(), bootstrap.take(votes.raters_per_item >= 2)),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data, None where something is missing."""
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


def _mean(column: pd.Series, bootstrap: Bootstrap) -> Estimate:
    """The mean of what is not missing, with its interval over clips."""
    known = column.notna().to_numpy(dtype=bool)
    values = column.astype("Float64").fillna(0).to_numpy(dtype=float)
    return bootstrap.estimate(
        np.stack([values, known], axis=1).astype(float),
        lambda sums: ratio(sums[..., 0], sums[..., 1]),
        n=int(known.sum()),
        why="no item to take the mean over",
        units=bootstrap.units_with(known, "with such an item"),
    )


def _tie_counted_as_absent(annotations: Annotations) -> dict[str, float | None]:
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
    """How many of those who rated gave each answer, for every demographic column present; "" is left out.

    `languages` is a list: everybody counts once for each language.
    """
    rated = (
        annotations.users["username"].isin(annotations.ratings["username"]) if "username" in annotations.users else []
    )
    users = annotations.users[rated] if len(annotations.users) else annotations.users
    counted: dict[str, dict[str, int]] = {}
    for column in (column for column in DEMOGRAPHICS if column in users):
        answers = users[column].str.split(",").explode().str.strip() if column == "languages" else users[column]
        counts = answers[answers != ""].value_counts()
        counted[column] = {str(answer): int(counts[answer]) for answer in sorted(counts.index)}
    return counted


# What the columns of summary tables hold: a number of a slice's rows, or the column of the labels that is averaged.
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
    """The rows of one of the subset's summary tables: counts, and rates as estimates.

    Rates of majorities skip ties, rates of unanimity skip single ratings.
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
                record[column] = _mean(RATES[measure](rows, subset), replicates)
        records.append(record)
    return records


def slice_table(records: Sequence[dict[str, Any]], description: Slice) -> pd.DataFrame:
    """A summary table as its CSV file has it: the values alone, empty where one does not exist."""
    rows = [[cell.value if isinstance(cell, Estimate) else cell for cell in record.values()] for record in records]
    return pd.DataFrame(rows, columns=[description.slice, *description.columns])


def incomplete_items(labels: pd.DataFrame, subset: Subset, required: int) -> pd.DataFrame:
    """Items that fewer than `required` people rated, and who did."""
    rows = labels[labels["n_raters"] < required]
    return rows[[*subset.key, "n_raters", "usernames"]].rename(columns={"n_raters": "ratings_observed"})

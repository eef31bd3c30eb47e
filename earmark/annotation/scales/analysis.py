"""Analysis of one subset of nominal, ordinal or interval ratings: labels, agreement, raters and slices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.analysis import MAX_SLICES, REMOVED, demographics, incomplete_items
from earmark.annotation.labels import clip_ranks
from earmark.annotation.raters import TOO_FAST_MS
from earmark.annotation.ratings import Ratings
from earmark.annotation.scales.interval import Interval
from earmark.annotation.scales.nominal import Nominal
from earmark.annotation.scales.ordinal import Ordinal
from earmark.annotation.scales.scale import PairStatistics, RatingScale
from earmark.annotation.schema import Agreement, ScaleResult
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.errors import EarmarkError
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.estimate import Estimate
from earmark.metrics.resample import Resample

IntArray = NDArray[np.int64]

SCALES: dict[str, type[RatingScale]] = {scale.name: scale for scale in (Nominal, Ordinal, Interval)}

# Columns of the table of raters that only reports and flags use.
REASONS = ("note", "ds_note", "kappa_why", "correlation_why", "large_bias")
INTERNAL = ("large_bias",)  # of these, the ones that only flags use


@dataclass(frozen=True)
class ScaleAnalysis:
    """Results for one subset.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Contents of the CSV files, by file name without suffix.
    result : ScaleResult
        Contents of summary.json without provenance.
    disagreement : (n_items,) float
        How much the raters of each item of benchmark_labels.csv disagree.
    """

    tables: dict[str, pd.DataFrame]
    result: ScaleResult
    disagreement: NDArray[np.float64]


def analyse_scale(
    annotations: Annotations,
    *,
    required: int,
    replicates: int,
    rng: np.random.Generator,
    trimmed_mean: float | None = None,
    resample: Resample = "clips",
) -> ScaleAnalysis:
    """Compute labels, agreement and statistics of raters of one subset without a decision.

    Parameters
    ----------
    annotations : Annotations
    required : int
        Number of raters that makes an item complete.
    replicates : int
        Number of bootstrap replicates; 0 gives no intervals.
    rng : numpy.random.Generator
    trimmed_mean : float, optional
        Share of ratings that a trimmed mean leaves out at either end, in [0, 0.5); interval scale only.
    resample : {"clips", "raters", "both"}
        What intervals of agreement speak for. Those of single raters and of pairs of raters always speak for other
        clips.

    Returns
    -------
    ScaleAnalysis
        Estimates that the data do not define have a reason.

    Raises
    ------
    ValueError
        If the scale of the subset is decided (`Subset.is_decided`), or `trimmed_mean` is given for another scale.
    """
    subset = annotations.subset
    ratings = Ratings.from_annotations(annotations)
    scale = scale_of(ratings, trimmed_mean)
    labels = label_table(annotations, scale)
    bootstrap = Bootstrap.from_units(clip_ranks(labels, subset), replicates, rng, resample=resample)
    pairs = scale.pair_statistics(bootstrap)
    everything = np.ones(scale.n_items, dtype=bool)
    estimates = {**scale.agreement(everything, bootstrap, required), **pairs.summary}
    slices, warnings = slice_agreement(labels, scale, bootstrap, required)
    raters = rater_table(annotations, scale, bootstrap)
    result = ScaleResult(
        **_counts(annotations, scale, labels, bootstrap.n_units, required, pairs),
        demographics=demographics(annotations),
        scale=subset.scale,
        agreement=Agreement.from_estimates(estimates, pairs.pairs),
        specific_agreement=scale.specific_agreement(bootstrap),
        slices=slices,
        raters=_records(raters.drop(columns=[name for name in INTERNAL if name in raters])),
        raters_who_stand_out=flagged_raters(raters, scale),
        warnings=[*annotations.warnings, *warnings, *scale.warnings],
        resample=resample,
    )
    tables = {
        "benchmark_labels": labels,
        "per_rater_summary": raters.drop(columns=[name for name in REASONS if name in raters]),
        "leave_one_out": leave_one_out_table(scale),
        **scale.further_tables(),
        "incomplete_items": incomplete_items(labels, subset, required),
    }
    return ScaleAnalysis(tables, result, scale.disagreement)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as dicts, with None for missing values."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def scale_of(ratings: Ratings, trimmed_mean: float | None = None) -> RatingScale:
    """The scale of ratings.

    Raises
    ------
    ValueError
        As in `analyse_scale`.
    """
    subset = ratings.subset
    if subset.scale == "interval":
        return Interval(ratings, trimmed_mean)
    if trimmed_mean is not None:
        raise ValueError(f"{subset.name} is on a {subset.scale} scale, which has no trimmed mean")
    if subset.is_decided or subset.scale == "binary":
        raise ValueError(f"{subset.name} has a decision between present and absent; use `analysis.analyse`")
    return SCALES[subset.scale](ratings)


def label_table(annotations: Annotations, scale: RatingScale) -> pd.DataFrame:
    """Contents of benchmark_labels.csv.

    Parameters
    ----------
    annotations : Annotations
    scale : RatingScale

    Returns
    -------
    DataFrame
        One row per item, sorted by key: the key, carried columns, `usernames`, times if the table has them, the columns
        of the scale, `n_raters` and `flagged`.
    """
    ratings, table, n = scale.ratings, annotations.ratings, scale.n_items
    by_item = table.groupby(ratings.item, sort=True)
    carried = {column: joined_values(ratings.item, table[column], n) for column in annotations.subset.carried}
    columns: dict[str, Any] = {"usernames": joined_values(ratings.item, table["username"], n)}
    for source, statistics in (("reaction_time_ms", ("mean", "median")), ("sample_time_ms", ("mean",))):
        if has_values(table, source):
            for statistic in statistics:
                columns[f"{source}_{statistic}"] = getattr(by_item[source], statistic)().to_numpy()
    columns |= scale.labels()
    columns |= {"n_raters": scale.raters_per_item, "flagged": _flagged(ratings.items, annotations)}
    _require_distinct(annotations.subset, [*annotations.subset.key, *carried], columns, "benchmark_labels.csv")
    labels = ratings.items.reset_index(drop=True)
    return pd.concat([labels, pd.DataFrame({**carried, **columns}, index=labels.index)], axis=1)


def has_values(table: pd.DataFrame, column: str) -> bool:
    """Whether a table has a column with a value."""
    return column in table and bool(table[column].notna().any())


def joined_values(item: IntArray, cells: pd.Series, n_items: int) -> NDArray[np.object_]:
    """Distinct values of each item in sorted order, joined by |.

    Parameters
    ----------
    item : (n,) int
        Item of each cell.
    cells : (n,) Series of str
    n_items : int

    Returns
    -------
    (n_items,) object

    Examples
    --------
    >>> joined_values(np.array([0, 0, 0, 1]), pd.Series(["b", "a", "b", "c"]), 2).tolist()
    ['a|b', 'c']
    """
    code, values = pd.factorize(cells.to_numpy(dtype=object), sort=True)
    distinct = np.unique(item * np.int64(max(len(values), 1)) + code)
    of_item, text = distinct // max(len(values), 1), values[distinct % max(len(values), 1)]
    place = np.arange(len(of_item)) - np.searchsorted(of_item, of_item)
    joined = np.full(n_items, "", dtype=object)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(place.max(initial=-1) + 2))
    for at, (start, end) in enumerate(pairwise(starts)):
        rows = order[start:end]
        joined[of_item[rows]] = text[rows] if not at else joined[of_item[rows]] + "|" + text[rows]
    return joined


def _flagged(items: pd.DataFrame, annotations: Annotations) -> NDArray[np.bool_]:
    key, flags = list(annotations.subset.key), annotations.flags
    if not len(flags) or not set(key) <= set(flags.columns):
        return np.zeros(len(items), dtype=bool)
    if len(key) == 1:
        return items[key[0]].isin(flags[key[0]]).to_numpy(dtype=bool)
    return pd.MultiIndex.from_frame(items[key]).isin(pd.MultiIndex.from_frame(flags[key]))


def leave_one_out_table(scale: RatingScale) -> pd.DataFrame:
    """Contents of leave_one_out.csv: ratings of items with at least two raters, beside those of the other raters.

    Parameters
    ----------
    scale : RatingScale

    Returns
    -------
    DataFrame
        The key, `username`, the columns of the scale, and `n_others`; sorted by key and username.
    """
    own = scale.ratings
    names = np.array(own.raters, dtype=object)
    _, alphabetical = np.unique(np.array(own.raters, dtype=str), return_inverse=True)
    rows = np.flatnonzero(scale.raters_per_item[own.item] > 1)
    rows = rows[np.lexsort((alphabetical[own.rater[rows]], own.item[rows]))]
    table = own.items.iloc[own.item[rows]].reset_index(drop=True)
    columns = {
        "username": names[own.rater[rows]],
        **scale.leave_one_out(rows),
        "n_others": scale.raters_per_item[own.item[rows]] - 1,
    }
    _require_distinct(own.subset, [*own.subset.key], columns, "leave_one_out.csv")
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)


def _require_distinct(subset: Subset, key: Sequence[str], columns: Iterable[str], file: str) -> None:
    """Refuse columns of the table that have the name of a column of an output.

    Raises
    ------
    EarmarkError
        If a column would have two meanings.
    """
    if taken := sorted(set(key) & set(columns)):
        raise EarmarkError(
            f"{subset.name}: {file} has a column {taken[0]} of its own, so that no column of the item can have this"
            f" name. Rename it, as with --map {taken[0]}=item_{taken[0]}."
        )


def slice_agreement(
    labels: pd.DataFrame, scale: RatingScale, bootstrap: Bootstrap, required: int
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Agreement of the items with each value of the columns `Subset.by`.

    Parameters
    ----------
    labels : DataFrame
        benchmark_labels.csv.
    scale : RatingScale
    bootstrap : Bootstrap
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
    for column in scale.ratings.subset.by:
        code, values = pd.factorize(labels[column].to_numpy(dtype=object), sort=True)
        if len(values) > MAX_SLICES:
            warnings.append(f"no agreement by {column}: it has {len(values):,} values, more than {MAX_SLICES}")
            continue
        slices[column] = []
        for at, value in enumerate(values):
            items = code == at
            estimates = scale.agreement(items, bootstrap, required)
            slices[column].append({column: str(value), "items": int(items.sum()), **estimates})
    return slices, warnings


def rater_table(annotations: Annotations, scale: RatingScale, bootstrap: Bootstrap) -> pd.DataFrame:
    """Statistics of each rater.

    Parameters
    ----------
    annotations : Annotations
    scale : RatingScale
    bootstrap : Bootstrap

    Returns
    -------
    DataFrame
        One row per rater: `username`, `ratings`, the columns of the scale, and reaction times if the table has them.
        Undefined values are NaN.
    """
    own, table = scale.ratings, annotations.ratings
    columns: dict[str, Any] = {
        "username": own.raters,
        "ratings": np.bincount(own.rater, minlength=scale.n_raters),
        **scale.rater_statistics(bootstrap),
    }
    if has_values(table, "reaction_time_ms"):
        known = table["reaction_time_ms"].notna().to_numpy()
        times, rater = table["reaction_time_ms"][known], own.rater[known]
        every = range(scale.n_raters)
        columns["reaction_time_ms_median"] = times.groupby(rater).median().reindex(every).to_numpy()
        fast = (times < TOO_FAST_MS).groupby(rater).mean()
        columns["share_under_300_ms"] = fast.reindex(every).to_numpy(dtype=float)
    return pd.DataFrame(columns)


def flagged_raters(table: pd.DataFrame, scale: RatingScale) -> dict[str, list[str]]:
    """Raters whose ratings should be reviewed, with the reasons.

    Parameters
    ----------
    table : DataFrame
        Statistics as returned by `rater_table`.
    scale : RatingScale
        Its `flag_rules` are applied.

    Returns
    -------
    dict of str to list of str
    """
    timed = table if "share_under_300_ms" in table else table.assign(share_under_300_ms=np.nan)
    flagged: dict[str, list[str]] = {}
    for row in timed.itertuples(index=False):
        reasons = [text.format(**row._asdict()).replace("%", " %") for test, text in scale.flag_rules if test(row)]
        if reasons:
            flagged[str(row.username)] = reasons
    return flagged


def _counts(
    annotations: Annotations,
    scale: RatingScale,
    labels: pd.DataFrame,
    n_clips: int,
    required: int,
    pairs: PairStatistics,
) -> dict[str, Any]:
    """Fields of `RatedItems` but demographics."""
    subset: Subset = annotations.subset
    excluded = annotations.excluded
    n, complete = scale.raters_per_item, int((scale.raters_per_item >= required).sum())
    coverage = np.unique(n, return_counts=True)
    shared = [entry["n"] for entry in pairs.pairs.values()]
    smallest = min((n for n in shared if not isinstance(n, Estimate)), default=None)
    return {
        "subset": subset.name,
        "rating_scale": list(subset.levels),
        "rows_raw": annotations.rows_raw,
        "rows_deduplicated": annotations.rows_raw - sum(excluded.get(reason, 0) for reason in REMOVED),
        "ratings_used": len(annotations.ratings),
        "clips_total": n_clips,
        "items_total": scale.n_items,
        "items_complete": complete,
        "items_incomplete": scale.n_items - complete,
        "items_flagged": int(labels["flagged"].sum()),
        "items_tied": None if scale.tied is None else int(scale.tied.sum()),
        "rater_coverage": {str(size): int(items) for size, items in zip(*coverage, strict=True)},
        "annotators": scale.ratings.raters,
        "smallest_pair_items": smallest,
    }

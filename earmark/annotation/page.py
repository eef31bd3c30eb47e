"""Figures and clips of the page that `analysis.py` writes beside its report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.clips import ClipIndex
from earmark.annotation.scales.page import scale_disputed_items, scale_figures
from earmark.annotation.schema import AnalysisSummary, ScaleSummary
from earmark.annotation.subsets import Slice, Subset
from earmark.annotation.tables import Annotations
from earmark.metrics.estimate import Estimate
from earmark.report.figures import Figure, Interval, forest_plot, matrix
from earmark.report.page import ClipList, ListedClip
from earmark.report.render import definitions

MAX_RATERS = 30  # in the matrix of pairs
SHOWN_ITEMS = 18
PAIR_SEPARATOR = "__"
PRESENT_RATE = "present_rate"  # the measure of a summary table that is drawn


def analysis_figures(summary: AnalysisSummary | ScaleSummary, subset: Subset) -> list[Figure]:
    """Draw the figures of a subset.

    Parameters
    ----------
    summary : AnalysisSummary or ScaleSummary
    subset : Subset

    Returns
    -------
    list of Figure
        Agreement coefficients, the share of items labelled present by slice, and Cohen's kappa of each pair of raters.
        Figures without values are left out. Without a decision between present and absent as in `scale_figures`.
    """
    if isinstance(summary, ScaleSummary):
        return scale_figures(summary)
    name = summary.subset
    coefficients = [
        Interval(definitions()[name].get("label", name), value) for name, value in summary.agreement.estimates.items()
    ]
    tables = [table for table in summary.slices if table in subset.summaries]
    figures = [
        forest_plot(f"{name}_agreement", f"{name}: agreement with 95 % intervals.", coefficients, "agreement"),
        *(_rates(name, subset.summaries[table], table, summary.slices[table]) for table in tables),
        _kappas(summary),
    ]
    return [figure for figure in figures if figure is not None]


def _rates(
    name: str, described: Slice, table: str, rows: Sequence[dict[str, str | int | float | Estimate]]
) -> Figure | None:
    """The share of items that the majority calls present, by slice."""
    columns = [column for column, measure in described.columns.items() if measure == PRESENT_RATE]
    intervals = []
    for row in rows:
        for column in columns:
            rate = row[column]
            if isinstance(rate, Estimate):
                intervals.append(Interval(str(row[described.slice]), rate))
    return forest_plot(
        f"{name}_{table.removesuffix('_summary')}",
        f"{name}: share of items labelled present by {described.slice.replace('_', ' ')}, with 95 % intervals.",
        intervals,
        "share labelled present",
    )


def _kappas(summary: AnalysisSummary) -> Figure | None:
    """Cohen's kappa, present or absent, of each pair of raters."""
    pairs = summary.agreement.pairs
    raters = sorted({rater for pair in pairs for rater in pair.split(PAIR_SEPARATOR)}, key=summary.annotators.index)
    if not 1 < len(raters) <= MAX_RATERS:
        return None
    cells = np.full((len(raters), len(raters)), np.nan)
    for pair, values in pairs.items():
        kappa = values.get("cohen_kappa_binary")
        if isinstance(kappa, Estimate) and kappa.value is not None:
            first, second = (raters.index(rater) for rater in pair.split(PAIR_SEPARATOR))
            cells[first, second] = cells[second, first] = kappa.value
    if not np.isfinite(cells).any():
        return None
    caption = f"{summary.subset}: Cohen's kappa (present or absent) of each pair of raters on their common items."
    return matrix(f"{summary.subset}_raters", caption, cells, raters, raters, ("", ""))


def disputed_items(annotations: Annotations, labels: pd.DataFrame, dataset_root: Path) -> ClipList:
    """List the items on which raters are most divided, with the rating of each rater.

    Parameters
    ----------
    annotations : Annotations
    labels : DataFrame
        benchmark_labels.csv, with `soft_present` and `n_raters`.
    dataset_root : Path
        Directory that holds one directory of clips per subset.

    Returns
    -------
    ClipList
        At most 18 items, the most evenly divided first, then those with more raters. Without a decision between present
        and absent as in `scale_disputed_items`.
    """
    if not annotations.subset.is_decided:
        return scale_disputed_items(annotations, labels, dataset_root)
    subset = annotations.subset
    key = list(subset.key)
    share = labels["soft_present"].to_numpy(dtype=float)
    divided = labels[(share > 0) & (share < 1)]
    order = np.lexsort((-divided["n_raters"].to_numpy(), np.abs(divided["soft_present"].to_numpy(dtype=float) - 0.5)))
    shown = divided.iloc[order[:SHOWN_ITEMS]]
    ratings_shown = annotations.ratings
    for column in key:  # groups of all items would take long
        ratings_shown = ratings_shown[ratings_shown[column].isin(shown[column])]
    by_item = ratings_shown.groupby(key, sort=False)
    index = ClipIndex(dataset_root / subset.name, subset)
    clips: list[Sequence[ListedClip]] = []
    for row in shown.to_dict("records"):
        item = tuple(row[column] for column in key)
        ratings = by_item.get_group(item)
        path = index.relative_path({column: str(value) for column, value in row.items()})
        facts = [(column, str(row[column])) for column in key if not str(row[column]).endswith(Path(path).suffix)]
        facts += [
            (str(rater), subset.levels[int(rating)])
            for rater, rating in zip(ratings["username"], ratings["rating"], strict=True)
        ]
        clips.append([ListedClip(Path(path).name, dataset_root / subset.name / path, facts)])
    return ClipList(f"{subset.name}: disputed items", "Items on which raters are most evenly divided.", clips)

"""Figures and clips of the report's page for a subset on a nominal, ordinal or interval scale."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.clips import ClipIndex
from earmark.annotation.ratings import Ratings
from earmark.annotation.scales.analysis import SCALES
from earmark.annotation.schema import ScaleSummary
from earmark.annotation.tables import Annotations
from earmark.metrics.estimate import Estimate
from earmark.report.figures import Figure, Interval, forest_plot, matrix
from earmark.report.page import ClipList, ListedClip
from earmark.report.render import definitions
from earmark.report.tables import cell

MAX_RATERS = 30  # in the matrix of pairs and in the plot of biases
SHOWN_ITEMS = 18
PAIR_SEPARATOR = "__"
PAIR_CAPTIONS = {
    "cohen_kappa": "Cohen's kappa",
    "cohen_kappa_quadratic": "Cohen's kappa with quadratic weights",
    "concordance": "concordance correlation",
}


def scale_figures(summary: ScaleSummary) -> list[Figure]:
    """Draw the figures of a subset.

    Parameters
    ----------
    summary : ScaleSummary

    Returns
    -------
    list of Figure
        Agreement coefficients, agreement specific to each class (nominal), biases of raters (ordinal and interval), the
        headline coefficient by slice, and the agreement of each pair of raters. Figures without values are left out.
    """
    subset = summary.subset
    # A difference has the unit of the ratings, so that it does not fit the axis of the coefficients.
    coefficients = [
        Interval(definitions()[name]["label"], value)
        for name, value in summary.agreement.estimates.items()
        if name != "mean_absolute_difference"
    ]
    classes = [Interval(name, value) for name, value in summary.specific_agreement.items()]
    figures = [
        forest_plot(f"{subset}_agreement", f"{subset}: agreement with 95 % intervals.", coefficients, "agreement"),
        forest_plot(f"{subset}_classes", f"{subset}: agreement specific to each class.", classes, "specific agreement"),
        _biases(summary),
        *(_slices(summary, column) for column in summary.slices),
        _pairs(summary),
    ]
    return [figure for figure in figures if figure is not None]


def _biases(summary: ScaleSummary) -> Figure | None:
    """Bias of each rater; None without biases or with too many raters."""
    if len(summary.raters) > MAX_RATERS:
        return None
    rows = [
        Interval(str(row["username"]), Estimate(row["bias"], row["bias_low"], row["bias_high"]))
        for row in summary.raters
        if "bias" in row
    ]
    unit = "steps of the scale" if summary.scale == "ordinal" else "the unit of the ratings"
    caption = f"{summary.subset}: mean difference of each rater from the other raters, in {unit}."
    return forest_plot(f"{summary.subset}_bias", caption, rows, "bias", chance=0.0, chance_label="no bias")


def _slices(summary: ScaleSummary, column: str) -> Figure | None:
    """The headline coefficient of the items with each value of a column."""
    name = SCALES[summary.scale].headline
    label = definitions()[name]["label"]
    rows = [
        Interval(str(row[column]), value)
        for row in summary.slices[column]
        if isinstance(value := row.get(name), Estimate)
    ]
    caption = f"{summary.subset}: {label} by {column.replace('_', ' ')}, with 95 % intervals."
    file_name = re.sub(r"[^\w-]+", "_", column)  # a column of a table of any origin
    return forest_plot(f"{summary.subset}_by_{file_name}", caption, rows, label)


def _pairs(summary: ScaleSummary) -> Figure | None:
    """Agreement of each pair of raters."""
    name, pairs = SCALES[summary.scale].pair_headline, summary.agreement.pairs
    positions = {rater: at for at, rater in enumerate(summary.annotators)}
    named = {pair: tuple(pair.split(PAIR_SEPARATOR)) for pair in pairs}
    known = {pair: both for pair, both in named.items() if len(both) == 2 and set(both) <= set(positions)}
    raters = sorted({rater for both in known.values() for rater in both}, key=positions.__getitem__)
    if not 1 < len(raters) <= MAX_RATERS:
        return None
    cells = np.full((len(raters), len(raters)), np.nan)
    for pair, both in known.items():
        estimate = pairs[pair].get(name)
        if isinstance(estimate, Estimate) and estimate.value is not None:
            first, second = (raters.index(rater) for rater in both)
            cells[first, second] = cells[second, first] = estimate.value
    if not np.isfinite(cells).any():
        return None
    caption = f"{summary.subset}: {PAIR_CAPTIONS[name]} of each pair of raters on their common items."
    return matrix(f"{summary.subset}_raters", caption, cells, raters, raters, ("", ""))


def scale_disputed_items(annotations: Annotations, labels: pd.DataFrame, dataset_root: Path) -> ClipList:
    """List the items on which raters disagree most, with the rating of each rater.

    Parameters
    ----------
    annotations : Annotations
    labels : DataFrame
        benchmark_labels.csv.
    dataset_root : Path
        Directory that holds one directory of clips per subset.

    Returns
    -------
    ClipList
        At most 18 items: on a nominal scale by the share of pairs of ratings that differ, else by the variance of the
        ratings; then those with more raters.
    """
    subset = annotations.subset
    key, ratings = list(subset.key), Ratings.from_annotations(annotations)
    disagreement = SCALES[subset.scale](ratings).disagreement
    shown = _most_disputed(disagreement, ratings.raters_per_item)
    index = ClipIndex(dataset_root / subset.name, subset)
    clips = []
    for at in shown:
        row = {column: str(value) for column, value in labels.iloc[at].items()}
        path = index.relative_path(row)
        facts = [(column, row[column]) for column in key if not row[column].endswith(Path(path).suffix)]
        for one in np.flatnonzero(ratings.item == at):
            value = ratings.value[one]
            rating = cell(float(value)) if subset.scale == "interval" else subset.levels[int(value)]
            facts.append((ratings.raters[ratings.rater[one]], rating))
        clips.append([ListedClip(Path(path).name, dataset_root / subset.name / path, facts)])
    return ClipList(f"{subset.name}: disputed items", "Items on which raters disagree most.", clips)


def _most_disputed(disagreement: NDArray[np.float64], raters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Items with any disagreement, in the order of dispute, at most SHOWN_ITEMS."""
    divided = np.flatnonzero((disagreement > 1e-12) & (raters > 1))
    order = np.lexsort((-raters[divided], -disagreement[divided]))
    return divided[order[:SHOWN_ITEMS]]

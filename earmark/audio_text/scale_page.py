"""Figures and clips of the page that `benchmark.py` writes for a nominal, ordinal or interval subset."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from earmark.annotation.subsets import Subset
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.scale_schema import ScaleBenchmarkSummary
from earmark.audio_text.zero_shot import ScaleEvaluation
from earmark.report.figures import Figure, Interval, forest_plot, matrix, scatter
from earmark.report.page import ClipList, ListedClip, LongTable
from earmark.report.render import definitions

SHOWN_CLIPS = 18
MOST_CLASSES = 40  # in the confusion matrix
NO_ANSWER = "(no answer)"


def scale_figures(evaluation: ScaleEvaluation, summary: ScaleBenchmarkSummary, subset: Subset) -> list[Figure]:
    """Draw the figures of a subset.

    Parameters
    ----------
    evaluation : ScaleEvaluation
    summary : ScaleBenchmarkSummary
    subset : Subset

    Returns
    -------
    list of Figure
        The model beside the raters, and the confusion matrix or the similarity against the mean rating, and scores by
        slice. Figures without values are left out.
    """
    footing = [
        Interval(definitions()[name].get("label", name), value, who)
        for name, parity in summary.equal_footing.items()
        for who, value in (("model", parity.model), ("rater", parity.person))
    ]
    caption = "The model and the raters on the same held-out ratings, with 95 % intervals."
    figures = [forest_plot("raters", caption, footing, "score")]
    figures.append(_confusion(summary) if subset.scale == "nominal" else _scatter(evaluation, subset))
    if summary.sentences:
        rows = [Interval(row.label, row.spearman) for row in summary.sentences]
        figures.append(forest_plot("by_sentence", "Spearman's correlation by sentence.", rows, "Spearman's rho"))
    for key, slices in summary.slices.items():
        first = next(iter(slices[0].scores), None) if slices else None
        if first is not None:
            label = definitions()[first].get("label", first)
            own = [Interval(row.value, row.scores[first]) for row in slices]
            figures.append(forest_plot(f"by_{key}", f"{label} by {key.replace('_', ' ')}.", own, label))
    return [figure for figure in figures if figure is not None]


def _confusion(summary: ScaleBenchmarkSummary) -> Figure | None:
    names = [row.name for row in summary.classes]
    cells = np.array(summary.confusion, dtype=float).reshape(len(names), len(names) + 1)
    if len(names) > MOST_CLASSES or not cells.any():
        return None
    columns = [*names, NO_ANSWER]
    if not cells[:, -1].any():
        cells, columns = cells[:, :-1], names
    caption = "Items by reference class and answer; shades are shares of the reference class."
    return matrix("confusion", caption, cells, names, columns, ("reference", "answer"), shares=True)


def _scatter(evaluation: ScaleEvaluation, subset: Subset) -> Figure | None:
    table = evaluation.scored
    caption = "Similarity against the mean rating, with the median of each tenth of the items."
    rating = "mean level" if subset.scale == "ordinal" else "mean rating"
    values = [table[column].to_numpy(dtype=float) for column in ("mean", "similarity")]
    return scatter("mean_rating", caption, values[0], values[1], (rating, "similarity"))


def scale_clips(pairs: PairTable, evaluation: ScaleEvaluation) -> list[ClipList]:
    """List the clips to listen to: wrong answers with the highest similarity, or the largest disagreements."""
    table = evaluation.scored
    if pairs.subset.scale == "nominal":
        wrong = table[table["correct"] < 1].sort_values(["correct", "similarity"], ascending=[True, False])
        description = "Items whose answer is not the reference, with the highest similarities."
        return [ClipList("Wrong answers", description, _clips(pairs, wrong, ["reference", "answer"]))]
    ranks = table[["similarity", "mean"]].rank(pct=True)
    distance = ranks["similarity"] - ranks["mean"]
    lists = []
    for title, order, word in (("Scored too high", False, "above"), ("Scored too low", True, "below")):
        rows = table.iloc[distance.sort_values(ascending=order, kind="stable").index[:SHOWN_CLIPS]]
        description = f"Items whose similarity ranks furthest {word} their mean rating."
        lists.append(ClipList(title, description, _clips(pairs, rows, ["mean"])))
    return lists


def _clips(pairs: PairTable, rows: pd.DataFrame, columns: Sequence[str]) -> list[Sequence[ListedClip]]:
    clips: list[Sequence[ListedClip]] = []
    for row in rows.head(SHOWN_CLIPS).to_dict("records"):
        facts = [(column, f"{row[column]:.3f}" if column == "mean" else str(row[column])) for column in columns]
        facts.append(("similarity", f"{row['similarity']:.3f}"))
        if row.get("prompt"):
            facts.append(("sentence", str(row["prompt"])))
        path = str(row["audio_path"])
        clips.append([ListedClip(path.rsplit("/", 1)[-1], pairs.dataset_root / path, facts)])
    return clips


def scale_predictions(evaluation: ScaleEvaluation) -> LongTable:
    """All predictions, for a table that sorts and filters."""
    shown = evaluation.predictions.drop(columns=["prompt", "ok"], errors="ignore")
    rows = shown.astype(object).where(shown.notna(), None).to_numpy().tolist()
    return LongTable("All items", list(shown.columns), rows)

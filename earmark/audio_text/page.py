"""Figures and clips of the page that `benchmark.py` writes beside its report."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from earmark.audio_text.evaluation import Evaluation
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.schema import BenchmarkSummary
from earmark.metrics.classification import pr_curve, roc_curve
from earmark.metrics.estimate import Estimate
from earmark.report.figures import Figure, Interval, curves, forest_plot, histograms, scatter
from earmark.report.page import ClipList, ListedClip, LongTable

SHOWN_CLIPS = 18
HARD_LABELS = (0.0, 1.0)


def benchmark_figures(pairs: PairTable, evaluation: Evaluation, summary: BenchmarkSummary) -> list[Figure]:
    """Draw the figures of a subset.

    Parameters
    ----------
    pairs : PairTable
    evaluation : Evaluation
    summary : BenchmarkSummary

    Returns
    -------
    list of Figure
        Metrics by slice with the human ceiling, similarities by label, ROC, precision-recall, and the share of raters
        against the similarity. Figures without values are left out.
    """
    scored = _scored(pairs, evaluation)
    ceiling = summary.human_ceiling.loo_balanced_accuracy if summary.human_ceiling else None
    thresholds = {"threshold": summary.threshold}
    if summary.cross_fitted_threshold.threshold is not None:
        thresholds["cross-fitted threshold"] = summary.cross_fitted_threshold.threshold
    figures = [_by_slice(key, summary, ceiling) for key in summary.slices]
    present, absent = (scored[scored["label"] == value]["similarity"].to_numpy(dtype=float) for value in (1, 0))
    figures.append(
        histograms(
            "similarities",
            "Similarities of pairs labelled present and absent, with the thresholds.",
            {"present": present, "absent": absent},
            "similarity",
            thresholds,
        )
    )
    hard = scored[scored["label"].isin(HARD_LABELS)]
    labels, scores = hard["label"].to_numpy(dtype=bool), hard["similarity"].to_numpy(dtype=float)
    if labels.any() and not labels.all():
        false_rate, true_rate, at = roc_curve(scores, labels)
        place = int(np.searchsorted(-at, -summary.threshold, side="right")) - 1
        points = {f"threshold {summary.threshold:g}": (float(false_rate[place]), float(true_rate[place]))}
        auc = summary.overall.roc_auc.value
        figures.append(
            curves(
                "roc",
                f"Receiver operating characteristic; area {auc:.3f}." if auc is not None else "ROC.",
                {"model": (false_rate, true_rate)},
                ("false positive rate", "recall"),
                points=points,
                diagonal=True,
            )
        )
        recall, precision = pr_curve(scores, labels)
        figures.append(
            curves(
                "precision_recall",
                f"Precision against recall; chance is the share of present items, {labels.mean():.2f}.",
                {"model": (recall, precision)},
                ("recall", "precision"),
            )
        )
    if "present_votes" in scored and scored["present_votes"].notna().any():
        known = scored[scored["present_votes"].notna()]
        share = (known["present_votes"] / known["n_raters"]).to_numpy(dtype=float)
        figures.append(
            scatter(
                "raters",
                "Similarity against the share of raters who said present.",
                share,
                known["similarity"].to_numpy(dtype=float),
                ("share of raters who said present", "similarity"),
            )
        )
    return [figure for figure in figures if figure is not None]


def _by_slice(key: str, summary: BenchmarkSummary, ceiling: Estimate | None) -> Figure | None:
    rows = [
        Interval(one.value, getattr(one, metric), metric.replace("_", " "))
        for one in summary.slices[key]
        for metric in ("balanced_accuracy", "accuracy")
    ]
    return forest_plot(
        f"by_{key}",
        f"Balanced accuracy and accuracy by {key.replace('_', ' ')}, with 95 % intervals"
        + (" and the human ceiling (leave-one-out balanced accuracy)." if ceiling else "."),
        rows,
        "score",
        band=ceiling,
        chance=0.5,
    )


def _scored(pairs: PairTable, evaluation: Evaluation) -> pd.DataFrame:
    """The evaluated pairs with their similarity; pairs without a score are left out."""
    table = pairs.table.assign(similarity=evaluation.predictions["similarity"], ok=evaluation.predictions["ok"])
    return table[table["ok"].astype(bool)].reset_index(drop=True)


def benchmark_clips(pairs: PairTable, evaluation: Evaluation, threshold: float) -> list[ClipList]:
    """List the clips to listen to.

    Parameters
    ----------
    pairs : PairTable
    evaluation : Evaluation
    threshold : float
        Pairs with at least this similarity are predicted present.

    Returns
    -------
    list of ClipList
        False positives with the highest similarity, false negatives with the lowest, and the pairs on which raters
        disagree most.
    """
    scored = _scored(pairs, evaluation)
    predicted = scored["similarity"].astype(float) >= threshold
    lists = [
        ClipList(
            "False positives",
            "Labelled absent, with the highest similarities.",
            _clips(pairs, scored[(scored["label"] == 0) & predicted].sort_values("similarity", ascending=False)),
        ),
        ClipList(
            "False negatives",
            "Labelled present, with the lowest similarities.",
            _clips(pairs, scored[(scored["label"] == 1) & ~predicted].sort_values("similarity")),
        ),
    ]
    if "present_votes" in scored and scored["present_votes"].notna().any():
        share = scored["present_votes"] / scored["n_raters"]
        disputed = scored.assign(distance=(share - 0.5).abs())[(share > 0) & (share < 1)]
        lists.append(
            ClipList(
                "Disputed labels",
                "Pairs on which raters are most divided.",
                _clips(pairs, disputed.sort_values(["distance", "n_raters"], ascending=[True, False])),
            )
        )
    return lists


def _clips(pairs: PairTable, rows: pd.DataFrame) -> list[Sequence[ListedClip]]:
    clips: list[Sequence[ListedClip]] = []
    for row in rows.head(SHOWN_CLIPS).to_dict("records"):
        facts = [("sentence", str(row["prompt"])), ("label", f"{row['label']:g}")]
        facts.append(("similarity", f"{row['similarity']:.3f}"))
        votes = row.get("present_votes")
        if votes is not None and np.isfinite(votes):
            facts.append(("raters", f"{votes:g} of {row['n_raters']} said present"))
        path = str(row["audio_path"])
        clips.append([ListedClip(path.rsplit("/", 1)[-1], pairs.dataset_root / path, facts)])
    return clips


def predictions_table(evaluation: Evaluation) -> LongTable:
    """All predictions, for a table that sorts and filters."""
    shown = evaluation.predictions.drop(columns=["prompt", "ok"])
    rows = shown.astype(object).where(shown.notna(), None).to_numpy().tolist()
    return LongTable("All pairs", list(shown.columns), rows)

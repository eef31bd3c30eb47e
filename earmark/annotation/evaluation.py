"""Answers against labels: everything that benchmark.py reports about a scorer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.questions import Questions
from earmark.metrics.classification import cross_fitted_thresholds, decision_contributions, decision_metrics, evaluate
from earmark.metrics.resampling import Bootstrap, Estimate
from earmark.models.scorers import Answer

BANDS = (("Bad", 0.0), ("Weak", 0.55), ("Medium", 0.65), ("Good", 0.75), ("Excellent", 0.85))
SLICE_METRICS = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision")
NOT_SAID = "(not said)"
NO_THRESHOLD = "some fold's other clips hold one class only, so no threshold could be chosen on them"


@dataclass(frozen=True)
class Evaluation:
    """What was found: one row per question, tables by slice, and the numbers of summary.json."""

    predictions: pd.DataFrame
    slices: dict[str, pd.DataFrame]
    numbers: dict[str, Any]


def evaluate_answers(
    questions: Questions,
    answers: list[Answer],
    *,
    threshold: float,
    replicates: int,
    rng: np.random.Generator,
    by: Sequence[str] = (),
) -> Evaluation:
    """Hold answers against the labels. answers: one per question, in order.

    An answer with an error is reported and enters no metric. A question is called present from the threshold up.
    by: keys of the clips' own JSON files to slice by, beside the columns that the subset lists; a clip whose file
    does not have the key is in the slice "(not said)".
    """
    table = questions.table.assign(
        similarity=pd.array([answer.similarity for answer in answers], dtype="Float64"),
        ok=[not answer.error for answer in answers],
        error=[answer.error for answer in answers],
    )
    for key in by:
        said = {path: questions.described(path).get(key) for path in questions.clips}
        table[key] = [NOT_SAID if said[path] is None else str(said[path]) for path in table["audio_path"]]
    table["pred_present"] = (table["similarity"] >= threshold).astype("Int64")
    good = table[table["ok"].astype(bool)].reset_index(drop=True)
    resampling, dealing = rng.spawn(2)  # the folds must not depend on how many replicates are drawn
    bootstrap = Bootstrap.of(good["clip"], replicates, resampling)
    unanimous = good["benchmark_bucket"].str.startswith("unanimous_").to_numpy(dtype=bool)
    cross_fitted = _cross_fitted(good, bootstrap, dealing)
    overall = _metrics(good, bootstrap)
    positive = good["label"].mean() if len(good) else None
    numbers = {
        "rows_total": len(table),
        "rows_evaluated_ok": len(good),
        "majority_baseline": None if positive is None else float(max(positive, 1 - positive)),
        "quality_band": quality_band(overall["balanced_accuracy"]),
        "quality_band_cross_fitted": quality_band(cross_fitted["balanced_accuracy"]),
        "overall": overall,
        "unanimous_subset": _metrics(good[unanimous], bootstrap.take(unanimous)),
        "cross_fitted_threshold": cross_fitted,
    }
    other_truth = ["label"] if questions.truth != "majority" else []
    columns = [*questions.subset.key, "benchmark_bucket", "n_raters", "majority_present", *other_truth]
    predictions = table[[*columns, "audio_path", "prompt", "similarity", "pred_present", "ok", "error"]]
    slices = {key: _by(good, key, bootstrap) for key in [*questions.subset.slices, *by]}
    tables = {key: slice_table(key, records) for key, records in slices.items()}
    return Evaluation(predictions, tables, {**numbers, "slices": slices})


def _metrics(rows: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    labels, said = rows["label"].to_numpy(dtype=float), rows["pred_present"].to_numpy(dtype=bool)
    tp, fp, tn, fn = (_whole(count) for count in decision_contributions(said, labels).sum(axis=0))
    estimates = evaluate(rows["similarity"].to_numpy(dtype=float), said, labels, bootstrap)
    return {**estimates, "tp": tp, "fp": fp, "tn": tn, "fn": fn}


def _whole(count: float) -> int | float:
    """A count as a whole number, where it is one; soft labels count in shares."""
    return int(count) if float(count).is_integer() else float(count)


def _cross_fitted(rows: pd.DataFrame, bootstrap: Bootstrap, rng: np.random.Generator) -> dict[str, Any]:
    scores, labels = rows["similarity"].to_numpy(dtype=float), rows["label"].to_numpy(dtype=float)
    each, chosen = cross_fitted_thresholds(scores, labels, rows["clip"].to_numpy(), rng)
    if not len(chosen):
        return {"threshold": None, "thresholds": [], "balanced_accuracy": Estimate(None, n=len(rows), why=NO_THRESHOLD)}
    balanced = bootstrap.estimate(
        decision_contributions(scores >= each, labels), lambda sums: decision_metrics(sums)[..., 0], n=len(rows)
    )
    return {"threshold": float(np.median(chosen)), "thresholds": chosen.tolist(), "balanced_accuracy": balanced}


def _by(rows: pd.DataFrame, key: str, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """The metrics of each value of a column."""
    records = []
    for value, of_slice in rows.groupby(key, sort=True):
        metrics = _metrics(of_slice, bootstrap.take(of_slice.index.to_numpy()))
        counts = {"value": value, "n": len(of_slice), "n_positive": _whole(of_slice["label"].sum())}
        records.append({**counts, **{name: metrics[name] for name in SLICE_METRICS}})
    return records


def slice_table(key: str, records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A slice as metrics_by_<key>.csv: values alone, empty cells for what does not exist (a class is missing)."""
    rows = [[r["value"], r["n"], r["n_positive"], *(r[name].value for name in SLICE_METRICS)] for r in records]
    return pd.DataFrame(rows, columns=[key, "n", "n_positive", *SLICE_METRICS])


def quality_band(balanced_accuracy: Estimate) -> str | None:
    """The word for a balanced accuracy: the last band whose lower edge it reaches; None where it does not exist."""
    value = balanced_accuracy.value
    return None if value is None else [name for name, low in BANDS if round(value, 12) >= low][-1]

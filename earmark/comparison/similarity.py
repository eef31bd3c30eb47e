"""Results of `benchmark.py` compared: the same clip-text pairs and labels, several models."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.cli import Invocation
from earmark.comparison.comparison import Comparison
from earmark.comparison.differences import MetricOfSystems
from earmark.comparison.options import CompareOptions
from earmark.comparison.results import FinishedResult
from earmark.errors import EarmarkError, shown_path
from earmark.metrics.binned import cross_fitted_replicates, ranking_replicates
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import (
    DECISION_METRICS,
    RANKING_METRICS,
    assign_folds,
    cross_fit,
    decision_contributions,
    decision_metrics,
    ranking_metrics,
    units_by_metric,
)
from earmark.report.page import ClipList, ListedClip

FloatArray = NDArray[np.float64]
PREDICTIONS = "predictions.csv"
SHOWN_CLIPS = 24
DECISIONS = ("absent", "present")
# Columns of predictions.csv that are not part of a pair's key; what stands before them is.
FIRST_AFTER_KEY = "benchmark_bucket"
HEADLINE = ("balanced_accuracy", "balanced_accuracy_cross_fitted", "roc_auc")
FOLDS = 5
OF_SLICES = ("balanced_accuracy", "accuracy", "f1")


@dataclass(frozen=True)
class ScoredPairs:
    """The pairs that all systems scored.

    Attributes
    ----------
    table : (n,) rows with the key columns, the columns that slice, `audio_path`, `prompt` and `label`.
    similarities : for each system (n,).
    thresholds : of each system, as it was run.
    slices : columns that slice.
    n_left_out : pairs that not all systems hold or scored.
    notes : what was left out and why.
    """

    table: pd.DataFrame
    similarities: list[FloatArray]
    thresholds: list[float]
    slices: list[str]
    n_left_out: int
    notes: list[str]

    @property
    def labels(self) -> FloatArray:
        """(n,) 0, 1, or the share of raters who said present."""
        return self.table["label"].to_numpy(dtype=float)


def read_pairs(results: Sequence[FinishedResult], common: bool) -> ScoredPairs:
    """The pairs of several results, in one order.

    Parameters
    ----------
    results : of `benchmark.py`, on one subset.
    common : keep the pairs that all results hold; otherwise different pairs are an error.

    Raises
    ------
    EarmarkError
        If labels differ, or pairs differ without `common`, or no pair is left; it says what differs.
    """
    sources = {result.system: str(result.summary.get("labels", "majority")) for result in results}
    if len(set(sources.values())) > 1:
        each = ", ".join(f"{system} with --labels {source}" for system, source in sources.items())
        raise EarmarkError(f"The results were evaluated against different labels: {each}.")
    tables = [_read(result.folder / PREDICTIONS) for result in results]
    keys = list(tables[0].columns[: list(tables[0].columns).index(FIRST_AFTER_KEY)])
    indexed = [table.set_index([*keys, "audio_path"], drop=False) for table in tables]
    first = indexed[0]
    shared = first.index
    for table in indexed[1:]:
        shared = shared[shared.isin(table.index)]
    different = [
        f"{result.system}: {len(table) - len(shared):,} of {len(table):,} pairs are not in all results"
        for result, table in zip(results, indexed, strict=True)
        if len(table) > len(shared)
    ]
    if different and not common:
        raise EarmarkError(
            "\n  ".join(["The results hold different pairs:", *different, *different_filters(results)])
            + "\nRun them with the same filters and labels, or give --common to compare on the pairs that all hold."
        )
    aligned = [table.loc[shared] for table in indexed]
    labels = [_labels(table) for table in aligned]
    unlike = [int((labels[0] != own).sum()) for own in labels]
    if any(unlike):
        name = results[int(np.argmax(unlike))].system
        raise EarmarkError(
            f"{max(unlike):,} pairs have another label in {name} than in {results[0].system}: the results were "
            "evaluated against different annotations. Run `benchmark.py` again for both."
        )
    scored = np.all([table["ok"].to_numpy(dtype=bool) for table in aligned], axis=0)
    notes = [*different, *different_sentences(results)]
    for result, table in zip(results, aligned, strict=True):
        if failed := int((~table["ok"].to_numpy(dtype=bool)).sum()):
            notes.append(f"{result.system} has no score for {failed:,} pairs, which are left out for all systems")
    if not scored.any():
        raise EarmarkError("No pair has a score of every system.")
    table = aligned[0][scored].assign(label=labels[0][scored]).reset_index(drop=True)
    slices = [name for name in results[0].summary.get("slices", {}) if name in table.columns]
    return ScoredPairs(
        table=table,
        similarities=[own["similarity"].to_numpy(dtype=float)[scored] for own in aligned],
        thresholds=[float(result.summary.get("threshold", 0.0)) for result in results],
        slices=slices,
        n_left_out=len(set().union(*(own.index for own in indexed))) - int(scored.sum()),
        notes=notes,
    )


def different_filters(results: Sequence[FinishedResult]) -> list[str]:
    """A line for each filter that the results do not share, as flags."""
    filters = [dict(result.summary.get("filters") or {}) for result in results]
    lines = []
    for name in dict.fromkeys(name for own in filters for name in own):
        values = [own.get(name) for own in filters]
        if any(value != values[0] for value in values):
            each = (f"{r.system}: {json.dumps(value)}" for r, value in zip(results, values, strict=True))
            lines.append(f"--{name.replace('_', '-')}: {', '.join(each)}")
    return lines


def different_sentences(results: Sequence[FinishedResult]) -> list[str]:
    """Note on results that were scored with other sentences, as far as their flags tell; empty if there is nothing."""
    flags = ("prompt", "prompts")
    given = [{name: result.summary.get("parameters", {}).get(name) for name in flags} for result in results]
    if all(own == given[0] for own in given):
        return []
    each = [
        f"{result.system} {' '.join(f'--{name} {value!r}' for name, value in own.items() if value) or 'as described'}"
        for result, own in zip(results, given, strict=True)
    ]
    return [f"the results were scored with different sentences: {', '.join(each)}"]


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise EarmarkError(f"{shown_path(path)} not found: the result has no predictions to compare.")
    try:
        table = pd.read_csv(path, dtype={"ok": str}, keep_default_na=True, low_memory=False)
    except ValueError as error:  # also what pandas raises for an empty or a torn file
        raise EarmarkError(f"{shown_path(path)} cannot be read as predictions; run `benchmark.py` again.") from error
    needed = {FIRST_AFTER_KEY, "audio_path", "majority_present", "similarity", "ok"}
    if missing := needed - set(table.columns):
        raise EarmarkError(f"{shown_path(path)}: columns {', '.join(sorted(missing))} not found.")
    return table.assign(ok=table["ok"].eq("True"))


def _labels(table: pd.DataFrame) -> FloatArray:
    return table["label" if "label" in table.columns else "majority_present"].to_numpy(dtype=float)


def compare_pairs(pairs: ScoredPairs, replicates: int, rng: np.random.Generator) -> list[MetricOfSystems]:
    """Every metric of all pairs, and of each slice, for every system on the same bootstrap draws of clips.

    Parameters
    ----------
    pairs : scored by all systems.
    replicates : of the bootstrap; 0 for values alone.
    rng : decides the draws, and the folds of cross-fitted thresholds.

    Returns
    -------
    list of MetricOfSystems
        First the metrics of all pairs, then those of each slice.
    """
    drawing, folding = rng.spawn(2)
    bootstrap = Bootstrap.from_units(pairs.table["audio_path"], replicates, drawing)
    everything = np.ones(len(pairs.table), dtype=bool)
    metrics = _decisions(pairs, everything, bootstrap, tuple(DECISION_METRICS))
    metrics += [_cross_fitted(pairs, bootstrap, folding)]
    metrics += _rankings(pairs, bootstrap)
    order = [*HEADLINE, *(one.metric for one in metrics)]
    metrics.sort(key=lambda one: order.index(one.metric))
    for column in pairs.slices:
        values = pairs.table[column].astype(str)
        for value in sorted(values.unique()):
            inside = (values == value).to_numpy()
            metrics += _decisions(pairs, inside, bootstrap.take(inside), OF_SLICES, column, value)
    return metrics


def _decisions(
    pairs: ScoredPairs,
    inside: NDArray[np.bool_],
    bootstrap: Bootstrap,
    names: Sequence[str],
    column: str = "",
    value: str = "",
) -> list[MetricOfSystems]:
    """Metrics at each system's threshold."""
    labels = pairs.labels[inside]
    values, drawn = [], []
    for similarity, threshold in zip(pairs.similarities, pairs.thresholds, strict=True):
        contributions = decision_contributions(similarity[inside] >= threshold, labels)
        values.append(decision_metrics(contributions.sum(axis=0)))
        drawn.append(bootstrap.replicates(contributions, decision_metrics, len(DECISION_METRICS)))
    units = units_by_metric(np.ones(len(labels), dtype=bool), labels, bootstrap)
    metrics = [
        MetricOfSystems.from_replicates(
            name,
            [own[place] for own in values],
            [own[:, place] for own in drawn],
            n=len(labels),
            units=units[name],
            why="the labels hold one class only",
            slice=column,
            value_of_slice=value,
        )
        for place, name in enumerate(DECISION_METRICS)
        if name in names
    ]
    if bootstrap.n_units < len(labels) or not np.isin(labels, (0, 1)).all():
        return metrics
    decisions = zip(pairs.similarities, pairs.thresholds, strict=True)
    correct = [(similarity[inside] >= threshold) == (labels == 1) for similarity, threshold in decisions]
    return [replace(metric, correct=correct) if metric.metric == "accuracy" else metric for metric in metrics]


def _rankings(pairs: ScoredPairs, bootstrap: Bootstrap) -> list[MetricOfSystems]:
    """Area under the ROC and average precision."""
    labels = pairs.labels
    units = units_by_metric(np.ones(len(labels), dtype=bool), labels, bootstrap)
    values = [ranking_metrics(similarity, labels) for similarity in pairs.similarities]
    drawn = [ranking_replicates(similarity, labels, bootstrap) for similarity in pairs.similarities]
    return [
        MetricOfSystems.from_replicates(
            name,
            [own[place] for own in values],
            [own[:, place] for own in drawn],
            n=len(labels),
            units=units[name],
            why="the labels hold one class only",
        )
        for place, name in enumerate(RANKING_METRICS)
    ]


def _cross_fitted(pairs: ScoredPairs, bootstrap: Bootstrap, rng: np.random.Generator) -> MetricOfSystems:
    """Balanced accuracy at cross-fitted thresholds, with the same folds for every system."""
    seed = int(rng.integers(2**63))
    labels = pairs.labels
    once = Bootstrap(bootstrap.unit, bootstrap.weights[:0], bootstrap.name)
    fold = assign_folds(labels, once, np.random.default_rng(seed), FOLDS)
    values, drawn = [], []
    for similarity in pairs.similarities:
        fitted = cross_fit(similarity, labels, once, np.random.default_rng(seed), FOLDS).balanced_accuracy.value
        values.append(np.nan if fitted is None else fitted)
        drawn.append(values[-1] + cross_fitted_replicates(similarity, labels, bootstrap, fold))
    return MetricOfSystems.from_replicates(
        "balanced_accuracy_cross_fitted",
        values,
        drawn,
        n=len(pairs.table),
        units=bootstrap.units_of_rarer_class(labels),
        why="a class is missing in the folds that choose a threshold",
    )


def flips(pairs: ScoredPairs, systems: Sequence[str], reference: int) -> pd.DataFrame:
    """Pairs by how far the systems are apart, those with different decisions first.

    Parameters
    ----------
    pairs : scored by all systems.
    systems : names.
    reference : the place of the reference, whose decision the others are compared with.

    Returns
    -------
    pandas.DataFrame
        The key columns, `audio_path`, `prompt`, `label`, for each system `score_<name>` and `decision_<name>`, and
        `spread`: the largest difference of percentile ranks of the scores, since the scores of two systems have no
        common scale.
    """
    table = pairs.table
    keys = [*table.columns[: list(table.columns).index(FIRST_AFTER_KEY)], "audio_path", "prompt", "label"]
    shown = table[[name for name in dict.fromkeys(keys) if name in table.columns]].copy()
    ranks, decisions = [], []
    for system, similarity, threshold in zip(systems, pairs.similarities, pairs.thresholds, strict=True):
        shown[f"score_{system}"] = similarity
        shown[f"decision_{system}"] = (similarity >= threshold).astype(int)
        ranks.append(pd.Series(similarity).rank(pct=True).to_numpy())
        decisions.append(similarity >= threshold)
    shown["spread"] = np.ptp(np.array(ranks), axis=0)
    flipped = np.any(np.array(decisions) != decisions[reference], axis=0)
    shown["flip"] = flipped
    return shown.sort_values(["flip", "spread"], ascending=False, kind="stable").reset_index(drop=True)


def compare_benchmarks(
    results: Sequence[FinishedResult], reference: int, options: CompareOptions, invocation: Invocation
) -> Comparison:
    """Compare results of `benchmark.py`: every metric, every slice, and the pairs on which the systems differ."""
    pairs = read_pairs(results, options.common)
    names = [result.system for result in results]
    flipped = flips(pairs, names, reference)
    return Comparison(
        metrics=compare_pairs(pairs, options.replicates, invocation.generator()),
        flips=flipped,
        n_flips=int(flipped["flip"].sum()),
        n_items=len(pairs.table),
        n_left_out=pairs.n_left_out,
        notes=pairs.notes,
        clips=[_clips(flipped, names, options)],
    )


def _clips(flipped: pd.DataFrame, names: Sequence[str], options: CompareOptions) -> ClipList:
    """The pairs with different decisions on which the systems are furthest apart."""
    shown = flipped[flipped["flip"]].head(SHOWN_CLIPS)
    clips = []
    for row in shown.to_dict("records"):
        facts = [("sentence", str(row["prompt"])), ("label", f"{row['label']:g}")]
        facts += [(name, f"{row[f'score_{name}']:.3f} ({DECISIONS[row[f'decision_{name}']]})") for name in names]
        path = str(row["audio_path"])
        clips.append([ListedClip(Path(path).name, options.dataset_root / path, facts)])
    return ClipList("Different decisions", "Pairs that the systems decide differently, the largest gap first.", clips)

"""Results of `benchmark.py` on nominal, ordinal and interval labels compared: the same items, several models."""

from collections.abc import Callable, Sequence
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
from earmark.comparison.similarity import PREDICTIONS, SHOWN_CLIPS, different_filters, different_sentences
from earmark.errors import EarmarkError, shown_path
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.choice import CHOICE_METRICS, NO_ANSWER, choice_contributions, choice_metrics
from earmark.metrics.group_correlation import GroupCorrelations, moment_replicates, spearman_replicates
from earmark.metrics.interval_agreement import concordance, correlation
from earmark.report.page import ClipList, ListedClip

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FIRST_AFTER_KEY = "n_raters"
SIMILARITY = "similarity_"
REFERENCES = {"nominal": "reference_class", "ordinal": "mean_level", "interval": "mean_rating"}
UNDEFINED = "fewer than three items, or no variation"


@dataclass(frozen=True)
class ScaleItems:
    """The items that all systems scored.

    Attributes
    ----------
    scale, labels : str
        Of the subset, and the reference labels of the runs.
    keys : list of str
        Columns that identify an item.
    tables : list of DataFrame
        Predictions of each system, in one order.
    n_left_out : int
        Items that not all systems hold or scored.
    notes : list of str
    """

    scale: str
    labels: str
    keys: list[str]
    tables: list[pd.DataFrame]
    n_left_out: int
    notes: list[str]


def read_items(results: Sequence[FinishedResult], common: bool) -> ScaleItems:
    """The items of several results, in one order.

    Parameters
    ----------
    results : of `benchmark.py`, on one subset.
    common : keep the items that all results hold; otherwise different items are an error.

    Raises
    ------
    EarmarkError
        If scales, labels or references differ, or items differ without `common`, or no item is left.
    """
    for name in ("scale", "labels"):
        values = {result.system: str(result.summary.get(name, "binary")) for result in results}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{system}: {value}" for system, value in values.items())
            raise EarmarkError(f"The results were evaluated on different {name.removesuffix('s')}s ({each}).")
    scale, labels = str(results[0].summary["scale"]), str(results[0].summary["labels"])
    tables = [_read(result.folder / PREDICTIONS, REFERENCES[scale]) for result in results]
    keys = list(tables[0].columns[: list(tables[0].columns).index(FIRST_AFTER_KEY)])
    indexed = [table.set_index(keys, drop=False) for table in tables]
    shared = indexed[0].index
    for table in indexed[1:]:
        shared = shared[shared.isin(table.index)]
    notes = [
        f"{result.system}: {len(table) - len(shared):,} of {len(table):,} items are not in all results"
        for result, table in zip(results, indexed, strict=True)
        if len(table) > len(shared)
    ]
    if notes and not common:
        raise EarmarkError(
            "\n  ".join(["The results hold different items:", *notes, *different_filters(results)])
            + "\nRun them with the same filters and labels, or give --common to compare on the items that all hold."
        )
    aligned = [table.loc[shared] for table in indexed]
    for result, table in zip(results, aligned, strict=True):
        if (table[REFERENCES[scale]].to_numpy() != aligned[0][REFERENCES[scale]].to_numpy()).any():
            raise EarmarkError(
                f"Items have another {REFERENCES[scale]} in {result.system} than in {results[0].system}: the results "
                "were evaluated against different annotations. Run `benchmark.py` again for both."
            )
    scored = np.all([table["ok"].to_numpy(dtype=bool) for table in aligned], axis=0)
    notes += different_sentences(results)
    for result, table in zip(results, aligned, strict=True):
        if failed := int((~table["ok"].to_numpy(dtype=bool)).sum()):
            notes.append(f"{result.system} has no score for {failed:,} items, which are left out for all systems")
    if not scored.any():
        raise EarmarkError("No item has a score of every system.")
    everything = len(set().union(*(own.index for own in indexed)))
    kept = [table[scored].reset_index(drop=True) for table in aligned]
    return ScaleItems(scale, labels, keys, kept, everything - int(scored.sum()), notes)


def _read(path: Path, reference: str) -> pd.DataFrame:
    if not path.is_file():
        raise EarmarkError(f"{shown_path(path)} not found: the result has no predictions to compare.")
    try:
        table = pd.read_csv(path, dtype={"ok": str, "predicted_class": str, "reference_class": str}, low_memory=False)
    except ValueError as error:  # also what pandas raises for an empty or a torn file
        raise EarmarkError(f"{shown_path(path)} cannot be read as predictions; run `benchmark.py` again.") from error
    if missing := {FIRST_AFTER_KEY, reference, "audio_path", "ok"} - set(table.columns):
        raise EarmarkError(f"{shown_path(path)}: columns {', '.join(sorted(missing))} not found.")
    texts = {name: table[name].fillna("") for name in ("predicted_class", "reference_class") if name in table}
    return table.assign(ok=table["ok"].eq("True"), **texts)


def compare_scales(
    results: Sequence[FinishedResult], reference: int, options: CompareOptions, invocation: Invocation
) -> Comparison:
    """Compare results on a nominal, ordinal or interval scale: every score, and the items the systems differ on."""
    items = read_items(results, options.common)
    names = [result.system for result in results]
    bootstrap = Bootstrap.from_units(
        items.tables[0]["audio_path"].astype(str), options.replicates, invocation.generator()
    )
    if items.scale == "nominal":
        metrics, flipped = _choices(items, bootstrap), _different_answers(items, names, reference)
    else:
        metrics, flipped = _correlations(items, bootstrap), _different_ranks(items, names)
    return Comparison(
        metrics=metrics,
        flips=flipped,
        n_flips=int(flipped["flip"].sum()),
        n_items=len(items.tables[0]),
        n_left_out=items.n_left_out,
        notes=items.notes,
        clips=[_clips(flipped, items, names, options)],
    )


def _choices(items: ScaleItems, bootstrap: Bootstrap) -> list[MetricOfSystems]:
    """Scores of a choice among classes; with soft labels the accuracy alone, whose credit the predictions hold."""
    n = len(items.tables[0])
    if items.labels == "soft":
        credit = [table["correct"].to_numpy(dtype=float) for table in items.tables]
        sums = [np.stack([own, np.ones(n)], axis=1) for own in credit]
        drawn = [bootstrap.replicates(s, lambda total: total[..., :1] / total[..., 1:], 1)[:, 0] for s in sums]
        means = [float(own.mean()) for own in credit]
        return [MetricOfSystems.from_replicates("zero_shot_accuracy", means, drawn, n=n, units=bootstrap.units)]
    levels = [name.removeprefix(SIMILARITY) for name in items.tables[0].columns if name.startswith(SIMILARITY)]
    places = {level: code for code, level in enumerate(levels)}
    reference = np.eye(len(levels))[[places[level] for level in items.tables[0]["reference_class"]]]
    answers = [
        np.array([places.get(level, NO_ANSWER) for level in table["predicted_class"]], dtype=np.int64)
        for table in items.tables
    ]
    contributions = [choice_contributions(own, reference) for own in answers]

    def scores(total: FloatArray) -> FloatArray:
        return choice_metrics(total, len(levels))

    values = [scores(np.asarray(own.sum(axis=0), dtype=float).ravel()) for own in contributions]
    drawn = [bootstrap.replicates(own, scores, len(CHOICE_METRICS)) for own in contributions]
    rarest = min(
        bootstrap.units_with(reference[:, c] > 0, "of the rarest class")
        for c in range(len(levels))
        if reference[:, c].any()
    )
    metrics = [
        MetricOfSystems.from_replicates(
            f"zero_shot_{name}",
            [float(own[place]) for own in values],
            [own[:, place] for own in drawn],
            n=n,
            units=bootstrap.units if name == "accuracy" else rarest,
        )
        for place, name in enumerate(CHOICE_METRICS)
    ]
    if bootstrap.n_units < n:
        return metrics
    correct = [(reference[np.arange(n), own] > 0) & (own != NO_ANSWER) for own in answers]
    return [replace(one, correct=correct) if one.metric == "zero_shot_accuracy" else one for one in metrics]


def _correlations(items: ScaleItems, bootstrap: Bootstrap) -> list[MetricOfSystems]:
    """Correlations with the mean rating, over all items and as the mean over sentences where there are several."""
    rating = items.tables[0][REFERENCES[items.scale]].to_numpy(dtype=float)
    similarities = [table["similarity"].to_numpy(dtype=float) for table in items.tables]
    one = np.zeros(len(rating), dtype=np.int64)
    sentence = pd.factorize(items.tables[0]["prompt"].astype(str))[0].astype(np.int64)
    metrics = []
    for suffix, group in (("_by_prompt", sentence), ("", one)):
        if suffix and sentence.max(initial=0) == 0:
            continue
        ranks = [spearman_replicates(x, rating, group, bootstrap) for x in similarities]
        values = [moment_replicates(correlation, x, rating, group, bootstrap) for x in similarities]
        metrics += [_metric(f"spearman{suffix}", ranks), _metric(f"pearson{suffix}", values)]
    scaled = [table["scaled_similarity"].to_numpy(dtype=float) for table in items.tables]
    if all(np.isfinite(own).all() for own in scaled):  # the scaling of each run is held fixed
        metrics.append(
            _metric("concordance", [moment_replicates(concordance, x, rating, one, bootstrap) for x in scaled])
        )
    return metrics


def _metric(name: str, found: Sequence[GroupCorrelations]) -> MetricOfSystems:
    """Means over the groups in which every system has a value."""
    shared = np.all([own.defined for own in found], axis=0)
    kept = [own.only(shared) for own in found]
    return MetricOfSystems.from_replicates(
        f"mean_rating_{name}",
        [own.mean_value for own in kept],
        [own.mean_replicates for own in kept],
        n=kept[0].n,
        units=kept[0].units,
        why=UNDEFINED,
    )


def _different_answers(items: ScaleItems, names: Sequence[str], reference: int) -> pd.DataFrame:
    """Items by whether the systems answer differently from the reference system."""
    first = items.tables[0]
    shown = first[[*items.keys, "audio_path", "reference_class"]].copy()
    answers = [table["predicted_class"].to_numpy(dtype=object) for table in items.tables]
    correct = [table["correct"].to_numpy(dtype=float) for table in items.tables]
    for name, answer, own in zip(names, answers, correct, strict=True):
        shown[f"answer_{name}"], shown[f"correct_{name}"] = answer, own
    shown["spread"] = np.ptp(np.array(correct), axis=0)
    shown["flip"] = np.any([own != answers[reference] for own in answers], axis=0)
    return shown.sort_values(["flip", "spread"], ascending=False, kind="stable").reset_index(drop=True)


def _different_ranks(items: ScaleItems, names: Sequence[str]) -> pd.DataFrame:
    """Items by how far the systems rank them apart; there are no decisions that could differ."""
    reference = REFERENCES[items.scale]
    shown = items.tables[0][[*items.keys, "audio_path", "prompt", reference]].copy()
    ranks = []
    for name, table in zip(names, items.tables, strict=True):
        shown[f"score_{name}"] = table["similarity"].to_numpy(dtype=float)
        ranks.append(table["similarity"].rank(pct=True).to_numpy())
    shown["spread"], shown["flip"] = np.ptp(np.array(ranks), axis=0), False
    return shown.sort_values("spread", ascending=False, kind="stable").reset_index(drop=True)


def _clips(flipped: pd.DataFrame, items: ScaleItems, names: Sequence[str], options: CompareOptions) -> ClipList:
    """The items on which the systems are furthest apart."""
    nominal = items.scale == "nominal"
    rows = flipped[flipped["flip"]] if nominal else flipped
    facts: Callable[[dict[str, object], str], str] = (
        (lambda row, name: str(row[f"answer_{name}"]) or "no answer")
        if nominal
        else (lambda row, name: f"{row[f'score_{name}']:.3f}")
    )
    clips = []
    for row in rows.head(SHOWN_CLIPS).to_dict("records"):
        own = [("reference", str(row[REFERENCES[items.scale]])), *((name, facts(row, name)) for name in names)]
        path = str(row["audio_path"])
        clips.append([ListedClip(Path(path).name, options.dataset_root / path, own)])
    title = "Different answers" if nominal else "Different ranks"
    return ClipList(title, "Items on which the systems are furthest apart.", clips)

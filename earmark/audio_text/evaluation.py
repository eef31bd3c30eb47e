"""Evaluate scores against reference labels: the computation behind benchmark.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from earmark.annotation.parity import MIN_OTHER_RATERS, HeldOutRatings, Parity, RaterPanel, human_parity
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.prompt_metrics import (
    NO_VOTES,
    SELECTED,
    pairwise_parities,
    rank_metrics,
    threshold_metrics,
)
from earmark.audio_text.schema import BenchmarkResult, CrossFitted, Metrics, SliceMetrics
from earmark.audio_text.scorers import Score
from earmark.metrics import classification
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import NO_THRESHOLD, cross_fit, decision_contributions, evaluate
from earmark.metrics.estimate import Estimate

# Names of the quality bands with their lower bounds of balanced accuracy, from emolia-bench.
QUALITY_BANDS = (("Bad", 0.0), ("Weak", 0.55), ("Medium", 0.65), ("Good", 0.75), ("Excellent", 0.85))
SLICE_METRICS = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision")
MISSING_VALUE = "(missing)"
NO_LEAVE_ONE_OUT = "leave_one_out.csv does not exist; run `uv run analysis.py` to create it"


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate_scores`.

    Attributes
    ----------
    predictions : DataFrame
        One row per pair, as predictions.csv.
    slice_tables : dict
        {column: table}, as metrics_by_<column>.csv.
    result : BenchmarkResult
        Metrics for summary.json.
    """

    predictions: pd.DataFrame
    slice_tables: dict[str, pd.DataFrame]
    result: BenchmarkResult


def evaluate_scores(
    pairs: PairTable,
    scores: list[Score],
    *,
    threshold: float,
    replicates: int,
    rng: np.random.Generator,
    by: Sequence[str] = (),
    unanimous_only: bool = False,
    leave_one_out: pd.DataFrame | None = None,
    panel: RaterPanel | None = None,
) -> Evaluation:
    """Evaluate the scores of a model against reference labels and against raters.

    Parameters
    ----------
    pairs : PairTable
    scores : list of Score
        One per row of `pairs.with_comparison_only().table`, in order. A score with an error is listed in the
        predictions and enters no metric.
    threshold : float
        A pair is predicted present if its similarity is at least this value.
    replicates : int
        Number of bootstrap replicates over clips; 0 for no intervals.
    rng : numpy.random.Generator
    by : sequence of str
        Keys of the clips' JSON files to slice by, in addition to the columns that the subset defines. Clips without
        the key form the slice "(missing)".
    unanimous_only : bool
        Whether the pairs were restricted to unanimous items. If so, the comparison with raters uses only ratings
        whose other raters all agree.
    leave_one_out : DataFrame or None
        Output of `read_leave_one_out`. Required for the comparison with raters under Dawid–Skene labels.
    panel : RaterPanel or None
        Ratings of the rows of `pairs.with_comparison_only().table`, for intervals of the comparison with raters that
        speak for new raters. Not for Dawid–Skene labels.

    Returns
    -------
    Evaluation
        Undefined metrics have the value None and a reason.
    """
    scored = pairs.with_comparison_only().table.assign(
        similarity=pd.array([score.similarity for score in scores], dtype="Float64"),
        ok=[not score.error for score in scores],
        error=[score.error for score in scores],
    )
    scored["pred_present"] = (scored["similarity"] >= threshold).astype("Int64")
    table = scored.head(len(pairs.table)).copy()
    for key in by:
        values = {path: pairs.clip_metadata(path).get(key) for path in pairs.clips}
        table[key] = [MISSING_VALUE if values[path] is None else str(values[path]) for path in table["audio_path"]]
    valid = table[table["ok"].astype(bool)].reset_index(drop=True)
    # Separate streams, so that the folds do not depend on the number of replicates.
    bootstrap_rng, folds_rng, parity_rng = rng.spawn(3)
    bootstrap = Bootstrap.from_units(valid["sampling_unit"], replicates, bootstrap_rng)
    unanimous = valid["benchmark_bucket"].str.startswith("unanimous_").to_numpy(dtype=bool)
    similarities, labels = (valid[column].to_numpy(dtype=float) for column in ("similarity", "label"))
    fit = cross_fit(similarities, labels, bootstrap, folds_rng)
    cross_fitted_result, clip_thresholds = _cross_fitted(valid, fit)
    overall = _metrics(valid, bootstrap)
    positive = valid["label"].mean() if len(valid) else None
    parity, parity_cross_fitted = _human_parities(
        scored, pairs, replicates, parity_rng, unanimous_only, leave_one_out, clip_thresholds, panel
    )
    slices = {key: _slice_metrics(valid, key, bootstrap) for key in [*pairs.subset.slices, *by]}
    thresholds_rng, ranks_rng, pairs_rng = rng.spawn(3)
    unselected = valid if unanimous_only else scored[scored["ok"].astype(bool)].reset_index(drop=True)
    pairwise = pairwise_parities(
        unselected,
        _cross_fitted_decisions(unselected, clip_thresholds),
        replicates,
        pairs_rng,
        _why_no_pairs(pairs, unanimous_only, leave_one_out),
        None if panel is None or unanimous_only else panel.of_items(np.flatnonzero(scored["ok"].astype(bool))),
    )
    further = scored.iloc[len(table) :]
    of_people = further["n_raters"] > MIN_OTHER_RATERS
    result = BenchmarkResult(
        rows_total=len(table),
        rows_evaluated_ok=len(valid),
        majority_baseline=None if positive is None else float(max(positive, 1 - positive)),
        quality_band=quality_band(overall.balanced_accuracy),
        quality_band_cross_fitted=quality_band(cross_fitted_result.balanced_accuracy),
        overall=overall,
        unanimous_subset=_metrics(valid[unanimous], bootstrap.take(unanimous)),
        cross_fitted_threshold=cross_fitted_result,
        slices=slices,
        questions_for_people=int(of_people.sum()),
        questions_for_people_failed=int((~further["ok"].astype(bool) & of_people).sum()),
        questions_for_pairs=int((~of_people).sum()),
        human_parity=parity,
        human_parity_cross_fitted=parity_cross_fitted,
        pairwise_parity=pairwise[0],
        pairwise_parity_cross_fitted=pairwise[1],
        warnings=similarity_warnings(similarities, threshold),
        **threshold_metrics(valid, bootstrap, fit, thresholds_rng),
        **rank_metrics(unselected, replicates, ranks_rng),
    )
    label_column = ["label"] if pairs.label_source != "majority" else []
    columns = [*pairs.subset.key, "benchmark_bucket", "n_raters", "majority_present", *label_column]
    predictions = table[[*columns, "audio_path", "prompt", "similarity", "pred_present", "ok", "error"]]
    return Evaluation(predictions, {key: slice_table(key, rows) for key, rows in slices.items()}, result)


def similarity_warnings(similarities: np.ndarray, threshold: float) -> list[str]:
    """Describe similarities that suggest a broken model or an unsuitable threshold.

    Parameters
    ----------
    similarities : (n,) float
    threshold : float

    Returns
    -------
    list of str
        Empty if nothing is suspicious or n < 2.

    Examples
    --------
    >>> similarity_warnings(np.array([0.2, 57.0]), 0.0)[0]
    'similarities range from 0.2 to 57, outside the cosine range [-1, 1]; check whether --threshold 0 suits this scale'
    """
    if len(similarities) < 2:
        return []
    low, high = float(similarities.min()), float(similarities.max())
    warnings = []
    if low < -1.001 or high > 1.001:
        warnings.append(
            f"similarities range from {low:.4g} to {high:.4g}, outside the cosine range [-1, 1]; check whether "
            f"--threshold {threshold:g} suits this scale"
        )
    if low == high:
        warnings.append(f"all similarities are {low:.4g}; the model does not distinguish the pairs")
    elif low >= threshold or high < threshold:
        prediction = "present" if low >= threshold else "absent"
        warnings.append(
            f"all pairs are predicted {prediction} at threshold {threshold:g}; see the cross-fitted threshold"
        )
    return warnings


def _metrics(rows: pd.DataFrame, bootstrap: Bootstrap) -> Metrics:
    labels, predicted = rows["label"].to_numpy(dtype=float), rows["pred_present"].to_numpy(dtype=bool)
    tp, fp, tn, fn = (_int_if_whole(count) for count in decision_contributions(predicted, labels).sum(axis=0))
    estimates = evaluate(rows["similarity"].to_numpy(dtype=float), predicted, labels, bootstrap)
    return Metrics(**estimates, tp=tp, fp=fp, tn=tn, fn=fn)


def _int_if_whole(count: float) -> int | float:
    """Convert a whole count to int; soft labels give fractional counts."""
    return int(count) if float(count).is_integer() else float(count)


def _cross_fitted(rows: pd.DataFrame, fit: classification.CrossFitted) -> tuple[CrossFitted, dict[str, float]]:
    """Balanced accuracy at cross-fitted thresholds, and {clip: threshold}."""
    clip_thresholds = dict(zip(rows["sampling_unit"], fit.item_thresholds.tolist(), strict=False))
    median = float(np.median(fit.thresholds)) if clip_thresholds else None
    result = CrossFitted(threshold=median, thresholds=fit.thresholds.tolist(), balanced_accuracy=fit.balanced_accuracy)
    return result, clip_thresholds


def _human_parities(
    scored: pd.DataFrame,
    pairs: PairTable,
    replicates: int,
    rng: np.random.Generator,
    unanimous_only: bool,
    leave_one_out: pd.DataFrame | None,
    clip_thresholds: Mapping[str, float],
    panel: RaterPanel | None,
) -> tuple[Parity, Parity]:
    """Compare the model with raters at the fixed and at the cross-fitted threshold.

    clip_thresholds: {clip: cross-fitted threshold}. Clips with comparison-only items alone get the median.
    """
    if not scored["ok"].any():
        undefined = Parity.undefined("no pair was scored" if len(scored) else "there are no pairs")
        return undefined, undefined
    ratings = _held_out_ratings(scored, pairs, unanimous_only, leave_one_out)
    if isinstance(ratings, str):
        return Parity.undefined(ratings), Parity.undefined(ratings)
    ok = scored["ok"].to_numpy(dtype=bool)
    ratings = ratings.take(ok[ratings.item])
    compare = partial(
        human_parity,
        ratings,
        clips=scored["sampling_unit"].to_numpy(),
        replicates=replicates,
        rng=rng,
        panel=None if panel is None else panel.take(ok[panel.item]),
        hold_out=partial(HeldOutRatings.from_counts, soft=pairs.label_source == "soft", unanimous=unanimous_only),
    )
    parity = compare(decisions=scored["pred_present"].fillna(0).to_numpy(dtype=bool))
    predicted_cross_fitted = _cross_fitted_decisions(scored, clip_thresholds)
    if predicted_cross_fitted is None:
        return parity, Parity.undefined(NO_THRESHOLD)
    return parity, compare(decisions=predicted_cross_fitted)


def _cross_fitted_decisions(rows: pd.DataFrame, clip_thresholds: Mapping[str, float]) -> np.ndarray | None:
    """Decisions at the cross-fitted threshold of each clip; clips without one get the median. None without any."""
    if not clip_thresholds:
        return None
    median = float(np.median(list(clip_thresholds.values())))
    similarity = rows["similarity"].fillna(-np.inf).to_numpy(dtype=float)
    return np.asarray(similarity >= np.array([clip_thresholds.get(clip, median) for clip in rows["sampling_unit"]]))


def _why_no_pairs(pairs: PairTable, unanimous_only: bool, leave_one_out: pd.DataFrame | None) -> str | None:
    """Why pairs of raters cannot be compared: the scored pairs were selected by their votes."""
    if unanimous_only:
        return SELECTED
    return NO_LEAVE_ONE_OUT if pairs.label_source == "dawid-skene" and leave_one_out is None else None


def _held_out_ratings(
    scored: pd.DataFrame, pairs: PairTable, unanimous_only: bool, leave_one_out: pd.DataFrame | None
) -> HeldOutRatings | str:
    """The ratings to hold out one by one, or the reason why there are none."""
    if pairs.label_source == "dawid-skene":
        if leave_one_out is None:
            return NO_LEAVE_ONE_OUT
        several = leave_one_out.groupby("item")["item"].transform("size") > MIN_OTHER_RATERS
        held_out = leave_one_out[several]
        ratings = HeldOutRatings.from_posteriors(held_out["item"], held_out["present"], held_out["probability"])
        if not unanimous_only:
            return ratings
        present, raters = (scored[c].to_numpy(dtype=float)[ratings.item] for c in ("present_votes", "n_raters"))
        share = (present - ratings.vote) / np.maximum(raters - 1, 1)
        return ratings.take((share == 0) | (share == 1))
    if "present_votes" not in scored or (len(scored) and scored["present_votes"].isna().all()):
        return NO_VOTES
    votes, known = scored["present_votes"].fillna(0).to_numpy(dtype=float), scored["present_votes"].notna().to_numpy()
    raters = np.where(known, scored["n_raters"].to_numpy(), 0)
    return HeldOutRatings.from_counts(votes, raters, soft=pairs.label_source == "soft", unanimous=unanimous_only)


def _slice_metrics(rows: pd.DataFrame, key: str, bootstrap: Bootstrap) -> list[SliceMetrics]:
    """Metrics for each value of a column."""
    slices = []
    for value, group in rows.groupby(key, sort=True):
        metrics = _metrics(group, bootstrap.take(group.index.to_numpy()))
        estimates = {name: getattr(metrics, name) for name in SLICE_METRICS}
        n_positive = _int_if_whole(group["label"].sum())
        slices.append(SliceMetrics(value=value, n=len(group), n_positive=n_positive, **estimates))
    return slices


def slice_table(key: str, slices: Sequence[SliceMetrics]) -> pd.DataFrame:
    """Table of a slicing, as metrics_by_<key>.csv.

    Parameters
    ----------
    key : str
        Header of the first column, which holds the value of each slice.
    slices : sequence of SliceMetrics

    Returns
    -------
    DataFrame
        One row per slice, with values but no intervals. Undefined metrics are empty.
    """
    rows = [[s.value, s.n, s.n_positive, *(getattr(s, name).value for name in SLICE_METRICS)] for s in slices]
    return pd.DataFrame(rows, columns=[key, "n", "n_positive", *SLICE_METRICS])


def quality_band(balanced_accuracy: Estimate) -> str | None:
    """Quality band of a balanced accuracy; None if it is undefined.

    Examples
    --------
    >>> quality_band(Estimate(0.75))
    'Good'
    """
    value = balanced_accuracy.value
    return None if value is None else [name for name, low in QUALITY_BANDS if round(value, 12) >= low][-1]

"""Measures by prompt (fields of `schema.PromptMetrics`), and the model against single raters, from scored pairs."""

from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.parity import PairwiseParity, RaterPanel, pairwise_parity
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import NO_THRESHOLD, CrossFitted
from earmark.metrics.estimate import Estimate
from earmark.metrics.prompt_thresholds import thresholds_by_prompt
from earmark.metrics.rank_correlation import attainable_spearman, spearman_by_prompt, split_half_ceiling

NO_VOTES = "the labels do not give the share of raters who voted present (column soft_present)"
SELECTED = "--unanimous-only selects items by their votes"


def threshold_metrics(
    rows: pd.DataFrame, bootstrap: Bootstrap, fit: CrossFitted, rng: np.random.Generator
) -> dict[str, Any]:
    """Balanced accuracy at the best threshold for all prompts and at the best of each prompt.

    Parameters
    ----------
    rows : DataFrame
        The evaluated pairs, with `similarity`, `label` and `prompt`.
    bootstrap : Bootstrap
        Over the clips of `rows`.
    fit : CrossFitted
        Cross-fitted thresholds of `rows`.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        Fields of `schema.PromptMetrics` for thresholds.
    """
    similarities, labels = rows["similarity"].to_numpy(dtype=float), rows["label"].to_numpy(dtype=float)
    found = thresholds_by_prompt(similarities, labels, rows["prompt"].to_numpy(dtype=str), bootstrap, fit, rng)
    return {
        "prompts": found.n_prompts,
        "prompts_with_threshold": found.n_with_threshold,
        "best_threshold": found.threshold if np.isfinite(found.threshold) else None,
        "balanced_accuracy_best_threshold": found.best_threshold.balanced_accuracy,
        "balanced_accuracy_best_threshold_cross_fitted": found.best_threshold.cross_fitted,
        "balanced_accuracy_best_threshold_permuted": found.best_threshold.permuted,
        "balanced_accuracy_by_prompt": found.by_prompt.balanced_accuracy,
        "balanced_accuracy_by_prompt_cross_fitted": found.by_prompt.cross_fitted,
        "balanced_accuracy_by_prompt_permuted": found.by_prompt.permuted,
    }


def rank_metrics(rows: pd.DataFrame, replicates: int, rng: np.random.Generator) -> dict[str, Any]:
    """Rank correlation within prompts between the similarity and the share of raters who voted present.

    Parameters
    ----------
    rows : DataFrame
        Scored pairs that were not selected by their votes, with `similarity`, `prompt`, `clip`, `present_votes` and
        `n_raters`. Ties belong to them: half of the raters is a share like any other.
    replicates : int
    rng : numpy.random.Generator

    Returns
    -------
    dict
        Fields of `schema.PromptMetrics` for ranks; undefined, with a reason, if the labels have no votes.
    """
    if "present_votes" not in rows or (len(rows) and rows["present_votes"].isna().all()):
        undefined = Estimate(None, why=NO_VOTES)
        return dict.fromkeys(("spearman_by_prompt", "spearman_ceiling", "spearman_attainable"), undefined)
    known = rows[rows["present_votes"].notna() & (rows["n_raters"] > 0)]
    prompts, clips = known["prompt"].to_numpy(dtype=str), known["sampling_unit"].to_numpy(dtype=str)
    present, raters = (known[column].to_numpy(dtype=np.int64) for column in ("present_votes", "n_raters"))
    bootstrap_rng, splits_rng, draws_rng = rng.spawn(3)
    bootstrap = Bootstrap.from_units(clips, replicates, bootstrap_rng)
    found = spearman_by_prompt(known["similarity"].to_numpy(dtype=float), present / raters, prompts, bootstrap)
    used = found.included
    return {
        "spearman_by_prompt": found.rho,
        "spearman_prompts": found.n_prompts,
        "spearman_prompts_left_out": found.n_left_out,
        "spearman_ceiling": split_half_ceiling(present[used], raters[used], prompts[used], splits_rng),
        "spearman_attainable": attainable_spearman(present[used], raters[used], prompts[used], draws_rng),
    }


def pairwise_parities(
    rows: pd.DataFrame,
    cross_fitted: np.ndarray | None,
    replicates: int,
    rng: np.random.Generator,
    undefined: str | None = None,
    panel: RaterPanel | None = None,
) -> tuple[PairwiseParity, PairwiseParity]:
    """Compare the model with single raters, at the fixed and at the cross-fitted threshold.

    Parameters
    ----------
    rows : DataFrame
        Scored pairs that were not selected by their votes, with `pred_present`, `clip`, `present_votes` and `n_raters`.
    cross_fitted : (n,) bool or None
        Decisions at cross-fitted thresholds; None if there are none.
    replicates : int
    rng : numpy.random.Generator
    undefined : str, optional
        Why there is no comparison, if the pairs were selected by their votes.
    panel : RaterPanel, optional
        Ratings of the rows, for intervals that speak for new raters.

    Returns
    -------
    (fixed, cross_fitted)
    """
    if undefined is None and ("present_votes" not in rows or (len(rows) and rows["present_votes"].isna().all())):
        undefined = NO_VOTES
    if undefined is not None:
        return PairwiseParity.undefined(undefined), PairwiseParity.undefined(undefined)
    known = rows["present_votes"].notna().to_numpy()
    present, raters = (rows[column].to_numpy(dtype=float)[known] for column in ("present_votes", "n_raters"))
    clips, predicted = (
        rows["sampling_unit"].to_numpy(dtype=str)[known],
        rows["pred_present"].to_numpy(dtype=bool)[known],
    )
    fixed_rng, cross_fitted_rng = rng.spawn(2)
    panel = None if panel is None else panel.of_items(np.flatnonzero(known))
    fixed = pairwise_parity(present, raters, predicted, clips, replicates, fixed_rng, panel)
    if cross_fitted is None:
        return fixed, PairwiseParity.undefined(NO_THRESHOLD)
    return fixed, pairwise_parity(present, raters, cross_fitted[known], clips, replicates, cross_fitted_rng, panel)

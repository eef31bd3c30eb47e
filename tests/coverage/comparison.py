"""Simulated comparisons of models on the same clip-text pairs: differences, p-values and the family-wise error rate."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.comparison.differences import comparison_rows
from earmark.comparison.similarity import ScoredPairs, compare_pairs
from earmark.metrics.classification import (
    DECISION_METRICS,
    RANKING_METRICS,
    decision_contributions,
    decision_metrics,
    ranking_metrics,
)
from earmark.metrics.estimate import Estimate
from tests.coverage.framework import Scenario
from tests.coverage.similarity import simulated_pairs

REPLICATES, LARGE = 300, 100_000
SLICES = 6
NAMES = ("balanced_accuracy", "accuracy", "f1", "recall", "roc_auc", "average_precision")


def models(rng: np.random.Generator, clips: int, present: float, separations: tuple[float, ...]) -> ScoredPairs:
    """Scores of several models that share half of their noise, with a column that slices."""
    shared, label, clip = simulated_pairs(rng, clips, present, 0.0)
    scores = [
        separation * (label - 0.5) + np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(size=len(label))
        for separation in separations
    ]
    table = pd.DataFrame(
        {
            "item": np.arange(len(label)).astype(str),
            "benchmark_bucket": rng.integers(0, SLICES, len(label)).astype(str),
            "audio_path": clip.astype(str),
            "prompt": "",
            "label": label.astype(float),
        }
    )
    return ScoredPairs(table, scores, [0.0] * len(scores), ["benchmark_bucket"], 0, [])


def differences(
    rng: np.random.Generator, clips: int, present: float, separations: tuple[float, ...]
) -> Mapping[str, Estimate | float | None]:
    """Differences of two models; p-values if they are equally good."""
    pairs = models(rng, clips, present, separations)
    rows = comparison_rows(compare_pairs(pairs, REPLICATES, rng), ["a", "b"], 0)
    whole = {row.metric: row for row in rows if not row.slice}
    results: dict[str, Estimate | float | None] = {name: whole[name].difference for name in NAMES}
    if separations[0] == separations[1]:
        results |= {f"p of {name}": whole[name].p for name in (*NAMES, "balanced_accuracy_cross_fitted")}
        adjusted = [row.p_holm for row in rows if row.slice and row.metric == "accuracy" and row.p_holm is not None]
        results["smallest adjusted p of six slices"] = min(adjusted, default=None)
    return results


def truth(rng: np.random.Generator, present: float, separations: tuple[float, ...]) -> dict[str, float]:
    """Differences on a very large data set; of cross-fitted thresholds the mean over data sets is used instead."""
    pairs = models(rng, LARGE, present, separations)
    values = []
    for score in pairs.similarities:
        decided = decision_metrics(decision_contributions(score >= 0, pairs.labels).sum(axis=0))
        ranked: NDArray[np.float64] = ranking_metrics(score, pairs.labels)
        values.append(dict(zip([*DECISION_METRICS, *RANKING_METRICS], [*decided, *ranked], strict=True)))
    return {name: values[1][name] - values[0][name] for name in NAMES}


def scenario(clips: int, present: float, separations: tuple[float, ...], **options) -> Scenario:
    """Comparison of two models."""
    kind = "equally good" if separations[0] == separations[1] else "one better"
    return Scenario(
        "Comparison of models",
        f"{clips} clips of 3 pairs, {present:.0%} present, {kind}",
        partial(differences, clips=clips, present=present, separations=separations),
        partial(truth, present=present, separations=separations),
        untested=frozenset({"average_precision"}),  # its bias depends on the size of the test set
        **options,
    )


SCENARIOS = [
    scenario(60, 0.4, (1.5, 1.5), data_sets=500),
    scenario(60, 0.4, (1.0, 1.8), data_sets=400),
    scenario(300, 0.15, (1.5, 1.5), data_sets=400),
]

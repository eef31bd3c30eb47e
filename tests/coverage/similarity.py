"""Similarities against labels: clips with three questions each, whose labels and similarities hang together."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from earmark.metrics.classification import (
    DECISION_METRICS,
    RANKING_METRICS,
    cross_fitted,
    decision_contributions,
    decision_metrics,
    evaluate,
    ranking_metrics,
)
from earmark.metrics.resampling import Bootstrap, Estimate
from tests.coverage.framework import Scenario

QUESTIONS, REPLICATES = 3, 300
LARGE = 100_000
CROSS_FITTED = "balanced_accuracy, cross-fitted threshold"


def questions(rng: np.random.Generator, clips: int, present: float, separation: float) -> tuple[NDArray, ...]:
    """Similarities, labels and the clip of each question. present: share of labels; separation: of the classes."""
    shape = (clips, QUESTIONS)
    latent = 0.5 * rng.normal(size=(clips, 1)) + np.sqrt(0.75) * rng.normal(size=shape)
    label = latent > norm.isf(present)
    noise = 0.4 * rng.normal(size=(clips, 1)) + np.sqrt(0.84) * rng.normal(size=shape)
    score = separation * (label - 0.5) + noise
    return score.ravel(), label.ravel(), np.repeat(np.arange(clips), QUESTIONS)


def estimates(rng: np.random.Generator, clips: int, present: float, separation: float) -> Mapping[str, Estimate]:
    """Every metric of a data set at threshold 0, and balanced accuracy at cross-fitted thresholds."""
    score, label, clip = questions(rng, clips, present, separation)
    bootstrap = Bootstrap.of(clip, REPLICATES, rng)
    return {
        **evaluate(score, score >= 0, label, bootstrap),
        CROSS_FITTED: cross_fitted(score, label, bootstrap, rng).balanced_accuracy,
    }


def truth(rng: np.random.Generator, present: float, separation: float) -> dict[str, float]:
    """What a very large data set gives; at cross-fitted thresholds, what data sets of this size give on average."""
    score, label, _ = questions(rng, LARGE, present, separation)
    decided = decision_metrics(decision_contributions(score >= 0, label).sum(axis=0))
    values = [*decided, *ranking_metrics(score, label)]
    return dict(zip([*DECISION_METRICS, *RANKING_METRICS], values, strict=True))


def scenario(clips: int, present: float, separation: float, **further) -> Scenario:
    """Questions on so many clips."""
    return Scenario(
        "Similarity",
        f"{clips} clips of {QUESTIONS} questions, {present:.0%} present, separation {separation}",
        partial(estimates, clips=clips, present=present, separation=separation),
        partial(truth, present=present, separation=separation),
        **further,
    )


# With so few clips that have a present item these need a note; precision and accuracy stand on other clips.
OF_PRESENT = frozenset({"balanced_accuracy", "f1", "recall", "roc_auc", "average_precision", CROSS_FITTED})
SCENARIOS = [
    scenario(40, 0.5, 1.5),
    scenario(100, 0.1, 1.5),
    scenario(60, 0.3, 3.0),
    scenario(30, 0.1, 1.5, noted=OF_PRESENT),
]

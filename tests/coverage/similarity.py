"""Similarities against labels: clips with three questions each, whose labels and similarities hang together."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import (
    DECISION_METRICS,
    RANKING_METRICS,
    cross_fit,
    decision_contributions,
    decision_metrics,
    evaluate,
    ranking_metrics,
)
from earmark.metrics.estimate import Estimate
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
    bootstrap = Bootstrap.from_units(clip, REPLICATES, rng)
    return {
        **evaluate(score, score >= 0, label, bootstrap),
        CROSS_FITTED: cross_fit(score, label, bootstrap, rng).balanced_accuracy,
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
def nearly_right(rng: np.random.Generator) -> Mapping[str, Estimate]:
    """500 clips of a question, a tenth present: .95 of those are called present, and .1 of the others."""
    label = np.arange(500) < 50
    said = rng.random(500) < np.where(label, 0.95, 0.1)
    found = evaluate(said.astype(float), said, label, Bootstrap.from_units(np.arange(500), REPLICATES, rng))
    return {name: found[name] for name in ("balanced_accuracy", "accuracy")}


def nearly_right_truth(rng: np.random.Generator) -> dict[str, float]:
    """What it was made with."""
    return {"balanced_accuracy": (0.95 + 0.9) / 2, "accuracy": 0.1 * 0.95 + 0.9 * 0.9}


def soft(rng: np.random.Generator) -> Mapping[str, Estimate]:
    """60 clips of questions that three people answered, whose shares are the labels."""
    score, share, clip = soft_questions(rng, 60)
    return evaluate(score, score >= 0, share, Bootstrap.from_units(clip, REPLICATES, rng))


def soft_questions(rng: np.random.Generator, clips: int) -> tuple[NDArray, ...]:
    """Similarities, shares of three people who said present, and clips."""
    score, label, clip = questions(rng, clips, 0.4, 1.5)
    return score, rng.binomial(3, np.where(label, 0.85, 0.15)) / 3, clip


def soft_truth(rng: np.random.Generator) -> dict[str, float]:
    """Of very many clips."""
    score, share, _ = soft_questions(rng, LARGE)
    decided = decision_metrics(decision_contributions(score >= 0, share).sum(axis=0))
    return dict(zip([*DECISION_METRICS, *RANKING_METRICS], [*decided, *ranking_metrics(score, share)], strict=True))


OF_PRESENT = frozenset({"balanced_accuracy", "f1", "recall", "roc_auc", "average_precision", CROSS_FITTED})
SCENARIOS = [
    scenario(40, 0.5, 1.5),
    scenario(100, 0.1, 1.5),
    scenario(60, 0.3, 3.0),
    Scenario("Similarity", "60 clips of 3 questions, soft labels", soft, soft_truth),
    Scenario("Similarity", "500 clips, 50 present and nearly all found", nearly_right, nearly_right_truth),
    scenario(30, 0.1, 1.5, noted=OF_PRESENT),
]

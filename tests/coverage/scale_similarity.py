"""Simulated similarities against classes and mean ratings: choices, correlations, and a further rater as the model."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from earmark.audio_text.comparison_with_raters import Ratings, ScoredItems, numbers_against_others
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.choice import (
    CHOICE_METRICS,
    choice_contributions,
    choice_metrics,
    compare_choices,
    evaluate_choice,
)
from earmark.metrics.classification import assign_folds
from earmark.metrics.estimate import Estimate
from earmark.metrics.group_correlation import cross_fitted_concordance, moment_replicates, spearman_replicates
from earmark.metrics.interval_agreement import correlation
from tests.coverage.framework import Scenario

REPLICATES, LARGE = 300, 100_000
CLASSES = (0.4, 0.3, 0.2, 0.1)
RARE = (0.7, 0.2, 0.07, 0.03)


# --- choice among classes ---------------------------------------------------------------------------------------


def simulated_answers(rng: np.random.Generator, clips: int, shares: tuple[float, ...], correct: float):
    """Reference and answer of each clip; an answer is right with this probability, else drawn as the references."""
    reference = rng.choice(len(shares), clips, p=shares)
    guess = rng.choice(len(shares), clips, p=shares)
    return reference, np.where(rng.random(clips) < correct, reference, guess)


def choices(rng: np.random.Generator, clips: int, shares: tuple[float, ...], correct: float) -> Mapping[str, Estimate]:
    """All scores of one data set."""
    reference, answers = simulated_answers(rng, clips, shares, correct)
    bootstrap = Bootstrap.from_units(np.arange(clips), REPLICATES, rng)
    return evaluate_choice(answers, np.eye(len(shares))[reference], bootstrap)


def choices_truth(rng: np.random.Generator, shares: tuple[float, ...], correct: float) -> dict[str, float]:
    """Scores of very many clips."""
    reference, answers = simulated_answers(rng, LARGE, shares, correct)
    contributions = choice_contributions(answers, np.eye(len(shares))[reference])
    sums = np.asarray(contributions.sum(axis=0), dtype=float).ravel()
    return dict(zip(CHOICE_METRICS, choice_metrics(sums, len(shares)).tolist(), strict=True))


def further_rater(rng: np.random.Generator, clips: int) -> Mapping[str, float | None]:
    """p-values where the model is a fifth rater as good as the other four; an instance for each of their ratings."""
    truth = rng.integers(0, 3, clips)
    votes = np.where(rng.random((clips, 5)) < 0.6, truth[:, None], rng.integers(0, 3, (clips, 5)))
    counts = np.stack([(votes[:, :4] == c).sum(axis=1) for c in range(3)], axis=1)
    others = counts[:, None, :] - np.eye(3)[votes[:, :4]]  # (clips, 4, 3)
    best = others == others.max(axis=2, keepdims=True)
    usable = best.sum(axis=2) == 1
    clip = np.repeat(np.arange(clips), 4).reshape(clips, 4)[usable]
    bootstrap = Bootstrap.from_units(clip, REPLICATES, rng)
    model = np.repeat(votes[:, 4], 4).reshape(clips, 4)[usable]
    compared = compare_choices(model, votes[:, :4][usable], best[usable].astype(float), bootstrap)
    return {f"{name}, p": p for name, (_, _, _, p) in compared.items()}


# --- correlation with mean ratings ------------------------------------------------------------------------------


def simulated_ratings(rng: np.random.Generator, clips: int, items: int, rho: float, levels: int) -> tuple[NDArray, ...]:
    """Similarity, mean rating, clip and sentence; items of a clip are correlated. levels: of the rating; 0 for any."""
    shape = (clips, items)
    latent = np.sqrt(0.5) * (rng.normal(size=(clips, 1)) + rng.normal(size=shape))
    noise = np.sqrt(0.5) * (rng.normal(size=(clips, 1)) + rng.normal(size=shape))
    rating = rho * latent + np.sqrt(1 - rho**2) * noise
    if levels:
        rating = np.digitize(rating, norm.ppf(np.arange(1, levels) / levels)).astype(float)
    sentence = np.tile(np.arange(items), (clips, 1))
    return latent.ravel(), rating.ravel(), np.repeat(np.arange(clips), items), sentence.ravel()


def correlations(
    rng: np.random.Generator, clips: int, items: int, rho: float, levels: int, by_sentence: bool
) -> Mapping[str, Estimate]:
    """All correlations of one data set."""
    x, y, clip, sentence = simulated_ratings(rng, clips, items, rho, levels)
    bootstrap = Bootstrap.from_units(clip, REPLICATES, rng)
    group = sentence if by_sentence else np.zeros(len(x), dtype=int)
    fold = assign_folds(y, bootstrap, rng, 5)
    return {
        "spearman": spearman_replicates(x, y, group, bootstrap).mean(),
        "pearson": moment_replicates(correlation, x, y, group, bootstrap).mean(),
        "concordance": cross_fitted_concordance(x, y, fold, bootstrap).concordance,
    }


def correlations_truth(rng: np.random.Generator, items: int, rho: float, levels: int) -> dict[str, float]:
    """Correlations of very many clips; the concordance tends to Pearson's correlation."""
    x, y, clip, _ = simulated_ratings(rng, LARGE, items, rho, levels)
    once, group = Bootstrap.from_units(clip, 0, rng), np.zeros(len(x), dtype=int)
    pearson = moment_replicates(correlation, x, y, group, once).mean_value
    return {
        "spearman": spearman_replicates(x, y, group, once).mean_value,
        "pearson": pearson,
        "concordance": pearson,
    }


def further_rater_of_numbers(rng: np.random.Generator, clips: int) -> Mapping[str, float | None]:
    """p-values where the model is a sixth rater, with a bias and noise of its own, as good as the other five."""
    truth = rng.normal(size=(clips, 1))
    values = truth + 0.5 * rng.normal(size=6) + rng.normal(size=(clips, 6))
    ratings = Ratings(np.repeat(np.arange(clips), 5), np.tile(np.arange(5), clips), values[:, :5].ravel())
    names, one_sentence = np.arange(clips).astype(str), np.zeros(clips, dtype=np.int64)
    items = ScoredItems(values[:, 5], np.full(clips, np.nan), one_sentence, names)
    found = numbers_against_others(ratings, items, REPLICATES, rng)
    return {f"{name.removeprefix('mean_rating_')}, p": parity.p for name, parity in found.by_name.items()}


def choice_scenario(clips: int, shares: tuple[float, ...], correct: float, **options) -> Scenario:
    """Scenario of a choice among classes."""
    return Scenario(
        "Choice",
        f"{clips} clips, classes {', '.join(f'{share:g}' for share in shares)}, {correct:g} known",
        partial(choices, clips=clips, shares=shares, correct=correct),
        partial(choices_truth, shares=shares, correct=correct),
        **options,
    )


def correlation_scenario(
    clips: int, items: int, rho: float, levels: int, by_sentence: bool = False, **options
) -> Scenario:
    """Scenario of a correlation with mean ratings."""
    return Scenario(
        "Mean ratings",
        f"{clips} clips of {items} items, correlation {rho:g}, {levels or 'no'} levels"
        + (", by sentence" if by_sentence else ""),
        partial(correlations, clips=clips, items=items, rho=rho, levels=levels, by_sentence=by_sentence),
        partial(correlations_truth, items=items, rho=rho, levels=levels),
        **options,
    )


OF_RAREST = frozenset({"balanced_accuracy", "macro_f1"})
SCENARIOS = [
    choice_scenario(300, CLASSES, 0.6),
    choice_scenario(300, CLASSES, 0.95, untested=frozenset({"balanced_accuracy"})),
    choice_scenario(400, RARE, 0.8, noted=OF_RAREST),
    Scenario("Choice", "150 clips, the model a rater like the others", partial(further_rater, clips=150)),
    correlation_scenario(40, 1, 0.5, 0),
    correlation_scenario(200, 3, 0.5, 5),
    correlation_scenario(100, 3, 0.0, 5, by_sentence=True),
    correlation_scenario(300, 3, 0.9, 0, by_sentence=True),
    Scenario(
        "Mean ratings", "150 clips, the model a rater like the others", partial(further_rater_of_numbers, clips=150)
    ),
]

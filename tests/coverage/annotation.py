"""Simulated ratings: raters with known sensitivity and specificity rate items on clips.

An item is present or absent, with correlation within clips. Each rater is correct with an own probability. Three raters
rate each item; some raters rate more items than others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from earmark.annotation.parity import HeldOutRatings, human_parity, pairwise_parity
from earmark.annotation.raters import agreement_with_others, dawid_skene_estimates, fit_dawid_skene
from earmark.annotation.reliability import Votes, agreement, human_ceiling, pair_kappas
from earmark.annotation.subsets import subsets
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import decision_contributions, decision_metrics
from earmark.metrics.dawid_skene import leave_one_rater_out_posteriors
from earmark.metrics.estimate import Estimate
from tests.coverage.framework import Scenario

ITEMS, REPLICATES, LARGE = 3, 300, 20_000
MAJORITY_COMPARISON = "model vs. majority of all raters, minus rater vs. others"
SUBSET, ORDINAL = subsets()["emolia-dim"], subsets()["emolia-emo"]


@dataclass(frozen=True)
class SimulatedRaters:
    """Parameters of the simulation.

    Attributes
    ----------
    clips : int
    presence : float
        Proportion of present items.
    raters : int
    accuracy, spread : float
        Mean probability of a correct rating, and the range ± around it over raters.
    imbalance : float
        Ratio of the sampling weights of the most and the least active rater.
    per_item : int
        Raters per item.
    ordinal : bool
        Three levels: absent, weakly and strongly present.
    """

    clips: int
    presence: float
    raters: int = 5
    accuracy: float = 0.85
    spread: float = 0.0
    imbalance: float = 1.0
    per_item: int = 3
    ordinal: bool = False

    def accuracies(self) -> np.ndarray:
        """Probability of a correct rating for each rater, which is both sensitivity and specificity."""
        return self.accuracy + self.spread * np.linspace(-1, 1, self.raters)

    def draw(self, rng: np.random.Generator, clips: int | None = None) -> tuple[Votes, Bootstrap, np.ndarray]:
        """Votes, bootstrap over clips, and the true label of each item."""
        clips = clips or self.clips
        n = clips * ITEMS
        latent = 0.6 * np.repeat(rng.normal(size=clips), ITEMS) + 0.8 * rng.normal(size=n)
        present = latent > norm.isf(self.presence)
        weight = np.geomspace(1, self.imbalance, self.raters)
        order = np.argsort(rng.exponential(size=(n, self.raters)) / weight, axis=1)
        rater = np.sort(order[:, : self.per_item], axis=1).ravel()
        item = np.repeat(np.arange(n), self.per_item)
        vote = np.where(rng.random(len(item)) < self.accuracies()[rater], present[item], ~present[item]).astype(
            np.int64
        )
        names = [f"user_{r}" for r in range(self.raters)]
        counts = {"binary": counted(item, vote, n, 2)}
        if self.ordinal:
            strong = (latent > norm.isf(self.presence / 2))[item]
            vote = vote * (1 + (rng.random(len(item)) < np.where(strong, 0.7, 0.3)))
            counts["ordinal"] = counted(item, vote, n, 3)
        subset = ORDINAL if self.ordinal else SUBSET
        votes = Votes(subset, pd.DataFrame(index=range(n)), counts, item, rater, vote, names)
        replicates = 0 if clips == LARGE else REPLICATES
        return votes, Bootstrap.from_units(np.repeat(np.arange(clips), ITEMS), replicates, rng), present


def counted(item: np.ndarray, rating: np.ndarray, n: int, q: int) -> np.ndarray:
    """Count the ratings of each category for n items: (n, q)."""
    counts = np.zeros((n, q), dtype=np.int64)
    np.add.at(counts, (item, rating), 1)
    return counts


def agreement_metrics(votes: Votes, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """All agreement coefficients, means over pairs, pooled values, and the human ceiling."""
    estimates: dict[str, Any] = agreement(votes, bootstrap, required=3) | pair_kappas(votes, bootstrap)[0]
    of_raters = dict(zip(("agreement", "kappa"), agreement_with_others(votes, bootstrap), strict=True))
    estimates |= {f"{name} of a rater with the others": each[0] for name, each in of_raters.items()}
    return estimates | human_ceiling(votes, bootstrap).estimates


def agreement_estimates(rng: np.random.Generator, raters: SimulatedRaters) -> Mapping[str, Estimate]:
    """Estimates of one data set."""
    votes, bootstrap, _ = raters.draw(rng)
    return agreement_metrics(votes, bootstrap)


def agreement_truth(rng: np.random.Generator, raters: SimulatedRaters) -> dict[str, float]:
    """Values of very many clips with the same raters."""
    votes, bootstrap, _ = raters.draw(rng, LARGE)
    return {name: estimate.value for name, estimate in agreement_metrics(votes, bootstrap).items()}


def reliability_estimates(rng: np.random.Generator, raters: SimulatedRaters) -> Mapping[str, Estimate]:
    """Dawid-Skene sensitivity and specificity of the first rater."""
    votes, bootstrap, _ = raters.draw(rng)
    estimates = dawid_skene_estimates(votes, fit_dawid_skene(votes), bootstrap)
    return {f"ds_{name}": of_raters[0] for name, of_raters in estimates.items()}


def reliability_truth(rng: np.random.Generator, raters: SimulatedRaters) -> dict[str, float]:
    """Simulated sensitivity and specificity of the first rater."""
    return dict.fromkeys(("ds_sensitivity", "ds_specificity"), float(raters.accuracies()[0]))


def parity_estimates(
    rng: np.random.Generator, raters: SimulatedRaters, labels: str
) -> Mapping[str, Estimate | float | None]:
    """Leave-one-rater-out comparison of a model that is as accurate as a rater."""
    votes, bootstrap, present = raters.draw(rng)
    correct = rng.random(len(present)) < raters.accuracy
    counts = votes.counts["binary"]
    if labels == "dawid-skene":
        fit = fit_dawid_skene(votes)
        vote = votes.codes("binary")
        held_out = HeldOutRatings.from_posteriors(
            votes.item, vote, leave_one_rater_out_posteriors(fit, votes.item, votes.rater, vote)
        )
    else:
        soft, unanimous = labels == "soft", labels == "unanimous"
        held_out = HeldOutRatings.from_counts(counts[:, 1], counts.sum(axis=1), soft=soft, unanimous=unanimous)
    result = human_parity(held_out, np.where(correct, present, ~present), bootstrap.unit, REPLICATES, rng)
    comparison = {"model": result.model, "person": result.person, "difference": result.difference, "p": result.p}
    return comparison | {
        MAJORITY_COMPARISON: majority_comparison(votes, np.where(correct, present, ~present), bootstrap)
    }


def majority_comparison(votes: Votes, predicted: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """Earlier comparison: model against the majority of all raters, minus rater against the majority of the others."""
    absent, present = votes.counts["binary"].T
    decided = absent != present
    model = decision_metrics(decision_contributions(predicted[decided], (present > absent)[decided]).sum(axis=0))[0]
    person = human_ceiling(votes, Bootstrap(bootstrap.unit, bootstrap.weights[:0])).loo_balanced_accuracy
    return Estimate(float(model) - person.value)


def no_difference(rng: np.random.Generator) -> dict[str, float]:
    """True value: the model is as accurate as a rater."""
    return {"difference": 0.0, MAJORITY_COMPARISON: 0.0}


def pairwise_estimates(rng: np.random.Generator, raters: SimulatedRaters) -> Mapping[str, Estimate | float | None]:
    """Comparison with single raters of a model that is as accurate as a rater."""
    votes, bootstrap, present = raters.draw(rng)
    predicted = np.where(rng.random(len(present)) < raters.accuracy, present, ~present)
    counts = votes.counts["binary"]
    result = pairwise_parity(counts[:, 1], counts.sum(axis=1), predicted, bootstrap.unit, REPLICATES, rng)
    estimates: dict[str, Estimate | float | None] = {}
    for name, parity in (("balanced accuracy", result.balanced_accuracy), ("accuracy", result.accuracy)):
        estimates |= {f"model, {name}": parity.model, f"person, {name}": parity.person}
        estimates |= {f"difference, {name}": parity.difference, f"p, {name}": parity.p}
    return estimates


def no_pairwise_difference(rng: np.random.Generator) -> dict[str, float]:
    """True value: the model is as accurate as a rater."""
    return {"difference, balanced accuracy": 0.0, "difference, accuracy": 0.0}


def pairs_of_raters(clips: int, per_item: int) -> Scenario:
    """Scenario of the comparison with single raters."""
    raters = SimulatedRaters(clips, 0.4, raters=per_item, per_item=per_item, accuracy=0.8)
    size = f"{clips} clips of {ITEMS} items, {per_item} raters each, pairs of raters"
    return Scenario("Human parity", size, partial(pairwise_estimates, raters=raters), no_pairwise_difference)


def scenario(size: str, raters: SimulatedRaters, **options: Any) -> Scenario:
    """Agreement scenario."""
    draw, truth = partial(agreement_estimates, raters=raters), partial(agreement_truth, raters=raters)
    return Scenario("Agreement", size, draw, truth, **options)


def parity(clips: int, per_item: int, labels: str, *untested: str) -> Scenario:
    """Leave-one-rater-out comparison scenario."""
    raters = SimulatedRaters(clips, 0.4, raters=per_item, per_item=per_item, accuracy=0.8)
    size = f"{clips} clips of {ITEMS} items, {per_item} raters each, {labels}"
    return Scenario(
        "Human parity",
        size,
        partial(parity_estimates, raters=raters, labels=labels),
        no_difference,
        untested=frozenset({MAJORITY_COMPARISON, *untested}),
    )


def reliability(size: str, raters: SimulatedRaters, **options: Any) -> Scenario:
    """Dawid-Skene scenario."""
    draw, truth = partial(reliability_estimates, raters=raters), partial(reliability_truth, raters=raters)
    return Scenario("Dawid-Skene", size, draw, truth, **options)


PER_RATER = frozenset({"agreement of a rater with the others", "kappa of a rater with the others"})
RELIABILITY = frozenset({"ds_sensitivity", "ds_specificity"})
MEANS = frozenset({"cohen_kappa_binary_mean", "pairwise_accuracy", "pairwise_balanced_accuracy"})
SCENARIOS = [
    scenario("40 clips of 3 items, half present", SimulatedRaters(40, 0.5)),
    scenario("60 clips of 3 items, three levels", SimulatedRaters(60, 0.5, ordinal=True)),
    scenario(
        "100 clips of 3 items, 10% present, raters of unequal accuracy",
        SimulatedRaters(100, 0.1, accuracy=0.9, spread=0.06),
    ),
    scenario(
        "30 clips, eight raters with unequal numbers of ratings",
        SimulatedRaters(30, 0.4, raters=8, imbalance=10),
        noted=MEANS | PER_RATER,
    ),
    *(parity(60, per_item, "majority") for per_item in (3, 4)),
    *(parity(60, 4, labels) for labels in ("soft", "unanimous", "dawid-skene")),
    # Two other raters hardly determine the Dawid-Skene model, so the reference varies. It is the same for both.
    parity(60, 3, "dawid-skene", "model", "person"),
    *(pairs_of_raters(80, per_item) for per_item in (2, 3, 4)),
    reliability("240 clips of 3 items, 40% present", SimulatedRaters(240, 0.4)),
    reliability("240 clips of 3 items, 40% present, good raters", SimulatedRaters(240, 0.4, accuracy=0.97)),
    reliability(
        "120 clips of 3 items, 40% present, good raters", SimulatedRaters(120, 0.4, accuracy=0.97), noted=RELIABILITY
    ),
    reliability("60 clips of 3 items, 3% present", SimulatedRaters(60, 0.03), noted=RELIABILITY),
]

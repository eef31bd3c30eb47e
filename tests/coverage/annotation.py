"""Ratings: people of known reliability rate items on clips, some of them diligent and some not.

An item is present or absent; clips share some of that. A rater's answer is right with a chance of his own. Three people
rate each item, drawn with a weight that differs from person to person.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from earmark.annotation.parity import HeldOutRatings, human_parity
from earmark.annotation.raters import agreement_with_others, dawid_skene_estimates, fit_dawid_skene
from earmark.annotation.reliability import Votes, agreement, human_ceiling, pair_kappas
from earmark.annotation.subsets import subsets
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import decision_contributions, decision_metrics
from earmark.metrics.dawid_skene import leave_one_rater_out_posteriors
from earmark.metrics.estimate import Estimate
from tests.coverage.framework import Scenario

ITEMS, REPLICATES, LARGE = 3, 300, 20_000
AGAINST_ALL = "model against the majority of all, less person"
SUBSET, ORDINAL = subsets()["emolia-dim"], subsets()["emolia-emo"]


@dataclass(frozen=True)
class People:
    """raters: how many; accuracy: the mean of their chances to be right, which differ by ± spread; diligence: the
    most diligent rates so many times more items than the least. of_item: how many people rate an item.
    """

    clips: int
    segment_presence: float
    raters: int = 5
    accuracy: float = 0.85
    spread: float = 0.0
    diligence: float = 1.0
    of_item: int = 3
    ordinal: bool = False  # three levels: absent, weakly and strongly present

    def right(self) -> np.ndarray:
        """Each rater's chance to be right, and so sensitivity and specificity."""
        return self.accuracy + self.spread * np.linspace(-1, 1, self.raters)

    def draw(self, rng: np.random.Generator, clips: int | None = None) -> tuple[Votes, Bootstrap, np.ndarray]:
        """Votes, replicates of the clips, and which items are present."""
        clips = clips or self.clips
        n = clips * ITEMS
        latent = 0.6 * np.repeat(rng.normal(size=clips), ITEMS) + 0.8 * rng.normal(size=n)
        present = latent > norm.isf(self.segment_presence)
        weight = np.geomspace(1, self.diligence, self.raters)
        order = np.argsort(rng.exponential(size=(n, self.raters)) / weight, axis=1)
        rater = np.sort(order[:, : self.of_item], axis=1).ravel()
        item = np.repeat(np.arange(n), self.of_item)
        vote = np.where(rng.random(len(item)) < self.right()[rater], present[item], ~present[item]).astype(np.int64)
        names = [f"user_{r}" for r in range(self.raters)]
        counts = {"binary": counted(item, vote, n, 2)}
        if self.ordinal:
            strong = (latent > norm.isf(self.segment_presence / 2))[item]
            vote = vote * (1 + (rng.random(len(item)) < np.where(strong, 0.7, 0.3)))
            counts["ordinal"] = counted(item, vote, n, 3)
        subset = ORDINAL if self.ordinal else SUBSET
        votes = Votes(subset, pd.DataFrame(index=range(n)), counts, item, rater, vote, names)
        replicates = 0 if clips == LARGE else REPLICATES
        return votes, Bootstrap.from_units(np.repeat(np.arange(clips), ITEMS), replicates, rng), present


def counted(item: np.ndarray, rating: np.ndarray, n: int, q: int) -> np.ndarray:
    """How many people put each of n items into each of q categories."""
    counts = np.zeros((n, q), dtype=np.int64)
    np.add.at(counts, (item, rating), 1)
    return counts


def figures(votes: Votes, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Coefficients, means over pairs, pooled values, and the human ceiling."""
    found: dict[str, Any] = agreement(votes, bootstrap, required=3) | pair_kappas(votes, bootstrap)[0]
    of_raters = dict(zip(("agreement", "kappa"), agreement_with_others(votes, bootstrap), strict=True))
    found |= {f"{name} of a rater with the others": each[0] for name, each in of_raters.items()}
    return found | human_ceiling(votes, bootstrap).estimates


def agreement_estimates(rng: np.random.Generator, people: People) -> Mapping[str, Estimate]:
    """Of one data set."""
    votes, bootstrap, _ = people.draw(rng)
    return figures(votes, bootstrap)


def agreement_truth(rng: np.random.Generator, people: People) -> dict[str, float]:
    """Of very many clips with the same people."""
    votes, bootstrap, _ = people.draw(rng, LARGE)
    return {name: estimate.value for name, estimate in figures(votes, bootstrap).items()}


def reliability_estimates(rng: np.random.Generator, people: People) -> Mapping[str, Estimate]:
    """Dawid and Skene's sensitivity and specificity of the first rater."""
    votes, bootstrap, _ = people.draw(rng)
    found = dawid_skene_estimates(votes, fit_dawid_skene(votes), bootstrap)
    return {f"ds_{name}": of_raters[0] for name, of_raters in found.items()}


def reliability_truth(rng: np.random.Generator, people: People) -> dict[str, float]:
    """What the raters were made with."""
    return dict.fromkeys(("ds_sensitivity", "ds_specificity"), float(people.right()[0]))


def parity_estimates(rng: np.random.Generator, people: People, labels: str) -> Mapping[str, Estimate | float | None]:
    """A model that answers like one more rater."""
    votes, bootstrap, present = people.draw(rng)
    right = rng.random(len(present)) < people.accuracy
    counts = votes.counts["binary"]
    if labels == "dawid-skene":
        fit = fit_dawid_skene(votes)
        vote = votes.codes("binary")
        places = HeldOutRatings.from_posteriors(
            votes.item, vote, leave_one_rater_out_posteriors(fit, votes.item, votes.rater, vote)
        )
    else:
        soft, unanimous = labels == "soft", labels == "unanimous"
        places = HeldOutRatings.from_counts(counts[:, 1], counts.sum(axis=1), soft=soft, unanimous=unanimous)
    found = human_parity(places, np.where(right, present, ~present), bootstrap.unit, REPLICATES, rng)
    alike = {"model": found.model, "person": found.person, "difference": found.difference, "p": found.p}
    return alike | {AGAINST_ALL: against_all(votes, np.where(right, present, ~present), bootstrap)}


def against_all(votes: Votes, said: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """What reports compared before: the model against the majority of all, less a person against the others."""
    absent, present = votes.counts["binary"].T
    decided = absent != present
    model = decision_metrics(decision_contributions(said[decided], (present > absent)[decided]).sum(axis=0))[0]
    person = human_ceiling(votes, Bootstrap(bootstrap.unit, bootstrap.weights[:0])).loo_balanced_accuracy
    return Estimate(float(model) - person.value)


def no_difference(rng: np.random.Generator) -> dict[str, float]:
    """The model is no better than a person."""
    return {"difference": 0.0, AGAINST_ALL: 0.0}


def scenario(size: str, people: People, **further: Any) -> Scenario:
    """Agreement of so many clips."""
    draw, truth = partial(agreement_estimates, people=people), partial(agreement_truth, people=people)
    return Scenario("Agreement", size, draw, truth, **further)


def parity(clips: int, of_item: int, labels: str, *loose: str) -> Scenario:
    """A model in each person's place."""
    people = People(clips, 0.4, raters=of_item, of_item=of_item, accuracy=0.8)
    size = f"{clips} clips of {ITEMS} items, {of_item} raters each, {labels}"
    return Scenario(
        "Human parity",
        size,
        partial(parity_estimates, people=people, labels=labels),
        no_difference,
        loose=frozenset({AGAINST_ALL, *loose}),
    )


def reliability(size: str, people: People, **further: Any) -> Scenario:
    """Sensitivity and specificity by Dawid and Skene's model."""
    draw, truth = partial(reliability_estimates, people=people), partial(reliability_truth, people=people)
    return Scenario("Dawid-Skene", size, draw, truth, **further)


OF_RATERS = frozenset({"agreement of a rater with the others", "kappa of a rater with the others"})
RELIABILITY = frozenset({"ds_sensitivity", "ds_specificity"})
MEANS = frozenset({"cohen_kappa_binary_mean", "pairwise_accuracy", "pairwise_balanced_accuracy"})
SCENARIOS = [
    scenario("40 clips of 3 items, half present", People(40, 0.5)),
    scenario("60 clips of 3 items, three levels", People(60, 0.5, ordinal=True)),
    scenario("100 clips of 3 items, 10% present, raters differ", People(100, 0.1, accuracy=0.9, spread=0.06)),
    scenario(
        "30 clips, eight raters of unequal diligence", People(30, 0.4, raters=8, diligence=10), noted=MEANS | OF_RATERS
    ),
    *(parity(60, of_item, "majority") for of_item in (3, 4)),
    *(parity(60, 4, labels) for labels in ("soft", "unanimous", "dawid-skene")),
    # Two others hardly determine the model, so that the reference varies; it is the same for model and person.
    parity(60, 3, "dawid-skene", "model", "person"),
    reliability("240 clips of 3 items, 40% present", People(240, 0.4)),
    reliability("240 clips of 3 items, 40% present, good raters", People(240, 0.4, accuracy=0.97)),
    reliability("120 clips of 3 items, 40% present, good raters", People(120, 0.4, accuracy=0.97), noted=RELIABILITY),
    reliability("60 clips of 3 items, 3% present", People(60, 0.03), noted=RELIABILITY),
]

"""Simulated panels of raters: intervals that speak for new raters, `--resample raters` and `both`.

Crossed random effects: an item is rated present if clip + item + bias of the rater + noise of the rater's own size is
above a threshold. Every data set draws new raters; with "both" it draws new clips too. The true value is that of very
many raters and clips with the same number of ratings per item, or of very many raters of the same clips.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from earmark.annotation.machines import machine_agreement, names_of, split_machines
from earmark.annotation.reliability import Votes, agreement, human_ceiling, pair_kappas, pooled_pairs
from earmark.annotation.subsets import ScaleName, Subset, subsets
from earmark.annotation.tables import Annotations
from earmark.metrics.agreement import cohen_kappa, leave_one_out, pairwise_accuracies
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.estimate import Estimate
from earmark.metrics.resample import Resample
from tests.coverage.annotation import REPLICATES, counted
from tests.coverage.framework import Scenario

ITEMS, THRESHOLD = 2, 0.25
WEIGHTED = "pairwise_balanced_accuracy_weighted"
CLIPS_ONLY = ("percent_binary", "krippendorff_alpha_binary", "loo_accuracy")


@dataclass(frozen=True)
class Panel:
    """Parameters of the simulation.

    Attributes
    ----------
    raters : int
    per_item : int
        Raters of an item; `raters` for a complete design.
    clips : int
    effects : float
        Standard deviation of the bias of raters and of the logarithm of the size of their noise; 0: equal raters.
    missing : float
        Probability that a rating is missing.
    resample : {"raters", "both"}
    """

    raters: int
    per_item: int
    clips: int = 60
    effects: float = 0.4
    missing: float = 0.0
    resample: Resample = "both"

    def latent(self, rng: np.random.Generator) -> np.ndarray:
        """What there is to hear in each item: (clips · ITEMS,)."""
        clips = np.random.default_rng(20).normal(size=self.clips * (1 + ITEMS)) if self.resample == "raters" else None
        drawn = rng.normal(size=self.clips * (1 + ITEMS)) if clips is None else clips
        return 0.7 * np.repeat(drawn[: self.clips], ITEMS) + 0.7 * drawn[self.clips :]

    def draw(self, rng: np.random.Generator, replicates: int = REPLICATES) -> tuple[Votes, Bootstrap]:
        """Votes of a new panel, and the bootstrap."""
        latent = self.latent(rng)
        n = len(latent)
        bias = self.effects * rng.normal(size=self.raters)
        noise = 0.6 * np.exp(self.effects * rng.normal(size=self.raters))
        place = np.argsort(np.argsort(rng.random((n, self.raters)), axis=1), axis=1)
        item, rater = np.nonzero((place < self.per_item) & (rng.random((n, self.raters)) >= self.missing))
        rating = latent[item] + bias[rater] + noise[rater] * rng.normal(size=len(item))
        vote = (rating > THRESHOLD).astype(np.int64)
        counts = {"binary": counted(item, vote, n, 2)}
        names = [f"user_{r}" for r in range(self.raters)]
        votes = Votes(subsets()["emolia-dim"], pd.DataFrame(index=range(n)), counts, item, rater, vote, names)
        bootstrap = Bootstrap.from_units(np.repeat(np.arange(self.clips), ITEMS), replicates, rng)
        return votes, replace(bootstrap, resample=self.resample)


def estimates_of(votes: Votes, bootstrap: Bootstrap, panel: Panel) -> dict[str, Estimate]:
    """Agreement, means over pairs, pooled values and the human ceiling."""
    coefficients = agreement(votes, bootstrap, required=min(3, panel.per_item)) | pair_kappas(votes, bootstrap)[0]
    return coefficients | human_ceiling(votes, bootstrap).estimates


def estimates(rng: np.random.Generator, panel: Panel) -> Mapping[str, Estimate]:
    """Estimates of one data set; some also with the interval over clips alone."""
    votes, bootstrap = panel.draw(rng)
    over_clips = agreement(votes, replace(bootstrap, resample="clips"), min(3, panel.per_item))
    over_clips |= human_ceiling(votes, replace(bootstrap, resample="clips")).estimates
    alone = {f"{name}, clips alone": over_clips[name] for name in CLIPS_ONLY}
    return estimates_of(votes, bootstrap, panel) | alone


def truth(rng: np.random.Generator, panel: Panel) -> dict[str, float]:
    """Values of very many raters; means over pairs from raters who rate every item."""
    fixed = panel.resample == "raters"
    wide = replace(panel, raters=400, clips=panel.clips if fixed else 3000)
    complete = replace(panel, raters=50, per_item=50, clips=panel.clips if fixed else 150, missing=0.0)
    drawn = [values_without_pairs(*wide.draw(rng, 0), panel=panel) for _ in range(200 if fixed else 8)]
    of_pairs = [pair_values(complete, rng) for _ in range(80)]
    values = {name: float(np.mean([each[name] for each in draws])) for draws in (drawn, of_pairs) for name in draws[0]}
    return values | {f"{name}, clips alone": values[name] for name in CLIPS_ONLY}


def values_without_pairs(votes: Votes, bootstrap: Bootstrap, panel: Panel) -> dict[str, Any]:
    """Values of estimates that are no means over pairs of raters."""
    counts = votes.counts["binary"]
    table = pooled_pairs(counts).sum(axis=0).reshape(2, 2)
    tp, fn, tn, fp = leave_one_out(counts).sum(axis=0)
    return {
        **{name: each.value for name, each in agreement(votes, bootstrap, min(3, panel.per_item)).items()},
        "cohen_kappa_binary_pooled": float(cohen_kappa(table)),
        "pairwise_balanced_accuracy_pooled": float(pairwise_accuracies(table[np.newaxis])[1]),
        "loo_accuracy": (tp + tn) / (tp + fn + tn + fp),
        "loo_balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
    }


def pair_values(panel: Panel, rng: np.random.Generator) -> dict[str, float | None]:
    """Means over pairs of raters, weighted or not: equal where every rater rates every item."""
    votes, bootstrap = panel.draw(rng, 0)
    ceiling = human_ceiling(votes, bootstrap).estimates
    weighted = {name: ceiling[name].value for name in ceiling if name.startswith("pairwise") and "pooled" not in name}
    return {"cohen_kappa_binary_mean": pair_kappas(votes, bootstrap)[0]["cohen_kappa_binary_mean"].value, **weighted}


def scenario(size: str, panel: Panel, *untested: str, **options: Any) -> Scenario:
    """Scenario of new raters; intervals over clips alone are examples of a fault."""
    draw, true = partial(estimates, panel=panel), partial(truth, panel=panel)
    over = "new raters and clips" if panel.resample == "both" else "new raters of the same clips"
    return Scenario("New raters", f"{size}, {over}", draw, true, untested=ALONE | frozenset(untested), **options)


def machine_estimates(rng: np.random.Generator, scale: ScaleName) -> Mapping[str, Estimate | float | None]:
    """Comparison of people with a machine that rates as they do."""
    clips, per_item = 60, 3
    item = np.repeat(np.arange(clips * ITEMS), per_item + 1)
    latent = np.repeat(rng.normal(size=clips), ITEMS) + rng.normal(size=clips * ITEMS)
    rating = latent[item] + rng.normal(size=len(item))
    names = [f"user_{rater}" for rater in range(6)]
    rater = np.concatenate([[*rng.permutation(names)[:per_item], "machine"] for _ in range(clips * ITEMS)])
    levels = ("no", "yes") if scale == "binary" else ()
    present = "yes" if levels else None
    subset = Subset("simulated", scale, ("clip", "item"), levels=levels, present_from=present, clip="{clip}")
    table = pd.DataFrame(
        {
            "clip": (item // ITEMS).astype(str),
            "item": (item % ITEMS).astype(str),
            "username": rater,
            "rating": (rating > 0.5).astype(int) if levels else rating,
        }
    )
    none = pd.DataFrame()
    people, machine = split_machines(Annotations(subset, table, none, none, {}, len(table), {}), ["machine"])
    drawn: dict[str, Estimate | float | None] = {}
    for each in machine_agreement(people, machine, replicates=REPLICATES, rng=rng)[0].agreement:
        drawn |= {f"{each.name}, difference": each.difference, f"{each.name}, p": each.p}
    return drawn


def machine(scale: ScaleName) -> Scenario:
    """Scenario of an exchangeable machine, whose true difference is 0."""
    names = names_of(Subset("simulated", scale, ("clip",), present_from="yes" if scale == "binary" else None))
    return Scenario(
        "Machines",
        f"60 clips of {ITEMS} items, three people each, {scale} ratings",
        partial(machine_estimates, scale=scale),
        lambda rng: {f"{name}, difference": 0.0 for name in names},
    )


ALONE = frozenset(f"{name}, clips alone" for name in CLIPS_ONLY)
MEANS = frozenset({"cohen_kappa_binary_mean", "pairwise_accuracy", "pairwise_balanced_accuracy"})
EVERY = MEANS | {
    "exact_all_binary",
    "percent_binary",
    "fleiss_kappa_binary",
    "krippendorff_alpha_binary",
    "gwet_ac1_binary",
    "brennan_prediger_binary",
    "cohen_kappa_binary_pooled",
    "pairwise_accuracy_weighted",
    WEIGHTED,
    "pairwise_balanced_accuracy_pooled",
    "loo_accuracy",
    "loo_balanced_accuracy",
}
# Student's t with a few degrees of freedom; equal raters, whose variance is estimated as above 0; incomplete designs.
FEW = (0.9, 1.4)
SCENARIOS = [
    # Few common items bias balanced accuracy of pairs, also where the mean is weighted.
    scenario("40 raters, three per item", Panel(40, 3, clips=100), WEIGHTED, noted=MEANS),
    scenario("12 raters of every item", Panel(12, 12)),
    scenario("12 raters of every item, a fifth missing", Panel(12, 12, missing=0.2)),
    scenario("12 raters, three per item", Panel(12, 3), WEIGHTED, noted=MEANS),
    scenario("12 equal raters of every item", Panel(12, 12, effects=0.0)),
    scenario("12 equal raters, three per item", Panel(12, 3, effects=0.0), WEIGHTED, noted=MEANS, width=FEW),
    scenario("6 raters of every item", Panel(6, 6), width=FEW),
    scenario("6 raters, four per item, a fifth missing", Panel(6, 4, missing=0.2), width=FEW),
    scenario("3 raters of every item", Panel(3, 3), noted=EVERY),
    scenario("12 raters of every item", Panel(12, 12, resample="raters"), width=FEW),
    # Which clips a rater was given counts as a difference between raters: known to be too wide.
    scenario("12 raters, three per item", Panel(12, 3, resample="raters"), *EVERY - MEANS, noted=MEANS),
    scenario("6 raters of every item", Panel(6, 6, resample="raters"), width=FEW),
    scenario("3 raters of every item", Panel(3, 3, resample="raters"), noted=EVERY),
    machine("binary"),
    machine("interval"),
]

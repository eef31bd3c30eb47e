"""Simulated nominal, ordinal and interval ratings: raters with their own accuracy, bias and noise rate items on clips.

The latent value of an item is correlated within clips. A nominal item has one of four classes by thresholds on it, and
a rater who errs chooses a class at random. An ordinal rating cuts the latent value plus noise at five levels; an
interval rating is the latent value plus bias and noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from earmark.annotation.ratings import Ratings
from earmark.annotation.scales.analysis import scale_of
from earmark.annotation.subsets import Subset
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.estimate import Estimate
from tests.coverage.framework import Scenario

ITEMS, REPLICATES, LARGE = 3, 300, 20_000
SHARES = (0.4, 0.3, 0.2, 0.1)
LEVELS = {"nominal": ("a", "b", "c", "d"), "ordinal": ("1", "2", "3", "4", "5"), "interval": ()}
OF_RATER = {
    "nominal": ("agreement", "kappa", "ds_accuracy"),
    "ordinal": ("bias", "kappa"),
    "interval": ("bias", "sd", "sd_ratio", "correlation", "mean_absolute_difference"),
}


@dataclass(frozen=True)
class SimulatedScale:
    """Parameters of the simulation.

    Attributes
    ----------
    scale : {"nominal", "ordinal", "interval"}
    clips : int
    raters, per_item : int
        Raters of the table, and of each item.
    accuracy : float
        Probability of a correct class (nominal).
    noise, bias : float
        Standard deviation of the rating about the latent value, and range ± of the raters' biases.
    """

    scale: Any
    clips: int
    raters: int = 5
    per_item: int = 3
    accuracy: float = 0.7
    noise: float = 0.7
    bias: float = 0.3

    def draw(self, rng: np.random.Generator, clips: int | None = None) -> tuple[Ratings, Bootstrap]:
        """Ratings, and a bootstrap over clips."""
        clips = clips or self.clips
        n = clips * ITEMS
        latent = 0.6 * np.repeat(rng.normal(size=clips), ITEMS) + 0.8 * rng.normal(size=n)
        rater = np.sort(rng.random((n, self.raters)).argsort(axis=1)[:, : self.per_item], axis=1).ravel()
        item = np.repeat(np.arange(n), self.per_item)
        own_noise = self.noise * np.linspace(0.8, 1.2, self.raters)[rater]
        heard = (
            latent[item] + self.bias * np.linspace(-1, 1, self.raters)[rater] + own_noise * rng.normal(size=len(item))
        )
        if self.scale == "nominal":
            true = np.digitize(latent, norm.ppf(np.cumsum(SHARES)[:-1]))
            guess = rng.choice(len(SHARES), len(item))
            value = np.where(rng.random(len(item)) < self.accuracy, true[item], guess)
        elif self.scale == "ordinal":
            value = np.digitize(heard, [-1.5, -0.5, 0.5, 1.5])
        else:
            value = heard
        subset = Subset("simulated", self.scale, ("item",), levels=LEVELS[self.scale])
        names = [f"user_{r}" for r in range(self.raters)]
        ratings = Ratings(subset, pd.DataFrame(index=range(n)), item, rater, value.astype(float), names)
        replicates = 0 if clips == LARGE else REPLICATES
        return ratings, Bootstrap.from_units(np.repeat(np.arange(clips), ITEMS), replicates, rng)


def estimates(rng: np.random.Generator, raters: SimulatedScale, clips: int | None = None) -> dict[str, Estimate]:
    """Estimates of one data set: agreement, pairs, classes, and the first rater."""
    ratings, bootstrap = raters.draw(rng, clips)
    scale = scale_of(ratings)
    every = np.ones(len(ratings.items), dtype=bool)
    found = scale.agreement(every, bootstrap, raters.per_item) | scale.pair_statistics(bootstrap).summary
    found |= {f"specific agreement, {k}": e for k, e in scale.specific_agreement(bootstrap).items()}
    columns = scale.rater_statistics(bootstrap)
    for name in OF_RATER[raters.scale]:
        value, low, high = (float(columns[key][0]) for key in (name, f"{name}_low", f"{name}_high"))
        ends = (None, None) if np.isnan(low) else (low, high)
        note = columns["ds_note" if name == "ds_accuracy" else "note"][0] or None
        found[f"{name} of a rater"] = Estimate(value, *ends, note=note)
    return {name: estimate for name, estimate in found.items() if estimate.value is not None}


def truth(rng: np.random.Generator, raters: SimulatedScale) -> Mapping[str, float]:
    """Values of very many clips with the same raters."""
    return {name: float(each.value or 0.0) for name, each in estimates(rng, raters, LARGE).items()}


def scenario(size: str, raters: SimulatedScale, **options: Any) -> Scenario:
    """Scenario of one scale."""
    draw = partial(estimates, raters=raters)
    return Scenario("Scales", f"{raters.scale}, {size}", draw, partial(truth, raters=raters), **options)


ACCURACY = frozenset({"ds_accuracy of a rater"})
SCENARIOS = [
    scenario("40 clips of 3 items, 3 of 5 raters each", SimulatedScale("nominal", 40), noted=ACCURACY),
    scenario("100 clips of 3 items, 3 of 5 raters each", SimulatedScale("nominal", 100, accuracy=0.85), noted=ACCURACY),
    scenario("240 clips of 3 items, 3 of 5 raters each", SimulatedScale("nominal", 240)),
    scenario("40 clips of 3 items, 3 of 5 raters each", SimulatedScale("ordinal", 40)),
    scenario(
        "40 clips of 3 items, 5 raters, good",
        SimulatedScale("ordinal", 40, per_item=5, noise=0.3, bias=0.1),
        untested=frozenset({"percent_within_one"}),  # 0.996: score intervals near 1 are too wide
    ),
    scenario("40 clips of 3 items, 3 of 5 raters each", SimulatedScale("interval", 40)),
    scenario("40 clips of 3 items, 4 raters", SimulatedScale("interval", 40, raters=4, per_item=4)),
    scenario("40 clips of 3 items, 4 raters, noisy", SimulatedScale("interval", 40, raters=4, per_item=4, noise=2.0)),
    scenario(
        "25 clips of 3 items, 12 raters, good",
        SimulatedScale("interval", 25, raters=12, per_item=12, noise=0.2, bias=0.1),
    ),
]

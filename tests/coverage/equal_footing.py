"""Simulated models in place of a rater: intervals and p-values that speak for new raters, `benchmark.py --resample`.

Crossed random effects: every data set draws new clips and new raters, who differ in bias and in the size of their
noise. The model answers each item as a rater does who is drawn for this item alone, so its true difference from the
raters is 0. Correlations gain from a rater's constant bias; there the model is a fixed one, and the true difference is
that of very many raters and clips with the same number of ratings per item.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from earmark.annotation.parity import HeldOutRatings, Parity, RaterPanel, human_parity, pairwise_parity
from earmark.audio_text.comparison_with_raters import (
    MEAN_RATING,
    Ratings,
    ScoredItems,
    answers_against_others,
    answers_against_single_raters,
    numbers_against_others,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.resample import Resample
from tests.coverage.framework import Scenario

ITEMS, CLASSES, THRESHOLD, REPLICATES = 2, 4, 0.25, 300
Drawn = dict[str, Estimate | float | None]


@dataclass(frozen=True)
class Panel:
    """A simulated panel: item, rater and value of each rating, the clip of each item, and the model's answers."""

    item: np.ndarray
    rater: np.ndarray
    value: np.ndarray
    clip: np.ndarray
    model: np.ndarray

    def single(self) -> Ratings:
        """The ratings for scales other than present or absent."""
        return Ratings(self.item, self.rater, self.value.astype(float))

    def panel(self, resample: Resample) -> RaterPanel | None:
        """Who gave each rating; None for intervals over clips alone."""
        return None if resample == "clips" else RaterPanel(resample, self.item, self.rater, self.value)


@dataclass(frozen=True)
class Design:
    """Parameters of the simulation.

    Attributes
    ----------
    raters, per_item, clips : int
    effects : float
        Standard deviation of the bias of raters and of the logarithm of the size of their noise; 0: equal raters.
    resample : {"raters", "both"}
    """

    raters: int
    per_item: int
    clips: int = 60
    effects: float = 0.4
    resample: Resample = "both"

    def rated(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Item and rater of each rating, and the clip of each item."""
        n = self.clips * ITEMS
        place = np.argsort(np.argsort(rng.random((n, self.raters)), axis=1), axis=1)
        return *np.nonzero(place < self.per_item), np.repeat(np.arange(self.clips), ITEMS)

    def latent(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """What there is to hear in each item, the same in every data set if only raters are new."""
        source = np.random.default_rng(20) if self.resample == "raters" else rng
        return 0.7 * np.repeat(source.normal(size=(self.clips, *shape)), ITEMS, axis=0) + 0.7 * source.normal(
            size=(self.clips * ITEMS, *shape)
        )

    def bias(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return self.effects * rng.normal(size=shape)

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return 0.6 * np.exp(self.effects * rng.normal(size=shape))


def draw_votes(rng: np.random.Generator, design: Design) -> Panel:
    """Present or absent."""
    (item, rater, clip), latent = design.rated(rng), design.latent(rng)
    bias, noise = design.bias(rng, design.raters), design.noise(rng, design.raters)
    heard = latent[item] + bias[rater] + noise[rater] * rng.normal(size=len(item))
    n = len(latent)
    model = latent + design.bias(rng, n) + design.noise(rng, n) * rng.normal(size=n)
    return Panel(item, rater, (heard > THRESHOLD).astype(np.int64), clip, model > THRESHOLD)


def draw_classes(rng: np.random.Generator, design: Design) -> Panel:
    """One of four classes: the one that a rater hears most of, with a bias of each rater towards each class."""
    (item, rater, clip), latent = design.rated(rng), design.latent(rng, CLASSES)
    n, k = len(latent), CLASSES
    bias, noise = design.bias(rng, design.raters, k), design.noise(rng, design.raters, 1)
    heard = latent[item] + bias[rater] + noise[rater] * rng.normal(size=(len(item), k))
    model = latent + design.bias(rng, n, k) + design.noise(rng, n, 1) * rng.normal(size=(n, k))
    return Panel(item, rater, heard.argmax(axis=1), clip, model.argmax(axis=1))


def draw_numbers(rng: np.random.Generator, design: Design) -> Panel:
    """Numbers; the model is a fixed one."""
    (item, rater, clip), latent = design.rated(rng), design.latent(rng)
    bias, noise = design.bias(rng, design.raters), design.noise(rng, design.raters)
    value = latent[item] + bias[rater] + noise[rater] * rng.normal(size=len(item))
    return Panel(item, rater, value, clip, latent + 0.6 * rng.normal(size=len(latent)))


def compare_votes(ratings: Panel, design: Design, rng: np.random.Generator, replicates: int) -> dict[str, Parity]:
    """The model against the majority of the others, and against single raters."""
    n, panel = len(ratings.model), ratings.panel(design.resample)
    present, raters = np.bincount(ratings.item, ratings.value, n), np.bincount(ratings.item, minlength=n)
    hold_out = partial(HeldOutRatings.from_counts, soft=False, unanimous=False)
    options = (ratings.model, ratings.clip, replicates, rng)
    pairs = pairwise_parity(present, raters, *options, panel)
    return {
        "balanced accuracy": human_parity(hold_out(present, raters), *options, panel, hold_out),
        "balanced accuracy, pairs": pairs.balanced_accuracy,
        "accuracy, pairs": pairs.accuracy,
    }


def compare_classes(ratings: Panel, design: Design, rng: np.random.Generator, replicates: int) -> dict[str, Parity]:
    """The model's choice against the majority of the others, and against single raters."""
    common = (ratings.single(), ratings.model, CLASSES, ratings.clip.astype(str), replicates, rng, design.resample)
    pairs = answers_against_single_raters(*common).by_name
    return {**answers_against_others(*common).by_name, **{f"{name}, pairs": pairs[name] for name in pairs}}


def compare_numbers(ratings: Panel, design: Design, rng: np.random.Generator, replicates: int) -> dict[str, Parity]:
    """The model's similarity against the mean of the others."""
    n = len(ratings.model)
    # The similarities are in the unit of the ratings, so that their concordance is compared too.
    items = ScoredItems(ratings.model, ratings.model, np.zeros(n, dtype=np.int64), ratings.clip.astype(str))
    found = numbers_against_others(ratings.single(), items, replicates, rng, design.resample)
    return {name.removeprefix(MEAN_RATING): parity for name, parity in found.by_name.items()}


KINDS = {
    "present or absent": (draw_votes, compare_votes),
    "classes": (draw_classes, compare_classes),
    "numbers": (draw_numbers, compare_numbers),
}


def estimates(rng: np.random.Generator, design: Design, kind: str) -> Mapping[str, Estimate | float | None]:
    """Differences of one data set, and the p-value over clips alone as an example of a fault."""
    draw, compare = KINDS[kind]
    ratings = draw(rng, design)
    drawn: Drawn = {}
    over_clips = compare(ratings, replace(design, resample="clips"), rng, REPLICATES)
    for name, parity in compare(ratings, design, rng, REPLICATES).items():
        drawn |= {name: parity.difference, f"{name}, clips alone": over_clips[name].difference}
        if kind != "numbers":
            drawn |= {f"{name}, p": parity.p, f"{name}, p, clips alone": over_clips[name].p}
    return drawn


def truth(rng: np.random.Generator, design: Design, kind: str) -> dict[str, float]:
    """True differences: 0 for a model that answers as raters do."""
    draw, compare = KINDS[kind]
    if kind != "numbers":
        names = compare(draw(rng, design), design, rng, 0)
        return {name: 0.0 for each in names for name in (each, f"{each}, clips alone")}
    wide = replace(design, raters=300, clips=design.clips if design.resample == "raters" else 3000)
    drawn = [compare(draw(rng, wide), replace(wide, resample="clips"), rng, 0) for _ in range(8)]
    means = {name: float(np.mean([each[name].difference.value for each in drawn])) for name in drawn[0]}
    return means | {f"{name}, clips alone": value for name, value in means.items()}


def scenario(design: Design, kind: str, **options: Any) -> Scenario:
    """Scenario of a model in place of a rater."""
    over = "new raters and clips" if design.resample == "both" else "new raters of the same clips"
    of_item = "of every item" if design.per_item == design.raters else f"{design.per_item} per item"
    (draw, compare), rng, small = KINDS[kind], np.random.default_rng(0), replace(design, clips=20, resample="clips")
    names = compare(draw(rng, small), small, rng, 0)
    alone = frozenset(f"{name}{p}, clips alone" for name in names for p in ("", ", p"))
    return Scenario(
        "Model in place of a rater",
        f"{kind}, {design.clips} clips of {ITEMS} items, {design.raters} raters, {of_item}, {over}",
        partial(estimates, design=design, kind=kind),
        partial(truth, design=design, kind=kind),
        untested=alone | options.pop("untested", frozenset()),
        **options,
    )


# Student's t with a few degrees of freedom; incomplete designs, in which the clips of a rater count as the rater's.
WIDER = (0.9, 1.4)
# Raters who prefer a class raise the number of its references, too: with 12 raters the difference is .006 above 0.
BIASED = frozenset({"zero_shot_balanced_accuracy, pairs, p"})
SCENARIOS = [
    scenario(Design(12, 12, clips=120), "present or absent", data_sets=1000),
    scenario(Design(12, 4), "present or absent", width=WIDER),
    scenario(Design(6, 6), "present or absent", width=WIDER),
    scenario(Design(12, 12, effects=0.0), "present or absent"),
    scenario(Design(12, 12, clips=120), "classes", untested=BIASED),
    scenario(Design(12, 4, clips=100), "classes", width=WIDER, untested=BIASED),
    scenario(Design(12, 12), "numbers", data_sets=200),
    scenario(Design(12, 4, clips=100), "numbers", data_sets=200, width=WIDER),
]

"""What every scale computes: labels, agreement, statistics of pairs and raters, and ratings without their rater."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.ratings import Ratings
from earmark.annotation.reliability import NO_PAIRS, WITH_TWO_RATERS
from earmark.annotation.scales.sums import units_of_groups
from earmark.metrics.agreement import RaterPairs, rater_pairs
from earmark.metrics.bootstrap import Bootstrap, Units
from earmark.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MAX_PAIR_ENTRIES = 10_000_000  # pairs of ratings of the same item
MAX_PAIRS = 2_000  # pairs of raters: 63 raters, if all have common items
TOO_MANY_PAIRS = f"more than {MAX_PAIRS:,} pairs of raters or {MAX_PAIR_ENTRIES:,} pairs of ratings"
ONE_RATER_EACH = "no item in common with another rater"

FlagRule = tuple[Callable[[Any], bool], str]  # a test on a row of the table of raters, and the reason


@dataclass(frozen=True)
class PairStatistics:
    """Statistics of pairs of raters.

    Attributes
    ----------
    summary : dict of str to Estimate
        Means over pairs of raters.
    pairs : dict of str to dict
        One entry per pair of raters with common items: {"user_0__user_1": {"n": items, name: Estimate}}.
    """

    summary: dict[str, Estimate]
    pairs: dict[str, dict[str, Estimate | int]] = field(default_factory=dict)


class RatingScale(ABC):
    """Base class of scales; an instance belongs to the ratings of one subset.

    Attributes
    ----------
    name : str
        Name of the scale in `Subset.scale`.
    headline : str
        The coefficient of the scale that signatures name.
    pair_headline : str
        The statistic of pairs of raters that figures show.
    flag_rules : tuple of FlagRule
        Rules for flagging a rater.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    pair_headline: ClassVar[str]
    flag_rules: ClassVar[tuple[FlagRule, ...]]

    def __init__(self, ratings: Ratings) -> None:
        self.ratings = ratings
        self.n_items, self.n_raters = len(ratings.items), len(ratings.raters)
        self.raters_per_item = ratings.raters_per_item

    @abstractmethod
    def labels(self) -> dict[str, Any]:
        """Columns of benchmark_labels.csv that depend on the scale, one value per item."""

    @abstractmethod
    def agreement(self, items: BoolArray, bootstrap: Bootstrap, required: int) -> dict[str, Estimate]:
        """Coefficients over all raters, without those of pairs.

        Parameters
        ----------
        items : (n_items,) bool
            Items to use.
        bootstrap : Bootstrap
            Bootstrap over the clips of all items.
        required : int
            Number of raters that makes an item complete.
        """

    @abstractmethod
    def pair_statistics(self, bootstrap: Bootstrap) -> PairStatistics:
        """Statistics of each pair of raters, and their means over pairs."""

    @abstractmethod
    def rater_statistics(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """Columns of the table of raters that depend on the scale, one value per rater."""

    @abstractmethod
    def leave_one_out(self, rows: IntArray) -> dict[str, Any]:
        """Columns of leave_one_out.csv that depend on the scale. rows: (m,) int, ratings to list."""

    def specific_agreement(self, bootstrap: Bootstrap) -> dict[str, Estimate]:
        """Agreement specific to each class; empty unless the scale is nominal."""
        return {}

    @property
    def warnings(self) -> list[str]:
        """What to say of the labels; empty if nothing."""
        return []

    def further_tables(self) -> dict[str, pd.DataFrame]:
        """CSV files that only this scale has, by name without suffix."""
        return {}

    @property
    def tied(self) -> BoolArray | None:
        """Items without a single most frequent rating, (n_items,) bool; None where there is no such thing."""
        return None

    @property
    def disagreement(self) -> FloatArray:
        """How much the raters of each item disagree, (n_items,) float in the order of dispute; 0 for one rater."""
        raise NotImplementedError

    def pairable(self, items: BoolArray, bootstrap: Bootstrap) -> tuple[int, Units]:
        """Number of items with at least two ratings, and of their clips."""
        shared = items & (self.raters_per_item > 1)
        return int(shared.sum()), bootstrap.units_with(shared, WITH_TWO_RATERS)

    def rater_pairs(self) -> RaterPairs | str:
        """All pairs of ratings of the same item, as positions in `ratings`; or why there are none."""
        n = self.raters_per_item
        if (n * (n - 1) // 2).sum() > MAX_PAIR_ENTRIES:
            return TOO_MANY_PAIRS
        pairs = rater_pairs(self.ratings.item, self.ratings.rater, np.arange(len(self.ratings.item)))
        if not len(pairs.first):
            return NO_PAIRS
        return pairs if len(pairs.first) <= MAX_PAIRS else TOO_MANY_PAIRS

    def listed_pairs(
        self, pairs: RaterPairs, estimates: dict[str, list[Estimate]]
    ) -> dict[str, dict[str, Estimate | int]]:
        """Entries of summary.json: names, number of common items and estimates of each pair."""
        shared = np.bincount(pairs.pair, minlength=len(pairs.first)).tolist()
        names = self.ratings.raters
        listed: dict[str, dict[str, Estimate | int]] = {}
        for at, (first, second) in enumerate(zip(pairs.first, pairs.second, strict=True)):
            own = {name: of_pairs[at] for name, of_pairs in estimates.items()}
            listed[f"{names[first]}__{names[second]}"] = {"n": shared[at], **own}
        return listed

    def units_of_raters(self, bootstrap: Bootstrap, rows: IntArray) -> list[Units]:
        """Number of clips of each rater's ratings. rows: (m,) int, ratings to count."""
        item, rater = self.ratings.item[rows], self.ratings.rater[rows]
        described = "rated by this rater" + (" that are compared" if len(rows) < len(self.ratings.item) else "")
        return units_of_groups(bootstrap, item, rater, self.n_raters, described)

    def ratings_of_raters(self, rows: IntArray) -> list[int]:
        """Number of ratings of each rater. rows: (m,) int, ratings to count."""
        return np.bincount(self.ratings.rater[rows], minlength=self.n_raters).tolist()


def notes(*estimates: list[Estimate]) -> list[str]:
    """Notes of the estimates of each rater, without repetitions."""
    return ["; ".join(dict.fromkeys(e.note for e in each if e.note)) for each in zip(*estimates, strict=True)]

"""What nominal and ordinal scales share: ratings are one of several levels."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from earmark.annotation.ratings import Ratings
from earmark.annotation.reliability import NO_PAIRS, ONE_CATEGORY
from earmark.annotation.scales.scale import BoolArray, FloatArray, IntArray, PairStatistics, RatingScale
from earmark.annotation.scales.sums import (
    cell_sums,
    chunks,
    clip_bootstrap,
    selected,
    sums_by_clip,
    units_of_groups,
    units_of_items,
)
from earmark.metrics.accelerated_em import NOT_CONVERGED
from earmark.metrics.agreement import (
    RaterPairs,
    Weighting,
    category_weights,
    nanmean,
)
from earmark.metrics.bootstrap import Bootstrap, Contributions, Units
from earmark.metrics.class_agreement import kappa_from_margins
from earmark.metrics.dawid_skene_classes import DawidSkeneClasses, dawid_skene_classes
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, MIN_UNITS, SHARE, Range
from earmark.metrics.rater_resampling import PairDeletions, RatingDeletions
from earmark.metrics.ratio import ratio

SAME_CATEGORY = "both raters used the same single category"
FEW_COMMON = "a pair of raters has only {n} common {items}, which biases means over pairs; use {better}"

# Name, range and formula of a coefficient. The formula maps what `named_sums` returns to values (…).
Coefficient = tuple[str, Range, Callable[[Any], FloatArray]]


class LevelScale(RatingScale):
    """Base class of scales whose ratings are one of several levels.

    Attributes
    ----------
    kappas : dict of str to str
        Weighting of each reported kappa of pairs of raters.
    """

    kappas: ClassVar[dict[str, Weighting]]

    def __init__(self, ratings: Ratings) -> None:
        super().__init__(ratings)
        self.counts, self.codes = ratings.counts(), ratings.codes
        self.levels = ratings.subset.levels
        self.q = len(self.levels)

    @abstractmethod
    def coefficients(self) -> list[Coefficient]:
        """Coefficients over all raters."""

    @abstractmethod
    def contributions(self, counts: IntArray) -> FloatArray:
        """Contributions of items to the sums of the coefficients. counts: (m, q) int; returns (m, d)."""

    @abstractmethod
    def named_sums(self, sums: FloatArray) -> Any:
        """Sums of contributions, (…, d), with their names."""

    # --- labels -----------------------------------------------------------------------------------------------

    @cached_property
    def fit(self) -> DawidSkeneClasses:
        """Dawid-Skene model; confusion is NaN where the pseudo-counts alone would determine it.

        These are raters without an item in common with another rater, and all raters if one level was used.
        """
        own = self.ratings
        fit = dawid_skene_classes(
            own.item, own.rater, self.codes, n_items=self.n_items, n_raters=self.n_raters, n_classes=self.q
        )
        shared = np.bincount(own.rater, self.raters_per_item[own.item] > 1, self.n_raters) > 0
        known = shared & ((self.counts.sum(axis=0) > 0).sum() > 1)
        return replace(fit, confusion=np.where(known[:, np.newaxis, np.newaxis], fit.confusion, np.nan))

    @property
    def warnings(self) -> list[str]:
        """Whether the Dawid-Skene model has not converged."""
        return [] if self.fit.converged else [NOT_CONVERGED]

    @cached_property
    def modes(self) -> tuple[IntArray, BoolArray]:
        """Most frequent level of each item, and whether another one is as frequent."""
        if not self.n_items:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)
        highest = self.counts.max(axis=1, keepdims=True)
        return self.counts.argmax(axis=1), (self.counts == highest).sum(axis=1) > 1

    @property
    def tied(self) -> BoolArray:
        """Items whose most frequent level is not unique, (n_items,) bool."""
        return self.modes[1]

    def words(self, codes: IntArray, missing: BoolArray) -> NDArray[np.object_]:
        """Names of levels, None where missing."""
        names = np.array([*self.levels, None], dtype=object)
        return names[np.where(missing, self.q, codes)]

    def vote_columns(self, name: str) -> dict[str, Any]:
        """The majority, its votes, ties and unanimity."""
        mode, tied = self.modes
        votes = self.counts.max(axis=1, initial=0)
        return {
            name: self.words(mode, tied),
            "majority_votes": votes,
            "majority_tie": tied,
            "all_agree": (self.raters_per_item > 1) & (votes == self.raters_per_item),
        }

    def distribution_columns(self, name: str) -> dict[str, Any]:
        """Share of each level, and the posterior of the Dawid-Skene model with its most probable level."""
        share = ratio(self.counts, self.raters_per_item[:, np.newaxis])
        posterior = self.fit.posterior.round(6)  # digits that do not depend on the platform
        highest = posterior.max(axis=1, keepdims=True, initial=0)
        tied = (posterior == highest).sum(axis=1) != 1
        best = posterior.argmax(axis=1) if self.n_items else np.empty(0, dtype=np.int64)
        return {
            **{f"share_{level}": share[:, code] for code, level in enumerate(self.levels)},
            name: self.words(best, tied),
            **{f"ds_probability_{level}": posterior[:, code] for code, level in enumerate(self.levels)},
        }

    # --- agreement --------------------------------------------------------------------------------------------

    def agreement(self, items: BoolArray, bootstrap: Bootstrap, required: int) -> dict[str, Estimate]:
        """Share of items on which all agree, and the coefficients of the scale."""
        n, units = self.pairable(items, bootstrap)
        coefficients = self.coefficients()
        names = [name for name, _, _ in coefficients]
        used = np.flatnonzero(items)
        own = selected(bootstrap, items)

        def formula(sums: FloatArray) -> FloatArray:
            named = self.named_sums(sums)
            return np.stack([f(named) for _, _, f in coefficients], axis=-1)

        if not n:
            undefined = dict.fromkeys(names, Estimate(None, why=NO_PAIRS))
            return {"exact_all": self.exact_all(items, bootstrap, required), **undefined}
        category_units = min(units, self.units_of_categories(items, bootstrap))
        estimates = clip_bootstrap(own).estimates(
            sums_by_clip(self.counts[used], own, self.contributions),
            formula,
            n=[n] * len(names),
            why=[ONE_CATEGORY] * len(names),
            units=[units if values is SHARE else category_units for _, values, _ in coefficients],
            values=[values for _, values, _ in coefficients],
            deletions=self.deletions(items, own, self.contributions),
        )
        return {
            "exact_all": self.exact_all(items, bootstrap, required),
            **dict(zip(names, estimates, strict=True)),
        }

    def exact_all(self, items: BoolArray, bootstrap: Bootstrap, required: int) -> Estimate:
        """Share of complete items on which all raters agree."""

        def contribute(counts: IntArray) -> FloatArray:
            raters = counts.sum(axis=1)
            complete = (raters >= required) & (raters > 1)
            agreed = complete & (counts.max(axis=1, initial=0) == raters)
            return np.stack([agreed, complete], axis=1).astype(float)

        contributions = contribute(self.counts) * items[:, np.newaxis]
        complete = contributions[:, 1] > 0
        return bootstrap.estimate(
            contributions,
            lambda sums: ratio(sums[..., 0], sums[..., 1]),
            n=int(complete.sum()),
            why=f"no item was rated by {required} raters",
            units=bootstrap.units_with(complete, "with a complete item"),
            deletions=self.deletions(items, bootstrap, contribute, by_clip=False),
        )

    def deletions(
        self, items: BoolArray, bootstrap: Bootstrap, contribute: Callable[[IntArray], FloatArray], by_clip: bool = True
    ) -> RatingDeletions | None:
        """Sums of items without each rater, for intervals that speak for new raters.

        Parameters
        ----------
        items : (n_items,) bool
            Items to use.
        bootstrap : Bootstrap
            Bootstrap over the clips of these items, or of all items if the contributions are those of all items.
        contribute : callable
            Maps (m, q) counts to (m, d) contributions.
        by_clip : bool
            Whether contributions are summed by clip.

        Returns
        -------
        RatingDeletions or None
            None if intervals speak for other clips only.
        """
        if bootstrap.resample == "clips":
            return None
        own = self.ratings
        used = np.flatnonzero(items[own.item])
        item, rater, code = own.item[used], own.rater[used], own.codes[used]
        row = (np.cumsum(items) - 1)[item] if len(bootstrap.unit) == items.sum() else item
        one = np.eye(self.q, dtype=np.int64)

        def change(ratings: IntArray) -> FloatArray:
            before = self.counts[item[ratings]]
            return contribute(before - one[code[ratings]]) - contribute(before)

        return RatingDeletions(bootstrap.unit[row] if by_clip else row, rater, change)

    def units_of_categories(self, items: BoolArray, bootstrap: Bootstrap) -> Units:
        """Clips with a rating other than the most frequent level, which determine chance-corrected agreement."""
        pairable = items & (self.raters_per_item > 1)
        most_frequent = int(self.counts[pairable].sum(axis=0).argmax())
        others = pairable & (self.counts[:, most_frequent] < self.raters_per_item)
        return bootstrap.units_with(others, f"with a rating other than {self.levels[most_frequent]}")

    # --- pairs of raters --------------------------------------------------------------------------------------

    def pair_statistics(self, bootstrap: Bootstrap) -> PairStatistics:
        """Cohen's kappa of each pair of raters with each weighting, and the means over pairs."""
        pairs = self.rater_pairs()
        if isinstance(pairs, str):
            return PairStatistics({f"{name}_mean": Estimate(None, why=pairs) for name in self.kappas})
        n_pairs = len(pairs.first)
        shared = np.bincount(pairs.pair, minlength=n_pairs).tolist()
        sums = self._pair_sums(pairs, bootstrap)
        units = units_of_groups(bootstrap, pairs.item, pairs.pair, n_pairs, "rated by both")
        all_units = units_of_items(bootstrap, pairs.item)
        means: dict[str, Estimate] = {}
        listed: dict[str, list[Estimate]] = {}
        for at, (name, weighting) in enumerate(self.kappas.items()):

            def kappas(sums: FloatArray, at: int = at, weighting: Weighting = weighting) -> FloatArray:
                each_pair = self._pair_kappas(sums, n_pairs, at, weighting)
                return np.concatenate([nanmean(each_pair)[..., np.newaxis], each_pair], axis=-1)

            def of_pairs(
                sums: FloatArray, kappas: Callable[[FloatArray], FloatArray] = kappas
            ) -> tuple[FloatArray, FloatArray]:
                return once(kappas(sums)[..., 1:])

            mean, *each = clip_bootstrap(bootstrap).estimates(
                sums,
                kappas,
                n=[n_pairs, *shared],
                why=["no pair of raters has a defined kappa", *[SAME_CATEGORY] * n_pairs],
                units=[all_units, *units],
                values=[COEFFICIENT] * (1 + n_pairs),
                deletions=PairDeletions(pairs.first, pairs.second, of_pairs, np.array(shared)),
            )
            mean = replace(mean, n=sum(one.value is not None for one in each))
            means[f"{name}_mean"] = with_smallest_pair(mean, min(shared))
            listed[name] = each
        return PairStatistics(means, self.listed_pairs(pairs, listed))

    def _pair_sums(self, pairs: RaterPairs, bootstrap: Bootstrap) -> Contributions:
        """For each pair of raters: counts of both raters' levels, and the sum of each weighting's credit."""
        codes, q = self.codes, self.q
        left, right, width = codes[pairs.left], codes[pairs.right], 2 * q + len(self.kappas)
        start = pairs.pair * width
        entries: list[tuple[IntArray, Any]] = [(start + left, 1.0), (start + q + right, 1.0)]
        for at, weighting in enumerate(self.kappas.values()):
            entries.append((start + 2 * q + at, category_weights(q, weighting)[left, right]))
        return cell_sums(bootstrap, pairs.item, entries, len(pairs.first) * width)

    def _pair_kappas(self, sums: FloatArray, n_pairs: int, at: int, weighting: Weighting) -> FloatArray:
        q = self.q
        of_pairs = sums.reshape(*sums.shape[:-1], n_pairs, 2 * q + len(self.kappas))
        left, right, observed = of_pairs[..., :q], of_pairs[..., q : 2 * q], of_pairs[..., 2 * q + at]
        return kappa_from_margins(observed, left, right, category_weights(q, weighting))

    # --- raters -----------------------------------------------------------------------------------------------

    def shares_of_raters(self) -> FloatArray:
        """Share of each level in each rater's ratings, (n_raters, q) float."""
        cells = self.ratings.rater * self.q + self.codes
        counts = np.bincount(cells, minlength=self.n_raters * self.q).reshape(self.n_raters, self.q)
        return ratio(counts, counts.sum(axis=1, keepdims=True))

    def counts_of_others(self, rows: IntArray) -> IntArray:
        """Number of other ratings of the item at each level. rows: (m,) int, ratings; returns (m, q)."""
        others = self.counts[self.ratings.item[rows]]
        others[np.arange(len(rows)), self.codes[rows]] -= 1
        return others

    def from_others(self, rows: IntArray, function: Callable[[IntArray], Sequence[Any]], n: int) -> list[Any]:
        """Arrays computed from the other ratings of each rating's item, in parts that fit in memory.

        rows: (m,) int, ratings; function: maps (m, q) counts to n arrays of length m.
        """
        parts = [function(self.counts_of_others(rows[part])) for part in chunks(len(rows), self.q)]
        if not parts:
            parts = [function(np.zeros((0, self.q), dtype=np.int64))]
        return [np.concatenate([part[at] for part in parts]) for at in range(n)]


def once(of_pairs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values of pairs of raters, (…, P), with equal weights, as `PairDeletions.values`: both (…, P, 1)."""
    return of_pairs[..., np.newaxis], np.ones((*of_pairs.shape, 1))


def majority(counts: IntArray) -> tuple[IntArray, BoolArray]:
    """Most frequent level in each row of counts, and whether it is unique; no level is unique in an empty row."""
    if not len(counts):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)
    mode = counts.argmax(axis=1)
    highest = counts.max(axis=1, keepdims=True)
    return mode, ((counts == highest).sum(axis=1) == 1) & (highest[:, 0] > 0)


def medians(counts: IntArray) -> FloatArray:
    """Median position in each row of counts, from 0; between two levels the mean of both; NaN for an empty row.

    Examples
    --------
    >>> medians(np.array([[2, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0]])).tolist()
    [0.0, 0.5, 1.0, nan]
    """
    if not len(counts):
        return np.empty(0)
    n, below = counts.sum(axis=1, keepdims=True), counts.cumsum(axis=1)
    lower, upper = (2 * below >= n).argmax(axis=1), (2 * below > n).argmax(axis=1)
    return np.where(n[:, 0] > 0, (lower + upper) / 2, np.nan)


def with_smallest_pair(estimate: Estimate, smallest: int, better: str = "the pooled value") -> Estimate:
    """Add a note to a mean over pairs if a pair has few common items, which biases the mean.

    smallest: fewest common items of a pair; better: what is not biased.

    >>> with_smallest_pair(Estimate(0.5), 1).note
    'a pair of raters has only 1 common item, which biases means over pairs; use the pooled value'
    """
    if smallest >= MIN_UNITS or estimate.value is None:
        return estimate
    few = FEW_COMMON.format(n=smallest, items="item" if smallest == 1 else "items", better=better)
    return replace(estimate, note="; ".join(filter(None, [estimate.note, few])))

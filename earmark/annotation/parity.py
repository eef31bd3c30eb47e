"""Leave-one-rater-out comparison: the model in place of a rater.

Human accuracy is measured by holding out each rating and comparing it with the other ratings of the item. Comparing a
model with the majority of all raters is a different task: that majority contains the rating itself, and filters for
ties and unanimity depend on it. Here each held-out rating gives one comparison: the rating and the model's decision on
the same item are scored against the same reference, which only the other raters determine. A model that decides like
the raters has the same accuracy as they have.

An item with p present and a absent ratings compares each present rating with p − 1 present and a absent ones, and each
absent rating with p present and a − 1 absent ones. At least two other raters are required.

`pairwise_parity` does the same with one other rater as the reference, so two raters are enough.

Intervals cover other clips rated by the same raters. With a `RaterPanel` they cover new raters too: every rater is left
out in turn, both as a rater that the model is compared with and as one of those who decide the reference.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark.annotation.keys import key_ranks
from earmark.metrics.bootstrap import Bootstrap, Contributions, Units, paired_difference
from earmark.metrics.classification import balanced_accuracy, decision_contributions, decision_metrics
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import SHARE, Range
from earmark.metrics.rater_resampling import RecomputedDeletions
from earmark.metrics.ratio import ratio
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
MIN_OTHER_RATERS = 2
MIN_RATERS_OF_PAIR = 2
MOST_GROUPS = 200  # of raters that are left out in turn (Kott 2001, Journal of Official Statistics 17:521)
BALANCED_ACCURACY, ACCURACY = 0, 1  # positions in decision_metrics
TRUE_POSITIVE, FALSE_POSITIVE, TRUE_NEGATIVE, FALSE_NEGATIVE = range(4)  # columns of decision_contributions
MODEL, PERSON = slice(0, 4), slice(4, 8)  # columns of the contributions of a comparison
NO_HELD_OUT_RATING = "no rating with at least two other raters and a defined reference"
NO_PAIR_OF_RATERS = "no item with two raters"
ONE_CLASS = "all references have the same class"


@dataclass(frozen=True)
class HeldOutRatings:
    """Held-out ratings and the references that the other raters give; equal ratings of an item share a row.

    Attributes
    ----------
    item : (k,) int
        Row of the item.
    weight : (k,) float
        Number of ratings.
    vote : (k,) bool
        The rating: True for present.
    reference : (k,) float
        Reference label: 0 or 1, or for soft labels the share of other raters who chose present.
    """

    item: NDArray[np.int64]
    weight: FloatArray
    vote: NDArray[np.bool_]
    reference: FloatArray

    @classmethod
    def from_counts(cls, present: ArrayLike, raters: ArrayLike, *, soft: bool, unanimous: bool) -> "HeldOutRatings":
        """Hold out each rating, given the number of ratings of each item.

        Parameters
        ----------
        present, raters : (n,) int
            Number of present ratings and number of raters of each item.
        soft : bool
            Use the share of other raters who chose present as the reference. Otherwise use their majority, and exclude
            ratings where the others are tied.
        unanimous : bool
            Only use ratings where all other raters agree.

        Returns
        -------
        HeldOutRatings

        Examples
        --------
        >>> held_out = HeldOutRatings.from_counts([3, 2], [4, 4], soft=False, unanimous=False)
        >>> held_out.item.tolist(), held_out.weight.tolist(), held_out.vote.tolist(), held_out.reference.tolist()
        ([0, 1, 0, 1], [3.0, 2.0, 1.0, 2.0], [True, True, False, False], [1.0, 0.0, 1.0, 1.0])
        """
        p, n = np.asarray(present, dtype=float), np.asarray(raters, dtype=float)
        parts = []
        for vote, votes in ((True, p), (False, n - p)):
            others_present, others = p - vote, n - 1
            share = ratio(others_present, others, empty=0.5)
            usable = (votes > 0) & (others >= MIN_OTHER_RATERS)
            if unanimous:
                usable &= (share == 0) | (share == 1)
            if not soft:
                usable &= share != 0.5
            reference = share if soft else (share > 0.5).astype(float)
            rows = np.flatnonzero(usable)
            parts.append((rows, votes[rows], np.full(len(rows), vote), reference[rows]))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @classmethod
    def from_posteriors(cls, item: ArrayLike, vote: ArrayLike, probability: ArrayLike) -> "HeldOutRatings":
        """Combine ratings with Dawid-Skene posteriors of the other raters.

        Parameters
        ----------
        item : (k,) int
            Row of the item of each rating.
        vote : (k,) int or bool
            The ratings: 1 for present.
        probability : (k,) float
            Posterior probability of present without the rater. Ratings with 0.5 or NaN are excluded.

        Returns
        -------
        HeldOutRatings

        Examples
        --------
        >>> held_out = HeldOutRatings.from_posteriors([0, 0, 1], [1, 0, 1], [0.9, 0.2, 0.5])
        >>> held_out.item.tolist(), held_out.vote.tolist(), held_out.reference.tolist()
        ([0, 0], [True, False], [1.0, 0.0])
        """
        share = np.asarray(probability, dtype=float)
        known = np.isfinite(share) & (share != 0.5)
        rows, votes = np.asarray(item, dtype=np.int64)[known], np.asarray(vote, dtype=bool)[known]
        return cls(rows, np.ones(len(rows)), votes, (share[known] > 0.5).astype(float))

    @classmethod
    def from_pairs(cls, present: ArrayLike, raters: ArrayLike) -> "HeldOutRatings":
        """Hold out each rating once for each other rater of the item, whose rating is the reference.

        Parameters
        ----------
        present, raters : (n,) int
            Number of present ratings and number of raters of each item.

        Returns
        -------
        HeldOutRatings
            r (r − 1) ordered pairs for an item with r raters.

        Examples
        --------
        >>> pairs = HeldOutRatings.from_pairs([2], [3])
        >>> pairs.weight.tolist(), pairs.vote.tolist(), pairs.reference.tolist()
        ([2.0, 2.0, 2.0], [True, True, False], [1.0, 0.0, 1.0])
        """
        p, n = np.asarray(present, dtype=float), np.asarray(raters, dtype=float)
        parts = []
        for vote in (True, False):
            for reference in (True, False):
                votes, others = p if vote else n - p, p if reference else n - p
                weight = votes * (others - (vote == reference))
                rows = np.flatnonzero(weight > 0)
                parts.append((rows, weight[rows], np.full(len(rows), vote), np.full(len(rows), float(reference))))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def take(self, mask: NDArray[np.bool_]) -> "HeldOutRatings":
        """Select rows. mask: (k,) bool."""
        return HeldOutRatings(self.item[mask], self.weight[mask], self.vote[mask], self.reference[mask])


@dataclass(frozen=True)
class RaterPanel:
    """Who gave each rating, for intervals that speak for new raters.

    Attributes
    ----------
    resample : {"raters", "both"}
        What intervals speak for: other raters of the same clips, or other raters and other clips.
    item : (k,) int
        Row of the item of each rating; all ratings of an item.
    rater : (k,) int
        Number of the rater; any numbers.
    rating : (k,) int
        1 for present and 0 for absent.
    """

    resample: Resample
    item: IntArray
    rater: IntArray
    rating: IntArray

    def take(self, mask: NDArray[np.bool_]) -> "RaterPanel":
        """Select ratings. mask: (k,) bool, with all or no ratings of an item."""
        return replace(self, item=self.item[mask], rater=self.rater[mask], rating=self.rating[mask])

    def of_items(self, rows: IntArray) -> "RaterPanel":
        """The ratings of some items, which get the numbers 0, 1, … in the order of `rows`, (m,) int."""
        number = np.full(max(int(self.item.max(initial=-1)), int(rows.max(initial=-1))) + 1, -1, dtype=np.int64)
        number[rows] = np.arange(len(rows))
        kept = self.take(number[self.item] >= 0)
        return replace(kept, item=number[kept.item])

    def deletions(self, contributions: Callable[[IntArray, IntArray], Contributions]) -> RecomputedDeletions:
        """Contributions without each rater, or with more than MOST_GROUPS raters without each group of raters.

        Parameters
        ----------
        contributions : callable
            Maps the items and the ratings that are left, both (m,) int, to the contributions of all items.

        Returns
        -------
        RecomputedDeletions
        """
        _, number = np.unique(self.rater, return_inverse=True)
        group = number.ravel() % MOST_GROUPS
        ratings = np.bincount(group)

        def without(left_out: int) -> Contributions:
            kept = group != left_out
            return contributions(self.item[kept], self.rating[kept])

        return RecomputedDeletions(ratings.astype(np.int64), without)


@dataclass(frozen=True)
class Parity:
    """Leave-one-rater-out comparison of a model with the raters.

    Attributes
    ----------
    n : int
        Number of held-out ratings.
    model, person : Estimate
        Balanced accuracy (or accuracy) of the model in place of the raters, and of the raters.
    difference : Estimate
        Model minus person.
    p : float or None
        Two-sided p-value of the difference; None if undefined.
    """

    n: int
    model: Estimate
    person: Estimate
    difference: Estimate
    p: float | None = None

    @classmethod
    def undefined(cls, reason: str) -> "Parity":
        """Comparison that is undefined for the given reason."""
        estimate = Estimate(None, why=reason)
        return cls(0, estimate, estimate, estimate)

    def limited(self, values: Range = SHARE) -> "Parity":
        """The same, with an interval of the difference that holds possible differences alone.

        Parameters
        ----------
        values : Range
            Possible values of `model` and `person`.

        Examples
        --------
        >>> Parity(9, Estimate(1.0), Estimate(0.5), Estimate(0.5, -0.2, 1.2)).limited().difference.high
        1.0
        """
        low, high, widest = self.difference.low, self.difference.high, values.upper - values.lower
        if low is None or high is None:
            return self
        return replace(self, difference=replace(self.difference, low=max(low, -widest), high=min(high, widest)))


HoldOut = Callable[[FloatArray, FloatArray], HeldOutRatings]  # from the present ratings and the raters of each item


def human_parity(
    held_out: HeldOutRatings,
    decisions: NDArray[np.bool_],
    clips: ArrayLike,
    replicates: int,
    rng: np.random.Generator,
    panel: RaterPanel | None = None,
    hold_out: HoldOut | None = None,
) -> Parity:
    """Compare a model with the raters, leaving one rater out at a time.

    Parameters
    ----------
    held_out : HeldOutRatings
    decisions : (n,) bool
        The model's decision on each item: True for present.
    clips : (n,) array_like
        Clip of each item; items of a clip are resampled together.
    replicates : int
        Number of bootstrap replicates.
    rng : numpy.random.Generator
    panel : RaterPanel, optional
        The ratings, for intervals that speak for new raters.
    hold_out : callable, optional
        With `panel`, how `held_out` follows from the number of present ratings and of raters of each item.

    Returns
    -------
    Parity
        Undefined, with a reason, if there is no held-out rating or all references have the same class.
    """
    if not int(held_out.weight.sum()):
        return Parity.undefined(NO_HELD_OUT_RATING)
    return _Comparison.of(held_out, decisions, clips, replicates, rng, panel, hold_out).balanced_accuracy()


@dataclass(frozen=True)
class PairwiseParity:
    """Comparison of a model with the raters, each against one other rater of the same item.

    Attributes
    ----------
    balanced_accuracy, accuracy : Parity
        `n` counts ordered pairs of raters of an item; all pairs are pooled.
    """

    balanced_accuracy: Parity
    accuracy: Parity

    @classmethod
    def undefined(cls, reason: str) -> "PairwiseParity":
        """Comparison that is undefined for the given reason."""
        return cls(Parity.undefined(reason), Parity.undefined(reason))


def pairwise_parity(
    present: ArrayLike,
    raters: ArrayLike,
    decisions: NDArray[np.bool_],
    clips: ArrayLike,
    replicates: int,
    rng: np.random.Generator,
    panel: RaterPanel | None = None,
) -> PairwiseParity:
    """Compare a model with the raters: both against each single other rater, on the items both have.

    For every ordered pair of raters of an item, the rating of the second is the reference, and the rating of the first
    and the decision of the model are scored against it. A model that decides like a rater has a difference of 0. The
    items must not be selected by their votes.

    Parameters
    ----------
    present, raters : (n,) int
        Number of present ratings and number of raters of each item.
    decisions : (n,) bool
        The model's decision on each item: True for present.
    clips : (n,) array_like
        Clip of each item; items of a clip are resampled together.
    replicates : int
        Number of bootstrap replicates.
    rng : numpy.random.Generator
    panel : RaterPanel, optional
        The ratings, for intervals that speak for new raters.

    Returns
    -------
    PairwiseParity
        Undefined, with a reason, if no item has two raters; balanced accuracy also if all votes have the same class.

    Examples
    --------
    >>> decisions, rng = np.array([True, False]), np.random.default_rng(0)
    >>> found = pairwise_parity([3, 1], [3, 3], decisions, ["a", "b"], 0, rng).accuracy
    >>> round(found.model.value, 4), round(found.person.value, 4), round(found.difference.value, 4)
    (0.8333, 0.6667, 0.1667)
    """
    pairs = HeldOutRatings.from_pairs(present, raters)
    if not len(pairs.item):
        return PairwiseParity.undefined(NO_PAIR_OF_RATERS)
    compared = _Comparison.of(pairs, decisions, clips, replicates, rng, panel, HeldOutRatings.from_pairs)
    return PairwiseParity(compared.balanced_accuracy(), compared.accuracy())


@dataclass(frozen=True)
class _Comparison:
    """Decisions of the model and of the raters, counted by item.

    contributions: (m, 8) `decision_contributions` of the model, then of the raters. n: number of comparisons.
    """

    contributions: FloatArray
    bootstrap: Bootstrap
    n: int
    deletions: RecomputedDeletions | None

    @classmethod
    def of(
        cls,
        held_out: HeldOutRatings,
        decisions: NDArray[np.bool_],
        clips: ArrayLike,
        replicates: int,
        rng: np.random.Generator,
        panel: RaterPanel | None,
        hold_out: HoldOut | None,
    ) -> "_Comparison":
        """Count the comparisons; items that no rating of the panel belongs to, or without comparison, are left out."""
        rated = held_out.item if panel is None else np.concatenate([held_out.item, panel.item])
        rows = np.unique(rated)
        bootstrap = Bootstrap.from_units(np.asarray(clips)[rows], replicates, rng)
        deletions = None
        if panel is not None and hold_out is not None:
            bootstrap = replace(bootstrap, resample=panel.resample)
            size, counted = len(decisions), hold_out

            def without(item: IntArray, vote: IntArray) -> FloatArray:
                present = np.bincount(item, vote, size).astype(float)
                left = counted(present, np.bincount(item, minlength=size).astype(float))
                return _contributions(left, decisions)[rows]

            deletions = panel.deletions(without)
        return cls(_contributions(held_out, decisions)[rows], bootstrap, int(held_out.weight.sum()), deletions)

    def accuracy(self) -> Parity:
        """Accuracy of the model and of the raters."""
        model, person = self.bootstrap.estimates(
            self.contributions, _accuracies, n=[self.n] * 2, why=["", ""], deletions=self.deletions
        )
        return self._with_difference(model, person, _accuracies, self.bootstrap.units)

    def balanced_accuracy(self) -> Parity:
        """Balanced accuracy of the model and of the raters."""
        present = self.contributions[:, [TRUE_POSITIVE, FALSE_NEGATIVE]].sum(axis=1) > 0
        absent = self.contributions[:, [FALSE_POSITIVE, TRUE_NEGATIVE]].sum(axis=1) > 0
        units = (
            self.bootstrap.units_with(present, "with a present item"),
            self.bootstrap.units_with(absent, "with an absent item"),
        )
        model, person = (
            balanced_accuracy(
                self.contributions[:, part],
                self.bootstrap,
                units,
                n=self.n,
                why=ONE_CLASS,
                deletions=self._deletions_of(part),
            )
            for part in (MODEL, PERSON)
        )
        if model.value is None or person.value is None:
            return Parity(self.n, model, person, model)
        return self._with_difference(model, person, _balanced_accuracies, min(units))

    def _deletions_of(self, part: slice) -> RecomputedDeletions | None:
        if self.deletions is None:
            return None
        both = self.deletions.contributions
        return replace(self.deletions, contributions=lambda rater: np.asarray(both(rater))[:, part])

    def _with_difference(
        self, model: Estimate, person: Estimate, formula: Callable[[FloatArray], FloatArray], units: Units
    ) -> Parity:
        """Add model minus person with its p-value."""
        replicates = self.bootstrap.replicates(self.contributions, formula, 2)
        [raters] = self.bootstrap.rater_variations(
            self.contributions, lambda sums: -np.diff(formula(sums), axis=-1), 1, self.deletions
        )
        difference, p = paired_difference(
            model.value or 0.0,
            person.value or 0.0,
            replicates[:, 0],
            replicates[:, 1],
            n=self.n,
            units=units,
            raters=raters,
        )
        return Parity(self.n, model, person, difference, p).limited()


def _contributions(held_out: HeldOutRatings, decisions: NDArray[np.bool_]) -> FloatArray:
    """Weighted contributions of the model and of the raters, summed by item: (n, 8)."""
    weight = held_out.weight[:, np.newaxis]
    model = weight * decision_contributions(decisions[held_out.item], held_out.reference)
    person = weight * decision_contributions(held_out.vote, held_out.reference)
    both = np.concatenate([model, person], axis=1)
    return np.stack([np.bincount(held_out.item, column, len(decisions)) for column in both.T], axis=1)


def _accuracies(sums: FloatArray) -> FloatArray:
    return np.stack([decision_metrics(sums[..., part])[..., ACCURACY] for part in (MODEL, PERSON)], axis=-1)


def _balanced_accuracies(sums: FloatArray) -> FloatArray:
    return np.stack([decision_metrics(sums[..., part])[..., BALANCED_ACCURACY] for part in (MODEL, PERSON)], axis=-1)


def leave_one_out_table(
    items: pd.DataFrame, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, others: ArrayLike, names: list[str]
) -> pd.DataFrame:
    """Contents of leave_one_out.csv: all ratings of items with at least two raters.

    Parameters
    ----------
    items : DataFrame, (n, n_key_columns)
        Key of each item.
    item, rater : (k,) int
        Row in `items` and index in `names` of each rating.
    vote : (k,) int
        The ratings: 1 for present, 0 for absent.
    others : (k,) float
        Posterior probability of present without the rater of each rating.
    names : list of str
        Usernames.

    Returns
    -------
    DataFrame
        Columns: the key, `username`, `present` and `ds_present_probability_of_others`, sorted by key and username.
    """
    codes = np.asarray(item, dtype=np.int64)
    usable = np.bincount(codes, minlength=len(items))[codes] >= MIN_RATERS_OF_PAIR
    by_username = np.argsort(np.argsort(np.array(names, dtype=object)))[np.asarray(rater)[usable]] if names else []
    order = np.flatnonzero(usable)[np.lexsort((by_username, key_ranks(items, list(items.columns))[codes[usable]]))]
    rows = items.iloc[codes[order]].reset_index(drop=True)
    return rows.assign(
        username=np.array(names, dtype=object)[np.asarray(rater)[order]],
        present=np.asarray(vote)[order],
        ds_present_probability_of_others=np.asarray(others, dtype=float)[order].round(6),
    )

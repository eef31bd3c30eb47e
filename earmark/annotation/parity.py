"""Leave-one-rater-out comparison: the model in place of a rater.

Human accuracy is measured by holding out each rating and comparing it with the other ratings of the item. Comparing a
model with the majority of all raters is a different task: that majority contains the rating itself, and filters for
ties and unanimity depend on it. Here each held-out rating gives one comparison: the rating and the model's decision on
the same item are scored against the same reference, which only the other raters determine. A model that decides like
the raters has the same accuracy as they have.

An item with p present and a absent ratings compares each present rating with p − 1 present and a absent ones, and each
absent rating with p present and a − 1 absent ones. At least two other raters are required.

`pairwise_parity` does the same with one other rater as the reference, so two raters are enough.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark.annotation.keys import key_ranks
from earmark.metrics.bootstrap import Bootstrap, Units, paired_difference
from earmark.metrics.classification import balanced_accuracy, decision_contributions, decision_metrics
from earmark.metrics.estimate import Estimate
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
MIN_OTHER_RATERS = 2
BALANCED_ACCURACY, ACCURACY = 0, 1  # positions in decision_metrics
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


def human_parity(
    held_out: HeldOutRatings, decisions: NDArray[np.bool_], clips: ArrayLike, replicates: int, rng: np.random.Generator
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

    Returns
    -------
    Parity
        Undefined, with a reason, if there is no held-out rating or all references have the same class.
    """
    n = int(held_out.weight.sum())
    if not n:
        return Parity.undefined(NO_HELD_OUT_RATING)
    bootstrap = Bootstrap.from_units(np.asarray(clips)[held_out.item], replicates, rng)
    return _balanced_accuracies(held_out, decisions, bootstrap)


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
    bootstrap = Bootstrap.from_units(np.asarray(clips)[pairs.item], replicates, rng)
    return PairwiseParity(_balanced_accuracies(pairs, decisions, bootstrap), _accuracies(pairs, decisions, bootstrap))


def _contributions(held_out: HeldOutRatings, decisions: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Weighted contributions of the model and of the raters, (k, 4) each."""
    weight = held_out.weight[:, np.newaxis]
    model = weight * decision_contributions(decisions[held_out.item], held_out.reference)
    return model, weight * decision_contributions(held_out.vote, held_out.reference)


def _accuracies(held_out: HeldOutRatings, decisions: NDArray[np.bool_], bootstrap: Bootstrap) -> Parity:
    """Accuracy of the model and of the raters."""
    both, n = np.concatenate(_contributions(held_out, decisions), axis=1), int(held_out.weight.sum())

    def accuracies(sums: FloatArray) -> FloatArray:
        return np.stack([decision_metrics(part)[..., ACCURACY] for part in (sums[..., :4], sums[..., 4:])], axis=-1)

    model, person = bootstrap.estimates(both, accuracies, n=[n, n], why=["", ""])
    difference, p = _difference(model, person, bootstrap.replicates(both, accuracies, 2), n, bootstrap.units)
    return Parity(n, model, person, difference, p)


def _difference(
    model: Estimate, person: Estimate, replicates: FloatArray, n: int, units: Units
) -> tuple[Estimate, float | None]:
    """Model minus person with its p-value; the interval stays within [-1, 1]."""
    difference, p = paired_difference(
        model.value or 0.0, person.value or 0.0, replicates[:, 0], replicates[:, 1], n=n, units=units
    )
    if difference.low is not None and difference.high is not None:
        difference = replace(difference, low=max(difference.low, -1.0), high=min(difference.high, 1.0))
    return difference, p


def _balanced_accuracies(held_out: HeldOutRatings, decisions: NDArray[np.bool_], bootstrap: Bootstrap) -> Parity:
    """Balanced accuracy of the model and of the raters."""
    model, person = _contributions(held_out, decisions)
    n = int(held_out.weight.sum())
    class_units = bootstrap.units_of_classes(held_out.reference)
    estimates = [balanced_accuracy(sums, bootstrap, class_units, n=n, why=ONE_CLASS) for sums in (model, person)]
    if estimates[0].value is None or estimates[1].value is None:
        return Parity(n, estimates[0], estimates[1], estimates[0])

    def balanced_accuracies(sums: FloatArray) -> FloatArray:
        parts = (sums[..., :4], sums[..., 4:8])
        return np.stack([decision_metrics(part)[..., BALANCED_ACCURACY] for part in parts], axis=-1)

    both = bootstrap.replicates(np.concatenate([model, person], axis=1), balanced_accuracies, 2)
    difference, p = _difference(estimates[0], estimates[1], both, n, min(class_units))
    return Parity(n, estimates[0], estimates[1], difference, p)


def leave_one_out_table(
    items: pd.DataFrame, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, others: ArrayLike, names: list[str]
) -> pd.DataFrame:
    """Contents of leave_one_out.csv: all ratings of items with at least three raters.

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
    usable = np.bincount(codes, minlength=len(items))[codes] > MIN_OTHER_RATERS
    by_username = np.argsort(np.argsort(np.array(names, dtype=object)))[np.asarray(rater)[usable]] if names else []
    order = np.flatnonzero(usable)[np.lexsort((by_username, key_ranks(items, list(items.columns))[codes[usable]]))]
    rows = items.iloc[codes[order]].reset_index(drop=True)
    return rows.assign(
        username=np.array(names, dtype=object)[np.asarray(rater)[order]],
        present=np.asarray(vote)[order],
        ds_present_probability_of_others=np.asarray(others, dtype=float)[order].round(6),
    )

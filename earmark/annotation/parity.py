"""Leave-one-rater-out comparison: the model in place of a rater.

Human accuracy is measured by holding out each rating and comparing it with the other ratings of the item. Comparing a
model with the majority of all raters is a different task: that majority contains the rating itself, and filters for
ties and unanimity depend on it. Here each held-out rating gives one comparison: the rating and the model's decision on
the same item are scored against the same reference, which only the other raters determine. A model that decides like
the raters has the same accuracy as they have.

An item with p present and a absent ratings compares each present rating with p − 1 present and a absent ones, and each
absent rating with p present and a − 1 absent ones. At least two other raters are required.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.bootstrap import Bootstrap, paired_difference
from earmark.metrics.classification import balanced_accuracy, decision_contributions, decision_metrics
from earmark.metrics.estimate import Estimate
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
MIN_OTHER_RATERS = 2
BALANCED_ACCURACY = 0  # position in decision_metrics
NO_HELD_OUT_RATING = "no rating with at least two other raters and a defined reference"
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
        Balanced accuracy of the model in place of the raters, and of the raters.
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
    weight = held_out.weight[:, np.newaxis]
    model = weight * decision_contributions(decisions[held_out.item], held_out.reference)
    person = weight * decision_contributions(held_out.vote, held_out.reference)
    n = int(held_out.weight.sum())
    if not n:
        return Parity.undefined(NO_HELD_OUT_RATING)
    bootstrap = Bootstrap.from_units(np.asarray(clips)[held_out.item], replicates, rng)
    class_units = bootstrap.units_of_classes(held_out.reference)
    estimates = [balanced_accuracy(sums, bootstrap, class_units, n=n, why=ONE_CLASS) for sums in (model, person)]
    if estimates[0].value is None or estimates[1].value is None:
        return Parity(n, estimates[0], estimates[1], estimates[0])

    def balanced_accuracies(sums: FloatArray) -> FloatArray:
        parts = (sums[..., :4], sums[..., 4:8])
        return np.stack([decision_metrics(part)[..., BALANCED_ACCURACY] for part in parts], axis=-1)

    both = bootstrap.replicates(np.concatenate([model, person], axis=1), balanced_accuracies, 2)
    difference, p = paired_difference(
        estimates[0].value, estimates[1].value, both[:, 0], both[:, 1], n=n, units=min(class_units)
    )
    if difference.low is not None and difference.high is not None:
        difference = replace(difference, low=max(difference.low, -1.0), high=min(difference.high, 1.0))
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
    rows = items.iloc[codes[usable]].reset_index(drop=True)
    table = rows.assign(
        username=[names[code] for code in np.asarray(rater)[usable]],
        present=np.asarray(vote)[usable],
        ds_present_probability_of_others=np.asarray(others, dtype=float)[usable].round(6),
    )
    return table.sort_values([*items.columns, "username"], ignore_index=True)

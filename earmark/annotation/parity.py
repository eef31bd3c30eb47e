"""A model in each person's place: both held against the other people on the same items.

A person is held against the others on an item, so a model that is held against everybody is not at the same task: the
majority of all contains the person's own vote, and items on which all agree, or whose tie a vote makes, are chosen by
it. Here every rating is a place: the person's answer and the model's answer to the same question, against the same
reference, which only the others make. A person and a model that answer alike then score alike.

With votes p present and a absent on an item, those who said present face p − 1 and a, those who said absent face p and
a − 1. At least two others are needed.
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
BALANCED = 0  # place of balanced accuracy in decision_metrics
NO_PLACE = "no rating faces two others that say anything"
ONE_CLASS = "what the others say is all of one class"


@dataclass(frozen=True)
class HeldOutRatings:
    """Ratings and what the others say, equal ones on an item together.

    item: (k,) rows of the items. weight: (k,) how many ratings. vote: (k,) True for present. reference: (k,) the share
    that is present: 0 or 1, or for soft labels the share of the others.
    """

    item: NDArray[np.int64]
    weight: FloatArray
    vote: NDArray[np.bool_]
    reference: FloatArray

    @classmethod
    def from_counts(cls, present: ArrayLike, raters: ArrayLike, *, soft: bool, unanimous: bool) -> "HeldOutRatings":
        """From (n,) present votes and raters of items.

        soft: the others' share is the reference; else their majority, where they are not tied. unanimous: only where
        the others all agree.

        >>> places = HeldOutRatings.from_counts([3, 2], [4, 4], soft=False, unanimous=False)
        >>> places.item.tolist(), places.weight.tolist(), places.vote.tolist(), places.reference.tolist()
        ([0, 1, 0, 1], [3.0, 2.0, 1.0, 2.0], [True, True, False, False], [1.0, 0.0, 1.0, 1.0])
        """
        p, n = np.asarray(present, dtype=float), np.asarray(raters, dtype=float)
        parts = []
        for vote, votes in ((True, p), (False, n - p)):
            others_present, others = p - vote, n - 1
            share = ratio(others_present, others, empty=0.5)
            there = (votes > 0) & (others >= MIN_OTHER_RATERS)
            if unanimous:
                there &= (share == 0) | (share == 1)
            if not soft:
                there &= share != 0.5
            reference = share if soft else (share > 0.5).astype(float)
            rows = np.flatnonzero(there)
            parts.append((rows, votes[rows], np.full(len(rows), vote), reference[rows]))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @classmethod
    def from_posteriors(cls, item: ArrayLike, vote: ArrayLike, probability: ArrayLike) -> "HeldOutRatings":
        """From single ratings, (k,): the item's row, the vote, and the posterior that the others' votes give."""
        share = np.asarray(probability, dtype=float)
        known = np.isfinite(share) & (share != 0.5)
        rows, votes = np.asarray(item, dtype=np.int64)[known], np.asarray(vote, dtype=bool)[known]
        return cls(rows, np.ones(len(rows)), votes, (share[known] > 0.5).astype(float))

    def take(self, kept: NDArray[np.bool_]) -> "HeldOutRatings":
        """Some of the places."""
        return HeldOutRatings(self.item[kept], self.weight[kept], self.vote[kept], self.reference[kept])


@dataclass(frozen=True)
class Parity:
    """Balanced accuracy of a model in each person's place, of a person there, and their difference (model less person).

    n: ratings. p: two-sided, None where there is none.
    """

    n: int
    model: Estimate
    person: Estimate
    difference: Estimate
    p: float | None = None

    @classmethod
    def undefined(cls, reason: str) -> "Parity":
        """What stands for the comparison where it cannot be made."""
        none = Estimate(None, why=reason)
        return cls(0, none, none, none)


def human_parity(
    places: HeldOutRatings, decisions: NDArray[np.bool_], clips: ArrayLike, replicates: int, rng: np.random.Generator
) -> Parity:
    """Balanced accuracy of the model and of a person in the same places, and their paired difference.

    decisions: (n,) the model's answers to the items. clips: (n,) what is resampled together.
    """
    weight = places.weight[:, np.newaxis]
    model = weight * decision_contributions(decisions[places.item], places.reference)
    person = weight * decision_contributions(places.vote, places.reference)
    n = int(places.weight.sum())
    if not n:
        return Parity.undefined(NO_PLACE)
    bootstrap = Bootstrap.from_units(np.asarray(clips)[places.item], replicates, rng)
    of_classes = bootstrap.units_of_classes(places.reference)
    estimates = [balanced_accuracy(each, bootstrap, of_classes, n=n, why=ONE_CLASS) for each in (model, person)]
    if estimates[0].value is None or estimates[1].value is None:
        return Parity(n, estimates[0], estimates[1], estimates[0])

    def both(sums: FloatArray) -> FloatArray:
        return np.stack([decision_metrics(sums[..., half])[..., BALANCED] for half in (slice(4), slice(4, 8))], axis=-1)

    drawn = bootstrap.replicates(np.concatenate([model, person], axis=1), both, 2)
    difference, p = paired_difference(
        estimates[0].value, estimates[1].value, drawn[:, 0], drawn[:, 1], n=n, units=min(of_classes)
    )
    if difference.low is not None and difference.high is not None:
        difference = replace(difference, low=max(difference.low, -1.0), high=min(difference.high, 1.0))
    return Parity(n, estimates[0], estimates[1], difference, p)


def leave_one_out_table(
    items: pd.DataFrame, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, others: ArrayLike, names: list[str]
) -> pd.DataFrame:
    """leave_one_out.csv: a row for each rating of an item that three people or more rated.

    items: (n, key). item, rater, vote, others: (ratings,) codes, 0 or 1, and the posterior without the rating.
    """
    codes = np.asarray(item, dtype=np.int64)
    kept = np.bincount(codes, minlength=len(items))[codes] > MIN_OTHER_RATERS
    rows = items.iloc[codes[kept]].reset_index(drop=True)
    table = rows.assign(
        username=[names[code] for code in np.asarray(rater)[kept]],
        present=np.asarray(vote)[kept],
        ds_present_probability_of_others=np.asarray(others, dtype=float)[kept].round(6),
    )
    return table.sort_values([*items.columns, "username"], ignore_index=True)

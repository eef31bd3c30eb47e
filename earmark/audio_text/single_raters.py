"""The model and the raters against single raters, on nominal, ordinal and interval scales.

Each rater is judged by each other rater alone, on the items that both rated, and the model by the same rater on the
same items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from earmark.annotation.new_raters import ComparedScore, for_new_raters
from earmark.annotation.parity import Parity
from earmark.metrics.bootstrap import Bootstrap, paired_difference
from earmark.metrics.choice import CHOICE_METRICS, choice_contributions, choice_metrics, compare_choices
from earmark.metrics.group_correlation import (
    NO_GROUP,
    GroupCorrelations,
    moment_replicates,
    spearman_replicates,
)
from earmark.metrics.interval_agreement import concordance, correlation
from earmark.metrics.intervals import COEFFICIENT
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]

MEAN_RATING = "mean_rating_"
ZERO_SHOT = "zero_shot_"
MOST_PAIRS = 1_000_000  # of ratings, beyond which correlations of pairs would take minutes
MOST_RANKED_PAIRS = 50_000  # beyond which they have no rank correlations, whose replicates rank anew
NO_PAIR = "no two raters have three common items whose ratings vary"
NO_PAIR_OF_RATINGS = "no item with two raters has a score"
ALL_EQUAL = "the model gives all items the same similarity"
TOO_MANY_PAIRS = f"there are more than {MOST_PAIRS:,} pairs of ratings of the same item"


@dataclass(frozen=True)
class Ratings:
    """Single ratings of items.

    Attributes
    ----------
    item, rater : (m,) int
        Row of the item, and rater, 0 … number of raters − 1.
    value : (m,) float
        The number, level or position of the class.
    """

    item: IntArray
    rater: IntArray
    value: FloatArray

    def of_items(self, items: Mask) -> "Ratings":
        """Ratings of some of the items. items: (n,) bool."""
        kept = items[self.item]
        return Ratings(self.item[kept], self.rater[kept], self.value[kept])


@dataclass(frozen=True)
class SingleRaters:
    """Scores of the model and of the raters on the same comparisons.

    Attributes
    ----------
    by_name : dict of str to Parity
        By name of the score; empty if there is no comparison.
    why : str
        Why there is none.
    groups, groups_left_out : int
        Raters or pairs of raters over which correlations are averaged, and those with too few items or without
        variation.
    """

    by_name: Mapping[str, Parity] = field(default_factory=dict)
    why: str = ""
    groups: int = 0
    groups_left_out: int = 0


# --- correlations -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparedNumbers:
    """Ratings with the reference that they and the similarities are correlated with.

    Attributes
    ----------
    at : (k,) int
        Position of the rating in `Ratings`.
    group : (k,) int
        Correlations are within groups: of a rater, or of a pair of raters.
    reference : (k,) float
    """

    at: IntArray
    group: IntArray
    reference: FloatArray


def paired_numbers(ratings: Ratings, keep: Mask) -> ComparedNumbers:
    """Each rating with each other rating of the item.

    Parameters
    ----------
    ratings : Ratings
    keep : (m,) bool
        Ratings that exist.

    Returns
    -------
    ComparedNumbers
        r (r − 1) rows for an item with r raters; the group is the ordered pair of raters.

    Examples
    --------
    >>> ratings = Ratings(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 3.0, 2.0]))
    >>> pairs = paired_numbers(ratings, np.full(3, True))
    >>> pairs.at.tolist(), pairs.reference.tolist()
    ([0, 1], [3.0, 1.0])
    """
    own = pd.DataFrame({"item": ratings.item[keep], "at": np.flatnonzero(keep)})
    both = own.merge(own, on="item", suffixes=("", "_other"))
    both = both[both["at"] != both["at_other"]]
    at, other = (both[column].to_numpy(dtype=np.int64) for column in ("at", "at_other"))
    raters = int(ratings.rater.max(initial=-1)) + 1
    return ComparedNumbers(at, _codes(ratings.rater[at] * raters + ratings.rater[other]), ratings.value[other])


def _codes(values: IntArray) -> IntArray:
    """Numbers from 0 without gaps."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64).ravel()


@dataclass(frozen=True)
class ScoredItems:
    """What the model said of the items.

    Attributes
    ----------
    similarity, scaled : (n,) float
        As it is and on the scale of the ratings; NaN where an item has none.
    sentence : (n,) int
        Number of the sentence of each item; all 0 for one sentence.
    clips : (n,) str
    """

    similarity: FloatArray
    scaled: FloatArray
    sentence: IntArray
    clips: NDArray[np.str_]


def compare_numbers(
    ratings: Ratings,
    items: ScoredItems,
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
) -> SingleRaters:
    """Correlations of the model and of the raters with the same references.

    Parameters
    ----------
    ratings : Ratings
        All ratings of the items; items without a similarity are left out.
    items : ScoredItems
    replicates : int
        Number of bootstrap replicates.
    rng : numpy.random.Generator
    resample : {"clips", "raters", "both"}
        What intervals speak for.

    Returns
    -------
    SingleRaters
        Means over the groups for which both correlations are defined. No rank correlations of more than
        MOST_RANKED_PAIRS pairs of ratings.
    """
    scored = np.isfinite(items.similarity)
    ratings = ratings.of_items(scored)
    if scored.any() and np.ptp(items.similarity[scored]) == 0:
        return SingleRaters(why=ALL_EQUAL)
    if (np.bincount(ratings.item).astype(float) ** 2).sum() - len(ratings.item) > MOST_PAIRS:
        return SingleRaters(why=TOO_MANY_PAIRS)
    rows = paired_numbers(ratings, np.full(len(ratings.item), True))
    if not len(rows.at):
        return SingleRaters(why=NO_PAIR)
    used = np.unique(rows.at)
    drawn = Bootstrap.from_units(items.clips[ratings.item[used]], replicates, rng, resample=resample)
    position = np.zeros(len(ratings.item), dtype=np.int64)
    position[used] = np.arange(len(used))
    ranked = len(rows.at) <= MOST_RANKED_PAIRS
    found = _correlations(ratings, items, rows, drawn.take(position[rows.at]), ranked)
    first = found["spearman" if ranked else "pearson"]
    defined = first[0].defined & first[1].defined
    if not defined.any():
        return SingleRaters(why=NO_PAIR, groups_left_out=len(defined))
    names = list(found)

    def evaluate(keep: Mask, bootstrap: Bootstrap) -> FloatArray:
        existing = np.zeros(len(ratings.item), dtype=bool)
        existing[used] = keep
        own = paired_numbers(ratings, existing)
        return _values(
            names, _correlations(ratings, items, own, bootstrap.take(position[own.at]), ranked), len(bootstrap.weights)
        )

    scores = [
        ComparedScore(MEAN_RATING + name, _paired(*pair), _shared(*pair)[0].units, COEFFICIENT)
        for name, pair in found.items()
    ]
    by_name = for_new_raters(scores, evaluate, ratings.rater[used], drawn)
    return SingleRaters(by_name, "", int(defined.sum()), int((~defined).sum()))


Pair = tuple[GroupCorrelations, GroupCorrelations]


def _correlations(
    ratings: Ratings, items: ScoredItems, rows: ComparedNumbers, bootstrap: Bootstrap, ranked: bool
) -> dict[str, Pair]:
    """Correlations of the model and of the raters by name, within the groups of `rows`; ranked: also Spearman's."""
    item, rating = ratings.item[rows.at], ratings.value[rows.at]
    both = (items.similarity[item], rating)

    def compared(group: IntArray, suffix: str = "") -> dict[str, Pair]:
        values = tuple(moment_replicates(correlation, x, rows.reference, group, bootstrap) for x in both)
        of_values = {f"pearson{suffix}": (values[0], values[1])}
        if not ranked:
            return of_values
        ranks = tuple(spearman_replicates(x, rows.reference, group, bootstrap) for x in both)
        return {f"spearman{suffix}": (ranks[0], ranks[1]), **of_values}

    found = compared(rows.group)
    if items.sentence.max(initial=0) > 0:
        sentence = items.sentence[item]
        by_prompt = _codes(rows.group * (int(items.sentence.max()) + 1) + sentence)
        found = {**compared(by_prompt, "_by_prompt"), **found}
    if np.isfinite(items.scaled[np.isfinite(items.similarity)]).all():
        x = (items.scaled[item], rating)
        ours, theirs = (moment_replicates(concordance, own, rows.reference, rows.group, bootstrap) for own in x)
        found["concordance"] = (ours, theirs)
    return found


def _values(names: Sequence[str], found: Mapping[str, Pair], replicates: int) -> FloatArray:
    """Means over groups on the data and on the replicates, (1 + replicates, names, 2)."""
    values = np.full((1 + replicates, len(names), 2), np.nan)
    for place, name in enumerate(names):
        for who, own in enumerate(_shared(*found[name])):
            values[0, place, who] = own.mean_value
            values[1 : 1 + len(own.replicates), place, who] = own.mean_replicates
    return values


def _shared(model: GroupCorrelations, person: GroupCorrelations) -> Pair:
    """Both with values for the groups alone in which both have one."""
    shared = model.defined & person.defined
    return model.only(shared), person.only(shared)


def _paired(model: GroupCorrelations, person: GroupCorrelations) -> Parity:
    """Means over the groups in which both have a value, and the paired difference."""
    ours, theirs = _shared(model, person)
    if not ours.defined.any():
        return Parity.undefined(NO_GROUP)
    difference, p = paired_difference(
        ours.mean_value, theirs.mean_value, ours.mean_replicates, theirs.mean_replicates, n=ours.n, units=ours.units
    )
    return Parity(ours.n, ours.mean(), theirs.mean(), difference, p).limited(COEFFICIENT)


# --- choice among classes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparedAnswers:
    """Answers of raters with the reference that they and the model's answers are judged by.

    Attributes
    ----------
    at : (k,) int
        Position in `Ratings` of a rating of the item.
    answer : (k,) int
        The rater's class.
    reference : (k, K) float
        Weight of each class in the reference.
    """

    at: IntArray
    answer: IntArray
    reference: FloatArray

    @property
    def n(self) -> int:
        """Number of comparisons, each of weight 1."""
        return round(float(self.reference.sum()))


def paired_answers(ratings: Ratings, keep: Mask, classes: int) -> ComparedAnswers:
    """Each rating with each other rating of the item; equal ratings of an item share a row.

    Parameters
    ----------
    ratings : Ratings
    keep : (m,) bool
        Ratings that exist.
    classes : int
        K.

    Returns
    -------
    ComparedAnswers
        The weights of an item with r raters sum to r (r − 1).

    Examples
    --------
    >>> ratings = Ratings(np.zeros(3, int), np.arange(3), np.array([0.0, 0.0, 1.0]))
    >>> found = paired_answers(ratings, np.full(3, True), 2)
    >>> found.answer.tolist(), found.reference.tolist()
    ([0, 1], [[2.0, 2.0], [2.0, 0.0]])
    """
    at = np.flatnonzero(keep)
    item = ratings.item[at]
    counts = _counts(item, ratings.value[at].astype(np.int64), classes)
    row, answer = np.nonzero(counts)
    own = counts[row, answer]
    others = counts[row].copy()
    others[np.arange(len(row)), answer] -= 1
    reference = own[:, np.newaxis] * others
    compared = reference.any(axis=1)
    first = np.full(len(counts), -1, dtype=np.int64)
    first[item[::-1]] = at[::-1]
    return ComparedAnswers(first[row[compared]], answer[compared].astype(np.int64), reference[compared])


def _counts(item: IntArray, value: IntArray, classes: int) -> FloatArray:
    """Ratings of each item by class, (items, K)."""
    counts = np.zeros((int(item.max(initial=-1)) + 1, classes))
    np.add.at(counts, (item, value), 1.0)
    return counts


def compare_answers(
    ratings: Ratings,
    answers: IntArray,
    classes: int,
    clips: NDArray[np.str_],
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
) -> SingleRaters:
    """Scores of the model's answers and of the raters' against the same references.

    Parameters
    ----------
    ratings : Ratings
        All ratings of the items with an answer.
    answers : (n,) int
        Position of the class that the model answers; -1 without an answer.
    classes : int
        K.
    clips : (n,) str
    replicates : int
        Number of bootstrap replicates.
    rng : numpy.random.Generator
    resample : {"clips", "raters", "both"}
        What intervals speak for.

    Returns
    -------
    SingleRaters
        Without scores and with the reason if there is nothing to compare.
    """
    rows = paired_answers(ratings, np.full(len(ratings.item), True), classes)
    if not len(rows.at):
        return SingleRaters(why=NO_PAIR_OF_RATINGS)
    known = np.isin(ratings.item, ratings.item[rows.at])  # all ratings of the items that are compared
    position = np.cumsum(known) - 1
    drawn = Bootstrap.from_units(clips[ratings.item[known]], replicates, rng, resample=resample)
    taken = drawn.take(position[rows.at])
    given = answers[ratings.item[rows.at]]
    compared = compare_choices(given, rows.answer, rows.reference, taken)
    rarest = min(
        taken.units_with(rows.reference[:, c] > 0, "of the rarest class")
        for c in range(classes)
        if rows.reference[:, c].any()
    )

    def evaluate(keep: Mask, bootstrap: Bootstrap) -> FloatArray:
        existing = known.copy()
        existing[known] = keep
        own = paired_answers(ratings, existing, classes)
        inside = known[own.at]
        at, reference = own.at[inside], own.reference[inside]
        sums = [
            choice_contributions(answered, reference) for answered in (answers[ratings.item[at]], own.answer[inside])
        ]
        return _choice_values(sums, classes, bootstrap.take(position[at]), len(bootstrap.weights))

    scores = []
    for name, (model, person, difference, p) in compared.items():
        model, person, difference = (replace(estimate, n=rows.n) for estimate in (model, person, difference))
        units = taken.units if name == "accuracy" else rarest
        scores.append(ComparedScore(ZERO_SHOT + name, Parity(rows.n, model, person, difference, p).limited(), units))
    return SingleRaters(for_new_raters(scores, evaluate, ratings.rater[known], drawn))


def _choice_values(sums: Sequence[sparse.csr_array], classes: int, bootstrap: Bootstrap, replicates: int) -> FloatArray:
    """Scores on the data and on the replicates, (1 + replicates, scores, 2)."""
    values = np.full((1 + replicates, len(CHOICE_METRICS), 2), np.nan)
    for who, own in enumerate(sums):
        if not own.shape[0]:
            continue
        values[0, :, who] = choice_metrics(np.asarray(own.sum(axis=0), dtype=float).ravel(), classes)
        drawn = bootstrap.replicates(own, lambda total: choice_metrics(total, classes), len(CHOICE_METRICS))
        values[1 : 1 + len(drawn), :, who] = drawn
    return values

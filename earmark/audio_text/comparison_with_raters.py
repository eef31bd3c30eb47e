"""The model and the raters on the same ratings, on nominal, ordinal and interval scales.

Each rating is left out in turn. The rating and the model's answer to the same item are compared with the same
reference: what the other raters of the item say together, or what each of them says alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from earmark.annotation.new_raters import ComparedScore, for_new_raters
from earmark.annotation.parity import MIN_OTHER_RATERS, Parity
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
NO_RATER = "no rater has three items whose ratings and references vary"
NO_PAIR = "no two raters have three common items whose ratings vary"
NO_RATING = "no rating with at least two other raters who have a majority"
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
class ComparisonWithRaters:
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


def numbers_and_others(ratings: Ratings, keep: Mask) -> ComparedNumbers:
    """Each rating with the mean of the other ratings of the item.

    Parameters
    ----------
    ratings : Ratings
    keep : (m,) bool
        Ratings that exist.

    Returns
    -------
    ComparedNumbers
        One row for each rating of an item with at least two raters; the group is the rater.

    Examples
    --------
    >>> ratings = Ratings(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), np.array([1.0, 3.0, 4.0, 2.0]))
    >>> rows = numbers_and_others(ratings, np.full(4, True))
    >>> rows.at.tolist(), rows.reference.tolist()
    ([0, 1, 2], [3.5, 2.5, 2.0])
    """
    item, value = ratings.item[keep], ratings.value[keep]
    others = np.bincount(item)[item] - 1
    left = others > 0
    mean = (np.bincount(item, value)[item] - value)[left] / others[left]
    return ComparedNumbers(np.flatnonzero(keep)[left], _codes(ratings.rater[keep][left]), mean)


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


def numbers_against_others(
    ratings: Ratings, items: ScoredItems, replicates: int, rng: np.random.Generator, resample: Resample = "clips"
) -> ComparisonWithRaters:
    """Correlations of the model and of the raters with the mean of the other raters, on the items of each rater.

    Parameters
    ----------
    ratings : Ratings
        All ratings of the items; items without a similarity are left out.
    items : ScoredItems
    replicates : int
        Number of bootstrap replicates.
    rng : numpy.random.Generator
    resample : {"clips", "raters", "both"}
        What intervals speak for. For new raters the similarities keep their scale.

    Returns
    -------
    ComparisonWithRaters
        Means over the raters for whom both correlations are defined.
    """
    return _compare_numbers(numbers_and_others, NO_RATER, ratings, items, replicates, rng, resample)


def numbers_against_single_raters(
    ratings: Ratings, items: ScoredItems, replicates: int, rng: np.random.Generator, resample: Resample = "clips"
) -> ComparisonWithRaters:
    """Correlations of the model and of the raters with each other rater, on the items that both raters rated.

    Parameters
    ----------
    ratings, items, replicates, rng, resample
        As for `numbers_against_others`.

    Returns
    -------
    ComparisonWithRaters
        Means over the pairs of raters for whom both correlations are defined. No rank correlations of more than
        MOST_RANKED_PAIRS pairs of ratings, and no correlations of more than MOST_PAIRS.
    """
    per_item = np.bincount(ratings.of_items(np.isfinite(items.similarity)).item).astype(float)
    n_pairs = (per_item * (per_item - 1)).sum()
    if n_pairs > MOST_PAIRS:
        return ComparisonWithRaters(why=TOO_MANY_PAIRS)
    ranked = bool(n_pairs <= MOST_RANKED_PAIRS)
    return _compare_numbers(paired_numbers, NO_PAIR, ratings, items, replicates, rng, resample, ranked)


def _compare_numbers(
    rows_of: Callable[[Ratings, Mask], ComparedNumbers],
    undefined: str,
    ratings: Ratings,
    items: ScoredItems,
    replicates: int,
    rng: np.random.Generator,
    resample: Resample,
    ranked: bool = True,
) -> ComparisonWithRaters:
    """Correlations within the groups of `rows_of`; ranked: also Spearman's; undefined: why there are none."""
    ratings = ratings.of_items(np.isfinite(items.similarity))
    rows = rows_of(ratings, np.full(len(ratings.item), True))
    if not len(rows.at):
        return ComparisonWithRaters(why=undefined)
    used = np.unique(rows.at)
    drawn = Bootstrap.from_units(items.clips[ratings.item[used]], replicates, rng, resample=resample)
    position = np.zeros(len(ratings.item), dtype=np.int64)
    position[used] = np.arange(len(used))
    found = _correlations(ratings, items, rows, drawn.take(position[rows.at]), ranked)
    first = found["spearman" if ranked else "pearson"]
    defined = first[0].defined & first[1].defined
    if not defined.any():
        equal = np.ptp(items.similarity[ratings.item[used]]) == 0
        return ComparisonWithRaters(why=ALL_EQUAL if equal else undefined, groups_left_out=len(defined))
    names = list(found)

    def evaluate(keep: Mask, bootstrap: Bootstrap) -> FloatArray:
        existing = np.zeros(len(ratings.item), dtype=bool)
        existing[used] = keep
        own = rows_of(ratings, existing)
        left = _correlations(ratings, items, own, bootstrap.take(position[own.at]), ranked)
        return _values(names, left, len(bootstrap.weights))

    scores = [
        ComparedScore(MEAN_RATING + name, _paired(*pair), _shared(*pair)[0].units, COEFFICIENT)
        for name, pair in found.items()
    ]
    by_name = for_new_raters(scores, evaluate, ratings.rater[used], drawn)
    return ComparisonWithRaters(by_name, "", int(defined.sum()), int((~defined).sum()))


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


def answers_and_others(ratings: Ratings, keep: Mask, classes: int, *, soft: bool, unanimous: bool) -> ComparedAnswers:
    """Each rating with what the other raters of the item say together.

    Parameters
    ----------
    ratings : Ratings
    keep : (m,) bool
        Ratings that exist.
    classes : int
        K.
    soft : bool
        Whether the reference is the share of the other raters; otherwise it is their majority, and ties are dropped.
    unanimous : bool
        Whether to keep only ratings whose other raters all agree.

    Returns
    -------
    ComparedAnswers
        One row for each rating with at least two other raters and a reference.

    Examples
    --------
    Three raters chose the classes 0, 0 and 1. Without one of the first two the others are tied.

    >>> ratings = Ratings(np.zeros(3, int), np.arange(3), np.array([0.0, 0.0, 1.0]))
    >>> found = answers_and_others(ratings, np.full(3, True), 2, soft=False, unanimous=False)
    >>> found.answer.tolist(), found.reference.tolist()
    ([1], [[1.0, 0.0]])
    """
    at = np.flatnonzero(keep)
    item, value = ratings.item[at], ratings.value[at].astype(np.int64)
    others = _counts(item, value, classes)[item]
    others[np.arange(len(item)), value] -= 1
    number, most = others.sum(axis=1), others.max(axis=1, initial=0)
    reference = (others == most[:, np.newaxis]).astype(float)
    usable = (number >= MIN_OTHER_RATERS) & ((reference.sum(axis=1) == 1) | soft)
    usable &= (most == number) | (not unanimous)
    reference = others / np.maximum(number, 1)[:, np.newaxis] if soft else reference
    return ComparedAnswers(at[usable], value[usable], reference[usable])


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


def answers_against_others(
    ratings: Ratings,
    answers: IntArray,
    classes: int,
    clips: NDArray[np.str_],
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
    *,
    soft: bool = False,
    unanimous: bool = False,
) -> ComparisonWithRaters:
    """Scores of the model's answers and of the raters' against what the other raters say together.

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
    soft, unanimous : bool
        As for `answers_and_others`.

    Returns
    -------
    ComparisonWithRaters
        Without scores and with the reason if there is nothing to compare.
    """
    rows_of = partial(answers_and_others, classes=classes, soft=soft, unanimous=unanimous)
    return _compare_answers(rows_of, NO_RATING, ratings, answers, classes, clips, replicates, rng, resample)


def answers_against_single_raters(
    ratings: Ratings,
    answers: IntArray,
    classes: int,
    clips: NDArray[np.str_],
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
) -> ComparisonWithRaters:
    """Scores of the model's answers and of the raters' against each other rater of the item.

    Parameters
    ----------
    ratings, answers, classes, clips, replicates, rng, resample
        As for `answers_against_others`.

    Returns
    -------
    ComparisonWithRaters
        Without scores and with the reason if there is nothing to compare.
    """
    rows_of = partial(paired_answers, classes=classes)
    return _compare_answers(rows_of, NO_PAIR_OF_RATINGS, ratings, answers, classes, clips, replicates, rng, resample)


def _compare_answers(
    rows_of: Callable[[Ratings, Mask], ComparedAnswers],
    undefined: str,
    ratings: Ratings,
    answers: IntArray,
    classes: int,
    clips: NDArray[np.str_],
    replicates: int,
    rng: np.random.Generator,
    resample: Resample,
) -> ComparisonWithRaters:
    """Scores on the rows of `rows_of`; undefined: why there are none."""
    rows = rows_of(ratings, np.full(len(ratings.item), True))
    if not len(rows.at):
        return ComparisonWithRaters(why=undefined)
    known = np.isin(ratings.item, ratings.item[rows.at])  # all ratings of the items that are compared
    position = np.cumsum(known) - 1
    drawn = Bootstrap.from_units(clips[ratings.item[known]], replicates, rng, resample=resample)
    taken = drawn.take(position[rows.at])
    compared = compare_choices(answers[ratings.item[rows.at]], rows.answer, rows.reference, taken)
    rarest = min(
        taken.units_with(rows.reference[:, c] > 0, "of the rarest class")
        for c in range(classes)
        if rows.reference[:, c].any()
    )

    def evaluate(keep: Mask, bootstrap: Bootstrap) -> FloatArray:
        existing = known.copy()
        existing[known] = keep
        own = rows_of(ratings, existing)
        sums = [
            choice_contributions(answered, own.reference) for answered in (answers[ratings.item[own.at]], own.answer)
        ]
        return _choice_values(sums, classes, bootstrap.take(position[own.at]), len(bootstrap.weights))

    scores = []
    for name, (model, person, difference, p) in compared.items():
        model, person, difference = (replace(estimate, n=rows.n) for estimate in (model, person, difference))
        units = taken.units if name == "accuracy" else rarest
        scores.append(ComparedScore(ZERO_SHOT + name, Parity(rows.n, model, person, difference, p).limited(), units))
    return ComparisonWithRaters(for_new_raters(scores, evaluate, ratings.rater[known], drawn))


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

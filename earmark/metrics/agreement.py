"""Agreement between raters.

Three shapes, each the smallest that a coefficient needs:
  ratings    (raters, items) codes 0, 1, …, NaN where a rater did not rate an item
  counts     (items, categories) how many raters put the item into the category
  confusion  (…, categories, categories) two raters' ratings of the items both rated

Policy. A missing rating is not a disagreement: it is nothing. Items with one rating tell what raters prefer
but not whether they agree: they enter chance agreement (as in Gwet 2014) and no pair. Data on which a
coefficient does not exist (no item with two ratings, one category only) give NaN, never 0 or 1.

Each coefficient on counts is a formula on sums over items (`AgreementSums`), so that a bootstrap replicate
costs a row of a matrix product (`resampling.Bootstrap`).
"""

from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Weighting = Literal["unweighted", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval", "ratio"]


def rating_counts(ratings: ArrayLike, n_categories: int | None = None) -> IntArray:
    """How many raters put each item into each category.

    ratings: (raters, items) codes from 0, NaN where missing. Returns (items, n_categories).
    ValueError for a code that is not a whole number in 0 … n_categories − 1.

    >>> rating_counts([[0, 1, np.nan], [0, 0, 1]]).tolist()
    [[2, 0], [1, 1], [0, 1]]
    """
    matrix = np.asarray(ratings, dtype=float)
    rater, item = np.nonzero(~np.isnan(matrix))
    codes = matrix[rater, item]
    q = n_categories if n_categories is not None else int(codes.max(initial=-1)) + 1
    if ((codes < 0) | (codes >= q) | (codes != np.floor(codes))).any():
        raise ValueError(f"ratings must be codes 0 … {q - 1} or NaN; did you pass labels or scores?")
    counts = np.zeros((matrix.shape[1], q), dtype=np.int64)
    np.add.at(counts, (item, codes.astype(np.int64)), 1)
    return counts


def category_weights(n_categories: int, weighting: Weighting = "unweighted") -> FloatArray:
    """Partial credit for two ratings, (categories, categories): 1 on the diagonal, falling to 0 at the ends.

    linear: 1 − |i − j| / (q − 1); quadratic: 1 − ((i − j) / (q − 1))². Source: Cohen (1968).
    """
    steps = np.abs(np.subtract.outer(np.arange(n_categories), np.arange(n_categories))) / max(n_categories - 1, 1)
    return np.asarray(
        {"unweighted": steps == 0, "linear": 1 - steps, "quadratic": 1 - steps**2}[weighting], dtype=float
    )


# --- coefficients on counts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class AgreementSums:
    """What the coefficients below need to know of a set of items: sums over items, any leading axes."""

    agreeing: FloatArray  # (…) ordered pairs of raters who agree
    pairs: FloatArray  # (…) ordered pairs of raters
    agreement: FloatArray  # (…, 3) share of agreeing pairs per item, summed; unweighted, linear, quadratic credit
    pairable: FloatArray  # (…) items with at least two ratings
    shares: FloatArray  # (…, q) share of each category per item, summed
    rated: FloatArray  # (…) items with at least one rating
    coincidences: FloatArray  # (…, q, q) Krippendorff's coincidence matrix

    @classmethod
    def from_sums(cls, sums: FloatArray) -> "AgreementSums":
        """Name the columns of summed `item_contributions`; (…, 7 + q + q²)."""
        q = round((np.sqrt(1 + 4 * (sums.shape[-1] - 7)) - 1) / 2)
        shares_end = 7 + q
        return cls(
            agreeing=sums[..., 0],
            pairs=sums[..., 1],
            agreement=sums[..., 2:5],
            pairable=sums[..., 5],
            rated=sums[..., 6],
            shares=sums[..., 7:shares_end],
            coincidences=sums[..., shares_end:].reshape(*sums.shape[:-1], q, q),
        )


def item_contributions(counts: ArrayLike) -> FloatArray:
    """Each item's part in the sums of `AgreementSums`: (items, 7 + q + q²)."""
    n = np.asarray(counts, dtype=float)
    raters = n.sum(axis=1)
    pairs = raters * (raters - 1)
    ordered = n[:, :, None] * n[:, None, :] - np.einsum("ik,kl->ikl", n, np.eye(n.shape[1]))
    credit = np.stack([category_weights(n.shape[1], w) for w in ("unweighted", "linear", "quadratic")])
    agreement = ratio(np.einsum("ikl,wkl->iw", ordered, credit), pairs[:, None], empty=0.0)
    coincidences = ratio(ordered, (raters - 1)[:, None, None], empty=0.0)
    columns = [
        np.einsum("ikk->i", ordered)[:, None],
        pairs[:, None],
        agreement,
        (raters > 1)[:, None],
        (raters > 0)[:, None],
        ratio(n, raters[:, None], empty=0.0),
        coincidences.reshape(len(n), n.shape[1] ** 2),
    ]
    return np.concatenate(columns, axis=1)


def percent_agreement(sums: AgreementSums, weighting: Literal["pairs", "ratings"] = "pairs") -> FloatArray:
    """Share of agreeing pairs among all pairs of raters who both rated the item, in [0, 1].

    pairs: an item weighs its number of pairs. ratings: an item weighs its number of ratings (Krippendorff's
    observed agreement). The two are equal when all items have equally many ratings. No pair: NaN.
    """
    if weighting == "pairs":
        return ratio(sums.agreeing, sums.pairs)
    return ratio(np.einsum("...kk->...", sums.coincidences), sums.coincidences.sum(axis=(-2, -1)))


def fleiss_kappa(sums: AgreementSums) -> FloatArray:
    """Fleiss' kappa, in [−1, 1], for equal or unequal numbers of ratings per item.

    Observed: mean over items with two ratings of their share of agreeing pairs. Chance: squared mean shares of
    the categories over all rated items. With equal numbers this is Fleiss (1971), Psychological Bulletin 76:378;
    unequal as in Gwet (2014), Handbook of Inter-Rater Reliability, ch. 2. One category only: NaN.
    """
    observed, shares = ratio(sums.agreement[..., 0], sums.pairable), _mean_shares(sums)
    return _chance_corrected(observed, (shares**2).sum(axis=-1))


def gwet_ac(sums: AgreementSums, weighting: Weighting = "unweighted") -> FloatArray:
    """Gwet's AC1 (unweighted) or AC2 (linear, quadratic), in [−1, 1].

    Chance: Σ weights / (q (q − 1)) · Σ π (1 − π), with π the mean shares of the categories. Robust against the
    kappa paradox, where one category dominates. One category in the scale: NaN; one category used: 1 is what
    the formula gives, and NaN is returned, since nothing was there to disagree about.
    Source: Gwet (2008), British Journal of Mathematical and Statistical Psychology 61:29; weights: Gwet (2014).
    """
    shares = _mean_shares(sums)
    q = shares.shape[-1]
    credit = category_weights(q, weighting)
    chance = credit.sum() / max(q * (q - 1), 1) * (shares * (1 - shares)).sum(axis=-1)
    return np.where(_one_category(sums), np.nan, _chance_corrected(_observed(sums, weighting), chance))


def brennan_prediger(sums: AgreementSums, weighting: Weighting = "unweighted") -> FloatArray:
    """Brennan and Prediger's kappa, in [−1, 1]: chance is uniform over the q categories of the scale.

    Source: Brennan and Prediger (1981), Educational and Psychological Measurement 41:687; weights: Gwet (2014).
    One category used: NaN, as everywhere here.
    """
    q = sums.shares.shape[-1]
    chance = np.full(sums.pairable.shape, category_weights(q, weighting).sum() / max(q**2, 1))
    return np.where(_one_category(sums), np.nan, _chance_corrected(_observed(sums, weighting), chance))


def alpha_from_sums(sums: AgreementSums, level: Level = "nominal", values: ArrayLike | None = None) -> FloatArray:
    """Krippendorff's alpha from coincidences, for replicates; `krippendorff_alpha` gives the point value.

    1 − (n − 1) Σ o δ² / Σ n n' δ². values: (q,) the categories as numbers, for interval and ratio (default 0, 1, …).
    One category only, or no item with two ratings: NaN.
    Source: Krippendorff (2018), Content Analysis, ch. 12.
    """
    o = sums.coincidences
    totals = o.sum(axis=-1)
    n = totals.sum(axis=-1)
    distance = _squared_distances(totals, level, values)
    observed = (o * distance).sum(axis=(-2, -1))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum(axis=(-2, -1))
    return 1 - ratio((n - 1) * observed, expected)


def krippendorff_alpha(counts: ArrayLike, level: Level = "nominal", values: ArrayLike | None = None) -> float:
    """Krippendorff's alpha, at most 1, with missing ratings; the value of the `krippendorff` package.

    counts: (items, categories). values: (categories,) the categories as numbers (default 0, 1, …).
    One category only, or no item with two ratings: NaN.

    >>> ratings = [[0, 1, 2, 2], [0, 1, 2, 1]]
    >>> round(krippendorff_alpha(rating_counts(ratings), "ordinal"), 4)
    0.79
    """
    n = np.asarray(counts)
    paired = n[n.sum(axis=1) > 1]
    if (paired.sum(axis=0) > 0).sum() < 2:
        return float("nan")
    domain = np.arange(n.shape[1]) if values is None else np.asarray(values)
    return float(krippendorff.alpha(value_counts=paired, value_domain=domain, level_of_measurement=level))


def _squared_distances(totals: FloatArray, level: Level, values: ArrayLike | None) -> FloatArray:
    q = totals.shape[-1]
    v = np.arange(q, dtype=float) if values is None else np.asarray(values, dtype=float)
    if level == "nominal":
        return 1 - np.eye(q)
    if level == "interval":
        unit = (np.ptp(v) if len(v) else 0.0) or 1.0  # alpha does not depend on it; tiny distances would
        return (np.subtract.outer(v, v) / unit) ** 2
    if level == "ratio":
        return ratio(np.subtract.outer(v, v), np.add.outer(v, v), empty=0.0) ** 2
    # Ordinal: everything between the two ranks counts, the ends by half.
    middles = np.cumsum(totals, axis=-1) - totals / 2
    return (middles[..., :, None] - middles[..., None, :]) ** 2


# --- coefficients that know who rated -----------------------------------------------------------------------


def conger_kappa(ratings: ArrayLike, weighting: Weighting = "unweighted") -> float:
    """Conger's kappa for several raters, in [−1, 1]: chance from each rater's own use of the categories.

    ratings: (raters, items) codes, NaN where missing. Raters without ratings are left out.
    Source: Conger (1980), Psychological Bulletin 88:322; missing ratings and weights as in Gwet (2014).
    Fewer than two raters, no item with two ratings, one category only: NaN.
    """
    matrix = np.asarray(ratings, dtype=float)
    matrix = matrix[~np.isnan(matrix).all(axis=1)]
    sums = AgreementSums.from_sums(item_contributions(rating_counts(matrix)).sum(axis=0))
    if len(matrix) < 2 or _one_category(sums):
        return float("nan")
    q = sums.shares.shape[-1]
    used = np.stack([np.bincount(row[~np.isnan(row)].astype(int), minlength=q) for row in matrix]).astype(float)
    shares = used / used.sum(axis=1, keepdims=True)
    total, pairs = shares.sum(axis=0), len(matrix) * (len(matrix) - 1)
    both = (np.outer(total, total) - shares.T @ shares) / pairs  # chance that two different raters choose k and l
    return float(_chance_corrected(_observed(sums, weighting), (both * category_weights(q, weighting)).sum()))


def cohen_kappa(confusion: ArrayLike, weighting: Weighting = "unweighted") -> FloatArray:
    """Cohen's kappa of two raters, in [−1, 1]; weighted: Cohen (1968).

    confusion: (…, q, q) counts, rows the first rater's rating. No item, or both raters constant and alike: NaN.

    >>> float(cohen_kappa([[20, 5], [10, 15]]).round(10))
    0.4
    """
    table = np.asarray(confusion, dtype=float)
    p = ratio(table, table.sum(axis=(-2, -1), keepdims=True))
    credit = category_weights(table.shape[-1], weighting)
    chance = p.sum(axis=-1)[..., :, None] * p.sum(axis=-2)[..., None, :]
    return _chance_corrected((p * credit).sum(axis=(-2, -1)), (chance * credit).sum(axis=(-2, -1)))


@dataclass(frozen=True)
class RaterPairs:
    """Who rated what together: one entry for each pair of raters and each item both rated.

    first, second: (pairs,) codes of the raters of each pair, first < second. pair, item: (n,) indices.
    left, right: (n,) the ratings of the pair's first and second rater.
    """

    first: IntArray
    second: IntArray
    pair: IntArray
    item: IntArray
    left: IntArray
    right: IntArray

    def cells(self, n_categories: int) -> IntArray:
        """Where each entry falls in the pairs' confusion matrices laid out one after the other: (n,)."""
        return (self.pair * n_categories + self.left) * n_categories + self.right


def rater_pairs(item: IntArray, rater: IntArray, rating: IntArray) -> RaterPairs:
    """Every pair of ratings of the same item by two raters, in time proportional to their number.

    item, rater, rating: (n,) codes from 0, one rating per item and rater.
    """
    order = np.lexsort((rater, item))
    item, rater, rating = item[order], rater[order], rating[order]
    starts = np.flatnonzero(np.r_[True, item[1:] != item[:-1]]) if len(item) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.r_[starts, len(item)])
    left, right = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for size in np.unique(sizes[sizes > 1]):
        a, b = np.triu_indices(size, 1)
        of_size = starts[sizes == size][:, None]
        left.append((of_size + a).ravel())
        right.append((of_size + b).ravel())
    i, j = np.concatenate(left), np.concatenate(right)
    n_raters = int(rater.max(initial=-1)) + 1
    codes, pair = np.unique(rater[i] * n_raters + rater[j], return_inverse=True)
    return RaterPairs(
        first=codes // max(n_raters, 1),
        second=codes % max(n_raters, 1),
        pair=pair.astype(np.int64),
        item=item[i],
        left=rating[i],
        right=rating[j],
    )


def pairwise_accuracies(confusions: FloatArray) -> FloatArray:
    """How well one rater predicts another: means over pairs, and the same weighted by the items that pairs share.

    confusions: (…, pairs, 2, 2) of binary ratings. Balanced accuracy of a pair: mean of both directions (each
    rater once as the truth); a direction in which the truth has one class only does not exist and is left out.
    Returns (…, 4): accuracy, balanced accuracy, accuracy weighted, balanced accuracy weighted; NaN where no
    pair has a value.
    """
    shared = confusions.sum(axis=(-2, -1))
    accuracy = ratio(np.einsum("...kk->...", confusions), shared)
    by_first = ratio(np.einsum("...kk->...k", confusions), confusions.sum(axis=-1)).mean(axis=-1)
    by_second = ratio(np.einsum("...kk->...k", confusions), confusions.sum(axis=-2)).mean(axis=-1)
    balanced = nanmean(np.stack([by_first, by_second], axis=-1))
    means = [
        nanmean(accuracy),
        nanmean(balanced),
        nanmean(accuracy, shared),
        nanmean(balanced, shared),
    ]
    return np.stack(means, axis=-1)


def nanmean(values: FloatArray, weights: ArrayLike = 1.0) -> FloatArray:
    """Mean over the last axis of what is not NaN, weighted where weights are given; NaN where nothing is left."""
    there = ~np.isnan(values) * np.asarray(weights, dtype=float)
    return ratio((np.nan_to_num(values) * there).sum(axis=-1), there.sum(axis=-1))


def leave_one_out(counts: ArrayLike) -> FloatArray:
    """Each rating held against the majority of the others on its item, as counts per item.

    counts: (items, 2) absent and present votes. A rating takes part when at least two others exist and they
    are not tied. Returns (items, 4): the others said present and so did it, present / absent, absent / absent,
    absent / present (true positives, false negatives, true negatives, false positives).

    >>> leave_one_out([[1, 2]]).tolist()  # the absent vote faces two present ones, the present votes face a tie
    [[0.0, 1.0, 0.0, 0.0]]
    """
    absent, present = np.asarray(counts, dtype=float).T
    enough = absent + present >= 3

    def against(
        others_absent: FloatArray, others_present: FloatArray, votes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        votes = votes * enough
        return votes * (others_present > others_absent), votes * (others_present < others_absent)

    present_right, present_wrong = against(absent, present - 1, present)
    absent_wrong, absent_right = against(absent - 1, present, absent)
    return np.stack([present_right, absent_wrong, absent_right, present_wrong], axis=1)


# --- shared arithmetic --------------------------------------------------------------------------------------


def _observed(sums: AgreementSums, weighting: Weighting) -> FloatArray:
    column = ("unweighted", "linear", "quadratic").index(weighting)
    return ratio(sums.agreement[..., column], sums.pairable)


def _mean_shares(sums: AgreementSums) -> FloatArray:
    return ratio(sums.shares, sums.rated[..., None])


def _one_category(sums: AgreementSums) -> NDArray[np.bool_]:
    return (sums.shares > 1e-9).sum(axis=-1) < 2


def _chance_corrected(observed: FloatArray, chance: FloatArray) -> FloatArray:
    return ratio(observed - chance, 1 - chance)

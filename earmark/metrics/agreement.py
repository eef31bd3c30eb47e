"""Agreement between raters: percent agreement, kappas, Gwet's AC and Krippendorff's alpha.

Data come in three shapes:
  ratings    (raters, items)                 codes 0, 1, …; NaN where a rater did not rate the item
  counts     (items, categories)             number of raters who chose each category
  confusion  (…, categories, categories)     two raters' ratings of the items that both rated

Missing ratings are ignored; they are not disagreements. An item with a single rating adds to chance agreement
(Gwet 2014) but to no pair of raters. An undefined coefficient (no item with two ratings, or a single category) is NaN,
never 0 or 1.

The coefficients on counts are functions of sums over items (`AgreementSums`). A bootstrap replicate of such a
coefficient therefore costs one row of a matrix product (`bootstrap.Bootstrap`).
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
    """Count the raters who put each item into each category.

    Parameters
    ----------
    ratings : (raters, items) float
        Codes from 0; NaN where missing.
    n_categories : int, optional
        Number of categories of the scale. The highest code plus one by default.

    Returns
    -------
    (items, n_categories) int

    Raises
    ------
    ValueError
        If a code is not a whole number in 0 … n_categories − 1.

    Examples
    --------
    >>> rating_counts([[0, 1, np.nan], [0, 0, 1]]).tolist()
    [[2, 0], [1, 1], [0, 1]]
    """
    matrix = np.asarray(ratings, dtype=float)
    rater, item = np.nonzero(~np.isnan(matrix))
    codes = matrix[rater, item]
    q = n_categories if n_categories is not None else int(codes.max(initial=-1)) + 1
    if ((codes < 0) | (codes >= q) | (codes != np.floor(codes))).any():
        raise ValueError(f"ratings must be codes 0 … {q - 1} or NaN, not labels or scores")
    counts = np.zeros((matrix.shape[1], q), dtype=np.int64)
    np.add.at(counts, (item, codes.astype(np.int64)), 1)
    return counts


def category_weights(n_categories: int, weighting: Weighting = "unweighted") -> FloatArray:
    """Agreement weights (partial credit) for each pair of categories.

    unweighted: 1 on the diagonal, else 0. linear: 1 − |i − j| / (q − 1). quadratic: 1 − ((i − j) / (q − 1))².

    Parameters
    ----------
    n_categories : int
        Number of categories q.
    weighting : {"unweighted", "linear", "quadratic"}

    Returns
    -------
    (n_categories, n_categories) float
        In [0, 1], with 1 on the diagonal.

    References
    ----------
    Cohen (1968), Weighted kappa: nominal scale agreement with provision for scaled disagreement or partial credit,
    Psychological Bulletin 70:213.

    Examples
    --------
    >>> category_weights(3, "quadratic").tolist()
    [[1.0, 0.75, 0.0], [0.75, 1.0, 0.75], [0.0, 0.75, 1.0]]
    """
    steps = np.abs(np.subtract.outer(np.arange(n_categories), np.arange(n_categories))) / max(n_categories - 1, 1)
    return np.asarray(
        {"unweighted": steps == 0, "linear": 1 - steps, "quadratic": 1 - steps**2}[weighting], dtype=float
    )


# --- coefficients on counts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class AgreementSums:
    """Sums over items from which the coefficients on counts are computed.

    All arrays may have leading axes, such as one for bootstrap replicates. q is the number of categories.

    Attributes
    ----------
    agreeing : (…)
        Ordered pairs of raters who agree.
    pairs : (…)
        Ordered pairs of raters.
    agreement : (…, 3)
        Proportion of agreeing pairs per item, summed; with unweighted, linear and quadratic weights.
    pairable : (…)
        Items with at least two ratings.
    shares : (…, q)
        Proportion of each category per item, summed.
    rated : (…)
        Items with at least one rating.
    coincidences : (…, q, q)
        Krippendorff's coincidence matrix.

    Examples
    --------
    >>> sums = AgreementSums.from_sums(item_contributions([[2, 0], [1, 1]]).sum(axis=0))
    >>> float(sums.agreeing), float(sums.pairs)
    (2.0, 4.0)
    """

    agreeing: FloatArray
    pairs: FloatArray
    agreement: FloatArray
    pairable: FloatArray
    shares: FloatArray
    rated: FloatArray
    coincidences: FloatArray

    @classmethod
    def from_sums(cls, sums: FloatArray) -> "AgreementSums":
        """Name the columns of summed `item_contributions`.

        Parameters
        ----------
        sums : (…, 7 + q + q²) float
        """
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
    """Contribution of each item to the sums of `AgreementSums`.

    Parameters
    ----------
    counts : (items, q) int
        Number of raters who chose each category.

    Returns
    -------
    (items, 7 + q + q²) float
        Summed over items, the argument of `AgreementSums.from_sums`.

    Examples
    --------
    >>> item_contributions([[2, 1]])[0, :2].tolist()  # ordered pairs that agree, all ordered pairs
    [2.0, 6.0]
    """
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
    """Percent agreement: proportion of agreeing pairs of raters.

    pairs: Σ_i Σ_k n_ik (n_ik − 1) / Σ_i r_i (r_i − 1), where n_ik of the r_i raters of item i choose category k.
    ratings: Krippendorff's observed agreement, in which item i weighs r_i instead of r_i (r_i − 1).
    Both are equal if all items have the same number of ratings.

    Parameters
    ----------
    sums : AgreementSums
    weighting : {"pairs", "ratings"}
        What an item is weighted by.

    Returns
    -------
    (…) float
        In [0, 1]; NaN without a pair of ratings.

    References
    ----------
    Krippendorff (2018), Content Analysis: An Introduction to Its Methodology, 4th ed., ch. 12.

    Examples
    --------
    >>> sums = AgreementSums.from_sums(item_contributions([[2, 0], [1, 1]]).sum(axis=0))
    >>> float(percent_agreement(sums))
    0.5
    """
    if weighting == "pairs":
        return ratio(sums.agreeing, sums.pairs)
    return ratio(np.einsum("...kk->...", sums.coincidences), sums.coincidences.sum(axis=(-2, -1)))


def fleiss_kappa(sums: AgreementSums) -> FloatArray:
    """Fleiss' kappa for equal or unequal numbers of ratings per item.

    κ = (P − P_e) / (1 − P_e). P is the mean proportion of agreeing pairs over items with two or more ratings. P_e = Σ_k
    π_k², with π_k the mean proportion of category k over rated items.

    Parameters
    ----------
    sums : AgreementSums

    Returns
    -------
    (…) float
        In [−1, 1]; NaN without an item with two ratings, or if a single category is used.

    References
    ----------
    Fleiss (1971), Measuring nominal scale agreement among many raters, Psychological Bulletin 76:378.
    Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed., ch. 2, for unequal numbers of ratings.

    Examples
    --------
    >>> sums = AgreementSums.from_sums(item_contributions([[3, 0], [0, 3], [2, 1]]).sum(axis=0))
    >>> round(float(fleiss_kappa(sums)), 4)
    0.55
    """
    observed, shares = ratio(sums.agreement[..., 0], sums.pairable), _mean_shares(sums)
    return _chance_corrected(observed, (shares**2).sum(axis=-1))


def gwet_ac(sums: AgreementSums, weighting: Weighting = "unweighted") -> FloatArray:
    """Gwet's AC1 (unweighted) or AC2 (linear or quadratic weights).

    AC = (P − P_e) / (1 − P_e), with P_e = Σ w / (q (q − 1)) · Σ_k π_k (1 − π_k) for weights w, q categories and mean
    proportions π_k. P_e stays low when one category dominates, so AC avoids the kappa paradox.

    Parameters
    ----------
    sums : AgreementSums
    weighting : {"unweighted", "linear", "quadratic"}

    Returns
    -------
    (…) float
        In [−1, 1]; NaN without an item with two ratings, or if a single category is used (where the formula gives 1).

    References
    ----------
    Gwet (2008), Computing inter-rater reliability and its variance in the presence of high agreement, British Journal
    of Mathematical and Statistical Psychology 61:29.
    Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed., for weights.

    Examples
    --------
    >>> sums = AgreementSums.from_sums(item_contributions([[3, 0], [0, 3], [2, 1]]).sum(axis=0))
    >>> round(float(gwet_ac(sums)), 4)
    0.561
    """
    shares = _mean_shares(sums)
    q = shares.shape[-1]
    credit = category_weights(q, weighting)
    chance = credit.sum() / max(q * (q - 1), 1) * (shares * (1 - shares)).sum(axis=-1)
    return np.where(_one_category(sums), np.nan, _chance_corrected(_observed(sums, weighting), chance))


def brennan_prediger(sums: AgreementSums, weighting: Weighting = "unweighted") -> FloatArray:
    """Brennan and Prediger's kappa: chance agreement is uniform over the q categories of the scale.

    κ = (P − P_e) / (1 − P_e), with P_e = Σ w / q² for weights w; 1 / q if unweighted.

    Parameters
    ----------
    sums : AgreementSums
    weighting : {"unweighted", "linear", "quadratic"}

    Returns
    -------
    (…) float
        In [−1, 1]; NaN without an item with two ratings, or if a single category is used.

    References
    ----------
    Brennan and Prediger (1981), Coefficient kappa: some uses, misuses, and alternatives, Educational and Psychological
    Measurement 41:687.
    Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed., for weights.

    Examples
    --------
    >>> sums = AgreementSums.from_sums(item_contributions([[3, 0], [0, 3], [2, 1]]).sum(axis=0))
    >>> round(float(brennan_prediger(sums)), 4)
    0.5556
    """
    q = sums.shares.shape[-1]
    chance = np.full(sums.pairable.shape, category_weights(q, weighting).sum() / max(q**2, 1))
    return np.where(_one_category(sums), np.nan, _chance_corrected(_observed(sums, weighting), chance))


def alpha_from_sums(sums: AgreementSums, level: Level = "nominal", values: ArrayLike | None = None) -> FloatArray:
    """Krippendorff's alpha from the coincidence matrix, for bootstrap replicates.

    α = 1 − (n − 1) Σ o_kl δ²_kl / Σ n_k n_l δ²_kl, with coincidences o, their row sums n_k and total n, and distances
    δ.
    `krippendorff_alpha` computes the point value.

    Parameters
    ----------
    sums : AgreementSums
    level : {"nominal", "ordinal", "interval", "ratio"}
        Level of measurement, which defines δ.
    values : (q,) float, optional
        Numeric value of each category for the interval and ratio levels; 0, 1, … by default.

    Returns
    -------
    (…) float
        At most 1; NaN without an item with two ratings, or if a single category is used.

    References
    ----------
    Krippendorff (2018), Content Analysis: An Introduction to Its Methodology, 4th ed., ch. 12.

    Examples
    --------
    >>> ratings = [[0, 1, 2, 2], [0, 1, 2, 1]]
    >>> sums = AgreementSums.from_sums(item_contributions(rating_counts(ratings)).sum(axis=0))
    >>> round(float(alpha_from_sums(sums, "ordinal")), 4)
    0.79
    """
    o = sums.coincidences
    totals = o.sum(axis=-1)
    n = totals.sum(axis=-1)
    distance = _squared_distances(totals, level, values)
    observed = (o * distance).sum(axis=(-2, -1))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum(axis=(-2, -1))
    return 1 - ratio((n - 1) * observed, expected)


def krippendorff_alpha(counts: ArrayLike, level: Level = "nominal", values: ArrayLike | None = None) -> float:
    """Krippendorff's alpha with missing ratings, as the `krippendorff` package computes it.

    Parameters
    ----------
    counts : (items, q) int
        Number of raters who chose each category.
    level : {"nominal", "ordinal", "interval", "ratio"}
        Level of measurement.
    values : (q,) float, optional
        Numeric value of each category; 0, 1, … by default.

    Returns
    -------
    float
        At most 1; NaN without an item with two ratings, or if a single category is used.

    References
    ----------
    Krippendorff (2018), Content Analysis: An Introduction to Its Methodology, 4th ed., ch. 12.

    Examples
    --------
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
        unit = (np.ptp(v) if len(v) else 0.0) or 1.0  # cancels in alpha; avoids underflow of tiny distances
        return (np.subtract.outer(v, v) / unit) ** 2
    if level == "ratio":
        return ratio(np.subtract.outer(v, v), np.add.outer(v, v), empty=0.0) ** 2
    # Ordinal: all ratings between the two categories, plus half of those in the two.
    midranks = np.cumsum(totals, axis=-1) - totals / 2
    return (midranks[..., :, None] - midranks[..., None, :]) ** 2


# --- coefficients on pairs of raters ------------------------------------------------------------------------


def conger_kappa(ratings: ArrayLike, weighting: Weighting = "unweighted") -> float:
    """Conger's kappa for several raters: chance agreement from each rater's own category proportions.

    κ = (P − P_e) / (1 − P_e). P_e is the expected agreement of two different raters, drawn at random, who choose
    independently.

    Parameters
    ----------
    ratings : (raters, items) float
        Codes from 0; NaN where missing. Raters without ratings are ignored.
    weighting : {"unweighted", "linear", "quadratic"}

    Returns
    -------
    float
        In [−1, 1]; NaN with fewer than two raters, without an item with two ratings, or if a single category is used.

    References
    ----------
    Conger (1980), Integration and generalization of kappas for multiple raters, Psychological Bulletin 88:322.
    Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed., for missing ratings and weights.

    Examples
    --------
    >>> round(conger_kappa([[0, 1, 0, 1], [0, 1, 1, 1]]), 4)
    0.5
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
    """Cohen's kappa of two raters.

    κ = (Σ w p_kl − Σ w p_k· p_·l) / (1 − Σ w p_k· p_·l) for weights w and cell proportions p.

    Parameters
    ----------
    confusion : (…, q, q) float
        Counts of items; rows are the first rater's categories, columns the second's.
    weighting : {"unweighted", "linear", "quadratic"}

    Returns
    -------
    (…) float
        In [−1, 1]; NaN without items, or if both raters use the same single category.

    References
    ----------
    Cohen (1960), A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20:37.
    Cohen (1968), Weighted kappa: nominal scale agreement with provision for scaled disagreement or partial credit,
    Psychological Bulletin 70:213.

    Examples
    --------
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
    """All pairs of ratings of the same item by two raters.

    An entry is a pair of raters and an item that both rated.

    Attributes
    ----------
    first, second : (pairs,) int
        Raters of each pair, first < second.
    pair : (n,) int
        Pair of raters of each entry.
    item : (n,) int
        Item of each entry.
    left, right : (n,) int
        Ratings by the pair's first and second rater.
    """

    first: IntArray
    second: IntArray
    pair: IntArray
    item: IntArray
    left: IntArray
    right: IntArray

    def cells(self, n_categories: int) -> IntArray:
        """Flat index of each entry, (n,), in the pairs' concatenated confusion matrices."""
        return (self.pair * n_categories + self.left) * n_categories + self.right


def rater_pairs(item: IntArray, rater: IntArray, rating: IntArray) -> RaterPairs:
    """List every pair of ratings of the same item by two raters, in time linear in the number of pairs.

    Parameters
    ----------
    item, rater, rating : (n,) int
        Codes from 0; at most one rating per item and rater.

    Returns
    -------
    RaterPairs

    Examples
    --------
    >>> pairs = rater_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([2, 3, 1]))
    >>> pairs.left.tolist(), pairs.right.tolist()
    ([2], [3])
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
    """Accuracy and balanced accuracy of one rater as a prediction of another, averaged over pairs of raters.

    The balanced accuracy of a pair is the mean over both directions, with each rater once as the reference. A direction
    whose reference has a single class is undefined and is ignored.

    Parameters
    ----------
    confusions : (…, pairs, 2, 2) float
        Counts of binary ratings for each pair of raters.

    Returns
    -------
    (…, 4) float
        Accuracy, balanced accuracy, and both weighted by the number of items that a pair shares; in [0, 1], NaN where
        no pair has a value.

    Examples
    --------
    >>> pairwise_accuracies(np.array([[[3.0, 1.0], [0.0, 4.0]]])).round(4).tolist()
    [0.875, 0.8875, 0.875, 0.8875]
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
    """Mean over the last axis, ignoring NaN.

    Parameters
    ----------
    values : (…, n) float
    weights : (…, n) float, optional
        Non-negative weights; equal by default.

    Returns
    -------
    (…) float
        NaN where no value is defined.

    Examples
    --------
    >>> float(nanmean(np.array([1.0, np.nan, 4.0]), [3, 100, 1]))
    1.75
    """
    w = ~np.isnan(values) * np.asarray(weights, dtype=float)
    return ratio((np.nan_to_num(values) * w).sum(axis=-1), w.sum(axis=-1))


def leave_one_out(counts: ArrayLike) -> FloatArray:
    """Compare each rating with the majority of the other raters of its item (leave-one-out), counted per item.

    A rating counts if the item has at least two other ratings and they are not tied.

    Parameters
    ----------
    counts : (items, 2) int
        Votes for absent and for present.

    Returns
    -------
    (items, 4) float
        True positives, false negatives, true negatives and false positives, with the others' majority as the reference.

    References
    ----------
    Snow et al. (2008), Cheap and fast – but is it good? Evaluating non-expert annotations for natural language tasks,
    EMNLP, for the comparison of each annotator with the others.

    Examples
    --------
    An absent vote is compared with two present votes; each present vote faces a tie and does not count:

    >>> leave_one_out([[1, 2]]).tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    """
    absent, present = np.asarray(counts, dtype=float).T
    has_two_others = absent + present >= 3

    def compare(
        others_absent: FloatArray, others_present: FloatArray, votes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        votes = votes * has_two_others
        return votes * (others_present > others_absent), votes * (others_present < others_absent)

    present_correct, present_incorrect = compare(absent, present - 1, present)
    absent_incorrect, absent_correct = compare(absent - 1, present, absent)
    return np.stack([present_correct, absent_incorrect, absent_correct, present_incorrect], axis=1)


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

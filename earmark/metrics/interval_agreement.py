"""Agreement of numbers: Krippendorff's alpha, intraclass correlations, differences, correlation and concordance.

Every coefficient is a function of sums over items or over ratings, so that bootstrap replicates come from one matrix
product (`bootstrap.Bootstrap`). Ratings are (n,) arrays with codes of their items and raters; a missing rating has no
entry. Sums of squares use ratings minus their mean, divided by their range (`standardised`); the coefficients do not
depend on origin and unit, and rounding then stays small for any unit.

An undefined coefficient (no item with two ratings, no complete item, no variation) is NaN, never 0 or 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ICCS = ("icc_1", "icc_a1", "icc_c1", "icc_1k", "icc_ak", "icc_ck")
NO_VARIATION = 1e-12  # a variance below this, in units of the squared range, is 0 up to rounding


def standardised(value: ArrayLike) -> FloatArray:
    """Ratings minus their mean, divided by their range.

    Parameters
    ----------
    value : (n,) float

    Returns
    -------
    (n,) float
        In [−1, 1]; zeros where all ratings are equal.

    Examples
    --------
    >>> standardised([10.0, 20.0, 30.0]).tolist()
    [-0.5, 0.0, 0.5]
    """
    x = np.asarray(value, dtype=float)
    unit = float(np.ptp(x)) if len(x) else 0.0
    return (x - x.mean()) / unit if unit > 0 else np.zeros(len(x))


# --- all pairs of ratings of an item --------------------------------------------------------------------------


@dataclass(frozen=True)
class IntervalSums:
    """Sums over items with at least two ratings. All arrays may have leading axes.

    Attributes
    ----------
    ratings, total, squares : (…)
        Number of ratings, and their sum and sum of squares, standardised.
    disagreement : (…)
        Squared differences of all ordered pairs of ratings of an item divided by its number of ratings minus 1,
        standardised.
    pairs, differences : (…)
        Number of pairs of ratings, and their absolute differences in the unit of the ratings.
    """

    ratings: FloatArray
    total: FloatArray
    squares: FloatArray
    disagreement: FloatArray
    pairs: FloatArray
    differences: FloatArray

    @classmethod
    def from_sums(cls, sums: FloatArray) -> "IntervalSums":
        """Name the columns of summed `interval_contributions`. sums: (…, 6) float."""
        return cls(*np.moveaxis(sums, -1, 0))


def interval_contributions(item: ArrayLike, value: ArrayLike, n_items: int) -> FloatArray:
    """Contribution of each item to the sums of `IntervalSums`.

    Parameters
    ----------
    item : (n,) int
        Item of each rating, 0 … n_items − 1.
    value : (n,) float
    n_items : int

    Returns
    -------
    (n_items, 6) float
        Zeros for an item with fewer than two ratings.

    Examples
    --------
    Ratings 1 and 3 of one item: two ratings, one pair with a difference of 2.

    >>> interval_contributions([0, 0], [1.0, 3.0], 1)[0, [0, 4, 5]].tolist()
    [2.0, 1.0, 2.0]
    """
    i, raw = np.asarray(item, dtype=np.int64), np.asarray(value, dtype=float)
    x = standardised(raw)
    n = np.bincount(i, minlength=n_items).astype(float)
    total, squares = np.bincount(i, x, n_items), np.bincount(i, x * x, n_items)
    deviation = x - ratio(total, n, empty=0.0)[i]
    within = np.bincount(i, deviation * deviation, n_items)
    order = np.lexsort((raw, i))
    sorted_item, sorted_value = i[order], raw[order]
    place = np.arange(len(i)) - np.searchsorted(sorted_item, sorted_item)
    # The j-th smallest of n ratings is the larger one in j − 1 pairs and the smaller one in n − j. Subtracting the
    # item's smallest rating changes no difference and keeps rounding small.
    smallest = sorted_value[np.arange(len(i)) - place]
    differences = np.bincount(sorted_item, (2 * place + 1 - n[sorted_item]) * (sorted_value - smallest), n_items)
    columns = [n, total, squares, ratio(2 * n * within, n - 1, empty=0.0), n * (n - 1) / 2, differences]
    return np.stack(columns, axis=1) * (n > 1)[:, np.newaxis]


def krippendorff_alpha_interval(sums: IntervalSums) -> FloatArray:
    """Krippendorff's alpha for numbers, with squared differences as the disagreement; missing ratings allowed.

    α = 1 − D_o / D_e. D_o is the mean over ratings of Σ_j (x_ij − x_ij')² / (r_i − 1), D_e the mean squared difference
    of all ordered pairs of ratings, of the same item or not. Only items with at least two ratings are used.

    Parameters
    ----------
    sums : IntervalSums

    Returns
    -------
    (…) float
        At most 1; NaN without an item with two ratings, or if all ratings are equal.

    References
    ----------
    Krippendorff (2018), Content Analysis: An Introduction to Its Methodology, 4th ed., ch. 12.

    Examples
    --------
    >>> sums = interval_contributions([0, 0, 1, 1, 2, 2], [1, 1, 2, 3, 5, 5], 3).sum(axis=0)
    >>> round(float(krippendorff_alpha_interval(IntervalSums.from_sums(sums))), 4)
    0.9505
    """
    n = sums.ratings
    variance = ratio(sums.squares, n) - ratio(sums.total, n) ** 2
    varies = variance > NO_VARIATION
    expected = np.where(varies, 2 * n * n * variance, 0.0)
    return 1 - ratio((n - 1) * sums.disagreement, expected)


def mean_absolute_difference(sums: IntervalSums) -> FloatArray:
    """Mean absolute difference of two ratings of the same item, over all pairs of ratings.

    Parameters
    ----------
    sums : IntervalSums

    Returns
    -------
    (…) float
        At least 0, in the unit of the ratings; NaN without an item with two ratings.

    Examples
    --------
    >>> sums = interval_contributions([0, 0, 0], [1.0, 2.0, 4.0], 1).sum(axis=0)
    >>> float(mean_absolute_difference(IntervalSums.from_sums(sums)))
    2.0
    """
    return ratio(sums.differences, sums.pairs)


# --- intraclass correlations ----------------------------------------------------------------------------------


def complete_ratings(
    item: ArrayLike, rater: ArrayLike, value: ArrayLike, *, n_items: int, n_raters: int
) -> tuple[IntArray, FloatArray]:
    """Items that every rater rated, and their ratings.

    Parameters
    ----------
    item, rater : (n,) int
        Codes from 0; at most one rating per item and rater.
    value : (n,) float
    n_items, n_raters : int

    Returns
    -------
    items : (m,) int
    ratings : (m, n_raters) float

    Examples
    --------
    >>> items, ratings = complete_ratings([0, 0, 1], [0, 1, 0], [2.0, 3.0, 4.0], n_items=2, n_raters=2)
    >>> items.tolist(), ratings.tolist()
    ([0], [[2.0, 3.0]])
    """
    i, r = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64)
    items = np.flatnonzero(np.bincount(i, minlength=n_items) == n_raters)
    row = np.full(n_items, -1)
    row[items] = np.arange(len(items))
    used = row[i] >= 0
    ratings = np.empty((len(items), n_raters))
    ratings[row[i[used]], r[used]] = np.asarray(value, dtype=float)[used]
    return items, ratings


def icc_contributions(ratings: ArrayLike) -> FloatArray:
    """Contribution of each complete item to the sums of the intraclass correlations.

    Parameters
    ----------
    ratings : (items, k) float
        One column per rater, without missing ratings.

    Returns
    -------
    (items, 3 + k) float
        1, the squared sum of the item's ratings, the sum of their squares, and the ratings; all standardised.
    """
    table = np.asarray(ratings, dtype=float)
    x = standardised(table.ravel()).reshape(table.shape)
    total = x.sum(axis=1)
    return np.column_stack([np.ones(len(x)), total**2, (x * x).sum(axis=1), x])


def intraclass_correlations(sums: FloatArray) -> dict[str, FloatArray]:
    """The six intraclass correlations of McGraw and Wong, on items that every rater rated.

    With n items, k raters and the mean squares of items (R), raters (C), residuals (E) and within items (W):

        icc_1  = (R − W) / (R + (k − 1) W)                        icc_1k = (R − W) / R
        icc_a1 = (R − E) / (R + (k − 1) E + k (C − E) / n)        icc_ak = (R − E) / (R + (C − E) / n)
        icc_c1 = (R − E) / (R + (k − 1) E)                        icc_ck = (R − E) / R

    icc_1 has one way (items): differences between raters count as error. icc_a1 (absolute agreement) and icc_c1
    (consistency) have two: a rater's constant difference counts as disagreement in icc_a1 and not in icc_c1. The
    versions with k are those of the mean of all k raters.

    Parameters
    ----------
    sums : (…, 3 + k) float
        Sums over items of `icc_contributions`.

    Returns
    -------
    dict of str to (…) float
        The names of `ICCS`. At most 1; negative where raters agree less than by chance. NaN with fewer than two items
        or raters, and where the denominator is 0, as if all ratings are equal.

    References
    ----------
    McGraw and Wong (1996), Forming inferences about some intraclass correlation coefficients, Psychological Methods
    1:30. Shrout and Fleiss (1979), Intraclass correlations: uses in assessing rater reliability, Psychological Bulletin
    86:420, where icc_1, icc_a1 and icc_c1 are ICC(1,1), ICC(2,1) and ICC(3,1).

    Examples
    --------
    >>> ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> values = intraclass_correlations(icc_contributions(ratings).sum(axis=0))
    >>> {name: round(float(value), 2) for name, value in values.items()}
    {'icc_1': 0.17, 'icc_a1': 0.29, 'icc_c1': 0.71, 'icc_1k': 0.44, 'icc_ak': 0.62, 'icc_ck': 0.91}
    """
    n, k = sums[..., 0], sums.shape[-1] - 3
    if k < 2:
        return dict.fromkeys(ICCS, np.full(n.shape, np.nan))
    of_items, squares, of_raters = sums[..., 1] / k, sums[..., 2], (sums[..., 3:] ** 2).sum(axis=-1)
    correction = ratio(sums[..., 3:].sum(axis=-1) ** 2, n * k)
    between, raters = of_items - correction, ratio(of_raters, n) - correction
    # Differences of sums of squares are not negative but for rounding.
    r, w, c, e = (
        np.where(square > NO_VARIATION * n, square, 0.0)
        for square in (between, squares - of_items, raters, squares - of_items - raters)
    )
    r, w, c, e = ratio(r, n - 1), ratio(w, n * (k - 1)), c / (k - 1), ratio(e, (n - 1) * (k - 1))
    values = [
        ratio(r - w, r + (k - 1) * w),
        ratio(r - e, r + (k - 1) * e + ratio(k * (c - e), n)),
        ratio(r - e, r + (k - 1) * e),
        ratio(r - w, r),
        ratio(r - e, r + ratio(c - e, n)),
        ratio(r - e, r),
    ]
    return dict(zip(ICCS, values, strict=True))


def reliability_of_mean(icc: float, k: int) -> float:
    """Intraclass correlation of the mean of k raters from that of one rater (Spearman-Brown).

    Parameters
    ----------
    icc : float
        Above −1 / (k − 1).
    k : int

    Returns
    -------
    float
        Minus infinity at −1 / (k − 1).

    References
    ----------
    Spearman (1910), British Journal of Psychology 3:271. Brown (1910), British Journal of Psychology 3:296.

    Examples
    --------
    >>> reliability_of_mean(0.5, 3)
    0.75
    """
    denominator = 1 + (k - 1) * icc
    return k * icc / denominator if denominator > 0 else float("-inf")


# --- two variables --------------------------------------------------------------------------------------------


def moments(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Contribution of each pair of values to the sums from which correlation and concordance follow.

    Parameters
    ----------
    x, y : (n,) float
        In one unit and about one origin, best of `standardised` values.

    Returns
    -------
    (n, 6) float
        1, x, y, x², y² and xy.

    Examples
    --------
    >>> moments([2.0], [3.0]).tolist()
    [[1.0, 2.0, 3.0, 4.0, 9.0, 6.0]]
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return np.stack([np.ones(len(a)), a, b, a * a, b * b, a * b], axis=1)


def correlation(sums: ArrayLike) -> FloatArray:
    """Pearson's correlation from summed `moments`.

    Parameters
    ----------
    sums : (…, 6) float

    Returns
    -------
    (…) float
        In [−1, 1]; NaN with fewer than two values, or if one of the variables does not vary.

    References
    ----------
    Pearson (1896), Philosophical Transactions of the Royal Society of London A 187:253.

    Examples
    --------
    >>> round(float(correlation(moments([1, 2, 3], [1, 3, 2]).sum(axis=0))), 4)
    0.5
    """
    _, _, variance_x, variance_y, covariance = _central(sums)
    varies = (variance_x > NO_VARIATION) & (variance_y > NO_VARIATION)
    value = ratio(covariance, np.sqrt(np.where(varies, variance_x * variance_y, 0.0)))
    return np.asarray(np.clip(value, -1, 1))


def concordance(sums: ArrayLike) -> FloatArray:
    """Lin's concordance correlation from summed `moments`: correlation with the line of identity.

    ρ_c = 2 s_xy / (s_x² + s_y² + (x̄ − ȳ)²), with variances and covariance divided by n. It is at most the absolute
    correlation, and less if one variable is shifted or stretched. On whole numbers it equals Cohen's kappa with
    quadratic weights.

    Parameters
    ----------
    sums : (…, 6) float

    Returns
    -------
    (…) float
        In [−1, 1]; 0 if one variable does not vary; NaN without values, or if all values of both are equal.

    References
    ----------
    Lin (1989), A concordance correlation coefficient to evaluate reproducibility, Biometrics 45:255.

    Examples
    --------
    >>> round(float(concordance(moments([1, 2, 3], [2, 3, 4]).sum(axis=0))), 4)
    0.5714
    """
    mean_x, mean_y, variance_x, variance_y, covariance = _central(sums)
    spread = variance_x + variance_y + (mean_x - mean_y) ** 2
    return ratio(2 * covariance, np.where(spread > NO_VARIATION, spread, 0.0))


def _central(sums: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Means, variances and covariance, each divided by n; variances are not negative."""
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=float), -1, 0)
    mean_x, mean_y = ratio(x, n), ratio(y, n)
    variance_x, variance_y = (
        np.maximum(ratio(square, n) - mean * mean, 0.0) for square, mean in ((xx, mean_x), (yy, mean_y))
    )
    return mean_x, mean_y, variance_x, variance_y, ratio(xy, n) - mean_x * mean_y


def means_of_others(item: ArrayLike, value: ArrayLike, n_items: int) -> FloatArray:
    """Mean of the other ratings of each rating's item (leave one out).

    Parameters
    ----------
    item : (n,) int
    value : (n,) float
    n_items : int

    Returns
    -------
    (n,) float
        NaN for the only rating of an item.

    Examples
    --------
    >>> means_of_others([0, 0, 0, 1], [1.0, 2.0, 6.0, 9.0], 2).tolist()
    [4.0, 3.5, 1.5, nan]
    """
    i, x = np.asarray(item, dtype=np.int64), np.asarray(value, dtype=float)
    n = np.bincount(i, minlength=n_items)
    return ratio(np.bincount(i, x, n_items)[i] - x, n[i] - 1)

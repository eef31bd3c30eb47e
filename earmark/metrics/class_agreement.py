"""Agreement on single classes, and agreement within a number of steps of an ordered scale.

Both are functions of the ordered pairs of ratings of the same item: Σ_i n_ik (n_il − [k = l]), where n_ik raters chose
category k for item i. Coefficients without weights only need the pairs that agree and the margins (`ClassSums`), so
that their cost grows with the number of classes and not with its square.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.agreement import AgreementSums
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ClassSums:
    """Sums over items for coefficients without weights. All arrays may have leading axes; q is the number of classes.

    Attributes
    ----------
    agreeing, pairs : (…, q)
        Ordered pairs of ratings of the same item whose first rating is of the class: those that agree, and all.
    shares : (…, q)
        Proportion of each class per item, summed.
    totals : (…, q)
        Number of ratings of items with at least two ratings.
    agreement : (…)
        Proportion of agreeing pairs per item, summed.
    coincident : (…)
        Agreeing pairs of each item divided by its number of ratings minus 1, summed: Krippendorff's o_kk.
    pairable, rated : (…)
        Items with at least two ratings, and with at least one.
    """

    agreeing: FloatArray
    pairs: FloatArray
    shares: FloatArray
    totals: FloatArray
    agreement: FloatArray
    coincident: FloatArray
    pairable: FloatArray
    rated: FloatArray

    @classmethod
    def from_sums(cls, sums: FloatArray) -> "ClassSums":
        """Name the columns of summed `class_contributions`. sums: (…, 4 q + 4) float."""
        q = (sums.shape[-1] - 4) // 4
        by_class = (sums[..., at * q : (at + 1) * q] for at in range(4))
        return cls(*by_class, *np.moveaxis(sums[..., 4 * q :], -1, 0))

    @property
    def unweighted(self) -> AgreementSums:
        """Sums for the unweighted coefficients of `metrics.agreement` that need no coincidences."""
        none = np.zeros((*self.rated.shape, 0, 0))
        return AgreementSums(
            agreeing=self.agreeing.sum(axis=-1),
            pairs=self.pairs.sum(axis=-1),
            agreement=self.agreement[..., np.newaxis],
            pairable=self.pairable,
            shares=self.shares,
            rated=self.rated,
            coincidences=none,
        )


def class_contributions(counts: ArrayLike) -> FloatArray:
    """Contribution of each item to the sums of `ClassSums`.

    Parameters
    ----------
    counts : (items, q) int
        Number of raters who chose each class.

    Returns
    -------
    (items, 4 q + 4) float

    Examples
    --------
    >>> class_contributions([[2, 1]])[0, :4].tolist()  # agreeing and all ordered pairs, by class
    [2.0, 0.0, 4.0, 2.0]
    """
    n = np.asarray(counts, dtype=float)
    raters = n.sum(axis=1, keepdims=True)
    agreeing = n * (n - 1)
    agreed = agreeing.sum(axis=1, keepdims=True)
    columns = [
        agreeing,
        n * (raters - 1) * (raters > 0),
        ratio(n, raters, empty=0.0),
        n * (raters > 1),
        ratio(agreed, raters * (raters - 1), empty=0.0),
        ratio(agreed, raters - 1, empty=0.0) * (raters > 1),
        raters > 1,
        raters > 0,
    ]
    return np.concatenate(columns, axis=1)


def alpha_nominal(sums: ClassSums) -> FloatArray:
    """Krippendorff's alpha for classes, without the coincidence matrix.

    α = 1 − (n − 1) (n − Σ_k o_kk) / (n² − Σ_k n_k²), with coincidences o, totals n_k and n = Σ_k n_k.

    Parameters
    ----------
    sums : ClassSums

    Returns
    -------
    (…) float
        At most 1; NaN without an item with two ratings, or if a single class is used.

    References
    ----------
    Krippendorff (2018), Content Analysis: An Introduction to Its Methodology, 4th ed., ch. 12.

    Examples
    --------
    >>> sums = ClassSums.from_sums(class_contributions([[2, 0], [0, 2], [1, 1]]).sum(axis=0))
    >>> round(float(alpha_nominal(sums)), 4)
    0.4444
    """
    n = sums.totals.sum(axis=-1)
    return 1 - ratio((n - 1) * (n - sums.coincident), n * n - (sums.totals**2).sum(axis=-1))


def ordered_pairs(counts: ArrayLike) -> FloatArray:
    """Ordered pairs of ratings of each item, by the categories of both.

    Parameters
    ----------
    counts : (items, q) int
        Number of raters who chose each category.

    Returns
    -------
    (items, q²) float
        A symmetric q × q table for each item, flattened; zeros for an item with one rating.

    Examples
    --------
    >>> ordered_pairs([[2, 1]]).tolist()
    [[2.0, 2.0, 2.0, 0.0]]
    """
    n = np.asarray(counts, dtype=float)
    items, q = n.shape
    table = n[:, :, np.newaxis] * n[:, np.newaxis, :]
    table[:, np.arange(q), np.arange(q)] -= n
    return table.reshape(items, q * q)


def specific_agreement(sums: ClassSums) -> FloatArray:
    """Agreement specific to each class: if one rater chose it, how often another one did.

    p_k = Σ_i n_ik (n_ik − 1) / Σ_i n_ik (r_i − 1), where n_ik of the r_i raters of item i choose class k.

    Parameters
    ----------
    sums : ClassSums

    Returns
    -------
    (…, q) float
        In [0, 1]; NaN for a class that no item with two ratings has.

    References
    ----------
    Cicchetti and Feinstein (1990), High agreement but low kappa: II. Resolving the paradoxes, Journal of Clinical
    Epidemiology 43:551, for two raters. Fleiss (1971), Psychological Bulletin 76:378, for many.

    Examples
    --------
    Three raters; all choose a for the first item, two choose a and one b for the second:

    >>> specific_agreement(ClassSums.from_sums(class_contributions([[3, 0], [2, 1]]).sum(axis=0))).tolist()
    [0.8, 0.0]
    """
    return ratio(sums.agreeing, sums.pairs)


def percent_within(tables: ArrayLike, steps: int = 1) -> FloatArray:
    """Share of pairs of ratings that differ by at most some steps of an ordered scale.

    Parameters
    ----------
    tables : (…, q, q) float
        Ordered pairs of ratings, summed over items; categories in order.
    steps : int
        0 gives percent agreement.

    Returns
    -------
    (…) float
        In [0, 1]; NaN without a pair of ratings.

    Examples
    --------
    >>> table = ordered_pairs([[1, 1, 0], [1, 0, 1]]).sum(axis=0).reshape(3, 3)
    >>> float(percent_within(table)), float(percent_within(table, 0))
    (0.5, 0.0)
    """
    table = np.asarray(tables, dtype=float)
    levels = np.arange(table.shape[-1])
    near = np.abs(np.subtract.outer(levels, levels)) <= steps
    return ratio((table * near).sum(axis=(-2, -1)), table.sum(axis=(-2, -1)))


def kappa_from_margins(observed: ArrayLike, first: ArrayLike, second: ArrayLike, credit: ArrayLike) -> FloatArray:
    """Cohen's kappa from the observed agreement and the raters' own counts, without their confusion matrix.

    κ = (P_o − P_e) / (1 − P_e), with P_e = Σ_kl w_kl p_k q_l for weights w and the raters' shares p and q.

    Parameters
    ----------
    observed : (…) float
        Sum over items of the weight w of the two ratings; the number of equal ratings if unweighted.
    first, second : (…, q) float
        Number of ratings of each rater in each category, on the same items.
    credit : (q, q) float
        Weights from `agreement.category_weights`.

    Returns
    -------
    (…) float
        In [−1, 1]; NaN without items, or if both raters use the same single category.

    References
    ----------
    Cohen (1960), A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20:37; for
    weights, Cohen (1968), Psychological Bulletin 70:213.

    Examples
    --------
    The table [[20, 5], [10, 15]]:

    >>> float(kappa_from_margins(35, [25, 25], [30, 20], np.eye(2)).round(10))
    0.4
    """
    p, q = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n = p.sum(axis=-1)
    chance = ratio(((p @ np.asarray(credit, dtype=float)) * q).sum(axis=-1), n * n)
    return ratio(ratio(observed, n) - chance, 1 - chance)

"""Correlations within groups: Pearson, Spearman and Lin's concordance, for all bootstrap replicates at once.

Pearson's correlation and the concordance come from sums over items (`interval_agreement`). Spearman's correlation is
Pearson's of mean ranks; a replicate has ranks of its own, which come from cumulative sums of the multiplicities in the
order of the values. Groups (sentences, raters) are ranked in one pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from earmark.metrics.bootstrap import Bootstrap, Units, estimate_from_replicates
from earmark.metrics.estimate import Estimate
from earmark.metrics.interval_agreement import concordance, correlation, moments
from earmark.metrics.intervals import COEFFICIENT
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_ITEMS = 3  # of a group; two items correlate perfectly whatever they are
MOMENTS = 6
CHUNK = 400_000  # ranks in memory at once, small enough for the processor's cache
NO_GROUP = "fewer than three items, or all values equal"


def spearman_by_group(x: ArrayLike, y: ArrayLike, group: ArrayLike) -> FloatArray:
    """Spearman's rank correlation within each group.

    Parameters
    ----------
    x, y : (n,) float
    group : (n,) int
        Group of each item, 0 … G - 1.

    Returns
    -------
    (G,) float
        NaN for a group with fewer than three items or without variation.

    Examples
    --------
    >>> spearman_by_group([1, 2, 3, 1, 2, 3], [1, 2, 3, 3, 2, 1], [0, 0, 0, 1, 1, 1]).tolist()
    [1.0, -1.0]
    """
    codes = np.asarray(group, dtype=np.int64)
    if not len(codes):
        return np.full(1, np.nan)
    values = _GroupRanks.prepare(x, y, codes).correlations(np.ones((1, len(codes)), dtype=np.uint8))[0]
    return np.where(np.bincount(codes) >= MIN_ITEMS, values, np.nan)


@dataclass(frozen=True)
class _Blocks:
    """Tied values of one variable within groups, in rising order.

    order: (n,) items by group and value. last: (k,) position in `order` of the last item of each block of ties. first:
    (k,) position in the blocks of the first block of each block's group. block: (n,) block of each item, item order.
    """

    order: IntArray
    last: IntArray
    first: IntArray
    block: IntArray

    @classmethod
    def of(cls, values: FloatArray, group: IntArray) -> "_Blocks":
        order = np.lexsort((values, group))
        v, g = values[order], group[order]
        ends = np.flatnonzero(np.append((v[1:] != v[:-1]) | (g[1:] != g[:-1]), True))
        block = np.empty(len(order), dtype=np.int64)
        block[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
        starts = np.searchsorted(g[ends], g[ends], side="left")
        return cls(order, ends, starts, block)

    def ranks(self, weights: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Twice the mean rank of each block in its group, and its weight, (rows, k) each, from weights in item order.

        Twice, so that ranks are whole numbers, whose cumulative sums are exact and fast.
        """
        cumulated = np.cumsum(weights[:, self.order], axis=1, dtype=np.int32)
        cumulated = cumulated if len(self.last) == len(self.order) else cumulated[:, self.last]
        weight = np.diff(cumulated, axis=1, prepend=np.int32(0))
        ranks = 2 * cumulated - weight
        if self.first[-1]:  # several groups
            ranks -= 2 * (cumulated - weight)[:, self.first]
        return ranks, weight


@dataclass(frozen=True)
class _GroupRanks:
    """Two variables prepared for ranking; items are in the order of x within groups."""

    x: _Blocks
    y: _Blocks
    item: IntArray  # item in each place
    starts: IntArray  # first place of each group
    group_x: IntArray  # first block of x of each group
    group_y: IntArray
    group: IntArray  # group of each place

    @classmethod
    def prepare(cls, x: ArrayLike, y: ArrayLike, group: IntArray) -> "_GroupRanks":
        a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        item = np.lexsort((a, group))
        g = group[item]
        starts = np.searchsorted(g, np.arange(int(g[-1]) + 1))
        blocks = [_Blocks.of(values[item], g) for values in (a, b)]
        firsts = [np.searchsorted(g[one.order][one.last], np.arange(len(starts))) for one in blocks]
        return cls(blocks[0], blocks[1], item, starts, firsts[0], firsts[1], g)

    def correlations(self, weights: NDArray[np.uint8]) -> FloatArray:
        """Spearman's correlation of each group, (rows, G), from (rows, n) multiplicities in the order of the items."""
        w = weights[:, self.item]
        ranks, squares = [], []
        size = np.add.reduceat(w, self.starts, axis=1, dtype=np.int32)
        middle = size if size.shape[1] == 1 else size[:, self.group]
        for blocks, first in ((self.x, self.group_x), (self.y, self.group_y)):
            rank, weight = blocks.ranks(w)
            ranks.append((rank[:, blocks.block] - middle).astype(np.float32))
            tied = np.add.reduceat(weight.astype(np.float64) ** 3, first, axis=1)
            squares.append((size.astype(np.float64) ** 3 - tied) / 3)
        product = ranks[0] * ranks[1]
        product *= w
        covariance = np.add.reduceat(product, self.starts, axis=1, dtype=np.float64)
        return np.clip(ratio(covariance, np.sqrt(squares[0] * squares[1])), -1, 1)


@dataclass(frozen=True)
class GroupCorrelations:
    """Correlations within groups, with their bootstrap replicates.

    Attributes
    ----------
    values : (G,) float
        NaN for a group with fewer than three items, or where x or y does not vary.
    replicates : (R, G) float
        NaN where a replicate has no value; all NaN in columns of groups without a value.
    sizes : (G,) int
        Number of items of each group.
    bootstrap : Bootstrap
    group : (n,) int
        Group of each item.
    """

    values: FloatArray
    replicates: FloatArray
    sizes: IntArray
    bootstrap: Bootstrap
    group: IntArray

    @property
    def defined(self) -> NDArray[np.bool_]:
        """(G,) groups that have a value."""
        return np.isfinite(self.values)

    @property
    def units(self) -> Units:
        """Units with an item in a group that has a value."""
        return Units(len(np.unique(self.bootstrap.unit[self.defined[self.group]])), self.bootstrap.name)

    @property
    def n(self) -> int:
        """Items in groups that have a value."""
        return int(self.sizes[self.defined].sum())

    @property
    def mean_value(self) -> float:
        """Mean over the groups that have a value; NaN if none has."""
        return float(self.values[self.defined].mean()) if self.defined.any() else np.nan

    @property
    def mean_replicates(self) -> FloatArray:
        """(R,) mean of each replicate over the groups with a value in it."""
        known = np.isfinite(self.replicates)
        return ratio(np.where(known, self.replicates, 0.0).sum(axis=1), known.sum(axis=1))

    def only(self, groups: NDArray[np.bool_]) -> "GroupCorrelations":
        """The same, with values for some groups alone. groups: (G,) bool."""
        values = np.where(groups, self.values, np.nan)
        replicates = np.where(groups, self.replicates, np.nan)
        return GroupCorrelations(values, replicates, self.sizes, self.bootstrap, self.group)

    def mean(self) -> Estimate:
        """Mean over groups, with a confidence interval."""
        return estimate_from_replicates(
            self.mean_value, self.mean_replicates, n=self.n, units=self.units, why=NO_GROUP, values=COEFFICIENT
        )

    def each(self) -> list[Estimate]:
        """The correlation of each group, with a confidence interval."""
        estimates = []
        for code, (value, replicates) in enumerate(zip(self.values, self.replicates.T, strict=True)):
            units = Units(len(np.unique(self.bootstrap.unit[self.group == code])), self.bootstrap.name)
            estimates.append(
                estimate_from_replicates(
                    float(value),
                    replicates,
                    n=int(self.sizes[code]),
                    units=units,
                    why=NO_GROUP,
                    values=COEFFICIENT,
                )
            )
        return estimates


def spearman_replicates(x: ArrayLike, y: ArrayLike, group: ArrayLike, bootstrap: Bootstrap) -> GroupCorrelations:
    """Spearman's correlation within groups on the data and on every bootstrap replicate, each with ranks of its own.

    Parameters
    ----------
    x, y : (n,) float
    group : (n,) int
        Group of each item, 0 … G - 1.
    bootstrap : Bootstrap
        Over the units of the n items.

    Returns
    -------
    GroupCorrelations

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(4), 10, np.random.default_rng(0))
    >>> found = spearman_replicates([1, 2, 3, 4], [10, 20, 40, 30], np.zeros(4, int), bootstrap)
    >>> found.mean_value, found.replicates.shape
    (0.8, (10, 1))
    """
    codes = np.asarray(group, dtype=np.int64)
    values = spearman_by_group(x, y, codes)
    chunks = [np.empty((0, len(values)))]
    if bootstrap.n_units > 1 and len(codes):
        ranks = _GroupRanks.prepare(x, y, codes)
        rows = max(1, CHUNK // len(codes))
        blocks = (bootstrap.weights[i : i + rows, bootstrap.unit] for i in range(0, len(bootstrap.weights), rows))
        chunks += [ranks.correlations(weights) for weights in blocks]
    replicates = np.concatenate(chunks)
    replicates[:, ~np.isfinite(values)] = np.nan
    return GroupCorrelations(values, replicates, np.bincount(codes, minlength=len(values)), bootstrap, codes)


def moment_replicates(
    formula: Callable[[FloatArray], FloatArray], x: ArrayLike, y: ArrayLike, group: ArrayLike, bootstrap: Bootstrap
) -> GroupCorrelations:
    """A correlation that comes from sums, within groups, on the data and on every bootstrap replicate.

    Parameters
    ----------
    formula : callable
        `correlation` or `concordance` of `interval_agreement`.
    x, y : (n,) float
        For `concordance`, on one scale.
    group : (n,) int
        Group of each item, 0 … G - 1.
    bootstrap : Bootstrap
        Over the units of the n items.

    Returns
    -------
    GroupCorrelations

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(3), 10, np.random.default_rng(0))
    >>> found = moment_replicates(correlation, [1, 2, 3], [1, 2, 4], np.zeros(3, int), bootstrap)
    >>> round(found.mean_value, 3)
    0.982
    """
    codes = np.asarray(group, dtype=np.int64)
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not len(codes):
        return GroupCorrelations(np.full(1, np.nan), np.empty((0, 1)), np.zeros(1, dtype=np.int64), bootstrap, codes)
    a, b = _same_scale(a, b) if formula is concordance else (_standard(a), _standard(b))
    groups = int(codes.max()) + 1
    parts = moments(a, b)
    columns = codes[:, np.newaxis] * MOMENTS + np.arange(MOMENTS)
    rows = np.repeat(np.arange(len(codes)), MOMENTS)
    sums = sparse.csr_array((parts.ravel(), (rows, columns.ravel())), shape=(len(codes), groups * MOMENTS))

    def by_group(total: FloatArray) -> FloatArray:
        cells = total.reshape(*total.shape[:-1], groups, MOMENTS)
        return np.where(np.isfinite(correlation(cells)), formula(cells), np.nan)

    sizes = np.bincount(codes, minlength=groups)
    values = by_group(np.asarray(sums.sum(axis=0), dtype=float).ravel()[np.newaxis])[0]
    values = np.where(sizes >= MIN_ITEMS, values, np.nan)
    replicates = bootstrap.replicates(sums, by_group, groups)
    replicates[:, ~np.isfinite(values)] = np.nan
    return GroupCorrelations(values, replicates, sizes, bootstrap, codes)


def _standard(values: FloatArray) -> FloatArray:
    """Values with mean 0 and standard deviation 1, which changes no correlation; constant values become 0."""
    centred = values - values.mean()
    deviation = float(centred.std())
    return centred / deviation if deviation > 1e-12 * np.abs(values).max(initial=0.0) else 0.0 * centred


def _same_scale(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both variables less one number and divided by one number, which changes no concordance."""
    centre, deviation = y.mean(), float(y.std()) or 1.0
    return (x - centre) / deviation, (y - centre) / deviation


@dataclass(frozen=True)
class ScaledConcordance:
    """Lin's concordance after cross-fitted linear scaling.

    Attributes
    ----------
    concordance : Estimate
    scaled : (n,) float
        The scaled values; empty if undefined.
    """

    concordance: Estimate
    scaled: FloatArray


def cross_fitted_concordance(x: ArrayLike, y: ArrayLike, fold: ArrayLike, bootstrap: Bootstrap) -> ScaledConcordance:
    """Lin's concordance of y with x on the scale of y, where mean and standard deviation come from the other folds.

    A similarity has no unit. Of all rising linear scalings, the one that gives x the mean and the standard deviation of
    y has the highest concordance, and with infinitely many items that concordance is Pearson's correlation. The scaling
    of a least-squares fit would shrink x towards the mean and give 2 r² / (1 + r²) instead. Every bootstrap replicate
    scales again.

    Parameters
    ----------
    x, y : (n,) float
    fold : (n,) int
        Fold of each item; items of a unit share a fold.
    bootstrap : Bootstrap
        Over the units of the n items.

    Returns
    -------
    ScaledConcordance
        Undefined with fewer than two folds, fewer than three items, or where x or y does not vary outside a fold.

    References
    ----------
    Lin (1989), A concordance correlation coefficient to evaluate reproducibility, Biometrics 45:255.

    Examples
    --------
    >>> x = np.arange(20) / 20
    >>> bootstrap = Bootstrap.from_units(np.arange(20), 0, np.random.default_rng(0))
    >>> found = cross_fitted_concordance(x, 3 + 2 * x, np.arange(20) % 5, bootstrap)
    >>> round(found.concordance.value, 3), found.scaled[:2].round(3).tolist()
    (1.0, [3.0, 3.1])
    """
    a, b, folds = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(fold, dtype=np.int64)
    n, k = len(a), int(folds.max(initial=-1)) + 1
    if k < 2 or n < MIN_ITEMS:
        return ScaledConcordance(Estimate(None, n=n, why="fewer than two folds or three items"), np.empty(0))
    columns = folds[:, np.newaxis] * MOMENTS + np.arange(MOMENTS)
    parts = moments(_standard(a), _standard(b)).ravel()
    sums = sparse.csr_array(
        (parts, (np.repeat(np.arange(n), MOMENTS), columns.ravel())), shape=(n, k * MOMENTS)
    )  # fmt: skip
    held_out = np.asarray(sums.sum(axis=0), dtype=float).reshape(1, k, MOMENTS)
    offset, slope = _scaling(held_out.sum(axis=1, keepdims=True) - held_out)
    estimate = bootstrap.estimate(
        sums,
        lambda total: _scaled_concordance(total.reshape(*total.shape[:-1], k, MOMENTS)),
        n=n,
        why="the values do not vary outside a fold",
        values=COEFFICIENT,
    )
    if estimate.value is None:
        return ScaledConcordance(estimate, np.empty(0))
    scaled = offset[0][folds] + slope[0][folds] * _standard(a)
    return ScaledConcordance(estimate, b.mean() + b.std() * scaled)


def _scaling(training: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Offset and slope that give x the mean and standard deviation of y, (…, folds) each, from (…, folds, 6) sums."""
    n, x, y, xx, yy, _ = np.moveaxis(training, -1, 0)
    mean_x, mean_y = ratio(x, n), ratio(y, n)
    varies = np.isfinite(correlation(training))
    variances = (ratio(xx, n) - mean_x**2, ratio(yy, n) - mean_y**2)
    slope = np.where(varies, np.sqrt(ratio(*(np.where(varies, v, 1.0) for v in reversed(variances)))), np.nan)
    return mean_y - slope * mean_x, slope


def _scaled_concordance(held_out: FloatArray) -> FloatArray:
    """Concordance of all folds together, each scaled by the others, from (…, folds, 6) sums."""
    a, b = _scaling(held_out.sum(axis=-2, keepdims=True) - held_out)
    n, x, y, xx, yy, xy = np.moveaxis(held_out, -1, 0)
    scaled = [n, a * n + b * x, y, a * a * n + 2 * a * b * x + b * b * xx, yy, a * y + b * xy]
    return concordance(np.stack(scaled, axis=-1).sum(axis=-2))

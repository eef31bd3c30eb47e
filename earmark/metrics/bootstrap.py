"""Cluster bootstrap: standard errors and confidence intervals from sums over items.

The sampled unit is resampled as a whole: all ratings of a clip and all its items move together. A replicate is a
vector of multiplicities (how often each unit is drawn). Every estimate is a function of sums over items, so all its
replicates come from one matrix product: multiplicities (replicates × units) times contributions (units × sums).

The replicates give the standard error, from which `metrics.intervals` computes the interval. Percentile intervals are
too narrow with few units and collapse at 0 and 1.

Undefined values are NaN in arrays, and null with a reason in an `Estimate`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import DIFFERENCE, NEGLIGIBLE_ERROR, SHARE, Range, few_units, interval, two_sided_p
from earmark.metrics.multisets import equal_contents, first_of_each, multiset_ids
from earmark.metrics.rater_resampling import (
    UNDEFINED_WITHOUT_A_RATER,
    Deletions,
    RaterVariation,
    noise_replicates,
    rater_variations,
)
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
Contributions: TypeAlias = FloatArray | sparse.csr_array
Formula = Callable[[FloatArray], FloatArray]

MIN_REPLICATES = 20
MIN_DEFINED_SHARE = 0.9  # of the replicates; an interval from fewer would be conditional on being defined
CONSTANT = "no interval: the value is the same in all replicates"
CHUNK_VALUES = 20_000_000  # sums in memory at once, 160 MB of float64
DRAWN_AT_ONCE = 1 << 18
MIN_GROUPED = 100_000_000  # multiplicities from which draws of units with equal contents are only counted together


class Units(NamedTuple):
    """Number and name of the independent units that determine an estimate's precision.

    Attributes
    ----------
    n : int
    name : str
        Plural noun for notes, such as "clips with a positive item".
    """

    n: int
    name: str


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap replicates of a sample of units (clusters of items).

    Attributes
    ----------
    unit : (n,) int
        Unit of each item, 0 … n_units − 1.
    weights : (replicates, n_columns) int
        Multiplicities: how often each replicate drew each unit. Without replicates, estimates have no interval.
    name : str
        What the units are, for notes.
    resample : {"clips", "raters", "both"}
        What intervals speak for: other clips, other raters, or both. Estimates that are given no `deletions` speak for
        other clips whatever this says.
    column : (n_units,) int or None
        With `grouped`, the column of `weights` of each unit: units with equal contents share one, which holds the sum
        of their multiplicities. None if each unit has its own column.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap.
    Davison and Hinkley (1997), Bootstrap Methods and their Application, ch. 3.8, for clusters.
    """

    unit: NDArray[np.int64]
    weights: NDArray[np.unsignedinteger[Any]]
    name: str = "clips"
    resample: Resample = "clips"
    column: NDArray[np.int64] | None = None

    @classmethod
    def from_units(
        cls,
        units: ArrayLike,
        replicates: int,
        rng: np.random.Generator,
        name: str = "clips",
        resample: Resample = "clips",
        alike: ArrayLike | None = None,
    ) -> "Bootstrap":
        """Draw samples of units with replacement.

        Parameters
        ----------
        units : (n,) array_like
            Unit of each item; any values that sort.
        replicates : int
        rng : numpy.random.Generator
        name : str
            What the units are, for notes.
        resample : {"clips", "raters", "both"}
            What intervals speak for.
        alike : (n,) int, optional
            As for `grouped`. With many units, only the sums of the multiplicities of equal units are drawn, in a
            fraction of the memory; the replicates are the same.

        Returns
        -------
        Bootstrap

        Examples
        --------
        >>> b = Bootstrap.from_units(["x", "x", "y"], 4, np.random.default_rng(0))
        >>> b.unit.tolist(), b.weights.sum(axis=1).tolist()
        ([0, 0, 1], [2, 2, 2, 2])
        """
        names, inverse = np.unique(np.asarray(units), return_inverse=True)
        unit = inverse.astype(np.int64).ravel()
        if alike is not None and resample == "clips" and len(names) * replicates >= MIN_GROUPED:
            column = multiset_ids(unit, alike, len(names))
            if 4 * (int(column.max(initial=-1)) + 1) <= len(names):  # four bytes instead of one
                return cls(unit, multiplicities(len(names), replicates, rng, column), name, column=column)
        return cls(unit, multiplicities(len(names), replicates, rng), name, resample)

    @property
    def n_units(self) -> int:
        """Number of units in the sample."""
        return self.weights.shape[1] if self.column is None else len(self.column)

    def grouped(self, alike: ArrayLike) -> "Bootstrap":
        """Give units with equal contents a common column of multiplicities, so that estimates cost less.

        Parameters
        ----------
        alike : (n,) int
            Items with the same number contribute the same to every estimate, and belong to the same selections of
            `take`. Units are equal if they hold the same numbers, each equally often.

        Returns
        -------
        Bootstrap
            With the same replicates of every such estimate. `replicates` and `take` raise ValueError where units with
            a common column differ.

        Examples
        --------
        >>> bootstrap = Bootstrap.from_units(np.arange(4), 2, np.random.default_rng(0))
        >>> bootstrap.grouped([5, 7, 5, 5]).weights.sum(axis=1).tolist()
        [4, 4]
        """
        if self.resample != "clips":
            return self  # the variance over raters needs the multiplicity of each unit
        column = equal_contents(self.unit, alike, self.n_units)
        if len(column) == int(column.max(initial=-1)) + 1:
            return self
        if self.column is None:
            return replace(self, weights=_sums_by(self.weights, column), column=column)
        if not _is_finer(self.column, column):
            return self
        return replace(self, weights=_sums_by(self.weights, column[first_of_each(self.column)]), column=column)

    def take(self, items: NDArray[Any]) -> "Bootstrap":
        """Select items, keeping the same replicates.

        Parameters
        ----------
        items : (n,) bool or (m,) int
            Mask or indices of the items to keep; indices may repeat. Units without items are dropped.

        Returns
        -------
        Bootstrap

        Raises
        ------
        ValueError
            If only some of the units with a common column of multiplicities are kept.
        """
        chosen = self.unit[items]
        held = np.zeros(self.n_units, dtype=bool)
        held[chosen] = True
        used, unit = np.flatnonzero(held), (np.cumsum(held) - 1)[chosen]
        if self.column is None:
            weights = self.weights if len(used) == self.n_units else self.weights[:, used]
            return replace(self, unit=unit, weights=weights)
        kept = np.zeros(self.weights.shape[1], dtype=bool)
        kept[self.column[used]] = True
        if int(kept[self.column].sum()) != len(used):
            raise ValueError("some units with a common column of multiplicities are left out; group by finer numbers")
        column = (np.cumsum(kept) - 1)[self.column[used]]
        return replace(self, unit=unit, weights=self.weights[:, kept], column=column)

    @property
    def units(self) -> Units:
        """All units."""
        return Units(self.n_units, self.name)

    def units_of_classes(self, labels: ArrayLike) -> tuple[Units, Units]:
        """Units with a positive item, and units with a negative item.

        Parameters
        ----------
        labels : (n,) bool or float
            Labels, or the positive share of each item.
        """
        y = np.asarray(labels, dtype=float)
        return self.units_with(y > 0, "with a present item"), self.units_with(y < 1, "with an absent item")

    def units_with(self, items: ArrayLike, description: str) -> Units:
        """Units with at least one selected item.

        Parameters
        ----------
        items : (n,) bool
            Selected items.
        description : str
            Completes the name of the units in notes.

        Examples
        --------
        >>> bootstrap = Bootstrap.from_units([0, 0, 1], 0, np.random.default_rng(0))
        >>> bootstrap.units_with([True, True, False], "predicted present")
        Units(n=1, name='clips predicted present')
        """
        held = np.zeros(self.n_units, dtype=bool)
        held[self.unit[np.asarray(items, dtype=bool)]] = True
        return Units(int(held.sum()), f"{self.name} {description}")

    def units_of_rarer_class(self, labels: ArrayLike) -> Units:
        """Units with an item of the rarer class.

        Parameters
        ----------
        labels : (n,) bool or float
            Labels, or the positive share of each item.

        Examples
        --------
        >>> Bootstrap.from_units([0, 0, 1, 2], 0, np.random.default_rng(0)).units_of_rarer_class([1, 0, 1, 1])
        Units(n=1, name='clips of the rarer class')
        """
        y = np.asarray(labels, dtype=float)
        return min(self.units_with(y > 0, "of the rarer class"), self.units_with(y < 1, "of the rarer class"))

    def estimate(
        self,
        contributions: Contributions,
        formula: Formula,
        *,
        n: int,
        why: str = "",
        units: Units | None = None,
        values: Range = SHARE,
        deletions: Deletions | None = None,
    ) -> Estimate:
        """Evaluate a formula on summed contributions, with a confidence interval.

        Parameters
        ----------
        contributions : (n, d) array or sparse array
            Contribution of each item to d sums.
        formula : callable
            Maps (…, d) sums to (…) values, NaN where undefined.
        n : int
            Sample size to report.
        why : str
            Reason to report if the value is undefined.
        units : Units, optional
            Units that determine the precision, such as those of the rarer class; all units by default.
        values : Range
            Possible values of the estimate.
        deletions : Deletions, optional
            Sums without each rater, for intervals that speak for new raters; used unless `resample` is "clips".

        Returns
        -------
        Estimate

        Examples
        --------
        >>> bootstrap = Bootstrap.from_units(np.arange(40), 100, np.random.default_rng(0))
        >>> correct = np.repeat([1.0, 0.0], [30, 10])
        >>> counts = np.stack([correct, np.ones(40)], axis=1)
        >>> estimate = bootstrap.estimate(counts, lambda sums: sums[..., 0] / sums[..., 1], n=40)
        >>> estimate.value, estimate.low < 0.75 < estimate.high
        (0.75, True)
        """
        return self.estimates(
            contributions,
            lambda sums: formula(sums)[..., np.newaxis],
            n=[n],
            why=[why],
            units=None if units is None else [units],
            values=[values],
            deletions=deletions,
        )[0]

    def estimates(
        self,
        contributions: Contributions,
        formula: Formula,
        *,
        n: Sequence[int],
        why: Sequence[str],
        units: Sequence[Units] | None = None,
        values: Sequence[Range] | None = None,
        deletions: Deletions | None = None,
    ) -> list[Estimate]:
        """Evaluate a formula that returns k values from the same sums.

        Parameters
        ----------
        contributions : (n, d) array or sparse array
        formula : callable
            Maps (…, d) sums to (…, k) values.
        n, why, units, values : sequences of length k
            As in `estimate`, one entry for each value.
        deletions : Deletions, optional
            As in `estimate`.

        Returns
        -------
        list of k Estimate
        """
        point = formula(_total(contributions)[np.newaxis])[0]
        replicates = self.replicates(contributions, formula, len(point))
        units = units or [self.units] * len(point)
        values = values or [SHARE] * len(point)
        variations = self.rater_variations(contributions, formula, len(point), deletions)
        each = zip(point, replicates.T, n, why, units, values, variations, strict=True)
        return [
            estimate_from_replicates(v, r, n=size, why=reason, units=deciding, values=possible, raters=variation)
            for v, r, size, reason, deciding, possible, variation in each
        ]

    def replicates(self, contributions: Contributions, formula: Formula, k: int) -> FloatArray:
        """Values of a formula on every replicate.

        Parameters
        ----------
        contributions : (n, d) array or sparse array
        formula : callable
            Maps (…, d) sums to (…, k) values.
        k : int
            Number of values.

        Returns
        -------
        (replicates, k) float
            (0, k) with fewer than two units or without items.
        """
        if self.n_units < 2 or contributions.shape[0] == 0:
            return np.empty((0, k))
        by_column = self._by_column(contributions)
        rows = max(1, CHUNK_VALUES // max(*by_column.shape, self.weights.shape[1], 1))
        weights = self._float_weights if self.weights.size <= CHUNK_VALUES else self.weights
        chunks = [
            formula(np.asarray(weights[i : i + rows].astype(float, copy=False) @ by_column))
            for i in range(0, len(weights), rows)
        ]
        return np.concatenate(chunks) if chunks else np.empty((0, k))

    def rater_variations(
        self, contributions: Contributions, formula: Formula, k: int, deletions: Deletions | None
    ) -> list[RaterVariation | None]:
        """Variance over raters of the values of a formula.

        Parameters
        ----------
        contributions : (n, d) array or sparse array
        formula : callable
            Maps (…, d) sums to (…, k) values.
        k : int
            Number of values.
        deletions : Deletions or None

        Returns
        -------
        list of k RaterVariation or None
            None where intervals speak for other clips only.
        """
        nothing: list[RaterVariation | None] = [None] * k
        if self.resample == "clips" or deletions is None or self.n_units < 2 or contributions.shape[0] == 0:
            return nothing
        by_unit = self._by_column(contributions)  # bootstraps that resample raters have a column for each unit
        sampled = self.weights[: noise_replicates(by_unit.shape[1])].astype(float)
        multiplicity = np.concatenate([np.ones((1, self.n_units)), sampled])
        without = deletions.without(multiplicity, self.unit, np.asarray(multiplicity @ by_unit), formula)
        variations = rater_variations(without, deletions.ratings, self.n_units, self.resample)
        return [*variations, *nothing[len(variations) :]]

    @cached_property
    def _float_weights(self) -> FloatArray:
        """The multiplicities, converted once for all estimates."""
        return self.weights.astype(float)

    def _by_column(self, contributions: Contributions) -> Contributions:
        """Sums of the contributions of a unit, for each column of the multiplicities."""
        dense = None if sparse.issparse(contributions) else np.asarray(contributions, dtype=float)
        one_item_each = len(self.unit) == self.n_units and (np.diff(self.unit) == 1).all()
        if one_item_each:
            by_unit = contributions if dense is None else dense
        else:
            shape, items = (self.n_units, len(self.unit)), np.arange(len(self.unit))
            by_unit = sparse.csr_array((np.ones(len(self.unit)), (self.unit, items)), shape=shape) @ contributions
        if self.column is not None:
            example = first_of_each(self.column)
            of_column = by_unit[example]
            differ = of_column[self.column] != by_unit
            if differ.nnz if sparse.issparse(differ) else differ.any():
                raise ValueError("units with a common column of multiplicities differ; group by finer numbers")
            by_unit = of_column
        return sparse.csr_array(by_unit) if sparse.issparse(by_unit) else np.asarray(by_unit)


def _is_finer(column: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether units with the same column have the same other column."""
    return bool((other[first_of_each(column)][column] == other).all())


def _sums_by(weights: NDArray[Any], of_column: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Sum columns of multiplicities: (replicates, c) → (replicates, columns)."""
    order = np.argsort(of_column, kind="stable")
    starts = np.searchsorted(of_column[order], np.arange(int(of_column.max(initial=-1)) + 1))
    rows = [np.add.reduceat(row[order], starts, dtype=np.uint32) for row in weights] if len(starts) else []
    return np.stack(rows) if rows else np.zeros((len(weights), len(starts)), dtype=np.uint32)


def multiplicities(
    n_units: int, replicates: int, rng: np.random.Generator, column: NDArray[np.int64] | None = None
) -> NDArray[np.unsignedinteger[Any]]:
    """Draw bootstrap samples as multiplicities of the units.

    Stored as bytes, so that a million units times a thousand replicates fit in memory. The chance that a unit is drawn
    more than 255 times is negligible.

    Parameters
    ----------
    n_units, replicates : int
    rng : numpy.random.Generator
    column : (n_units,) int, optional
        Column of each unit, from 0 without gaps; the multiplicities of units with the same column are summed.

    Returns
    -------
    (replicates, n_units) uint8, or (replicates, n_columns) uint32 with `column`
        Each row sums to n_units.

    Examples
    --------
    >>> multiplicities(3, 2, np.random.default_rng(0)).sum(axis=1).tolist()
    [3, 3]
    """
    if column is None:
        weights: NDArray[np.unsignedinteger[Any]] = np.zeros((replicates, n_units), dtype=np.uint8)
        for row in weights:
            row += np.bincount(rng.integers(0, n_units, n_units), minlength=n_units).astype(np.uint8)
        return weights
    weights = np.zeros((replicates, int(column.max(initial=-1)) + 1), dtype=np.uint32)
    small = column.astype(np.int32)
    for row in weights:
        for start in range(0, n_units, DRAWN_AT_ONCE):  # draws and their columns stay in the cache of the processor
            drawn = rng.integers(0, n_units, min(DRAWN_AT_ONCE, n_units - start))
            columns = np.take(small, drawn, mode="clip")  # without a check of the bounds
            row += np.bincount(columns, minlength=len(row)).astype(np.uint32)
    return weights


def estimate_from_replicates(
    value: float,
    replicates: FloatArray,
    *,
    n: int,
    units: Units,
    why: str = "",
    values: Range = SHARE,
    raters: RaterVariation | None = None,
) -> Estimate:
    """Combine a value with a confidence interval from its bootstrap replicates.

    Parameters
    ----------
    value : float
    replicates : (R,) float
        NaN where undefined.
    n : int
        Sample size to report.
    units : Units
        Units that determine the precision: all clips, or those of the rarer class.
    why : str
        Reason to report if the value is undefined.
    values : Range
        Possible values of the estimate.
    raters : RaterVariation, optional
        Variance over raters, for an interval that speaks for new raters.

    Returns
    -------
    Estimate
        Without a value, and with `why`, where `value` is not finite. Without an interval with no replicates, fewer than
        20 replicates, fewer than two units, if fewer than 90 % of the replicates are defined, or if the replicates do
        not vary although the value is inside its range: all units are alike, which shows nothing about other units.
        With a note if there are fewer than 20 units.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 6, for the standard error.
    Korn and Graubard (1998), Survey Methodology 24:193, for the interval; see `intervals.interval`.

    Examples
    --------
    >>> replicates = np.random.default_rng(0).normal(0.75, 0.05, 999)
    >>> estimate = estimate_from_replicates(0.75, replicates, n=300, units=Units(75, "clips"))
    >>> round(estimate.low, 2), round(estimate.high, 2)
    (0.64, 0.83)
    """
    if not np.isfinite(value):
        return Estimate(None, n=n, why=why or "not defined on these data")
    if not len(replicates):
        return Estimate(float(value), n=n, why=f"no interval: fewer than two {units.name}" if units.n < 2 else None)
    defined = replicates[np.isfinite(replicates)]
    if too_few := _too_few(len(defined), len(replicates)):
        return Estimate(float(value), n=n, why=too_few)
    error = standard_error(defined, units.n)
    if raters is not None:
        return _for_new_raters(float(value), error, raters, n=n, units=units, values=values)
    if units.n >= 2 and _is_constant(float(value), error, values):
        return Estimate(float(value), n=n, why=CONSTANT)
    ends = interval(float(value), error, units=units.n, values=values)
    if ends is None:
        return Estimate(float(value), n=n, why=_no_interval(value, units))
    return Estimate(float(value), *ends, n=n, note=_note(units, None))


def _for_new_raters(
    value: float, standard_error: float, raters: RaterVariation, *, n: int, units: Units, values: Range
) -> Estimate:
    """Interval that covers the choice of raters; standard_error: over clips."""
    if not raters.is_defined:
        return Estimate(value, n=n, why=UNDEFINED_WITHOUT_A_RATER)
    spread = raters.combined(standard_error**2, units.n)
    if units.n >= 2 and _is_constant(value, spread.variance**0.5, values):
        return Estimate(value, n=n, why=CONSTANT)
    independent = max(min(float(units.n), raters.effective), 2.0) if units.n >= 2 else units.n
    ends = interval(value, spread.variance**0.5, units=independent, df=spread.df, values=values)
    if ends is None:
        return Estimate(value, n=n, why=_no_interval(value, units))
    return Estimate(value, *ends, n=n, note=_note(units, raters))


def _note(units: Units, raters: RaterVariation | None) -> str | None:
    """Note for an interval from too few clips or raters."""
    if raters is None:
        return few_units(*units)
    of_clips = few_units(*units) if raters.resample == "both" else None
    return "; ".join(filter(None, [of_clips, raters.note()])) or None


def _is_constant(value: float, error: float, values: Range) -> bool:
    """Whether replicates do not vary inside the range; error: standard error, 0 up to rounding if they do not.

    At a bound the number of units gives the interval, and systems with equal values differ by 0.
    """
    scale = max(abs(value), 1.0)
    if error > NEGLIGIBLE_ERROR * scale or (values == DIFFERENCE and abs(value) <= NEGLIGIBLE_ERROR):
        return False
    return min(value - values.lower, values.upper - value) > NEGLIGIBLE_ERROR * scale


def _no_interval(value: float, units: Units) -> str:
    """Reason why `interval` gave none."""
    if units.n < 2:
        return f"no interval: fewer than two {units.name}"
    return f"no interval: the value is {'too small for its standard error' if value else '0'}"


def _too_few(defined: int, replicates: int) -> str:
    """Reason for having no interval; empty if there are enough defined replicates."""
    if replicates < MIN_REPLICATES:
        return f"no interval: fewer than {MIN_REPLICATES} replicates"
    if defined < MIN_DEFINED_SHARE * replicates:
        return f"no interval: undefined in {replicates - defined} of {replicates} replicates"
    return ""


def mean_of_rates(
    rates: ArrayLike,
    replicates: FloatArray,
    *,
    n: int,
    units: Sequence[Units],
    why: str = "",
    raters: Sequence[RaterVariation | None] = (None, None, None),
) -> Estimate:
    """Mean of two rates, such as recall and specificity, with a confidence interval (MOVER).

    A rate of 0 or 1 does not vary between replicates, so the replicates of the mean vary too little. Therefore each
    rate gets a Wilson interval on its own units. The distances of the interval ends from the rates are combined with
    the correlation of the replicates.

    Parameters
    ----------
    rates : (2,) float
    replicates : (R, 2) float
    n : int
        Sample size to report.
    units : sequence of two Units
        Units that determine the precision of each rate.
    why : str
        Reason to report if the mean is undefined.
    raters : sequence of three RaterVariation or None
        Variance over raters of each rate and of the mean, for an interval that speaks for new raters.

    Returns
    -------
    Estimate
        In [0, 1]; without an interval under the conditions of `estimate_from_replicates`.

    References
    ----------
    Zou and Donner (2008), Construction of confidence limits about effect measures: a general approach, Statistics in
    Medicine 27:1693.
    Zou (2007), Toward using confidence intervals to compare correlations, Psychological Methods 12:399.

    Examples
    --------
    >>> drawn = np.stack([np.ones(200), np.random.default_rng(0).normal(0.9, 0.02, 200)], axis=1)
    >>> units = (Units(25, "clips"), Units(300, "clips"))
    >>> estimate = mean_of_rates([1.0, 0.9], drawn, n=325, units=units)
    >>> round(estimate.value, 2), round(estimate.low, 2), round(estimate.high, 2)
    (0.95, 0.87, 0.97)
    """
    each = np.asarray(rates, dtype=float)
    value = float(each.mean())
    fewest = min(units)
    *of_rates, of_mean = raters
    estimate = estimate_from_replicates(value, replicates.mean(axis=1), n=n, units=fewest, why=why, raters=of_mean)
    if estimate.low is None:
        if estimate.why != CONSTANT:
            return estimate
        vary = (np.nanstd(replicates, axis=0) > NEGLIGIBLE_ERROR) | (np.minimum(each, 1 - each) <= NEGLIGIBLE_ERROR)
        if not vary.all():
            return estimate
        estimate = replace(estimate, why=None, note=_note(fewest, of_mean))
    drawn = replicates[np.isfinite(replicates).all(axis=1)]
    ends = [
        _rate_interval(float(rate), standard_error(column, of_rate.n), of_rate, variation)
        for rate, column, of_rate, variation in zip(each, drawn.T, units, of_rates, strict=True)
    ]
    below, above = np.abs(np.array(ends) - each[:, np.newaxis]).T
    correlation = _correlation(drawn, units, raters)
    # Rates that sum to 1 have correlation -1, where rounding can make the sum of squares negative.
    half = [max(float((d**2).sum() + 2 * correlation * d.prod()), 0.0) ** 0.5 / 2 for d in (below, above)]
    return replace(estimate, low=max(value - half[0], 0.0), high=min(value + half[1], 1.0))


def _rate_interval(
    rate: float, standard_error: float, units: Units, raters: RaterVariation | None
) -> tuple[float, float]:
    """Wilson interval of one of two rates; standard_error: over clips."""
    size, df = float(max(units.n, 2)), None
    if raters is not None and raters.is_defined:
        variance, df = raters.combined(standard_error**2, units.n)
        standard_error, size = variance**0.5, max(min(size, raters.effective), 2.0)
    return interval(rate, standard_error, units=size, df=df) or (0.0, 1.0)


def _correlation(drawn: FloatArray, units: Sequence[Units], raters: Sequence[RaterVariation | None]) -> float:
    """Correlation of two rates; with raters, from the variances of both rates and of their mean."""
    deviations = drawn.std(axis=0)
    covariance = float(((drawn - drawn.mean(axis=0)).prod(axis=1)).mean())
    if raters[-1] is None:
        return covariance / float(deviations.prod()) if (deviations > NEGLIGIBLE_ERROR).all() else 0.0
    columns = [*drawn.T, drawn.mean(axis=1)]
    clips = [*units, min(units)]
    first, second, mean = (
        variation.combined(standard_error(column, of.n) ** 2, of.n).variance if variation is not None else np.nan
        for column, of, variation in zip(columns, clips, raters, strict=True)
    )
    if not min(first, second) > NEGLIGIBLE_ERROR**2:
        return 0.0
    return float(np.clip((4 * mean - first - second) / (2 * (first * second) ** 0.5), -1.0, 1.0))


def standard_error(replicates: FloatArray, units: int) -> float:
    """Bootstrap standard error, corrected for its downward bias with few units.

    The standard deviation of the replicates times √(m / (m − 1)) for m units.

    Parameters
    ----------
    replicates : (R,) float
    units : int

    Returns
    -------
    float
        0 with fewer than two replicates or units.

    References
    ----------
    Hesterberg (2015), What teachers should know about the bootstrap: resampling in the undergraduate statistics
    curriculum, The American Statistician 69:371, section 4.2.

    Examples
    --------
    >>> round(standard_error(np.array([0.4, 0.6]), 5), 4)
    0.1581
    """
    if len(replicates) < 2 or units < 2:
        return 0.0
    return float(replicates.std(ddof=1) * np.sqrt(units / (units - 1)))


def paired_difference(
    first: float,
    second: float,
    first_replicates: FloatArray,
    second_replicates: FloatArray,
    *,
    n: int,
    units: Units,
    raters: RaterVariation | None = None,
) -> tuple[Estimate, float | None]:
    """Paired difference of two systems on the same items, first − second, with a two-sided p-value.

    Parameters
    ----------
    first, second : float
        Values of the two systems.
    first_replicates, second_replicates : (R,) float
        From the same draws, so that difficulty shared by both systems cancels.
    n : int
        Sample size to report.
    units : Units
    raters : RaterVariation, optional
        Variance of the difference over raters, for an interval and a p-value that speak for new raters.

    Returns
    -------
    estimate : Estimate
    p : float or None
        From Student's t with units − 1 degrees of freedom, in [2 / (R + 1), 1]: R replicates cannot show less. None
        where the difference is undefined or has no interval.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 12 and 16.

    Examples
    --------
    >>> r = np.random.default_rng(0).normal(0.6, 0.05, 999)
    >>> estimate, p = paired_difference(0.6, 0.5, r, np.full(999, 0.5), n=50, units=Units(50, "clips"))
    >>> round(estimate.value, 3), round(p, 2)
    (0.1, 0.05)
    """
    differences = first_replicates - second_replicates
    estimate = estimate_from_replicates(first - second, differences, n=n, units=units, values=DIFFERENCE, raters=raters)
    if estimate.value is None or estimate.low is None:
        return estimate, None
    differences = differences[np.isfinite(differences)]
    error, df = standard_error(differences, units.n), float(units.n - 1)
    if raters is not None:
        variance, df = raters.combined(error**2, units.n)
        error = variance**0.5
    p = two_sided_p(estimate.value, error, df)
    return estimate, min(1.0, max(p, 2 / (len(differences) + 1)))


def mcnemar_exact(only_first_correct: int, only_second_correct: int) -> float:
    """Exact McNemar test: two-sided p-value that two systems are equally often correct on the same items.

    Under the null hypothesis, the discordant items (exactly one system correct) are binomial with probability 1/2. The
    test assumes independent items. If clips have several items each, it rejects too often; use `paired_difference`.

    Parameters
    ----------
    only_first_correct, only_second_correct : int
        Discordant items.

    Returns
    -------
    float
        In (0, 1]; 1 without discordant items.

    References
    ----------
    McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12:153.

    Examples
    --------
    >>> round(mcnemar_exact(10, 2), 6)
    0.038574
    """
    from scipy.stats import binomtest  # slow to import and rarely needed

    n = only_first_correct + only_second_correct
    return float(binomtest(only_first_correct, n, 0.5).pvalue) if n else 1.0


def _total(contributions: Contributions) -> FloatArray:
    return np.asarray(contributions.sum(axis=0), dtype=np.float64).ravel()

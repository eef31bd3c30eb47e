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
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import DIFFERENCE, NEGLIGIBLE_ERROR, SHARE, Range, few_units, interval, two_sided_p

FloatArray = NDArray[np.float64]
Contributions: TypeAlias = FloatArray | sparse.csr_array
Formula = Callable[[FloatArray], FloatArray]

MIN_REPLICATES = 20
MIN_DEFINED_SHARE = 0.9  # of the replicates; an interval from fewer would be conditional on being defined
CHUNK_VALUES = 20_000_000  # sums in memory at once, 160 MB of float64


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
    weights : (replicates, n_units) uint8
        Multiplicities: how often each replicate drew each unit. Without replicates, estimates have no interval.
    name : str
        What the units are, for notes.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap.
    Davison and Hinkley (1997), Bootstrap Methods and their Application, ch. 3.8, for clusters.
    """

    unit: NDArray[np.int64]
    weights: NDArray[np.uint8]
    name: str = "clips"

    @classmethod
    def from_units(
        cls, units: ArrayLike, replicates: int, rng: np.random.Generator, name: str = "clips"
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

        Returns
        -------
        Bootstrap

        Examples
        --------
        >>> b = Bootstrap.from_units(["x", "x", "y"], 4, np.random.default_rng(0))
        >>> b.unit.tolist(), b.weights.sum(axis=1).tolist()
        ([0, 0, 1], [2, 2, 2, 2])
        """
        names, unit = np.unique(np.asarray(units), return_inverse=True)
        return cls(unit.astype(np.int64).ravel(), multiplicities(len(names), replicates, rng), name)

    @property
    def n_units(self) -> int:
        """Number of units in the sample."""
        return self.weights.shape[1]

    def take(self, items: NDArray[Any]) -> "Bootstrap":
        """Select items, keeping the same replicates.

        Parameters
        ----------
        items : (n,) bool or (m,) int
            Mask or indices of the items to keep; indices may repeat. Units without items are dropped.

        Returns
        -------
        Bootstrap
        """
        used, unit = np.unique(self.unit[items], return_inverse=True)
        return Bootstrap(unit.astype(np.int64).ravel(), self.weights[:, used], self.name)

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
        return Units(len(np.unique(self.unit[np.asarray(items, dtype=bool)])), f"{self.name} {description}")

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
    ) -> list[Estimate]:
        """Evaluate a formula that returns k values from the same sums.

        Parameters
        ----------
        contributions : (n, d) array or sparse array
        formula : callable
            Maps (…, d) sums to (…, k) values.
        n, why, units, values : sequences of length k
            As in `estimate`, one entry for each value.

        Returns
        -------
        list of k Estimate
        """
        point = formula(_total(contributions)[np.newaxis])[0]
        replicates = self.replicates(contributions, formula, len(point))
        units = units or [self.units] * len(point)
        values = values or [SHARE] * len(point)
        each = zip(point, replicates.T, n, why, units, values, strict=True)
        return [
            estimate_from_replicates(v, r, n=size, why=reason, units=deciding, values=possible)
            for v, r, size, reason, deciding, possible in each
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
        by_unit = self._by_unit(contributions)
        rows = max(1, CHUNK_VALUES // max(*by_unit.shape, 1))
        chunks = [
            formula(np.asarray(self.weights[i : i + rows].astype(float) @ by_unit))
            for i in range(0, len(self.weights), rows)
        ]
        return np.concatenate(chunks) if chunks else np.empty((0, k))

    def _by_unit(self, contributions: Contributions) -> Contributions:
        membership = sparse.csr_array(
            (np.ones(len(self.unit)), (self.unit, np.arange(len(self.unit)))), shape=(self.n_units, len(self.unit))
        )
        summed = membership @ contributions
        return summed.tocsr() if sparse.issparse(summed) else np.asarray(summed)


def multiplicities(n_units: int, replicates: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw bootstrap samples as multiplicities of the units.

    Stored as bytes, so that a million units times a thousand replicates fit in memory. The chance that a unit is drawn
    more than 255 times is negligible.

    Parameters
    ----------
    n_units, replicates : int
    rng : numpy.random.Generator

    Returns
    -------
    (replicates, n_units) uint8
        Each row sums to n_units.

    Examples
    --------
    >>> multiplicities(3, 2, np.random.default_rng(0)).sum(axis=1).tolist()
    [3, 3]
    """
    weights = np.zeros((replicates, n_units), dtype=np.uint8)
    for row in weights:
        row += np.bincount(rng.integers(0, n_units, n_units), minlength=n_units).astype(np.uint8)
    return weights


def estimate_from_replicates(
    value: float,
    replicates: FloatArray,
    *,
    n: int,
    units: Units,
    why: str = "",
    values: Range = SHARE,
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

    Returns
    -------
    Estimate
        Without a value, and with `why`, where `value` is not finite. Without an interval with no replicates, fewer than
        20 replicates, fewer than two units, or if fewer than 90 % of the replicates are defined. With a note if there
        are fewer than 20 units.

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
        return Estimate(float(value), n=n)
    defined = replicates[np.isfinite(replicates)]
    if too_few := _too_few(len(defined), len(replicates)):
        return Estimate(float(value), n=n, why=too_few)
    ends = interval(float(value), standard_error(defined, units.n), units=units.n, values=values)
    if ends is None and units.n >= 2:
        return Estimate(float(value), n=n, why="no interval: the value is 0")
    if ends is None:
        return Estimate(float(value), n=n, why=f"no interval: fewer than two {units.name}")
    return Estimate(float(value), *ends, n=n, note=few_units(*units))


def _too_few(defined: int, replicates: int) -> str:
    """Reason for having no interval; empty if there are enough defined replicates."""
    if replicates < MIN_REPLICATES:
        return f"no interval: fewer than {MIN_REPLICATES} replicates"
    if defined < MIN_DEFINED_SHARE * replicates:
        return f"no interval: undefined in {replicates - defined} of {replicates} replicates"
    return ""


def mean_of_rates(
    rates: ArrayLike, replicates: FloatArray, *, n: int, units: Sequence[Units], why: str = ""
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
    estimate = estimate_from_replicates(value, replicates.mean(axis=1), n=n, units=fewest, why=why)
    if estimate.low is None:
        return estimate
    drawn = replicates[np.isfinite(replicates).all(axis=1)]
    ends = [
        interval(float(rate), standard_error(column, of_rate.n), units=max(of_rate.n, 2)) or (0.0, 1.0)
        for rate, column, of_rate in zip(each, drawn.T, units, strict=True)
    ]
    deviations = drawn.std(axis=0)
    covariance = float(((drawn - drawn.mean(axis=0)).prod(axis=1)).mean())
    correlation = covariance / float(deviations.prod()) if (deviations > NEGLIGIBLE_ERROR).all() else 0.0
    below, above = np.abs(np.array(ends) - each[:, np.newaxis]).T
    # Rates that sum to 1 have correlation -1, where rounding can make the sum of squares negative.
    half = [max(float((d**2).sum() + 2 * correlation * d.prod()), 0.0) ** 0.5 / 2 for d in (below, above)]
    return replace(estimate, low=max(value - half[0], 0.0), high=min(value + half[1], 1.0))


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
    estimate = estimate_from_replicates(first - second, differences, n=n, units=units, values=DIFFERENCE)
    if estimate.value is None or estimate.low is None:
        return estimate, None
    differences = differences[np.isfinite(differences)]
    p = two_sided_p(estimate.value, standard_error(differences, units.n), units.n - 1)
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

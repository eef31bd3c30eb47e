"""Intervals by the cluster bootstrap, computed from sums instead of from data.

The unit that was sampled is the unit that is resampled: all ratings of a clip, all questions on a clip, move
together. A replicate is a vector of multiplicities over units. Every estimate here is a formula on sums over
items, so all replicates of it are one matrix product: multiplicities (replicates × units) times contributions
(units × sums). Nothing is recomputed from the data.

The replicates give the standard error; `metrics.intervals` makes an interval of it. Percentiles of the replicates would
be too narrow with few units and collapse at 0 and 1.

Undefined values are NaN inside and become null, with the reason, in an `Estimate`.
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

FEWEST_REPLICATES = 20  # the spread of fewer says next to nothing
DEFINED_SHARE = 0.9  # an interval from fewer defined replicates than this would describe a different question
CHUNK_VALUES = 20_000_000  # sums held at once, 160 MB of float64


class Units(NamedTuple):
    """The independent units that decide how well a value is known: how many, and what they are."""

    n: int
    name: str


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of a sample of units.

    unit: (n,) the unit of each item, 0 … n_units − 1. weights: (replicates, n_units) how often each replicate
    drew each unit. No replicates: estimates have no interval. name: what the units are, for notes.
    """

    unit: NDArray[np.int64]
    weights: NDArray[np.uint8]
    name: str = "clips"

    @classmethod
    def from_units(
        cls, units: ArrayLike, replicates: int, rng: np.random.Generator, name: str = "clips"
    ) -> "Bootstrap":
        """Draw `replicates` samples with replacement of the distinct values in `units`.

        >>> b = Bootstrap.from_units(["x", "x", "y"], 4, np.random.default_rng(0))
        >>> b.unit.tolist(), b.weights.sum(axis=1).tolist()
        ([0, 0, 1], [2, 2, 2, 2])
        """
        names, unit = np.unique(np.asarray(units), return_inverse=True)
        return cls(unit.astype(np.int64).ravel(), multiplicities(len(names), replicates, rng), name)

    @property
    def n_units(self) -> int:
        """How many units there are to draw from."""
        return self.weights.shape[1]

    def take(self, items: NDArray[Any]) -> "Bootstrap":
        """The same replicates for other rows: a mask or indices of the items that the new rows belong to.

        Units that none of the rows belong to are dropped; they would contribute nothing.
        """
        used, unit = np.unique(self.unit[items], return_inverse=True)
        return Bootstrap(unit.astype(np.int64).ravel(), self.weights[:, used], self.name)

    @property
    def units(self) -> Units:
        """All units."""
        return Units(self.n_units, self.name)

    def units_of_classes(self, labels: ArrayLike) -> tuple[Units, Units]:
        """The units that have a positive item, and those that have a negative one. labels: (n,) booleans or shares."""
        y = np.asarray(labels, dtype=float)
        return self.units_with(y > 0, "with a present item"), self.units_with(y < 1, "with an absent item")

    def units_with(self, items: ArrayLike, what: str) -> Units:
        """The units that have an item for which `items`, (n,) booleans, is true; what: how a note calls such units.

        >>> bootstrap = Bootstrap.from_units([0, 0, 1], 0, np.random.default_rng(0))
        >>> bootstrap.units_with([True, True, False], "called present")
        Units(n=1, name='clips called present')
        """
        return Units(len(np.unique(self.unit[np.asarray(items, dtype=bool)])), f"{self.name} {what}")

    def units_of_rarer_class(self, labels: ArrayLike) -> Units:
        """Units that have an item of a class, for the class with fewer of them.

        labels: (n,) booleans, or the share of each item that is positive.

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
        """The formula on the sums of the contributions, with its interval.

        contributions: (items, d), dense or sparse. formula: (…, d) sums → (…) values, NaN where undefined.
        n: what the report prints as the size of the sample. why: the reason to give when the value is undefined.
        units: those that decide how well the value is known, of the rarer class, say; all by default. values: those
        that the estimate can take.
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
        """Several values from the same sums: formula maps (…, d) sums → (…, k) values; the lists have k entries."""
        found = formula(_total(contributions)[np.newaxis])[0]
        replicates = self.replicates(contributions, formula, len(found))
        units = units or [self.units] * len(found)
        values = values or [SHARE] * len(found)
        each = zip(found, replicates.T, n, why, units, values, strict=True)
        return [
            estimate_from_replicates(v, r, n=size, why=reason, units=known, values=can_be)
            for v, r, size, reason, known, can_be in each
        ]

    def replicates(self, contributions: Contributions, formula: Formula, k: int) -> FloatArray:
        """The values of every replicate, (replicates, k); none where there are fewer than two units."""
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
    """How often each of `replicates` samples of n_units with replacement holds each unit: (replicates, n_units).

    Bytes, since a million units times a thousand replicates must fit in memory; no unit is drawn 256 times.
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
    """A value and the interval that the spread of its replicates gives.

    replicates: (R,) values of bootstrap replicates, NaN where undefined. units: those that decide how well the value is
    known, all clips or those of the rarer class. values: those that it can take.

    An undefined value gives an Estimate without value and with `why`. Where fewer than 90 % of the replicates
    are defined, or there are none, the value stands without an interval; the former says why. Fewer than 20 units
    give an interval with a note.
    """
    if not np.isfinite(value):
        return Estimate(None, n=n, why=why or "not defined on these data")
    if not len(replicates):
        return Estimate(float(value), n=n)
    defined = replicates[np.isfinite(replicates)]
    if too_few := _too_few(len(defined), len(replicates)):
        return Estimate(float(value), n=n, why=too_few)
    found = interval(float(value), standard_error(defined, units.n), units=units.n, values=values)
    if found is None and units.n >= 2:
        return Estimate(float(value), n=n, why="no interval: a value of 0 has no scale")
    if found is None:
        return Estimate(float(value), n=n, why=f"no interval: it needs two {units.name} or more")
    return Estimate(float(value), *found, n=n, note=few_units(*units))


def _too_few(defined: int, replicates: int) -> str:
    """Why so many defined replicates give no interval; empty where they do."""
    if replicates < FEWEST_REPLICATES:
        return f"no interval: it needs {FEWEST_REPLICATES} replicates or more"
    if defined < DEFINED_SHARE * replicates:
        return f"no interval: undefined in {replicates - defined} of {replicates} replicates"
    return ""


def mean_of_rates(
    rates: ArrayLike, replicates: FloatArray, *, n: int, units: Sequence[Units], why: str = ""
) -> Estimate:
    """The mean of two rates, such as recall and specificity, with an interval that holds where one of them is 0 or 1.

    There its replicates do not vary, so that those of the mean would vary too little. Each rate has Wilson's interval
    on its own units; the distances of their ends from the rates are combined with the replicates' correlation.

    rates: (2,). replicates: (R, 2). units: those that decide either rate.
    Source: Zou and Donner (2008), Statistics in Medicine 27:1693 (MOVER); Zou (2007), Psychological Methods 12:399.
    """
    each = np.asarray(rates, dtype=float)
    value = float(each.mean())
    fewest = min(units)
    known = estimate_from_replicates(value, replicates.mean(axis=1), n=n, units=fewest, why=why)
    if known.low is None:
        return known
    drawn = replicates[np.isfinite(replicates).all(axis=1)]
    ends = [
        interval(float(rate), standard_error(column, one.n), units=max(one.n, 2)) or (0.0, 1.0)
        for rate, column, one in zip(each, drawn.T, units, strict=True)
    ]
    spread = drawn.std(axis=0)
    covariance = float(((drawn - drawn.mean(axis=0)).prod(axis=1)).mean())
    together = covariance / float(spread.prod()) if (spread > NEGLIGIBLE_ERROR).all() else 0.0
    below, above = np.abs(np.array(ends) - each[:, np.newaxis]).T
    half = [float(np.sqrt((d**2).sum() + 2 * together * d.prod())) / 2 for d in (below, above)]
    return replace(known, low=max(value - half[0], 0.0), high=min(value + half[1], 1.0))


def standard_error(replicates: FloatArray, units: int) -> float:
    """The standard deviation of replicates, (R,), corrected for the bootstrap's bias with few units; 0 of one.

    Source: Hesterberg (2015), The American Statistician 69:371, section 4.2.
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
    """How much better the first of two systems is on the same items: first − second, and its two-sided p-value.

    first_replicates, second_replicates: (R,) from the same draws, so that what is hard for both cancels.
    p: by Student's t with units − 1 degrees of freedom, at least 2 / (R + 1), since R replicates cannot show less; at
    most 1; None where there are no replicates or the difference does not exist.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 12 and 16.

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


def mcnemar_exact(only_first_right: int, only_second_right: int) -> float:
    """Two-sided exact p-value that two systems on the same items are equally often right.

    The items on which exactly one of them is right are coin tosses under the hypothesis. None: p = 1. Only for items
    that are independent: where clips have several items each, it rejects too often, and `paired_difference` holds.
    Source: McNemar (1947); exact form, binomial with p = 1/2.

    >>> round(mcnemar_exact(10, 2), 6)
    0.038574
    """
    from scipy.stats import binomtest  # slow to import, and hardly ever needed

    n = only_first_right + only_second_right
    return float(binomtest(only_first_right, n, 0.5).pvalue) if n else 1.0


def _total(contributions: Contributions) -> FloatArray:
    return np.asarray(contributions.sum(axis=0), dtype=np.float64).ravel()

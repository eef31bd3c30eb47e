"""Intervals by the cluster bootstrap, computed from sums instead of from data.

The unit that was sampled is the unit that is resampled: all ratings of a clip, all questions on a clip, move
together. A replicate is a vector of multiplicities over units. Every estimate here is a formula on sums over
items, so all replicates of it are one matrix product: multiplicities (replicates × units) times contributions
(units × sums). Nothing is recomputed from the data.

Undefined values are NaN inside and become null, with the reason, in an `Estimate`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

FloatArray = NDArray[np.float64]
Contributions: TypeAlias = FloatArray | sparse.csr_array
Formula = Callable[[FloatArray], FloatArray]

CONFIDENCE = 0.95
DEFINED_SHARE = 0.9  # an interval from fewer defined replicates than this would describe a different question
CHUNK_VALUES = 20_000_000  # sums held at once, 160 MB of float64


@dataclass(frozen=True)
class Estimate:
    """A number fit to print: its value, its 95 % interval, the n behind it, or why it does not exist."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `why` is there only when something is undefined."""
        return {key: value for key, value in asdict(self).items() if key != "why" or value is not None}


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of a sample of units.

    unit: (n,) the unit of each item, 0 … n_units − 1. weights: (replicates, n_units) how often each replicate
    drew each unit. No replicates: estimates have no interval.
    """

    unit: NDArray[np.int64]
    weights: NDArray[np.uint8]

    @classmethod
    def of(cls, units: ArrayLike, replicates: int, rng: np.random.Generator) -> "Bootstrap":
        """Draw `replicates` samples with replacement of the distinct values in `units`.

        >>> b = Bootstrap.of(["x", "x", "y"], 4, np.random.default_rng(0))
        >>> b.unit.tolist(), b.weights.sum(axis=1).tolist()
        ([0, 0, 1], [2, 2, 2, 2])
        """
        names, unit = np.unique(np.asarray(units), return_inverse=True)
        return cls(unit.astype(np.int64).ravel(), multiplicities(len(names), replicates, rng))

    @property
    def n_units(self) -> int:
        """How many units there are to draw from."""
        return self.weights.shape[1]

    def take(self, items: NDArray[Any]) -> "Bootstrap":
        """The same replicates for other rows: a mask or indices of the items that the new rows belong to.

        Units that none of the rows belong to are dropped; they would contribute nothing.
        """
        used, unit = np.unique(self.unit[items], return_inverse=True)
        return Bootstrap(unit.astype(np.int64).ravel(), self.weights[:, used])

    def estimate(self, contributions: Contributions, formula: Formula, *, n: int, why: str = "") -> Estimate:
        """The formula on the sums of the contributions, with its percentile interval.

        contributions: (items, d), dense or sparse. formula: (…, d) sums → (…) values, NaN where undefined.
        n: what the report prints as the size of the sample. why: the reason to give when the value is undefined.
        """
        return self.estimates(contributions, lambda sums: formula(sums)[..., np.newaxis], n=[n], why=[why])[0]

    def estimates(
        self, contributions: Contributions, formula: Formula, *, n: list[int], why: list[str]
    ) -> list[Estimate]:
        """Several values from the same sums: formula maps (…, d) sums → (…, k) values; n and why have k entries."""
        values = formula(_total(contributions)[np.newaxis])[0]
        replicates = self.replicates(contributions, formula, len(values))
        return [
            summarise(v, r, n=size, why=reason) for v, r, size, reason in zip(values, replicates.T, n, why, strict=True)
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


def summarise(value: float, replicates: FloatArray, *, n: int, why: str = "") -> Estimate:
    """A value and the percentile interval of its replicates.

    An undefined value gives an Estimate without value and with `why`. Where fewer than 90 % of the replicates
    are defined, or there are none, the value stands without an interval; the former says why.
    """
    if not np.isfinite(value):
        return Estimate(None, n=n, why=why or "not defined on these data")
    defined = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return Estimate(float(value), n=n)
    if len(defined) < DEFINED_SHARE * len(replicates):
        return Estimate(
            float(value),
            n=n,
            why=f"no interval: undefined in {len(replicates) - len(defined)} of {len(replicates)} replicates",
        )
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high), n)


def paired_difference(
    first: float, second: float, first_replicates: FloatArray, second_replicates: FloatArray, *, n: int
) -> tuple[Estimate, float | None]:
    """How much better the first of two systems is on the same items: first − second, and its two-sided p-value.

    first_replicates, second_replicates: (replicates,) from the same draws, so that what is hard for both cancels.
    p: twice the share of replicates on the other side of 0 (or on it), at least 1 / replicates, at most 1; None
    where there are no replicates or the difference does not exist.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 15 and 16.

    >>> r = np.linspace(0.5, 0.7, 101)
    >>> estimate, p = paired_difference(0.6, 0.5, r, np.full(101, 0.5), n=50)
    >>> round(estimate.value, 3), round(p, 3)
    (0.1, 0.02)
    """
    estimate = summarise(first - second, first_replicates - second_replicates, n=n)
    differences = (first_replicates - second_replicates)[np.isfinite(first_replicates - second_replicates)]
    if estimate.value is None or not len(differences):
        return estimate, None
    other_side = min((differences <= 0).mean(), (differences >= 0).mean())
    return estimate, float(min(1.0, max(2 * other_side, 1 / len(differences))))


def mcnemar_exact(only_first_right: int, only_second_right: int) -> float:
    """Two-sided exact p-value that two systems on the same items are equally often right.

    The items on which exactly one of them is right are coin tosses under the hypothesis. None: p = 1.
    Source: McNemar (1947); exact form, binomial with p = 1/2.

    >>> round(mcnemar_exact(10, 2), 6)
    0.038574
    """
    from scipy.stats import binomtest  # slow to import, and hardly ever needed

    n = only_first_right + only_second_right
    return float(binomtest(only_first_right, n, 0.5).pvalue) if n else 1.0


def _total(contributions: Contributions) -> FloatArray:
    return np.asarray(contributions.sum(axis=0), dtype=np.float64).ravel()

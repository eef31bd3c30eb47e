"""Variance of an estimate over new raters, from sums over items without each rater.

A cluster bootstrap over clips covers other clips rated by the same raters. Three variances of a statistic θ extend it:

  clips     V_c  cluster bootstrap over clips; holds the variance of single ratings, and none of the raters
  raters    V_r  delete-one jackknife over raters; holds the variance of single ratings too
  noise     V_n  what V_r would be without differences between raters: the variance over clips of the jackknife's
                 deviations, from the same bootstrap over clips, summed over raters

Other clips and other raters: V_c + max(V_r − V_n, 0). This is the two-way cluster variance, in which what both
clusters hold is subtracted once. The intersection is not estimated from single ratings, whose contributions also hold
clip and rater effects; with few raters that subtracts too much.
Other raters and the same clips: V_r. With incomplete designs V_r also holds the variance of which clips a rater was
given, so the smaller of V_r and the variance for both is used; either is an upper bound.

Degrees of freedom are Satterthwaite's. The variance of max(V_r − V_n, 0) is taken to be 2 V_r (V_r − V_n) / (m − 1)
for m raters. With 2 V_r² intervals would be far too wide without rater effects, and with 2 (V_r − V_n)² those of six
raters slightly too narrow. m is the effective number of raters, (Σ n_r²)² / Σ n_r⁴ for n_r ratings of rater r.
docs/coverage.md has the simulations.

References: Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering, Journal of Business and
Economic Statistics 29:238. Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1:386. Owen and Eckles
(2012), Bootstrapping data arrays of arbitrary order, Annals of Applied Statistics 6:895. Efron and Stein (1981), The
jackknife estimate of variance, Annals of Statistics 9:586.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from earmark.metrics.ratio import NEGLIGIBLE, ratio
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Formula = Callable[[FloatArray], FloatArray]
Contributions: TypeAlias = FloatArray | sparse.csr_array

# From coverage simulations (docs/coverage.md); an interval for new raters from fewer carries a note.
MIN_RATERS = 6
NOISE_REPLICATES = 100  # bootstrap samples of clips for V_n, which is a sum over raters and varies little
FEWEST_NOISE_REPLICATES = 20  # with so many pairs of raters that their sums take much memory
MIN_DEFINED_SHARE = 0.9  # of them
BLOCK_VALUES = 2_000_000  # sums in memory at once
UNDEFINED_WITHOUT_A_RATER = "no interval for new raters: undefined without one of the raters"


def noise_replicates(n_sums: int) -> int:
    """Number of bootstrap samples for V_n, from the number of sums of an estimate.

    Examples
    --------
    >>> noise_replicates(20), noise_replicates(4_000_000)
    (100, 20)
    """
    return min(NOISE_REPLICATES, max(FEWEST_NOISE_REPLICATES, 10 * BLOCK_VALUES // max(n_sums, 1)))


def interval_method(resample: Resample, replicates: int) -> str:
    """Name of the method of the intervals, for signatures.

    Parameters
    ----------
    resample : {"clips", "raters", "both"}
    replicates : int
        Number of bootstrap replicates.

    Examples
    --------
    >>> interval_method("clips", 1000), interval_method("both", 1000)
    ('clip-bootstrap-1000', 'clip-bootstrap-1000+rater-jackknife')
    """
    over_clips = f"clip-bootstrap-{replicates}"
    return {"clips": over_clips, "raters": "rater-jackknife", "both": f"{over_clips}+rater-jackknife"}[resample]


class Spread(NamedTuple):
    """Variance of an estimate and its degrees of freedom."""

    variance: float
    df: float


@dataclass(frozen=True)
class RaterVariation:
    """Variance of one estimate over raters.

    Attributes
    ----------
    resample : {"raters", "both"}
    jackknife : float
        V_r; NaN if the estimate is undefined without one of the raters.
    noise : float
        V_n, the part of V_r that single ratings and clips explain.
    raters : int
        Number of raters.
    effective : float
        Effective number of raters, at most `raters`.
    """

    resample: Resample
    jackknife: float
    noise: float
    raters: int
    effective: float

    @property
    def is_defined(self) -> bool:
        """Whether the estimate is defined without each of the raters."""
        return bool(np.isfinite(self.jackknife) and np.isfinite(self.noise))

    def combined(self, clip_variance: float, clips: int) -> Spread:
        """Add the variance over raters to that over clips.

        Parameters
        ----------
        clip_variance : float
            V_c, the squared standard error over clips.
        clips : int
            Number of clips.

        Returns
        -------
        Spread
            Degrees of freedom are at least 1.

        Examples
        --------
        >>> variation = RaterVariation("both", 0.0005, 0.0001, raters=12, effective=12.0)
        >>> spread = variation.combined(0.0003, 60)
        >>> round(spread.variance, 6), round(spread.df, 1)
        (0.0007, 24.9)
        """
        of_raters = max(self.jackknife - self.noise, 0.0)
        rater_df = max(self.effective - 1, 1.0)
        both = clip_variance + of_raters
        if self.resample == "raters" and self.jackknife <= both:
            return Spread(self.jackknife, rater_df)
        spent = clip_variance**2 / max(clips - 1, 1) + of_raters * self.jackknife / rater_df
        return Spread(both, max(both**2 / spent, 1.0) if spent > 0 else float(max(clips - 1, 1)))

    def note(self) -> str | None:
        """Note for an interval from too few raters.

        Examples
        --------
        >>> RaterVariation("both", 0.1, 0.1, raters=3, effective=3.0).note()
        'only 3 raters (95 % intervals for new raters need at least 6)'
        """
        if self.effective >= MIN_RATERS - 0.5:
            return None
        need = f"(95 % intervals for new raters need at least {MIN_RATERS})"
        if self.raters < MIN_RATERS:
            return f"only {self.raters} raters {need}"
        return f"a few of the {self.raters} raters gave most ratings, as if there were {self.effective:.0f} {need}"


class Deletions(Protocol):
    """Values of estimates without each rater."""

    @property
    def ratings(self) -> IntArray:
        """Number of ratings of each rater, (R,) int."""

    def without(self, multiplicity: FloatArray, unit: IntArray, sums: FloatArray, formula: Formula) -> FloatArray:
        """Evaluate estimates on bootstrap samples without each rater.

        Parameters
        ----------
        multiplicity : (B, n_units) float
            How often each sample contains each unit.
        unit : (n,) int
            Unit of each row of the contributions.
        sums : (B, d) float
            Sums of the contributions of all raters in each sample.
        formula : callable
            Maps (…, d) sums to (…, k) values.

        Returns
        -------
        (B, R, j) float
            The first j ≤ k values; the others have no variance over raters.
        """


@dataclass(frozen=True)
class RatingDeletions:
    """Deletions for contributions of items: how a row of the contributions changes without one of its ratings.

    Attributes
    ----------
    row : (n_ratings,) int
        Row of the contributions to which each rating belongs. A rater has one rating of an item, so that changes of a
        rater add up.
    rater : (n_ratings,) int
    change : callable
        Maps indices of ratings, (m,) int, to (m, d) changes: contribution without the rating minus that with it.
    first : int, optional
        Number of values with a variance over raters, from the first; all by default.

    Examples
    --------
    Two raters agree on the first item and disagree on the second; each row counts agreeing pairs and pairs:

    >>> change = np.array([[-1.0, -1.0], [-1.0, -1.0], [0.0, -1.0], [0.0, -1.0]])
    >>> deletions = RatingDeletions(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), lambda rows: change[rows])
    >>> deletions.without(np.ones((1, 2)), np.arange(2), np.array([[1.0, 2.0]]), lambda sums: sums).tolist()
    [[[0.0, 0.0], [0.0, 0.0]]]
    """

    row: IntArray
    rater: IntArray
    change: Callable[[IntArray], FloatArray]
    first: int | None = None

    @property
    def ratings(self) -> IntArray:
        """Number of ratings of each rater with ratings, (R,) int."""
        return np.unique(self.rater, return_counts=True)[1].astype(np.int64)

    def without(self, multiplicity: FloatArray, unit: IntArray, sums: FloatArray, formula: Formula) -> FloatArray:
        """Evaluate estimates without each rater; see `Deletions.without`."""
        order = np.argsort(self.rater, kind="stable")
        starts = np.flatnonzero(np.diff(self.rater[order], prepend=-1))
        of_raters = np.split(order, starts[1:])
        scale = NEGLIGIBLE * np.abs(sums)
        size = max(1, BLOCK_VALUES // max(sums.size, 1))
        parts = []
        for at in range(0, len(of_raters), size):
            changes = [self._changed(ratings, multiplicity, unit) for ratings in of_raters[at : at + size]]
            left = sums[:, np.newaxis] + np.stack(changes, axis=1)
            # What is left of a sum that a single rater gave is 0, up to rounding.
            left[np.abs(left) <= scale[:, np.newaxis]] = 0.0
            parts.append(formula(left)[..., : self.first])
        return np.concatenate(parts, axis=1)

    def _changed(self, ratings: IntArray, multiplicity: FloatArray, unit: IntArray) -> FloatArray:
        step = max(1, BLOCK_VALUES // len(multiplicity))
        parts = [ratings[start : start + step] for start in range(0, len(ratings), step)]
        changes = [multiplicity[:, unit[self.row[part]]] @ self.change(part) for part in parts]
        return np.asarray(sum(changes[1:], changes[0]))


@dataclass(frozen=True)
class RecomputedDeletions:
    """Deletions for estimates that are computed anew without each rater, at the cost of the estimate for each.

    Attributes
    ----------
    ratings : (R,) int
        Number of ratings of each rater.
    contributions : callable
        Maps the number of a rater, 0 … R − 1, to the (n, d) contributions of all rows without this rater. Their rows
        are those of the contributions of all raters; their columns may be others if `formula` is given.
    formula : callable, optional
        Formula of estimates without a rater, if it is not that of all raters.
    first : int, optional
        Number of values with a variance over raters, from the first; all by default.
    """

    ratings: IntArray
    contributions: Callable[[int], Contributions]
    formula: Formula | None = None
    first: int | None = None

    def without(self, multiplicity: FloatArray, unit: IntArray, sums: FloatArray, formula: Formula) -> FloatArray:
        """Evaluate estimates without each rater; see `Deletions.without`."""
        evaluate = self.formula or formula
        shape = (multiplicity.shape[1], len(unit))
        membership = sparse.csr_array((np.ones(len(unit)), (unit, np.arange(len(unit)))), shape=shape)
        each = [
            evaluate(np.asarray(multiplicity @ (membership @ self.contributions(rater))))
            for rater in range(len(self.ratings))
        ]
        return np.stack(each, axis=1)[..., : self.first]


@dataclass(frozen=True)
class PairDeletions:
    """Deletions for means over pairs of raters: without a rater, the mean is over the pairs of the others.

    Attributes
    ----------
    first, second : (P,) int
        Raters of each pair.
    values : callable
        Maps (…, d) sums to the values of pairs and their weights in the mean, both (…, P, j). NaN values are left out.
    pair_ratings : (P,) int
        Number of common items of each pair.
    fixed : tuple of int
        Raters that are not drawn from a population of raters, such as a sampling prior; they are never left out.
    """

    first: IntArray
    second: IntArray
    values: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    pair_ratings: IntArray
    fixed: tuple[int, ...] = ()

    @property
    def _raters(self) -> IntArray:
        return np.setdiff1d(np.union1d(self.first, self.second), np.array(self.fixed, dtype=np.int64))

    @property
    def _incidence(self) -> sparse.csr_array:
        """Whether each rater belongs to each pair, (R, P)."""
        names, pairs = self._raters, np.arange(len(self.first))
        both = np.concatenate([self.first, self.second])
        drawn = np.isin(both, names)
        cells = (np.searchsorted(names, both[drawn]), np.tile(pairs, 2)[drawn])
        return sparse.csr_array((np.ones(int(drawn.sum())), cells), shape=(len(names), len(pairs)))

    @property
    def ratings(self) -> IntArray:
        """Number of common items of each rater with others, (R,) int."""
        return np.asarray(self._incidence @ self.pair_ratings, dtype=np.int64)

    def without(self, multiplicity: FloatArray, unit: IntArray, sums: FloatArray, formula: Formula) -> FloatArray:
        """Evaluate means over pairs without each rater; see `Deletions.without`."""
        values, weights = self.values(sums)
        weights = np.where(np.isnan(values), 0.0, weights)
        products = np.nan_to_num(values) * weights
        incidence = self._incidence
        left = [_without_pairs(incidence, each) for each in (products, weights)]
        return ratio(left[0], left[1])


def _without_pairs(incidence: sparse.csr_array, of_pairs: FloatArray) -> FloatArray:
    """Sums over the pairs without each rater. incidence: (R, P); of_pairs: (B, P, j); returns (B, R, j)."""
    total = of_pairs.sum(axis=1)[:, np.newaxis]
    left = total - np.stack([incidence @ sample for sample in of_pairs])
    left[np.abs(left) <= NEGLIGIBLE * np.abs(total)] = 0.0
    return np.asarray(left)


def rater_variations(
    without: FloatArray, ratings: IntArray, clips: int, resample: Resample
) -> Sequence[RaterVariation]:
    """Variance of estimates over raters, from their values without each rater.

    Parameters
    ----------
    without : (1 + B, R, k) float
        Values without each rater: on the data, and on B bootstrap samples of the clips.
    ratings : (R,) int
        Number of ratings of each rater.
    clips : int
        Number of clips.
    resample : {"raters", "both"}

    Returns
    -------
    list of k RaterVariation
        Not defined with fewer than two raters, if the estimate is undefined without one of the raters, or if more than
        a tenth of the values of the samples are undefined.

    Examples
    --------
    >>> without = np.array([[[0.4], [0.5], [0.6]]] * 3)
    >>> round(rater_variations(without, np.array([9, 9, 9]), 30, "both")[0].jackknife, 4)
    0.0133
    """
    n_raters, k = without.shape[1:]
    if n_raters < 2 or len(without) < 3:
        return [RaterVariation(resample, np.nan, np.nan, n_raters, n_raters)] * k
    shrink = (n_raters - 1) / n_raters
    on_data, on_samples = without[0], without[1:]
    jackknife = shrink * ((on_data - on_data.mean(axis=0)) ** 2).sum(axis=0)
    defined = np.atleast_2d(np.isfinite(on_samples).all(axis=1))
    counts = ratings.astype(float)
    effective = float((counts**2).sum() ** 2 / (counts**4).sum())
    variations = []
    for at in range(k):
        samples = on_samples[defined[:, at], :, at]
        noise = np.nan
        if len(samples) >= max(MIN_DEFINED_SHARE * len(on_samples), 2):
            deviations = samples - samples.mean(axis=1, keepdims=True)
            noise = shrink * float(deviations.var(axis=0, ddof=1).sum()) * clips / max(clips - 1, 1)
        variations.append(RaterVariation(resample, float(jackknife[at]), noise, n_raters, effective))
    return variations

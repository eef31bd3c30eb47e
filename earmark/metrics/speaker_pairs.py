"""Variance of estimates from trials of speaker pairs: a dyadic cluster-robust (sandwich) estimator.

Two trials are dependent if they share a speaker, on either side. An estimate is represented by its value and the
influence of each trial (the trial's contribution to its sampling error; influences sum to 0). With t_i the sum of
influences over all trials of speaker i, and p_ij the sum over the trials of speakers i and j, the variance is

    Σ_i t_i²  −  Σ_{i < j} p_ij²

because a pair of two different speakers is counted at both of them. A target trial has one speaker and counts once.
Resampling speakers estimates the same variance with an upward bias: weighting a trial by the product of its speakers'
multiplicities counts the noise of single trials two or three times (Owen 2007).

References: Aronow, Samii and Assenova (2015), Cluster-robust variance estimation for dyadic data, Political Analysis
23:564, equation 3. Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1:386. Satterthwaite (1946), An
approximate distribution of estimates of variance components, Biometrics Bulletin 2:110, for degrees of freedom.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class VarianceEstimate(NamedTuple):
    """A standard error and its degrees of freedom.

    Attributes
    ----------
    standard_error : float
    df : float
        Effective number of speakers less one; small where a few speakers cause most of the error.
    """

    standard_error: float
    df: float


@dataclass(frozen=True)
class SpeakerPairs:
    """Distinct speaker pairs of a trial list.

    Attributes
    ----------
    n_speakers : int
        Over all lists that are combined.
    code : (k,) int
        Sorted; first · n_speakers + second with first ≤ second.
    of_trial : (n,) int
        Index in `code` of each trial's pair.
    """

    n_speakers: int
    code: IntArray
    of_trial: IntArray

    @classmethod
    def from_speakers(cls, first: IntArray, second: IntArray, n_speakers: int) -> "SpeakerPairs":
        """Build from the speakers of each trial; the order of the two sides does not matter.

        Parameters
        ----------
        first, second : (n,) int
            Speaker of either side, 0 … n_speakers − 1.
        n_speakers : int

        Examples
        --------
        >>> SpeakerPairs.from_speakers(np.array([0, 1, 0]), np.array([0, 0, 1]), 2).of_trial.tolist()
        [0, 1, 1]
        """
        code = np.minimum(first, second) * n_speakers + np.maximum(first, second)
        distinct, index = np.unique(code, return_inverse=True)
        return cls(n_speakers, distinct, index)

    def sums(self, influence: FloatArray) -> "PairSums":
        """Sum the influences of trials, (n,), over each speaker pair."""
        return PairSums(self.n_speakers, self.code, _summed(self.of_trial, influence, len(self.code)))

    def take(self, mask: NDArray[np.bool_]) -> "SpeakerPairs":
        """Select trials by a mask, (n,)."""
        used, index = np.unique(self.of_trial[mask], return_inverse=True)
        return SpeakerPairs(self.n_speakers, self.code[used], index)


@dataclass(frozen=True)
class PairSums:
    """Influence of each speaker pair on an estimate.

    Attributes
    ----------
    n_speakers : int
    code : (k,) int
        As in `SpeakerPairs`.
    sums : (k,) float
        Sum of the influences of the pair's trials.
    """

    n_speakers: int
    code: IntArray
    sums: FloatArray

    def __sub__(self, other: "PairSums") -> "PairSums":
        """Influence on the difference of two estimates from the same trials."""
        return linear_combination([(1.0, self), (-1.0, other)])

    @property
    def by_pair(self) -> float:
        """Σ p²: the variance if speaker pairs were independent."""
        return float((self.sums**2).sum())

    def variance(self) -> VarianceEstimate:
        """Cluster-robust standard error, at least that of independent speaker pairs, with Satterthwaite degrees of
        freedom.

        Returns
        -------
        VarianceEstimate
            The variance is multiplied by n / (n − 1) for n speakers; NaN with fewer than two speakers.

        References
        ----------
        Aronow, Samii and Assenova (2015), Political Analysis 23:564, equation 3.
        Satterthwaite (1946), Biometrics Bulletin 2:110.

        Examples
        --------
        With target trials only, it is the standard error of a mean over speakers:

        >>> pairs = SpeakerPairs.from_speakers(np.arange(4), np.arange(4), 4)
        >>> variance = pairs.sums(np.array([0.0, 1.0, 0.0, 1.0]) / 4 - 0.125).variance()
        >>> round(variance.standard_error, 4), round(float(np.std([0, 1, 0, 1], ddof=1)) / 2, 4)
        (0.2887, 0.2887)
        """
        first, second = np.divmod(self.code, self.n_speakers)
        different = first != second
        by_speaker = _summed(first, self.sums, self.n_speakers)
        by_speaker += _summed(second[different], self.sums[different], self.n_speakers)
        n = len(np.unique(np.concatenate([first, second])))
        if n < 2:
            return VarianceEstimate(np.nan, np.nan)
        squares = by_speaker**2
        variance = max(float(squares.sum() - (self.sums[different] ** 2).sum()), self.by_pair) * n / (n - 1)
        imbalance = float((squares**2).sum() - squares.sum() ** 2 / n)
        df = 2 * float(squares.sum()) ** 2 / imbalance if imbalance > 0 else np.inf
        return VarianceEstimate(float(np.sqrt(variance)), float(min(max(df, 1.0), n - 1)))


def linear_combination(parts: Iterable[tuple[float, PairSums]]) -> PairSums:
    """Influence on a weighted sum of estimates (delta method).

    The estimates may come from different lists with the same speakers.

    Parameters
    ----------
    parts : iterable of (float, PairSums)
        Weight, or derivative, and influence of each estimate.

    Returns
    -------
    PairSums

    References
    ----------
    Oehlert (1992), A note on the delta method, The American Statistician 46:27.

    Examples
    --------
    >>> sums = SpeakerPairs.from_speakers(np.arange(2), np.arange(2), 2).sums(np.array([0.5, -0.5]))
    >>> linear_combination([(2.0, sums), (1.0, sums)]).sums.tolist()
    [1.5, -1.5]
    """
    weighted = list(parts)
    first = weighted[0][1]
    if all(np.array_equal(each.code, first.code) for _, each in weighted):
        return PairSums(first.n_speakers, first.code, np.sum([w * each.sums for w, each in weighted], axis=0))
    code = np.concatenate([each.code for _, each in weighted])
    distinct, index = np.unique(code, return_inverse=True)
    sums = np.concatenate([weight * each.sums for weight, each in weighted])
    return PairSums(first.n_speakers, distinct, _summed(index, sums, len(distinct)))


def _summed(index: IntArray, values: FloatArray, n: int) -> FloatArray:
    return np.bincount(index, values, n).astype(np.float64)

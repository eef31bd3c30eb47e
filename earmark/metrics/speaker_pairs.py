"""The sampling error of what is computed from trials, each of which is a pair of speakers.

Two trials are dependent where they share a speaker, on either side. An estimate is written as its value and the part
of each trial in its sampling error (its influence; they sum to 0). With t_i the sum over all trials that speaker i
takes part in, and p_ij the sum over the trials of speakers i and j, the variance is

    Σ_i t_i²  −  Σ_{i < j} p_ij²

since every pair of two speakers is counted at both of them. A target trial has one speaker and counts once. This is
what resampling speakers estimates too, without its excess: weighting a trial by how often both of its speakers were
drawn counts the noise of trials two or three times (Owen 2007).

Sources: Aronow, Samii and Assenova (2015), Political Analysis 23:564, equation 3; Owen (2007), Annals of Applied
Statistics 1:386; degrees of freedom: Satterthwaite (1946), Biometrics Bulletin 2:110.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class VarianceEstimate(NamedTuple):
    """A sampling error. df: degrees of freedom, as many speakers as it rests on, less one; few where a few speakers
    make most of the error.
    """

    standard_error: float
    df: float


@dataclass(frozen=True)
class SpeakerPairs:
    """The distinct pairs of speakers of a trial list.

    n_speakers: of all lists that are linear_combination. code: (k,) rising, first · n_speakers + second with first ≤
    second. of_trial: (n,) the place of each trial's pair in code.
    """

    n_speakers: int
    code: IntArray
    of_trial: IntArray

    @classmethod
    def from_speakers(cls, first: IntArray, second: IntArray, n_speakers: int) -> "SpeakerPairs":
        """From the speaker of either side of each trial, codes 0 … n_speakers − 1; the order of the sides is nothing.

        >>> SpeakerPairs.from_speakers(np.array([0, 1, 0]), np.array([0, 0, 1]), 2).of_trial.tolist()
        [0, 1, 1]
        """
        code = np.minimum(first, second) * n_speakers + np.maximum(first, second)
        distinct, place = np.unique(code, return_inverse=True)
        return cls(n_speakers, distinct, place)

    def sums(self, influence: FloatArray) -> "PairSums":
        """The influence of trials, (n,), summed over the trials of each pair."""
        return PairSums(self.n_speakers, self.code, _summed(self.of_trial, influence, len(self.code)))

    def take(self, kept: NDArray[np.bool_]) -> "SpeakerPairs":
        """The pairs of some of the trials."""
        used, place = np.unique(self.of_trial[kept], return_inverse=True)
        return SpeakerPairs(self.n_speakers, self.code[used], place)


@dataclass(frozen=True)
class PairSums:
    """How much each pair of speakers has to do with the sampling error of an estimate. code: as in SpeakerPairs."""

    n_speakers: int
    code: IntArray
    sums: FloatArray

    def __sub__(self, other: "PairSums") -> "PairSums":
        """Of the difference of two estimates on the same trials."""
        return linear_combination([(1.0, self), (-1.0, other)])

    @property
    def by_pair(self) -> float:
        """Σ p²: the variance if pairs were independent, however they share speakers."""
        return float((self.sums**2).sum())

    def variance(self) -> VarianceEstimate:
        """The standard error; not less than that of independent pairs.

        >>> pairs = SpeakerPairs.from_speakers(np.arange(4), np.arange(4), 4)
        >>> variance = pairs.sums(np.array([0.0, 1.0, 0.0, 1.0]) / 4 - 0.125).variance()
        >>> round(variance.standard_error, 4), round(float(np.std([0, 1, 0, 1], ddof=1)) / 2, 4)
        (0.2887, 0.2887)
        """
        first, second = np.divmod(self.code, self.n_speakers)
        two = first != second
        by_speaker = _summed(first, self.sums, self.n_speakers)
        by_speaker += _summed(second[two], self.sums[two], self.n_speakers)
        n = len(np.unique(np.concatenate([first, second])))
        if n < 2:
            return VarianceEstimate(np.nan, np.nan)
        squares = by_speaker**2
        variance = max(float(squares.sum() - (self.sums[two] ** 2).sum()), self.by_pair) * n / (n - 1)
        unequal = float((squares**2).sum() - squares.sum() ** 2 / n)
        df = 2 * float(squares.sum()) ** 2 / unequal if unequal > 0 else np.inf
        return VarianceEstimate(float(np.sqrt(variance)), float(min(max(df, 1.0), n - 1)))


def linear_combination(parts: Iterable[tuple[float, PairSums]]) -> PairSums:
    """Of Σ weight · estimate, where the estimates may be of different lists with the same speakers."""
    weighted = list(parts)
    first = weighted[0][1]
    if all(np.array_equal(each.code, first.code) for _, each in weighted):
        return PairSums(first.n_speakers, first.code, np.sum([w * each.sums for w, each in weighted], axis=0))
    code = np.concatenate([each.code for _, each in weighted])
    distinct, place = np.unique(code, return_inverse=True)
    sums = np.concatenate([weight * each.sums for weight, each in weighted])
    return PairSums(first.n_speakers, distinct, _summed(place, sums, len(distinct)))


def _summed(place: IntArray, values: FloatArray, n: int) -> FloatArray:
    return np.bincount(place, values, n).astype(np.float64)

"""Calibration error of a classifier: how far its confidences are from the share of its answers that are correct.

Items are sorted into bins of equal size by confidence, the probability of the predicted class. In each bin the gap is
the mean confidence minus the share of correct answers. Chance alone makes gaps, so the mean of |gap| (the expected
calibration error, Naeini et al. 2015) and of gap² of a perfectly calibrated classifier are above 0: with 400 items in
15 bins, the expected calibration error is about 0.05. Squared gaps can be corrected exactly: the variance of a gap is
subtracted from its square. The calibration error is the root of their mean.

References: Nguyen and O'Connor (2015), Posterior calibration and exploratory analysis for natural language processing
models, EMNLP (root mean square over bins of equal size). Bröcker (2012), Estimating reliability and resolution of
probability forecasts through decomposition of the empirical score, Climate Dynamics 39:655, and Kumar, Liang and Ma
(2019), Verified uncertainty calibration, NeurIPS (correction). Roelofs et al. (2022), Mitigating bias in calibration
error estimation, AISTATS (bins of equal size are less biased than bins of equal width).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import softmax

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_BINS = 10
MIN_ITEMS = 20  # per bin


def confidences(logits: ArrayLike) -> FloatArray:
    """Probability of the predicted class, the largest softmax output.

    Parameters
    ----------
    logits : (n, C) float
        Finite.

    Returns
    -------
    (n,) float
        In [1 / C, 1].

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML.

    Examples
    --------
    >>> confidences([[0.0, 0.0], [0.0, np.log(3)]]).round(3).tolist()
    [0.5, 0.75]
    """
    return np.asarray(softmax(np.asarray(logits, dtype=float), axis=1).max(axis=1))


def equal_size_bins(confidence: ArrayLike) -> IntArray:
    """Bin of each item: up to MAX_BINS bins of equal size, of at least MIN_ITEMS items each.

    Parameters
    ----------
    confidence : (n,) float

    Returns
    -------
    (n,) int
        From 0, in the order of confidence. Equal confidences share the lowest of their bins, so that bins do not depend
        on the order of the items; some bins are then larger, and others may be empty.

    Examples
    --------
    >>> np.bincount(equal_size_bins(np.linspace(0.5, 1, 50))).tolist()
    [25, 25]
    """
    values = np.asarray(confidence, dtype=float)
    n_bins = min(MAX_BINS, max(1, len(values) // MIN_ITEMS))
    return np.searchsorted(np.sort(values), values) * n_bins // max(len(values), 1)


def squared_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bootstrap: Bootstrap
) -> tuple[float, FloatArray]:
    """Squared calibration error, corrected for chance, and its bootstrap replicates.

    The mean over items of gap² − variance of the gap, over the bins of `equal_size_bins`. The variance is that of a
    mean over sources, so items of one source may agree more than others.

    Parameters
    ----------
    confidence : (n,) float
        Probability of each item's predicted class.
    correct : (n,) bool or float
        Whether the predicted class is correct.
    bootstrap : Bootstrap
        Of the sources of the items.

    Returns
    -------
    value : float
        At most 1. Unbiased for the bins' squared error, so it is below 0 for about half of all calibrated classifiers.
        NaN without items, with a confidence that is not finite, or if a bin has items of a single source, whose
        variance is unknown.
    replicates : (replicates,) float
        For the standard error; they are centred on the value on average. Empty with fewer than two sources.

    References
    ----------
    Bröcker (2012), Climate Dynamics 39:655. Kumar, Liang and Ma (2019), Verified uncertainty calibration, NeurIPS.

    Examples
    --------
    Ten sources whose answers have confidence 0.9; five are correct. The gap is 0.4, its variance 0.5² / (10 − 1).

    >>> sources = Bootstrap.from_units(np.arange(10), 0, np.random.default_rng(0))
    >>> round(squared_calibration_error(np.full(10, 0.9), np.arange(10) < 5, sources)[0], 4)
    0.1322
    """
    p, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    n_drawn = len(bootstrap.weights) if bootstrap.n_units > 1 else 0
    if not len(p) or not np.isfinite(p).all():
        return float("nan"), np.full(n_drawn, np.nan)
    bins = equal_size_bins(p)
    n_bins, shape = int(bins.max()) + 1, (bootstrap.n_units, int(bins.max()) + 1)
    gaps, counts = (
        np.asarray(sparse.coo_array((each, (bootstrap.unit, bins)), shape=shape).toarray())
        for each in (p - y, np.ones(len(p)))
    )
    total = counts.sum(axis=0)
    gap = ratio(gaps.sum(axis=0), total, empty=0.0)
    n_sources = (counts > 0).sum(axis=0)
    if (n_sources == 1).any():
        return float("nan"), np.full(n_drawn, np.nan)
    squares = ((gaps - gap * counts) ** 2).sum(axis=0)
    variance = ratio(squares, total**2, empty=0.0) * ratio(n_sources, n_sources - 1.0, empty=0.0)
    chance = float(total @ variance) / len(p)
    value = float(total @ gap**2) / len(p) - chance

    def squared_error(sums: FloatArray) -> FloatArray:
        gap, n = ratio(sums[..., :n_bins], sums[..., n_bins:], empty=0.0), sums[..., n_bins:]
        return ratio((n * gap**2).sum(axis=-1), n.sum(axis=-1))[..., np.newaxis]

    contributions = sparse.coo_array(
        (
            np.concatenate([p - y, np.ones(len(p))]),
            (np.tile(np.arange(len(p)), 2), np.concatenate([bins, n_bins + bins])),
        )
    ).tocsr()
    # Resampling adds the variance of the gaps once more.
    return value, bootstrap.replicates(contributions, squared_error, 1)[:, 0] - 2 * chance

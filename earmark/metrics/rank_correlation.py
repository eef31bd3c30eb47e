"""Rank correlation of scores with the share of raters who chose present, within prompts, and its ceiling.

The share of a few raters is a noisy measurement of the share that very many raters would give, so no scorer reaches a
correlation of 1. Two values say what can be reached:

- `split_half_ceiling`: square root of the reliability of the shares from random halves of the raters (Spearman-Brown).
  For product-moment correlations it is the correlation with error-free shares. For ranks it is an upper bound only:
  shares of few raters are tied, scores are not.
- `attainable_spearman`: Spearman's rho of the error-free shares themselves with the shares of as many raters as there
  are, under a beta-binomial model of the votes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.bootstrap import Bootstrap, estimate_from_replicates
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, NEGLIGIBLE_ERROR
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_ITEMS = 3
BLOCK_VALUES = 4_000_000  # weights of a prompt's items in memory at once, 32 MB of float64
SPLITS, DRAWS = 100, 100
NO_PROMPT = f"no prompt has {MIN_ITEMS} items, different shares of raters and different similarities"
NO_RATERS = "no prompt has items with two or more raters whose shares differ"
NO_RELIABILITY = "raters of the same item agree no better than raters of different items"


def mid_ranks(values: ArrayLike, weights: FloatArray) -> FloatArray:
    """Ranks from 1, equal values at their mean rank, for each row of multiplicities.

    Parameters
    ----------
    values : (n,) float
    weights : (rows, n) float
        How often each value occurs; 0 leaves it out.

    Returns
    -------
    (rows, n) float
        The mean rank of the copies of each value; meaningless where its multiplicity is 0.

    Examples
    --------
    >>> mid_ranks([0.5, 0.1, 0.5], np.array([[1.0, 1, 1], [2, 0, 1]])).tolist()
    [[2.5, 1.0, 2.5], [2.0, 0.5, 2.0]]
    """
    v = np.asarray(values, dtype=float)
    order = np.argsort(v, kind="stable")
    last = np.flatnonzero(np.diff(v[order], append=np.inf))
    total = np.cumsum(weights[:, order], axis=1)[:, last]
    before = np.concatenate([np.zeros((len(total), 1)), total[:, :-1]], axis=1)
    group = np.searchsorted(last, np.arange(len(v)))
    ranks = np.empty(weights.shape)
    ranks[:, order] = ((before + total + 1) / 2)[:, group]
    return ranks


def spearman(first: ArrayLike, second: ArrayLike, weights: FloatArray | None = None) -> FloatArray:
    """Spearman's rank correlation: the product-moment correlation of mean ranks.

    Parameters
    ----------
    first, second : (n,) float
    weights : (rows, n) float, optional
        Multiplicity of each item, one result per row; 1 by default.

    Returns
    -------
    (rows,) float
        In [-1, 1]; NaN with fewer than `MIN_ITEMS` distinct items or where one variable has a single value.

    References
    ----------
    Spearman (1904), The proof and measurement of association between two things, American Journal of Psychology 15:72.

    Examples
    --------
    >>> spearman([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1]).round(4).tolist()
    [0.4472]
    """
    w = np.ones((1, np.asarray(first).size)) if weights is None else weights
    total = w.sum(axis=1, keepdims=True)
    a, b = (mid_ranks(values, w) - (total + 1) / 2 for values in (first, second))  # minus their weighted mean
    rho = ratio((w * a * b).sum(axis=1), np.sqrt((w * a * a).sum(axis=1) * (w * b * b).sum(axis=1)))
    return np.where((w > 0).sum(axis=1) >= MIN_ITEMS, np.clip(rho, -1, 1), np.nan)


@dataclass(frozen=True)
class SpearmanByPrompt:
    """Mean of Spearman's rho over prompts.

    Attributes
    ----------
    rho : Estimate
        `n` is the number of items in the prompts that enter.
    n_prompts, n_left_out : int
        Number of prompts in the mean, and of those with too few items or a single value.
    included : (n,) bool
        Items of the prompts in the mean.
    """

    rho: Estimate
    n_prompts: int
    n_left_out: int
    included: NDArray[np.bool_]


def spearman_by_prompt(
    scores: ArrayLike, shares: ArrayLike, prompts: ArrayLike, bootstrap: Bootstrap
) -> SpearmanByPrompt:
    """Mean over prompts of Spearman's rho between scores and shares of raters, with an interval over clips.

    Parameters
    ----------
    scores : (n,) float
        Finite.
    shares : (n,) float
        Share of raters who chose present.
    prompts : (n,) array_like
        Prompt of each item; any values that sort.
    bootstrap : Bootstrap
        Over the clips of the items. Replicates rank anew; a prompt that is degenerate in a replicate is left out of it.

    Returns
    -------
    SpearmanByPrompt
        In [-1, 1]; undefined, with the reason, if all prompts are left out.

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(7), 0, np.random.default_rng(0))
    >>> found = spearman_by_prompt([1, 2, 3, 3, 2, 1, 9], [0, 0.5, 1, 0, 0.5, 1, 1], list("aaabbbc"), bootstrap)
    >>> found.rho.value, found.n_prompts, found.n_left_out
    (0.0, 2, 1)
    """
    x, y = np.asarray(scores, dtype=float), np.asarray(shares, dtype=float)
    groups = list(items_by_prompt(prompts))
    values = [float(spearman(x[items], y[items])[0]) for items in groups]
    used = [items for items, value in zip(groups, values, strict=True) if np.isfinite(value)]
    included = np.full(len(x), False)
    for items in used:
        included[items] = True
    if not used:
        return SpearmanByPrompt(Estimate(None, n=0, why=NO_PROMPT), 0, len(groups), included)
    replicates = np.full(len(bootstrap.weights) if bootstrap.n_units > 1 else 0, np.nan)
    size = max(1, BLOCK_VALUES // max(map(len, used)))
    for start in range(0, len(replicates), size):
        drawn = bootstrap.weights[start : start + size]
        each = [spearman(x[items], y[items], drawn[:, bootstrap.unit[items]].astype(float)) for items in used]
        defined = np.isfinite(each)
        replicates[start : start + size] = ratio(np.where(defined, each, 0).sum(axis=0), defined.sum(axis=0))
    rho = estimate_from_replicates(
        float(np.mean([value for value in values if np.isfinite(value)])),
        replicates,
        n=int(included.sum()),
        units=bootstrap.units_with(included, "in these prompts"),
        values=COEFFICIENT,
    )
    return SpearmanByPrompt(rho, len(used), len(groups) - len(used), included)


def split_half_ceiling(
    present: ArrayLike, raters: ArrayLike, prompts: ArrayLike, rng: np.random.Generator, splits: int = SPLITS
) -> Estimate:
    """Square root of the split-half reliability of the shares: an upper bound of Spearman's rho.

    The raters of each item with at least two are divided at random into halves (with an odd number, one half has one
    rater more). r is Spearman's rho between the shares of the halves, averaged over splits and prompts; the
    reliability of all raters is 2 r / (1 + r).

    Parameters
    ----------
    present, raters : (n,) int
        Number of raters who chose present, and number of raters.
    prompts : (n,) array_like
    rng : numpy.random.Generator
    splits : int

    Returns
    -------
    Estimate
        In [0, 1], without an interval; `n` counts the items with two or more raters. Undefined, with the reason, if no
        prompt has a defined correlation or r is not positive.

    References
    ----------
    Spearman (1910), Correlation calculated from faulty data, British Journal of Psychology 3:271; Brown (1910), Some
    experimental results in the correlation of mental abilities, ibid. 296.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> split_half_ceiling([0, 0, 2, 2], [2, 2, 2, 2], ["a"] * 4, rng).value
    1.0
    """
    k, n = np.asarray(present, dtype=np.int64), np.asarray(raters, dtype=np.int64)
    means = []
    for group in items_by_prompt(prompts):
        items = group[n[group] >= 2]
        if len(items) < MIN_ITEMS:
            continue
        larger = rng.random((splits, len(items))) < 0.5
        half = np.where(larger, n[items] - n[items] // 2, n[items] // 2)
        first = rng.hypergeometric(np.broadcast_to(k[items], half.shape), n[items] - k[items], half)
        rho = _rowwise_spearman(first / half, (k[items] - first) / (n[items] - half))
        if np.isfinite(rho).any():
            means.append(float(np.nanmean(rho)))
    size = int((n >= 2).sum())
    if not means:
        return Estimate(None, n=size, why=NO_RATERS)
    r = float(np.mean(means))
    if r <= 0:
        return Estimate(None, n=size, why=NO_RELIABILITY)
    return Estimate(float(np.sqrt(2 * r / (1 + r))), n=size)


def attainable_spearman(
    present: ArrayLike, raters: ArrayLike, prompts: ArrayLike, rng: np.random.Generator, draws: int = DRAWS
) -> Estimate:
    """Spearman's rho that the shares of very many raters would reach, averaged over prompts.

    Votes follow a beta-binomial model: the share of present votes among very many raters varies over the items of a
    prompt with a beta distribution. Its mean is the mean share of the prompt. Its spread follows from the intraclass
    correlation of votes, which is estimated from pairs of raters of the same item, pooled within prompts. Data sets
    with the same numbers of items and raters are drawn from the model, and the drawn shares of very many raters are
    correlated with the drawn shares of the raters.

    Parameters
    ----------
    present, raters : (n,) int
        Number of raters who chose present, and number of raters, at least 1.
    prompts : (n,) array_like
    rng : numpy.random.Generator
    draws : int
        Number of drawn data sets.

    Returns
    -------
    Estimate
        In [0, 1], without an interval. Undefined, with the reason, if no item has two raters or the intraclass
        correlation is not positive.

    References
    ----------
    Williams (1975), The analysis of binary responses from toxicological experiments involving reproduction and
    teratogenicity, Biometrics 31:949, for the model. Ridout, Demétrio and Firth (1999), Estimating intraclass
    correlation for binary data, Biometrics 55:137, for the estimate from pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> attainable_spearman([0, 1, 2, 3] * 25, [3] * 100, ["a"] * 100, rng).value > 0.7
    True
    """
    k, n = np.asarray(present, dtype=np.int64), np.asarray(raters, dtype=np.int64)
    groups = list(items_by_prompt(prompts))
    correlation = intraclass_correlation(k, n, groups)
    if not np.isfinite(correlation):
        return Estimate(None, n=len(k), why=NO_RATERS)
    if correlation <= 0:
        return Estimate(None, n=len(k), why=NO_RELIABILITY)
    spread = 1 / min(correlation, 1 - 1e-4) - 1
    means = []
    for items in groups:
        mean = float((k[items] / n[items]).mean())
        if len(items) < MIN_ITEMS or not 0 < mean < 1:
            continue
        share = rng.beta(spread * mean, spread * (1 - mean), (draws, len(items)))
        rho = _rowwise_spearman(share, rng.binomial(n[items], share) / n[items])
        if np.isfinite(rho).any():
            means.append(float(np.nanmean(rho)))
    if not means:
        return Estimate(None, n=len(k), why=NO_RATERS)
    return Estimate(float(np.mean(means)), n=len(k))


def intraclass_correlation(present: IntArray, raters: IntArray, groups: list[IntArray]) -> float:
    """Correlation of the votes of two raters of the same item, pooled within groups of items.

    Parameters
    ----------
    present, raters : (n,) int
    groups : list of int arrays
        Items of each group; only variation within groups counts.

    Returns
    -------
    float
        At most 1; NaN without an item with two raters in a group of two items, or if all votes of each group agree.

    Examples
    --------
    >>> intraclass_correlation(np.array([0, 2, 0, 2]), np.array([2, 2, 2, 2]), [np.arange(4)])
    1.0
    """
    covariance = variance = 0.0
    for items in groups:
        k, n = present[items].astype(float), raters[items].astype(float)
        paired = n >= 2
        if len(items) < 2 or not paired.any():
            continue
        share, size = k / n, len(items)
        squared_mean = (share.sum() ** 2 - (share**2).sum()) / (size * (size - 1))  # unbiased for the squared mean
        both = (k * (k - 1) / np.maximum(n * (n - 1), 1))[paired].mean()
        covariance += size * (both - squared_mean)
        variance += size * (share.mean() - squared_mean)
    return float(covariance / variance) if variance > NEGLIGIBLE_ERROR else float("nan")


def items_by_prompt(prompts: ArrayLike) -> Iterator[IntArray]:
    """Yield the items of each prompt, in the order of the sorted prompts.

    Examples
    --------
    >>> [items.tolist() for items in items_by_prompt(["b", "a", "b"])]
    [[1], [0, 2]]
    """
    p = np.asarray(prompts)
    order = np.argsort(p, kind="stable")
    if len(order):
        yield from np.split(order, np.flatnonzero(p[order][1:] != p[order][:-1]) + 1)


def _rowwise_spearman(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's rho of each row of two arrays, (rows, n) → (rows,); NaN where a row has a single value."""
    a, b = (_rowwise_ranks(values) - (values.shape[1] + 1) / 2 for values in (first, second))
    return ratio((a * b).sum(axis=1), np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


def _rowwise_ranks(values: FloatArray) -> FloatArray:
    """Ranks in each row from 1, equal values their mean rank; NaN in all of a row with a NaN.

    As `scipy.stats.rankdata`, without half a second to import it.

    Examples
    --------
    >>> _rowwise_ranks(np.array([[3.0, 1.0, 3.0]])).tolist()
    [[2.5, 1.0, 2.5]]
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    place = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(values), min(values.shape[1], 1)), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, changes]), place, 0), axis=1)
    last = np.where(np.hstack([changes, edge]), place, values.shape[1])
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    ranks[np.isnan(values).any(axis=1)] = np.nan
    return ranks

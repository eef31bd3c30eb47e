"""Balanced accuracy with a threshold for each prompt: fitted to the labels at hand, and cross-fitted.

Similarities of different sentences often lie on different levels, so a threshold for each sentence (prompt) decides
better than one for all. Thresholds that are chosen on the labels they are judged by are optimistic: a scorer without
any information then reaches more than 0.5. Beside such values stand cross-fitted ones, whose thresholds come from other
clips, and the value of a scorer whose similarities are permuted within prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.bootstrap import Bootstrap, estimate_from_replicates
from earmark.metrics.classification import (
    NO_THRESHOLD,
    ONE_CLASS,
    CrossFitted,
    ThresholdCandidates,
    item_weights,
    recall_and_specificity,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.rank_correlation import items_by_prompt

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ItemWeights = Callable[[IntArray], FloatArray]  # items → multiplicities, (rows, items)

MIN_ITEMS = 10  # of a prompt, for a threshold of its own
PERMUTATIONS = 200
BLOCK_VALUES = 4_000_000  # weights of a group of items in memory at once, 32 MB of float64


@dataclass(frozen=True)
class Split:
    """Items on which thresholds are chosen, and items that are judged with them.

    Attributes
    ----------
    own : tuple of (train, test) pairs of int arrays
        Items of each prompt with a threshold of its own.
    test_of_others : (m,) int
        Items to judge at the threshold for all prompts.
    """

    own: tuple[tuple[IntArray, IntArray], ...]
    test_of_others: IntArray

    @classmethod
    def from_masks(cls, groups: Sequence[IntArray], train: NDArray[np.bool_], test: NDArray[np.bool_]) -> "Split":
        """Split the items of each prompt; with fewer than `MIN_ITEMS` items to train on it has no own threshold.

        Parameters
        ----------
        groups : sequence of int arrays
            Items of each prompt.
        train, test : (n,) bool

        Examples
        --------
        >>> everything = np.full(13, True)
        >>> split = Split.from_masks([np.arange(10), np.arange(10, 13)], everything, everything)
        >>> len(split.own), split.test_of_others.tolist()
        (1, [10, 11, 12])
        """
        own, others = [], [np.empty(0, dtype=np.int64)]
        for items in groups:
            trained, tested = items[train[items]], items[test[items]]
            if len(trained) >= MIN_ITEMS:
                own.append((trained, tested))
            else:
                others.append(tested)
        return cls(tuple(own), np.concatenate(others))


@dataclass(frozen=True)
class FittedThreshold:
    """Balanced accuracy at thresholds that were chosen on the same labels; too high for other data.

    Attributes
    ----------
    balanced_accuracy : Estimate
    cross_fitted : Estimate
        At thresholds from other clips.
    permuted : Estimate
        Mean over similarities permuted within prompts, without an interval: what a scorer that knows nothing about the
        clips reaches with the same choice of thresholds.
    """

    balanced_accuracy: Estimate
    cross_fitted: Estimate
    permuted: Estimate


@dataclass(frozen=True)
class PromptThresholds:
    """One threshold for all prompts, and a threshold for each prompt.

    Attributes
    ----------
    n_prompts, n_with_threshold : int
        Number of prompts, and of those with a threshold of their own.
    threshold : float
        The threshold for all prompts; NaN if a class is missing.
    best_threshold, by_prompt : FittedThreshold
    """

    n_prompts: int
    n_with_threshold: int
    threshold: float
    best_threshold: FittedThreshold
    by_prompt: FittedThreshold


def thresholds_by_prompt(
    scores: ArrayLike,
    labels: ArrayLike,
    prompts: ArrayLike,
    bootstrap: Bootstrap,
    fit: CrossFitted,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> PromptThresholds:
    """Choose one threshold for all prompts and one for each, and judge both on the same labels and cross-fitted.

    A prompt has a threshold of its own, the one with the highest balanced accuracy on its items, if it has at least
    `MIN_ITEMS` items to train on and both classes are among them; otherwise the threshold for all prompts applies.
    Decisions are pooled over prompts before recall and specificity are computed.

    Intervals are for the expected value on data sets of this size: every replicate chooses all thresholds anew. With
    fixed thresholds, the intervals of the cross-fitted value would be a fifth too narrow (docs/coverage.md).

    Parameters
    ----------
    scores : (n,) float
        Finite; higher means more likely present.
    labels : (n,) bool or float
        Reference labels, or the positive share of each item in [0, 1].
    prompts : (n,) array_like
        Prompt of each item; any values that sort.
    bootstrap : Bootstrap
        Over the units of the n items.
    fit : CrossFitted
        Result of `classification.cross_fit` on the same items; its folds are used here too.
    rng : numpy.random.Generator
        For the permutations.
    permutations : int

    Returns
    -------
    PromptThresholds
        Undefined values have the reason: one class, or a class missing in the training folds.

    References
    ----------
    Youden (1950), Index for rating diagnostic tests, Cancer 3:32, for the threshold.

    Examples
    --------
    Two prompts on different levels, each separable by itself:

    >>> from earmark.metrics.classification import cross_fit
    >>> labels = np.tile([0, 1], 20)
    >>> prompts = np.repeat(["a", "b"], 20)
    >>> scores = labels + 5.0 * (prompts == "b")
    >>> bootstrap = Bootstrap.from_units(np.arange(40), 0, np.random.default_rng(0))
    >>> fit = cross_fit(scores, labels, bootstrap, np.random.default_rng(0))
    >>> found = thresholds_by_prompt(scores, labels, prompts, bootstrap, fit, np.random.default_rng(0))
    >>> found.best_threshold.balanced_accuracy.value, found.by_prompt.balanced_accuracy.value
    (0.75, 1.0)
    """
    s, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    n, everything = len(s), np.full(len(s), True)
    groups = list(items_by_prompt(prompts))
    split = Split.from_masks(groups, everything, everything)
    n_own = sum(bool(0 < y[train].sum() < len(train)) for train, _ in split.own)
    candidates = ThresholdCandidates.from_scores(s)
    shared = candidates.best(y, np.ones((1, n))) if n else np.full(1, np.nan)
    if not np.isfinite(shared[0]):
        missing = Estimate(None, n=n, why=ONE_CLASS if n else "no items")
        undefined = FittedThreshold(missing, missing, missing)
        return PromptThresholds(len(groups), n_own, float("nan"), undefined, undefined)
    redrawn = np.concatenate([np.empty(0), *(candidates.best(y, w.astype(float)) for w in item_weights(bootstrap))])
    splits = (Split((), np.arange(n)), split)  # one threshold for all, and by prompt
    judged = [_estimate(s, y, [one], shared[:, np.newaxis], redrawn[:, np.newaxis], bootstrap) for one in splits]
    if not n_own:
        crossed = fit.balanced_accuracy  # the same decisions have one interval
    elif len(fit.thresholds):
        folds = [Split.from_masks(groups, fit.fold != k, fit.fold == k) for k in range(len(fit.thresholds))]
        crossed = _estimate(s, y, folds, fit.thresholds[np.newaxis], fit.replicate_thresholds, bootstrap)
    else:
        crossed = Estimate(None, n=n, why=NO_THRESHOLD)
    permuted = [
        Estimate(float(value), n=n) for value in _permuted_values(s, y, groups, splits, permutations, rng).mean(axis=0)
    ]
    return PromptThresholds(
        len(groups),
        n_own,
        float(shared[0]),
        FittedThreshold(judged[0], fit.balanced_accuracy, permuted[0]),
        FittedThreshold(judged[1], crossed, permuted[1]),
    )


def _estimate(
    s: FloatArray,
    y: FloatArray,
    splits: Sequence[Split],
    shared: FloatArray,
    redrawn: FloatArray,
    bootstrap: Bootstrap,
) -> Estimate:
    """Balanced accuracy with its interval.

    shared: (1, splits), redrawn: (replicates, splits): threshold for all prompts, on the data and on the replicates.
    """
    chosen = [_choose(s, y, split, column, _once) for split, column in zip(splits, shared.T, strict=True)]
    rates = recall_and_specificity(_judge(s, y, splits, chosen, _once))[0]
    drawn = [np.empty((0, 2))]
    for rows, weights in _blocks(bootstrap, splits):
        anew = [_choose(s, y, split, column, weights) for split, column in zip(splits, redrawn[rows].T, strict=True)]
        defined = np.isfinite(redrawn[rows]).all(axis=1, keepdims=True)
        drawn.append(np.where(defined, recall_and_specificity(_judge(s, y, splits, anew, weights)), np.nan))
    # Not `mean_of_rates`: where thresholds are chosen anew, recall and specificity vary far more than their mean.
    units = min(bootstrap.units_of_classes(y))
    means = np.concatenate(drawn).mean(axis=1)
    return estimate_from_replicates(float(rates.mean()), means, n=len(s), units=units, why=ONE_CLASS)


def _once(items: IntArray, rows: int = 1) -> FloatArray:
    return np.ones((rows, len(items)))


def _choose(s: FloatArray, y: FloatArray, split: Split, shared: FloatArray, weights: ItemWeights) -> FloatArray:
    """Threshold of each prompt with its own, and last the shared one: (rows, own + 1). y: (n,) or (rows, n)."""
    columns = []
    for train, _ in split.own:
        own = ThresholdCandidates.from_scores(s[train]).best(y[..., train], weights(train))
        columns.append(np.where(np.isfinite(own), own, shared))
    return np.stack([*columns, shared], axis=1)


def _judge(
    s: FloatArray, y: FloatArray, splits: Sequence[Split], thresholds: Sequence[FloatArray], weights: ItemWeights
) -> FloatArray:
    """True positives, false positives, true negatives and false negatives of each row, (rows, 4)."""
    sums = np.zeros((1, 4))
    for split, chosen in zip(splits, thresholds, strict=True):
        tested = [*(test for _, test in split.own), split.test_of_others]
        for items, threshold in zip(tested, chosen.T, strict=True):
            w = weights(items)
            positive = w * y[..., items]
            predicted = s[items] >= threshold[:, np.newaxis]
            tp, called = (positive * predicted).sum(axis=1), (w * predicted).sum(axis=1)
            positives, total = positive.sum(axis=1), w.sum(axis=1)
            sums = sums + np.stack([tp, called - tp, total - positives - called + tp, positives - tp], axis=1)
    return sums


def _blocks(bootstrap: Bootstrap, splits: Sequence[Split]) -> Iterator[tuple[slice, ItemWeights]]:
    """Replicates in blocks, with the multiplicity of items in them."""
    if bootstrap.n_units < 2:
        return
    longest = max(max(map(len, (split.test_of_others, *(t for own in split.own for t in own)))) for split in splits)
    size = max(1, BLOCK_VALUES // max(longest, 1))
    for start in range(0, len(bootstrap.weights), size):
        rows = slice(start, start + size)
        yield rows, partial(_drawn, bootstrap, rows)


def _drawn(bootstrap: Bootstrap, rows: slice, items: IntArray) -> FloatArray:
    return bootstrap.weights[rows][:, bootstrap.unit[items]].astype(float)


def _permuted_values(
    s: FloatArray,
    y: FloatArray,
    groups: Sequence[IntArray],
    splits: Sequence[Split],
    permutations: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Balanced accuracy of similarities permuted within prompts, (permutations, splits).

    Permuting the labels of a prompt instead is the same, and keeps the order of the similarities.
    """
    candidates, size = ThresholdCandidates.from_scores(s), max(1, BLOCK_VALUES // len(s))
    values = []
    for start in range(0, permutations, size):
        rows = min(size, permutations - start)
        shuffled = np.empty((rows, len(s)))
        for items in groups:
            shuffled[:, items] = rng.permuted(np.broadcast_to(y[items], (rows, len(items))), axis=1)
        ones = partial(_once, rows=rows)
        shared = candidates.best(shuffled, np.ones((rows, len(s))))
        chosen = [_choose(s, shuffled, split, shared, ones) for split in splits]
        rates = [
            recall_and_specificity(_judge(s, shuffled, [split], [thresholds], ones))
            for split, thresholds in zip(splits, chosen, strict=True)
        ]
        values.append(np.stack([each.mean(axis=1) for each in rates], axis=1))
    return np.concatenate(values)

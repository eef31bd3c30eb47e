"""Metrics of a choice among classes: accuracy, balanced accuracy and macro F1, from a confusion matrix.

A choice is counted as (…, K, K + 1) sums: the reference class by row, the answered class by column. The last column
holds items without an answer, which are wrong. A reference may be shared among classes, as the ratings of an item are.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from earmark.metrics.bootstrap import (
    CONSTANT,
    Bootstrap,
    Units,
    estimate_from_replicates,
    paired_difference,
    standard_error,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import NEGLIGIBLE_ERROR, few_units, interval
from earmark.metrics.ratio import ratio

FloatArray = NDArray[np.float64]
NO_ANSWER = -1
CHOICE_METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
CLASS_METRICS = ("recall", "precision", "f1")
F1_COUNTS = ("correct", "references", "answers")
NO_ITEM = "no item has a reference class and an answer of the model"


def highest(scores: ArrayLike) -> NDArray[np.int64]:
    """Class with the highest score.

    Parameters
    ----------
    scores : (n, K) float
        Finite.

    Returns
    -------
    (n,) int
        Position of the class; -1 where several classes share the highest score, which is no answer.

    Examples
    --------
    >>> highest([[0.1, 0.3, 0.2], [0.2, 0.2, 0.1]]).tolist()
    [1, -1]
    """
    s = np.asarray(scores, dtype=float)
    if not s.size:
        return np.full(len(s), NO_ANSWER, dtype=np.int64)
    tied = (s == s.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return np.where(tied, NO_ANSWER, s.argmax(axis=1)).astype(np.int64)


def choice_contributions(answers: ArrayLike, references: ArrayLike) -> sparse.csr_array:
    """Contribution of each item to the confusion matrix.

    Parameters
    ----------
    answers : (n,) int
        Position of the answered class; -1 without an answer.
    references : (n, K) float
        Share of each class in the reference of an item: 1 for the class and 0 for the others, or the share of raters.

    Returns
    -------
    (n, K (K + 1)) sparse array
        The rows of the confusion matrix one after the other.

    Examples
    --------
    >>> choice_contributions([1, -1], np.eye(2)).toarray().tolist()
    [[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    shares = np.asarray(references, dtype=float)
    n, k = shares.shape
    answered = np.asarray(answers, dtype=np.int64)
    column = np.where(answered == NO_ANSWER, k, answered)
    item, reference = np.nonzero(shares)
    cells = reference * (k + 1) + column[item]
    return sparse.csr_array((shares[item, reference], (item, cells)), shape=(n, k * (k + 1)))


def choice_metrics(sums: FloatArray, classes: int) -> FloatArray:
    """Compute accuracy, balanced accuracy and macro F1 from counts.

    Accuracy is the share of items whose answer is the reference. Balanced accuracy is the mean over classes of recall,
    and macro F1 the mean over classes of F1 = 2 tp / (2 tp + fp + fn). Both means are over classes with a reference
    item: a class without one has no recall, and its F1 would be 0 however good the answers are.

    Parameters
    ----------
    sums : (…, K (K + 1)) float
        Sums of `choice_contributions`.
    classes : int
        K.

    Returns
    -------
    (…, 3) float
        In [0, 1], in the order of CHOICE_METRICS; NaN without items.

    References
    ----------
    Sokolova and Lapalme (2009), A systematic analysis of performance measures for classification tasks, Information
    Processing and Management 45:427. Opitz and Burst (2019), Macro F1 and macro F1, arXiv:1911.03347, for the mean of
    F1.

    Examples
    --------
    Three items of the first class, one of them answered with the second; one item of the second class, without answer.

    >>> choice_metrics(np.array([2.0, 1, 0, 0, 0, 1]), 2).round(3).tolist()
    [0.5, 0.333, 0.4]
    """
    table = sums.reshape(*sums.shape[:-1], classes, classes + 1)
    correct = np.diagonal(table[..., :classes], axis1=-2, axis2=-1).sum(axis=-1)
    each = class_metrics(sums, classes)
    occurs = np.isfinite(each[..., 0])
    number = occurs.sum(axis=-1)
    means = [ratio(np.where(occurs, each[..., i], 0.0).sum(axis=-1), number) for i in (0, 2)]
    return np.stack([ratio(correct, table.sum(axis=(-2, -1))), *means], axis=-1)


def class_metrics(sums: FloatArray, classes: int) -> FloatArray:
    """Compute recall, precision and F1 of each class from counts.

    Parameters
    ----------
    sums : (…, K (K + 1)) float
        Sums of `choice_contributions`.
    classes : int
        K.

    Returns
    -------
    (…, K, 3) float
        In [0, 1], in the order of CLASS_METRICS. NaN for a class without a reference item; precision is also NaN for a
        class that was never answered.

    Examples
    --------
    >>> class_metrics(np.array([2.0, 1, 0, 0, 0, 1]), 2).round(3).tolist()
    [[0.667, 1.0, 0.8], [0.0, 0.0, 0.0]]
    """
    table = sums.reshape(*sums.shape[:-1], classes, classes + 1)
    correct = np.diagonal(table[..., :classes], axis1=-2, axis2=-1)
    items, answers = table.sum(axis=-1), table[..., :classes].sum(axis=-2)
    precision = np.where(items > 0, ratio(correct, answers), np.nan)
    f1 = np.where(items > 0, ratio(2 * correct, items + answers), np.nan)
    return np.stack([ratio(correct, items), precision, f1], axis=-1)


def f1_contributions(answers: ArrayLike, references: ArrayLike, classes: int) -> sparse.csr_array:
    """Counts of each item that macro F1 needs: 3 for each class, where a confusion matrix has K.

    Parameters
    ----------
    answers : (n,) int
        Position of the answered class; -1 without an answer.
    references : (n,) int
        Position of the reference class.
    classes : int
        K.

    Returns
    -------
    (n, 3 K) sparse array
        Whether the item is a correct answer of each class, then whether its reference is the class, then whether its
        answer is the class (F1_COUNTS).

    Examples
    --------
    >>> f1_contributions([1, -1], [1, 0], 2).toarray().tolist()
    [[0.0, 1.0, 0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]
    """
    answered, reference = np.asarray(answers, dtype=np.int64), np.asarray(references, dtype=np.int64)
    correct, given = np.flatnonzero(answered == reference), np.flatnonzero(answered != NO_ANSWER)
    item = np.concatenate([correct, np.arange(len(reference)), given])
    cell = np.concatenate([reference[correct], classes + reference, 2 * classes + answered[given]])
    return sparse.csr_array((np.ones(len(item)), (item, cell)), shape=(len(reference), len(F1_COUNTS) * classes))


def macro_f1(sums: FloatArray, classes: int) -> FloatArray:
    """Compute macro F1 from counts, as `choice_metrics` defines it.

    Parameters
    ----------
    sums : (…, 3 K) float
        Sums of `f1_contributions`.
    classes : int
        K.

    Returns
    -------
    (…) float
        In [0, 1]: the mean of F1 = 2 tp / (2 tp + fp + fn) over classes with a reference item; NaN without items.

    References
    ----------
    Opitz and Burst (2019), Macro F1 and macro F1, arXiv:1911.03347.

    Examples
    --------
    Three items of the first class, one of them answered with the second; one item of the second class, without answer.

    >>> macro_f1(np.array([2.0, 0, 3, 1, 2, 1]), 2).round(3).tolist()
    0.4
    """
    correct, references, answers = np.moveaxis(sums.reshape(*sums.shape[:-1], len(F1_COUNTS), classes), -2, 0)
    f1 = np.where(references > 0, ratio(2 * correct, references + answers), 0.0)
    return ratio(f1.sum(axis=-1), (references > 0).sum(axis=-1))


def balanced_accuracy(sums: FloatArray, classes: int) -> FloatArray:
    """Compute balanced accuracy from counts, as `choice_metrics` defines it.

    Parameters
    ----------
    sums : (…, 3 K) float
        Sums of `f1_contributions`.
    classes : int
        K.

    Returns
    -------
    (…) float
        In [0, 1]: the mean of recall over classes with a reference item; NaN without items.

    References
    ----------
    Brodersen et al. (2010), The balanced accuracy and its posterior distribution, ICPR.

    Examples
    --------
    Three items of the first class, one of them answered with the second; one item of the second class, without answer.

    >>> balanced_accuracy(np.array([2.0, 0, 3, 1, 2, 1]), 2).round(3).tolist()
    0.333
    """
    correct, references, _ = np.moveaxis(sums.reshape(*sums.shape[:-1], len(F1_COUNTS), classes), -2, 0)
    recall = ratio(correct, references, empty=0.0)
    return ratio(recall.sum(axis=-1), (references > 0).sum(axis=-1))


def evaluate_choice(answers: ArrayLike, references: ArrayLike, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Accuracy, balanced accuracy and macro F1 with confidence intervals.

    A class without items in a bootstrap replicate is left out of that replicate's means. Balanced accuracy combines the
    Wilson intervals of the recalls (MOVER), so that a recall of 0 or 1 does not make its interval too narrow.

    Parameters
    ----------
    answers : (n,) int
        Position of the answered class; -1 without an answer.
    references : (n, K) float
        As in `choice_contributions`.
    bootstrap : Bootstrap
        Over the units of the n items.

    Returns
    -------
    dict of str to Estimate
        The keys are CHOICE_METRICS. Undefined without items.

    References
    ----------
    Zou and Donner (2008), Statistics in Medicine 27:1693, for the interval of balanced accuracy.

    Examples
    --------
    >>> answers = np.repeat([0, 1, 0], [30, 25, 5])
    >>> bootstrap = Bootstrap.from_units(np.arange(60), 200, np.random.default_rng(0))
    >>> estimates = evaluate_choice(answers, np.eye(2)[np.repeat([0, 1], 30)], bootstrap)
    >>> round(estimates["accuracy"].value, 3), round(estimates["balanced_accuracy"].value, 3)
    (0.917, 0.917)
    """
    shares = np.asarray(references, dtype=float)
    k, n = shares.shape[1], len(shares)
    if not n or not k:
        return {name: Estimate(None, n=0, why=NO_ITEM) for name in CHOICE_METRICS}
    contributions = choice_contributions(answers, shares)
    total = np.asarray(contributions.sum(axis=0), dtype=float).ravel()
    occurs = [c for c in range(k) if shares[:, c].any()]
    units = [bootstrap.units_with(shares[:, c] > 0, "of the rarest class") for c in occurs]

    def formula(sums: FloatArray) -> FloatArray:
        return np.concatenate([choice_metrics(sums, k), class_metrics(sums, k)[..., occurs, 0]], axis=-1)

    point = formula(total[np.newaxis])[0]
    replicates = bootstrap.replicates(contributions, formula, 3 + len(occurs))
    decided = (bootstrap.units, min(units), min(units))
    estimates = {
        name: estimate_from_replicates(point[i], replicates[:, i], n=n, units=decided[i], why=NO_ITEM)
        for i, name in enumerate(CHOICE_METRICS)
    }
    estimates["balanced_accuracy"] = _mean_of_recalls(
        estimates["balanced_accuracy"], point[3:], replicates[:, 3:], units
    )
    return estimates


def _mean_of_recalls(
    estimate: Estimate, recalls: FloatArray, replicates: FloatArray, units: Sequence[Units]
) -> Estimate:
    """Replace the interval of a mean of recalls by the combination of their Wilson intervals."""
    drawn = np.where(np.isfinite(replicates), replicates, recalls)
    if estimate.why == CONSTANT:
        vary = (drawn.std(axis=0) > NEGLIGIBLE_ERROR) | (np.minimum(recalls, 1 - recalls) <= NEGLIGIBLE_ERROR)
        if not vary.all():
            return estimate
        estimate = replace(estimate, why=None, note=few_units(*min(units)))  # one answer to everything: 1, 0, 0, …
    elif estimate.low is None:
        return estimate
    if estimate.value is None or any(u.n < 2 for u in units):
        return estimate
    ends = [
        interval(float(recall), standard_error(column, of_class.n), units=of_class.n) or (0.0, 1.0)
        for recall, column, of_class in zip(recalls, drawn.T, units, strict=True)
    ]
    varies = drawn.std(axis=0) > NEGLIGIBLE_ERROR
    correlation = np.eye(len(recalls))
    if varies.sum() > 1:
        correlation[np.ix_(varies, varies)] = np.corrcoef(drawn[:, varies], rowvar=False)
    below, above = np.abs(np.array(ends) - recalls[:, np.newaxis]).T
    half = [max(float(d @ correlation @ d), 0.0) ** 0.5 / len(recalls) for d in (below, above)]
    low, high = max(estimate.value - half[0], 0.0), min(estimate.value + half[1], 1.0)
    return Estimate(estimate.value, low, high, estimate.n, estimate.why, estimate.note)


def compare_choices(
    first: ArrayLike, second: ArrayLike, references: ArrayLike, bootstrap: Bootstrap
) -> dict[str, tuple[Estimate, Estimate, Estimate, float | None]]:
    """Two sets of answers to the same items, with their paired difference.

    Parameters
    ----------
    first, second : (n,) int
        Position of the answered class; -1 without an answer.
    references : (n, K) float
        As in `choice_contributions`.
    bootstrap : Bootstrap
        Over the units of the n items.

    Returns
    -------
    dict of str to (Estimate, Estimate, Estimate, float or None)
        By CHOICE_METRICS: the first, the second, first − second, and the two-sided p-value of the difference.

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(4), 0, np.random.default_rng(0))
    >>> found = compare_choices([0, 0, 1, 1], [0, 1, 1, 1], np.eye(2)[[0, 0, 1, 1]], bootstrap)
    >>> found["accuracy"][2].value
    0.25
    """
    shares = np.asarray(references, dtype=float)
    estimates = [evaluate_choice(answers, shares, bootstrap) for answers in (first, second)]
    k, n = shares.shape[1], len(shares)
    if not n or not k:
        return {name: (estimates[0][name], estimates[1][name], estimates[0][name], None) for name in CHOICE_METRICS}
    both = [
        bootstrap.replicates(choice_contributions(answers, shares), lambda sums: choice_metrics(sums, k), 3)
        for answers in (first, second)
    ]
    rarest = min(
        bootstrap.units_with(shares[:, c] > 0, "of the rarest class") for c in range(k) if shares[:, c].any()
    )  # fmt: skip
    compared = {}
    for i, name in enumerate(CHOICE_METRICS):
        ours, theirs = estimates[0][name], estimates[1][name]
        assert ours.value is not None and theirs.value is not None  # there are items
        units = bootstrap.units if name == "accuracy" else rarest
        difference, p = paired_difference(ours.value, theirs.value, both[0][:, i], both[1][:, i], n=n, units=units)
        compared[name] = (ours, theirs, difference, p)
    return compared


def evaluate_classes(answers: ArrayLike, references: ArrayLike, bootstrap: Bootstrap) -> list[dict[str, Estimate]]:
    """Recall, precision and F1 of each class with confidence intervals.

    Parameters
    ----------
    answers, references, bootstrap
        As in `evaluate_choice`.

    Returns
    -------
    list of dict of str to Estimate
        One entry per class; the keys are CLASS_METRICS. The sample size is the number of reference items of the class,
        for precision the number of answers.

    Examples
    --------
    >>> bootstrap = Bootstrap.from_units(np.arange(3), 0, np.random.default_rng(0))
    >>> evaluate_classes([0, 1, 1], np.eye(2)[[0, 0, 1]], bootstrap)[0]["recall"].value
    0.5
    """
    shares, answered = np.asarray(references, dtype=float), np.asarray(answers, dtype=np.int64)
    k = shares.shape[1]
    if not len(shares):
        return [{name: Estimate(None, why=NO_ITEM) for name in CLASS_METRICS} for _ in range(k)]
    contributions = choice_contributions(answered, shares)
    names, sizes, units, reasons = list[tuple[int, str]](), list[int](), list[Units](), list[str]()
    for c in range(k):
        items, answers_of = shares[:, c] > 0, answered == c
        with_item = bootstrap.units_with(items, "with an item of the class")
        with_answer = bootstrap.units_with(answers_of, "with an answer of the class")
        names += [(c, name) for name in CLASS_METRICS]
        sizes += [int(items.sum()), int(answers_of.sum()), int(items.sum())]
        units += [with_item, with_answer, with_item]
        reasons += ["no item of this class", "no item of this class or no answer of it", "no item of this class"]
    estimates = bootstrap.estimates(
        contributions,
        lambda sums: class_metrics(sums, k).reshape(*sums.shape[:-1], 3 * k),
        n=sizes,
        why=reasons,
        units=units,
    )
    rows: list[dict[str, Estimate]] = [{} for _ in range(k)]
    for (c, name), estimate in zip(names, estimates, strict=True):
        rows[c][name] = estimate
    return rows


def constant_answer(references: ArrayLike) -> dict[str, float | None]:
    """What a model reaches that always answers the most frequent class.

    Parameters
    ----------
    references : (n, K) float
        As in `choice_contributions`.

    Returns
    -------
    dict of str to float
        The keys are CHOICE_METRICS; None without items.

    Examples
    --------
    >>> {name: round(value, 3) for name, value in constant_answer(np.eye(2)[[0, 0, 0, 1]]).items()}
    {'accuracy': 0.75, 'balanced_accuracy': 0.5, 'macro_f1': 0.429}
    """
    shares = np.asarray(references, dtype=float)
    if not shares.size:
        return dict.fromkeys(CHOICE_METRICS)
    answers = np.full(len(shares), shares.sum(axis=0).argmax())
    sums = np.asarray(choice_contributions(answers, shares).sum(axis=0), dtype=float).ravel()
    return dict(zip(CHOICE_METRICS, choice_metrics(sums, shares.shape[1]).tolist(), strict=True))

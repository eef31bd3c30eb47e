"""Dawid-Skene model of ratings in K classes: item posteriors and rater confusion matrices by accelerated EM.

With two classes the fit equals that of `metrics.dawid_skene`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import logsumexp

from earmark.metrics.accelerated_em import accelerated_em
from earmark.metrics.dawid_skene import PSEUDO_CORRECT, PSEUDO_INCORRECT

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHUNK_ITEMS = 2_000  # items whose scores are in memory at once
MAX_PARAMETERS = 600  # of a model with standard errors: 30 raters with five classes
MAX_OPERATIONS = 1e11  # items times squared parameters, of a model with standard errors


@dataclass(frozen=True)
class DawidSkeneClasses:
    """Fitted Dawid-Skene model of K classes. All probabilities are in [0, 1].

    Attributes
    ----------
    posterior : (items, K) float
        Probability of each class; rows sum to 1. NaN without any ratings.
    confusion : (raters, K, K) float
        Probability that the rater chooses class l for an item of class k, in row k and column l; NaN for a rater
        without ratings.
    prevalence : (K,) float
        Estimated proportion of items of each class; NaN without any ratings.
    iterations : int
        Number of EM steps.
    converged : bool
        Whether EM reached its limit.
    """

    posterior: FloatArray
    confusion: FloatArray
    prevalence: FloatArray
    iterations: int
    converged: bool = True

    @property
    def accuracy(self) -> FloatArray:
        """Probability that a rater chooses the class of an item, (raters,) float."""
        return np.asarray(np.einsum("k,rkk->r", self.prevalence, self.confusion))


def dawid_skene_classes(
    item: ArrayLike, rater: ArrayLike, rating: ArrayLike, *, n_items: int, n_raters: int, n_classes: int
) -> DawidSkeneClasses:
    """Fit the Dawid-Skene model of K classes by expectation maximisation.

    An item has a class, drawn with the prevalences. A rater chooses class l for an item of class k with the probability
    in row k and column l of the rater's confusion matrix. EM starts from each item's share of ratings in each class and
    is deterministic; it is accelerated (`accelerated_em`).

    Pseudo-counts regularise the fit as in `dawid_skene`: for each class, each rater gets two correct ratings and one
    incorrect rating, which is spread evenly over the other classes; the prevalence gets one item of each class.

    Parameters
    ----------
    item, rater, rating : (n,) int
        Codes from 0.
    n_items, n_raters, n_classes : int

    Returns
    -------
    DawidSkeneClasses
        An item without ratings has the prevalences as its posterior.

    References
    ----------
    Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28:20, eqs. 2.3 to 2.5.

    Examples
    --------
    >>> ratings = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [2, 2, 0, 1, 1, 1]
    >>> fit = dawid_skene_classes(*ratings, n_items=2, n_raters=3, n_classes=3)
    >>> fit.posterior.argmax(axis=1).tolist()
    [2, 1]
    """
    i, r, v = (np.asarray(codes, dtype=np.int64) for codes in (item, rater, rating))
    shape = (n_raters, n_classes, n_classes)
    if not len(i):
        nan = float("nan")
        return DawidSkeneClasses(
            np.full((n_items, n_classes), nan), np.full(shape, nan), np.full(n_classes, nan), iterations=0
        )
    group, weight, cells = _equal_items(i, r * n_classes + v, n_items, n_raters * n_classes)
    fitted = _Expectation(cells, cells.T.tocsr(), weight, n_raters, n_classes)
    start = fitted.maximise(fitted.start())
    fit = accelerated_em(fitted.posterior, fitted.maximise, start, fitted.normalised)
    confusion, prevalence = (np.exp(part) for part in fitted.parts(fit.parameters))
    confusion[np.bincount(r, minlength=n_raters) == 0] = np.nan
    return DawidSkeneClasses(fit.posterior.T[group], confusion, prevalence, fit.steps, fit.converged)


@dataclass(frozen=True)
class _Expectation:
    """Steps of EM between posteriors, (K, rows), and logarithms of the parameters.

    cells: (rows, raters · K) ratings of each row; by_cell: its transpose; weight: (rows,) items of each row.
    """

    cells: sparse.csr_array
    by_cell: sparse.csr_array
    weight: FloatArray
    n_raters: int
    k: int

    def parts(self, logarithms: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithms of the confusion matrices, (raters, K, K), and of the prevalences, (K,)."""
        return logarithms[: -self.k].reshape(self.n_raters, self.k, self.k), logarithms[-self.k :]

    def start(self) -> FloatArray:
        """Share of each class in the ratings of a row."""
        of_class = np.tile(np.eye(self.k), (self.n_raters, 1))
        ratings = np.asarray(self.cells.sum(axis=1)).ravel()
        return np.ascontiguousarray((np.asarray(self.cells @ of_class) / np.maximum(ratings, 1)[:, np.newaxis]).T)

    def maximise(self, posterior: FloatArray) -> FloatArray:
        """Logarithms of the parameters that fit the posteriors best, with pseudo-counts."""
        weighted = posterior * self.weight
        expected = np.asarray(self.by_cell @ weighted.T).reshape(self.n_raters, self.k, self.k)
        confusion = _smoothed(expected.transpose(0, 2, 1))  # rater, class, rating
        rated = np.diff(self.cells.indptr) > 0
        prevalence = (weighted[:, rated].sum(axis=1) + 1) / (self.weight[rated].sum() + self.k)
        return np.log(np.concatenate([confusion.ravel(), prevalence]))

    def posterior(self, logarithms: FloatArray) -> tuple[FloatArray, float]:
        """Posteriors, and the logarithm of the likelihood with pseudo-counts."""
        confusion, prevalence = self.parts(logarithms)
        # The rows of the table of logarithms are (rater, rating), as the columns of `cells`.
        evidence = np.asarray(self.cells @ confusion.transpose(0, 2, 1).reshape(-1, self.k))
        scores = np.ascontiguousarray(evidence.T) + prevalence[:, np.newaxis]
        highest = scores.max(axis=0)
        scores = np.exp(scores - highest, out=scores)
        total = scores.sum(axis=0)
        likelihood = float(self.weight @ (highest + np.log(total)))
        penalty = float((_pseudo_counts(self.k) * confusion).sum() + prevalence.sum())
        return scores / total, likelihood + penalty

    def normalised(self, logarithms: FloatArray) -> FloatArray:
        """The same with probabilities that sum to 1."""
        parts = self.parts(logarithms)
        return np.concatenate([(part - logsumexp(part, axis=-1, keepdims=True)).ravel() for part in parts])


def expected_ratings(fit: DawidSkeneClasses, item: ArrayLike, rater: ArrayLike, rating: ArrayLike) -> FloatArray:
    """Expected number of ratings of each rater by class of the item and class chosen.

    Parameters
    ----------
    fit : DawidSkeneClasses
    item, rater, rating : (n,) int
        The ratings that `fit` was fitted on.

    Returns
    -------
    (raters, K, K) float
        Row k and column l: ratings l of items of class k. Without pseudo-counts.
    """
    i, r, v = (np.asarray(codes, dtype=np.int64) for codes in (item, rater, rating))
    n_raters, k, _ = fit.confusion.shape
    by_class = [np.bincount(r * k + v, of_class[i], n_raters * k) for of_class in fit.posterior.T]
    return np.reshape(by_class, (k, n_raters, k)).astype(float).transpose(1, 0, 2)


def accuracy_errors(
    fit: DawidSkeneClasses, item: ArrayLike, rater: ArrayLike, rating: ArrayLike, unit: ArrayLike
) -> FloatArray:
    """Standard errors of `DawidSkeneClasses.accuracy`: cluster-robust sandwich estimator with the delta method.

    The parameters are the logits of each row of the confusion matrices and of the prevalences, against the last class.
    The bread is the observed information: that of known classes minus the information lost because they are unknown
    (Louis). The meat is the covariance of the units' scores.

    Parameters
    ----------
    fit : DawidSkeneClasses
    item, rater, rating : (n,) int
        The ratings that `fit` was fitted on, sorted by item.
    unit : (items,) int
        Sampled unit (cluster) of each item, such as its clip, from 0.

    Returns
    -------
    (raters,) float
        NaN for a rater without ratings, with a single class or unit, and everywhere if the information matrix is
        singular or the model larger than MAX_PARAMETERS or MAX_OPERATIONS.

    References
    ----------
    Louis (1982), Finding the observed information matrix when using the EM algorithm, Journal of the Royal Statistical
    Society B 44:226.
    White (1982), Maximum likelihood estimation of misspecified models, Econometrica 50:1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> item, rater, truth = np.repeat(np.arange(300), 3), np.tile(np.arange(3), 300), np.arange(300) % 3
    >>> rating = np.where(rng.random(900) < 0.8, truth[item], rng.integers(0, 3, 900))
    >>> fit = dawid_skene_classes(item, rater, rating, n_items=300, n_raters=3, n_classes=3)
    >>> accuracy_errors(fit, item, rater, rating, np.arange(300)).round(2).tolist()
    [0.02, 0.02, 0.02]
    """
    i, r, v, units = (np.asarray(codes, dtype=np.int64) for codes in (item, rater, rating, unit))
    n_raters, k, _ = fit.confusion.shape
    n_units = int(units.max(initial=-1)) + 1
    size = (n_raters * k + 1) * (k - 1)
    undefined = np.full(n_raters, np.nan)
    if k < 2 or n_units < 2 or size > MAX_PARAMETERS or len(fit.posterior) * size**2 > MAX_OPERATIONS:
        return undefined
    confusion = np.nan_to_num(fit.confusion, nan=1 / k)
    hessian = _complete_information(expected_ratings(fit, i, r, v), confusion, fit)
    by_unit = np.zeros((n_units, size))
    for first in range(0, len(fit.posterior), CHUNK_ITEMS):
        last = min(first + CHUNK_ITEMS, len(fit.posterior))
        own = slice(*np.searchsorted(i, [first, last]))
        scores = _scores(i[own] - first, r[own], v[own], last - first, confusion, fit.prevalence)
        posterior = fit.posterior[first:last]
        mean = np.einsum("ik,kip->ip", posterior, scores)
        for weight, of_class in zip(posterior.T, scores, strict=True):
            used = np.flatnonzero(of_class.any(axis=0))
            hessian[np.ix_(used, used)] -= of_class[:, used].T @ (weight[:, np.newaxis] * of_class[:, used])
        hessian += mean.T @ mean
        np.add.at(by_unit, units[first:last], mean)
    meat = by_unit.T @ by_unit * n_units / (n_units - 1)
    gradient = _accuracy_gradient(confusion, fit.prevalence)
    try:
        direction = np.linalg.solve(hessian, gradient.T)
    except np.linalg.LinAlgError:
        return undefined
    variance = np.einsum("pr,pq,qr->r", direction, meat, direction)
    known = np.isfinite(fit.confusion).all(axis=(1, 2))
    return np.where(known & (variance > 0), np.sqrt(np.maximum(variance, 0)), np.nan)


def _scores(
    item: IntArray, rater: IntArray, rating: IntArray, n_items: int, confusion: FloatArray, prevalence: FloatArray
) -> FloatArray:
    """Derivative of the log-likelihood of each item in each class: (K, n_items, parameters).

    Parameters are ordered by rater, class and rating, the prevalences last; the last rating and class are left out.
    """
    n_raters, k, _ = confusion.shape
    chosen, rated = np.zeros((n_items, n_raters, k)), np.zeros((n_items, n_raters, 1))
    chosen[item, rater, rating] = 1
    rated[item, rater] = 1
    scores = np.zeros((k, n_items, (n_raters * k + 1) * (k - 1)))
    for code in range(k):
        of_ratings = scores[code, :, : -(k - 1)].reshape(n_items, n_raters, k, k - 1)
        of_ratings[:, :, code] = (chosen - rated * confusion[:, code])[..., :-1]
        scores[code, :, -(k - 1) :] = (np.eye(k)[code] - prevalence)[:-1]
    return scores


def _complete_information(expected: FloatArray, confusion: FloatArray, fit: DawidSkeneClasses) -> FloatArray:
    """Information if the classes of the items were known, with that of the pseudo-counts."""
    n_raters, k, _ = confusion.shape
    totals = expected.sum(axis=-1) + PSEUDO_CORRECT + PSEUDO_INCORRECT
    information = np.zeros(((n_raters * k + 1) * (k - 1),) * 2)
    rows = [*(confusion.reshape(-1, k)), fit.prevalence]
    weights = [*totals.ravel(), np.isfinite(fit.posterior[:, 0]).sum() + k]
    for at, (share, weight) in enumerate(zip(rows, weights, strict=True)):
        block = slice(at * (k - 1), (at + 1) * (k - 1))
        information[block, block] = weight * (np.diag(share) - np.outer(share, share))[:-1, :-1]
    return information


def _accuracy_gradient(confusion: FloatArray, prevalence: FloatArray) -> FloatArray:
    """Derivative of each rater's accuracy in the parameters, (raters, parameters)."""
    n_raters, k, _ = confusion.shape
    correct = np.einsum("rkk->rk", confusion)
    of_rows = (prevalence * correct)[..., np.newaxis] * (np.eye(k) - confusion)
    gradient = np.zeros((n_raters, (n_raters * k + 1) * (k - 1)))
    blocks = gradient[:, : -(k - 1)].reshape(n_raters, n_raters, k, k - 1)
    blocks[np.arange(n_raters), np.arange(n_raters)] = of_rows[..., :-1]
    accuracy = correct @ prevalence
    gradient[:, -(k - 1) :] = (prevalence * (correct - accuracy[:, np.newaxis]))[:, :-1]
    return gradient


def _equal_items(
    item: IntArray, cell: IntArray, n_items: int, n_cells: int
) -> tuple[IntArray, FloatArray, sparse.csr_array]:
    """Items with the same ratings by the same raters, which have the same posterior, as one row.

    cell: (n,) rater and rating of each rating as one number below n_cells.

    Returns the row of each item, the number of items of each row, and the rows: (rows, n_cells) with a 1 per rating.
    Rows are compared by two sums of random numbers, one number for each cell; two different rows are equal in both with
    a probability below 1e-24 for a million rows.
    """
    keys = np.random.default_rng(0).integers(0, 2**63, size=(2, n_cells), dtype=np.uint64)
    order = np.argsort(item, kind="stable")
    starts = np.searchsorted(item[order], np.arange(n_items))
    ends = np.append(starts[1:], len(item))
    sums = np.zeros((n_items, 2), dtype=np.uint64)
    filled = ends > starts
    for column, key in enumerate(keys):
        sums[filled, column] = np.add.reduceat(key[cell[order]], starts[filled])
    _, first, group, weight = np.unique(
        sums.view([("a", np.uint64), ("b", np.uint64)]).ravel(),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    sizes = (ends - starts)[first]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    columns = cell[order][np.repeat(starts[first], sizes) + within]
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    rows = sparse.csr_array((np.ones(len(columns)), columns, indptr), shape=(len(first), n_cells))
    return group.astype(np.int64).ravel(), weight.astype(float), rows


def _smoothed(expected: FloatArray) -> FloatArray:
    """Confusion matrices from expected numbers of ratings (raters, K, K), with pseudo-counts."""
    smoothed = expected + _pseudo_counts(expected.shape[-1])
    return np.asarray(smoothed / smoothed.sum(axis=-1, keepdims=True))


def _pseudo_counts(k: int) -> FloatArray:
    """Ratings of each class, by class of the item, that every rater is given: (K, K)."""
    pseudo = np.full((k, k), PSEUDO_INCORRECT / max(k - 1, 1))
    np.fill_diagonal(pseudo, PSEUDO_CORRECT)
    return pseudo

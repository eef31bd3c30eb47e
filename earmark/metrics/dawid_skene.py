"""Dawid-Skene model of binary votes: item posteriors and rater sensitivities and specificities by accelerated EM."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from earmark.metrics.accelerated_em import accelerated_em
from earmark.metrics.multisets import equal_contents, first_of_each

FloatArray = NDArray[np.float64]

PSEUDO_CORRECT, PSEUDO_INCORRECT = 2.0, 1.0  # pseudo-counts of votes, per rater and class
MAX_REFITS = 100  # with more raters, `leave_one_rater_out_posteriors` does not refit the model
NOBODY = -1


@dataclass(frozen=True)
class DawidSkene:
    """Fitted Dawid-Skene model. All probabilities are in [0, 1].

    Attributes
    ----------
    posterior : (items,) float
        Probability that the item is positive; NaN without any votes.
    sensitivity, specificity : (raters,) float
        NaN for a rater without votes.
    prevalence : float
        Estimated proportion of positive items; NaN without any votes.
    iterations : int
        Number of EM steps.
    converged : bool
        Whether EM reached its limit.
    """

    posterior: FloatArray
    sensitivity: FloatArray
    specificity: FloatArray
    prevalence: float
    iterations: int
    converged: bool = True


def dawid_skene(item: ArrayLike, rater: ArrayLike, vote: ArrayLike, *, n_items: int, n_raters: int) -> DawidSkene:
    """Fit the Dawid-Skene model of binary votes by expectation maximisation.

    An item is positive with the prevalence. A rater votes positive on a positive item with the rater's sensitivity, and
    negative on a negative item with the rater's specificity. EM starts from each item's proportion of positive votes
    and is deterministic; it is accelerated (`accelerated_em`).

    Pseudo-counts regularise the fit: each rater gets two correct votes and one incorrect vote of either class, and the
    prevalence gets one item of either class. So a rater with two votes is not estimated to be perfect, and raters are
    better than chance unless their votes show otherwise.

    Parameters
    ----------
    item, rater : (n,) int
        Codes from 0.
    vote : (n,) bool
    n_items, n_raters : int

    Returns
    -------
    DawidSkene
        An item without votes has the prevalence as its posterior.

    References
    ----------
    Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28:20, eqs. 2.3 to 2.5, for two classes.

    Examples
    --------
    >>> fit = dawid_skene([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0], n_items=2, n_raters=3)
    >>> fit.posterior.round(2).tolist()
    [0.75, 0.08]
    """
    votes = _Patterns.of_votes(item, rater, vote, n_items, n_raters)
    if not votes.size.any():
        undefined = np.full(n_raters, np.nan)
        return DawidSkene(np.full(n_items, np.nan), undefined, undefined, float("nan"), 0)
    fit = _fit(votes)
    return replace(fit, posterior=fit.posterior[votes.of_item])


def leave_one_rater_out_posteriors(fit: DawidSkene, item: ArrayLike, rater: ArrayLike, vote: ArrayLike) -> FloatArray:
    """Posterior of each vote's item from the other raters' votes (leave one rater out).

    The model is refitted without each rater. With more than MAX_REFITS raters, where a single rater hardly changes the
    fit, only the evidence of the vote itself is removed.

    Parameters
    ----------
    fit : DawidSkene
    item, rater, vote : (n,)
        The votes that `fit` was fitted on.

    Returns
    -------
    (n,) float
        In [0, 1]; NaN where the other raters gave votes of one class only.

    References
    ----------
    Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28:20, eqs. 2.3 to 2.5.

    Examples
    --------
    >>> votes = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0]
    >>> fit = dawid_skene(*votes, n_items=2, n_raters=3)
    >>> leave_one_rater_out_posteriors(fit, *votes).round(2).tolist()
    [0.4, 0.4, 0.86, 0.15, 0.15, 0.14]
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    n_items, n_raters = len(fit.posterior), len(fit.sensitivity)
    if n_raters > MAX_REFITS:
        own = _evidence(fit.sensitivity, fit.specificity, r, v)
        others = np.bincount(i, own, n_items)[i] - own
        return np.asarray(special.expit(others + special.logit(fit.prevalence)))
    votes = _Patterns.of_votes(i, r, v, n_items, n_raters)
    given = np.bincount(r * 2 + (v > 0), minlength=2 * n_raters).reshape(n_raters, 2)
    both_classes = ((given.sum(axis=0) - given) > 0).all(axis=1)
    by_pattern = np.full((n_raters, len(votes.weight)), np.nan)
    for rater in np.flatnonzero(both_classes & (given.sum(axis=1) > 0)):
        by_pattern[rater] = _fit(votes, int(rater)).posterior
    return by_pattern[r, votes.of_item[i]]


@dataclass(frozen=True)
class _Patterns:
    """Votes by pattern: items with the same votes by the same raters share one. Few items keep one each.

    Attributes
    ----------
    of_item : (items,) int
        Pattern of each item.
    weight : (patterns,) float
        Number of items with each pattern.
    pattern, rater : (n,) int
        Pattern and rater of each vote; the votes of one item stand for those of all items with its pattern.
    vote : (n,) float
        1 for positive, 0 for negative.
    n_raters : int
    """

    of_item: NDArray[np.int64]
    weight: FloatArray
    pattern: NDArray[np.int64]
    rater: NDArray[np.int64]
    vote: FloatArray
    n_raters: int

    @classmethod
    def of_votes(cls, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, n_items: int, n_raters: int) -> "_Patterns":
        i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
        of_item = equal_contents(i, 2 * r + (v > 0), n_items)
        example = first_of_each(of_item)
        shown = example[of_item[i]] == i
        weight = np.bincount(of_item, minlength=len(example)).astype(float)
        return cls(of_item, weight, of_item[i[shown]], r[shown], v[shown], n_raters)

    @cached_property
    def size(self) -> FloatArray:
        """Number of votes of each pattern, (patterns,)."""
        return np.bincount(self.pattern, minlength=len(self.weight)).astype(float)

    @cached_property
    def cells(self) -> sparse.csr_array:
        """Votes of each pattern, (patterns, 2 · raters): negative by rater 0, positive by rater 0, negative by 1, …."""
        entries = (np.ones(len(self.vote)), (self.pattern, 2 * self.rater + (self.vote > 0)))
        return sparse.csr_array(entries, shape=(len(self.weight), 2 * self.n_raters))

    @cached_property
    def by_cell(self) -> sparse.csr_array:
        """The transpose of `cells`, times the weight of the patterns: (2 · raters, patterns)."""
        return (self.cells.T @ sparse.diags_array(self.weight)).tocsr()

    def rates(self, posterior: FloatArray) -> FloatArray:
        """Sensitivities, then specificities of raters, (2 · raters,), from posteriors of patterns, (patterns,)."""
        p, w = posterior[self.pattern], self.weight[self.pattern]
        on_positive, on_negative = w * p, w * (1 - p)
        sensitivity = _smoothed_share(self._by_rater(on_positive * self.vote), self._by_rater(on_positive))
        specificity = _smoothed_share(self._by_rater(on_negative * (1 - self.vote)), self._by_rater(on_negative))
        return np.concatenate([sensitivity, specificity])

    def _by_rater(self, values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(self.rater, values, self.n_raters), dtype=float)


def _fit(votes: _Patterns, without: int = NOBODY) -> DawidSkene:
    """Fit the model to the votes of all raters but one.

    Posteriors are those of patterns. Sensitivity and specificity are NaN for raters without votes, and those of the
    rater left out mean nothing.
    """
    steps = _Steps.of(votes, without)
    fit = accelerated_em(steps.posterior, steps.maximise, steps.maximise(steps.start()))
    unknown = np.bincount(votes.rater, minlength=votes.n_raters) == 0
    probabilities = special.expit(fit.parameters)
    sensitivity, specificity = (np.where(unknown, np.nan, each) for each in probabilities[:-1].reshape(2, -1))
    return DawidSkene(fit.posterior, sensitivity, specificity, float(probabilities[-1]), fit.steps, fit.converged)


@dataclass(frozen=True)
class _Steps:
    """Steps of EM between posteriors, (patterns,), and logits of the parameters, (2 · raters + 1,).

    The logits are those of the sensitivities, the specificities and the prevalence; 0 for a rater left out.

    others: (patterns,) votes by other raters; items: (patterns,) items with a vote by another rater;
    given: (2 · raters,) votes by cell, 0 for a rater left out; estimated: (2 · raters,) whether the votes decide it.
    """

    votes: _Patterns
    without: int
    others: FloatArray
    items: FloatArray
    given: FloatArray
    estimated: NDArray[np.bool_]

    @classmethod
    def of(cls, votes: _Patterns, without: int) -> "_Steps":
        own = votes.rater == without
        others = votes.size - np.bincount(votes.pattern[own], minlength=len(votes.weight))
        given = np.asarray(votes.by_cell.sum(axis=1)).ravel()
        estimated = np.ones(2 * votes.n_raters, dtype=bool)
        if without != NOBODY:
            given[2 * without : 2 * without + 2] = 0.0
            estimated[[without, votes.n_raters + without]] = False
        return cls(votes, without, others, votes.weight * (others > 0), given, estimated)

    def start(self) -> FloatArray:
        """Proportion of positive votes."""
        counted = self.votes.rater != self.without
        positive = np.bincount(self.votes.pattern[counted], self.votes.vote[counted], len(self.items))
        return np.asarray(positive / np.maximum(self.others, 1))

    def maximise(self, posterior: FloatArray) -> FloatArray:
        """Logits of the parameters that fit the posteriors best, with pseudo-counts."""
        rates = np.where(self.estimated, self.votes.rates(posterior), 0.5)
        prevalence = (self.items @ posterior + 1) / (self.items.sum() + 2)
        return np.asarray(special.logit(np.append(rates, prevalence)))

    def posterior(self, logits: FloatArray) -> tuple[FloatArray, float]:
        """Posteriors, and the logarithm of the likelihood with pseudo-counts."""
        n = self.votes.n_raters
        # Of a correct and of a wrong vote, by class of the item: sensitivities first, then specificities.
        correct, wrong = special.log_expit(logits), special.log_expit(-logits)
        on_negative = np.stack([correct[n : 2 * n], wrong[n : 2 * n]], axis=1).ravel()
        evidence = np.stack([wrong[:n], correct[:n]], axis=1).ravel() - on_negative
        if self.without != NOBODY:
            evidence[2 * self.without : 2 * self.without + 2] = 0.0
        odds = self.votes.cells @ evidence + logits[-1]
        # log(1 + odds) is what positive items add to the likelihood of negative ones.
        likelihood = self.given @ on_negative + self.items.sum() * wrong[-1] + self.items @ np.logaddexp(0.0, odds)
        penalty = PSEUDO_CORRECT * correct[:-1] + PSEUDO_INCORRECT * wrong[:-1]
        return special.expit(odds), float(likelihood + penalty[self.estimated].sum() + correct[-1] + wrong[-1])


def remove_pseudo_counts(share: ArrayLike, votes: ArrayLike) -> FloatArray:
    """Sensitivities or specificities without the pseudo-counts of `dawid_skene`.

    Parameters
    ----------
    share : (raters,) float
        Sensitivities or specificities.
    votes : (raters,) float
        Weight of the rater's own votes on items of the class.

    Returns
    -------
    (raters,) float
        In [0, 1]; unchanged for a rater without such votes.

    Examples
    --------
    >>> remove_pseudo_counts([0.75], [5.0]).tolist()  # (2 + 4) / (3 + 5)
    [0.8]
    """
    s, n = np.asarray(share, dtype=float), np.asarray(votes, dtype=float)
    own = s * (n + PSEUDO_CORRECT + PSEUDO_INCORRECT) - PSEUDO_CORRECT
    return np.clip(np.divide(own, n, out=s.copy(), where=n > 0), 0.0, 1.0)


def standard_errors(
    fit: DawidSkene, item: ArrayLike, rater: ArrayLike, vote: ArrayLike, unit: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Standard errors of sensitivities and specificities: cluster-robust sandwich estimator with the delta method.

    The bread is the observed information, by numerical differentiation of the score through the posteriors, so that it
    includes the uncertainty of the items' classes. The meat is the covariance of the units' scores. The delta method
    maps errors of logits to errors of probabilities.

    Parameters
    ----------
    fit : DawidSkene
    item, rater, vote : (n,)
        The votes that `fit` was fitted on.
    unit : (items,) array_like
        Sampled unit (cluster) of each item, such as its clip.

    Returns
    -------
    sensitivity, specificity : (raters,) float
        NaN for a rater without votes, and everywhere if the information matrix is singular.

    References
    ----------
    Louis (1982), Finding the observed information matrix when using the EM algorithm, Journal of the Royal Statistical
    Society B 44:226.
    White (1982), Maximum likelihood estimation of misspecified models, Econometrica 50:1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> item, rater = np.repeat(np.arange(200), 3), np.tile(np.arange(3), 200)
    >>> vote = (rng.random(200) < 0.5)[item] ^ (rng.random(600) < 0.1)
    >>> fit = dawid_skene(item, rater, vote, n_items=200, n_raters=3)
    >>> standard_errors(fit, item, rater, vote, np.arange(200))[0].round(2).tolist()
    [0.03, 0.04, 0.03]
    """
    i, r, v = np.asarray(item, dtype=np.int64), np.asarray(rater, dtype=np.int64), np.asarray(vote, dtype=float)
    known = np.isfinite(fit.sensitivity)[r]
    voted = np.flatnonzero(np.isfinite(fit.sensitivity))
    code = np.full(len(fit.sensitivity), -1)
    code[voted] = np.arange(len(voted))
    model = _Score(_Patterns.of_votes(i[known], code[r[known]], v[known], len(fit.posterior), len(voted)))
    theta = special.logit(np.concatenate([fit.sensitivity[voted], fit.specificity[voted], [fit.prevalence]]))
    hessian = np.stack([_slope(model, theta, k) for k in range(len(theta))], axis=1)
    units, of_item = np.unique(np.asarray(unit), return_inverse=True)
    meat = model.covariance(theta, of_item.ravel(), len(units)) * len(units) / max(len(units) - 1, 1)
    undefined = np.full(len(fit.sensitivity), np.nan)
    try:
        variance = np.diag(np.linalg.solve(hessian, np.linalg.solve(hessian, meat).T))
    except np.linalg.LinAlgError:
        return undefined, undefined.copy()
    probability = special.expit(theta)
    error = np.sqrt(np.where(variance > 0, variance, np.nan)) * probability * (1 - probability)  # delta method
    errors = [undefined.copy(), undefined.copy()]
    for all_raters, part in zip(errors, np.split(error[:-1], 2), strict=True):
        all_raters[voted] = part
    return errors[0], errors[1]


@dataclass(frozen=True)
class _Score:
    """Score function: derivative of the log-likelihood in the logits of sensitivities, specificities and prevalence."""

    votes: _Patterns

    def _parts(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Score of each vote and, for the prevalence, of each pattern; and the probabilities of theta."""
        pattern, rater, vote, n = self.votes.pattern, self.votes.rater, self.votes.vote, self.votes.n_raters
        sensitivity, specificity = special.expit(theta[:n]), special.expit(theta[n:-1])
        evidence = np.bincount(pattern, _evidence(sensitivity, specificity, rater, vote), len(self.votes.weight))
        rated = self.votes.size > 0
        posterior = np.where(rated, special.expit(evidence + theta[-1]), 0.0)
        p = posterior[pattern]
        of_positive = p * (vote - sensitivity[rater])
        of_negative = (1 - p) * (1 - vote - specificity[rater])
        return of_positive, of_negative, rated * (posterior - special.expit(theta[-1])), special.expit(theta)

    def total(self, theta: FloatArray) -> FloatArray:
        """Score summed over items, plus that of the pseudo-counts: (2 · raters + 1,), 0 at the fit."""
        of_positive, of_negative, of_prevalence, share = self._parts(theta)
        rater, weight = self.votes.rater, self.votes.weight
        parts = [
            np.bincount(rater, part * weight[self.votes.pattern], self.votes.n_raters).astype(float)
            for part in (of_positive, of_negative)
        ]
        prior = PSEUDO_CORRECT * (1 - share) - PSEUDO_INCORRECT * share
        prior[-1] = 1 - 2 * share[-1]
        return np.concatenate([*parts, [(of_prevalence * weight).sum()]]) + prior

    def covariance(self, theta: FloatArray, unit: NDArray[np.int64], n_units: int) -> FloatArray:
        """Sum of the outer products of the scores of units, (2 · raters + 1, 2 · raters + 1). unit: (items,)."""
        of_positive, of_negative, of_prevalence, _ = self._parts(theta)
        votes, n = self.votes, self.votes.n_raters
        columns = np.concatenate([votes.rater, n + votes.rater, np.full(len(of_prevalence), 2 * n)])
        rows = np.concatenate([votes.pattern, votes.pattern, np.arange(len(of_prevalence))])
        entries = (np.concatenate([of_positive, of_negative, of_prevalence]), (rows, columns))
        by_pattern = sparse.csr_array(entries, shape=(len(of_prevalence), 2 * n + 1))
        alike = equal_contents(unit, votes.of_item, n_units)
        example = first_of_each(alike)
        shown = example[alike[unit]] == unit
        members = (np.ones(int(shown.sum())), (alike[unit[shown]], votes.of_item[shown]))
        by_unit = sparse.csr_array(members, shape=(len(example), len(of_prevalence))) @ by_pattern
        number = np.bincount(alike, minlength=len(example))
        scaled = by_unit.toarray() * np.sqrt(number)[:, np.newaxis]
        return np.asarray(scaled.T @ scaled)


def _slope(model: _Score, theta: FloatArray, k: int, step: float = 1e-5) -> FloatArray:
    up, down = theta.copy(), theta.copy()
    up[k] += step
    down[k] -= step
    return (model.total(up) - model.total(down)) / (2 * step)


def _evidence(
    sensitivity: FloatArray, specificity: FloatArray, rater: NDArray[np.int64], vote: FloatArray
) -> FloatArray:
    """Log-likelihood ratio of positive to negative for each vote."""
    for_positive = np.where(vote > 0, np.log(sensitivity)[rater], np.log1p(-sensitivity)[rater])
    for_negative = np.where(vote > 0, np.log1p(-specificity)[rater], np.log(specificity)[rater])
    return np.asarray(for_positive - for_negative)


def _smoothed_share(correct: ArrayLike, votes: ArrayLike) -> FloatArray:
    return (np.asarray(correct, dtype=float) + PSEUDO_CORRECT) / (
        np.asarray(votes, dtype=float) + PSEUDO_CORRECT + PSEUDO_INCORRECT
    )

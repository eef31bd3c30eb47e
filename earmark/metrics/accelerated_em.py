"""Expectation maximisation, accelerated by extrapolation from the last steps and safeguarded by the likelihood.

Where raters agree little or classes overlap, each step of EM covers a small part of the way, so that thousands of steps
are needed, and a small step does not mean that the end is near. Anderson's extrapolation combines the last steps so
that their residuals cancel. Where the likelihood falls, the last step of EM is taken instead, which cannot lower it.

References: Walker and Ni (2011), Anderson acceleration for fixed-point iterations, SIAM Journal on Numerical Analysis
49:1715. Henderson and Varadhan (2019), Damped Anderson acceleration with restarts and monotonicity control for
accelerating EM and EM-like algorithms, Journal of Computational and Graphical Statistics 28:834.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-8  # largest change of a parameter in a step of EM at convergence
MAX_STEPS = 5000
MEMORY = 10  # steps that are combined
ROUNDING = 1e-10  # of the likelihood, relative
NOT_CONVERGED = (
    f"the Dawid-Skene model has not converged after {MAX_STEPS:,} steps: the ratings hardly tell its parameters apart, "
    "and its probabilities are approximate"
)


@dataclass(frozen=True)
class EmFit:
    """Result of `accelerated_em`.

    Attributes
    ----------
    posterior : array
        As the expectation step returns it, at `parameters`.
    parameters : (d,) float
        Without convergence, those of the last step that the likelihood accepted.
    steps : int
        Number of expectation steps.
    converged : bool
        Whether a step of EM changes no parameter by more than TOLERANCE.
    """

    posterior: FloatArray
    parameters: FloatArray
    steps: int
    converged: bool


def accelerated_em(
    expectation: Callable[[FloatArray], tuple[FloatArray, float]],
    maximisation: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    normalised: Callable[[FloatArray], FloatArray] = np.asarray,
) -> EmFit:
    """Maximise a likelihood by EM.

    Parameters
    ----------
    expectation : callable
        Maps parameters, (d,) float, to the posteriors and the logarithm of the likelihood with its penalties.
    maximisation : callable
        Maps posteriors to parameters. Parameters are unbounded, such as logits.
    start : (d,) float
        First parameters.
    normalised : callable
        Makes extrapolated parameters valid, such as logarithms of probabilities that sum to 1.

    Returns
    -------
    EmFit
        After at most MAX_STEPS steps.

    Examples
    --------
    A coin of two with unknown chances was tossed 5 times in each of 4 turns:

    >>> heads = np.array([5.0, 4.0, 1.0, 0.0])
    >>> def expectation(logits):
    ...     scores = heads * logits[:, np.newaxis] - 5 * np.logaddexp(0, logits)[:, np.newaxis]
    ...     likelihood = np.logaddexp(*scores)
    ...     return np.exp(scores - likelihood), float(likelihood.sum())
    >>> def maximisation(posterior):
    ...     chance = (posterior @ heads + 1) / (5 * posterior.sum(axis=1) + 2)
    ...     return np.log(chance / (1 - chance))
    >>> fit = accelerated_em(expectation, maximisation, np.array([1.0, -1.0]))
    >>> (1 / (1 + np.exp(-fit.parameters))).round(2).tolist(), fit.converged
    ([0.83, 0.17], True)
    """
    at, image = start, start
    highest = -np.inf
    images: list[FloatArray] = []
    residuals: list[FloatArray] = []
    accepted = (np.empty(0), start)
    for steps in range(1, MAX_STEPS + 1):
        posterior, likelihood = expectation(at)
        if images and likelihood < highest - ROUNDING * abs(highest):
            at = image  # a step of EM from where the likelihood was highest
            images, residuals = [], []
            continue
        highest, image, accepted = likelihood, maximisation(posterior), (posterior, at)
        residual = image - at
        if np.abs(residual).max() < TOLERANCE:
            return EmFit(posterior, at, steps, converged=True)
        images, residuals = [*images[-MEMORY:], image], [*residuals[-MEMORY:], residual]
        at = image
        if len(images) > 1:
            differences = np.diff(np.stack(residuals), axis=0).T
            share = np.linalg.lstsq(differences, residual, rcond=1e-12)[0]
            at = normalised(image - np.diff(np.stack(images), axis=0).T @ share)
    return EmFit(*accepted, MAX_STEPS, converged=False)

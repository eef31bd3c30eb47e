"""Calibration: a scale and an offset that make scores of a detector log-likelihood ratios.

An increasing map leaves every order, and so the equal error rate, alone; what changes is where the scores should be
cut: a log-likelihood ratio is cut at `detection.bayes_threshold`, whatever the data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, root
from scipy.special import expit, logit

from earmark.metrics.detection import validate_trials

FloatArray = NDArray[np.float64]

# On the scale of standardised scores. Far below sampling error, and yet the optimum stays finite where some threshold
# separates the classes: there the likelihood alone would drive the scale to infinity.
RIDGE = 1e-10
TOLERANCE = 1e-9  # of the gradient of a mean loss in nats, where the descent ends


@dataclass(frozen=True)
class LinearCalibration:
    """scale · score + offset is the natural logarithm of the likelihood ratio of target to non-target.

    A scale that is not positive says that the scores it was fitted on fall, or say nothing, where targets are.

    >>> LinearCalibration(2.0, -1.0)([0.5, 1.0]).tolist()
    [0.0, 1.0]
    """

    scale: float
    offset: float

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """The log-likelihood ratios of scores, any shape; NaN stays NaN."""
        return self.scale * np.asarray(scores, dtype=float) + self.offset


def fit(scores: ArrayLike, labels: ArrayLike, p_target: float = 0.5) -> LinearCalibration:
    """Linear calibration by prior-weighted logistic regression.

    Minimises P/N_t Σ log(1 + e^−(l + logit P)) + (1 − P)/N_n Σ log(1 + e^(l + logit P)) over the targets' and the
    non-targets' l = scale · score + offset, plus RIDGE/2 · (scale · deviation of the scores)². With P = ½ that is
    Cllr; a lower P gives more weight to the region of high thresholds.

    scores: (n,) finite. labels: (n,) True for target trials. p_target: P, in (0, 1).
    All scores equal: scale 0 and offset 0, which says that they carry nothing. Classes that a threshold separates: a
    steep but finite scale, as RIDGE sets it. ValueError for one class alone, lengths that differ, or values that are
    not finite.
    Source: Brümmer and du Preez (2006), Computer Speech and Language 20:230; Brümmer and de Villiers (2011), The
    BOSARIS toolkit user guide.

    >>> found = fit([3.0, 1.0, 2.0, 0.0], [True, True, False, False])
    >>> round(found.scale, 6), round(found.offset, 6)
    (0.908184, -1.362276)
    """
    s, y = validate_trials(scores, labels, "calibration")
    if not 0 < p_target < 1:
        raise ValueError(f"p_target is {p_target}; a prior lies between 0 and 1")
    centre, deviation = float(s.mean()), float(s.std())
    if np.ptp(s) == 0:
        return LinearCalibration(0.0, 0.0)
    loss = _Loss.of((s - centre) / deviation, y, p_target)
    found = minimize(
        loss.value,
        np.zeros(2),
        jac=loss.gradient,
        hess=loss.hessian,
        method="trust-exact",
        options={"gtol": TOLERANCE, "maxiter": 1000, "initial_trust_radius": 4.0, "max_trust_radius": 1e4},
    )
    # The loss itself is too flat there to tell steps apart; its gradient is not.
    scale, offset = map(float, root(loss.gradient, found.x, jac=loss.hessian, options={"xtol": 1e-14}).x)
    return LinearCalibration(scale / deviation, offset - scale * centre / deviation)


@dataclass(frozen=True)
class _Loss:
    """The weighted loss of (scale, offset) on standardised scores. sign: 1 for targets, −1 for others."""

    scores: FloatArray
    sign: FloatArray
    weights: FloatArray
    prior: float

    @classmethod
    def of(cls, scores: FloatArray, is_target: NDArray[np.bool_], p_target: float) -> "_Loss":
        n = int(is_target.sum())
        weights = np.where(is_target, p_target / n, (1 - p_target) / (len(scores) - n))
        return cls(scores, np.where(is_target, 1.0, -1.0), weights, float(logit(p_target)))

    def _margins(self, x: FloatArray) -> FloatArray:
        return self.sign * (x[0] * self.scores + x[1] + self.prior)

    def value(self, x: FloatArray) -> float:
        return float(self.weights @ np.logaddexp(0, -self._margins(x)) + RIDGE / 2 * x[0] ** 2)

    def gradient(self, x: FloatArray) -> FloatArray:
        slope = -self.weights * self.sign * expit(-self._margins(x))
        return np.array([slope @ self.scores + RIDGE * x[0], slope.sum()])

    def hessian(self, x: FloatArray) -> FloatArray:
        margins = self._margins(x)
        curve = self.weights * expit(margins) * expit(-margins)
        across = curve @ self.scores
        return np.array([[curve @ self.scores**2 + RIDGE, across], [across, curve.sum()]])

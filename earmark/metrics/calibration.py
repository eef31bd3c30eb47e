"""Linear calibration: a scale and an offset that turn detection scores into log-likelihood ratios.

Increasing maps preserve the order of scores, and so the equal error rate. Calibration changes where scores are
thresholded: a log-likelihood ratio is thresholded at `detection.bayes_threshold`, whatever the data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, root
from scipy.special import expit, logit

from earmark.metrics.detection import validate_trials

FloatArray = NDArray[np.float64]

# Ridge penalty on the scale of standardised scores: negligible next to sampling error, but it keeps the optimum finite
# where a threshold separates the classes, in which case the likelihood alone would drive the scale to infinity.
RIDGE = 1e-10
TOLERANCE = 1e-9  # norm of the loss's gradient (nats) at which the minimisation stops


@dataclass(frozen=True)
class LinearCalibration:
    """Map scores to log-likelihood ratios: scale · score + offset.

    Attributes
    ----------
    scale : float
        Zero or negative if the scores it was fitted on are uninformative or lower for targets.
    offset : float

    Examples
    --------
    >>> LinearCalibration(2.0, -1.0)([0.5, 1.0]).tolist()
    [0.0, 1.0]
    """

    scale: float
    offset: float

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """Natural log-likelihood ratios of scores of any shape; NaN stays NaN."""
        return self.scale * np.asarray(scores, dtype=float) + self.offset


def fit(scores: ArrayLike, labels: ArrayLike, p_target: float = 0.5) -> LinearCalibration:
    """Fit a linear calibration by prior-weighted logistic regression.

    Minimises P/N_t Σ log(1 + e^−(l + logit P)) + (1 − P)/N_n Σ log(1 + e^(l + logit P)) over the N_t targets' and the
    N_n non-targets' l = scale · score + offset, plus RIDGE/2 · (scale · standard deviation of the scores)². For P = ½
    the loss is proportional to Cllr; a lower P gives more weight to high thresholds.

    Parameters
    ----------
    scores : (n,) float
        Finite; higher means more likely a target.
    labels : (n,) bool
        True for target trials.
    p_target : float
        Target prior P, in (0, 1).

    Returns
    -------
    LinearCalibration
        Scale and offset are 0 if all scores are equal. If a threshold separates the classes, the scale is large but
        finite because of the ridge penalty.

    Raises
    ------
    ValueError
        If a class is missing, the lengths differ, or a score is not finite.

    References
    ----------
    Brümmer and du Preez (2006), Application-independent evaluation of speaker detection, Computer Speech and Language
    20:230.
    Brümmer and de Villiers (2011), The BOSARIS toolkit user guide: theory, algorithms and code for binary classifier
    score processing.

    Examples
    --------
    >>> calibration = fit([3.0, 1.0, 2.0, 0.0], [True, True, False, False])
    >>> round(calibration.scale, 6), round(calibration.offset, 6)
    (0.908184, -1.362276)
    """
    s, y = validate_trials(scores, labels, "calibration")
    if not 0 < p_target < 1:
        raise ValueError(f"p_target must be between 0 and 1, not {p_target}")
    centre, deviation = float(s.mean()), float(s.std())
    if np.ptp(s) == 0:
        return LinearCalibration(0.0, 0.0)
    loss = _Loss.from_trials((s - centre) / deviation, y, p_target)
    minimum = minimize(
        loss.value,
        np.zeros(2),
        jac=loss.gradient,
        hess=loss.hessian,
        method="trust-exact",
        options={"gtol": TOLERANCE, "maxiter": 1000, "initial_trust_radius": 4.0, "max_trust_radius": 1e4},
    )
    # Near the minimum the loss is flat to machine precision; its gradient is not, so refine by root finding.
    scale, offset = map(float, root(loss.gradient, minimum.x, jac=loss.hessian, options={"xtol": 1e-14}).x)
    return LinearCalibration(scale / deviation, offset - scale * centre / deviation)


@dataclass(frozen=True)
class _Loss:
    """Weighted logistic loss of (scale, offset) on standardised scores. sign: 1 for targets, −1 for non-targets."""

    scores: FloatArray
    sign: FloatArray
    weights: FloatArray
    prior: float

    @classmethod
    def from_trials(cls, scores: FloatArray, is_target: NDArray[np.bool_], p_target: float) -> "_Loss":
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

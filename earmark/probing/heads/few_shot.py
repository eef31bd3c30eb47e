"""Few-shot linear head: multinomial logistic regression with L2 regularisation, fitted to convergence.

Embeddings are normalised row by row as by LayerNorm, like the inputs of `linear`. They are then centred and divided by
one scalar, so that the training embeddings have mean 0 and mean squared norm 1; one regularisation strength then suits
any dimension. The strength is fixed, because few shots do not allow to select it. Nothing is random.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

INVERSE_REGULARISATION = 30.0  # inverse regularisation strength C, as in scikit-learn
EPSILON = 1e-5  # of LayerNorm
MAX_ITERATIONS = 2000
GRADIENT_TOLERANCE = 1e-4  # on the largest component of the gradient


@dataclass(frozen=True)
class LogisticHead:
    """Fitted head x ↦ Wx + b.

    Attributes
    ----------
    weight : (C, D) float
    bias : (C,) float
    classes : (C,) int
        Classes of the training set, sorted.
    """

    weight: FloatArray
    bias: FloatArray
    classes: IntArray

    def logits(self, x: ArrayLike, n_classes: int) -> FloatArray:
        """Logits (n, n_classes) for rows (n, D); −∞ for classes without training rows."""
        values = np.full((len(np.asarray(x)), n_classes), -np.inf)
        values[:, self.classes] = np.asarray(x) @ self.weight.T + self.bias
        return values


def few_shot_logits(train: ArrayLike, labels: ArrayLike, test: ArrayLike, n_classes: int) -> NDArray[np.float32]:
    """Fit a few-shot head and compute the logits of test embeddings.

    Parameters
    ----------
    train : (n, D) float
        Embeddings of the shots.
    labels : (n,) int
        Their classes, 0 … n_classes − 1; at least two different ones.
    test : (m, D) float
    n_classes : int

    Returns
    -------
    (m, n_classes) float32
        −∞ for classes without shots.

    Raises
    ------
    ValueError
        As `fit_logistic`.
    """
    train_rows, test_rows = layer_norm(train), layer_norm(test)
    mean = train_rows.mean(axis=0)
    scale = np.sqrt(((train_rows - mean) ** 2).sum(axis=1).mean()) or 1.0
    head = fit_logistic((train_rows - mean) / scale, labels)
    return head.logits((test_rows - mean) / scale, n_classes).astype(np.float32)


def layer_norm(x: ArrayLike) -> FloatArray:
    """Normalise rows (n, D) to mean 0 and variance 1, as LayerNorm does.

    >>> layer_norm([[1.0, 3.0]]).round(3).tolist()
    [[-1.0, 1.0]]
    """
    rows = np.asarray(x, dtype=float)
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt(rows.var(axis=1, keepdims=True) + EPSILON))


def fit_logistic(x: ArrayLike, labels: ArrayLike, c: float = INVERSE_REGULARISATION) -> LogisticHead:
    """Fit multinomial logistic regression: minimise c · Σ cross-entropy + ½‖W‖². The bias is not regularised.

    Parameters
    ----------
    x : (n, D) float
    labels : (n,) int
        Classes from 0.
    c : float
        Inverse regularisation strength.

    Returns
    -------
    LogisticHead

    Raises
    ------
    ValueError
        If there is only one class, a number is not finite, or the fit does not converge.

    Notes
    -----
    Optimal weights lie in the span of the rows. With n < D, the fit is done in that n-dimensional space.
    """
    rows, y = np.asarray(x, dtype=float), np.asarray(labels)
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("the training set has only one class")
    if not np.isfinite(rows).all():
        raise ValueError("embeddings must be finite")
    basis = np.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else None
    features = rows if basis is None else rows @ basis
    one_hot = np.eye(len(classes))[target]

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        head = flat.reshape(len(classes), -1)
        logits = features @ head[:, :-1].T + head[:, -1]
        logits -= logits.max(axis=1, keepdims=True)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        errors = np.exp(log_probabilities) - one_hot
        gradient = np.concatenate([errors.T @ features + head[:, :-1] / c, errors.sum(axis=0)[:, np.newaxis]], 1)
        return float((head[:, :-1] ** 2).sum() / (2 * c) - (log_probabilities * one_hot).sum()), gradient.ravel()

    start = np.zeros(len(classes) * (features.shape[1] + 1))
    options = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": 1e-10}
    result = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    if result.status == 1:
        raise ValueError(f"the few-shot head did not converge in {MAX_ITERATIONS} iterations")
    head = result.x.reshape(len(classes), -1)
    weight = head[:, :-1] if basis is None else head[:, :-1] @ basis.T
    return LogisticHead(weight, head[:, -1], classes.astype(np.int64))

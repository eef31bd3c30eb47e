"""A linear head from few labelled clips: multinomial logistic regression, fitted until nothing changes.

What a head sees is what `heads` gives one: embeddings normalised row by row, as LayerNorm does. They are then moved and
scaled by one number, so that the shots have mean 0 and mean square norm 1 and one strength of regularisation suits any
width. Few labels leave none to choose by: the strength is fixed. Nothing is random.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STRENGTH = 30.0  # of the loss against ½‖W‖², scikit-learn's C
EPSILON = 1e-5  # of LayerNorm
MOST_STEPS = 2000
GRADIENT = 1e-4  # the largest part of the gradient at which the fit is over


@dataclass(frozen=True)
class Logistic:
    """A fitted head, x ↦ Wx + b: weight (C, D), bias (C,); classes (C,) those it was shown."""

    weight: FloatArray
    bias: FloatArray
    classes: IntArray

    def logits(self, x: ArrayLike, n_classes: int) -> FloatArray:
        """(n, n_classes) for rows (n, D); −∞ for a class that was never shown."""
        found = np.full((len(np.asarray(x)), n_classes), -np.inf)
        found[:, self.classes] = np.asarray(x) @ self.weight.T + self.bias
        return found


def few_shot_logits(train: ArrayLike, labels: ArrayLike, test: ArrayLike, n_classes: int) -> NDArray[np.float32]:
    """Logits (m, n_classes) of test embeddings from the shots: train (n, D), labels (n,), test (m, D)."""
    shots, asked = layer_norm(train), layer_norm(test)
    mean = shots.mean(axis=0)
    size = np.sqrt(((shots - mean) ** 2).sum(axis=1).mean()) or 1.0
    head = fit_logistic((shots - mean) / size, labels)
    return head.logits((asked - mean) / size, n_classes).astype(np.float32)


def layer_norm(x: ArrayLike) -> FloatArray:
    """Rows (n, D) less their mean, over their standard deviation.

    >>> layer_norm([[1.0, 3.0]]).round(3).tolist()
    [[-1.0, 1.0]]
    """
    rows = np.asarray(x, dtype=float)
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt(rows.var(axis=1, keepdims=True) + EPSILON))


def fit_logistic(x: ArrayLike, labels: ArrayLike, strength: float = STRENGTH) -> Logistic:
    """The head of least strength · Σ cross-entropy + ½‖W‖²; the bias is free.

    x: (n, D), labels: (n,) classes from 0. Weights lie in the span of the rows, so that the fit is as large as the rows
    are many, however wide they are. ValueError: one class only, numbers that are not finite, no convergence.
    """
    rows, y = np.asarray(x, dtype=float), np.asarray(labels)
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("the training split holds one class only; there is nothing to learn")
    if not np.isfinite(rows).all():
        raise ValueError("embeddings must be finite")
    basis = np.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else None
    within = rows if basis is None else rows @ basis
    hot = np.eye(len(classes))[target]

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        head = flat.reshape(len(classes), -1)
        logits = within @ head[:, :-1].T + head[:, -1]
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        errors = np.exp(logs) - hot
        gradient = np.concatenate([errors.T @ within + head[:, :-1] / strength, errors.sum(axis=0)[:, np.newaxis]], 1)
        return float((head[:, :-1] ** 2).sum() / (2 * strength) - (logs * hot).sum()), gradient.ravel()

    start = np.zeros(len(classes) * (within.shape[1] + 1))
    options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": GRADIENT, "ftol": 1e-10}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    if found.status == 1:
        raise ValueError(f"the few-shot head has not converged in {MOST_STEPS} steps; are embeddings of like sizes?")
    head = found.x.reshape(len(classes), -1)
    weight = head[:, :-1] if basis is None else head[:, :-1] @ basis.T
    return Logistic(weight, head[:, -1], classes.astype(np.int64))

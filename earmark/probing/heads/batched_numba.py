"""Linear heads of clip tasks on a CPU: `batched.BatchedHeads` as two compiled passes over the weights.

Batches of clip tasks are small, about 32 rows, so the matrix products of a step cost less than the passes over
weights, gradients and Adam's moments. Here the weights of a head are read twice. The forward pass scales them by γ and
multiplies them with the batch. The backward pass computes a few rows of the gradient at a time, adds them to the
gradients of γ and β, and applies Adam while they are in the cache. Products take 4 outputs and 4 rows at a time, so
that sums stay in registers. The number of rows is a multiple of 4: code for a remainder slows down the main loop.

No sum is split over threads, so results do not depend on their number.

Numba's OpenMP threads and torch's are the same: when numba starts them, it also sets their number for torch. The number
is set back, and torch computes the small gradients of a step in one thread, because waiting for a second one takes up
to a thousand times as long as the computation where other processes use the cores.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from earmark.probing.heads.batched import (
    ROW_MULTIPLE,
    FloatArray,
    Inputs,
    IntArray,
    LogitGradient,
    Parameters,
    Tensor,
    torch_library,
)

OUTPUT_BLOCK = 20  # outputs of a head per block, a multiple of 4; their gradient fits in the cache of a core
PREDICTION_ROWS = 128  # rows per step of a prediction; they fit in the cache of a core
MIN_WEIGHTS_FOR_THREADS = 1 << 15  # with fewer weights, starting threads takes longer than a step
BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
ONE, ZERO = np.float32(1), np.float32(0)


def _can_cache() -> bool:
    """Whether numba can write its cache, next to this file or in the user's cache folder."""
    try:
        njit(cache=True)(_can_cache)
    except RuntimeError:
        return False
    return True


# Vectorised sums need reordering; infinities and NaN are kept. NumPy's error model lets divisions return them.
OPTIONS: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy", "cache": _can_cache()}


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Set the number of torch's threads within the context."""
    torch = torch_library()
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class CompiledHeads:
    """G × R heads and their optimiser on the CPU, with the interface of BatchedHeads.

    Parameters
    ----------
    initial : sequence of Parameters
        Initial head of each of the G groups, used for all its R learning rates.
    rates : sequence of float
        The R learning rates.
    """

    def __init__(self, initial: Sequence[Parameters], rates: Sequence[float]) -> None:
        # torch aligns arrays to cache lines; NumPy does not, which makes vector operations slower.
        torch = torch_library()
        stacked = [torch.stack(value).unsqueeze(1) for value in zip(*initial, strict=True)]
        self.values = Parameters(*(torch.cat([value] * len(rates), dim=1).numpy() for value in stacked))
        self._means, self._squares = (
            Parameters(*(torch.zeros(value.shape).numpy() for value in self.values)) for _ in range(2)
        )
        groups, n_rates, outputs, inputs = self.values.weight.shape
        self._norm_gradients = torch.empty((groups, n_rates, -(-outputs // OUTPUT_BLOCK), 2, inputs)).numpy()
        max_threads: int = numba.config.NUMBA_NUM_THREADS
        self._scratch = torch.empty((max_threads, OUTPUT_BLOCK, inputs)).numpy()
        self._rates = np.asarray(rates)
        self._steps = np.zeros(groups)
        self.factor = 1.0
        small = self.values.weight.size < MIN_WEIGHTS_FOR_THREADS
        threads = torch.get_num_threads()
        with torch_threads(threads):
            start_threads(np.zeros(1, np.float32))
        numba.set_num_threads(1 if small else min(threads, max_threads))

    def step(self, inputs: Inputs, rows: Tensor, y: Tensor, row_weights: Tensor, gradient: LogitGradient) -> None:
        """One step of Adam for the first g groups; parameters as in BatchedHeads, B a multiple of 4."""
        x, indices = (each.numpy() for each in inputs.table(rows))
        logits = np.empty((len(indices), *self.values.bias.shape[1:], indices.shape[1]), np.float32)
        forward(self.values, x, indices, logits, self._scratch)
        with torch_threads(1):
            errors = gradient(torch_library().from_numpy(logits), y).mul_(row_weights).numpy()
        self._steps[: len(indices)] += 1
        steps = self._steps[: len(indices)]
        roots = np.sqrt(1 - float(BETA_2) ** steps)
        sizes = np.outer(roots / (1 - float(BETA_1) ** steps), self.factor * self._rates)
        adam = (self._means, self._squares, sizes.astype(np.float32), (EPSILON * roots).astype(np.float32))
        backward(self.values, x, indices, errors, self._norm_gradients, self._scratch, *adam)

    def outputs(self, group: int, inputs: Inputs, rows: IntArray) -> list[FloatArray]:
        """Logits (n, C) of each head of a group, one per learning rate, for row indices (n,)."""
        values = Parameters(*(value[group : group + 1] for value in self.values))
        padded = torch_library().as_tensor(np.pad(rows, (0, -len(rows) % ROW_MULTIPLE)))
        outputs = np.empty((*self.values.bias.shape[1:], len(padded)), np.float32)
        for start in range(0, len(padded), PREDICTION_ROWS):
            part = slice(start, start + PREDICTION_ROWS)
            logits = np.empty((1, *outputs[..., part].shape), np.float32)
            x, places = (each.numpy() for each in inputs.table(padded[part]))
            forward(values, x, places[np.newaxis], logits, self._scratch)
            outputs[..., part] = logits[0]
        return [np.ascontiguousarray(each.T[: len(rows)]) for each in outputs]

    def head(self, group: int, rate: int) -> Parameters:
        """Copy of the parameters of one head, as tensors."""
        return Parameters(*(torch_library().from_numpy(value[group, rate].copy()) for value in self.values))


@njit(parallel=True, **OPTIONS)
def start_threads(values: FloatArray) -> None:
    """Start numba's threads: the first parallel loop does."""
    for i in prange(len(values)):
        values[i] = ZERO


@njit(parallel=True, **OPTIONS)
def forward(values: Parameters, x: FloatArray, rows: IntArray, logits: FloatArray, scratch: FloatArray) -> None:
    """Fill the logits of the heads of the first g groups.

    Parameters
    ----------
    values : Parameters
    x : (N, D) float32
        Normalised inputs.
    rows : (g, B) int
        Row indices into x; B is a multiple of 4.
    logits : (g, R, C, B) float32
        Output.
    scratch : (threads, OUTPUT_BLOCK, D) float32
    """
    groups, rates, outputs, _ = logits.shape
    tiles = -(-outputs // 4)
    for task in prange(groups * rates * tiles):
        group, rate, first = task // (rates * tiles), task // tiles % rates, task % tiles * 4
        weight, bias = values.weight[group, rate], values.bias[group, rate]
        scaled, constants = scratch[numba.get_thread_id(), :4], np.empty(4, np.float32)
        for i in range(4):
            output = min(first + i, outputs - 1)  # the last output fills an incomplete tile
            product = scale_row(weight[output], values.scale[group, rate], values.shift[group, rate], scaled[i])
            constants[i] = product + bias[output]
        multiply(scaled, constants, x, rows[group], logits[group, rate, first : first + 4])


@njit(**OPTIONS)
def scale_row(weight: FloatArray, scale: FloatArray, shift: FloatArray, scaled: FloatArray) -> np.float32:
    """Fill scaled = w∘γ and return wᵀβ."""
    product = ZERO
    for d in range(len(weight)):
        scaled[d] = weight[d] * scale[d]
        product += weight[d] * shift[d]
    return product


@njit(**OPTIONS)
def multiply(scaled: FloatArray, constants: FloatArray, x: FloatArray, rows: IntArray, logits: FloatArray) -> None:
    """Fill logits (≤ 4, B) = constants + scaled (4, D) times the rows of x."""
    m0, m1, m2, m3 = scaled[0], scaled[1], scaled[2], scaled[3]
    for b in range(0, len(rows), 4):
        x0, x1, x2, x3 = x[rows[b]], x[rows[b + 1]], x[rows[b + 2]], x[rows[b + 3]]
        s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = ZERO
        for d in range(x.shape[1]):
            s00, s01, s02, s03 = s00 + m0[d] * x0[d], s01 + m0[d] * x1[d], s02 + m0[d] * x2[d], s03 + m0[d] * x3[d]
            s10, s11, s12, s13 = s10 + m1[d] * x0[d], s11 + m1[d] * x1[d], s12 + m1[d] * x2[d], s13 + m1[d] * x3[d]
            s20, s21, s22, s23 = s20 + m2[d] * x0[d], s21 + m2[d] * x1[d], s22 + m2[d] * x2[d], s23 + m2[d] * x3[d]
            s30, s31, s32, s33 = s30 + m3[d] * x0[d], s31 + m3[d] * x1[d], s32 + m3[d] * x2[d], s33 + m3[d] * x3[d]
        sums = ((s00, s01, s02, s03), (s10, s11, s12, s13), (s20, s21, s22, s23), (s30, s31, s32, s33))
        for i in range(len(logits)):
            for j in range(4):
                logits[i, b + j] = constants[i] + sums[i][j]


@njit(parallel=True, **OPTIONS)
def backward(
    values: Parameters,
    x: FloatArray,
    rows: IntArray,
    errors: FloatArray,
    norm_gradients: FloatArray,
    scratch: FloatArray,
    means: Parameters,
    squares: Parameters,
    sizes: FloatArray,
    epsilons: FloatArray,
) -> None:
    """One step of Adam for the heads of the first g groups.

    Parameters
    ----------
    values, x, rows, scratch
        As in `forward`.
    errors : (g, R, C, B) float32
        Gradient of the loss with respect to the logits.
    norm_gradients : (G, R, ⌈C / OUTPUT_BLOCK⌉, 2, D) float32
        Buffer for the gradients of γ and β, one per block of outputs.
    means, squares : Parameters
        Adam's first and second moments.
    sizes : (g, R) float32
        Learning rates with Adam's bias correction.
    epsilons : (g,) float32
        Adam's ε with its bias correction.
    """
    groups, rates, outputs, _ = errors.shape
    n_blocks = norm_gradients.shape[2]
    for task in prange(groups * rates * n_blocks):
        group, rate, block = task // (rates * n_blocks), task // n_blocks % rates, task % n_blocks
        part = slice(block * OUTPUT_BLOCK, min((block + 1) * OUTPUT_BLOCK, outputs))
        weight, block_errors = values.weight[group, rate, part], errors[group, rate, part]
        size, epsilon = sizes[group, rate], epsilons[group]
        gradient, totals = scratch[numba.get_thread_id()], np.empty(len(block_errors), np.float32)
        for first in range(0, len(block_errors), 4):
            weight_gradient(block_errors[first : first + 4], x, rows[group], gradient[first : first + 4])
        norm_gradients[group, rate, block] = 0
        d_scale, d_shift = norm_gradients[group, rate, block, 0], norm_gradients[group, rate, block, 1]
        for i in range(len(block_errors)):
            totals[i] = block_errors[i].sum()
            norm = values.scale[group, rate], values.shift[group, rate], d_scale, d_shift
            moments = means.weight[group, rate, part][i], squares.weight[group, rate, part][i]
            update_weights(gradient[i], totals[i], weight[i], *norm, *moments, size, epsilon)
        moments = means.bias[group, rate, part], squares.bias[group, rate, part]
        adam_steps(values.bias[group, rate, part], totals, *moments, size, epsilon)
    for task in prange(groups * rates):
        group, rate = task // rates, task % rates
        size, epsilon = sizes[group, rate], epsilons[group]
        for block in range(1, n_blocks):
            norm_gradients[group, rate, 0] += norm_gradients[group, rate, block]
        moments = means.scale[group, rate], squares.scale[group, rate]
        adam_steps(values.scale[group, rate], norm_gradients[group, rate, 0, 0], *moments, size, epsilon)
        moments = means.shift[group, rate], squares.shift[group, rate]
        adam_steps(values.shift[group, rate], norm_gradients[group, rate, 0, 1], *moments, size, epsilon)


@njit(**OPTIONS)
def weight_gradient(errors: FloatArray, x: FloatArray, rows: IntArray, gradient: FloatArray) -> None:
    """Fill gradient (4, D) = errors (≤ 4, B) times the rows of x; rows beyond len(errors) are not used."""
    last = len(errors) - 1
    e0, e1, e2, e3 = errors[0], errors[min(1, last)], errors[min(2, last)], errors[min(3, last)]
    g0, g1, g2, g3 = gradient[0], gradient[1], gradient[2], gradient[3]
    for b in range(0, len(rows), 4):
        x0, x1, x2, x3 = x[rows[b]], x[rows[b + 1]], x[rows[b + 2]], x[rows[b + 3]]
        e00, e01, e02, e03 = e0[b], e0[b + 1], e0[b + 2], e0[b + 3]
        e10, e11, e12, e13 = e1[b], e1[b + 1], e1[b + 2], e1[b + 3]
        e20, e21, e22, e23 = e2[b], e2[b + 1], e2[b + 2], e2[b + 3]
        e30, e31, e32, e33 = e3[b], e3[b + 1], e3[b + 2], e3[b + 3]
        if b == 0:
            for d in range(x.shape[1]):
                g0[d] = e00 * x0[d] + e01 * x1[d] + e02 * x2[d] + e03 * x3[d]
                g1[d] = e10 * x0[d] + e11 * x1[d] + e12 * x2[d] + e13 * x3[d]
                g2[d] = e20 * x0[d] + e21 * x1[d] + e22 * x2[d] + e23 * x3[d]
                g3[d] = e30 * x0[d] + e31 * x1[d] + e32 * x2[d] + e33 * x3[d]
        else:
            for d in range(x.shape[1]):
                v0, v1, v2, v3 = x0[d], x1[d], x2[d], x3[d]
                g0[d] += e00 * v0 + e01 * v1 + e02 * v2 + e03 * v3
                g1[d] += e10 * v0 + e11 * v1 + e12 * v2 + e13 * v3
                g2[d] += e20 * v0 + e21 * v1 + e22 * v2 + e23 * v3
                g3[d] += e30 * v0 + e31 * v1 + e32 * v2 + e33 * v3


@njit(**OPTIONS)
def update_weights(
    gradient: FloatArray,
    total: np.float32,
    weight: FloatArray,
    scale: FloatArray,
    shift: FloatArray,
    d_scale: FloatArray,
    d_shift: FloatArray,
    means: FloatArray,
    squares: FloatArray,
    size: np.float32,
    epsilon: np.float32,
) -> None:
    """For one output, add its part to dγ and dβ, and apply a step of Adam to its weights. gradient: its row of dM."""
    for d in range(len(weight)):
        d_scale[d] += gradient[d] * weight[d]
        d_shift[d] += total * weight[d]
        d_weight = gradient[d] * scale[d] + total * shift[d]
        weight[d], means[d], squares[d] = adam(weight[d], d_weight, means[d], squares[d], size, epsilon)


@njit(**OPTIONS)
def adam_steps(
    values: FloatArray,
    gradients: FloatArray,
    means: FloatArray,
    squares: FloatArray,
    size: np.float32,
    epsilon: np.float32,
) -> None:
    """Apply a step of Adam to each value."""
    for i in range(len(values)):
        values[i], means[i], squares[i] = adam(values[i], gradients[i], means[i], squares[i], size, epsilon)


@njit(**OPTIONS)
def adam(
    value: np.float32,
    gradient: np.float32,
    mean: np.float32,
    square: np.float32,
    size: np.float32,
    epsilon: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """Next value, first and second moment. The bias corrections are part of size and epsilon.

    References
    ----------
    Kingma and Ba (2015), Adam: a method for stochastic optimization, section 2.
    """
    mean += (ONE - BETA_1) * (gradient - mean)
    square += (ONE - BETA_2) * (gradient * gradient - square)
    return value - size * mean / (np.sqrt(square) + epsilon), mean, square

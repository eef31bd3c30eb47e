"""The linear heads of clip tasks on a CPU: `batched.BatchedHeads` as two compiled passes over the weights.

A clip task's batch is small, some 32 rows, so the products of a step cost less than the passes between them over
weights, gradients and Adam's moments. Here a head's weights are read twice: forwards, where they are scaled by γ and
multiplied with the batch; and backwards, where a few rows of their gradient at a time are made, added to those of γ
and β, and used up by Adam while they are in the cache. Products take 4 outputs and 4 rows at a time, so that sums stay
in registers; rows come in multiples of 4, as code for the odd ones makes the loops before it slower.

No sum crosses threads, so that their number changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from earmark.probing.heads.batched import (
    ROWS_TOGETHER,
    FloatArray,
    Inputs,
    IntArray,
    LogitGradient,
    Parameters,
    Tensor,
    torch_library,
)

OUTPUTS_AT_ONCE = 20  # of one head, a multiple of 4: few enough that their gradient stays in the cache of a core
ROWS_AT_ONCE = 128  # of a prediction; they should fit the cache of a core
ONE_THREAD = 1 << 15  # weights; with fewer, a step is over before another thread has begun
BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
ONE, ZERO = np.float32(1), np.float32(0)


def _can_be_kept() -> bool:
    """Whether compiled code has a folder: beside this file, or the user's own."""
    try:
        njit(cache=True)(_can_be_kept)
    except RuntimeError:
        return False
    return True


# Vectors need sums in another order; infinities and NaN keep their meaning. NumPy's error model lets a division be one.
OPTIONS: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy", "cache": _can_be_kept()}


class CompiledHeads:
    """G × R heads and their optimiser on the CPU, with the interface of BatchedHeads."""

    def __init__(self, starts: Sequence[Parameters], rates: Sequence[float]) -> None:
        """starts: a fresh head for each of the G groups, from which all R rates set out.

        Arrays are made by torch, which begins them where a cache line begins; NumPy does not, and vectors that cross
        lines cost more.
        """
        torch = torch_library()
        stacked = [torch.stack(value).unsqueeze(1) for value in zip(*starts, strict=True)]
        self.values = Parameters(*(torch.cat([value] * len(rates), dim=1).numpy() for value in stacked))
        self._means, self._squares = (
            Parameters(*(torch.zeros(value.shape).numpy() for value in self.values)) for _ in range(2)
        )
        groups, n_rates, outputs, inputs = self.values.weight.shape
        self._parts = torch.empty((groups, n_rates, -(-outputs // OUTPUTS_AT_ONCE), 2, inputs)).numpy()
        most: int = numba.config.NUMBA_NUM_THREADS
        self._scratch = torch.empty((most, OUTPUTS_AT_ONCE, inputs)).numpy()
        self._rates = np.asarray(rates)
        self._steps = np.zeros(groups)
        self.factor = 1.0
        numba.set_num_threads(1 if self.values.weight.size < ONE_THREAD else min(torch.get_num_threads(), most))

    def step(self, inputs: Inputs, rows: Tensor, y: Tensor, shares: Tensor, error: LogitGradient) -> None:
        """One step of Adam for the first len(rows) groups; arguments as in BatchedHeads, B a multiple of 4."""
        x, at = inputs.values.numpy(), rows.numpy()
        logits = np.empty((len(at), *self.values.bias.shape[1:], at.shape[1]), np.float32)
        forwards(self.values, x, at, logits, self._scratch)
        errors = error(torch_library().from_numpy(logits), y).mul_(shares).numpy()
        self._steps[: len(at)] += 1
        seen = self._steps[: len(at)]
        roots = np.sqrt(1 - float(BETA_2) ** seen)
        sizes = np.outer(roots / (1 - float(BETA_1) ** seen), self.factor * self._rates)
        adam = (self._means, self._squares, sizes.astype(np.float32), (EPSILON * roots).astype(np.float32))
        backwards(self.values, x, at, errors, self._parts, self._scratch, *adam)

    def outputs(self, group: int, inputs: Inputs, rows: IntArray) -> list[FloatArray]:
        """The logits (n, C) of each of a group's heads, one for each rate, for the rows (n,)."""
        own = Parameters(*(value[group : group + 1] for value in self.values))
        padded = np.pad(rows, (0, -len(rows) % ROWS_TOGETHER))
        found = np.empty((*self.values.bias.shape[1:], len(padded)), np.float32)
        for start in range(0, len(padded), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            logits = np.empty((1, *found[..., part].shape), np.float32)
            forwards(own, inputs.values.numpy(), padded[np.newaxis, part], logits, self._scratch)
            found[..., part] = logits[0]
        return [np.ascontiguousarray(each.T[: len(rows)]) for each in found]

    def head(self, group: int, rate: int) -> Parameters:
        """A copy of one head's parameters, as tensors."""
        return Parameters(*(torch_library().from_numpy(value[group, rate].copy()) for value in self.values))


@njit(parallel=True, **OPTIONS)
def forwards(values: Parameters, x: FloatArray, rows: IntArray, logits: FloatArray, scratch: FloatArray) -> None:
    """Fill the logits (g, R, C, B) of the first g groups' heads for rows (g, B) of x (N, D).

    B is a multiple of 4 in all of these. scratch: as below.
    """
    groups, rates, outputs, _ = logits.shape
    tiles = -(-outputs // 4)
    for place in prange(groups * rates * tiles):
        group, rate, first = place // (rates * tiles), place // tiles % rates, place % tiles * 4
        weight, bias = values.weight[group, rate], values.bias[group, rate]
        scaled, constants = scratch[numba.get_thread_id(), :4], np.empty(4, np.float32)
        for i in range(4):
            output = min(first + i, outputs - 1)  # what stands in for a missing one is computed and not used
            product = scale_row(weight[output], values.scale[group, rate], values.shift[group, rate], scaled[i])
            constants[i] = product + bias[output]
        multiply(scaled, constants, x, rows[group], logits[group, rate, first : first + 4])


@njit(**OPTIONS)
def scale_row(weight: FloatArray, scale: FloatArray, shift: FloatArray, scaled: FloatArray) -> np.float32:
    """Fill w∘γ; returns wᵀβ."""
    product = ZERO
    for d in range(len(weight)):
        scaled[d] = weight[d] * scale[d]
        product += weight[d] * shift[d]
    return product


@njit(**OPTIONS)
def multiply(scaled: FloatArray, constants: FloatArray, x: FloatArray, rows: IntArray, logits: FloatArray) -> None:
    """Fill the logits (up to 4, B): constants + scaled (4, D) times the rows of x."""
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
def backwards(
    values: Parameters,
    x: FloatArray,
    rows: IntArray,
    errors: FloatArray,
    parts: FloatArray,
    scratch: FloatArray,
    means: Parameters,
    squares: Parameters,
    sizes: FloatArray,
    epsilons: FloatArray,
) -> None:
    """Adam's step of the first g groups' heads by the errors (g, R, C, B) of their logits.

    parts: (G, R, ⌈C / OUTPUTS_AT_ONCE⌉, 2, D), where the gradients of γ and β are put together. scratch: (threads,
    OUTPUTS_AT_ONCE, D). means, squares: Adam's moments. sizes (g, R), epsilons (g,): its rate and ε, corrected for the
    steps so far.
    """
    groups, rates, outputs, _ = errors.shape
    shares = parts.shape[2]
    for place in prange(groups * rates * shares):
        group, rate, share = place // (rates * shares), place // shares % rates, place % shares
        part = slice(share * OUTPUTS_AT_ONCE, min((share + 1) * OUTPUTS_AT_ONCE, outputs))
        weight, own = values.weight[group, rate, part], errors[group, rate, part]
        size, epsilon = sizes[group, rate], epsilons[group]
        gradient, totals = scratch[numba.get_thread_id()], np.empty(len(own), np.float32)
        for first in range(0, len(own), 4):
            products(own[first : first + 4], x, rows[group], gradient[first : first + 4])
        parts[group, rate, share] = 0
        d_scale, d_shift = parts[group, rate, share, 0], parts[group, rate, share, 1]
        for i in range(len(own)):
            totals[i] = own[i].sum()
            norm = values.scale[group, rate], values.shift[group, rate], d_scale, d_shift
            moments = means.weight[group, rate, part][i], squares.weight[group, rate, part][i]
            through_norm(gradient[i], totals[i], weight[i], *norm, *moments, size, epsilon)
        moments = means.bias[group, rate, part], squares.bias[group, rate, part]
        step_of_each(values.bias[group, rate, part], totals, *moments, size, epsilon)
    for place in prange(groups * rates):
        group, rate = place // rates, place % rates
        size, epsilon = sizes[group, rate], epsilons[group]
        for share in range(1, shares):
            parts[group, rate, 0] += parts[group, rate, share]
        moments = means.scale[group, rate], squares.scale[group, rate]
        step_of_each(values.scale[group, rate], parts[group, rate, 0, 0], *moments, size, epsilon)
        moments = means.shift[group, rate], squares.shift[group, rate]
        step_of_each(values.shift[group, rate], parts[group, rate, 0, 1], *moments, size, epsilon)


@njit(**OPTIONS)
def products(errors: FloatArray, x: FloatArray, rows: IntArray, gradient: FloatArray) -> None:
    """Fill the gradient (4, D): the errors (up to 4, B) times the rows of x."""
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
def through_norm(
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
    """One output's part of dγ and dβ from its dM, and Adam's step of its weights by dW."""
    for d in range(len(weight)):
        d_scale[d] += gradient[d] * weight[d]
        d_shift[d] += total * weight[d]
        of_weight = gradient[d] * scale[d] + total * shift[d]
        weight[d], means[d], squares[d] = adam(weight[d], of_weight, means[d], squares[d], size, epsilon)


@njit(**OPTIONS)
def step_of_each(
    values: FloatArray,
    gradients: FloatArray,
    means: FloatArray,
    squares: FloatArray,
    size: np.float32,
    epsilon: np.float32,
) -> None:
    """A step of Adam of every value."""
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
    """The next value, mean and square. Source: Kingma and Ba (2015), section 2, its corrections in size and epsilon."""
    mean += (ONE - BETA_1) * (gradient - mean)
    square += (ONE - BETA_2) * (gradient * gradient - square)
    return value - size * mean / (np.sqrt(square) + epsilon), mean, square

"""The engine of the linear heads: many heads side by side in one buffer, stepped together.

A head is LayerNorm → Linear. What LayerNorm takes from its input has no parameters, so inputs come here normalised,
x̂, and a head is logits = W (x̂∘γ + β) + c. The gradient of that is short enough to write down; no graph is kept.
With M = W∘γ, the error e of the logits (C, B) and the batch X̂ (B, D):

  dM = e X̂,  s = Σ_b e,  dγ = Σ_c dM∘W,  dβ = Wᵀ s,  dc = s,  dW = dM∘γ + s βᵀ

Heads lie on two axes: G groups, of one fold and seed each, which draw their own batches, and R learning rates, which
share their group's batches. Adam's step is proportional to its learning rate, so a head with rate r is stored as its
parameters divided by r: then one optimiser with one rate, the schedule's factor, moves them all.

Small batches on a CPU take `batched_numba.CompiledHeads` in place of BatchedHeads.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earmark.optional import require_library

Tensor: TypeAlias = Any  # torch.Tensor; torch is an extra
LogitGradient: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (logits (g, R, C, B), labels) → derivative, same shape
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Loss = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]

EXTRA, NEEDED_BY = "--extra torch", "A linear probe"  # what supplies torch and numba, as messages have it
ROWS_AT_ONCE = 8192  # of a prediction
ROWS_TOGETHER = 4  # batches are padded to a multiple of these; compiled products take as many at a time


class Parameters(NamedTuple):
    """One head, or many where there are axes in front: scale (…, D), shift (…, D), weight (…, C, D), bias (…, C)."""

    scale: Any
    shift: Any
    weight: Any
    bias: Any


class Batches(NamedTuple):
    """An epoch of all groups: rows (steps, G, width) into the inputs, shares (steps, G, width) of each row in its loss.

    A group's batch has shares that sum to 1; what pads it to the width, a multiple of ROWS_TOGETHER, has share 0.
    active: (steps,) how many groups still step.
    """

    rows: IntArray
    shares: FloatArray
    active: list[int]


@cache
def torch_library() -> Any:
    """torch; MissingError with the command that brings it."""
    return require_library("torch", EXTRA, NEEDED_BY)


def schedule(epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 0: half a cosine from 1 towards 0.1.

    >>> [round(schedule(epoch, 2), 3) for epoch in range(2)]
    [1.0, 0.55]
    """
    return float(1 - 0.45 * (1 - np.cos(np.pi * epoch / epochs)))


def seeded_generator(seed: int, fold: int) -> Any:
    """A torch generator on the CPU that depends on the seed and the fold's number and on nothing else."""
    state = np.random.SeedSequence([seed, fold]).generate_state(1)[0]
    return torch_library().Generator().manual_seed(int(state))


def initial_parameters(n_inputs: int, n_outputs: int, generator: Any) -> Parameters:
    """A fresh head as torch.nn makes it: scale 1, shift 0, weight and bias uniform in ±1/√n_inputs."""
    torch = torch_library()
    bound = 1 / np.sqrt(n_inputs)
    weight = torch.empty(n_outputs, n_inputs).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(n_outputs).uniform_(-bound, bound, generator=generator)
    return Parameters(torch.ones(n_inputs), torch.zeros(n_inputs), weight, bias)


class Inputs:
    """Embeddings on a device, normalised row by row as LayerNorm does (ε = 1e-5), without its parameters.

    float32 is normalised once. float16, which stands for frames too many to hold twice, is normalised as it is read.
    """

    def __init__(self, x: NDArray[Any], device: str) -> None:
        torch = torch_library()
        self.width = x.shape[1]
        given = torch.as_tensor(np.ascontiguousarray(x)).to(device)
        self.raw = given.dtype == torch.float16
        self.values = given if self.raw else self._normalised(given)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The rows (n,), normalised: (n, D) float32."""
        taken = self.values.index_select(0, rows)
        return self._normalised(taken) if self.raw else taken

    def _normalised(self, values: Tensor) -> Tensor:
        return torch_library().nn.functional.layer_norm(values.float(), (self.width,))


class BatchedHeads:
    """G × R heads, their gradients and their optimiser."""

    def __init__(self, starts: Sequence[Parameters], rates: Sequence[float], device: str) -> None:
        """starts: a fresh head for each of the G groups, from which all R rates set out."""
        torch = torch_library()
        self.n_outputs, self.n_inputs = starts[0].weight.shape
        self.rate = torch.tensor(rates, dtype=torch.float32, device=device).unsqueeze(1)  # (R, 1)
        groups, n = len(starts), len(rates)
        # Weights lie apart from the rest so that all groups' are one block of memory, which batched products want.
        shapes = [(groups, n * self.n_outputs * self.n_inputs), (groups, n * (2 * self.n_inputs + self.n_outputs))]
        self._values, self._gradients, self._means, self._squares = (
            [torch.zeros(shape, device=device) for shape in shapes] for _ in range(4)
        )
        self._steps = torch.zeros(groups, device=device)
        self.factor = 1.0
        self.values, self.gradients = self._views(self._values), self._views(self._gradients)
        for group, start in enumerate(starts):
            for value, fresh in zip(self.values, start, strict=True):
                value[group] = fresh.to(device) / self.rate.view(-1, *[1] * fresh.ndim)
        self.effective = torch.empty_like(self.values.weight)

    def _views(self, blocks: Sequence[Tensor]) -> Parameters:
        """The parameters as they lie in the two blocks."""
        weight, rest = blocks
        shape = (len(weight), len(self.rate))
        parts = rest.view(*shape, -1).split([self.n_inputs, self.n_inputs, self.n_outputs], dim=2)
        return Parameters(parts[0], parts[1], weight.view(*shape, self.n_outputs, self.n_inputs), parts[2])

    def step(self, inputs: Inputs, rows: Tensor, y: Tensor, shares: Tensor, error: LogitGradient) -> None:
        """One step of Adam for the first len(x) groups.

        rows: (g, B) of the inputs. y: as `error` wants it. shares: (g, 1, 1, B), as in Batches. error: the derivative
        of a single row's loss.
        """
        torch = torch_library()
        x = inputs[rows.reshape(-1)].view(*rows.shape, inputs.width)
        groups, rates, rate, outputs, inputs = len(x), len(self.rate), self.rate, self.n_outputs, self.n_inputs
        scale, shift, weight, bias = (value[:groups] for value in self.values)
        d_scale, d_shift, d_weight, d_bias = (gradient[:groups] for gradient in self.gradients)
        scale, shift = scale * rate, shift * rate
        # Seen by group, all rates' outputs are rows of one matrix; seen by head, each has its own.
        by_group, by_head = (groups, rates * outputs), (groups * rates, outputs, inputs)
        effective = torch.mul(weight, (scale * rate).unsqueeze(2), out=self.effective[:groups])
        shifted = torch.bmm(shift.view(-1, 1, inputs), weight.view(by_head).transpose(1, 2))
        constant = (shifted.view_as(bias) + bias).mul_(rate)
        logits = torch.baddbmm(constant.view(*by_group, 1), effective.view(*by_group, inputs), x.transpose(1, 2))
        errors = error(logits.view(groups, rates, outputs, -1), y).mul_(shares)
        torch.bmm(errors.view(*by_group, -1), x, out=d_weight.view(*by_group, inputs))  # dM, for the time being
        total = errors.sum(dim=3)
        torch.mul(torch.linalg.vecdot(d_weight, weight, dim=2), rate, out=d_scale)
        torch.mul(torch.bmm(total.view(-1, 1, outputs), weight.view(by_head)).view_as(shift), rate, out=d_shift)
        d_bias.copy_(total)
        d_weight.mul_(scale.unsqueeze(2)).addcmul_(total.unsqueeze(3), shift.unsqueeze(2))
        self._adam(groups)

    def _adam(self, groups: int) -> None:
        """Adam's step by the gradients. The optimiser class does the same, at three times the cost for small heads."""
        values, gradients, means, squares = (
            [row for block in blocks for row in block[:groups]]
            for blocks in (self._values, self._gradients, self._means, self._squares)
        )
        steps = list(self._steps[:groups])
        torch_library()._foreach_add_(steps, 1)
        torch_library()._fused_adam_(
            values, gradients, means, squares, [], [*steps, *steps],
            lr=self.factor, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip

    def outputs(self, group: int, inputs: Inputs, rows: IntArray) -> list[FloatArray]:
        """The logits (n, C) of each of a group's heads, one for each rate, for the rows (n,)."""
        return head_outputs([self.head(group, rate) for rate in range(len(self.rate))], inputs, rows)

    def head(self, group: int, rate: int) -> Parameters:
        """A copy of one head's parameters, on the device."""
        return Parameters(*(value[group, rate] * self.rate[rate] for value in self.values))


def logit_gradient(loss: Loss, pos_weight: float = 1.0) -> LogitGradient:
    """The derivative of one row's loss by its logits (g, R, C, B).

    Labels are (g, B) classes for cross-entropy; else (g, 1, C, B), and the loss is the mean over the C outputs.
    pos_weight: what the positive term of the binary cross-entropy is multiplied by.
    """
    torch = torch_library()

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        errors = torch.softmax(logits, dim=2)
        at = y[:, None, None, :].expand(-1, errors.shape[1], -1, -1)
        return errors.scatter_add_(2, at, errors.new_full((1, 1, 1, 1), -1.0).expand(at.shape))

    def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        errors = torch.sigmoid(logits)
        if pos_weight != 1:
            errors = errors * (1 + (pos_weight - 1) * y)
        return errors.sub_(pos_weight * y).div_(logits.shape[2])

    def squared_error(logits: Tensor, y: Tensor) -> Tensor:
        return (logits - y).mul_(2 / logits.shape[2])

    return {
        "cross_entropy": cross_entropy,
        "binary_cross_entropy": binary_cross_entropy,
        "squared_error": squared_error,
    }[loss]


def epoch_batches(items: Sequence[IntArray], generators: Sequence[Any], offsets: IntArray, size: int) -> Batches:
    """A fresh order of every group's items, cut into batches of `size` items.

    items: for each group its items, longest list first. offsets: item i has rows offsets[i] … offsets[i + 1] − 1.
    The last batch of a group may be smaller; it counts as a step like any other.
    """
    torch = torch_library()
    orders = [own[torch.randperm(len(own), generator=g).numpy()] for own, g in zip(items, generators, strict=True)]
    batches = [_one_group(order, offsets, size) for order in orders]
    steps = [len(shares) for _, shares in batches]
    widest = max(shares.shape[1] for _, shares in batches)
    shape = (max(steps), len(items), widest + -widest % ROWS_TOGETHER)
    rows, shares = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    for group, (own_rows, own_shares) in enumerate(batches):
        steps_of_group, width = own_shares.shape
        rows[:steps_of_group, group, :width] = own_rows
        shares[:steps_of_group, group, :width] = own_shares
    return Batches(rows, shares, [sum(own > step for own in steps) for step in range(shape[0])])


def item_rows(items: IntArray, offsets: IntArray) -> IntArray:
    """All rows of the items, in their order; item i has the rows offsets[i] … offsets[i + 1] − 1.

    >>> item_rows(np.array([2, 0]), np.array([0, 2, 3, 5])).tolist()
    [3, 4, 0, 1]
    """
    counts = offsets[items + 1] - offsets[items]
    return np.repeat(offsets[items] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _one_group(order: IntArray, offsets: IntArray, size: int) -> tuple[IntArray, FloatArray]:
    """Rows and shares of one group's batches, (steps, width)."""
    counts = offsets[order + 1] - offsets[order]
    batch = np.repeat(np.arange(len(order)) // size, counts)
    filled = np.bincount(batch)
    place = np.arange(len(batch)) - np.repeat(np.cumsum(filled) - filled, filled)
    rows = np.zeros((len(filled), filled.max()), dtype=np.int64)
    shares = np.zeros(rows.shape, dtype=np.float32)
    rows[batch, place] = item_rows(order, offsets)
    shares[batch, place] = np.repeat(1 / filled, filled)
    return rows, shares


def head_outputs(heads: Sequence[Parameters], inputs: Inputs, rows: IntArray) -> list[FloatArray]:
    """Every head's logits for the rows (n,), (n, C) each; inputs are read once, a bounded number at a time."""
    torch = torch_library()
    folded = [(head.weight @ head.shift + head.bias, (head.weight * head.scale).T) for head in heads]
    at = torch.as_tensor(rows).to(heads[0].weight.device)
    outputs = torch.empty(len(heads), len(rows), len(heads[0].bias))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        read = inputs[at[part]]
        for own, (constant, weight) in zip(outputs, folded, strict=True):
            own[part] = torch.addmm(constant, read, weight)
    return list(outputs.numpy())

"""Many linear heads trained together: parameters in one buffer, gradients and optimiser steps for all at once.

A head is LayerNorm → Linear. The parameter-free part of LayerNorm is applied beforehand, so a head gets normalised
inputs x̂ and computes logits = W (x̂∘γ + β) + c. The gradient has a closed form, so no autograd graph is stored. With
M = W∘γ, the gradient E of the loss with respect to the logits (C, B), and the batch X̂ (B, D):

  dM = E X̂,  s = Σ_b E,  dγ = Σ_c dM∘W,  dβ = Wᵀ s,  dc = s,  dW = dM∘γ + s βᵀ

Heads have two axes: G groups, one for each fold and seed, with batches of their own; and R learning rates, which share
the batches of their group. A step of Adam is proportional to the learning rate, so the parameters of a head are stored
divided by its rate. One optimiser, whose rate is the factor of the schedule, then updates all heads.

`batched_numba.CompiledHeads` replaces BatchedHeads for small batches on a CPU.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earmark.optional import require_library

Tensor: TypeAlias = Any  # torch.Tensor; torch is an extra
LogitGradient: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (logits (g, R, C, B), labels) → gradient, same shape
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Loss = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]

EXTRA, NEEDED_BY = "--extra torch", "A linear probe"  # for the message if torch or numba is missing
PREDICTION_ROWS = 8192  # rows per step of a prediction
MAX_NORMALISED = 1 << 28  # numbers whose normalised copy is kept on a CPU; 1 GB of float32
ROW_MULTIPLE = 4  # batches are padded to a multiple of this; compiled products process 4 rows at a time


class Parameters(NamedTuple):
    """Parameters of one head, or of several with leading axes.

    Attributes
    ----------
    scale, shift : (…, D)
        γ and β of LayerNorm.
    weight : (…, C, D)
    bias : (…, C)
    """

    scale: Any
    shift: Any
    weight: Any
    bias: Any


class Batches(NamedTuple):
    """Batches of one epoch for all groups.

    Attributes
    ----------
    rows : (steps, G, width) int
        Row indices into the inputs. `width` is a multiple of ROW_MULTIPLE.
    row_weights : (steps, G, width) float
        Weight of each row in the loss; they sum to 1 in each batch, and are 0 for padding.
    active : (steps,) list of int
        Number of groups that still have a batch at this step.
    """

    rows: IntArray
    row_weights: FloatArray
    active: list[int]


@cache
def torch_library() -> Any:
    """Import torch; MissingError with the install command if it is missing."""
    return require_library("torch", EXTRA, NEEDED_BY)


def schedule(epoch: int, epochs: int) -> float:
    """Learning-rate factor of an epoch, counted from 0: half a cosine from 1 towards 0.1.

    >>> [round(schedule(epoch, 2), 3) for epoch in range(2)]
    [1.0, 0.55]
    """
    return float(1 - 0.45 * (1 - np.cos(np.pi * epoch / epochs)))


def seeded_generator(seed: int, fold: int) -> Any:
    """Torch generator on the CPU, seeded by the seed and the number of the fold."""
    state = np.random.SeedSequence([seed, fold]).generate_state(1)[0]
    return torch_library().Generator().manual_seed(int(state))


def initial_parameters(n_inputs: int, n_outputs: int, generator: Any) -> Parameters:
    """Initialise a head as torch.nn does: scale 1, shift 0, weight and bias uniform in ±1/√n_inputs.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Dimensions D and C.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Parameters
        Tensors on the CPU.
    """
    torch = torch_library()
    bound = 1 / np.sqrt(n_inputs)
    weight = torch.empty(n_outputs, n_inputs).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(n_outputs).uniform_(-bound, bound, generator=generator)
    return Parameters(torch.ones(n_inputs), torch.zeros(n_inputs), weight, bias)


class Inputs:
    """Embeddings on a device, with the parameter-free part of LayerNorm (ε = 1e-5) applied to each row.

    float32 inputs are normalised once. float16 inputs, used for large sets of frames, and more than MAX_NORMALISED
    numbers on a CPU are normalised when rows are read, to avoid a copy of all of them. The results are the same.

    Parameters
    ----------
    x : (N, D) float32 or float16
    device : str
        Name of a torch device.
    """

    def __init__(self, x: NDArray[Any], device: str) -> None:
        torch = torch_library()
        self.width = x.shape[1]
        values = torch.as_tensor(np.ascontiguousarray(x)).to(device)
        large = values.device.type == "cpu" and values.numel() > MAX_NORMALISED
        self.normalise_on_read = large or values.dtype == torch.float16
        self.values = values if self.normalise_on_read else self._normalised(values)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Normalised rows (n, D) float32 for row indices (n,)."""
        selected = self.values.index_select(0, rows)
        return self._normalised(selected) if self.normalise_on_read else selected

    def table(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised inputs and the places of these rows (…) in them: of all inputs, or a table of these rows alone."""
        if not self.normalise_on_read:
            return self.values, rows
        return self[rows.reshape(-1)], torch_library().arange(rows.numel()).view(rows.shape)

    def _normalised(self, values: Tensor) -> Tensor:
        return torch_library().nn.functional.layer_norm(values.float(), (self.width,))


class BatchedHeads:
    """G × R heads, their gradients and their optimiser.

    Parameters
    ----------
    initial : sequence of Parameters
        Initial head of each of the G groups, used for all its R learning rates.
    rates : sequence of float
        The R learning rates.
    device : str
        Name of a torch device.
    """

    def __init__(self, initial: Sequence[Parameters], rates: Sequence[float], device: str) -> None:
        torch = torch_library()
        self.n_outputs, self.n_inputs = initial[0].weight.shape
        self.rate = torch.tensor(rates, dtype=torch.float32, device=device).unsqueeze(1)  # (R, 1)
        groups, n = len(initial), len(rates)
        # Weights have a buffer of their own, so that they are contiguous across groups for batched products.
        shapes = [(groups, n * self.n_outputs * self.n_inputs), (groups, n * (2 * self.n_inputs + self.n_outputs))]
        self._values, self._gradients, self._means, self._squares = (
            [torch.zeros(shape, device=device) for shape in shapes] for _ in range(4)
        )
        self._steps = torch.zeros(groups, device=device)
        self.factor = 1.0
        self.values, self.gradients = self._views(self._values), self._views(self._gradients)
        for group, head in enumerate(initial):
            for value, parameter in zip(self.values, head, strict=True):
                value[group] = parameter.to(device) / self.rate.view(-1, *[1] * parameter.ndim)
        self.effective = torch.empty_like(self.values.weight)

    def _views(self, blocks: Sequence[Tensor]) -> Parameters:
        """Views of the parameters in the two buffers."""
        weight, rest = blocks
        shape = (len(weight), len(self.rate))
        parts = rest.view(*shape, -1).split([self.n_inputs, self.n_inputs, self.n_outputs], dim=2)
        return Parameters(parts[0], parts[1], weight.view(*shape, self.n_outputs, self.n_inputs), parts[2])

    def step(self, inputs: Inputs, rows: Tensor, y: Tensor, row_weights: Tensor, gradient: LogitGradient) -> None:
        """One step of Adam for the first g groups.

        Parameters
        ----------
        inputs : Inputs
        rows : (g, B) int
            Row indices into the inputs.
        y : (g, B) or (g, 1, C, B)
            Labels, as `gradient` expects them.
        row_weights : (g, 1, 1, B)
            Weights of the rows in the loss, as in `Batches`.
        gradient : callable
            Gradient of the loss of a single row with respect to its logits (`logit_gradient`).
        """
        torch = torch_library()
        x = inputs[rows.reshape(-1)].view(*rows.shape, inputs.width)
        groups, rates, rate, outputs, inputs = len(x), len(self.rate), self.rate, self.n_outputs, self.n_inputs
        scale, shift, weight, bias = (each[:groups] for each in self.values)
        d_scale, d_shift, d_weight, d_bias = (each[:groups] for each in self.gradients)
        scale, shift = scale * rate, shift * rate
        # by_group: one matrix with the outputs of all rates; by_head: one matrix per head.
        by_group, by_head = (groups, rates * outputs), (groups * rates, outputs, inputs)
        effective = torch.mul(weight, (scale * rate).unsqueeze(2), out=self.effective[:groups])
        shifted = torch.bmm(shift.view(-1, 1, inputs), weight.view(by_head).transpose(1, 2))
        constant = (shifted.view_as(bias) + bias).mul_(rate)
        logits = torch.baddbmm(constant.view(*by_group, 1), effective.view(*by_group, inputs), x.transpose(1, 2))
        errors = gradient(logits.view(groups, rates, outputs, -1), y).mul_(row_weights)
        torch.bmm(errors.view(*by_group, -1), x, out=d_weight.view(*by_group, inputs))  # dM; becomes dW below
        total = errors.sum(dim=3)
        torch.mul(torch.linalg.vecdot(d_weight, weight, dim=2), rate, out=d_scale)
        torch.mul(torch.bmm(total.view(-1, 1, outputs), weight.view(by_head)).view_as(shift), rate, out=d_shift)
        d_bias.copy_(total)
        d_weight.mul_(scale.unsqueeze(2)).addcmul_(total.unsqueeze(3), shift.unsqueeze(2))
        self._adam(groups)

    def _adam(self, groups: int) -> None:
        """Apply the gradients with torch's fused Adam, three times as fast as torch.optim.Adam for small heads."""
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
        """Logits (n, C) of each head of a group, one per learning rate, for row indices (n,)."""
        return head_outputs([self.head(group, rate) for rate in range(len(self.rate))], inputs, rows)

    def head(self, group: int, rate: int) -> Parameters:
        """Copy of the parameters of one head, on the device."""
        return Parameters(*(value[group, rate] * self.rate[rate] for value in self.values))


def logit_gradient(loss: Loss, pos_weight: float = 1.0) -> LogitGradient:
    """Gradient of the loss of one row with respect to its logits.

    Parameters
    ----------
    loss : {"cross_entropy", "binary_cross_entropy", "squared_error"}
        The last two are means over the C outputs.
    pos_weight : float
        Factor of the positive term of the binary cross-entropy.

    Returns
    -------
    callable
        (logits (g, R, C, B), labels) → gradient (g, R, C, B). Labels are classes (g, B) for the cross-entropy, and
        (g, 1, C, B) otherwise.
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


def epoch_batches(items: Sequence[IntArray], generators: Sequence[Any], offsets: IntArray, batch_size: int) -> Batches:
    """Shuffle the items of every group and cut them into batches.

    Parameters
    ----------
    items : sequence of (n,) int
        Items of each group, the longest first.
    generators : sequence of torch.Generator
        One per group.
    offsets : (n_items + 1,) int
        Item i has the rows offsets[i] … offsets[i + 1] − 1.
    batch_size : int
        Items per batch. The last batch of a group may be smaller.

    Returns
    -------
    Batches
    """
    torch = torch_library()
    pairs = zip(items, generators, strict=True)
    orders = [group[torch.randperm(len(group), generator=generator).numpy()] for group, generator in pairs]
    batches = [_group_batches(order, offsets, batch_size) for order in orders]
    steps = [len(weights) for _, weights in batches]
    widest = max(weights.shape[1] for _, weights in batches)
    shape = (max(steps), len(items), widest + -widest % ROW_MULTIPLE)
    rows, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    for group, (group_rows, group_weights) in enumerate(batches):
        group_steps, width = group_weights.shape
        rows[:group_steps, group, :width] = group_rows
        weights[:group_steps, group, :width] = group_weights
    return Batches(rows, weights, [sum(n > step for n in steps) for step in range(shape[0])])


def item_rows(items: IntArray, offsets: IntArray) -> IntArray:
    """Row indices of items, in the order of the items; item i has the rows offsets[i] … offsets[i + 1] − 1.

    >>> item_rows(np.array([2, 0]), np.array([0, 2, 3, 5])).tolist()
    [3, 4, 0, 1]
    """
    counts = offsets[items + 1] - offsets[items]
    return np.repeat(offsets[items] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _group_batches(order: IntArray, offsets: IntArray, batch_size: int) -> tuple[IntArray, FloatArray]:
    """Row indices and weights (steps, width) of the batches of one group."""
    counts = offsets[order + 1] - offsets[order]
    batch = np.repeat(np.arange(len(order)) // batch_size, counts)
    lengths = np.bincount(batch)
    column = np.arange(len(batch)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.zeros((len(lengths), lengths.max()), dtype=np.int64)
    weights = np.zeros(rows.shape, dtype=np.float32)
    rows[batch, column] = item_rows(order, offsets)
    weights[batch, column] = np.repeat(1 / lengths, lengths)
    return rows, weights


def head_outputs(heads: Sequence[Parameters], inputs: Inputs, rows: IntArray) -> list[FloatArray]:
    """Compute the logits of several heads.

    Parameters
    ----------
    heads : sequence of Parameters
        Tensors on the device of the inputs.
    inputs : Inputs
        Read once for all heads, PREDICTION_ROWS rows at a time.
    rows : (n,) int
        Row indices into the inputs.

    Returns
    -------
    list of (n, C) float32
        One per head.
    """
    torch = torch_library()
    folded = [(head.weight @ head.shift + head.bias, (head.weight * head.scale).T) for head in heads]
    indices = torch.as_tensor(rows).to(heads[0].weight.device)
    outputs = torch.empty(len(heads), len(rows), len(heads[0].bias))
    for start in range(0, len(rows), PREDICTION_ROWS):
        part = slice(start, start + PREDICTION_ROWS)
        x = inputs[indices[part]]
        for output, (constant, weight) in zip(outputs, folded, strict=True):
            output[part] = torch.addmm(constant, x, weight)
    return list(outputs.numpy())

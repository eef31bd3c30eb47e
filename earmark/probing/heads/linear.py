"""Linear heads on frozen embeddings: every fold, seed and learning rate of a task, trained together.

The recipe is that of X-ARES (ICME 2025 Audio Encoder Capability Challenge): LayerNorm → Linear, Adam without weight
decay, the learning rate lowered from epoch to epoch, the epoch chosen on validation.

An *item* is what batches are made of: a row of the embeddings (a clip, a crop), or a clip with all its frames. A
head's result depends on its fold, seed, learning rate and data, not on which heads train beside it, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.optional import require_library
from earmark.probing.heads.batched import (
    EXTRA,
    NEEDED_BY,
    BatchedHeads,
    Batches,
    FloatArray,
    Inputs,
    IntArray,
    LogitGradient,
    Loss,
    Parameters,
    Tensor,
    epoch_batches,
    head_outputs,
    initial_parameters,
    item_rows,
    logit_gradient,
    schedule,
    seeded_generator,
    torch_library,
)
from earmark.probing.heads.selection import SelectionMetric, known_rows

if TYPE_CHECKING:
    from earmark.probing.heads.batched_numba import CompiledHeads

ROWS_CHECKED_AT_ONCE = 65_536


@dataclass(frozen=True)
class HeadConfig:
    """How a task's heads are trained.

    loss: cross_entropy (integer labels), binary_cross_entropy (0/1 for each output; its positive term times
    pos_weight), squared_error (numbers). n_outputs: classes, labels or numbers. batch_size: items.
    """

    loss: Loss
    n_outputs: int
    epochs: int = 10
    batch_size: int = 32
    pos_weight: float = 1.0


@dataclass(frozen=True)
class Fold:
    """Which items train, choose the epoch, and are predicted.

    number: the fold's name, which with the seed decides its randomness. Training items are in neither of the others;
    these two may be the same, as where X-ARES selects on the test split.
    """

    number: int
    train: IntArray
    valid: IntArray
    test: IntArray


@dataclass(frozen=True)
class Head:
    """A trained head as it was after its best epoch.

    best_epoch: counted from 0, the earliest of the best. valid_scores: one per epoch. valid, test: (n, C) outputs
    before any softmax or sigmoid, for the rows of the fold's items in their order. parameters: NumPy arrays.
    """

    fold: int
    seed: int
    learning_rate: float
    best_epoch: int
    valid_scores: tuple[float, ...]
    parameters: Parameters
    valid: FloatArray
    test: FloatArray

    @property
    def best_score(self) -> float:
        """The validation score that chose the epoch."""
        return self.valid_scores[self.best_epoch]


def train_heads(
    x: NDArray[np.floating],
    y: ArrayLike,
    folds: Sequence[Fold],
    recipe: HeadConfig,
    score: SelectionMetric,
    *,
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] = (1e-3,),
    offsets: ArrayLike | None = None,
    best_rate_only: bool = False,
    device: str = "cpu",
) -> list[Head]:
    """Train a head for every fold, seed and learning rate, in this order.

    x: (N, D) float32, or float16 where twice the memory would be too much. y: (N,) classes from 0, (N, C) 0/1, or
    (N, C) numbers, as the loss wants it; −1 marks a row of unknown label, which is predicted but never trained on.
    offsets: (items + 1,) where item i has the rows offsets[i] … offsets[i + 1] − 1 (frames); None: a row is an item.
    score: outputs and rows of the validation items → what chooses the epoch; NaN never wins.
    best_rate_only: of the rates of a fold and seed keep the best on validation, the earlier in the list on ties.
    device: torch's name. The same seed gives the same result on the same device, and to 1e-3 on another.

    A class without a training item is an output like any other, which learns to stay low. An empty test split gives
    empty predictions. ValueError: no training or validation rows, a training split of one class only, items both in
    training and held out, labels out of range, numbers that are not finite, a score that is NaN in every epoch.
    Source: X-ARES, Zhang et al. (2025).
    """
    x, labels, starts = _checked(x, np.asarray(y), folds, recipe, offsets, seeds, learning_rates)
    torch = torch_library()
    known = np.flatnonzero(known_rows(labels))
    known_offsets = np.searchsorted(known, starts)  # an item's known rows, as places in `known`
    groups = [(fold, seed) for fold in folds for seed in seeds]
    trained = [fold.train[np.diff(known_offsets)[fold.train] > 0] for fold, _ in groups]
    order = np.argsort([-len(own) for own in trained], kind="stable")  # those with the most steps come first
    generators = [seeded_generator(groups[g][1], groups[g][0].number) for g in order]
    fresh = [initial_parameters(x.shape[1], recipe.n_outputs, generator) for generator in generators]
    heads = _engine(fresh, learning_rates, device, by_row=offsets is None and x.dtype == np.float32)
    records = [[_Record(groups[g], rate) for rate in learning_rates] for g in order]
    error = logit_gradient(recipe.loss, recipe.pos_weight)
    inputs = Inputs(x, device)
    targets = torch.as_tensor(labels if recipe.loss == "cross_entropy" else labels.astype(np.float32)).to(device)
    for epoch in range(recipe.epochs):
        heads.factor = schedule(epoch, recipe.epochs)
        batches = epoch_batches([trained[g] for g in order], generators, known_offsets, recipe.batch_size)
        _train_epoch(heads, inputs, targets, batches._replace(rows=known[batches.rows]), error)
        for group, own in enumerate(records):
            valid = item_rows(own[0].fold.valid, starts)
            for rate, (record, outputs) in enumerate(zip(own, heads.outputs(group, inputs, valid), strict=True)):
                if record.improves(float(score(outputs, valid))):
                    record.parameters = heads.head(group, rate)
    in_order = [records[place] for place in np.argsort(order)]  # of folds and seeds
    kept = [[max(own, key=lambda record: record.best)] if best_rate_only else own for own in in_order]
    return [head for own in kept for head in _with_predictions(own, inputs, starts)]


def _engine(
    fresh: Sequence[Parameters], rates: Sequence[float], device: str, by_row: bool
) -> "BatchedHeads | CompiledHeads":
    """What trains the heads: on a CPU, small batches of rows are worth compiled code; big ones are a product's work."""
    if device != "cpu" or not by_row:
        return BatchedHeads(fresh, rates, device)
    require_library("numba", EXTRA, NEEDED_BY)
    from earmark.probing.heads.batched_numba import CompiledHeads

    return CompiledHeads(fresh, rates)


def _train_epoch(
    heads: "BatchedHeads | CompiledHeads", inputs: Inputs, targets: Tensor, batches: Batches, error: LogitGradient
) -> None:
    """Every step of an epoch; a group that has run out of batches waits for the others."""
    torch = torch_library()
    rows = torch.as_tensor(batches.rows).to(targets.device)
    shares = torch.as_tensor(batches.shares)[:, :, None, None, :].to(targets.device)
    for step, active in enumerate(batches.active):
        at = rows[step, :active]
        y = targets.index_select(0, at.reshape(-1)).view(active, -1, *targets.shape[1:])
        heads.step(inputs, at, y.transpose(1, 2).unsqueeze(1) if y.ndim == 3 else y, shares[step, :active], error)


class _Record:
    """What validation has seen of one head so far."""

    def __init__(self, group: tuple[Fold, int], learning_rate: float) -> None:
        self.fold, self.seed = group
        self.learning_rate = learning_rate
        self.scores: list[float] = []
        self.best, self.best_epoch = -np.inf, -1
        self.parameters: Parameters | None = None

    def improves(self, score: float) -> bool:
        """Note the score of an epoch; whether no earlier one was as good."""
        self.scores.append(score)
        if not score > self.best:
            return False
        self.best, self.best_epoch = score, len(self.scores) - 1
        return True


def _with_predictions(records: Sequence[_Record], inputs: Inputs, offsets: IntArray) -> list[Head]:
    """The best heads of a fold and seed; the items to predict are read once for all of them."""
    fold = records[0].fold
    heads = [record.parameters for record in records if record.parameters is not None]
    if len(heads) < len(records):
        epochs = len(records[0].scores)
        raise ValueError(
            f"fold {fold.number}: the validation score is not a number in any of {epochs} epochs; "
            "does the validation split hold what the metric needs?"
        )
    valid, test = (head_outputs(heads, inputs, item_rows(part, offsets)) for part in (fold.valid, fold.test))
    return [
        Head(
            fold.number,
            record.seed,
            record.learning_rate,
            record.best_epoch,
            tuple(record.scores),
            Parameters(*(value.cpu().numpy() for value in head)),
            *outputs,
        )
        for record, head, *outputs in zip(records, heads, valid, test, strict=True)
    ]


def _checked(
    x: NDArray[Any],
    y: NDArray[Any],
    folds: Sequence[Fold],
    recipe: HeadConfig,
    offsets: ArrayLike | None,
    *axes: Sequence[float],
) -> tuple[NDArray[Any], NDArray[Any], IntArray]:
    """Embeddings, labels and offsets in the form that training reads, or ValueError."""
    if not folds or not all(len(axis) for axis in axes):
        raise ValueError("at least one fold, one seed and one learning rate are needed")
    if x.ndim != 2 or len(x) != len(y):
        raise ValueError(f"embeddings {x.shape} must be (rows, width), with as many rows as labels {y.shape}")
    for start in range(0, len(x), ROWS_CHECKED_AT_ONCE):
        bad = ~np.isfinite(x[start : start + ROWS_CHECKED_AT_ONCE]).all(axis=1)
        if bad.any():
            raise ValueError(f"row {start + bad.argmax()} of the embeddings is not finite")
    labels = _checked_labels(y, recipe)
    starts = np.arange(len(x) + 1) if offsets is None else np.asarray(offsets, dtype=np.int64)
    if starts[0] != 0 or starts[-1] != len(x) or (np.diff(starts) < 0).any():
        raise ValueError(f"offsets must rise from 0 to the number of rows, {len(x)}")
    for fold in folds:
        _check_fold(fold, labels, starts, recipe)
    return x if x.dtype == np.float16 else x.astype(np.float32, copy=False), labels, starts


def _checked_labels(y: NDArray[Any], recipe: HeadConfig) -> NDArray[Any]:
    if recipe.loss == "cross_entropy":
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"cross-entropy wants one whole number for each row, not {y.dtype} {y.shape}")
        if len(y) and not (y.min() >= -1 and y.max() < recipe.n_outputs):
            raise ValueError(f"classes must lie in 0 … {recipe.n_outputs - 1}, or be −1 for unknown")
        return y.astype(np.int64)
    if y.ndim != 2 or y.shape[1] != recipe.n_outputs:
        raise ValueError(f"labels {y.shape} must be (rows, {recipe.n_outputs})")
    if recipe.loss == "binary_cross_entropy":
        if not np.isin(y, (-1, 0, 1)).all():
            raise ValueError("labels must be 0 or 1, or −1 for unknown")
        return y.astype(np.int8)
    if not np.isfinite(y).all():
        raise ValueError("the numbers to predict must be finite")
    return y.astype(np.float32)


def _check_fold(fold: Fold, labels: NDArray[Any], offsets: IntArray, recipe: HeadConfig) -> None:
    where = f"fold {fold.number}"
    if np.isin(fold.train, np.concatenate([fold.valid, fold.test])).any():
        raise ValueError(f"{where}: an item is both in training and held out")
    for name, items in (("training", fold.train), ("validation", fold.valid)):
        rows = item_rows(items, offsets)
        if not known_rows(labels[rows]).any():
            raise ValueError(f"{where}: the {name} split has no labelled row")
    if recipe.loss == "cross_entropy":
        seen = labels[item_rows(fold.train, offsets)]
        if len(np.unique(seen[seen >= 0])) < 2:
            raise ValueError(f"{where}: the training split holds one class only; there is nothing to learn")

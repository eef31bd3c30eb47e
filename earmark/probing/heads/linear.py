"""Linear heads on frozen embeddings: all folds, seeds and learning rates of a task, trained together.

The recipe is that of X-ARES (ICME 2025 Audio Encoder Capability Challenge): LayerNorm → Linear, Adam without weight
decay, a decreasing learning rate, selection of the epoch on validation data.

Batches consist of *items*: single rows of the embeddings (clips or crops), or clips with all their frames. A head
depends on its fold, seed, learning rate and data. It does not depend on the heads trained with it, up to rounding.
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

ROWS_PER_CHECK = 65_536


@dataclass(frozen=True)
class HeadConfig:
    """Settings for the training of heads.

    Attributes
    ----------
    loss : {"cross_entropy", "binary_cross_entropy", "squared_error"}
        For integer classes, 0/1 per label, and real numbers.
    n_outputs : int
        Number of classes, labels or targets.
    epochs : int
    batch_size : int
        Items per batch.
    pos_weight : float
        Factor of the positive term of the binary cross-entropy.
    most_trained_on_ties : bool
        Of epochs with equal validation scores, keep the last, and of such learning rates the highest, instead of the
        first epoch and the first learning rate.
    """

    loss: Loss
    n_outputs: int
    epochs: int = 10
    batch_size: int = 32
    pos_weight: float = 1.0
    most_trained_on_ties: bool = False


@dataclass(frozen=True)
class Fold:
    """A split of the items.

    Attributes
    ----------
    number : int
        Together with the seed, it determines the random numbers of the fold.
    train, valid, test : (n,) int
        Items. The training set is disjoint from the others. Validation and test set may be the same, as where X-ARES
        selects the epoch on test data.
    """

    number: int
    train: IntArray
    valid: IntArray
    test: IntArray


@dataclass(frozen=True)
class Head:
    """A trained head with the parameters of its best epoch.

    Attributes
    ----------
    fold : int
        Number of the fold.
    seed : int
    learning_rate : float
    best_epoch : int
        Counted from 0; on ties the earliest, or the last with `most_trained_on_ties`.
    valid_scores : tuple of float
        One per epoch.
    parameters : Parameters
        NumPy arrays.
    valid, test : (n, C) float32
        Outputs, before softmax or sigmoid, for the rows of the validation and test items, in their order.
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
        """Validation score of the best epoch."""
        return self.valid_scores[self.best_epoch]


def train_heads(
    x: NDArray[np.floating],
    y: ArrayLike,
    folds: Sequence[Fold],
    config: HeadConfig,
    metric: SelectionMetric,
    *,
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] = (1e-3,),
    offsets: ArrayLike | None = None,
    best_rate_only: bool = False,
    device: str = "cpu",
) -> list[Head]:
    """Train one head for each fold, seed and learning rate.

    Parameters
    ----------
    x : (N, D) float32 or float16
        Embeddings. float16 saves memory for large sets of frames.
    y : (N,) int, (N, C) 0/1 or (N, C) float
        Classes from 0, labels or targets, according to the loss. −1 marks rows of unknown label: they are predicted,
        but not trained on.
    folds : sequence of Fold
    config : HeadConfig
    metric : SelectionMetric
        Selects the epoch on the validation items; an epoch with NaN is never selected.
    seeds : sequence of int
    learning_rates : sequence of float
    offsets : (n_items + 1,) int, optional
        Item i has the rows offsets[i] … offsets[i + 1] − 1 (frames of a clip). By default, each row is an item.
    best_rate_only : bool
        For each fold and seed, return only the learning rate with the best validation score; on ties the first one, or
        the highest with `most_trained_on_ties`.
    device : str
        Name of a torch device. A seed gives identical results on the same device, and equal ones to 1e-3 on others.

    Returns
    -------
    list of Head
        Ordered by fold, then seed, then learning rate.

    Raises
    ------
    ValueError
        If shapes do not match, labels are out of range, numbers are not finite, training items are also held out, the
        training or validation set of a fold has no labelled row, a training set has a single class, or the validation
        score of a head is NaN in all epochs.

    Notes
    -----
    A class without training items has an output as well, which learns to be low. An empty test set gives empty
    predictions.

    References
    ----------
    Zhang et al. (2025), X-ARES: a comprehensive framework for assessing audio encoder performance.
    """
    x, labels, starts = _checked(x, np.asarray(y), folds, config, offsets, seeds, learning_rates)
    torch = torch_library()
    known = np.flatnonzero(known_rows(labels))
    known_offsets = np.searchsorted(known, starts)  # item i has the labelled rows known[offsets[i] : offsets[i + 1]]
    groups = [(fold, seed) for fold in folds for seed in seeds]
    train_items = [fold.train[np.diff(known_offsets)[fold.train] > 0] for fold, _ in groups]
    order = np.argsort([-len(items) for items in train_items], kind="stable")  # most steps first
    generators = [seeded_generator(groups[g][1], groups[g][0].number) for g in order]
    initial = [initial_parameters(x.shape[1], config.n_outputs, generator) for generator in generators]
    heads = _batched_heads(initial, learning_rates, device, by_row=offsets is None and x.dtype == np.float32)
    later = config.most_trained_on_ties
    trackers = [[_BestEpoch(groups[g], rate, later) for rate in learning_rates] for g in order]
    gradient = logit_gradient(config.loss, config.pos_weight)
    inputs = Inputs(x, device)
    targets = torch.as_tensor(labels if config.loss == "cross_entropy" else labels.astype(np.float32)).to(device)
    for epoch in range(config.epochs):
        heads.factor = schedule(epoch, config.epochs)
        batches = epoch_batches([train_items[g] for g in order], generators, known_offsets, config.batch_size)
        _train_epoch(heads, inputs, targets, batches._replace(rows=known[batches.rows]), gradient)
        for group, group_trackers in enumerate(trackers):
            valid = item_rows(group_trackers[0].fold.valid, starts)
            outputs_by_rate = heads.outputs(group, inputs, valid)
            for rate, (tracker, outputs) in enumerate(zip(group_trackers, outputs_by_rate, strict=True)):
                if tracker.add_score(float(metric(outputs, valid))):
                    tracker.parameters = heads.head(group, rate)
    in_order = [trackers[position] for position in np.argsort(order)]  # by fold and seed
    if best_rate_only:
        in_order = [[_best_rate(rates, later)] for rates in in_order]
    return [head for rates in in_order for head in _predict(rates, inputs, starts)]


def _batched_heads(
    initial: Sequence[Parameters], rates: Sequence[float], device: str, by_row: bool
) -> "BatchedHeads | CompiledHeads":
    """Heads to train: compiled code on a CPU where items are single rows, torch otherwise."""
    if device != "cpu" or not by_row:
        return BatchedHeads(initial, rates, device)
    require_library("numba", EXTRA, NEEDED_BY)
    from earmark.probing.heads.batched_numba import CompiledHeads

    return CompiledHeads(initial, rates)


def _train_epoch(
    heads: "BatchedHeads | CompiledHeads", inputs: Inputs, targets: Tensor, batches: Batches, gradient: LogitGradient
) -> None:
    """All steps of an epoch. Groups without further batches are skipped."""
    torch = torch_library()
    rows = torch.as_tensor(batches.rows).to(targets.device)
    row_weights = torch.as_tensor(batches.row_weights)[:, :, None, None, :].to(targets.device)
    for step, active in enumerate(batches.active):
        batch = rows[step, :active]
        y = targets.index_select(0, batch.reshape(-1)).view(active, -1, *targets.shape[1:])
        y = y.transpose(1, 2).unsqueeze(1) if y.ndim == 3 else y
        heads.step(inputs, batch, y, row_weights[step, :active], gradient)


class _BestEpoch:
    """Validation scores of one head, and the parameters of its best epoch so far."""

    def __init__(self, group: tuple[Fold, int], learning_rate: float, later_on_ties: bool) -> None:
        self.fold, self.seed = group
        self.learning_rate = learning_rate
        self.later_on_ties = later_on_ties
        self.scores: list[float] = []
        self.best_score, self.best_epoch = -np.inf, -1
        self.parameters: Parameters | None = None

    def add_score(self, score: float) -> bool:
        """Add the score of an epoch; return whether it is the best so far."""
        self.scores.append(score)
        tied = self.later_on_ties and score == self.best_score and self.best_epoch >= 0
        if not (score > self.best_score or tied):
            return False
        self.best_score, self.best_epoch = score, len(self.scores) - 1
        return True


def _best_rate(trackers: Sequence[_BestEpoch], highest_on_ties: bool) -> _BestEpoch:
    """The head with the best validation score; on ties the first, or that of the highest learning rate."""
    if not highest_on_ties:
        return max(trackers, key=lambda tracker: tracker.best_score)
    return max(trackers, key=lambda tracker: (tracker.best_score, tracker.learning_rate))


def _predict(trackers: Sequence[_BestEpoch], inputs: Inputs, offsets: IntArray) -> list[Head]:
    """The best heads of a fold and seed with their outputs. Inputs are read once for all of them."""
    fold = trackers[0].fold
    heads = [tracker.parameters for tracker in trackers if tracker.parameters is not None]
    if len(heads) < len(trackers):
        epochs = len(trackers[0].scores)
        raise ValueError(
            f"fold {fold.number}: the validation score is undefined in all {epochs} epochs; "
            "check that the metric can be computed on the validation split"
        )
    valid, test = (head_outputs(heads, inputs, item_rows(part, offsets)) for part in (fold.valid, fold.test))
    return [
        Head(
            fold.number,
            tracker.seed,
            tracker.learning_rate,
            tracker.best_epoch,
            tuple(tracker.scores),
            Parameters(*(value.cpu().numpy() for value in head)),
            *outputs,
        )
        for tracker, head, *outputs in zip(trackers, heads, valid, test, strict=True)
    ]


def _checked(
    x: NDArray[Any],
    y: NDArray[Any],
    folds: Sequence[Fold],
    config: HeadConfig,
    offsets: ArrayLike | None,
    *axes: Sequence[float],
) -> tuple[NDArray[Any], NDArray[Any], IntArray]:
    """Embeddings, labels and offsets as arrays for training; ValueError if they are invalid."""
    if not folds or not all(len(axis) for axis in axes):
        raise ValueError("at least one fold, one seed and one learning rate are required")
    if x.ndim != 2 or len(x) != len(y):
        raise ValueError(f"embeddings have shape {x.shape} and labels {y.shape}; expected (n, d) and n labels")
    for start in range(0, len(x), ROWS_PER_CHECK):
        bad = ~np.isfinite(x[start : start + ROWS_PER_CHECK]).all(axis=1)
        if bad.any():
            raise ValueError(f"row {start + bad.argmax()} of the embeddings is not finite")
    labels = _checked_labels(y, config)
    starts = np.arange(len(x) + 1) if offsets is None else np.asarray(offsets, dtype=np.int64)
    if starts[0] != 0 or starts[-1] != len(x) or (np.diff(starts) < 0).any():
        raise ValueError(f"offsets must increase from 0 to the number of rows, {len(x)}")
    for fold in folds:
        _check_fold(fold, labels, starts, config)
    return x if x.dtype == np.float16 else x.astype(np.float32, copy=False), labels, starts


def _checked_labels(y: NDArray[Any], config: HeadConfig) -> NDArray[Any]:
    if config.loss == "cross_entropy":
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"cross-entropy requires one integer per row, got {y.dtype} of shape {y.shape}")
        if len(y) and not (y.min() >= -1 and y.max() < config.n_outputs):
            raise ValueError(f"classes must be 0 … {config.n_outputs - 1}, or −1 for unknown")
        return y.astype(np.int64)
    if y.ndim != 2 or y.shape[1] != config.n_outputs:
        raise ValueError(f"labels have shape {y.shape}; expected (n, {config.n_outputs})")
    if config.loss == "binary_cross_entropy":
        if not np.isin(y, (-1, 0, 1)).all():
            raise ValueError("labels must be 0 or 1, or −1 for unknown")
        return y.astype(np.int8)
    if not np.isfinite(y).all():
        raise ValueError("regression targets must be finite")
    return y.astype(np.float32)


def _check_fold(fold: Fold, labels: NDArray[Any], offsets: IntArray, config: HeadConfig) -> None:
    where = f"fold {fold.number}"
    if np.isin(fold.train, np.concatenate([fold.valid, fold.test])).any():
        raise ValueError(f"{where}: the training set overlaps the validation or test set")
    for name, items in (("training", fold.train), ("validation", fold.valid)):
        rows = item_rows(items, offsets)
        if not known_rows(labels[rows]).any():
            raise ValueError(f"{where}: the {name} set has no labelled row")
    if config.loss == "cross_entropy":
        classes = labels[item_rows(fold.train, offsets)]
        if len(np.unique(classes[classes >= 0])) < 2:
            raise ValueError(f"{where}: the training set has only one class")

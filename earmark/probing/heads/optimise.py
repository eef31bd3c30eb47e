"""Training loop of heads that are not linear: Adam on any loss, with selection of the epoch on validation data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.probing.heads.batched import Tensor, schedule, torch_library

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Attributes
    ----------
    epochs : int
    batch_size : int
        Items per step.
    learning_rate : float
        Of the first epoch; `schedule` lowers it from epoch to epoch.
    most_trained_on_ties : bool
        Of epochs with equal validation scores, keep the last instead of the first.

    Raises
    ------
    ValueError
        If a value is not above 0.
    """

    epochs: int = 10
    batch_size: int = 4
    learning_rate: float = 1e-3
    most_trained_on_ties: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(f"epochs, batch_size and learning_rate must be above 0, got {self}")


@dataclass(frozen=True)
class TrainingHistory:
    """Course of a training.

    Attributes
    ----------
    losses, valid_scores : tuple of float
        Mean training loss and validation score of each epoch.
    best_epoch : int
        Epoch with the highest validation score, counted from 0; on ties the earliest, or the last with
        `most_trained_on_ties`.
    """

    losses: tuple[float, ...]
    valid_scores: tuple[float, ...]
    best_epoch: int

    @property
    def best_score(self) -> float:
        """Validation score of the best epoch."""
        return self.valid_scores[self.best_epoch]


def train_with_selection(
    parameters: dict[str, Tensor],
    config: TrainingConfig,
    n_items: int,
    generator: Any,
    loss: Callable[[IntArray], Tensor],
    score: Callable[[], float],
) -> TrainingHistory:
    """Train parameters in place with Adam (no weight decay) and restore those of the best epoch.

    Parameters
    ----------
    parameters : dict of str to torch.Tensor
        Leaf tensors that `loss` and `score` use.
    config : TrainingConfig
    n_items : int
        Number of training items.
    generator : torch.Generator
        On the CPU; shuffles the items of each epoch.
    loss : callable
        Indices of a batch of items → loss, a mean over the batch.
    score : callable
        Validation score, higher is better; called after each epoch without gradients.

    Returns
    -------
    TrainingHistory

    Raises
    ------
    ValueError
        If no epoch has a finite loss and a validation score.
    """
    torch = torch_library()
    adam = torch.optim.Adam([value.requires_grad_() for value in parameters.values()], lr=config.learning_rate)
    losses: list[float] = []
    scores: list[float] = []
    best, best_epoch, best_parameters = -np.inf, -1, {}
    for epoch in range(config.epochs):
        adam.param_groups[0]["lr"] = config.learning_rate * schedule(epoch, config.epochs)
        total = 0.0
        for batch in torch.randperm(n_items, generator=generator).split(config.batch_size):
            adam.zero_grad()
            value = loss(batch.numpy())
            value.backward()
            adam.step()
            total += value.item() * len(batch)
        losses.append(total / n_items)
        with torch.no_grad():
            scores.append(float(score()) if np.isfinite(total) else float("nan"))
        tied = config.most_trained_on_ties and best_epoch >= 0 and scores[-1] == best
        if scores[-1] > best or tied:
            best, best_epoch = scores[-1], epoch
            best_parameters = {name: value.detach().clone() for name, value in parameters.items()}
    if best_epoch < 0:
        raise ValueError(
            f"no finite loss and validation score in any of {config.epochs} epochs; is the learning rate "
            f"{config.learning_rate:g} too high?"
        )
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(best_parameters[name])
    return TrainingHistory(tuple(losses), tuple(scores), best_epoch)


def to_numpy(parameters: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Convert trained parameters to NumPy arrays."""
    return {name: value.detach().cpu().numpy() for name, value in parameters.items()}

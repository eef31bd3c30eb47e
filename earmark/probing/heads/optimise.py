"""The training loop of heads that are not linear: Adam on whatever loss, the best epoch on validation kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.probing.heads.batched import Tensor, schedule, torch_library

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingConfig:
    """How a probe is trained. batch_size: items of a step; the learning rate falls from epoch to epoch (`schedule`)."""

    epochs: int = 10
    batch_size: int = 4
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(f"epochs, batch size and learning rate must be above 0: {self}")


@dataclass(frozen=True)
class Fit:
    """How training went: mean loss and validation score of every epoch, and the best epoch, counted from 0."""

    losses: tuple[float, ...]
    valid_scores: tuple[float, ...]
    best_epoch: int

    @property
    def best_score(self) -> float:
        """The validation score that chose the epoch."""
        return self.valid_scores[self.best_epoch]


def fit(
    parameters: dict[str, Tensor],
    recipe: TrainingConfig,
    n_items: int,
    generator: Any,
    loss: Callable[[IntArray], Tensor],
    score: Callable[[], float],
) -> Fit:
    """Train by Adam without weight decay; afterwards the parameters are those of the best epoch, the earliest on ties.

    parameters: leaf tensors that `loss` (a batch of the n_items → what to lower) and `score` (validation, higher is
    better; called without gradients after every epoch) read. generator: of torch, on the CPU; gives each epoch its
    order. ValueError: the score is NaN, or the loss not finite, in every epoch.
    """
    torch = torch_library()
    adam = torch.optim.Adam([value.requires_grad_() for value in parameters.values()], lr=recipe.learning_rate)
    losses: list[float] = []
    scores: list[float] = []
    best, best_epoch, kept = -np.inf, -1, {}
    for epoch in range(recipe.epochs):
        adam.param_groups[0]["lr"] = recipe.learning_rate * schedule(epoch, recipe.epochs)
        total = 0.0
        for batch in torch.randperm(n_items, generator=generator).split(recipe.batch_size):
            adam.zero_grad()
            value = loss(batch.numpy())
            value.backward()
            adam.step()
            total += value.item() * len(batch)
        losses.append(total / n_items)
        with torch.no_grad():
            scores.append(float(score()) if np.isfinite(total) else float("nan"))
        if scores[-1] > best:
            best, best_epoch = scores[-1], epoch
            kept = {name: value.detach().clone() for name, value in parameters.items()}
    if best_epoch < 0:
        raise ValueError(
            f"no epoch of {recipe.epochs} has a finite loss and validation score; is the learning rate "
            f"{recipe.learning_rate:g} too high?"
        )
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(kept[name])
    return Fit(tuple(losses), tuple(scores), best_epoch)


def to_numpy(parameters: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Trained parameters as arrays."""
    return {name: value.detach().cpu().numpy() for name, value in parameters.items()}

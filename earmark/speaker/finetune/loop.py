"""The training loop: steps, epochs, validation, checkpoints. Imports torch."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from earmark.errors import EarmarkError, shown_path
from earmark.models.encoders.wespeaker.architectures import ModelConfig
from earmark.models.encoders.wespeaker.checkpoint import WEIGHTS
from earmark.models.encoders.wespeaker.front_end import SAMPLE_RATE
from earmark.models.encoders.wespeaker.loading import WeSpeakerEncoder
from earmark.report.tables import to_csv
from earmark.speaker.finetune.augment import Augmentation, training_features
from earmark.speaker.finetune.clips import Waveforms, ahead
from earmark.speaker.finetune.data import IntArray, TrainingData, epoch_batches, steps_per_epoch
from earmark.speaker.finetune.loss import SpeakerClassifier, seeded_generator
from earmark.speaker.finetune.options import ProcessGroup
from earmark.speaker.finetune.recipe import BEST, Recipe
from earmark.speaker.finetune.schedule import learning_rate, margin
from earmark.speaker.finetune.state import (
    LOG_FILE,
    STATE_FILE,
    Epoch,
    Progress,
    checkpoint_contents,
    read_state,
    state_contents,
    write_files,
)
from earmark.speaker.finetune.validation import Rates, Validation, best_epoch

BATCHES_AHEAD = 4
GROUP_TIMEOUT = timedelta(hours=12)  # the others wait while the first process validates
TrackSteps = Callable[[Iterable[Any], int, int], Iterable[Any]]  # (batches, number of steps, epoch)


@dataclass(frozen=True)
class Run:
    """What the loop needs to know about a run.

    Attributes
    ----------
    folder : Path
        Output folder.
    config : ModelConfig
    recipe : Recipe
    recipe_name : str
    data : TrainingData
    validation : Validation or None
    augmentation : Augmentation
    waveforms : Waveforms
    seed : int
    key : dict
        What a run that resumes must share.
    device, dtype : str
        Other types than float32 train with mixed precision.
    workers : int
        Threads that read and augment clips.
    group : ProcessGroup
    """

    folder: Path
    config: ModelConfig
    recipe: Recipe
    recipe_name: str
    data: TrainingData
    validation: Validation | None
    augmentation: Augmentation
    waveforms: Waveforms
    seed: int
    key: dict[str, Any]
    device: str
    dtype: str
    workers: int
    group: ProcessGroup


class Trainer:
    """Trains a network; all files are written by the first process.

    Parameters
    ----------
    run : Run
    network : nn.Module
        With its initial weights.
    """

    def __init__(self, run: Run, network: nn.Module) -> None:
        self.run = run
        generator = seeded_generator(run.seed + 1)  # the weights of a new network have the seed itself
        classifier = SpeakerClassifier(
            network, run.config.dimension, len(run.data.speakers), run.recipe.scale, generator
        )
        self.classifier = classifier.to(run.device)
        self.optimizer = torch.optim.SGD(
            self.classifier.parameters(),
            lr=run.recipe.learning_rate[0],
            momentum=run.recipe.momentum,
            weight_decay=run.recipe.weight_decay,
            nesterov=run.recipe.momentum > 0,
        )
        self.scaler = torch.amp.GradScaler(enabled=run.dtype == "float16" and run.device.startswith("cuda"))
        self.labels = run.data.labels
        self.steps = steps_per_epoch(len(self.labels), run.recipe.batch_size, run.group.size)
        self.progress = Progress(run.key)

    @property
    def network(self) -> nn.Module:
        """The network without the class centres."""
        return self.classifier.network

    def resume(self) -> bool:
        """Continue after the last finished epoch of the output folder; False if there is none."""
        found = read_state(self.run.folder, self.run.key)
        if found is None:
            return False
        self.progress, state = found
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        if "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
        return True

    def train(self, track: TrackSteps) -> Progress:
        """Train the epochs that are left.

        Parameters
        ----------
        track : callable
            Wraps the batches of an epoch; for a progress bar.

        Returns
        -------
        Progress
            Of the whole run.

        Raises
        ------
        EarmarkError
            If the loss or a weight is not finite; the last good checkpoint stays.
        """
        model: nn.Module = self.classifier
        if self.run.group.size > 1:
            model = nn.parallel.DistributedDataParallel(self.classifier)
        if self.progress.last < 0:
            self._finish(Epoch(0, 0, **self._rates()))
        for epoch in range(self.progress.last + 1, self.run.recipe.epochs + 1):
            finished = self._epoch(model, epoch, track)
            self._finish(finished)
        return self.progress

    def _epoch(self, model: nn.Module, epoch: int, track: TrackSteps) -> Epoch:
        run, first = self.run, (epoch - 1) * self.steps
        # A dropout layer draws from the state of torch on its device; it depends on the epoch alone, so that a run can
        # resume.
        seed = int(np.random.SeedSequence([run.seed, 3, epoch, run.group.rank]).generate_state(1)[0])
        torch.set_rng_state(seeded_generator(seed).get_state())
        if torch.cuda.is_available():
            torch.cuda.manual_seed(seed)
        batches = epoch_batches(
            len(self.labels), run.recipe.batch_size, run.seed, epoch, run.group.rank, run.group.size
        )
        loaded = ahead(batches, lambda batch: self._features(batch, epoch), run.workers, BATCHES_AHEAD)
        model.train()
        losses, correct, rate = 0.0, 0.0, 0.0
        for number, (features, labels) in enumerate(track(loaded, len(batches), epoch)):
            rate = learning_rate(run.recipe, first + number, self.steps, run.group.size)
            self.classifier.margin = margin(run.recipe, first + number, self.steps)
            loss, right = self._step(model, features, labels, rate)
            if not all(self._everywhere(bool(np.isfinite(loss)))):
                raise self._diverged(f"epoch {epoch}, step {number + 1}: the loss is {loss}")
            losses, correct = losses + loss, correct + right
        if not all(self._everywhere(all(bool(p.isfinite().all()) for p in self.classifier.state_dict().values()))):
            raise self._diverged(f"epoch {epoch}: a weight is not finite")
        shown = sum(map(len, batches))
        loss, accuracy = (sum(self._everywhere(value)) / run.group.size for value in (losses, correct / shown))
        own_margin = self.classifier.margin
        return Epoch(epoch, first + len(batches), rate, own_margin, loss / len(batches), accuracy, **self._rates())

    def _step(self, model: nn.Module, features: Tensor, labels: Tensor, rate: float) -> tuple[float, float]:
        """One step of the optimiser; loss and number of segments with the right class."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device, dtype = torch.device(self.run.device), getattr(torch, self.run.dtype)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss, right = model(features.to(device), labels.to(device))
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(loss.item()), float(right.item())

    def _features(self, batch: IntArray, epoch: int) -> tuple[Tensor, Tensor]:
        """Features (B, T, mel bins) and labels of a batch; each clip has random numbers of its own."""
        run, rows = self.run, []
        for position in batch:
            rng = np.random.default_rng([run.seed, 4, epoch, int(position)])
            waveform = run.waveforms(run.data.training[position].path)
            rows.append(training_features(waveform, run.recipe, run.config.mel_bins, rng, run.augmentation))
        return torch.from_numpy(np.stack(rows)), torch.from_numpy(self.labels[batch])

    def encoder(self) -> WeSpeakerEncoder:
        """The network as an encoder, in evaluation mode and float32."""
        network = self.network.eval()
        return WeSpeakerEncoder(
            "model", SAMPLE_RATE, "model", {}, self.run.config.dimension, network, self.run.device, "float32",
            network=network, config=self.run.config,
        )  # fmt: skip

    def _rates(self) -> dict[str, float | None]:
        """Validation rates as fields of an epoch; computed by the first process."""
        rates = Rates()
        if self.run.validation is not None and self.run.group.is_first:
            rates = self.run.validation.rates(self.run.validation.scored(self.encoder()))
        return {"validation_eer": rates.eer, "validation_cross_language_eer": rates.cross_language_eer}

    def _finish(self, epoch: Epoch) -> None:
        """Record an epoch: state, log, and the checkpoint if it is the one to be written."""
        rates = [each.validation_eer for each in (*self.progress.epochs[1:], epoch)]
        best = best_epoch(rates) if self.run.recipe.select == BEST else None
        is_new = epoch.epoch > 0 and (best is None or best == len(rates) - 1)
        self.progress = self.progress.after(epoch, epoch.epoch if is_new else self.progress.written)
        if self.run.group.is_first:
            contents: dict[str, bytes | str | None] = {
                STATE_FILE: state_contents(self.progress, self.classifier, self.optimizer, self.scaler),
                LOG_FILE: to_csv(pd.DataFrame(self.progress.epochs)),
            }
            if is_new:
                contents |= checkpoint_contents(self.network, self.run.config, self.run.recipe, self.run.recipe_name)
            write_files(self.run.folder, contents)

    def _everywhere(self, value: float) -> Sequence[float]:
        """The value of every process."""
        if self.run.group.size == 1:
            return [value]
        values = torch.zeros(self.run.group.size, dtype=torch.float64, device=self.run.device)
        values[self.run.group.rank] = value
        torch.distributed.all_reduce(values)
        return list(values.tolist())

    def _diverged(self, reason: str) -> EarmarkError:
        kept = "No epoch was finished."
        if self.progress.written:
            path = shown_path(self.run.folder / WEIGHTS)
            kept = f"{path} is the checkpoint of epoch {self.progress.written}, the last good one."
        return EarmarkError(
            f"Training was stopped in {reason}. {kept} Lower the learning rate, for example with --set "
            "learning_rate=…, and train again with --restart or another --output-dir."
        )


@contextmanager
def limited_threads(device: str, workers: int) -> Iterator[None]:
    """Leave the cores of the threads that read clips to them while a CPU trains.

    Threads of torch that wait for each other on a busy core make small networks many times slower.
    """
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def join_group(device: str) -> None:
    """Join the processes that `torchrun` started: NCCL on GPUs, gloo on CPUs."""
    backend = "nccl" if device.startswith("cuda") else "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend, timeout=GROUP_TIMEOUT)


def wait_for_all() -> None:
    """Wait until all processes are here."""
    torch.distributed.barrier()


def leave_group() -> None:
    """End the communication of the processes."""
    torch.distributed.destroy_process_group()

"""Files of a training run: the state from which it resumes, and the checkpoint that it has written so far."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from earmark.errors import EarmarkError, shown_path
from earmark.files.atomic import write_together
from earmark.models.encoders.torch_encoder import require_encoder_library
from earmark.models.encoders.wespeaker.architectures import ModelConfig
from earmark.models.encoders.wespeaker.checkpoint import CONFIG, WEIGHTS, read_tensors
from earmark.models.encoders.wespeaker.front_end import EXTRA, FRAME_MS, SAMPLE_RATE, SHIFT_MS
from earmark.speaker.finetune.recipe import Recipe

STATE_FILE, LOG_FILE = "training_state.pt", "log.csv"


@dataclass(frozen=True)
class Epoch:
    """A finished epoch; epoch 0 is the model before training.

    Attributes
    ----------
    epoch : int
    step : int
        Number of finished steps.
    learning_rate, margin : float or None
        Of the last step.
    loss : float or None
        Mean over the steps.
    accuracy : float or None
        Share of the segments whose own speaker has the nearest class centre.
    validation_eer, validation_cross_language_eer : float or None
        In [0, 1]; None without validation or languages.
    """

    epoch: int
    step: int
    learning_rate: float | None = None
    margin: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    validation_eer: float | None = None
    validation_cross_language_eer: float | None = None


@dataclass(frozen=True)
class Progress:
    """A run after some epochs.

    Attributes
    ----------
    key : dict
        What a run that resumes must share: recipe, seed, data, initial weights, processes, precision.
    epochs : tuple of Epoch
    written : int
        Epoch of the written checkpoint.
    """

    key: Mapping[str, Any]
    epochs: tuple[Epoch, ...] = ()
    written: int = 0

    @property
    def last(self) -> int:
        """Number of the last finished epoch."""
        return self.epochs[-1].epoch if self.epochs else -1

    def after(self, epoch: Epoch, written: int) -> "Progress":
        """The run after one more epoch."""
        return replace(self, epochs=(*self.epochs, epoch), written=written)


def run_key(recipe: Recipe, **parts: Any) -> dict[str, Any]:
    """What a run that resumes must share, as plain values."""
    return json.loads(json.dumps({**asdict(recipe), **parts}))


def state_contents(progress: Progress, classifier: Any, optimizer: Any, scaler: Any) -> bytes:
    """Content of the state file: progress, weights, class centres and momentum.

    Parameters
    ----------
    progress : Progress
    classifier : SpeakerClassifier
    optimizer : torch.optim.Optimizer
    scaler : torch.amp.GradScaler
        Its state is included if it scales: float16 on a GPU.
    """
    torch = require_encoder_library("torch", EXTRA)
    buffer = io.BytesIO()
    text = json.dumps({"key": progress.key, "epochs": list(map(asdict, progress.epochs)), "written": progress.written})
    state = {"progress": text, "classifier": classifier.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | ({"scaler": scaler.state_dict()} if scaler.is_enabled() else {}), buffer)
    return buffer.getvalue()


def read_state(folder: Path, key: Mapping[str, Any]) -> tuple[Progress, dict[str, Any]] | None:
    """Read the state of an interrupted or finished run.

    Parameters
    ----------
    folder : Path
        Output folder.
    key : mapping
        Of this run.

    Returns
    -------
    tuple or None
        Progress, and the states of classifier, optimizer and possibly scaler; None if the folder has none.

    Raises
    ------
    EarmarkError
        If the state belongs to another run, with the settings that differ, or cannot be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    torch = require_encoder_library("torch", EXTRA)
    advice = "Give another --output-dir, or replace the run with --restart."
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        stored = json.loads(state["progress"])
        progress = Progress(stored["key"], tuple(Epoch(**epoch) for epoch in stored["epochs"]), stored["written"])
    except Exception as error:  # torch raises errors of many kinds for damaged files
        raise EarmarkError(f"{shown_path(path)}: cannot be read. {advice}") from error
    if progress.key != key:
        names = sorted({*progress.key, *key})
        differing = [
            f"{name} {progress.key.get(name)} ≠ {key.get(name)}"
            for name in names
            if progress.key.get(name) != key.get(name)
        ]
        raise EarmarkError(f"{shown_path(folder)}/ has a run with other settings: {', '.join(differing)}. {advice}")
    return progress, state


def checkpoint_contents(network: Any, config: ModelConfig, recipe: Recipe, name: str) -> dict[str, bytes | str]:
    """Files of a checkpoint that `wespeaker:FOLDER` and WeSpeaker load, without the class centres.

    Parameters
    ----------
    network : torch.nn.Module
    config : ModelConfig
    recipe : Recipe
    name : str
        Of the recipe.

    Returns
    -------
    dict
        {file name: content}.
    """
    torch, yaml = (require_encoder_library(library, EXTRA) for library in ("torch", "yaml"))
    buffer = io.BytesIO()
    torch.save({key: value.detach().cpu() for key, value in network.state_dict().items()}, buffer)
    bank = {"num_mel_bins": config.mel_bins, "frame_shift": SHIFT_MS, "frame_length": FRAME_MS, "dither": recipe.dither}
    settings = {
        "model": config.model,
        "model_args": config.model_args,
        "dataset_args": {
            "frontend": "fbank",
            "resample_rate": SAMPLE_RATE,
            "fbank_args": bank,
            "cmvn": True,
            "cmvn_args": {"norm_mean": True, "norm_var": False},
        },
        "recipe": {"name": name, **run_key(recipe)},
    }
    return {WEIGHTS: buffer.getvalue(), CONFIG: yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}


def write_files(folder: Path, contents: Mapping[str, bytes | str | None]) -> None:
    """Write files of a run together; a crash leaves the earlier ones."""
    write_together({folder / name: content for name, content in contents.items()})


def load_written_weights(folder: Path, network: Any) -> None:
    """Load the written checkpoint into a network."""
    network.load_state_dict(read_tensors(folder / WEIGHTS))

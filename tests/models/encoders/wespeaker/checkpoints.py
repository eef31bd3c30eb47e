"""Checkpoints with weights that follow from their names, and the signals of the parity data."""

import zlib
from pathlib import Path

import numpy as np
import yaml

TINY = {"model": "SimAM_ResNet10_ASP", "model_args": {"in_planes": 4, "embed_dim": 16}}


def filled(state):
    """A state dict whose values follow from the names of its entries, by the rule of the parity data."""
    import torch

    values = {}
    for name, old in state.items():
        rng, shape = np.random.default_rng(zlib.crc32(name.encode())), tuple(old.shape)
        if name.endswith("num_batches_tracked"):
            values[name] = torch.zeros((), dtype=torch.int64)
            continue
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("running_mean"):
            value = rng.normal(0, 0.1, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.05, shape)
        else:
            value = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        values[name] = torch.from_numpy(value.astype(np.float32))
    return values


def state_of(settings):
    """The filled state dict of a config.yaml."""
    from earmark.models.encoders.wespeaker.architectures import model_config
    from earmark.models.encoders.wespeaker.networks import build_network

    return filled(build_network(model_config(settings["model"], settings.get("model_args", {}))).state_dict())


def write_checkpoint(folder: Path, settings=TINY, state=None) -> Path:
    """A checkpoint folder; `state` replaces the filled state dict."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    torch.save(state_of(settings) if state is None else state, folder / "avg_model.pt")
    return folder


def voice():
    """Two seconds of a pulse-like voice at 16 kHz: harmonics of one pitch, with syllables."""
    time, rng = np.arange(32_000) / 16_000, np.random.default_rng(1)
    pitch = rng.uniform(90, 250)
    harmonics = [np.sin(2 * np.pi * pitch * h * time + rng.uniform(0, 6)) / h for h in range(1, 20)]
    signal = sum(harmonics) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time))
    return (signal / np.abs(signal).max() * 0.6).astype(np.float32)

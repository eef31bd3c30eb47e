"""Folders of WeSpeaker checkpoints: `config.yaml` and `avg_model.pt`, read without running code from them."""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earmark.errors import EarmarkError, MissingError, shown_cause, shown_path
from earmark.models.encoders.torch_encoder import require_encoder_library
from earmark.models.encoders.wespeaker.architectures import ARCHITECTURES, ModelConfig, model_config
from earmark.models.encoders.wespeaker.front_end import EXTRA, FRAME_MS, SAMPLE_RATE, SHIFT_MS

CONFIG, WEIGHTS = "config.yaml", "avg_model.pt"
TRAINING_HEAD = "projection."  # classifier of the training speakers, not part of the model
COUNTER = "num_batches_tracked"  # of batch normalisation, without effect on embeddings
SHOWN = 5  # names of a kind of fault
SAVE_ADVICE = "Save the parameters alone: torch.save(model.state_dict(), path)."


class OtherArchitectureError(MissingError):
    """The checkpoint needs the toolkit: another architecture or front end."""


def read_config(folder: Path) -> ModelConfig:
    """Read the `config.yaml` of a checkpoint.

    Parameters
    ----------
    folder : Path
        Contains `config.yaml` and `avg_model.pt`.

    Returns
    -------
    ModelConfig

    Raises
    ------
    OtherArchitectureError
        If the architecture or the front end needs the toolkit.
    MissingError
        If a file is missing, or a library.
    EarmarkError
        With all faults of the file.
    """
    if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise MissingError(
            f"{shown_path(folder)}: has no {' and no '.join(missing)}; a WeSpeaker checkpoint is a folder with "
            f"{CONFIG} and {WEIGHTS}."
        )
    path = folder / CONFIG
    yaml = require_encoder_library("yaml", EXTRA)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EarmarkError(f"{shown_path(path)}: is not YAML of plain values ({shown_cause(error)}).") from error
    if not isinstance(settings, Mapping) or not isinstance(settings.get("model"), str):
        raise EarmarkError(f"{shown_path(path)}: has no `model`; expected the settings that WeSpeaker writes.")
    data = _mapping(settings, "dataset_args")
    _require_native(path, settings["model"], data)
    faults = _front_end_faults(data)
    try:
        model = model_config(settings["model"], _mapping(settings, "model_args"))
    except ValueError as error:
        faults = [f"model_args: {error}", *faults]
    else:
        bins = _mapping(data, "fbank_args").get("num_mel_bins", model.mel_bins)
        if bins != model.mel_bins:
            faults.append(f"fbank_args: num_mel_bins is {bins!r}, but the model expects {model.mel_bins}")
    if faults:
        raise EarmarkError("\n  ".join([f"{shown_path(path)}: invalid settings:", *faults]))
    return model


def _mapping(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = settings.get(key)
    return value if isinstance(value, Mapping) else {}


def _require_native(path: Path, model: str, data: Mapping[str, Any]) -> None:
    if model not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise OtherArchitectureError(f"{shown_path(path)}: the model is {model}; built in are {known}.")
    front_end = data.get("frontend", "fbank")
    if front_end != "fbank":
        raise OtherArchitectureError(f"{shown_path(path)}: the front end is {front_end}; built in is fbank.")


def _front_end_faults(data: Mapping[str, Any]) -> list[str]:
    bank, normalisation = _mapping(data, "fbank_args"), _mapping(data, "cmvn_args")
    expected = {
        "fbank_args: frame_length": (bank.get("frame_length", FRAME_MS), FRAME_MS),
        "fbank_args: frame_shift": (bank.get("frame_shift", SHIFT_MS), SHIFT_MS),
        "resample_rate": (data.get("resample_rate", SAMPLE_RATE), SAMPLE_RATE),
        "cmvn": (data.get("cmvn", True), True),
        "cmvn_args: norm_mean": (normalisation.get("norm_mean", True), True),
        "cmvn_args: norm_var": (normalisation.get("norm_var", False), False),
    }
    return [
        f"{name} is {found!r}; only {str(needed).lower() if isinstance(needed, bool) else f'{needed:g}'} is supported"
        for name, (found, needed) in expected.items()
        if found != needed
    ]


def load_network(folder: Path, config: ModelConfig) -> Any:
    """Load the network of a checkpoint, in evaluation mode on the CPU.

    Parameters
    ----------
    folder : Path
    config : ModelConfig
        From `read_config`.

    Returns
    -------
    torch.nn.Module
        Maps features (B, T, mel bins) to embeddings (B, D).

    Raises
    ------
    EarmarkError
        If the file contains more than tensors, or with all parameters that are missing, unexpected, of another shape
        or not finite.
    MissingError
        If torch is not installed.
    """
    torch = require_encoder_library("torch", EXTRA)
    from earmark.models.encoders.wespeaker.networks import build_network

    path = folder / WEIGHTS
    state = _without_training_head(read_tensors(path))
    with torch.device("meta"):  # without memory for random weights
        network = build_network(config)
    expected = network.state_dict()
    if faults := _state_faults(state, expected):
        header = f"{shown_path(path)}: does not fit {config.model} as in {CONFIG}:"
        raise EarmarkError("\n  ".join([header, *faults]))
    network = network.to_empty(device="cpu")
    network.load_state_dict({name: state.get(name, torch.zeros(())) for name in expected})
    return network.float().eval()


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a dictionary of tensors; objects that would run code when loaded are refused.

    Parameters
    ----------
    path : Path
        Written by `torch.save`.

    Returns
    -------
    dict
        {name: tensor}.

    Raises
    ------
    EarmarkError
        If the file contains other objects, is damaged, or is not a dictionary of tensors.
    """
    torch = require_encoder_library("torch", EXTRA)
    shown = shown_path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"(?:GLOBAL|Unsupported (?:class|global))[: ]+([\w.]+)", str(error)):
            raise EarmarkError(
                f"{shown}: contains Python objects ({found[1]}), which can run code when they are loaded. It was not "
                f"loaded. {SAVE_ADVICE}"
            ) from error
        raise EarmarkError(f"{shown}: is not a PyTorch checkpoint, or is damaged.") from error
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise EarmarkError(f"{shown}: is damaged ({shown_cause(error)}).") from error
    if not isinstance(state, Mapping) or not all(torch.is_tensor(value) for value in state.values()):
        raise EarmarkError(f"{shown}: is not a dictionary of tensors. {SAVE_ADVICE}")
    return {str(name): value for name, value in state.items()}


def _without_training_head(state: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the model, without the prefix that distributed training adds."""
    named = {name.removeprefix("module."): value for name, value in state.items()}
    return {name: value for name, value in named.items() if not name.startswith(TRAINING_HEAD)}


def _state_faults(state: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """One line per kind of fault, with the first names."""
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in expected]
    shared = [name for name in expected if name in state]
    shapes = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in shared
        if state[name].shape != expected[name].shape
    ]
    infinite = [name for name in shared if state[name].is_floating_point() and not state[name].isfinite().all()]
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "not finite": infinite,
    }
    return [f"{_count(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _count(names: Sequence[str]) -> str:
    return f"{len(names):,} {'parameter is' if len(names) == 1 else 'parameters are'}"


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:SHOWN]) + (f"; and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")

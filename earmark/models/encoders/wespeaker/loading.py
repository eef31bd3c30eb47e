"""Encoders of the type `wespeaker`: a checkpoint folder, a repository on the Hugging Face hub, or the toolkit."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earmark.errors import MissingError, shown_cause
from earmark.models.encoders import speaker_toolkits
from earmark.models.encoders.base import Array, encoder_key
from earmark.models.encoders.torch_encoder import (
    NetworkEncoder,
    parameters_hash,
    require_encoder_library,
    torch_and_device,
)
from earmark.models.encoders.wespeaker.architectures import ModelConfig
from earmark.models.encoders.wespeaker.checkpoint import (
    CONFIG,
    WEIGHTS,
    OtherArchitectureError,
    load_network,
    read_config,
)
from earmark.models.encoders.wespeaker.front_end import EXTRA, SAMPLE_RATE, filter_bank

HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
HUB_EXTRA = f"{EXTRA} --extra download"


@dataclass
class WeSpeakerEncoder(NetworkEncoder):
    """An encoder of a WeSpeaker checkpoint; `forward` maps features (B, T, mel bins) to embeddings.

    Attributes
    ----------
    config : ModelConfig
        The network.
    """

    config: ModelConfig = field(kw_only=True)

    def prepare(self, waveform: Array) -> Array:
        """Filter bank of one clip, (T, mel bins); AudioError if it is too short for the network."""
        return filter_bank(waveform, self.config.mel_bins, min_frames=self.config.min_frames)


def load_wespeaker(source: str, device: str = "auto", dtype: str = "float32") -> NetworkEncoder:
    """Load a WeSpeaker model.

    SimAM-ResNets and plain ResNets run without the toolkit; other architectures, and models that the toolkit knows by
    name, need it.

    Parameters
    ----------
    source : str
        A folder with avg_model.pt and config.yaml; a repository on the Hugging Face hub, ORG/NAME or
        ORG/NAME@REVISION; or a name known to the toolkit (english, chinese, …).
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    NetworkEncoder
        The encoder.

    Raises
    ------
    MissingError
        If a file or a library is missing, or the toolkit is needed and not installed.
    EarmarkError
        If the checkpoint is invalid.
    """
    if Path(source).is_dir():
        folder, revision = Path(source), ""
    elif source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise MissingError(
            f"{source}: no such folder; give a folder with {CONFIG} and {WEIGHTS}, or ORG/NAME on the Hugging Face hub."
        )
    elif found := HUB_NAME.fullmatch(source):
        folder, revision = download_checkpoint(found["repository"], found["revision"])
    else:
        return speaker_toolkits.load_wespeaker(source, device, dtype)
    try:
        config = read_config(folder)
    except OtherArchitectureError as error:
        return _with_toolkit(folder, device, dtype, error)
    return _encoder(folder, source, revision, config, device, dtype)


def _encoder(
    folder: Path, source: str, revision: str, config: ModelConfig, device: str, dtype: str
) -> WeSpeakerEncoder:
    torch, device = torch_and_device(device, dtype, EXTRA)
    require_encoder_library("kaldi_native_fbank", EXTRA)  # before weights are read
    network = load_network(folder, config).to(device)
    readable = source if revision else folder.resolve().name
    parts: dict[str, Any] = {
        "architecture": config.model,
        "model_args": config.model_args,
        "weights_sha256": parameters_hash(network),
        "dtype": dtype,
        "sample_rate": SAMPLE_RATE,
    }
    description = {"model": readable, **({"revision": revision} if revision else {}), **parts}
    description |= {"device": device, "torch": torch.__version__}
    return WeSpeakerEncoder(
        readable,
        SAMPLE_RATE,
        encoder_key(f"wespeaker-{readable}", **parts),
        description,
        config.dimension,
        network,
        device,
        dtype,
        network=network,
        config=config,
    )


def _with_toolkit(folder: Path, device: str, dtype: str, reason: OtherArchitectureError) -> NetworkEncoder:
    """Load another architecture with the toolkit; if it is not installed, say why it is needed."""
    try:
        return speaker_toolkits.load_wespeaker(str(folder), device, dtype)
    except MissingError as error:
        raise MissingError(f"{reason} For others, the toolkit is needed: {error}") from error


def download_checkpoint(repository: str, revision: str | None = None) -> tuple[Path, str]:
    """Download a checkpoint from the Hugging Face hub, or find it in the hub's cache.

    Parameters
    ----------
    repository : str
        ORG/NAME.
    revision : str, optional
        Commit, tag or branch; the main branch by default.

    Returns
    -------
    folder : Path
        Contains config.yaml and avg_model.pt.
    commit : str

    Raises
    ------
    MissingError
        If huggingface-hub is not installed, the download fails, or the repository has no checkpoint or several.
    """
    hub = require_encoder_library("huggingface_hub", HUB_EXTRA)
    try:
        snapshot = Path(
            hub.snapshot_download(repository, revision=revision, allow_patterns=[f"*{CONFIG}", f"*{WEIGHTS}"])
        )
    except Exception as error:  # the library raises errors of several packages
        raise MissingError(
            f"{repository}: cannot be downloaded from the Hugging Face hub ({type(error).__name__}: "
            f"{shown_cause(error)}); check the name and the connection, or download it and give its folder."
        ) from error
    folders = sorted(path.parent for path in snapshot.rglob(CONFIG) if (path.parent / WEIGHTS).is_file())
    if len(folders) != 1:
        found = ", ".join(path.relative_to(snapshot).as_posix() for path in folders) or "none"
        raise MissingError(
            f"{repository}: expected one folder with {CONFIG} and {WEIGHTS}, found {found}; download the repository "
            "and give the folder."
        )
    return folders[0], snapshot.name

"""Speaker encoders of SpeechBrain, WeSpeaker, pyannote.audio and NeMo, loaded with the code of each toolkit.

The toolkits are not dependencies of this project. Audio is decoded by this project and passed as waveforms.
"""

import contextlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import MissingError
from earmark.files.hashing import files_hash
from earmark.models.encoders.base import encoder_key
from earmark.models.encoders.torch_encoder import (
    NetworkEncoder,
    parameters_hash,
    require_encoder_library,
    torch_and_device,
    weight_files,
)
from earmark.models.torch_runtime import explain_load_errors

RATE = 16_000
# Options of `uv run` per toolkit. SpeechBrain requires torchaudio, whose release can lag behind that of torch.
OPTIONS = {
    "speechbrain": "--with speechbrain --with 'torch<2.12'",
    "wespeaker": "--with 'wespeaker @ git+https://github.com/wenet-e2e/wespeaker' --with 'torch<2.12'",
    "pyannote": "--with pyannote.audio --with 'torch<2.12'",
    "nemo": "--with 'nemo_toolkit[asr]' --with 'torch<2.12'",
}


def load_speechbrain(source: str, device: str = "auto", dtype: str = "float32") -> NetworkEncoder:
    """Load a SpeechBrain EncoderClassifier.

    Parameters
    ----------
    source : str
        Name on the Hugging Face hub, or a folder with hyperparams.yaml.
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    NetworkEncoder
        The encoder.

    Raises
    ------
    MissingError
        If the toolkit is not installed or the model cannot be loaded.
    """
    speaker = _require_toolkit("speechbrain", "speechbrain.inference.speaker")
    torch, device = torch_and_device(device, dtype, OPTIONS["speechbrain"])
    with explain_load_errors(source, "a SpeechBrain EncoderClassifier"):
        # The settings of a downloaded folder refer to the hub for the weights; use those in the folder.
        settings = Path(source) / "hyperparams.yaml"
        refers_to_hub = settings.is_file() and "pretrained_path:" in settings.read_text(encoding="utf-8")
        overrides = {"pretrained_path": str(Path(source).resolve())} if refers_to_hub else {}
        model = speaker.EncoderClassifier.from_hparams(source, overrides=overrides, run_opts={"device": device}).eval()
        rate = int(getattr(model.hparams, "sample_rate", RATE))

    def forward(waveforms: Any) -> Any:
        relative_lengths = torch.ones(len(waveforms), device=waveforms.device)
        return model.encode_batch(waveforms, relative_lengths).squeeze(1)  # (B, 1, D)

    # The classifier is not part of the embedding, and may have random weights.
    weights = parameters_hash(getattr(model.mods, "embedding_model", model))
    return _encoder("speechbrain", source, rate, weights, forward, device, dtype, network=model)


def load_wespeaker(source: str, device: str = "auto", dtype: str = "float32") -> NetworkEncoder:
    """Load a WeSpeaker model.

    Parameters
    ----------
    source : str
        Name (english, chinese, …), or a folder with avg_model.pt and config.yaml.
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    NetworkEncoder
        The encoder.

    Raises
    ------
    MissingError
        If the toolkit is not installed or the model cannot be loaded.
    """
    wespeaker = _require_toolkit("wespeaker", "wespeaker")
    _, device = torch_and_device(device, dtype, OPTIONS["wespeaker"])
    with explain_load_errors(source, "a WeSpeaker model"):
        load = wespeaker.load_model_local if Path(source).is_dir() else wespeaker.load_model
        speaker = load(source)
        if hasattr(speaker, "set_device"):
            speaker.set_device(device)
        else:  # releases before 2024 take a GPU number, −1 for the CPU
            speaker.set_gpu(int(device.partition(":")[2] or 0) if device.startswith("cuda") else -1)
        rate = int(getattr(speaker, "resample_rate", RATE))

    def forward(waveforms: Any) -> Any:
        # WeSpeaker expects samples on the scale of 16-bit integers.
        return speaker.extract_embedding_from_pcm(waveforms.cpu() * 32768.0, rate)

    weights = parameters_hash(speaker.model)
    return _encoder("wespeaker", source, rate, weights, forward, device, dtype, one_at_a_time=True, network=speaker)


def load_pyannote(source: str, device: str = "auto", dtype: str = "float32") -> NetworkEncoder:
    """Load a pyannote.audio embedding model; it embeds whole clips.

    Parameters
    ----------
    source : str
        Name on the Hugging Face hub, or a checkpoint file.
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    NetworkEncoder
        The encoder.

    Raises
    ------
    MissingError
        If the toolkit is not installed, the model cannot be loaded, or its terms on the hub are not accepted.
    """
    audio = _require_toolkit("pyannote", "pyannote.audio")
    _disable_pyannote_telemetry()
    torch, device = torch_and_device(device, dtype, OPTIONS["pyannote"])
    with explain_load_errors(source, "a pyannote.audio model"):
        model = audio.Model.from_pretrained(source)
        if model is None:  # pyannote.audio returns None for a gated model without a token
            raise MissingError(
                f"{source}: cannot be downloaded; accept its terms on the Hugging Face hub and log in with "
                "`uv run hf auth login`."
            )
        model.eval()
        inference = audio.Inference(model, window="whole", device=torch.device(device))
        rate = int(model.hparams.sample_rate) if "sample_rate" in model.hparams else RATE

    def forward(waveforms: Any) -> Any:
        return np.ravel(inference({"waveform": waveforms.cpu(), "sample_rate": rate}))

    weights = parameters_hash(model)
    return _encoder("pyannote", source, rate, weights, forward, device, dtype, one_at_a_time=True, network=model)


def _disable_pyannote_telemetry() -> None:
    """Keep pyannote.audio from sending usage data, which releases from 4.0 do unless told otherwise."""
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("pyannote.audio.telemetry").set_telemetry_metrics(False)


def load_nemo(source: str, device: str = "auto", dtype: str = "float32") -> NetworkEncoder:
    """Load a NeMo speaker model.

    Parameters
    ----------
    source : str
        Name (titanet_large, ecapa_tdnn, …), or a .nemo file.
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    NetworkEncoder
        The encoder.

    Raises
    ------
    MissingError
        If the toolkit is not installed or the model cannot be loaded.
    """
    asr = _require_toolkit("nemo", "nemo.collections.asr")
    torch, device = torch_and_device(device, dtype, OPTIONS["nemo"])
    with explain_load_errors(source, "a NeMo speaker model"):
        kind = asr.models.EncDecSpeakerLabelModel
        if source.endswith(".nemo"):
            model = kind.restore_from(source, map_location=torch.device(device))
        else:
            model = kind.from_pretrained(model_name=source, map_location=torch.device(device))
        model.to(device).eval()
        rate = int(model.cfg.preprocessor.sample_rate)

    def forward(waveforms: Any) -> Any:
        lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        _, embeddings = model.forward(input_signal=waveforms, input_signal_length=lengths)
        return embeddings

    return _encoder("nemo", source, rate, parameters_hash(model), forward, device, dtype, network=model)


def _require_toolkit(kind: str, module: str) -> Any:
    return require_encoder_library(module, OPTIONS[kind])


def _encoder(
    kind: str, source: str, rate: int, weights: str, forward: Any, device: str, dtype: str, **options: Any
) -> NetworkEncoder:
    local = Path(source).exists()
    readable = Path(source).resolve().name if local else source
    parts = {"toolkit": kind, "version": _version(kind), "weights_sha256": weights, "dtype": dtype, "sample_rate": rate}
    if Path(source).is_dir():  # feature statistics and settings are not parameters of the network
        files = [*weight_files(Path(source)), *Path(source).glob("*.yaml")]
        parts["folder_sha256"] = files_hash(files, Path(source))
    description = {"model": readable, **parts, "device": device}
    name = encoder_key(f"{kind}-{readable}", **parts)
    return NetworkEncoder(readable, rate, name, description, None, forward, device, dtype, **options)


def _version(kind: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    package = {"pyannote": "pyannote.audio", "nemo": "nemo_toolkit"}.get(kind, kind)
    try:
        return version(package)
    except PackageNotFoundError:  # not installed, imported from a source tree
        return "unknown"

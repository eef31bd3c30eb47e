"""Speech encoders of transformers: wav2vec 2.0, HuBERT, WavLM, data2vec, w2v-BERT, Whisper encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import MissingError
from earmark.models.batching import embed_by_length, map_by_length, split_into_windows
from earmark.models.encoders.base import Array, Encoder, encoder_key
from earmark.models.encoders.torch_encoder import (
    parameters_hash,
    require_encoder_library,
    torch_and_device,
    white_noise,
)
from earmark.models.torch_runtime import dtype_option, explain_load_errors, load_complete_model, quiet_transformers

OPTIONS = "--extra clap"


@dataclass
class WindowInputs:
    """Features of one window of a clip.

    Attributes
    ----------
    inputs : dict of arrays
        Output of the feature extractor.
    audio_fraction : float
        Fraction of the window that is audio, not padding.
    samples : int
        Length of the audio in samples.
    """

    inputs: dict[str, Any]
    audio_fraction: float
    samples: int

    @property
    def shape(self) -> str:
        """Equal for windows that can share a batch."""
        return str([value.shape for value in self.inputs.values()]) + str(self.audio_fraction)


@dataclass
class HuggingFaceEncoder(Encoder):
    """The mean over frames of the last hidden state, without padding.

    A clip longer than a window is split into as few windows as possible. Their means are weighted by length; their
    frames are concatenated. Batches contain only windows of equal length. The layers are the hidden states: the input
    of the first transformer layer and the output of each layer.

    Attributes
    ----------
    network : transformers model
        The encoder.
    extractor : transformers feature extractor
        Converts waveforms to model inputs.
    device : str
        The device of the network.
    window_seconds : float or None
        Input length of the model; None for any length.
    """

    network: Any
    extractor: Any
    device: str
    window_seconds: float | None

    @property
    def has_frames(self) -> bool:
        """Always true."""
        return True

    @cached_property
    def hop_seconds(self) -> float | None:
        """Time between frames in seconds, measured with noise.

        With a fixed window, its length divided by its number of frames. Otherwise 5 s divided by the extra frames of
        10 s compared with 5 s, which is exact if 5 s are a multiple of the hop; None if there are no extra frames.
        """
        if self.window_seconds:
            (window,) = self.prepare(white_noise(self.window_seconds, self.sample_rate))
            return self.window_seconds / self._states([window])[-1].shape[1]
        short, long = (
            self._states(self.prepare(white_noise(seconds, self.sample_rate)))[-1].shape[1] for seconds in (5.0, 10.0)
        )
        return 5.0 / (long - short) if long > short else None

    @property
    def layers(self) -> int:
        """Number of transformer layers plus one for their input."""
        return int(self.network.config.num_hidden_layers) + 1

    def prepare(self, waveform: Array) -> list[WindowInputs]:
        """Compute the features of each window separately."""
        return [
            self._window_inputs(window)
            for window in split_into_windows(waveform, self.sample_rate, self.window_seconds)
        ]

    def _window_inputs(self, waveform: Array) -> WindowInputs:
        features = self.extractor(np.asarray(waveform), sampling_rate=self.sample_rate, return_tensors="np")
        audio_fraction = 1.0
        if self.window_seconds:
            audio_fraction = min(1.0, len(waveform) / (self.window_seconds * self.sample_rate))
        return WindowInputs(
            {name: np.asarray(value) for name, value in features.items()}, audio_fraction, len(waveform)
        )

    def embed_prepared(self, prepared: Sequence[list[WindowInputs]]) -> Array:
        """(n, d) means over the windows of each clip."""
        return self._averaged(prepared, self._batch)

    def layers_prepared(self, prepared: Sequence[list[WindowInputs]]) -> Array:
        """(n, L·D) means of all hidden states; the last D values are the embedding."""
        return self._averaged(prepared, self._layers)

    def frames_prepared(self, prepared: Sequence[list[WindowInputs]]) -> list[Array]:
        """Frames of the last hidden state, concatenated over the windows of each clip."""
        windows = [window for clip in prepared for window in clip]
        frames = iter(map_by_length(windows, lambda window: window.shape, self._frames))
        return [np.concatenate([next(frames) for _ in clip]) for clip in prepared]

    def _averaged(
        self, prepared: Sequence[list[WindowInputs]], embed: Callable[[Sequence[WindowInputs]], Array]
    ) -> Array:
        windows = [window for clip in prepared for window in clip]
        vectors = iter(embed_by_length(windows, lambda window: window.shape, embed))
        embeddings = []
        for clip in prepared:
            means = np.stack([next(vectors) for _ in clip]).astype(np.float64)
            embeddings.append(np.average(means, axis=0, weights=[window.samples for window in clip]))
        return np.stack(embeddings).astype(np.float32)

    def _batch(self, windows: Sequence[WindowInputs]) -> Array:
        return self._mean(self._states(windows)[-1], windows)

    def _layers(self, windows: Sequence[WindowInputs]) -> Array:
        return np.concatenate([self._mean(state, windows) for state in self._states(windows, all_layers=True)], axis=1)

    def _frames(self, windows: Sequence[WindowInputs]) -> list[Array]:
        frames = self._states(windows)[-1].float()
        return list(np.asarray(frames[:, : _audio_frames(frames, windows)].cpu().numpy(), dtype=np.float32))

    def _mean(self, state: Any, windows: Sequence[WindowInputs]) -> Array:
        frames = state.float()
        return np.asarray(frames[:, : _audio_frames(frames, windows)].mean(dim=1).cpu().numpy(), dtype=np.float32)

    def _states(self, windows: Sequence[WindowInputs], all_layers: bool = False) -> list[Any]:
        """(n, T', D) hidden states of windows of equal length: the last one or all."""
        torch = require_encoder_library("torch", OPTIONS)
        inputs = {
            name: torch.from_numpy(np.concatenate([p.inputs[name] for p in windows])) for name in windows[0].inputs
        }
        inputs = {
            name: value.to(self.device, self.network.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            output = self.network(**inputs, **({"output_hidden_states": True} if all_layers else {}))
        # Some models have a norm or an adapter after the last layer; only last_hidden_state includes it.
        return [*(output.hidden_states[:-1] if all_layers else ()), output.last_hidden_state]


def _audio_frames(frames: Any, windows: Sequence[WindowInputs]) -> int:
    """Number of frames of audio, not padding, in windows of equal length."""
    return max(1, int(np.ceil(frames.shape[1] * windows[0].audio_fraction)))


def load(name: str, device: str = "auto", dtype: str = "float32") -> HuggingFaceEncoder:
    """Load a speech encoder with transformers.

    Parameters
    ----------
    name : str
        Folder, or name on the Hugging Face hub.
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    HuggingFaceEncoder
        The encoder.

    Raises
    ------
    MissingError
        If the model cannot be loaded, or its feature extractor pads clips to a fixed length without declaring it.
    """
    _, device = torch_and_device(device, dtype, OPTIONS)
    transformers = require_encoder_library("transformers", OPTIONS)
    if not Path(name).exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise MissingError(f"{name}: no such folder; give the folder of a model, or a name on the Hugging Face hub.")
    with explain_load_errors(name, "a speech encoder of transformers"), quiet_transformers():
        extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
        network = load_complete_model(transformers.AutoModel, name, **dtype_option(dtype))
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        network.to(device).eval()
        rate = int(extractor.sampling_rate)
    seconds = extractor.n_samples / rate if hasattr(extractor, "n_samples") else None
    readable = Path(name).resolve().name if Path(name).is_dir() else name
    parts = {
        "weights_sha256": parameters_hash(network),
        "config": {k: v for k, v in network.config.to_dict().items() if k not in ("_name_or_path", "dtype")},
        "extractor": extractor.to_dict(),
        "dtype": dtype,
        "transformers": transformers.__version__,
    }
    revision = getattr(network.config, "_commit_hash", None)  # of a model from the hub
    description = {
        "model": readable,
        "kind": network.config.model_type,
        **({"revision": revision} if revision else {}),
        "weights_sha256": parts["weights_sha256"],
        "dtype": dtype,
        "device": device,
        "sample_rate": rate,
        "window_seconds": seconds,
        "transformers": transformers.__version__,
    }
    encoder = HuggingFaceEncoder(
        readable, rate, encoder_key(f"hf-{readable}", **parts), description, None, network, extractor, device, seconds
    )
    _require_known_padding(encoder, name)
    return encoder


def _require_known_padding(encoder: HuggingFaceEncoder, name: str) -> None:
    """MissingError if the feature extractor pads without declaring it: padding would be part of the mean."""
    with explain_load_errors(name, "a speech encoder of transformers"):
        sound = white_noise(2.0, encoder.sample_rate)
        short, long = encoder.prepare(sound[: encoder.sample_rate])[0], encoder.prepare(sound)[0]
        encoder.require_shape(encoder.embed_prepared([[long]]), 1)
    if encoder.window_seconds is None and short.shape == long.shape:
        raise MissingError(
            f"{name}: its feature extractor pads every clip to a fixed length, which is supported for Whisper only; "
            "wrap the model in a Python file (FILE.py) instead."
        )

"""Speech encoders of transformers: wav2vec 2.0, HuBERT, WavLM, data2vec, w2v-BERT, Whisper's encoder."""

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
class Piece:
    """A window of a clip as the feature extractor made it. real: the share of it that is audio and not padding."""

    inputs: dict[str, Any]
    real: float
    samples: int

    @property
    def shape(self) -> str:
        """What pieces that share a batch have in common."""
        return str([value.shape for value in self.inputs.values()]) + str(self.real)


@dataclass
class HuggingFaceEncoder(Encoder):
    """The mean over real frames of the last hidden state.

    window_seconds: what the model hears at once, None for any length. A longer clip is cut into the fewest windows,
    whose means are weighted by their length and whose frames follow one another. Only pieces of one length share a
    batch. Layers are the hidden states: what goes into the first transformer layer, then what comes out of each.
    """

    network: Any
    extractor: Any
    device: str
    window_seconds: float | None

    @property
    def has_frames(self) -> bool:
        """Always."""
        return True

    @cached_property
    def hop_seconds(self) -> float | None:
        """By how much five seconds more of noise make more frames: exact for hops of which 5 s is a multiple."""
        if self.window_seconds:
            (piece,) = self.prepare(white_noise(self.window_seconds, self.sample_rate))
            return self.window_seconds / self._states([piece])[-1].shape[1]
        short, long = (
            self._states(self.prepare(white_noise(seconds, self.sample_rate)))[-1].shape[1] for seconds in (5.0, 10.0)
        )
        return 5.0 / (long - short) if long > short else None

    @property
    def layers(self) -> int:
        """The transformer layers and their input."""
        return int(self.network.config.num_hidden_layers) + 1

    def prepare(self, waveform: Array) -> list[Piece]:
        """Each window through the feature extractor, alone."""
        return [self._piece(piece) for piece in split_into_windows(waveform, self.sample_rate, self.window_seconds)]

    def _piece(self, waveform: Array) -> Piece:
        found = self.extractor(np.asarray(waveform), sampling_rate=self.sample_rate, return_tensors="np")
        real = 1.0
        if self.window_seconds:
            real = min(1.0, len(waveform) / (self.window_seconds * self.sample_rate))
        return Piece({name: np.asarray(value) for name, value in found.items()}, real, len(waveform))

    def embed_prepared(self, prepared: Sequence[list[Piece]]) -> Array:
        """All pieces, those of one length together, then the mean of each clip's."""
        return self._averaged(prepared, self._batch)

    def layers_prepared(self, prepared: Sequence[list[Piece]]) -> Array:
        """The same of all hidden states, side by side, of which the last is the embedding."""
        return self._averaged(prepared, self._layers)

    def frames_prepared(self, prepared: Sequence[list[Piece]]) -> list[Array]:
        """The last hidden state's real frames of each piece of a clip, one after the other."""
        pieces = [piece for clip in prepared for piece in clip]
        frames = iter(map_by_length(pieces, lambda piece: piece.shape, self._frames))
        return [np.concatenate([next(frames) for _ in clip]) for clip in prepared]

    def _averaged(self, prepared: Sequence[list[Piece]], embed: Callable[[Sequence[Piece]], Array]) -> Array:
        pieces = [piece for clip in prepared for piece in clip]
        vectors = iter(embed_by_length(pieces, lambda piece: piece.shape, embed))
        found = []
        for clip in prepared:
            own = np.stack([next(vectors) for _ in clip]).astype(np.float64)
            found.append(np.average(own, axis=0, weights=[piece.samples for piece in clip]))
        return np.stack(found).astype(np.float32)

    def _batch(self, pieces: Sequence[Piece]) -> Array:
        return self._mean(self._states(pieces)[-1], pieces)

    def _layers(self, pieces: Sequence[Piece]) -> Array:
        return np.concatenate([self._mean(state, pieces) for state in self._states(pieces, all_layers=True)], axis=1)

    def _frames(self, pieces: Sequence[Piece]) -> list[Array]:
        frames = self._states(pieces)[-1].float()
        return list(np.asarray(frames[:, : _real(frames, pieces)].cpu().numpy(), dtype=np.float32))

    def _mean(self, state: Any, pieces: Sequence[Piece]) -> Array:
        frames = state.float()
        return np.asarray(frames[:, : _real(frames, pieces)].mean(dim=1).cpu().numpy(), dtype=np.float32)

    def _states(self, pieces: Sequence[Piece], all_layers: bool = False) -> list[Any]:
        """(n, T', D) hidden states of pieces of one length: the last one, or all."""
        torch = require_encoder_library("torch", OPTIONS)
        inputs = {name: torch.from_numpy(np.concatenate([p.inputs[name] for p in pieces])) for name in pieces[0].inputs}
        inputs = {
            name: value.to(self.device, self.network.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            found = self.network(**inputs, **({"output_hidden_states": True} if all_layers else {}))
        # What follows the last layer in some models, a norm or an adapter, is part of the last state alone.
        return [*(found.hidden_states[:-1] if all_layers else ()), found.last_hidden_state]


def _real(frames: Any, pieces: Sequence[Piece]) -> int:
    """How many frames of pieces that have one length are audio."""
    return max(1, int(np.ceil(frames.shape[1] * pieces[0].real)))


def load(name: str, device: str = "auto", dtype: str = "float32") -> HuggingFaceEncoder:
    """The encoder of a folder or a name on the hub. Raises MissingError with the reason where it cannot be loaded."""
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
    described = {
        "model": readable,
        "kind": network.config.model_type,
        "weights_sha256": parts["weights_sha256"],
        "dtype": dtype,
        "device": device,
        "sample_rate": rate,
        "window_seconds": seconds,
        "transformers": transformers.__version__,
    }
    found = HuggingFaceEncoder(
        readable, rate, encoder_key(f"hf-{readable}", **parts), described, None, network, extractor, device, seconds
    )
    _require_free_length(found, name)
    return found


def _require_free_length(encoder: HuggingFaceEncoder, name: str) -> None:
    """Make sure that padding is known: an extractor that pads to one length without saying so would dilute clips."""
    with explain_load_errors(name, "a speech encoder of transformers"):
        sound = white_noise(2.0, encoder.sample_rate)
        short, long = encoder.prepare(sound[: encoder.sample_rate])[0], encoder.prepare(sound)[0]
        encoder.require_shape(encoder.embed_prepared([[long]]), 1)
    if encoder.window_seconds is None and short.shape == long.shape:
        raise MissingError(
            f"{name}: its feature extractor pads every clip to one length, which this adapter knows only of Whisper; "
            "wrap the model into a Python file (FILE.py) instead."
        )

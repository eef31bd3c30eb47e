"""What encoders that run a network share: toolkits, hashes of weights, equal-length batches, means."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark import optional
from earmark.errors import EarmarkError, shown_cause
from earmark.models.batching import concatenate_batches, embed_by_length, map_by_length
from earmark.models.encoders.base import Array, Encoder
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest
from earmark.models.torch_runtime import WEIGHT_SUFFIXES, resolve_device

Times = NDArray[np.float64]

# A model may lose or gain frames at the edges of a clip (two) or to windows and strides (a tenth); one whose frames
# differ by more than that from what its hop implies declares a hop that is not its own.
FRAMES_OF_HOP, FRAMES_AT_EDGES = 0.1, 2
HOP_PROBE_SECONDS = 4.0  # of noise, whose timestamps tell the hop: enough for a few frames of models with long ones


def require_encoder_library(name: str, options: str) -> Any:
    """A module that is not among the base dependencies. options: of `uv run`, that supply it."""
    return optional.require_library(name, options, "This encoder")


def torch_and_device(device: str, dtype: str, options: str = "--extra torch") -> tuple[Any, str]:
    """torch, and the device that `auto` stands for."""
    torch = require_encoder_library("torch", options)
    return torch, resolve_device(device, dtype)


def parameters_hash(network: Any) -> str:
    """16 hex digits over the names, types, shapes and numbers of a network's parameters and buffers."""
    torch = require_encoder_library("torch", "--extra torch")
    digest = sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        if torch.is_tensor(value):
            values = value.detach().cpu().contiguous()
            digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def weight_files(folder: Path) -> list[Path]:
    """Files right in a folder that hold weights."""
    suffixes = {*WEIGHT_SUFFIXES, ".ckpt", ".onnx", ".nemo", ".npz", ".h5"}
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in suffixes)


@dataclass
class NetworkEncoder(Encoder):
    """An encoder around a function of a batch of waveforms.

    forward: (B, T) float32 tensor on the device → (B, D), or (B, T', D) whose mean over frames counts. Only clips of
    one length share a batch, so nothing is ever padded. network: what a torch module has to be kept for.
    """

    forward: Callable[[Any], Any]
    device: str
    dtype: str = "float32"
    one_at_a_time: bool = False
    network: Any = field(default=None, repr=False)

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """Clips of as many samples together."""
        if self.one_at_a_time:
            return concatenate_batches([self._batch([clip]) for clip in prepared])
        return embed_by_length(prepared, len, self._batch)

    def _batch(self, clips: Sequence[Array]) -> Array:
        return as_embeddings(self.run(self.forward, clips), len(clips))

    def run(self, forward: Callable[[Any], Any], clips: Sequence[Array]) -> Any:
        """What a function of a batch of waveforms gives for clips of one length."""
        torch = require_encoder_library("torch", "--extra torch")
        waveforms = torch.from_numpy(np.stack(clips)).to(self.device)
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        with (
            contextlib.redirect_stdout(sys.stderr),
            torch.inference_mode(),
            torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32),
        ):
            return forward(waveforms)

    def run_on_noise(self, forward: Callable[[Any], Any], seconds: float = 1.0) -> Any:
        """What it gives for noise of some length. EarmarkError where it fails on it."""
        try:
            return self.run(forward, [white_noise(seconds, self.sample_rate)])
        except Exception as error:  # whatever a user's model raises
            raise EarmarkError(f"{self.name}: fails on {seconds:g} s of noise ({shown_cause(error)}).") from error


@dataclass
class XaresEncoder(NetworkEncoder):
    """forward: (B, T) → frames (B, T', D), or a list or tuple of such frames, one for each layer.

    hop: seconds from frame to frame, as the file declares it. The last layer is the one whose mean is the embedding.
    """

    hop: float = 0.01

    @property
    def has_frames(self) -> bool:
        """Always: the contract asks for them."""
        return True

    @property
    def hop_seconds(self) -> float:
        """As declared."""
        return self.hop

    @cached_property
    def layers(self) -> int:
        """What a second of noise comes out as."""
        return len(layer_outputs(self.run_on_noise(self.forward)))

    def _batch(self, clips: Sequence[Array]) -> Array:
        return as_embeddings(layer_outputs(self.run(self.forward, clips))[-1], len(clips))

    def layers_prepared(self, prepared: Sequence[Array]) -> Array:
        """The mean of each layer over its frames, side by side."""
        return embed_by_length(prepared, len, self._layers)

    def _layers(self, clips: Sequence[Array]) -> Array:
        found = layer_outputs(self.run(self.forward, clips))
        return np.concatenate([as_embeddings(layer, len(clips)) for layer in found], axis=1)

    def frames_prepared(self, prepared: Sequence[Array]) -> list[Array]:
        """Of clips of as many samples together. ValueError where their number is not what the declared hop implies."""
        return map_by_length(prepared, len, self._frames)

    def _frames(self, clips: Sequence[Array]) -> list[Array]:
        found = as_frames(layer_outputs(self.run(self.forward, clips))[-1], len(clips))
        seconds = len(clips[0]) / self.sample_rate
        implied = seconds / self.hop
        if abs(found.shape[1] - implied) > FRAMES_OF_HOP * implied + FRAMES_AT_EDGES:
            raise ValueError(
                f"gave {found.shape[1]} frames for {seconds:.2f} s, where its hop of {1000 * self.hop:g} ms implies "
                f"about {implied:.0f}"
            )
        return list(found)


@dataclass
class HearEncoder(NetworkEncoder):
    """forward: scene embeddings. timestamps: (B, T) → frames (B, T', D) and their times in ms, (B, T')."""

    timestamps: Callable[[Any], tuple[Any, Any]] = field(kw_only=True)
    frame_dimension: int | None = None

    @property
    def has_frames(self) -> bool:
        """Always: the contract asks for them."""
        return True

    @cached_property
    def hop_seconds(self) -> float | None:
        """The median step between the timestamps of four seconds of noise; None for a single one.

        EarmarkError where they are no times in milliseconds. The store asks for the hop before it looks up frames, so
        a module whose times are wrong is refused even where no clip has to be heard.
        """
        output = self.run_on_noise(self.timestamps, HOP_PROBE_SECONDS)
        try:
            times = self._timed(output, 1, HOP_PROBE_SECONDS)[1]
        except (ValueError, TypeError) as error:
            raise EarmarkError(f"{self.name}: {error}.") from error
        return median_step(times) / 1000 if len(times) > 1 else None

    def width(self, request: EmbeddingRequest = DEFAULT_REQUEST) -> int | None:
        """Frames may have another dimension than scenes."""
        return self.frame_dimension if request.frames else super().width(request)

    def frames_prepared(self, prepared: Sequence[Array]) -> list[Array]:
        """Timestamp embeddings of clips of as many samples together. ValueError where their times do not fit them."""
        return map_by_length(prepared, len, self._frames)

    def _frames(self, clips: Sequence[Array]) -> list[Array]:
        output = self.run(self.timestamps, clips)
        return list(self._timed(output, len(clips), len(clips[0]) / self.sample_rate)[0])

    def _timed(self, output: Any, n: int, seconds: float) -> tuple[Array, Times]:
        """(n, T', D) frames and (T') ms of what the module gave for n clips of one length. ValueError as `wrong_times`.

        Times may be given once for all clips of a batch.
        """
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise ValueError("get_timestamp_embeddings gave no pair of frames and timestamps")
        frames = as_frames(output[0], n)
        times = np.atleast_2d(as_float64(output[1]))
        if times.shape not in {(n, frames.shape[1]), (1, frames.shape[1])}:
            raise ValueError(f"timestamps of shape {times.shape} for frames of shape {frames.shape}; (n, frames)")
        for row in times:
            if fault := timestamps_fault(row, seconds, self.sample_rate):
                raise ValueError(fault)
        return frames, times[0]


def timestamps_fault(times: Times, seconds: float, rate: int) -> str:
    """What is wrong with the timestamps of a clip's frames, in words; empty where they are milliseconds.

    times: (T',). seconds: length of the clip. rate: Hz. A single time is not judged: it may stand for any frame.

    >>> wrong_times(0.02 * np.arange(200), 4.0, 16_000)
    'timestamps end at 3.98 for a clip of 4.00 s: they look like seconds; HEAR asks for milliseconds'
    >>> wrong_times(20.0 * np.arange(200), 4.0, 16_000)
    ''
    """
    if not np.isfinite(times).all():
        return "timestamps are not finite; HEAR asks for milliseconds"
    if len(times) < 2 or _times_span_clip(times, 1000 * seconds):
        return ""
    said = f"timestamps end at {times[-1]:.6g} for a clip of {seconds:.2f} s"
    units = {"seconds": seconds, "samples": seconds * rate, "microseconds": 1e6 * seconds}
    looks = next((f"look like {unit}" for unit, length in units.items() if _times_span_clip(times, length)), "")
    if not looks and (np.diff(times) == 1).all():
        looks = "look like numbers of frames"
    if looks:
        return f"{said}: they {looks}; HEAR asks for milliseconds"
    return (
        f"{said}, {len(times):,} of them with a hop of {median_step(times):.6g}; HEAR asks for times in milliseconds "
        "that rise from the start to the end of the clip"
    )


def _times_span_clip(times: Times, length: float) -> bool:
    """Whether rising times are those of frames that a clip of a length, in their unit, is full of."""
    if (np.diff(times) <= 0).any():
        return False
    implied, apart = length / median_step(times), length / len(times)
    full = abs(len(times) - implied) <= FRAMES_OF_HOP * implied + FRAMES_AT_EDGES
    return full and abs(float(times[-1]) - length) <= FRAMES_OF_HOP * length + FRAMES_AT_EDGES * apart


def median_step(times: Times) -> float:
    """The median step from time to time."""
    return float(np.median(np.diff(times)))


def layer_outputs(output: Any) -> Sequence[Any]:
    """The layers that a model gave: all of a list or tuple, or the one."""
    if isinstance(output, (list, tuple)):
        if not output:
            raise ValueError("the model gave no layers")
        return output
    return [output]


def as_float64(output: Any) -> Times:
    """What a model gave, in float64: a long clip's times in ms need more digits than float32 has."""
    return np.asarray(output.detach().cpu().double().numpy() if hasattr(output, "detach") else output, dtype=np.float64)


def as_float32(output: Any) -> Array:
    """What a model gave, in float32."""
    output = output.detach().float().cpu().numpy() if hasattr(output, "detach") else output
    return np.asarray(output, dtype=np.float32)


def as_frames(output: Any, n: int) -> Array:
    """(n, T', D) frames of what a model gave for n clips of one length."""
    found = as_float32(output)
    if found.ndim != 3 or len(found) != n:
        raise ValueError(f"the model gave an array of shape {found.shape} for {n} clips; frames are (n, frames, d)")
    if not found.shape[1]:
        raise ValueError("the clip is too short for a single frame")
    return found


def as_embeddings(output: Any, n: int) -> Array:
    """(n, D) numbers of what a model gave for n clips: (n, D), (D) for one clip, or frames (n, T', D), averaged."""
    found = as_float32(output)
    if found.ndim == 3 and len(found) == n:
        return as_frames(found, n).mean(axis=1, dtype=np.float64).astype(np.float32)
    if found.ndim == 1 and n == 1:
        return found[None]
    if found.ndim != 2 or len(found) != n:
        raise ValueError(f"the model gave an array of shape {found.shape} for {n} clips; (n, d) or (n, frames, d)")
    return found


def white_noise(seconds: float, rate: int) -> Array:
    """White noise, the same each time, to see what a model makes of audio."""
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)

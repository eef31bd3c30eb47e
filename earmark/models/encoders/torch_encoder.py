"""Helpers for encoders that run a network: imports, weight hashes, batches of equal length, frames and means."""

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
from earmark.standard_output import stdout_to_stderr

Times = NDArray[np.float64]

# Tolerance between the number of frames and the declared hop: 10 % for windows and strides, plus two frames at the
# edges of the clip.
FRAMES_OF_HOP, FRAMES_AT_EDGES = 0.1, 2
HOP_PROBE_SECONDS = 4.0  # of noise to measure the hop; enough for a few frames of a long hop
# Lengths of noise whose numbers of frames give an undeclared hop. Models with inputs of 30 s take both.
SHORT_PROBE_SECONDS, LONG_PROBE_SECONDS = 2.0, 22.0


def require_encoder_library(name: str, options: str) -> Any:
    """Import a library that an encoder needs beyond the base dependencies.

    Parameters
    ----------
    name : str
        Module name.
    options : str
        Options of `uv run` that install it, for the message.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingError
        If the library is not installed or cannot be imported.
    """
    return optional.require_library(name, options, "This encoder")


def torch_and_device(device: str, dtype: str, options: str = "--extra torch") -> tuple[Any, str]:
    """Import torch and resolve the device; arguments and errors as in `resolve_device`."""
    torch = require_encoder_library("torch", options)
    return torch, resolve_device(device, dtype)


def parameters_hash(network: Any) -> str:
    """Hash names, types, shapes and values of the parameters and buffers of a network to 16 hexadecimal digits."""
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
    """Weight files in a folder, without subfolders, sorted by name."""
    suffixes = {*WEIGHT_SUFFIXES, ".ckpt", ".onnx", ".nemo", ".npz", ".h5"}
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in suffixes)


@dataclass
class NetworkEncoder(Encoder):
    """An encoder that calls a function with a batch of waveforms.

    Batches contain only clips of equal length, so no clip is padded.

    Attributes
    ----------
    forward : callable
        Maps a (B, T) float32 tensor on the device to embeddings (B, D), or frames (B, T', D), which are averaged.
    device, dtype : str
        As in `load_encoder`; autocast is used for other types than float32.
    one_at_a_time : bool
        If true, the batch size is 1.
    network : Any
        The model behind `forward`.
    """

    forward: Callable[[Any], Any]
    device: str
    dtype: str = "float32"
    one_at_a_time: bool = False
    network: Any = field(default=None, repr=False)

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """(n, d) embeddings, batched by number of samples."""
        if self.one_at_a_time:
            return concatenate_batches([self._batch([clip]) for clip in prepared])
        return embed_by_length(prepared, len, self._batch)

    def _batch(self, clips: Sequence[Array]) -> Array:
        return as_embeddings(self.run(self.forward, clips), len(clips))

    def run(self, forward: Callable[[Any], Any], clips: Sequence[Array]) -> Any:
        """Call a function with a batch of clips of equal length."""
        torch = require_encoder_library("torch", "--extra torch")
        waveforms = torch.from_numpy(np.stack(clips)).to(self.device)
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        with (
            stdout_to_stderr(),
            torch.inference_mode(),
            torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32),
        ):
            return forward(waveforms)

    def run_on_noise(self, forward: Callable[[Any], Any], seconds: float = 1.0) -> Any:
        """Call a function with white noise; EarmarkError if it fails."""
        try:
            return self.run(forward, [white_noise(seconds, self.sample_rate)])
        except Exception as error:  # user code may raise anything
            raise EarmarkError(f"{self.name}: fails on {seconds:g} s of noise ({shown_cause(error)}).") from error


@dataclass(frozen=True)
class FrameOutput:
    """Output of an X-ARES or XARES-LLM class for a batch of n clips.

    Attributes
    ----------
    layers : sequence of tensors or arrays
        One (n, T', D) output per layer.
    n : int
        Number of clips.
    mask : (n, T') bool or None
        True for the frames that belong to the clip; None if all do.
    """

    layers: Sequence[Any]
    n: int
    mask: NDArray[np.bool_] | None = None

    def frames(self) -> list[Array]:
        """Frames (T', D) of the last layer of each clip without masked frames; ValueError for invalid shapes."""
        return self._unmasked(self.layers[-1])

    def means(self, layer: Any) -> Array:
        """(n, D) means of a layer over the frames of each clip; ValueError for invalid shapes."""
        if self.mask is None:
            return as_embeddings(layer, self.n)
        means = [frames.mean(axis=0, dtype=np.float64) for frames in self._unmasked(layer)]
        return np.stack(means).astype(np.float32)

    def _unmasked(self, layer: Any) -> list[Array]:
        frames = as_frames(layer, self.n)
        if self.mask is None:
            return list(frames)
        if self.mask.shape != frames.shape[:2]:
            raise ValueError(
                f"the model returned a mask of shape {self.mask.shape} for features of shape {frames.shape}; expected "
                "one entry per frame, or None"
            )
        if not self.mask.any(axis=1).all():
            raise ValueError("the clip is too short for a single frame: the model masks all frames")
        return [clip[real] for clip, real in zip(frames, self.mask, strict=True)]


def frame_output(output: Any, n: int, takes_mask: bool) -> FrameOutput:
    """Layers and mask of the output of an X-ARES or XARES-LLM class for n clips.

    Parameters
    ----------
    output : Any
        X-ARES: frames, or a list or tuple of them, one per layer. XARES-LLM: a pair of these and of a mask over
        frames, 1 for frames of the clip and 0 for padding, or None.
    n : int
        Number of clips.
    takes_mask : bool
        Whether the class has the XARES-LLM interface.

    Raises
    ------
    ValueError
        If the output has another form.

    Examples
    --------
    >>> frame_output((np.ones((1, 3, 2)), np.array([[1, 1, 0]])), 1, takes_mask=True).frames()[0].shape
    (2, 2)
    """
    if not takes_mask:
        return FrameOutput(layer_outputs(output), n)
    if not isinstance(output, (list, tuple)) or len(output) != 2:
        raise ValueError(f"forward(audio, mask) returned {_kind(output)}; expected a pair (features, mask or None)")
    features, mask = output
    return FrameOutput(layer_outputs(features), n, None if mask is None else _as_mask(mask))


def _kind(output: Any) -> str:
    """Type or shape of an output, for messages."""
    if hasattr(output, "shape"):
        return f"shape {tuple(output.shape)}"
    name = type(output).__name__
    return f"a {name} of {len(output)}" if isinstance(output, (list, tuple)) else f"a {name}"


def _as_mask(mask: Any) -> NDArray[np.bool_]:
    values = as_float32(mask)
    if values.ndim != 2 or not np.isin(values, (0, 1)).all():
        raise ValueError(f"the mask over frames has shape {values.shape}; expected 0 and 1 for every clip and frame")
    return values.astype(bool)


def sample_mask(waveforms: Any, n_samples: Sequence[int] | None = None) -> Any:
    """Mask over samples as XARES-LLM passes it: 1 for samples of the clip, 0 for padding.

    Parameters
    ----------
    waveforms : (B, T) tensor
        Clips.
    n_samples : sequence of int, optional
        Length of each clip without padding; T by default.

    Returns
    -------
    (B, T) int32 tensor
        The mask, on the device of the waveforms.
    """
    torch = require_encoder_library("torch", "--extra torch")
    mask = torch.ones(waveforms.shape, dtype=torch.int32, device=waveforms.device)
    for row, length in zip(mask, n_samples or (), strict=False):
        row[length:] = 0
    return mask


@dataclass
class XaresEncoder(NetworkEncoder):
    """An encoder with the X-ARES interface, or with that of XARES-LLM.

    X-ARES: `forward` maps (B, T) to frames (B, T', D), or to a list or tuple of them, one per layer. The embedding is
    the mean over frames of the last layer. XARES-LLM: `forward` returns a pair of these and of a mask over frames;
    masked frames are dropped.

    Attributes
    ----------
    hop : float or None
        Declared time between frames in seconds; None if the class declares none.
    takes_mask : bool
        Whether the class has the XARES-LLM interface. `forward` takes the waveforms alone in both cases.
    """

    hop: float | None = 0.01
    takes_mask: bool = False

    @property
    def has_frames(self) -> bool:
        """Always true."""
        return True

    @cached_property
    def hop_seconds(self) -> float | None:
        """The declared hop, or the hop that follows from the numbers of frames of two lengths of noise.

        None if it is not declared and the number of frames does not grow with the clip.
        """
        if self.hop is not None:
            return self.hop
        try:
            short, long = (self.count_frames(seconds) for seconds in (SHORT_PROBE_SECONDS, LONG_PROBE_SECONDS))
        except ValueError as error:
            raise EarmarkError(f"{self.name}: {error}.") from error
        return implied_hop(short, long, LONG_PROBE_SECONDS - SHORT_PROBE_SECONDS)

    def count_frames(self, seconds: float) -> int:
        """Number of frames for noise of a length in seconds; EarmarkError if the model fails."""
        output = self.run_on_noise(self.forward, seconds)
        return len(frame_output(output, 1, self.takes_mask).frames()[0])

    @cached_property
    def layers(self) -> int:
        """Number of layers, measured with one second of noise."""
        output = self.run_on_noise(self.forward)
        try:
            return len(frame_output(output, 1, self.takes_mask).layers)
        except ValueError as error:
            raise EarmarkError(f"{self.name}: {error}.") from error

    @property
    def layers_advice(self) -> str:
        """How the class returns several layers."""
        return "to score layers, return a list with the frames of each layer, (B, T', D), from forward"

    def _outputs(self, clips: Sequence[Array]) -> FrameOutput:
        return frame_output(self.run(self.forward, clips), len(clips), self.takes_mask)

    def _batch(self, clips: Sequence[Array]) -> Array:
        output = self._outputs(clips)
        return output.means(output.layers[-1])

    def layers_prepared(self, prepared: Sequence[Array]) -> Array:
        """(n, L·D) means over frames of each layer."""
        return embed_by_length(prepared, len, self._layers)

    def _layers(self, clips: Sequence[Array]) -> Array:
        output = self._outputs(clips)
        return np.concatenate([output.means(layer) for layer in output.layers], axis=1)

    def frames_prepared(self, prepared: Sequence[Array]) -> list[Array]:
        """Frames, batched by number of samples; ValueError if their number contradicts the declared hop."""
        return map_by_length(prepared, len, self._frames)

    def _frames(self, clips: Sequence[Array]) -> list[Array]:
        frames = self._outputs(clips).frames()
        if self.hop is None:
            return frames
        seconds = len(clips[0]) / self.sample_rate
        implied = seconds / self.hop
        for n_frames in dict.fromkeys(map(len, frames)):
            if abs(n_frames - implied) > FRAMES_OF_HOP * implied + FRAMES_AT_EDGES:
                raise ValueError(
                    f"returned {n_frames} frames for {seconds:.2f} s, but its hop of {1000 * self.hop:g} ms implies "
                    f"about {implied:.0f}"
                )
        return frames


def implied_hop(n_short: int, n_long: int, seconds: float) -> float | None:
    """Hop that follows from the numbers of frames of two clips.

    Parameters
    ----------
    n_short, n_long : int
        Numbers of frames.
    seconds : float
        Difference of the lengths of the clips.

    Returns
    -------
    float or None
        Seconds: a whole number of milliseconds if one is within a frame of the measured difference, otherwise the
        quotient. None if the longer clip has not more frames.

    Examples
    --------
    >>> implied_hop(49, 549, 20.0), implied_hop(165, 1831, 20.0), implied_hop(10, 10, 20.0)
    (0.04, 0.012, None)
    """
    difference = n_long - n_short
    if difference < 1:
        return None
    milliseconds = round(1000 * seconds / difference)
    if milliseconds and abs(1000 * seconds / milliseconds - difference) < 1:
        return milliseconds / 1000
    return seconds / difference


@dataclass
class HearEncoder(NetworkEncoder):
    """An encoder with the HEAR interface; `forward` returns scene embeddings.

    Attributes
    ----------
    timestamps : callable
        Maps (B, T) to frames (B, T', D) and their times in milliseconds, (B, T').
    frame_dimension : int or None
        D, which may differ from the dimension of the scene embeddings; None if unknown.
    """

    timestamps: Callable[[Any], tuple[Any, Any]] = field(kw_only=True)
    frame_dimension: int | None = None

    @property
    def has_frames(self) -> bool:
        """Always true."""
        return True

    @cached_property
    def hop_seconds(self) -> float | None:
        """Median step between the timestamps of four seconds of noise, in seconds; None for a single timestamp.

        EarmarkError if the timestamps are not milliseconds. The embedding cache reads the hop before any frames, so
        invalid timestamps are reported even if all frames are cached.
        """
        output = self.run_on_noise(self.timestamps, HOP_PROBE_SECONDS)
        try:
            times = self._timed(output, 1, HOP_PROBE_SECONDS)[1]
        except (ValueError, TypeError) as error:
            raise EarmarkError(f"{self.name}: {error}.") from error
        return median_step(times) / 1000 if len(times) > 1 else None

    def width(self, request: EmbeddingRequest = DEFAULT_REQUEST) -> int | None:
        """Number of values per row; frames may have another dimension than scene embeddings."""
        return self.frame_dimension if request.frames else super().width(request)

    def frames_prepared(self, prepared: Sequence[Array]) -> list[Array]:
        """Timestamp embeddings, batched by number of samples; ValueError if the timestamps are invalid."""
        return map_by_length(prepared, len, self._frames)

    def _frames(self, clips: Sequence[Array]) -> list[Array]:
        output = self.run(self.timestamps, clips)
        return list(self._timed(output, len(clips), len(clips[0]) / self.sample_rate)[0])

    def _timed(self, output: Any, n: int, seconds: float) -> tuple[Array, Times]:
        """Frames (n, T', D) and times (T',) in ms from the output for n clips of equal length.

        Times may be shared by all clips of a batch. ValueError if shapes or times are invalid.
        """
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise ValueError("get_timestamp_embeddings did not return a pair of frames and timestamps")
        frames = as_frames(output[0], n)
        times = np.atleast_2d(as_float64(output[1]))
        if times.shape not in {(n, frames.shape[1]), (1, frames.shape[1])}:
            raise ValueError(
                f"timestamps of shape {times.shape} for frames of shape {frames.shape}; expected (n, frames)"
            )
        for row in times:
            if fault := timestamps_fault(row, seconds, self.sample_rate):
                raise ValueError(fault)
        return frames, times[0]


def timestamps_fault(times: Times, seconds: float, rate: int) -> str:
    """Describe the fault of the timestamps of one clip.

    Parameters
    ----------
    times : (T',) float
        Timestamps, expected in milliseconds. A single timestamp is not checked, since it may mark any part of a frame.
    seconds : float
        Length of the clip.
    rate : int
        Sample rate in Hz.

    Returns
    -------
    str
        A sentence if the timestamps are not milliseconds that rise from the start to the end of the clip; else an
        empty string.

    Examples
    --------
    >>> timestamps_fault(0.02 * np.arange(200), 4.0, 16_000)
    'timestamps end at 3.98 for a clip of 4.00 s: they look like seconds; HEAR requires milliseconds'
    >>> timestamps_fault(20.0 * np.arange(200), 4.0, 16_000)
    ''
    """
    if not np.isfinite(times).all():
        return "timestamps are not finite; HEAR requires milliseconds"
    if len(times) < 2 or _times_span_clip(times, 1000 * seconds):
        return ""
    prefix = f"timestamps end at {times[-1]:.6g} for a clip of {seconds:.2f} s"
    units = {"seconds": seconds, "samples": seconds * rate, "microseconds": 1e6 * seconds}
    suspicion = next((f"look like {unit}" for unit, length in units.items() if _times_span_clip(times, length)), "")
    if not suspicion and (np.diff(times) == 1).all():
        suspicion = "look like frame numbers"
    if suspicion:
        return f"{prefix}: they {suspicion}; HEAR requires milliseconds"
    return (
        f"{prefix}, {len(times):,} of them with a hop of {median_step(times):.6g}; HEAR requires times in milliseconds "
        "that rise from the start to the end of the clip"
    )


def _times_span_clip(times: Times, length: float) -> bool:
    """Whether times rise and span a clip of the given length in the same unit."""
    if (np.diff(times) <= 0).any():
        return False
    implied, spacing = length / median_step(times), length / len(times)
    plausible_count = abs(len(times) - implied) <= FRAMES_OF_HOP * implied + FRAMES_AT_EDGES
    return plausible_count and abs(float(times[-1]) - length) <= FRAMES_OF_HOP * length + FRAMES_AT_EDGES * spacing


def median_step(times: Times) -> float:
    """Median difference of consecutive times."""
    return float(np.median(np.diff(times)))


def layer_outputs(output: Any) -> Sequence[Any]:
    """Outputs per layer of a model: a list or tuple as it is, else a single layer."""
    if isinstance(output, (list, tuple)):
        if not output:
            raise ValueError("the model returned no layers")
        return output
    return [output]


def as_float64(output: Any) -> Times:
    """Convert a tensor or array to float64; times in ms of long clips exceed the precision of float32."""
    return np.asarray(output.detach().cpu().double().numpy() if hasattr(output, "detach") else output, dtype=np.float64)


def as_float32(output: Any) -> Array:
    """Convert a tensor or array to float32."""
    output = output.detach().float().cpu().numpy() if hasattr(output, "detach") else output
    return np.asarray(output, dtype=np.float32)


def as_frames(output: Any, n: int) -> Array:
    """Check frames of a model for n clips of equal length.

    Parameters
    ----------
    output : tensor or array
        The output of a model.
    n : int
        Number of clips.

    Returns
    -------
    (n, T', D) float32
        The frames.

    Raises
    ------
    ValueError
        If the shape is not (n, T', D) or there are no frames.
    """
    frames = as_float32(output)
    if frames.ndim != 3 or len(frames) != n:
        raise ValueError(f"the model returned shape {frames.shape} for {n} clips; expected ({n}, frames, d)")
    if not frames.shape[1]:
        raise ValueError("the clip is too short for a single frame")
    return frames


def as_embeddings(output: Any, n: int) -> Array:
    """Check the output of a model for n clips and average frames.

    Parameters
    ----------
    output : tensor or array
        Embeddings (n, D), a single embedding (D,) for one clip, or frames (n, T', D).
    n : int
        Number of clips.

    Returns
    -------
    (n, D) float32
        Embeddings; means over frames.

    Raises
    ------
    ValueError
        For any other shape.
    """
    if getattr(output, "is_cuda", False):
        output = mean_over_frames(output, n)
    embeddings = as_float32(output)
    if embeddings.ndim == 3 and len(embeddings) == n:
        return as_frames(embeddings, n).mean(axis=1, dtype=np.float64).astype(np.float32)
    if embeddings.ndim == 1 and n == 1:
        return embeddings[None]
    if embeddings.ndim != 2 or len(embeddings) != n:
        shape = embeddings.shape
        raise ValueError(f"the model returned shape {shape} for {n} clips; expected ({n}, d) or ({n}, frames, d)")
    return embeddings


def mean_over_frames(output: Any, n: int) -> Any:
    """Average frames on their device, so that only means leave a GPU; any other output stays as it is.

    Parameters
    ----------
    output : tensor
        The output of a model for n clips.
    n : int

    Returns
    -------
    tensor
        (n, D) float64 for frames (n, T', D) with T' ≥ 1; else the output.
    """
    if output.ndim != 3 or len(output) != n or not output.shape[1]:
        return output
    torch = require_encoder_library("torch", "--extra torch")
    return output.detach().mean(dim=1, dtype=torch.float64)


def white_noise(seconds: float, rate: int) -> Array:
    """White noise with a fixed seed, as test input of a model."""
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)

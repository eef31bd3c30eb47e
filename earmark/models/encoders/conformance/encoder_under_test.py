"""The encoder under test: loading, test signals, measurements and error messages for the conformance checks."""

import contextlib
import inspect
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import EarmarkError, MissingError, shown_cause, shown_path
from earmark.models.encoders.base import Array, Encoder
from earmark.models.encoders.output import DEFAULT_REQUEST
from earmark.models.encoders.registry import PYTHON_FILE, load_encoder
from earmark.models.encoders.torch_encoder import (
    FrameOutput,
    XaresEncoder,
    frame_output,
    require_encoder_library,
    sample_mask,
)
from earmark.models.encoders.user_file import CASE_METHODS, HEAR_FUNCTIONS, import_file, is_xares_llm

DEFAULT_RATE = 16_000  # Hz, if a file that cannot be loaded declares no sampling rate
PITCH, HARMONICS, SYLLABLES = 120.0, 20, 4.0  # Hz, count, syllables per second of the test signal
LOOP_SECONDS = 10.0  # longer clips repeat a signal of this length; the first clip that is doubled
MAX_SECONDS_PER_CLIP = 3600.0  # longer clips are not tried if they would take longer than this
GIB = 2**30


@dataclass(frozen=True)
class Measurement:
    """Time and memory used to embed the longest clip that could be embedded.

    Attributes
    ----------
    clip_seconds, seconds : float
        Duration of the clip and time to embed it.
    n_values : int
        Size of its embedding.
    bytes_before, bytes_after : int or None
        Peak resident memory of the process before the first clip and after this one. None where the system does not
        report it.
    gpu_bytes : int or None
        Peak memory allocated by torch on the CUDA device. None on other devices.
    shortfall : str
        Why no longer clip was embedded; empty if this clip is as long as requested.
    """

    clip_seconds: float
    seconds: float
    n_values: int
    bytes_before: int | None
    bytes_after: int | None
    gpu_bytes: int | None
    shortfall: str = ""


def clip_lengths(max_clip_seconds: float) -> Iterator[float]:
    """Lengths of the long clips in seconds: doubled from 10 s up to the longest.

    Examples
    --------
    >>> list(clip_lengths(600)), list(clip_lengths(4))
    ([10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600], [4])
    """
    seconds = LOOP_SECONDS
    while seconds < max_clip_seconds:
        yield seconds
        seconds *= 2
    yield max_clip_seconds


def predicted_seconds(earlier: Sequence[Measurement], clip_seconds: float) -> float:
    """Time that a longer clip will take, from the growth between the last two clips; 0 with fewer than two.

    The exponent of the growth is limited to 1 to 3, so that a slow start does not mislead.

    Examples
    --------
    >>> clips = [Measurement(length, time, 1, None, None, None) for length, time in ((80, 2.0), (160, 8.0))]
    >>> predicted_seconds(clips, 320), predicted_seconds(clips[:1], 320)
    (32.0, 0.0)
    """
    if len(earlier) < 2:
        return 0.0
    first, last = earlier[-2:]
    growth = np.log(max(last.seconds, 1e-9) / max(first.seconds, 1e-9))
    exponent = np.clip(growth / np.log(last.clip_seconds / first.clip_seconds), 1, 3)
    return float(last.seconds * (clip_seconds / last.clip_seconds) ** exponent)


@dataclass
class EncoderUnderTest:
    """An encoder under test.

    Attributes
    ----------
    file : str
        Name of the user's file. Empty for other encoders.
    encoder : Encoder or None
        None if it cannot be loaded; `load_error` holds the reason.
    network : object or None
        Instance of the X-ARES class in the user's file, also where `encoder` is None. None for other encoders.
    max_clip_seconds : float
        Length of the longest test clip.
    load_error : str
        Why the encoder cannot be loaded.
    measurement : Measurement or None
        Set by `measure_longest_clip`.
    on_clip : callable or None
        Called by `measure_longest_clip` with the length of each clip in seconds before it is embedded, and with its
        `Measurement` afterwards.
    """

    file: str
    encoder: Encoder | None
    network: Any
    max_clip_seconds: float
    load_error: str = ""
    measurement: Measurement | None = field(default=None, init=False)
    on_clip: Callable[[float | Measurement], None] | None = field(default=None, init=False)

    @property
    def loaded_encoder(self) -> Encoder:
        """The encoder; EarmarkError if it cannot be loaded."""
        if self.encoder is None:
            raise EarmarkError(self.load_error)
        return self.encoder

    @property
    def is_module(self) -> bool:
        """Whether the X-ARES object is a torch module."""
        torch = sys.modules.get("torch")  # an instance of Module exists only if torch is imported
        return torch is not None and isinstance(self.network, torch.nn.Module)

    @property
    def is_xares_llm(self) -> bool:
        """Whether the network has the XARES-LLM interface, forward(audio, mask)."""
        if isinstance(self.encoder, XaresEncoder):
            return self.encoder.takes_mask
        return self.network is not None and is_xares_llm(type(self.network), vars(self.network))

    @property
    def rate(self) -> int:
        """Sampling rate of the test signals in Hz."""
        if self.encoder is not None:
            return self.encoder.sample_rate
        declared = getattr(self.network, "sampling_rate", DEFAULT_RATE)
        return int(declared) if isinstance(declared, (int, float)) and declared > 0 else DEFAULT_RATE

    @property
    def device(self) -> str:
        """The torch device of the encoder; "cpu" for encoders without one."""
        return str(getattr(self.encoder, "device", "cpu"))

    def test_signal(self, seconds: float, seed: int = 0) -> Array:
        """`synthetic_voice` at the encoder's sampling rate, (n,) float32."""
        return synthetic_voice(seconds, self.rate, seed)

    def module_output(self, waveforms: Array, n_samples: Sequence[int] | None = None, masked: bool = True) -> Any:
        """Raw output of the module in float32, whatever precision the encoder runs in.

        Parameters
        ----------
        waveforms : (B, T) float32
            Clips.
        n_samples : sequence of int, optional
            Lengths of padded clips, for the mask of an XARES-LLM class; T by default.
        masked : bool
            Whether an XARES-LLM class gets a mask and not None.
        """
        torch = require_encoder_library("torch", "--extra torch")
        with torch.inference_mode():
            audio = torch.from_numpy(np.ascontiguousarray(waveforms)).to(self.device)
            if self.is_xares_llm:
                return self.network(audio, sample_mask(audio, n_samples) if masked else None)
            return self.network(audio)

    def module_frames(self, waveforms: Array, n_samples: Sequence[int] | None = None) -> list[Array]:
        """Last-layer frames (T', D) of each of the waveforms (B, T), without frames that the module masks."""
        return self.parsed(self.module_output(waveforms, n_samples), len(waveforms)).frames()

    def parsed(self, output: Any, n: int) -> FrameOutput:
        """Layers and mask of the module's output for n clips."""
        return frame_output(output, n, self.is_xares_llm)

    def unchecked_embedding(self, waveform: Array) -> Array:
        """The embedding of one clip, not checked for finite values."""
        prepared = self.loaded_encoder.prepare_clip(waveform, DEFAULT_REQUEST)
        return np.asarray(self.loaded_encoder.encode_prepared(prepared, DEFAULT_REQUEST)[0])

    def measure_longest_clip(self) -> None:
        """Embed clips of growing length, and store time and memory of the longest in `measurement`.

        The first error of the encoder ends the series. If it occurs at the first clip, it propagates; otherwise it is
        the `shortfall` of the measurement.
        """
        torch = require_encoder_library("torch", "--extra torch") if self.device.startswith("cuda") else None
        short = self.test_signal(min(LOOP_SECONDS, self.max_clip_seconds))
        self.loaded_encoder.embed([short])  # warm-up
        before, measured = peak_resident_bytes(), list[Measurement]()
        for clip_seconds in clip_lengths(self.max_clip_seconds):
            expected = predicted_seconds(measured, clip_seconds)
            if expected > MAX_SECONDS_PER_CLIP:
                shortfall = f"{clip_seconds:g} s would take about {expected / 3600:.1f} h"
                self.measurement = replace(measured[-1], shortfall=shortfall)
                return
            if self.on_clip:
                self.on_clip(clip_seconds)
            try:
                measured.append(self._measure(np.resize(short, round(clip_seconds * self.rate)), before, torch))
            except (Exception, SystemExit) as error:
                if not measured:
                    raise
                self.measurement = replace(measured[-1], shortfall=f"{clip_seconds:g} s: {self.describe_error(error)}")
                return
            self.measurement = measured[-1]
            if self.on_clip:
                self.on_clip(self.measurement)

    def _measure(self, clip: Array, before: int | None, torch: Any) -> Measurement:
        if torch:
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        (embedding,) = self.loaded_encoder.embed([clip])
        seconds = time.perf_counter() - start
        gpu = torch.cuda.max_memory_allocated(self.device) if torch else None
        return Measurement(len(clip) / self.rate, seconds, embedding.size, before, peak_resident_bytes(), gpu)

    def describe_error(self, error: BaseException) -> str:
        """Type and first line of an error, and the last line of the user's file in its traceback."""
        line: int | None = None
        cause: BaseException | None = error
        while line is None and cause is not None:
            frames = reversed(traceback.extract_tb(cause.__traceback__)) if self.file else ()
            line = next((frame.lineno for frame in frames if Path(frame.filename).name == self.file), None)
            cause = cause.__cause__
        where = f" ({self.file}, line {line})" if line else ""
        return f"{type(error).__name__}: {shown_cause(error)}{where}"


def prepare_encoder_under_test(encoder: Any, device: str, dtype: str, max_clip_seconds: float) -> EncoderUnderTest:
    """Load an encoder for the conformance checks.

    Parameters
    ----------
    encoder : str or Encoder
        An encoder spec as for `load_encoder`, or a loaded encoder.
    device, dtype : str
        For loading a spec.
    max_clip_seconds : float
        Length of the longest test clip, above 0.

    Returns
    -------
    EncoderUnderTest
        Its `encoder` is None if a user's file exists and fails to load.

    Raises
    ------
    MissingError
        If a file, package or device is missing.
    EarmarkError
        If the encoder stands for precomputed embeddings, or `max_clip_seconds` is not a finite number above 0.
    """
    if not 0 < max_clip_seconds < np.inf:
        raise EarmarkError(f"max_clip_seconds is {max_clip_seconds:g}; it must be a finite number above 0.")
    if isinstance(encoder, str):
        match = PYTHON_FILE.match(encoder)
        try:
            encoder = load_encoder(encoder, device=device, dtype=dtype)
        except MissingError as error:
            if not match or not _is_fault_of_file(Path(match["file"]), error):
                raise
            file = Path(match["file"])
            network = _candidate_network(file, match["name"])
            return EncoderUnderTest(file.name, None, network, max_clip_seconds, load_error=str(error))
    if not isinstance(encoder, Encoder):
        raise EarmarkError("Precomputed embeddings cannot be checked; name the encoder that computed them.")
    network = encoder.network if isinstance(encoder, XaresEncoder) else None
    return EncoderUnderTest(str(encoder.description.get("file", "")), encoder, network, max_clip_seconds)


def _is_fault_of_file(file: Path, error: MissingError) -> bool:
    """Whether the user's file causes the error, and not a missing package or device."""
    missing_package = isinstance(error.__cause__, ModuleNotFoundError)
    return file.is_file() and str(error).startswith(shown_path(file)) and not missing_package


def _candidate_network(file: Path, name: str | None) -> Any:
    """An instance of the class that is probably the file's X-ARES encoder, although it violates the interface.

    None if the file follows another interface, has no or several such classes, or raises.
    """
    with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stdout(sys.stderr):
        module = import_file(file)
        if any(hasattr(module, function) for function in HEAR_FUNCTIONS):
            return None
        own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
        chosen = [kind for kind in own if kind.__name__ == name] if name else _likely_encoders(own)
        if len(chosen) == 1 and not any(hasattr(chosen[0], method) for method in CASE_METHODS):
            network = chosen[0]()
            return network.eval() if hasattr(network, "eval") else network
    return None


def _likely_encoders(classes: Sequence[type]) -> Sequence[type]:
    """Classes whose name ends in Encoder, or all classes if there is none."""
    return [kind for kind in classes if re.search("Encoder$", kind.__name__)] or classes


def synthetic_voice(seconds: float, rate: int, seed: int = 0) -> Array:
    """Voice-like test signal: harmonics of a pitch, amplitude modulation at the syllable rate, a little noise.

    It passes voice activity detectors.

    Parameters
    ----------
    seconds : float
        Duration; at least one sample is returned.
    rate : int
        Sampling rate in Hz. Harmonics above rate / 2 are omitted.
    seed : int
        Sets pitch, phases and noise. The same seed gives the same signal.

    Returns
    -------
    (n,) float32
        Samples in [−1, 1].
    """
    rng = np.random.default_rng(seed)
    t = np.arange(max(1, round(seconds * rate))) / rate
    pitch = PITCH * rng.uniform(0.9, 1.5)
    signal = rng.normal(0, 0.05, len(t))
    for k in range(1, HARMONICS + 1):
        if k * pitch < rate / 2:
            signal += np.sin(2 * np.pi * (k * pitch * t + rng.uniform())) / k
    signal *= 0.15 * (1.1 - np.cos(2 * np.pi * SYLLABLES * t))
    return np.clip(signal, -1, 1).astype(np.float32)


def peak_resident_bytes() -> int | None:
    """Peak resident memory of this process in bytes; None where the system does not report it.

    Reads /proc where it exists: getrusage on Linux may report the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists() and (match := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"), re.M)):
        return int(match[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gib(size: int) -> str:
    """Format a number of bytes in GiB.

    >>> gib(3 * 2**29)
    '1.50 GiB'
    """
    return f"{size / GIB:.2f} GiB"

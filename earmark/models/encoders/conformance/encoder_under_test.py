"""The encoder under test: loading, test signals, measurements and error messages for the conformance checks."""

import contextlib
import inspect
import re
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import EarmarkError, MissingError, shown_cause, shown_path
from earmark.models.encoders.base import Array, Encoder
from earmark.models.encoders.output import DEFAULT_REQUEST
from earmark.models.encoders.registry import PYTHON_FILE, load_encoder
from earmark.models.encoders.torch_encoder import XaresEncoder, as_frames, layer_outputs, require_encoder_library
from earmark.models.encoders.user_file import CASE_METHODS, HEAR_FUNCTIONS, import_file

DEFAULT_RATE = 16_000  # Hz, if a file that cannot be loaded declares no sampling rate
PITCH, HARMONICS, SYLLABLES = 120.0, 20, 4.0  # Hz, count, syllables per second of the test signal
LOOP_SECONDS = 10.0  # longer clips repeat a signal of this length
GIB = 2**30


@dataclass(frozen=True)
class Measurement:
    """Time and memory used to embed the longest clip.

    Attributes
    ----------
    clip_seconds, seconds : float
        Duration of the clip and time to embed it.
    bytes_before, bytes_after : int or None
        Peak resident memory of the process before and after the clip. None where the system does not report it.
    gpu_bytes : int or None
        Peak memory allocated by torch on the CUDA device. None on other devices.
    """

    clip_seconds: float
    seconds: float
    bytes_before: int | None
    bytes_after: int | None
    gpu_bytes: int | None


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
    """

    file: str
    encoder: Encoder | None
    network: Any
    max_clip_seconds: float
    load_error: str = ""
    measurement: Measurement | None = field(default=None, init=False)

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

    def module_output(self, waveforms: Array) -> Any:
        """Raw output of the X-ARES module in float32, whatever precision the encoder runs in."""
        torch = require_encoder_library("torch", "--extra torch")
        with torch.inference_mode():
            return self.network(torch.from_numpy(np.ascontiguousarray(waveforms)).to(self.device))

    def module_frames(self, waveforms: Array) -> Array:
        """Last-layer frames (B, T', D) of the X-ARES module for waveforms (B, T)."""
        return as_frames(layer_outputs(self.module_output(waveforms))[-1], len(waveforms))

    def unchecked_embedding(self, waveform: Array) -> Array:
        """The embedding of one clip, not checked for finite values."""
        prepared = self.loaded_encoder.prepare_clip(waveform, DEFAULT_REQUEST)
        return np.asarray(self.loaded_encoder.encode_prepared(prepared, DEFAULT_REQUEST)[0])

    def measure_longest_clip(self) -> Array:
        """Embed the longest clip, store time and memory in `measurement`, and return the embedding."""
        torch = require_encoder_library("torch", "--extra torch") if self.device.startswith("cuda") else None
        short = self.test_signal(min(LOOP_SECONDS, self.max_clip_seconds))
        clip = np.resize(short, round(self.max_clip_seconds * self.rate))
        self.loaded_encoder.embed([short])  # warm-up
        if torch:
            torch.cuda.reset_peak_memory_stats(self.device)
        before, start = peak_resident_bytes(), time.perf_counter()
        (embedding,) = self.loaded_encoder.embed([clip])
        seconds = time.perf_counter() - start
        gpu = torch.cuda.max_memory_allocated(self.device) if torch else None
        self.measurement = Measurement(self.max_clip_seconds, seconds, before, peak_resident_bytes(), gpu)
        return np.asarray(embedding)

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

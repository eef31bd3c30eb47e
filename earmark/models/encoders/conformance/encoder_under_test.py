"""What `checks` looks at: an encoder, the X-ARES object in a user's file, test signals, memory and errors."""

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

RATE = 16_000  # where a file that cannot be loaded does not say
PITCH, HARMONICS, SYLLABLES = 120.0, 20, 4.0  # Hz, count, per second, of the test signal
REPEATED = 10.0  # seconds of it, of which long clips are made
GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """Of the longest clip. gpu_bytes: None where the encoder runs on no CUDA device."""

    clip_seconds: float
    seconds: float
    bytes_before: int | None
    bytes_after: int | None
    gpu_bytes: int | None


@dataclass
class EncoderUnderTest:
    """An encoder under check.

    file: name of the user's file, or empty. encoder: None where it cannot be loaded, and then `fault` says why.
    network: an instance of the class that is meant to keep X-ARES's contract, or None. measured: once the longest clip
    has passed through.
    """

    file: str
    encoder: Encoder | None
    network: Any
    max_clip_seconds: float
    fault: str = ""
    measured: Measured | None = field(default=None, init=False)

    @property
    def loaded(self) -> Encoder:
        """The encoder, for checks that are asked only where there is one."""
        if self.encoder is None:
            raise EarmarkError(self.fault)
        return self.encoder

    @property
    def is_module(self) -> bool:
        """Whether the X-ARES object can be called as a torch module."""
        torch = sys.modules.get("torch")  # without it there is no module of it
        return torch is not None and isinstance(self.network, torch.nn.Module)

    @property
    def rate(self) -> int:
        """Hz of its waveforms."""
        if self.encoder is not None:
            return self.encoder.sample_rate
        declared = getattr(self.network, "sampling_rate", RATE)
        return int(declared) if isinstance(declared, (int, float)) and declared > 0 else RATE

    @property
    def device(self) -> str:
        """Where it runs; cpu for whatever runs on no device of torch."""
        return str(getattr(self.encoder, "device", "cpu"))

    def sound(self, seconds: float, seed: int = 0) -> Array:
        """The test signal at its rate."""
        return voice(seconds, self.rate, seed)

    def raw(self, waveforms: Array) -> Any:
        """What the X-ARES module gives for an array as it is, in float32 whatever precision the encoder runs in."""
        torch = require_encoder_library("torch", "--extra torch")
        with torch.inference_mode():
            return self.network(torch.from_numpy(np.ascontiguousarray(waveforms)).to(self.device))

    def frames(self, waveforms: Array) -> Array:
        """(B, T', D) of its last layer for (B, T)."""
        return as_frames(layer_outputs(self.raw(waveforms))[-1], len(waveforms))

    def unchecked(self, waveform: Array) -> Array:
        """The encoder's vector of one clip, finite or not."""
        prepared = self.loaded.prepare_clip(waveform, DEFAULT_REQUEST)
        return np.asarray(self.loaded.encode_prepared(prepared, DEFAULT_REQUEST)[0])

    def measure(self) -> Array:
        """The vector of the longest clip; what it took is in `measured` afterwards."""
        torch = require_encoder_library("torch", "--extra torch") if self.device.startswith("cuda") else None
        short = self.sound(min(REPEATED, self.max_clip_seconds))
        clip = np.resize(short, round(self.max_clip_seconds * self.rate))
        self.loaded.embed([short])  # what is built at a first call does not count
        if torch:
            torch.cuda.reset_peak_memory_stats(self.device)
        before, start = peak_bytes(), time.perf_counter()
        (found,) = self.loaded.embed([clip])
        seconds = time.perf_counter() - start
        gpu = torch.cuda.max_memory_allocated(self.device) if torch else None
        self.measured = Measured(self.max_clip_seconds, seconds, before, peak_bytes(), gpu)
        return np.asarray(found)

    def raised(self, error: BaseException) -> str:
        """An error as a line: its type, its first line, and the line of the user's file that it last passed through."""
        line: int | None = None
        cause: BaseException | None = error
        while line is None and cause is not None:
            passed = reversed(traceback.extract_tb(cause.__traceback__)) if self.file else ()
            line = next((frame.lineno for frame in passed if Path(frame.filename).name == self.file), None)
            cause = cause.__cause__
        where = f" ({self.file}, line {line})" if line else ""
        return f"{type(error).__name__}: {shown_cause(error)}{where}"


def subject(encoder: Any, device: str, dtype: str, max_clip_seconds: float) -> EncoderUnderTest:
    """What a string or a loaded encoder gives to check.

    Raises MissingError for what is not there: a file, a package, a device. A file that is there and cannot be loaded
    is a subject with a fault.
    """
    if not 0 < max_clip_seconds < np.inf:
        raise EarmarkError(f"A clip of {max_clip_seconds:g} s cannot be made; max_clip_seconds is a length above 0.")
    if isinstance(encoder, str):
        match = PYTHON_FILE.match(encoder)
        try:
            encoder = load_encoder(encoder, device=device, dtype=dtype)
        except MissingError as error:
            if not match or not _faulty(Path(match["file"]), error):
                raise
            file = Path(match["file"])
            return EncoderUnderTest(file.name, None, _meant(file, match["name"]), max_clip_seconds, fault=str(error))
    if not isinstance(encoder, Encoder):
        raise EarmarkError("Embeddings made elsewhere promise nothing that can be tested; name the encoder itself.")
    network = encoder.network if isinstance(encoder, XaresEncoder) else None
    return EncoderUnderTest(str(encoder.description.get("file", "")), encoder, network, max_clip_seconds)


def _faulty(file: Path, error: MissingError) -> bool:
    """Whether the file itself is at fault, and not what it needs: a package or a device."""
    needs = isinstance(error.__cause__, ModuleNotFoundError)
    return file.is_file() and str(error).startswith(shown_path(file)) and not needs


def _meant(file: Path, name: str | None) -> Any:
    """An instance of the class that a file means as its X-ARES encoder although it does not keep the contract.

    None where the file keeps another contract, holds no such class or several, or fails.
    """
    with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stdout(sys.stderr):
        module = import_file(file)
        if any(hasattr(module, function) for function in HEAR_FUNCTIONS):
            return None
        own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
        chosen = [kind for kind in own if kind.__name__ == name] if name else _likely(own)
        if len(chosen) == 1 and not any(hasattr(chosen[0], method) for method in CASE_METHODS):
            network = chosen[0]()
            return network.eval() if hasattr(network, "eval") else network
    return None


def _likely(kinds: Sequence[type]) -> Sequence[type]:
    """Those that are called encoders, or the only one."""
    return [kind for kind in kinds if re.search("Encoder$", kind.__name__)] or kinds


def voice(seconds: float, rate: int, seed: int = 0) -> Array:
    """A sound with the pitch, the spectrum and the syllables of a voice, so that detectors of speech let it pass.

    (n,) float32 within ±1; the same for the same seed, which decides pitch, phases and a little noise.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(max(1, round(seconds * rate))) / rate
    pitch = PITCH * rng.uniform(0.9, 1.5)
    found = rng.normal(0, 0.05, len(t))
    for k in range(1, HARMONICS + 1):
        if k * pitch < rate / 2:
            found += np.sin(2 * np.pi * (k * pitch * t + rng.uniform())) / k
    found *= 0.15 * (1.1 - np.cos(2 * np.pi * SYLLABLES * t))
    return np.clip(found, -1, 1).astype(np.float32)


def peak_bytes() -> int | None:
    """The most memory that this process ever held resident; None where the system does not say.

    From /proc where there is one: what getrusage says there includes the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"), re.M)):
        return int(found[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gib(size: int) -> str:
    """A number of bytes for people.

    >>> gib(3 * 2**29)
    '1.50 GiB'
    """
    return f"{size / GIB:.2f} GiB"

"""What a line does to speech: real codecs, and the responses of loudspeakers and microphones. Facts in simulation.toml.

Every function takes and returns 16 kHz mono float32 of the same length, aligned to the sample with its input.
"""

import io
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy import signal

FloatArray = NDArray[np.float32]

RATE = 16_000
TAPS = 511  # odd, so that the filter's delay is a whole number of samples
GRID = 1025  # frequencies at which a response curve is handed to firwin2
LEAST = 2304  # samples of silence after the clip: the last frame of any codec is then never cut


@dataclass(frozen=True)
class Codec:
    """How libsndfile encodes a clip; the comment on top of simulation.toml says what each field means."""

    format: str
    subtype: str
    rate: int
    delay: int
    options: dict[str, Any] = field(default_factory=dict)


@cache
def simulation_parameters() -> dict[str, Any]:
    """simulation.toml as it stands."""
    return tomllib.loads(files(__package__).joinpath("simulation.toml").read_text(encoding="utf-8"))


@cache
def codecs() -> dict[str, Codec]:
    """Every codec by name.

    >>> codecs()["gsm"].rate
    8000
    """
    return {name: Codec(**fields) for name, fields in simulation_parameters()["codecs"].items()}


def encode(waveform: FloatArray, codec: Codec) -> bytes:
    """The waveform as a file of that codec, at the codec's own rate."""
    buffer = io.BytesIO()
    samples = _resampled(waveform, RATE, codec.rate)
    soundfile.write(buffer, samples, codec.rate, format=codec.format, subtype=codec.subtype, **codec.options)
    return buffer.getvalue()


def decode(encoded: bytes, codec: Codec, length: int) -> FloatArray:
    """The first `length` samples at 16 kHz of what was encoded, the codec's delay taken away."""
    samples, rate = soundfile.read(io.BytesIO(encoded), dtype="float32")
    decoded = _resampled(samples[codec.delay :], rate, RATE)[:length]
    return np.pad(decoded, (0, length - len(decoded)))


def pass_codec(waveform: FloatArray, codec: Codec) -> FloatArray:
    """The waveform after encoding and decoding.

    >>> len(pass_codec(np.zeros(1600, dtype=np.float32), codecs()["mp3_32k"]))
    1600
    """
    return decode(encode(np.pad(waveform, (0, LEAST)), codec), codec, len(waveform))


def _resampled(samples: FloatArray, rate: int, target: int) -> FloatArray:
    return samples if rate == target else soxr.resample(samples, rate, target).astype(np.float32)


def gain_db(response: tuple[tuple[float, float], ...], frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """A response curve at these frequencies, in dB: straight lines on a log axis, flat outside its points.

    response: ((Hz, dB), …), rising in Hz. frequency: (n,) Hz.

    >>> gain_db(((100, -20), (1000, 0)), np.array([0, 100, 316.228, 4000])).round(2).tolist()
    [-20.0, -20.0, -10.0, 0.0]
    """
    hertz, decibel = np.array(response).T
    return np.interp(np.log(np.maximum(frequency, 1.0)), np.log(hertz), decibel)


@cache
def fir(response: tuple[tuple[float, float], ...]) -> FloatArray:
    """The linear-phase filter of TAPS taps that has this response at 16 kHz."""
    grid = np.linspace(0, RATE / 2, GRID)
    return signal.firwin2(TAPS, grid, 10 ** (gain_db(response, grid) / 20), fs=RATE).astype(np.float32)


def pass_response(waveform: FloatArray, response: tuple[tuple[float, float], ...]) -> FloatArray:
    """The waveform through a loudspeaker or microphone; the filter's delay is taken away."""
    filtered = signal.oaconvolve(waveform, fir(response), mode="full")
    start = TAPS // 2
    return filtered[start : start + len(waveform)].astype(np.float32)


@cache
def responses(kind: str) -> dict[str, tuple[tuple[float, float], ...]]:
    """The response curves of a kind, "microphones" or "loudspeakers", by name."""
    return {
        name: tuple((hz, db) for hz, db in each["response"]) for name, each in simulation_parameters()[kind].items()
    }

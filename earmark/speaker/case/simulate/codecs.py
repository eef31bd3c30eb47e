"""Codecs and the frequency responses of loudspeakers and microphones; parameters are in simulation.toml.

All functions that process speech take and return 16 kHz mono float32 of the same length. The output is aligned to the
sample with the input.
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
ResponseCurve = tuple[tuple[float, float], ...]  # ((Hz, dB), …)

SAMPLE_RATE = 16_000  # Hz
FIR_TAPS = 511  # odd, so that the delay of the filter is a whole number of samples
FIR_GRID = 1025  # frequencies at which firwin2 gets the response
PADDING = 2304  # samples of silence after the clip, so that no codec truncates the last frame


@dataclass(frozen=True)
class Codec:
    """Parameters with which libsndfile encodes a clip.

    Attributes
    ----------
    format, subtype : str
        As in `soundfile.write`.
    rate : int
        Sample rate in Hz of the encoded clip.
    delay : int
        Delay that encoding and decoding add, in samples at `rate`.
    options : dict
        Further arguments of `soundfile.write`.
    """

    format: str
    subtype: str
    rate: int
    delay: int
    options: dict[str, Any] = field(default_factory=dict)


@cache
def simulation_parameters() -> dict[str, Any]:
    """Contents of simulation.toml: `codecs`, `loudspeakers`, `microphones` and `room`."""
    return tomllib.loads(files(__package__).joinpath("simulation.toml").read_text(encoding="utf-8"))


@cache
def codecs() -> dict[str, Codec]:
    """All codecs by name.

    Examples
    --------
    >>> codecs()["gsm"].rate
    8000
    """
    return {name: Codec(**fields) for name, fields in simulation_parameters()["codecs"].items()}


def encode(waveform: FloatArray, codec: Codec) -> bytes:
    """Encode a waveform, resampled to the codec's sample rate, as an audio file."""
    buffer = io.BytesIO()
    samples = _resample(waveform, SAMPLE_RATE, codec.rate)
    soundfile.write(buffer, samples, codec.rate, format=codec.format, subtype=codec.subtype, **codec.options)
    return buffer.getvalue()


def decode(encoded: bytes, codec: Codec, length: int) -> FloatArray:
    """Decode an encoded clip to `length` samples at 16 kHz and remove the codec's delay."""
    samples, rate = soundfile.read(io.BytesIO(encoded), dtype="float32")
    decoded = _resample(samples[codec.delay :], rate, SAMPLE_RATE)[:length]
    return np.pad(decoded, (0, length - len(decoded)))


def apply_codec(waveform: FloatArray, codec: Codec) -> FloatArray:
    """Encode and decode a waveform.

    Examples
    --------
    >>> len(apply_codec(np.zeros(1600, dtype=np.float32), codecs()["mp3_32k"]))
    1600
    """
    return decode(encode(np.pad(waveform, (0, PADDING)), codec), codec, len(waveform))


def _resample(samples: FloatArray, rate: int, target_rate: int) -> FloatArray:
    return samples if rate == target_rate else soxr.resample(samples, rate, target_rate).astype(np.float32)


def gain_db(response: ResponseCurve, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate a response curve linearly over log frequency; constant outside its points.

    Parameters
    ----------
    response : ((Hz, dB), …)
        In ascending order of frequency.
    frequency : (n,) float
        In Hz.

    Returns
    -------
    (n,) float
        Gain in dB.

    Examples
    --------
    >>> gain_db(((100, -20), (1000, 0)), np.array([0, 100, 316.228, 4000])).round(2).tolist()
    [-20.0, -20.0, -10.0, 0.0]
    """
    hertz, decibel = np.array(response).T
    return np.interp(np.log(np.maximum(frequency, 1.0)), np.log(hertz), decibel)


@cache
def fir_filter(response: ResponseCurve) -> FloatArray:
    """Design the linear-phase filter with `FIR_TAPS` taps that has this response at 16 kHz."""
    grid = np.linspace(0, SAMPLE_RATE / 2, FIR_GRID)
    return signal.firwin2(FIR_TAPS, grid, 10 ** (gain_db(response, grid) / 20), fs=SAMPLE_RATE).astype(np.float32)


def apply_response(waveform: FloatArray, response: ResponseCurve) -> FloatArray:
    """Filter a waveform with the response of a loudspeaker or microphone, without delay."""
    filtered = signal.oaconvolve(waveform, fir_filter(response), mode="full")
    start = FIR_TAPS // 2
    return filtered[start : start + len(waveform)].astype(np.float32)


@cache
def response_curves(kind: str) -> dict[str, ResponseCurve]:
    """The response curves of "microphones" or "loudspeakers" by name."""
    devices = simulation_parameters()[kind]
    return {name: tuple((hz, db) for hz, db in device["response"]) for name, device in devices.items()}

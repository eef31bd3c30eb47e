"""Additive noise at a signal-to-noise ratio and room reverberation, from recordings or synthetic.

Synthetic noise is white, pink (−3 dB per octave), brown (−6 dB per octave) or babble (several voices with modulated
pitch and syllables). Synthetic rooms are shoeboxes simulated with the image-source method; all walls reflect equally,
independently of frequency.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from scipy.fft import next_fast_len

from earmark.audio.decode import SUFFIXES, AudioError, check_audio, read_audio
from earmark.errors import EarmarkError, shown_path
from earmark.speaker.case.simulate.codecs import SAMPLE_RATE, FloatArray, simulation_parameters

FRAME_LENGTH = SAMPLE_RATE // 50  # samples: 20 ms
ACTIVITY_RANGE_DB = 30  # frames are active within this range below the 95th percentile
SPEED_OF_SOUND = 343.0  # m/s
RESPONSE_LENGTH = 0.7  # of the reverberation time, after which the response has decayed by 42 dB
MAX_ATTEMPTS = 8  # segments of a noise recording to try until one is not silent
N_BABBLE_VOICES = 6
CACHED_RECORDINGS = 64


@dataclass(frozen=True)
class Recordings:
    """A folder of recorded noise or impulse responses.

    Attributes
    ----------
    folder : Path
    names : tuple of str
        Files relative to the folder; all can be decoded.
    fingerprint : str
        Hash of the names and file sizes.
    """

    folder: Path
    names: tuple[str, ...]
    fingerprint: str

    def sample(self, rng: np.random.Generator) -> tuple[str, FloatArray]:
        """Choose a recording at random; returns its name and its samples (16 kHz mono)."""
        name = self.names[int(rng.integers(len(self.names)))]
        return name, _read_recording(self.folder / name)


def find_recordings(folder: Path) -> Recordings:
    """List the audio files of a folder and its subfolders.

    Raises
    ------
    EarmarkError
        If there are none, or with all files that are silent or cannot be decoded.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not names:
        raise EarmarkError(f"{shown_path(folder)}: contains no audio ({', '.join(SUFFIXES)}).")
    faults = [fault for name in names if (fault := _recording_fault(folder / name, name))]
    if faults:
        header = f"{shown_path(folder)}: {len(faults)} unusable file{'s' if len(faults) > 1 else ''}"
        raise EarmarkError("\n".join([header, *faults, "Repair or remove them."]))
    sizes = "\n".join(f"{name} {(folder / name).stat().st_size}" for name in names)
    return Recordings(folder, tuple(names), hashlib.sha256(sizes.encode()).hexdigest())


def _recording_fault(path: Path, name: str) -> str | None:
    try:
        check_audio(path)
        samples = read_audio(path)
    except AudioError as error:
        return f"  {name}: {str(error).removeprefix(f'{path.name}: ')}"
    return None if np.isfinite(samples).all() and samples.any() else f"  {name}: is silent or not finite"


@lru_cache(maxsize=CACHED_RECORDINGS)
def _read_recording(path: Path) -> FloatArray:
    return read_audio(path, SAMPLE_RATE)


def active_frames(waveform: FloatArray) -> NDArray[np.bool_]:
    """Find the samples in frames with speech.

    A 20 ms frame is active if its power is positive and within 30 dB of the 95th percentile of all frames.

    Parameters
    ----------
    waveform : (n,) float
        16 kHz.

    Returns
    -------
    (n,) bool
        False after the last whole frame, and everywhere for digital silence.
    """
    frames = waveform[: len(waveform) // FRAME_LENGTH * FRAME_LENGTH].reshape(-1, FRAME_LENGTH)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    loud = np.quantile(power, 0.95) if len(power) else 0.0
    active = (power > 0) & (power >= loud * 10 ** (-ACTIVITY_RANGE_DB / 10))
    return np.pad(np.repeat(active, FRAME_LENGTH), (0, len(waveform) - frames.size))


def active_power(waveform: FloatArray, active: NDArray[np.bool_]) -> float:
    """Mean square over the active samples."""
    return float(np.mean(np.square(waveform[active], dtype=np.float64)))


def add_noise(
    waveform: FloatArray, snr: float, rng: np.random.Generator, noises: Recordings | None = None
) -> tuple[FloatArray, str]:
    """Add noise at a signal-to-noise ratio.

    The power of speech and of noise is measured over the active frames of the speech.

    Parameters
    ----------
    waveform : (n,) float32
        Speech, 16 kHz.
    snr : float
        In dB.
    rng : Generator
    noises : Recordings or None
        Recordings to choose from; None for synthetic noise.

    Returns
    -------
    noisy : (n,) float32
    name : str
        Type of synthetic noise, or name of the recording.

    Raises
    ------
    EarmarkError
        If `MAX_ATTEMPTS` random segments are silent.
    """
    active = active_frames(waveform)
    speech_power = active_power(waveform, active)
    for _ in range(MAX_ATTEMPTS):
        name, noise = (
            _synthetic_noise(len(waveform), rng) if noises is None else _recorded_noise(noises, len(waveform), rng)
        )
        noise_power = active_power(noise, active)
        if noise_power >= 0.01 * float(np.mean(np.square(noise, dtype=np.float64))) > 0:
            scaled = noise * np.sqrt(speech_power / noise_power / 10 ** (snr / 10))
            return (waveform + scaled).astype(np.float32), name
    raise EarmarkError(f"{name}: {MAX_ATTEMPTS} random segments are silent. Remove the pauses from the recording.")


def _recorded_noise(noises: Recordings, length: int, rng: np.random.Generator) -> tuple[str, FloatArray]:
    """A segment of a recording with random start; the recording is repeated if it is too short."""
    name, noise = noises.sample(rng)
    start = int(rng.integers(len(noise)))
    return name, np.take(noise, np.arange(start, start + length), mode="wrap")


def _synthetic_noise(length: int, rng: np.random.Generator) -> tuple[str, FloatArray]:
    name = list(NOISE_TYPES)[int(rng.integers(len(NOISE_TYPES)))]
    return name, NOISE_TYPES[name](length, rng).astype(np.float32)


def coloured_noise(length: int, rng: np.random.Generator, exponent: float) -> NDArray[np.float64]:
    """Gaussian noise with power proportional to 1 / f ** exponent; no power below 20 Hz."""
    fft_length = next_fast_len(length, real=True)
    spectrum = np.fft.rfft(rng.standard_normal(fft_length))
    frequency = np.fft.rfftfreq(fft_length, 1 / SAMPLE_RATE)
    shaped = spectrum * np.where(frequency >= 20, np.maximum(frequency, 20) ** (-exponent / 2), 0)
    return np.fft.irfft(shaped, fft_length)[:length]


def babble_noise(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Sum of several synthetic voices: band-passed sawtooth with varying pitch, modulated by syllables."""
    time = np.arange(length) / SAMPLE_RATE
    total = np.zeros(length)
    for _ in range(N_BABBLE_VOICES):
        pitch = rng.uniform(90, 230) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 1.2) * time + rng.uniform(0, 6)))
        buzz = signal.sawtooth(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) + 0.3 * rng.standard_normal(length)
        syllables = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 6) * time + rng.uniform(0, 6))
        low = rng.uniform(350, 700)
        voice = signal.sosfilt(signal.butter(2, (low / 3, low * 4), "bandpass", fs=SAMPLE_RATE, output="sos"), buzz)
        total += voice * syllables**2
    return total


NOISE_TYPES: Mapping[str, Callable[[int, np.random.Generator], NDArray[np.float64]]] = {
    "white": lambda length, rng: coloured_noise(length, rng, 0),
    "pink": lambda length, rng: coloured_noise(length, rng, 1),
    "brown": lambda length, rng: coloured_noise(length, rng, 2),
    "babble": babble_noise,
}


def apply_room(
    waveform: FloatArray, rng: np.random.Generator, rooms: Recordings | None = None
) -> tuple[FloatArray, dict[str, Any]]:
    """Add reverberation, keeping the RMS level and the position of the direct path.

    Parameters
    ----------
    waveform : (n,) float32
        Speech, 16 kHz.
    rng : Generator
    rooms : Recordings or None
        Impulse responses to choose from, whose largest sample is taken as the direct path; None for synthetic rooms.

    Returns
    -------
    reverberant : (n,) float32
    description : dict
        `room` (size, or name of the recording); for synthetic rooms also `rt60_s` and `distance_m`.
    """
    if rooms is None:
        response, description = simulate_room(rng)
    else:
        name, response = rooms.sample(rng)
        description = {"room": name}
    direct = int(np.abs(response).argmax())
    reverberant = signal.oaconvolve(waveform, response[direct:] * np.sign(response[direct]))[: len(waveform)]
    gain = np.sqrt(np.mean(np.square(waveform)) / np.mean(np.square(reverberant)))
    return (reverberant * gain).astype(np.float32), description


def simulate_room(rng: np.random.Generator) -> tuple[FloatArray, dict[str, Any]]:
    """Simulate the impulse response between two random points of a random room.

    Returns
    -------
    response : (k,) float32
    description : dict
        `room` (size), `rt60_s` and `distance_m` as text.
    """
    bounds = simulation_parameters()["room"]
    size = rng.uniform(bounds["smallest"], bounds["largest"])
    rt60 = float(rng.uniform(*bounds["reverberation_time"]))
    while True:
        listener, direction = rng.uniform(0.3, size - 0.3), rng.standard_normal(3)
        distance = float(rng.uniform(*bounds["distance"]))
        talker = listener + direction / np.linalg.norm(direction) * distance
        if (talker > 0.3).all() and (talker < size - 0.3).all():
            break
    description = {"room": "x".join(f"{side:.2f}" for side in size) + " m"}
    description |= {"rt60_s": f"{rt60:.3f}", "distance_m": f"{distance:.2f}"}
    return shoebox_response(size, talker, listener, rt60), description


def shoebox_response(
    size: NDArray[np.float64], talker: NDArray[np.float64], listener: NDArray[np.float64], rt60: float
) -> FloatArray:
    """Impulse response of a shoebox room by the image-source method, high-passed at 50 Hz.

    Parameters
    ----------
    size, talker, listener : (3,) float
        Size of the room and positions, in metres.
    rt60 : float
        Reverberation time in seconds; Eyring's formula gives the reflection coefficient of the walls.

    Returns
    -------
    (k,) float32
        At 16 kHz; covers `RESPONSE_LENGTH` of the reverberation time.

    References
    ----------
    Allen and Berkley (1979), Image method for efficiently simulating small-room acoustics, J. Acoust. Soc. Am. 65:943.
    """
    surface = 2 * sum(first * second for first, second in itertools.combinations(size, 2))
    reflection = np.exp(-0.161 * float(np.prod(size)) / (surface * rt60) / 2)
    max_distance = rt60 * RESPONSE_LENGTH * SPEED_OF_SOUND
    offsets, bounces = [], []
    for side, source, ear in zip(size, talker, listener, strict=True):
        image = np.arange(-np.ceil(max_distance / 2 / side), np.ceil(max_distance / 2 / side) + 1)
        offsets.append(np.concatenate([2 * image * side + source, 2 * image * side - source]) - ear)
        bounces.append(np.concatenate([np.abs(2 * image), np.abs(2 * image - 1)]))
    x, y, z = np.ix_(*offsets)
    squared = x**2 + y**2 + z**2
    reflections = np.add.outer(np.add.outer(*bounces[:2]), bounces[2])
    in_range = squared <= max_distance**2
    distance = np.sqrt(squared[in_range])
    delay = np.rint(distance / SPEED_OF_SOUND * SAMPLE_RATE).astype(int)
    response = np.bincount(delay, reflection ** reflections[in_range] / distance)
    return signal.sosfilt(signal.butter(2, 50, "highpass", fs=SAMPLE_RATE, output="sos"), response).astype(np.float32)

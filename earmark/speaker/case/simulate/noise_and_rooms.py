"""What the air does to speech: noise at a signal-to-noise ratio, and rooms. From recordings or built in.

Built-in noise is white, pink (−3 dB an octave), brown (−6 dB an octave) or babble-like (several buzzing voices with
syllables of their own). Built-in rooms are shoeboxes by the image-source method, walls alike at all frequencies.
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
from earmark.speaker.case.simulate.codecs import RATE, FloatArray, simulation_parameters

FRAME = RATE // 50  # 20 ms
ACTIVE_WITHIN_DB = 30  # of the loud frames' level
SOUND = 343.0  # metres a second
HEARD = 0.7  # of the reverberation time: the response ends where it has fallen by 42 dB
TRIES = 8  # places in a noise recording, until one is not a pause
TALKERS = 6
SOURCES_OF_NOISE = 64  # recordings kept in memory


@dataclass(frozen=True)
class Recordings:
    """A folder of noises or impulse responses, every file of which can be decoded."""

    folder: Path
    names: tuple[str, ...]
    fingerprint: str

    def draw(self, rng: np.random.Generator) -> tuple[str, FloatArray]:
        """One of them: its name, and its samples at 16 kHz mono."""
        name = self.names[int(rng.integers(len(self.names)))]
        return name, _recording(self.folder / name)


def find_recordings(folder: Path) -> Recordings:
    """The audio files below a folder. EarmarkError names every file that is silent or cannot be decoded."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not names:
        raise EarmarkError(f"{shown_path(folder)}: holds no audio ({', '.join(SUFFIXES)}).")
    faults = [fault for name in names if (fault := _fault(folder / name, name))]
    if faults:
        raise EarmarkError(
            "\n".join([f"{shown_path(folder)}: {len(faults)} unusable", *faults, "Repair or remove them."])
        )
    sizes = "\n".join(f"{name} {(folder / name).stat().st_size}" for name in names)
    return Recordings(folder, tuple(names), hashlib.sha256(sizes.encode()).hexdigest())


def _fault(path: Path, name: str) -> str | None:
    try:
        check_audio(path)
        samples = read_audio(path)
    except AudioError as error:
        return f"  {name}: {str(error).removeprefix(f'{path.name}: ')}"
    return None if np.isfinite(samples).all() and samples.any() else f"  {name}: is silent or not finite"


@lru_cache(maxsize=SOURCES_OF_NOISE)
def _recording(path: Path) -> FloatArray:
    return read_audio(path, RATE)


def active_frames(waveform: FloatArray) -> NDArray[np.bool_]:
    """Which samples lie in frames of speech: 20 ms whose level is within 30 dB of the 95th percentile frame.

    Returns (n,) for n samples; those after the last whole frame are never active. Digital silence: none is.
    """
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    loud = np.quantile(power, 0.95) if len(power) else 0.0
    active = (power > 0) & (power >= loud * 10 ** (-ACTIVE_WITHIN_DB / 10))
    return np.pad(np.repeat(active, FRAME), (0, len(waveform) - frames.size))


def active_power(waveform: FloatArray, active: NDArray[np.bool_]) -> float:
    """Mean square over the active samples."""
    return float(np.mean(np.square(waveform[active], dtype=np.float64)))


def add_noise(
    waveform: FloatArray, snr: float, rng: np.random.Generator, noises: Recordings | None = None
) -> tuple[FloatArray, str]:
    """Speech with noise `snr` dB below it, both measured as RMS over the frames in which there is speech.

    Returns the sum and the name of the noise, a built-in colour or a recording.
    """
    active = active_frames(waveform)
    speech = active_power(waveform, active)
    for _ in range(TRIES):
        name, noise = _built_in_noise(len(waveform), rng) if noises is None else _piece(noises, len(waveform), rng)
        level = active_power(noise, active)
        if level >= 0.01 * float(np.mean(np.square(noise, dtype=np.float64))) > 0:
            return (waveform + noise * np.sqrt(speech / level / 10 ** (snr / 10))).astype(np.float32), name
    raise EarmarkError(f"{name}: no noise in {TRIES} places chosen at random. Leave the pauses out of the recording.")


def _piece(noises: Recordings, length: int, rng: np.random.Generator) -> tuple[str, FloatArray]:
    """A piece of a recording from a random place on; a shorter recording is repeated."""
    name, noise = noises.draw(rng)
    start = int(rng.integers(len(noise)))
    return name, np.take(noise, np.arange(start, start + length), mode="wrap")


def _built_in_noise(length: int, rng: np.random.Generator) -> tuple[str, FloatArray]:
    name = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    return name, COLOURS[name](length, rng).astype(np.float32)


def coloured(length: int, rng: np.random.Generator, exponent: float) -> NDArray[np.float64]:
    """Gaussian noise whose power falls as 1 / f ** exponent, from 20 Hz up."""
    whole = next_fast_len(length, real=True)
    spectrum = np.fft.rfft(rng.standard_normal(whole))
    frequency = np.fft.rfftfreq(whole, 1 / RATE)
    shaped = spectrum * np.where(frequency >= 20, np.maximum(frequency, 20) ** (-exponent / 2), 0)
    return np.fft.irfft(shaped, whole)[:length]


def babble(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Several voices at once: buzzes of wandering pitch, shaped like long-term speech, each with its syllables."""
    time = np.arange(length) / RATE
    total = np.zeros(length)
    for _ in range(TALKERS):
        pitch = rng.uniform(90, 230) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 1.2) * time + rng.uniform(0, 6)))
        buzz = signal.sawtooth(2 * np.pi * np.cumsum(pitch) / RATE) + 0.3 * rng.standard_normal(length)
        syllables = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 6) * time + rng.uniform(0, 6))
        low = rng.uniform(350, 700)
        voice = signal.sosfilt(signal.butter(2, (low / 3, low * 4), "bandpass", fs=RATE, output="sos"), buzz)
        total += voice * syllables**2
    return total


COLOURS: Mapping[str, Callable[[int, np.random.Generator], NDArray[np.float64]]] = {
    "white": lambda length, rng: coloured(length, rng, 0),
    "pink": lambda length, rng: coloured(length, rng, 1),
    "brown": lambda length, rng: coloured(length, rng, 2),
    "babble": babble,
}


def pass_room(
    waveform: FloatArray, rng: np.random.Generator, rooms: Recordings | None = None
) -> tuple[FloatArray, dict[str, Any]]:
    """Speech in a room, as loud as before, its direct path aligned with the input.

    The direct path of a recorded impulse response is its largest sample. Returns the speech and what the room is.
    """
    if rooms is None:
        response, described = simulated_room(rng)
    else:
        name, response = rooms.draw(rng)
        described = {"room": name}
    direct = int(np.abs(response).argmax())
    reverberant = signal.oaconvolve(waveform, response[direct:] * np.sign(response[direct]))[: len(waveform)]
    loudness = np.sqrt(np.mean(np.square(waveform)) / np.mean(np.square(reverberant)))
    return (reverberant * loudness).astype(np.float32), described


def simulated_room(rng: np.random.Generator) -> tuple[FloatArray, dict[str, Any]]:
    """The impulse response between two random points of a random room, and its facts: size, distance, time."""
    bounds = simulation_parameters()["room"]
    size = rng.uniform(bounds["smallest"], bounds["largest"])
    seconds = float(rng.uniform(*bounds["reverberation_time"]))
    while True:
        listener, direction = rng.uniform(0.3, size - 0.3), rng.standard_normal(3)
        distance = float(rng.uniform(*bounds["distance"]))
        talker = listener + direction / np.linalg.norm(direction) * distance
        if (talker > 0.3).all() and (talker < size - 0.3).all():
            break
    described = {"room": "x".join(f"{side:.2f}" for side in size) + " m"}
    described |= {"rt60_s": f"{seconds:.3f}", "distance_m": f"{distance:.2f}"}
    return shoebox(size, talker, listener, seconds), described


def shoebox(
    size: NDArray[np.float64], talker: NDArray[np.float64], listener: NDArray[np.float64], seconds: float
) -> FloatArray:
    """Impulse response of a shoebox room by its image sources, high-passed at 50 Hz.

    size, talker, listener: (3,) metres. seconds: reverberation time; Eyring's formula gives the walls' reflection.
    Source: Allen and Berkley (1979), Image method for efficiently simulating small-room acoustics.
    """
    surface = 2 * sum(one * other for one, other in itertools.combinations(size, 2))
    reflection = np.exp(-0.161 * float(np.prod(size)) / (surface * seconds) / 2)
    reach = seconds * HEARD * SOUND
    offsets, bounces = [], []
    for side, source, ear in zip(size, talker, listener, strict=True):
        image = np.arange(-np.ceil(reach / 2 / side), np.ceil(reach / 2 / side) + 1)
        offsets.append(np.concatenate([2 * image * side + source, 2 * image * side - source]) - ear)
        bounces.append(np.concatenate([np.abs(2 * image), np.abs(2 * image - 1)]))
    x, y, z = np.ix_(*offsets)
    squared = x**2 + y**2 + z**2
    walls = np.add.outer(np.add.outer(*bounces[:2]), bounces[2])
    heard = squared <= reach**2
    distance = np.sqrt(squared[heard])
    arrivals = np.bincount(np.rint(distance / SOUND * RATE).astype(int), reflection ** walls[heard] / distance)
    return signal.sosfilt(signal.butter(2, 50, "highpass", fs=RATE, output="sos"), arrivals).astype(np.float32)

"""Training segments: random cuts, noise or reverberation, filter bank with dither."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from earmark.models.encoders.wespeaker.front_end import FRAME_MS, SAMPLE_RATE, SHIFT_MS, filter_bank
from earmark.speaker.case.simulate.noise_and_rooms import Recordings, active_frames, add_noise, apply_room
from earmark.speaker.finetune.recipe import Recipe

Array = NDArray[np.float32]
SNR_RANGES = {"speech": (10.0, 30.0), "music": (5.0, 15.0)}  # dB, by the first letters of a folder or file, as in MUSAN
SNR_RANGE = (0.0, 15.0)  # dB, of other noise


@dataclass(frozen=True)
class Augmentation:
    """Recordings of noise and impulse responses; None for synthetic ones."""

    noises: Recordings | None = None
    rooms: Recordings | None = None


def samples_of(frames: int) -> int:
    """Number of samples of a segment with this number of frames.

    >>> samples_of(1), samples_of(600)
    (400, 96240)
    """
    return round(((frames - 1) * SHIFT_MS + FRAME_MS) * SAMPLE_RATE / 1000)


def shortest_clip(recipe: Recipe) -> int:
    """Number of samples below which a clip is left out: `min_frames` shifts."""
    return round(recipe.min_frames * SHIFT_MS * SAMPLE_RATE / 1000)


def cut(waveform: Array, length: int, rng: np.random.Generator) -> Array:
    """Cut a random part of a waveform; a shorter waveform is repeated to the length.

    Parameters
    ----------
    waveform : (n,) float32
        n ≥ 1.
    length : int
    rng : Generator
        Not used if n ≤ length.

    Returns
    -------
    (length,) float32

    Examples
    --------
    >>> cut(np.arange(3, dtype=np.float32), 5, np.random.default_rng(0)).tolist()
    [0.0, 1.0, 2.0, 0.0, 1.0]
    """
    if len(waveform) <= length:
        return np.resize(waveform, length)
    start = int(rng.integers(len(waveform) - length + 1))
    return waveform[start : start + length]


def training_features(
    waveform: Array, recipe: Recipe, mel_bins: int, rng: np.random.Generator, augmentation: Augmentation
) -> Array:
    """Features of a random segment of a clip.

    Parameters
    ----------
    waveform : (n,) float32
        16 kHz.
    recipe : Recipe
    mel_bins : int
    rng : Generator
        Decides the segment, the augmentation and the dither.
    augmentation : Augmentation

    Returns
    -------
    (segment_frames, mel_bins) float32
    """
    longest = round(recipe.max_frames * SHIFT_MS * SAMPLE_RATE / 1000)
    if len(waveform) > longest:
        waveform = cut(waveform, longest, rng)
    segment = cut(waveform, samples_of(recipe.segment_frames), rng)
    if rng.random() < recipe.augment_probability:
        segment = _augmented(segment, rng, augmentation)
    return filter_bank(segment, mel_bins, dither=recipe.dither, rng=rng)


def _augmented(segment: Array, rng: np.random.Generator, augmentation: Augmentation) -> Array:
    """Add reverberation or noise with equal chance; a silent segment stays as it is."""
    reverberate = rng.random() < 0.5
    if not active_frames(segment).any():
        return segment
    if reverberate:
        return apply_room(segment, rng, augmentation.rooms)[0]
    noises, snr_range = augmentation.noises, SNR_RANGE
    if noises is not None:  # the ratio depends on the kind of noise, so the recording is drawn first
        name = noises.names[int(rng.integers(len(noises.names)))]
        noises = replace(noises, names=(name,))
        snr_range = next((snr for kind, snr in SNR_RANGES.items() if name.lower().startswith(kind)), SNR_RANGE)
    return add_noise(segment, float(rng.uniform(*snr_range)), rng, noises)[0]

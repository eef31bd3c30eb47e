"""Folders of short synthetic voices, each with its own pitch and resonance."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
LANGUAGES = ("de", "en")


def voice(speaker: int, clip: int, seconds: float = 0.7) -> np.ndarray:
    """Pulses of a speaker's pitch through a speaker's resonance; clips differ in pitch, level and noise."""
    rng = np.random.default_rng([speaker, clip])
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = (90 + 25 * speaker) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(1, 3) * time))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    resonance = np.exp(-300 * time[:400]) * np.cos(2 * np.pi * (600 + 220 * speaker) * time[:400])
    wave = np.convolve(pulses, resonance)[: len(time)] + 0.01 * rng.standard_normal(len(time))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def write_voices(folder: Path, n_speakers: int = 6, clips: int = 2, seconds: float = 0.7) -> Path:
    """spk<i>/<language>/<n>.wav; `clips` for each of two languages."""
    for speaker in range(n_speakers):
        for position, language in enumerate(LANGUAGES):
            for clip in range(clips):
                path = folder / f"spk{speaker}" / language / f"{clip}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, voice(speaker, 10 * position + clip, seconds), RATE, subtype="PCM_16")
    return folder

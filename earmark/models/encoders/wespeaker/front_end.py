"""Front end of WeSpeaker models: Kaldi filter bank, mean over time subtracted."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.models.encoders.torch_encoder import require_encoder_library
from earmark.models.encoders.wespeaker.architectures import MEL_BINS

Array = NDArray[np.float32]
EXTRA = "--extra torch"
SAMPLE_RATE = 16_000
FRAME_MS, SHIFT_MS = 25.0, 10.0
FULL_SCALE = 32768.0  # Kaldi's samples are 16-bit integers


def filter_bank(
    waveform: Array,
    mel_bins: int = MEL_BINS,
    dither: float = 0.0,
    rng: np.random.Generator | None = None,
    min_frames: int = 1,
) -> Array:
    """Log mel filter bank of Kaldi, minus its mean over time.

    25 ms frames every 10 ms, Hamming window, pre-emphasis 0.97, no energy. Frames that would reach beyond the end are
    left out.

    Parameters
    ----------
    waveform : (n,) float32
        16 kHz, full scale 1.
    mel_bins : int
    dither : float
        Standard deviation of the noise added to the samples, on the scale of 16-bit integers. Kaldi draws it for each
        frame; here it is drawn once for each sample, so that it can be reproduced.
    rng : Generator, optional
        Required with dither.
    min_frames : int
        Fewest frames.

    Returns
    -------
    (T, mel_bins) float32
        T = 1 + ⌊(n − 400) / 160⌋.

    Raises
    ------
    AudioError
        If there are fewer than `min_frames` frames.
    MissingError
        If kaldi-native-fbank is not installed.
    """
    frame, shift = (round(SAMPLE_RATE * ms / 1000) for ms in (FRAME_MS, SHIFT_MS))
    if len(waveform) < frame + (min_frames - 1) * shift:
        needed = (frame + (min_frames - 1) * shift) / SAMPLE_RATE
        raise AudioError(f"is too short: {len(waveform) / SAMPLE_RATE:.3f} s, the model needs {needed:.3f} s")
    samples = waveform * np.float32(FULL_SCALE)
    if dither:
        assert rng is not None
        samples = samples + rng.standard_normal(len(samples), dtype=np.float32) * np.float32(dither)
    library, options = _filter_bank_options(mel_bins)
    bank = library.OnlineFbank(options)
    bank.accept_waveform(SAMPLE_RATE, samples)
    bank.input_finished()
    features = np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
    return np.asarray(features - features.mean(axis=0), dtype=np.float32)


@cache
def _filter_bank_options(mel_bins: int) -> tuple[Any, Any]:
    library = require_encoder_library("kaldi_native_fbank", EXTRA)
    options = library.FbankOptions()
    frames = options.frame_opts
    frames.samp_freq, frames.frame_length_ms, frames.frame_shift_ms = SAMPLE_RATE, FRAME_MS, SHIFT_MS
    frames.dither, frames.window_type = 0.0, "hamming"
    options.mel_opts.num_bins = mel_bins
    options.use_energy = False
    return library, options

"""The built-in encoder on signals with known spectra."""

import math

import numpy as np
import pytest

from earmark.audio.decode import AudioError
from earmark.models.encoders.logmel import BANDS, FLOOR, log_mel, mel_filters
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders.sources import noises

TONE = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000).astype(np.float32)


def test_tone_of_1000_hz_peaks_at_1000_mel():
    # 1127 ln(1 + 1000 / 700) = 1000 mel. The 42 edges go from 31.7 to 2787 mel in steps of 67.2; 1000 mel is 14.4 steps
    # up, nearest to the centre of band 13. A hop has ten periods, so all frames are equal.
    (embedding,) = load_encoder("logmel").embed([TONE])
    assert embedding.shape == (80,) and embedding.dtype == np.float32
    assert embedding[:BANDS].argmax() == 13
    assert np.abs(embedding[BANDS + 10 : BANDS + 18]).max() < 1e-3


def test_band_power_matches_direct_sum():
    power = 0.0
    for k, weight in enumerate(mel_filters()[13]):
        terms = [
            TONE[t] * (0.5 - 0.5 * math.cos(2 * math.pi * t / 400)) * np.exp(-2j * math.pi * k * t / 512)
            for t in range(400)
        ]
        power += weight * abs(sum(terms)) ** 2
    assert log_mel(TONE)[0, 13] == pytest.approx(math.log(power), abs=1e-6)


def test_half_amplitude_lowers_means_by_ln_4():
    encoder, waveform = load_encoder("logmel"), noises(1)[0]
    loud, soft = encoder.embed([waveform, waveform / 2])
    np.testing.assert_allclose(loud[:BANDS] - soft[:BANDS], math.log(4), atol=1e-4)
    np.testing.assert_allclose(loud[BANDS:], soft[BANDS:], atol=1e-4)


def test_silence_and_short_clips_are_rejected():
    encoder = load_encoder("logmel")
    for silence in (np.zeros(16_000), np.full(16_000, FLOOR)):
        with pytest.raises(AudioError, match="is silent"):
            encoder.embed([silence.astype(np.float32)])
    with pytest.raises(AudioError, match="is too short: 10 ms, where logmel needs 25 ms"):
        encoder.embed([TONE[:160]])
    assert encoder.embed([TONE[:400]]).shape == (1, 80)


def test_identity_is_stable_file_name():
    one, other = load_encoder("logmel"), load_encoder("logmel")
    assert one.identity == other.identity
    assert one.identity.startswith("logmel-") and "/" not in one.identity


def test_frames_are_log_mel_bands():
    encoder, waveforms = load_encoder("logmel"), noises(3, seconds=1.0)
    for waveform, frames in zip(waveforms, encoder.embed_clips(waveforms, EmbeddingRequest(frames=True)), strict=True):
        # 1 s: windows of 400 samples every 160 samples; the last one starts at 97 · 160 = 15,520.
        assert frames.shape == (1 + (len(waveform) - 400) // 160, 40) and frames.dtype == np.float32
        np.testing.assert_allclose(frames.mean(axis=0), encoder.embed([waveform])[0, :BANDS], rtol=1e-5)
        np.testing.assert_array_equal(frames, log_mel(waveform).astype(np.float32))
    assert len(encoder.embed_clips([waveforms[0][:16_000]], EmbeddingRequest(frames=True))[0]) == 98
    assert encoder.hop_seconds == 0.01 and encoder.width(EmbeddingRequest(frames=True)) == 40 and encoder.width() == 80

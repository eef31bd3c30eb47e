"""Training segments: cuts, repetition, augmentation, dither."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("kaldi_native_fbank")

from earmark.models.encoders.wespeaker.front_end import filter_bank
from earmark.speaker.case.simulate.noise_and_rooms import find_recordings
from earmark.speaker.finetune import augment
from earmark.speaker.finetune.augment import Augmentation, cut, samples_of, shortest_clip, training_features
from earmark.speaker.finetune.recipe import recipes, with_settings
from tests.speaker.finetune.voices import voice

PLAIN = with_settings(recipes()["published"], ["segment_frames=50", "augment_probability=0", "dither=0"])
AUGMENTED = with_settings(PLAIN, ["augment_probability=1"])
NONE = Augmentation()


def features(waveform, recipe=PLAIN, seed=0, augmentation=NONE):
    return training_features(waveform, recipe, 80, np.random.default_rng(seed), augmentation)


def test_shortest_clip_of_published_recipe_is_two_seconds():
    assert shortest_clip(recipes()["published"]) == 32_000


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 3))
def test_cut_returns_consecutive_samples(n, length, seed):
    waveform = np.arange(n, dtype=np.float32)
    part = cut(waveform, length, np.random.default_rng(seed))
    assert len(part) == length
    assert (np.diff(part) % n == 1 % n).all()  # consecutive, or again from the start


def test_training_features_of_whole_clip_are_its_filter_bank():
    waveform = voice(0, 0, 1.0)[: samples_of(50)]
    np.testing.assert_array_equal(features(waveform), filter_bank(waveform))


def test_training_features_repeat_short_clip():
    waveform = voice(0, 0, 1.0)[:3000]
    np.testing.assert_array_equal(features(waveform), filter_bank(np.tile(waveform, 3)[: samples_of(50)]))


def test_training_features_depend_on_generator_alone():
    waveform, recipe = voice(0, 0, 2.0), with_settings(AUGMENTED, ["dither=1"])
    np.testing.assert_array_equal(features(waveform, recipe, 3), features(waveform, recipe, 3))
    assert not np.array_equal(features(waveform, recipe, 3), features(waveform, recipe, 4))


def test_training_features_with_dither_are_close():
    waveform = voice(0, 0, 1.0)[: samples_of(50)]
    dithered = features(waveform, with_settings(PLAIN, ["dither=1"]))
    assert 0 < np.abs(dithered - features(waveform)).mean() < 0.5


def test_training_features_cut_long_clips_to_max_frames_first():
    # The last 7,200 of 24,000 samples can only be reached if the first cut is random.
    recipe = with_settings(PLAIN, ["min_frames=20", "max_frames=60"])
    waveform = np.sign(np.arange(24_000) - 16_800).astype(np.float32) * voice(0, 0, 1.5)
    assert len({features(waveform, recipe, seed).tobytes() for seed in range(12)}) == 12


@pytest.mark.parametrize(
    ("name", "low", "high"), [("noise/fan.wav", 0, 15), ("speech/talk.wav", 10, 30), ("music/tune.wav", 5, 15)]
)
def test_augmentation_mixes_kinds_of_noise_at_their_ratio(tmp_path, monkeypatch, name, low, high):
    path = tmp_path / name
    path.parent.mkdir()
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    asked = []
    monkeypatch.setattr(
        augment, "add_noise", lambda waveform, snr, rng, noises: (asked.append((snr, noises.names)), (waveform, ""))[1]
    )
    monkeypatch.setattr(augment, "apply_room", lambda waveform, rng, rooms: (waveform, {}))
    for seed in range(60):
        features(voice(0, 0, 1.0), AUGMENTED, seed, Augmentation(find_recordings(tmp_path)))
    ratios = [snr for snr, _ in asked]
    assert 15 < len(asked) < 45 and all(names == (name,) for _, names in asked)  # half, the others get reverberation
    assert low <= min(ratios) < low + (high - low) / 3 and high - (high - low) / 3 < max(ratios) <= high


def test_augmentation_leaves_silent_segment():
    silent = np.zeros(16_000, dtype=np.float32)
    assert np.isfinite(features(silent, AUGMENTED, 1)).all() and np.isfinite(features(silent, AUGMENTED, 2)).all()

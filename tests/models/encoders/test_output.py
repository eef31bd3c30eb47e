"""What a view asks for, and crops, by hand and as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.audio.decode import AudioError
from earmark.errors import EarmarkError
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest, crops
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders.sources import case, noises, save


def test_names_tell_views_apart():
    views = [
        DEFAULT_REQUEST,
        EmbeddingRequest(frames=True),
        EmbeddingRequest(frames=True, dtype="float16"),
        EmbeddingRequest(layers=True),
        EmbeddingRequest(crop_seconds=1),
    ]
    views += [EmbeddingRequest(crop_seconds=1.0000001), EmbeddingRequest(crop_seconds=10, layers=True)]
    assert [wanted.name for wanted in views] == [
        *("", "frames", "frames-float16", "layers", "crops-1s", "crops-1.0000001s", "crops-10s-layers")
    ]
    assert EmbeddingRequest(crop_seconds=1) == EmbeddingRequest(crop_seconds=1.0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"frames": True, "layers": True}, "ask for no crops and no layers"),
        ({"frames": True, "crop_seconds": 1.0}, "ask for no crops and no layers"),
        ({"crop_seconds": 0}, "Crops of 0 s cannot be made"),
        ({"crop_seconds": float("nan")}, "Crops of nan s cannot be made"),
        ({"dtype": "float16"}, "all else in float32"),
        ({"frames": True, "dtype": "int8"}, "float32 or float16"),
    ],
)
def test_what_does_not_go_together(asked, message):
    with pytest.raises(EarmarkError, match=message):
        EmbeddingRequest(**asked)


@given(st.integers(1, 400), st.integers(1, 50))
def test_crops_follow_one_another_and_lose_less_than_half_a_crop(samples, length):
    waveform = np.arange(samples, dtype=np.float32)
    found = crops(waveform, length / 10, rate=10)
    kept = np.concatenate(found)
    np.testing.assert_array_equal(kept, waveform[: len(kept)])
    assert all(len(crop) == length for crop in found[:-1]) and len(found[-1]) <= length
    assert samples - len(kept) < length / 2


def test_crops_are_the_embeddings_of_the_crops():
    encoder, waveform = load_encoder("logmel"), noises(1, seconds=2.7)[0]
    (found,) = encoder.embed_clips([waveform], EmbeddingRequest(crop_seconds=1.0))
    expected = encoder.embed([waveform[:16_000], waveform[16_000:32_000], waveform[32_000:]])
    np.testing.assert_array_equal(found, expected)
    assert encoder.embed_clips([waveform[:39_000]], EmbeddingRequest(crop_seconds=1.0))[0].shape == (
        2,
        80,
    )  # 0.44 s are left


def test_crops_without_sound_are_left_out_and_a_clip_of_nothing_else_is_refused():
    encoder, waveform = load_encoder("logmel"), noises(1, seconds=1.0)[0]
    gap = np.concatenate([waveform, np.zeros(16_000, dtype=np.float32), waveform[::-1]])
    (found,) = encoder.embed_clips([gap], EmbeddingRequest(crop_seconds=1.0))
    np.testing.assert_array_equal(found, encoder.embed([waveform, waveform[::-1]]))
    with pytest.raises(AudioError, match="is silent in each of its crops"):
        encoder.embed_clips([np.zeros(32_000, dtype=np.float32)], EmbeddingRequest(crop_seconds=1.0))
    with pytest.raises(AudioError, match="is too short: 10 ms, where logmel needs 25 ms"):
        encoder.embed_clips([waveform[:160]], EmbeddingRequest(crop_seconds=1.0))


def test_an_encoder_without_frames_says_so_and_its_one_layer_is_its_embedding(tmp_path):
    encoder = load_encoder(str(save(tmp_path, "mine.py", case())))
    assert (encoder.has_frames, encoder.hop_seconds, encoder.layers) == (False, None, 1)
    with pytest.raises(EarmarkError, match="bands: gives one embedding for a clip and no frames; X-ARES"):
        encoder.embed_clips(noises(1), EmbeddingRequest(frames=True))
    np.testing.assert_array_equal(
        encoder.embed_clips(noises(1), EmbeddingRequest(layers=True))[0], encoder.embed(noises(1))
    )

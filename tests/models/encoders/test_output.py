"""Embedding requests and crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.audio.decode import AudioError
from earmark.errors import EarmarkError
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest, crops
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders.sources import case, noises, save


def test_request_names_are_unique():
    requests = [
        DEFAULT_REQUEST,
        EmbeddingRequest(frames=True),
        EmbeddingRequest(frames=True, dtype="float16"),
        EmbeddingRequest(layers=True),
        EmbeddingRequest(crop_seconds=1),
    ]
    requests += [EmbeddingRequest(crop_seconds=1.0000001), EmbeddingRequest(crop_seconds=10, layers=True)]
    assert [request.name for request in requests] == [
        *("", "frames", "frames-float16", "layers", "crops-1s", "crops-1.0000001s", "crops-10s-layers")
    ]
    assert EmbeddingRequest(crop_seconds=1) == EmbeddingRequest(crop_seconds=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": True, "layers": True}, "frames cannot be combined"),
        ({"frames": True, "crop_seconds": 1.0}, "frames cannot be combined"),
        ({"crop_seconds": 0}, "crop_seconds is 0; it must be a finite number above 0"),
        ({"crop_seconds": float("nan")}, "crop_seconds is nan; it must be"),
        ({"dtype": "float16"}, "dtype is float16; it must be float32, or float16 for frames"),
        ({"frames": True, "dtype": "int8"}, "dtype is int8; it must be float32"),
    ],
)
def test_invalid_request_options(options, message):
    with pytest.raises(EarmarkError, match=message):
        EmbeddingRequest(**options)


@given(st.integers(1, 400), st.integers(1, 50))
def test_crops_cover_all_but_less_than_half_a_crop(samples, length):
    waveform = np.arange(samples, dtype=np.float32)
    pieces = crops(waveform, length / 10, rate=10)
    covered = np.concatenate(pieces)
    np.testing.assert_array_equal(covered, waveform[: len(covered)])
    assert all(len(crop) == length for crop in pieces[:-1]) and len(pieces[-1]) <= length
    assert samples - len(covered) < length / 2


def test_crop_embeddings_equal_embeddings_of_separate_clips():
    encoder, waveform = load_encoder("logmel"), noises(1, seconds=2.7)[0]
    (embeddings,) = encoder.embed_clips([waveform], EmbeddingRequest(crop_seconds=1.0))
    expected = encoder.embed([waveform[:16_000], waveform[16_000:32_000], waveform[32_000:]])
    np.testing.assert_array_equal(embeddings, expected)
    (two_crops,) = encoder.embed_clips([waveform[:39_000]], EmbeddingRequest(crop_seconds=1.0))  # the last has 0.44 s
    assert two_crops.shape == (2, 80)


def test_silent_crops_are_excluded_and_all_silent_clip_is_rejected():
    encoder, waveform = load_encoder("logmel"), noises(1, seconds=1.0)[0]
    gap = np.concatenate([waveform, np.zeros(16_000, dtype=np.float32), waveform[::-1]])
    (embeddings,) = encoder.embed_clips([gap], EmbeddingRequest(crop_seconds=1.0))
    np.testing.assert_array_equal(embeddings, encoder.embed([waveform, waveform[::-1]]))
    with pytest.raises(AudioError, match="is silent in every crop"):
        encoder.embed_clips([np.zeros(32_000, dtype=np.float32)], EmbeddingRequest(crop_seconds=1.0))
    with pytest.raises(AudioError, match="is too short: 10 ms, where logmel needs 25 ms"):
        encoder.embed_clips([waveform[:160]], EmbeddingRequest(crop_seconds=1.0))


def test_encoder_without_frames_has_one_layer(tmp_path):
    encoder = load_encoder(str(save(tmp_path, "mine.py", case())))
    assert (encoder.has_frames, encoder.hop_seconds, encoder.layers) == (False, None, 1)
    with pytest.raises(
        EarmarkError, match=r"bands: returns one embedding per clip and no frames\. Encoders with frames: X-ARES"
    ):
        encoder.embed_clips(noises(1), EmbeddingRequest(frames=True))
    np.testing.assert_array_equal(
        encoder.embed_clips(noises(1), EmbeddingRequest(layers=True))[0], encoder.embed(noises(1))
    )

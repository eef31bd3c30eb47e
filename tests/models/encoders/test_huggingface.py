"""Speech encoders of transformers, with tiny checkpoints in folders."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `clap` is not installed")
pytest.importorskip("transformers", reason="the extra `clap` is not installed")

import torch
import transformers

from earmark.errors import MissingError
from earmark.models.encoders import huggingface
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders.sources import noises

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (25, 16), "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


def saved(folder, kind: str, seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "whisper":
            model = transformers.WhisperModel(
                transformers.WhisperConfig(
                    d_model=16,
                    encoder_layers=1,
                    decoder_layers=1,
                    encoder_attention_heads=2,
                    decoder_attention_heads=2,
                    encoder_ffn_dim=32,
                    decoder_ffn_dim=32,
                    max_source_positions=100,
                    num_mel_bins=80,
                    vocab_size=16,
                    pad_token_id=0,
                    bos_token_id=1,
                    eos_token_id=2,
                    decoder_start_token_id=1,
                )
            )
            extractor = transformers.WhisperFeatureExtractor(chunk_length=2)
        else:
            config = {"wav2vec2": transformers.Wav2Vec2Config, "wavlm": transformers.WavLMConfig}[kind]
            model = transformers.AutoModel.from_config(config(**SMALL, **CONVOLUTIONS, **POSITIONS))
            extractor = transformers.Wav2Vec2FeatureExtractor()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["wav2vec2", "wavlm", "whisper"])
def encoder(request, tmp_path_factory):
    return load_encoder(f"hf:{saved(tmp_path_factory.mktemp('models') / request.param, request.param)}", device="cpu")


def test_embeddings_independent_of_batch(encoder):
    waveforms = noises(5)
    together = encoder.embed(waveforms)
    alone = np.concatenate([encoder.embed([waveform]) for waveform in waveforms])
    assert together.shape == (5, 16) and encoder.dimension == 16
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_wav2vec2_mean_of_last_hidden_state(tmp_path):
    folder = saved(tmp_path / "model", "wav2vec2")
    waveform = noises(1)[0]
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        waveform, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        frames = transformers.AutoModel.from_pretrained(folder).eval()(inputs.input_values).last_hidden_state[0]
    embedding = load_encoder(f"hf:{folder}", device="cpu").embed([waveform])[0]
    np.testing.assert_allclose(embedding, frames.mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)


def test_whisper_excludes_padding_and_splits_windows(tmp_path):
    folder = saved(tmp_path / "model", "whisper")
    encoder = load_encoder(f"hf:{folder}", device="cpu")
    waveform = noises(1, seconds=1.0)[0]
    features = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        waveform, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        frames = transformers.AutoModel.from_pretrained(folder).eval().get_encoder()(**features).last_hidden_state[0]
    assert frames.shape == (100, 16)  # two seconds, the second of which is padding
    np.testing.assert_allclose(encoder.embed([waveform])[0], frames[:50].mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)
    halves = noises(2, seconds=2.0)[0], noises(2, seconds=2.0, seed=1)[0]
    whole = encoder.embed([np.concatenate(halves)])[0]
    np.testing.assert_allclose(whole, encoder.embed(halves).mean(axis=0), rtol=1e-4, atol=1e-5)


def test_identity_depends_on_weights_and_dtype_only(tmp_path):
    identities = [
        load_encoder(f"hf:{saved(tmp_path / place / 'model', 'wav2vec2', seed)}", device="cpu").identity
        for place, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert identities[0] == identities[1] != identities[2]
    assert load_encoder(f"hf:{tmp_path}/a/model", device="cpu", dtype="bfloat16").identity not in identities


def test_revision_of_a_model_from_the_hub_is_described(tmp_path, monkeypatch):
    folder = saved(tmp_path / "model", "wavlm")
    local = load_encoder(f"hf:{folder}", device="cpu")
    load = huggingface.load_complete_model

    def load_from_hub(*arguments, **options):
        network = load(*arguments, **options)
        network.config._commit_hash = "abc123"  # transformers sets it for models from the hub
        return network

    monkeypatch.setattr(huggingface, "load_complete_model", load_from_hub)
    remote = load_encoder(f"hf:{folder}", device="cpu")
    assert "revision" not in local.description and remote.description["revision"] == "abc123"
    assert local.identity == remote.identity
    assert remote.n_parameters == sum(p.numel() for p in remote.network.parameters()) > 0


def test_load_errors(tmp_path):
    with pytest.raises(MissingError, match="no such folder"):
        load_encoder(f"hf:{tmp_path}/absent", device="cpu")
    with pytest.raises(MissingError, match="cannot be loaded as a speech encoder"):
        load_encoder(f"hf:{tmp_path}", device="cpu")


def transformers_output(folder, waveform, **options):
    """Output of transformers for one waveform."""
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        waveform, sampling_rate=16_000, return_tensors="pt"
    )
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return (model.get_encoder() if model.config.is_encoder_decoder else model)(**inputs, **options)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "whisper"])
def test_layers_are_means_of_hidden_states(tmp_path, kind):
    folder = saved(tmp_path / "model", kind)
    encoder = load_encoder(f"hf:{folder}", device="cpu")
    waveforms = noises(4, seconds=1.0)
    together = encoder.embed_clips(waveforms, EmbeddingRequest(layers=True))
    plain, layers = encoder.embed(waveforms), {"whisper": 2}.get(kind, 3)
    assert encoder.layers == layers and encoder.width(EmbeddingRequest(layers=True)) == 16 * layers
    for i, (waveform, actual) in enumerate(zip(waveforms, together, strict=True)):
        states = transformers_output(folder, waveform, output_hidden_states=True).hidden_states
        real = -(-100 * len(waveform) // 32_000) if kind == "whisper" else None
        expected = np.concatenate([state[0, :real].mean(dim=0).numpy() for state in states])
        np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(actual[0, -16:], plain[i], rtol=1e-6)
        alone = encoder.embed_clips([waveform], EmbeddingRequest(layers=True))[0]
        np.testing.assert_allclose(actual, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "whisper"])
def test_frames_exclude_padding_and_are_independent_of_batch(tmp_path, kind):
    folder = saved(tmp_path / "model", kind)
    encoder = load_encoder(f"hf:{folder}", device="cpu")
    waveforms = noises(4, seconds=1.0)
    for waveform, actual in zip(waveforms, encoder.embed_clips(waveforms, EmbeddingRequest(frames=True)), strict=True):
        frames = transformers_output(folder, waveform).last_hidden_state[0].numpy()
        real = -(-100 * len(waveform) // 32_000) if kind == "whisper" else len(frames)
        np.testing.assert_allclose(actual, frames[:real], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(actual.mean(axis=0), encoder.embed([waveform])[0], rtol=1e-4, atol=1e-5)
    assert encoder.hop_seconds == pytest.approx(0.02)


def test_frames_of_windows_are_concatenated(tmp_path):
    encoder = load_encoder(f"hf:{saved(tmp_path / 'model', 'whisper')}", device="cpu")
    halves = [noises(1, seconds=1.5)[0], noises(1, seconds=1.5, seed=1)[0]]  # 3 s: two windows of 1.5 s, not 2 and 1
    (actual,) = encoder.embed_clips([np.concatenate(halves)], EmbeddingRequest(frames=True))
    expected = np.concatenate(encoder.embed_clips(halves, EmbeddingRequest(frames=True)))
    assert actual.shape == (150, 16)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

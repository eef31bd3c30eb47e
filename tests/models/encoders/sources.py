"""Source code of encoders, which tests save to files and load unmodified."""

from pathlib import Path

import numpy as np
import soundfile

XARES = '''"""A tiny X-ARES encoder: strided convolution, no padding."""
import torch


class FrameEncoder(torch.nn.Module):
    """A part, which is no encoder for X-ARES although it is called one."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv1d(1, 12, 400, stride=160)

    def forward(self, x):
        return self.convolution(x[:, None]).abs().transpose(1, 2)


class TinyEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sampling_rate = 16_000
        self.output_dim = 12
        self.hop_size_in_ms = 10
        print("chatter of an encoder")
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            self.frames = FrameEncoder()

    def forward(self, audio):
        return self.frames(audio)
'''.replace("SEED", "7")

XARES_LLM = '''"""An XARES-LLM encoder: the tiny X-ARES encoder behind padding to whole blocks of three seconds."""
import torch


class MaskedEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.output_dim = 12
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.convolution = torch.nn.Conv1d(1, 12, 400, stride=160)

    def forward(self, audio, audio_attention_mask=None):
        if audio_attention_mask is None:
            audio_attention_mask = torch.ones_like(audio)
        assert audio_attention_mask.shape == audio.shape
        padded = torch.nn.functional.pad(audio, (0, -audio.shape[1] % 48_000))
        features = self.convolution(padded[:, None]).abs().transpose(1, 2)
        n_frames = (audio_attention_mask.sum(1) - 400) // 160 + 1
        mask = (torch.arange(features.shape[1]) < n_frames[:, None]).int()
        return features, mask
'''

CASE = '''"""A CASE EmbeddingModel without torch: a spectrum in bands."""
import wave
import numpy as np


class Bands:
    def __init__(self):
        self.ready = False

    @property
    def name(self):
        return "bands"

    @property
    def embedding_dim(self):
        return 6

    def load(self):
        self.ready = True

    def extract_embedding(self, audio_path):
        assert self.ready
        with wave.open(str(audio_path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768
        SLOW
        return np.array([part.sum() for part in np.array_split(np.abs(np.fft.rfft(samples)), 6)])
'''

HEAR = '''"""A HEAR module."""
import torch


class Model(torch.nn.Module):
    sample_rate = 22_050
    scene_embedding_size = 5
    timestamp_embedding_size = 5

    def __init__(self):
        super().__init__()
        self.register_buffer("edges", torch.linspace(0, 1, 6))


def load_model(model_file_path=""):
    return Model()


def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)


def get_timestamp_embeddings(audio, model):
    frames = audio.unfold(1, 512, 256)
    spectrum = torch.fft.rfft(frames).abs()[..., :255].reshape(*frames.shape[:2], 5, 51).sum(-1)
    return spectrum, torch.arange(frames.shape[1])[None] * 256 / 22.05
'''


def case(slow: float = 0.0) -> str:
    """Source of the CASE model. slow: seconds per clip."""
    return CASE.replace("SLOW", f"__import__('time').sleep({slow})")


def save(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def noises(n: int, rate: int = 16_000, seconds: float = 0.5, seed: int = 0) -> list[np.ndarray]:
    """Coloured noises of different lengths; every third is as long as the first."""
    rng = np.random.default_rng(seed)
    lengths = [int(rate * seconds) + (0 if i % 3 == 0 else 37 * i) for i in range(n)]
    return [
        np.convolve(rng.normal(0, 0.05, length), rng.normal(0, 0.3, 8), "same").astype(np.float32) for length in lengths
    ]


def clips(folder: Path, n: int, rate: int = 16_000, seconds: float = 0.5, seed: int = 0) -> list[Path]:
    """The noises as WAV files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed}-{i:03}.wav" for i in range(n)]
    for path, waveform in zip(paths, noises(n, rate, seconds, seed), strict=True):
        soundfile.write(path, waveform, rate)
    return paths


def layered(text: str = XARES) -> str:
    """Source of the X-ARES encoder with three layers: frames, their squares, their roots."""
    return text.replace("return self.frames(audio)", "x = self.frames(audio)\n        return [x, x**2, x**0.5]")

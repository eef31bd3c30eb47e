"""Three types of audio-text models, each with batches in which items do not affect one another.

`loading` loads them. torch is imported only when a model is loaded; the rest of the project works without it.
"""

import contextlib
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from earmark.models.batching import embed_by_length
from earmark.models.torch_runtime import require_library
from earmark.standard_output import stdout_to_stderr

Array = NDArray[np.float32]
Prepared = Any  # model input of one window, computed on the CPU
LOOKS_LIKE_A_FILE = re.compile(r"://|^data:|\.\w{2,4}$")
FRAMES_PER_BLOCK = 64  # of a spectrogram computed at once; fits into the cache of a CPU core
Item = TypeVar("Item")


@dataclass
class _Model:
    """Base class. network: the torch module."""

    network: Any
    device: str
    sample_rate: int
    window_seconds: float | None
    description: dict[str, Any]

    def prepare(self, waveform: Array) -> Prepared:
        """The waveform, for models that compute features themselves."""
        return np.ascontiguousarray(waveform)


@dataclass
class Clap(_Model):
    """A transformers ClapModel with its feature extractor and tokenizer."""

    extractor: Any
    tokenizer: Any

    def prepare(self, waveform: Array) -> Prepared:
        """Log-mel features, (1, channels, frames, bins)."""
        features = self.extractor(waveform, sampling_rate=self.sample_rate, return_tensors="np")
        return np.asarray(features["input_features"], dtype=np.float32)

    def embed_audio(self, windows: Sequence[Prepared]) -> Array:
        """Embed all windows in one batch; their features have equal shapes for any length of audio."""
        torch = require_library("torch")
        features = torch.from_numpy(np.concatenate(windows)).to(self.device, self.network.dtype)
        # The extractor marks a random item as "longer" if there is none; our windows are never longer.
        longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            return _array(self.network.get_audio_features(input_features=features, is_longer=longer))

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Embed sentences, batched by number of tokens so that none is padded."""
        max_tokens = min(self.tokenizer.model_max_length, self.network.config.text_config.max_position_embeddings - 2)
        tokens = [self.tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text in texts]
        return embed_by_length(tokens, len, self._embed_tokens)

    def _embed_tokens(self, tokens: Sequence[list[int]]) -> Array:
        torch = require_library("torch")
        ids = torch.tensor(tokens, device=self.device)
        with torch.inference_mode():
            return _array(self.network.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)))


@dataclass
class SentenceTransformerModel(_Model):
    """A sentence-transformers model that takes audio and text."""

    def embed_audio(self, windows: Sequence[Prepared]) -> Array:
        """Embed windows, batched by number of samples so that none is padded."""
        return embed_by_length(windows, len, self._encode_audio)

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Embed sentences, batched by number of tokens so that none is padded."""
        # Without the key "text", a sentence that looks like a file name or URL would be opened as audio.
        inputs = [{"text": text} if LOOKS_LIKE_A_FILE.search(text) else text for text in texts]
        return embed_by_length(inputs, self._tokens, self._encode)

    def _encode_audio(self, windows: Sequence[Prepared]) -> Array:
        return self._encode([{"array": window, "sampling_rate": self.sample_rate} for window in windows])

    def _encode(self, inputs: Sequence[Any]) -> Array:
        embeddings = self.network.encode(
            list(inputs), batch_size=len(inputs), show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(embeddings, dtype=np.float32)

    def _tokens(self, text: Any) -> int:
        prepare = getattr(self.network, "preprocess", None) or self.network.tokenize
        return int(prepare([text])["input_ids"].shape[-1])


@dataclass
class VoiceClap(_Model):
    """A VoiceCLAP model with the methods `encode_waveform` and `encode_text` from its repository."""

    tokenizer: Any
    dtype: str

    def embed_audio(self, windows: Sequence[Prepared]) -> Array:
        """Embed windows one by one, since the model has no attention masks for audio."""
        torch = require_library("torch")
        parameters = inspect.signature(self.network.encode_waveform).parameters
        rate = {name: self.sample_rate for name in ("sample_rate", "sampling_rate", "sr") if name in parameters}
        with torch.inference_mode(), self._running():
            waveforms = (torch.from_numpy(window)[None].to(self.device) for window in windows)
            return np.concatenate([_array(self.network.encode_waveform(waveform, **rate)) for waveform in waveforms])

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Embed sentences, batched by number of tokens if `encode_text` takes tokens, else one by one."""
        if "id" not in next(iter(inspect.signature(self.network.encode_text).parameters)):
            return np.concatenate([self._embed([text]) for text in texts])
        return embed_by_length(
            [self.tokenizer(text, truncation=True)["input_ids"] for text in texts], len, self._embed_tokens
        )

    def _embed_tokens(self, tokens: Sequence[list[int]]) -> Array:
        torch = require_library("torch")
        ids = torch.tensor(tokens, device=self.device)
        return self._embed(ids, torch.ones_like(ids))

    def _embed(self, *inputs: Any) -> Array:
        with require_library("torch").inference_mode(), self._running():
            return _array(self.network.encode_text(*inputs))

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Redirect output to stderr, and use autocast: weights stay float32, operations use `dtype` where possible."""
        torch = require_library("torch")
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        with stdout_to_stderr(), torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
            yield


def clap_log_mel(extractor: Any, waveform: Array, mel_filters: NDArray[np.float64]) -> Array:
    """Log-mel spectrogram of ClapFeatureExtractor.

    The original runs a Python loop over frames and holds the interpreter lock meanwhile. This version computes the same
    numbers with the same precision for many frames at once.

    Parameters
    ----------
    extractor : ClapFeatureExtractor
        Provides window and hop size.
    waveform : (n,) float32
        Samples.
    mel_filters : (frequencies, bins) float64
        Mel filter bank.

    Returns
    -------
    (frames, bins) float32
        In dB.
    """
    length = int(extractor.fft_window_size)
    hann = require_library("transformers.audio_utils").window_function(length, "hann")
    padded = np.pad(waveform, length // 2, mode="reflect").astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[:: extractor.hop_length]
    filters = csr_array(mel_filters.T)  # sparse: most entries are zero, and BLAS would start threads
    mel = np.empty((len(frames), len(mel_filters.T)))
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        spectrum = np.fft.rfft(frames[start : start + FRAMES_PER_BLOCK] * hann).astype(np.complex64)
        mel[start : start + FRAMES_PER_BLOCK] = (filters @ (np.abs(spectrum, dtype=np.float64) ** 2).T).T
    return (10 * np.log10(np.maximum(1e-10, mel))).astype(np.float32)


def cast_inputs_hook(module: Any, arguments: tuple[Any, ...]) -> None:
    """Forward pre-hook: mark no window as longer than the limit, and cast features to the data type of the module."""
    torch = require_library("torch")
    features, dtype = arguments[0], next(module.parameters()).dtype
    for name, value in features.items():
        if name == "is_longer":
            features[name] = torch.zeros_like(value)
        elif torch.is_tensor(value) and value.is_floating_point():
            features[name] = value.to(dtype)


def _array(output: Any) -> Array:
    """Embeddings as an array; transformers 4 returns a tensor, transformers 5 an object."""
    tensor = getattr(output, "pooler_output", output)
    tensor = tensor[0] if isinstance(tensor, tuple) else tensor
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)

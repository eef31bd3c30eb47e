"""Three kinds of models that embed audio and text, and what each needs so that neighbours in a batch do not matter.

`loading` loads them. torch is imported only once a model is wanted: the rest of the project works without it.
"""

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from earmark.models.batching import embed_by_length
from earmark.models.torch_runtime import require_library

Array = NDArray[np.float32]
Prepared = Any  # what a model makes of a piece of audio on the CPU
LOOKS_LIKE_A_FILE = re.compile(r"://|^data:|\.\w{2,4}$")
FRAMES_PER_BLOCK = 64  # of a spectrogram at once: as many as a core's cache holds
Item = TypeVar("Item")


@dataclass
class _Model:
    """What the kinds of models share. network: the torch module."""

    network: Any
    device: str
    sample_rate: int
    window_seconds: float | None
    description: dict[str, Any]

    def prepare(self, waveform: Array) -> Prepared:
        """The waveform itself, for models that do the rest on their own."""
        return np.ascontiguousarray(waveform)


@dataclass
class Clap(_Model):
    """A transformers ClapModel with its feature extractor and tokenizer."""

    extractor: Any
    tokenizer: Any

    def prepare(self, waveform: Array) -> Prepared:
        """Log-mel features, (1, channels, frames, bins)."""
        found = self.extractor(waveform, sampling_rate=self.sample_rate, return_tensors="np")
        return np.asarray(found["input_features"], dtype=np.float32)

    def embed_audio(self, pieces: Sequence[Prepared]) -> Array:
        """All pieces at once: their features have one shape whatever the length of the audio."""
        torch = require_library("torch")
        features = torch.from_numpy(np.concatenate(pieces)).to(self.device, self.network.dtype)
        # The extractor calls a random piece of a batch "longer" where none is; no piece of ours ever is.
        longer = torch.zeros(len(pieces), 1, dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            return _array(self.network.get_audio_features(input_features=features, is_longer=longer))

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Sentences of as many tokens together, so that none is padded to the length of another."""
        most = min(self.tokenizer.model_max_length, self.network.config.text_config.max_position_embeddings - 2)
        tokens = [self.tokenizer(text, truncation=True, max_length=most)["input_ids"] for text in texts]
        return embed_by_length(tokens, len, self._embed_tokens)

    def _embed_tokens(self, tokens: Sequence[list[int]]) -> Array:
        torch = require_library("torch")
        ids = torch.tensor(tokens, device=self.device)
        with torch.inference_mode():
            return _array(self.network.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)))


@dataclass
class SentenceTransformerModel(_Model):
    """A sentence-transformers model that takes audio and text."""

    def embed_audio(self, pieces: Sequence[Prepared]) -> Array:
        """Pieces of as many samples together, so that none is padded to the length of another."""
        return embed_by_length(pieces, len, self._encode_audio)

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Sentences of as many tokens together."""
        # A sentence that looks like a file or an address would be opened as audio, were it not marked as text.
        inputs = [{"text": text} if LOOKS_LIKE_A_FILE.search(text) else text for text in texts]
        return embed_by_length(inputs, self._tokens, self._encode)

    def _encode_audio(self, pieces: Sequence[Prepared]) -> Array:
        return self._encode([{"array": piece, "sampling_rate": self.sample_rate} for piece in pieces])

    def _encode(self, inputs: Sequence[Any]) -> Array:
        found = self.network.encode(
            list(inputs), batch_size=len(inputs), show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(found, dtype=np.float32)

    def _tokens(self, text: Any) -> int:
        prepare = getattr(self.network, "preprocess", None) or self.network.tokenize
        return int(prepare([text])["input_ids"].shape[-1])


@dataclass
class VoiceClap(_Model):
    """VoiceCLAP, which brings its own code: `encode_waveform` and `encode_text`."""

    tokenizer: Any
    dtype: str

    def embed_audio(self, pieces: Sequence[Prepared]) -> Array:
        """One piece after the other: its code knows no masks."""
        torch = require_library("torch")
        parameters = inspect.signature(self.network.encode_waveform).parameters
        rate = {name: self.sample_rate for name in ("sample_rate", "sampling_rate", "sr") if name in parameters}
        with torch.inference_mode(), self._running():
            waveforms = (torch.from_numpy(piece)[None].to(self.device) for piece in pieces)
            return np.concatenate([_array(self.network.encode_waveform(waveform, **rate)) for waveform in waveforms])

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Sentences of as many tokens together where `encode_text` takes tokens; else one after the other."""
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
        """What its code prints does not reach stdout; its weights stay float32, and torch lowers what it can."""
        torch = require_library("torch")
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        with contextlib.redirect_stdout(sys.stderr), torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
            yield


def clap_log_mel(extractor: Any, waveform: Array, mel_filters: NDArray[np.float64]) -> Array:
    """The spectrogram of ClapFeatureExtractor, (frames, bins) in dB.

    Its own code goes frame by frame in Python and so holds the interpreter that the model needs at the same time;
    this does the same sums in the same precision for many frames at once.
    """
    length = int(extractor.fft_window_size)
    hann = require_library("transformers.audio_utils").window_function(length, "hann")
    padded = np.pad(waveform, length // 2, mode="reflect").astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[:: extractor.hop_length]
    filters = csr_array(mel_filters.T)  # hardly any of it is not zero, and BLAS would wake threads of its own
    mel = np.empty((len(frames), len(mel_filters.T)))
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        spectrum = np.fft.rfft(frames[start : start + FRAMES_PER_BLOCK] * hann).astype(np.complex64)
        mel[start : start + FRAMES_PER_BLOCK] = (filters @ (np.abs(spectrum, dtype=np.float64) ** 2).T).T
    return (10 * np.log10(np.maximum(1e-10, mel))).astype(np.float32)


def cast_inputs_hook(module: Any, arguments: tuple[Any, ...]) -> None:
    """A hook before a module's forward: no piece is longer than the window, and numbers have the module's precision."""
    torch = require_library("torch")
    features, dtype = arguments[0], next(module.parameters()).dtype
    for name, value in features.items():
        if name == "is_longer":
            features[name] = torch.zeros_like(value)
        elif torch.is_tensor(value) and value.is_floating_point():
            features[name] = value.to(dtype)


def _array(output: Any) -> Array:
    """Embeddings as numbers; transformers 4 returns them bare, transformers 5 within an object."""
    found = getattr(output, "pooler_output", output)
    found = found[0] if isinstance(found, tuple) else found
    return np.asarray(found.float().cpu().numpy(), dtype=np.float32)

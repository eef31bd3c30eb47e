"""Resemblyzer's GE2E speaker encoder, whose weights come in its package."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from earmark.audio.decode import AudioError
from earmark.models.encoders.base import Array, Encoder, encoder_key
from earmark.models.encoders.torch_encoder import parameters_hash, require_encoder_library, torch_and_device
from earmark.models.torch_runtime import explain_load_errors

OPTIONS = "--with resemblyzer --with webrtcvad-wheels"
PARTIALS_PER_SECOND, MIN_COVERAGE = (
    1.3,
    0.75,
)  # Resemblyzer's own: partial utterances per second, and what the last one must hold
PARTIALS_PER_BATCH = 256  # of 1.6 s, through the network at once


class Resemblyzer(Encoder):
    """What `preprocess_wav` and `embed_utterance` compute: partial utterances of 1.6 s, their mean at length 1.

    Volume, silence and mel spectrum are done in the threads that decode. Partials all have one length, so those of
    many clips pass through the network together.
    """

    def __init__(self, network: Any, audio: Any, device: str) -> None:
        self._network, self._audio, self._device = network, audio, device
        parts = {"weights_sha256": parameters_hash(network), "resemblyzer": version("resemblyzer")}
        parts["librosa"] = version("librosa")  # its mel spectrum
        super().__init__("resemblyzer", 16_000, encoder_key("resemblyzer", **parts), {**parts, "device": device}, 256)

    def prepare(self, waveform: Array) -> Array:
        """(partials, 160, 40) mel spectra. AudioError where its voice activity detector finds no speech."""
        speech = self._audio.preprocess_wav(np.asarray(waveform, dtype=np.float32))
        if not len(speech):
            raise AudioError("has no speech that Resemblyzer's voice activity detector finds")
        in_wave, in_mel = self._network.compute_partial_slices(len(speech), PARTIALS_PER_SECOND, MIN_COVERAGE)
        padded = np.pad(speech, (0, max(0, in_wave[-1].stop - len(speech))))
        mel = self._audio.wav_to_mel_spectrogram(padded)
        return np.stack([mel[partial] for partial in in_mel])

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """The partials of all clips together, then each clip's mean."""
        torch = require_encoder_library("torch", OPTIONS)
        partials = torch.from_numpy(np.concatenate(prepared)).to(self._device)
        with torch.inference_mode():
            found = [self._network(some).cpu().numpy() for some in partials.split(PARTIALS_PER_BATCH)]
        ends = np.cumsum([len(mels) for mels in prepared])[:-1]
        means = np.stack([part.mean(axis=0) for part in np.split(np.concatenate(found), ends)])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def load(_: str, device: str = "auto", dtype: str = "float32") -> Resemblyzer:
    """The encoder with the weights of its package, in float32 whatever is asked."""
    package = require_encoder_library("resemblyzer", OPTIONS)
    _, device = torch_and_device(device, dtype, OPTIONS)
    with explain_load_errors("resemblyzer", "Resemblyzer's encoder"):
        network = package.VoiceEncoder(device=device, verbose=False).eval()
    return Resemblyzer(network, require_encoder_library("resemblyzer.audio", OPTIONS), device)

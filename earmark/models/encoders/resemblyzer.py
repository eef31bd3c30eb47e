"""GE2E speaker encoder of Resemblyzer; its package includes the weights."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from earmark.audio.decode import AudioError
from earmark.models.encoders.base import Array, Encoder, count_parameters, encoder_key
from earmark.models.encoders.torch_encoder import parameters_hash, require_encoder_library, torch_and_device
from earmark.models.torch_runtime import explain_load_errors

OPTIONS = "--with resemblyzer --with webrtcvad-wheels"
PARTIALS_PER_SECOND, MIN_COVERAGE = (
    1.3,
    0.75,
)  # defaults of Resemblyzer: partial utterances per second, minimum coverage of the last one
PARTIALS_PER_BATCH = 256  # of 1.6 s, through the network at once


class Resemblyzer(Encoder):
    """The embedding of `embed_utterance`: mean over partial utterances of 1.6 s, scaled to length 1.

    Normalisation, silence removal and mel spectra are computed in the decoder threads. All partial utterances have
    equal length, so those of several clips share a batch.
    """

    def __init__(self, network: Any, audio: Any, device: str) -> None:
        self._network, self._audio, self._device = network, audio, device
        parts = {"weights_sha256": parameters_hash(network), "resemblyzer": version("resemblyzer")}
        parts["librosa"] = version("librosa")  # computes the mel spectrum
        super().__init__("resemblyzer", 16_000, encoder_key("resemblyzer", **parts), {**parts, "device": device}, 256)

    @property
    def n_parameters(self) -> int | None:
        """Number of parameters of the voice encoder."""
        return count_parameters([self._network])

    def prepare(self, waveform: Array) -> Array:
        """Compute (partials, 160, 40) mel spectra; AudioError if voice activity detection finds no speech."""
        speech = self._audio.preprocess_wav(np.asarray(waveform, dtype=np.float32))
        if not len(speech):
            raise AudioError("has no speech according to the voice activity detection of Resemblyzer")
        in_wave, in_mel = self._network.compute_partial_slices(len(speech), PARTIALS_PER_SECOND, MIN_COVERAGE)
        padded = np.pad(speech, (0, max(0, in_wave[-1].stop - len(speech))))
        mel = self._audio.wav_to_mel_spectrogram(padded)
        return np.stack([mel[partial] for partial in in_mel])

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """(n, 256) means over the partial utterances of each clip, scaled to length 1."""
        torch = require_encoder_library("torch", OPTIONS)
        partials = torch.from_numpy(np.concatenate(prepared)).to(self._device)
        with torch.inference_mode():
            embeddings = [self._network(batch).cpu().numpy() for batch in partials.split(PARTIALS_PER_BATCH)]
        ends = np.cumsum([len(mels) for mels in prepared])[:-1]
        means = np.stack([part.mean(axis=0) for part in np.split(np.concatenate(embeddings), ends)])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def load(_: str, device: str = "auto", dtype: str = "float32") -> Resemblyzer:
    """Load the encoder with the weights of its package.

    Parameters
    ----------
    device : str
        As in `load_encoder`.
    dtype : str
        Checked but not used; the encoder runs in float32.

    Returns
    -------
    Resemblyzer
        The encoder.

    Raises
    ------
    MissingError
        If the package is not installed or the model cannot be loaded.
    """
    package = require_encoder_library("resemblyzer", OPTIONS)
    _, device = torch_and_device(device, dtype, OPTIONS)
    with explain_load_errors("resemblyzer", "the encoder of Resemblyzer"):
        network = package.VoiceEncoder(device=device, verbose=False).eval()
    return Resemblyzer(network, require_encoder_library("resemblyzer.audio", OPTIONS), device)

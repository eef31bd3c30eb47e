"""Speaker toolkits: messages if one is not installed, and Resemblyzer and SpeechBrain if they are.

Run Resemblyzer with `uv run --with resemblyzer --with webrtcvad-wheels pytest …`.
"""

import importlib.util

import numpy as np
import pytest

from earmark.audio.decode import AudioError
from earmark.errors import MissingError
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders.sources import noises


@pytest.mark.parametrize(
    ("spec", "package", "options"),
    [
        ("resemblyzer", "resemblyzer", "--with resemblyzer --with webrtcvad-wheels"),
        ("speechbrain:some/source", "speechbrain", "--with speechbrain --with 'torch<2.12'"),
        ("wespeaker:english", "wespeaker", r"--with 'wespeaker @ git\+https"),
        ("pyannote:some/model", "pyannote", "--with pyannote.audio"),
        ("nemo:titanet_large", "nemo", r"--with 'nemo_toolkit\[asr\]'"),
    ],
)
def test_missing_toolkit_names_command(spec, package, options):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(MissingError, match=rf"which is not installed; use `uv run {options}.* SCRIPT\.py …`"):
        load_encoder(spec)


def voices(n: int) -> list[np.ndarray]:
    """Pulse trains filtered by two resonances, in bursts; voice activity detectors accept them as speech."""
    waveforms = []
    for i in range(n):
        time = np.arange(int(16_000 * (1.5 + 0.7 * i))) / 16_000
        pulses = np.diff(np.floor(time * (100 + 25 * i)), prepend=0)
        for frequency in (500 + 40 * i, 1500 + 90 * i):
            t = np.arange(400) / 16_000
            pulses = np.convolve(pulses, np.exp(-200 * t) * np.cos(2 * np.pi * frequency * t))[: len(time)]
        waveforms.append(
            (0.3 * pulses / np.abs(pulses).max() * (np.sin(2 * np.pi * 2 * time) > -0.5)).astype(np.float32)
        )
    return waveforms


@pytest.mark.slow
def test_resemblyzer_matches_original():
    resemblyzer = pytest.importorskip("resemblyzer", reason="run with `--with resemblyzer --with webrtcvad-wheels`")
    encoder = load_encoder("resemblyzer", device="cpu")
    own, waveforms = resemblyzer.VoiceEncoder("cpu", verbose=False), voices(4)
    expected = [own.embed_utterance(resemblyzer.preprocess_wav(waveform)) for waveform in waveforms]
    embeddings = encoder.embed(waveforms)
    assert embeddings.shape == (4, 256)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(
        embeddings, np.concatenate([encoder.embed([waveform]) for waveform in waveforms]), atol=1e-5
    )
    with pytest.raises(AudioError, match="has no speech"):
        encoder.embed([0.001 * noises(1)[0]])


SPEECHBRAIN = """
pretrained_path: nobody/nothing
sample_rate: 16000
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 40
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 40
    channels: [16, 16, 16, 16, 48]
    attention_channels: 8
    res2net_scale: 2
    se_channels: 8
    lin_neurons: 12
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
        input_size: 12
        out_neurons: 3
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
"""


def test_speechbrain_folder_independent_of_batch(tmp_path):
    pytest.importorskip("speechbrain", reason="run with `--with speechbrain --with 'torch<2.12'`")
    import torch
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    sizes = {"channels": [16, 16, 16, 16, 48], "attention_channels": 8, "res2net_scale": 2, "se_channels": 8}
    (tmp_path / "hyperparams.yaml").write_text(SPEECHBRAIN)
    torch.save(ECAPA_TDNN(40, lin_neurons=12, **sizes).state_dict(), tmp_path / "embedding_model.ckpt")
    encoder, again = (load_encoder(f"speechbrain:{tmp_path}", device="cpu") for _ in range(2))
    waveforms = noises(5)
    embeddings = encoder.embed(waveforms)
    assert embeddings.shape == (5, 12) and encoder.identity == again.identity
    np.testing.assert_allclose(embeddings, again.embed(waveforms), atol=1e-6)
    np.testing.assert_allclose(
        embeddings, np.concatenate([encoder.embed([waveform]) for waveform in waveforms]), atol=1e-5
    )

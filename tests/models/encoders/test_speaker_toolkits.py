"""Speaker toolkits: messages if one is not installed, and Resemblyzer if it is.

Run Resemblyzer with `uv run --with resemblyzer --with webrtcvad-wheels pytest …`. `tests/toolkits/run_toolkits.py` runs
SpeechBrain, pyannote.audio and NeMo.
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

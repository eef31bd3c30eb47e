"""Run the encoders of speaker toolkits for real, each on a tiny random checkpoint that the toolkit itself saves.

The environments of the toolkits take about 5 GB, so that neither `.ci/run` nor pytest runs this file. One toolkit
is installed at a time, since their requirements exclude one another:

  uv run --with speechbrain --with 'torch<2.12' python -m tests.toolkits.run_toolkits speechbrain
  uv run --with pyannote.audio --with 'torch<2.12' python -m tests.toolkits.run_toolkits pyannote
  uv run --with 'nemo_toolkit[asr]' --with 'torch<2.12' python -m tests.toolkits.run_toolkits nemo

For each toolkit it checks that

- the checkpoint loads, twice with the same identity, and gives embeddings of the declared size;
- every embedding equals what the toolkit computes on its own, and does not depend on the other clips of a batch;
- another checkpoint has another identity and other embeddings;
- `evaluate_speaker.py trials` runs with it on twelve clips of the demo speech.

Prints a row for CONTRIBUTING.md; the exit code is 1 if a check fails.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.decode import read_audio
from earmark.models.encoders.registry import load_encoder

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "dataset/speaker-demo"
CLIPS = [f"{voice}/{language}/00.mp3" for voice in ("m1", "f1", "hugo", "steph") for language in ("en", "de", "fr")]
DIMENSION = 12
TOLERANCE = 1e-4  # relative to the largest value of an embedding

Waveforms = list[NDArray[np.float32]]
Embeddings = NDArray[np.float64]


@dataclass(frozen=True)
class Toolkit:
    """A toolkit that installs from the package index.

    Attributes
    ----------
    package : str
        Its name there.
    save : callable
        From a folder and a seed to the source of a checkpoint with random weights, as `--encoder` takes it.
    embed : callable
        From a source and waveforms to embeddings, one clip at a time, with calls of the toolkit alone.
    """

    package: str
    save: Callable[[Path, int], Path]
    embed: Callable[[Path, Waveforms], Embeddings]


# --- SpeechBrain: ECAPA-TDNN ------------------------------------------------------------------------------------

SPEECHBRAIN_SETTINGS = """
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


def save_speechbrain(folder: Path, seed: int) -> Path:
    """Write hyperparams.yaml and embedding_model.ckpt."""
    import torch
    from hyperpyyaml import load_hyperpyyaml

    torch.manual_seed(seed)
    (folder / "hyperparams.yaml").write_text(SPEECHBRAIN_SETTINGS, encoding="utf-8")
    network = load_hyperpyyaml(SPEECHBRAIN_SETTINGS)["embedding_model"]
    torch.save(network.state_dict(), folder / "embedding_model.ckpt")
    return folder


def embed_speechbrain(source: Path, waveforms: Waveforms) -> Embeddings:
    """Features, normalisation and network called one after the other, without SpeechBrain's interface."""
    import torch
    from hyperpyyaml import load_hyperpyyaml

    parts = load_hyperpyyaml(SPEECHBRAIN_SETTINGS)
    network = parts["embedding_model"]
    network.load_state_dict(torch.load(source / "embedding_model.ckpt", weights_only=True))
    network.eval()
    whole = torch.ones(1)
    embeddings = []
    with torch.no_grad():
        for waveform in waveforms:
            features = parts["compute_features"](torch.from_numpy(waveform)[None])
            embeddings.append(network(parts["mean_var_norm"](features, whole), whole).ravel().numpy())
    return np.stack(embeddings).astype(float)


# --- pyannote.audio: x-vector of MFCC -----------------------------------------------------------------------------


def save_pyannote(folder: Path, seed: int) -> Path:
    """Write pytorch_model.bin, as Lightning saves a model of pyannote.audio."""
    import torch
    from lightning.pytorch import Trainer
    from pyannote.audio.models.embedding import XVectorMFCC

    torch.manual_seed(seed)
    model = XVectorMFCC(dimension=DIMENSION)
    model.specifications = _pyannote_specifications()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def _pyannote_specifications() -> Any:
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    return Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0)


def embed_pyannote(source: Path, waveforms: Waveforms) -> Embeddings:
    """The network called without pyannote.audio's `Inference`."""
    import torch
    from pyannote.audio import Model

    model = Model.from_pretrained(source).eval()
    with torch.no_grad():
        return np.stack([model(torch.from_numpy(each)[None, None]).ravel().numpy() for each in waveforms]).astype(float)


# --- NeMo: TitaNet with two blocks --------------------------------------------------------------------------------


def save_nemo(folder: Path, seed: int) -> Path:
    """Write model.nemo."""
    import torch
    from nemo.collections.asr.models import EncDecSpeakerLabelModel
    from omegaconf import OmegaConf

    modules = "nemo.collections.asr.modules"
    block = {"repeat": 1, "stride": [1], "dilation": [1], "dropout": 0.0, "residual": False, "separable": True}
    squeeze = {"se": True, "se_context_size": -1}
    settings = {
        "sample_rate": 16_000,
        "preprocessor": {
            "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "sample_rate": 16_000,
            "features": 40,
            "n_fft": 512,
            "dither": 1e-5,
        },
        "encoder": {
            "_target_": f"{modules}.ConvASREncoder",
            "feat_in": 40,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [
                {"filters": 32, "kernel": [3], **block, **squeeze},
                {"filters": 64, "kernel": [1], **block, **squeeze},
            ],
        },
        "decoder": {
            "_target_": f"{modules}.SpeakerDecoder",
            "feat_in": 64,
            "num_classes": 3,
            "pool_mode": "attention",
            "emb_sizes": DIMENSION,
            "angular": False,
        },
    }
    torch.manual_seed(seed)
    EncDecSpeakerLabelModel(OmegaConf.create(settings)).save_to(str(folder / "model.nemo"))
    return folder / "model.nemo"


def embed_nemo(source: Path, waveforms: Waveforms) -> Embeddings:
    """NeMo's own function for a file; it also reads the audio."""
    import soundfile
    from nemo.collections.asr.models import EncDecSpeakerLabelModel
    from omegaconf import OmegaConf

    model = EncDecSpeakerLabelModel.restore_from(str(source), map_location="cpu").eval()
    # A trained checkpoint names its training data; NeMo takes the sampling rate of files from there.
    OmegaConf.update(model.cfg, "train_ds.sample_rate", 16_000, force_add=True)
    embeddings = []
    for number, waveform in enumerate(waveforms):
        path = source.parent / f"{number}.wav"
        soundfile.write(path, waveform, 16_000, subtype="FLOAT")
        embeddings.append(model.get_embedding(str(path)).ravel().cpu().numpy())
    return np.stack(embeddings).astype(float)


TOOLKITS = {
    "speechbrain": Toolkit("speechbrain", save_speechbrain, embed_speechbrain),
    "pyannote": Toolkit("pyannote.audio", save_pyannote, embed_pyannote),
    "nemo": Toolkit("nemo_toolkit", save_nemo, embed_nemo),
}


# --- checks ----------------------------------------------------------------------------------------------------


def difference(found: Embeddings, expected: Embeddings) -> float:
    """Largest difference of two arrays, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def checks(kind: str, folder: Path) -> tuple[dict[str, bool], float]:
    """Whether each check passed, and the largest difference to the toolkit."""
    toolkit = TOOLKITS[kind]
    sources = []
    for seed in (0, 1):
        place = folder / str(seed)
        place.mkdir()
        sources.append(toolkit.save(place, seed))
    encoder, again, other = (
        load_encoder(f"{kind}:{source}", device="cpu") for source in (*sources[:1] * 2, sources[1])
    )
    waveforms = [read_audio(DEMO / clip, 16_000) for clip in CLIPS]
    together = np.asarray(encoder.embed(waveforms), dtype=float)
    alone = np.concatenate([np.asarray(encoder.embed([each]), dtype=float) for each in waveforms])
    own = toolkit.embed(sources[0], waveforms)
    rows = {
        f"{len(CLIPS)} embeddings of {DIMENSION} values": together.shape == (len(CLIPS), DIMENSION),
        "finite": bool(np.isfinite(together).all()),
        "clips differ": len(np.unique(together.round(6), axis=0)) == len(CLIPS),
        "equal to the toolkit's own": difference(alone, own) < TOLERANCE,
        "independent of the batch": difference(together, alone) < TOLERANCE,
        "the same identity when loaded again": encoder.identity == again.identity,
        "other weights: another identity": encoder.identity != other.identity,
        "other weights: other embeddings": difference(np.asarray(other.embed(waveforms), float), together) > 0.01,
        "evaluate_speaker.py trials": trials_run(f"{kind}:{sources[0]}", folder),
    }
    if kind == "pyannote":
        rows["sends no usage data"] = import_module("pyannote.audio.telemetry.metrics").is_metrics_enabled() is False
    return rows, difference(alone, own)


def trials_run(spec: str, folder: Path) -> bool:
    """Whether the script evaluates the encoder on all pairs of the clips."""
    pairs = [f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}\n" for a, b in combinations(CLIPS, 2)]
    (folder / "trials.txt").write_text("".join(pairs), encoding="utf-8")
    files = {"--trials": folder / "trials.txt", "--audio-root": DEMO, "--output-dir": folder / "result"}
    files["--embedding-cache"] = folder / "cache"
    command = [sys.executable, "evaluate_speaker.py", "trials", "--encoder", spec, "--no-figures"]
    command += [str(part) for pair in files.items() for part in pair]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    """Run the checks of one toolkit and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("toolkit", choices=TOOLKITS)
    kind = parser.parse_args().toolkit
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        rows, largest = checks(kind, Path(folder))
    for name, passed in rows.items():
        print(f"{'pass' if passed else 'FAIL'}  {name}")
    package = TOOLKITS[kind].package
    passed = f"{sum(rows.values())} of {len(rows)}"
    print(f"| {package} {version(package)} | {version('torch')} | {passed} | {largest:.0g} |")
    return 0 if all(rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

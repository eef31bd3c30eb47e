"""Audio-text models from folders with random weights: embeddings, descriptions, errors."""

import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `clap` is not installed")
pytest.importorskip("sentence_transformers", reason="the extra `clap` is not installed")

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import ClapFeatureExtractor

from earmark.errors import MissingError
from earmark.models.audio_text import loading
from earmark.models.audio_text.loading import AudioTextModel, load_clap, load_model, weights_hash
from earmark.models.audio_text.networks import clap_log_mel
from earmark.models.batching import split_into_windows
from tests.models import tiny

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["calm", "a voice full of joy", "loud", "someone who is very, very tired", "clip.wav", "https://a.b/c.mp3"]
KINDS = ("clap", "clap-fusion", "sentence-transformer", "voiceclap", "voiceclap-strings")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "clap": tiny.clap(root / "clap"),
        "clap-fusion": tiny.clap(root / "clap-fusion", fusion=True),
        "sentence-transformer": tiny.sentence_transformer(root / "st", fusion=True),
        "voiceclap": tiny.voiceclap(root / "voiceclap"),
        "voiceclap-strings": tiny.voiceclap(root / "voiceclap-strings", takes="strings"),
    }


@pytest.fixture(scope="module", params=KINDS)
def model(request, folders) -> AudioTextModel:
    return load_model(str(folders[request.param]), device="cpu")


def noises(rate: int, *seconds: float) -> list[np.ndarray]:
    """Differently coloured noises of the given lengths in seconds."""
    rng = np.random.default_rng(7)
    waveforms = []
    for i, length in enumerate(seconds):
        noise = rng.normal(scale=0.1, size=int(length * rate))
        waveforms.append(np.convolve(noise, np.ones(i + 1) / (i + 1), "same").astype(np.float32))
    return waveforms


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_split_into_windows_25_seconds():
    pieces = split_into_windows(np.arange(25 * 48_000, dtype=np.float32), 48_000, 10)
    assert [len(piece) for piece in pieces] == [400_000, 400_000, 400_000]


@given(st.integers(1, 500), st.integers(1, 60))
def test_split_into_windows_fewest_equal_windows(samples: int, longest: int):
    pieces = split_into_windows(np.arange(samples, dtype=np.float32), 10, longest / 10)
    lengths = [len(piece) for piece in pieces]
    assert len(pieces) == -(-samples // longest)
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1
    assert np.array_equal(np.concatenate(pieces), np.arange(samples))


def test_split_into_windows_clip_of_window_length():
    assert len(split_into_windows(np.zeros(441_000, np.float32), 44_100, 441_000 / 44_100)) == 1


def test_split_into_windows_without_limit():
    assert len(split_into_windows(np.zeros(10**6, np.float32), 16_000, None)) == 1


@pytest.mark.parametrize("filters", ["mel_filters", "mel_filters_slaney"])
def test_clap_log_mel_matches_extractor(filters: str):
    extractor = ClapFeatureExtractor()
    (noise,) = noises(48_000, 3.3)
    mel = getattr(extractor, filters)
    actual, expected = clap_log_mel(extractor, noise, mel), extractor._np_extract_fbank_features(noise, mel)
    assert actual.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)  # dB, in float32


@pytest.mark.slow
def test_audio_embeddings_independent_of_batch(model):
    pieces = [model.prepare(p) for p in noises(model.sample_rate, 1.0, 2.0, 0.3, 1.0, 1.7)]
    together = model.embed_audio(pieces)
    assert together.shape == (5, tiny.DIMENSION)
    assert together.dtype == np.float32
    assert np.array_equal(together, model.embed_audio(pieces))
    alone = np.concatenate([model.embed_audio([piece]) for piece in pieces])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(together[::-1], model.embed_audio(pieces[::-1]), atol=1e-5, rtol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3  # different audio has different embeddings


def test_text_embeddings_independent_of_batch(model):
    together = model.embed_texts(TEXTS)
    alone = np.concatenate([model.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)
    assert len({row.tobytes() for row in together}) == len(TEXTS)


def test_long_sentence_is_truncated(model):
    assert np.isfinite(model.embed_texts(["very " * 200])).all()


@pytest.mark.slow
def test_fusion_models_are_deterministic(folders):
    """transformers and sentence-transformers mark a random clip as longer; no mark may affect our embeddings."""
    clap = load_model(str(folders["clap-fusion"]), device="cpu")
    wrapped = load_model(str(folders["sentence-transformer"]), device="cpu")
    piece = noises(tiny.RATE, 1.0)[0]
    first = clap.embed_audio([clap.prepare(piece)] * 3)
    for _ in range(4):
        np.testing.assert_allclose(clap.embed_audio([clap.prepare(piece)] * 3), first, atol=1e-6)
        np.testing.assert_allclose(wrapped.embed_audio([piece] * 3), first, atol=1e-5)


def test_global_random_generators_are_not_used(folders, monkeypatch):
    model = load_model(str(folders["clap"]), device="cpu")
    monkeypatch.setattr(np.random, "randint", lambda *_: pytest.fail("a random crop"))
    for piece in split_into_windows(noises(tiny.RATE, 5.0)[0], tiny.RATE, model.window_seconds):
        model.prepare(piece)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_differs_slightly(model, folders, dtype):
    folder = next(f for f in folders.values() if f.name == model.description["model"])
    low = load_model(str(folder), device="cpu", dtype=dtype)
    assert low.description["dtype"] == dtype
    (piece,) = noises(model.sample_rate, 1.0)
    exact, rough = model.embed_audio([model.prepare(piece)]), low.embed_audio([low.prepare(piece)])
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    assert cosines(exact, rough)[0] > 0.99
    assert cosines(model.embed_texts(TEXTS[:2]), low.embed_texts(TEXTS[:2])).min() > 0.99


def test_description_has_weights_but_no_path(folders):
    known = load_model(str(folders["sentence-transformer"]), device="cpu", max_seconds=1.5).description
    assert known == {
        "model": "st",
        "kind": "sentence-transformers",
        "weights_sha256": sha256((folders["sentence-transformer"] / "model.safetensors").read_bytes()).hexdigest()[:16],
        "dtype": "float32",
        "device": "cpu",
        "sample_rate": tiny.RATE,
        "window_seconds": 1.5,
        "transformers": known["transformers"],
        "sentence_transformers": known["sentence_transformers"],
    }
    assert re.match(r"\d+\.\d+", known["transformers"])


def test_weights_hash_depends_on_weights(tmp_path, folders):
    assert weights_hash(tiny.clap(tmp_path / "other", seed=1)) != weights_hash(folders["clap"])


def test_max_seconds_only_shortens_windows(folders):
    assert load_clap(str(folders["clap"]), "cpu", max_seconds=30.0).window_seconds == tiny.WINDOW
    assert load_clap(str(folders["clap"]), "cpu", max_seconds=0.5).window_seconds == 0.5


def test_folder_files_determine_loader(folders):
    kinds = [load_model(str(folders[kind]), device="cpu").description["kind"] for kind in KINDS]
    assert kinds == ["clap", "clap", "sentence-transformers", "voiceclap", "voiceclap"]
    assert load_model(str(folders["voiceclap"]), device="cpu").sample_rate == 16_000


@pytest.mark.parametrize(
    ("name", "hub_id", "loader"),
    [
        ("voiceclap-small", "laion/voiceclap-small", "load_voiceclap_small"),
        ("voiceclap-small-v2", "laion/voiceclap-small-v2", "load_voiceclap_small"),
        ("voiceclap-commercial", "laion/voiceclap-commercial", "load_voiceclap_small"),
        ("voiceclap-large", "laion/voiceclap-large", "load_sentence_transformer"),
        ("voiceclap-large-v2", "laion/voiceclap-large-v2", "load_sentence_transformer"),
        ("laion/voiceclap-small-v3", "laion/voiceclap-small-v3", "load_voiceclap_small"),
        ("laion/voiceclap-large-v3", "laion/voiceclap-large-v3", "load_sentence_transformer"),
    ],
)
@pytest.mark.parametrize("clap", [False, True])
def test_voiceclap_names_and_hub_ids_choose_their_loader(name, hub_id, loader, clap, monkeypatch):
    called = []
    kinds = {"load_voiceclap_small": "voiceclap", "load_sentence_transformer": "sentence-transformers"}
    for function, kind in kinds.items():
        monkeypatch.setitem(
            loading.LOADERS, kind, lambda name, *settings, function=function: called.append((function, name))
        )
    load_model(name, clap=clap)
    assert called == [(loader, hub_id)]


def test_code_of_other_hub_repositories_is_not_trusted(folders):
    trusted = ("laion/voiceclap-small-v2", "laion/voiceclap-anything", str(folders["voiceclap"]))
    others = ("acme/voiceclap-small", "laion/clap-htsat-unfused", "laion/voiceclap", "evil/laion/voiceclap-small")
    assert [loading._trusts_code(name) for name in (*trusted, *others)] == [True] * 3 + [False] * 4


def test_clap_flag_loads_a_folder_of_sentence_transformers(folders):
    loaded = load_model(str(folders["sentence-transformer"]), device="cpu", clap=True)
    assert loaded.description["kind"] == "sentence-transformers"
    assert load_model(str(folders["clap"]), device="cpu", clap=True).description["kind"] == "clap"


def test_stdout_stays_empty(folders, capfd):
    for kind in KINDS:
        model = load_model(str(folders[kind]), device="cpu")
        model.embed_audio([model.prepare(piece) for piece in noises(model.sample_rate, 0.5)])
        model.embed_texts(TEXTS[:1])
    assert capfd.readouterr().out == ""


def test_missing_folder_message():
    with pytest.raises(MissingError, match=r"^\./models/nowhere: no such folder; give the folder of .*hub\.$"):
        load_model("./models/nowhere", device="cpu")


def test_folder_without_weights_message(folders, tmp_path):
    shutil.copytree(folders["clap"], tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    with pytest.raises(MissingError, match=r"cannot be loaded as a CLAP model") as caught:
        load_clap(str(tmp_path / "half"), device="cpu")
    assert "\n" not in str(caught.value)


def test_incomplete_weights_are_rejected(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["clap"], tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "projection" not in k}, tmp_path / "part" / "model.safetensors")
    with pytest.raises(MissingError, match=r"has no weights for \d+ parameters, such as audio_projection"):
        load_clap(str(tmp_path / "part"), device="cpu")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is not one of float32, bfloat16, float16"),
        ({"device": "abacus"}, "device 'abacus' is not available"),
    ],
)
def test_unknown_dtype_or_device_message(folders, flags, message):
    with pytest.raises(MissingError, match=message) as caught:
        load_model(str(folders["clap"]), **flags)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is available")
def test_missing_gpu_message(folders):
    with pytest.raises(MissingError, match="device 'cuda' is not available") as caught:
        load_model(str(folders["clap"]), device="cuda")
    assert "\n" not in str(caught.value)


def test_missing_extra_names_command(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingError, match=r"uv run --extra clap SCRIPT\.py"):
        load_model(str(folders["clap"]))


HUB = """
from earmark.errors import MissingError
from earmark.models.audio_text.loading import load_model
print(load_model("acme/tiny", "cpu").description)
try:
    load_model("acme/unheard-of", "cpu")
except MissingError as error:
    print(error)
"""


@pytest.mark.slow
def test_hub_model_commit_and_unknown_model(folders, tmp_path):
    """A hub model in the local cache, without network access."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(folders["sentence-transformer"], cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit, encoding="ascii")
    done = subprocess.run(
        [sys.executable, "-c", HUB],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    described, refused = done.stdout.splitlines()
    assert f"'revision': '{commit}'" in described
    assert "'model': 'acme/tiny'" in described
    assert refused.startswith("acme/unheard-of: not a local folder, and cannot be loaded from the Hugging Face hub")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is available")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_gpu_matches_cpu(model, folders, dtype):
    folder = next(f for f in folders.values() if f.name == model.description["model"])
    gpu = load_model(str(folder), device="cuda", dtype=dtype)
    pieces = noises(model.sample_rate, 1.0, 1.0, 0.4)
    expected = model.embed_audio([model.prepare(piece) for piece in pieces])
    actual = gpu.embed_audio([gpu.prepare(piece) for piece in pieces])
    assert cosines(actual, expected).min() > (0.9999 if dtype == "float32" else 0.99)

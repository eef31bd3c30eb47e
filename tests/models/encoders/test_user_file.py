"""Python files with the three encoder interfaces, and messages for invalid files."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders import user_file
from earmark.models.encoders.base import EmbeddingError
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from earmark.models.encoders.torch_encoder import timestamps_fault
from tests.conftest import ROOT
from tests.models.encoders import sources
from tests.models.encoders.sources import noises, save


def load_error(path, text: str) -> str:
    with pytest.raises(MissingError) as caught:
        load_encoder(f"{path}{text}")
    return str(caught.value)


@pytest.fixture(params=["xares", "case", "hear"])
def encoder(request, tmp_path):
    if request.param != "case":
        pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = {"xares": sources.XARES, "case": sources.case(), "hear": sources.HEAR}[request.param]
    return load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu")


def test_embeddings_independent_of_batch(encoder):
    waveforms = noises(7, encoder.sample_rate)
    together = encoder.embed(waveforms)
    alone = np.concatenate([encoder.embed([waveform]) for waveform in waveforms])
    backwards = encoder.embed(waveforms[::-1])[::-1]
    assert together.shape == (7, encoder.dimension) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together, backwards, rtol=1e-5, atol=1e-6)
    assert encoder.embed([]).shape == (0, encoder.dimension)


def test_xares_embedding_is_mean_of_frames(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    file = save(tmp_path, "mine.py", sources.XARES)
    encoder = load_encoder(str(file), device="cpu")
    scope: dict = {"__name__": "elsewhere"}
    exec(compile(file.read_text(), "elsewhere", "exec"), scope)
    waveform = noises(1)[0]
    with torch.no_grad():
        frames = scope["TinyEncoder"]()(torch.from_numpy(waveform)[None])[0].numpy()
    np.testing.assert_allclose(encoder.embed([waveform])[0], frames.mean(axis=0), rtol=1e-5)
    assert (encoder.name, encoder.sample_rate, encoder.dimension) == ("TinyEncoder", 16_000, 12)
    assert capsys.readouterr().out.count("chatter") == 1  # printed by `exec` in this test, not by the library


def test_case_model_gets_unchanged_16_bit_audio(tmp_path):
    encoder = load_encoder(str(save(tmp_path, "mine.py", sources.case())))
    samples = np.random.default_rng(1).integers(-32768, 32768, 4000).astype(np.int16)
    expected = [part.sum() for part in np.array_split(np.abs(np.fft.rfft(samples / 32768)), 6)]
    np.testing.assert_allclose(encoder.embed([samples.astype(np.float32) / 32768])[0], expected, rtol=1e-6)
    assert encoder.name == "bands"


@pytest.mark.slow
def test_identity_depends_on_source_and_weights_only(tmp_path):
    def loaded(folder: str, text: str = sources.case(), weights: bytes | None = None) -> str:
        file = save(tmp_path / folder, "mine.py", text)
        if weights is not None:
            (file.parent / "model.pt").write_bytes(weights)
        return load_encoder(str(file)).identity

    plain = loaded("a")
    assert plain == loaded("b")
    assert "tmp" not in plain and "/" not in plain
    assert (
        len({plain, loaded("c", sources.case() + "# changed\n"), loaded("d", weights=b"1"), loaded("e", weights=b"2")})
        == 4
    )


def test_identity_depends_on_imported_module(tmp_path):
    text = "from beside_it import SCALE\n" + sources.case()
    identities = set()
    for scale in (1, 2):
        save(tmp_path / str(scale), f"beside_{scale}.py", f"SCALE = {scale}\n")
        file = save(tmp_path / str(scale), "mine.py", text.replace("beside_it", f"beside_{scale}"))
        identities.add(load_encoder(str(file)).identity)
    assert len(identities) == 2


@pytest.mark.slow
@pytest.mark.parametrize("contract", ["xares", "case"])
def test_identity_includes_packages_in_working_folder(tmp_path, contract):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = "from mine_net.front import front\n" + (sources.XARES if contract == "xares" else sources.case())
    save(tmp_path, "mine.py", text)
    save(tmp_path / "mine_net", "__init__.py", "")
    identities = []
    for body in ("x", "x + 1", "x"):
        save(tmp_path / "mine_net", "front.py", f"def front(x):\n    return {body}\n")
        code = "import torch; from earmark.models.encoders.registry import load_encoder as load; "
        code += "print(load('mine.py').identity)"
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        identities.append(done.stdout)
    assert identities[0] == identities[2] != identities[1]


@pytest.mark.slow
def test_identity_depends_on_network_weights_and_dtype(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES.replace("manual_seed(7)", "manual_seed(int(open(SEED).read()))")
    seed = tmp_path / "seed"
    file = save(tmp_path / "code", "mine.py", text.replace("SEED", repr(str(seed))))
    identities = []
    for number in (1, 2, 1):
        seed.write_text(str(number))
        identities.append(load_encoder(str(file), device="cpu").identity)
    assert identities[0] == identities[2] != identities[1]
    assert load_encoder(str(file), device="cpu", dtype="bfloat16").identity not in identities


def test_class_is_selected_by_name(tmp_path):
    both = sources.case() + "\n\nclass Other(Bands):\n    name = 'other'\n"
    file = save(tmp_path, "mine.py", both)
    assert load_encoder(f"{file}:Other").name == "other"
    assert re.search(r"contains 2 encoders; select one: .*mine\.py:Bands, .*mine\.py:Other", load_error(file, ""))
    assert "has no class Nothing; its classes: Bands, Other." in load_error(file, ":Nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"mine\.py: contains no encoder; expected an nn\.Module"),
        ("import numpy\n\ndef f(:\n", r"mine\.py cannot be imported, line 3: SyntaxError"),
        ("import numpy\n\n\nnumpy.nothing\n", r"mine\.py cannot be imported, line 4: AttributeError"),
        (
            "\nimport absent_toolkit.models\n",
            r"line 2: ModuleNotFoundError: No module named 'absent_toolkit'; try `uv run --with absent_toolkit ",
        ),
        ("import sys\nsys.exit(3)\n", r"line 2: SystemExit: 3"),
        (
            "class M:\n    def load(self):\n        raise OSError('no x.pt')\n    def extract_embedding(self): 0\n",
            r"mine\.py cannot be loaded, line 3: OSError: no x\.pt",
        ),
        ("class M:\n    x = 1\n", r"contains no encoder"),
    ],
)
def test_invalid_files_name_reason(tmp_path, text, message):
    assert re.search(message, load_error(save(tmp_path, "mine.py", text), ""))


def test_missing_file_and_unknown_specs(tmp_path):
    assert "no such file; expected FILE.py" in load_error(tmp_path / "absent.py", "")
    assert "unknown encoder 'something'; expected logmel, onnx:…" in load_error("something", "")
    assert "unknown encoder" in load_error("onnx:", "")
    assert "unknown encoder" in load_error("logmel:40", "")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("np.ones(6)", "the embedding is constant: all 6 values are 1"),
        ("np.array([1, 2, np.nan, 4, 5, 6])", "the embedding is not finite"),
        ("np.arange(5)", "the embedding has 5 dimensions where 6 are expected"),
    ],
)
def test_invalid_embeddings_are_errors(tmp_path, result, message):
    text = re.sub(r"return np\.array\(\[part.*", f"return {result}", sources.case())
    with pytest.raises(EmbeddingError, match=message):
        load_encoder(str(save(tmp_path, "mine.py", text))).embed(noises(1))


def test_xares_frames_and_declared_hop(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    encoder = load_encoder(str(save(tmp_path, "mine.py", sources.XARES)), device="cpu")
    waveforms = noises(5)
    for waveform, actual in zip(waveforms, encoder.embed_clips(waveforms, EmbeddingRequest(frames=True)), strict=True):
        with torch.no_grad():
            expected = encoder.network(torch.from_numpy(waveform)[None])[0].numpy()
        assert actual.shape == (1 + (len(waveform) - 400) // 160, 12)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert (encoder.hop_seconds, encoder.layers) == (0.01, 1)


def test_xares_list_output_gives_layers(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    plain = load_encoder(str(save(tmp_path / "one", "mine.py", sources.XARES)), device="cpu")
    encoder = load_encoder(str(save(tmp_path / "three", "mine.py", sources.layered())), device="cpu")
    waveforms = noises(4)
    layers = np.concatenate(encoder.embed_clips(waveforms, EmbeddingRequest(layers=True)))
    assert encoder.layers == 3 and layers.shape == (4, 36)
    for row, frames in zip(layers, plain.embed_clips(waveforms, EmbeddingRequest(frames=True)), strict=True):
        expected = [(frames**power).mean(axis=0) for power in (1, 2, 0.5)]
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-5)
    np.testing.assert_array_equal(layers[:, 24:], encoder.embed(waveforms))
    crops = encoder.embed_clips([np.tile(waveforms[0], 3)], EmbeddingRequest(crop_seconds=0.5, layers=True))[0]
    np.testing.assert_allclose(crops, np.tile(layers[0], (3, 1)), rtol=1e-5)


@pytest.mark.parametrize("mask", ["mask", "mask.bool()", "mask.float()"])
def test_xares_llm_masked_frames_do_not_count(tmp_path, mask):
    """The mean is that of the X-ARES encoder with the same weights, which does not pad."""
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES_LLM.replace("return features, mask", f"return features, {mask}")
    masked = load_encoder(str(save(tmp_path / "llm", "mine.py", text)), device="cpu")
    plain = load_encoder(str(save(tmp_path / "plain", "mine.py", sources.XARES)), device="cpu")
    waveforms = noises(5)
    np.testing.assert_allclose(masked.embed(waveforms), plain.embed(waveforms), rtol=1e-5, atol=1e-6)
    request = EmbeddingRequest(frames=True)
    for one, other in zip(masked.embed_clips(waveforms, request), plain.embed_clips(waveforms, request), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert (masked.sample_rate, masked.dimension, masked.layers, masked.hop_seconds) == (16_000, 12, 1, 0.01)
    assert masked.description["contract"] == "xares-llm" and plain.description["contract"] == "xares"


def test_xares_llm_without_returned_mask_keeps_all_frames(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES_LLM.replace("return features, mask", "return features, None")
    encoder = load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu")
    (frames,) = encoder.embed_clips(noises(1), EmbeddingRequest(frames=True))
    assert len(frames) == 1 + (48_000 - 400) // 160
    np.testing.assert_allclose(encoder.embed(noises(1))[0], frames.mean(0), rtol=1e-5)


def test_xares_llm_pair_of_layers_and_mask_gives_layers(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES_LLM.replace("return features, mask", "return [features**2, features], mask")
    encoder = load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu")
    (rows,) = encoder.embed_clips(noises(1), EmbeddingRequest(layers=True))
    (frames,) = encoder.embed_clips(noises(1), EmbeddingRequest(frames=True))
    np.testing.assert_allclose(rows[0], np.concatenate([(frames**2).mean(0), frames.mean(0)]), rtol=1e-5)
    assert encoder.layers == 2


@pytest.mark.parametrize(
    ("declared", "mask_name", "contract", "rate", "hop"),
    [
        ("hop_size_in_ms = 10", "audio_attention_mask", "xares-llm", 16_000, 0.01),
        ("sampling_rate = 8_000", "audio_attention_mask", "xares-llm", 8_000, 0.02),
        ("sampling_rate = 16_000; hop_size_in_ms = 10", "audio_attention_mask", "xares-llm", 16_000, 0.01),
        ("sampling_rate = 16_000; hop_size_in_ms = 10", "other", "xares", 16_000, 0.01),
    ],
)
def test_xares_llm_contract_with_declared_attributes(tmp_path, declared, mask_name, contract, rate, hop):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    attributes = "; ".join(f"self.{name}" for name in ["output_dim = 12", *declared.split("; ")])
    text = sources.XARES_LLM.replace("self.output_dim = 12", attributes)
    text = text.replace("audio, audio_attention_mask", f"audio, {mask_name}").replace("audio_attention_mask", mask_name)
    encoder = load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu")
    assert (encoder.description["contract"], encoder.sample_rate, encoder.hop_seconds) == (contract, rate, hop)


def test_xares_class_that_takes_a_mask_and_returns_layers_keeps_them(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.layered().replace("forward(self, audio)", "forward(self, audio, mask=None)")
    for layers, n in (("[x, x**2, x**0.5]", 3), ("[x, x**2]", 2), ("x", 1)):
        file = save(tmp_path / str(n), "mine.py", text.replace("[x, x**2, x**0.5]", layers))
        encoder = load_encoder(str(file), device="cpu")
        assert (encoder.description["contract"], encoder.layers) == ("xares", n)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("features", r"forward\(audio, mask\) returned shape \(1, 298, 12\); expected a pair"),
        ("(features, mask, mask)", "returned a tuple of 3; expected a pair"),
        ("features, audio_attention_mask", r"mask of shape \(1, 8000\) for features of shape \(1, 298, 12\)"),
        ("features, mask * 2", r"the mask over frames has shape \(1, 298\); expected 0 and 1"),
        ("features, mask[0]", r"the mask over frames has shape \(298,\)"),
        ("features, mask * 0", "the model masks all frames"),
    ],
)
def test_xares_llm_invalid_output_is_an_error(tmp_path, output, message):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES_LLM.replace("return features, mask", f"return {output}")
    encoder = load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu")
    with pytest.raises(ValueError, match=message):
        encoder.embed(noises(1))


def test_xares_llm_hop_unknown_for_fixed_number_of_frames(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES_LLM.replace("return features, mask", "return features[:, :10], None")
    assert load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu").hop_seconds is None


def test_masked_part_called_encoder_does_not_compete(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    part = sources.XARES_LLM.replace("MaskedEncoder", "PartEncoder")
    encoder = load_encoder(str(save(tmp_path, "mine.py", part + sources.XARES)), device="cpu")
    assert encoder.name == "TinyEncoder"


@pytest.mark.parametrize(
    ("imports", "missing", "options"),
    [
        ("import torchaudio", "torchaudio", "--extra torch --with torchaudio==2.11.0 --with torch==2.11.0"),
        ("import torch, torchaudio.transforms as T", "torchaudio.transforms",
         "--extra torch --with torchaudio==2.11.0 --with torch==2.11.0"),
        ("import transformers, torchaudio", "torchaudio",
         "--extra clap --with torchaudio==2.11.0 --with torch==2.11.0"),
        ("import torch", "torch", "--extra torch"),
        ("from transformers import AutoModel", "transformers", "--extra clap"),
        ("import torch\nimport timm.layers", "timm", "--extra torch --with timm"),
        ("import numpy\nfrom . import timm", "timm", "--with timm"),
    ],
)  # fmt: skip
def test_install_options(tmp_path, imports, missing, options):
    assert user_file._install_options(save(tmp_path, "mine.py", imports), missing) == options


def test_torchaudio_for_another_torch_gets_the_command(tmp_path):
    """Importing torchaudio beside a torch that was built for another CUDA version raises this error."""
    text = (
        "import torch\nraise RuntimeError('Detected that PyTorch and TorchAudio were compiled with different CUDA')\n"
    )
    message = load_error(save(tmp_path, "mine.py", text), "")
    assert "; try `uv run --extra torch --with torchaudio==2.11.0 --with torch==2.11.0 SCRIPT.py …`" in message


def test_hear_frames_and_hop_from_timestamps(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    encoder = load_encoder(str(save(tmp_path, "mine.py", sources.HEAR)), device="cpu")
    (frames,) = encoder.embed_clips(noises(1, 22_050), EmbeddingRequest(frames=True))
    bands = torch.fft.rfft(torch.from_numpy(noises(1, 22_050)[0]).unfold(0, 512, 256)).abs()[:, :255]
    np.testing.assert_allclose(frames, bands.reshape(-1, 5, 51).sum(-1).numpy(), rtol=1e-5)
    assert encoder.hop_seconds == pytest.approx(256 / 22_050)


LOOK = "for a clip of 4.00 s: they look like"
CLOCK = "* 256 / 22.05"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clock", "fault"),
    [
        ("* 256 / 22_050", f"timestamps end at 3.97061 {LOOK} seconds; HEAR requires milliseconds"),
        ("* 256 / 22_050 + 0.012", f"{LOOK} seconds"),
        ("", f"timestamps end at 342 {LOOK} frame numbers"),
        ("* 256", f"{LOOK} samples"),
        ("* 256 / 22_050 * 1e6", f"{LOOK} microseconds"),
        ("* 256 / 44.1", "343 of them with a hop of 5.80499; HEAR requires times in milliseconds that rise"),
        ("* 0", "343 of them with a hop of 0; HEAR requires"),
        ("* 256 / 22.05 + 5000", "timestamps end at 8970.61"),
        ("/ 0", "timestamps are not finite"),
        ("[:, 1:] * 256 / 22.05", "timestamps of shape (1, 342) for frames of shape (1, 343, 5)"),
    ],
)
def test_hear_timestamps_must_be_milliseconds(tmp_path, clock, fault):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.HEAR.replace(CLOCK, clock)
    encoder = load_encoder(str(save(tmp_path, "mine.py", text)), device="cpu")
    with pytest.raises(EarmarkError, match=rf"^mine: .*{re.escape(fault)}"):
        _ = encoder.hop_seconds
    with pytest.raises(ValueError, match="timestamps"):
        encoder.embed_clips(noises(1, 22_050), EmbeddingRequest(frames=True))
    assert encoder.embed(noises(1, 22_050)).shape == (1, 5)  # scene embeddings do not use timestamps


@pytest.mark.parametrize(("hop", "first"), [(0.01, 0), (0.05, 0.025), (0.48, 0.48), (1.0, 0.5), (1.0, 1.0), (2.0, 0)])
def test_timestamps_fault_accepts_start_or_end_of_frames(hop, first):
    times = 1000 * (first + hop * np.arange(round(4 / hop)))
    assert timestamps_fault(times, 4.0, 16_000) == timestamps_fault(times[:1], 4.0, 16_000) == ""
    assert "look like seconds" in timestamps_fault(times / 1000, 4.0, 16_000)


def test_cached_frames_are_not_used_with_invalid_timestamps(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, noises(1, 22_050)[0], 22_050)
    encoder, store = load_encoder(str(save(tmp_path, "mine.py", sources.HEAR)), device="cpu"), tmp_path / "store"
    ((_, embedding),) = EmbeddingCache(store).embed(encoder, [clip], request=EmbeddingRequest(frames=True))
    assert embedding.vector is not None
    file = save(tmp_path, "mine.py", sources.HEAR.replace(CLOCK, "* 256 / 22_050"))
    wrong = replace(load_encoder(str(file), device="cpu"), identity=encoder.identity)
    with pytest.raises(EarmarkError, match="look like seconds"):
        list(EmbeddingCache(store).embed(wrong, [clip], request=EmbeddingRequest(frames=True)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "hop_size_in_ms = 10",
            "hop_size_in_ms = 2",
            "returned 48 frames for 0.50 s, but its hop of 2 ms implies about",
        ),
        ("hop_size_in_ms = 10", "hop_size_in_ms = 20", "returned 48 frames for 0.50 s, but its hop of 20 ms implies"),
        (
            "return self.frames(audio)",
            "return self.frames(audio).mean(1)",
            r"shape \(1, 12\) for 1 clips; expected \(1, frames, d\)",
        ),
    ],
)
def test_invalid_numbers_of_frames(tmp_path, old, new, message):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    encoder = load_encoder(str(save(tmp_path, "mine.py", sources.XARES.replace(old, new))), device="cpu")
    with pytest.raises(ValueError, match=message):
        encoder.embed_clips(noises(1), EmbeddingRequest(frames=True))
    assert encoder.embed(noises(1)).shape == (1, 12)  # embeddings do not use the hop


def test_invalid_hop_is_rejected(tmp_path):
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES.replace("hop_size_in_ms = 10", "hop_size_in_ms = 0")
    assert "has hop_size_in_ms 0; it must be above 0" in load_error(save(tmp_path, "mine.py", text), "")


def test_source_hash_excludes_standard_library():
    library = Path(os.__file__).resolve()
    assert not user_file._belongs_to_folder(library.parents[2], library)
    assert user_file._belongs_to_folder(library.parents[2], library.parents[2] / "mine/parts.py")

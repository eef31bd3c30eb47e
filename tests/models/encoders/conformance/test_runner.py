"""Each check on an encoder that passes it and on one that fails it. The encoders are unmodified user files."""

import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.conformance import encoder_under_test, requirements
from earmark.models.encoders.conformance.encoder_under_test import (
    EncoderUnderTest,
    Measurement,
    peak_resident_bytes,
    prepare_encoder_under_test,
    synthetic_voice,
)
from earmark.models.encoders.conformance.runner import HEADERS, REQUIREMENTS, CheckResult, check_encoder
from earmark.models.encoders.registry import load_encoder
from tests.conftest import ROOT
from tests.hostile import Reply, hostile_server
from tests.models.encoders import sources
from tests.models.encoders.sources import save
from tests.models.encoders.test_endpoint import embed
from tests.models.encoders.test_onnx import saved

RETURN = "return self.frames(audio)"
LINEAR_ENCODER = sources.XARES.replace("stride=160)", "stride=160, bias=False)")
STAYS_IN_TRAINING = "\n    def train(self, mode=True): return super().train(True)"
CHANGES_IN_TRAINING = "\n    def train(self, mode=True): self.output_dim += mode; return super().train(mode)"
XARES_LLM_CHECKS = [each.name for each in REQUIREMENTS if each.source == "xares-llm"]
CLASS_CHECKS = [each.name for each in REQUIREMENTS if "class" in each.preconditions]


def run_checks(encoder, max_clip_seconds: float = 2.0, **options) -> dict[str, CheckResult]:
    results = list(check_encoder(encoder, **{"device": "cpu", "max_clip_seconds": max_clip_seconds, **options}))
    assert [result.name for result in results] == [requirement.name for requirement in REQUIREMENTS]
    return {result.name: result for result in results}


def run_check(encoder, name: str, **options) -> CheckResult:
    results = check_encoder(encoder, **{"device": "cpu", "max_clip_seconds": 2.0, **options})
    return next(result for result in results if result.name == name)


def xares(folder, old: str = "", new: str = "", text: str = LINEAR_ENCODER) -> str:
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    assert old in text
    return f"{save(folder, 'mine.py', text.replace(old, new))}:TinyEncoder"


@pytest.mark.slow
def test_valid_xares_encoder_passes_all_checks(tmp_path):
    results = run_checks(xares(tmp_path), max_clip_seconds=20)
    assert {name: result.passed for name, result in results.items() if result.passed is not True} == {
        **dict.fromkeys(XARES_LLM_CHECKS), "1-D input": None, "10 ms": None, "GPU memory": None
    }  # fmt: skip
    assert results["loadable"].observed == "TinyEncoder: 16,000 Hz, 12 dimensions"
    # 50,000 samples hold 1 + (50,000 − 400) // 160 = 311 windows, 10 s hold 1 + (160,000 − 400) // 160 = 998.
    assert results["output rank"].observed == "shape (2, 311, 12)"
    assert results["hop"].observed == "998 frames for 10 s, where a hop of 10 ms implies about 1000"
    assert results["longest clip"].observed == "12 values for 20 s"
    assert re.fullmatch(r"too short: RuntimeError: .*160.*400.*\(mine\.py, line 13\); .*", results["10 ms"].observed)
    assert results["1-D input"].observed.startswith("takes batches only: RuntimeError: ")
    assert Counter(result.source for result in results.values()) == {"x-ares": 7, "xares-llm": 4, "earmark": 17}


def test_logmel_passes_applicable_checks():
    results = run_checks("logmel", max_clip_seconds=20)
    applied = {name for name, result in results.items() if result.passed is not None}
    assert applied == set(results) - set(CLASS_CHECKS) - {"GPU memory"}
    assert all(results[name].passed for name in applied)
    assert results["silence"].observed == "rejected: AudioError: is silent: no signal in any band"
    assert results["10 ms"].observed == "rejected: AudioError: is too short: 10 ms, where logmel needs 25 ms"
    assert {results[name].observed for name in CLASS_CHECKS} == {"not an X-ARES class"}


@pytest.mark.slow
@pytest.mark.parametrize("contract", ["case", "hear", "onnx", "endpoint"])
def test_other_encoder_kinds_pass_applicable_checks(contract, tmp_path):
    if contract == "hear":
        pytest.importorskip("torch", reason="the extra `torch` is not installed")
    texts = {"case": sources.case(), "hear": sources.HEAR}
    if contract == "endpoint":
        with hostile_server(embed) as server:
            results = run_checks(server.url)
    else:
        spec = f"onnx:{saved(tmp_path / 'x.onnx')}" if contract == "onnx" else save(tmp_path, "my.py", texts[contract])
        results = run_checks(str(spec))
    assert not [result for result in results.values() if result.passed is False]
    assert results["batch invariance"].passed
    assert (results["hop"].passed, results["hop"].observed.split(" ")[0]) == {
        "case": (None, "no"),
        "hear": (True, "860"),  # 1 + (220,500 − 512) // 256
        "onnx": (None, "unknown"),
        "endpoint": (None, "no"),
    }[contract]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new", "observed"),
    [
        ("loadable", "self.hop_size_in_ms = 10", "self.hop_size_in_ms = 0", r"hop_size_in_ms 0; it must be above 0"),
        ("base class", "TinyEncoder(torch.nn.Module)", "TinyEncoder", r"^builtins\.object$"),
        ("attributes", "self.hop_size_in_ms = 10", "pass", r"hop_size_in_ms missing; invalid: hop_size_in_ms$"),
        ("attributes", "hop_size_in_ms = 10", "hop_size_in_ms = '10'", r"invalid: hop_size_in_ms$"),
        ("attributes", "hop_size_in_ms = 10", "hop_size_in_ms = float('nan')", r"ms nan; invalid: hop_size_in_ms$"),
        ("attributes", "output_dim = 12", "output_dim = 12.5", r"output_dim 12\.5.*invalid: output_dim$"),
        ("attributes", "sampling_rate = 16_000", "sampling_rate = 16", r"invalid: sampling_rate$"),
        ("forward", RETURN, f"assert len(audio) == 1, 'one'; {RETURN}", r"^AssertionError: one \(mine\.py, line 28\)$"),
        ("forward", RETURN, "x = self.frames(audio); return [x, x]", r"^list of 2 layers; X-ARES accepts one tensor"),
        ("output rank", RETURN, f"{RETURN}.mean(1)", r"^shape \(2, 12\)$"),
        ("batch axis", RETURN, f"{RETURN}[:1]", r"^shape \(1, 311, 12\)$"),
        ("output_dim", "output_dim = 12", "output_dim = 13", r"^shape \(2, 311, 12\), output_dim 13$"),
        (
            "hop",
            "in_ms = 10",
            "in_ms = 20",
            r"^returned 998 frames for 10\.00 s.*; its frames are 10 ms apart: declare hop_size_in_ms = 10$",
        ),
        (
            "hop",
            "in_ms = 10",
            "in_ms = 9.5",
            r"^998 frames for 10 s, where a hop of 9\.5 ms implies about 1053; its frames are 10 ms apart: declare "
            r"hop_size_in_ms = 10$",
        ),
        (
            "hop",
            "in_ms = 10",
            "in_ms = 5",
            r"^returned 998 frames for 10\.00 s.*; its frames are 10 ms apart: declare hop_size_in_ms = 10$",
        ),
        (
            "finite",
            RETURN,
            f"{RETURN} / (audio.abs().amax(1)[:, None, None] > .001)",
            r"^EmbeddingError: .* not finite",
        ),
        ("finite", RETURN, f"{RETURN} * 0", r"^EmbeddingError: .* constant"),
        ("repeatable", RETURN, f"{RETURN} + torch.rand(12)", r"^largest relative difference \d"),
        (
            "repeatable",
            RETURN,
            "self.n = getattr(self, 'n', 0) + 1; " + RETURN + " * self.n",
            r"^largest relative difference \d",
        ),
        ("batch invariance", RETURN, "return self.frames(audio / audio.std())", r"^largest relative difference \d"),
        ("padded neighbour", RETURN, "return self.frames(audio / audio.std())", r"^largest relative difference \d"),
        ("1-D input", RETURN, f"x = torch.atleast_2d(audio); {RETURN[:19]}x) * len(audio)", r"^accepted: largest"),
        ("1-D input", RETURN, f"audio.mean(1); {RETURN}", r"^failed: IndexError: .*\(mine\.py, line 28\)$"),
        ("silence", RETURN, f"{RETURN} / audio.abs().amax()", r"^12 values, not all finite$"),
        (
            "silence",
            RETURN,
            f"if not audio.any(): raise RuntimeError('no clip')\n        {RETURN}",
            r"^failed: RuntimeError: no clip \(mine\.py, line 28\)$",
        ),
        ("100 ms", RETURN, f"if audio.shape[1] < 3200: audio @ audio\n        {RETURN}", r"^failed: RuntimeError: "),
        ("100 ms", RETURN, f"if audio.shape[1] < 3200: return audio.no\n        {RETURN}", r"^failed: AttributeError"),
        ("10 ms", RETURN, f"if audio.shape[1] < 1600: return [][0]\n        {RETURN}", r"^failed: IndexError"),
        ("eval mode", RETURN, f"{RETURN}{STAYS_IN_TRAINING}", "mode: the encoder itself"),
        (
            "eval mode",
            RETURN,
            f"{RETURN} * self.output_dim{CHANGES_IN_TRAINING}",
            r"^largest relative difference 8\.3e-02",
        ),  # 13 / 12 − 1
    ],
)
def test_each_check_can_fail(tmp_path, name, old, new, observed):
    result = run_check(xares(tmp_path, old, new), name)
    assert result.passed is False
    assert re.search(observed, result.observed)


@pytest.mark.slow
def test_class_name_without_encoder_suffix_fails(tmp_path):
    spec = xares(tmp_path, "TinyEncoder", "Tiny").replace(":TinyEncoder", ":Tiny")
    results = run_checks(spec)
    assert [result.name for result in results.values() if result.passed is False] == ["class name"]
    assert results["class name"].observed == "Tiny"


def xares_llm(folder, old: str = "", new: str = "") -> str:
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    text = sources.XARES_LLM.replace("stride=160)", "stride=160, bias=False)")
    assert old in text
    return f"{save(folder, 'mine.py', text.replace(old, new))}:MaskedEncoder"


@pytest.mark.slow
def test_valid_xares_llm_encoder_passes_its_checks(tmp_path):
    results = run_checks(xares_llm(tmp_path))
    not_passed = {name: result.passed for name, result in results.items() if result.passed is not True}
    contract_of_2025 = ["attributes", "forward", "output rank", "batch axis", "output_dim", "1-D input"]
    assert not_passed == {**dict.fromkeys([*contract_of_2025, "GPU memory"])}
    assert results["attributes"].observed == "an XARES-LLM class"
    assert results["mask"].observed == "output_dim 12, forward(audio, audio_attention_mask), 16,000 Hz assumed"
    assert results["pair"].observed == "tuple of Tensor, Tensor"
    # 50,000 samples are padded to 96,000: 1 + (96,000 − 400) // 160 windows, of which 311 and 154 hold no padding.
    assert results["features"].observed == "shape (3, 598, 12), output_dim 12"
    assert (
        results["feature mask"].observed == "shape (3, 598), 154, 311, 311 frames kept; the first clip is half as long"
    )
    assert results["hop"].observed.endswith("a hop of 10 ms implies about 1000 (derived from the frames)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new", "observed"),
    [
        ("mask", "self.output_dim = 12", "self.output_dim = 12.5", r"^output_dim 12\.5, forward\("),
        ("pair", "return features, mask", "return features", r"^Tensor$"),
        ("pair", "return features, mask", "return features, mask, 1", r"^tuple of Tensor, Tensor, int$"),
        ("pair", "return features, mask", "return [features], mask", r"^tuple of list, Tensor; XARES-LLM accepts one"),
        ("pair", "audio_attention_mask is None", "False", r"^AttributeError: .*\(mine\.py, line \d+\)$"),
        ("features", "self.output_dim = 12", "self.output_dim = 13", r"^shape \(3, 598, 12\), output_dim 13$"),
        ("features", "return features, mask", "return features.mean(1), None", r"^shape \(3, 12\), output_dim 12$"),
        ("feature mask", "return features, mask", "return features, mask[:, 1:]", r"mask of shape \(3, 597\) for"),
        ("feature mask", "return features, mask", "return features, mask * 0", "the model masks all frames"),
        (
            "trailing zeros",
            "return features, mask",
            "return features - features.mean(1, keepdim=True), None",
            "^largest relative difference",
        ),
    ],
)  # fmt: skip
def test_each_xares_llm_check_can_fail(tmp_path, name, old, new, observed):
    result = run_check(xares_llm(tmp_path, old, new), name)
    assert result.passed is False and re.search(observed, result.observed)


@pytest.mark.slow
def test_xares_llm_encoder_without_mask_and_frames(tmp_path):
    results = run_checks(xares_llm(tmp_path, "return features, mask", "return features[:, :10], None"))
    assert results["feature mask"].observed == "None: all frames count, also those of padding"
    assert (results["hop"].passed, results["hop"].observed) == (
        None,
        "unknown frame hop: frame tasks cannot be scored",
    )


def test_power_normalisation_fails_trailing_zeros(tmp_path):
    results = run_checks(
        xares(tmp_path, RETURN, "return self.frames(audio / (audio.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt())")
    )
    assert [result.name for result in results.values() if result.passed is False] == ["trailing zeros"]
    assert results["trailing zeros"].observed.startswith("largest relative difference 4.1e-01 ")  # √2 − 1


@pytest.mark.slow
def test_rounding_difference_is_within_tolerance(tmp_path):
    result = run_check(xares(tmp_path, RETURN, f"{RETURN} * (1 + 1e-5 * torch.rand(1))"), "repeatable")
    assert result.passed
    assert re.fullmatch(r"largest relative difference \d(\.\d)?e-(0[5-9]|1\d) .*", result.observed)


def test_length_dependent_dimension_fails(tmp_path):
    text = sources.case().replace("rfft(samples)), 6)", "rfft(samples)), 6 + (len(samples) > 50_000))")
    result = run_check(str(save(tmp_path, "mine.py", text)), "dimension")
    assert (result.passed, result.observed) == (
        False,
        "6 for 1 s, 7 for 3.3 s, 7 for 10 s; declared: 6",
    )


@pytest.mark.slow
def test_memory_and_speed_need_the_longest_clip(tmp_path):
    limited = f"if audio.shape[1] > 200_000: raise RuntimeError('too long')\n        {RETURN}"
    results = run_checks(xares(tmp_path, RETURN, limited), max_clip_seconds=15)
    assert (results["longest clip"].passed, results["longest clip"].observed) == (
        False,
        "up to 10 s; 15 s: RuntimeError: too long (mine.py, line 28)",
    )
    for name in ("memory", "speed"):  # ten seconds cannot show that fifteen fit
        assert results[name].passed is None and results[name].observed.endswith(" for 10 s, the longest clip embedded")
    assert results["eval mode"].passed


@pytest.mark.slow
def test_memory_and_speed_need_an_embedded_clip(tmp_path):
    limited = f"if audio.shape[1] > 140_000: raise RuntimeError('too long')\n        {RETURN}"
    results = run_checks(xares(tmp_path, RETURN, limited), max_clip_seconds=15)
    assert results["longest clip"].observed == "RuntimeError: too long (mine.py, line 28)"
    assert {results[name].observed for name in ("memory", "GPU memory", "speed")} == {
        "the longest clip was not embedded"
    }


@pytest.mark.parametrize(("limit", "passed"), [(requirements.RAM_LIMIT, None), (2**20, False)])
def test_memory_of_shorter_clips_can_only_fail(monkeypatch, limit, passed):
    monkeypatch.setattr(requirements, "RAM_LIMIT", limit)
    tested = EncoderUnderTest("", None, None, 600)
    tested.measurement = Measurement(160, 8.0, 12, 2**29, 2**30, None, shortfall="320 s needs more than 9 GB")
    assert requirements.memory(tested) == (
        passed,
        "peak 1.00 GiB (0.50 GiB before the long clips) for 160 s, the longest clip embedded",
    )
    assert requirements.longest_clip_verdict(tested.measurement) == (False, "up to 160 s; 320 s needs more than 9 GB")


def test_longest_clip_stops_before_hours(tmp_path, monkeypatch):
    tested = prepare_encoder_under_test("logmel", "cpu", "float32", 100)
    tried = []
    tested.on_clip = lambda clip: tried.append(clip) if isinstance(clip, float) else None

    def measured(clip, before, torch):
        seconds = len(clip) / tested.rate
        return Measurement(seconds, seconds**2 / 4, 80, before, before, None)

    monkeypatch.setattr(tested, "_measure", measured)
    monkeypatch.setattr(encoder_under_test, "MAX_SECONDS_PER_CLIP", 1500)
    # 10 s take 25 s, 20 s 100 s, 40 s 400 s; 80 s would take 1,600 s.
    assert requirements.longest_clip(tested) == (False, "up to 40 s; 80 s would take about 0.4 h")
    assert tried == [10, 20, 40]


UNPADDED = LINEAR_ENCODER.replace("Conv1d(1, 12, 400,", "Conv1d(1, 12, 8_160,").replace(
    "return self.frames(audio)", "PAD; return self.frames(audio)"
)


@pytest.mark.slow
def test_long_windows_without_padding_get_a_remedy_that_works(tmp_path):
    failed = run_check(xares(tmp_path, "PAD; ", "", UNPADDED), "hop")
    # 1 + (160,000 − 8,160) // 160 = 950 frames; the window of 0.51 s less the hop of 0.01 s is 0.25 s at each side.
    assert failed.passed is False and failed.observed.startswith("950 frames for 10 s, where a hop of 10 ms implies")
    remedy = re.search(r"audio = torch\.nn\.functional\.pad\(audio, \((\d+), \1\)\)", failed.observed)
    assert remedy and int(remedy[1]) == 4000 and "windows of about 0.51 s are not padded" in failed.observed
    passed = run_check(xares(tmp_path / "padded", "PAD", remedy[0], UNPADDED), "hop")
    assert passed.passed and passed.observed == "1000 frames for 10 s, where a hop of 10 ms implies about 1000"


@pytest.mark.slow
def test_slower_than_real_time_fails(tmp_path):
    result = run_check(str(save(tmp_path, "mine.py", sources.case(slow=0.1))), "speed", max_clip_seconds=0.05)
    assert result.passed is False
    assert float(result.observed.split(" ")[0]) >= 2  # 0.1 s for 0.05 s


def test_memory_above_limit_fails(monkeypatch):
    monkeypatch.setattr(requirements, "RAM_LIMIT", 2**20)
    result = run_check("logmel", "memory")
    assert result.passed is False
    assert re.fullmatch(r"peak \d+\.\d\d GiB \(\d+\.\d\d GiB before the long clips\)", result.observed)


@pytest.mark.slow
def test_peak_resident_bytes_of_this_process_only():
    if peak_resident_bytes() is None:
        pytest.skip("this system does not report peak memory")
    code = (
        "import numpy as np; from earmark.models.encoders.conformance.encoder_under_test import peak_resident_bytes;"
        "before = peak_resident_bytes();"
        "np.ones(50_000_000); print(before, peak_resident_bytes())"  # 400 MB, freed at once
    )
    held = np.ones(75_000_000)  # 600 MB here, which the other process must not report
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 390e6 < after - before < 500e6
    assert before < 600e6 <= held.nbytes


@pytest.mark.slow
def test_gpu_memory_is_measured(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    if not torch.cuda.is_available():
        assert run_check(xares(tmp_path), "GPU memory").observed == "runs on cpu"
        pytest.skip("no CUDA device here")
    results = run_checks(xares(tmp_path), device="cuda")
    assert results["GPU memory"].passed and re.fullmatch(r"peak \d+\.\d\d GiB", results["GPU memory"].observed)
    assert not [result for result in results.values() if result.passed is False]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    ["ValueError('x')", "MemoryError()", "SystemExit(3)", "KeyError('')", "torch.cuda.OutOfMemoryError('full')"],
)
def test_encoder_errors_fail_only_their_check(tmp_path, error):
    results = run_checks(xares(tmp_path, RETURN, f"raise {error}"))
    assert results["loadable"].passed and results["attributes"].passed
    assert results["forward"].observed.endswith("(mine.py, line 28)")
    applied = {name for name, result in results.items() if result.passed}
    rejected = {"silence", "100 ms", "10 ms"} if error.startswith("ValueError") else set()
    assert applied == {"loadable", "class name", "base class", "attributes"} | rejected


def test_xares_class_is_checked_when_file_cannot_be_loaded(tmp_path):
    results = run_checks(xares(tmp_path, "self.hop_size_in_ms = 10", "pass"))
    assert re.search(r"mine\.py: TinyEncoder lacks hop_size_in_ms, required by X-ARES", results["loadable"].observed)
    assert {name for name, result in results.items() if result.passed is False} == {"loadable", "attributes"}
    assert results["output_dim"].passed and results["trailing zeros"].passed
    assert results["finite"].observed == "the encoder cannot be loaded"


@pytest.mark.parametrize(
    ("text", "observed"),
    [
        ("import numpy\n\ndef f(:\n", r"cannot be imported, line 3: SyntaxError"),
        ("class M:\n    def load(self):\n        raise OSError('no x')\n    def extract_embedding(self): 0\n", "no x$"),
    ],
)
def test_file_without_class_fails_loadable_only(tmp_path, text, observed):
    results = run_checks(str(save(tmp_path, "mine.py", text)))
    assert [result.name for result in results.values() if result.passed is False] == ["loadable"]
    assert re.search(observed, results["loadable"].observed)


def test_missing_file_or_package_is_raised_at_the_call(tmp_path):
    with pytest.raises(MissingError, match=r"no such file; expected FILE\.py"):
        check_encoder(str(tmp_path / "absent.py"))
    with pytest.raises(MissingError, match=r"unknown encoder .*; expected logmel"):
        check_encoder("something")
    with pytest.raises(MissingError, match=r"No module named 'nobody'; try `uv run --with nobody "):
        check_encoder(str(save(tmp_path, "mine.py", "import nobody\n")))
    with pytest.raises(EarmarkError, match="max_clip_seconds is 0; it must be a finite number above 0"):
        check_encoder("logmel", max_clip_seconds=0)
    np.savez(tmp_path / "x.npz", ids=np.array(["a"]), embeddings=np.eye(1, 3, dtype=np.float32))
    with pytest.raises(EarmarkError, match="Precomputed embeddings cannot be checked"):
        check_encoder(f"embeddings:{tmp_path}/x.npz")


def test_missing_device_is_not_a_failed_check(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(MissingError, match="cuda"):
        check_encoder(xares(tmp_path), device="cuda")


def test_results_are_yielded_one_by_one_and_interruptible(tmp_path):
    results = check_encoder(xares(tmp_path, RETURN, "raise KeyboardInterrupt"), device="cpu")
    assert [next(results).name for _ in range(4)] == ["loadable", "class name", "base class", "attributes"]
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_server_with_empty_response_fails_quickly():
    with hostile_server(lambda n, body: Reply({"data": []})) as server:
        start = time.monotonic()
        results = run_checks(server.url)
    assert results["loadable"].passed and results["finite"].passed is False and results["longest clip"].passed is False
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_loaded_encoder_gives_same_results_as_its_spec_without_output(tmp_path, capsys):
    text = LINEAR_ENCODER.replace(RETURN, f"print('chatter'); {RETURN}")
    spec = xares(tmp_path, text=text)
    first, second = run_checks(spec), run_checks(load_encoder(spec, device="cpu"))
    measured = {"memory", "speed"}
    assert [first[name] for name in first if name not in measured] == [
        second[name] for name in second if name not in measured
    ]
    assert capsys.readouterr().out == ""


def test_headers_match_check_result_fields():
    row = CheckResult("hop", True, "expected", "observed", "earmark")
    assert len(HEADERS) == len(vars(row)) and list(vars(row)) == ["name", *HEADERS[1:]]
    assert len({requirement.name for requirement in REQUIREMENTS}) == len(REQUIREMENTS)


def test_synthetic_voice_has_pitch_and_harmonics():
    signal = synthetic_voice(2.0, 16_000)
    power = np.abs(np.fft.rfft(signal)) ** 2
    assert 0.9 * 120 <= np.argmax(power) / 2 <= 1.5 * 120  # bins of 0.5 Hz; the first harmonic is the strongest
    assert np.abs(signal).max() <= 1 and signal.dtype == np.float32 and len(signal) == 32_000
    np.testing.assert_array_equal(signal, synthetic_voice(2.0, 16_000))
    assert not np.allclose(signal, synthetic_voice(2.0, 16_000, seed=1), atol=0.01)


@pytest.mark.slow
def test_synthetic_voice_passes_resemblyzer_vad():
    pytest.importorskip("resemblyzer", reason="run with `--with resemblyzer --with webrtcvad-wheels`")
    encoder = load_encoder("resemblyzer", device="cpu")
    assert encoder.embed([synthetic_voice(2.0, 16_000, seed) for seed in range(4)]).shape == (4, 256)


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_transformers_encoders_pass_applicable_checks(kind, tmp_path):
    pytest.importorskip("transformers", reason="the extra `clap` is not installed")
    from tests.models.encoders.test_huggingface import saved as checkpoint

    results = run_checks(f"hf:{checkpoint(tmp_path / kind, kind)}", max_clip_seconds=5)
    assert not [result for result in results.values() if result.passed is False]
    assert results["hop"].passed and results["batch invariance"].passed and results["longest clip"].passed

"""Every check on an encoder that keeps the promise and on one that breaks it: files as users write them, unmodified."""

import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.conformance import requirements
from earmark.models.encoders.conformance.encoder_under_test import peak_bytes, voice
from earmark.models.encoders.conformance.runner import HEADERS, REQUIREMENTS, Check, check_encoder
from earmark.models.encoders.registry import load_encoder
from tests.conftest import ROOT
from tests.hostile import Reply, hostile_server
from tests.models.encoders import sources
from tests.models.encoders.sources import save
from tests.models.encoders.test_endpoint import embed
from tests.models.encoders.test_onnx import saved

GIVES = "return self.frames(audio)"
LINEAR_ENCODER = sources.XARES.replace("stride=160)", "stride=160, bias=False)")  # linear
STAYS = "\n    def train(self, mode=True): return super().train(True)"
COUNTS = "\n    def train(self, mode=True): self.output_dim += mode; return super().train(mode)"
OF_A_CLASS = [promise.name for promise in REQUIREMENTS if "class" in promise.needs]


def checked(encoder, max_clip_seconds: float = 2.0, **options) -> dict[str, Check]:
    found = list(check_encoder(encoder, **{"device": "cpu", "max_clip_seconds": max_clip_seconds, **options}))
    assert [one.name for one in found] == [promise.name for promise in REQUIREMENTS]
    return {one.name: one for one in found}


def one(encoder, name: str, **options) -> Check:
    return next(
        found
        for found in check_encoder(encoder, **{"device": "cpu", "max_clip_seconds": 2.0, **options})
        if found.name == name
    )


def xares(folder, old: str = "", new: str = "", text: str = LINEAR_ENCODER) -> str:
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    assert old in text
    return f"{save(folder, 'mine.py', text.replace(old, new))}:TinyEncoder"


@pytest.mark.slow
def test_a_sound_encoder_of_x_ares_keeps_every_promise(tmp_path):
    found = checked(xares(tmp_path), max_clip_seconds=20)
    assert {name: each.passed for name, each in found.items() if each.passed is not True} == {"GPU memory": None}
    assert found["loads"].seen == "TinyEncoder: 16,000 Hz, 12 numbers"
    # 50,000 samples hold 1 + (50,000 − 400) // 160 = 311 windows, 10 s hold 1 + (160,000 − 400) // 160 = 998.
    assert found["rank"].seen == "shape (2, 311, 12)"
    assert found["hop"].seen == "998 frames for 10 s, where a hop of 10 ms implies about 1000"
    assert found["longest clip"].seen == "12 numbers for 20 s"
    assert re.fullmatch(r"refused: RuntimeError: .*160.*400.*\(mine\.py, line 13\)", found["10 ms"].seen)
    assert Counter(each.source for each in found.values()) == {"x-ares": 7, "earmark": 17}


def test_logmel_keeps_all_that_applies():
    found = checked("logmel", max_clip_seconds=20)
    asked = {name for name, each in found.items() if each.passed is not None}
    assert asked == set(found) - set(OF_A_CLASS) - {"GPU memory"}
    assert all(found[name].passed for name in asked)
    assert found["silence"].seen == "refused: AudioError: is silent: no sound in any band"
    assert found["10 ms"].seen == "refused: AudioError: is too short: 10 ms, where logmel needs 25 ms"
    assert {found[name].seen for name in OF_A_CLASS} == {"no class of X-ARES"}


@pytest.mark.slow
@pytest.mark.parametrize("contract", ["case", "hear", "onnx", "endpoint"])
def test_other_encoders_keep_what_applies_to_them(contract, tmp_path):
    if contract == "hear":
        pytest.importorskip("torch", reason="the extra `torch` is not installed")
    texts = {"case": sources.case(), "hear": sources.HEAR}
    if contract == "endpoint":
        with hostile_server(embed) as server:
            found = checked(server.url)
    else:
        spec = f"onnx:{saved(tmp_path / 'x.onnx')}" if contract == "onnx" else save(tmp_path, "my.py", texts[contract])
        found = checked(str(spec))
    assert not [each for each in found.values() if each.passed is False]
    assert found["neighbours"].passed
    assert (found["hop"].passed, found["hop"].seen.split(" ")[0]) == {
        "case": (None, "gives"),
        "hear": (True, "860"),  # 1 + (220,500 − 512) // 256
        "onnx": (None, "nothing"),
        "endpoint": (None, "gives"),
    }[contract]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new", "seen"),
    [
        ("loads", "self.hop_size_in_ms = 10", "self.hop_size_in_ms = 0", r"hop_size_in_ms 0; it is a time above 0"),
        ("module", "TinyEncoder(torch.nn.Module)", "TinyEncoder", r"^builtins\.object$"),
        ("attributes", "self.hop_size_in_ms = 10", "pass", r"hop_size_in_ms missing; wrong: hop_size_in_ms$"),
        ("attributes", "hop_size_in_ms = 10", "hop_size_in_ms = '10'", r"wrong: hop_size_in_ms$"),
        ("attributes", "hop_size_in_ms = 10", "hop_size_in_ms = float('nan')", r"ms nan; wrong: hop_size_in_ms$"),
        ("attributes", "output_dim = 12", "output_dim = 12.5", r"output_dim 12\.5.*wrong: output_dim$"),
        ("attributes", "sampling_rate = 16_000", "sampling_rate = 16", r"wrong: sampling_rate$"),
        ("forward", GIVES, f"assert len(audio) == 1, 'one'; {GIVES}", r"^AssertionError: one \(mine\.py, line 28\)$"),
        ("forward", GIVES, "x = self.frames(audio); return [x, x]", r"^a list of 2 layers, which X-ARES does not take"),
        ("rank", GIVES, f"{GIVES}.mean(1)", r"^shape \(2, 12\)$"),
        ("batch", GIVES, f"{GIVES}[:1]", r"^shape \(1, 311, 12\)$"),
        ("output_dim", "output_dim = 12", "output_dim = 13", r"^shape \(2, 311, 12\), output_dim 13$"),
        ("hop", "in_ms = 10", "in_ms = 20", r"^ValueError: gave 998 frames for 10\.00 s"),
        ("hop", "in_ms = 10", "in_ms = 9.5", r"^998 frames for 10 s, where a hop of 9\.5 ms implies about 1053$"),
        ("hop", "in_ms = 10", "in_ms = 5", r"^ValueError: gave 998 frames for 10\.00 s"),
        ("finite", GIVES, f"{GIVES} / (audio.abs().amax(1)[:, None, None] > .001)", r"^EmbeddingError: .* not finite"),
        ("finite", GIVES, f"{GIVES} * 0", r"^EmbeddingError: .* constant"),
        ("repeatable", GIVES, f"{GIVES} + torch.rand(12)", r"^largest difference \d"),
        ("repeatable", GIVES, "self.n = getattr(self, 'n', 0) + 1; " + GIVES + " * self.n", r"^largest difference \d"),
        ("neighbours", GIVES, "return self.frames(audio / audio.std())", r"^largest difference \d"),
        ("beside padding", GIVES, "return self.frames(audio / audio.std())", r"^largest difference \d"),
        ("one dimension", GIVES, f"x = torch.atleast_2d(audio); {GIVES[:19]}x) * len(audio)", r"^accepted: largest"),
        ("one dimension", GIVES, f"audio.mean(1); {GIVES}", r"^failed: IndexError: .*\(mine\.py, line 28\)$"),
        ("silence", GIVES, f"{GIVES} / audio.abs().amax()", r"^12 numbers, not all of them finite$"),
        ("100 ms", GIVES, f"if audio.shape[1] < 3200: return audio.no\n        {GIVES}", r"^failed: AttributeError"),
        ("10 ms", GIVES, f"if audio.shape[1] < 1600: return [][0]\n        {GIVES}", r"^failed: IndexError"),
        ("eval again", GIVES, f"{GIVES}{STAYS}", "mode: itself"),
        ("eval again", GIVES, f"{GIVES} * self.output_dim{COUNTS}", r"^largest difference 8\.3e-02"),  # 13 / 12 − 1
    ],
)
def test_each_promise_can_be_broken(tmp_path, name, old, new, seen):
    found = one(xares(tmp_path, old, new), name)
    assert found.passed is False
    assert re.search(seen, found.seen)


@pytest.mark.slow
def test_a_class_has_to_be_called_an_encoder(tmp_path):
    spec = xares(tmp_path, "TinyEncoder", "Tiny").replace(":TinyEncoder", ":Tiny")
    found = checked(spec)
    assert [each.name for each in found.values() if each.passed is False] == ["class name"]
    assert found["class name"].seen == "Tiny"


def test_zeros_behind_a_clip_that_is_normalised_to_its_power_make_it_louder_by_the_root_of_two(tmp_path):
    found = checked(
        xares(tmp_path, GIVES, "return self.frames(audio / (audio.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt())")
    )
    assert [each.name for each in found.values() if each.passed is False] == ["own padding"]
    assert found["own padding"].seen.startswith("largest difference 4.1e-01 ")  # √2 − 1


@pytest.mark.slow
def test_a_difference_of_rounding_is_reported_and_allowed(tmp_path):
    found = one(xares(tmp_path, GIVES, f"{GIVES} * (1 + 1e-5 * torch.rand(1))"), "repeatable")
    assert found.passed
    assert re.fullmatch(r"largest difference \d(\.\d)?e-(0[5-9]|1\d) .*", found.seen)


def test_the_number_of_numbers_may_not_depend_on_the_length(tmp_path):
    text = sources.case().replace("rfft(samples)), 6)", "rfft(samples)), 6 + (len(samples) > 50_000))")
    found = one(str(save(tmp_path, "mine.py", text)), "dimension")
    assert (found.passed, found.seen) == (
        False,
        "6 numbers for 1 s, 7 numbers for 3.3 s, 7 numbers for 10 s; 6 declared",
    )


@pytest.mark.slow
def test_the_longest_clip_decides_over_memory_and_speed(tmp_path):
    limited = f"if audio.shape[1] > 200_000: raise RuntimeError('too long')\n        {GIVES}"
    found = checked(xares(tmp_path, GIVES, limited), max_clip_seconds=15)
    assert (found["longest clip"].passed, found["longest clip"].seen) == (
        False,
        "RuntimeError: too long (mine.py, line 28)",
    )
    assert {found[name].seen for name in ("memory", "GPU memory", "speed")} == {"the longest clip gave nothing"}
    assert found["eval again"].passed


@pytest.mark.slow
def test_slower_than_the_audio_is_too_slow(tmp_path):
    found = one(str(save(tmp_path, "mine.py", sources.case(slow=0.1))), "speed", max_clip_seconds=0.05)
    assert found.passed is False
    assert float(found.seen.split(" ")[0]) >= 2  # 0.1 s for 0.05 s


def test_memory_is_held_against_the_limit(monkeypatch):
    monkeypatch.setattr(requirements, "RAM", 2**20)
    found = one("logmel", "memory")
    assert found.passed is False
    assert re.fullmatch(r"peak \d+\.\d\d GiB, of which \d+\.\d\d GiB before the clip", found.seen)


@pytest.mark.slow
def test_peak_memory_is_that_of_this_process_and_grows_with_what_it_holds():
    if peak_bytes() is None:
        pytest.skip("this system does not say how much memory a process held")
    code = (
        "import numpy as np; from earmark.models.encoders.conformance.encoder_under_test import peak_bytes;"
        "before = peak_bytes();"
        "np.ones(50_000_000); print(before, peak_bytes())"  # 400 MB, given back at once
    )
    held = np.ones(75_000_000)  # 600 MB here, which are none of the other process's
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 390e6 < after - before < 500e6
    assert before < 600e6 <= held.nbytes


@pytest.mark.slow
def test_a_gpu_is_asked_for_its_memory(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    if not torch.cuda.is_available():
        assert one(xares(tmp_path), "GPU memory").seen == "runs on cpu"
        pytest.skip("no CUDA device here")
    found = checked(xares(tmp_path), device="cuda")
    assert found["GPU memory"].passed and re.fullmatch(r"peak \d+\.\d\d GiB", found["GPU memory"].seen)
    assert not [each for each in found.values() if each.passed is False]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    ["ValueError('x')", "MemoryError()", "SystemExit(3)", "KeyError('')", "torch.cuda.OutOfMemoryError('full')"],
)
def test_whatever_is_raised_fails_its_check_and_stops_no_other(tmp_path, error):
    found = checked(xares(tmp_path, GIVES, f"raise {error}"))
    assert found["loads"].passed and found["attributes"].passed
    assert found["forward"].seen.endswith("(mine.py, line 28)")
    asked = {name for name, each in found.items() if each.passed}
    refused = {"silence", "100 ms", "10 ms"} if error.startswith("ValueError") else set()
    assert asked == {"loads", "class name", "module", "attributes"} | refused


def test_a_file_that_cannot_be_loaded_is_still_held_against_its_contract(tmp_path):
    found = checked(xares(tmp_path, "self.hop_size_in_ms = 10", "pass"))
    assert re.search(r"mine\.py: TinyEncoder lacks hop_size_in_ms, which X-ARES asks for", found["loads"].seen)
    assert {name for name, each in found.items() if each.passed is False} == {"loads", "attributes"}
    assert found["output_dim"].passed and found["own padding"].passed
    assert found["finite"].seen == "the encoder cannot be loaded"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("import numpy\n\ndef f(:\n", r"cannot be imported, line 3: SyntaxError"),
        ("class M:\n    def load(self):\n        raise OSError('no x')\n    def extract_embedding(self): 0\n", "no x$"),
    ],
)
def test_a_file_without_a_class_to_look_at_fails_one_check(tmp_path, text, seen):
    found = checked(str(save(tmp_path, "mine.py", text)))
    assert [each.name for each in found.values() if each.passed is False] == ["loads"]
    assert re.search(seen, found["loads"].seen)


def test_what_is_not_there_is_said_before_the_first_check(tmp_path):
    with pytest.raises(MissingError, match=r"no such file; an encoder is FILE\.py"):
        check_encoder(str(tmp_path / "absent.py"))
    with pytest.raises(MissingError, match="names no encoder; it can be logmel"):
        check_encoder("something")
    with pytest.raises(MissingError, match=r"No module named 'nobody'; `uv run --with nobody "):
        check_encoder(str(save(tmp_path, "mine.py", "import nobody\n")))
    with pytest.raises(EarmarkError, match="A clip of 0 s cannot be made"):
        check_encoder("logmel", max_clip_seconds=0)
    np.savez(tmp_path / "x.npz", ids=np.array(["a"]), embeddings=np.eye(1, 3, dtype=np.float32))
    with pytest.raises(EarmarkError, match="Embeddings made elsewhere promise nothing"):
        check_encoder(f"embeddings:{tmp_path}/x.npz")


def test_a_device_that_is_not_there_is_no_fault_of_the_file(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(MissingError, match="cuda"):
        check_encoder(xares(tmp_path), device="cuda")


def test_checks_come_as_they_are_done_and_can_be_interrupted(tmp_path):
    found = check_encoder(xares(tmp_path, GIVES, "raise KeyboardInterrupt"), device="cpu")
    assert [next(found).name for _ in range(4)] == ["loads", "class name", "module", "attributes"]
    with pytest.raises(KeyboardInterrupt):
        next(found)


def test_a_server_that_answers_nothing_fails_and_is_not_waited_for():
    with hostile_server(lambda n, body: Reply({"data": []})) as server:
        start = time.monotonic()
        found = checked(server.url)
    assert found["loads"].passed and found["finite"].passed is False and found["longest clip"].passed is False
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_a_loaded_encoder_is_checked_as_its_string_is_and_says_nothing(tmp_path, capsys):
    text = LINEAR_ENCODER.replace(GIVES, f"print('chatter'); {GIVES}")
    spec = xares(tmp_path, text=text)
    first, second = checked(spec), checked(load_encoder(spec, device="cpu"))
    measured = {"memory", "speed"}
    assert [first[name] for name in first if name not in measured] == [
        second[name] for name in second if name not in measured
    ]
    assert capsys.readouterr().out == ""


def test_a_row_of_a_table_has_its_headers():
    row = Check("hop", True, "expected", "seen", "earmark")
    assert len(HEADERS) == len(vars(row)) and list(vars(row)) == ["name", *HEADERS[1:]]
    assert len({promise.name for promise in REQUIREMENTS}) == len(REQUIREMENTS)


def test_the_test_signal_sounds_like_a_voice():
    found = voice(2.0, 16_000)
    power = np.abs(np.fft.rfft(found)) ** 2
    assert 0.9 * 120 <= np.argmax(power) / 2 <= 1.5 * 120  # bins of 0.5 Hz; the first harmonic is the strongest
    assert np.abs(found).max() <= 1 and found.dtype == np.float32 and len(found) == 32_000
    np.testing.assert_array_equal(found, voice(2.0, 16_000))
    assert not np.allclose(found, voice(2.0, 16_000, seed=1), atol=0.01)


@pytest.mark.slow
def test_resemblyzers_detector_of_speech_hears_speech_in_it():
    pytest.importorskip("resemblyzer", reason="run with `--with resemblyzer --with webrtcvad-wheels`")
    encoder = load_encoder("resemblyzer", device="cpu")
    assert encoder.embed([voice(2.0, 16_000, seed) for seed in range(4)]).shape == (4, 256)


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_encoders_of_transformers_keep_what_applies_to_them(kind, tmp_path):
    pytest.importorskip("transformers", reason="the extra `clap` is not installed")
    from tests.models.encoders.test_huggingface import saved as checkpoint

    found = checked(f"hf:{checkpoint(tmp_path / kind, kind)}", max_clip_seconds=5)
    assert not [each for each in found.values() if each.passed is False]
    assert found["hop"].passed and found["neighbours"].passed and found["longest clip"].passed

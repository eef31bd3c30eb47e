"""CASE model files as people write them: evaluation below the class, base class of a package that is not installed."""

import ast
import builtins
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from earmark.errors import MissingError
from earmark.models.encoders import case_source
from earmark.models.encoders.registry import load_encoder
from tests.conftest import ROOT
from tests.models.encoders.sources import case, noises, save

CLASS = """from pathlib import Path

import numpy as np
import soundfile as sf
from case_benchmark import CASEBenchmark
from case_benchmark.models.base import EmbeddingModel


class Spectrum(EmbeddingModel):
    def load(self, device: str = "cpu") -> None:
        self._loaded = True

    def extract_embedding(self, audio_path: Path) -> np.ndarray:
        assert self.is_loaded and self.device == "cpu" and audio_path.suffix == ".wav"
        samples, _ = sf.read(audio_path)
        return np.abs(np.fft.rfft(samples, 64))[:BANDS]

    @property
    def embedding_dim(self) -> int:
        return BANDS

    @property
    def name(self) -> str:
        return "Spectrum"


"""
TAIL = """BANDS = 12
benchmark = CASEBenchmark("/path/to/benchmark")
model = Spectrum()
model.load("cpu")
results = benchmark.evaluate(model)
results.print_summary()
"""
absent = pytest.mark.skipif(importlib.util.find_spec("case_benchmark") is not None, reason="case_benchmark is there")


def removed(text: str) -> tuple[int, int] | None:
    lines = case_source.without_evaluation(ast.parse(text))[1]
    return (lines[0][0], lines[-1][1]) if lines else None


@absent
def test_guide_example_runs_without_its_evaluation_and_package(tmp_path):
    file = save(tmp_path, "mine.py", CLASS + TAIL)
    encoder = load_encoder(f"{file}:Spectrum", device="cpu")
    waveform = np.round(noises(1)[0] * 32768) / 32768
    np.testing.assert_allclose(encoder.embed([waveform])[0], np.abs(np.fft.rfft(waveform, 64))[:12], rtol=1e-5)
    assert (encoder.name, encoder.dimension) == ("Spectrum", 12)
    assert encoder.notes == (
        "mine.py: lines 28 to 32 evaluate the model; only the class is used, and this part is not executed.",
        "mine.py: case_benchmark is not installed; a stand-in replaces its base class EmbeddingModel.",
    )
    assert encoder.description["notes"] == list(encoder.notes)
    assert "case_benchmark" not in sys.modules and importlib.util.find_spec("case_benchmark") is None


@pytest.mark.slow
def test_installed_package_provides_the_base_class(tmp_path):
    """A package of that name in the folder of the running script stands for the installed one."""
    save(tmp_path / "case_benchmark", "__init__.py", "class CASEBenchmark: pass\n")
    save(tmp_path / "case_benchmark/models", "__init__.py", "")
    base = "class EmbeddingModel:\n    is_loaded, device, origin = True, 'cpu', 'installed'\n"
    save(tmp_path / "case_benchmark/models", "base.py", base)
    file = save(tmp_path / "code", "mine.py", CLASS + TAIL)
    code = "import sys; from earmark.models.encoders.registry import load_encoder as load; "
    code += "encoder = load(sys.argv[1]); print(encoder._model.origin, len(encoder.notes))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("installed 1\n", "")


@pytest.mark.parametrize(
    ("tail", "lines"),
    [
        ("print(1)\n", None),  # nothing evaluates the model
        ("KINDS = [Spectrum]\n", None),
        ("if __name__ == '__main__':\n    Spectrum()\n", None),
        ("RATE = 1\nSpectrum()\n", (28, 28)),
        ("import json\njson.dumps({})\nSpectrum().load()\nA = 1\n", (28, 30)),
        ("for device in ('cpu',):\n    Spectrum().load(device)\n", (27, 28)),
        ("def run():\n    return Spectrum()\n\n\nrun()\n", (31, 31)),
        ("def run():\n    return Spectrum()\n\n\ndef main():\n    run()\n\n\nmain()\n", (35, 35)),
        ("def run():\n    return 1\n\n\nrun()\n", None),
        ("benchmark = CASEBenchmark('x')\n", (27, 27)),
        ("model = Spectrum()\n\n\nclass Other:\n    pass\n", None),  # a later class may use it
        ("Spectrum().load()\nif __name__ == '__main__':\n    print(2)\n", (27, 27)),
    ],
)
def test_lines_that_evaluate_the_model_are_found(tail, lines):
    assert removed(CLASS + tail) == lines


def test_names_that_the_class_reads_are_kept(tmp_path):
    """A local variable of the same name, such as `samples`, does not keep a line."""
    tail = "import math\nBANDS = int(math.log2(16))\nsamples = print(0)\nm = Bands()\nprint(m)\nWIDTH: int = abs(-5)\n"
    text = case().replace("audio_path):", "audio_path):\n        assert (BANDS, WIDTH) == (4, 5)", 1) + tail
    first = text.count("\n") - 3
    assert case_source.without_evaluation(ast.parse(text))[1] == [(line, line) for line in range(first, first + 3)]
    encoder = load_encoder(str(save(tmp_path, "mine.py", text)))
    assert encoder.embed(noises(2)).shape == (2, 6)
    assert f"lines {first} to {first + 2} evaluate" in encoder.notes[0]


def test_files_of_other_interfaces_are_executed_whole(tmp_path, capsys):
    text = "class TinyEncoder:\n    def forward(self, audio): ...\n\n\nmodel = TinyEncoder()\nprint(model)\n"
    assert removed(text) is None and case_source.notes(save(tmp_path, "mine.py", text)) == ()
    assert removed("def f(): ...\nf()\n") is None and removed("") is None
    assert load_encoder(str(save(tmp_path, "plain.py", case() + "\nprint('at the end')\n"))).notes == ()
    assert "at the end" in capsys.readouterr().err


def test_class_that_inherits_its_methods_is_a_case_class():
    text = CLASS.replace("Spectrum(EmbeddingModel)", "Base") + "class Mine(Base):\n    pass\n\n\nMine()\n"
    assert removed(text) == (31, 31)


def test_notes_of_unreadable_file_are_empty(tmp_path):
    assert case_source.notes(tmp_path / "absent.py") == ()
    assert case_source.notes(save(tmp_path, "mine.py", "def f(:\n")) == ()


@absent
def test_other_names_of_the_absent_package_are_refused_when_used(tmp_path):
    text = CLASS.replace("class Spectrum(EmbeddingModel)", "class Spectrum(CASEBenchmark)") + "BANDS = 12\n"
    with pytest.raises(MissingError) as caught:
        load_encoder(str(save(tmp_path, "mine.py", text)))
    assert re.search(
        r"mine\.py cannot be loaded: ModuleNotFoundError: CASEBenchmark is part of case_benchmark, which is not "
        r"installed; try `uv run --with case_benchmark SCRIPT\.py …`",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("tail", "advised"),
    [("print(1 / 0)\n", True), ("import sys\nsys.exit(2)\n", True), ("import numpy.nothing\n", False)],
)
def test_error_below_the_class_advises_the_main_guard(tmp_path, tail, advised):
    with pytest.raises(MissingError, match=r"mine\.py cannot be imported, line \d+: ") as caught:
        load_encoder(str(save(tmp_path, "mine.py", case() + tail)))
    assert ('; move lines that run the model under `if __name__ == "__main__":`' in str(caught.value)) == advised


def test_error_above_the_class_gives_no_advice(tmp_path):
    with pytest.raises(MissingError) as caught:
        load_encoder(str(save(tmp_path, "mine.py", "print(1 / 0)\n" + case())))
    assert "__main__" not in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "kind"), [("", "str"), (": str", "str"), (": Path", "Path"), (": 'Path'", "Path")]
)
def test_path_has_the_type_of_the_annotation(tmp_path, annotation, kind):
    text = "from pathlib import Path\n" + case().replace("(self, audio_path)", f"(self, audio_path{annotation})")
    text = text.replace("assert self.ready", f"assert self.ready and isinstance(audio_path, {kind})")
    assert load_encoder(str(save(tmp_path, "mine.py", text))).embed(noises(2)).shape == (2, 6)


@pytest.mark.parametrize(("device", "given"), [("auto", "cpu"), ("cpu", "cpu")])
def test_numpy_model_with_device_loads_without_torch(tmp_path, monkeypatch, device, given):
    without_torch(monkeypatch)
    file = save(tmp_path, "mine.py", case().replace("load(self)", f"load(self, device='x', want={given!r})").replace(
        "self.ready = True", "self.ready = device == want"))  # fmt: skip
    assert load_encoder(str(file), device=device).embed(noises(2)).shape == (2, 6)


def test_numpy_model_on_a_gpu_needs_torch(tmp_path, monkeypatch):
    without_torch(monkeypatch)
    file = save(tmp_path, "mine.py", case().replace("load(self)", "load(self, device='cpu')"))
    with pytest.raises(MissingError, match="--extra torch"):
        load_encoder(str(file), device="cuda")


def without_torch(monkeypatch):
    """Make torch look as if it were not installed."""
    find, load = importlib.util.find_spec, builtins.__import__

    def absent(name, *arguments, **options):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return load(name, *arguments, **options)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    monkeypatch.setattr(builtins, "__import__", absent)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.slow
def test_probe_check_says_what_is_not_executed(tmp_path):
    file = save(tmp_path, "mine.py", case() + "\n\nmodel = Bands()\nmodel.load()\n")
    command = [sys.executable, str(Path(ROOT) / "probe.py"), "check", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert re.search(r"mine\.py: lines \d+ to \d+ evaluate the model; only", done.stderr)

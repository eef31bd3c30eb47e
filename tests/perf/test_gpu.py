"""perf/gpu.py at its small size on the CPU."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("kaldi_native_fbank", reason="the extra `torch` is not installed")
pytest.importorskip("sentence_transformers", reason="the extra `clap` is not installed")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*flags):
    command = [sys.executable, ROOT / "perf/gpu.py", "--device", "cpu", "--small", *flags]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=ENVIRONMENT, check=False)


@pytest.mark.slow
def test_gpu_small_run_passes_all_checks_on_the_cpu(tmp_path):
    done = run("--output", tmp_path / "gpu.json", "--minutes", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert table["small"] and table["machine"]["device"] == "cpu" and table["machine"]["torch"]
    values = {(figure["subject"], figure["quantity"]): figure["value"] for figure in table["figures"]}
    compared = "difference from the CPU / largest"
    models = ("transformer (X-ARES)", "ClapModel", "SimAM-ResNet34", "ResNet34")
    assert all(values[f"{model}, float32", compared] <= 1e-4 for model in models)
    # Half precision is really used, so that its difference is not that of float32.
    assert all(values[f"{model}, {dtype}", compared] > 1e-4 for model in models for dtype in ("bfloat16", "float16"))
    assert values["transformer (X-ARES)", "batches that did not fit"] == 2  # 12 clips, then 6; 3 fit
    assert values["transformer (X-ARES)", "clips without embedding"] == 0
    assert values["15 strict heads", "difference of the score from the CPU"] <= 1e-3
    assert values["k-NN", "difference of the scores from the CPU"] <= 1e-3
    assert values["ASR with a language model", "float32: difference of losses, relative"] <= 1e-3
    assert values["SimAM-ResNet34, float32", "difference of losses, relative"] <= 1e-2
    assert not any(figure["note"].startswith("skipped") for figure in table["figures"])
    assert "ok (<= 0.0001)" in done.stdout


@pytest.mark.slow
def test_gpu_without_time_skips_sections_and_says_so():
    done = run("--minutes", "1e-6", "--sections", "CTC", "k-NN")
    assert done.returncode == 0
    assert done.stdout.count("skipped: the time is used up") == 2


@pytest.mark.slow
def test_gpu_failing_check_fails_the_run_and_the_others_go_on(tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['perf/gpu.py', '--device', 'cpu', '--small', '--sections', 'k-NN', 'float32'];"
        "sys.path.insert(0, 'perf'); sys.path.insert(0, '.');"
        "from perf.gpu_parts import heads;"
        "heads.knn_predict = lambda *data, **settings: 1 / 0;"
        "runpy.run_path('perf/gpu.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("'perf')", f"{str(ROOT / 'perf')!r})")],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout and "matrix product" in done.stdout

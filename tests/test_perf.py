"""The benchmarks of perf/ run, and print ratios to their baselines. Their times are not tested."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load(name):
    """A module of perf/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"perf_{name}", ROOT / f"perf/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_all_runs_every_benchmark_and_each_ratio_is_a_finite_number(tmp_path):
    pytest.importorskip("torch")
    command = [sys.executable, "perf/all.py", "--small", "--output", str(tmp_path / "results.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(math.isfinite(each["ratio"]) for each in results["ratios"])
    own = {path.stem for path in (ROOT / "perf").glob("*.py")} - {"all", "coverage", "gpu", "scale", "scale_parts"}
    assert {each["benchmark"] for each in results["ratios"]} == own
    assert results["machine"]["cores"] >= 1


@pytest.mark.slow
def test_scale_measures_every_part_in_a_process_of_its_own(tmp_path):
    pytest.importorskip("torch")
    command = [sys.executable, "perf/scale.py", "--divide", "100", "--output", str(tmp_path / "scale.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = json.loads((tmp_path / "scale.json").read_text())["parts"]
    assert set(parts) == {"ratings", "trials", "embeddings", "clips", "questions"}
    for costs in parts.values():
        assert len(costs) == 3
        assert all(cost["processor"] > 0 and cost["megabytes"] > 10 for cost in costs)
    assert set(parts["clips"][0]["steps"]) == {"list", "embed"}


def test_ratios_in_reads_ratios_with_their_targets_and_no_other_line():
    lines = [
        "20,000 clips × 768 × 50 classes, 2 threads\n",
        "  PyTorch / one head:           1,297.2 (target: at least 5)\n",
        "  model alone / scorer: 0.93 (target 0.90)\n",
        "  probe.py run / alone:   1.31 wall (target: at most 1.4)\n",
        "concurrency 32:  414.7 pairs/s\n",
        "three systems, no intervals: 0.1 s (target 180 s)\n",
    ]
    found = load("all").ratios_in("probe", lines)
    assert [(each.measured, each.baseline, each.ratio, each.target) for each in found] == [
        ("PyTorch", "one head", 1297.2, "at least 5"),
        ("model alone", "scorer", 0.93, "0.90"),
        ("probe.py run", "alone", 1.31, "at most 1.4"),
    ]


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_ratios_in_rejects_a_ratio_that_is_not_finite(number):
    with pytest.raises(ValueError, match=r"perf/probe.py: a / b is (nan|inf)"):
        load("all").ratios_in("probe", [f"a / b: {number}\n"])


def test_growth_is_the_exponent_of_the_cost_above_that_of_the_smallest_size():
    growth = load("scale").growth
    # 5 s to start, then 0.001 · n: costs 6, 15, 105 at 1,000, 10,000, 100,000.
    assert growth([1_000, 10_000, 100_000], [6, 15, 105]) == pytest.approx(math.log10(99 / 9), abs=0.005)
    # 2 · n² above 7
    assert growth([10, 100, 1000], [207, 20_007, 2_000_007]) == pytest.approx(2, abs=0.005)
    assert growth([10, 100, 1000], [5, 5, 5]) is None  # nothing grows
    assert growth([10, 100, 1000], [500, 510, 900]) is None  # the first tenfold is lost in the constant cost


def test_cost_at_extrapolates_the_growing_part_alone():
    cost_at = load("scale").cost_at
    # 5 + n / 1000 from 10,000 to 1,000,000 with the exponent 1
    assert cost_at(1_000_000, [1_000, 10_000], [6, 15], 1.0) == pytest.approx(6 + 9 * 999_000 / 9_000)

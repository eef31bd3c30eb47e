"""Settings from flags, and help without heavy imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from earmark.errors import MissingError
from earmark.models.encoders.options import EncoderOptions
from earmark.probing.options import ProbeSettings, RunOptions
from tests.conftest import ROOT

HEAVY = ("numpy", "pandas", "scipy", "matplotlib", "soundfile", "pydantic", "requests", "torch")


def options(**changes):
    return RunOptions(EncoderOptions("logmel", device="cuda"), ("esc50",), Path("data"), Path("out"), **changes)


def test_settings_from_run_options():
    assert options(seeds=1, bootstrap=20).settings(7) == ProbeSettings(seed=7, seeds=1, replicates=20, device="cuda")
    one = options(track="knn", recipe="strict").settings(0)
    assert (one.tracks, one.protocols, one.needs_torch) == (("knn",), ("strict",), False)
    few = options(shots=5).settings(0)
    assert (few.protocols, few.shots, few.needs_torch) == (("strict",), 5, False)
    with pytest.raises(MissingError, match="xares has no few-shot training"):
        options(shots=5, recipe="xares").settings(0)


@pytest.mark.parametrize(
    "words", [["--help"], *([command, "--help"] for command in ("run", "check", "list", "download"))]
)
def test_help_imports_no_heavy_modules(words):
    command = [sys.executable, "-X", "importtime", ROOT / "probe.py", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, timeout=60)
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.M))
    assert "earmark.probing.options" in imported and not imported & set(HEAVY)

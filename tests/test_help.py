"""--help is fast: no heavy imports before the arguments are parsed."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = {
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "soundfile",
    "pydantic",
    "requests",
    "torch",
    "transformers",
    "jinja2",
}
HELPS = [
    ("anonymize.py",),
    ("analysis.py",),
    ("benchmark.py",),
    ("evaluate_speaker.py",),
    *(("evaluate_speaker.py", command) for command in ("case", "trials", "tidyvoice", "simulate", "check", "verify")),
    ("probe.py",),
    *(("probe.py", command) for command in ("run", "check", "list", "download")),
]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_imports_nothing_heavy(words):
    command = [sys.executable, "-X", "importtime", *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported  # stderr lists the imports
    assert not imported & HEAVY
    assert done.stdout.startswith("usage: ")


def test_all_scripts_are_covered():
    scripts = {path.name for path in ROOT.glob("*.py")}
    assert scripts - {words[0] for words in HELPS} == {"sham_server.py"}  # imports numpy and pydantic

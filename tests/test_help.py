"""--help is fast: no heavy imports before the arguments are parsed."""

import importlib
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
    ("compare.py",),
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


# (script, command, what else the command needs, former flag and value, current flag)
RENAMED = [
    ("benchmark", [], [], ["--store", "x"], "--embedding-cache"),
    ("benchmark", [], [], ["--fresh"], "--restart"),
    ("benchmark", [], [], ["--name", "x"], "--model-name"),
    *(
        ("evaluate_speaker", [command], needed, former, flag)
        for command, needed in (("trials", ["--trials", "t"]), ("tidyvoice", []))
        for former, flag in (
            (["--against", "x"], "--compare-with"),
            (["--against-calibrate", "x"], "--compare-with-calibration"),
            (["--mean", "cohort"], "--subtract-mean"),
            (["--store", "x"], "--embedding-cache"),
            (["--name", "x"], "--model-name"),
        )
    ),
    ("evaluate_speaker", ["case"], ["dir"], ["--protocol", "strict"], "--scoring"),
    ("evaluate_speaker", ["case"], ["dir"], ["--protocols", "clean_clean"], "--conditions"),
    ("evaluate_speaker", ["case"], ["dir"], ["--name", "x"], "--model-name"),
    ("evaluate_speaker", ["simulate"], ["dir", "--output-dir", "o"], ["--protocols", "clean_clean"], "--conditions"),
    ("evaluate_speaker", ["simulate"], ["dir", "--output-dir", "o"], ["--processes", "2"], "--workers"),
    ("evaluate_speaker", ["download"], ["--output-dir", "o"], ["--conditions", "clean"], "--categories"),
    ("probe", ["run"], [], ["--protocol", "strict"], "--recipe"),
    ("probe", ["run"], [], ["--jobs", "2"], "--workers"),
    ("probe", ["run"], [], ["--store", "x"], "--embedding-cache"),
    ("probe", ["run"], [], ["--name", "x"], "--model-name"),
    ("probe", ["check"], ["logmel"], ["--longest", "5"], "--max-clip-seconds"),
]


@pytest.mark.parametrize(("script", "command", "needed", "former", "flag"), RENAMED)
def test_former_flag_means_the_same_and_is_not_listed(script, command, needed, former, flag):
    parser = importlib.import_module(script).argument_parser()
    old = vars(parser.parse_args([*command, *needed, *former]))
    assert old == vars(parser.parse_args([*command, *needed, flag, *former[1:]]))
    assert old != vars(parser.parse_args([*command, *needed]))
    done = subprocess.run(
        [sys.executable, f"{script}.py", *command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert f"{former[0]} " not in done.stdout or former[0] == "--conditions"


def test_former_command_carriers_is_simulate():
    import evaluate_speaker

    parser = evaluate_speaker.argument_parser()
    words = ["dir", "--output-dir", "o"]
    assert vars(parser.parse_args(["carriers", *words])) == vars(parser.parse_args(["simulate", *words]))
    assert "carriers" not in parser.format_help()

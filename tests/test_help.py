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
    ("finetune_speaker.py",),
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
    ("benchmark", [], [], ["--model-name", "x"], "--name"),
    ("benchmark", [], [], ["--clap-device", "cuda"], "--device"),
    ("benchmark", [], [], ["--clap-dtype", "bfloat16"], "--dtype"),
    ("benchmark", [], [], ["--clap-audio-batch-size", "4"], "--batch-size"),
    ("benchmark", [], [], ["--clap-max-seconds", "20"], "--max-seconds"),
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


def test_clap_text_batch_size_is_for_sentences_alone():
    import benchmark
    from earmark import cli
    from earmark.audio_text.options import ScorerOptions

    def parsed(*words):
        return cli.options(ScorerOptions, benchmark.argument_parser().parse_args(words))

    options = parsed("--clap-audio-batch-size", "4", "--clap-text-batch-size", "64")
    assert (options.batch_size, options.text_batch_size) == (4, 64)
    assert parsed("--batch-size", "4").text_batch_size is None
    assert "--clap" not in benchmark.argument_parser().format_help().replace("--clap-model", "")


def test_former_command_carriers_is_simulate():
    import evaluate_speaker

    parser = evaluate_speaker.argument_parser()
    words = ["dir", "--output-dir", "o"]
    assert vars(parser.parse_args(["carriers", *words])) == vars(parser.parse_args(["simulate", *words]))
    assert "carriers" not in parser.format_help()

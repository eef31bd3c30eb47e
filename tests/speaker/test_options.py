"""Options of the commands, and fast help."""

import subprocess
import sys
from pathlib import Path

import pytest

import evaluate_speaker
from earmark import cli
from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.options import CaseOptions, StatisticsOptions, TidyVoiceOptions, TrialsOptions

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("numpy", "pandas", "scipy", "matplotlib", "soundfile", "pydantic", "requests", "torch")


def parsed(kind, *argv):
    return cli.options(kind, evaluate_speaker.argument_parser().parse_args(argv), token="secret")


def test_tidyvoice_options_from_flags():
    options = parsed(TidyVoiceOptions, "tidyvoice", "--trials", "dev.txt", "--encoder", "logmel", "--cohort", "c",
                   "--eval-a", "A.txt", "--no-intervals", "--p-target", "0.05")  # fmt: skip
    assert options.labelled.encoder_options == EncoderOptions("logmel", token="secret")
    assert (options.labelled.back_end.cohort, options.labelled.back_end.top_n) == (Path("c"), 300)
    assert options.evaluation.files == {"A": Path("A.txt")}
    assert options.labelled.parameters == {
        "p_target": 0.05, "no_self_trials": False, "allow_missing": False, "intervals": False,
    }  # fmt: skip
    assert "secret" not in repr(options)


def test_inputs_are_existing_files(tmp_path):
    for name in ("trials.txt", "mean.npy"):
        (tmp_path / name).write_text("")
    flags = (
        "--trials",
        tmp_path / "trials.txt",
        "--scores",
        tmp_path / "gone.txt",
        "--subtract-mean",
        tmp_path / "mean.npy",
    )
    options = parsed(TrialsOptions, "trials", *map(str, flags))
    assert [path.name for path in options.inputs] == ["trials.txt", "mean.npy"]


@pytest.mark.parametrize(
    ("bootstrap", "no_intervals", "expected"), [(None, False, True), (0, False, False), (50, True, False)]
)
def test_intervals_are_disabled_by_either_flag(bootstrap, no_intervals, expected):
    assert StatisticsOptions(bootstrap=bootstrap, no_intervals=no_intervals).intervals == expected


def test_scorings_are_published_first():
    assert parsed(CaseOptions, "case", "folder").scorings == ["published", "strict"]
    assert parsed(CaseOptions, "case", "folder", "--scoring", "strict").scorings == ["strict"]


@pytest.mark.parametrize("command", ["", "case", "tidyvoice", "download"])
def test_help_imports_no_numeric_packages(command):
    code = (
        "import sys, evaluate_speaker\n"
        f"try: evaluate_speaker.main([*{command!r}.split(), '--help'])\n"
        f"except SystemExit: print([name for name in {SLOW} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

"""Records of flags: what they amount to, and that the script's help waits for nothing."""

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


def test_options_of_tidyvoice_are_filled_by_its_flags():
    found = parsed(TidyVoiceOptions, "tidyvoice", "--trials", "dev.txt", "--encoder", "logmel", "--cohort", "c",
                   "--eval-a", "A.txt", "--no-intervals", "--p-target", "0.05")  # fmt: skip
    assert found.labelled.encoder_options == EncoderOptions("logmel", token="secret")
    assert (found.labelled.back_end.cohort, found.labelled.back_end.top_n) == (Path("c"), 300)
    assert found.evaluation.files == {"A": Path("A.txt")}
    assert found.labelled.parameters == {
        "p_target": 0.05, "no_self_trials": False, "allow_missing": False, "intervals": False,
    }  # fmt: skip
    assert "secret" not in repr(found)


def test_inputs_of_trials_are_the_files_that_are_there(tmp_path):
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
    found = parsed(TrialsOptions, "trials", *map(str, flags))
    assert [path.name for path in found.inputs] == ["trials.txt", "mean.npy"]


@pytest.mark.parametrize(
    ("bootstrap", "no_intervals", "wanted"), [(None, False, True), (0, False, False), (50, True, False)]
)
def test_intervals_are_left_out_by_either_flag(bootstrap, no_intervals, wanted):
    assert StatisticsOptions(bootstrap=bootstrap, no_intervals=no_intervals).intervals == wanted


def test_versions_of_case_are_published_first():
    assert parsed(CaseOptions, "case", "folder").scorings == ["published", "strict"]
    assert parsed(CaseOptions, "case", "folder", "--scoring", "strict").scorings == ["strict"]


@pytest.mark.parametrize("command", ["", "case", "tidyvoice", "download"])
def test_help_of_a_command_imports_nothing_that_computes(command):
    code = (
        "import sys, evaluate_speaker\n"
        f"try: evaluate_speaker.main([*{command!r}.split(), '--help'])\n"
        f"except SystemExit: print([name for name in {SLOW} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

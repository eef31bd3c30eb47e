"""Folder name and state of a system."""

from pathlib import Path

import pytest

from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.options import BackEndOptions, TrialsOptions
from earmark.speaker.saved_runs import system_name, system_state
from earmark.speaker.system import System

DEFAULT = BackEndOptions()


def trials_options(folder, back_end=DEFAULT, **options):
    return TrialsOptions(folder / "list.txt", folder / "out", EncoderOptions(), back_end=back_end, **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "list"),
        ({"scores": Path("a/best.v2.txt")}, "best.v2"),
        ({"scores": Path("best.csv.gz")}, "best"),
        ({"scores": Path("best.csv"), "model_name": "Ours / new"}, "Ours-new"),
    ],
)
def test_system_name_from_option_or_score_file(tmp_path, options, name):
    assert system_name(System(), trials_options(tmp_path, **options)) == name


def test_system_state_depends_on_scores_and_back_end(tmp_path):
    for name in ("list.txt", "cal.txt", "one.txt", "same.txt"):
        (tmp_path / name).write_text(name.replace("same", "one"))
    states = [
        system_state(System(), trials_options(tmp_path, **options), {})
        for options in (
            {"scores": tmp_path / "one.txt"},
            {"scores": tmp_path / "same.txt"},
            {"scores": tmp_path / "one.txt", "back_end": BackEndOptions(top_n=7)},
            {},
            {"scores": tmp_path / "one.txt", "back_end": BackEndOptions(calibrate=tmp_path / "cal.txt")},
        )
    ]
    assert states[0] == states[1] == states[2], "top_n has no effect without a cohort"
    assert len(set(states)) == 3


def test_system_state_uses_known_hashes(tmp_path):
    path = tmp_path / "gone.txt"
    assert system_state(System(), trials_options(tmp_path, scores=path), {path: "abc"}) == "scores abc"

"""What a system's folder is called, and what tells it from others of that name."""

from pathlib import Path

import pytest

from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.options import BackEndOptions, TrialsOptions
from earmark.speaker.saved_runs import system_name, system_state
from earmark.speaker.system import System

DEFAULT_REQUEST = BackEndOptions()


def asked(folder, back_end=DEFAULT_REQUEST, **further):
    return TrialsOptions(folder / "list.txt", folder / "out", EncoderOptions(), back_end=back_end, **further)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "list"),
        ({"scores": Path("a/best.v2.txt")}, "best.v2"),
        ({"scores": Path("best.csv.gz")}, "best"),
        ({"scores": Path("best.csv"), "model_name": "Ours / new"}, "Ours-new"),
    ],
)
def test_system_name_is_the_one_given_or_that_of_its_scores(tmp_path, given, name):
    assert system_name(System(), asked(tmp_path, **given)) == name


def test_system_state_is_that_of_the_scores_and_of_what_is_done_to_them(tmp_path):
    for name in ("list.txt", "cal.txt", "one.txt", "same.txt"):
        (tmp_path / name).write_text(name.replace("same", "one"))
    states = [
        system_state(System(), asked(tmp_path, **given), {})
        for given in (
            {"scores": tmp_path / "one.txt"},
            {"scores": tmp_path / "same.txt"},
            {"scores": tmp_path / "one.txt", "back_end": BackEndOptions(top_n=7)},
            {},
            {"scores": tmp_path / "one.txt", "back_end": BackEndOptions(calibrate=tmp_path / "cal.txt")},
        )
    ]
    assert states[0] == states[1] == states[2], "top-n is of a cohort, and there is none"
    assert len(set(states)) == 3


def test_system_state_takes_hashes_that_are_known(tmp_path):
    path = tmp_path / "gone.txt"
    assert system_state(System(), asked(tmp_path, scores=path), {path: "abc"}) == "scores abc"

"""Labels of a list from a separate key."""

from pathlib import Path

import numpy as np
import pytest

from earmark.errors import EarmarkError
from earmark.speaker.keys import with_key
from earmark.speaker.trial_files import read_trials


@pytest.fixture
def unlabelled(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.wav\tb.wav\nb.wav\tc.wav\na.wav\tb.wav\n")
    return path


def key(path: Path, text: str) -> Path:
    path.with_name("key.txt").write_text(text)
    return path.with_name("key.txt")


@pytest.mark.parametrize(
    "text",
    [
        "a.wav b.wav target\nb.wav c.wav nontarget\n",
        "c b nontarget\nx y target\nb a target\n",  # another order, without suffixes, with further trials
        "1 x/a.wav x/b.wav\n0 x/b.wav x/c.wav\n",
    ],
)
def test_with_key_finds_each_trial(unlabelled, text):
    trials = with_key(read_trials(unlabelled), unlabelled, key(unlabelled, text))
    assert trials.labels.tolist() == [True, False, True]
    assert trials.names[trials.enrolment].tolist() == ["a.wav", "b.wav", "a.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.wav b.wav target\n", r"lacks 1 of 3 trials of .*list.txt, for example b.wav c.wav"),
        ("a.wav b.wav\nb.wav c.wav\n", "has no labels"),
        ("q w target\n", "lacks 3 of 3 trials"),
    ],
)
def test_with_key_of_another_list_is_an_error(unlabelled, text, message):
    with pytest.raises(EarmarkError, match=message):
        with_key(read_trials(unlabelled), unlabelled, key(unlabelled, text))


def test_key_that_contradicts_labels_is_an_error(unlabelled):
    unlabelled.write_text("1 a.wav b.wav\n0 b.wav c.wav\n")
    trials = read_trials(unlabelled)
    same = key(unlabelled, "a.wav b.wav target\nb.wav c.wav nontarget\n")
    assert np.array_equal(with_key(trials, unlabelled, same).labels, trials.labels)
    with pytest.raises(EarmarkError, match="contradicts 1 labels"):
        with_key(trials, unlabelled, key(unlabelled, "a.wav b.wav target\nb.wav c.wav target\n"))

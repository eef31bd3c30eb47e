"""Trial lists in every shape, and what is wrong with the others."""

import gzip

import numpy as np
import pytest

from earmark.errors import DataError
from earmark.report.tables import to_csv_gz
from earmark.speaker.trial_files import read_speakers, read_trials
from earmark.speaker.trials import Trials, speakers_of

PAIRS = [("a/1.wav", "a/2.wav"), ("a/1.wav", "b/1.wav"), ("b/1.wav", "b/1.wav")]
LABELS = [True, False, True]


def written(tmp_path, *lines, name="trials.txt"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def pairs(trials):
    return [(trials.names[e], trials.names[t]) for e, t in zip(trials.enrolment, trials.test, strict=True)]


@pytest.mark.parametrize("separator", [" ", "\t", "   "])
@pytest.mark.parametrize(
    "shape",
    [
        lambda e, t, y: [str(int(y)), e, t],
        lambda e, t, y: [e, t, "target" if y else "nontarget"],
    ],
    ids=["voxceleb", "kaldi"],
)
def test_labelled_lists_are_told_apart_by_their_content(tmp_path, separator, shape):
    lines = [separator.join(shape(e, t, y)) for (e, t), y in zip(PAIRS, LABELS, strict=True)]
    trials = read_trials(written(tmp_path, *lines))
    assert pairs(trials) == PAIRS
    assert trials.labels.tolist() == LABELS
    assert trials.scores is None


def test_an_unlabelled_list_has_no_labels(tmp_path):
    trials = read_trials(written(tmp_path, *(f"{e}\t{t}" for e, t in PAIRS)))
    assert pairs(trials) == PAIRS
    assert trials.labels is None


@pytest.mark.parametrize("labelled", [True, False])
def test_score_files_hold_scores_and_perhaps_labels(tmp_path, labelled):
    lines = [
        f"{e} {t} {0.5 - i} {'target' if y else 'nontarget'}"[: None if labelled else -1]
        for i, ((e, t), y) in enumerate(zip(PAIRS, LABELS, strict=True))
    ]
    lines = lines if labelled else [" ".join(line.split()[:3]) for line in lines]
    trials = read_trials(written(tmp_path, *lines))
    assert trials.scores.tolist() == [0.5, -0.5, -1.5]
    assert (trials.labels is not None) == labelled


def test_names_that_look_like_numbers_keep_their_zeros(tmp_path):
    trials = read_trials(written(tmp_path, "1 007 0071", "0 007 08"))
    assert pairs(trials) == [("007", "0071"), ("007", "08")]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbf1 a/1 a/2\r\n0 a/1 b/1\r\n")
    assert pairs(read_trials(path)) == [("a/1", "a/2"), ("a/1", "b/1")]


def test_every_wrong_line_is_named_and_none_is_skipped(tmp_path):
    lines = ["1 a b", "0 a c", "2 a b", "1 a", "", "1 a b c", "0 b c", "1 b b"]
    with pytest.raises(DataError) as caught:
        read_trials(written(tmp_path, *lines))
    said = str(caught.value)
    assert "line 3, column label: '2' is not one of" in said
    assert "line 4: has 2 values where the list has 3" in said
    assert "line 5: has 0 values" in said
    assert "line 6: has 4 values" in said
    assert "line 7" not in said


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_a_score_that_is_not_finite_is_named(tmp_path, score):
    with pytest.raises(DataError, match=f"line 2, column score: '{score}' is not a finite number"):
        read_trials(written(tmp_path, "a b 0.5", f"a c {score}", "b c 0.1"))


@pytest.mark.parametrize("content", ["", "\n\n", "what is this even\n"])
def test_a_file_that_is_no_list_is_refused(tmp_path, content):
    path = tmp_path / "t.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"t\.txt"):
        read_trials(path)


def test_a_map_of_speakers_is_read_and_a_wrong_line_is_named(tmp_path):
    known = read_speakers(written(tmp_path, "1.wav ann", "2.wav ben", name="map"))
    assert speakers_of(["2.wav", "1.wav"], known) == ["ben", "ann"]
    with pytest.raises(DataError, match="line 1: has 3 values"):
        read_speakers(written(tmp_path, "1.wav ann x", name="bad"))


def test_scores_that_earmark_wrote_are_read_again(tmp_path):
    trials = Trials(
        np.array(["a b", "c"], dtype=object), np.array([0, 1]), np.array([1, 1]), np.array([True, False]),
        np.array([0.1, -1e-17]),
    )  # fmt: skip
    for name in ("scores.csv", "scores.csv.gz"):
        (tmp_path / name).write_bytes(to_csv_gz(trials.tables()))
        if name.endswith(".csv"):
            (tmp_path / name).write_bytes(gzip.decompress((tmp_path / name).read_bytes()))
        again = read_trials(tmp_path / name)
        assert again.names[again.enrolment].tolist() == ["a b", "c"]
        assert again.labels.tolist() == [True, False]
        assert again.scores.tolist() == [0.1, -1e-17]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["enrol,score", "a,1"], "line 1, column test: is missing"),
        (["enrol,test,score", "a,b,0.5", "a,c,nan"], "line 3, column score: 'nan' is not a finite number"),
        (["enrol,test,label", "a,b,2"], "'2' is no label"),
    ],
)
def test_wrong_tables_of_scores_are_named(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_trials(written(tmp_path, *lines, name="scores.csv"))

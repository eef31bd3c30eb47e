"""Trial lists and score files in all formats, and messages about invalid ones."""

import csv
import gzip

import numpy as np
import pytest

from earmark.errors import DataError, EarmarkError
from earmark.report.tables import compressed
from earmark.speaker import line_faults
from earmark.speaker.trial_files import read_scores, read_speakers, read_trials
from earmark.speaker.trials import Trials

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
def test_read_trials_detects_labelled_formats(tmp_path, separator, shape):
    lines = [separator.join(shape(e, t, y)) for (e, t), y in zip(PAIRS, LABELS, strict=True)]
    trials = read_trials(written(tmp_path, *lines))
    assert pairs(trials) == PAIRS
    assert trials.labels.tolist() == LABELS
    assert trials.scores is None


def test_read_trials_unlabelled(tmp_path):
    trials = read_trials(written(tmp_path, *(f"{e}\t{t}" for e, t in PAIRS)))
    assert pairs(trials) == PAIRS
    assert trials.labels is None


@pytest.mark.parametrize("labelled", [True, False])
def test_read_trials_with_scores(tmp_path, labelled):
    lines = [
        f"{e} {t} {0.5 - i} {'target' if y else 'nontarget'}"[: None if labelled else -1]
        for i, ((e, t), y) in enumerate(zip(PAIRS, LABELS, strict=True))
    ]
    lines = lines if labelled else [" ".join(line.split()[:3]) for line in lines]
    trials = read_trials(written(tmp_path, *lines))
    assert trials.scores.tolist() == [0.5, -0.5, -1.5]
    assert (trials.labels is not None) == labelled


def test_read_trials_keeps_leading_zeros_of_names(tmp_path):
    trials = read_trials(written(tmp_path, "1 007 0071", "0 007 08"))
    assert pairs(trials) == [("007", "0071"), ("007", "08")]


def test_read_trials_with_bom_and_crlf(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbf1 a/1 a/2\r\n0 a/1 b/1\r\n")
    assert pairs(read_trials(path)) == [("a/1", "a/2"), ("a/1", "b/1")]


def test_read_trials_reports_all_invalid_lines(tmp_path):
    lines = ["1 a b", "0 a c", "2 a b", "1 a", "", "1 a b c", "0 b c", "1 b b"]
    with pytest.raises(DataError) as caught:
        read_trials(written(tmp_path, *lines))
    message = str(caught.value)
    assert "line 3, column label: '2' is not one of" in message
    assert "line 4: has 2 values, expected 3" in message
    assert "line 5: has 0 values" in message
    assert "line 6: has 4 values" in message
    assert "line 7" not in message


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_read_trials_rejects_non_finite_score(tmp_path, score):
    with pytest.raises(DataError, match=f"line 2, column score: '{score}' is not a finite number"):
        read_trials(written(tmp_path, "a b 0.5", f"a c {score}", "b c 0.1"))


@pytest.mark.parametrize("content", ["", "\n\n", "what is this even\n"])
def test_read_trials_rejects_other_files(tmp_path, content):
    path = tmp_path / "t.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"t\.txt"):
        read_trials(path)


def test_read_speakers(tmp_path):
    known = read_speakers(written(tmp_path, "1.wav ann", "2.wav ben", name="map"))
    assert known == {"1.wav": "ann", "2.wav": "ben"}
    with pytest.raises(DataError, match="line 1: has 3 values"):
        read_speakers(written(tmp_path, "1.wav ann x", name="bad"))


@pytest.mark.parametrize("names", [("007", "07", "7"), ("1.50", "1.5", "3"), ("nan", "NaN", "inf")])
def test_read_trials_keeps_names_that_look_like_numbers(tmp_path, names):
    lines = [f"{names[0]} {names[1]} 0.5 1", f"{names[2]} {names[0]} 0.25 0"]
    trials = read_trials(written(tmp_path, *lines))
    assert trials.names[trials.enrolment].tolist() == [names[0], names[2]]
    assert trials.names[trials.test].tolist() == [names[1], names[0]]


def test_read_trials_round_trip(tmp_path):
    trials = Trials(
        np.array(["a b", "c"], dtype=object), np.array([0, 1]), np.array([1, 1]), np.array([True, False]),
        np.array([0.1, -1e-17]),
    )  # fmt: skip
    for name in ("scores.csv", "scores.csv.gz"):
        (tmp_path / name).write_bytes(compressed(trials.csv_parts()))
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
        (["enrol,test,label", "a,b,2"], "line 2, column label: '2' is not one of 1, 0"),
    ],
)
def test_read_trials_reports_faults_of_tables(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_trials(written(tmp_path, *lines, name="scores.csv"))


# --- further formats -----------------------------------------------------------------------------------------


def rows_of(trials):
    """(enrol, test, label, score) of each trial."""
    n = len(trials)
    columns = [trials.labels if trials.labels is not None else [None] * n]
    columns.append(trials.scores if trials.scores is not None else [None] * n)
    return [(*pair, *values) for pair, *values in zip(pairs(trials), *columns, strict=True)]


SCORES = [0.25, -1.5, 1.0]
LABELLED = [(*pair, label, None) for pair, label in zip(PAIRS, LABELS, strict=True)]
SCORED = [(*pair, None, score) for pair, score in zip(PAIRS, SCORES, strict=True)]
BOTH = [(*pair, label, score) for pair, label, score in zip(PAIRS, LABELS, SCORES, strict=True)]


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("tgt", "imp"), ("TARGET", "NonTarget"), ("target", "imposter")],
)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{e} {t} {y}", LABELLED),
        ("{y} {e} {t}", LABELLED),
        ("{e} {t} {y} {s}", BOTH),
        ("{e} {t} {s} {y}", BOTH),
        ("{y} {e} {t} {s}", BOTH),
    ],
)
def test_read_trials_detects_label_words_in_any_column(tmp_path, yes, no, line, expected):
    lines = [line.format(e=e, t=t, y=yes if y else no, s=s) for e, t, y, s in BOTH]
    assert rows_of(read_trials(written(tmp_path, *lines))) == expected


def test_read_trials_scores_mostly_0_and_1(tmp_path):
    lines = [f"{e} {t} {s}" for (e, t), s in zip(PAIRS, ["1", "0", "0.5"], strict=True)]
    assert read_trials(written(tmp_path, *lines)).scores.tolist() == [1, 0, 0.5]
    many = ["a b 1", "a c 0"] * 800 + ["b c 0.5"]  # beyond the lines that decide the format
    assert read_trials(written(tmp_path, *many)).scores[-1] == 0.5
    assert read_trials(written(tmp_path, *many)).labels is None


def test_read_scores_without_names(tmp_path):
    trials = read_trials(written(tmp_path, *(f"{e} {t}" for e, t in PAIRS)))
    for name, lines in {"s.txt": [], "s.csv": [], "h.csv": ["score"]}.items():
        path = written(tmp_path, *lines, *map(str, SCORES), name=name)
        assert rows_of(read_scores(path, trials)) == SCORED
        with pytest.raises(DataError, match="contains only scores and no utterance names"):
            read_trials(path)
    fewer = written(tmp_path, "0.5", "0.25", name="fewer.txt")
    with pytest.raises(DataError, match="has no names; its number of scores is 2, but the list has 3 trials"):
        read_scores(fewer, trials)


def test_read_scores_rejects_labelled_list(tmp_path):
    path = written(tmp_path, *(f"{e} {t} {int(y)}" for (e, t), y in zip(PAIRS, LABELS, strict=True)))
    with pytest.raises(DataError, match="contains no scores: all values next to the names are labels"):
        read_scores(path, read_trials(path))


# --- duplicate columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("enrol,test,similarity,score,label", ["{e},{t},{s},{s}0,{y}"]),
        ("enrol,test,score,label,target", ["{e},{t},{s},{y},{w}"]),
        ("test,enroll,score,enrol,label", ["{t},{e},{s},{e},{y}"]),
        ("enrol,test,score,score,label", ["{e},{t},{s},{s},{y}"]),
    ],
)
def test_duplicate_columns_that_agree(tmp_path, header, rows):
    lines = [
        row.format(e=e, t=t, s=s, y=int(y), w="target" if y else "nontarget") for e, t, y, s in BOTH for row in rows
    ]
    assert rows_of(read_trials(written(tmp_path, header, *lines, name="s.csv"))) == BOTH


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        (
            "enrol,test,similarity,score",
            "b,c,0.5,0.4",
            "similarity and score disagree: similarity '0.5' and",
        ),
        ("enrol,test,label,target", "b,c,1,0", "label and target disagree: label '1' and target '0'"),
        ("enrol,test,enroll,score", "b,c,d,0.5", "enrol and enroll disagree: enrol 'b' and enroll 'd'"),
    ],
)
def test_duplicate_columns_that_disagree(tmp_path, header, line, message):
    agreeing = ",".join({"enrol": "a", "enroll": "a", "test": "b"}.get(name, "1") for name in header.split(","))
    path = written(tmp_path, header, agreeing, line, name="s.csv")
    with pytest.raises(DataError, match=f"line 3: the columns {message}"):
        read_trials(path)


# --- line numbers of faults ---------------------------------------------------------------------------------


def test_table_faults_have_line_numbers_of_file(tmp_path, monkeypatch):
    monkeypatch.setattr("earmark.speaker.trial_files.CHUNK_LINES", 2)
    lines = ["", "enrol,test,score,label", "a,b,0.5,1", "", '"a\n2",b,0.5,1', "a,c,0.25,0", "a,d,0.5,maybe", "a,e,x,0"]
    with pytest.raises(DataError) as caught:
        read_trials(written(tmp_path, *lines, name="s.csv"))
    assert [str(fault).strip() for fault in next(iter(caught.value.faults.values()))] == [
        "line 8, column label: 'maybe' is not one of 1, 0, target, nontarget",
        "line 9, column score: 'x' is not a finite number",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,b", "has 2 values, but the header has 3 columns"),
        ("a,b,1,2", "has 4 values"),
        (",b,1", "column enrol: is empty"),
    ],
)
def test_table_row_of_wrong_width(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"line 4.* {message}|line 4, {message}"):
        read_trials(written(tmp_path, "enrol,test,score", "a,b,0.5", "a,c,0.5", line, name="s.csv"))


def test_table_written_by_r(tmp_path):
    lines = ["enrol,test,score", *(f"{i},{e},{t},{s}" for i, (e, t, _, s) in enumerate(BOTH))]
    path = written(tmp_path, *lines, name="s.csv")
    assert rows_of(read_trials(path)) == SCORED
    path.write_text(path.read_text().replace("-1.5", "none"))
    with pytest.raises(DataError, match=r"1 fault\n  line 3, column score: 'none' is not a finite number\n"):
        read_trials(path)


def test_faults_are_grouped_by_kind(tmp_path):
    lines = ["1 a b"] * 5000 + ["yes a b"] * 3000 + [f"x{i} a b" for i in range(900)] + ["1 a b c"] * 7
    with pytest.raises(DataError) as caught:
        read_trials(written(tmp_path, *lines))
    message = str(caught.value)
    assert "line 5001, column label: 'yes' is not one of 1, 0, target, nontarget (first of 3,000 lines)" in message
    assert "line 8020: 888 more lines from here on have other faults" in message
    assert len(message.splitlines()) < 25


def test_line_faults_counts_overflow(monkeypatch):
    monkeypatch.setattr(line_faults, "MAX_KINDS", 2)
    faults = line_faults.LineFaults()
    for line, problem in enumerate("aabcda", 1):
        faults.add(line, "", problem)
    assert [str(fault).strip() for fault in faults.grouped()] == [
        "line 1: a (first of 3 lines)", "line 3: b", "line 4: 2 more lines from here on have other faults",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.csv.gz"])
def test_read_trials_reports_line_not_utf8(tmp_path, name):
    head = [b"enrol,test,label", b"a,b,1"] if ".csv" in name else [b"1 a b", b"0 a c"]
    content = b"\n".join([*head, "a,ü,1".encode("latin-1"), b""])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match="line 3: is not UTF-8; save it as UTF-8"):
        read_trials(tmp_path / name)


CUT_GZIP = gzip.compress(b"enrol,test,label\n" * 999)[:-9]


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\x00", b"no gzip", CUT_GZIP], ids=["header", "no gzip", "cut"])
@pytest.mark.parametrize("name", ["s.csv.gz", "s.txt.gz"])
def test_read_trials_reports_damaged_archive(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"s\.(csv|txt)\.gz: 1 fault\n  line 1: cannot be decompressed"):
        read_trials(tmp_path / name)


def test_read_speakers_rejects_two_speakers_of_one_utterance(tmp_path):
    path = written(tmp_path, "1.wav ann", "2.wav ben", "1.wav ann", "1.wav cem", name="map")
    with pytest.raises(DataError, match=r"line 4: '1\.wav' has the speaker 'cem', but 'ann' on line 1"):
        read_speakers(path)


def test_read_trials_compressed(tmp_path):
    path = tmp_path / "trials.txt.gz"
    path.write_bytes(gzip.compress("".join(f"{int(y)} {e} {t}\n" for e, t, y, _ in BOTH).encode()))
    assert rows_of(read_trials(path)) == LABELLED
    path.write_bytes(gzip.compress(b"1 a b\n0 a c\nno a d\n"))
    with pytest.raises(DataError, match="line 3, column label: 'no' is not one of"):
        read_trials(path)


def test_table_cell_exceeds_csv_limit(tmp_path):
    csv.field_size_limit(1 << 17)  # Python's own; probes raise it for the labels of long recordings
    path = written(tmp_path, "enrol,test,score", "a,b,x", "a," + "c" * 200_000 + ",0.5", name="s.csv")
    with pytest.raises(DataError, match="line 3: cannot be read as CSV: field larger than field limit") as caught:
        read_trials(path)
    assert "line 2, column score: 'x' is not a finite number" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_one_invalid_label_does_not_change_format(tmp_path):
    lines = [f"{e} {t} {'target' if y else 'nontarget'}" for e, t, y, _ in BOTH]
    with pytest.raises(DataError, match="line 4, column label: '2' is not one of 1, 0, target, nontarget"):
        read_trials(written(tmp_path, *lines, "a b 2"))


def test_read_trials_rejects_conflicting_labels(tmp_path):
    path = written(tmp_path, "1 a b", "0 a c", "0 b a")
    with pytest.raises(EarmarkError, match=r"1 pair is labelled both target and non-target .* example a and b"):
        read_trials(path)

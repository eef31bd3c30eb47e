"""Creating submissions, and validating valid, invalid and malicious ones."""

import io
import zipfile

import numpy as np
import pytest

from earmark.speaker.tidyvoice import submission as module
from earmark.speaker.tidyvoice.submission import check_submission, submission_bytes
from earmark.speaker.trials import Trials

SCORES = {"A": np.array([0.1, -2.5e-7, 3.0]), "U": np.array([1 / 3, 0.0])}
LISTS = {"A": 3, "U": 2}


def write_archive(tmp_path, members, compression=zipfile.ZIP_DEFLATED):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def write_submission(tmp_path, **changed):
    """Write a submission of LISTS with some files changed; None omits a file."""
    content = {"A": "0.1\n-2e-7\n3\n", "U": "0.3\n0\n"} | changed
    files = [(f"tv26_eval-{name}.txt", text) for name, text in content.items() if text is not None]
    return write_archive(tmp_path, files)


def test_submission_bytes_round_trip(tmp_path):
    path = tmp_path / "s.zip"
    path.write_bytes(submission_bytes(SCORES))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["tv26_eval-A.txt", "tv26_eval-U.txt"]
        for name, scores in SCORES.items():
            lines = archive.read(f"tv26_eval-{name}.txt").decode().splitlines()
            assert [float(line) for line in lines] == scores.tolist()
    assert check_submission(path, LISTS, SCORES) == []
    trials = Trials(np.array(["a"], dtype=object), np.zeros(2, dtype=int), np.zeros(2, dtype=int))
    assert check_submission(path, {"A": 3, "U": trials}) == []


def test_submission_bytes_is_deterministic(monkeypatch):
    whole = submission_bytes(SCORES)
    assert submission_bytes({"U": SCORES["U"].tolist(), "A": SCORES["A"]}) == whole
    monkeypatch.setattr(module, "CHUNK_LINES", 2)
    with zipfile.ZipFile(io.BytesIO(submission_bytes(SCORES))) as archive:
        assert archive.read("tv26_eval-A.txt") == b"0.1\n-2.5e-07\n3.0\n"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"A": [1.0]}, "has the lists A, U, not A"),
        ({"A": [1.0], "U": [1.0], "dev": [1.0]}, "not A, U, dev"),
        ({"A": [1.0], "U": [np.nan]}, "list U: expected one finite score"),
        ({"A": [[1.0]], "U": [1.0]}, "list A: expected one finite score"),
    ],
)
def test_submission_bytes_rejects_invalid_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        submission_bytes(scores)


@pytest.mark.parametrize(
    ("changed", "problems"),
    [
        ({}, []),
        ({"A": "0.1\r\n.5\r\n+3.E-2"}, []),
        ({"A": "0.1\n2\n"}, ["tv26_eval-A.txt: has 2 lines, but the list has 3 trials"]),
        ({"A": ""}, ["tv26_eval-A.txt: has 0 lines, but the list has 3 trials"]),
        ({"U": None}, ["tv26_eval-U.txt: is missing"]),
        (
            {"A": "score\n1\n2\n3\n"},
            [
                "tv26_eval-A.txt: line 1: 'score' is a header; expected one score per line",
                "tv26_eval-A.txt: has 4 lines, but the list has 3 trials",
            ],
        ),
        (
            {"A": "1\nnan\n1e999\n", "U": "-inf\n\n"},
            [
                "tv26_eval-A.txt: line 2: 'nan' is not finite",
                "tv26_eval-A.txt: line 3: '1e999' is not finite",
                "tv26_eval-U.txt: line 1: '-inf' is not finite",
                "tv26_eval-U.txt: line 2: is empty",
            ],
        ),
        (
            {"A": "1\na b 0.5\n1_0\n"},
            [
                "tv26_eval-A.txt: line 2: 'a b 0.5' has 3 columns; expected only the score",
                "tv26_eval-A.txt: line 3: '1_0' is not a number; expected one score per line",
            ],
        ),
        (
            {"A": "\ufeff1\n2\n3\n"},
            [r"tv26_eval-A.txt: line 1: '\\xef\\xbb\\xbf1' is a header; expected one score per line"],
        ),
    ],
)
def test_check_submission_reports_all_faults(tmp_path, changed, problems):
    assert check_submission(write_submission(tmp_path, **changed), LISTS) == problems


def test_check_submission_limits_reported_lines(tmp_path):
    problems = check_submission(write_submission(tmp_path, A="1\n" + "x\n" * 30), LISTS)
    assert len(problems) == 22
    assert problems[19].startswith("tv26_eval-A.txt: line 21:")
    assert problems[20] == "tv26_eval-A.txt: 10 more invalid lines"
    assert problems[21] == "tv26_eval-A.txt: has 31 lines, but the list has 3 trials"


def test_check_submission_defaults_to_published_sizes(tmp_path):
    problems = check_submission(write_submission(tmp_path))
    assert problems[0] == "tv26_eval-A.txt: has 3 lines, but the list has 4,000,000 trials"
    assert problems[1] == "tv26_eval-U.txt: has 2 lines, but the list has 1,280,000 trials"


def test_check_submission_compares_order_with_scores(tmp_path):
    swapped = write_submission(tmp_path, A="3\n-2e-7\n0.1\n")
    scores = {"A": [0.1, -2e-7, 3.0]}
    assert check_submission(swapped, LISTS) == []
    assert check_submission(swapped, LISTS, scores) == [
        "tv26_eval-A.txt: line 1: expected the score 0.1 of trial 1; check the order"
    ]
    rounded = write_submission(tmp_path, A="0.1000001\n0\n3.00001\n")
    assert check_submission(rounded, LISTS, scores) == []
    assert check_submission(rounded, LISTS, {"A": [0.1, 0.0]}) == [
        "tv26_eval-A.txt: cannot be compared: 2 scores were computed, but the list has 3 trials"
    ]


def test_check_submission_reports_unexpected_members(tmp_path):
    numbers = {"A": "1\n2\n3\n", "U": "1\n2\n"}
    members = [(f"out/tv26_eval-{name}.txt", text) for name, text in numbers.items()]
    problems = check_submission(write_archive(tmp_path, [*members, ("../../x\x1b[2J", ""), ("readme.md", "")]), LISTS)
    assert problems[:2] == ["tv26_eval-A.txt: is missing", "tv26_eval-U.txt: is missing"]
    assert r"'../../x\x1b[2J': must be at the top level of the archive, not in a folder" in problems
    assert "'out/tv26_eval-A.txt': must be at the top level of the archive, not in a folder" in problems
    assert "'readme.md': unexpected file" in problems
    assert not (tmp_path.parent / "x").exists()
    many_files = check_submission(write_archive(tmp_path, [(f"{i}.txt", "") for i in range(50)]), LISTS)
    assert len(many_files) == 23
    assert many_files[-1] == "30 more unexpected files"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_check_submission_reports_duplicate_member(tmp_path):
    path = write_archive(tmp_path, [("tv26_eval-A.txt", "x"), ("tv26_eval-A.txt", "y"), ("tv26_eval-U.txt", "1\n2\n")])
    assert check_submission(path, LISTS) == ["tv26_eval-A.txt: occurs 2 times"]


def test_check_submission_stops_at_endless_line_and_zip_bomb(tmp_path, monkeypatch):
    endless = check_submission(write_submission(tmp_path, A=b"\0" * (1 << 26)), LISTS)
    assert "is too long for a number" in endless[0]
    assert endless[1:] == ["tv26_eval-A.txt: the lines after it were not read"]
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    assert check_submission(write_submission(tmp_path, A="1\n" * 501), LISTS) == [
        "tv26_eval-A.txt: has 1,002 bytes, too many for 3 scores; not read"
    ]


def test_check_submission_reports_damaged_archive(tmp_path):
    assert check_submission(tmp_path / "none.zip") == [f"{tmp_path / 'none.zip'}: does not exist"]
    path = tmp_path / "s.zip"
    path.write_text("1\n2\n")
    assert "not a ZIP archive, or damaged" in check_submission(path)[0]
    whole = bytearray(submission_bytes({"A": np.linspace(0, 1, 5000), "U": [1.0, 2.0]}))
    whole[2000:2040] = bytes(40)
    path.write_bytes(whole)
    problems = check_submission(path, {"A": 5000, "U": 2})
    assert any("cannot be read after line" in problem or "line" in problem for problem in problems)
    assert all(problem.startswith("tv26_eval-A.txt") for problem in problems)


def test_check_submission_reports_encrypted_member(tmp_path):
    path = write_submission(tmp_path)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1  # the flag in the archive's directory
    path.write_bytes(content)
    assert check_submission(path, LISTS) == ["tv26_eval-A.txt: is encrypted"]

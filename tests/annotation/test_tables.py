"""CSV dialects that are accepted, and faults of invalid tables."""

import re

import pandas as pd
import pytest

from earmark.annotation.tables import load_annotations, read_tables
from earmark.errors import DataError, Fault, MissingError
from earmark.files.csv_table import read_csv_frame
from tests.conftest import DIM, EMO, flags_table, ratings_table, users_table, write_tables

VOTES = {"a.mp3": {"ann": 1, "ben": 2}, "b.mp3": {"ann": 0}}


def text_of(table, **options):
    return table.to_csv(index=False, lineterminator="\n", **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A valid subset at annotations/emolia-emo in the working folder."""
    monkeypatch.chdir(tmp_path)
    return write_tables(tmp_path / "annotations" / "emolia-emo", ratings_table(EMO, VOTES))


def faults_of(folder, subset=EMO):
    with pytest.raises(DataError) as caught:
        read_tables(folder, subset)
    return caught.value.faults


def positions(faults):
    return [(fault.line, fault.column) for fault in faults]


# --- accepted tables ----------------------------------------------------------------------------------------

GOOD = text_of(ratings_table(EMO, VOTES))
SHUFFLED = text_of(ratings_table(EMO, VOTES)[sorted(ratings_table(EMO, VOTES).columns)])


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        GOOD.rstrip("\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace("\n", "\n\n,,,,,,,,,\n   \n").encode(),
        GOOD.replace(",", " , ").encode(),
        SHUFFLED.encode(),
        GOOD.encode("utf-16"),
        b"\xfe\xff" + GOOD.encode("utf-16-be"),
        text_of(ratings_table(EMO, VOTES).assign(batch="7, old", note="")).encode(),
        text_of(ratings_table(EMO, VOTES), quoting=1).encode(),
    ],
    ids=[
        "as it is",
        "byte order mark",
        "Windows line ends",
        "old Mac line ends",
        "no last line end",
        "semicolons",
        "tabs",
        "blank lines",
        "spaces around values",
        "another column order",
        "UTF-16 as Excel saves it",
        "UTF-16 big endian",
        "extra columns",
        "all quoted",
    ],
)
def test_load_annotations_accepts_csv_dialects(folder, content):
    expected = load_annotations(folder, EMO).ratings
    (folder / "annotations.csv").write_bytes(content)
    pd.testing.assert_frame_equal(load_annotations(folder, EMO).ratings, expected)


def test_read_tables_keeps_special_characters(tmp_path):
    reason = 'Faint, "very" faint\nand short'
    flags = flags_table(DIM, ("a.mp3", "ann", reason))
    folder = write_tables(tmp_path, ratings_table(DIM, {"a.mp3": {"ann": 1}}), flags=flags)
    assert read_tables(folder, DIM).tables["flags"]["reason"].tolist() == [reason]


def test_read_csv_line_numbers(tmp_path):
    path = tmp_path / "flags.csv"
    path.write_bytes(b'reason,n\r\n"one\r\ntwo\r\nthree",1\r\n\r\nplain,2\r\n"four\r\nfive",3\r\nlast,4\r\n')
    table, faults = read_csv_frame(path)
    assert not faults
    assert dict(zip(table["n"], table.index, strict=True)) == {"1": 2, "2": 6, "3": 7, "4": 9}


def test_read_csv_keeps_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("level,word\n05,NA\n1e3,null\n")
    table, _ = read_csv_frame(path)
    assert table.to_numpy().tolist() == [["05", "NA"], ["1e3", "null"]]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", GOOD.split("\n")[0].encode() + b"\n"])
def test_load_annotations_empty_table(folder, content):
    (folder / "annotations.csv").write_bytes(content)
    annotations = load_annotations(folder, EMO)
    assert (len(annotations.ratings), annotations.rows_raw) == (0, 0)
    assert list(annotations.users["username"]) == ["ann", "ben"]


def test_load_annotations_types(folder):
    ratings = load_annotations(folder, EMO).ratings
    assert ratings["rating"].tolist() == [1, 2, 0]
    assert ratings["reaction_time_ms"].tolist() == [1000.0, 1001.0, 1002.0]
    assert str(ratings["created_at"].iloc[0]) == "2026-05-09 12:00:00+00:00"


@pytest.mark.parametrize("time", ["2026-05", "2026-05-09", "2026-05-09T12:00:00.123+02:00", "2026-05-09 12:00:00"])
def test_load_annotations_accepts_iso_8601_times(folder, time):
    write_tables(folder, ratings_table(EMO, VOTES).assign(created_at=time))
    assert len(load_annotations(folder, EMO).ratings) == 3


def test_load_annotations_counts_rows(folder):
    rows = load_annotations(folder, EMO).rows
    assert {path.name: n for path, n in rows.items()} == {"annotations.csv": 3, "users.csv": 2}


# --- faults -------------------------------------------------------------------------------------------------


def test_fault_message_format(folder):
    table = ratings_table(EMO, {f"clip_{i:02}.mp3": {"ann": 1} for i in range(50)})
    table.loc[17 - 2, "rating"] = "strongly_presnt"
    table.loc[40 - 2, "task_type"] = "contrastive_3"
    write_tables(folder, table)
    with pytest.raises(DataError) as caught:
        read_tables(folder, EMO)
    *block, remedy = str(caught.value).splitlines()
    assert block == [
        "annotations/emolia-emo/annotations.csv: 2 faults",
        "  line 17, column rating: 'strongly_presnt' is not one of not_present, weakly_present, strongly_present",
        "    --map VALUE=LEVEL reads a value as a level, --missing VALUE as no rating",
        "  line 40, column task_type: 'contrastive_3' is not one of "
        "affirmative, contrastive_1, contrastive_2, ultimate, penultimate",
    ]
    assert remedy.startswith("Nothing was written. Fix the rows in annotations_raw/emolia-emo/")
    assert "run `uv run anonymize.py`" in remedy


def test_all_faults_listed_at_once(folder):
    table = ratings_table(EMO, {f"clip_{i:02}.mp3": {"ann": 1} for i in range(9)})
    for line, column, value in [
        (2, "rating", "maybe"),
        (3, "task_type", "Affirmative"),
        (4, "file_name", ""),
        (5, "queried_emotion", ""),
        (6, "created_at", "yesterday"),
        (7, "username", "stranger"),
        (8, "annotation_id", "id-0"),
        (9, "reaction_time_ms", "fast"),
        (10, "sample_time_ms", "2,5"),
    ]:
        table.loc[line - 2, column] = value
    users = users_table("ann", "ben", "ann")
    flags = flags_table(EMO, ("clip_00.mp3", "nobody", "noise"), ("clip_01.mp3", "ann", "hum"))
    write_tables(folder, table, users, flags.assign(flag_id="f-0"))
    with pytest.raises(DataError) as caught:
        read_tables(folder, EMO)
    lines = str(caught.value).splitlines()
    assert [line for line in lines if not line.startswith("  ")][:-1] == [
        "annotations/emolia-emo/annotations.csv: 9 faults",
        "annotations/emolia-emo/users.csv: 1 fault",
        "annotations/emolia-emo/flags.csv: 2 faults",
    ]
    beginnings = [
        "  line 2, column rating: 'maybe' is not one of not_present",
        "  line 3, column task_type: 'Affirmative' is not one of affirmative",
        "  line 4, column file_name: '' is empty",
        "  line 5, column queried_emotion: '' is empty",
        "  line 6, column created_at: 'yesterday' is not an ISO 8601 time",
        "  line 7, column username: 'stranger' is not in users.csv",
        "  line 8, column annotation_id: 'id-0' is empty or repeats an earlier line",
        "  line 9, column reaction_time_ms: 'fast' is not a time in milliseconds",
        "  line 10, column sample_time_ms: '2,5' is not a time in milliseconds",
        "  line 4, column username: 'ann' is empty or repeats an earlier line",
        "  line 2, column username: 'nobody' is not in users.csv",
        "  line 3, column flag_id: 'f-0' is empty or repeats an earlier line",
    ]
    fault_lines = [line for line in lines if line.startswith("  ") and not line.startswith("    --")]
    assert [line[: len(start)] for line, start in zip(fault_lines, beginnings, strict=True)] == beginnings


def test_two_faults_in_one_line(folder):
    write_tables(folder, ratings_table(EMO, {"a.mp3": {"ann": 1}}).assign(rating="x", created_at="y"))
    (faults,) = faults_of(folder).values()
    assert positions(faults) == [(2, "created_at"), (2, "rating")]


def test_faults_dim(tmp_path):
    table = ratings_table(DIM, {f"{i}.mp3": {"ann": 1} for i in range(4)})
    table.loc[0, "rating"], table.loc[1, "polarity"] = "Yes", "neutral"
    table.loc[2, "level"], table.loc[3, "dimension"] = "", ""
    (faults,) = faults_of(write_tables(tmp_path, table), DIM).values()
    assert positions(faults) == [(2, "rating"), (3, "polarity"), (4, "level"), (5, "dimension")]


@pytest.mark.parametrize("cell", ["inf", "-inf", "nan", "1 s", "0x10"])
def test_milliseconds_must_be_finite(folder, cell):
    write_tables(folder, ratings_table(EMO, {"a.mp3": {"ann": 1}}).assign(reaction_time_ms=cell))
    (faults,) = faults_of(folder).values()
    assert positions(faults) == [(2, "reaction_time_ms")]


@pytest.mark.parametrize("cell", ["", "09.05.2026", "2026-13-01", "2026-02-30", "now", "NaT", "12:00"])
def test_invalid_time_is_a_fault(folder, cell):
    write_tables(folder, ratings_table(EMO, {"a.mp3": {"ann": 1}}).assign(created_at=cell))
    (faults,) = faults_of(folder).values()
    assert positions(faults) == [(2, "created_at")]


def test_fault_line_counts_lines_inside_quotes(tmp_path):
    flags = flags_table(DIM, ("a.mp3", "ann", "one\ntwo\nthree"), ("a.mp3", "nobody", "plain"))
    folder = write_tables(tmp_path, ratings_table(DIM, {"a.mp3": {"ann": 1}}), flags=flags)
    (faults,) = faults_of(folder, DIM).values()
    assert positions(faults) == [(5, "username")]


def test_missing_columns_are_faults(folder):
    write_tables(
        folder,
        ratings_table(EMO, VOTES).drop(columns=["rating", "task_type"]),
        users_table("ann", "ben"),
    )
    (faults,) = faults_of(folder).values()
    assert positions(faults) == [(1, "rating"), (1, "task_type")]
    assert "the header has annotation_id, username, source_emotion" in faults[0].problem


def test_header_is_case_sensitive(folder):
    (folder / "users.csv").write_text("Username\nann\nben\n")
    faults = faults_of(folder)
    assert positions(faults["annotations/emolia-emo/users.csv"]) == [(1, "username")]


def test_tables_of_other_subset_have_missing_columns(tmp_path):
    folder = write_tables(tmp_path, ratings_table(DIM, {"a.mp3": {"ann": 1}}))
    (faults,) = faults_of(folder, EMO).values()
    assert {(1, "queried_emotion"), (1, "task_type"), (1, "source_emotion")} <= set(positions(faults))


def test_duplicate_column_is_a_fault(folder):
    (folder / "users.csv").write_text("username,username\nann,x\nben,y\n")
    assert positions(faults_of(folder)["annotations/emolia-emo/users.csv"]) == [(1, "username")]


@pytest.mark.parametrize("row", ["ann,1", "ann,1,2,3"], ids=["too short", "too long"])
def test_row_length_must_match_header(folder, row):
    (folder / "users.csv").write_text(f"username,age,degree\nann,1,2\nben,3,4\n{row}\n")
    (fault,) = faults_of(folder)["annotations/emolia-emo/users.csv"]
    assert (fault.line, fault.column) == (4, "")
    assert fault.problem == f"has {row.count(',') + 1} values, but the header has 3 columns"


def test_latin_1_is_a_fault(folder):
    (folder / "users.csv").write_bytes("username,degree\nann,ma\nben,Lycée\n".encode("latin-1"))
    (fault,) = faults_of(folder)["annotations/emolia-emo/users.csv"]
    assert str(fault) == "  line 3: byte 0xe9 is not UTF-8; save the file as CSV UTF-8"


def test_binary_file_is_a_fault(folder):
    (folder / "annotations.csv").write_bytes(b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff\x00\x9d")
    assert list(faults_of(folder)) == ["annotations/emolia-emo/annotations.csv"]


def test_unclosed_quote_is_a_fault(folder):
    (folder / "annotations.csv").write_text(GOOD.replace("Sadness", '"Sadness', 1))
    assert "annotations/emolia-emo/annotations.csv" in faults_of(folder)


def test_equal_faults_share_a_line(folder):
    table = ratings_table(EMO, {f"{i}.mp3": {"ann": 1} for i in range(250)}).assign(rating="x")
    write_tables(folder, table)
    with pytest.raises(DataError) as caught:
        read_tables(folder, EMO)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("annotations.csv: 250 faults")
    assert lines[1].startswith("  lines 2, 3, 4, 5, 6 and 245 more, column rating: 'x' is not one of not_present")
    assert lines[2] == "    --map VALUE=LEVEL reads a value as a level, --missing VALUE as no rating"
    assert len(lines) == 4


def test_many_faults_are_truncated(folder):
    table = ratings_table(EMO, {f"{i}.mp3": {"ann": 1} for i in range(250)})
    write_tables(folder, table.assign(rating=[f"x{i % 60}" for i in range(250)]))
    with pytest.raises(DataError) as caught:
        read_tables(folder, EMO)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("annotations.csv: 250 faults")
    assert lines[1].startswith("  250 cells of column rating, the first in line 2: is not one of not_present")
    assert lines[2] == "    60 values: 'x0' (5), 'x1' (5), 'x2' (5), 'x3' (5), 'x4' (5), …"
    assert len(lines) == 5


def test_many_kinds_of_faults_are_truncated():
    faults = [Fault(line, "label", f"problem {line % 40}") for line in range(1, 81)]
    lines = str(DataError({"t.csv": faults}, "Stop.")).splitlines()
    assert lines[1] == "  lines 1, 41, column label: problem 1"
    assert len(lines) == 1 + 30 + 1 + 1
    assert lines[-2] == "  and 20 more of 10 other kinds"


@pytest.mark.parametrize("name", ["annotations", "users"])
def test_missing_table_raises(folder, name):
    (folder / f"{name}.csv").unlink()
    with pytest.raises(MissingError, match=re.escape(f"annotations/emolia-emo/{name}.csv does not exist")):
        read_tables(folder, EMO)


def test_flags_are_optional(folder):
    assert "flags" not in read_tables(folder, EMO).tables
    assert load_annotations(folder, EMO).flags.empty

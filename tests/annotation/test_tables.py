"""Tables as spreadsheets, editors and other releases leave them; and every fault of a bad one."""

import re

import pandas as pd
import pytest

from earmark.annotation.tables import load_annotations, read_csv, read_tables
from earmark.errors import DataError, MissingError
from tests.conftest import DIM, EMO, flags_table, ratings_table, users_table, write_tables

VOTES = {"a.mp3": {"ann": 1, "ben": 2}, "b.mp3": {"ann": 0}}


def text_of(table, **options):
    return table.to_csv(index=False, lineterminator="\n", **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A good subset at annotations/emolia-emo, as the user in tmp_path calls it."""
    monkeypatch.chdir(tmp_path)
    return write_tables(tmp_path / "annotations" / "emolia-emo", ratings_table(EMO, VOTES))


def faults_of(folder, subset=EMO):
    with pytest.raises(DataError) as caught:
        read_tables(folder, subset)
    return caught.value.faults


def as_seen(faults):
    return [(fault.line, fault.column) for fault in faults]


# --- what is read as it is ----------------------------------------------------------------------------------

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
def test_a_table_is_read_however_it_was_saved(folder, content):
    expected = load_annotations(folder, EMO).ratings
    (folder / "annotations.csv").write_bytes(content)
    pd.testing.assert_frame_equal(load_annotations(folder, EMO).ratings, expected)


def test_commas_quotes_and_line_ends_in_free_text_are_kept(tmp_path):
    reason = 'Faint, "very" faint\nand short'
    flags = flags_table(DIM, ("a.mp3", "ann", reason))
    folder = write_tables(tmp_path, ratings_table(DIM, {"a.mp3": {"ann": 1}}), flags=flags)
    assert read_tables(folder, DIM).tables["flags"]["reason"].tolist() == [reason]


def test_lines_are_counted_as_an_editor_shows_them(tmp_path):
    path = tmp_path / "flags.csv"
    path.write_bytes(b'reason,n\r\n"one\r\ntwo\r\nthree",1\r\n\r\nplain,2\r\n"four\r\nfive",3\r\nlast,4\r\n')
    table, faults = read_csv(path)
    assert not faults
    assert dict(zip(table["n"], table.index, strict=True)) == {"1": 2, "2": 6, "3": 7, "4": 9}


def test_text_that_looks_like_a_number_or_nothing_stays_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("level,word\n05,NA\n1e3,null\n")
    table, _ = read_csv(path)
    assert table.to_numpy().tolist() == [["05", "NA"], ["1e3", "null"]]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", GOOD.split("\n")[0].encode() + b"\n"])
def test_an_empty_table_or_a_header_alone_has_no_rows(folder, content):
    (folder / "annotations.csv").write_bytes(content)
    found = load_annotations(folder, EMO)
    assert (len(found.ratings), found.rows_raw) == (0, 0)
    assert list(found.users["username"]) == ["ann", "ben"]


def test_ratings_are_typed(folder):
    found = load_annotations(folder, EMO).ratings
    assert found["rating"].tolist() == [1, 2, 0]
    assert found["reaction_time_ms"].tolist() == [1000.0, 1001.0, 1002.0]
    assert str(found["created_at"].iloc[0]) == "2026-05-09 12:00:00+00:00"


@pytest.mark.parametrize("time", ["2026-05", "2026-05-09", "2026-05-09T12:00:00.123+02:00", "2026-05-09 12:00:00"])
def test_times_are_iso_8601_as_coarse_as_a_month(folder, time):
    write_tables(folder, ratings_table(EMO, VOTES).assign(created_at=time))
    assert len(load_annotations(folder, EMO).ratings) == 3


def test_rows_are_counted_by_file(folder):
    rows = load_annotations(folder, EMO).rows
    assert {path.name: n for path, n in rows.items()} == {"annotations.csv": 3, "users.csv": 2}


# --- faults -------------------------------------------------------------------------------------------------


def test_two_misspelt_cells_are_told_as_the_style_guide_shows(folder):
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
        "  line 40, column task_type: 'contrastive_3' is not one of "
        "affirmative, contrastive_1, contrastive_2, ultimate, penultimate",
    ]
    assert remedy.startswith("Nothing was written. Fix the rows in annotations_raw/emolia-emo/")
    assert "run `uv run anonymize.py`" in remedy


def test_every_kind_of_fault_of_every_table_is_listed_at_once(folder):
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
    told = [line for line in lines if line.startswith("  ")]
    assert [line[: len(start)] for line, start in zip(told, beginnings, strict=True)] == beginnings


def test_two_faults_of_one_line_are_both_told(folder):
    write_tables(folder, ratings_table(EMO, {"a.mp3": {"ann": 1}}).assign(rating="x", created_at="y"))
    (faults,) = faults_of(folder).values()
    assert as_seen(faults) == [(2, "created_at"), (2, "rating")]


def test_a_dimension_has_faults_of_its_own(tmp_path):
    table = ratings_table(DIM, {f"{i}.mp3": {"ann": 1} for i in range(4)})
    table.loc[0, "rating"], table.loc[1, "polarity"] = "Yes", "neutral"
    table.loc[2, "level"], table.loc[3, "dimension"] = "", ""
    (faults,) = faults_of(write_tables(tmp_path, table), DIM).values()
    assert as_seen(faults) == [(2, "rating"), (3, "polarity"), (4, "level"), (5, "dimension")]


@pytest.mark.parametrize("cell", ["inf", "-inf", "nan", "1 s", "0x10"])
def test_a_time_in_milliseconds_is_a_finite_number(folder, cell):
    write_tables(folder, ratings_table(EMO, {"a.mp3": {"ann": 1}}).assign(reaction_time_ms=cell))
    (faults,) = faults_of(folder).values()
    assert as_seen(faults) == [(2, "reaction_time_ms")]


@pytest.mark.parametrize("cell", ["", "09.05.2026", "2026-13-01", "2026-02-30", "now", "NaT", "12:00"])
def test_a_time_that_cannot_be_read_is_a_fault(folder, cell):
    write_tables(folder, ratings_table(EMO, {"a.mp3": {"ann": 1}}).assign(created_at=cell))
    (faults,) = faults_of(folder).values()
    assert as_seen(faults) == [(2, "created_at")]


def test_the_line_of_a_fault_counts_lines_inside_quotes(tmp_path):
    flags = flags_table(DIM, ("a.mp3", "ann", "one\ntwo\nthree"), ("a.mp3", "nobody", "plain"))
    folder = write_tables(tmp_path, ratings_table(DIM, {"a.mp3": {"ann": 1}}), flags=flags)
    (faults,) = faults_of(folder, DIM).values()
    assert as_seen(faults) == [(5, "username")]


def test_missing_columns_are_named_beside_what_the_header_has(folder):
    write_tables(
        folder,
        ratings_table(EMO, VOTES).drop(columns=["rating", "task_type"]),
        users_table("ann", "ben"),
    )
    (faults,) = faults_of(folder).values()
    assert as_seen(faults) == [(1, "rating"), (1, "task_type")]
    assert "the header has annotation_id, username, source_emotion" in faults[0].problem


def test_a_header_in_the_wrong_case_is_a_missing_column(folder):
    (folder / "users.csv").write_text("Username\nann\nben\n")
    faults = faults_of(folder)
    assert as_seen(faults["annotations/emolia-emo/users.csv"]) == [(1, "username")]


def test_the_tables_of_the_other_subset_are_recognised_as_wrong(tmp_path):
    folder = write_tables(tmp_path, ratings_table(DIM, {"a.mp3": {"ann": 1}}))
    (faults,) = faults_of(folder, EMO).values()
    assert {(1, "queried_emotion"), (1, "task_type"), (1, "source_emotion")} <= set(as_seen(faults))


def test_a_header_that_names_a_column_twice_is_a_fault(folder):
    (folder / "users.csv").write_text("username,username\nann,x\nben,y\n")
    assert as_seen(faults_of(folder)["annotations/emolia-emo/users.csv"]) == [(1, "username")]


@pytest.mark.parametrize("row", ["ann,1", "ann,1,2,3"], ids=["too short", "too long"])
def test_a_row_of_another_length_is_a_fault(folder, row):
    (folder / "users.csv").write_text(f"username,age,degree\nann,1,2\nben,3,4\n{row}\n")
    (fault,) = faults_of(folder)["annotations/emolia-emo/users.csv"]
    assert (fault.line, fault.column) == (4, "")
    assert fault.problem == f"has {row.count(',') + 1} values where the header has 3 columns"


def test_latin_1_is_refused_with_the_line_of_the_first_bad_byte(folder):
    (folder / "users.csv").write_bytes("username,degree\nann,ma\nben,Lycée\n".encode("latin-1"))
    (fault,) = faults_of(folder)["annotations/emolia-emo/users.csv"]
    assert str(fault) == "  line 3: byte 0xe9 is not UTF-8; save the file as CSV UTF-8"


def test_a_table_that_is_no_text_is_refused(folder):
    (folder / "annotations.csv").write_bytes(b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff\x00\x9d")
    assert list(faults_of(folder)) == ["annotations/emolia-emo/annotations.csv"]


def test_a_quote_that_never_closes_does_not_swallow_the_table_silently(folder):
    (folder / "annotations.csv").write_text(GOOD.replace("Sadness", '"Sadness', 1))
    assert "annotations/emolia-emo/annotations.csv" in faults_of(folder)


def test_faults_that_are_alike_share_a_line(folder):
    table = ratings_table(EMO, {f"{i}.mp3": {"ann": 1} for i in range(250)}).assign(rating="x")
    write_tables(folder, table)
    with pytest.raises(DataError) as caught:
        read_tables(folder, EMO)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("annotations.csv: 250 faults")
    assert lines[1].startswith("  lines 2, 3, 4, 5, 6 and 245 more, column rating: 'x' is not one of not_present")
    assert len(lines) == 3


def test_very_many_kinds_of_faults_are_shown_in_part_and_counted(folder):
    table = ratings_table(EMO, {f"{i}.mp3": {"ann": 1} for i in range(250)})
    write_tables(folder, table.assign(rating=[f"x{i % 60}" for i in range(250)]))
    with pytest.raises(DataError) as caught:
        read_tables(folder, EMO)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("annotations.csv: 250 faults")
    assert lines[1].startswith("  lines 2, 62, 122, 182, 242, column rating: 'x0' is not one of")
    assert len(lines) == 1 + 50 + 1 + 1
    assert lines[-2] == "  and 40 more of 10 other kinds"


@pytest.mark.parametrize("name", ["annotations", "users"])
def test_a_missing_table_is_named(folder, name):
    (folder / f"{name}.csv").unlink()
    with pytest.raises(MissingError, match=re.escape(f"annotations/emolia-emo/{name}.csv does not exist")):
        read_tables(folder, EMO)


def test_flags_may_be_missing(folder):
    assert "flags" not in read_tables(folder, EMO).tables
    assert load_annotations(folder, EMO).flags.empty

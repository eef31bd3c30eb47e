"""Reading of tables: formats of files, and what each flag changes."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.annotation.options import ReadingOptions
from earmark.annotation.reading import (
    ADVICE_DOTTED,
    ADVICE_SLASHED,
    ADVICE_TWELVE,
    case_variants,
    merge_case,
    parse_times,
    read_source,
    time_advice,
)
from earmark.annotation.subsets import Columns, Subset
from earmark.annotation.tables import TableFiles, load_annotations
from earmark.errors import DataError, MissingError

CLASSES = Subset("mine", "nominal", ("file",), columns=Columns(rater="who", rating="feeling"))
NUMBERS = Subset("mine", "interval", ("file",), columns=Columns(rater="who", rating="score"))
DECIDED = Subset("mine", "binary", ("file",), present_from="yes", columns=Columns(rater="who", rating="hot"))
LEVELS = Subset("mine", "ordinal", ("file",), ("low", "mid", "high"), columns=Columns(rater="who", rating="heat"))


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Write a table and load it: loaded(lines, subset, **reading)."""
    monkeypatch.chdir(tmp_path)

    def load(lines, subset, encoding="utf-8", **reading):
        path = tmp_path / "ratings.csv"
        path.write_text("\n".join([f"file,who,{subset.columns.rating}", *lines, ""]), encoding=encoding)
        return load_annotations(tmp_path, subset, reading=ReadingOptions(**reading), files=TableFiles(path))

    return load


def faults(load, *arguments, **reading):
    with pytest.raises(DataError) as caught:
        load(*arguments, **reading)
    (of_file,) = caught.value.faults.values()
    return of_file, str(caught.value)


# --- ratings ------------------------------------------------------------------------------------------------


def test_only_item_rater_and_rating_are_needed(loaded):
    annotations = loaded(["a,x,joy", "a,y,fear", "b,x,joy"], CLASSES)
    assert annotations.subset.levels == ("fear", "joy")
    assert annotations.ratings[["file", "username", "rating"]].to_numpy().tolist() == [
        ["a", "x", 1],
        ["a", "y", 0],
        ["b", "x", 1],
    ]
    assert annotations.ratings["reaction_time_ms"].isna().all()
    assert list(annotations.users["username"]) == ["x", "y"]


def test_empty_rating_of_own_table_is_missing_and_counted(loaded):
    annotations = loaded(["a,x,joy", "a,y,", "b,y,fear", "b,x,joy"], CLASSES)
    assert annotations.excluded["rows without a rating"] == 1
    assert len(annotations.ratings) == 3
    assert annotations.rows_raw == 4


def test_missing_values_are_no_ratings(loaded):
    lines = ["a,x,joy", "a,y,NA", "b,y,fear", "b,x,-", "c,x,joy", "c,y,joy"]
    assert loaded(lines, CLASSES, missing=("NA", "-")).excluded["rows without a rating"] == 2


def test_word_for_missing_that_counts_as_a_class_is_a_warning(loaded):
    lines = ["a,x,joy", "a,y,NA", "b,y,fear", "b,x,NA", "c,x,#N/A", "c,y,joy"]
    annotations = loaded(lines, CLASSES)
    assert annotations.subset.levels == ("#N/A", "NA", "fear", "joy")
    assert annotations.warnings == (
        "'#N/A' (once) counts as a rating of its own; --missing '#N/A' reads it as no rating",
        "'NA' (2 times) counts as a rating of its own; --missing NA reads it as no rating",
    )
    described = replace(CLASSES, levels=("#N/A", "NA", "fear", "joy"))
    assert loaded(lines, described).warnings == ()


def test_word_for_missing_on_a_binary_scale_is_a_warning(loaded):
    (warning,) = loaded(["a,x,yes", "a,y,-", "b,x,-", "b,y,-"], DECIDED).warnings
    assert warning == "'-' (3 times) counts as a rating of its own; --missing - reads it as no rating"


def test_comma_that_may_part_thousands_has_its_own_advice(loaded):
    found, _ = faults(loaded, ["a,x,1", 'a,y,"1,234"', 'b,x,"2,5"', 'b,y,"1,234,567"'], NUMBERS)
    advice = "--decimal-comma reads 1,234 as 1.234; write thousands without commas"
    assert [fault.advice for fault in found] == [advice, "--decimal-comma reads 3,5 as 3.5", advice]


@pytest.mark.parametrize("cell", ["#N/A", "?"])
def test_advice_survives_the_shell(loaded, cell):
    _, message = faults(loaded, ["a,x,1", "a,y,2", f"b,x,{cell}"], NUMBERS)
    assert f"--missing '{cell}' reads such cells as no rating" in message


# --- spellings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"), [("2", "2.0"), ("sea waves", "sea\u00a0 waves"), ("Caf\u00e9", "Cafe\u0301"), ("a", "a\u200b")]
)
def test_spellings_of_a_class_are_one_class_with_a_warning(loaded, one, other):
    lines = [f"a,x,{one}", f"a,y,{one}", f"b,x,{other}", "b,y,z"]
    annotations = loaded(lines, CLASSES)
    assert annotations.subset.levels == tuple(sorted({one, "z"}))
    assert annotations.warnings == (
        f"feeling: merged 1 spelling ('{other}' as '{one}'); --exact-keys treats them as different",
    )


def test_spellings_of_a_class_stay_apart_with_exact_keys(loaded):
    lines = ["a,x,2", "a,y,2.0", "b,x,2"]
    assert loaded(lines, CLASSES, exact_keys=True).subset.levels == ("2", "2.0")


def test_levels_of_an_order_with_zero_decimals(loaded):
    ordered = replace(LEVELS, levels=("1", "2", "3"))
    annotations = loaded(["a,x,1.0", "a,y,2.0", "b,x,3", "b,y,2.00"], ordered)
    assert annotations.ratings["rating"].tolist() == [0, 1, 2, 1]
    found, _ = faults(loaded, ["a,x,1.0", "a,y,2.0", "b,x,3"], ordered, exact_keys=True)
    assert [fault.value for fault in found] == ["1.0", "2.0"]


def test_present_level_in_another_spelling_or_case(loaded):
    lines = ["a,x,1.0", "a,y,0.0", "b,x,1.0", "b,y,0"]
    assert loaded(lines, replace(DECIDED, present_from="1")).subset.levels == ("0", "1")
    lines = ["a,x,Yes", "a,y,no", "b,x,YES"]
    found, _ = faults(loaded, lines[:2], DECIDED)
    assert found[0].advice == "--ignore-case reads levels in another case"
    assert loaded(lines, DECIDED, ignore_case=True).subset.levels == ("no", "yes")


def test_raters_in_two_spellings_are_one_with_a_warning(loaded):
    lines = ["a,7,joy", "a,8,joy", "b,7.0,fear", "b,8,joy", "c,Li\u00a0 Wu,joy", "c,Li Wu,joy", "d,Li Wu,joy"]
    annotations = loaded(lines, CLASSES)
    assert list(annotations.users["username"]) == ["7", "8", "Li Wu"]
    assert annotations.warnings[0] == (
        "who: merged 2 spellings of raters that differ only in blanks, Unicode form or zero decimals; "
        "--exact-keys treats them as different"
    )
    assert loaded(lines, CLASSES, exact_keys=True).ratings["username"].nunique() == 5


def test_raters_in_the_spelling_of_the_users_are_named_and_counted_once(loaded, tmp_path):
    (tmp_path / "users.csv").write_text("username\n7\n8\n")
    path = tmp_path / "ratings.csv"
    path.write_text("file,who,feeling\na,7.0,joy\na,8,joy\nb,7.0,fear\n")
    annotations = load_annotations(tmp_path, CLASSES, files=TableFiles(path, users=tmp_path / "users.csv"))
    assert annotations.ratings["username"].tolist() == ["7", "8", "7"]
    assert annotations.warnings[0].startswith("who: merged 1 spelling of raters")


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.wav", "A.wav"), ("a.wav", "a.MP3"), ("a.wav", "a"), ("a.wav", "clips\\a.wav"), ("Joy", "joy")],
)
def test_spellings_of_an_item_are_one_item_with_a_warning(loaded, one, other):
    lines = [f"{one},x,joy", f"{one},y,fear", f"{other},z,joy", "c,z,joy"]
    annotations = loaded(lines, CLASSES)
    assert set(annotations.ratings["file"]) == {one, "c"}
    assert annotations.warnings == (
        f"file: merged 1 spelling ('{other}' as '{one}'); --exact-keys treats them as different",
    )
    apart = loaded(lines, CLASSES, exact_keys=True)
    assert apart.ratings["file"].nunique() == 3
    assert apart.warnings[0].startswith("file: similar keys count as different items")


def test_spellings_of_an_item_that_a_rater_rated_both_stay_apart(loaded):
    annotations = loaded(["a.wav,x,joy", "a.wav,y,fear", "a.mp3,x,joy", "a.mp3,z,joy"], CLASSES)
    assert annotations.ratings["file"].nunique() == 2
    assert annotations.warnings[0].startswith("file: similar keys count as different items")


def test_map_renames_ratings_and_columns(loaded, tmp_path):
    annotations = loaded(["a,x,froh", "a,y,joy", "b,y,fear"], CLASSES, map=("froh=joy",))
    assert annotations.subset.levels == ("fear", "joy")
    path = tmp_path / "other.csv"
    path.write_text("clip,who,feeling\na,x,joy\na,y,fear\n")
    reading = ReadingOptions(map=("clip=file",))
    assert len(load_annotations(tmp_path, CLASSES, reading=reading, files=TableFiles(path)).ratings) == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("froh",), "write OLD=NEW"),
        (("froh=",), "write OLD=NEW"),
        (("a=b", "a=c"), "'a' is given twice"),
        (("trist=joy",), "--map trist=…: neither a column nor a rating"),
    ],
)
def test_map_that_cannot_apply_raises(loaded, entries, message):
    with pytest.raises(MissingError, match=message):
        loaded(["a,x,joy", "a,y,fear"], CLASSES, map=entries)


def test_map_to_existing_column_is_a_fault(loaded):
    found, _ = faults(loaded, ["a,x,joy", "a,y,fear"], CLASSES, map=("who=file",))
    assert found[0].problem == "cannot become file: the header already has this column"


def test_decimal_comma_needs_its_flag(loaded):
    lines = ['a,x,"3,5"', "a,y,4"]
    found, text = faults(loaded, lines, NUMBERS)
    assert [(fault.line, fault.column, fault.value) for fault in found] == [(2, "score", "3,5")]
    assert "--decimal-comma reads 3,5 as 3.5" in text
    assert loaded(lines, NUMBERS, decimal_comma=True).ratings["rating"].tolist() == [3.5, 4.0]


def test_point_beside_decimal_commas_is_a_fault_where_it_may_part_thousands(loaded):
    found, _ = faults(loaded, ["a,x,1.234", 'a,y,"3,5"', "b,x,2.5"], NUMBERS, decimal_comma=True)
    assert [(fault.line, fault.column, fault.value) for fault in found] == [(2, "score", "1.234")]
    assert loaded(["a,x,1.234", "a,y,2.5"], NUMBERS).ratings["rating"].tolist() == [1.234, 2.5]


@pytest.mark.parametrize("word", ["high", "inf", "nan", "1e400", "0x1F", "1_000"])
def test_interval_rating_must_be_a_finite_number(loaded, word):
    found, _ = faults(loaded, [f"a,x,{word}", "a,y,4"], NUMBERS)
    assert [fault.value for fault in found] == [word]


def test_classes_in_two_cases_are_a_fault_without_ignore_case(loaded):
    lines = ["a,x,Joy", "a,y,joy", "b,x,joy", "b,y,fear"]
    found, text = faults(loaded, lines, CLASSES)
    assert (found[0].line, found[0].problem) == (3, "'Joy' and 'joy' differ only in case")
    assert "--ignore-case" in text
    assert loaded(lines, CLASSES, ignore_case=True).subset.levels == ("fear", "joy")


def test_levels_in_another_case(loaded):
    lines = ["a,x,Low", "a,y,HIGH"]
    _, text = faults(loaded, lines, LEVELS)
    assert "--ignore-case reads levels in another case" in text
    assert loaded(lines, LEVELS, ignore_case=True).ratings["rating"].tolist() == [0, 2]


def test_raters_in_two_cases_are_two_unless_ignored(loaded):
    lines = ["a,Ann@x.org,joy", "a,ben,fear", "b,ann@X.org,joy", "b,ben,joy"]
    separate = loaded(lines, CLASSES)
    assert separate.ratings["username"].nunique() == 3
    (warning,) = separate.warnings
    assert warning.startswith("2 raters whose names differ only in case")
    assert "ann" not in warning.lower()
    assert loaded(lines, CLASSES, ignore_case=True).ratings["username"].nunique() == 2


def test_ordinal_level_that_the_order_lacks_is_a_fault(loaded):
    found, text = faults(loaded, ["a,x,low", "a,y,extreme", "b,x,NA"], LEVELS)
    assert [(fault.line, fault.value) for fault in found] == [(3, "extreme"), (4, "NA")]
    assert "is not one of low, mid, high" in text
    assert "--map VALUE=LEVEL" in text
    assert "--missing NA" in text


def test_binary_levels_come_from_the_data(loaded):
    assert loaded(["a,x,yes", "a,y,no"], DECIDED).subset.levels == ("no", "yes")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["a,x,ja", "a,y,nein"], "no rating is 'yes'; the ratings are 'ja' (1), 'nein' (1)"),
        (["a,x,yes", "a,y,no", "b,x,so so"], "a binary scale has two levels, but there are 3 different ratings"),
    ],
)
def test_binary_scale_that_the_data_contradict(loaded, lines, problem):
    found, _ = faults(loaded, lines, DECIDED)
    assert problem in found[0].problem


def test_nominal_scale_with_too_many_classes(loaded):
    found, _ = faults(loaded, [f"a{i},x,{i}" for i in range(300)], CLASSES)
    assert found[0].problem.startswith("300 different ratings on a nominal scale")


def test_nominal_levels_that_are_numbers_sort_by_value(loaded):
    annotations = loaded([f"a{i},{who},{i}" for i in range(12) for who in "xy"], CLASSES)
    assert annotations.subset.levels == tuple(str(i) for i in range(12))
    (warning,) = annotations.warnings
    assert warning == "the 12 classes are numbers without order; --scale interval treats ratings as numbers"


def test_number_far_from_all_others_is_a_warning(loaded):
    lines = [f"a{i},{who},{1 + i % 5}" for i in range(10) for who in "xy"] + ["b,x,99", "b,y,3"]
    (warning,) = loaded(lines, NUMBERS).warnings
    assert warning == ("the rating 99 (once) is far from all others (1 to 5); --missing 99 reads it as no rating")
    assert loaded(lines, NUMBERS, missing=("99",)).warnings == ()


@pytest.mark.parametrize(
    ("lines", "column", "problem"),
    [
        (["a,x,joy", "b,x,fear"], "who", "every rating is by the same rater; agreement needs two raters"),
        (["a,x,joy", "a,y,joy"], "feeling", "every rating is 'joy'; agreement needs two different ratings"),
    ],
)
def test_table_without_comparison_is_a_fault(loaded, lines, column, problem):
    found, _ = faults(loaded, lines, CLASSES)
    assert [fault.column for fault in found] == [column]
    assert problem in found[0].problem


def test_a_rater_for_every_rating_is_a_warning(loaded):
    (warning,) = loaded([f"a{i // 2},{i},{'joy' if i % 3 else 'fear'}" for i in range(20)], CLASSES).warnings
    assert warning == "each of the 20 raters has a single rating; check that who is the column of the rater"


def test_repeated_rating_without_time_keeps_the_last_line_and_warns(loaded):
    annotations = loaded(["a,x,joy", "a,y,joy", "a,x,fear"], CLASSES)
    assert annotations.ratings["rating"].tolist() == [0, 1]
    assert annotations.excluded["superseded ratings"] == 1
    (warning,) = annotations.warnings
    assert warning == "1 rating repeats its item and rater; the table has no time, so the last line counts"


def test_empty_rater_and_item_are_faults(loaded):
    found, _ = faults(loaded, [",x,joy", "a,,fear"], CLASSES)
    assert [(fault.line, fault.column) for fault in found] == [(2, "file"), (3, "who")]


def test_missing_column_names_the_header_of_the_file(loaded, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("clip,who,feeling\na,x,joy\n")
    with pytest.raises(DataError, match="column file: is missing; the header has clip, who, feeling"):
        load_annotations(tmp_path, CLASSES, files=TableFiles(path))


def test_other_column_with_a_published_name_is_ignored(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("file,who,feeling,rating,username\na,x,joy,1,u\na,y,fear,2,v\n")
    annotations = load_annotations(tmp_path, CLASSES, files=TableFiles(path))
    assert annotations.ratings["username"].tolist() == ["x", "y"]


def test_identical_lines_are_dropped_on_request(tmp_path):
    path = tmp_path / "t.csv"
    row = "id-0,a,x,joy"
    path.write_text(f"annotation_id,file,who,feeling\n{row}\n{row}\nid-1,a,y,fear\n")
    with pytest.raises(DataError, match="--drop-identical drops lines that are equal in every column"):
        load_annotations(tmp_path, CLASSES, files=TableFiles(path))
    reading = ReadingOptions(drop_identical=True)
    annotations = load_annotations(tmp_path, CLASSES, reading=reading, files=TableFiles(path))
    assert annotations.excluded["lines identical to an earlier line (--drop-identical)"] == 1
    assert len(annotations.ratings) == 2


def test_many_faults_of_a_kind_fit_on_a_screen(loaded):
    _, text = faults(loaded, [f"a{i},x,v{i}" for i in range(4000)], LEVELS)
    assert len(text.splitlines()) <= 8
    assert "4,000 cells of column heat, the first in line 2: is not one of low, mid, high" in text
    assert "4,000 values: 'v0' (1)" in text


# --- files --------------------------------------------------------------------------------------------------


def test_read_source_parquet_equals_csv(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "file": ["a", "b"],
            "level": [5.0, float("nan")],
            "score": [1.5, 2.0],
            "n": [1, 2],
            "at": pd.to_datetime(["2026-05-09 12:00", "2026-05-10 00:00"]),
            "word": ["x", None],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table, found = read_source(tmp_path / "t.parquet")
    assert not found
    assert table.to_numpy().tolist() == [
        ["a", "5", "1.5", "1", "2026-05-09 12:00:00", "x"],
        ["b", "", "2", "2", "2026-05-10 00:00:00", ""],
    ]
    assert list(table.index) == [1, 2]


def test_read_source_damaged_parquet_is_a_fault(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table PAR1")
    _, (fault,) = read_source(tmp_path / "t.parquet")
    assert fault.problem.startswith("is not a Parquet table")


def test_read_source_names_spreadsheets(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04")
    _, (fault,) = read_source(tmp_path / "t.xlsx")
    assert fault.problem == "is a spreadsheet (.xlsx); save it as CSV UTF-8 and give that file"


# --- times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "flags", "expected"),
    [
        ("2026-05-09T13:00:00+02:00", {}, "2026-05-09T11:00:00"),
        ("03.04.2026", {"day_first": True}, "2026-04-03T00:00:00"),
        ("3.4.2026 9:04", {"day_first": True}, "2026-04-03T09:04:00"),
        ("03/04/2026 09:04:05", {"day_first": True}, "2026-04-03T09:04:05"),
        ("03/04/2026 09:04", {"month_first": True}, "2026-03-04T09:04:00"),
        ("03/04/2026 09:04 PM", {"month_first": True}, "2026-03-04T21:04:00"),
        ("03/04/2026 12:04 am", {"month_first": True}, "2026-03-04T00:04:00"),
        ("03.04.2026", {"day_first": True, "month_first": True}, "2026-04-03T00:00:00"),
        ("03/04/2026", {"day_first": True, "month_first": True}, "2026-03-04T00:00:00"),
        ("45719,5", {"day_first": True}, "2025-03-03T12:00:00"),
        ("45719", {"month_first": True}, "2025-03-03T00:00:00"),
    ],
)
def test_parse_times_formats(cell, flags, expected):
    (time,) = parse_times(pd.Series([cell]), **flags)
    assert time.isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize(
    ("cell", "flags"),
    [
        ("03.04.2026", {}),
        ("03.04.2026", {"month_first": True}),
        ("03/04/2026 09:04 PM", {"day_first": True}),
        ("31.02.2026", {"day_first": True}),
        ("03/13/2026", {"day_first": True}),
        ("03/04/2026 13:04 PM", {"month_first": True}),
        ("99999", {"day_first": True}),
        ("now", {"day_first": True}),
        ("", {"day_first": True}),
    ],
)
def test_parse_times_rejects(cell, flags):
    assert parse_times(pd.Series([cell]), **flags).isna().all()


@given(st.datetimes(min_value=pd.Timestamp("1990-01-01"), max_value=pd.Timestamp("2100-01-01")))
def test_parse_times_day_first_reads_what_it_is_shown(time):
    cell = time.strftime("%d.%m.%Y %H:%M:%S")
    (parsed,) = parse_times(pd.Series([cell]), day_first=True)
    assert parsed.tz_localize(None) == pd.Timestamp(time).floor("s")


def test_time_advice_by_format():
    assert time_advice("03.04.2026 09:04") == ADVICE_DOTTED
    assert time_advice("45719,39") == ADVICE_DOTTED
    assert time_advice("03/04/2026") == ADVICE_SLASHED
    assert time_advice("03/04/2026 09:04 AM") == ADVICE_TWELVE
    assert time_advice("yesterday") == ""


# --- spelling -----------------------------------------------------------------------------------------------


def test_merge_case_prefers_given_spellings():
    assert merge_case(pd.Series(["ANN", "ann"]), ["Ann"]).tolist() == ["Ann", "Ann"]


def test_case_variants_compares_unicode_forms():
    assert case_variants(["Éva", "É" + "va".upper(), "E\u0301va"]) == [("E\u0301va", "ÉVA", "Éva")]

"""Quality items: reading, faults, pass rates by hand, and what is left out."""

from pathlib import Path

import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from earmark.annotation.gold import NO_QUALITY_ITEM, apply_gold, gold_from_column, pass_rate, read_gold
from earmark.annotation.options import ReadingOptions
from earmark.annotation.subsets import Columns, Subset
from earmark.annotation.tables import Annotations
from earmark.errors import DataError, EarmarkError, MissingError
from earmark.report.render import definitions
from tests.conftest import EMO, annotated

CHOICE = Subset("choice", "nominal", ("file",), levels=("joy", "anger", "fear"), columns=Columns("who", "emotion"))
VALENCE = Subset("valence", "interval", ("file", "take"))


def annotations_of(subset, rows, **columns):
    """rows: (*key, username, rating)."""
    table = pd.DataFrame(rows, columns=[*subset.key, "username", "rating"]).assign(**columns)
    empty = pd.DataFrame()
    return Annotations(subset, table, empty, empty, {}, len(table), {"superseded ratings": 1})


# gold: g1 joy, g2 fear, g3 anger. ann passes 2 of 3, ben 1 of 2, cat 0 of 1, dan rated none.
RATINGS = [
    ("g1", "ann", 0),
    ("g2", "ann", 2),
    ("g3", "ann", 2),
    ("a", "ann", 1),
    ("g1", "ben", 0),
    ("g2", "ben", 0),
    ("a", "ben", 1),
    ("b", "ben", 2),
    ("g1", "cat", 1),
    ("b", "cat", 0),
    ("a", "dan", 1),
]
GOLD = "file,expected\ng1,joy\ng2,fear\ng3,anger\n"


@pytest.fixture
def choice():
    return annotations_of(CHOICE, RATINGS)


def written(tmp_path, text):
    path = tmp_path / "gold.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_pass_rates_by_hand(tmp_path, choice):
    kept, summary = apply_gold(choice, read_gold(written(tmp_path, GOLD), choice))
    rates = {rater.username: (rater.passed, rater.pass_rate.n) for rater in summary.raters}
    assert rates == {"ann": (2, 3), "ben": (1, 2), "cat": (0, 1), "dan": (0, 0)}
    assert (summary.items, summary.ratings, summary.tolerance, summary.min_rate) == (3, 6, None, None)
    assert (summary.excluded, summary.unchecked) == ([], ["dan"])
    assert summary.raters[3].pass_rate.why == NO_QUALITY_ITEM
    assert set(kept.ratings["file"]) == {"a", "b"}
    assert kept.excluded == {"superseded ratings": 1, "ratings of quality items (--gold)": 6}


def test_raters_below_the_rate_are_left_out_and_counted(tmp_path, choice):
    kept, summary = apply_gold(choice, read_gold(written(tmp_path, GOLD), choice), min_rate=0.5)
    assert summary.excluded == ["cat"]
    assert set(kept.ratings["username"]) == {"ann", "ben", "dan"}
    reason = "ratings by cat, who passed 0 of 1 quality items (--min-gold-rate 0.5)"
    assert kept.excluded[reason] == 1
    stricter, _ = apply_gold(choice, read_gold(written(tmp_path, GOLD), choice), min_rate=0.6)
    assert set(stricter.ratings["username"]) == {"ann", "dan"}


def test_machines_are_checked_but_stay(tmp_path, choice):
    gold = read_gold(written(tmp_path, GOLD), choice)
    kept, summary = apply_gold(choice, gold, min_rate=0.9, machines=("cat",))
    assert summary.excluded == ["ann", "ben"]
    assert {"cat", "dan"} == set(kept.ratings["username"])


def test_pass_rate_is_wilson_s_interval():
    for passed, n in ((0, 4), (7, 9), (30, 30)):
        rate = pass_rate(passed, n)
        assert (rate.low, rate.high) == pytest.approx(proportion_confint(passed, n, method="wilson"), abs=1e-6)


def test_column_named_as_the_rating_is_read_too(tmp_path, choice):
    gold = read_gold(written(tmp_path, "emotion;file\njoy;g1\n"), choice)
    assert gold.expected.to_dict("list") == {"file": ["g1"], "expected": [0]}


def test_keys_that_differ_in_spelling_are_the_same_item(tmp_path):
    annotations = annotations_of(VALENCE, [("a", "5", "ann", 1.0), ("a", "6", "ann", 2.0)])
    path = written(tmp_path, "file,take,expected\na,5.0,1\n")
    assert read_gold(path, annotations).expected["take"].tolist() == ["5"]
    with pytest.raises(DataError, match="no item of valence"):
        read_gold(path, annotations, ReadingOptions(exact_keys=True))


@pytest.mark.parametrize("key", ["Clip_1.WAV", "clip_1"])
def test_files_that_differ_in_case_or_suffix_are_the_same_item(tmp_path, key):
    rows = [("clip_1.wav", "5", "ann", 1.0), ("clip_2.wav", "5", "ann", 2.0), ("clip_2.mp3", "5", "ann", 3.0)]
    annotations = annotations_of(VALENCE, rows)
    path = written(tmp_path, f"file,take,expected\n{key},5,1\n")
    assert read_gold(path, annotations).expected["file"].tolist() == ["clip_1.wav"]
    with pytest.raises(DataError, match="no item of valence"):  # two items have this name
        read_gold(written(tmp_path, "file,take,expected\nclip_2,5,1\n"), annotations)


def test_words_are_mapped_as_those_of_the_ratings(tmp_path, choice):
    path = written(tmp_path, "file,expected\ng1,Freude\ng2,FEAR\n")
    reading = ReadingOptions(map=("Freude=joy",), ignore_case=True)
    assert read_gold(path, choice, reading).expected["expected"].tolist() == [0, 2]


def test_faults_are_listed_with_lines(tmp_path, choice):
    path = written(tmp_path, "file,expected\ng1,joy\nnowhere,joy\ng2,rage\ng1,fear\ng1,joy\n")
    with pytest.raises(DataError) as caught:
        read_gold(path, choice)
    [faults] = caught.value.faults.values()
    assert [(fault.line, fault.column, fault.text) for fault in faults] == [
        (3, "", "'nowhere' is no item of choice with a rating"),
        (4, "expected", "'rage' is not one of joy, anger, fear"),
        (5, "expected", "differs from an earlier line of this item"),
    ]
    assert "Nothing was written" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clip,expected\ng1,joy\n", "column file: is missing; the header has clip, expected"),
        ("file\ng1\n", "column expected: is missing"),
        ("", "column file: is missing"),
    ],
)
def test_missing_columns_are_faults(tmp_path, choice, text, problem):
    with pytest.raises(DataError, match=problem):
        read_gold(written(tmp_path, text), choice)


def test_spreadsheet_is_a_fault(tmp_path, choice):
    with pytest.raises(DataError, match="is a spreadsheet"):
        read_gold(Path(tmp_path / "gold.xlsx"), choice)


def test_column_of_the_ratings_marks_quality_items():
    expected = ["joy", "fear", "anger", "", "joy", "fear", None, "", "joy", "", ""]
    annotations = annotations_of(CHOICE, RATINGS, answer=expected)
    kept, summary = apply_gold(annotations, gold_from_column(annotations, "answer"))
    assert summary.source == "column answer"
    assert {rater.username: rater.passed for rater in summary.raters} == {"ann": 2, "ben": 1, "cat": 0, "dan": 0}
    assert len(kept.ratings) == 5


def test_quality_item_counts_for_raters_whose_line_does_not_mark_it():
    rows = [("g", "ann", 0), ("g", "ben", 1), ("a", "ann", 0)]
    annotations = annotations_of(CHOICE, rows, answer=["joy", "", ""])
    kept, summary = apply_gold(annotations, gold_from_column(annotations, "answer"))
    assert [rater.pass_rate.n for rater in summary.raters] == [1, 1]
    assert kept.ratings["file"].tolist() == ["a"]


def test_faults_of_a_column_are_grouped():
    rows = [("a", "ann", 0), ("a", "ben", 1), ("b", "ann", 0), ("b", "ben", 0)]
    annotations = annotations_of(CHOICE, rows, answer=["joy", "fear", "rage", "rage"])
    with pytest.raises(EarmarkError) as caught:
        gold_from_column(annotations, "answer")
    assert "'rage' (2 times) is not one of joy, anger, fear" in str(caught.value)
    assert "different expected ratings of the same item: a." in str(caught.value)
    with pytest.raises(MissingError, match="--gold-column gold: the table of choice has no such column"):
        gold_from_column(annotations, "gold")


def test_tolerance_on_an_interval_scale(tmp_path):
    annotations = annotations_of(VALENCE, [("a", "1", "ann", 0.3), ("a", "1", "ben", 0.41), ("a", "1", "cat", 0.2)])
    gold = read_gold(written(tmp_path, "file,take,expected\na,1,0.1\n"), annotations)
    passed = {
        tolerance: [rater.passed for rater in apply_gold(annotations, gold, tolerance=tolerance)[1].raters]
        for tolerance in (0.0, 0.1, 0.2)
    }
    # 0.3 − 0.1 is 0.19999999999999998 or 0.20000000000000001 in floating point; both are 0.2.
    assert passed == {0.0: [0, 0, 0], 0.1: [0, 0, 1], 0.2: [1, 0, 1]}


def test_numbers_with_a_word_or_comma_are_faults(tmp_path):
    annotations = annotations_of(VALENCE, [("a", "1", "ann", 0.3), ("b", "1", "ann", 0.3)])
    path = written(tmp_path, "file;take;expected\na;1;0,3\nb;1;high\n")
    with pytest.raises(DataError, match="'0,3' is not a number"):
        read_gold(path, annotations)
    read = read_gold(
        written(tmp_path, "file;take;expected\na;1;0,3\n"), annotations, ReadingOptions(decimal_comma=True)
    )
    assert read.expected["expected"].tolist() == [0.3]


def test_decided_ordinal_scale_needs_the_same_rating(tmp_path):
    annotations = annotated(tmp_path, EMO, {"1.mp3": {"user_0": 1, "user_1": 2}, "2.mp3": {"user_0": 0}})
    key = ",".join(EMO.key)
    row = annotations.ratings.iloc[0]
    text = f"{key},expected\n" + ",".join(row[list(EMO.key)]) + f",{EMO.levels[1]}\n"
    _, summary = apply_gold(annotations, read_gold(written(tmp_path, text), annotations))
    assert {rater.username: rater.passed for rater in summary.raters} == {"user_0": 1, "user_1": 0}


@pytest.mark.parametrize(
    "options", [{"tolerance": -1.0}, {"tolerance": float("nan")}, {"tolerance": 1.0}, {"min_rate": 1.5}]
)
def test_meaningless_options_are_refused(tmp_path, choice, options):
    gold = read_gold(written(tmp_path, GOLD), choice)
    with pytest.raises(ValueError, match=r"is a number|is in \[0, 1\]"):
        apply_gold(choice, gold, **options)


def test_all_items_may_be_quality_items(tmp_path):
    annotations = annotations_of(CHOICE, RATINGS[:3])
    kept, summary = apply_gold(annotations, read_gold(written(tmp_path, GOLD), annotations))
    assert len(kept.ratings) == 0 and summary.ratings == 3


def test_no_quality_item_changes_nothing(tmp_path, choice):
    gold = read_gold(written(tmp_path, "file,expected\n"), choice)
    kept, summary = apply_gold(choice, gold, min_rate=0.9)
    assert len(kept.ratings) == len(RATINGS) and summary.items == 0
    assert summary.unchecked == ["ann", "ben", "cat", "dan"]


def test_pass_rate_is_defined():
    assert "gold_pass_rate" in definitions()

"""Usernames result in many spellings, and text that is not a name."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.annotation.leaks import ScanResult, scan
from earmark.annotation.pseudonyms import pseudonymise
from tests.conftest import users_table


def scanned(cell, *names, column="reason"):
    return scan(pd.DataFrame({column: [cell]}, index=[7]), names, ())


def leaks(cell, *names):
    return [fault.problem for fault in scanned(cell, *names).faults]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("ann", "ann"),
        ("ann", "as ANN said"),
        ("ann", "(ann)"),
        ("ann", "ann's microphone"),
        ("ann", "see ann_0012.mp3"),
        ("Ann", "clip/ann/sample.mp3"),
        ("ann.smith", "ask Ann Smith"),
        ("ann.smith", "ann-smith"),
        ("ann smith", "ANN_SMITH.mp3"),
        ("zoë", "ZOË was here"),
        ("zoë", "zoe\u0308 was here"),  # the same letter in two code points
        ("straße", "STRASSE"),
        ("王芳", "by 王芳, twice"),
        ("ann2", "ann2!"),
        ("ann", "two\nlines, ann"),
        ("!!!", "so said !!! to me"),
        ("zoë", "zoe"),
        ("zoe", "said ZOË"),
        ("ann.smith", "smith, ann"),
        ("ann.smith", "ask annsmith"),
        ("annasmith", "ask Anna Smith"),
        ("ann.smith", "annsmith99 said"),
        ("anna.k@uni.example", "this is the clip anna.k complained about"),
        ("李小龙", "我觉得李小龙说得不对"),
        ("田中", "田中さんが言った"),
        ("สมชาย", "ผมคิดว่าสมชายพูดถูก"),
        ("김철수", "김철수가 그랬어요"),
        ("anna.schmidt", "我觉得anna.schmidt说得不对"),
        ("ann", "ａｎｎ said"),
        ("anna.schmidt", "askAnnaSchmidtAgain"),
        ("李小龙.k", "我觉得李小龙说得不对"),
        ("yılmaz", "as Yilmaz said"),
        ("lukasz", "as Łukasz said"),
    ],
)
def test_scan_finds_username_variants(name, cell):
    assert leaks(cell, "someone", name) == ["contains a raw username"]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("ann", "an annotation by Joanna"),
        ("ann.smith", "an or smi"),
        ("ben", "Benefit"),
        ("eve", ""),
    ],
)
def test_scan_ignores_parts_of_words(name, cell):
    result = scanned(cell, name)
    assert (result.faults, result.doubtful) == ([], [])


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("ann.smith", "Smith said so"),
        ("ann", "ann2"),
        ("anna99", "as anna said"),
        ("bob.müller", "mueller again"),
        ("joy@uni.example", "Joyful, or joy"),
        ("carla@uni.example", "carla heard it"),
        ("goout", "go out"),
        ("anna.schmidt", "annaschmidtsagt"),
        ("anna.schmidt", "Schmidts Meinung"),
        ("bob.mueller", "Müller again"),
        ("أحمد", "وأحمد"),
        ("иван", "Ивана"),
    ],
)
def test_scan_lists_possible_names_as_doubtful(name, cell):
    result = scanned(cell, name)
    assert result.faults == []
    expected = [] if name.startswith("joy") else ["contains a possible name (part or variant of a username)"]
    assert [fault.problem for fault in result.doubtful] == expected


def test_scan_checks_column_headers():
    (fault,) = scan(pd.DataFrame({"Ann Smith": ["x"]}, index=[2]), ["ann.smith"], ()).faults
    assert (fault.line, fault.problem) == (1, "the header contains a raw username")


@pytest.mark.parametrize(
    ("cell", "find"),
    [
        ("mail me: jo.doe+ears@uni-x.ac.uk!", "an e-mail address"),
        ("<JO@EXAMPLE.ORG>", "an e-mail address"),
        ("from /home/jo/clips/a.wav", "a path to a home folder"),
        ("/Users/jo/a.wav", "a path to a home folder"),
        (r"C:\Users\jo\a.wav", "a path to a home folder"),
        (r"d:\users\jo", "a path to a home folder"),
        ("file:///home/jo", "a path to a home folder"),
        ("~jo/a.wav", "a path to a home folder"),
        ("C:/Users/jo/a.wav", "a path to a home folder"),
        ("/root/a.wav", "a path to a home folder"),
        (r"\\\\server\Users\jo\a.wav", "a path to a home folder"),
        ("/mnt/c/Users/jo/a.wav", "a path to a home folder"),
        (r"C:\Documents and Settings\jo", "a path to a home folder"),
        ("$HOME/a.wav", "a path to a home folder"),
    ],
)
def test_scan_finds_addresses_and_home_folders(cell, find):
    assert leaks(cell, "ann") == [f"contains {find}"]


@pytest.mark.parametrize("cell", ["3 @ 5", "loud@night", "at home/work", "/homework/x", "Users differ", "a ~ b/c"])
def test_scan_ignores_similar_text(cell):
    assert leaks(cell, "ann") == []


def test_fault_does_not_repeat_name():
    (fault,) = scan(pd.DataFrame({"file_name": ["x", "ann-b.mp3"]}, index=[2, 9]), ["ann.b"], ()).faults
    assert (fault.line, fault.column) == (9, "file_name")
    assert "ann" not in fault.problem


def test_scan_skips_checked_columns():
    table = pd.DataFrame({"file_name": ["no"], "degree": ["no"], "rating": ["no"]}, index=[2])
    assert [fault.column for fault in scan(table, ["no"], ("rating",)).faults] == ["file_name", "degree"]


@pytest.mark.parametrize("name", ["user", "User"])
def test_username_user_not_found_in_pseudonym(name):
    table = pseudonymise({"users": users_table(name)}, {name: "user_0"})["users"]
    assert scan(table, [name], ()) == ScanResult()


@given(
    st.sampled_from(["ann", "ben.k", "Zoë 2", "o'neil"]),
    st.text(st.characters(categories=["P", "Zs"]), max_size=3),
    st.text(st.characters(categories=["P", "Zs"]), max_size=3),
)
def test_scan_ignores_punctuation(name, before, after):
    assert leaks(f"heard{before or ' '}{name.upper()}{after or ' '}there", name)

"""Equivalent spellings of keys, and similar ones."""

import pandas as pd
import pytest

from earmark.annotation.spelling import canonical_key, lookalikes, merged_files, merged_spellings, same_files


@pytest.mark.parametrize(
    ("one", "other"),
    [("5", "5.0"), ("Cafe\u0301", "Caf\u00e9"), ("a b", " a  b "), ("a.mp3", "a.mp3\u200b")],
)
def test_merged_spellings_are_equivalent(one, other):
    assert canonical_key(one) == canonical_key(other)
    assert merged_spellings(pd.Series([one, one, other])) == {other: one}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Joy", "joy"),
        ("a.mp3", "clips/a.wav"),
        ("5", "05"),
        ("5", "\uff15"),
        ("5", "+5"),
        ("5", "5."),
        ("5", "5,0"),
        ("a b.mp3", "a%20b.mp3"),
        ("a.mp3", "a.mp3.wav"),
        ("a.mp3", "https://host/a.mp3?x=1"),
        ("a.webm", "a.amr"),
    ],
)
def test_lookalikes_are_reported_not_merged(one, other):
    assert merged_spellings(pd.Series([one, other])) == {}
    assert lookalikes(pd.Series([one, other, "unlike.mp3"])) == [tuple(sorted((one, other)))]


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        (["a.wav", "A.WAV"], [("A.WAV", "a.wav")]),
        (["a.wav", "a.mp3", "a"], [("a", "a.mp3", "a.wav")]),
        (["a.wav", "clips/a.wav", "/data/clips/a.wav"], [("/data/clips/a.wav", "a.wav", "clips/a.wav")]),
        (["x/a.wav", "y/a.wav"], []),
        (["x/a.wav", "y/a.wav", "a.wav"], []),
        (["x/a.wav", "y/a.wav", "X/a.mp3"], [("X/a.mp3", "x/a.wav")]),
        (["happy/sad", "sad"], []),
        (["happy/sad", "Happy/Sad"], [("Happy/Sad", "happy/sad")]),
        (["a_1.wav", "a_01.wav"], []),
        ([".wav", "x.wav"], []),
    ],
)
def test_same_files_differ_in_case_suffix_or_folder(values, groups):
    assert same_files(values) == groups


def test_merged_files_compares_raters_within_the_rest_of_the_key():
    table = pd.DataFrame(
        {
            "file": ["a.wav", "a.wav", "a.mp3", "b.wav", "b.mp3"],
            "question": ["q", "r", "r", "q", "r"],
            "username": ["x", "y", "z", "x", "x"],
        }
    )
    assert merged_files(table, "file", ["question", "username"]) == {"a.mp3": "a.wav", "b.wav": "b.mp3"}
    assert merged_files(table, "file", ["username"]) == {"a.mp3": "a.wav"}

"""Keys that surely mean one item, and keys that may."""

import pandas as pd
import pytest

from earmark.annotation.spelling import lookalikes, plain, respellings


@pytest.mark.parametrize(
    ("one", "other"),
    [("5", "5.0"), ("Cafe\u0301", "Caf\u00e9"), ("a b", " a  b "), ("a.mp3", "a.mp3\u200b")],
)
def test_plain_is_the_same_for_spellings_of_one_meaning(one, other):
    assert plain(one) == plain(other)
    assert respellings(pd.Series([one, one, other])) == {other: one}


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
def test_lookalikes_are_named_and_not_joined(one, other):
    assert respellings(pd.Series([one, other])) == {}
    assert lookalikes(pd.Series([one, other, "unlike.mp3"])) == [tuple(sorted((one, other)))]

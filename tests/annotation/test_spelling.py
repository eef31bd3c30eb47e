"""Equivalent spellings of keys, and similar ones."""

import pandas as pd
import pytest

from earmark.annotation.spelling import canonical_key, lookalikes, merged_spellings


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

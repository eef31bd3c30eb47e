"""Stable pseudonyms, k-anonymity, age bands and coarse times."""

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.annotation.labels import majority_labels
from earmark.annotation.pseudonyms import (
    anonymity,
    assign_pseudonyms,
    band_ages,
    coarsen_times,
    describe_anonymity,
    looks_like_pseudonym,
    pseudonymise,
    read_map,
)
from earmark.annotation.tables import load_annotations
from earmark.errors import DataError
from tests.conftest import DIM, EMO, ratings_table, users_table, write_tables

# --- pseudonyms ---------------------------------------------------------------------------------------------


def test_assign_pseudonyms_in_sorted_order():
    assert assign_pseudonyms(["cat", "ann", "ben"], {}) == {"ann": "user_0", "ben": "user_1", "cat": "user_2"}


def test_assign_pseudonyms_extends_map():
    known = {"mia": "user_0", "zoe": "user_1"}
    assert assign_pseudonyms(["zoe", "mia", "ben", "ann"], known) == {**known, "ann": "user_2", "ben": "user_3"}


def test_assign_pseudonyms_never_reuses_numbers():
    known = {"ann": "user_0", "ben": "user_7"}
    assert assign_pseudonyms(["cat"], known) == {"ann": "user_0", "ben": "user_7", "cat": "user_8"}


@pytest.mark.slow
@given(st.lists(st.sets(st.text(min_size=1, max_size=4), max_size=6), min_size=2, max_size=4))
def test_assign_pseudonyms_stable_and_unique(releases):
    known = {}
    for users in releases:
        extended = assign_pseudonyms(users, known)
        assert known.items() <= extended.items()
        assert set(extended) == set(known) | users
        assert len(set(extended.values())) == len(extended)
        known = extended


def test_read_map(tmp_path):
    path = tmp_path / "_anon_map.csv"
    path.write_text('raw_username,anon_username\n"Smith, Ann",user_0\nzoë,user_12\n', encoding="utf-8")
    assert read_map(path) == {"Smith, Ann": "user_0", "zoë": "user_12"}
    assert read_map(tmp_path / "not_there.csv") == {}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("raw_username,anon_username\nann,user_0\nben,user_0\n", 3, "anon_username"),
        ("raw_username,anon_username\nann,user_0\nann,user_1\n", 3, "raw_username"),
        ("raw_username,anon_username\nann,user_0\nben,ben\n", 3, "anon_username"),
        ("raw_username,anon_username\nann,user_x\n", 2, "anon_username"),
        ("raw_username,pseudonym\nann,user_0\n", 1, "anon_username"),
        ("raw_username,anon_username\nann,user_0\nben\n", 3, ""),
        ("raw_username,anon_username\n,user_0\n", 2, "raw_username"),
        ("", 1, "anon_username"),
    ],
    ids=[
        "one id twice",
        "one name twice",
        "no pseudonym",
        "no number",
        "column missing",
        "cut off",
        "no name",
        "zero bytes",
    ],
)
def test_read_map_rejects_invalid_lines(tmp_path, text, line, column):
    path = tmp_path / "_anon_map.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="Restore the map") as caught:
        read_map(path)
    (faults,) = caught.value.faults.values()
    assert (line, column) in [(fault.line, fault.column) for fault in faults]
    assert "ann" not in str(caught.value).replace("_anon_map.csv", "").replace("anon_username", "")


def test_pseudonymise_changes_only_usernames():
    tables = {
        "users": users_table("ann", "ben", degree=["ann", "master"]),
        "annotations": ratings_table(DIM, {"ann.mp3": {"ben": 1}}),
    }
    result = pseudonymise(tables, {"ann": "user_0", "ben": "user_1"})
    assert result["users"].to_numpy().tolist() == [["user_0", "ann"], ["user_1", "master"]]
    assert result["annotations"].loc[0, ["username", "file_name"]].tolist() == ["user_1", "ann.mp3"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user_3", True),
        ("USER-3", True),
        ("user 03", True),
        ("user_x", False),
        ("user_3b", False),
        ("my_user_3", False),
    ],
)
def test_looks_like_pseudonym(name, expected):
    assert looks_like_pseudonym(name) is expected


# --- k-anonymity --------------------------------------------------------------------------------------------

FOUR = users_table(
    "a", "b", "c", "d", age=["29", "29", "34", "34"], gender=["f", "f", "m", "f"], hobby=["1", "2", "3", "4"]
)


def test_anonymity_k_is_smallest_group():
    """Two users with 29 and f; the users with 34 are unique. hobby is not a demographic column."""
    result = anonymity(FOUR)
    assert (result.k, result.n_users, result.n_unique) == (1, 4, 2)
    assert result.unique_by == {"age": 0, "gender": 1}


def test_anonymity_with_fewer_columns():
    result = anonymity(FOUR.drop(columns="gender"))
    assert (result.k, result.n_unique, result.unique_by) == (2, 0, {"age": 0})


def test_anonymity_without_demographics():
    assert anonymity(users_table("a", "b", "c")).k == 3


def test_anonymity_without_users():
    assert anonymity(FOUR.iloc[:0]).k == 0


def test_anonymity_empty_cell_is_a_value():
    assert anonymity(users_table("a", "b", "c", age=["", "", "30"])).n_unique == 1


@pytest.mark.parametrize(
    ("users", "line"),
    [
        (
            FOUR.drop(columns="hobby"),
            "k = 1 over age, gender; 2 of 4 users are unique (by one column: gender (1))",
        ),
        (FOUR[["username", "age"]], "k = 2 over age; 0 of 4 users are unique"),
        (
            users_table("a", "b", "c", "d", age=["1", "1", "2", "2"], gender=["f", "m", "f", "m"]),
            "k = 1 over age, gender; 4 of 4 users are unique (only by a combination of columns)",
        ),
    ],
)
def test_describe_anonymity(users, line):
    assert describe_anonymity(anonymity(users), [column for column in ("age", "gender") if column in users]) == line


def test_band_ages():
    banded, faults = band_ages(users_table(*"abcde", age=["29", "30", "39", "", "40"]), 10)
    assert banded["age"].tolist() == ["20-29", "30-39", "30-39", "", "40-49"]
    assert faults == []


@pytest.mark.parametrize("age", ["about 30", "30-39", "inf"])
def test_band_ages_rejects_invalid_age(age):
    users = users_table("a", "b", age=["30", age])
    users.index = [2, 3]
    _, faults = band_ages(users, 10)
    assert [(fault.line, fault.column) for fault in faults] == [(3, "age")]


def test_band_ages_without_age_column():
    users = users_table("a")
    assert band_ages(users, 5)[0].equals(users)


# --- times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "cut"), [("day", "2026-05-09"), ("month", "2026-05")])
def test_coarsen_times(unit, cut):
    assert coarsen_times(ratings_table(DIM, {"a.mp3": {"ann": 1}}), unit)["created_at"].tolist() == [cut]


def test_coarsen_times_without_times():
    assert coarsen_times(users_table("ann"), "day").equals(users_table("ann"))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(["day", "month"]))
def test_coarsen_times_keeps_newest_rating(hours, unit):
    """ann rates two items three times each on one day; lines in any order."""
    votes = {f"{item}.mp3": {str(n): n for n in range(3)} for item in "ab"}
    exact = ratings_table(EMO, votes).assign(username="ann", created_at=[f"2026-05-09 {h:02}:00:00" for h in hours])
    labels = []
    for table in (exact, coarsen_times(exact, unit)):
        with tempfile.TemporaryDirectory() as folder:
            labels.append(majority_labels(load_annotations(write_tables(Path(folder), table), EMO)))
    pd.testing.assert_frame_equal(*labels)


def test_coarsen_times_uses_utc():
    """00:30 at UTC+2 is the previous day in UTC."""
    table = ratings_table(DIM, {"a.mp3": {"ann": 1}}).assign(created_at="2026-05-10T00:30:00+02:00")
    assert coarsen_times(table, "day")["created_at"].tolist() == ["2026-05-09"]

"""Pseudonyms that stay, and names that are found wherever they hide."""

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


def test_the_first_run_counts_in_sorted_order():
    assert assign_pseudonyms(["cat", "ann", "ben"], {}) == {"ann": "user_0", "ben": "user_1", "cat": "user_2"}


def test_new_people_come_after_the_highest_id_and_nobodys_changes():
    known = {"mia": "user_0", "zoe": "user_1"}
    assert assign_pseudonyms(["zoe", "mia", "ben", "ann"], known) == {**known, "ann": "user_2", "ben": "user_3"}


def test_the_id_of_someone_who_left_is_not_given_again():
    known = {"ann": "user_0", "ben": "user_7"}
    assert assign_pseudonyms(["cat"], known) == {"ann": "user_0", "ben": "user_7", "cat": "user_8"}


@pytest.mark.slow
@given(st.lists(st.sets(st.text(min_size=1, max_size=4), max_size=6), min_size=2, max_size=4))
def test_an_id_once_given_stays_and_names_one_person(releases):
    given_before = {}
    for people in releases:
        now = assign_pseudonyms(people, given_before)
        assert given_before.items() <= now.items()
        assert set(now) == set(given_before) | people
        assert len(set(now.values())) == len(now)
        given_before = now


def test_a_map_is_read_as_it_was_written(tmp_path):
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
def test_a_damaged_map_is_refused_with_its_line(tmp_path, text, line, column):
    path = tmp_path / "_anon_map.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="Restore the map") as caught:
        read_map(path)
    (faults,) = caught.value.faults.values()
    assert (line, column) in [(fault.line, fault.column) for fault in faults]
    assert "ann" not in str(caught.value).replace("_anon_map.csv", "").replace("anon_username", "")


def test_usernames_are_replaced_and_nothing_else():
    tables = {
        "users": users_table("ann", "ben", degree=["ann", "master"]),
        "annotations": ratings_table(DIM, {"ann.mp3": {"ben": 1}}),
    }
    found = pseudonymise(tables, {"ann": "user_0", "ben": "user_1"})
    assert found["users"].to_numpy().tolist() == [["user_0", "ann"], ["user_1", "master"]]
    assert found["annotations"].loc[0, ["username", "file_name"]].tolist() == ["user_1", "ann.mp3"]


@pytest.mark.parametrize(
    ("name", "mistakable"),
    [
        ("user_3", True),
        ("USER-3", True),
        ("user 03", True),
        ("user_x", False),
        ("user_3b", False),
        ("my_user_3", False),
    ],
)
def test_a_name_like_user_3_could_be_mistaken_for_a_pseudonym(name, mistakable):
    assert looks_like_pseudonym(name) is mistakable


# --- k-anonymity --------------------------------------------------------------------------------------------

FOUR = users_table(
    "a", "b", "c", "d", age=["29", "29", "34", "34"], gender=["f", "f", "m", "f"], hobby=["1", "2", "3", "4"]
)


def test_k_is_the_smallest_group_alike_in_all_demographic_columns():
    """Two women of 29; a man and a woman of 34 stand alone. hobby is no demographic column."""
    found = anonymity(FOUR)
    assert (found.k, found.n_users, found.n_unique) == (1, 4, 2)
    assert found.unique_by == {"age": 0, "gender": 1}


def test_k_grows_when_a_column_goes():
    found = anonymity(FOUR.drop(columns="gender"))
    assert (found.k, found.n_unique, found.unique_by) == (2, 0, {"age": 0})


def test_without_demographics_everyone_is_alike():
    assert anonymity(users_table("a", "b", "c")).k == 3


def test_without_people_k_is_zero():
    assert anonymity(FOUR.iloc[:0]).k == 0


def test_an_empty_answer_is_an_answer_too():
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
def test_the_columns_that_make_people_unique_are_named(users, line):
    assert describe_anonymity(anonymity(users), [column for column in ("age", "gender") if column in users]) == line


def test_ages_become_bands():
    banded, faults = band_ages(users_table(*"abcde", age=["29", "30", "39", "", "40"]), 10)
    assert banded["age"].tolist() == ["20-29", "30-39", "30-39", "", "40-49"]
    assert faults == []


@pytest.mark.parametrize("age", ["about 30", "30-39", "inf"])
def test_an_age_that_is_no_number_cannot_be_banded(age):
    users = users_table("a", "b", age=["30", age])
    users.index = [2, 3]
    _, faults = band_ages(users, 10)
    assert [(fault.line, fault.column) for fault in faults] == [(3, "age")]


def test_banding_without_ages_changes_nothing():
    users = users_table("a")
    assert band_ages(users, 5)[0].equals(users)


# --- times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "cut"), [("day", "2026-05-09"), ("month", "2026-05")])
def test_times_are_cut(unit, cut):
    assert coarsen_times(ratings_table(DIM, {"a.mp3": {"ann": 1}}), unit)["created_at"].tolist() == [cut]


def test_a_table_without_times_is_left_alone():
    assert coarsen_times(users_table("ann"), "day").equals(users_table("ann"))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(["day", "month"]))
def test_coarse_times_keep_which_rating_is_the_newest(hours, unit):
    """ann rates two items three times each, in lines of any order, all on one day."""
    votes = {f"{item}.mp3": {str(n): n for n in range(3)} for item in "ab"}
    exact = ratings_table(EMO, votes).assign(username="ann", created_at=[f"2026-05-09 {h:02}:00:00" for h in hours])
    labels = []
    for table in (exact, coarsen_times(exact, unit)):
        with tempfile.TemporaryDirectory() as folder:
            labels.append(majority_labels(load_annotations(write_tables(Path(folder), table), EMO)))
    pd.testing.assert_frame_equal(*labels)


def test_coarse_times_are_those_of_one_clock():
    """Half past midnight two hours east of Greenwich was still the day before."""
    table = ratings_table(DIM, {"a.mp3": {"ann": 1}}).assign(created_at="2026-05-10T00:30:00+02:00")
    assert coarsen_times(table, "day")["created_at"].tolist() == ["2026-05-09"]

"""Majority labels of a few ratings, checked by hand."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.annotation.labels import majority_labels
from earmark.annotation.tables import load_annotations
from tests.conftest import DIM, EMO, annotated, flags_table, ratings_table, users_table, write_tables

NOT, WEAK, STRONG = 0, 1, 2
RATERS = ["ann", "ben", "cat", "dan", "eve", "fay", "gus"]


def label(folder, subset, *ratings, ties="exclude"):
    """The label of one item with these ratings by ann, ben, cat, …."""
    return majority_labels(annotated(folder, subset, {"a.mp3": dict(zip(RATERS, ratings, strict=False))}), ties).loc[0]


@pytest.mark.parametrize(
    ("ratings", "bucket", "majority"),
    [
        ((STRONG,), "single_rater_present", 1),
        ((NOT,), "single_rater_absent", 0),
        ((WEAK, STRONG), "unanimous_present", 1),
        ((NOT, NOT, NOT), "unanimous_absent", 0),
        ((WEAK, STRONG, NOT), "majority_present", 1),
        ((NOT, NOT, STRONG), "majority_absent", 0),
    ],
)
def test_bucket_emo(tmp_path, ratings, bucket, majority):
    row = label(tmp_path, EMO, *ratings)
    assert (row["benchmark_bucket"], row["majority_present"]) == (bucket, majority)
    assert not row["majority_present_tie"]


@pytest.mark.parametrize(
    ("ratings", "bucket", "majority"),
    [
        ((1,), "single_rater_yes", 1),
        ((0,), "single_rater_no", 0),
        ((1, 1), "unanimous_yes", 1),
        ((0, 0), "unanimous_no", 0),
        ((1, 1, 0), "majority_yes", 1),
        ((0, 0, 1), "majority_no", 0),
    ],
)
def test_bucket_dim(tmp_path, ratings, bucket, majority):
    row = label(tmp_path, DIM, *ratings)
    assert (row["benchmark_bucket"], row["majority_present"]) == (bucket, majority)


@pytest.mark.parametrize("subset", [EMO, DIM], ids=["emo", "dim"])
def test_tie_has_no_label(tmp_path, subset):
    row = label(tmp_path, subset, 1, 0)
    assert row["benchmark_bucket"] == "tie"
    assert row["majority_present_tie"]
    assert pd.isna(row["majority_present"])
    assert pd.isna(row["majority_rating"])
    assert pd.isna(row["majority_rating_int"])
    assert pd.isna(row[subset.names["matches_expected"]])
    assert (row["majority_present_votes"], row["n_raters"], row["soft_present"]) == (1, 2, 0.5)


@pytest.mark.parametrize(("subset", "bucket"), [(EMO, "majority_absent"), (DIM, "majority_no")], ids=["emo", "dim"])
def test_ties_absent_matches_emolia_bench(tmp_path, subset, bucket):
    row = label(tmp_path, subset, 1, 0, ties="absent")
    assert row["benchmark_bucket"] == bucket
    assert row["majority_present"] == 0
    assert row["majority_present_tie"]
    assert row["majority_rating"] == subset.levels[0]
    assert not row[subset.names["matches_expected"]]


def test_ties_absent_changes_only_ties(tmp_path):
    votes = {"a.mp3": {"ann": 1, "ben": 1, "cat": 0}, "b.mp3": {"ann": 0}, "c.mp3": {"ann": 2, "ben": 0}}
    annotations = annotated(tmp_path, EMO, votes)
    excluded, published = majority_labels(annotations), majority_labels(annotations, "absent")
    pd.testing.assert_frame_equal(excluded[:2], published[:2])
    assert published["majority_present"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("ratings", "rating", "from_median"),
    [
        ((STRONG, STRONG, WEAK), "strongly_present", False),
        ((WEAK, STRONG), "weakly_present", True),  # both once: the lower median
        ((NOT, WEAK, STRONG), "weakly_present", True),  # each once
        ((NOT, NOT, NOT, WEAK, WEAK, STRONG, STRONG), "weakly_present", True),  # most say not, yet 4 of 7 say present
        ((NOT, NOT, WEAK, STRONG, STRONG), "weakly_present", True),  # two modes
        ((NOT, NOT, STRONG), "not_present", False),
        ((STRONG,), "strongly_present", False),
    ],
)
def test_majority_rating_is_mode_or_lower_median(tmp_path, ratings, rating, from_median):
    row = label(tmp_path, EMO, *ratings)
    assert row["majority_rating"] == rating
    assert row["majority_rating_int"] == EMO.levels.index(rating)
    assert row["majority_rating_tie"] == from_median


def test_votes_per_level(tmp_path):
    row = label(tmp_path, EMO, NOT, WEAK, WEAK, STRONG)
    counts = [row[f"{name}_votes"] for name in ("not_present", "weakly_present", "strongly_present")]
    assert counts == [1, 2, 1]
    assert row["majority_rating_votes"] == 2
    assert row["majority_present_votes"] == 3
    assert row["soft_present"] == 0.75
    dimension = label(tmp_path, DIM, 1, 0, 0)
    assert (dimension["yes_votes"], dimension["no_votes"]) == (1, 2)


@pytest.mark.parametrize(
    ("ratings", "binary", "ordinal"),
    [
        ((WEAK, STRONG), True, False),
        ((STRONG, STRONG), True, True),
        ((NOT, WEAK), False, False),
        ((STRONG,), False, False),  # a single rater
    ],
)
def test_all_agree_needs_two_raters(tmp_path, ratings, binary, ordinal):
    row = label(tmp_path, EMO, *ratings)
    assert (row["all_agree_binary"], row["all_agree_ordinal"]) == (binary, ordinal)


@pytest.mark.parametrize(
    ("task_type", "rating", "intended", "matches"),
    [
        ("affirmative", STRONG, 1, True),
        ("affirmative", NOT, 1, False),
        ("contrastive_1", NOT, 0, True),
        ("ultimate", WEAK, 0, False),
    ],
)
def test_expected_label_emo(tmp_path, task_type, rating, intended, matches):
    labels = majority_labels(annotated(tmp_path, EMO, {("a.mp3", "Joy", task_type): {"ann": rating}}))
    assert labels.loc[0, ["intended_present", "matches_intended_label"]].tolist() == [intended, matches]


@pytest.mark.parametrize(("polarity", "matches"), [("positive", True), ("negative", False)])
def test_expected_label_dim(tmp_path, polarity, matches):
    labels = majority_labels(annotated(tmp_path, DIM, {("a.mp3", "TEMP", "0", polarity): {"ann": 1, "ben": 1}}))
    assert bool(labels.loc[0, "matches_intended_polarity"]) is matches


def test_labels_include_raters_and_times(tmp_path):
    table = ratings_table(EMO, {"a.mp3": {"cat": 1, "ann": 1, "ben": 0}})
    table["reaction_time_ms"] = ["100", "", "500"]
    table["sample_time_ms"] = ["10", "20", "60"]
    labels = majority_labels(load_annotations(write_tables(tmp_path, table), EMO))
    assert labels.loc[0, "usernames"] == "ann|ben|cat"
    assert labels.loc[0, "n_raters"] == 3
    assert labels.loc[0, "source_emotion"] == "Sadness"
    assert labels.loc[0, ["reaction_time_ms_mean", "reaction_time_ms_median", "sample_time_ms_mean"]].tolist() == [
        300,
        300,
        30,
    ]


def test_flag_marks_only_its_item(tmp_path):
    votes = {("a.mp3", "TEMP", "0", "positive"): {"ann": 1}, ("a.mp3", "TEMP", "0", "negative"): {"ann": 0}}
    flags = flags_table(DIM, (("a.mp3", "TEMP", "0", "negative"), "ann", "noise, and a comma"))
    assert majority_labels(annotated(tmp_path, DIM, votes, flags))["flagged"].tolist() == [True, False]


def test_labels_sorted_by_key_with_text_levels(tmp_path):
    levels = ["European", "5", "10", "05"]
    votes = {("s.mp3", "ACCT", level, "positive"): {"ann": 1} for level in levels}
    labels = majority_labels(annotated(tmp_path, DIM, {**votes, ("a.mp3", "TEMP", "9", "negative"): {"ann": 0}}))
    assert labels["file_name"].tolist() == ["a.mp3"] + ["s.mp3"] * 4
    assert labels["level"].tolist() == ["9", "05", "10", "5", "European"]


# --- repeated ratings ---------------------------------------------------------------------------------------


def repeated(times):
    """Ratings not, weak, strong of one item by ann at these times."""
    table = ratings_table(EMO, {"a.mp3": {"1": NOT, "2": WEAK, "3": STRONG}})
    return table.assign(username="ann", created_at=times)


@pytest.mark.parametrize(
    ("times", "newest"),
    [
        (["2026-05-09 10:00:00", "2026-05-09 12:00:00", "2026-05-09 11:00:00"], "weakly_present"),
        (["2026-05-10", "2026-05-09", "2026-05-08"], "not_present"),
        (["2026-05-09 12:00:00"] * 3, "strongly_present"),  # equal times: the last line
        (["2026-05-09T12:00:00Z", "2026-05-09T11:30:00-01:00", "2026-05-09T13:00:00+02:00"], "weakly_present"),
    ],
)
def test_repeated_rating_keeps_newest(tmp_path, times, newest):
    annotations = load_annotations(write_tables(tmp_path, repeated(times)), EMO)
    labels = majority_labels(annotations)
    assert labels["majority_rating"].tolist() == [newest]
    assert labels["n_raters"].tolist() == [1]
    assert (annotations.rows_raw, len(annotations.ratings)) == (3, 1)


def test_ratings_of_other_items_are_not_repeats(tmp_path):
    votes = {("a.mp3", "Joy", "affirmative"): {"ann": 1}, ("a.mp3", "Fear", "affirmative"): {"ann": 0}}
    assert annotated(tmp_path, EMO, votes).ratings["rating"].tolist() == [0, 1]


# --- properties ---------------------------------------------------------------------------------------------


def some_votes(levels):
    files = st.sampled_from(["a.mp3", "b.mp3", "c.mp3", "d.mp3"])
    by_rater = st.dictionaries(st.sampled_from(RATERS), st.integers(0, levels - 1), min_size=1)
    return st.dictionaries(files, by_rater, min_size=1)


def labels_of(subset, table, ties="exclude"):
    with tempfile.TemporaryDirectory() as folder:
        users = users_table(*RATERS, *[f"renamed-{name}" for name in RATERS])
        annotations = load_annotations(write_tables(Path(folder), table, users), subset)
    return majority_labels(annotations, ties)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(some_votes(3), st.sampled_from(["exclude", "absent"]))
def test_majority_rating_consistent_with_majority_present(votes, ties):
    labels = labels_of(EMO, ratings_table(EMO, votes), ties)
    for row in labels.itertuples():
        assert pd.isna(row.majority_rating) == pd.isna(row.majority_present)
        if not pd.isna(row.majority_present):
            assert (row.majority_rating != "not_present") == bool(row.majority_present)
            assert row.benchmark_bucket.endswith("present" if row.majority_present else "absent")
        else:
            assert (ties, row.benchmark_bucket) == ("exclude", "tie")


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(some_votes(3), st.randoms(use_true_random=False))
def test_labels_invariant_to_row_order(votes, random):
    table = ratings_table(EMO, votes)
    order = list(range(len(table)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(labels_of(EMO, table), labels_of(EMO, table.iloc[order]))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(some_votes(3), st.permutations(RATERS))
def test_labels_invariant_to_rater_names(votes, renamed):
    table = ratings_table(EMO, votes)
    other = table.assign(
        username=table["username"].map(dict(zip(RATERS, [f"renamed-{r}" for r in renamed], strict=True)))
    )
    pd.testing.assert_frame_equal(
        labels_of(EMO, table).drop(columns="usernames"), labels_of(EMO, other).drop(columns="usernames")
    )


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(some_votes(2), st.integers(0, 1))
def test_labels_invariant_to_superseded_ratings(votes, rating):
    table = ratings_table(DIM, votes)
    older = table.assign(
        annotation_id="old-" + table["annotation_id"], created_at="2026-01-01 00:00:00", rating=DIM.levels[rating]
    )
    pd.testing.assert_frame_equal(labels_of(DIM, table), labels_of(DIM, pd.concat([table, older])))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(some_votes(2))
def test_labels_mirrored_by_swapping_yes_and_no(votes):
    mirrored = {item: {rater: 1 - rating for rater, rating in by.items()} for item, by in votes.items()}
    one, other = labels_of(DIM, ratings_table(DIM, votes)), labels_of(DIM, ratings_table(DIM, mirrored))
    assert one["majority_present"].rsub(1).equals(other["majority_present"])
    assert one["majority_present_tie"].equals(other["majority_present_tie"])
    assert np.allclose(one["soft_present"], 1 - other["soft_present"])

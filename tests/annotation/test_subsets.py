"""Subsets match their specification, and a new one needs no code."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from earmark.annotation.analysis import slice_summary, slice_table
from earmark.annotation.labels import clip_ids, majority_labels
from earmark.annotation.subsets import Slice, subsets
from earmark.metrics.bootstrap import Bootstrap
from tests.conftest import DIM, EMO, annotated

EMO_LABELS = """file_name, queried_emotion, task_type, source_emotion, usernames, reaction_time_ms_mean,
reaction_time_ms_median, sample_time_ms_mean, majority_rating_int, majority_rating_votes, majority_rating_tie,
majority_present, majority_present_votes, majority_present_tie, strongly_present_votes, weakly_present_votes,
not_present_votes, majority_rating, all_agree_binary, all_agree_ordinal, intended_present, matches_intended_label,
benchmark_bucket, n_raters, flagged, soft_present, ds_present_probability"""
DIM_LABELS = """file_name, dimension, level, polarity, usernames, reaction_time_ms_mean, reaction_time_ms_median,
sample_time_ms_mean, majority_present, majority_present_votes, majority_present_tie, yes_votes, no_votes,
all_agree_binary, matches_intended_polarity, benchmark_bucket, n_raters, flagged, soft_present,
ds_present_probability"""
SUMMARIES = {
    ("emolia-emo", "per_task_type_summary"): "task_type, items, intended_present, majority_present_rate, "
    "preselection_confirm_rate, unanimous_binary_rate, unanimous_ordinal_rate",
    ("emolia-emo", "per_emotion_summary"): "queried_emotion, items, majority_present_rate, unanimous_binary_rate, "
    "unanimous_ordinal_rate",
    ("emolia-dim", "per_dimension_summary"): "dimension, items, majority_yes_rate, unanimous_rate, polarity_match_rate",
    ("emolia-dim", "per_polarity_summary"): "polarity, items, majority_yes_rate, unanimous_rate",
}


@pytest.mark.parametrize(("subset", "columns"), [(EMO, EMO_LABELS), (DIM, DIM_LABELS)], ids=["emo", "dim"])
def test_label_columns_in_specified_order(subset, columns):
    assert list(subset.labels) == columns.replace("\n", " ").split(", ")


def sliced(labels, subset, name):
    bootstrap = Bootstrap.from_units(clip_ids(labels, subset), 10, np.random.default_rng(0))
    return slice_table(slice_summary(labels, subset, name, bootstrap), subset.summaries[name])


@pytest.mark.parametrize(("subset", "name"), SUMMARIES)
def test_slice_table_columns(tmp_path, subset, name):
    described = subsets()[subset]
    labels = majority_labels(annotated(tmp_path, described, {"a.mp3": {"ann": 1, "ben": 1}}))
    assert list(sliced(labels, described, name).columns) == SUMMARIES[subset, name].split(", ")


def test_subsets_have_only_specified_summaries():
    specified = {name for name, _ in SUMMARIES}
    found = {(name, table) for name in specified for table in subsets()[name].summaries}
    assert found == set(SUMMARIES)


def test_weakly_present_counts_as_present():
    assert EMO.levels[EMO.first_present :] == ("weakly_present", "strongly_present")
    assert DIM.levels[DIM.first_present :] == ("yes",)


def test_only_scale_of_three_levels_is_ordinal():
    assert EMO.scales == ("binary", "ordinal")
    assert DIM.scales == ("binary",)


def test_clip_ids_emo_equal_for_same_file():
    items = pd.DataFrame(
        [("a.mp3", "Joy", "affirmative"), ("a.mp3", "Fear", "ultimate"), ("b.mp3", "Joy", "affirmative")],
        columns=list(EMO.key),
    )
    clips = clip_ids(items, EMO)
    assert clips[0] == clips[1] != clips[2]


def test_clip_ids_dim_differ_between_folders():
    items = pd.DataFrame(
        [("sample_00.mp3", "TEMP", "0", "positive"), ("sample_00.mp3", "TEMP", "0", "negative")], columns=list(DIM.key)
    )
    assert clip_ids(items, DIM).nunique() == 2


def test_new_subset_needs_no_code(tmp_path):
    quality = replace(
        DIM,
        name="quality",
        scale="ordinal",
        levels=("bad", "fair", "good", "excellent"),
        present_from="good",
        key=("file_name", "polarity"),
        clip="data/{polarity}/{file_name}",
        words={"present": "fine", "absent": "poor"},
        labels=("file_name", "majority_rating", "fair_votes", "benchmark_bucket"),
        summaries={"by_polarity": Slice("polarity", {"items": "items", "fine_rate": "present_rate"})},
    )
    votes = {("a.wav", "positive"): {"ann": 2, "ben": 3, "cat": 1}, ("b.wav", "negative"): {"ann": 0, "ben": 1}}
    labels = majority_labels(annotated(tmp_path, quality, votes))
    assert labels[list(quality.labels)].to_numpy().tolist() == [
        ["a.wav", "good", 1, "majority_fine"],
        ["b.wav", "bad", 1, "unanimous_poor"],
    ]
    assert sliced(labels, quality, "by_polarity").to_numpy().tolist() == [
        ["negative", 1, 0.0],
        ["positive", 1, 1.0],
    ]

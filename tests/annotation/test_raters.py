"""Raters one by one: what is said of them, and what cannot be."""

import numpy as np
import pytest

from earmark.annotation.labels import clip_ids
from earmark.annotation.raters import fit_dawid_skene, flagged_raters, per_rater
from earmark.annotation.reliability import Votes
from earmark.annotation.tables import load_annotations
from earmark.errors import DataError
from earmark.metrics.bootstrap import Bootstrap
from tests.conftest import DIM, annotated, ratings_table, users_table, write_tables


def raters(folder, votes):
    """The rater table of a small subset, by username."""
    annotations = annotated(folder, DIM, votes)
    found = Votes.from_annotations(annotations)
    bootstrap = Bootstrap.from_units(clip_ids(found.items, DIM), 100, np.random.default_rng(0))
    return per_rater(annotations, found, fit_dawid_skene(found), bootstrap).set_index("username", drop=False)


def test_agreement_is_with_the_untied_majority_of_the_others(tmp_path):
    """ann faces ben alone on two items and a tie of ben and cat on the third, which does not count."""
    votes = {"a": {"ann": 1, "ben": 1}, "b": {"ann": 1, "ben": 0}, "c": {"ann": 1, "ben": 1, "cat": 0}}
    table = raters(tmp_path, votes)
    assert table.loc["ann", ["ratings", "compared", "agreement"]].tolist() == [3, 2, 0.5]
    assert table.loc["cat", ["ratings", "compared", "agreement"]].tolist() == [1, 1, 0.0]
    assert table.loc["ann", "positive_rate"] == 1.0


@pytest.mark.parametrize(
    "votes",
    [
        {"a": {"ann": 1}, "b": {"ann": 0}},
        {"a": {"ann": 1, "ben": 1}, "b": {"ann": 1, "ben": 1}},
    ],
    ids=["one rater", "one answer"],
)
def test_nobody_is_reliable_or_not_where_nothing_tells(tmp_path, votes):
    table = raters(tmp_path, votes)
    assert table[["ds_sensitivity", "ds_specificity", "kappa"]].isna().all(axis=None)
    assert (table["kappa_why"] != "").all()


def test_who_answers_at_random_or_always_the_same_is_named_with_the_reason(tmp_path):
    # cat alternates whatever the item is, so that kappa is 0; dan says yes to everything.
    votes = {f"{i:03}": {"ann": i // 2 % 2, "ben": i // 2 % 2, "cat": i % 2, "dan": 1} for i in range(176)}
    found = flagged_raters(raters(tmp_path, votes))
    assert set(found) == {"cat", "dan"}
    assert any("close to chance" in reason for reason in found["cat"])
    assert any("ratings are equal (100% present)" in reason for reason in found["dan"])


def test_a_negative_reaction_time_is_a_fault(tmp_path):
    table = ratings_table(DIM, {"a": {"ann": 1}})
    table["reaction_time_ms"] = "-4"
    write_tables(tmp_path / "raw", table, users_table("ann"))
    with pytest.raises(DataError, match=r"line 2, column reaction_time_ms: '-4' is not a time in milliseconds"):
        load_annotations(tmp_path / "raw", DIM)

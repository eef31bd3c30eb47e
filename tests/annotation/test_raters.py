"""Statistics of each rater, and where they are undefined."""

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
    """Statistics of the raters of a small subset, by username."""
    annotations = annotated(folder, DIM, votes)
    arrays = Votes.from_annotations(annotations)
    bootstrap = Bootstrap.from_units(clip_ids(arrays.items, DIM), 100, np.random.default_rng(0))
    return per_rater(annotations, arrays, fit_dawid_skene(arrays), bootstrap).set_index("username", drop=False)


def test_agreement_with_untied_majority_of_others(tmp_path):
    """ann is compared with ben on two items; on the third, ben and cat are tied, so it is not compared."""
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
    ids=["one rater", "one category"],
)
def test_reliability_undefined_without_information(tmp_path, votes):
    table = raters(tmp_path, votes)
    assert table[["ds_sensitivity", "ds_specificity", "kappa"]].isna().all(axis=None)
    assert (table["kappa_why"] != "").all()


def test_flagged_raters_random_or_constant(tmp_path):
    # cat alternates regardless of the item, so that kappa is 0; dan always rates yes.
    votes = {f"{i:03}": {"ann": i // 2 % 2, "ben": i // 2 % 2, "cat": i % 2, "dan": 1} for i in range(176)}
    flagged = flagged_raters(raters(tmp_path, votes))
    assert set(flagged) == {"cat", "dan"}
    assert any("close to chance" in reason for reason in flagged["cat"])
    assert any("ratings are equal (100 % present)" in reason for reason in flagged["dan"])


def test_negative_reaction_time_is_a_fault(tmp_path):
    table = ratings_table(DIM, {"a": {"ann": 1}})
    table["reaction_time_ms"] = "-4"
    write_tables(tmp_path / "raw", table, users_table("ann"))
    with pytest.raises(DataError, match=r"line 2, column reaction_time_ms: '-4' is not a time in milliseconds"):
        load_annotations(tmp_path / "raw", DIM)

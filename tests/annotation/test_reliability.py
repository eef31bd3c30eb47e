"""Agreement and human ceiling of a few ratings, checked by hand."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.annotation.labels import clip_ids
from earmark.annotation.reliability import (
    NO_LEAVE_ONE_OUT,
    NO_PAIRS,
    ONE_CATEGORY,
    Votes,
    agreement,
    emolia_bench_agreement,
    human_ceiling,
    pair_kappas,
)
from earmark.annotation.tables import load_annotations
from earmark.metrics.agreement import AgreementSums, item_contributions, percent_agreement
from earmark.metrics.bootstrap import Bootstrap
from tests.conftest import DIM, EMO, annotated, ratings_table, users_table, write_tables

# Five items, of which one is expected absent (negative) and one was rated by ann alone.
#        ann ben cat   prior
#   1     1   1   1      1
#   2     1   1   0      1
#   3     0   0   ·      0
#   4     1   ·   ·      1
#   5     0   0   0      1
FIVE = {
    ("1.mp3", "TEMP", "0", "positive"): {"ann": 1, "ben": 1, "cat": 1},
    ("2.mp3", "TEMP", "0", "positive"): {"ann": 1, "ben": 1, "cat": 0},
    ("3.mp3", "TEMP", "0", "negative"): {"ann": 0, "ben": 0},
    ("4.mp3", "TEMP", "0", "positive"): {"ann": 1},
    ("5.mp3", "TEMP", "0", "positive"): {"ann": 0, "ben": 0, "cat": 0},
}
# ann 0 1 2 0, ben 0 2 2 1 on the scale not < weakly < strongly.
FOUR_ORDINAL = {
    "1.mp3": {"ann": 0, "ben": 0},
    "2.mp3": {"ann": 1, "ben": 2},
    "3.mp3": {"ann": 2, "ben": 2},
    "4.mp3": {"ann": 0, "ben": 1},
}


def votes_of(folder, subset, votes):
    return Votes.from_annotations(annotated(folder, subset, votes))


def bootstrap_of(votes, replicates=0):
    return Bootstrap.from_units(clip_ids(votes.items, votes.subset), replicates, np.random.default_rng(0))


@pytest.fixture
def five(tmp_path):
    return votes_of(tmp_path, DIM, FIVE)


@pytest.fixture
def four(tmp_path):
    return votes_of(tmp_path, EMO, FOUR_ORDINAL)


def agreement_of(votes, required=3):
    return agreement(votes, bootstrap_of(votes), required)


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("percent_binary", 8 / 10, 4),  # pairs that agree: 3 of 3, 1 of 3, 1 of 1, 3 of 3
        ("exact_all_binary", 2 / 3, 3),  # items 1 and 5 of 1, 2 and 5
        # observed (1 + 1/3 + 1 + 1) / 4; present (1 + 2/3 + 0 + 1 + 0) / 5 = 8/15, chance (64 + 49) / 225
        ("fleiss_kappa_binary", (5 / 6 - 113 / 225) / (1 - 113 / 225), 4),
        # 11 ratings on items with two or more, 5 of them yes; disagreements 2 · 2 / (3 − 1) = 2 on item 2:
        # 1 − (2 / 11) / (2 · 5 · 6 / (11 · 10))
        ("krippendorff_alpha_binary", 2 / 3, 4),
    ],
)
def test_agreement_binary_by_hand(five, name, value, n):
    estimate = agreement_of(five)[name]
    assert estimate.value == pytest.approx(value)
    assert estimate.n == n


def test_agreement_ignores_missing_ratings(tmp_path):
    votes = {"1.mp3": {"ann": 1, "ben": 1}, "2.mp3": {"cat": 0, "dan": 0}, "3.mp3": {"ann": 0}}
    result = agreement_of(votes_of(tmp_path, DIM, votes), required=2)
    assert [result[name].value for name in ("percent_binary", "exact_all_binary", "krippendorff_alpha_binary")] == [
        1
    ] * 3


def test_pair_kappas_binary(five):
    means, pairs = pair_kappas(five, bootstrap_of(five))
    # ann and ben agree on all 4. cat agrees with each on 2 of 3; chance 2/3 · 1/3 + 1/3 · 2/3 = 4/9.
    kappas = {name: (pair["n"], pair["cohen_kappa_binary"].value) for name, pair in pairs.items()}
    assert kappas == {
        "ann__ben": (4, pytest.approx(1.0)),
        "ann__cat": (3, pytest.approx((2 / 3 - 4 / 9) / (5 / 9))),
        "ben__cat": (3, pytest.approx(0.4)),
    }
    assert means["cohen_kappa_binary_mean"].value == pytest.approx((1 + 0.4 + 0.4) / 3)
    assert set(means) == {"cohen_kappa_binary_mean", "cohen_kappa_binary_pooled"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("percent_binary", 3 / 4),
        ("percent_ordinal", 2 / 4),
        ("exact_all_binary", 3 / 4),
        ("exact_all_ordinal", 2 / 4),
        # 8 ratings: 3 not, 2 weakly, 3 strongly. Rank distances² 2.5², 2.5² and 5². Observed 4 · 6.25 = 25,
        # expected 2 (6 · 6.25 + 6 · 6.25 + 9 · 25) / 7 = 600 / 7.
        ("krippendorff_alpha_ordinal", 1 - 25 * 7 / 600),
        # shares 3/8, 2/8, 3/8: chance 22/64
        ("fleiss_kappa_ordinal", (1 / 2 - 22 / 64) / (1 - 22 / 64)),
    ],
)
def test_agreement_ordinal_by_hand(four, name, value):
    assert agreement_of(four, required=2)[name].value == pytest.approx(value)


def test_pair_kappas_ordinal(four):
    means, pairs = pair_kappas(four, bootstrap_of(four))
    # ann uses the scale 2 1 1, ben 1 1 2: chance 5/16, so (1/2 − 5/16) / (11/16).
    # Quadratic credit 3/4 for a step: observed 14/16, chance 1 − (1.625 / 4).
    assert means["cohen_kappa_ordinal_mean"].value == pytest.approx(3 / 11)
    assert means["cohen_kappa_ordinal_quadratic_mean"].value == pytest.approx(9 / 13)
    assert list(pairs) == ["ann__ben"]


def test_agreement_binary_scale_has_no_ordinal_estimates(five):
    assert not [name for name in agreement_of(five) if "ordinal" in name]


def test_raters_sorted_by_number(tmp_path):
    votes = votes_of(tmp_path, DIM, {"a.mp3": {"user_10": 1, "user_9": 0}})
    assert list(pair_kappas(votes, bootstrap_of(votes))[1]) == ["user_9__user_10"]


# --- emolia-bench -------------------------------------------------------------------------------------------


def test_percent_agreement_matches_published_exact_agreement():
    """With three raters and two classes, either all agree or one pair of three does: percent = x + (1 − x) / 3."""
    counts = np.repeat([[0, 3], [1, 2]], [24_597, 75_403], axis=0)
    percent = percent_agreement(AgreementSums.from_sums(item_contributions(counts).sum(axis=0)))
    assert percent == pytest.approx(0.24597 + (1 - 0.24597) / 3)
    assert round(float(percent), 4) == 0.4973


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=1, max_size=12))
def test_percent_and_exact_agreement_equivalent_for_three_raters(ratings):
    votes = {f"{i}.mp3": dict(zip(["ann", "ben", "cat"], r, strict=True)) for i, r in enumerate(ratings)}
    with tempfile.TemporaryDirectory() as folder:
        result = agreement_of(votes_of(Path(folder), DIM, votes))
    exact = result["exact_all_binary"].value
    assert result["percent_binary"].value == pytest.approx(exact + (1 - exact) / 3)


def test_emolia_bench_counts_unrated_items_as_disagreement(tmp_path):
    """Two groups of three raters, each agreeing on one item of its own: 6 of 15 pairs agree on 1 of 2 items."""
    votes = votes_of(tmp_path, DIM, {"1.mp3": dict.fromkeys("abc", 1), "2.mp3": dict.fromkeys("def", 0)})
    published = emolia_bench_agreement(votes, 3)
    assert published["pairwise_exact_binary"] == pytest.approx(6 * 0.5 / 15)
    assert published["exact_3way_binary"] == 1
    assert published["items_complete"] == 2
    assert agreement_of(votes)["percent_binary"].value == 1


def test_emolia_bench_uses_items_with_exactly_three_raters(tmp_path):
    four_raters = {("6.mp3", "TEMP", "0", "positive"): {"ann": 1, "ben": 1, "cat": 1, "dan": 1}}
    published = emolia_bench_agreement(votes_of(tmp_path, DIM, FIVE | four_raters), 3)
    assert published["items_complete"] == 3
    assert published["exact_3way_binary"] == pytest.approx(2 / 3)
    assert published["pairwise_exact_binary"] == pytest.approx(7 / 9)
    # items 1, 2, 5: observed 7/9; present 5/9, chance (25 + 16) / 81
    assert published["fleiss_binary_kappa"] == pytest.approx((7 / 9 - 41 / 81) / (40 / 81))


# --- the human ceiling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pairwise_accuracy", (1 + 2 / 3 + 2 / 3) / 3),
        ("pairwise_accuracy_weighted", (4 + 2 + 2) / (4 + 3 + 3)),
        # cat against ann: 1 of ann's 2 yes and her 1 no; ann against cat: cat's 1 yes and 1 of cat's 2 no
        ("pairwise_balanced_accuracy", (1 + 0.75 + 0.75) / 3),
        ("pairwise_balanced_accuracy_weighted", (4 * 1 + 3 * 0.75 + 3 * 0.75) / 10),
        # item 1: 3 correct; item 2: cat incorrect, the others of ann and ben tied; item 3: one other rater;
        # item 5: 3 correct
        ("loo_accuracy", 6 / 7),
        ("loo_balanced_accuracy", (3 / 4 + 3 / 3) / 2),
    ],
)
def test_human_ceiling_by_hand(five, name, value):
    assert getattr(human_ceiling(five, bootstrap_of(five)), name).value == pytest.approx(value)


def test_human_ceiling_leave_one_out_n(five):
    result = human_ceiling(five, bootstrap_of(five))
    assert result.loo_n_annotations == 7
    assert result.loo_accuracy.n == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # the prior agrees with ann on 3 of 4, with ben on 3 of 4, with cat on 1 of 3
        ("pairwise_accuracy", (1 + 2 / 3 + 2 / 3 + 3 / 4 + 3 / 4 + 1 / 3) / 6),
        ("pairwise_accuracy_weighted", (4 + 2 + 2 + 3 + 3 + 1) / 21),
        # item 1: 4 correct; item 2: 3 correct, cat incorrect; item 3: 3 correct; item 5: 3 correct, the prior incorrect
        ("loo_accuracy", 13 / 15),
        ("loo_balanced_accuracy", (7 / 8 + 6 / 7) / 2),
    ],
)
def test_with_prior_adds_a_rater(five, name, value):
    prior = five.with_prior()
    assert prior.raters == ["ann", "ben", "cat", "prior"]
    assert len(prior.items) == 4  # item 4 has one rater
    result = human_ceiling(prior, bootstrap_of(prior))
    assert getattr(result, name).value == pytest.approx(value)
    assert result.loo_n_annotations == 15


def test_with_prior_emo(tmp_path):
    votes = {
        ("a.mp3", "Joy", "affirmative"): {"ann": 1, "ben": 2},
        ("a.mp3", "Fear", "ultimate"): {"ann": 0, "ben": 0},
        ("a.mp3", "Awe", "contrastive_1"): {"ann": 2, "ben": 2},
    }
    prior = votes_of(tmp_path, EMO, votes).with_prior()
    by_item = dict(zip(prior.items["queried_emotion"], prior.counts["binary"].tolist(), strict=True))
    assert by_item == {"Joy": [0, 3], "Fear": [3, 0], "Awe": [1, 2]}


# --- undefined estimates ------------------------------------------------------------------------------------


def test_agreement_undefined_without_pairs(tmp_path):
    votes = votes_of(tmp_path, DIM, {"1.mp3": {"ann": 1}, "2.mp3": {"ben": 0}})
    result = agreement_of(votes)
    assert all(estimate.value is None for estimate in result.values())
    assert result["percent_binary"].why == NO_PAIRS
    assert result["exact_all_binary"].why == "no item was rated by 3 raters"
    ceiling = human_ceiling(votes, bootstrap_of(votes))
    assert ceiling.pairwise_accuracy.why == NO_PAIRS
    assert ceiling.loo_accuracy.why == NO_LEAVE_ONE_OUT
    assert ceiling.loo_n_annotations == 0
    assert pair_kappas(votes, bootstrap_of(votes))[1] == {}


def test_kappa_undefined_for_one_category(tmp_path):
    votes = votes_of(tmp_path, DIM, {f"{i}.mp3": {"ann": 1, "ben": 1, "cat": 1} for i in range(3)})
    result = agreement_of(votes)
    assert result["percent_binary"].value == 1
    for name in ("fleiss_kappa_binary", "krippendorff_alpha_binary", "gwet_ac1_binary"):
        assert (result[name].value, result[name].why) == (None, ONE_CATEGORY)
    means, pairs = pair_kappas(votes, bootstrap_of(votes))
    assert means["cohen_kappa_binary_mean"].value is None
    assert pairs["ann__ben"]["cohen_kappa_binary"].why == "both raters used the same single category"
    ceiling = human_ceiling(votes, bootstrap_of(votes))
    assert (ceiling.loo_accuracy.value, ceiling.loo_balanced_accuracy.value) == (1, None)


def test_exact_all_needs_two_raters(tmp_path):
    votes = votes_of(tmp_path, DIM, {"1.mp3": {"ann": 1}, "2.mp3": {"ann": 1, "ben": 0}})
    exact = agreement_of(votes, required=1)["exact_all_binary"]
    assert (exact.value, exact.n) == (0, 1)


# --- properties ---------------------------------------------------------------------------------------------

some_votes = st.dictionaries(
    st.sampled_from(["a.mp3", "b.mp3", "c.mp3", "d.mp3"]),
    st.dictionaries(st.sampled_from(["ann", "ben", "cat", "dan"]), st.integers(0, 2), min_size=1),
    min_size=1,
)


def all_estimates(table):
    """All estimates that do not depend on the names of raters."""
    with tempfile.TemporaryDirectory() as folder:
        users = users_table("ann", "ben", "cat", "dan", "wim", "xi", "yun", "zoe")
        votes = Votes.from_annotations(load_annotations(write_tables(Path(folder), table, users), EMO))
    bootstrap = bootstrap_of(votes, 20)
    prior = votes.with_prior()
    result = {
        **agreement(votes, bootstrap, 3),
        **pair_kappas(votes, bootstrap)[0],
        **vars(human_ceiling(votes, bootstrap)),
        **{f"prior {k}": v for k, v in vars(human_ceiling(prior, bootstrap.take(votes.raters_per_item >= 2))).items()},
        **{f"published {k}": v for k, v in emolia_bench_agreement(votes, 3).items()},
    }
    flat = {}
    for name, value in result.items():
        parts = value.as_dict() if hasattr(value, "as_dict") else {"value": value}
        flat |= {f"{name} {part}": x for part, x in parts.items()}
    return {k: pytest.approx(v, abs=1e-9) if isinstance(v, float) else v for k, v in flat.items()}


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(some_votes, st.permutations(["wim", "xi", "yun", "zoe"]), st.randoms(use_true_random=False))
def test_estimates_invariant_to_order_names_and_superseded_ratings(votes, names, random):
    table = ratings_table(EMO, votes)
    order = list(range(len(table)))
    random.shuffle(order)
    renamed = table.assign(username=table["username"].map(dict(zip(["ann", "ben", "cat", "dan"], names, strict=True))))
    older = table.assign(annotation_id="old-" + table["annotation_id"], created_at="2026-01-01", rating="not_present")
    twice = pd.concat([older, table])
    expected = all_estimates(table)
    assert all_estimates(table.iloc[order]) == expected
    assert all_estimates(renamed) == expected
    assert all_estimates(twice) == expected

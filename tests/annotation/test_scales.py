"""Nominal, ordinal and interval ratings: labels, agreement and raters by hand, other formulas, degenerate data."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.annotation.scales.analysis import analyse_scale
from earmark.annotation.subsets import Subset
from earmark.errors import EarmarkError
from earmark.metrics import agreement as coefficients
from earmark.metrics.agreement import AgreementSums, item_contributions, rater_pairs
from earmark.metrics.bootstrap import Units, estimate_from_replicates
from earmark.metrics.intervals import COEFFICIENT, Range
from tests.annotation.scale_data import AROUSAL, COLOURS, NATURALNESS, analysed, annotations, random_votes

pytestmark = pytest.mark.filterwarnings("error")

NOMINAL = {
    "a.wav": {"ann": "red", "ben": "red", "cat": "red"},
    "b.wav": {"ann": "green", "ben": "green", "cat": "blue"},
    "c.wav": {"ann": "red", "ben": "blue"},
    "d.wav": {"ann": "blue"},
}
ORDINAL = {
    "a.wav": {"ann": "1", "ben": "2", "cat": "4"},
    "b.wav": {"ann": "3", "ben": "4"},
    "c.wav": {"ann": "5", "ben": "5", "cat": "5"},
}
INTERVAL = {
    "a.wav": {"ann": 1.0, "ben": 2.0, "cat": 6.0},
    "b.wav": {"ann": 4.0, "ben": 5.0, "cat": 9.0},
    "c.wav": {"ann": 3.0, "ben": 3.0},
    "d.wav": {"ann": 7.0},
}


def words(column):
    """Cells of a column of text, None where empty."""
    return [None if pd.isna(cell) else cell for cell in column]


def row(table, file_name, **where):
    rows = table[table["file_name"] == file_name]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


# --- labels -------------------------------------------------------------------------------------------------


def test_nominal_labels_by_hand():
    labels = analysed(COLOURS, NOMINAL).tables["benchmark_labels"]
    assert words(labels["majority_class"]) == ["red", "green", None, "blue"]
    assert labels["majority_votes"].tolist() == [3, 2, 1, 1]
    assert labels["majority_tie"].tolist() == [False, False, True, False]
    assert labels["all_agree"].tolist() == [True, False, False, False]
    assert labels["share_green"].tolist() == pytest.approx([0, 2 / 3, 0, 0])
    assert labels["n_raters"].tolist() == [3, 3, 2, 1]
    assert labels["usernames"].tolist() == ["ann|ben|cat", "ann|ben|cat", "ann|ben", "ann"]


def test_columns_of_nominal_labels_are_in_the_documented_order():
    labels = analysed(COLOURS, NOMINAL).tables["benchmark_labels"]
    shares = [f"share_{name}" for name in COLOURS.levels]
    probabilities = [f"ds_probability_{name}" for name in COLOURS.levels]
    assert labels.columns.tolist() == [
        *("file_name", "usernames", "majority_class", "majority_votes", "majority_tie", "all_agree"),
        *shares,
        "ds_class",
        *probabilities,
        *("n_raters", "flagged"),
    ]
    np.testing.assert_allclose(labels[probabilities].sum(axis=1), 1, atol=2e-6)


def test_dawid_skene_class_is_empty_for_equal_probabilities():
    """Two raters who always differ in a symmetric way: nothing tells red from green."""
    votes = {"a.wav": {"ann": "red", "ben": "green"}, "b.wav": {"ann": "green", "ben": "red"}}
    two = replace(COLOURS, levels=("red", "green"))
    labels = analysed(two, votes).tables["benchmark_labels"]
    assert labels["ds_probability_red"].tolist() == [0.5, 0.5]
    assert words(labels["ds_class"]) == [None, None]


def test_ordinal_labels_by_hand():
    labels = analysed(AROUSAL, ORDINAL).tables["benchmark_labels"]
    assert labels["median_level"].tolist() == [2, 3.5, 5]
    assert words(labels["median_rating"]) == ["2", None, "5"]
    assert labels["mean_level"].tolist() == pytest.approx([7 / 3, 3.5, 5])
    assert words(labels["majority_rating"]) == [None, None, "5"]
    assert labels["majority_tie"].tolist() == [True, True, False]
    assert labels.columns[2:9].tolist() == [
        *("median_level", "median_rating", "mean_level", "majority_rating", "majority_votes"),
        *("majority_tie", "all_agree"),
    ]


def test_interval_labels_by_hand():
    labels = analysed(NATURALNESS, INTERVAL).tables["benchmark_labels"]
    assert labels["mean_rating"].tolist() == [3, 6, 3, 7]
    assert labels["sd_rating"].tolist() == pytest.approx([7**0.5, 7**0.5, 0, np.nan], nan_ok=True)
    assert labels.columns.tolist() == [
        *("file_name", "usernames", "mean_rating", "sd_rating", "n_raters", "flagged"),
    ]


def test_trimmed_mean_leaves_out_both_ends():
    """A fifth of five ratings at either end: 1 and 100 are left out. Of two ratings nothing is."""
    votes = {"a.wav": dict(zip("abcde", [1.0, 2.0, 3.0, 4.0, 100.0], strict=True)), "b.wav": {"a": 1.0, "b": 4.0}}
    labels = analysed(NATURALNESS, votes, trimmed_mean=0.2).tables["benchmark_labels"]
    assert labels["trimmed_mean_rating"].tolist() == [3, 2.5]


@pytest.mark.parametrize(("subset", "share"), [(NATURALNESS, 0.5), (NATURALNESS, -0.1), (COLOURS, 0.1)])
def test_trimmed_mean_of_a_wrong_share_or_scale_is_refused(subset, share):
    votes = INTERVAL if subset is NATURALNESS else NOMINAL
    with pytest.raises(ValueError, match="trimmed mean"):
        analysed(subset, votes, trimmed_mean=share)


def test_decided_subset_is_refused():
    decided = replace(AROUSAL, present_from="4")
    with pytest.raises(ValueError, match="has a decision"):
        analysed(decided, ORDINAL)


def test_times_and_carried_columns_are_listed_where_the_table_has_them():
    subset = replace(COLOURS, carried=("task",))
    task = {"a.wav": "x", "b.wav": "x", "c.wav": "y", "d.wav": "y"}
    labels = analysed(subset, NOMINAL, task=task, times=range(100, 1000, 100)).tables["benchmark_labels"]
    assert labels["task"].tolist() == ["x", "x", "y", "y"]
    assert labels["reaction_time_ms_mean"].tolist() == [200, 500, 750, 900]
    assert "sample_time_ms_mean" not in labels


def test_flagged_items_are_marked():
    data = replace(annotations(COLOURS, NOMINAL), flags=pd.DataFrame({"file_name": ["b.wav", "z.wav"]}))
    labels = analyse_scale(data, required=2, replicates=0, rng=np.random.default_rng(0)).tables["benchmark_labels"]
    assert labels["flagged"].tolist() == [False, True, False, False]


# --- agreement ----------------------------------------------------------------------------------------------


def test_nominal_agreement_by_hand():
    """Pairs: a 3 of 3 agree, b 1 of 3, c 0 of 1."""
    result = analysed(COLOURS, NOMINAL).result
    assert result.agreement.estimates["percent"].value == pytest.approx(4 / 7)
    assert result.agreement.estimates["exact_all"].value == pytest.approx(1 / 3)
    assert result.agreement.estimates["percent"].n == 3
    # Red: 6 of 7 ordered pairs with a red rating agree; green 2 of 4; blue 0 of 3.
    assert {k: v.value for k, v in result.specific_agreement.items()} == pytest.approx(
        {"red": 6 / 7, "green": 0.5, "blue": 0.0}
    )


def matrix_of(votes, subset, raters):
    """(raters, items) codes or numbers with NaN."""
    return np.array(
        [
            [
                np.nan if r not in by else (by[r] if subset.scale == "interval" else float(subset.levels.index(by[r])))
                for by in votes.values()
            ]
            for r in raters
        ]
    )


@pytest.mark.parametrize("subset", [COLOURS, AROUSAL], ids=lambda subset: subset.scale)
def test_agreement_equals_coefficients_of_the_whole_table(subset):
    """The functions that are tested against irrCAC and krippendorff, on the counts of all items."""
    votes = random_votes(subset, 40, 6, missing=0.4)
    found = {k: v.value for k, v in analysed(subset, votes).result.agreement.estimates.items()}
    counts = coefficients.rating_counts(matrix_of(votes, subset, [f"user_{r}" for r in range(6)]), len(subset.levels))
    sums = AgreementSums.from_sums(item_contributions(counts).sum(axis=0))
    if subset is COLOURS:
        expected = {
            "percent": coefficients.percent_agreement(sums),
            "fleiss_kappa": coefficients.fleiss_kappa(sums),
            "krippendorff_alpha_nominal": coefficients.krippendorff_alpha(counts, "nominal"),
            "gwet_ac1": coefficients.gwet_ac(sums),
        }
    else:
        expected = {
            "percent": coefficients.percent_agreement(sums),
            "krippendorff_alpha_ordinal": coefficients.krippendorff_alpha(counts, "ordinal"),
            "gwet_ac2": coefficients.gwet_ac(sums, "quadratic"),
        }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-10), name


def test_names_of_coefficients_are_those_of_the_scale_alone():
    names = {
        subset.scale: set(analysed(subset, random_votes(subset, 8, 3), replicates=0).result.agreement.estimates)
        for subset in (COLOURS, AROUSAL, NATURALNESS)
    }
    assert names["nominal"] == {
        *("exact_all", "percent", "fleiss_kappa", "krippendorff_alpha_nominal", "gwet_ac1"),
        *("cohen_kappa_pooled", "cohen_kappa_mean"),
    }
    assert names["ordinal"] == {
        *("exact_all", "percent", "percent_within_one", "krippendorff_alpha_ordinal", "gwet_ac2"),
        *("cohen_kappa_linear_pooled", "cohen_kappa_quadratic_pooled"),
        *("cohen_kappa_linear_mean", "cohen_kappa_quadratic_mean"),
    }
    assert names["interval"] == {
        *("krippendorff_alpha_interval", "icc_1", "icc_a1", "icc_c1", "icc_1k", "icc_ak", "icc_ck"),
        *("mean_absolute_difference", "loo_correlation", "concordance_mean"),
    }


def test_two_ordered_levels_have_no_agreement_within_one_step():
    two = replace(AROUSAL, levels=("low", "high"))
    votes = {"a.wav": {"ann": "low", "ben": "high"}, "b.wav": {"ann": "low", "ben": "low"}}
    assert "percent_within_one" not in analysed(two, votes).result.agreement.estimates


@pytest.mark.parametrize("subset", [COLOURS, AROUSAL], ids=lambda subset: subset.scale)
def test_kappas_of_pairs_equal_cohen_kappa_of_their_confusion_matrix(subset):
    votes = random_votes(subset, 40, 4, missing=0.3)
    result = analysed(subset, votes).result
    matrix = matrix_of(votes, subset, [f"user_{r}" for r in range(4)])
    rater, item = np.nonzero(~np.isnan(matrix))
    pairs = rater_pairs(item, rater, matrix[rater, item].astype(int))
    q = len(subset.levels)
    tables = np.bincount(pairs.cells(q), minlength=6 * q * q).reshape(6, q, q)
    name, weighting = ("cohen_kappa", "unweighted") if subset is COLOURS else ("cohen_kappa_quadratic", "quadratic")
    expected = coefficients.cohen_kappa(tables, weighting)
    assert [pair[name].value for pair in result.agreement.pairs.values()] == pytest.approx(expected.tolist())
    assert result.agreement.estimates[f"{name}_mean"].value == pytest.approx(expected.mean())
    assert next(iter(result.agreement.pairs)) == "user_0__user_1"


def test_interval_agreement_by_hand():
    """Absolute differences: a 1, 5, 4; b 1, 5, 4; c 0. Two items were rated by all three raters."""
    estimates = analysed(NATURALNESS, INTERVAL).result.agreement.estimates
    assert estimates["mean_absolute_difference"].value == pytest.approx(20 / 7)
    assert estimates["icc_c1"].value == pytest.approx(1.0)
    assert estimates["icc_c1"].n == 2
    assert estimates["icc_a1"].value < 0.6


def test_interval_pairs_are_concordance_and_difference():
    pair = analysed(NATURALNESS, random_votes(NATURALNESS, 20, 2)).result.agreement.pairs["user_0__user_1"]
    votes = random_votes(NATURALNESS, 20, 2)
    x, y = matrix_of(votes, NATURALNESS, ["user_0", "user_1"])
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    expected = 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert pair["concordance"].value == pytest.approx(expected)
    assert pair["correlation"].value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert pair["mean_absolute_difference"].value == pytest.approx(np.abs(x - y).mean())


def test_loo_correlation_is_the_mean_over_raters_and_counts_those_left_out():
    votes = random_votes(NATURALNESS, 30, 4)
    votes["clip_000.wav"]["new"] = 50.0  # a single item
    estimate = analysed(NATURALNESS, votes).result.agreement.estimates["loo_correlation"]
    frame = pd.DataFrame(votes).T.astype(float)
    others = frame.apply(lambda own: frame.drop(columns=own.name).mean(axis=1))
    expected = [frame[name].corr(others[name]) for name in ("user_0", "user_1", "user_2", "user_3")]
    assert estimate.value == pytest.approx(np.mean(expected))
    assert estimate.n == 4
    assert "1 of 5 raters left out" in estimate.note


def test_agreement_by_value_of_a_column_equals_that_of_its_items():
    subset = Subset("choice", "ordinal", ("file_name",), levels=AROUSAL.levels, carried=("task",), by=("task",))
    votes = random_votes(subset, 30, 4)
    task = {item: ("x", "y")[number % 2] for number, item in enumerate(votes)}
    slices = analysed(subset, votes, task=task).result.slices["task"]
    assert [(one["task"], one["items"]) for one in slices] == [("x", 15), ("y", 15)]
    only_x = analysed(AROUSAL, {item: by for item, by in votes.items() if task[item] == "x"}).result
    for name, estimate in only_x.agreement.estimates.items():
        if not name.endswith("_mean"):
            assert slices[0][name].value == pytest.approx(estimate.value), name


def test_column_with_too_many_values_is_a_warning():
    subset = replace(COLOURS, by=("file_name",))
    result = analysed(subset, random_votes(COLOURS, 201, 2), replicates=0).result
    assert result.slices == {}
    assert result.warnings == ["no agreement by file_name: it has 201 values, more than 200"]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_agreement_does_not_depend_on_names_of_raters(seed, order):
    votes = random_votes(AROUSAL, 12, 4, missing=0.3, seed=seed)
    renamed = {i: {f"user_{order[int(r[-1])]}": v for r, v in by.items()} for i, by in votes.items()}
    first, second = (analysed(AROUSAL, each, replicates=0).result.agreement.estimates for each in (votes, renamed))
    assert {k: v.value for k, v in first.items()} == pytest.approx({k: v.value for k, v in second.items()})


# --- raters -------------------------------------------------------------------------------------------------


def test_nominal_raters_and_leave_one_out_by_hand():
    """cat: item a agrees with red; on b ann and ben say green. ann: on b the others are tied; c has one other."""
    tables = analysed(COLOURS, NOMINAL).tables
    loo = tables["leave_one_out"]
    assert loo.columns.tolist() == ["file_name", "username", "rating", "majority_of_others", "n_others"]
    assert pd.isna(row(loo, "b.wav", username="ann")["majority_of_others"])
    assert row(loo, "b.wav", username="cat")["majority_of_others"] == "green"
    assert row(loo, "c.wav", username="ann")["majority_of_others"] == "blue"
    assert "d.wav" not in set(loo["file_name"])
    raters = tables["per_rater_summary"].set_index("username")
    assert raters.loc["cat", ["ratings", "compared", "agreement"]].tolist() == [2, 2, 0.5]
    assert raters.loc["ann", ["ratings", "compared", "agreement"]].tolist() == [4, 2, 0.5]
    confusion = tables["rater_confusion"]
    own = confusion[(confusion["username"] == "cat") & (confusion["reference"] == "green")]
    assert own["n"].tolist() == [0, 0, 1]
    assert own["share"].tolist() == [0, 0, 1]


def test_ordinal_raters_and_leave_one_out_by_hand():
    """ann: 1 against (2 + 4) / 2, 3 against 4, 5 against 5: bias (−2 − 1 + 0) / 3."""
    tables = analysed(AROUSAL, ORDINAL).tables
    loo = tables["leave_one_out"]
    assert loo.columns.tolist() == ["file_name", "username", "rating", "level", "mean_level_of_others", "n_others"]
    assert row(loo, "a.wav", username="ann")["mean_level_of_others"] == 3
    raters = tables["per_rater_summary"].set_index("username")
    assert raters.loc["ann", "bias"] == pytest.approx(-1)
    # The medians of the others of cat are 1.5, which is no level, and 5.
    assert raters.loc["cat", ["compared", "median_compared"]].tolist() == [2, 1]
    assert raters.loc["ann", [f"share_{level}" for level in AROUSAL.levels]].tolist() == pytest.approx(
        [1 / 3, 0, 1 / 3, 0, 1 / 3]
    )


def test_shares_of_a_level_and_of_a_level_named_low_are_told_apart():
    subset = replace(AROUSAL, levels=("mid_low", "mid", "mid_high"))
    votes = {f"{i:02}": {"ann": "mid", "ben": ("mid_low", "mid")[i % 2]} for i in range(30)}
    raters = analysed(subset, votes).tables["per_rater_summary"].set_index("username")
    assert raters.loc["ann", ["share_mid_low", "share_mid"]].tolist() == [0, 1]
    assert 0.8 < raters.loc["ann", "low_share_mid"] < 1
    assert raters.loc["ben", "share_mid_low"] == 0.5


@pytest.mark.parametrize("column", ["level", "n_others", "median_level", "flagged"])
def test_item_column_with_the_name_of_an_output_column_is_an_error(column):
    subset = replace(AROUSAL, key=("file_name", column))
    votes = {(item, "x"): by for item, by in ORDINAL.items()}
    with pytest.raises(EarmarkError, match=f"--map {column}=item_{column}"):
        analysed(subset, votes)


def test_interval_raters_and_leave_one_out_by_hand():
    """cat is 4.5 above the mean of ann and ben on both items."""
    tables = analysed(NATURALNESS, INTERVAL).tables
    loo = tables["leave_one_out"]
    assert loo.columns.tolist() == ["file_name", "username", "rating", "mean_of_others", "n_others"]
    assert row(loo, "a.wav", username="cat")[["rating", "mean_of_others", "n_others"]].tolist() == [6, 1.5, 2]
    raters = tables["per_rater_summary"].set_index("username")
    assert raters.loc["cat", "bias"] == pytest.approx(4.5)
    assert raters.loc["cat", "mean_absolute_difference"] == pytest.approx(4.5)
    assert raters.loc["cat", "sd"] == pytest.approx(np.std([6, 9], ddof=1))
    assert raters.loc["cat", "sd_of_others"] == pytest.approx(np.std([1, 2, 4, 5]) * 2**0.5)


def test_raters_who_answer_at_random_or_with_a_constant_are_flagged():
    rng = np.random.default_rng(0)
    for subset, constant in ((COLOURS, "green"), (AROUSAL, "3"), (NATURALNESS, 50.0)):
        votes = random_votes(subset, 250, 3)
        for by in votes.values():
            by["same"] = constant
            by["wild"] = float(rng.normal(50, 10)) if subset is NATURALNESS else str(rng.choice(subset.levels))
        flagged = analysed(subset, votes).result.raters_who_stand_out
        assert set(flagged) == {"same", "wild"}, subset.scale
        assert any("almost all ratings are equal (100 %)" in reason for reason in flagged["same"])


def test_rater_with_a_large_bias_is_flagged():
    votes = random_votes(NATURALNESS, 60, 3)
    for by in votes.values():
        by["high"] = by["user_0"] + 40
    reasons = analysed(NATURALNESS, votes).result.raters_who_stand_out
    assert list(reasons) == ["high"]
    assert "differ from those of the other raters by +4" in reasons["high"][0]


def test_fast_rater_is_flagged():
    votes = random_votes(COLOURS, 10, 2)
    result = analysed(COLOURS, votes, times=[100, 2000] * 10).result
    assert "under 300 ms" in result.raters_who_stand_out["user_0"][0]
    assert "user_1" not in result.raters_who_stand_out


# --- degenerate data ----------------------------------------------------------------------------------------

ONE_RATER = {
    "nominal": {"a.wav": {"ann": "red"}, "b.wav": {"ann": "blue"}},
    "ordinal": {"a.wav": {"ann": "1"}, "b.wav": {"ann": "2"}},
    "interval": {"a.wav": {"ann": 1.0}, "b.wav": {"ann": 2.0}},
}
CONSTANT = {
    "nominal": {f"{i:02}.wav": {"ann": "red", "ben": "red"} for i in range(30)},
    "ordinal": {f"{i:02}.wav": {"ann": "2", "ben": "2"} for i in range(30)},
    "interval": {f"{i:02}.wav": {"ann": 0.1, "ben": 0.1} for i in range(30)},
}
SCALES = [COLOURS, AROUSAL, NATURALNESS]


@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_one_rater_leaves_agreement_undefined_with_a_reason(subset):
    analysis = analysed(subset, ONE_RATER[subset.scale])
    estimates = analysis.result.agreement.estimates
    assert all(estimate.value is None and estimate.why for estimate in estimates.values())
    assert all(estimate.value is None and estimate.why for estimate in analysis.result.specific_agreement.values())
    assert len(analysis.tables["leave_one_out"]) == 0
    assert len(analysis.tables["benchmark_labels"]) == 2


@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_equal_ratings_leave_chance_corrected_agreement_undefined(subset):
    estimates = analysed(subset, CONSTANT[subset.scale]).result.agreement.estimates
    shares = {"exact_all", "percent", "percent_within_one"}
    for name, estimate in estimates.items():
        if name in shares:
            assert estimate.value == 1
        elif name == "mean_absolute_difference":
            assert estimate.value == 0
        else:
            assert estimate.value is None, name
            assert estimate.why, name


@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_table_without_ratings_has_undefined_agreement(subset):
    analysis = analysed(subset, {})
    assert analysis.result.items_total == 0
    assert all(estimate.value is None for estimate in analysis.result.agreement.estimates.values())


def test_single_class_of_the_data_is_undefined_not_perfect():
    one = replace(COLOURS, levels=("red",))
    analysis = analysed(one, CONSTANT["nominal"])
    assert analysis.result.agreement.estimates["krippendorff_alpha_nominal"].value is None
    assert analysis.result.agreement.estimates["gwet_ac1"].value is None
    assert analysis.tables["rater_confusion"]["dawid_skene"].isna().all()


def test_no_complete_item_leaves_intraclass_correlations_undefined():
    votes = {"a.wav": {"ann": 1.0, "ben": 2.0}, "b.wav": {"ben": 1.0, "cat": 3.0}}
    estimates = analysed(NATURALNESS, votes).result.agreement.estimates
    assert estimates["icc_1"].why == "no item was rated by all 3 raters; Krippendorff's alpha allows missing ratings"
    assert estimates["krippendorff_alpha_interval"].value is not None


def test_too_many_pairs_of_raters_leave_pooled_values_alone():
    votes = {f"{i:03}.wav": {f"user_{r}": COLOURS.levels[(i + r) % 3] for r in range(70)} for i in range(3)}
    result = analysed(COLOURS, votes, replicates=0).result
    assert result.agreement.pairs == {}
    assert "more than 2,000 pairs of raters" in result.agreement.estimates["cohen_kappa_mean"].why
    assert result.agreement.estimates["cohen_kappa_pooled"].value is not None


@pytest.mark.slow
def test_ten_thousand_raters_are_analysed():
    rng = np.random.default_rng(0)
    votes = {
        f"{i:05}.wav": {f"user_{3 * i + r}": COLOURS.levels[rng.integers(3)] for r in range(3)} for i in range(3400)
    }
    result = analysed(COLOURS, votes, replicates=30).result
    assert len(result.annotators) == 10_200
    assert result.agreement.estimates["percent"].value == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_intervals_from_sums_equal_recomputation_on_the_drawn_clips(subset):
    """The same draws, with every coefficient computed anew from the drawn ratings."""
    votes = random_votes(subset, 25, 3)
    name, values = {
        "nominal": ("krippendorff_alpha_nominal", COEFFICIENT),
        "ordinal": ("gwet_ac2", COEFFICIENT),
        "interval": ("icc_a1", Range(-0.5, 1)),
    }[subset.scale]
    estimate = analysed(subset, votes, replicates=50).result.agreement.estimates[name]
    rng, replicates = np.random.default_rng(0), []
    for _ in range(50):
        copies = {f"{n:03}": votes[f"clip_{clip:03}.wav"] for n, clip in enumerate(rng.integers(0, 25, 25))}
        replicates.append(analysed(subset, copies, replicates=0).result.agreement.estimates[name].value)
    every = [rating for by in votes.values() for rating in by.values()]
    most_frequent = max(subset.levels, key=every.count, default=None)
    units = Units(sum(set(by.values()) != {most_frequent} for by in votes.values()), "clips")
    expected = estimate_from_replicates(estimate.value, np.array(replicates), n=25, units=units, values=values)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_icc_of_k_raters_says_that_all_items_have_the_same_mean():
    votes = {f"c{i}": {"a": 1.0 + 2 * (i % 2), "b": 3.0 - 2 * (i % 2)} for i in range(10)}
    found = analysed(NATURALNESS, votes).result.agreement.estimates
    assert found["icc_1"].value == -1.0
    assert found["icc_1k"].value is None
    assert found["icc_1k"].why == "all items have the same mean rating"
    # Every item has the same difference: no replicate differs, which says nothing about other items.
    assert (found["mean_absolute_difference"].low, found["mean_absolute_difference"].why) == (
        None,
        "no interval: the value is the same in all replicates",
    )


def test_one_item_gives_values_without_intervals_and_says_why():
    found = analysed(NATURALNESS, {"c": {"a": 1.0, "b": 2.0}}).result.agreement.estimates
    assert found["mean_absolute_difference"].why == "no interval: fewer than two clips with an item rated by two raters"
    assert "only 1 common item," in str(found["concordance_mean"].note)

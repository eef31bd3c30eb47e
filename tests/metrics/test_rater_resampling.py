"""Variance over raters: values without each rater against recomputed ones, and jackknives by hand."""

from dataclasses import replace

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from earmark.metrics.agreement import (
    AgreementSums,
    alpha_from_sums,
    cohen_kappa,
    item_contributions,
    nanmean,
    percent_agreement,
    rater_pairs,
)
from earmark.metrics.bootstrap import Bootstrap, Units, estimate_from_replicates, mean_of_rates, paired_difference
from earmark.metrics.intervals import COEFFICIENT, t_quantile
from earmark.metrics.rater_resampling import (
    UNDEFINED_WITHOUT_A_RATER,
    PairDeletions,
    RaterVariation,
    RatingDeletions,
    RecomputedDeletions,
    interval_method,
    rater_variations,
)

Q = 3


def panel(seed, items=12, raters=5, missing=0.2):
    """Item, rater and rating of each rating."""
    rng = np.random.default_rng(seed)
    item, rater = np.nonzero(rng.random((items, raters)) >= missing)
    return item, rater, rng.integers(0, Q, len(item))


def counts_of(item, rating, items):
    counts = np.zeros((items, Q), dtype=np.int64)
    np.add.at(counts, (item, rating), 1)
    return counts


def deletions_of(item, rater, rating, items):
    counts, one = counts_of(item, rating, items), np.eye(Q, dtype=np.int64)

    def change(ratings):
        before = counts[item[ratings]]
        return item_contributions(before - one[rating[ratings]]) - item_contributions(before)

    return RatingDeletions(item, rater, change)


def percent_and_alpha(sums):
    named = AgreementSums.from_sums(sums)
    return np.stack([percent_agreement(named), alpha_from_sums(named, "ordinal")], axis=-1)


def test_jackknife_of_three_raters_by_hand():
    # Three raters of four items: a 0 0 0 0, b 0 0 0 1, c 0 0 1 1. Without a rater, percent agreement is that of the
    # other two: a and b agree on 3 items, a and c on 2, b and c on 3.
    item = np.tile(np.arange(4), 3)
    rater = np.repeat(np.arange(3), 4)
    rating = np.array([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1])
    deletions = deletions_of(item, rater, rating, 4)
    contributions = item_contributions(counts_of(item, rating, 4))
    without = deletions.without(np.ones((1, 4)), np.arange(4), contributions.sum(axis=0)[None], percent_and_alpha)
    assert without[0, :, 0].tolist() == [0.75, 0.5, 0.75]  # b–c, a–c, a–b
    # Mean 2/3; deviations 1/12, −1/6, 1/12; sum of squares 6/144; times (R − 1) / R.
    variation = rater_variations(np.repeat(without, 3, axis=0), deletions.ratings, 4, "both")[0]
    assert variation.jackknife == pytest.approx(2 / 3 * 6 / 144)
    assert variation.noise == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7))
def test_values_without_a_rater_are_those_of_the_other_ratings(seed, raters):
    item, rater, rating = panel(seed, raters=raters)
    names = np.unique(rater)
    deletions = deletions_of(item, rater, rating, 12)
    contributions = item_contributions(counts_of(item, rating, 12))
    multiplicity = np.vstack([np.ones(12), np.random.default_rng(seed).integers(0, 4, 12)])
    without = deletions.without(multiplicity, np.arange(12), multiplicity @ contributions, percent_and_alpha)
    for at, name in enumerate(names):
        left = rater != name
        others = item_contributions(counts_of(item[left], rating[left], 12))
        assert_allclose(without[:, at], percent_and_alpha(multiplicity @ others), atol=1e-9)
    assert deletions.ratings.tolist() == [int((rater == name).sum()) for name in names]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_alpha_without_a_rater_is_that_of_the_krippendorff_package(seed):
    item, rater, rating = panel(seed, items=15, raters=5)
    matrix = np.full((5, 15), np.nan)
    matrix[rater, item] = rating
    deletions = deletions_of(item, rater, rating, 15)
    contributions = item_contributions(counts_of(item, rating, 15))
    without = deletions.without(np.ones((1, 15)), np.arange(15), contributions.sum(axis=0)[None], percent_and_alpha)
    for at in range(5):
        left = np.delete(matrix, at, axis=0)
        if len(np.unique(left[~np.isnan(left)])) > 1:
            expected = krippendorff.alpha(left, value_domain=range(Q), level_of_measurement="ordinal")
            assert without[0, at, 1] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_means_over_pairs_without_a_rater_leave_its_pairs_out(seed):
    item, rater, rating = panel(seed, items=20, raters=4)
    pairs = rater_pairs(item, rater, rating)
    n_pairs = len(pairs.first)

    def kappas(sums):
        each = cohen_kappa(sums.reshape(*sums.shape[:-1], n_pairs, Q, Q))[..., None]
        return each, np.ones_like(each)

    sums = np.bincount(pairs.cells(Q), minlength=n_pairs * Q * Q).astype(float)[None]
    deletions = PairDeletions(pairs.first, pairs.second, kappas, np.bincount(pairs.pair), fixed=(3,))
    without = deletions.without(np.ones((1, 20)), np.arange(20), sums, lambda s: s)
    each = kappas(sums)[0][0, :, 0]
    for at in range(3):  # rater 3 is fixed
        kept = (pairs.first != at) & (pairs.second != at)
        assert_allclose(without[0, at, 0], nanmean(each[kept]), atol=1e-12)
    assert without.shape == (1, 3, 1)


def test_recomputed_deletions_equal_deletions_of_ratings():
    item, rater, rating = panel(3)

    def without(r):
        left = rater != r
        return item_contributions(counts_of(item[left], rating[left], 12))

    contributions = item_contributions(counts_of(item, rating, 12))
    multiplicity = np.vstack([np.ones(12), np.arange(12) % 3])
    arguments = (multiplicity, np.arange(12), multiplicity @ contributions, percent_and_alpha)
    recomputed = RecomputedDeletions(np.bincount(rater), without)
    assert_allclose(recomputed.without(*arguments), deletions_of(item, rater, rating, 12).without(*arguments))
    assert recomputed.without(*arguments).shape == (2, 5, 2)
    assert replace(recomputed, first=1).without(*arguments).shape == (2, 5, 1)


def test_noise_is_the_variance_over_clips_of_the_deviations():
    rng = np.random.default_rng(0)
    without = rng.normal(size=(51, 4, 2))
    variation = rater_variations(without, np.array([5, 5, 5, 5]), 30, "both")[1]
    samples = without[1:, :, 1]
    expected = 3 / 4 * sum(np.var(samples[:, r] - samples.mean(axis=1), ddof=1) for r in range(4)) * 30 / 29
    assert variation.noise == pytest.approx(expected)


def test_effective_number_of_raters():
    without = np.zeros((5, 4, 1))
    assert rater_variations(without, np.array([7, 7, 7, 7]), 9, "both")[0].effective == pytest.approx(4)
    one_did_most = rater_variations(without, np.array([100, 1, 1, 1]), 9, "both")[0]
    assert one_did_most.effective == pytest.approx(1.0006, abs=1e-4)
    assert one_did_most.note().startswith("only 4 raters")


def test_note_from_few_raters_or_few_that_did_most():
    assert RaterVariation("both", 0.1, 0.0, 12, 12.0).note() is None
    assert RaterVariation("both", 0.1, 0.0, 6, 6.0).note() is None
    assert "only 5 raters" in RaterVariation("both", 0.1, 0.0, 5, 5.0).note()
    assert "as if there were 2" in RaterVariation("both", 0.1, 0.0, 30, 2.1).note()


def test_combined_variance_by_hand():
    both = RaterVariation("both", jackknife=0.03, noise=0.01, raters=6, effective=6.0)
    spread = both.combined(0.04, clips=21)
    assert spread.variance == pytest.approx(0.06)
    assert spread.df == pytest.approx(0.06**2 / (0.04**2 / 20 + 0.02 * 0.03 / 5))
    # Without differences between raters only the clips are left.
    none = RaterVariation("both", jackknife=0.01, noise=0.02, raters=6, effective=6.0).combined(0.04, 21)
    assert none == (pytest.approx(0.04), pytest.approx(20))
    # The same clips: the jackknife, unless it is larger than the variance for both.
    assert replace(both, resample="raters").combined(0.04, 21) == (0.03, 5.0)
    assert replace(both, resample="raters").combined(0.001, 21).variance == pytest.approx(0.021)
    assert both.combined(0.0, 1).df >= 1


def test_estimate_is_wider_for_new_raters_and_unchanged_without_variation():
    replicates = np.random.default_rng(1).normal(0.4, 0.05, 500)
    arguments = {"n": 40, "units": Units(40, "clips"), "values": COEFFICIENT}
    over_clips = estimate_from_replicates(0.4, replicates, **arguments)
    variation = RaterVariation("both", 0.01, 0.002, 12, 12.0)
    both = estimate_from_replicates(0.4, replicates, raters=variation, **arguments)
    assert both.low < over_clips.low and both.high > over_clips.high and both.value == over_clips.value
    none = estimate_from_replicates(0.4, replicates, raters=replace(variation, jackknife=0.001), **arguments)
    assert none.low == pytest.approx(over_clips.low) and none.high == pytest.approx(over_clips.high)


def test_estimate_without_a_rater_undefined_has_no_interval():
    replicates = np.random.default_rng(1).normal(0.4, 0.05, 500)
    variation = RaterVariation("both", np.nan, 0.0, 3, 3.0)
    estimate = estimate_from_replicates(0.4, replicates, n=9, units=Units(40, "clips"), raters=variation)
    assert (estimate.value, estimate.low, estimate.why) == (0.4, None, UNDEFINED_WITHOUT_A_RATER)


def test_interval_at_one_has_the_size_of_the_smaller_sample():
    variation = RaterVariation("both", 0.0, 0.0, 8, 8.0)
    estimate = estimate_from_replicates(1.0, np.ones(100), n=90, units=Units(90, "clips"), raters=variation)
    t = t_quantile(89)
    assert estimate.low == pytest.approx(1 / (1 + t * t / 8))


def test_paired_difference_speaks_for_new_raters():
    first = np.random.default_rng(0).normal(0.6, 0.02, 999)
    arguments = {"n": 50, "units": Units(50, "clips")}
    over_clips, p_clips = paired_difference(0.6, 0.5, first, np.full(999, 0.5), **arguments)
    variation = RaterVariation("both", 0.004, 0.0, 12, 12.0)
    both, p_both = paired_difference(0.6, 0.5, first, np.full(999, 0.5), raters=variation, **arguments)
    assert p_both > 0.1 > 0.01 > p_clips
    assert both.low < 0 < over_clips.low


def test_mean_of_rates_uses_the_correlation_over_raters():
    rng = np.random.default_rng(0)
    drawn = 0.7 + 0.03 * rng.normal(size=(800, 2))
    units = (Units(60, "clips"), Units(60, "clips"))
    rate = RaterVariation("both", 0.01, 0.0, 20, 20.0)
    # Raters who say "present" more often raise one rate as they lower the other: their mean does not vary.
    opposed = mean_of_rates([0.7, 0.7], drawn, n=60, units=units, raters=(rate, rate, replace(rate, jackknife=0.0)))
    alike = mean_of_rates([0.7, 0.7], drawn, n=60, units=units, raters=(rate, rate, rate))
    over_clips = mean_of_rates([0.7, 0.7], drawn, n=60, units=units)
    assert opposed.high - opposed.low < 1.6 * (over_clips.high - over_clips.low)
    assert alike.high - alike.low > 2.5 * (over_clips.high - over_clips.low)


def test_bootstrap_ignores_deletions_unless_asked():
    item, rater, rating = panel(5, items=40, raters=6)
    rating = np.where(rater < 2, item % Q, rating)  # two raters agree, the others guess
    contributions = item_contributions(counts_of(item, rating, 40))
    bootstrap = Bootstrap.from_units(np.arange(40), 100, np.random.default_rng(0))
    deletions = deletions_of(item, rater, rating, 40)
    arguments = {"n": [40, 40], "why": ["", ""]}
    plain = bootstrap.estimates(contributions, percent_and_alpha, **arguments)
    assert bootstrap.estimates(contributions, percent_and_alpha, deletions=deletions, **arguments) == plain
    for resample in ("raters", "both"):
        asked = replace(bootstrap, resample=resample)
        assert asked.estimates(contributions, percent_and_alpha, **arguments) == plain
        other = asked.estimates(contributions, percent_and_alpha, deletions=deletions, **arguments)
        assert [e.value for e in other] == [e.value for e in plain]
        assert [e.low for e in other] != [e.low for e in plain]
    assert replace(bootstrap, resample="both").take(np.arange(9)).resample == "both"


def test_bootstrap_jackknife_equals_recomputed_values():
    item, rater, rating = panel(6, items=40, raters=6)
    contributions = item_contributions(counts_of(item, rating, 40))
    bootstrap = Bootstrap.from_units(np.arange(40) // 2, 50, np.random.default_rng(0), resample="both")
    deletions = deletions_of(item, rater, rating, 40)
    variations = bootstrap.rater_variations(contributions, percent_and_alpha, 2, deletions)
    values = []
    for name in range(6):
        left = rater != name
        others = item_contributions(counts_of(item[left], rating[left], 40)).sum(axis=0)
        values.append(percent_and_alpha(others[None])[0])
    assert_allclose([v.jackknife for v in variations], 5 / 6 * 6 * np.var(values, axis=0), rtol=1e-9)


@pytest.mark.parametrize("raters", [1, 2])
def test_one_or_two_raters_have_no_interval_for_new_raters(raters):
    item, rater, rating = panel(7, items=30, raters=raters, missing=0.0)
    contributions = item_contributions(counts_of(item, rating, 30))
    bootstrap = Bootstrap.from_units(np.arange(30), 50, np.random.default_rng(0), resample="both")
    deletions = deletions_of(item, rater, rating, 30)
    percent = bootstrap.estimates(
        contributions, percent_and_alpha, n=[30, 30], why=["none", "none"], deletions=deletions
    )[0]
    assert percent.low is None


def test_a_category_of_one_rater_makes_alpha_undefined_without_this_rater():
    item, rater, rating = np.tile(np.arange(30), 3), np.repeat(np.arange(3), 30), np.zeros(90, dtype=np.int64)
    rating[:5] = 1
    contributions = item_contributions(counts_of(item, rating, 30))
    bootstrap = Bootstrap.from_units(np.arange(30), 100, np.random.default_rng(0), resample="both")
    percent, alpha = bootstrap.estimates(
        contributions,
        percent_and_alpha,
        n=[30, 30],
        why=["", ""],
        deletions=deletions_of(item, rater, rating, 30),
    )
    assert percent.low is not None
    assert (alpha.low, alpha.why) == (None, UNDEFINED_WITHOUT_A_RATER)


def test_interval_method_names_what_was_resampled():
    assert interval_method("clips", 1000) == "clip-bootstrap-1000"
    assert interval_method("raters", 1000) == "rater-jackknife"
    assert interval_method("both", 200) == "clip-bootstrap-200+rater-jackknife"

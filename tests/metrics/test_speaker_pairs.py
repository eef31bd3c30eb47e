"""Standard errors of means over trials that share speakers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from earmark.metrics.speaker_pairs import PairSums, SpeakerPairs, linear_combination


def trials(seed=0, n=200, speakers=9):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, speakers, (2, n))
    influence = rng.normal(size=n) + 0.8 * rng.normal(size=speakers)[first] + 0.8 * rng.normal(size=speakers)[second]
    return first, second, influence - influence.mean(), speakers


def by_definition(first, second, influence):
    """Σ over ordered pairs of trials that share a speaker of the product of their influences."""
    total = 0.0
    for i in range(len(first)):
        for j in range(len(first)):
            if {first[i], second[i]} & {first[j], second[j]}:
                total += influence[i] * influence[j]
    return total


@pytest.mark.parametrize("seed", range(4))
def test_variance_matches_definition(seed):
    first, second, influence, speakers = trials(seed)
    sums = SpeakerPairs.from_speakers(first, second, speakers).sums(influence)
    expected = max(by_definition(first, second, influence), sums.by_pair) * speakers / (speakers - 1)
    variance = sums.variance()
    assert variance.standard_error**2 == pytest.approx(expected)
    assert 1 <= variance.df <= speakers - 1


def test_variance_invariant_to_sides_and_order():
    first, second, influence, speakers = trials()
    order = np.random.default_rng(1).permutation(len(first))
    one = SpeakerPairs.from_speakers(first, second, speakers).sums(influence).variance()
    other = SpeakerPairs.from_speakers(second[order], first[order], speakers).sums(influence[order]).variance()
    assert one == pytest.approx(other)


def test_variance_at_least_that_of_independent_trials():
    first, second = np.arange(0, 40, 2), np.arange(1, 40, 2)
    influence = np.random.default_rng(2).normal(size=20)
    variance = SpeakerPairs.from_speakers(first, second, 40).sums(influence).variance()
    assert variance.standard_error**2 == pytest.approx((influence**2).sum() * 40 / 39)


def test_variance_of_target_mean():
    values = np.random.default_rng(3).normal(size=(12, 5))
    speaker = np.repeat(np.arange(12), 5)
    influence = (values - values.mean()).ravel() / values.size
    variance = SpeakerPairs.from_speakers(speaker, speaker, 12).sums(influence).variance()
    assert variance.standard_error == pytest.approx(values.mean(axis=1).std(ddof=1) / np.sqrt(12))


def test_variance_df_small_with_dominant_speaker():
    speaker = np.arange(50)
    influence = np.full(50, 0.01)
    influence[0] = 5
    assert SpeakerPairs.from_speakers(speaker, speaker, 50).sums(influence - influence.mean()).variance().df < 3


def test_variance_undefined_for_one_speaker():
    alone = np.zeros(4, dtype=np.int64)
    assert np.isnan(SpeakerPairs.from_speakers(alone, alone, 1).sums(np.ones(4)).variance().standard_error)


def test_linear_combination_of_lists_equals_pooled_list():
    first, second, influence, speakers = trials()
    half = np.arange(len(first)) < 70
    parts = [
        (w, SpeakerPairs.from_speakers(first[k], second[k], speakers).sums(influence[k]))
        for w, k in ((2.0, half), (3.0, ~half))
    ]
    weighted = np.where(half, 2, 3) * influence
    whole = SpeakerPairs.from_speakers(first, second, speakers).sums(weighted)
    result = linear_combination(parts)
    assert result.code.tolist() == whole.code.tolist()
    assert_allclose(result.sums, whole.sums)


def test_difference_with_itself_has_no_error():
    first, second, influence, speakers = trials()
    sums = SpeakerPairs.from_speakers(first, second, speakers).sums(influence)
    assert (sums - sums).variance().standard_error == 0
    assert isinstance(sums - sums, PairSums)


def test_take_keeps_selected_trials():
    first, second, influence, speakers = trials()
    kept = np.arange(len(first)) % 3 == 0
    whole = SpeakerPairs.from_speakers(first, second, speakers).take(kept).sums(influence[kept])
    direct = SpeakerPairs.from_speakers(first[kept], second[kept], speakers).sums(influence[kept])
    assert whole.code.tolist() == direct.code.tolist()
    assert_allclose(whole.sums, direct.sums)

"""Comparisons with raters whose intervals speak for other raters: the jackknife by hand, and degenerate data."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import t

from earmark.annotation.new_raters import MOST_GROUPS, ComparedScore, for_new_raters
from earmark.annotation.parity import Parity
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.estimate import Estimate
from earmark.metrics.resample import Resample

CLIPS = 40


def rated(quality: np.ndarray, resample: Resample):
    """A comparison whose person score is the mean of the quality of the raters, and whose model score is 0.9."""
    rater = np.tile(np.arange(len(quality)), CLIPS)
    bootstrap = Bootstrap.from_units(
        np.repeat(np.arange(CLIPS), len(quality)), 200, np.random.default_rng(0), resample=resample
    )

    def evaluate(keep: np.ndarray, drawn: Bootstrap) -> np.ndarray:
        person = quality[rater[keep]].mean() if keep.any() else np.nan
        return np.broadcast_to([0.9, person], (1 + len(drawn.weights), 1, 2)).astype(float)

    person = float(quality.mean())
    parity = Parity(9, Estimate(0.9), Estimate(person), Estimate(0.9 - person), 0.5)
    score = ComparedScore("score", parity, bootstrap.units)
    return for_new_raters([score], evaluate, rater, bootstrap)["score"]


@pytest.mark.parametrize("resample", ["raters", "both"])
def test_for_new_raters_equals_the_mean_of_raters_by_hand(resample: Resample):
    # The clips do not vary, so the variance is that of a mean of eight raters, whose jackknife is exact.
    quality = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.7, 0.75, 0.8])
    found = rated(quality, resample)
    half = t.ppf(0.975, 7) * quality.std(ddof=1) / sqrt(8)
    assert found.difference.low == pytest.approx(0.9 - quality.mean() - half, abs=1e-6)
    assert found.difference.high == pytest.approx(0.9 - quality.mean() + half, abs=1e-6)
    assert found.person.low < quality.mean() - 0.8 * half


def test_for_new_raters_over_clips_changes_nothing():
    found = rated(np.array([0.5, 0.7, 0.9]), "clips")
    assert (found.p, found.difference.low) == (0.5, None)


def test_for_new_raters_leaves_groups_out_together():
    quality = np.random.default_rng(0).normal(0.6, 0.1, 3 * MOST_GROUPS)
    found = rated(quality, "raters")
    half = t.ppf(0.975, MOST_GROUPS - 1) * quality.std(ddof=1) / sqrt(len(quality))
    assert found.difference.high - found.difference.low == pytest.approx(2 * half, rel=0.15)


def test_for_new_raters_says_why_there_is_no_interval():
    found = rated(np.array([0.7]), "both")  # nothing is left without the rater
    assert found.difference.low is None
    assert "undefined without one of the raters" in (found.difference.why or "")


def test_limited_keeps_possible_differences():
    parity = Parity(3, Estimate(1.0), Estimate(0.5), Estimate(0.5, -1.4, 2.4), 0.4).limited()
    assert (parity.difference.low, parity.difference.high) == (-1.0, 1.0)
    assert Parity.undefined("no rating").limited().difference.why == "no rating"

"""What a scored list amounts to: every metric with its interval, and systems compared on the same draws."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from earmark.suites.trials import Trials, speakers_of
from earmark.suites.verification import Draws, compared, evaluate


def scored():
    rng = np.random.default_rng(0)
    names = np.array([f"spk{i // 5}/{i}.wav" for i in range(60)], dtype=object)
    enrolment, test = rng.integers(0, 60, (2, 800))
    test = np.where(rng.random(800) < 0.4, enrolment // 5 * 5 + rng.integers(0, 5, 800), test)
    labels = enrolment // 5 == test // 5
    return Trials(names, enrolment, test, labels, rng.normal(size=800) + 1.5 * labels)


def test_every_metric_has_a_value_an_interval_and_counts_beside_it():
    trials = scored()
    found = evaluate(trials, speakers_of(trials.names), replicates=200, rng=np.random.default_rng(1))
    assert list(found.metrics) == ["eer", "eer_interpolated", "eer_case", "min_dcf", "act_dcf", "cllr", "min_cllr"]
    for name, estimate in found.metrics.items():
        if name != "eer_case":
            assert estimate.low <= estimate.value <= estimate.high, name
    assert found.counts["n_trials"] == 800
    assert found.counts["n_target"] + found.counts["n_nontarget"] == 800
    assert found.counts["n_speakers"] == 12
    assert found.resampled == "speakers"
    json.dumps({name: e.as_dict() for name, e in found.metrics.items()}, allow_nan=False)


def test_without_speakers_utterances_are_resampled_and_that_is_said():
    found = evaluate(scored(), None, replicates=50, rng=np.random.default_rng(1))
    assert (found.resampled, found.counts["n_speakers"]) == ("utterances", 0)


def test_leaving_self_trials_out_keeps_the_rest_as_it_was():
    trials = scored()
    strict = trials.take(~trials.is_self)
    assert len(strict) == 800 - trials.is_self.sum()
    assert not strict.is_self.any()
    assert len(strict.labels) == len(strict.scores) == len(strict)


def test_the_same_draws_serve_several_lists():
    trials = scored()
    speakers = speakers_of(trials.names)
    draws = Draws.of(speakers, 100, np.random.default_rng(3))
    whole, again = (evaluate(trials, speakers, draws=draws) for _ in range(2))
    assert whole.metrics == again.metrics
    assert whole.replicates["eer"].shape == (100,)
    alone = evaluate(trials, speakers, replicates=100, rng=np.random.default_rng(3))
    assert alone.metrics == whole.metrics


def test_a_bar_knows_how_many_chunks_there_are():
    trials = scored()
    speakers = speakers_of(trials.names)
    seen = []

    def watch(chunks, total):
        seen.append(total)
        for chunk in chunks:
            seen.append(len(chunk))
            yield chunk

    draws = Draws.of(speakers, 700, np.random.default_rng(0))
    watched = evaluate(trials, speakers, draws=draws, watch=watch)
    assert seen[0] == len(seen) - 1 and sum(seen[1:]) == 700
    assert watched.metrics == evaluate(trials, speakers, draws=draws).metrics


def test_a_single_speaker_gives_no_interval():
    trials = scored()
    assert evaluate(trials, ["one"] * 60, replicates=50).metrics["eer"].low is None


def test_a_system_that_only_adds_noise_is_worse_by_a_significant_difference():
    trials = scored()
    noisy = Trials(
        trials.names, trials.enrolment, trials.test, trials.labels,
        trials.scores + np.random.default_rng(5).normal(size=800) * 3,
    )  # fmt: skip
    draws = Draws.of(speakers_of(trials.names), 500, np.random.default_rng(3))
    first, second = (evaluate(t, speakers_of(t.names), draws=draws) for t in (trials, noisy))
    difference, p = compared(first, second)["eer"]
    assert difference.value == pytest.approx(first.metrics["eer"].value - second.metrics["eer"].value)
    assert difference.high < 0
    assert p < 0.05
    same, p_same = compared(first, first)["eer"]
    assert (same.value, same.low, same.high, p_same) == (0, 0, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("separation", [2.5, 0.6])
def test_speaker_intervals_cover_the_rate_of_the_population(separation):
    """Speakers differ in how well they are told apart; the population's rate is known for normal scores."""
    rng, spread, speakers, hits = np.random.default_rng(0), 0.5, 24, []
    wide, narrow = np.sqrt(1 + spread**2), np.sqrt(1 + spread**2 / 2)
    true = norm.sf(separation / (wide + narrow))  # where the tails of targets and others are alike
    names = np.array([f"spk{s}/{u}" for s in range(speakers) for u in range(4)], dtype=object)
    for _ in range(120):
        own, other = spread * rng.normal(size=(2, speakers))
        enrolment = rng.integers(0, len(names), 1500)
        same = enrolment // 4 * 4 + rng.integers(0, 4, 1500)
        test = np.where(rng.random(1500) < 0.3, same, rng.integers(0, len(names), 1500))
        one, second = enrolment // 4, test // 4
        labels = one == second
        shift = np.where(labels, separation + own[one], (other[one] + other[second]) / 2)
        trials = Trials(names, enrolment, test, labels, rng.normal(size=1500) + shift)
        found = evaluate(trials, speakers_of(names), replicates=200, rng=rng).metrics["eer"]
        hits.append(found.low <= true <= found.high)
    assert 0.9 <= np.mean(hits) <= 1

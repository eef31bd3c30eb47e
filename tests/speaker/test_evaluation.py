"""Metrics of a scored list with their intervals, and paired comparisons of two systems."""

import json

import numpy as np
import pytest

from earmark.metrics.detection import METRICS
from earmark.speaker.evaluation import SpeakerSource, compare_systems, evaluate
from earmark.speaker.trials import Trials, linked_speakers, speakers_from_paths


def scored_trials():
    rng = np.random.default_rng(0)
    names = np.array([f"spk{i // 5}/{i}.wav" for i in range(60)], dtype=object)
    enrolment, test = rng.integers(0, 60, (2, 800))
    test = np.where(rng.random(800) < 0.4, enrolment // 5 * 5 + rng.integers(0, 5, 800), test)
    labels = enrolment // 5 == test // 5
    return Trials(names, enrolment, test, labels, rng.normal(size=800) + 1.5 * labels)


def test_evaluate_returns_all_metrics_and_counts():
    trials = scored_trials()
    result = evaluate(trials, speakers_from_paths(trials.names))
    assert list(result.metrics) == list(METRICS)
    for name, estimate in result.metrics.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert "only 12 speakers have trials of the rarer class (95 % intervals need at least 50)" in estimate.note
    assert result.counts.n_trials == 800
    assert result.counts.n_target + result.counts.n_nontarget == 800
    assert result.counts.n_speakers == 12
    assert result.speakers == "speakers"
    json.dumps({name: e.as_dict() for name, e in result.metrics.items()}, allow_nan=False)


def test_evaluate_values_do_not_depend_on_intervals():
    trials = scored_trials()
    with_, without = (evaluate(trials, speakers_from_paths(trials.names), intervals=wanted) for wanted in (True, False))
    assert {n: e.value for n, e in with_.metrics.items()} == {n: e.value for n, e in without.metrics.items()}
    assert all(estimate.low is None for estimate in without.metrics.values())


def test_evaluate_groups_linked_utterances_if_speakers_are_unknown():
    trials = scored_trials()
    known, linked = (evaluate(trials, speakers) for speakers in (speakers_from_paths(trials.names), None))
    assert (linked.speakers, linked.counts.n_speakers) == (SpeakerSource.LINKED, 0)
    assert linked_speakers(trials) == [f"spk{i // 5}/{i // 5 * 5}.wav" for i in range(60)], "all of them are linked"
    for name, estimate in linked.metrics.items():
        assert (estimate.low, estimate.high) == pytest.approx((known.metrics[name].low, known.metrics[name].high))


def test_evaluate_uses_utterances_if_labels_contradict_links():
    names = np.array(list("abcd"), dtype=object)
    labels = np.array([True, True, False, False])  # a = b, b = c, but a is not c
    trials = Trials(names, np.array([0, 1, 0, 3]), np.array([1, 2, 2, 0]), labels, np.array([2.0, 1.0, 0.5, 0.1]))
    assert linked_speakers(trials) is None
    assert evaluate(trials, None).speakers == SpeakerSource.UTTERANCES


def test_take_excludes_self_trials():
    trials = scored_trials()
    strict = trials.take(~trials.is_self)
    assert len(strict) == 800 - trials.is_self.sum()
    assert not strict.is_self.any()
    assert len(strict.labels) == len(strict.scores) == len(strict)


def test_evaluate_ignores_order_of_trials_and_sides():
    trials, order = scored_trials(), np.random.default_rng(7).permutation(800)
    swapped = Trials(
        trials.names, trials.test[order], trials.enrolment[order], trials.labels[order], trials.scores[order]
    )
    original, reordered = (evaluate(t, speakers_from_paths(t.names)).metrics for t in (trials, swapped))
    for name, estimate in original.items():
        assert (estimate.low, estimate.high) == pytest.approx((reordered[name].low, reordered[name].high)), name


def test_evaluate_tracks_progress_of_jackknife():
    trials, seen = scored_trials(), []

    def track_progress(groups, total):
        seen.append(total)
        for group in groups:
            seen.append(group)
            yield group

    tracked = evaluate(trials, speakers_from_paths(trials.names), track_progress=track_progress)
    assert seen == [12, *range(12)]
    assert tracked.metrics == evaluate(trials, speakers_from_paths(trials.names)).metrics


def test_evaluate_single_speaker_has_no_interval():
    eer = evaluate(scored_trials(), ["one"] * 60).metrics["eer"]
    assert eer.low is None and "fewer than two speakers" in eer.why


def test_compare_systems_detects_added_noise():
    trials = scored_trials()
    noisy = trials.with_scores(trials.scores + np.random.default_rng(5).normal(size=800) * 3)
    first, second = (evaluate(t, speakers_from_paths(t.names)) for t in (trials, noisy))
    difference, p = compare_systems(first, second)["eer"]
    assert difference.value == pytest.approx(first.metrics["eer"].value - second.metrics["eer"].value)
    assert difference.high < 0
    assert p < 0.05
    same, p_same = compare_systems(first, first)["eer"]
    assert (same.value, same.low, same.high, p_same) == (0, 0, 0, 1)


def test_compare_systems_with_few_errors_has_no_p_value():
    trials = scored_trials()
    noisy = trials.with_scores(trials.scores + np.random.default_rng(5).normal(size=800) * 0.1)
    both = compare_systems(*(evaluate(t, speakers_from_paths(t.names), p_target=0.001) for t in (trials, noisy)))
    difference, p = both["min_dcf"]
    assert p is None and "few misses or false alarms at a threshold" in difference.note
    assert difference.low < difference.value < difference.high

"""Properties of trial lists and the speakers that they imply."""

import numpy as np

from earmark.speaker.trials import Trials, contradicting_trials, speakers_from_paths


def test_is_self_and_is_repeated():
    trials = Trials(np.array(["a", "b"], dtype=object), np.array([0, 0, 0, 1]), np.array([1, 0, 1, 0]))
    assert trials.is_self.tolist() == [False, True, False, False]
    assert trials.is_repeated.tolist() == [False, False, True, False]


def test_speakers_from_paths():
    assert speakers_from_paths(["ann/1.wav", "ben/en/2.wav"]) == ["ann", "ben"]
    assert speakers_from_paths(["1.wav"]) is None
    assert speakers_from_paths(["ann/1.wav", "1.wav"]) is None


def test_contradicting_trials_finds_target_trial_of_two_speakers():
    trials = Trials(np.array(["a", "b"], dtype=object), np.array([0]), np.array([1]), np.array([True]))
    assert contradicting_trials(trials, ["ann", "ben"]).tolist() == [0]
    assert contradicting_trials(trials, ["ann", "ann"]).tolist() == []

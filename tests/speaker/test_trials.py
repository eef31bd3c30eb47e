"""Properties of trial lists and the speakers that they imply."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("seed", range(5))
def test_repeated_and_contradicting_pairs_do_not_depend_on_parts_or_integers(monkeypatch, chunk, dtype, seed):
    monkeypatch.setattr("earmark.speaker.trials.CHUNK_LINES", chunk)
    rng = np.random.default_rng(seed)
    sides = rng.integers(0, 4, (2, 12)).astype(dtype)
    trials = Trials(np.array(list("abcd"), dtype=object), *sides, rng.random(12) < 0.5)
    pairs = list(zip(*sides.tolist(), strict=True))
    assert trials.is_repeated.tolist() == [pair in pairs[:number] for number, pair in enumerate(pairs)]
    both = {
        tuple(sorted(pair))
        for pair, label in zip(pairs, trials.labels, strict=True)
        if label
        and any({*pair} == {*other} and not against for other, against in zip(pairs, trials.labels, strict=True))
    }
    found = trials.conflicting_labels()
    assert (found[2] if found else 0) == len(both)
    wrong = [label != (a // 2 == b // 2) for (a, b), label in zip(pairs, trials.labels, strict=True)]
    assert contradicting_trials(trials, ["x", "x", "y", "y"]).tolist() == np.flatnonzero(wrong).tolist()


def test_repeated_pairs_of_many_names_do_not_overflow_32_bits():
    names = np.array([f"u{i}" for i in range(70_000)], dtype=object)  # 70,000² > 2³²
    sides = np.array([[61_357, 0, 61_357], [69_000, 0, 69_000]], dtype=np.int32)
    assert Trials(names, *sides).is_repeated.tolist() == [False, False, True]
    apart = np.array([[0, 61_356], [20_000, 67_296]], dtype=np.int32)  # equal modulo 2³²
    assert Trials(names, *apart).is_repeated.tolist() == [False, False]

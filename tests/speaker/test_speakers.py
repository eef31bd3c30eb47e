"""Whose utterances are whose: maps that fit, maps that do not quite, paths and links for the rest."""

import numpy as np
import pytest

from earmark.errors import DataError
from earmark.speaker.evaluation import evaluate
from earmark.speaker.speakers import SpeakerOrigin, read_speaker_map, resolve_speakers
from earmark.speaker.trials import Trials

SPEAKERS, EACH = 6, 3


def trials_of(spell, seed=0):
    """Every pair of utterances of six speakers, scored; spell: (speaker, utterance) → name."""
    names = np.array([spell(s, u) for s in range(SPEAKERS) for u in range(EACH)], dtype=object)
    first, second = np.triu_indices(len(names), 1)
    labels = first // EACH == second // EACH
    scores = np.random.default_rng(seed).normal(size=len(labels)) + 2 * labels
    return Trials(names, first, second, labels, scores)


def flat(s, u):
    return f"s{s}_{u}.wav"


def below(s, u):
    return f"s{s}/{u}.wav"


def mapped(folder, spell=flat, lines=lambda name, speaker: f"{name} {speaker}\n", without=()):
    path = folder / "map"
    pairs = [(s, u) for s in range(SPEAKERS) for u in range(EACH) if (s, u) not in without]
    path.write_text("".join(lines(spell(s, u), f"S{s}") for s, u in pairs))
    return path


def groups(names):
    """Which utterances have one speaker, whatever the speakers are called."""
    return [names.index(name) for name in names]


WHOLE = [s * EACH for s in range(SPEAKERS) for _ in range(EACH)]


def test_a_map_that_fits_says_all(tmp_path):
    found = resolve_speakers(trials_of(flat), mapped(tmp_path))
    assert found.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert (found.origins, found.notes) == ({SpeakerOrigin.MAP: 18}, [])


def test_without_a_map_paths_say_all_or_nothing():
    assert resolve_speakers(trials_of(below)).names == [f"s{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert resolve_speakers(trials_of(below)).origins == {SpeakerOrigin.PATH: 18}
    unknown = resolve_speakers(trials_of(flat))
    assert (unknown.names, unknown.origins, unknown.notes) == (None, {}, [])


@pytest.mark.parametrize(
    ("spell", "origin", "said"),
    [
        (
            flat,
            SpeakerOrigin.LINKED,
            "lacks 1 of the list's 18 utterances (s2_1.wav): 1 of the speaker that target",
        ),
        (
            below,
            SpeakerOrigin.PATH,
            "lacks 1 of the list's 18 utterances (s2/1.wav): 1 taken to be of the speaker of",
        ),
    ],
)
def test_an_utterance_that_a_map_lacks_has_the_speaker_of_its_folder_or_of_what_links_it(tmp_path, spell, origin, said):
    trials = trials_of(spell)
    found = resolve_speakers(trials, mapped(tmp_path, spell, without=[(2, 1)]))
    assert found.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert found.origins == {SpeakerOrigin.MAP: 17, origin: 1}
    assert len(found.notes) == 1 and said in found.notes[0]
    whole, filled = (
        evaluate(trials, one.names).metrics["eer"] for one in (resolve_speakers(trials, mapped(tmp_path, spell)), found)
    )
    assert filled == whole


def test_a_speaker_that_a_map_lacks_is_one_by_the_links_of_its_utterances(tmp_path):
    found = resolve_speakers(trials_of(flat), mapped(tmp_path, without=[(4, 0), (4, 1), (4, 2)]))
    assert groups(found.names) == WHOLE
    assert found.origins == {SpeakerOrigin.MAP: 15, SpeakerOrigin.LINKED: 3}


def test_an_utterance_that_nothing_links_counts_for_itself(tmp_path):
    trials = trials_of(flat)
    alone = (trials.enrolment != 7) & (trials.test != 7) | ~trials.labels
    found = resolve_speakers(trials.take(alone), mapped(tmp_path, without=[(2, 1)]))
    assert groups(found.names) == [7 if i == 7 else one for i, one in enumerate(WHOLE)]
    assert found.origins == {SpeakerOrigin.MAP: 17, SpeakerOrigin.ITSELF: 1}
    assert "1 each for itself, so that intervals are too narrow" in found.notes[0]


def test_folders_that_labels_contradict_say_nothing_of_what_a_map_lacks(tmp_path):
    """The folder is a session, of which the map lacks both speakers' utterances."""
    trials = trials_of(lambda s, u: f"session/{flat(s, u)}" if s > 3 else below(s, u))
    path = mapped(tmp_path, below, without=[(s, u) for s in (4, 5) for u in range(EACH)])
    found = resolve_speakers(trials, path)
    assert groups(found.names) == WHOLE
    assert found.origins == {SpeakerOrigin.MAP: 12, SpeakerOrigin.LINKED: 6}


@pytest.mark.parametrize(
    ("in_list", "in_map", "example"),
    [
        (flat, lambda s, u: f"s{s}_{u}", "s0_0.wav as s0_0"),
        (flat, lambda s, u: f"s{s}_{u}.flac", "s0_0.wav as s0_0.flac"),
        (lambda s, u: f"data/s{s}_{u}.wav", flat, "data/s0_0.wav as s0_0.wav"),
        (flat, lambda s, u: f"data/x/s{s}_{u}", "s0_0.wav as data/x/s0_0"),
        (lambda s, u: f"wav/s{s}/{u}.wav", lambda s, u: f"s{s}/{u}", "wav/s0/0.wav as s0/0"),
    ],
)
def test_a_map_by_other_suffixes_or_folders_is_taken_to_mean_the_list(tmp_path, in_list, in_map, example):
    found = resolve_speakers(trials_of(in_list), mapped(tmp_path, in_map))
    assert found.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert len(found.notes) == 1
    assert f"names 18 utterances by another suffix or folder ({example}, " in found.notes[0]


def test_a_name_that_may_be_of_several_files_is_nobodys(tmp_path):
    path = tmp_path / "map"
    path.write_text("0.wav ann\nx/1.wav ben\ny/1.wav ben\n2.wav cem\n")
    assert read_speaker_map(path, ["s0/0.wav", "s1/0.wav", "1.wav", "a/2.flac", "ab/3.wav"]).speakers == {
        "a/2.flac": "cem"
    }


@pytest.mark.parametrize("spell", [flat, lambda s, u: f"s{s}_{u}"], ids=["same names", "other suffixes"])
def test_a_map_the_other_way_round_is_read_so_and_said(tmp_path, spell):
    path = mapped(tmp_path, spell, lambda name, speaker: f"{speaker} {name}\n")
    found = resolve_speakers(trials_of(flat), path)
    assert found.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert "its lines are `speaker utterance`, and were read so" in found.notes[0]


def test_an_utterance_of_two_speakers_is_a_fault(tmp_path):
    path = mapped(tmp_path)
    path.write_text(path.read_text() + f"{flat(0, 0)} S3\n")
    with pytest.raises(DataError, match=r"line 19: 's0_0\.wav' has the speaker 'S3', and on line 1 'S0'"):
        resolve_speakers(trials_of(flat), path)


@pytest.mark.parametrize(("spell", "origins"), [(below, {SpeakerOrigin.PATH: 18}), (flat, {})])
def test_a_map_of_another_list_is_not_used_and_said(tmp_path, spell, origins):
    found = resolve_speakers(trials_of(spell), mapped(tmp_path, lambda s, u: f"other{s}-{u}"))
    assert found.origins == origins
    assert len(found.notes) == 1
    assert "lacks 18 of the list's 18 utterances" in found.notes[0]
    assert "it has other0-0. Nothing of it was used" in found.notes[0]


@pytest.mark.parametrize("without", [(), [(5, 0)]])
def test_a_map_that_labels_contradict_is_not_used_and_an_example_is_named(tmp_path, without):
    path = mapped(tmp_path, without=without)
    path.write_text(path.read_text().replace("s1_0.wav S1", "s1_0.wav S0"))
    found = resolve_speakers(trials_of(flat), path)
    assert (found.names, found.origins) == (None, {})
    said = found.notes[-1]
    assert "contradict the speakers in 5 of" in said  # two targets of S1, three non-targets with S0
    assert "as in the non-target trial of s0_0.wav of S0 and s1_0.wav of S0" in said


def test_a_model_has_the_speaker_of_its_utterances(tmp_path):
    names = np.array(["model0", "model1", "s0_2.wav", "s1_2.wav"], dtype=object)
    trials = Trials(names, np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3]), np.array([True, False, False, True]))
    models = {f"model{s}": [flat(s, 0), flat(s, 1)] for s in (0, 1)}
    assert resolve_speakers(trials, mapped(tmp_path), models).names == ["S0", "S1", "S0", "S1"]
    by_path = {"model0": ["s0/0", "s0/1"], "model1": ["s1/0"]}
    paths = Trials(np.array(["model0", "model1", "s0/2", "s1/2"], dtype=object), *trials_parts(trials))
    assert resolve_speakers(paths, None, by_path).names == ["s0", "s1", "s0", "s1"]


def trials_parts(trials):
    return trials.enrolment, trials.test, trials.labels

"""Speakers of utterances: from maps, from paths and from target trials."""

import numpy as np
import pytest

from earmark.errors import DataError
from earmark.speaker.evaluation import evaluate
from earmark.speaker.speakers import SpeakerOrigin, read_speaker_map, resolve_speakers
from earmark.speaker.trials import Trials

SPEAKERS, EACH = 6, 3


def all_pairs(spell, seed=0):
    """Scored trials of all pairs of utterances of six speakers; spell maps (speaker, utterance) to a name."""
    names = np.array([spell(s, u) for s in range(SPEAKERS) for u in range(EACH)], dtype=object)
    first, second = np.triu_indices(len(names), 1)
    labels = first // EACH == second // EACH
    scores = np.random.default_rng(seed).normal(size=len(labels)) + 2 * labels
    return Trials(names, first, second, labels, scores)


def flat(s, u):
    return f"s{s}_{u}.wav"


def in_folder(s, u):
    return f"s{s}/{u}.wav"


def write_map(folder, spell=flat, lines=lambda name, speaker: f"{name} {speaker}\n", without=()):
    path = folder / "map"
    pairs = [(s, u) for s in range(SPEAKERS) for u in range(EACH) if (s, u) not in without]
    path.write_text("".join(lines(spell(s, u), f"S{s}") for s, u in pairs))
    return path


def groups(names):
    """For each utterance, the first utterance with the same speaker."""
    return [names.index(name) for name in names]


EXPECTED_GROUPS = [s * EACH for s in range(SPEAKERS) for _ in range(EACH)]


def test_resolve_speakers_from_map(tmp_path):
    speakers = resolve_speakers(all_pairs(flat), write_map(tmp_path))
    assert speakers.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert (speakers.origins, speakers.notes) == ({SpeakerOrigin.MAP: 18}, [])


def test_resolve_speakers_from_paths():
    assert resolve_speakers(all_pairs(in_folder)).names == [f"s{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert resolve_speakers(all_pairs(in_folder)).origins == {SpeakerOrigin.PATH: 18}
    unknown = resolve_speakers(all_pairs(flat))
    assert (unknown.names, unknown.origins, unknown.notes) == (None, {}, [])


@pytest.mark.parametrize(
    ("spell", "origin", "message"),
    [
        (
            flat,
            SpeakerOrigin.LINKED,
            "no speaker for 1 of 18 utterances (s2_1.wav): 1 assigned by target trials.",
        ),
        (
            in_folder,
            SpeakerOrigin.PATH,
            "no speaker for 1 of 18 utterances (s2/1.wav): 1 assigned by folder.",
        ),
    ],
)
def test_missing_utterance_is_assigned_by_folder_or_links(tmp_path, spell, origin, message):
    trials = all_pairs(spell)
    speakers = resolve_speakers(trials, write_map(tmp_path, spell, without=[(2, 1)]))
    assert speakers.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert speakers.origins == {SpeakerOrigin.MAP: 17, origin: 1}
    assert len(speakers.notes) == 1 and message in speakers.notes[0]
    complete = resolve_speakers(trials, write_map(tmp_path, spell))
    assert evaluate(trials, speakers.names).metrics["eer"] == evaluate(trials, complete.names).metrics["eer"]


def test_missing_speaker_is_assigned_by_links(tmp_path):
    speakers = resolve_speakers(all_pairs(flat), write_map(tmp_path, without=[(4, 0), (4, 1), (4, 2)]))
    assert groups(speakers.names) == EXPECTED_GROUPS
    assert speakers.origins == {SpeakerOrigin.MAP: 15, SpeakerOrigin.LINKED: 3}


def test_missing_utterance_without_links_is_its_own_speaker(tmp_path):
    trials = all_pairs(flat)
    alone = (trials.enrolment != 7) & (trials.test != 7) | ~trials.labels
    speakers = resolve_speakers(trials.take(alone), write_map(tmp_path, without=[(2, 1)]))
    assert groups(speakers.names) == [7 if i == 7 else group for i, group in enumerate(EXPECTED_GROUPS)]
    assert speakers.origins == {SpeakerOrigin.MAP: 17, SpeakerOrigin.ITSELF: 1}
    assert "1 each counted as its own speaker, so intervals are too narrow" in speakers.notes[0]


def test_folders_that_contradict_labels_are_not_used(tmp_path):
    """The folder is a session with two speakers; the map contains neither of them."""
    trials = all_pairs(lambda s, u: f"session/{flat(s, u)}" if s > 3 else in_folder(s, u))
    path = write_map(tmp_path, in_folder, without=[(s, u) for s in (4, 5) for u in range(EACH)])
    speakers = resolve_speakers(trials, path)
    assert groups(speakers.names) == EXPECTED_GROUPS
    assert speakers.origins == {SpeakerOrigin.MAP: 12, SpeakerOrigin.LINKED: 6}


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
def test_map_matches_other_suffixes_and_folders(tmp_path, in_list, in_map, example):
    speakers = resolve_speakers(all_pairs(in_list), write_map(tmp_path, in_map))
    assert speakers.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert len(speakers.notes) == 1
    assert f"18 utterances are matched despite another suffix or folder ({example}, " in speakers.notes[0]


def test_ambiguous_names_are_not_matched(tmp_path):
    path = tmp_path / "map"
    path.write_text("0.wav ann\nx/1.wav ben\ny/1.wav ben\n2.wav cem\n")
    assert read_speaker_map(path, ["s0/0.wav", "s1/0.wav", "1.wav", "a/2.flac", "ab/3.wav"]).speakers == {
        "a/2.flac": "cem"
    }


@pytest.mark.parametrize("spell", [flat, lambda s, u: f"s{s}_{u}"], ids=["same names", "other suffixes"])
def test_reversed_map_is_read_with_a_note(tmp_path, spell):
    path = write_map(tmp_path, spell, lambda name, speaker: f"{speaker} {name}\n")
    speakers = resolve_speakers(all_pairs(flat), path)
    assert speakers.names == [f"S{s}" for s in range(SPEAKERS) for _ in range(EACH)]
    assert "its lines are read as `speaker utterance`" in speakers.notes[0]


def test_map_with_two_speakers_of_one_utterance_is_an_error(tmp_path):
    path = write_map(tmp_path)
    path.write_text(path.read_text() + f"{flat(0, 0)} S3\n")
    with pytest.raises(DataError, match=r"line 19: 's0_0\.wav' has the speaker 'S3', but 'S0' on line 1"):
        resolve_speakers(all_pairs(flat), path)


@pytest.mark.parametrize(("spell", "origins"), [(in_folder, {SpeakerOrigin.PATH: 18}), (flat, {})])
def test_map_of_another_list_is_not_used(tmp_path, spell, origins):
    speakers = resolve_speakers(all_pairs(spell), write_map(tmp_path, lambda s, u: f"other{s}-{u}"))
    assert speakers.origins == origins
    assert len(speakers.notes) == 1
    assert "no speaker for 18 of 18 utterances" in speakers.notes[0]
    assert "the map has other0-0). The map is not used." in speakers.notes[0]


@pytest.mark.parametrize("without", [(), [(5, 0)]])
def test_map_that_contradicts_labels_is_not_used(tmp_path, without):
    path = write_map(tmp_path, without=without)
    path.write_text(path.read_text().replace("s1_0.wav S1", "s1_0.wav S0"))
    speakers = resolve_speakers(all_pairs(flat), path)
    assert (speakers.names, speakers.origins) == (None, {})
    note = speakers.notes[-1]
    assert "contradict the speakers in 5 of" in note  # two targets of S1, three non-targets with S0
    assert "for example the non-target trial of s0_0.wav (speaker S0) and s1_0.wav (speaker S0)" in note


def test_enrolment_model_has_speaker_of_its_utterances(tmp_path):
    names = np.array(["model0", "model1", "s0_2.wav", "s1_2.wav"], dtype=object)
    trials = Trials(names, np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3]), np.array([True, False, False, True]))
    models = {f"model{s}": [flat(s, 0), flat(s, 1)] for s in (0, 1)}
    assert resolve_speakers(trials, write_map(tmp_path), models).names == ["S0", "S1", "S0", "S1"]
    by_path = {"model0": ["s0/0", "s0/1"], "model1": ["s1/0"]}
    paths = Trials(np.array(["model0", "model1", "s0/2", "s1/2"], dtype=object), *sides_and_labels(trials))
    assert resolve_speakers(paths, None, by_path).names == ["s0", "s1", "s0", "s1"]


def sides_and_labels(trials):
    return trials.enrolment, trials.test, trials.labels

"""Training clips: lists, faults, exclusions, held-out speakers, batches."""

from collections import Counter

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from earmark.errors import DataError, EarmarkError, MissingError
from earmark.speaker.finetune.clips import Waveforms, check_clips
from earmark.speaker.finetune.data import (
    Utterance,
    crosses_languages,
    epoch_batches,
    overlapping_speakers,
    prepare_data,
    read_utterances,
    require_no_overlap,
    steps_per_epoch,
    validation_trials,
)
from earmark.speaker.finetune.recipe import recipes, with_settings
from tests.speaker.finetune.voices import write_voices

STRICT = with_settings(recipes()["strict"], ["validation_share=0.25"])


def utterances(counts, tmp_path):
    """{speaker: number of clips}; two languages in turn."""
    clips = [(speaker, ("de", "en")[n % 2], n) for speaker, count in counts.items() for n in range(count)]
    return [
        Utterance(tmp_path / f"{speaker}{n}.wav", f"{speaker}/{language}/{n}.wav", speaker, language)
        for speaker, language, n in clips
    ]


def prepare(clips, recipe=STRICT, seed=0, lengths=None):
    return prepare_data(clips, lengths or {clip.name: 40_000 for clip in clips}, 32_000, recipe, seed)


# --- reading --------------------------------------------------------------------------------------------------


def test_read_utterances_of_folder_takes_speaker_and_language_from_path(tmp_path):
    read = read_utterances(write_voices(tmp_path, 2, 1))
    assert [(each.name, each.speaker, each.language) for each in read] == [
        ("spk0/de/0.wav", "spk0", "de"),
        ("spk0/en/0.wav", "spk0", "en"),
        ("spk1/de/0.wav", "spk1", "de"),
        ("spk1/en/0.wav", "spk1", "en"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "path,speaker,language,gender\nspk0/de/0.wav,anna,Deutsch,female\nspk1/en/0.wav,ben,English,m\n"),
        ("list.txt", "spk0/de/0.wav anna\nspk1/en/0.wav ben\n"),
    ],
)
def test_read_utterances_of_list(tmp_path, name, content):
    write_voices(tmp_path / "audio", 2, 1)
    (tmp_path / name).write_text(content)
    read = read_utterances(tmp_path / name, tmp_path / "audio")
    assert [each.speaker for each in read] == ["anna", "ben"]
    expected = [("Deutsch", "f"), ("English", "m")] if name.endswith("csv") else [("de", ""), ("en", "")]
    assert [(each.language, each.gender) for each in read] == expected


def test_read_utterances_prefers_speaker_map(tmp_path):
    write_voices(tmp_path, 2, 1)
    (tmp_path / "list.txt").write_text("spk0/de/0.wav\nspk1/en/0.wav\n")
    (tmp_path / "map").write_text("spk0/de/0.wav anna\n")
    read = read_utterances(tmp_path / "list.txt", speakers=tmp_path / "map")
    assert [each.speaker for each in read] == ["anna", "spk1"]


def test_read_utterances_groups_faults(tmp_path):
    write_voices(tmp_path, 1, 1)
    (tmp_path / "list.txt").write_text("spk0/de/0.wav\nspk0/de/0.wav\ngone/1.wav\ngone/2.wav\nflat.wav\n")
    with pytest.raises(EarmarkError) as caught:
        read_utterances(tmp_path / "list.txt")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("list.txt: 5 faults")
    assert lines[1:4] == [
        "  3 × does not exist: gone/1.wav, gone/2.wav, flat.wav",
        "  1 × is listed more than once: spk0/de/0.wav",
        "  1 × has no speaker: flat.wav",
    ]


def test_read_utterances_names_invalid_lines(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a/1.wav a x\n\nb/1.wav \xff\n")
    with pytest.raises(DataError, match=r"line 1: has 3 values[\s\S]*line 2: has 0 values[\s\S]*line 3: is not UTF-8"):
        read_utterances(tmp_path / "list.txt")


def test_read_utterances_names_missing_list(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        read_utterances(tmp_path / "none")
    with pytest.raises(EarmarkError, match="contains no clips"):
        read_utterances(tmp_path)


def test_check_clips_groups_unusable_audio_and_keeps_result(tmp_path):
    folder = write_voices(tmp_path / "audio", 2, 1)
    soundfile.write(folder / "spk0/de/0.wav", np.zeros(8000), 16_000)
    soundfile.write(folder / "spk0/en/0.wav", np.full(8000, np.nan), 16_000, subtype="FLOAT")
    (folder / "spk1/de/0.wav").write_bytes(b"no audio")
    clips, seen = read_utterances(folder), []

    def check(allow_missing):
        return check_clips(
            clips, folder, tmp_path, Waveforms(), allow_missing=allow_missing, workers=2,
            track=lambda each, n: (seen.append(n), each)[1],
        )  # fmt: skip

    with pytest.raises(EarmarkError, match=r"3 faults[\s\S]*silent[\s\S]*not finite[\s\S]*--allow-missing"):
        check(allow_missing=False)
    assert check(allow_missing=True) == {"spk1/en/0.wav": 11_200}
    assert check(allow_missing=True) == {"spk1/en/0.wav": 11_200} and seen == [4, 4]  # the last one is read from disk
    with pytest.raises(EarmarkError, match="3 clips are unusable"):
        check(allow_missing=False)


# --- selection ------------------------------------------------------------------------------------------------


def test_prepare_data_counts_what_it_leaves_out(tmp_path):
    clips = utterances({"a": 3, "b": 3, "c": 3, "d": 3, "lonely": 1, "short": 3}, tmp_path)
    lengths = {clip.name: 31_999 if clip.speaker == "short" else 32_000 for clip in clips if clip.name != "a/de/0.wav"}
    data = prepare(clips, lengths=lengths)
    assert data.excluded == {
        "unusable clips": 1,
        "clips shorter than 200 frames": 3,
        "clips of speakers with fewer than 2 clips": 1,
    }
    assert len(data.training) + len(data.held_out) == 11


def test_prepare_data_holds_out_whole_speakers(tmp_path):
    clips = utterances({f"s{n}": 3 for n in range(12)}, tmp_path)
    first, same, other = (prepare(clips, seed=seed) for seed in (1, 1, 2))
    held_out = {each.speaker for each in first.held_out}
    assert len(held_out) == 3 and not held_out & set(first.speakers)
    assert first == same != other
    assert Counter(first.labels.tolist()) == dict.fromkeys(range(9), 3)


def test_prepare_data_of_published_recipe_trains_on_all(tmp_path):
    clips = utterances({"a": 3, "b": 1}, tmp_path)
    data = prepare(clips, recipes()["published"])
    assert data.training == tuple(clips) and data.held_out == ()


@pytest.mark.parametrize("recipe", ["published", "strict"])
def test_prepare_data_refuses_one_clip_per_speaker(tmp_path, recipe):
    clips = utterances({"a": 1, "b": 1, "c": 1}, tmp_path)
    with pytest.raises(EarmarkError, match="Each of the 3 speakers has one clip"):
        prepare(clips, recipes()[recipe])


def test_prepare_data_needs_two_speakers(tmp_path):
    with pytest.raises(EarmarkError, match="at least two speakers; 1 remain"):
        prepare(utterances({"a": 3}, tmp_path), recipes()["published"])
    with pytest.raises(EarmarkError, match=r"2 speakers with two clips are needed for validation, and 1 have them"):
        prepare(utterances({"a": 3, "b": 1}, tmp_path))


def test_validation_trials_have_labels_of_speakers(tmp_path):
    clips = utterances({"a": 4, "b": 4}, tmp_path)
    trials = validation_trials(clips, 0)
    assert len(trials) == 28  # all pairs of 8 clips: 12 targets and 16 non-targets
    speakers = np.array([str(name).split("/")[0] for name in trials.names])
    np.testing.assert_array_equal(speakers[trials.enrolment] == speakers[trials.test], trials.labels)
    crossing = crosses_languages(trials, {clip.name: clip.language for clip in clips})
    assert crossing.sum() == 16 and crossing[trials.labels].sum() == 8
    assert crosses_languages(trials, {}) is None


# --- overlap --------------------------------------------------------------------------------------------------


def test_overlap_names_training_speakers_in_lists(tmp_path):
    clips = utterances({"a": 2, "b": 2, "c": 2}, tmp_path)
    (tmp_path / "dev.txt").write_text("1 x/1.wav x/2.wav\n0 b/7.wav x/1.wav\n0 a/de/0.wav x/1.wav\n")
    (tmp_path / "other.txt").write_text("1 x/1.wav x/2.wav\n0 y/7.wav x/1.wav\n")
    found = overlapping_speakers(clips, [tmp_path / "dev.txt", tmp_path / "other.txt"])
    assert found == {tmp_path / "dev.txt": ["a", "b"]}
    with pytest.raises(EarmarkError, match=r"dev.txt: 2 training speakers \(a, b\)[\s\S]*--allow-overlap"):
        require_no_overlap(found, allowed=False)
    require_no_overlap(found, allowed=True)


def test_overlap_uses_speaker_map_for_lists_without_folders(tmp_path):
    clips = utterances({"a": 2, "b": 2}, tmp_path)
    (tmp_path / "dev.txt").write_text("1 u1 u2\n0 u1 u3\n")
    (tmp_path / "map").write_text("u1 zoe\nu2 zoe\nu3 b\n")
    assert overlapping_speakers(clips, [tmp_path / "dev.txt"], tmp_path / "map") == {tmp_path / "dev.txt": ["b"]}


# --- batches --------------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 2), st.integers(0, 3))
def test_epoch_batches_of_all_processes_are_disjoint(n, size, processes, epoch):
    batches = [epoch_batches(n, size, 0, epoch, rank, processes) for rank in range(processes)]
    assert {len(own) for own in batches} == {steps_per_epoch(n, size, processes)}
    chosen = np.concatenate([batch for own in batches for batch in own])
    assert len(set(chosen.tolist())) == len(chosen) and chosen.max() < n
    assert len({len(batch) for own in batches for batch in own}) == 1
    assert n - len(chosen) < size * processes


def test_epoch_batches_differ_by_epoch_not_by_call():
    first, again, second = (epoch_batches(50, 5, 7, epoch)[0].tolist() for epoch in (1, 1, 2))
    assert first == again != second

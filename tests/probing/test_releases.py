"""Public data sets in the folders of their releases: the same tasks as tar files of X-ARES, and incomplete copies."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from earmark.errors import DataError, EarmarkError, MissingError
from earmark.probing import releases
from earmark.probing.data import TaskData
from earmark.probing.layouts import LocatedTask, locate_task
from earmark.probing.reading import read_task_data
from earmark.probing.releases import RELEASES, find_release, readme_row
from earmark.probing.sources import source_overlap
from earmark.probing.xares import differences_from_published, published_tasks, published_test_clips
from tests.probing import release_trees as trees
from tests.probing.test_reading import listed, pack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "trees").mkdir()
    return tmp_path / "trees"


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept releases with a few clips of each kind."""
    monkeypatch.setattr(releases, "MIN_SHARE", 0)


def located(task: str, root: Path) -> LocatedTask:
    return locate_task(published_tasks()[task], root)


def read(task: str, root: Path) -> TaskData:
    return read_task_data(located(task, root))


def built(task: str, root: Path) -> TaskData:
    folder, write = trees.TREES[task]
    write(root / folder)
    return read(task, root)


# --- the same task as in the tar files ------------------------------------------------------------------------------


def test_esc50_release_gives_the_data_of_the_tar_files(root: Path, tmp_path: Path):
    release = built("esc50", root)
    rows = (line.split(",") for line in (root / "ESC-50-master/meta/esc50.csv").read_text().splitlines()[1:])
    by_fold: dict[str, dict[str, object]] = {}
    for name, fold, target, *_ in rows:
        stem = name.removesuffix(".wav")
        audio = (root / "ESC-50-master/audio" / name).read_bytes()
        by_fold.setdefault(fold, {}).update({name: audio, f"{stem}.json": {"label": int(target)}})
    for fold, members in by_fold.items():
        pack(tmp_path / f"tars/esc50/wds-audio-fold-{fold}-0.tar", members)
    packed = read("esc50", tmp_path / "tars")
    assert (release.classes, release.group) == (packed.classes, packed.group) and release.classes == ["0", "1", "2"]
    np.testing.assert_array_equal(np.asarray(release.labels), np.asarray(packed.labels))
    np.testing.assert_array_equal(release.parts, packed.parts)
    assert [clip.name for clip in release.clips] == [clip.name for clip in packed.clips]
    assert release.names[0] == "audio/1-1000-A-0.wav" and release.group[0] == "1000"  # the recording on Freesound


def test_urbansound_release_has_the_folds_and_recordings_of_the_authors(root: Path):
    data = built("urbansound8k", root)
    assert data.classes == ["dog_bark", "drilling", "siren"] and data.fold is not None
    assert list(dict.fromkeys(data.fold.tolist())) == [str(fold) for fold in range(1, 11)]
    assert data.names[:2] == ["audio/fold1/100-0-0-0.wav", "audio/fold1/100-0-0-1.wav"]
    assert data.group[:2] == ["100", "100"] and source_overlap(data) is None and data.own_split == ""


def test_cremad_release_is_split_by_actor(root: Path, any_size: None):
    data = built("cremad", root)
    assert data.classes == ["A", "D", "F", "H", "N", "S"]  # as in X-ARES
    actors = {part: sorted({g for g, p in zip(data.group, data.parts, strict=True) if p == part}) for part in
              ("train", "valid", "test")}  # fmt: skip
    assert actors["valid"] == ["1006", "1013"] and actors["test"] == ["1007", "1014"] and len(actors["train"]) == 10
    assert source_overlap(data) is None and "own split by actor" in data.own_split


def test_cremad_split_of_all_actors_is_65_13_13(root: Path, any_size: None):
    trees.cremad(root / "CREMA-D", actors=91)
    data = read("cremad", root)
    pairs = set(zip(data.group, data.parts.tolist(), strict=True))
    assert Counter(part for _, part in pairs) == {"train": 65, "valid": 13, "test": 13}


def test_ravdess_release_has_1440_spoken_clips_in_folds_of_six_actors(root: Path):
    data = built("ravdess", root)
    assert data.fold is not None and Counter(data.fold.tolist()) == dict.fromkeys("0123", 360)
    assert len(data.classes) == 8 and Counter(data.labels.tolist())[data.classes.index("neutral")] == 96
    for fold in "0123":
        actors = {int(g) for g, f in zip(data.group, data.fold, strict=True) if f == fold}
        assert len(actors) == 6 and sum(actor % 2 for actor in actors) == 3  # odd numbers are men
    assert source_overlap(data) is None
    assert not any("/03-02" in name for name in data.names)  # songs


def test_ravdess_release_in_the_folder_of_its_archive(root: Path):
    trees.ravdess(root / "Audio_Speech_Actors_01-24")
    assert len(read("ravdess", root).clips) == 1440
    (root / "ravdess").mkdir()
    (root / "Audio_Speech_Actors_01-24").rename(root / "ravdess/audio_speech_actors_01-24")
    assert read("ravdess", root).names[0] == "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav"


@pytest.mark.parametrize(("task", "words"), [("speechcommandsv1", 30), ("speechcommandsv2", 35)])
def test_speech_commands_release_has_the_lists_of_the_authors(root: Path, any_size: None, task: str, words: int):
    data = built(task, root)
    assert len(data.classes) == words and Counter(data.parts.tolist()) == {
        "train": 4 * words, "valid": words, "test": words,
    }  # fmt: skip
    assert source_overlap(data) is None and not any("background" in name for name in data.names)
    assert {g for g, p in zip(data.group, data.parts, strict=True) if p == "test"} == {"00000005"}


@pytest.mark.parametrize(
    ("version", "where"),
    [
        ("speechcommandsv1", "speechcommandsv1"),
        ("speechcommandsv1", "speech_commands_v0.02"),
        ("speechcommandsv2", "speech_commands"),
    ],
)
def test_other_version_of_speech_commands_is_named(root: Path, any_size: None, version: str, where: str):
    other = "speechcommandsv2" if version == "speechcommandsv1" else "speechcommandsv1"
    trees.TREES[other][1](root / where)
    number, n = ("0.02", 35) if other == "speechcommandsv2" else ("0.01", 30)
    with pytest.raises(EarmarkError, match=rf"version {number} with {n} words .* Use the task {other}") as caught:
        read(version, root)
    assert caught.value.exit_code == 1 and located(version, root).state == "incomplete"


@pytest.mark.parametrize(
    ("folder", "inner", "suffix"),
    [("GTZAN", "genres", "au"), ("archive", "Data/genres_original", "wav"), ("gtzan_genre", "genres", "wav")],
)
def test_gtzan_release_has_ten_folds_without_the_damaged_track(root: Path, folder: str, inner: str, suffix: str):
    base = root if folder == "archive" else root / folder
    trees.gtzan(base, inner, suffix)
    (base / inner / f"jazz/jazz.00054.{suffix}").write_bytes(b"damaged")
    data = read("gtzan_genre", root)
    assert data.fold is not None and len(data.clips) == 999
    assert Counter(data.fold.tolist()) == {str(f): 99 if f == 5 else 100 for f in range(10)}
    assert not any("jazz.00054" in name for name in data.names) and "own folds" in data.own_split


@pytest.mark.parametrize("meta", [True, False])
def test_vocalsound_release_is_split_by_the_lists_of_speakers(root: Path, any_size: None, meta: bool):
    trees.vocalsound(root / "vocalsound", meta=meta)  # the lists of clips name the same speakers
    data = read("vocalsound", root)
    assert Counter(data.parts.tolist()) == {"train": 18, "valid": 6, "test": 12} and len(data.classes) == 6
    assert sorted({g for g, p in zip(data.group, data.parts, strict=True) if p == "test"}) == ["f0006", "m0005"]


def test_fsd50k_release_has_several_labels_and_uploaders(root: Path):
    data = built("fsd50k", root)
    assert data.classes == ["Bark", "Dog", "Rain"]
    assert np.asarray(data.labels)[:4].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]]
    assert Counter(data.parts.tolist()) == {"train": 12, "valid": 4, "test": 8}
    assert data.group[:3] == ["uploader user50", "uploader user50", "uploader user51"]
    for path in (root / "FSD50K/FSD50K.metadata").iterdir():
        path.unlink()  # optional
    assert read("fsd50k", root).group[0] == "FSD50K.dev_audio/100.wav"


def test_readme_row_of_every_release_is_in_the_readme():
    lines = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in map(readme_row, RELEASES) if line not in lines] == []


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_complete_release_is_compared_with_published_scores_only_if_the_splits_are_the_same(release):
    """With the numbers of classes, folds and test clips of X-ARES, only splits of one's own are a difference."""
    task = published_tasks()[release.task]
    n, classes = published_test_clips()[task.name].n, [str(i) for i in range(task.n_classes or 0)]
    parts = [list(task.folds)[i % len(task.folds)] for i in range(n)] if task.folds else ["train", "valid"]
    parts += [] if task.folds else ["test"] * n
    found = differences_from_published(
        task, classes, parts, folds=bool(task.folds), own_split=release.own_split
    )  # fmt: skip
    assert found == release.own_split
    assert bool(found) == (task.name in ("cremad", "ravdess", "gtzan_genre"))


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["esc50", "ESC-50-master", "esc-50", "esc50/ESC-50-master"])
def test_find_release_in_the_folders_that_people_use(root: Path, where: str):
    trees.esc50(root / where)
    found = find_release("esc50", root)
    assert found is not None and found.folder == root / where
    place = located("esc50", root)
    assert (place.layout, place.state, place.notes) == ("ESC-50 release", "present", "")
    assert place.size == sum(file.stat().st_size for file in (root / where).rglob("*") if file.is_file())


def test_locate_task_prefers_manifest_then_complete_tar_files(root: Path):
    trees.esc50(root / "ESC-50")
    for fold in range(1, 5):
        pack(root / f"esc50/wds-audio-fold-{fold}-0.tar", {})
    assert located("esc50", root).layout == "ESC-50 release"  # one fold is missing among the tar files
    pack(root / "esc50/wds-audio-fold-5-0.tar", {})
    assert located("esc50", root).layout == "tar files"
    listed(root / "esc50", "path,label,fold\n")
    assert located("esc50", root).layout == "manifest.csv"
    assert located("cremad", root).layout == "–"


def test_user_task_with_the_name_of_a_release_is_not_searched(tmp_path: Path):
    assert find_release("mine", tmp_path) is None and find_release("esc50", tmp_path / "nowhere") is None


def test_fingerprint_of_a_release_follows_clips_and_labels(root: Path):
    trees.esc50(root / "ESC-50")

    def hashes() -> tuple[str, str]:
        place = located("esc50", root)
        return place.labels_hash, place.fingerprint

    labels, everything = hashes()
    table = root / "ESC-50/meta/esc50.csv"
    table.write_text(table.read_text().replace("1-1000-A-0.wav,1,0,", "1-1000-A-0.wav,1,1,"))
    new_labels, new_everything = hashes()
    assert labels != new_labels and everything != new_everything
    clip = root / "ESC-50/audio/1-1000-A-0.wav"
    content = clip.read_bytes()
    clip.unlink()
    clip.write_bytes(content)
    assert hashes()[0] == new_labels and hashes()[1] != new_everything
    (root / "ESC-50").rename(root / "esc50")
    assert hashes()[0] == new_labels  # independent of the place


# --- incomplete and invalid copies ----------------------------------------------------------------------------------


def fails(task: str, root: Path, error: type[EarmarkError], message: str, code: int) -> None:
    with pytest.raises(error, match=message) as caught:
        read(task, root)
    assert caught.value.exit_code == code
    place = located(task, root)
    assert place.state == "incomplete" and place.notes and not place.notes.startswith(f"{task}:")


def test_missing_metadata_file_is_named_with_archives_that_are_not_unpacked(root: Path):
    trees.esc50(root / "ESC-50")
    (root / "ESC-50/meta/esc50.csv").unlink()
    fails("esc50", root, MissingError, r"esc50: ESC-50 release in .*ESC-50: meta/esc50\.csv not found\.$", 2)
    trees.fsd50k(root / "FSD50K")
    (root / "FSD50K/FSD50K.ground_truth/eval.csv").unlink()
    (root / "FSD50K/FSD50K.doc.zip").write_bytes(b"PK")
    fails("fsd50k", root, MissingError, r"FSD50K\.ground_truth/eval\.csv not found\. Not unpacked: FSD50K\.doc\.zip", 2)


def test_half_unpacked_release_names_the_number_and_the_first_clips(root: Path):
    trees.urbansound8k(root / "UrbanSound8K")
    for file in sorted((root / "UrbanSound8K/audio/fold10").iterdir()):
        file.unlink()
    message = r"6 of 60 clips not found: audio/fold10/1000-0-0-0\.wav, .*1002-2-0-0\.wav and 1 more\. Unpack"
    fails("urbansound8k", root, MissingError, message, 2)
    (root / "UrbanSound8K/audio/fold10").rmdir()
    fails("urbansound8k", root, MissingError, message, 2)
    data = read_task_data(located("urbansound8k", root), require_audio=False)  # embeddings need no audio
    assert len(data.clips) == 60


def test_half_unpacked_ravdess_and_gtzan_name_clips_without_a_list(root: Path):
    trees.ravdess(root / "RAVDESS")
    for file in (root / "RAVDESS/Actor_24").iterdir():
        file.unlink()
    fails("ravdess", root, MissingError, r"60 of 1,440 clips not found: Actor_24/03-01-01-01-01-01-24\.wav, ", 2)
    trees.gtzan(root / "GTZAN")
    (root / "GTZAN/genres/rock/rock.00003.au").unlink()
    fails("gtzan_genre", root, MissingError, r"1 of 999 clips not found: genres/rock/rock\.00003\.au\. ", 2)


def test_release_without_list_of_clips_needs_most_of_them(root: Path):
    trees.cremad(root / "CREMA-D")
    fails("cremad", root, MissingError, r"84 of 7,442 clips found\. Unpack the archives completely", 2)
    trees.speech_commands(root / "speech_commands_v0.01")
    fails("speechcommandsv1", root, MissingError, r"180 of 64,721 clips found", 2)
    trees.vocalsound(root / "vs_release_16k")
    fails("vocalsound", root, MissingError, r"36 of 21,024 clips found", 2)


def test_git_lfs_links_are_named(root: Path, any_size: None):
    """The ZIP of the CREMA-D repository has links in place of audio."""
    trees.cremad(root / "CREMA-D")
    clip = root / "CREMA-D/AudioWAV/1001_DFA_ANG_XX.wav"
    clip.unlink()
    clip.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    fails("cremad", root, MissingError, r"1 clips are links of Git LFS without audio: AudioWAV/1001_DFA_ANG_XX\.wav", 2)


def test_missing_audio_folder_is_named(root: Path):
    (root / "CREMA-D").mkdir()
    (root / "CREMA-D/finishedResponses.csv").write_text("x\n")
    fails("cremad", root, MissingError, r"AudioWAV/ not found", 2)
    trees.vocalsound(root / "vocalsound")
    for path in (root / "vocalsound/audio_16k").iterdir():
        path.unlink()
    (root / "vocalsound/audio_16k").rmdir()
    fails("vocalsound", root, MissingError, r"audio_16k/ or audio_44k/ not found", 2)


def test_missing_lists_of_speech_commands_and_vocalsound_are_named(root: Path, any_size: None):
    trees.speech_commands(root / "speech_commands_v0.01")
    (root / "speech_commands_v0.01/testing_list.txt").unlink()
    fails("speechcommandsv1", root, MissingError, r"testing_list\.txt not found", 2)
    trees.vocalsound(root / "vocalsound", meta=False)
    (root / "vocalsound/datafiles/te.json").unlink()
    fails("vocalsound", root, MissingError, r"meta/te_meta\.csv or datafiles/te\.json not found", 2)


def test_listed_clip_of_speech_commands_and_word_folder_must_exist(root: Path, any_size: None):
    trees.speech_commands(root / "speech_commands")
    (root / "speech_commands/bed/00000005_nohash_0.wav").unlink()
    fails("speechcommandsv1", root, MissingError, r"1 of 180 clips not found: bed/00000005_nohash_0\.wav\.", 2)
    for path in (root / "speech_commands/zero").iterdir():
        path.unlink()
    (root / "speech_commands/zero").rmdir()
    fails("speechcommandsv1", root, MissingError, r"folders not found: zero", 2)


@pytest.mark.parametrize(
    ("task", "file", "old", "new", "message"),
    [
        ("esc50", "meta/esc50.csv", "fold", "part", r"line 1, column fold: is missing"),
        (
            "esc50",
            "meta/esc50.csv",
            "1-1000-A-0.wav,1,0",
            "1-1000-A-0.wav,one,0",
            r"fold: 'one' is not a number",
        ),
        ("urbansound8k", "metadata/UrbanSound8K.csv", "class\n", "classes\n", r"column class: is missing"),
        ("fsd50k", "FSD50K.ground_truth/dev.csv", ",val", ",dev", r"column split: 'dev' is not train or val"),
    ],
)
def test_invalid_metadata_is_named_by_line(root: Path, task: str, file: str, old: str, new: str, message: str):
    folder, write = trees.TREES[task]
    write(root / folder)
    path = root / folder / file
    path.write_text(path.read_text().replace(old, new, 1))
    fails(task, root, DataError, message, 1)


def test_repeated_unlabelled_and_unknown_clips_are_named(root: Path, any_size: None):
    trees.urbansound8k(root / "UrbanSound8K")
    table = root / "UrbanSound8K/metadata/UrbanSound8K.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, rows[-1]]))
    fails("urbansound8k", root, EarmarkError, r"listed more than once: audio/fold10/1002-2-0-1\.wav", 1)
    table.write_text("\n".join([*rows[:-1], rows[-1].removesuffix("drilling")]))
    fails("urbansound8k", root, EarmarkError, r"no label: audio/fold10/1002-2-0-1\.wav", 1)
    trees.cremad(root / "CREMA-D")
    trees.tone_file(root / "CREMA-D/AudioWAV/copy.wav", 1)
    fails("cremad", root, EarmarkError, r"1 unknown file names: copy\.wav", 1)
    trees.vocalsound(root / "vocalsound")
    trees.tone_file(root / "vocalsound/audio_16k/f9999_0_cough.wav", 1)
    fails("vocalsound", root, EarmarkError, r"1 files with no speaker in the metadata: f9999_0_cough\.wav", 1)


def test_damaged_json_is_named(root: Path, any_size: None):
    trees.fsd50k(root / "FSD50K")
    (root / "FSD50K/FSD50K.metadata/dev_clips_info_FSD50K.json").write_text("{")
    fails("fsd50k", root, EarmarkError, r"dev_clips_info_FSD50K\.json: invalid JSON", 1)

"""Reading clips and labels from tar files and manifests, and errors for invalid ones."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from earmark.audio.clips import TarMember
from earmark.audio.decode import read_audio
from earmark.errors import DataError, EarmarkError, MissingError
from earmark.probing import reading
from earmark.probing.data import TaskData
from earmark.probing.layouts import locate_task
from earmark.probing.task_files import select_tasks
from earmark.probing.tasks import Task
from earmark.probing.xares import published_tasks

DEMO = Path(__file__).resolve().parents[2] / "dataset/speaker-demo/tasks"
CREMAD = published_tasks()["cremad"]


def read_data(task: Task, data_root: Path) -> TaskData:
    return reading.read_task_data(locate_task(task, data_root))


def sound(suffix: str = "wav", level: float = 0.1) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.full(800, level, dtype=np.float32), 8000, format=suffix)
    return out.getvalue()


def pack(path: Path, members: Mapping[str, bytes | Any]) -> Path:
    """A tar file of these members; values that are not bytes are written as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pairs(labels: Mapping[str, Any], key: str = "label", suffix: str = "wav") -> dict[str, Any]:
    return {f: c for k, v in labels.items() for f, c in ((f"{k}.{suffix}", sound(suffix)), (f"{k}.json", {key: v}))}


def cremad(root: Path, **parts: Mapping[str, Any]) -> Path:
    """CREMA-D in its published layout; `parts` replaces the members of a split."""
    usual = {"train": {"1001_a": "ANG", "1002_b": "SAD"}, "valid": {"1003_c": "ANG"}, "test": {"1004_d": "SAD"}}
    for split, labels in usual.items():
        pack(root / f"cremad/wds-audio-{split}-0.tar", parts.get(split) or pairs(labels))
    return root


def test_read_tar_pairs(tmp_path: Path):
    result = read_data(CREMAD, cremad(tmp_path))
    assert [clip.name for clip in result.clips] == ["1001_a.wav", "1002_b.wav", "1003_c.wav", "1004_d.wav"]
    assert (np.asarray(result.labels).tolist(), result.classes) == ([0, 1, 0, 1], ["ANG", "SAD"])
    assert result.split is not None and result.split.tolist() == ["train", "train", "valid", "test"]
    assert result.fold is None
    assert result.group == ["1001", "1002", "1003", "1004"]  # the actor in CREMA-D file names
    assert isinstance(result.clips[0], TarMember)
    np.testing.assert_allclose(read_audio(result.clips[0]), 0.1, atol=1e-3)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_read_tar_audio_formats(tmp_path: Path, suffix: str):
    train = pairs({"a/1": "ANG", "b/1": "SAD"}, suffix=suffix) | {"README.txt": b"x", "a/._1.json": b"junk"}
    result = read_data(CREMAD, cremad(tmp_path, train=train))
    assert [clip.name for clip in result.clips][:2] == [f"a/1.{suffix}", f"b/1.{suffix}"]
    assert result.group[0] == f"wds-audio-train-0.tar:a/1.{suffix}"  # no actor in the name: the clip itself
    assert len(read_audio(result.clips[1])) >= 800


def test_read_tar_shards_in_name_order(tmp_path: Path):
    cremad(tmp_path)
    pack(tmp_path / "cremad/sub/wds-audio-train-1.tar", pairs({"x": "ANG"}))  # subfolder, as from a zip file
    pack(tmp_path / "cremad/.zip.part/wds-audio-train-2.tar", pairs({"y": "ANG"}))  # incomplete unpacking
    names = [clip.name for clip in read_data(CREMAD, tmp_path).clips]
    assert sorted(names) == ["1001_a.wav", "1002_b.wav", "1003_c.wav", "1004_d.wav", "x.wav"]


def test_read_folds_and_esc50_sources(tmp_path: Path):
    for fold in range(1, 6):
        labels = {f"{fold}-{fold}00-A-7": 7, f"{fold}-{fold}00-B-12": 12}
        pack(tmp_path / f"esc50/wds-audio-fold-{fold}-000.tar", pairs(labels))
    result = read_data(published_tasks()["esc50"], tmp_path)
    assert result.split is None and result.fold is not None
    assert result.fold.tolist() == [f for f in "12345" for _ in range(2)]
    assert result.classes == ["7", "12"] and result.group[:4] == ["100", "100", "200", "200"]


def test_read_valid_equal_to_test_once(tmp_path: Path):
    events = [{"onset": 0.0, "offset": 0.05, "label": "Dog"}]
    for split in ("train", "eval"):
        pack(tmp_path / f"desed/wds-audio-{split}-0.tar", {"a.wav": sound(), "a.json": events})
    result = read_data(published_tasks()["desed"], tmp_path)
    assert result.split is not None and result.split.tolist() == ["train", "test"]
    assert result.labels == [[(0.0, 0.05, 0)], [(0.0, 0.05, 0)]] and result.classes == ["Dog"]


def test_read_train_equal_to_test_twice(tmp_path: Path):
    pack(tmp_path / "subway_broadcast/subway_broadcast-0.tar", pairs({"a": 0, "b": 1}, "broadcasting"))
    result = read_data(published_tasks()["subway_broadcast"], tmp_path)
    assert result.split is not None and result.split.tolist() == ["train", "train", "test", "test"]
    assert result.clips[:2] == result.clips[2:]


def test_read_tar_reports_all_faults(tmp_path: Path):
    train = pairs({"a": "ANG"}) | {"b.wav": sound(), "c.json": {"label": "SAD"}, "d.wav": sound(), "d.json": {"x": 1}}
    train |= {"e.wav": sound(), "e.flac": sound("flac"), "e.json": {"label": "SAD"}}
    cremad(tmp_path, train=train)
    test = tmp_path / "cremad/wds-audio-test-0.tar"
    test.write_bytes(test.read_bytes()[:1300])
    with pytest.raises(EarmarkError) as caught:
        read_data(CREMAD, tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "cremad: 5 faults"
    assert sorted(lines[1:5]) == [
        "  wds-audio-train-0.tar:b.wav: no b.json in the same tar file",
        "  wds-audio-train-0.tar:c.json: no audio file with this name in the same tar file",
        "  wds-audio-train-0.tar:d.json: the JSON has no key 'label'; its keys: 'x'",
        "  wds-audio-train-0.tar:e.flac: e has two files of this kind",
    ]
    assert "wds-audio-test-0.tar: truncated or damaged tar file" in lines[5]
    assert "probe.py download cremad" in lines[6]


def test_read_tar_lists_twenty_faults(tmp_path: Path):
    cremad(tmp_path, train={f"{i:02d}.wav": sound() for i in range(25)})
    with pytest.raises(EarmarkError, match="cremad: 25 faults") as caught:
        read_data(CREMAD, tmp_path)
    assert "19.json in the same tar file\n  and 5 more" in str(caught.value)


def test_read_tar_names_clip_of_unknown_class(tmp_path: Path):
    cremad(tmp_path, test=pairs({"1004_d": "FEA"}))
    with pytest.raises(EarmarkError, match=r"wds-audio-test-0\.tar:1004_d\.wav: 'FEA' does not occur in the training"):
        read_data(CREMAD, tmp_path)


def test_read_rejects_empty_split_and_single_class(tmp_path: Path):
    cremad(tmp_path / "empty", valid={"README.txt": b"nothing"})
    with pytest.raises(EarmarkError, match="cremad: no clips in valid"):
        read_data(CREMAD, tmp_path / "empty")
    one = {split: pairs({"x": "ANG"}) for split in ("train", "valid", "test")}
    with pytest.raises(EarmarkError, match=r"classes in training: ANG; at least 2 classes required"):
        read_data(CREMAD, cremad(tmp_path / "one", **one))


# --- manifests ------------------------------------------------------------------------------------------------------


def listed(folder: Path, text: str, *clips: str) -> Path:
    """A manifest with existing clips."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        (folder / clip).parent.mkdir(parents=True, exist_ok=True)
        (folder / clip).write_bytes(sound())
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder


def test_manifest_takes_precedence_over_tar(tmp_path: Path):
    cremad(tmp_path)
    text = "path,label,split,group\na.wav,up,train,anna\nx/b.wav,down,train,\nc.wav,up,test,carl\n"
    listed(tmp_path / "cremad", text, "a.wav", "x/b.wav", "c.wav")
    result = read_data(CREMAD, tmp_path)
    assert result.clips == [tmp_path / "cremad" / name for name in ("a.wav", "x/b.wav", "c.wav")]
    assert (np.asarray(result.labels).tolist(), result.classes) == ([1, 0, 1], ["down", "up"])
    assert result.split is not None and result.split.tolist() == ["train", "train", "test"]
    assert result.group == ["anna", "x/b.wav", "carl"]


def test_manifest_reports_all_faulty_rows(tmp_path: Path):
    text = "path,label,split\na.wav,up,train\n./a.wav,up,train\nz.wav,,trian\nb.wav,down,test,x\n,up,test\n"
    listed(tmp_path / "cremad", text, "a.wav", "b.wav")
    with pytest.raises(DataError) as caught:
        read_data(CREMAD, tmp_path)
    (faults,) = caught.value.faults.values()
    assert [(f.line, f.column, f.problem) for f in faults] == [
        (3, "path", "'./a.wav' already occurs in line 2"),
        (4, "label", "is empty"),
        (4, "path", "'z.wav' does not exist"),
        (4, "split", "'trian' is not train, valid or test"),
        (5, "", "has 4 values, but the header has 3 columns"),
        (6, "path", "is empty"),
    ]
    assert "Quote cells that contain commas." in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip,label,split\n", "line 1, column path: is missing"),
        ("path,label\n", "column split: is missing, as is fold"),
        ("path,label,split,fold\n", "cannot be combined with fold"),
        ("path,label,split\n", "no clips in train, test"),
        ("path,label,split\na.wav,up,train\nb.wav,down,train\n", "no clips in test"),
        ("path,label,fold\na.wav,up,1\nb.wav,down,1\n", "1 fold; cross-validation needs at least two"),
        ("path,label,split\na.wav,up,train\nb.wav,down,test\n", "line 3, column label: 'down' does not occur in"),
        ('path,label,split\na.wav,"up"x,train\n', "line 2: invalid CSV: ',' expected after '\"'"),
        ("", "column path: is missing"),
    ],
)
def test_manifest_rejects_invalid_structure(tmp_path: Path, text: str, message: str):
    listed(tmp_path / "cremad", text, "a.wav", "b.wav")
    with pytest.raises(EarmarkError, match=message) as caught:
        read_data(CREMAD, tmp_path)
    assert "manifest.csv" in str(caught.value)


def test_manifest_rejects_latin_1(tmp_path: Path):
    listed(tmp_path / "cremad", "")
    (tmp_path / "cremad/manifest.csv").write_bytes("path,label,split\ngr\xfcn.wav,a,train\n".encode("latin-1"))
    with pytest.raises(EarmarkError, match="line 2: byte 0xfc is not UTF-8"):
        read_data(CREMAD, tmp_path)


def own(folder: Path, lines: str) -> Task:
    (folder / "mine.toml").write_text(f'name = "mine"\ndata = "manifest.csv"\n{lines}\n')
    return select_tasks([folder / "mine.toml"])[0]


def test_manifest_events_from_cell_or_file(tmp_path: Path):
    cell = '"[{""onset"": 0, ""offset"": 0.1, ""label"": ""knock""}]"'
    listed(tmp_path, f"path,label,split\na.wav,{cell},train\nb.wav,b.json,test\n", "a.wav", "b.wav")
    (tmp_path / "b.json").write_text('[{"onset": 0.02, "offset": 0.04, "label": "knock"}]')
    result = read_data(own(tmp_path, 'type = "frame"'), tmp_path / "elsewhere")
    assert result.labels == [[(0.0, 0.1, 0)], [(0.02, 0.04, 0)]] and result.classes == ["knock"]


def test_locate_manifest_of_user_task(tmp_path: Path):
    task = own(tmp_path, 'type = "asr"')
    root = listed(tmp_path / "root", "path,label,split\na.wav,hello there,train\nb.wav,bye,test\n", "a.wav", "b.wav")
    assert locate_task(task, root).manifest == root / "manifest.csv"
    assert read_data(task, root).labels == ["hello there", "bye"]
    listed(tmp_path, "path,label,split\na.wav,no,train\nb.wav,yes,test\n", "a.wav", "b.wav")
    assert read_data(task, root).labels == ["no", "yes"]


def test_read_rejects_task_without_labels(tmp_path: Path):
    listed(tmp_path, "path,label,split\na.wav,,train\nb.wav,|,test\n", "a.wav", "b.wav")
    with pytest.raises(EarmarkError, match="mine: classes in training: none; at least 1 class required"):
        read_data(own(tmp_path, 'type = "clip"\nmultilabel = true'), tmp_path)


# --- located data --------------------------------------------------------------------------------------------------


def test_located_task_state_and_size(tmp_path: Path):
    private = locate_task(published_tasks()["liveenv"], tmp_path)
    assert (private.state, private.size) == ("private: no data", 0)
    assert private.missing_patterns == ("liveenv_train*.tar", "liveenv_test*.tar")
    assert locate_task(CREMAD, tmp_path).state == "missing"
    cremad(tmp_path)
    tars = list((tmp_path / "cremad").glob("*.tar"))
    result = locate_task(CREMAD, tmp_path)
    assert (result.state, result.size, result.missing_patterns) == (
        "present",
        sum(tar.stat().st_size for tar in tars),
        (),
    )
    tars[0].unlink()
    assert (locate_task(CREMAD, tmp_path).state, len(locate_task(CREMAD, tmp_path).missing_patterns)) == ("missing", 1)
    listed(tmp_path / "liveenv", "path,label,split\n")
    assert locate_task(published_tasks()["liveenv"], tmp_path).present


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cremad", r"no wds-audio-train\*\.tar, .* Run `uv run probe\.py download cremad --data-root "),
        ("liveenv", "private to the organisers of the challenge; provide the tar files"),
        ("librispeechphoneme", "not public in this form"),
    ],
)
def test_require_present_names_remedy(tmp_path: Path, name: str, message: str):
    with pytest.raises(MissingError, match=message):
        read_data(published_tasks()[name], tmp_path)


def test_require_present_user_manifest(tmp_path: Path):
    with pytest.raises(MissingError, match=r"mine: manifest\.csv not found next to the task file"):
        read_data(own(tmp_path, 'type = "clip"'), tmp_path)


# --- the demo -------------------------------------------------------------------------------------------------------


def test_read_demo_tasks(tmp_path: Path):
    language, tempo, voice = (read_data(task, tmp_path) for task in select_tasks(sorted(DEMO.glob("*.toml"))))
    assert all(len(result.clips) == 192 for result in (language, tempo, voice))
    assert (len(voice.classes), language.classes) == (24, ["de", "en", "es", "fr"])
    assert voice.split is not None
    spoken = [(Path(clip).parent.name, part) for clip, part in zip(voice.clips, voice.split, strict=True)]  # type: ignore[arg-type]
    assert set(spoken) == {("en", "train"), ("de", "train"), ("fr", "valid"), ("es", "test")}
    tempi = np.asarray(tempo.labels)
    assert tempi.shape == (192, 1) and tempi.min() >= -7 and tempi.max() < 8 and len(np.unique(tempi)) > 10
    for result in (language, tempo):
        part = result.fold if result.fold is not None else result.split
        assert part is not None and len(set(zip(result.group, part, strict=True))) == len(set(result.group)) == 24
    assert language.fold is not None and set(np.unique(language.fold, return_counts=True)[1]) == {48}


def test_fault_of_a_missing_clip_hides_the_password_of_a_url():
    faults = reading._missing_file_faults(Path("nowhere"), "s3://ann:hunter22@host/a.wav", 2)
    assert len(faults) == 1 and "hunter22" not in str(faults)

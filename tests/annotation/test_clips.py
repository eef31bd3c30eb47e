"""Finding clips: paths, URLs, uploads of annotation tools, and paths that leave the directory."""

from dataclasses import replace
from pathlib import Path

import pytest

from earmark.annotation.clips import ClipIndex
from earmark.annotation.subsets import Subset

OWN = Subset("own", "interval", ("file",))


def found(folder: Path, value: str, *files: str, subset: Subset = OWN) -> str:
    """Path of an item's clip among these files."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return ClipIndex(folder, subset).relative_path({"file": value})


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("a.wav", "a.wav"),
        ("sub/a.wav", "sub/a.wav"),
        ("a", "a.wav"),
        ("a.mp3", "deep/down/a.wav"),
        ("take.1", "take.1.wav"),
        ("/home/someone/clips/a.wav", "a.wav"),
        ("C:\\clips\\a.wav", "a.wav"),
        ("https://host.example/clips/my%20clip.wav?token=1", "my clip.wav"),
        ("s3://bucket/clips/a.wav", "a.wav"),
        ("/data/upload/3/1a2b3c4d-a.wav", "a.wav"),
        ("/data/upload/3/1a2b3c4d-a.wav", "1a2b3c4d-a.wav"),
        ("1a2b3c4d-a.wav", "sub/a.flac"),
    ],
)
def test_relative_path_finds_clip(tmp_path: Path, value: str, file: str):
    assert found(tmp_path, value, file, "other.wav") == file


@pytest.mark.parametrize(
    "value", ["../secret.wav", "sub/../../secret.wav", "..", "..\\secret.wav", "/etc/../secret.wav"]
)
def test_relative_path_never_leaves_the_directory(tmp_path: Path, value: str):
    (tmp_path / "secret.wav").write_bytes(b"x")
    path = found(tmp_path / "own", value, "a.wav")
    assert ".." not in path
    assert (tmp_path / "own" / path).resolve().is_relative_to((tmp_path / "own").resolve())
    assert not (tmp_path / "own" / path).is_file()


def test_relative_path_fills_pattern(tmp_path: Path):
    pattern = replace(OWN, key=("speaker", "file"), clip="{speaker}/{file}.wav")
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna/a.wav").write_bytes(b"x")
    assert ClipIndex(tmp_path, pattern).relative_path({"speaker": "anna", "file": "a"}) == "anna/a.wav"


def test_relative_path_does_not_choose_among_clips_of_one_name(tmp_path: Path):
    assert found(tmp_path, "a.mp3", "anna/a.wav", "ben/a.wav") == "a.mp3"


def test_relative_path_of_missing_clip_is_where_it_is_expected(tmp_path: Path):
    assert found(tmp_path, "a.wav", "b.wav") == "a.wav"

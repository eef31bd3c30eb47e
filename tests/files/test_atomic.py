"""Files on a real disk: all of them, or none."""

import os
import stat
from pathlib import Path

import pytest

from earmark.files.atomic import write_together
from tests.conftest import contents


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def blocked(tmp_path):
    """A folder with old files, and a folder where a file should go, so that the last rename must fail."""
    (tmp_path / "a.txt").write_text("old a")
    (tmp_path / "b.txt").write_text("old b")
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    return tmp_path


def test_files_are_written_with_their_folders(tmp_path):
    write_together({tmp_path / "a.txt": "ä\n", tmp_path / "deep" / "down" / "b.bin": b"\x00\xff"})
    assert contents(tmp_path) == {"a.txt": "ä\n".encode(), "deep/down/b.bin": b"\x00\xff"}


def test_line_ends_are_left_as_they_are(tmp_path):
    write_together({tmp_path / "a.txt": "one\ntwo\r\n"})
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\r\n"


def test_a_file_without_content_is_removed(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    write_together({tmp_path / "old.txt": None, tmp_path / "never_there.txt": None, tmp_path / "new.txt": "new"})
    assert contents(tmp_path) == {"new.txt": b"new"}


@pytest.mark.parametrize(
    "order", [["a.txt", "b.txt", "taken"], ["taken", "a.txt", "b.txt"], ["a.txt", "taken", "b.txt"]]
)
def test_a_rename_that_fails_leaves_every_old_file_and_no_new_one(blocked, order):
    before = contents(blocked)
    with pytest.raises(OSError, match="taken"):
        write_together({blocked / name: "new" for name in order} | {blocked / "new.txt": "new"})
    assert contents(blocked) == before
    assert (blocked / "taken" / "inside").is_dir()


def test_a_new_file_is_taken_back_when_a_later_rename_fails(blocked):
    before = contents(blocked)
    with pytest.raises(OSError, match="taken"):
        write_together({blocked / "new.txt": "new", blocked / "taken": "new"})
    assert contents(blocked) == before


def test_a_removed_file_comes_back_when_a_later_rename_fails(blocked):
    before = contents(blocked)
    with pytest.raises(OSError, match="taken"):
        write_together({blocked / "a.txt": None, blocked / "taken": "new"})
    assert contents(blocked) == before


def test_a_folder_that_cannot_be_made_leaves_every_old_file(blocked):
    before = contents(blocked)
    with pytest.raises(OSError, match=r"a\.txt"):
        write_together({blocked / "b.txt": "new", blocked / "a.txt" / "below_a_file.txt": "new"})
    assert contents(blocked) == before


def test_modes_are_those_asked_for_and_else_those_of_the_user(tmp_path):
    private, open_to_all = tmp_path / "private.csv", tmp_path / "open.csv"
    before = os.umask(0o027)
    try:
        write_together({private: "names", open_to_all: "numbers"}, modes={private: 0o600})
    finally:
        os.umask(before)
    assert (mode(private), mode(open_to_all)) == (0o600, 0o640)


def test_a_file_that_was_open_to_all_becomes_private(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("old")
    path.chmod(0o644)
    write_together({path: "new"}, modes={path: 0o600})
    assert (mode(path), path.read_text()) == (0o600, "new")


def test_a_private_file_is_private_still_when_a_later_rename_fails(blocked):
    path = blocked / "a.txt"
    path.chmod(0o600)
    with pytest.raises(OSError, match="taken"):
        write_together({path: None, blocked / "taken": "new"}, modes={path: 0o600})
    assert (mode(path), path.read_text()) == (0o600, "old a")


def test_write_together_writes_half_a_character_as_its_escape(tmp_path):
    write_together({tmp_path / "a.txt": "x\ud800 Zoë"})
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "x\\ud800 Zoë"

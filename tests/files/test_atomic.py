"""Atomic writes on a real disk."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from earmark.files import atomic
from earmark.files.atomic import lock_if_free, lock_when_free, write_together
from tests.conftest import contents


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def blocked(tmp_path):
    """A directory with old files and a directory in place of a file, so that the last rename fails."""
    (tmp_path / "a.txt").write_text("old a")
    (tmp_path / "b.txt").write_text("old b")
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    return tmp_path


def test_write_together_creates_directories(tmp_path):
    write_together({tmp_path / "a.txt": "ä\n", tmp_path / "deep" / "down" / "b.bin": b"\x00\xff"})
    assert contents(tmp_path) == {"a.txt": "ä\n".encode(), "deep/down/b.bin": b"\x00\xff"}


def test_write_together_keeps_line_ends(tmp_path):
    write_together({tmp_path / "a.txt": "one\ntwo\r\n"})
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\r\n"


def test_write_together_removes_files(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    write_together({tmp_path / "old.txt": None, tmp_path / "never_there.txt": None, tmp_path / "new.txt": "new"})
    assert contents(tmp_path) == {"new.txt": b"new"}


@pytest.mark.parametrize(
    "order", [["a.txt", "b.txt", "taken"], ["taken", "a.txt", "b.txt"], ["a.txt", "taken", "b.txt"]]
)
def test_write_together_failed_rename_restores_files(blocked, order):
    before = contents(blocked)
    with pytest.raises(OSError, match="taken"):
        write_together({blocked / name: "new" for name in order} | {blocked / "new.txt": "new"})
    assert contents(blocked) == before
    assert (blocked / "taken" / "inside").is_dir()


def test_write_together_failed_rename_removes_new_file(blocked):
    before = contents(blocked)
    with pytest.raises(OSError, match="taken"):
        write_together({blocked / "new.txt": "new", blocked / "taken": "new"})
    assert contents(blocked) == before


def test_write_together_failed_rename_restores_removed_file(blocked):
    before = contents(blocked)
    with pytest.raises(OSError, match="taken"):
        write_together({blocked / "a.txt": None, blocked / "taken": "new"})
    assert contents(blocked) == before


def test_write_together_failed_directory_keeps_files(blocked):
    before = contents(blocked)
    with pytest.raises(OSError, match=r"a\.txt"):
        write_together({blocked / "b.txt": "new", blocked / "a.txt" / "below_a_file.txt": "new"})
    assert contents(blocked) == before


def test_write_together_modes(tmp_path):
    private, open_to_all = tmp_path / "private.csv", tmp_path / "open.csv"
    before = os.umask(0o027)
    try:
        write_together({private: "names", open_to_all: "numbers"}, modes={private: 0o600})
    finally:
        os.umask(before)
    assert (mode(private), mode(open_to_all)) == (0o600, 0o640)


def test_write_together_makes_file_private(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("old")
    path.chmod(0o644)
    write_together({path: "new"}, modes={path: 0o600})
    assert (mode(path), path.read_text()) == (0o600, "new")


def test_write_together_failed_rename_keeps_private_mode(blocked):
    path = blocked / "a.txt"
    path.chmod(0o600)
    with pytest.raises(OSError, match="taken"):
        write_together({path: None, blocked / "taken": "new"}, modes={path: 0o600})
    assert (mode(path), path.read_text()) == (0o600, "old a")


def test_write_together_escapes_lone_surrogates(tmp_path):
    write_together({tmp_path / "a.txt": "x\ud800 Zoë"})
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "x\\ud800 Zoë"


def test_lock_if_free_is_free_again_after_the_holder_was_killed(tmp_path):
    code = "from earmark.files.atomic import lock_if_free; from pathlib import Path; import time\n"
    code += f"with lock_if_free(Path({str(tmp_path)!r})) as free:\n    print(free, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        with lock_if_free(tmp_path) as free:
            assert not free
        holder.kill()
    with lock_if_free(tmp_path) as free:
        assert free


def test_lock_if_free_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock_if_free(tmp_path):
        raise KeyError
    with lock_if_free(tmp_path) as free:
        assert free


def test_lock_when_free_waits_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.05)
    said, held, release = [], threading.Event(), threading.Event()

    def hold():
        with lock_if_free(tmp_path):
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def waiting():
        said.append("waiting")
        release.set()

    with lock_when_free(tmp_path, waiting):
        assert said == ["waiting"]
    holder.join()

"""The journal is valid after crashes, kills and full disks."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from earmark.errors import EarmarkError
from earmark.models.journal import Journal, journal_key

ROOT = Path(__file__).resolve().parents[2]


def test_values_round_trip(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.add("a", 0.1 + 0.2)
        journal.add("b", "AAAA")
    with Journal(tmp_path / "j.jsonl") as journal:
        assert (journal["a"], journal["b"], len(journal)) == (0.1 + 0.2, "AAAA", 2)
        assert "c" not in journal


def test_add_writes_to_disk(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.add("a", 1.0)
        assert json.loads((tmp_path / "j.jsonl").read_text()) == {"key": "a", "value": 1.0}


@pytest.mark.parametrize(
    "torn",
    [b'{"key": "b", "val', b'{"key": "b", "value": 2}', b"\x00\x00\x00\n", b"[1]\n", b'"x"\n', b"[" * 100_000 + b"\n"],
)
def test_incomplete_last_line_is_dropped(tmp_path, torn):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.add("a", 1.0)
    path.write_bytes(path.read_bytes() + torn)
    with Journal(path) as journal:
        assert len(journal) == 1
        journal.add("c", 3.0)
    with Journal(path) as journal:
        assert (journal["a"], journal["c"], len(journal)) == (1.0, 3.0, 2)


def test_journal_is_thread_safe(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: journal.add(str(i), i), range(500)))
    with Journal(tmp_path / "j.jsonl") as journal:
        assert [journal[str(i)] for i in range(500)] == list(range(500))


WRITER = """
import sys
from earmark.models.journal import Journal
journal = Journal(__import__("pathlib").Path(sys.argv[1]))
for i in range(10**9):
    journal.add(str(i), i)
"""


def test_killed_process_leaves_complete_lines(tmp_path):
    path = tmp_path / "j.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT) as process:
        while not (path.exists() and path.stat().st_size > 50_000):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with Journal(path) as journal:
        assert len(journal) > 1000
        assert all(journal[str(i)] == i for i in range(len(journal)))


FULL = """
import resource, sys
from pathlib import Path
from earmark.errors import EarmarkError
from earmark.models.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path(sys.argv[1]))
try:
    for i in range(1000):
        journal.add(str(i), i)
except EarmarkError as error:
    print(len(journal))
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are a POSIX matter")
def test_full_disk_is_reported_and_journal_stays_valid(tmp_path):
    path = tmp_path / "j.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    n_values, message = done.stdout.splitlines()[:2]
    assert "cannot be written" in message
    assert "Free disk space" in message
    with Journal(path) as journal:
        assert len(journal) == int(n_values) > 10
        journal.add("later", 1)


def test_unwritable_folder_is_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((EarmarkError, OSError)):
        Journal(tmp_path / "file" / "j.jsonl")


def test_journal_key_separates_parts():
    assert journal_key("ab", "c") != journal_key("a", "bc")
    assert journal_key("a", "b") == journal_key("a", "b")

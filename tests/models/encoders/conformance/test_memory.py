"""Sizes, free memory from files as the kernel writes them, and the memory of a process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from earmark.models.encoders.conformance.memory import (
    default_limit,
    format_size,
    free_memory,
    held_bytes,
    parse_size,
)

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"
AVAILABLE = 8_192_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GB", 6e9), ("6 gb", 6e9), ("6G", 6e9), ("1.5GiB", 1.5 * 2**30), ("512MiB", 2**29), ("2TB", 2e12), ("9", 9)],
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "6 parsecs", "-1GB", "0GB", "1e9", "6iB", "nan"])
def test_parse_size_rejects_other_texts(text):
    with pytest.raises(ValueError, match="is not"):
        parse_size(text)


def test_format_size_is_read_back():
    for size in (9_000_000_000, 850_000_000, 16_400_000_000):
        assert parse_size(format_size(size)) == size


def written(root, **files):
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_free_memory_without_groups(tmp_path):
    assert free_memory(written(tmp_path)) == AVAILABLE
    assert default_limit(tmp_path) == 6_144_000_000


def group(folder, limit, usage, cache, names=("memory.max", "memory.current", "inactive_file")):
    return {
        f"{folder}/{names[0]}": limit,
        f"{folder}/{names[1]}": usage,
        f"{folder}/memory.stat": f"{names[2]} {cache}\n",
    }


def test_free_memory_is_the_least_that_a_group_leaves(tmp_path):
    files = {
        "proc/self/cgroup": "0::/user/job\n",
        **group("sys/fs/cgroup/user/job", "max\n", "3000\n", 0),
        # 4 GB of which 1.5 GB are used; 0.5 GB of these are pages of files that can be dropped
        **group("sys/fs/cgroup/user", "4000000000\n", "1500000000\n", 500_000_000),
    }
    assert free_memory(written(tmp_path, **files)) == 3_000_000_000


def test_free_memory_of_first_version_groups(tmp_path):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/a/b\n0::/\n",
        **group("sys/fs/cgroup/memory/a/b", "2000000000\n", "500000000\n", 0, names),
        **group("sys/fs/cgroup/memory", "9223372036854771712\n", "5\n", 0, names),  # no limit
    }
    assert free_memory(written(tmp_path, **files)) == 1_500_000_000


def test_free_memory_in_a_container_whose_path_is_the_hosts(tmp_path):
    files = {"proc/self/cgroup": "0::/host/only\n", **group("sys/fs/cgroup", "1000000000\n", "0\n", 0)}
    assert free_memory(written(tmp_path, **files)) == 1_000_000_000


def test_free_memory_is_never_negative(tmp_path):
    files = {"proc/self/cgroup": "0::/\n", **group("sys/fs/cgroup", "1000\n", "5000\n", 0)}
    assert free_memory(written(tmp_path, **files)) == 0


@pytest.mark.slow
def test_held_bytes_counts_what_a_process_fills():
    code = "import sys; x = bytearray(); print(flush=True); sys.stdin.readline();"
    code += "x = b'a' * 200_000_000; print(flush=True); sys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        before = held_bytes(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        after = held_bytes(process.pid)
        process.kill()
    assert 190e6 < after - before < 260e6
    assert held_bytes(process.pid) is None
    held = np.ones(2_000_000)
    assert held_bytes(os.getpid()) > held.nbytes

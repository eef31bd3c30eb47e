"""Memory that is free on this machine, and memory that a process holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

SIZE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)
FREE_SHARE = 0.75  # of the free memory that an encoder may take by default
UNLIMITED = 2**60  # bytes; cgroups without a limit report a number near 2⁶³
PS_SECONDS = 5.0


def parse_size(text: str) -> int:
    """Read a size in bytes.

    Parameters
    ----------
    text : str
        A number with a unit: kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), or none for bytes.
        The letter B may be missing.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ValueError
        If the text is not a size above 0.

    Examples
    --------
    >>> parse_size("6GB"), parse_size("1.5 GiB"), parse_size("800m")
    (6000000000, 1610612736, 800000000)
    """
    match = SIZE.fullmatch(text.strip())
    if match is None or (match["binary"] and not match["unit"]):
        raise ValueError(f"{text!r} is not a size such as 6GB or 500MiB")
    unit = SIZE_UNITS[match["unit"].upper()]
    if match["binary"]:
        unit = 2 ** (10 * list(SIZE_UNITS).index(match["unit"].upper()))
    size = round(float(match["number"]) * unit)
    if size < 1:
        raise ValueError(f"{text!r} is not above 0")
    return size


def format_size(size: int) -> str:
    """Format a number of bytes with three digits, in GB or in MB.

    Examples
    --------
    >>> format_size(9_000_000_000), format_size(16_437_000_000), format_size(850_000_000)
    ('9 GB', '16.4 GB', '850 MB')
    """
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def default_limit(root: Path = Path("/")) -> int | None:
    """Three quarters of the free memory in bytes; None if it is unknown. The parameter is as in `free_memory`."""
    free = free_memory(root)
    return None if free is None else int(FREE_SHARE * free)


def free_memory(root: Path = Path("/")) -> int | None:
    """Memory that processes can still take, in bytes.

    On Linux, the least of the available memory and of what the control groups of this process leave. Elsewhere, half
    of the physical memory.

    Parameters
    ----------
    root : Path
        Root of the file system with `proc` and `sys`.

    Returns
    -------
    int or None
        None if the system does not report it.
    """
    try:
        available = re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(encoding="ascii"), re.M)
    except OSError:
        available = None
    if available is not None:
        return max(0, min([int(available[1]) * 1024, *_left_by_groups(root)]))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _left_by_groups(root: Path) -> list[int]:
    """What each control group of this process, and each group around it, leaves of its limit, in bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = mount / path.lstrip("/")
        # In a container the path may be the host's; the groups around it, up to the mount, are read all the same.
        folders = [folder, *(parent for parent in folder.parents if parent.is_relative_to(mount))]
        left += [free for each in folders if (free := _left_by_group(each, *names)) is not None]
    return left


def _left_by_group(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    """Limit minus usage of a control group; file pages that can be dropped do not count as used."""
    try:
        limit = int((folder / limit_name).read_text(encoding="ascii"))
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        statistics = (folder / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):  # no such group, or the limit "max"
        return None
    cache = re.search(rf"^{cache_name} (\d+)$", statistics, re.M)
    return None if limit >= UNLIMITED else limit - usage + (int(cache[1]) if cache else 0)


def held_bytes(pid: int) -> int | None:
    """Resident and swapped memory of a process in bytes.

    Parameters
    ----------
    pid : int
        Number of the process.

    Returns
    -------
    int or None
        None if the process has ended or the system does not report it.

    Examples
    --------
    >>> held_bytes(2**30) is None
    True
    """
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        sizes = re.findall(r"^Vm(?:RSS|Swap):\s+(\d+) kB", status, re.M)
        return sum(map(int, sizes)) * 1024 if sizes else None
    try:
        done = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=PS_SECONDS
        )
        return int(done.stdout) * 1024
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None

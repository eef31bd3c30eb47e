"""A Ray cluster of several nodes on this machine: each node is a `ray start` of its own, at an address of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 120
# Loopback only, without dashboard and usage statistics; no token, since nobody else reaches the addresses.
ENVIRONMENT = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
for variable in ("RAY_ADDRESS", "PYTHONPATH"):
    ENVIRONMENT.pop(variable, None)


class Nodes:
    """The nodes of a cluster with one CPU core each; ended with `close`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets need short paths
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = f"127.0.0.2:{_free_port()}"

    def start(self, cores: int = 1) -> int:
        """Start a node, the first as head; returns its number."""
        number = len(self._processes)
        where = (
            ["--address", self.address]
            if number
            else ["--head", "--port", self.address.split(":")[1], "--include-dashboard", "false",
                  "--temp-dir", str(self._folder)]
        )  # fmt: skip
        words = ["start", *where, "--node-ip-address", f"127.0.0.{number + 2}", "--num-cpus", str(cores)]
        words += ["--object-store-memory", "100000000", "--disable-usage-stats", "--block"]
        log = self._folder / f"start-{number}.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("ray")), *words],
                stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        for _ in range(SECONDS * 10):
            if "Ray runtime started" in log.read_text():
                return number
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"node {number} did not start: {log.read_text()}")

    def kill(self, number: int) -> None:
        """Lose a node: all its processes end at once."""
        process = self._processes[number]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=SECONDS)

    def close(self) -> None:
        """End all nodes, and remove their files."""
        for number in reversed(range(len(self._processes))):
            self.kill(number)
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    """A port outside the range that Ray gives to workers."""
    for port in range(21_000 + os.getpid() % 5000, 32_000):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.2", port))
            return port
    raise RuntimeError("no free port")

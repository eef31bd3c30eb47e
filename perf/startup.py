"""Time of `--help` for every script, as a process with compiled bytecode.

Reads   nothing
Prints  minimum over rounds for every script, and for an empty Python program; and the ratio of their processor times,
        which depend less on other processes

  uv run perf/startup.py
  uv run perf/startup.py --rounds 20
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli

ROOT = Path(__file__).resolve().parents[1]
TARGET = 0.35  # seconds
CLOCK_TICK = 0.01  # seconds; processor times are multiples of it
SCRIPTS = ("anonymize.py", "analysis.py", "benchmark.py", "evaluate_speaker.py", "probe.py", "sham_server.py")


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--rounds", type=cli.positive_int, default=5, help="rounds of timing (default: 5)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    commands = {"python alone": ["-c", "pass"], **{name: [name, "--help"] for name in SCRIPTS}}
    times: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.rounds + 1):  # the first round compiles bytecode
        for name, words in commands.items():
            started, before = time.perf_counter(), os.times()
            subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=True)
            times[name].append(time.perf_counter() - started)
            used = os.times()
            processor[name].append(sum(used[2:4]) - sum(before[2:4]))  # of child processes, user and system
    best = {name: min(seconds[1:]) for name, seconds in times.items()}
    for name, seconds in best.items():
        cli.show(f"{name + ':':22} {seconds:.2f} s, {seconds / best['python alone']:4.1f} times python alone")
    cli.show(f"slowest: {max(best.values()):.2f} s (target {TARGET} s)")
    least = {name: max(min(seconds[1:]), CLOCK_TICK) for name, seconds in processor.items()}
    cli.show(f"slowest script / python alone: {max(least.values()) / least['python alone']:.1f} (processor time)")
    return cli.COMPLETE


if __name__ == "__main__":
    sys.exit(main())

"""Throughput of scoring over HTTP relative to the limit set by the server's latency.

Reads   nothing: generates 200 clips of 30 kB with 10 sentences each; sham_server.py is the server
Prints  pairs per second at concurrency 1 and 32 compared with the ideal (concurrency / latency) and with a sequential
        baseline (one pair at a time, reading the clip and opening a connection each time), and the CPU time of the
        client per request

  uv run perf/scoring.py
  uv run perf/scoring.py --pairs 200 --latency-ms 50
"""

import base64
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli
from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.endpoint import EndpointScorer
from earmark.models.http import Client
from earmark.models.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
SENTENCES, CLIP_BYTES = 10, 30_000


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    cli.add_renamed_argument(
        parser, "--pairs", "--questions", type=cli.positive_int, default=2000,
        help="pairs at concurrency 32 (default: 2000)",
    )  # fmt: skip
    parser.add_argument("--few", type=cli.positive_int, default=100, help="pairs without concurrency (default: 100)")
    parser.add_argument("--latency-ms", type=cli.positive_int, default=200, help="latency of the server (default: 200)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    latency = arguments.latency_ms / 1000
    with tempfile.TemporaryDirectory() as folder, server(arguments.latency_ms) as url:
        pairs = make_pairs(Path(folder), arguments.pairs)
        few = pairs[: arguments.few]
        sequential = rate(lambda: score_sequentially(url, few), len(few))
        serial = rate(lambda: score_pairs(url, few, 1, Path(folder) / "1.jsonl"), len(few))
        parallel = rate(lambda: score_pairs(url, pairs, 32, Path(folder) / "32.jsonl"), len(pairs))
    with tempfile.TemporaryDirectory() as folder, server(0) as url:
        pairs = make_pairs(Path(folder), arguments.pairs)
        started = time.process_time()
        score_pairs(url, pairs, 8, Path(folder) / "cpu.jsonl")
        cpu = (time.process_time() - started) / len(pairs)
    cli.show(f"latency {arguments.latency_ms} ms, clips of {CLIP_BYTES // 1000} kB")
    cli.show(f"  sequential:      {sequential:7.1f} pairs/s")
    cli.show(f"  concurrency 1:   {serial:7.1f} pairs/s")
    cli.show(f"  concurrency 32:  {parallel:7.1f} pairs/s")
    cli.show(f"  concurrency 1 / ideal: {serial * latency:.3f}")
    cli.show(f"  concurrency 32 / ideal: {parallel * latency / 32:.3f}")
    cli.show(f"  concurrency 32 / sequential: {parallel / sequential:.1f}")
    cli.show(f"  client CPU time per request: {1000 * cpu:.2f} ms")
    return cli.COMPLETE


@contextmanager
def server(latency_ms: int) -> Iterator[str]:
    """Run the sham server as a process and yield its address."""
    command = [sys.executable, str(ROOT / "sham_server.py"), "--port", "0", "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def make_pairs(folder: Path, n: int) -> list[ClipTextPair]:
    """Create clip–text pairs with clips of arbitrary bytes; neither client nor server decodes them."""
    pairs = []
    for i in range(n):
        clip = folder / f"clip_{i // SENTENCES:04d}.mp3"
        if i % SENTENCES == 0:
            clip.write_bytes(bytes([i // SENTENCES % 256]) * CLIP_BYTES)
        pairs.append(ClipTextPair(clip, clip.name, clip.stem, f"Somebody says sentence {i % SENTENCES}."))
    return pairs


def score_pairs(url: str, pairs: Sequence[ClipTextPair], concurrency: int, journal_path: Path) -> None:
    """Score with the library's client, including the journal."""
    with Journal(journal_path) as journal:
        scores = dict(EndpointScorer(Client(url), journal, concurrency)(pairs))
    assert len(scores) == len(pairs)
    assert not any(score.error for score in scores.values())


def score_sequentially(url: str, pairs: Sequence[ClipTextPair]) -> None:
    """Baseline: one pair after the other; read, encode, connect, request."""
    for pair in pairs:
        audio = base64.b64encode(pair.clip.read_bytes()).decode("ascii")
        body = {"text": pair.text, "audio_filename": pair.clip.name, "audio_base64": audio}
        requests.post(url, json=body, timeout=60).raise_for_status()


def rate(work: Callable[[], None], n: int) -> float:
    """Pairs per second."""
    started = time.perf_counter()
    work()
    return n / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())

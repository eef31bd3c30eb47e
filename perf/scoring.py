"""How close scoring over HTTP comes to what the server's latency allows.

Reads   nothing: 200 clips of 30 kB and 10 sentences each are made up, sham_server.py answers
Prints  questions per second at concurrency 1 and 32 against the ideal (concurrency / latency) and against the plain
        way (one question after the other, each reading its clip and opening its connection), and the CPU time that
        the client spends on a request

  uv run perf/scoring.py
  uv run perf/scoring.py --questions 200 --latency-ms 50
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
    parser.add_argument("--questions", type=cli.positive_int, default=2000, help="questions at concurrency 32 (2000)")
    parser.add_argument("--few", type=cli.positive_int, default=100, help="questions one after the other (100)")
    parser.add_argument("--latency-ms", type=cli.positive_int, default=200, help="of the server (200)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    latency = arguments.latency_ms / 1000
    with tempfile.TemporaryDirectory() as folder, server(arguments.latency_ms) as url:
        questions = make_questions(Path(folder), arguments.questions)
        few = questions[: arguments.few]
        plain = rate(lambda: ask_plainly(url, few), len(few))
        serial = rate(lambda: ask(url, few, 1, Path(folder) / "1.jsonl"), len(few))
        parallel = rate(lambda: ask(url, questions, 32, Path(folder) / "32.jsonl"), len(questions))
    with tempfile.TemporaryDirectory() as folder, server(0) as url:
        questions = make_questions(Path(folder), arguments.questions)
        started = time.process_time()
        ask(url, questions, 8, Path(folder) / "cpu.jsonl")
        cpu = (time.process_time() - started) / len(questions)
    cli.show(f"latency {arguments.latency_ms} ms, clips of {CLIP_BYTES // 1000} kB")
    cli.show(f"  the plain way:   {plain:7.1f} questions/s")
    cli.show(f"  concurrency 1:   {serial:7.1f} questions/s, {serial * latency:.1%} of the ideal")
    cli.show(f"  concurrency 32:  {parallel:7.1f} questions/s, {parallel * latency / 32:.1%} of the ideal")
    cli.show(f"  ratio of concurrency 32 to the plain way: {parallel / plain:.1f}")
    cli.show(f"  CPU of the client per request: {1000 * cpu:.2f} ms")
    return cli.COMPLETE


@contextmanager
def server(latency_ms: int) -> Iterator[str]:
    """A sham server in a process of its own; its address."""
    command = [sys.executable, str(ROOT / "sham_server.py"), "--port", "0", "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def make_questions(folder: Path, n: int) -> list[ClipTextPair]:
    """Questions on clips that are no audio: neither client nor server decodes them."""
    questions = []
    for i in range(n):
        clip = folder / f"clip_{i // SENTENCES:04d}.mp3"
        if i % SENTENCES == 0:
            clip.write_bytes(bytes([i // SENTENCES % 256]) * CLIP_BYTES)
        questions.append(ClipTextPair(clip, clip.name, clip.stem, f"Somebody says sentence {i % SENTENCES}."))
    return questions


def ask(url: str, questions: Sequence[ClipTextPair], concurrency: int, journal_path: Path) -> None:
    """Our way, journal included."""
    with Journal(journal_path) as journal:
        answers = dict(EndpointScorer(Client(url), journal, concurrency)(questions))
    assert len(answers) == len(questions)
    assert not any(answer.error for answer in answers.values())


def ask_plainly(url: str, questions: Sequence[ClipTextPair]) -> None:
    """One question after the other: read, encode, connect, ask."""
    for question in questions:
        audio = base64.b64encode(question.clip.read_bytes()).decode("ascii")
        body = {"text": question.text, "audio_filename": question.clip.name, "audio_base64": audio}
        requests.post(url, json=body, timeout=60).raise_for_status()


def rate(work: Callable[[], None], n: int) -> float:
    """Questions per second."""
    started = time.perf_counter()
    work()
    return n / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())

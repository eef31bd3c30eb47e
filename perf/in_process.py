"""How much of the model's time the in-process scorer keeps, with decoding and features in threads ahead of it.

Reads   nothing: clips are generated and saved as MP3, the model is a CLAP of HTSAT-tiny's size with random weights
Prints  the time of the model alone on pieces that were prepared before, of the whole scorer from files to answers,
        and of the serial way, which decodes a batch, embeds it, and goes on to the next; the best of some rounds

On a CPU the model and the decoders want the same cores. Overlap shows where a core is left for the decoders.

  uv run --extra clap perf/in_process.py
  uv run --extra clap perf/in_process.py --device cuda --dtype bfloat16 --clips 512 --rounds 5
"""

import os
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli
from earmark.audio.decode import read_nonsilent_audio
from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.in_process import InProcessScorer
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.audio_text.loading import AudioTextModel, load_clap
from earmark.models.batching import split_into_windows
from earmark.models.torch_runtime import DTYPES
from tests.models import tiny

RATE = 24_000  # of the published clips
TEXTS = tuple(f"a voice that conveys feeling number {i}" for i in range(8))


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--clips", type=cli.positive_int, default=32, help="clips (32)")
    parser.add_argument("--seconds", type=float, default=9.0, help="length of a clip (9)")
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="times that each way is timed (3)")
    parser.add_argument("--threads", type=cli.positive_int, help="of torch (all cores but one, for the decoders)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (auto)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--batch-size", type=cli.positive_int, default=8)
    parser.add_argument("--decoders", type=cli.positive_int, default=4)
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    torch.set_num_threads(arguments.threads or max(1, (os.cpu_count() or 2) - 1))
    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder) / "clips", arguments, invocation.generator())
        checkpoint = tiny.clap(Path(folder) / "model", seconds=10, wide=96, depths=(2, 2, 6, 2))
        model = load_clap(str(checkpoint), arguments.device, arguments.dtype)
        pieces = [model.prepare(piece) for clip in clips for piece in cut(model, clip)]

        def scorer(questions: Sequence[ClipTextPair]) -> Iterable[object]:
            store = EmbeddingCache(Path(tempfile.mkdtemp(dir=folder)))  # an empty one for each round
            return InProcessScorer(model, store, arguments.batch_size, arguments.decoders)(questions)

        ways: dict[str, Callable[[], object]] = {
            "model alone": lambda: embed(model, pieces, arguments.batch_size),
            "scorer": lambda: list(scorer([ClipTextPair(c, c.name, c.stem, text) for c in clips for text in TEXTS])),
            "serial": lambda: serially(model, clips, arguments.batch_size),
        }
        seconds = best(ways, arguments.rounds)
    known = model.description
    cli.show(
        f"{len(clips)} clips of {arguments.seconds:g} s, {known['dtype']} on {known['device']}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} cores for torch"
    )
    for name, taken in seconds.items():
        cli.show(f"  {name + ':':13} {taken:6.2f} s, {len(clips) / taken:6.1f} clips/s")
    cli.show(f"  model alone / scorer: {seconds['model alone'] / seconds['scorer']:.2f} (goal 0.90)")
    cli.show(f"  model alone / serial: {seconds['model alone'] / seconds['serial']:.2f}")
    return cli.COMPLETE


def write_clips(folder: Path, arguments: Namespace, rng: np.random.Generator) -> list[Path]:
    """Rising hums with noise, as MP3."""
    folder.mkdir()
    t = np.arange(int(arguments.seconds * RATE)) / RATE
    for i, pitch in enumerate(rng.uniform(80, 400, arguments.clips)):
        sound = 0.3 * np.sin(2 * np.pi * pitch * t * (1 + t / 20)) + rng.normal(scale=0.02, size=len(t))
        soundfile.write(folder / f"{i:05d}.mp3", sound, RATE)
    return sorted(folder.iterdir())


def cut(model: AudioTextModel, clip: Path) -> list[np.ndarray]:
    """The pieces of a clip that a model hears."""
    return split_into_windows(read_nonsilent_audio(clip, model.sample_rate), model.sample_rate, model.window_seconds)


def embed(model: AudioTextModel, pieces: Sequence[object], batch_size: int) -> None:
    """The clips' and the sentences' embeddings, from prepared pieces."""
    for i in range(0, len(pieces), batch_size):
        model.embed_audio(pieces[i : i + batch_size])
    model.embed_texts(TEXTS)


def serially(model: AudioTextModel, clips: Sequence[Path], batch_size: int) -> None:
    """The plain way: decode a batch, embed it, decode the next."""
    for i in range(0, len(clips), batch_size):
        model.embed_audio([model.prepare(piece) for clip in clips[i : i + batch_size] for piece in cut(model, clip)])
    model.embed_texts(TEXTS)


def best(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each way over rounds in which all take turns, after one that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    return {name: min(seconds[1:]) for name, seconds in taken.items()}


if __name__ == "__main__":
    sys.exit(main())

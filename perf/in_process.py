"""Throughput of the in-process scorer relative to its model, with decoding and features in background threads.

Reads   nothing: generates MP3 clips; the model is a CLAP of the size of HTSAT-tiny with random weights
Prints  the time of the model alone on prepared windows, of the scorer from files to scores, and of a serial baseline
        that decodes and embeds one batch after the other; minimum over rounds

On a CPU, model and decoders share the cores; background decoding helps only if a core is free.

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

SAMPLE_RATE = 24_000  # of the published clips
TEXTS = tuple(f"a voice that conveys feeling number {i}" for i in range(8))


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--clips", type=cli.positive_int, default=32, help="number of clips (default: 32)")
    parser.add_argument("--seconds", type=float, default=9.0, help="length of a clip (default: 9)")
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="rounds of timing (default: 3)")
    parser.add_argument("--threads", type=cli.positive_int, help="threads of torch (default: all cores but one)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default: float32)")
    parser.add_argument("--batch-size", type=cli.positive_int, default=8, help="(default: 8)")
    parser.add_argument("--decoders", type=cli.positive_int, default=4, help="decoding threads (default: 4)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    torch.set_num_threads(arguments.threads or max(1, (os.cpu_count() or 2) - 1))
    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder) / "clips", arguments, invocation.generator())
        checkpoint = tiny.clap(Path(folder) / "model", seconds=10, wide=96, depths=(2, 2, 6, 2))
        model = load_clap(str(checkpoint), arguments.device, arguments.dtype)
        windows = [model.prepare(window) for clip in clips for window in windows_of(model, clip)]

        def scorer(pairs: Sequence[ClipTextPair]) -> Iterable[object]:
            store = EmbeddingCache(Path(tempfile.mkdtemp(dir=folder)))  # empty for each round
            return InProcessScorer(model, store, arguments.batch_size, arguments.decoders)(pairs)

        variants: dict[str, Callable[[], object]] = {
            "model alone": lambda: embed(model, windows, arguments.batch_size),
            "scorer": lambda: list(scorer([ClipTextPair(c, c.name, c.stem, text) for c in clips for text in TEXTS])),
            "serial": lambda: embed_serially(model, clips, arguments.batch_size),
        }
        seconds = best(variants, arguments.rounds)
    description = model.description
    cli.show(
        f"{len(clips)} clips of {arguments.seconds:g} s, {description['dtype']} on {description['device']}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} cores for torch"
    )
    for name, times in seconds.items():
        cli.show(f"  {name + ':':13} {times:6.2f} s, {len(clips) / times:6.1f} clips/s")
    cli.show(f"  model alone / scorer: {seconds['model alone'] / seconds['scorer']:.2f} (target 0.90)")
    cli.show(f"  model alone / serial: {seconds['model alone'] / seconds['serial']:.2f}")
    return cli.COMPLETE


def write_clips(folder: Path, arguments: Namespace, rng: np.random.Generator) -> list[Path]:
    """Write sine sweeps with noise as MP3."""
    folder.mkdir()
    t = np.arange(int(arguments.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    for i, pitch in enumerate(rng.uniform(80, 400, arguments.clips)):
        sound = 0.3 * np.sin(2 * np.pi * pitch * t * (1 + t / 20)) + rng.normal(scale=0.02, size=len(t))
        soundfile.write(folder / f"{i:05d}.mp3", sound, SAMPLE_RATE)
    return sorted(folder.iterdir())


def windows_of(model: AudioTextModel, clip: Path) -> list[np.ndarray]:
    """Windows of a clip as the model receives them."""
    return split_into_windows(read_nonsilent_audio(clip, model.sample_rate), model.sample_rate, model.window_seconds)


def embed(model: AudioTextModel, windows: Sequence[object], batch_size: int) -> None:
    """Embed prepared windows and the texts."""
    for i in range(0, len(windows), batch_size):
        model.embed_audio(windows[i : i + batch_size])
    model.embed_texts(TEXTS)


def embed_serially(model: AudioTextModel, clips: Sequence[Path], batch_size: int) -> None:
    """Baseline: decode a batch, embed it, then decode the next."""
    for i in range(0, len(clips), batch_size):
        model.embed_audio(
            [model.prepare(window) for clip in clips[i : i + batch_size] for window in windows_of(model, clip)]
        )
    model.embed_texts(TEXTS)


def best(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Minimum time of each variant over rounds in which the variants alternate, after a warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            times[name].append(time.perf_counter() - started)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


if __name__ == "__main__":
    sys.exit(main())

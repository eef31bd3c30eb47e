"""Speed of the probes relative to straightforward implementations, measured in the same run.

Reads   nothing: generates embeddings, stored with frame arrays in a temporary directory (1.6 GB by default), and a task
        like ESC-50: five tar files of WAV clips of 5 s at 44.1 kHz (0.9 GB with 2,000 clips)
Prints  time of one linear head with the xares recipe from stored embeddings, compared with a PyTorch baseline (a
        DataLoader over stored frames that are averaged in every epoch, nn.Module, torch.optim.Adam); of the 15 heads
        of the strict recipe (3 seeds × 5 learning rates), compared with one head and with the baseline; and of
        nearest neighbours, compared with the matrix product and top k alone; minimum over alternating rounds.
        Then wall and processor seconds of the whole command `probe.py run` on the task (published recipe, both tracks,
        no cache), compared with decoding, resampling and encoding alone, and with X-ARES if --xares names the Python of
        an environment that has it (measured with 0.1.3)

  uv run --extra torch perf/probe.py
  uv run --extra torch perf/probe.py --clips 2000 --rounds 1
  uv run --extra torch perf/probe.py --only task --xares xares/bin/python
"""

import io
import json
import resource
import runpy
import subprocess
import sys
import tarfile
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.remove(str(Path(__file__).resolve().parent))  # numba imports the package coverage, not perf/coverage.py

from earmark import cli
from earmark.probing.heads.knn import K_CANDIDATES, MAX_SIMILARITIES, knn_predict
from earmark.probing.heads.linear import Fold, HeadConfig, train_heads
from earmark.probing.heads.selection import selection_metric

ROOT = Path(__file__).resolve().parents[1]
TASK, FOLDS, CLASSES, SECONDS, RATE, ENCODER_RATE, BATCH = "esc50", 5, 50, 5, 44_100, 16_000, 16
ENCODER = '''import torch


class LightEncoder(torch.nn.Module):
    """Energies of 64 random filters of 25 ms every 10 ms."""

    sampling_rate, output_dim, hop_size_in_ms = 16_000, 64, 10

    def __init__(self):
        super().__init__()
        self.register_buffer("filters", torch.randn(64, 1, 400, generator=torch.Generator().manual_seed(0)) / 20)

    def forward(self, audio):
        audio = audio.reshape(-1, 1, audio.shape[-1])
        outputs = torch.nn.functional.conv1d(audio, self.filters, stride=160, padding=200)
        return torch.log(outputs.square() + 1e-6).transpose(1, 2)
'''
XARES = """import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from light_encoder import LightEncoder
from tasks.esc50_task import esc50_config
from xares.task import XaresTask

if __name__ == "__main__":
    config = esc50_config(LightEncoder())
    config.env_root = Path(sys.argv[1])
    task = XaresTask(config=config)
    (task.env_dir / config.xares_settings.audio_ready_filename).touch()
    task.make_encoded_tar()
    print("scores", task.run_mlp()[0], task.run_knn()[0])
"""
SEEDS, RATES = (0, 1, 2), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
Array = NDArray[Any]


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", measure)
    sizes = {"clips": 20_000, "width": 768, "classes": 50, "frames": 25, "epochs": 10, "batch-size": 32, "rounds": 3}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=cli.positive_int, default=size, help=f"(default: {size:,})")
    parser.add_argument(
        "--plain-epochs",
        type=cli.positive_int,
        default=1,
        help="epochs of the PyTorch baseline, extrapolated (default: 1)",
    )
    parser.add_argument(
        "--task-clips", type=cli.positive_int, default=2000, metavar="N", help="clips of the task (default: 2,000)"
    )
    parser.add_argument("--only", choices=["heads", "task"], help="measure only this part (default: both)")
    parser.add_argument("--xares", metavar="PYTHON", help="Python of an environment with X-ARES, for comparison")
    return parser


def measure(arguments: Namespace, invocation: cli.Invocation) -> int:
    if arguments.only != "task":
        measure_heads(arguments, invocation)
    if arguments.only != "heads":
        measure_task(arguments)
    return cli.COMPLETE


def measure_heads(arguments: Namespace, invocation: cli.Invocation) -> None:
    x, y = embeddings(arguments, invocation.generator())
    items = invocation.generator().permutation(len(x))
    fold = Fold(0, *np.split(items, [len(x) * 8 // 10, len(x) * 9 // 10]))
    config = HeadConfig("cross_entropy", arguments.classes, arguments.epochs, arguments.batch_size)
    score = selection_metric("accuracy", y)
    with tempfile.TemporaryDirectory() as folder:
        frames, means = Path(folder) / "frames.npy", Path(folder) / "means.npy"
        write_frames(x, arguments.frames, frames)
        np.save(means, x)

        def heads(config: HeadConfig, **axes: Sequence[float]) -> object:
            return train_heads(np.load(means), y, [fold], config, score, **axes)

        heads(replace(config, epochs=1))  # warm-up: numba compiles once
        times = best(
            {
                "PyTorch": lambda: pytorch_head(frames, y, fold, config, arguments.plain_epochs),
                "one head": lambda: heads(config),
                "15 heads": lambda: heads(config, seeds=SEEDS, learning_rates=RATES),
                "top k only": lambda: top_k_only(x, max(K_CANDIDATES)),
                "kNN": lambda: knn_predict(x, y, x, K_CANDIDATES),
            },
            arguments.rounds,
        )
    times["PyTorch"] *= arguments.epochs / arguments.plain_epochs
    cli.show(f"{len(x):,} clips × {x.shape[1]} × {arguments.classes} classes, {torch.get_num_threads()} threads")
    for name, seconds in times.items():
        cli.show(f"  {name + ':':12} {seconds:7.2f} s")
    cli.show(f"  PyTorch / one head:          {times['PyTorch'] / times['one head']:6.1f} (target: at least 5)")
    cli.show(f"  15 heads / one head:         {times['15 heads'] / times['one head']:6.1f}")
    cli.show(f"  15 heads / PyTorch:          {times['15 heads'] / times['PyTorch']:6.2f} (target: at most 0.6)")
    cli.show(f"  kNN / top k only:            {times['kNN'] / times['top k only']:6.2f} (target: at most 1.2)")


# --- a whole task --------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Wall seconds, and processor seconds of all threads and child processes."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:7.2f} s, {self.processor:7.2f} processor seconds"


def measure_task(arguments: Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder = folder / "light_encoder.py"
        encoder.write_text(ENCODER, encoding="utf-8")
        write_task(folder / TASK, arguments.task_clips)
        probe_costs, costs_alone = [], []
        for number in range(arguments.rounds + 1):
            outputs = [
                "--output-dir",
                str(folder / f"out{number}"),
                "--embedding-cache",
                str(folder / f"cache{number}"),
            ]
            command = [sys.executable, str(ROOT / "probe.py"), "run", "--encoder", str(encoder), "--tasks", TASK]
            command += ["--data-root", str(folder), "--recipe", "xares", *outputs]
            probe_costs.append(cost_of(lambda command=command: run(command, folder)))
            costs_alone.append(cost_of(lambda: encode_alone(folder / TASK, encoder)))
        whole, alone = min(probe_costs[1:]), min(costs_alone[1:])  # the first run compiles and reads the files
        target = 2 if arguments.task_clips < 10_000 else 1.3
        cli.show(f"{arguments.task_clips:,} clips of {SECONDS} s")
        cli.show(f"  probe.py run:         {whole}")
        cli.show(f"  with empty caches:    {probe_costs[0]}")
        cli.show(f"  encoding alone:       {alone}")
        cli.show(f"  probe.py run / alone: {whole.wall / alone.wall:6.2f} wall (target: at most {target:g})")
        cli.show(f"                        {whole.processor / alone.processor:6.2f} processor")
        if arguments.xares:
            (folder / "xares.py").write_text(XARES, encoding="utf-8")
            xares = cost_of(lambda: run([arguments.xares, str(folder / "xares.py"), str(folder)], folder))
            cli.show(f"  X-ARES:               {xares}")
            ratio = xares.processor / whole.processor
            cli.show(f"  X-ARES / probe.py:    {ratio:6.1f} processor (target: at least 15)")


def write_task(folder: Path, clips: int) -> None:
    """Write noise with a tone whose frequency depends on the class, in X-ARES's layout of ESC-50."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    n = SECONDS * RATE
    noise, seconds = rng.normal(0, 0.1, 1 << 20).astype(np.float32), np.arange(n, dtype=np.float32) / RATE
    for fold in range(FOLDS):
        with tarfile.open(folder / f"wds-audio-fold-{fold + 1}-000000.tar", "w") as tar:
            for clip in range(fold * clips // FOLDS, (fold + 1) * clips // FOLDS):
                label, start = clip % CLASSES, rng.integers(len(noise) - n)
                frequency = 200 + 60 * label + 40 * rng.normal()
                wave, file = io.BytesIO(), f"{fold + 1}-{clip}-A-{label}"
                audio = noise[start : start + n] + 0.05 * np.sin(2 * np.pi * frequency * seconds)
                soundfile.write(wave, audio, RATE, format="WAV", subtype="PCM_16")
                for suffix, content in (("wav", wave.getvalue()), ("json", json.dumps({"label": label}).encode())):
                    member = tarfile.TarInfo(f"{file}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def encode_alone(folder: Path, encoder: Path) -> None:
    """Decode, resample and encode the clips, with as many decoding threads as cores; nothing is kept."""
    model = runpy.run_path(str(encoder))["LightEncoder"]()

    def prepared(place: tuple[Path, int, int]) -> Array:
        tar, offset, size = place
        with tar.open("rb") as file:
            file.seek(offset)
            audio, rate = soundfile.read(io.BytesIO(file.read(size)), dtype="float32")
        return np.asarray(soxr.resample(audio, rate, ENCODER_RATE))

    places = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            places += [(path, member.offset_data, member.size) for member in tar if member.name.endswith(".wav")]
    batch: list[Array] = []
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for number, audio in enumerate(pool.map(prepared, places), 1):
            batch.append(audio)
            if len(batch) == BATCH or number == len(places):
                model(torch.from_numpy(np.stack(batch))).mean(dim=1)
                batch.clear()


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command; what it printed is shown only if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def cost_of(work: Callable[[], None]) -> Cost:
    def processor() -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    wall, before = time.perf_counter(), processor()
    work()
    return Cost(time.perf_counter() - wall, processor() - before)


# --- heads and neighbours ------------------------------------------------------------------------------------


def embeddings(arguments: Namespace, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw embeddings of overlapping classes, so that no head reaches a loss of 0."""
    y = rng.integers(0, arguments.classes, arguments.clips)
    centres = 0.15 * rng.normal(size=(arguments.classes, arguments.width))
    return (centres[y] + rng.normal(size=(len(y), arguments.width))).astype(np.float32), y


def write_frames(x: Array, frames: int, path: Path) -> None:
    """Write every clip as identical frames: (clips, frames, width)."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(x), frames, x.shape[1]))
    for start in range(0, len(x), 1000):
        array[start : start + 1000] = x[start : start + 1000, np.newaxis]


class StoredFrames(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Stored frames with the classes of their clips."""

    def __init__(self, path: Path, y: Array, items: Array) -> None:
        self.frames, self.y, self.items = np.load(path, mmap_mode="r"), y, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        item = self.items[index]
        return torch.from_numpy(np.array(self.frames[item])), int(self.y[item])


def pytorch_head(path: Path, y: Array, fold: Fold, config: HeadConfig, epochs: int) -> float:
    """Train a head as in a PyTorch tutorial; returns the last validation accuracy."""
    frames = StoredFrames(path, y, fold.train)
    width = frames.frames.shape[2]
    model = torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, config.n_outputs))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = torch.nn.CrossEntropyLoss()
    loader = torch.utils.data.DataLoader(frames, config.batch_size, shuffle=True)
    held_out = torch.utils.data.DataLoader(StoredFrames(path, y, fold.valid), config.batch_size)
    correct = 0
    for _ in range(epochs):
        for batch, classes in loader:
            adam.zero_grad()
            loss(model(batch.mean(dim=1)), classes).backward()
            adam.step()
        with torch.no_grad():
            correct = sum(int((model(b.mean(dim=1)).argmax(1) == c).sum()) for b, c in held_out)
    return correct / len(fold.valid)


def top_k_only(x: Array, k: int) -> None:
    """Matrix product and NumPy top k, block by block."""
    size = max(1, MAX_SIMILARITIES // len(x))
    for start in range(0, len(x), size):
        block = x[start : start + size] @ x.T
        np.take_along_axis(block, np.argpartition(block, -k, axis=1)[:, -k:], axis=1)


def best(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Minimum time of each variant over rounds in which the variants alternate."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            times[name].append(time.perf_counter() - started)
    return {name: min(seconds) for name, seconds in times.items()}


if __name__ == "__main__":
    sys.exit(main())

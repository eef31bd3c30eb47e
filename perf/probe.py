"""Speed of the probes relative to straightforward implementations, measured in the same run.

Reads   nothing: generates embeddings, stored with frame arrays in a temporary directory (1.6 GB by default)
Prints  time of one linear head with the xares recipe from stored embeddings, compared with a PyTorch baseline (a
        DataLoader over stored frames that are averaged in every epoch, nn.Module, torch.optim.Adam); of the 15 heads
        of the strict recipe (3 seeds × 5 learning rates), compared with one head and with the baseline; and of
        nearest neighbours, compared with the matrix product and top k alone; minimum over alternating rounds

  uv run --extra torch perf/probe.py
  uv run --extra torch perf/probe.py --clips 2000 --rounds 1
"""

import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.remove(str(Path(__file__).resolve().parent))  # numba imports the package coverage, not perf/coverage.py

from earmark import cli
from earmark.probing.heads.knn import K_CANDIDATES, MAX_SIMILARITIES, knn_predict
from earmark.probing.heads.linear import Fold, HeadConfig, train_heads
from earmark.probing.heads.selection import selection_metric

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
    return parser


def measure(arguments: Namespace, invocation: cli.Invocation) -> int:
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
    cli.show(f"  15 heads / one head:         {times['15 heads'] / times['one head']:6.1f} (target: at most 4)")
    cli.show(f"  15 heads / PyTorch:          {times['15 heads'] / times['PyTorch']:6.2f}")
    cli.show(f"  kNN / top k only:            {times['kNN'] / times['top k only']:6.2f} (target: at most 1.5)")
    return cli.COMPLETE


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

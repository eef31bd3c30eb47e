"""How fast the probes are, each against a plain way of doing the same in the same run.

Reads   nothing: embeddings are made up; they and frame arrays lie in a temporary folder (1.6 GB by default)
Prints  from stored embeddings, a published-recipe head against a DataLoader over stored frame arrays, averaged anew in
        every epoch, with nn.Module and torch.optim.Adam; the 15 heads of the strict protocol (3 seeds × 5 rates)
        against one, and against the plain way's one; and nearest neighbours against the bare matrix product and top k.
        The best of some rounds that take turns

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
sys.path.remove(str(Path(__file__).resolve().parent))  # its coverage.py is not the module that numba looks for

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
        parser.add_argument(f"--{name}", type=cli.positive_int, default=size, help=f"({size:,})")
    parser.add_argument(
        "--plain-epochs", type=cli.positive_int, default=1, help="epochs that the plain way runs, scaled up (1)"
    )
    return parser


def measure(arguments: Namespace, invocation: cli.Invocation) -> int:
    x, y = embeddings(arguments, invocation.generator())
    items = invocation.generator().permutation(len(x))
    fold = Fold(0, *np.split(items, [len(x) * 8 // 10, len(x) * 9 // 10]))
    recipe = HeadConfig("cross_entropy", arguments.classes, arguments.epochs, arguments.batch_size)
    score = selection_metric("accuracy", y)
    with tempfile.TemporaryDirectory() as folder:
        frames, means = Path(folder) / "frames.npy", Path(folder) / "means.npy"
        write_frames(x, arguments.frames, frames)
        np.save(means, x)

        def heads(recipe: HeadConfig, **axes: Sequence[float]) -> object:
            return train_heads(np.load(means), y, [fold], recipe, score, **axes)

        heads(replace(recipe, epochs=1))  # compiled code is compiled once for a machine
        taken = best(
            {
                "plain": lambda: plain_head(frames, y, fold, recipe, arguments.plain_epochs),
                "one": lambda: heads(recipe),
                "fifteen": lambda: heads(recipe, seeds=SEEDS, learning_rates=RATES),
                "bare": lambda: bare_neighbours(x, max(K_CANDIDATES)),
                "nearest": lambda: knn_predict(x, y, x, K_CANDIDATES),
            },
            arguments.rounds,
        )
    taken["plain"] *= arguments.epochs / arguments.plain_epochs
    cli.show(f"{len(x):,} clips × {x.shape[1]} × {arguments.classes} classes, {torch.get_num_threads()} threads")
    for name, seconds in taken.items():
        cli.show(f"  {name + ':':9} {seconds:7.2f} s")
    cli.show(f"  plain / one:     {taken['plain'] / taken['one']:6.1f} (goal at least 5)")
    cli.show(f"  fifteen / one:   {taken['fifteen'] / taken['one']:6.1f} (goal at most 4)")
    cli.show(f"  fifteen / plain: {taken['fifteen'] / taken['plain']:6.2f}")
    cli.show(f"  nearest / bare:  {taken['nearest'] / taken['bare']:6.2f} (goal at most 1.5)")
    return cli.COMPLETE


def embeddings(arguments: Namespace, rng: np.random.Generator) -> tuple[Array, Array]:
    """Classes that overlap, so that no head ends at a loss of 0."""
    y = rng.integers(0, arguments.classes, arguments.clips)
    centres = 0.15 * rng.normal(size=(arguments.classes, arguments.width))
    return (centres[y] + rng.normal(size=(len(y), arguments.width))).astype(np.float32), y


def write_frames(x: Array, frames: int, path: Path) -> None:
    """Every clip as equal frames, clip after clip: (clips, frames, width)."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(x), frames, x.shape[1]))
    for start in range(0, len(x), 1000):
        array[start : start + 1000] = x[start : start + 1000, np.newaxis]


class Stored(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Frames in a file, with their clips' classes."""

    def __init__(self, path: Path, y: Array, items: Array) -> None:
        self.frames, self.y, self.items = np.load(path, mmap_mode="r"), y, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        item = self.items[place]
        return torch.from_numpy(np.array(self.frames[item])), int(self.y[item])


def plain_head(path: Path, y: Array, fold: Fold, recipe: HeadConfig, epochs: int) -> float:
    """The recipe as a tutorial would write it; returns the last validation accuracy."""
    frames = Stored(path, y, fold.train)
    width = frames.frames.shape[2]
    model = torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, recipe.n_outputs))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = torch.nn.CrossEntropyLoss()
    loader = torch.utils.data.DataLoader(frames, recipe.batch_size, shuffle=True)
    held_out = torch.utils.data.DataLoader(Stored(path, y, fold.valid), recipe.batch_size)
    right = 0
    for _ in range(epochs):
        for batch, classes in loader:
            adam.zero_grad()
            loss(model(batch.mean(dim=1)), classes).backward()
            adam.step()
        with torch.no_grad():
            right = sum(int((model(b.mean(dim=1)).argmax(1) == c).sum()) for b, c in held_out)
    return right / len(fold.valid)


def bare_neighbours(x: Array, k: int) -> None:
    """The product and NumPy's top k, block after block, and nothing else."""
    size = max(1, MAX_SIMILARITIES // len(x))
    for start in range(0, len(x), size):
        block = x[start : start + size] @ x.T
        np.take_along_axis(block, np.argpartition(block, -k, axis=1)[:, -k:], axis=1)


def best(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each way, over rounds in which all take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    return {name: min(seconds) for name, seconds in taken.items()}


if __name__ == "__main__":
    sys.exit(main())

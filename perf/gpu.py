"""Check and time Earmark on a GPU: models of real size with random weights, generated speech, no downloads.

Reads   nothing: builds a 12-layer transformer encoder, a ClapModel of the published configuration, SimAM-ResNet34 and
        ResNet34 with random weights, and generates speech
Prints  a table: whether float32 is computed in full precision; seconds of audio that threads decode and prepare;
        embeddings of each model in each data type compared with the CPU, clips per second, share of the model alone,
        peak memory; audio-text scores; recovery from an out-of-memory error; fifteen strict heads, k-NN, speech
        recognition and fine-tuning compared with the CPU
Writes  the table as JSON with the card, its driver and all versions, with --output

The exit code is 1 if a check fails; the other checks go on. Goals depend on the machine and do not change it. Without a
GPU, or with --small, models and data are tiny.

  uv run --all-extras perf/gpu.py --output gpu.json
  uv run --all-extras perf/gpu.py --device cpu --small
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.remove(str(Path(__file__).resolve().parent))  # numba imports the package coverage, not perf/coverage.py

import torch

from earmark import cli
from earmark.files.atomic import write_together
from earmark.models.torch_runtime import resolve_device
from perf.gpu_parts import embedding, finetuning, heads
from perf.gpu_parts.common import REAL, SMALL, Context, Figure, Section, guarded

SECTIONS: dict[str, Section] = {
    "float32": embedding.full_float32,
    "decoding": embedding.decoding,
    "embedding": embedding.embedding,
    "out of memory": embedding.out_of_memory,
    "audio-text": embedding.audio_text,
    "linear heads": heads.linear_heads,
    "k-NN": heads.nearest_neighbours,
    "CTC": heads.ctc_head,
    "ASR with a language model": heads.language_model_head,
    "fine-tuning": finetuning.fine_tuning,
}
PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy", "numba", "soundfile", "soxr")


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU if available)")
    parser.add_argument("--small", action="store_true", help="tiny models and data; always on a CPU")
    parser.add_argument(
        "--minutes",
        type=cli.positive_float,
        default=8.0,
        help="sections that would start later are skipped (default: 8)",
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, metavar="NAME", help="run only these sections")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table as JSON")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    started = time.perf_counter()
    device = resolve_device(arguments.device, "float32")
    small = arguments.small or torch.device(device).type != "cuda"
    described = machine(device)
    cli.show("\n".join(f"{name}: {value}" for name, value in described.items()))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        deadline = started + 60 * arguments.minutes
        context = Context(device, SMALL if small else REAL, Path(folder), invocation.seed, deadline)
        for name in arguments.sections or SECTIONS:
            cli.show(f"{name} ({time.perf_counter() - started:.0f} s)")
            for figure in guarded(context, name, name, partial(SECTIONS[name], context)):
                cli.show(figure.line)
                figures.append(figure)
    failed = [figure for figure in figures if figure.passed is False]
    seconds = time.perf_counter() - started
    cli.show(f"{len(figures)} figures, {len(failed)} failed, {seconds:.0f} s")
    for figure in failed:
        cli.show(f"FAILED{figure.line.replace('  ', ' ')}")
    if arguments.output:
        table = {"machine": described, "small": small, "seconds": seconds, "figures": [f.as_dict() for f in figures]}
        write_together({arguments.output: json.dumps(table, indent=1, ensure_ascii=False) + "\n"})
    return cli.FAILED if failed else cli.COMPLETE


def machine(device: str) -> dict[str, Any]:
    """Card, driver, processors and versions."""
    described: dict[str, Any] = {"device": device}
    if torch.device(device).type == "cuda":
        card = torch.cuda.get_device_properties(device)
        described |= {
            "card": card.name,
            "memory_gb": round(card.total_memory / 1e9, 1),
            "compute_capability": f"{card.major}.{card.minor}",
            "driver": driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    described |= {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    return described | {package: version(package) for package in PACKAGES}


def driver_version() -> str | None:
    """Version of the driver of the first card; None if nvidia-smi does not say."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


if __name__ == "__main__":
    sys.exit(main())

"""Probe an audio encoder: what its frozen embeddings tell, by linear heads and by nearest neighbours.

Reads   tasks of X-ARES and the ICME 2025 challenge below --data-root, or tasks of your own (TOML and a manifest)
Writes  benchmark_outputs/probe/<encoder>/{scores.csv, summary.json, report.md, report.tex}, predictions/, per_class/

  uv run --extra torch probe.py
  uv run probe.py --track knn
  uv run --extra torch probe.py --encoder my_encoder.py --tasks esc50 cremad my_task.toml --data-root data
  uv run --extra clap probe.py --encoder hf:microsoft/wavlm-base-plus --tasks all --data-root data --layers all
  uv run probe.py check my_encoder.py
  uv run probe.py list --data-root data
  uv run --extra download probe.py download esc50 cremad --data-root data

Without arguments: the built-in `logmel` encoder on three tasks of the demo speech. Both protocols are reported:
`xares`, the published recipe with its flaws, and `strict`, which chooses nothing on test clips and tests no source that
trains. A finished task is not run again unless its data, its recipe or the encoder changed; a task that fails does not
stop the others.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.models.encoders.registry import encoder_specs
from earmark.probing.options import (
    BOTH,
    KNN,
    LINEAR,
    PUBLISHED_LANGUAGE_MODEL,
    STRICT,
    XARES,
    ZENODO,
    CheckOptions,
    DownloadOptions,
    ListOptions,
    RunOptions,
)

DEMO = Path(__file__).resolve().parent / "dataset/speaker-demo/tasks"
DEMO_TASKS = ("voice", "language", "tempo")
COMMANDS = ("run", "check", "list", "download")
TOKEN_VARIABLE = "EARMARK_API_KEY"  # holds the bearer token of a server, if there is one


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if asked_for(words) not in {*COMMANDS, "-h", "--help", "--version"}:
        words = ["run", *words]
    return cli.main(argument_parser(), __file__, words)


# What computes waits until the flags are right: help and errors of usage come at once.


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.run import run_probes

    return run_probes(cli.options(RunOptions, arguments, token=os.environ.get(TOKEN_VARIABLE)), invocation)


def check(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.commands import run_check

    return run_check(cli.options(CheckOptions, arguments, token=os.environ.get(TOKEN_VARIABLE)), invocation)


def list_tasks(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.commands import run_list

    return run_list(cli.options(ListOptions, arguments), invocation)


def download(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.commands import run_download

    return run_download(cli.options(DownloadOptions, arguments), invocation)


def asked_for(words: Sequence[str]) -> str:
    """The first word that is no common flag: a command, or a flag of `run`."""
    rest = list(words)
    while rest and (rest[0] in ("--quiet", "--debug", "--seed") or rest[0].startswith("--seed=")):
        rest = rest[2 if rest[0] == "--seed" else 1 :]
    return rest[0] if rest else ""


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_run(cli.subcommand(commands, "run", run, "probe an encoder; what happens without a command"))
    checks = cli.subcommand(commands, "check", check, "whether an encoder keeps what X-ARES asks, and more")
    checks.add_argument("encoder", metavar="SPEC", help=", ".join(encoder_specs()))
    cli.add_renamed_argument(
        checks, "--max-clip-seconds", "--longest", type=cli.positive_float, metavar="S", help="longest test clip (600)"
    )
    add_device(checks)
    listed = cli.subcommand(commands, "list", list_tasks, "the tasks, and whether their data are here")
    listed.add_argument("tasks", nargs="*", metavar="TASK")
    listed.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")
    fetched = cli.subcommand(commands, "download", download, "data of tasks from their Zenodo records")
    fetched.add_argument("tasks", nargs="+", metavar="TASK")
    fetched.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")
    fetched.add_argument("--zenodo", default=ZENODO, metavar="URL", help=f"({ZENODO})")
    return parser


def add_run(parser: ArgumentParser) -> None:
    """Flags of `run`."""
    parser.add_argument("--encoder", default="logmel", metavar="SPEC", help=f"{', '.join(encoder_specs())} (logmel)")
    parser.add_argument("--embeddings", metavar="FILE", help="made elsewhere: .npz, .npy with ids, .scp, .parquet")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", default=[f"{DEMO}/{name}.toml" for name in DEMO_TASKS],
                        help="names, all, or FILE.toml (the three demo tasks)")  # fmt: skip
    parser.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR", help="<DIR>/<task>/… (data)")
    parser.add_argument("--track", choices=[LINEAR, KNN, BOTH], default=BOTH, help="(both)")
    cli.add_renamed_argument(
        parser, "--recipe", "--protocol", choices=[XARES, STRICT, BOTH], default=BOTH, help="evaluation recipe (both)"
    )
    parser.add_argument("--seeds", type=cli.positive_int, default=3, metavar="N", help="of the strict protocol (3)")
    parser.add_argument("--layers", type=layers, metavar="all|last|0,6,12", help="score layers by themselves (last)")
    parser.add_argument("--shots", type=cli.positive_int, metavar="K", help="train on K clips of each class, ten draws")
    parser.add_argument("--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="replicates (1000)")
    parser.add_argument("--allow-missing", action="store_true", help="leave unreadable clips out, and count them")
    cli.add_renamed_argument(
        parser, "--workers", "--jobs", type=cli.positive_int, default=1, metavar="N", help="tasks in parallel (1)"
    )
    parser.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="clips embedded together")
    cli.add_renamed_argument(
        parser, "--embedding-cache", "--store", type=Path, default=Path("benchmark_outputs/embeddings"), metavar="DIR",
        help="embedding cache directory (benchmark_outputs/embeddings)",
    )  # fmt: skip
    parser.add_argument(
        "--language-model", default=PUBLISHED_LANGUAGE_MODEL, metavar="ID",
        help=f"for asr, xares ({PUBLISHED_LANGUAGE_MODEL})",
    )  # fmt: skip
    parser.add_argument("--tokenizer", metavar="ID", help="for retrieval (words of the training captions)")
    cli.add_renamed_argument(
        parser, "--model-name", "--name", metavar="NAME", help="name of the encoder in reports (from the encoder)"
    )
    parser.add_argument(
        "--output-dir", type=Path, default=Path("benchmark_outputs/probe"), help="a folder for each encoder"
    )
    add_device(parser)


def add_device(parser: ArgumentParser) -> None:
    """Flags that say where a model runs."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU where there is one)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")


def layers(text: str) -> tuple[int, ...] | None:
    """An argparse type: None for the last alone, empty for all, or their numbers."""
    if text in ("last", "all"):
        return None if text == "last" else ()
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is neither all, last, nor numbers such as 0,6,12") from error
    if min(numbers) < 0:
        raise ArgumentTypeError(f"{text!r}: layers count from 0")
    return numbers


if __name__ == "__main__":
    sys.exit(main())

"""Probe an audio encoder: score its frozen embeddings with linear heads and k-nearest neighbours.

Reads   tasks of X-ARES and the ICME 2025 challenge in --data-root, or your own tasks (TOML file and manifest)
Writes  benchmark_outputs/probe/<encoder>/{scores.csv, summary.json, report.md, report.tex}, predictions/, per_class/
        With --dataset-id, also eval_results.yaml and mteb_results.json for model hubs

  uv run --extra torch probe.py
  uv run probe.py --track knn
  uv run --extra torch probe.py --encoder my_encoder.py --tasks esc50 cremad my_task.toml --data-root data
  uv run --extra clap probe.py --encoder hf:microsoft/wavlm-base-plus --tasks all --data-root data --layers all
  uv run --extra torch probe.py --encoder step_1000.py step_2000.py --tasks esc50 cremad --data-root data
  uv run probe.py report benchmark_outputs/probe
  uv run --extra torch probe.py check my_encoder.py --max-memory 6GB
  uv run probe.py list --data-root data
  uv run --extra download probe.py download esc50 cremad --data-root data

Without arguments, the built-in `logmel` encoder is probed on three tasks of the demo speech. Two recipes are reported:
`xares` is the published recipe with its flaws. `strict` selects nothing on test clips and keeps the sources (speakers
or recordings) of training and test apart. A finished task is reused unless its data, settings or encoder changed. If a
task fails, the others continue. Several processes may work in one directory at the same time, on different tasks; the
report holds all tasks that were finished with the same settings.

An encoder file for the challenges has an nn.Module whose name ends in Encoder, with output_dim. X-ARES (2025): also
sampling_rate and hop_size_in_ms; forward(audio [B, T]) returns frames [B, T', D]. XARES-LLM (2026): forward(audio,
mask) returns (frames, mask [B, T'] or None) at 16 kHz; masks are 1 for audio. For --layers, forward returns a list in
place of the frames, with the frames [B, T', D] of each layer.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.errors import MissingError
from earmark.files.remote import location
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
    ReportOptions,
    RunOptions,
)

DEMO = Path(__file__).resolve().parent / "dataset/speaker-demo/tasks"
DEMO_TASKS = ("voice", "language", "tempo")
COMMANDS = ("run", "report", "check", "list", "download")
TOKEN_VARIABLE = "EARMARK_API_KEY"  # bearer token of an embedding server


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if first_own_word(words) not in {*COMMANDS, "-h", "--help", "--version"}:
        words = ["run", *words]
    return cli.main(argument_parser(), __file__, words)


# Imports of heavy modules wait until the flags are parsed, so that --help and usage errors are fast.


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.run import run_encoders

    encoders = [None] if arguments.embeddings else arguments.encoder
    names = arguments.model_name or [None] * len(encoders)
    if len(names) != len(encoders):
        raise MissingError(
            f"--model-name needs one name for each of the {len(encoders)} encoders; it has {len(names)}."
        )
    token = os.environ.get(TOKEN_VARIABLE)
    each = [
        cli.options(RunOptions, Namespace(**{**vars(arguments), "encoder": encoder, "model_name": name}), token=token)
        for encoder, name in zip(encoders, names, strict=True)
    ]
    return run_encoders(each, invocation)


def report(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.merge import run_report

    return run_report(cli.options(ReportOptions, arguments), invocation)


def check(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.commands import run_check

    return run_check(cli.options(CheckOptions, arguments, token=os.environ.get(TOKEN_VARIABLE)), invocation)


def list_tasks(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.commands import run_list

    return run_list(cli.options(ListOptions, arguments), invocation)


def download(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.probing.commands import run_download

    return run_download(cli.options(DownloadOptions, arguments), invocation)


def first_own_word(words: Sequence[str]) -> str:
    """The first argument after the common flags: a command or a flag of `run`."""
    rest = list(words)
    while rest and (rest[0] in ("--quiet", "--debug", "--seed") or rest[0].startswith("--seed=")):
        rest = rest[2 if rest[0] == "--seed" else 1 :]
    return rest[0] if rest else ""


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_run(cli.subcommand(commands, "run", run, "probe an encoder (the default command)"))
    add_report(cli.subcommand(commands, "report", report, "collect finished tasks, encoders and machines in a report"))
    checks = cli.subcommand(
        commands,
        "check",
        check,
        "check an encoder against the requirements of X-ARES and XARES-LLM and additional ones",
    )
    checks.add_argument("encoder", metavar="SPEC", help=", ".join(encoder_specs()))
    cli.add_renamed_argument(
        checks,
        "--max-clip-seconds",
        "--longest",
        type=cli.positive_float,
        metavar="S",
        help="longest test clip in seconds, approached by doubling from 10 s (default: 600)",
    )
    checks.add_argument(
        "--max-memory",
        type=memory_size,
        metavar="SIZE",
        help="memory that the encoder may take, such as 6GB; above it, its process is ended and the checks continue in "
        "a new one (default: three quarters of what is free)",
    )
    add_device(checks)
    listed = cli.subcommand(commands, "list", list_tasks, "list the tasks and whether their data are present")
    listed.add_argument(
        "tasks", nargs="*", metavar="TASK", help="task names, `all`, or TOML files (default: all known tasks)"
    )
    add_data_root(listed)
    fetched = cli.subcommand(commands, "download", download, "download the data of tasks from Zenodo")
    fetched.add_argument("tasks", nargs="+", metavar="TASK", help="names, or all")
    add_data_root(fetched)
    fetched.add_argument("--zenodo", default=ZENODO, metavar="URL", help=f"Zenodo server (default: {ZENODO})")
    return parser


def add_run(parser: ArgumentParser) -> None:
    """Add the flags of `run`."""
    specs = ", ".join(encoder_specs())
    parser.add_argument(
        "--encoder", nargs="+", default=["logmel"], metavar="SPEC", help=f"one or several: {specs} (default: logmel)"
    )
    parser.add_argument(
        "--embeddings", metavar="FILE", help="precomputed embeddings: .npz, .npy with ids, Kaldi .scp or .ark, .parquet"
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", default=[f"{DEMO}/{name}.toml" for name in DEMO_TASKS],
                        help="task names, `all`, or TOML files (default: the three demo tasks)")  # fmt: skip
    add_data_root(parser)
    parser.add_argument("--track", choices=[LINEAR, KNN, BOTH], default=BOTH, help="probe type (default: both)")
    cli.add_renamed_argument(
        parser,
        "--recipe",
        "--protocol",
        choices=[XARES, STRICT, BOTH],
        default=BOTH,
        help="training and evaluation recipe (default: both)",
    )
    parser.add_argument(
        "--seeds",
        type=cli.positive_int,
        default=3,
        metavar="N",
        help="number of seeds of the strict recipe (default: 3)",
    )
    parser.add_argument(
        "--layers",
        type=layers,
        metavar="all|last|0,6,12",
        help="layers to score separately; an encoder file returns a list of layers from forward (default: last)",
    )
    parser.add_argument(
        "--shots", type=cli.positive_int, metavar="K", help="few-shot: train on K clips per class, mean of ten draws"
    )
    parser.add_argument(
        "--bootstrap",
        type=cli.natural_int,
        default=1000,
        metavar="N",
        help="bootstrap replicates, 0 for no intervals (default: 1000)",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="exclude clips without an embedding and report their number"
    )
    cli.add_renamed_argument(
        parser,
        "--workers",
        "--jobs",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="tasks in parallel (default: 1)",
    )
    parser.add_argument(
        "--batch-size", type=cli.positive_int, default=16, metavar="N", help="clips per batch (default: 16)"
    )
    cli.add_renamed_argument(
        parser, "--embedding-cache", "--store", type=location, default=Path("benchmark_outputs/embeddings"),
        metavar="DIR", help="embedding cache directory or URL (default: benchmark_outputs/embeddings)",
    )  # fmt: skip
    parser.add_argument(
        "--language-model", default=PUBLISHED_LANGUAGE_MODEL, metavar="ID",
        help=f"language model for asr tasks, xares recipe (default: {PUBLISHED_LANGUAGE_MODEL})",
    )  # fmt: skip
    parser.add_argument(
        "--tokenizer", metavar="ID", help="tokenizer for retrieval tasks (default: words of the training captions)"
    )
    cli.add_renamed_argument(
        parser,
        "--model-name",
        "--name",
        nargs="+",
        metavar="NAME",
        help="name of each encoder in reports (default: from the encoder)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list tasks, sizes, what is stored and the order")
    parser.add_argument(
        "--wait", action="store_true", help="wait for tasks that other processes work on (default: skip them)"
    )
    parser.add_argument(
        "--only-these-tasks",
        action="store_true",
        help="leave finished tasks of other runs in the same directory out of the report",
    )
    cli.add_page_flags(parser)
    cli.add_dataset_id_flag(parser)
    cli.add_log_flags(parser)
    cli.add_ray_flags(parser)
    add_output_dir(parser)
    add_device(parser)


def add_report(parser: ArgumentParser) -> None:
    """Add the flags of `report`."""
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="directories of encoders, also of one encoder from several machines, or their parents",
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", default=[], help="names of the tasks to report (default: all finished)"
    )
    cli.add_page_flags(parser)
    cli.add_dataset_id_flag(parser)
    add_output_dir(parser)


def add_output_dir(parser: ArgumentParser) -> None:
    """Add the flag for the parent of the encoders' result folders."""
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("benchmark_outputs/probe"),
        help="parent of the directories of encoders (default: benchmark_outputs/probe)",
    )


def add_data_root(parser: ArgumentParser) -> None:
    """Add the flag for the folder with the data of tasks."""
    parser.add_argument(
        "--data-root", type=location, default=Path("data"), metavar="DIR",
        help="folder or URL with <task>/…, such as s3://bucket/prefix (default: data)",
    )  # fmt: skip


def add_device(parser: ArgumentParser) -> None:
    """Add the flags that select device and precision."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU if available)")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="precision (default: float32)"
    )


def memory_size(text: str) -> int:
    """Argparse type: a size such as 6GB."""
    from earmark.models.encoders.conformance.memory import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def layers(text: str) -> tuple[int, ...] | None:
    """Argparse type: None for `last`, an empty tuple for `all`, otherwise the layer numbers."""
    if text in ("last", "all"):
        return None if text == "last" else ()
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not all, last or a list of numbers such as 0,6,12") from error
    if min(numbers) < 0:
        raise ArgumentTypeError(f"{text!r}: layer numbers start at 0")
    return numbers


if __name__ == "__main__":
    sys.exit(main())

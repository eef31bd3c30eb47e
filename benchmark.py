"""Score clips against sentences and compare with what people heard.

Reads   analysis_outputs/<subset>/{benchmark_labels.csv, leave_one_out.csv, summary.json}, dataset/<subset>/
Writes  benchmark_outputs/<subset>/{predictions.csv, metrics_by_*.csv, summary.json, report.md, report.tex}, the latest
        run, and the same in benchmark_outputs/runs/<model>/<subset>/, which another model's run does not replace

  uv run benchmark.py
  uv run benchmark.py --endpoint http://127.0.0.1:8765/v1/similarity --concurrency 32
  uv run benchmark.py --embeddings-endpoint http://127.0.0.1:7997/embeddings --model my-clap
  uv run --extra clap benchmark.py --clap-model laion/clap-htsat-unfused --device cuda
  uv run --extra clap benchmark.py --model voiceclap-small --subset emolia-dim --require-3-raters
  uv run benchmark.py --by language speaker --limit 100

Without a scorer, the sham scorer answers: numbers from a hash, which try everything but a model. A run against a
server that was interrupted continues where it stopped; --restart asks everything again. A bearer token is read from
the environment variable EARMARK_API_KEY.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.subsets import subsets
from earmark.audio_text.options import LABEL_COLUMNS, BenchmarkOptions

TOKEN_VARIABLE = "EARMARK_API_KEY"  # holds the bearer token, if there is one


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.audio_text.run import run_benchmark  # pandas and scipy wait until the flags are right

    token = os.environ.get(TOKEN_VARIABLE)
    return run_benchmark(cli.options(BenchmarkOptions, arguments, token=token), invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--subset", choices=[*subsets(), "both", "all"], default="both", help="which subset (default: all with labels)"
    )
    model = parser.add_argument_group("model")
    which = model.add_mutually_exclusive_group()
    which.add_argument("--endpoint", metavar="URL", type=address, help="a server that scores a clip and a sentence")
    which.add_argument("--embeddings-endpoint", metavar="URL", type=address, help="a server that embeds either")
    which.add_argument("--clap-model", metavar="PATH_OR_ID", help="a ClapModel, from a folder or the hub")
    model.add_argument(
        "--model", metavar="NAME", help="voiceclap-small, voiceclap-large, any sentence-transformers model"
    )
    model.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU where there is one)")
    model.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    model.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="clips at a time (16)")
    model.add_argument(
        "--max-seconds", type=cli.positive_float, metavar="S", help="longest piece that the model hears at once"
    )
    cli.add_renamed_argument(
        model, "--embedding-cache", "--store", type=Path, default=Path("benchmark_outputs/embeddings"), metavar="DIR",
        help="embedding cache directory (benchmark_outputs/embeddings)",
    )  # fmt: skip
    server = parser.add_argument_group("server")
    server.add_argument("--no-audio-send", action="store_true", help="send the clip's name but not its audio")
    server.add_argument("--sample-rate", type=cli.positive_int, metavar="HZ", help="resample clips before sending")
    server.add_argument("--concurrency", type=cli.positive_int, default=8, metavar="N", help="requests at a time (8)")
    server.add_argument(
        "--timeout", type=cli.positive_float, default=60.0, metavar="S", help="seconds for one reply (60)"
    )
    server.add_argument(
        "--retries", type=cli.natural_int, default=5, metavar="N", help="further tries of a request (5)"
    )
    server.add_argument(
        "--max-wait", type=cli.positive_float, default=300.0, metavar="S", help="seconds for all tries (300)"
    )
    server.add_argument("--max-consecutive-failures", type=cli.positive_int, default=20, metavar="N")
    cli.add_renamed_argument(
        server, "--restart", "--fresh", action="store_true", help="discard the answers of an interrupted run"
    )
    items = parser.add_argument_group("which questions")
    items.add_argument("--min-raters", type=cli.positive_int, default=1, metavar="N", help="rated by N people or more")
    items.add_argument("--require-3-raters", action="store_true", help="the same as --min-raters 3")
    items.add_argument("--exclude-flagged", action="store_true", help="leave flagged items out")
    items.add_argument("--unanimous-only", action="store_true", help="items on which at least two people all agree")
    items.add_argument(
        "--limit",
        type=cli.positive_int,
        metavar="N",
        help="the first N questions, and what lies between them for the comparison with people",
    )
    parser.add_argument("--labels", choices=list(LABEL_COLUMNS), default="majority", help="what to hold scores against")
    parser.add_argument("--threshold", type=cli.finite_float, default=0.0, help="present from this similarity up (0.0)")
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="KEY", help="slice by these keys of the clips' JSON files"
    )
    parser.add_argument(
        "--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="replicates per interval (1000)"
    )
    parser.add_argument("--allow-missing", action="store_true", help="exit 0 although clips are missing")
    cli.add_renamed_argument(
        parser, "--model-name", "--name", metavar="NAME", help="folder of the run in benchmark_outputs/runs (the model)"
    )
    parser.add_argument("--analysis-root", type=Path, default=Path("analysis_outputs"))
    parser.add_argument("--dataset-root", type=Path, default=Path("dataset"))
    parser.add_argument("--output-dir", type=Path, default=Path("benchmark_outputs"))
    return parser


def address(text: str) -> str:
    """An argparse type: an address that can be posted to."""
    if not text.lower().startswith(("http://", "https://")):
        raise ArgumentTypeError("an address begins with http:// or https://")  # the value may hold a password
    return text


if __name__ == "__main__":
    sys.exit(main())
